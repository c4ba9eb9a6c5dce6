"""Values kept in a buffer of a module: what a layer carries from one forward to the next."""

from __future__ import annotations

from fastconv.graph.ir import FLAT, Node, Operator, Tensor, Type, apply, fail, register
from fastconv.kernels import map as kernels
from fastconv.lowering.lower import Lowering


def assigned(value: Tensor, buffer: Tensor) -> Tensor:
    """``value``, which every run also writes into a buffer (a parameter without gradient) of its shape."""
    return apply("assign", [value, buffer])


def infer(inputs: list, attrs: dict) -> list[Type]:
    value, buffer = inputs
    if buffer.parameter is None or buffer.parameter.requires_grad:
        fail("assign", "buffer is no buffer of a module")
    if value.shape != buffer.shape or value.layout != FLAT or value.dtype != "float32":
        fail("assign", f"value of shape {value.shape} and dtype {value.dtype}: expected that of the buffer, {buffer.shape}")
    attrs["effect"] = True
    return [value.type]


def lower(node: Node, cx: Lowering) -> None:
    value, buffer = node.inputs
    source = cx.view(value)
    cx.changed.append(buffer.parameter)
    cx.step(kernels.map, shape=buffer.shape, inputs=[tuple(source)], outputs=[tuple(cx.view(buffer))],
            program=(("copy", 0),), results=[1])
    cx.alias_view(node.output, source.ref, source.strides)


register(Operator("assign", infer, lower, lambda node, grads: [grads[0], None], general=True))
