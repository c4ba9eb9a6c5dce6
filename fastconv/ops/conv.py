"""Convolution and its gradients, as lists of taps over channels-last pixels.

Forward reads input pixel ``i * stride + r * dilation - padding``. Backward to data is the same kernel over the output's
gradient, one problem per phase of the stride (so that no zeros are multiplied); backward to weights is a sum over pixels.
"""

from __future__ import annotations

from itertools import product
from math import prod

from fastconv.graph.ir import FLAT, Node, Operator, Tensor, Type, apply, fail, register
from fastconv.graph.lower import Lowering, View, channels, spatial3
from fastconv.kernels import conv as kernels
from fastconv.kernels import layout
from fastconv.ops import im2col
from fastconv.ops.geometry import ints, output_size, pads, to3, window_taps

SMALL = 8  # fewer channels than this: taps of a row are read as one run, from a padded copy if there is padding


# ---- shape rules ----------------------------------------------------------------------------------------------------


def normalise(op: str, attrs: dict, dims: int, kernel: tuple[int, ...]) -> None:
    """Checks stride, padding, dilation and groups and replaces them by one entry per dimension."""
    attrs["stride"] = ints(op, "stride", attrs.get("stride", 1), dims, 1)
    attrs["dilation"] = ints(op, "dilation", attrs.get("dilation", 1), dims, 1)
    attrs["padding"] = pads(op, attrs.get("padding", 0), kernel, attrs["stride"], attrs["dilation"])
    attrs["groups"] = ints(op, "groups", attrs.get("groups", 1), 1, 1)[0]
    attrs["kernel"] = kernel


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
    if "algorithm" in node.attrs:
        geometry["algorithm"] = node.attrs["algorithm"]
    gx = apply("conv_backward_data", [gy, w], input_shape=x.shape, **geometry)
    gw = apply("conv_backward_weight", [gy, x], weight_shape=w.shape, **geometry)
    gb = None if b is None else apply("channel_sum", [gy])
    return [gx, gw, gb][: len(node.inputs)]


# ---- lowering ---------------------------------------------------------------------------------------------------------


class Problem:
    """A convolution in the kernels' terms: everything as (D, H, W)."""

    def __init__(self, x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...], attrs: dict):
        self.groups = attrs["groups"]
        self.C, self.K = w[1], w[0] // self.groups  # per group
        self.kernel = to3(w[2:], 1)
        self.stride = to3(attrs["stride"], 1)
        self.dilation = to3(attrs["dilation"], 1)
        self.low = tuple(p[0] for p in to3(attrs["padding"], (0, 0)))
        self.high = tuple(p[1] for p in to3(attrs["padding"], (0, 0)))
        self.x, self.y = spatial3(x), spatial3(y)
        self.taps = prod(self.kernel)
        self.padding = any(self.low) or any(self.high)
        self.depthwise = self.C == 1 and self.groups > 1
        self.pointwise = self.taps == 1 and not self.padding and self.stride == (1, 1, 1)

    def base(self) -> dict:
        if self.depthwise:
            return {"groups": self.groups, "channels": 1, "filters": self.groups * self.K, "multiplier": self.K}
        return {"groups": self.groups, "channels": self.C, "filters": self.K}

    def packed_floats(self, taps: int, filters: int, channels_: int) -> int:
        if self.depthwise and channels_ == 1:
            return taps * kernels.packed_filters(self.groups * filters)
        return self.groups * taps * channels_ * kernels.packed_filters(filters)

    def flat_strides(self) -> dict:
        """Where a weight lies in OIHW, by its filter, channel and tap."""
        if self.depthwise:
            return {"groups": 1, "filters": self.groups * self.K, "channels": 1, "filter_stride": self.taps,
                    "channel_stride": 0, "tap_stride": 1}
        return {"groups": self.groups, "filters": self.K, "channels": self.C, "group_stride": self.K * self.C * self.taps,
                "filter_stride": self.C * self.taps, "channel_stride": self.taps, "tap_stride": 1}


def source(p: Problem, x: Tensor, cx: Lowering) -> tuple[View, dict, dict]:
    """Where the forward (or the backward to weights) reads: view, geometry, how its weights are packed.

    A row of taps without padding over a dense image is one run of S * C contiguous values, which makes first layers with
    few channels as regular as others; a padded one with few channels is read from a copy with a border.
    """
    s, dense = p.kernel[2], p.groups == 1 and p.dilation[2] == 1
    low, size = p.low, p.x
    if dense and s > 1 and p.C < SMALL and p.padding:
        view = cx.padded(x, p.low, p.high)
        size = tuple(a + b + c for a, b, c in zip(p.x, p.low, p.high, strict=True))
        low = (0, 0, 0)
    else:
        view = cx.read(x)
    geometry = {**p.base(), "ldx": view.ld, "input": size, "space": p.y, "stride": p.stride, "output": p.y}
    pack = {**p.flat_strides(), "taps": list(range(p.taps))}
    inside = low[2] == 0 and (p.high[2] == 0 or low != p.low)
    if dense and s > 1 and inside and view.ld == p.C:
        taps = window_taps((*p.kernel[:2], 1), low, p.dilation)
        geometry.update(taps=taps, channels=s * p.C)
        pack.update(taps=[t * s for t in range(len(taps))], channel_run=s, channel_run_stride=1)
    else:
        geometry["taps"] = window_taps(p.kernel, low, p.dilation)
    return view, geometry, pack


