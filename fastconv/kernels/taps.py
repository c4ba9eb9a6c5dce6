"""How resampling is cut into rows, parts and vectors: what its steps are told, from lists of taps. Once per plan."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastconv.kernels._runtime import isa_info

WIDTH = isa_info()["lanes"]
PART = 4096  # values that a part of a row reads or writes
BLOCK = np.dtype([("base", "i4"), ("taps", "i4"), ("kind", "i4"), ("use", "i4"), ("at", "i8")])  # ResampleBlock
SUMMED, SUMMED_SOME, MOVED, MOVED_SOME = range(4)
FAR = 2**31 - 1


class Taps(NamedTuple):
    """Sparse rows of an axis: output i sums source[start[i]:start[i + 1]] times weight; int32, int32 and float32 arrays."""

    start: np.ndarray
    source: np.ndarray
    weight: np.ndarray

    @property
    def size(self) -> int:
        """How many coordinates it makes."""
        return len(self.start) - 1

    @property
    def most(self) -> int:
        """Taps of one coordinate, at most."""
        return int(np.diff(self.start).max(initial=0))

    def transposed(self, size: int) -> Taps:
        """The adjoint: for each of ``size`` inputs the outputs that read it, in order."""
        order = np.argsort(self.source, kind="stable")
        output = np.repeat(np.arange(self.size, dtype=np.int32), np.diff(self.start))
        return Taps(_starts(np.bincount(self.source, minlength=size)), output[order], self.weight[order])

    def times(self, inner: Taps, extent: int) -> Taps:
        """The list of two axes as one: this one outside, ``inner`` that of ``extent`` neighbours."""
        outer_counts, counts = np.diff(self.start), np.diff(inner.start)
        lengths = np.outer(outer_counts, counts).reshape(-1)
        start = _starts(lengths)
        o, i = np.divmod(np.repeat(np.arange(len(lengths)), lengths), max(1, len(counts)))
        j, k = np.divmod(np.arange(start[-1]) - np.repeat(start[:-1], lengths), np.maximum(1, counts[i]))
        j, k = self.start[o] + j, inner.start[i] + k
        return Taps(start, (self.source[j] * extent + inner.source[k]).astype(np.int32), self.weight[j] * inner.weight[k])

    def interleaved(self, count: int) -> Taps:
        """The list of ``count`` channels that lie side by side."""
        which = np.repeat(np.arange(self.size), count)  # the coordinate of each value
        lengths = np.diff(self.start)[which]
        start = _starts(lengths)
        at = np.arange(start[-1]) - np.repeat(start[:-1], lengths) + np.repeat(self.start[which], lengths)
        channel = np.repeat(np.tile(np.arange(count), self.size), lengths)
        return Taps(start, (self.source[at] * count + channel).astype(np.int32), self.weight[at])


class Dim(NamedTuple):
    """A dimension: extent of what is written, strides of what is read and written, its list and the extent that it reads."""

    size: int
    xs: int
    ys: int
    taps: Taps | None = None
    extent: int = 0


class Rows(NamedTuple):
    """A problem as rows: outer dimensions, then ``row`` of pixels of ``channels`` values."""

    outer: list[Dim]
    row: Dim
    channels: int

    @property
    def most(self) -> int:
        """Rows that a row reads, at most."""
        return prod(max(1, d.taps.most) for d in self.outer if d.taps is not None)


class Parts(NamedTuple):
    """How a row is cut: ``step`` outputs each, which read pixels ``low`` to ``high``; its vectors, where it is of values."""

    step: int
    low: list[int]
    high: list[int]
    blocks: Any = None
    lanes: Any = None
    weights: Any = None
    empty: Any = None


def rows(shape, xs, ys, axes: dict, batched: bool) -> Rows:
    """The rows of a problem: which dimension is the row, which the channels, and the order of the others."""
    dims = [Dim(axes[d].size if d in axes else shape[d], xs[d], ys[d], axes.get(d), shape[d]) for d in range(len(shape))]
    rest = merged(dims[batched:])
    channels = next((d for d in rest if d.taps is None and d.xs == d.ys == 1), None)
    if channels is not None:
        rest = [d for d in rest if d is not channels]
    c = channels.size if channels is not None else 1
    row = next((d for d in reversed(rest) if d.taps is not None), rest[-1] if rest else None)
    if row is not None:
        rest = [d for d in rest if d is not row]
    else:
        row = Dim(1, c, c, None, 1)
    if row.taps is not None and 1 < c and row.xs == row.ys == c:
        if c < WIDTH or c % WIDTH and row.size * c * row.taps.most <= PART:
            row, c = Dim(row.size * c, 1, 1, row.taps.interleaved(c), row.extent * c), 1
    while c == 1 and row.taps is not None and rest and (wider := folded(rest[-1], row)) is not None:
        rest, row = rest[:-1], wider
    return Rows(dims[:batched] + rest, row, c)


def folded(outer: Dim, row: Dim) -> Dim | None:
    """A short row and the dimension in which it lies, as one row; None where that does not pay."""
    taps, more = row.taps, outer.taps
    if taps is None or not 0 < row.size < 32 or (row.xs, row.ys) != (1, 1):
        return None
    if outer.xs != row.extent or outer.ys != row.size or not 0 < outer.size * row.size * taps.most <= PART:
        return None
    if more is None:
        more = Taps(np.arange(outer.size + 1), np.arange(outer.size), np.ones(outer.size, np.float32))
    together, most = more.most * taps.most, 16 if row.size <= 8 else 4
    if more.most > 1 and together > most or outer.size * row.size * together > 4 * PART:
        return None
    return Dim(outer.size * row.size, 1, 1, more.times(taps, row.extent), outer.extent * row.extent)


def merged(dims: list[Dim]) -> list[Dim]:
    """The slowest of y first; those without taps that lie one in the other as one."""
    out: list[Dim] = []
    for dim in sorted((d for d in dims if d.size != 1 or d.taps is not None), key=lambda d: -abs(d.ys)):
        last = out[-1] if out else dim
        if out and dim.taps is last.taps is None and last.xs == dim.xs * dim.size and last.ys == dim.ys * dim.size:
            out[-1] = Dim(last.size * dim.size, dim.xs, dim.ys, None, last.size * dim.size)
        else:
            out.append(dim)
    return out


def parts(row: Dim, channels: int, fill: float) -> Parts:
    """The parts of a row, and its vectors."""
    size, taps = row.size, row.taps
    reads = max(1, -(-row.extent // max(1, size))) if taps is not None else 1
    step = max(WIDTH, min(PART, PART // (channels * reads)) // WIDTH * WIDTH)
    starts = [*range(0, size, step), size]
    if taps is None:
        return Parts(step, starts[:-1], starts[1:])
    if channels == 1:
        return _vectors(taps, row.extent, starts, step, fill)
    found = [taps.source[taps.start[a]:taps.start[b]] for a, b in zip(starts[:-1], starts[1:], strict=True)]
    high = [int(f.max(initial=-1)) + 1 for f in found]
    return Parts(step, [min(int(f.min(initial=FAR)), h) for f, h in zip(found, high, strict=True)], high)


def _vectors(taps: Taps, extent: int, starts: list[int], step: int, fill: float) -> Parts:
    """Each vector of outputs: where what it reads begins, and the lane and weight of each tap."""
    count, most = -(-taps.size // WIDTH), max(1, taps.most)
    lengths, first = np.zeros((2, count * WIDTH), np.int64)
    lengths[:taps.size], first[:taps.size] = np.diff(taps.start), taps.start[:-1]
    inside = (np.arange(count * WIDTH) < taps.size).reshape(count, WIDTH)
    tap = np.arange(most)[:, None]
    some = tap < lengths  # [tap][output]
    at = np.where(some, first + tap, 0)
    index, weight = (np.where(some, values[at] if len(values) else 0, 0).reshape(most, count, WIDTH)
                     for values in (taps.source, taps.weight))
    some, lengths = some.reshape(most, count, WIDTH), lengths.reshape(count, WIDTH)
    low, high = np.where(some, index, FAR).min(axis=(0, 2)), np.where(some, index, -1).max(axis=(0, 2)) + 1
    read = high > 0
    kind = np.where(~read, 2, np.where(high - low <= WIDTH, 0, np.where(high - low <= 2 * WIDTH, 1, 2)))
    reach = np.where(kind == 0, WIDTH, 2 * WIDTH)
    base = np.where(kind == 2, low, np.clip(low, 0, np.maximum(0, extent - reach)))
    until = np.where(kind == 2, high, np.minimum(base + reach, extent))
    alone = (lengths <= 1).all(axis=1) & ((weight[0] == 1) | (lengths == 0)).all(axis=1)
    full = ((lengths == lengths.max(axis=1, keepdims=True)) | ~inside).all(axis=1) & read
    plan = np.zeros(count, BLOCK)
    plan["taps"], plan["kind"], plan["at"] = lengths.max(axis=1), kind, np.arange(count) * most
    plan["use"] = np.where(alone, np.where(full, MOVED, MOVED_SOME), np.where(full, SUMMED, SUMMED_SOME))
    lows, highs = [], []
    for begin, end in zip(starts[:-1], starts[1:], strict=True):
        part = slice(begin // WIDTH, -(-end // WIDTH))
        lowest = int(base[part].min(where=read[part], initial=FAR))
        lows.append(lowest if lowest < FAR else 0)
        highs.append(int(until[part].max(where=read[part], initial=lows[-1])))
        plan["base"][part] = np.where(read[part], base[part] - lows[-1], 0)
        index[:, part] -= np.where(kind[part] == 2, lows[-1], base[part])[:, None]
    empty = np.where(lengths == 0, fill, 0).astype(np.float32) if fill and ((lengths == 0) & inside).any() else None
    lanes = np.where(some, index, 0).transpose(1, 0, 2)
    return Parts(step, lows, highs, plan, lanes.astype(np.int32), weight.transpose(1, 0, 2).astype(np.float32), empty)


def _starts(counts) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
