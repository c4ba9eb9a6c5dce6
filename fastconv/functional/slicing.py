"""Slices, splits, diagonals, windows and flips: views that copy nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv._values import plain, shown
from fastconv.functional.record import Array, fail, function, sample, wrong
from fastconv.functional.structure import at_least, dimensions, integers, permuted, size_of
from fastconv.graph.ir import Tensor
from fastconv.ops import views
from fastconv.ops.arguments import dimension, integer
from fastconv.ops.copy import Map, identity, view
from fastconv.ops.views import tensor

__all__ = ["chunk", "diagonal", "dsplit", "flip", "fliplr", "flipud", "hsplit", "narrow", "rot90", "select", "split",
           "split_with_sizes", "tensor_split", "unbind", "unfold_copy", "vsplit"]

# ---- slices -------------------------------------------------------------------------------------------------------------


def sliced(x: Tensor, dim: int, start: int, count: int, step: int = 1) -> Tensor:
    """Every step-th of the elements along a dimension, from ``start`` on."""
    shape = size_of(x)
    if (start, count, step) == (0, shape[dim], 1):
        return x
    starts, steps = [0] * x.ndim, [1] * x.ndim
    starts[dim], steps[dim] = start, step
    return view(x, identity((*shape[:dim], count, *shape[dim + 1:]), starts, steps))


def selected(x: Tensor, dim: int, index: int) -> Tensor:
    shape, start = size_of(x), [0] * x.ndim
    start[dim] = index
    kept = [d for d in range(x.ndim) if d != dim]
    return view(x, Map(tuple(shape[d] for d in kept), tuple(start), tuple(((d, 1),) for d in kept)))


@function(method="narrow", samples=lambda: [sample((5, 3), 0, 1, 3), sample((5, 3), -1, -2, 2)],
          wrong=lambda: [wrong(ValueError, "start=4, length=2", (5, 3), 0, 4, 2),
                         wrong(ValueError, "length=-1", (5,), 0, 1, -1),
                         wrong(IndexError, "start=6", (5,), 0, 6, 1)])
def narrow(input: Array, dim: int, start: int, length: int) -> Array:
    """``length`` elements along ``dim`` from ``start`` on."""
    x = tensor("narrow", "input", input)
    at_least("narrow", x, 1)
    dim, first, count = dimension("narrow", dim, x.ndim), integer("narrow", "start",
                                                                  start), integer("narrow", "length", length)
    extent = size_of(x)[dim]
    if not -extent <= first <= extent:
        fail("narrow", f"start={first}: expected {-extent} to {extent}, dimension {dim} of input of shape {size_of(x)}",
             IndexError)
    first += extent if first < 0 else 0
    if count < 0 or first + count > extent:
        fail("narrow", f"start={first}, length={count}: dimension {dim} of input of shape {size_of(x)} has {extent} "
                       f"elements")
    return sliced(x, dim, first, count)


@function(method="select", samples=lambda: [sample((5, 3), 0, 1), sample((5, 3, 2), 1, -1)],
          wrong=lambda: [wrong(IndexError, "index=5", (5, 3), 0, 5)])
def select(input: Array, dim: int, index: int) -> Array:
    """The elements at one index of ``dim``, without that dimension."""
    x = tensor("select", "input", input)
    at_least("select", x, 1)
    dim, at = dimension("select", dim, x.ndim), integer("select", "index", index)
    return selected(x, dim, index_of("select", "index", at, size_of(x), dim))


def index_of(op: str, name: str, at: int, shape: Sequence[int], dim: int) -> int:
    extent = shape[dim]
    if not -extent <= at < extent:
        fail(op, f"{name}={at}: dimension {dim} of input of shape {tuple(shape)} has {extent} elements", IndexError)
    return at % extent


@function(method="diagonal", samples=lambda: [sample((4, 5)), sample((4, 5), 1), sample((2, 4, 5), -2, 1, 2),
                                              sample((3, 3), 3)],
          wrong=lambda: [wrong(ValueError, "dim1=0, dim2=0", (3, 3), 0, 0, 0), wrong(IndexError, "dim2=2", (3, 3), 0, 0, 2),
                         wrong(TypeError, "offset=0.5", (3, 3), 0.5)])
def diagonal(input: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    """The diagonal of two dimensions as the last one; ``offset`` above (positive) or below the main one."""
    x = tensor("diagonal", "input", input)
    at_least("diagonal", x, 2)
    a, b = dimension("diagonal", dim1, x.ndim, "dim1"), dimension("diagonal", dim2, x.ndim, "dim2")
    k = integer("diagonal", "offset", offset)
    if a == b:
        fail("diagonal", f"dim1={dim1}, dim2={dim2}: expected two different dimensions of input of shape {size_of(x)}")
    shape, start = size_of(x), [0] * x.ndim
    start[a], start[b] = max(0, -k), max(0, k)
    length = max(0, min(shape[a] - start[a], shape[b] - start[b]))
    kept = [d for d in range(x.ndim) if d not in (a, b)]
    return view(x, Map((*(shape[d] for d in kept), length), tuple(start), (*(((d, 1),) for d in kept), ((a, 1), (b, 1)))))


def windows(op: str, input, dimension_, size, step) -> Tensor:
    x = tensor(op, "input", input)
    length, apart = integer(op, "size", size), integer(op, "step", step)
    dim, alone = dimension(op, dimension_, x.ndim, "dimension"), x.ndim == 0
    shape = size_of(x) or (1,)
    if not 0 <= length <= shape[dim]:
        fail(op, f"size={length}: expected 0 to {shape[dim]}, dimension {dim} of input of shape {shape}")
    if apart < 1:
        fail(op, f"step={apart}: expected at least 1")
    if alone:
        return view(x, Map((length,), (), ((),)))
    count = (shape[dim] - length) // apart + 1
    terms = tuple(((d, apart if d == dim else 1),) for d in range(x.ndim))
    return view(x, Map((*shape[:dim], count, *shape[dim + 1:], length), (0,) * x.ndim, (*terms, ((dim, 1),))))


@function(samples=lambda: [sample((7,), 0, 3, 2), sample((2, 8), 1, 3, 1), sample((6, 2), 0, 2, 3)],
          wrong=lambda: [wrong(ValueError, "size=8", (7,), 0, 8, 1), wrong(ValueError, "step=0", (7,), 0, 2, 0)])
def unfold_copy(input: Array, dimension: int, size: int, step: int) -> Array:
    """Windows of ``size`` elements along a dimension, ``step`` apart, as the last dimension: PyTorch's method ``unfold``."""
    return windows("unfold_copy", input, dimension, size, step)


