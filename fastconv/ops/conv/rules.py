"""Convolution as operators: shape rules, gradients, and the choice of an algorithm when they are lowered.

Forward reads input pixel ``i * stride + r * dilation - padding``. Backward to data is the same kernel over the output's
gradient, one problem per phase of the stride (so that no zeros are multiplied); backward to weights is a sum over pixels.
"""

from __future__ import annotations

from fastconv._values import shown
from fastconv.graph.ir import FLAT, Node, Operator, Type, apply, fail, register
from fastconv.lowering.lower import PRECISIONS, Lowering
from fastconv.ops.conv.choose import choose
from fastconv.ops.conv.problem import Problem
from fastconv.ops.geometry import ints, output_size, pads

# ---- shape rules ----------------------------------------------------------------------------------------------------


def normalise(op: str, attrs: dict, dims: int, kernel: tuple[int, ...]) -> None:
    """Checks stride, padding, dilation and groups and replaces them by one entry per dimension."""
    attrs["stride"] = ints(op, "stride", attrs.get("stride", 1), dims, 1)
    attrs["dilation"] = ints(op, "dilation", attrs.get("dilation", 1), dims, 1)
    attrs["padding"] = pads(op, attrs.get("padding", 0), kernel, attrs["stride"], attrs["dilation"])
    attrs["groups"] = ints(op, "groups", attrs.get("groups", 1), 1, 1)[0]
    attrs["kernel"] = kernel
    if attrs.get("precision") not in (None, *PRECISIONS):
        fail(op, f"precision={shown(attrs['precision'])}: expected one of {', '.join(PRECISIONS)}")


def check(op: str, x: tuple[int, ...], w: tuple[int, ...], attrs: dict) -> None:
    dims = len(x) - 2
    if dims not in (1, 2, 3):
        fail(op, f"input of shape {x} has {len(x)} dimensions: expected 3 (N, C, L), 4 (N, C, H, W) or 5 (N, C, D, H, W)")
    if len(w) != dims + 2:
        fail(op, f"weight of shape {w} has {len(w)} dimensions: expected {dims + 2}, like the input of shape {x}")
    if min(w) < 1:
        fail(op, f"weight of shape {w}: every extent must be at least 1")
    normalise(op, attrs, dims, w[2:])
    groups = attrs["groups"]
    if x[1] % groups:
        fail(op, f"groups={groups} does not divide in_channels={x[1]}")
    if w[0] % groups:
        fail(op, f"groups={groups} does not divide out_channels={w[0]}")
    if x[1] // groups != w[1]:
        fail(op, f"input of shape {x} has {x[1]} channels: weight of shape {w} with groups={groups} expects {w[1] * groups}")


def conv_shape(op: str, x: tuple[int, ...], w: tuple[int, ...], attrs: dict) -> tuple[int, ...]:
    check(op, x, w, attrs)
    return (x[0], w[0], *output_size(op, x[2:], w[2:], attrs["stride"], attrs["padding"], attrs["dilation"]))


def infer_conv(inputs: list, attrs: dict) -> list[Type]:
    x, w, b = (*inputs, None)[:3]
    shape = conv_shape("conv", x.shape, w.shape, attrs)
    if b is not None and b.shape != (w.shape[0],):
        fail("conv", f"bias of shape {b.shape}: expected ({w.shape[0]},), one per output channel")
    return [Type(shape)]


def infer_backward_data(inputs: list, attrs: dict) -> list[Type]:
    gy, w = inputs
    shape = tuple(attrs["input_shape"])
    expected = conv_shape("conv_backward_data", shape, w.shape, attrs)
    if gy.shape != expected:
        fail("conv_backward_data", f"grad_output of shape {gy.shape}: input_shape={shape} and weight of shape {w.shape} "
                                   f"give an output of shape {expected}")
    return [Type(shape)]


def infer_backward_weight(inputs: list, attrs: dict) -> list[Type]:
    gy, x = inputs
    shape = tuple(attrs["weight_shape"])
    expected = conv_shape("conv_backward_weight", x.shape, shape, attrs)
    if gy.shape != expected:
        fail("conv_backward_weight", f"grad_output of shape {gy.shape}: input of shape {x.shape} and weight_shape={shape} "
                                     f"give an output of shape {expected}")
    return [Type(shape, FLAT)]


def gradient(node: Node, grads: list) -> list:
    (gy,) = grads
    x, w, b = (*node.inputs, None)[:3]
    geometry = {key: node.attrs[key] for key in ("stride", "padding", "dilation", "groups")}
    geometry.update({key: node.attrs[key] for key in ("algorithm", "precision") if key in node.attrs}, wish=True)
    gx = apply("conv_backward_data", [gy, w], input_shape=x.shape, **geometry)
    gw = apply("conv_backward_weight", [gy, x], weight_shape=w.shape, **geometry)
    gb = None if b is None else apply("channel_sum", [gy])
    return [gx, gw, gb][: len(node.inputs)]


# ---- lowering ---------------------------------------------------------------------------------------------------------


def lower_conv(node: Node, cx: Lowering) -> None:
    x, w = node.inputs[:2]
    p = Problem(x.shape, w.shape, node.output.shape, node.attrs)
    choose("forward", node, p, cx).lower_forward(node, p, cx)


def lower_backward_data(node: Node, cx: Lowering) -> None:
    gy, w = node.inputs
    p = Problem(node.output.shape, w.shape, gy.shape, node.attrs)
    choose("backward_data", node, p, cx).lower_backward_data(node, p, cx)


def lower_backward_weight(node: Node, cx: Lowering) -> None:
    gy, x = node.inputs
    if 0 in x.shape or 0 in gy.shape:  # a sum over no pixels
        cx.fill(node.output, 0)
        return
    p = Problem(x.shape, node.output.shape, gy.shape, node.attrs)
    choose("backward_weight", node, p, cx).lower_backward_weight(node, p, cx)


register(Operator("conv", infer_conv, lower_conv, gradient, activations=(0,)))
register(Operator("conv_backward_data", infer_backward_data, lower_backward_data))
register(Operator("conv_backward_weight", infer_backward_weight, lower_backward_weight))
