"""Linear: a 1x1 convolution over N pixels; behind Flatten, a convolution whose kernel is the whole image.

The weight keeps PyTorch's layout (out_features, in_features) with features in NCHW order; its columns are permuted when it
is packed, so that Flatten costs nothing.
"""

from __future__ import annotations

from math import prod

from fastconv.graph.ir import FLAT, Node, Operator, Tensor, Type, apply, fail, register
from fastconv.kernels import conv as kernels
from fastconv.kernels import layout, linear
from fastconv.kernels import planes as plane_kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import View, channels
from fastconv.ops.conv import planes
from fastconv.ops.conv.problem import cut_parts, epilogue

ONE = (1, 1, 1)


def infer(inputs: list, attrs: dict) -> list[Type]:
    x, w, b = (*inputs, None)[:3]
    if len(w.shape) != 2:
        fail("linear", f"weight of shape {w.shape}: expected (out_features, in_features)")
    if len(x.shape) != 2 and not attrs.get("flattened"):
        fail("linear", f"input of shape {x.shape} has {len(x.shape)} dimensions: expected 2 (N, in_features); "
                       "put nn.Flatten in front")
    if prod(x.shape[1:]) != w.shape[1]:
        fail("linear", f"input of shape {x.shape} has {prod(x.shape[1:])} features: weight of shape {w.shape} expects "
                       f"in_features={w.shape[1]}")
    if b is not None and b.shape != (w.shape[0],):
        fail("linear", f"bias of shape {b.shape}: expected ({w.shape[0]},), one per output feature")
    return [Type((x.shape[0], w.shape[0]))]


def infer_backward_data(inputs: list, attrs: dict) -> list[Type]:
    gy, w = inputs
    shape = tuple(attrs["input_shape"])
    if len(gy.shape) != 2 or gy.shape != (shape[0], w.shape[0]) or prod(shape[1:]) != w.shape[1]:
        fail("linear_backward_data", f"grad_output of shape {gy.shape}: input_shape={shape} and weight of shape {w.shape} "
                                     f"give an output of shape {(shape[0], w.shape[0])}")
    return [Type(shape)]


def infer_backward_weight(inputs: list, attrs: dict) -> list[Type]:
    gy, x = inputs
    if len(gy.shape) != 2 or gy.shape[0] != x.shape[0]:
        fail("linear_backward_weight", f"grad_output of shape {gy.shape}: expected ({x.shape[0]}, out_features)")
    return [Type((gy.shape[1], prod(x.shape[1:])), FLAT)]


def gradient(node: Node, grads: list) -> list:
    (gy,) = grads
    x, w, b = (*node.inputs, None)[:3]
    gx = apply("linear_backward_data", [gy, w], input_shape=x.shape)
    gw = apply("linear_backward_weight", [gy, x])
    return [gx, gw, None if b is None else apply("channel_sum", [gy])][: len(node.inputs)]


def columns(shape: tuple[int, ...], which: str, other: str) -> dict:
    """How the features of an input (N, C, spatial...) stored channels-last lie in the weight's NCHW-ordered columns."""
    c, pixels, features = channels(shape), prod(shape[2:]), prod(shape[1:])
    return {f"{which}s": c, f"{which}_stride": pixels, f"{which}_run": pixels, f"{which}_run_stride": 1,
            f"{other}_stride": features, "taps": [0]}


def dense(x: Tensor, cx: Lowering) -> View:
    """The input as one row of features per image."""
    view = cx.read(x)
    if prod(x.shape[2:]) > 1 and view.ld != channels(x.shape):
        view = cx.padded(x, (0, 0, 0), (0, 0, 0))  # a slice of a concatenation: copied once into dense pixels
    return View(view.ref, view.ld * prod(x.shape[2:]))


def rows(ldx: int, channels_: int, filters: int) -> dict:
    return {"taps": [(0, 0, 0)], "groups": 1, "channels": channels_, "filters": filters, "ldx": ldx,
            "input": ONE, "space": ONE, "stride": ONE, "output": ONE}


