"""Joins, repetitions, rolls, shuffles of pixels and channels: what copies elements to where they are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from fastconv._values import plain, shown
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.functional.structure import (
    _at_least,
    _with_ones,
    extents,
    integers,
    joined,
    permuted,
    reshaped,
    size_of,
    sliced,
)
from fastconv.graph.ir import PIXELS, RANK, Tensor, apply
from fastconv.ops import copy
from fastconv.ops.arguments import dimension, integer
from fastconv.ops.copy import Map, Part, assemble, identity, laid, view
from fastconv.ops.views import tensor

__all__ = ["atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "cat", "channel_shuffle", "column_stack", "concat",
           "concatenate", "diag", "diag_embed", "dstack", "hstack", "meshgrid", "native_channel_shuffle", "pixel_shuffle",
           "pixel_unshuffle", "repeat_interleave", "roll", "row_stack", "stack", "tile", "tril", "triu", "vstack"]

_ORDER = ("bool", "uint8", "int8", "int32", "int64", "float32")


def promoted(op: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    """All of one dtype, the widest among them."""
    found = {t.dtype for t in tensors}
    if {"uint8", "int8"} <= found and not found & {"int32", "int64", "float32"}:
        fail(op, "tensors of dtypes uint8 and int8: no dtype of ours holds both; cast them", TypeError)
    return [copy.cast(t, max(found, key=_ORDER.index)) for t in tensors]


def taken(op: str, tensors, name: str = "tensors") -> list[Tensor]:
    if not isinstance(tensors, (tuple, list)) or not len(tensors):
        fail(op, f"{name}={shown(tensors)}: expected a sequence of at least one", TypeError)
    return promoted(op, [tensor(op, f"{name}[{i}]", t) for i, t in enumerate(tensors)])


# ---- joins --------------------------------------------------------------------------------------------------------------


def chained(op: str, tensors: Sequence[Tensor], dim) -> Tensor:
    """Tensors one behind the other along a dimension."""
    some = [t for t in tensors if size_of(t) != (0,)] or list(tensors[:1])  # as PyTorch, which leaves empty ones out
    first = size_of(some[0])
    if not first:
        fail(op, "tensors[0] has no dimensions: expected at least 1")
    dim = dimension(op, dim, len(first))
    starts, length = [], 0
    for i, t in enumerate(tensors):
        own = size_of(t)
        if own == (0,) and len(first) != 1:
            continue
        if len(own) != len(first) or own[:dim] + own[dim + 1:] != first[:dim] + first[dim + 1:]:
            fail(op, f"tensors[{i}] of shape {own}: expected the extents of tensors[0], {first}, but for dim={dim}")
    for t in some:
        starts.append(length)
        length += size_of(t)[dim]
    if len(some) == 1:
        return some[0]
    if dim and 3 <= len(first) <= 5 and all(t.layout == PIXELS and t.batched and t.dtype == "float32" for t in some):
        return apply("concat", some, dim=dim)
    maps = [identity(size_of(t), [start if d == dim else 0 for d in range(len(first))])
            for t, start in zip(some, starts, strict=True)]
    return laid(some, maps, (*first[:dim], length, *first[dim + 1:]))


_CAT_SAMPLES = lambda: [sample([array(lambda g: g.standard_normal((2, 3)).astype(np.float32)),  # noqa: E731
                                array(lambda g: g.standard_normal((4, 3)).astype(np.float32))], 0),
                        sample([array(lambda g: g.standard_normal((2, 3, 1)).astype(np.float32)),
                                array(lambda g: g.standard_normal((2, 3, 2)).astype(np.float32)),
                                array(lambda g: g.standard_normal((2, 3, 3)).astype(np.float32))], -1)]
_CAT_WRONG = lambda: [wrong(ValueError, "but for dim=0", [array(lambda g: np.ones((2, 3), np.float32)),  # noqa: E731
                                                          array(lambda g: np.ones((2, 4), np.float32))], 0),
                      wrong(TypeError, "expected a sequence of at least one array", [])]


@function(samples=_CAT_SAMPLES, wrong=_CAT_WRONG)
def cat(tensors: Sequence[Array], dim: int = 0) -> Array:
    """Joins tensors along ``dim``; all other extents must agree.

    Parameters
    ----------
    tensors : sequence of arrays
        Of one rank; of different dtypes, the widest is taken. Empty ones of one dimension are left out.
    dim : int, default 0

    Raises
    ------
    TypeError, ValueError, IndexError
        For no tensors, extents that differ, and a dimension that is not there.
    """
    return chained("cat", taken("cat", tensors), dim)


@function(samples=_CAT_SAMPLES, wrong=_CAT_WRONG)
def concat(tensors: Sequence[Array], dim: int = 0) -> Array:
    """:func:`cat` by another name."""
    return chained("concat", taken("concat", tensors), dim)


@function(samples=_CAT_SAMPLES, wrong=_CAT_WRONG)
def concatenate(tensors: Sequence[Array], dim: int = 0) -> Array:
    """:func:`cat` by another name."""
    return chained("concatenate", taken("concatenate", tensors), dim)


def stacked(op: str, tensors: Sequence[Tensor], dim) -> Tensor:
    shape = size_of(tensors[0])
    at = dimension(op, dim, len(shape) + 1)
    maps = []
    for i, t in enumerate(tensors):
        if size_of(t) != shape:
            fail(op, f"tensors[{i}] of shape {size_of(t)}: expected that of tensors[0], {shape}")
        start = [0] * (len(shape) + 1)
        start[at] = i
        maps.append(Map(shape, tuple(start), tuple(((d + (d >= at), 1),) for d in range(len(shape)))))
    return laid(tensors, maps, (*shape[:at], len(tensors), *shape[at:]))


def _shapes(*shapes):
    """A list of arrays of these shapes, of a sample."""
    return [array(lambda g, s=s: g.standard_normal(s).astype(np.float32)) for s in shapes]


@function(samples=lambda: [sample(_shapes((2, 3), (2, 3))), sample(_shapes((2, 3), (2, 3), (2, 3)), -1),
                           sample(_shapes((), ()))],
          wrong=lambda: [wrong(ValueError, "tensors[1] of shape (3, 2)", _shapes((2, 3), (3, 2))),
                         wrong(IndexError, "dim=3", _shapes((2, 3), (2, 3)), 3)])
def stack(tensors: Sequence[Array], dim: int = 0) -> Array:
    """Tensors of one shape as one with a new dimension ``dim``."""
    return stacked("stack", taken("stack", tensors), dim)


def _at_rank(x: Tensor, rank: int) -> Tensor:
    """With dimensions of extent 1 as atleast_1d, _2d and _3d put them."""
    shape = size_of(x)
    if x.ndim >= rank:
        return x
    places = {(0, 1): [0], (0, 2): [0, 1], (0, 3): [0, 1, 2], (1, 2): [0], (1, 3): [0, 2], (2, 3): [2]}[x.ndim, rank]
    return view(x, _with_ones(shape, places))


def _ranked(op: str, tensors: tuple, rank: int):
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        return tuple(_at_rank(tensor(op, f"tensors[{i}]", t), rank) for i, t in enumerate(tensors[0]))
    found = tuple(_at_rank(tensor(op, f"tensors[{i}]", t), rank) for i, t in enumerate(tensors))
    return found[0] if len(found) == 1 else found


@function(samples=lambda: [sample(()), sample((2, 3)), sample((), (2,))])
def atleast_1d(*tensors: Array):
    """Tensors with at least one dimension; of several a tuple."""
    return _ranked("atleast_1d", tensors, 1)


@function(samples=lambda: [sample(()), sample((3,)), sample((), (2, 3))])
def atleast_2d(*tensors: Array):
    """Tensors with at least two dimensions, new ones in front; of several a tuple."""
    return _ranked("atleast_2d", tensors, 2)


@function(samples=lambda: [sample(()), sample((3,)), sample((2, 3)), sample((2,), (2, 3, 4))])
def atleast_3d(*tensors: Array):
    """Tensors with at least three dimensions, the third behind; of several a tuple."""
    return _ranked("atleast_3d", tensors, 3)


@function(samples=lambda: [sample(_shapes((2, 3), (2, 1))), sample(_shapes((2,), (3,))), sample(_shapes((), ()))],
          wrong=lambda: [wrong(ValueError, "but for dim=1", _shapes((2, 3), (3, 3)))])
def hstack(tensors: Sequence[Array]) -> Array:
    """Joins along columns; vectors along their one dimension."""
    found = [_at_rank(t, 1) for t in taken("hstack", tensors)]
    return chained("hstack", found, 0 if found[0].ndim == 1 else 1)


@function(samples=lambda: [sample(_shapes((2, 3), (1, 3))), sample(_shapes((3,), (3,)))],
          wrong=lambda: [wrong(ValueError, "but for dim=0", _shapes((2, 3), (2, 2)))])
def vstack(tensors: Sequence[Array]) -> Array:
    """Joins along rows; vectors are rows."""
    return chained("vstack", [_at_rank(t, 2) for t in taken("vstack", tensors)], 0)


@function(samples=lambda: [sample(_shapes((2, 3), (1, 3)))],
          wrong=lambda: [wrong(ValueError, "but for dim=0", _shapes((2, 3), (2, 2)))],
          reference=lambda tensors: np.vstack(tensors))
def row_stack(tensors: Sequence[Array]) -> Array:
    """:func:`vstack` by another name."""
    return chained("row_stack", [_at_rank(t, 2) for t in taken("row_stack", tensors)], 0)


@function(samples=lambda: [sample(_shapes((2, 3), (2, 3))), sample(_shapes((3,), (3,)))],
          wrong=lambda: [wrong(ValueError, "but for dim=2", _shapes((2, 3), (3, 3)))])
def dstack(tensors: Sequence[Array]) -> Array:
    """Joins along the third dimension."""
    return chained("dstack", [_at_rank(t, 3) for t in taken("dstack", tensors)], 2)


@function(samples=lambda: [sample(_shapes((2,), (2, 3))), sample(_shapes((2, 1), (2,)))],
          wrong=lambda: [wrong(ValueError, "but for dim=1", _shapes((2,), (3,)))])
def column_stack(tensors: Sequence[Array]) -> Array:
    """Joins along columns; vectors are columns."""
    found = [view(t, _with_ones(size_of(t), [1] if t.ndim else [0, 1])) if t.ndim < 2 else t
             for t in taken("column_stack", tensors)]
    return chained("column_stack", found, 1)


@function(samples=lambda: [sample((2, 3), (1, 1), (4,)), sample((), (2, 2))],
          wrong=lambda: [wrong(ValueError, "at most 2", (2, 3, 4))])
def block_diag(*tensors: Array) -> Array:
    """Matrices along the diagonal of one, zeros around."""
    found = promoted("block_diag", [tensor("block_diag", f"tensors[{i}]", t) for i, t in enumerate(tensors)])
    maps, start = [], [0, 0]
    blocks = []
    for i, t in enumerate(found):
        if t.ndim > 2:
            fail("block_diag", f"tensors[{i}] of shape {size_of(t)} has {t.ndim} dimensions: expected at most 2")
        blocks.append(_at_rank(t, 2))
        maps.append(identity(size_of(blocks[-1]), start))
        start = [s + e for s, e in zip(start, size_of(blocks[-1]), strict=True)]
    return laid(blocks, maps, start, 0)


@function(samples=lambda: [sample((2,), (3,)), sample((2,), (3,), (), indexing="xy"), sample((2,), (), (3,), indexing="ij")],
          wrong=lambda: [wrong(ValueError, "indexing='ab'", (2,), (3,), indexing="ab"),
                         wrong(ValueError, "at most 1", (2, 2), (3,))],
          reference=lambda *tensors, indexing="ij": tuple(
              a.copy() for a in np.meshgrid(*(tensors[0] if isinstance(tensors[0], (list, tuple)) else tensors),
                                            indexing=indexing)))
def meshgrid(*tensors: Array, indexing: str | None = None):
    """Vectors as grids of their common shape: the i-th varies along dimension i ("ij", the default; "xy" exchanges the first
    two). A tuple of views."""
    if indexing not in (None, "ij", "xy"):
        fail("meshgrid", f"indexing={shown(indexing)}: expected 'ij' or 'xy'")
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    if not given:
        fail("meshgrid", "no tensors: expected at least one")
    found = [tensor("meshgrid", f"tensors[{i}]", t) for i, t in enumerate(given)]
    if len({t.dtype for t in found}) > 1:
        fail("meshgrid", f"dtypes {', '.join(t.dtype for t in found)}: expected one", TypeError)
    for i, t in enumerate(found):
        if t.ndim > 1:
            fail("meshgrid", f"tensors[{i}] of shape {size_of(t)} has {t.ndim} dimensions: expected at most 1")
    places = list(range(len(found)))
    if indexing == "xy" and len(found) > 1:
        places[:2] = [1, 0]
    shape = [0] * len(found)
    for k, t in zip(places, found, strict=True):
        shape[k] = (size_of(t) or (1,))[0]
    out = []
    for k, t in zip(places, found, strict=True):
        terms: list[tuple] = [()] * len(found)
        if t.ndim:
            terms[k] = ((0, 1),)
        out.append(view(t, Map(tuple(shape), (0,) * t.ndim, tuple(terms))))
    return tuple(out)


# ---- diagonals ----------------------------------------------------------------------------------------------------------


def embedded(op: str, x: Tensor, offset, dim1, dim2) -> Tensor:
    rank, k = x.ndim + 1, integer(op, "offset", offset)
    a, b = dimension(op, dim1, rank, "dim1"), dimension(op, dim2, rank, "dim2")
    if a == b:
        fail(op, f"dim1={dim1}, dim2={dim2}: expected two different dimensions")
    own = size_of(x)
    length = own[-1] + abs(k)
    rest = iter(range(x.ndim - 1))
    shape = [length if d in (a, b) else own[next(rest)] for d in range(rank)]
    start = [0] * rank
    start[a], start[b] = max(0, -k), max(0, k)
    others = [d for d in range(rank) if d not in (a, b)]
    return laid([x], [Map(own, tuple(start), (*(((d, 1),) for d in others), ((a, 1), (b, 1))))], shape, 0)


@function(method="diag_embed", samples=lambda: [sample((3,)), sample((2, 3), 1), sample((2, 3), -1, 0, 2)],
          wrong=lambda: [wrong(ValueError, "dim1=1, dim2=1", (2, 3), 0, 1, 1), wrong(ValueError, "at least 1", ())])
def diag_embed(input: Array, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Array:
    """The last dimension along a diagonal of two, zeros elsewhere."""
    x = tensor("diag_embed", "input", input)
    _at_least("diag_embed", x, 1)
    return embedded("diag_embed", x, offset, dim1, dim2)


@function(method="diag", samples=lambda: [sample((3,)), sample((3,), -1), sample((3, 4), 1)],
          wrong=lambda: [wrong(ValueError, "expected 1 or 2", (2, 3, 4))])
def diag(input: Array, diagonal: int = 0) -> Array:
    """A vector along a diagonal of a matrix, or a diagonal of a matrix as a vector."""
    from fastconv.functional.structure import diagonal as taken_from

    x = tensor("diag", "input", input)
    if x.ndim not in (1, 2):
        fail("diag", f"input of shape {size_of(x)} has {x.ndim} dimensions: expected 1 or 2")
    return embedded("diag", x, diagonal, 0, 1) if x.ndim == 1 else taken_from(x, diagonal)


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
        x = view(x, _with_ones(size_of(x), range(len(times) - x.ndim)))
    shape = size_of(x)
    alone = [n for n, extent in zip(times, shape, strict=True) if n != 1 and extent != 1]
    if len(shape) + len(alone) > RANK:  # one dimension after the other
        for d, n in enumerate(times):
            if n != 1:
                x = _repeat(x, [n if k == d else 1 for k in range(len(times))])
        return x
    return _repeat(x, times)


def _repeat(x: Tensor, times: Sequence[int]) -> Tensor:
    shape, wide, terms = size_of(x), [], []
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
    return spread if tuple(wide) == out else apply("reshape", [spread], shape=out, batch=times[0] == 1)


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
        result = apply("reshape", [spread], shape=(*shape[:dim], total, *shape[dim + 1:]), batch=dim > 0)
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
    _at_least(op, x, 2)
    *lead, rows, columns = size_of(x)
    zeros, runs = [0] * len(lead), []  # runs: first row, rows, first column, columns
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
    _at_least(op, x, 3)
    *lead, c, h, w = size_of(x)
    if c % (r * r):
        fail(op, f"input of shape {size_of(x)} has {c} channels: upscale_factor={r} expects a multiple of {r * r}")
    n, batch = len(lead), bool(lead)
    split = apply("reshape", [x], shape=(*lead, c // (r * r), r, r, h, w), batch=batch)
    turned = permuted(split, (*range(n + 1), n + 3, n + 1, n + 4, n + 2))
    return apply("reshape", [turned], shape=(*lead, c // (r * r), h * r, w * r), batch=batch)


@function(samples=lambda: [sample((2, 2, 4, 6), 2), sample((1, 3, 6), 3)],
          wrong=lambda: [wrong(ValueError, "multiples of 2", (1, 4, 3, 4), 2),
                         wrong(ValueError, "downscale_factor=0", (1, 4, 2, 2), 0)])
def pixel_unshuffle(input: Array, downscale_factor: int) -> Array:
    """``(*, C, H * r, W * r)`` to ``(*, C * r^2, H, W)``: the inverse of :func:`pixel_shuffle`."""
    op = "pixel_unshuffle"
    x, r = tensor(op, "input", input), _factor(op, "downscale_factor", downscale_factor)
    _at_least(op, x, 3)
    *lead, c, h, w = size_of(x)
    if h % r or w % r:
        fail(op, f"input of shape {size_of(x)} has {h} x {w} pixels: downscale_factor={r} expects multiples of {r}")
    n, batch = len(lead), bool(lead)
    split = apply("reshape", [x], shape=(*lead, c, h // r, r, w // r, r), batch=batch)
    turned = permuted(split, (*range(n + 1), n + 2, n + 4, n + 1, n + 3))
    return apply("reshape", [turned], shape=(*lead, c * r * r, h // r, w // r), batch=batch)


def _shuffled(op: str, input, groups) -> Tensor:
    x, g = tensor(op, "input", input), _factor(op, "groups", groups)
    _at_least(op, x, 3)
    n, c, *rest = size_of(x)
    if c % g:
        fail(op, f"input of shape {size_of(x)} has {c} channels: groups={g} expects a multiple of it")
    split = apply("reshape", [x], shape=(n, g, c // g, *rest), batch=True)
    turned = permuted(split, (0, 2, 1, *range(3, 3 + len(rest))))
    return apply("reshape", [turned], shape=(n, c, *rest), batch=True)


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