@function(method="flip", samples=lambda: [sample((2, 3, 4), (0, 2)), sample((3,), (0,)), sample((2, 3), (-1,))],
          wrong=lambda: [wrong(ValueError, "named twice", (2, 3), (1, 1)), wrong(IndexError, "dims=2", (2, 3), (2,))])
def flip(input: Array, dims) -> Array:
    """Elements along these dimensions in reverse order."""
    return _flipped("flip", tensor("flip", "input", input), dims)


def _flipped(op: str, x: Tensor, dims) -> Tensor:
    found, shape = dimensions(op, dims, x.ndim), size_of(x)
    if not found or x.ndim == 0:
        return x
    return view(x, identity(shape, [max(0, n - 1) if d in found else 0 for d, n in enumerate(shape)],
                            [-1 if d in found else 1 for d in range(x.ndim)]))


@function(method="fliplr", samples=lambda: [sample((2, 3, 4))], wrong=lambda: [wrong(ValueError, "at least 2", (3,))])
def fliplr(input: Array) -> Array:
    """Columns, the second dimension, in reverse order."""
    x = tensor("fliplr", "input", input)
    at_least("fliplr", x, 2)
    return _flipped("fliplr", x, 1)


@function(method="flipud", samples=lambda: [sample((2, 3, 4))], wrong=lambda: [wrong(ValueError, "at least 1", ())])
def flipud(input: Array) -> Array:
    """Rows, the first dimension, in reverse order."""
    x = tensor("flipud", "input", input)
    at_least("flipud", x, 1)
    return _flipped("flipud", x, 0)