def forward_kernel(p: Problem, cx: Lowering) -> str:
    applicable = ["depthwise"] if p.depthwise else ["pointwise"] if p.pointwise else []
    applicable += ["direct", "im2col"]
    return cx.asked_algorithm(applicable[0], applicable)


def epilogue(node: Node, cx: Lowering, first: int) -> dict:
    """Bias, residual and activation that passes have fused into the node; inputs from ``first`` on."""
    keywords: dict = {}
    extra = node.inputs[first:]
    if extra and extra[0] is not None:
        keywords["bias"] = cx.read(extra[0]).ref
    if len(extra) > 1 and extra[1] is not None:
        view = cx.read(extra[1])
        keywords.update(residual=view.ref, ldr=view.ld)
    act = node.attrs.get("act")
    if act:
        keywords.update(act=act[0], act_a=float(act[1]), act_b=float(act[2]))
    return keywords


def lower_conv(node: Node, cx: Lowering) -> None:
    x, w = node.inputs[:2]
    p = Problem(x.shape, w.shape, node.output.shape, node.attrs)
    algorithm = forward_kernel(p, cx)
    if algorithm == "im2col":
        im2col.forward(p, x, w, node.output, cx, describe(p, x, node.output), epilogue(node, cx, 2))
        return
    view, geometry, pack = source(p, x, cx)
    if p.depthwise and algorithm == "direct":
        geometry.update(groups=p.groups, channels=1, filters=p.K, multiplier=1)
        pack.update(groups=p.groups, filters=p.K, group_stride=p.K * p.taps)
    convolve(cx, algorithm, geometry, pack, w, view, cx.write(node.output), channels(x.shape),
             describe(p, x, node.output), epilogue(node, cx, 2))


def convolve(cx: Lowering, algorithm: str, geometry: dict, pack: dict, w: Tensor, x: View, y: View, row: int, info: dict,
             fused: dict) -> None:
    """Emits the packing of the weights and the convolution; ``row`` channels are read of a pixel in the padding."""
    taps, filters, channels_ = len(geometry["taps"]), geometry["filters"], geometry["channels"]
    kernel = f"f32_conv_{algorithm}"
    if algorithm == "depthwise":
        floats = taps * kernels.packed_filters(filters)
    elif kernels.prefers_few(filters, channels_):
        kernel, floats = "f32_conv_few", geometry["groups"] * taps * filters * channels_
        pack = {**{key: pack[key] for key in ("taps", "groups", "group_stride", "tap_stride") if key in pack},
                "filters": pack["channels"], "filter_stride": pack["channel_stride"],
                "filter_run": pack.get("channel_run", 1), "filter_run_stride": pack.get("channel_run_stride", 0),
                "channels": pack["filters"], "channel_stride": pack["filter_stride"], "block": channels_}
    else:
        floats = geometry["groups"] * taps * channels_ * kernels.packed_filters(filters)
    packed, segment = cx.packed(4 * floats, w)
    if taps:
        cx.step(layout.pack_weight, cx.read(w).ref, packed, op="pack", segment=segment, **pack)
    cx.step(kernels.forward, kernel, geometry, x=x.ref, w=packed, y=y.ref, ldy=y.ld,
            zeros=cx.zeros(max(channels_, row)), algorithm=algorithm, info=info, **fused)


def describe(p: Problem, x: Tensor, y: Tensor) -> dict:
    return {"input": x.shape, "output": y.shape, "weight": (p.K * p.groups, p.C, *p.kernel),
            "multiply_adds": prod(y.shape) * p.C * p.taps}


