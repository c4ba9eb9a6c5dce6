"""Convolution by Fourier transforms (overlap-save), for large kernels: all three passes, stride 1.

The gradient to data is a convolution of the gradient with the flipped weights; the gradient to weights is a sum of spectra
over tiles that is transformed back once. See docs/convolution/fft.md.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import inf, log2, prod
from typing import Any, NamedTuple

from fastconv.graph.ir import Node, Tensor
from fastconv.kernels import conv as conv_kernels
from fastconv.kernels import fft, layout
from fastconv.kernels.cpu import Cpu, cpu
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Ref, View, channels
from fastconv.ops.conv.choose import Algorithm, offer, promise
from fastconv.ops.conv.problem import SPREAD, Problem, cut_parts, epilogue, loud_edges, taps_see_most

PACKED = 2 << 30  # bytes of transformed weights beyond which it is refused
MODEST = 96 << 20  # and beyond which, if they are over six times the weights, it is for those alone who name it
SPECTRA = 8 << 20  # bytes of the spectra of a range of tiles, about: a share of the last-level cache


TERMS = 210  # products per sum from which one accumulator loses more than the transforms (docs/convolution/fft.md)


class Shape(NamedTuple):
    """The convolution that a pass computes, what its plan depends on. ``weight``: it sums up a gradient to weights."""

    n: int
    groups: int
    channels: int
    filters: int
    input: tuple[int, int, int]
    output: tuple[int, int, int]
    kernel: tuple[int, int, int]
    dilation: tuple[int, int, int]
    low: tuple[int, int, int]
    weight: bool
    training: bool


def shape_of(which: str, p: Problem) -> Shape:
    if which == "backward_data":
        low = tuple((k - 1) * d - v for k, d, v in zip(p.kernel, p.dilation, p.low, strict=True))
        return Shape(p.chosen, p.groups, p.K, p.C, p.y, p.x, p.kernel, p.dilation, low, False, p.training)
    return Shape(p.chosen, p.groups, p.C, p.K, p.x, p.y, p.kernel, p.dilation, p.low, which == "backward_weight", p.training)


def terms(s: Shape) -> float:
    """Products per sum, on average, that are not with the padding."""
    found = float(s.n if s.weight else s.channels)
    for k, d, low, x, y in zip(s.kernel, s.dilation, s.low, s.input, s.output, strict=True):
        inside = sum(max(0, min(y, x + low - r * d) - max(0, low - r * d)) for r in range(k))
        found *= inside / (k if s.weight else max(1, y))
    return found


def plan(s: Shape, sizes: tuple[int, int, int] | None) -> dict:
    """The kernels' geometry; sizes are never None where the algorithm does not refuse."""
    return fft.plan(groups=s.groups, channels=s.channels, filters=s.filters, input=s.input, output=s.output, kernel=s.kernel,
                    dilation=s.dilation, low=s.low, sizes=sizes)