@function(method="rot90", samples=lambda: [sample((2, 3)), sample((2, 3, 4), 2, (1, 2)), sample((2, 3), -1),
                                           sample((2, 3), 4)],
          wrong=lambda: [wrong(ValueError, "expected two", (2, 3), 1, (0,)), wrong(ValueError, "at least 2", (3,))])
def rot90(input: Array, k: int = 1, dims: Sequence[int] = (0, 1)) -> Array:
    """Turned by ``k`` times 90 degrees, from the first of two dimensions towards the second."""
    x = tensor("rot90", "input", input)
    at_least("rot90", x, 2)
    found = dimensions("rot90", dims, x.ndim)
    if len(found) != 2:
        fail("rot90", f"dims={shown(dims)}: expected two dimensions")
    times, (a, b) = integer("rot90", "k", k) % 4, found
    order = list(range(x.ndim))
    order[a], order[b] = b, a
    if times == 2:
        return _flipped("rot90", x, [a, b])
    if times == 0:
        return x
    return permuted(_flipped("rot90", x, [b]), order) if times == 1 else _flipped("rot90", permuted(x, order), [b])


# ---- splits -------------------------------------------------------------------------------------------------------------


def parts(x: Tensor, dim: int, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    first, out = 0, []
    for size in sizes:
        out.append(sliced(x, dim, first, size))
        first += size
    return tuple(out)


def _sections(op: str, x: Tensor, dim: int, name: str, value) -> tuple[Tensor, ...]:
    sizes, extent = integers(op, name, value), size_of(x)[dim]
    if min(sizes, default=0) < 0 or sum(sizes) != extent:
        fail(op, f"{name}={shown(value)}: expected sizes of at least 0 that add up to {extent}, dimension {dim} of input "
                 f"of shape "
                 f"{size_of(x)}")
    return parts(x, dim, sizes)


@function(samples=lambda: [sample((7, 2), 3), sample((7, 2), [2, 0, 5]), sample((2, 6), 3, -1)],
          wrong=lambda: [wrong(ValueError, "add up to 7", (7, 2), [3, 3]),
                         wrong(ValueError, "split_size_or_sections=0", (7, 2), 0),
                         wrong(IndexError, "dim=2", (7, 2), 3, 2)])
def split(tensor: Array, split_size_or_sections, dim: int = 0):
    """Pieces along ``dim``: of one size, the last perhaps shorter, or of the sizes of a sequence. A tuple of views."""
    x = views.tensor("split", "tensor", tensor)
    at_least("split", x, 1)
    dim, value, extent = dimension("split", dim, x.ndim), plain(split_size_or_sections), 0
    if isinstance(value, (tuple, list)):
        return _sections("split", x, dim, "split_size_or_sections", value)
    size, extent = integer("split", "split_size_or_sections", value), size_of(x)[dim]
    if size < 0 or size == 0 and extent:
        fail("split", f"split_size_or_sections={size}: expected at least {1 if extent else 0}")
    count = max(1, -(-extent // size)) if size else 1
    return parts(x, dim, [min(size, extent - i * size) for i in range(count)] if size else [0])


@function(method="split_with_sizes", samples=lambda: [sample((7, 2), [2, 0, 5])],
          wrong=lambda: [wrong(ValueError, "add up to 7", (7, 2), [3, 3])])
def split_with_sizes(input: Array, split_sizes: Sequence[int], dim: int = 0):
    """Pieces of these sizes along ``dim``."""
    x = tensor("split_with_sizes", "input", input)
    at_least("split_with_sizes", x, 1)
    return _sections("split_with_sizes", x, dimension("split_with_sizes", dim, x.ndim), "split_sizes", split_sizes)


@function(method="chunk", samples=lambda: [sample((7, 2), 3), sample((2, 6), 4, 1), sample((3,), 5)],
          wrong=lambda: [wrong(ValueError, "chunks=0", (7, 2), 0), wrong(TypeError, "chunks=1.5", (7,), 1.5)])
def chunk(input: Array, chunks: int, dim: int = 0):
    """At most so many pieces along ``dim``, of one size but for the last. A tuple of views."""
    x = tensor("chunk", "input", input)
    at_least("chunk", x, 1)
    dim, count = dimension("chunk", dim, x.ndim), integer("chunk", "chunks", chunks)
    if count < 1:
        fail("chunk", f"chunks={count}: expected at least 1")
    extent = size_of(x)[dim]
    size = -(-extent // count)
    sizes = [min(size, extent - first) for first in range(0, extent, size)] if size else [0] * count
    return parts(x, dim, sizes)


def _tensor_split(op: str, x: Tensor, value, dim: int, name: str = "indices_or_sections") -> tuple[Tensor, ...]:
    extent, value = size_of(x)[dim], value.tolist() if isinstance(value, np.ndarray) else plain(value)
    if not isinstance(value, (tuple, list)):
        count = integer(op, name, value)
        if count < 1:
            fail(op, f"{name}={count}: expected at least 1")
        return parts(x, dim, [extent // count + (i < extent % count) for i in range(count)])
    ends = [slice(0, at).indices(extent)[1] for at in integers(op, name, value)]
    out, first = [], 0
    for end in [*ends, extent]:
        out.append(sliced(x, dim, first, max(0, end - first)) if first < extent else sliced(x, dim, 0, 0))
        first = end
    return tuple(out)


@function(method="tensor_split", samples=lambda: [sample((7, 2), 3), sample((7, 2), (2, 5)), sample((2, 6), (1, 9), 1)],
          wrong=lambda: [wrong(ValueError, "indices_or_sections=0", (7, 2), 0), wrong(ValueError, "at least 1", (), 1)])
def tensor_split(input: Array, indices_or_sections, dim: int = 0):
    """So many pieces as equal as can be, or pieces that end at these indices. A tuple of views."""
    x = tensor("tensor_split", "input", input)
    at_least("tensor_split", x, 1)
    return _tensor_split("tensor_split", x, indices_or_sections, dimension("tensor_split", dim, x.ndim))


def _even_split(op: str, input, value, rank: int, dim: int) -> tuple[Tensor, ...]:
    x = tensor(op, "input", input)
    at_least(op, x, rank)
    dim = 0 if op == "hsplit" and x.ndim == 1 else dim
    value = plain(value)
    if not isinstance(value, (tuple, list)):
        count = integer(op, "indices_or_sections", value)
        if count < 1 or size_of(x)[dim] % count:
            fail(op, f"indices_or_sections={count}: expected a divisor of {size_of(x)[dim]}, dimension {dim} of input of "
                     f"shape "
                     f"{size_of(x)}")
    return _tensor_split(op, x, value, dim)


@function(method="hsplit", samples=lambda: [sample((2, 6), 3), sample((6,), (2, 4))],
          wrong=lambda: [wrong(ValueError, "a divisor of 6", (2, 6), 4)])
def hsplit(input: Array, indices_or_sections):
    """:func:`tensor_split` along columns; a number must divide them."""
    return _even_split("hsplit", input, indices_or_sections, 1, 1)


@function(method="vsplit", samples=lambda: [sample((6, 2), 3)], wrong=lambda: [wrong(ValueError, "at least 2", (6,), 3)])
def vsplit(input: Array, indices_or_sections):
    """:func:`tensor_split` along rows; a number must divide them."""
    return _even_split("vsplit", input, indices_or_sections, 2, 0)


@function(method="dsplit", samples=lambda: [sample((2, 1, 6), 3)],
          wrong=lambda: [wrong(ValueError, "at least 3", (6, 2), 3)])
def dsplit(input: Array, indices_or_sections):
    """:func:`tensor_split` along the third dimension; a number must divide it."""
    return _even_split("dsplit", input, indices_or_sections, 3, 2)


@function(method="unbind", samples=lambda: [sample((3, 2)), sample((3, 2), 1)],
          wrong=lambda: [wrong(IndexError, "dim=2", (3, 2), 2)])
def unbind(input: Array, dim: int = 0):
    """The elements along ``dim``, one by one. A tuple of views."""
    x = tensor("unbind", "input", input)
    at_least("unbind", x, 1)
    dim = dimension("unbind", dim, x.ndim)
    return tuple(selected(x, dim, i) for i in range(size_of(x)[dim]))
