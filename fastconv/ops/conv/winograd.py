"""Winograd convolution of stride 1: F(4x4, 3x3), F(2x2, 3x3), F(4, 3) and F(2, 3), in all three passes.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016. Kernels of 3x3 are transformed in
both dimensions, those of 3, 1x3 and 3x1 in one; taps along the depth are summed as if they were more channels.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from fastconv.graph.ir import Node, Tensor
from fastconv.kernels import conv as kernels
from fastconv.kernels import layout
from fastconv.kernels import winograd as steps
from fastconv.kernels.cpu import Cpu
from fastconv.kernels.cpu import cpu as machine
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Ref, channels
from fastconv.ops.conv.choose import Algorithm, offer, promise
from fastconv.ops.conv.problem import SPREAD, Problem, epilogue, loud_edges, taps_see_most

KERNELS = ((3, 3), (1, 3), (3, 1))
CHUNK = 32  # channels per partial sum: what keeps F(4x4) below the error of one long chain
RUN = 32  # Winograd tiles per partial sum of a weight gradient, for the same reason
LARGE = 16 << 20  # bytes of transformed weights that one core's share of the last cache does not hold


class Form(NamedTuple):
    """A way to cut an output into Winograd tiles: tile extents (mh, mw), channels per partial sum, what it promises."""

    tile: tuple[int, int]
    chunk: int
    keeps: str


# From how many summed values on a form's relative L2 error is below that of one sequential accumulator: measured against
# float64 on normal, rectified and positive data (docs/convolution/winograd.md). Forward and backward to data count channels,
# backward to weights output pixels.
CHANNELS = {(2, 2): 16, (4, 4): 256, (1, 2): 48, (1, 4): 192}
PIXELS = {(2, 2): 512, (4, 4): 2048, (1, 2): 512, (1, 4): 1024}


def forms(which: str, p: Problem) -> list[Form]:
    """The forms for this pass, the one with the fewest multiplications first."""
    if which == "backward_weight":
        length, least = p.n * prod(p.y), PIXELS
    else:
        length, least = (p.C if which == "forward" else p.K) * p.kernel[0], CHANNELS
    tiles = ((4, 4), (2, 2)) if p.kernel[1:] == (3, 3) else ((1, 4), (1, 2))
    return [Form(tile, CHUNK if length > CHUNK else 0, "highest" if length >= least[tile] else "high") for tile in tiles]


class Winograd(Algorithm):
    """The form is the cheapest of those that keep the precision, F(2, 3) where none does."""

    name = "winograd"
    fuses_backward_data = True

    def refuses(self, which: str, p: Problem) -> str | None:
        if p.kernel[1:] not in KERNELS:
            return "only for kernels of 3x3, 3, 1x3 and 3x1 (with any depth)"
        if p.stride != (1, 1, 1) or p.dilation != (1, 1, 1):
            return "only for stride 1 and dilation 1"
        if p.depthwise:
            return "not for one channel per group"
        return None

    def form(self, which: str, p: Problem, precision: str, cpu: Cpu) -> Form:
        found = forms(which, p)
        kept = [f for f in found if precision != "highest" or f.keeps == "highest"]
        return min(kept or found[-1:], key=lambda f: estimate(which, p, f, cpu))

    def keeps(self, which: str, p: Problem, precision: str) -> str:
        kept = self.form(which, p, precision, machine()).keeps
        return kept if which != "backward_weight" or taps_see_most(p) else "high"

    def cycles(self, which: str, p: Problem, cpu: Cpu, precision: str) -> float:
        return estimate(which, p, self.form(which, p, precision, cpu), cpu)

    def lower_forward(self, node: Node, p: Problem, cx: Lowering) -> None:
        self.convolve("forward", node, p, cx)

    def lower_backward_data(self, node: Node, p: Problem, cx: Lowering) -> None:
        self.convolve("backward_data", node, p, cx)

    def convolve(self, which: str, node: Node, p: Problem, cx: Lowering) -> None:
        x, w = node.inputs[:2]
        form = self.form(which, p.as_chosen(), promise(cx), machine())
        space = geometry(which, p, form.tile)
        transformed, packed, bits = packed_weight(space, packing(which, p), w, cx)
        local = promise(cx) == "highest"
        view, y = cx.read(x), cx.write(node.output)
        cx.step(steps.forward, space, x=view.ref, ldx=view.ld, u=transformed, w=packed, y=y.ref, ldy=y.ld,
                zeros=cx.zeros(channels(x.shape)), chunk=form.chunk, info=p.describe(), bits=bits if local else 0,
                share=share(form, p) if local else 0.0, **cut(p.n, space, machine()), **epilogue(node, cx))

    def lower_backward_weight(self, node: Node, p: Problem, cx: Lowering) -> None:
        gy, x = node.inputs
        form = self.form("backward_weight", p.as_chosen(), promise(cx), machine())
        space, out = geometry("forward", p, form.tile), cx.write(node.output).ref
        view, gradient = cx.read(x), cx.read(gy)
        sizes, floats = cut_weight(p.n, space), steps.weight_floats(space)[1]
        partial = cx.temp(4 * floats * sizes["parts"], "weight gradient")
        cx.step(steps.backward_weight, space, x=view.ref, ldx=view.ld, gy=gradient.ref, ldy=gradient.ld, dw=partial,
                zeros=cx.zeros(max(channels(x.shape), channels(gy.shape))), part_stride=floats, info=p.describe(), **sizes,
                **(loud_edges(p, view, gradient, cx) if promise(cx) == "highest" else {}))
        cx.step(layout.unpack_weight, out, partial, op="unpack", parts=sizes["parts"], part_stride=floats,
                **packing("forward", p))


def geometry(which: str, p: Problem, tile: tuple[int, int]) -> dict:
    """A pass in the terms of kernels/winograd.pyx. Backward to data is a forward with the taps in reverse order."""
    space = {"groups": p.groups, "depth": p.kernel[0], "tile": tile, "swapped": p.kernel[1:] == (3, 1)}
    if which == "forward":
        return {**space, "channels": p.C, "filters": p.K, "input": p.x, "output": p.y, "origin": tuple(-a for a in p.low)}
    return {**space, "channels": p.K, "filters": p.C, "input": p.y, "output": p.x,
            "origin": tuple(a - k + 1 for a, k in zip(p.low, p.kernel, strict=True))}


def packing(which: str, p: Problem) -> dict:
    """Where the weights lie in OIHW, taps in ascending order of the pixels that they meet."""
    if which == "forward":
        return {**p.flat_strides(), "taps": list(range(p.taps))}
    return {"groups": p.groups, "filters": p.C, "channels": p.K, "group_stride": p.K * p.C * p.taps, "filter_stride": p.taps,
            "channel_stride": p.C * p.taps, "taps": list(range(p.taps))[::-1]}


def share(form: Form, p: Problem) -> float:
    """The least share of its tile's energy that a window must have, so that the tile's error is one that it may have.

    The outputs of F(2, 3) and F(2x2, 3x3) do not see what is outside their windows: every coefficient is 1 or -1, and those
    of other pixels are zero or cancel without rounding.
    """
    if max(form.tile) == 2:
        return 0.0
    return p.taps / p.kernel[0] / steps.elements(form.tile) / SPREAD**2


def packed_weight(space: dict, pack: dict, w: Tensor, cx: Lowering) -> tuple[Ref, Ref, Ref]:
    """The transformed weights, the packed ones that they are made of (what is computed without transforms needs those), and
    what bits they have."""
    floats, packed_floats = steps.weight_floats(space)
    packed, segment = cx.packed(4 * packed_floats, w)
    transformed, _ = cx.packed(4 * floats, w)
    cx.step(layout.pack_weight, cx.read(w).ref, packed, op="pack", segment=segment, **pack)
    bits, _ = cx.packed(12 * steps.bit_parts(space), w)
    cx.step(steps.weight, space, w=packed, u=transformed, bits=bits, op="pack", segment=segment)
    return transformed, packed, bits


def tiles_of(n: int, space: dict) -> int:
    """Winograd tiles of the batch."""
    d, h, w = space["output"]
    mh, mw = space["tile"][::-1] if space["swapped"] else space["tile"]
    return n * d * -(-h // mh) * -(-w // mw)


def sizes_of(space: dict, cpu: Cpu) -> tuple[int, int, int]:
    """Elements of a tile; channels (of all taps along the depth) and filters in whole vectors."""
    return (steps.elements(space["tile"]), space["depth"] * -(-space["channels"] // cpu.width) * cpu.width,
            -(-space["filters"] // cpu.width) * cpu.width)


def cut(n: int, space: dict, cpu: Cpu) -> dict:
    """Winograd tiles and blocks of filters per tile of the problem.

    As many Winograd tiles as leave their transforms in the second-level cache, but enough to read weights that do not fit
    into the third-level cache rarely; all filters, so that inputs are transformed once, unless that leaves too few tiles.
    """
    elements, depth, filters = sizes_of(space, cpu)
    rows, total = steps.tile_rows(), tiles_of(n, space)
    tiles = max(1, cpu.l2 * 5 // 8 // (4 * (elements + 1) * max(depth, filters)) // rows)
    if 4 * elements * depth * filters > LARGE:
        tiles = max(tiles, 8)
    chunks = max(1, -(-total // (tiles * rows)))
    blocks = -(-space["filters"] // kernels.block_filters())
    groups = max(1, min(-(-4 // (chunks * space["groups"])), blocks // 2))
    return {"tiles": -(-total // chunks) or 1, "blocks": -(-blocks // groups)}


def cut_weight(n: int, space: dict) -> dict:
    """Runs of Winograd tiles, channels and blocks of filters per tile of the problem, and parts of the batch."""
    block, total = kernels.block_filters(), tiles_of(n, space)
    tall, blocks = min(space["channels"], 128), min(-(-space["filters"] // block), 128 // block)
    units = space["groups"] * space["depth"] * -(-space["channels"] // tall) * -(-space["filters"] // (blocks * block))
    floats = steps.weight_floats(space)[1]
    parts = max(1, min(-(-16 // units), total // (4 * RUN), (1 << 20) // max(1, floats)))
    return {"tiles": RUN, "channels": tall, "blocks": blocks, "parts": parts}


def estimate(which: str, p: Problem, form: Form, cpu: Cpu) -> float:
    """Cycles, fitted to measurements: products, transforms, and the transformed weights on their way from memory.

    A transform costs so many cycles per element of a tile and vector of channels or filters; transformed weights that no
    cache holds come from memory once per run of tiles, and are written again for every change of the weights.
    """
    space = geometry(which if which == "backward_data" else "forward", p, form.tile)
    elements, depth, filters = sizes_of(space, cpu)
    tiles = tiles_of(p.n, space) * p.groups
    products = tiles * elements * space["depth"] * space["channels"] * filters / cpu.madds
    if filters == cpu.width:
        products *= 1.5  # a single vector waits for loads
    transforms = tiles * (depth + filters) / cpu.width * elements * (9.5 if max(form.tile) == 4 else 6.7)
    weights = 4 * elements * depth * filters * p.groups
    if which == "backward_weight":
        return 1.15 * products + 1.5 * transforms + weights / cpu.memory_bytes
    runs = -(-tiles // max(1, cut(p.n, space, cpu)["tiles"] * p.groups))
    stream = weights / cpu.memory_bytes if weights > LARGE // 4 else 0
    packing = 2 * weights / cpu.memory_bytes if p.training else 0
    if weights < LARGE:  # what fits the cache arrives while products are computed
        return max(1.04 * products + runs * weights / 64, stream) + transforms + packing
    return 1.04 * products + transforms + max(stream, runs * weights / 64) + packing


offer(Winograd())
