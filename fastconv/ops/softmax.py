"""Softmax and log-softmax over channels, and their gradients from the output."""

from __future__ import annotations

from fastconv.graph.ir import FLAT, Node, Operator, Type, apply, fail, register
from fastconv.graph.lower import Lowering, channels, pixels_per_image
from fastconv.kernels import loss as kernels
from fastconv.ops.activation import infer_backward, want_float


def infer(op: str, inputs: list, attrs: dict) -> list[Type]:
    (x,) = inputs
    want_float(op, "input", x)
    if x.layout == FLAT:
        fail(op, f"input of shape {x.shape} is a parameter: expected an activation", TypeError)
    dim = attrs.setdefault("dim", 1)
    if isinstance(dim, bool) or not isinstance(dim, int):
        fail(op, f"dim={dim!r}: expected an integer", TypeError)
    if not -x.ndim <= dim < x.ndim:
        fail(op, f"dim={dim}: input of shape {x.shape} has {x.ndim} dimensions")
    attrs["dim"] = dim % x.ndim
    if attrs["dim"] != 1:
        fail(op, f"dim={dim} on input of shape {x.shape}: only dim=1, the channels, is supported")
    return [x.type]


def lower(node: Node, cx: Lowering) -> None:
    x, y, shape = cx.read(node.inputs[0]), cx.write(node.output), node.output.shape
    cx.step(kernels.softmax, f"f32_{node.op.name}", x=x.ref, y=y.ref, ldx=x.ld, ldy=y.ld, channels=channels(shape),
            pixels=pixels_per_image(shape), info={"input": shape, "output": shape})


def lower_backward(node: Node, cx: Lowering) -> None:
    gy, y = (cx.read(t) for t in node.inputs)
    gx, shape = cx.write(node.output), node.output.shape
    cx.step(kernels.softmax_backward, f"f32_{node.op.name}", gy=gy.ref, y=y.ref, gx=gx.ref, ldgy=gy.ld, ldy=y.ld,
            ldgx=gx.ld, channels=channels(shape), pixels=pixels_per_image(shape), info={"input": shape, "output": shape})


def _register(name: str) -> None:
    backward = f"{name}_backward"
    register(Operator(name, lambda inputs, attrs: infer(name, inputs, attrs), lower,
                      lambda node, grads: [apply(backward, [grads[0], node.output])]))
    register(Operator(backward, lambda inputs, attrs: infer_backward(backward, inputs, attrs), lower_backward))


_register("softmax")
_register("log_softmax")
