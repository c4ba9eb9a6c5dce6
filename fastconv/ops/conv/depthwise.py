"""Depthwise and narrow grouped convolution: the filters of several groups in the lanes of a vector.

For groups of up to a vector of input channels: depthwise networks with any multiplier, and the narrow groups of ResNeXt or
ShuffleNet, without multiplying zeros. Backward to data is the same kernel with the roles of channels and filters exchanged,
one problem per phase of the stride.
"""

from __future__ import annotations

from itertools import product
from math import gcd, prod

from fastconv.graph.ir import Node, Tensor
from fastconv.kernels import depthwise as kernels
from fastconv.kernels import layout
from fastconv.kernels.cpu import Cpu
from fastconv.kernels.many import each
from fastconv.lowering.lower import Lowering
from fastconv.ops.conv.choose import Algorithm, offer
from fastconv.ops.conv.problem import Problem, axis_phases, epilogue, pack_phases

PARTIAL_FLOATS = 1 << 20  # of all partial sums of a weight gradient together


class Depthwise(Algorithm):
    name = "depthwise"
    fuses_backward_data = True
    takes_cropped = True

    def refuses(self, which: str, p: Problem) -> str | None:
        read, width = p.K if which == "backward_data" else p.C, kernels.width()
        if p.groups == 1:
            return "only for convolutions in groups"
        if read > width:
            return (f"only for groups of at most {width} channels on this instruction set, and this pass reads {read} "
                    "per group")
        return None

    def cycles(self, which: str, p: Problem, cpu: Cpu, precision: str) -> float:
        read, made = (p.K, p.C) if which == "backward_data" else (p.C, p.K)
        outputs = prod(p.x) / prod(p.stride) if which == "backward_data" else prod(p.y)
        vectors = count_vectors(p.groups, read, made)
        # multiply-adds of vectors, with a permutation each where groups have several channels or filters; per vector of
        # outputs its store or load, and what surrounds a tile
        square = p.kernel[1:] == (3, 3)
        one = 1.1 if read == made == 1 else 1.4 if square else 1.7
        if p.stride[2] > 1 and read > 1:
            one *= 1.6  # fewer products per permutation
        if which == "backward_weight" and not square:
            one *= 2.5  # its sums do not stay in registers
        arithmetic = vectors * p.n * outputs * (read * p.taps * one + 3) * cpu.width / cpu.madds
        nbytes = 4 * p.n * p.groups * (prod(p.x) * p.C + prod(p.y) * p.K)
        return max(arithmetic, nbytes / (2 * cpu.memory_bytes))

    def lower_forward(self, node: Node, p: Problem, cx: Lowering) -> None:
        x, w = node.inputs[:2]
        convolve(cx, x, w, node.output, [forward_geometry(p)], [forward_packing(p)], p.describe(), epilogue(node, cx))

    def lower_backward_data(self, node: Node, p: Problem, cx: Lowering) -> None:
        gy, w = node.inputs[:2]
        geometries, packs = map(list, zip(*backward_data_phases(p), strict=True))
        points = sum(len(pack["taps"]) * prod(p.y if "transposed" in geometry else geometry["space"])
                     for geometry, pack in zip(geometries, packs, strict=True))
        convolve(cx, gy, w, node.output, geometries, packs, p.describe(points), epilogue(node, cx))

    def lower_backward_weight(self, node: Node, p: Problem, cx: Lowering) -> None:
        gy, x = node.inputs
        out, x_view, gy_view = cx.write(node.output).ref, cx.read(x), cx.read(gy)
        floats = p.groups * p.K * p.C * p.taps
        parts = cut_rows(p)
        partial = cx.temp(4 * floats * parts, "weight gradient")
        cx.step(kernels.backward_weight, {**forward_geometry(p), "ldx": x_view.ld}, x=x_view.ref, gy=gy_view.ref,
                ldy=gy_view.ld, dw=partial, parts=parts, part_stride=floats, info=p.describe())
        cx.step(layout.unpack_weight, out, partial, op="unpack", parts=parts, part_stride=floats, **forward_packing(p))


