"""A convolution in the kernels' terms, and where its operands are read: what all algorithms share."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from itertools import accumulate, product
from math import prod

from fastconv.graph.ir import Node, Tensor
from fastconv.kernels import winograd
from fastconv.kernels.cpu import Cpu
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Ref, View, spatial3
from fastconv.ops.geometry import to3, window_taps

SPREAD = 3.0  # a tile's root mean square may be so many times that of a window in it (docs/convolution.md, "Local")
SMALL = 8  # fewer channels than this: taps of a row are read as one run, from a padded copy if there is padding


class Problem:
    """The forward convolution that a node, or a gradient of one, is about: everything as (D, H, W).

    Attributes
    ----------
    n : int
        The planned batch.
    chosen : int
        The batch for which the algorithm is chosen, by default the planned one.
    groups, C, K : int
        Groups; input channels and filters per group.
    x, y, kernel, stride, dilation, low, high : tuple of three int
        Extents of input, output and kernel; padding in front and behind.
    taps : int
        Extent of the kernel in all dimensions together.
    training : bool
        Whether the weights change with every run, so that packing them counts.
    """

    def __init__(self, x: tuple[int, ...], w: tuple[int, ...], y: tuple[int, ...], attrs: dict):
        self.n = self.chosen = x[0]
        self.training, self.shapes = False, (x, w, y)
        self.groups = attrs["groups"]
        self.C, self.K = w[1], w[0] // self.groups
        self.kernel = to3(w[2:], 1)
        self.stride = to3(attrs["stride"], 1)
        self.dilation = to3(attrs["dilation"], 1)
        self.low = tuple(p[0] for p in to3(attrs["padding"], (0, 0)))
        self.high = tuple(p[1] for p in to3(attrs["padding"], (0, 0)))
        self.x, self.y = spatial3(x), spatial3(y)
        self.taps = prod(self.kernel)
        self.padding = any(self.low) or any(self.high)
        self.depthwise = self.C == 1 and self.groups > 1
        self.pointwise = self.taps == 1 and not self.padding and self.stride == (1, 1, 1) and self.x == self.y

    def as_chosen(self) -> Problem:
        """With the batch for which the algorithm is chosen. Whatever is decided that changes bits is decided for this."""
        other = copy(self)
        other.n = self.chosen
        return other

    @property
    def cropped(self) -> bool:
        """Whether the output is smaller than input and padding would give: the convolution behind a transposed one whose
        output_padding reaches beyond the stride."""
        return self.y != tuple((x + low + high - d * (k - 1) - 1) // s + 1 for x, low, high, d, k, s in
                               zip(self.x, self.low, self.high, self.dilation, self.kernel, self.stride, strict=True))

    @property
    def multiply_adds(self) -> int:
        """Of the whole batch, by the definition: taps in the padding count."""
        return self.n * prod(self.y) * self.groups * self.K * self.C * self.taps

    @property
    def nbytes(self) -> int:
        """Of input, output and weight in float32."""
        floats = prod(self.x) * self.C + prod(self.y) * self.K
        return 4 * self.groups * (self.n * floats + self.K * self.C * self.taps)

    def describe(self, points: int | None = None) -> dict:
        """What a listing of steps says of it, or of a phase with so many taps times pixels of an image."""
        x, w, y = self.shapes
        count = self.multiply_adds if points is None else self.n * self.groups * self.K * self.C * points
        return {"input": x, "output": y, "weight": w, "multiply_adds": count}

    def key(self) -> str:
        """One string per problem: what choices are kept by."""
        def by(extents):
            return "x".join(map(str, extents))

        return (f"n{self.n} g{self.groups} c{self.C} k{self.K} x{by(self.x)} y{by(self.y)} r{by(self.kernel)} "
                f"s{by(self.stride)} d{by(self.dilation)} p{by(self.low)}")

    def base(self) -> dict:
        if self.depthwise:
            return {"groups": self.groups, "channels": 1, "filters": self.groups * self.K, "multiplier": self.K}
        return {"groups": self.groups, "channels": self.C, "filters": self.K}

    def flat_strides(self) -> dict:
        """Where a weight lies in OIHW, by its filter, channel and tap."""
        if self.depthwise:
            return {"groups": 1, "filters": self.groups * self.K, "channels": 1, "filter_stride": self.taps,
                    "channel_stride": 0, "tap_stride": 1}
        return {"groups": self.groups, "filters": self.K, "channels": self.C, "group_stride": self.K * self.C * self.taps,
                "filter_stride": self.C * self.taps, "channel_stride": self.taps, "tap_stride": 1}


def arriving(p: Problem, cpu: Cpu) -> float:
    """Cycles in which weights come from a memory that threads share: there is little to compute with them meanwhile."""
    return 4 * p.groups * p.K * p.C * p.taps / cpu.memory_bytes


def runs_of_taps(p: Problem) -> bool:
    """Whether the forward reads a row of taps as one run of contiguous values."""
    return p.groups == 1 and p.dilation[2] == 1 and p.kernel[2] > 1 and (p.C < SMALL or p.low[2] == p.high[2] == 0)


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


def axis_phases(size: int, kernel: int, stride: int, dilation: int, low: int) -> list[tuple[int, int, list]]:
    """Backward to data along one dimension by phases of the stride: first output, outputs, (number, place) of each tap.

    Each tap is in one phase, so that this takes as long as there are taps and phases.
    """
    found: list[tuple[int, int, list]] = [(o, -(-(size - o) // stride), []) for o in range(min(stride, size))]
    for number in range(kernel):
        at = low - number * dilation
        origin = -at % stride
        if origin < len(found):
            found[origin][2].append((number, (origin + at) // stride))
    return found


def phases(p: Problem):
    """Backward to data by phases of the stride: (first output pixel, extents, taps with their numbers)."""
    _, height, width = p.kernel
    axes = [axis_phases(*axis) for axis in zip(p.x, p.kernel, p.stride, p.dilation, p.low, strict=True)]
    for (oz, nz, along_z), (oy, ny, along_y), (ox, nx, along_x) in product(*axes):
        taps = [(z, y, x) for _, z in along_z for _, y in along_y for _, x in along_x]
        numbers = [(i * height + j) * width + k for i, _ in along_z for j, _ in along_y for k, _ in along_x]
        yield (oz, oy, ox), (nz, ny, nx), taps, numbers


def pack_phases(cx: Lowering, packer: Callable, w: Tensor, packings: list[dict], sizes: list[int]) -> tuple[Ref, list[int]]:
    """Emits the packing of the weights of several phases by one step, ``packer(w, packed, packings, offsets)``; where each
    phase's begin, in bytes."""
    offsets = [0, *accumulate(-(-size // 64) * 64 for size in sizes)]
    packed, segment = cx.packed(offsets[-1], w)
    chosen = [i for i, packing in enumerate(packings) if packing["taps"]]
    if chosen:
        cx.step(packer, cx.read(w).ref, packed, [packings[i] for i in chosen], [offsets[i] for i in chosen], op="pack",
                segment=segment)
    return packed, offsets[:-1]


def inner(p: Problem) -> list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Of x and of y: extents, and the first and the end of the pixels that every tap of a gradient of weights reads; the
    same where there are none (kernels and padding may be wider than the image)."""
    axes = list(zip(p.kernel, p.dilation, p.low, p.x, p.y, strict=True))
    x = [((k - 1) * d - low, out - low) for k, d, low, size, out in axes]
    y = [(low, size + low - (k - 1) * d) for k, d, low, size, out in axes]
    found: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = []
    for sizes, box in ((p.x, x), (p.y, y)):
        first = tuple(min(n, max(0, a)) for n, (a, _) in zip(sizes, box, strict=True))
        end = tuple(max(a, min(n, b)) for n, a, (_, b) in zip(sizes, first, box, strict=True))
        found.append((sizes, first, end))
    return found


def taps_see_most(p: Problem) -> bool:
    """Whether every tap of a gradient of weights reads at least half of either tensor along each axis (stride 1)."""
    return all(2 * (b - a) >= n for sizes, low, high in inner(p) for n, a, b in zip(sizes, low, high, strict=True))


def loud_edges(p: Problem, x: View, gy: View, cx: Lowering) -> dict:
    """Emits the search for channels and filters whose gradients would suffer from edges that some taps do not read; the
    keywords for who sums them."""
    found = {}
    counts = (p.groups * p.C, p.groups * p.K)
    for name, view, count, (extents, low, high) in zip(("loud_x", "loud_y"), (x, gy), counts, inner(p), strict=True):
        found[name] = cx.temp(4 * count, "loud edges")
        cx.step(winograd.loud_edges, x=view.ref, ldx=view.ld, channels=count, extents=extents, low=low, high=high,
                loud=found[name])
    return found


def cut_parts(tiles: int, pixels: int, floats: int) -> int:
    """Ranges of pixels for a sum over pixels: only where there are fewer than 64 tiles; partial sums up to 4 MiB."""
    if tiles >= 64:
        return 1
    return max(1, min(-(-64 // tiles), -(-pixels // 256), (1 << 20) // max(1, floats)))


def epilogue(node: Node, cx: Lowering, first: int = 2) -> dict:
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


