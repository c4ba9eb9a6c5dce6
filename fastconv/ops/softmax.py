"""Softmax and log-softmax over channels, or over a spatial dimension that changes places with them; their gradients from the
output."""

from __future__ import annotations

from math import prod

from fastconv._values import shown
from fastconv.graph.ir import FLAT, Node, Operator, Type, apply, fail, register
from fastconv.kernels import loss as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import View, channels, pixels_per_image
from fastconv.ops.activation import infer_backward, want_float
from fastconv.ops.shape import swap, swapped


def infer(op: str, inputs: list, attrs: dict) -> list[Type]:
    (x,) = inputs
    want_float(op, "input", x)
    if x.layout == FLAT:
        fail(op, f"input of shape {x.shape} is a parameter: expected an activation", TypeError)
    dim = attrs.setdefault("dim", 1)
    if isinstance(dim, bool) or not isinstance(dim, int):
        fail(op, f"dim={shown(dim)}: expected an integer", TypeError)
    if not -x.ndim <= dim < x.ndim:
        fail(op, f"dim={dim}: input of shape {x.shape} has {x.ndim} dimensions")
    attrs["dim"] = dim % x.ndim
    if attrs["dim"] == 0:
        fail(op, f"dim={dim} on input of shape {x.shape}: the batch, dimension 0, stays by itself")
    return [x.type]


def lower(node: Node, cx: Lowering) -> None:
    (x,), y, shape, own = _along(node, cx)
    cx.step(kernels.softmax, f"f32_{node.op.name}", x=x.ref, y=y.ref, ldx=x.ld, ldy=y.ld, channels=channels(own),
            pixels=pixels_per_image(own), info={"input": shape, "output": shape})
    _put_back(node, cx, y)


def lower_backward(node: Node, cx: Lowering) -> None:
    (gy, y), gx, shape, own = _along(node, cx)
    cx.step(kernels.softmax_backward, f"f32_{node.op.name}", gy=gy.ref, y=y.ref, gx=gx.ref, ldgy=gy.ld, ldy=y.ld,
            ldgx=gx.ld, channels=channels(own), pixels=pixels_per_image(own), info={"input": shape, "output": shape})
    _put_back(node, cx, gx)


def _along(node: Node, cx: Lowering) -> tuple[list[View], View, tuple[int, ...], tuple[int, ...]]:
    """Inputs, where the output goes, its shape, and that with ``dim`` as channels, which the views have."""
    inputs, shape, dim = [cx.read(t) for t in node.inputs], node.output.shape, node.attrs["dim"]
    if dim == 1:
        return inputs, cx.write(node.output), shape, shape
    own = swapped(shape, dim)
    return [swap(cx, view, shape, dim) for view in inputs], View(cx.temp(4 * prod(shape), "swapped"), own[1]), shape, own


def _put_back(node: Node, cx: Lowering, view: View) -> None:
    if node.attrs["dim"] != 1:
        swap(cx, view, node.output.shape, node.attrs["dim"], back=True, to=cx.write(node.output))


def _register(name: str) -> None:
    backward = f"{name}_backward"
    register(Operator(name, lambda inputs, attrs: infer(name, inputs, attrs), lower,
                      lambda node, grads: [apply(backward, [grads[0], node.output], dim=node.attrs["dim"])],
                      activations=(0,)))
    register(Operator(backward, lambda inputs, attrs: infer_backward(backward, inputs, attrs), lower_backward))


_register("softmax")
_register("log_softmax")
