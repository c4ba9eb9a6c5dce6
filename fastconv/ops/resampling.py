"""The lists of resampling: for each output coordinate of an axis, which inputs it sums, with which weights.

Coordinates are PyTorch's. Continuous rules are computed in float64; "nearest" and "nearest-exact" in float32, as PyTorch
does: there a rounding error decides which pixel is taken.
"""

from __future__ import annotations

from math import ceil, floor

import numpy as np

from fastconv.kernels.taps import Taps

MODES = ("nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area")


def scale_of(size: int, out: int, align_corners: bool, scale: float | None) -> float:
    """How far apart outputs are, in inputs."""
    if align_corners:
        return (size - 1) / (out - 1) if out > 1 else 0.0
    return 1.0 / scale if scale else size / out


def nearest(size: int, out: int, scale: float | None = None, exact: bool = False, dims: int = 2) -> Taps:
    """One input each: floor(i * scale), or where exact floor((i + 0.5) * scale)."""
    i = np.arange(out)
    if dims == 2 and not exact and out in (size, 2 * size):  # PyTorch looks at the extents alone
        return one_each(i * size // out)
    step = np.float32(1.0 / scale) if scale else np.float32(size) / np.float32(out)
    at = i.astype(np.float32) * step
    if exact:  # as one multiply-add, rounded once, and half a pixel back
        at = (np.float64(step) * (i + 0.5) - 0.5).astype(np.float32) + np.float32(0.5)
    return one_each(np.minimum(np.floor(at).astype(np.int64), size - 1))


def linear(size: int, out: int, align_corners: bool = False, scale: float | None = None) -> Taps:
    """Two neighbours, weighted by how near they are; beyond the edge the edge."""
    if out == size:  # whatever the scale
        return one_each(np.arange(size))
    at = np.maximum(_coordinates(size, out, align_corners, scale), 0.0)
    low = np.minimum(at.astype(np.int64), size - 1)
    part = np.clip(at - low, 0.0, 1.0)
    return _of(np.stack([low, np.minimum(low + 1, size - 1)], 1), np.stack([1 - part, part], 1))


def cubic(size: int, out: int, align_corners: bool = False, scale: float | None = None) -> Taps:
    """Four neighbours by cubic convolution with a = -0.75; beyond the edge the edge (Keys, 1981)."""
    at = _coordinates(size, out, align_corners, scale)
    low = np.floor(at)
    part = at - low
    weight = np.stack([_cubic(part + 1, -0.75), _cubic(part, -0.75), _cubic(1 - part, -0.75), _cubic(2 - part, -0.75)], 1)
    index = low.astype(np.int64)[:, None] + np.arange(-1, 3)
    return _of(np.clip(index, 0, size - 1), weight)


def rows(size: int, out: int, start: tuple[int, ...], index: tuple[int, ...], weight: tuple[float, ...]) -> Taps:
    """Any list: output i sums the inputs index[start[i]:start[i + 1]], times their weights."""
    return Taps(np.array(start, np.int32), np.array(index, np.int32), np.array(weight, np.float32))


def area(size: int, out: int) -> Taps:
    """Means over floor(i * size / out) to ceil((i + 1) * size / out): adaptive averages."""
    i = np.arange(out, dtype=np.int64)
    low, high = i * size // out, -(-(i + 1) * size // out)
    return _spans(low, high - low, lambda o, j: 1.0 / (high - low)[o])


def antialiased(size: int, out: int, align_corners: bool = False, scale: float | None = None, cubic: bool = False) -> Taps:
    """A triangle (or a cubic with a = -0.5) as wide as outputs are apart, normalised: what Pillow does."""
    if out == size:  # whatever the scale
        return one_each(np.arange(size))
    step, taps = scale_of(size, out, align_corners, scale), 4 if cubic else 2
    support = taps / 2 * max(step, 1.0)
    center = step * (np.arange(out) + 0.5)
    low = np.maximum((center - support + 0.5).astype(np.int64), 0)
    count = np.minimum((center + support + 0.5).astype(np.int64), size) - low
    count = np.clip(count, 0, ceil(support) * 2 + 1)
    shrink = 1.0 / step if step >= 1.0 else 1.0

    def weight(o, j):
        x = np.abs((j + low[o] - center[o] + 0.5) * shrink)
        return _cubic(x, -0.5) if cubic else np.maximum(0.0, 1.0 - x)

    return _spans(low, count, weight, True)


def axis(size: int, out: int, mode: str, align_corners: bool = False, scale: float | None = None,
         antialias: bool = False, dims: int = 2) -> Taps:
    """The list of a mode of ``interpolate`` along one axis of ``dims``."""
    if mode == "area":
        return area(size, out)
    if mode.startswith("nearest"):
        return nearest(size, out, scale, mode == "nearest-exact", dims)
    if antialias:
        return antialiased(size, out, align_corners, scale, mode == "bicubic")
    return (cubic if mode == "bicubic" else linear)(size, out, align_corners, scale)


def padded(mode: str, size: int, low: int, high: int) -> Taps:
    """The list of a padding mode: "constant" (no tap outside), "reflect", "replicate", "circular"; negative widths crop."""
    at = np.arange(-low, size + high)
    if mode == "constant":
        inside = (at >= 0) & (at < size)
        return Taps(np.concatenate([[0], np.cumsum(inside)]).astype(np.int32), at[inside].astype(np.int32),
                    np.ones(int(inside.sum()), np.float32))
    if mode == "reflect":
        at = size - 1 - np.abs(size - 1 - np.abs(at))
    elif mode == "replicate":
        at = np.clip(at, 0, size - 1)
    else:
        at = at % size
    return one_each(at)


def one_each(at) -> Taps:
    """The list of one input per output, with weight 1."""
    at = np.asarray(at)
    return Taps(np.arange(len(at) + 1, dtype=np.int32), at.astype(np.int32), np.ones(len(at), np.float32))


def output_size(size: int, scale: float) -> int:
    """The extent that a scale factor gives."""
    return floor(float(size) * scale)


def _coordinates(size, out, align_corners, scale):
    step, at = scale_of(size, out, align_corners, scale), np.arange(out, dtype=np.float64)
    return step * at if align_corners else step * (at + 0.5) - 0.5


def _cubic(x, a):
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    return np.where(x <= 1, near, np.where(x < 2, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a, 0.0))


def _of(index, weight) -> Taps:
    """The list of a table [output][tap]: taps of one input are one, those of weight 0 left out."""
    out, taps = index.shape
    size = int(index.max(initial=0)) + 1
    key = np.arange(out)[:, None] * size + index
    unique, place = np.unique(key, return_inverse=True)
    total = np.bincount(place.reshape(-1), weights=weight.reshape(-1), minlength=len(unique))
    unique, total = unique[total != 0], total[total != 0]
    counts = np.bincount(unique // size, minlength=out)
    return Taps(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), (unique % size).astype(np.int32),
                total.astype(np.float32))


def _spans(low, count, weight, normalised=False) -> Taps:
    start = np.concatenate([[0], np.cumsum(count)])
    o = np.repeat(np.arange(len(low)), count)
    j = np.arange(start[-1]) - start[o]
    values = weight(o, j).astype(np.float64)
    if normalised:
        total = np.bincount(o, weights=values, minlength=len(low))
        values = values / np.where(total == 0, 1.0, total)[o]
    return Taps(start.astype(np.int32), (low[o] + j).astype(np.int32), values.astype(np.float32))


def affine(size: tuple[int, ...], align_corners: bool) -> Taps:
    """The columns of an affine map's matrix, weighted into its grid of this size: x, y (, z) and 1 of each pixel."""
    lines = []
    for extent in size:
        i = np.arange(extent)
        if align_corners:
            lines.append(i * 2 / (extent - 1) - 1 if extent > 1 else np.zeros(1))
        else:
            lines.append((2 * i + 1) / extent - 1)
    planes = [plane.reshape(-1) for plane in np.meshgrid(*lines, indexing="ij")]
    weight = np.stack([*planes[::-1], np.ones_like(planes[0])], 1)
    return _of(np.broadcast_to(np.arange(len(size) + 1), weight.shape), weight)
