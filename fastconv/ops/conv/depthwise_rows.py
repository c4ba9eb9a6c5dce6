"""Depthwise convolution of few channels, one included: pixels in the lanes of a vector.

For stride 1 along the row, from a copy inside its border of zeros. Backward to data is the same kernel with the taps in
reverse order.
"""

from __future__ import annotations

from math import prod

from fastconv.graph.ir import Node, Tensor
from fastconv.kernels import depthwise as kernels
from fastconv.kernels import layout
from fastconv.kernels.cpu import Cpu
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import View, channels
from fastconv.ops.conv.choose import Algorithm, offer
from fastconv.ops.conv.problem import Problem, epilogue

MOST_CHANNELS = 31
MOST_FLOATS = 1 << 16  # of the repeated weights
Triple = tuple[int, int, int]


class DepthwiseRows(Algorithm):
    name = "depthwise_rows"
    fuses_backward_data = True

    def refuses(self, which: str, p: Problem) -> str | None:
        if p.C != 1 or p.K != 1:
            return "only for one input channel and one filter per group"
        if p.groups > MOST_CHANNELS:
            return f"only for at most {MOST_CHANNELS} channels"
        if p.stride[2] != 1 or which == "backward_data" and p.stride != (1, 1, 1):
            return "only for stride 1" + " along the row" * (which != "backward_data")
        if which == "backward_data" and min(*border(p)[0], *border(p)[1]) < 0:
            return "not for padding of a kernel's extent or more"
        if period(p.groups) * p.taps > MOST_FLOATS:
            return f"only for weights that repeated to whole vectors are at most {MOST_FLOATS} floats"
        return None

    def cycles(self, which: str, p: Problem, cpu: Cpu, precision: str) -> float:
        space = p.x if which == "backward_data" else p.y
        vectors = p.n * prod(space[:2]) * -(-space[2] * p.groups // cpu.width)
        arithmetic = vectors * (p.taps * 2 + 6) * cpu.width / cpu.madds  # a load that crosses lines to each multiply-add
        border_ = 2 * 4 * p.n * p.groups * prod(p.x) / cpu.l2_bytes
        return max(arithmetic + border_, p.nbytes / cpu.memory_bytes)

    def lower_forward(self, node: Node, p: Problem, cx: Lowering) -> None:
        x, w = node.inputs[:2]
        convolve(cx, p, node, inside(cx, x, p.low, p.high), w, p.describe(), input=padded(p.x, p.low, p.high), space=p.y,
                 taps=range(p.taps))

    def lower_backward_data(self, node: Node, p: Problem, cx: Lowering) -> None:
        gy, w = node.inputs[:2]
        low, high = border(p)
        convolve(cx, p, node, inside(cx, gy, low, high), w, p.describe(p.taps * prod(p.x)), input=padded(p.y, low, high),
                 space=p.x, taps=range(p.taps - 1, -1, -1))

    def lower_backward_weight(self, node: Node, p: Problem, cx: Lowering) -> None:
        gy, x = node.inputs
        view, gradient = inside(cx, x, p.low, p.high), inside(cx, gy, (0, 0, 0), (0, 0, 0))
        floats = p.groups * p.taps
        parts = max(1, min(64, p.n * prod(p.y) * p.groups // 1024, p.n * prod(p.y[:2])))
        partial = cx.temp(4 * floats * parts, "weight gradient")
        cx.step(kernels.backward_weight, geometry(p, padded(p.x, p.low, p.high), p.y), x=view.ref, gy=gradient.ref,
                ldy=gradient.ld, dw=partial, parts=parts, part_stride=floats, info=p.describe())
        cx.step(layout.unpack_weight, cx.write(node.output).ref, partial, op="unpack", parts=parts, part_stride=floats,
                **packing(p, range(p.taps), block=p.groups))


def period(groups: int) -> int:
    """Floats of a tap's weights, repeated to whole vectors."""
    return groups * kernels.repeats(groups)


def border(p: Problem) -> tuple[Triple, Triple]:
    """The padding around the output's gradient of which the input's gradient is a convolution with stride 1."""
    reach = tuple((k - 1) * d for k, d in zip(p.kernel, p.dilation, strict=True))
    low = tuple(r - a for r, a in zip(reach, p.low, strict=True))
    high = tuple(x + r - y - a for x, r, y, a in zip(p.x, reach, p.y, low, strict=True))
    return low, high  # type: ignore[return-value]


def padded(size: Triple, low: Triple, high: Triple) -> Triple:
    return tuple(a + b + c for a, b, c in zip(size, low, high, strict=True))  # type: ignore[return-value]


def inside(cx: Lowering, x: Tensor, low: Triple, high: Triple) -> View:
    """Dense pixels inside a border: a copy, where there is a border or the pixels lie apart."""
    if any(low) or any(high) or cx.read(x).ld != channels(x.shape):
        return cx.padded(x, low, high)
    return cx.read(x)


def geometry(p: Problem, size: Triple, space: Triple) -> dict:
    stride = p.stride if space == p.y else (1, 1, 1)
    return {"rows": True, "groups": p.groups, "channels": 1, "filters": 1, "ldx": p.groups, "input": size, "space": space,
            "kernel": p.kernel, "stride": stride, "dilation": p.dilation, "low": (0, 0, 0), "output": space}


def packing(p: Problem, taps: range, **more) -> dict:
    return {"groups": 1, "filters": p.groups, "channels": 1, "taps": list(taps), "filter_stride": p.taps,
            "channel_stride": 0, "tap_stride": 1, **more}


def convolve(cx: Lowering, p: Problem, node: Node, view: View, w: Tensor, info: dict, *, input: Triple, space: Triple,
             taps: range) -> None:
    """Emits the packing of the weights and the convolution."""
    out, fused = cx.write(node.output), epilogue(node, cx)
    packed, segment = cx.packed(4 * period(p.groups) * p.taps, w)
    cx.step(layout.pack_weight, cx.read(w).ref, packed, op="pack", segment=segment, **packing(
        p, taps, block=period(p.groups), filter_run=kernels.repeats(p.groups), filter_run_stride=0))
    cx.step(kernels.forward, geometry(p, input, space), x=view.ref, w=packed, y=out.ref, ldy=out.ld, info=info, **fused)


offer(DepthwiseRows())
