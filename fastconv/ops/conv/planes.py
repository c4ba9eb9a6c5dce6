"""Operands as bfloat16 planes: the split of a tensor, shared by all who read it, and what convolutions over planes emit."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from fastconv.graph.ir import Node, Tensor
from fastconv.kernels import layout, planes
from fastconv.kernels.many import each
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Ref, View, channels, spatial3
from fastconv.lowering.steps import StepSpec
from fastconv.ops.conv.problem import SMALL, Problem, cut_parts, epilogue, pack_phases, phases
from fastconv.ops.geometry import window_taps

NONE = (0, 0, 0)
FUSED = 32  # a convolution splits its own outputs where their channels are whole steps, so that no gap behind them is read


class Image(NamedTuple):
    """A split tensor: [plane][pixel][ldp] elements of two bytes, planes ``stride`` elements apart."""

    ref: Ref
    ldp: int
    stride: int


def split(cx: Lowering, x: Tensor, count: int, low: tuple[int, int, int] = NONE, high: tuple[int, int, int] = NONE) -> Image:
    """The planes of an activation, inside a border of zeros if asked for; made once per graph for all who read them."""
    known = cx.extra.setdefault("planes", {})
    key = (x, count, low, high)
    maker = cx.extra.get("plane makers", {}).get(x)
    if key not in known and maker is not None and not any(low) and not any(high) and "split" not in maker.keywords:
        known[key] = fuse(cx, maker, x, count)
    if key not in known:
        view = cx.padded(x, low, high) if any(low) or any(high) else cx.read(x)
        pixels = prod(s + a + b for s, a, b in zip(spatial3(x.shape), low, high, strict=True))
        known[key] = split_view(cx, view, x.shape[0], pixels, channels(x.shape), count)
    return known[key]


def fuse(cx: Lowering, maker: StepSpec, x: Tensor, count: int) -> Image:
    """Has the convolution that makes an activation store its planes as well, and nothing else where nobody else reads it."""
    c = channels(x.shape)
    ldp, pixels = planes.split_row(c), prod(spatial3(x.shape))
    image = Image(cx.temp(2 * count * x.shape[0] * pixels * ldp, "planes"), ldp, x.shape[0] * pixels * ldp)
    maker.keywords.update(split=image.ref, split_count=count, split_ldp=ldp, split_stride=image.stride)
    cx.drop_unread(x, maker, split_alone=True, y=image.ref)
    return image


def split_view(cx: Lowering, view: View, n: int, pixels: int, channels_: int, count: int) -> Image:
    """Emits the split of ``pixels`` pixels per image."""
    ldp = planes.split_row(channels_)
    stride = n * pixels * ldp
    image = Image(cx.temp(2 * count * stride, "planes"), ldp, stride)
    cx.step(planes.split, x=view.ref, planes=image.ref, pixels=pixels, channels=channels_, ldx=view.ld, ldp=ldp, count=count,
            plane_stride=stride, op="split")
    return image


def packed_bytes(count: int, reads: int, packing: dict) -> int:
    """Of packed weights of which one tap reads ``reads`` elements."""
    return 2 * planes.packed_elements(taps=len(packing["taps"]), channels=reads, planes=count,
                                      filters=packing["filters"] * packing.get("filter_run", 1),
                                      groups=packing.get("groups", 1))


def convolve(cx: Lowering, kernel: str, count: int, geometries: list[dict], packings: list[dict], w: Tensor, image: Image,
             y: View, info: dict, fused: dict) -> StepSpec:
    """Emits the packing of the weights and the convolution, which is returned; of several phases as one step each."""
    reads = geometries[0]["channels"]
    packed, offsets = pack_phases(cx, planes.pack_weights, w, [{**packing, "planes": count} for packing in packings],
                                  [packed_bytes(count, reads, packing) for packing in packings])
    return cx.step(each, planes.forward, [{**geometry, "ldx": image.ldp} for geometry in geometries], "w", offsets, kernel,
                   x=image.ref, w=packed, y=y.ref, ldy=y.ld, planes=count, plane_stride=image.stride, zeros=cx.zeros(reads),
                   info=info, **fused)


def forward(cx: Lowering, kernel: str, count: int, node: Node, p: Problem) -> None:
    """A row of taps over few channels is one run of contiguous elements, from a copy with a border if there is padding."""
    x, w = node.inputs[:2]
    geometry = {"groups": p.groups, "channels": p.C, "filters": p.K, "input": p.x, "space": p.y, "stride": p.stride,
                "output": p.y, "taps": window_taps(p.kernel, p.low, p.dilation)}
    packing = {**p.flat_strides(), "taps": list(range(p.taps))}
    s = p.kernel[2]
    if p.groups == 1 and p.dilation[2] == 1 and s > 1 and p.C < SMALL:
        image = split(cx, x, count, p.low, p.high)
        size = tuple(a + b + c for a, b, c in zip(p.x, p.low, p.high, strict=True))
        geometry.update(input=size, taps=window_taps((*p.kernel[:2], 1), NONE, p.dilation), channels=s * image.ldp)
        packing.update(taps=list(range(0, p.taps, s)), channel_run=s, channel_run_stride=1, row=image.ldp)
    else:
        image = split(cx, x, count)
    y, c = cx.write(node.output), channels(node.output.shape)
    step = convolve(cx, kernel, count, [geometry], [packing], w, image, y, p.describe(), epilogue(node, cx))
    if y.ld == c and c % FUSED == 0:
        cx.extra.setdefault("plane makers", {})[node.output] = step


def backward_data(cx: Lowering, kernel: str, count: int, node: Node, p: Problem) -> None:
    """The same kernel over the output's gradient, one problem per phase of the stride."""
    gy, w = node.inputs[:2]
    image, gx = split(cx, gy, count), cx.write(node.output)
    roles = {"groups": p.groups, "channels": p.K, "filters": p.C}
    packing = {**roles, "group_stride": p.K * p.C * p.taps, "filter_stride": p.taps, "channel_stride": p.C * p.taps}
    geometries, packings = [], []
    for origin, extents, taps, numbers in phases(p):
        geometries.append({**roles, "taps": taps, "input": p.y, "space": extents, "stride": (1, 1, 1), "output": p.x,
                           "origin": origin, "output_step": p.stride})
        packings.append({**packing, "taps": numbers})
    convolve(cx, kernel, count, geometries, packings, w, image, gx, p.describe(), epilogue(node, cx))