def candidates(s: Shape, axis: int) -> list[tuple[int, int]]:
    """(size, tiles) along an axis: the ten that transform the fewest samples, and the three smallest."""
    if s.kernel[axis] == 1:
        return [(1, s.output[axis])]
    found = []
    for size in fft.sizes():
        per = fft.outputs_per_tile(size, s.kernel[axis], s.dilation[axis], s.input[axis], s.output[axis], s.low[axis])
        if per:
            found.append((size, -(-s.output[axis] // per)))
            if per >= s.output[axis]:
                break
    best = sorted(found, key=lambda c: c[0] * c[1])[:10]
    return best + [c for c in found[:3] if c not in best]


def transform_cycles(sizes: tuple[int, ...]) -> float:
    """Of a real transform of a tile, one vector of channels, to or from a spectrum: measured."""
    samples = prod(sizes)
    return (800 if sum(size > 1 for size in sizes) > 1 else 200) + 1.6 * samples * log2(samples)


def estimate(s: Shape, sizes: tuple[int, ...], tiles: int, cpu: Cpu) -> tuple[float, int]:
    """Cycles of one core, and bytes of transformed weights."""
    samples, tiles = prod(sizes), tiles * s.n
    last = max(i for i in range(3) if s.kernel[i] > 1)
    frequencies = samples // sizes[last] * (sizes[last] // 2 + 1)
    one = transform_cycles(sizes)
    if s.channels == 1 and s.filters == 1 and s.groups > 1:
        vectors, nbytes = -(-s.groups // cpu.width), frequencies * s.groups * 8
        return vectors * (tiles * 2.2 * one + (2 * one if s.training or s.weight else 0)), nbytes
    inputs, outputs = -(-s.groups * s.channels // cpu.width), s.groups * -(-s.filters // cpu.width)
    nbytes = frequencies * outputs * s.channels * 2 * cpu.width * 4
    spectra = frequencies * (inputs + outputs) * 2 * cpu.width * 4
    ranges = -(-tiles // range_of_tiles(tiles, spectra, nbytes))
    # the register tile keeps both units busy from two tiles on; it is left and entered once per vector of filters
    madds = max(2, tiles) * frequencies * outputs * cpu.width * (s.channels + 4) * (3 if cpu.width == 16 else 4)
    product_ = max(madds / cpu.madds * 1.15, ranges * nbytes * (2 if s.weight else 1) / cpu.memory_bytes)
    weights = outputs * s.channels * one * (1.2 if s.weight else 2 if s.training else 0)
    beyond = max(0, tiles * spectra - SPECTRA // 2) / 2.6  # cycles: spectra are written and read in the third-level cache
    return (1.25 if s.weight else 1.06) * (beyond + tiles * (inputs + outputs) * one + product_ + weights), nbytes


def range_of_tiles(tiles: int, spectra: int, packed: int) -> int:
    """Tiles whose spectra (bytes per tile) are held at a time: within SPECTRA, more where there are many weights to read."""
    most = max(1, max(SPECTRA, min(packed // 2, 4 * SPECTRA)) // spectra)
    most = most if most < 16 else most // 8 * 8
    ranges = -(-tiles // most)
    return min(tiles, -(-tiles // ranges)) or 1


class Found(NamedTuple):
    """The best sizes of a shape (None: there are none), with their estimated cycles (infinite: not for a choice by cost)."""

    sizes: tuple[int, int, int] | None
    cycles: float


@lru_cache(4096)
def best(s: Shape, cpu: Cpu) -> Found:
    """The sizes that the cost model likes best, among those whose transformed weights are modest, or else not too large."""
    found, large, least = Found(None, inf), None, inf
    modest = max(MODEST, 24 * s.groups * s.filters * s.channels * prod(s.kernel))
    for d, h, w in product(*(candidates(s, i) for i in range(3))):
        sizes = (d[0], h[0], w[0])
        cycles, nbytes = estimate(s, sizes, d[1] * h[1] * w[1], cpu)
        if cycles < found.cycles and nbytes <= modest:
            found = Found(sizes, cycles)
        if cycles < least and nbytes <= PACKED:
            least, large = cycles, sizes
    return found if found.sizes else Found(large, inf)


class Fft(Algorithm):
    name = "fft"
    fuses_backward_data = True
    takes_cropped = True

    def refuses(self, which: str, p: Problem) -> str | None:
        if p.stride != (1, 1, 1):
            return "only for stride 1"
        if p.taps == 1:
            return "only for kernels with more than one tap"
        if best(shape_of(which, p), cpu()).sizes is None:
            return (f"no transform of up to {fft.LARGEST} samples an axis covers the kernel and keeps its transformed "
                    f"weights within {PACKED >> 20} MiB")
        return None

    def keeps(self, which: str, p: Problem, precision: str) -> str:
        seen = which != "backward_weight" or taps_see_most(p)
        return "highest" if seen and terms(shape_of(which, p)) >= TERMS else "high"

    def cycles(self, which: str, p: Problem, cpu: Cpu, precision: str) -> float:
        return best(shape_of(which, p), cpu).cycles

    def lower_forward(self, node: Node, p: Problem, cx: Lowering) -> None:
        taps = p.taps
        strides = fft.weight_strides(p.kernel, group=p.K * p.C * taps, filter=p.C * taps, channel=taps)
        convolve(shape_of("forward", p), strides, node, p, cx)

    def lower_backward_data(self, node: Node, p: Problem, cx: Lowering) -> None:
        taps = p.taps
        strides = fft.weight_strides(p.kernel, group=p.K * p.C * taps, filter=taps, channel=p.C * taps, flip=True)
        convolve(shape_of("backward_data", p), strides, node, p, cx)

    def lower_backward_weight(self, node: Node, p: Problem, cx: Lowering) -> None:
        s, (gy, x) = shape_of("backward_weight", p), node.inputs
        g = plan(s, best(s, cpu()).sizes)
        dw, x_view, gy_view = cx.write(node.output).ref, cx.read(x), cx.read(gy)
        strides = fft.weight_strides(p.kernel, group=p.K * p.C * p.taps, filter=p.C * p.taps, channel=p.taps)
        read: dict[str, Any] = {"x": x_view.ref, "ldx": x_view.ld, "gy": gy_view.ref, "ldy": gy_view.ld}
        tiles = g["tiles"] * p.n
        loud = loud_edges(p, x_view, gy_view, cx) if promise(cx) == "highest" else {}
        if g["depthwise"]:
            floats = p.groups * p.taps
            parts = min(max(1, tiles), cut_parts(fft.blocks(p.groups), tiles * 256, floats))
            partial = cx.temp(4 * floats * parts, "weight gradient") if parts > 1 else dw
            cx.step(fft.depthwise_weight, g, strides, dw=partial, parts=parts, part_stride=floats, info=p.describe(), **read,
                    **loud)
            if parts > 1:
                cx.step(conv_kernels.sum_partials, part=partial, out=dw, parts=parts, part_stride=floats, count=floats)
            return
        sums = cx.temp(4 * fft.packed_floats(g), "spectrum of the weight gradient")
        for first, count, xs, ys in ranges(g, tiles, cx):
            part: dict[str, Any] = {"first": first, "count": count, "algorithm": "fft"}
            cx.step(fft.transform, g, x=x_view.ref, ldx=x_view.ld, spectrum=xs, **part)
            cx.step(fft.transform_gradient, g, gy=gy_view.ref, ldy=gy_view.ld, spectrum=ys, **part)
            cx.step(fft.product_weight, g, x=xs, gy=ys, sums=sums, add=first > 0, info=p.describe(), **part)
        cx.step(fft.inverse_weight, g, strides, sums=sums, dw=dw, algorithm="fft", **read, **loud)


def ranges(g: dict, tiles: int, cx: Lowering):
    """(first, count, spectrum of the input, of the output) for each range of tiles; all ranges share two spectra."""
    bytes_ = 4 * (fft.spectrum_floats(g, "x", 1) + fft.spectrum_floats(g, "y", 1))
    count = range_of_tiles(tiles, bytes_, 4 * fft.packed_floats(g))
    xs, ys = (cx.temp(4 * fft.spectrum_floats(g, which, count), "spectrum") for which in "xy")
    for first in range(0, max(1, tiles), count):
        yield first, count, xs, ys


def packed_weight(g: dict, strides: dict, w: Tensor, view: View, cx: Lowering) -> tuple[Ref, Ref]:
    """The transformed weights, and what bits they have."""
    packed, segment = cx.packed(4 * fft.packed_floats(g), w)
    bits, _ = cx.packed(12 * fft.bit_parts(g), w)
    cx.step(fft.weight, g, strides, w=view.ref, packed=packed, bits=bits, op="pack", segment=segment)
    return packed, bits


def convolve(s: Shape, strides: dict, node: Node, p: Problem, cx: Lowering) -> None:
    """Emits the transform of the weights and, by ranges of tiles, the convolution."""
    x, w = node.inputs[:2]
    g = plan(s, best(s, cpu()).sizes)
    source, weights, target, fused = cx.read(x), cx.read(w), cx.write(node.output), epilogue(node, cx)
    packed, bits = packed_weight(g, strides, w, weights, cx)
    write: dict[str, Any] = {"x": source.ref, "ldx": source.ld, "y": target.ref, "ldy": target.ld, **fused}
    if g["depthwise"]:
        local: dict[str, Any] = {"bits": bits, "share": share(g)} if promise(cx) == "highest" else {}
        cx.step(fft.depthwise, g, strides, packed=packed, w=weights.ref, info=p.describe(), **write, **local)
        return
    direct, segment = cx.packed(4 * fft.direct_floats(g), w)
    cx.step(layout.pack_weight, weights.ref, direct, op="pack", segment=segment, **fft.direct_packing(g, strides))
    write.update(direct=direct, zeros=cx.zeros(channels(x.shape)))
    seen: dict[str, Any] = {}
    for first, count, xs, ys in ranges(g, g["tiles"] * p.n, cx):
        part: dict[str, Any] = {"first": first, "count": count, "algorithm": "fft"}
        if promise(cx) == "highest":
            seen = seen or {"note": cx.temp(4 * fft.notes(g, count), "notes"), "share": share(g)}
            part["bits"] = bits
        cx.step(fft.transform, g, x=source.ref, ldx=source.ld, spectrum=xs, **part, **seen)
        cx.step(fft.product, g, x=xs, packed=packed, y=ys, info=p.describe(), **part)
        cx.step(fft.inverse, g, spectrum=ys, **part, **write, **seen)


def share(g: dict) -> float:
    """The least share of its tile's energy that a window must have, so that the tile's error is one that it may have."""
    return prod(axis["taps"] / axis["size"] for axis in g["axes"]) / SPREAD**2


offer(Fft())