def lower(node: Node, cx: Lowering) -> None:
    x, w = node.inputs[:2]
    k, features = w.shape
    view = dense(x, cx)
    if rounded(cx):
        image, y = planes.split_view(cx, view, x.shape[0], 1, features, 1), cx.write(node.output)
        planes.convolve(cx, "bf16_conv_direct", 1, [rows(view.ld, features, k)],
                        [{"filters": k, **columns(x.shape, "channel", "filter")}], w, image, y, describe(node.output, w),
                        {"algorithm": "gemm bf16", **epilogue(node, cx, 2)})
        return
    packed, segment = cx.packed(4 * features * kernels.packed_filters(k), w)
    cx.step(layout.pack_weight, cx.read(w).ref, packed, op="pack", segment=segment, filters=k,
            **columns(x.shape, "channel", "filter"))
    y = cx.write(node.output)
    cx.step(linear.forward, x=view.ref, ldx=view.ld, w=packed, y=y.ref, ldy=y.ld, channels=features, filters=k,
            algorithm="gemm", info=describe(node.output, w), **epilogue(node, cx, 2))


def rounded(cx: Lowering) -> bool:
    """Whether operands are rounded to bfloat16: half the bytes of the weights, and twice the products where those bind."""
    return cx.precision == "medium" and plane_kernels.has_dot()


def describe(y: Tensor, w: Tensor) -> dict:
    return {"output": y.shape, "weight": w.shape, "multiply_adds": y.shape[0] * prod(w.shape)}


def lower_backward_data(node: Node, cx: Lowering) -> None:
    gy, w = node.inputs
    k, features = w.shape
    view, gx = cx.read(gy), cx.write(node.output)
    if prod(node.output.shape[2:]) > 1 and gx.ld != channels(node.output.shape):
        raise RuntimeError("the gradient of a flattened input must be dense")
    row = View(gx.ref, gx.ld * prod(node.output.shape[2:]))
    if rounded(cx):
        planes.convolve(cx, "bf16_conv_direct", 1, [rows(view.ld, k, features)],
                        [{"channels": k, **columns(node.output.shape, "filter", "channel")}], w, planes.split(cx, gy, 1),
                        row, describe(gy, w), {"algorithm": "gemm bf16"})
        return
    packed, segment = cx.packed(4 * k * kernels.packed_filters(features), w)
    cx.step(layout.pack_weight, cx.read(w).ref, packed, op="pack", segment=segment, channels=k,
            **columns(node.output.shape, "filter", "channel"))
    cx.step(linear.forward, x=view.ref, ldx=view.ld, w=packed, y=row.ref, ldy=row.ld, channels=k, filters=features,
            algorithm="gemm", info=describe(gy, w))


def lower_backward_weight(node: Node, cx: Lowering) -> None:
    gy, x = node.inputs
    k, features = node.output.shape
    view, gy_view = dense(x, cx), cx.read(gy)
    out = cx.write(node.output).ref
    floats = features * kernels.packed_filters(k)
    parts = cut_parts(-(-k // kernels.block_filters()), x.shape[0], floats)
    partial = cx.temp(4 * floats * parts, "weight gradient")
    cx.step(kernels.backward_weight, "f32_conv_backward_weight", rows(view.ld, features, k), x=view.ref, gy=gy_view.ref,
            ldy=gy_view.ld, dw=partial, zeros=cx.zeros(1), parts=parts, part_stride=floats, algorithm="gemm",
            info=describe(gy, node.output))
    cx.step(layout.unpack_weight, out, partial, op="unpack", filters=k, parts=parts, part_stride=floats,
            **columns(x.shape, "channel", "filter"))


register(Operator("linear", infer, lower, gradient, activations=(0,)))
register(Operator("linear_backward_data", infer_backward_data, lower_backward_data))
register(Operator("linear_backward_weight", infer_backward_weight, lower_backward_weight))
