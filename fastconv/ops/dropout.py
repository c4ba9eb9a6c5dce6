"""Dropout. Its backward is the same operator on the gradient: the mask is drawn again, not stored."""

from __future__ import annotations

from fastconv.graph.ir import FLAT, Node, Operator, Type, apply, fail, register
from fastconv.graph.random import random_state
from fastconv.kernels import elementwise as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import channels, pixels_per_image
from fastconv.ops.activation import number, want_float

STREAMS = 1 << 16


def infer(inputs: list, attrs: dict) -> list[Type]:
    (x,) = inputs
    want_float("dropout", "input", x)
    if x.layout == FLAT:
        fail("dropout", f"input of shape {x.shape} is a parameter: expected an activation", TypeError)
    attrs.setdefault("p", 0.5)
    number("dropout", attrs, "p", 0.0)
    if attrs["p"] > 1:
        fail("dropout", f"p={attrs['p']}: expected a probability, 0 to 1")
    if "stream" not in attrs:  # a forward: each has its own numbers
        attrs["stream"] = sum(node.op.name == "dropout" for node in x.graph.nodes) % STREAMS
        attrs["effect"] = True  # not the same twice, whatever it is applied to
    return [x.type]


def gradient(node: Node, grads: list) -> list:
    return [apply("dropout", [grads[0]], p=node.attrs["p"], stream=node.attrs["stream"])]


def lower(node: Node, cx: Lowering) -> None:
    state = cx.extra.get("random")
    if state is None:
        source = random_state()
        state = cx.extra["random"] = cx.temp(16, "random state")
        cx.extra["random source"] = source  # keeps it alive
        cx.step(kernels.random_draw, source.ctypes.data, state, op="random")
    x, y, shape = cx.read(node.inputs[0]), cx.write(node.output), node.output.shape
    cx.step(kernels.dropout, x=x.ref, y=y.ref, state=state, pixels=pixels_per_image(shape), channels=channels(shape),
            ldx=x.ld, ldy=y.ld, p=node.attrs["p"], stream=node.attrs["stream"], info={"input": shape, "output": shape})


register(Operator("dropout", infer, lower, gradient, activations=(0,)))