def count_vectors(groups: int, channels: int, filters: int) -> int:
    per, whole = kernels.vector(channels, filters)
    return -(-groups * filters // per) if whole else groups * -(-filters // per)


def cut_rows(p: Problem) -> int:
    """Ranges of rows for a sum over pixels: about 64 units of work in all, each of at least 128 pixels."""
    blocks = -(-count_vectors(p.groups, p.C, p.K) * kernels.width() // 128)
    pixels, floats = p.n * prod(p.y), p.groups * p.K * p.C * p.taps
    return max(1, min(-(-64 // blocks), pixels // 128, PARTIAL_FLOATS // floats))


def forward_geometry(p: Problem) -> dict:
    return {"groups": p.groups, "channels": p.C, "filters": p.K, "input": p.x, "space": p.y, "kernel": p.kernel,
            "stride": p.stride, "dilation": p.dilation, "low": p.low, "output": p.y}


def forward_packing(p: Problem) -> dict:
    """Vectors of filters, tap by tap and channel by channel; those of a group with several vectors end with the group."""
    block, whole = kernels.vector(p.C, p.K)
    filters = {"filters": p.groups * p.K, "groups": 1} if whole else \
        {"filters": p.K, "groups": p.groups, "group_stride": p.K * p.C * p.taps}
    return {**filters, "block": block, "channels": p.C, "taps": list(range(p.taps)), "filter_stride": p.C * p.taps,
            "channel_stride": p.taps, "tap_stride": 1}


def backward_data_packing(p: Problem, taps: list[int]) -> dict:
    """The filters are the input's channels, the channels the forward's filters."""
    block, whole = kernels.vector(p.K, p.C)
    group = p.K * p.C * p.taps
    filters = {"filters": p.C, "filter_run": p.groups, "filter_run_stride": group} if whole else \
        {"filters": p.C, "groups": p.groups, "group_stride": group}
    return {**filters, "block": block, "channels": p.K, "taps": taps, "filter_stride": p.taps,
            "channel_stride": p.C * p.taps, "tap_stride": 1}


def axis_phase(number: int, count: int, taps: list, stride: int, dilation: int) -> tuple:
    """A phase of problem.axis_phases in this kernel's terms: first output, outputs, taps in the order of the gradient's
    pixels that they read, dilation, padding in front."""
    apart = dilation // gcd(stride, dilation) if len(taps) > 1 else 1
    return number, count, [r for r, _ in reversed(taps)], apart, -taps[-1][1] if taps else 0


def in_one_step(p: Problem) -> bool:
    """Whether there is a kernel that computes the four phases of a backward to data of stride 2 in one go."""
    return (p.kernel in ((1, 3, 3), (1, 5, 5)) and p.stride == (1, 2, 2) and p.dilation == (1, 1, 1)
            and p.low[0] == 0 and p.x[0] == p.y[0] and min(p.low) >= 0 and (p.low[1] - p.low[2]) % 2 == 0)


def backward_data_phases(p: Problem):
    """(geometry, packing) per phase of the stride; each writes its own pixels, a phase without taps too."""
    if in_one_step(p):
        yield {"transposed": True, "groups": p.groups, "channels": p.K, "filters": p.C, "input": p.y, "space": p.x,
               "kernel": p.kernel, "stride": p.stride, "dilation": p.dilation, "low": p.low, "output": p.x,
               }, backward_data_packing(p, list(range(p.taps)))
        return
    axes = [[axis_phase(*phase, axis[2], axis[3]) for phase in axis_phases(*axis)]
            for axis in zip(p.x, p.kernel, p.stride, p.dilation, p.low, strict=True)]
    for phase in product(*axes):
        origin, space, taps, dilation, low = zip(*phase, strict=True)
        numbers = [(d * p.kernel[1] + h) * p.kernel[2] + w for d, h, w in product(*taps)]
        yield {"groups": p.groups, "channels": p.K, "filters": p.C, "input": p.y, "space": space,
               "kernel": tuple(map(len, taps)), "stride": (1, 1, 1), "dilation": dilation, "low": low, "output": p.x,
               "origin": origin, "output_step": p.stride}, backward_data_packing(p, numbers)


def convolve(cx: Lowering, x: Tensor, w: Tensor, y: Tensor, geometries: list[dict], packs: list[dict], info: dict,
             fused: dict) -> None:
    """Emits the packing of the weights and the convolution, of several phases as one step each."""
    view, out = cx.read(x), cx.write(y)
    sizes = [4 * g["groups"] * g["filters"] * g["channels"] * len(pack["taps"])
             for g, pack in zip(geometries, packs, strict=True)]
    packed, offsets = pack_phases(cx, layout.pack_weights, w, packs, sizes)
    cx.step(each, kernels.forward, [{**g, "ldx": view.ld} for g in geometries], "w", offsets, x=view.ref, w=packed,
            y=out.ref, ldy=out.ld, info=info, **fused)


offer(Depthwise())