def phases(p: Problem):
    """Backward to data by phases of the stride: (first output pixel, extents, taps with their numbers)."""
    for origin in product(*(range(min(s, x)) for s, x in zip(p.stride, p.x, strict=True))):
        extents = tuple(max(0, -(-(x - o) // s)) for x, o, s in zip(p.x, origin, p.stride, strict=True))
        if 0 in extents:
            continue
        taps, numbers = [], []
        for number, index in enumerate(product(*(range(k) for k in p.kernel))):
            at = [o + a - r * d for o, a, r, d in zip(origin, p.low, index, p.dilation, strict=True)]
            if all(v % s == 0 for v, s in zip(at, p.stride, strict=True)):
                taps.append(tuple(v // s for v, s in zip(at, p.stride, strict=True)))
                numbers.append(number)
        yield origin, extents, taps, numbers


def lower_backward_data(node: Node, cx: Lowering) -> None:
    gy, w = node.inputs
    p = Problem(node.output.shape, w.shape, gy.shape, node.attrs)
    applicable = ["depthwise"] if p.depthwise and p.K == 1 else ["pointwise"] if p.pointwise else []
    applicable += ["direct", "im2col"]
    # what was named for the forward may not apply here
    algorithm = cx.asked_algorithm(applicable[0], ["depthwise", "pointwise", "direct", "im2col"])
    algorithm = algorithm if algorithm in applicable else applicable[0]
    if algorithm == "im2col":
        im2col.backward_data(p, gy, w, node.output, cx, describe(p, node.output, gy))
        return
    view, gx = cx.read(gy), cx.write(node.output)
    if algorithm == "depthwise":
        roles = {"groups": p.groups, "channels": 1, "filters": p.groups, "multiplier": 1}
        pack = {"groups": 1, "filters": p.groups, "channels": 1, "filter_stride": p.taps, "channel_stride": 0}
    else:
        roles = {"groups": p.groups, "channels": p.K, "filters": p.C}
        pack = {"groups": p.groups, "filters": p.C, "channels": p.K, "group_stride": p.K * p.C * p.taps,
                "filter_stride": p.taps, "channel_stride": p.C * p.taps}
    for origin, extents, taps, numbers in phases(p):
        geometry = {**roles, "taps": taps, "ldx": view.ld, "input": p.y, "space": extents, "stride": (1, 1, 1),
                    "output": p.x, "origin": origin, "output_step": p.stride}
        convolve(cx, algorithm, geometry, {**pack, "taps": numbers}, w, view, gx, channels(gy.shape),
                 describe(p, node.output, gy), {})


def cut_parts(tiles: int, pixels: int, floats: int) -> int:
    """Ranges of pixels for a sum over pixels: only where there are fewer than 64 tiles; partial sums up to 4 MiB."""
    if tiles >= 64:
        return 1
    return max(1, min(-(-64 // tiles), -(-pixels // 256), (1 << 20) // max(1, floats)))


def lower_backward_weight(node: Node, cx: Lowering) -> None:
    gy, x = node.inputs
    p = Problem(x.shape, node.output.shape, gy.shape, node.attrs)
    # every algorithm of the forward may be asked for; all but im2col sum by the same kernels
    if cx.asked_algorithm("direct", ["direct", "pointwise", "depthwise", "im2col"]) == "im2col":
        im2col.backward_weight(p, gy, x, node.output, cx, describe(p, x, gy), cut_parts)
        return
    view, geometry, pack = source(p, x, cx)
    out = cx.write(node.output).ref
    gy_view = cx.read(gy)
    floats = p.packed_floats(p.taps, p.K, p.C)
    pixels = gy.shape[0] * prod(p.y)
    block = kernels.block_filters()
    if p.depthwise:
        kernel, tiles = "f32_conv_depthwise_backward_weight", -(-p.groups * p.K // block)
    else:
        kernel, tiles = "f32_conv_backward_weight", p.groups * -(-p.K // block) * len(geometry["taps"])
    parts = cut_parts(tiles, pixels, floats)
    partial = cx.temp(4 * floats * parts, "weight gradient")
    cx.step(kernels.backward_weight, kernel, geometry, x=view.ref, gy=gy_view.ref, ldy=gy_view.ld, dw=partial,
            zeros=cx.zeros(max(geometry["channels"], channels(x.shape))), parts=parts, part_stride=floats,
            algorithm="depthwise" if p.depthwise else "direct", info=describe(p, x, gy))
    cx.step(layout.unpack_weight, out, partial, op="unpack", parts=parts, part_stride=floats, **pack)


# ---- the gradient of a bias -------------------------------------------------------------------------------------------


def infer_channel_sum(inputs: list, attrs: dict) -> list[Type]:
    return [Type((channels(inputs[0].shape),), FLAT)]


def lower_channel_sum(node: Node, cx: Lowering) -> None:
    (x,) = node.inputs
    view, out = cx.read(x), cx.write(node.output).ref
    count, rows = channels(x.shape), prod(x.shape[2:])
    parts = max(1, min(32, x.shape[0] * rows // 256))
    partial = cx.temp(4 * count * parts, "bias gradient")
    cx.step(kernels.column_sum, x=view.ref, part=partial, rows_per_image=rows, channels=count, ld=view.ld, parts=parts)
    cx.step(kernels.sum_partials, part=partial, out=out, parts=parts, part_stride=count, count=count)


register(Operator("conv", infer_conv, lower_conv, gradient))
register(Operator("conv_backward_data", infer_backward_data, lower_backward_data))
register(Operator("conv_backward_weight", infer_backward_weight, lower_backward_weight))
register(Operator("channel_sum", infer_channel_sum, lower_channel_sum))
