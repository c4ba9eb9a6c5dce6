"""How a convolution of ops/conv.py becomes steps of the im2col algorithm: panels of unfolded pixels times weights.

One packed copy of the weights, [group][tap][channel][filter], serves the forward pass and backward to data.
"""

from __future__ import annotations

from math import prod

from fastconv.graph.ir import Tensor
from fastconv.graph.lower import Lowering, Ref
from fastconv.kernels import im2col, layout
from fastconv.ops.geometry import window_taps


def geometry(p, ldx: int) -> dict:
    """The forward problem, dense; ``p`` is an ops.conv.Problem."""
    return {"groups": p.groups, "channels": p.C, "filters": p.K, "ldx": ldx, "input": p.x, "space": p.y,
            "stride": p.stride, "output": p.y, "taps": window_taps(p.kernel, p.low, p.dilation)}


def packing(p) -> dict:
    """Where weights lie in OIHW; one block holds all filters of a group."""
    return {"groups": p.groups, "filters": p.K, "channels": p.C, "group_stride": p.K * p.C * p.taps,
            "filter_stride": p.C * p.taps, "channel_stride": p.taps, "taps": list(range(p.taps)), "block": p.K}


def packed_weight(p, w: Tensor, cx: Lowering) -> Ref:
    """The weights as matrices, packed once per graph and weight."""
    known = cx.extra.setdefault("im2col weights", {})
    key = (w, p.groups)
    if key not in known:
        known[key], segment = cx.packed(4 * prod(w.shape), w)
        cx.step(layout.pack_weight, cx.read(w).ref, known[key], op="pack", segment=segment, **packing(p))
    return known[key]


def forward(p, x: Tensor, w: Tensor, y: Tensor, cx: Lowering, info: dict, epilogue: dict) -> None:
    """y = conv(x, w) and what passes have fused behind it."""
    source, packed, target = cx.read(x), packed_weight(p, w, cx), cx.write(y)
    cx.step(im2col.forward, geometry(p, source.ld), x=source.ref, w=packed, y=target.ref, ldy=target.ld,
            algorithm="im2col", info=info, **epilogue)


def backward_data(p, gy: Tensor, w: Tensor, gx: Tensor, cx: Lowering, info: dict) -> None:
    """gx, the gradient of the forward problem's input."""
    source, packed, target = cx.read(gy), packed_weight(p, w, cx), cx.write(gx)
    cx.step(im2col.backward_data, geometry(p, target.ld), gy=source.ref, ldy=source.ld, w=packed, gx=target.ref,
            algorithm="im2col", info=info)


def backward_weight(p, gy: Tensor, x: Tensor, dw: Tensor, cx: Lowering, info: dict, cut_parts) -> None:
    """dw in OIHW, through partial sums over ``cut_parts(tiles per part, pixels, floats)`` ranges of pixels."""
    out, source, gradient, floats = cx.write(dw).ref, cx.read(x), cx.read(gy), prod(dw.shape)
    problem = geometry(p, source.ld)
    parts = cut_parts(im2col.weight_tiles_per_part(problem), gy.shape[0] * prod(p.y), floats)
    partial = cx.temp(4 * floats * parts, "weight gradient")
    cx.step(im2col.backward_weight, problem, x=source.ref, gy=gradient.ref, ldy=gradient.ld, dw=partial, parts=parts,
            part_stride=floats, algorithm="im2col", info=info)
    cx.step(layout.unpack_weight, out, partial, op="unpack", parts=parts, part_stride=floats, **packing(p))
