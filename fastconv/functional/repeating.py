"""Repetitions, rolls, triangles, shuffles of pixels and channels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from fastconv._values import plain, shown
from fastconv.functional.record import Array, fail, function, sample, wrong
from fastconv.functional.slicing import sliced
from fastconv.functional.structure import at_least, extents, integers, joined, permuted, reshaped, size_of, with_ones
from fastconv.graph.ir import PIXELS, RANK, Tensor, apply
from fastconv.ops.arguments import dimension, integer
from fastconv.ops.copy import Map, Part, assemble, identity, view
from fastconv.ops.views import tensor

__all__ = ["channel_shuffle", "native_channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "repeat_interleave", "roll",
           "tile", "tril", "triu"]

# ---- repetitions and rolls ----------------------------------------------------------------------------------------------


def repeated(op: str, x: Tensor, counts, name: str, strict: bool) -> Tensor:
    """The whole tensor so many times along each dimension; new dimensions in front."""
    times, batch = extents(op, name, counts, x)
    if batch:
        int(counts[0])
    if min(times, default=0) < 0:
        fail(op, f"{name}={shown(tuple(times))}: expected numbers of at least 0")
    if len(times) < x.ndim and strict:
        fail(op, f"{name}={shown(tuple(times))}: input of shape {size_of(x)} has {x.ndim} dimensions: expected as many at "
                 f"least")
    times = [1] * (x.ndim - len(times)) + times
    if len(times) > x.ndim:
        x = view(x, with_ones(size_of(x), range(len(times) - x.ndim)))
    shape = size_of(x)
    alone = [n for n, extent in zip(times, shape, strict=True) if n != 1 and extent != 1]
    if len(shape) + len(alone) > RANK:  # one dimension after the other
        for d, n in enumerate(times):
            if n != 1:
                x = _repeat(x, [n if k == d else 1 for k in range(len(times))])
        return x
    return _repeat(x, times)


def _repeat(x: Tensor, times: Sequence[int]) -> Tensor:
    shape, wide = size_of(x), []
    terms: list[tuple] = []
    for d, (n, extent) in enumerate(zip(times, shape, strict=True)):
        if n != 1 and extent == 1:
            wide.append(n)
            terms.append(())
            continue
        if n != 1:
            wide.append(n)
            terms.append(())
        wide.append(extent)
        terms.append(((d, 1),))
    if wide == list(shape):
        return x
    out = tuple(n * extent for n, extent in zip(times, shape, strict=True))
    spread = view(x, Map(tuple(wide), (0,) * len(shape), tuple(terms)))
    return spread if tuple(wide) == out else apply("reshape", [spread], shape=out, batch=times[0] == 1,
                                                             pixels=x.layout == PIXELS)


@function(samples=lambda: [sample((2, 3), (2,)), sample((2, 3), (2, 1, 3)), sample((2, 1), (1, 4)), sample((2,), (0,))],
          wrong=lambda: [wrong(ValueError, "dims=(-1,)", (2, 3), (-1,)), wrong(TypeError, "dims=1.5", (2,), (1.5,))])
def tile(input: Array, dims: Sequence[int]) -> Array:
    """The whole so many times along each of its last dimensions, or along new ones in front."""
    return repeated("tile", tensor("tile", "input", input), dims, "dims", False)


@function(method="repeat_interleave", samples=lambda: [sample((2, 3), 2), sample((2, 3), 3, 0), sample((2, 3), 2, dim=-1)],
          wrong=lambda: [wrong(ValueError, "repeats=-1", (2, 3), -1), wrong(IndexError, "dim=2", (2, 3), 2, 2)])
def repeat_interleave(input: Array, repeats, dim: int | None = None, *, output_size: int | None = None) -> Array:
    """Each element so many times in a row along ``dim``; without it, of all elements in one dimension.

    Parameters
    ----------
    input : array
    repeats : int, or a sequence of int
        One number for all, or one per element along ``dim``.
    dim, output_size : int, optional
    """
    op = "repeat_interleave"
    x = tensor(op, "input", input)
    if dim is None:
        x, dim = joined(op, x, 0, -1), 0
    dim = dimension(op, dim, x.ndim)
    shape = size_of(x)
    counts = plain(repeats)
    counts = counts.tolist() if isinstance(counts, np.ndarray) else counts
    counts = counts[0] if isinstance(counts, (tuple, list)) and len(counts) == 1 else counts
    if isinstance(counts, (tuple, list)):
        counts = integers(op, "repeats", counts)
        if len(counts) != shape[dim] or min(counts, default=0) < 0:
            fail(op, f"repeats={shown(counts)}: expected a number of at least 0 for each of the {shape[dim]} elements of "
                     f"dimension {dim}")
        total, start, pieces = sum(counts), 0, []
        for i, n in enumerate(counts):
            if n:
                block = (*shape[:dim], n, *shape[dim + 1:])
                one = identity(block, [i if d == dim else 0 for d in range(x.ndim)])
                pieces.append(Part(0, one._replace(terms=tuple(() if d == dim else t for d, t in enumerate(one.terms))),
                                   identity(block, [start if d == dim else 0 for d in range(x.ndim)])))
                start += n
        result = assemble([x], pieces, (*shape[:dim], total, *shape[dim + 1:]), disjoint=False) if pieces else \
            sliced(x, dim, 0, 0)
    else:
        n = integer(op, "repeats", counts)
        if n < 0:
            fail(op, f"repeats={n}: expected at least 0")
        terms = [((d, 1),) for d in range(x.ndim)]
        spread = view(x, Map((*shape[:dim + 1], n, *shape[dim + 1:]), (0,) * x.ndim,
                             (*terms[:dim + 1], (), *terms[dim + 1:])))
        total = shape[dim] * n
        result = apply("reshape", [spread], shape=(*shape[:dim], total, *shape[dim + 1:]), batch=dim > 0,
                       pixels=x.layout == PIXELS)
    if output_size is not None and integer(op, "output_size", output_size) != total:
        fail(op, f"output_size={output_size}: the result has {total} elements along dimension {dim}")
    return result


@function(method="roll", samples=lambda: [sample((5,), 2), sample((4, 5), (1, -2), (0, 1)), sample((4, 5), 7),
                                          sample((4, 5), -1, 1)],
          wrong=lambda: [wrong(ValueError, "as many shifts as dims", (4, 5), (1, 2), 0),
                         wrong(IndexError, "dims=2", (4, 5), 1, 2),
                         wrong(TypeError, "shifts=1.5", (4, 5), 1.5)])
def roll(input: Array, shifts, dims=None) -> Array:
    """Elements moved along dimensions; what leaves at one end comes in at the other. Without ``dims``, of all in C order."""
    x = tensor("roll", "input", input)
    steps = integers("roll", "shifts", shifts)
    if dims is None or isinstance(dims, (tuple, list)) and not dims:
        if len(steps) != 1:
            fail("roll", f"shifts={shown(shifts)}, dims={shown(dims)}: expected as many shifts as dims")
        flat = joined("roll", x, 0, -1)
        rolled = _rolled(flat, {0: steps[0]})
        return reshaped("roll", rolled, x.shape, "shape") if x.ndim != 1 else rolled
    if x.ndim == 0:
        fail("roll", f"dims={shown(dims)}: input has no dimensions", IndexError)
    found = [dimension("roll", d, x.ndim, "dims") for d in integers("roll", "dims", dims)]
    if len(found) != len(steps):
        fail("roll", f"shifts={shown(shifts)}, dims={shown(dims)}: expected as many shifts as dims")
    total: dict[int, int] = {}
    for d, n in zip(found, steps, strict=True):
        total[d] = total.get(d, 0) + n
    return _rolled(x, total)


def _rolled(x: Tensor, by: dict[int, int]) -> Tensor:
    shape = size_of(x)
    segments = []
    for d, extent in enumerate(shape):
        n = by.get(d, 0) % extent if extent else 0
        segments.append([(0, 0, extent)] if n == 0 else [(0, n, extent - n), (extent - n, 0, n)])
    if prod(shape) == 0 or prod(map(len, segments)) == 1:
        return x
    pieces = []
    for parts in product(*segments):
        count = tuple(p[2] for p in parts)
        pieces.append(Part(0, identity(count, [p[0] for p in parts]), identity(count, [p[1] for p in parts])))
    return assemble([x], pieces, shape)


# ---- triangles ----------------------------------------------------------------------------------------------------------


def _triangle(op: str, input, diagonal, upper: bool) -> Tensor:
    """Rows up to, or from, a diagonal on; zeros elsewhere."""
    x, k = tensor(op, "input", input), integer(op, "diagonal", diagonal)
    at_least(op, x, 2)
    *lead, rows, columns = size_of(x)
    zeros = [0] * len(lead)
    runs: list[list[int]] = []  # first row, rows, first column, columns
    for r in range(rows):
        edge = min(max(r + k + (not upper), 0), columns)
        span = (edge, columns - edge) if upper else (0, edge)
        if runs and tuple(runs[-1][2:]) == span and span[1] in (0, columns):
            runs[-1][1] += 1
        else:
            runs.append([r, 1, *span])
    parts = [identity((*lead, n, width), [*zeros, r, c]) for r, n, c, width in runs if width]
    return assemble([x], [Part(0, p, p) for p in parts], size_of(x), 0)


@function(method="tril", samples=lambda: [sample((4, 5)), sample((2, 5, 3), 1), sample((3, 3), -1), sample((2, 3), 5)],
          wrong=lambda: [wrong(ValueError, "at least 2", (3,)), wrong(TypeError, "diagonal=0.5", (3, 3), 0.5)])
def tril(input: Array, diagonal: int = 0) -> Array:
    """Matrices with zeros above a diagonal."""
    return _triangle("tril", input, diagonal, False)


@function(method="triu", samples=lambda: [sample((4, 5)), sample((2, 5, 3), 1), sample((3, 3), -1), sample((2, 3), 5)],
          wrong=lambda: [wrong(ValueError, "at least 2", (3,)), wrong(TypeError, "diagonal=0.5", (3, 3), 0.5)])
def triu(input: Array, diagonal: int = 0) -> Array:
    """Matrices with zeros below a diagonal."""
    return _triangle("triu", input, diagonal, True)


# ---- pixels and channels ------------------------------------------------------------------------------------------------


def _factor(op: str, name: str, value) -> int:
    factor = integer(op, name, value)
    if factor < 1:
        fail(op, f"{name}={factor}: expected at least 1")
    return factor


@function(samples=lambda: [sample((2, 8, 3, 4), 2), sample((9, 2, 2), 3), sample((2, 3, 4, 2, 2), 2)],
          wrong=lambda: [wrong(ValueError, "a multiple of 4", (1, 6, 3, 3), 2), wrong(ValueError, "at least 3", (4, 4), 2),
                         wrong(ValueError, "upscale_factor=0", (1, 4, 2, 2), 0)])
def pixel_shuffle(input: Array, upscale_factor: int) -> Array:
    """``(*, C * r^2, H, W)`` to ``(*, C, H * r, W * r)``: channels become pixels.

    Parameters
    ----------
    input : array, at least 3 dimensions
    upscale_factor : int
        r, at least 1.
    """
    op = "pixel_shuffle"
    x, r = tensor(op, "input", input), _factor(op, "upscale_factor", upscale_factor)
    at_least(op, x, 3)
    *lead, c, h, w = size_of(x)
    if c % (r * r):
        fail(op, f"input of shape {size_of(x)} has {c} channels: upscale_factor={r} expects a multiple of {r * r}")
    n, batch = len(lead), bool(lead)
    split = apply("reshape", [x], shape=(*lead, c // (r * r), r, r, h, w), batch=batch)
    turned = permuted(split, (*range(n + 1), n + 3, n + 1, n + 4, n + 2))
    return apply("reshape", [turned], shape=(*lead, c // (r * r), h * r, w * r), batch=batch, pixels=x.layout == PIXELS)


@function(samples=lambda: [sample((2, 2, 4, 6), 2), sample((1, 3, 6), 3)],
          wrong=lambda: [wrong(ValueError, "multiples of 2", (1, 4, 3, 4), 2),
                         wrong(ValueError, "downscale_factor=0", (1, 4, 2, 2), 0)])
def pixel_unshuffle(input: Array, downscale_factor: int) -> Array:
    """``(*, C, H * r, W * r)`` to ``(*, C * r^2, H, W)``: the inverse of :func:`pixel_shuffle`."""
    op = "pixel_unshuffle"
    x, r = tensor(op, "input", input), _factor(op, "downscale_factor", downscale_factor)
    at_least(op, x, 3)
    *lead, c, h, w = size_of(x)
    if h % r or w % r:
        fail(op, f"input of shape {size_of(x)} has {h} x {w} pixels: downscale_factor={r} expects multiples of {r}")
    n, batch = len(lead), bool(lead)
    split = apply("reshape", [x], shape=(*lead, c, h // r, r, w // r, r), batch=batch)
    turned = permuted(split, (*range(n + 1), n + 2, n + 4, n + 1, n + 3))
    return apply("reshape", [turned], shape=(*lead, c * r * r, h // r, w // r), batch=batch, pixels=x.layout == PIXELS)


def _shuffled(op: str, input, groups) -> Tensor:
    x, g = tensor(op, "input", input), _factor(op, "groups", groups)
    at_least(op, x, 3)
    n, c, *rest = size_of(x)
    if c % g:
        fail(op, f"input of shape {size_of(x)} has {c} channels: groups={g} expects a multiple of it")
    split = apply("reshape", [x], shape=(n, g, c // g, *rest), batch=True)
    turned = permuted(split, (0, 2, 1, *range(3, 3 + len(rest))))
    return apply("reshape", [turned], shape=(n, c, *rest), batch=True, pixels=x.layout == PIXELS)


@function(samples=lambda: [sample((2, 6, 3, 4), 3), sample((1, 4, 5), 2)],
          wrong=lambda: [wrong(ValueError, "groups=4", (1, 6, 3, 3), 4), wrong(ValueError, "at least 3", (4, 4), 2)])
def channel_shuffle(input: Array, groups: int) -> Array:
    """Channels ``(N, groups * k, ...)`` in the order of k first, then the groups."""
    return _shuffled("channel_shuffle", input, groups)


@function(samples=lambda: [sample((2, 6, 3, 4), 3)], wrong=lambda: [wrong(ValueError, "groups=4", (1, 6, 3, 3), 4)],
          reference=lambda x, groups: x.reshape(x.shape[0], groups, -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape))
def native_channel_shuffle(input: Array, groups: int) -> Array:
    """:func:`channel_shuffle` by another name."""
    return _shuffled("native_channel_shuffle", input, groups)