def backward_weight(cx: Lowering, kernel: str, count: int, node: Node, p: Problem) -> None:
    """Partial sums over ranges of pixels, and their sum in OIHW."""
    gy, x = node.inputs
    left, right, out = split(cx, x, count), split(cx, gy, count), cx.write(node.output).ref
    geometry = {"groups": p.groups, "channels": p.C, "filters": p.K, "ldx": left.ldp, "input": p.x, "space": p.y,
                "stride": p.stride, "taps": window_taps(p.kernel, p.low, p.dilation)}
    floats = p.groups * p.taps * p.C * p.K
    slabs = planes.weight_slabs(taps=p.taps, channels=p.C, filters=p.K, groups=p.groups)
    parts = cut_parts(slabs, p.n * prod(p.y), floats)
    partial = cx.temp(4 * floats * parts, "weight gradient")
    cx.step(planes.backward_weight, kernel, geometry, x=left.ref, gy=right.ref, ldy=right.ldp, dw=partial,
            zeros=cx.zeros(max(p.C, p.K)), parts=parts, part_stride=floats, planes=count, x_plane_stride=left.stride,
            gy_plane_stride=right.stride, info=p.describe())
    cx.step(layout.unpack_weight, out, partial, op="unpack", parts=parts, part_stride=floats, block=planes.WEIGHT_BLOCK,
            taps=list(range(p.taps)), **p.flat_strides())
