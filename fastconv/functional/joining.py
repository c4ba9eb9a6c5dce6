"""Joins of tensors, grids and diagonals: what copies elements to where they are wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv._values import shown
from fastconv.functional import slicing
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.functional.structure import (
    at_least,
    size_of,
    with_ones,
)
from fastconv.graph.ir import PIXELS, Tensor, apply, current_graph
from fastconv.graph.limits import check_memory
from fastconv.ops import copy
from fastconv.ops.arguments import dimension, integer
from fastconv.ops.copy import Map, identity, laid, view
from fastconv.ops.views import tensor

__all__ = ["atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "cat", "column_stack", "concat", "concatenate", "diag",
           "diag_embed", "dstack", "hstack", "meshgrid", "row_stack", "stack", "vstack"]

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


@function(name="cat", samples=_CAT_SAMPLES, wrong=_CAT_WRONG)
def _cat(tensors: Sequence[Array], dim: int = 0) -> Array:
    """:func:`cat` of anything."""
    return chained("cat", taken("cat", tensors), dim)


def cat(tensors, dim=0):
    """Joins tensors along ``dim``; all other extents must agree. ``concat`` and ``concatenate`` are the same.

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
    if isinstance(tensors, (tuple, list)) and type(dim) is int and current_graph() is None and tensors and \
            all(type(t) is np.ndarray and t.dtype == np.float32 for t in tensors):
        try:
            nbytes = sum(t.nbytes for t in tensors)
            if nbytes > 1 << 24:
                check_memory(nbytes)
            return np.concatenate(tensors, dim)  # nothing is quicker
        except MemoryError as error:
            raise MemoryError(f"cat: tensors of shapes {[t.shape for t in tensors]}: {error}") from None
        except ValueError:
            pass  # the careful way says what is wrong, if that is so
    return _cat(tensors, dim)


concat = concatenate = cat
cat.record = _cat.record  # type: ignore[attr-defined]


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
    return view(x, with_ones(shape, places))


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
    found = [view(t, with_ones(size_of(t), [1] if t.ndim else [0, 1])) if t.ndim < 2 else t
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
    at_least("diag_embed", x, 1)
    return embedded("diag_embed", x, offset, dim1, dim2)


@function(method="diag", samples=lambda: [sample((3,)), sample((3,), -1), sample((3, 4), 1)],
          wrong=lambda: [wrong(ValueError, "expected 1 or 2", (2, 3, 4))])
def diag(input: Array, diagonal: int = 0) -> Array:
    """A vector along a diagonal of a matrix, or a diagonal of a matrix as a vector."""
    x = tensor("diag", "input", input)
    if x.ndim not in (1, 2):
        fail("diag", f"input of shape {size_of(x)} has {x.ndim} dimensions: expected 1 or 2")
    return embedded("diag", x, diagonal, 0, 1) if x.ndim == 1 else slicing.diagonal(x, diagonal)
