"""Views and shapes: permutations, repetitions, reshapes. Nothing is moved where strides can say it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from fastconv._values import plain, shown
from fastconv.functional.record import Array, fail, function, sample, wrong
from fastconv.graph.batch import Batch
from fastconv.graph.ir import PIXELS, Tensor, apply, current_graph
from fastconv.ops import views
from fastconv.ops.arguments import dimension, integer
from fastconv.ops.copy import Map, view
from fastconv.ops.views import tensor

__all__ = ["adjoint", "broadcast_tensors", "broadcast_to", "expand", "flatten", "moveaxis", "movedim", "permute", "ravel",
           "reshape", "squeeze", "swapaxes", "swapdims", "t", "transpose", "unflatten", "unsqueeze"]

# ---- arguments ----------------------------------------------------------------------------------------------------------


def several(values: tuple):
    """What a method takes one by one or as one sequence."""
    return values[0] if len(values) == 1 and isinstance(values[0], (tuple, list)) else values


def sequence(op: str, name: str, value) -> list:
    """A number, or a sequence of them, as a list."""
    value = plain(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return list(value) if isinstance(value, (tuple, list)) else [value]


def integers(op: str, name: str, value) -> list[int]:
    return [integer(op, name, v) for v in sequence(op, name, value)]


def dimensions(op: str, value, rank: int, name: str = "dims") -> list[int]:
    """Different dimensions of a tensor of so many, counted from the front."""
    found = [dimension(op, v, rank, name) for v in sequence(op, name, value)]
    if len(set(found)) < len(found):
        fail(op, f"{name}={shown(value)}: a dimension is named twice in {rank} dimensions")
    return found


def extents(op: str, name: str, value, x: Tensor) -> tuple[list[int], bool]:
    """Extents, and whether the first one is the batch, which is then not read."""
    values = list(value) if isinstance(value, (tuple, list)) else [value]
    batch = bool(values) and type(values[0]) is Batch
    if batch:
        values[0] = values[0]._value
    return [integer(op, name, v) for v in values], batch


def size_of(x: Tensor) -> tuple[int, ...]:
    """Extents as they are planned: reading them says nothing about the batch."""
    return x.type.shape


def at_least(op: str, x: Tensor, rank: int) -> None:
    if x.ndim < rank:
        fail(op, f"input of shape {size_of(x)} has {x.ndim} dimensions: expected at least {rank}")


# ---- permutations -------------------------------------------------------------------------------------------------------


def permuted(x: Tensor, order: Sequence[int]) -> Tensor:
    shape = size_of(x)
    return view(x, Map(tuple(shape[d] for d in order), (0,) * len(shape), tuple(((d, 1),) for d in order)))


@function(samples=lambda: [sample((2, 3, 4), (2, 0, 1)), sample((2, 3, 4, 5), (0, 2, -1, 1)), sample((3,), (0,))],
          wrong=lambda: [wrong(ValueError, "dims=(0, 1): expected 3 of them", (2, 3, 4), (0, 1)),
                         wrong(ValueError, "named twice", (2, 3, 4), (0, 1, 1)), wrong(IndexError, "dims=3", (2, 3), (0, 3)),
                         wrong(TypeError, "dims=1.5: expected an integer", (2, 3), (0, 1.5))])
def permute(input: Array, dims: Sequence[int]) -> Array:
    """Dimensions in another order: that of the result's dimension i is ``dims[i]``.

    Parameters
    ----------
    input : array, any shape and dtype
    dims : sequence of int
        Every dimension once.
    """
    x = tensor("permute", "input", input)
    found = dimensions("permute", dims, x.ndim)
    if len(found) != x.ndim:
        fail("permute", f"dims={shown(dims)}: expected {x.ndim} of them for input of shape {size_of(x)}")
    return permuted(x, found)


def _swapped(op: str, input, dim0, dim1, names=("dim0", "dim1")) -> Tensor:
    x = tensor(op, "input", input)
    a, b = dimension(op, dim0, x.ndim, names[0]), dimension(op, dim1, x.ndim, names[1])
    order = list(range(x.ndim))
    if order:
        order[a], order[b] = b, a
    return permuted(x, order)


@function(method="transpose", samples=lambda: [sample((2, 3, 4), 0, 2), sample((2, 3, 4), -1, 1)],
          wrong=lambda: [wrong(IndexError, "dim1=3", (2, 3, 4), 0, 3), wrong(TypeError, "dim0='a'", (2, 3), "a", 1)])
def transpose(input: Array, dim0: int, dim1: int) -> Array:
    """Two dimensions exchanged."""
    return _swapped("transpose", input, dim0, dim1)


@function(method="swapaxes", samples=lambda: [sample((2, 3, 4), 0, 2)],
          wrong=lambda: [wrong(IndexError, "axis1=3", (2, 3, 4), 0, 3)])
def swapaxes(input: Array, axis0: int, axis1: int) -> Array:
    """:func:`transpose` under NumPy's name."""
    return _swapped("swapaxes", input, axis0, axis1, ("axis0", "axis1"))


@function(method="swapdims", samples=lambda: [sample((2, 3, 4), 0, 2)],
          wrong=lambda: [wrong(IndexError, "dim1=3", (2, 3, 4), 0, 3)])
def swapdims(input: Array, dim0: int, dim1: int) -> Array:
    """:func:`transpose` by another name."""
    return _swapped("swapdims", input, dim0, dim1)


def _moved(op: str, input, source, destination) -> Tensor:
    x = tensor(op, "input", input)
    a, b = dimensions(op, source, x.ndim, "source"), dimensions(op, destination, x.ndim, "destination")
    if len(a) != len(b):
        fail(op, f"source={shown(source)}, destination={shown(destination)}: expected as many of the one as of the other")
    order: list = [None] * x.ndim
    for s, d in zip(a, b, strict=True):
        if order:
            order[d] = s
    rest = iter(d for d in range(x.ndim) if d not in a)
    return permuted(x, [next(rest) if d is None else d for d in order])


@function(method="movedim", samples=lambda: [sample((2, 3, 4), 0, 2), sample((2, 3, 4, 5), (0, 1), (-1, 0))],
          wrong=lambda: [wrong(ValueError, "as many of the one", (2, 3, 4), (0, 1), 2),
                         wrong(ValueError, "named twice", (2, 3, 4), (0, 0), (1, 2))])
def movedim(input: Array, source, destination) -> Array:
    """Dimensions ``source`` at the places ``destination``, the others in their order."""
    return _moved("movedim", input, source, destination)


@function(method="moveaxis", samples=lambda: [sample((2, 3, 4), 0, 2)],
          wrong=lambda: [wrong(IndexError, "source=3", (2, 3, 4), 3, 2)])
def moveaxis(input: Array, source, destination) -> Array:
    """:func:`movedim` under NumPy's name."""
    return _moved("moveaxis", input, source, destination)


@function(method="t", samples=lambda: [sample((2, 3)), sample((3,))],
          wrong=lambda: [wrong(ValueError, "3 dimensions: expected at most 2", (2, 3, 4))])
def t(input: Array) -> Array:
    """The transpose of a matrix; vectors and numbers stay."""
    x = tensor("t", "input", input)
    if x.ndim > 2:
        fail("t", f"input of shape {size_of(x)} has {x.ndim} dimensions: expected at most 2")
    return permuted(x, range(x.ndim)[::-1])


@function(method="adjoint", samples=lambda: [sample((2, 3)), sample((4, 2, 3))],
          wrong=lambda: [wrong(ValueError, "expected at least 2", (2,))])
def adjoint(input: Array) -> Array:
    """The last two dimensions exchanged."""
    return matrices(tensor("adjoint", "input", input), "adjoint")


def matrices(x: Tensor, op: str) -> Tensor:
    if x.ndim < 2:
        fail(op, f"input of shape {size_of(x)} has {x.ndim} dimensions: expected at least 2")
    return permuted(x, [*range(x.ndim - 2), x.ndim - 1, x.ndim - 2])


# ---- dimensions of one element, repetitions -----------------------------------------------------------------------------


@function(method="squeeze", samples=lambda: [sample((1, 3, 1)), sample((1, 3, 1), 0), sample((1, 3, 1), (0, -1)),
                                             sample((2, 3), 1)],
          wrong=lambda: [wrong(IndexError, "dim=3", (1, 3, 1), 3), wrong(ValueError, "named twice", (1, 3), (0, 0))])
def squeeze(input: Array, dim=None) -> Array:
    """Without the dimensions of extent 1: all of them, or those named that are so."""
    x = tensor("squeeze", "input", input)
    shape = size_of(x)
    asked = range(x.ndim) if dim is None else dimensions("squeeze", dim, x.ndim, "dim")
    if 0 in asked:
        views.fixed(x)
    kept = [d for d in range(x.ndim) if not (d in asked and shape[d] == 1)]
    return view(x, Map(tuple(shape[d] for d in kept), (0,) * x.ndim, tuple(((d, 1),) for d in kept)))


@function(method="unsqueeze", samples=lambda: [sample((2, 3), 0), sample((2, 3), -1), sample((2, 3), 1)],
          wrong=lambda: [wrong(IndexError, "dim=3", (2, 3), 3), wrong(TypeError, "dim=None", (2, 3), None)])
def unsqueeze(input: Array, dim: int) -> Array:
    """With a dimension of extent 1 at ``dim``."""
    x = tensor("unsqueeze", "input", input)
    at = dimension("unsqueeze", dim, x.ndim + 1)
    return view(x, with_ones(size_of(x), [at]))


def with_ones(shape: Sequence[int], places: Sequence[int]) -> Map:
    """The map that puts dimensions of extent 1 at these places of the result."""
    count = len(shape) + len(places)
    rest = iter(range(len(shape)))
    sources = [None if k in places else next(rest) for k in range(count)]
    return Map(tuple(1 if d is None else shape[d] for d in sources), (0,) * len(shape),
               tuple(() if d is None else ((d, 1),) for d in sources))


def expanded(op: str, x: Tensor, sizes: Sequence, name: str) -> Tensor:
    wanted, batch = extents(op, name, sizes, x)
    shape, missing = size_of(x), len(wanted) - x.ndim
    if missing < 0:
        fail(op, f"{name}={shown(tuple(sizes))}: input of shape {shape} has {x.ndim} dimensions: expected as many at least")
    terms: list = [()] * missing
    for k, size in enumerate(wanted):
        if k < missing:
            if size < 0:
                fail(op, f"{name}={tuple(wanted)}: {size} in dimension {k}, which input of shape {shape} does not have")
            continue
        own = shape[k - missing]
        if size == -1:
            wanted[k] = own
        elif size != own and (own != 1 or size < 0):
            fail(op, f"{name}={tuple(wanted)}: dimension {k - missing} of input of shape {shape} is {own}: expected "
                     f"{own}{' or -1' if own != 1 else ', -1 or more'}")
        terms.append(((k - missing, 1),) if wanted[k] == own else ())
    mapped = Map(tuple(wanted), (0,) * x.ndim, tuple(terms))
    if batch and not x.batched and (missing or shape[0] == 1):
        terms[0] = ()
        return apply("view", [x], map=tuple(mapped._replace(terms=tuple(terms))), batch=True)
    if batch and not mapped.keeps_batch(shape[0] if shape else -1):
        int(sizes[0])  # the batch is read
    return view(x, mapped)


@function(name="expand", samples=lambda: [sample((1, 3), 2, 3), sample((3, 1), (2, -1, 4)), sample((1,), (0,))],
          wrong=lambda: [wrong(ValueError, "expected 3 or -1", (2, 3), 2, 4),
                         wrong(ValueError, "does not have", (2,), -1, 2),
                         wrong(ValueError, "expected as many at least", (2, 3), 3)],
          reference=lambda x, *sizes: _numpy_expand(x, sizes))
def expand(input: Array, *sizes) -> Array:
    """Dimensions of extent 1 repeated, and new ones in front; -1 leaves one as it is. A view.

    Parameters
    ----------
    input : array
    *sizes : int, or one sequence of int
    """
    return expanded("expand", tensor("expand", "input", input), several(sizes), "sizes")


def _numpy_expand(x, sizes):
    sizes = list(several(sizes))
    for i in range(1, x.ndim + 1):
        sizes[-i] = x.shape[-i] if sizes[-i] == -1 else sizes[-i]
    return np.broadcast_to(x, sizes)


@function(method="broadcast_to", samples=lambda: [sample((1, 3), (2, 3)), sample((3,), (4, 2, 3))],
          wrong=lambda: [wrong(ValueError, "size=(2, 4)", (2, 3), (2, 4))])
def broadcast_to(input: Array, size: Sequence[int]) -> Array:
    """:func:`expand` to a shape."""
    return expanded("broadcast_to", tensor("broadcast_to", "input", input), size, "size")


def broadcast_shape(op: str, shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*map(tuple, shapes))
    except ValueError:
        fail(op, f"shapes {', '.join(map(str, map(tuple, shapes)))}: extents must be equal, or 1")
        raise


@function(samples=lambda: [sample((1, 3), (2, 1)), sample((3,), (2, 1), (4, 1, 1))],
          wrong=lambda: [wrong(ValueError, "extents must be equal, or 1", (2,), (3,))])
def broadcast_tensors(*tensors: Array):
    """Tensors repeated to their common shape; a tuple."""
    found = [tensor("broadcast_tensors", f"tensors[{i}]", v) for i, v in enumerate(tensors)]
    shape = broadcast_shape("broadcast_tensors", [size_of(x) for x in found])
    return tuple(expanded("broadcast_tensors", x, shape, "shape") for x in found)


# ---- reshapes -----------------------------------------------------------------------------------------------------------


def reshaped(op: str, x: Tensor, sizes, name: str = "shape") -> Tensor:
    wanted, batch = extents(op, name, sizes, x)
    shape, count = size_of(x), prod(size_of(x))
    if min(wanted, default=0) < -1 or wanted.count(-1) > 1:
        fail(op, f"{name}={tuple(wanted)}: expected extents of at least 0, and -1 at most once")
    known = prod(w for w in wanted if w != -1)
    if -1 in wanted:
        at = wanted.index(-1)
        if known == 0 or count % known:
            fail(op, f"{name}={tuple(wanted)}: input of shape {shape} has {count} elements")
        wanted[at] = count // known
        per_image = prod(shape[1:])
        batch = batch or at == 0 and x.batched and bool(per_image) and prod(wanted[1:]) == per_image
    elif known != count:
        fail(op, f"{name}={tuple(wanted)}: input of shape {shape} has {count} elements")
    if batch and not x.batched:
        int(sizes[0])  # the batch is read
    if batch and len(wanted) == 2 and x.ndim > 2:
        return joined(op, x, 1, -1)  # a Linear behind it absorbs that
    return apply("reshape", [x], shape=tuple(wanted), batch=batch)


@function(samples=lambda: [sample((2, 6), (3, 4)), sample((2, 3, 4), (-1, 4)), sample((2, 3, 4), (2, 12)),
                           sample((4,), (2, 1, 2))],
          wrong=lambda: [wrong(ValueError, "has 12 elements", (2, 6), (5, -1)),
                         wrong(ValueError, "-1 at most once", (4,), (-1, -1)),
                         wrong(ValueError, "has 12 elements", (2, 6),
                               (3, 5)), wrong(TypeError, "shape=2.0", (4,), (2.0, 2))])
def reshape(input: Array, shape: Sequence[int]) -> Array:
    """The elements in their order (C order) under another shape; one extent may be -1. A view where the strides allow it."""
    return reshaped("reshape", tensor("reshape", "input", input), shape)


def joined(op: str, x: Tensor, start_dim, end_dim) -> Tensor:
    """Dimensions from ``start_dim`` to ``end_dim`` as one."""
    shape, dims = size_of(x), max(1, x.ndim)
    start, end = (integer(op, name, v) for name, v in (("start_dim", start_dim), ("end_dim", end_dim)))
    if not -dims <= start < dims or not -dims <= end < dims:
        fail(op, f"start_dim={start}, end_dim={end}: input of shape {shape} has {x.ndim} dimensions")
    first, last = start % dims, end % dims
    if first > last:
        fail(op, f"start_dim={start} is behind end_dim={end}: input of shape {shape}")
    if x.layout == PIXELS and first > 0 and x.dtype == "float32" and not x.type.fixed:
        return apply("flatten", [x], start_dim=first, end_dim=last)
    return apply("reshape", [x], shape=(*shape[:first], prod(shape[first:last + 1]), *shape[last + 1:]),
                 batch=first > 0 or x.ndim == 1)


@function(name="flatten", samples=lambda: [sample((2, 3, 4)), sample((2, 3, 4), 1), sample((2, 3, 4, 2), 1, -2),
                                             sample(())],
          wrong=lambda: [wrong(ValueError, "has 2 dimensions", (2, 3), 2), wrong(ValueError, "is behind", (2, 3), 1, 0),
                         wrong(TypeError, "start_dim=1.5", (2, 3), 1.5)])
def _flatten(input: Array, start_dim: int = 0, end_dim: int = -1) -> Array:
    """:func:`flatten` of anything."""
    return joined("flatten", tensor("flatten", "input", input), start_dim, end_dim)


def flatten(input, start_dim=0, end_dim=-1):
    """Joins the dimensions from ``start_dim`` to ``end_dim``, both included, in C order.

    Parameters
    ----------
    input : array, any shape and dtype
    start_dim, end_dim : int
    """
    plain_array = type(input) is np.ndarray and input.dtype == np.float32 and current_graph() is None
    if plain_array and type(start_dim) is type(end_dim) is int:
        first, last = (d + input.ndim if d < 0 else d for d in (start_dim, end_dim))
        if 0 <= first <= last < input.ndim:
            shape = input.shape
            return np.array(input, order="C").reshape(*shape[:first], prod(shape[first:last + 1]), *shape[last + 1:])
    return _flatten(input, start_dim, end_dim)


flatten.record, Tensor.flatten = _flatten.record, flatten  # type: ignore[attr-defined, method-assign]


@function(method="ravel", samples=lambda: [sample((2, 3, 4)), sample(())])
def ravel(input: Array) -> Array:
    """All elements in one dimension."""
    return joined("ravel", tensor("ravel", "input", input), 0, -1)


@function(method="unflatten", samples=lambda: [sample((2, 6), 1, (3, 2)), sample((6, 2), 0, (-1, 2)),
                                               sample((4, 2), -2, (2, 2))],
          wrong=lambda: [wrong(ValueError, "sizes=(4, 2)", (2, 6), 1, (4, 2)),
                         wrong(ValueError, "sizes=(-1, -1)", (2, 6), 1, (-1, -1)),
                         wrong(ValueError, "sizes=()", (2, 6), 1, ())])
def unflatten(input: Array, dim: int, sizes: Sequence[int]) -> Array:
    """One dimension as several of these extents, of which one may be -1."""
    x = tensor("unflatten", "input", input)
    at_least("unflatten", x, 1)
    at, wanted, shape = dimension("unflatten", dim, x.ndim), integers("unflatten", "sizes", sizes), size_of(x)
    known = prod(w for w in wanted if w != -1)
    if not wanted or min(wanted) < -1 or wanted.count(-1) > 1 or \
            (known == 0 or shape[at] % known if -1 in wanted else known != shape[at]):
        fail("unflatten", f"sizes={tuple(wanted)}: expected extents whose product is {shape[at]}, dimension {at} of input "
                          f"of shape "
                          f"{shape}, one of them perhaps -1")
    wanted = [shape[at] // known if w == -1 else w for w in wanted]
    return apply("reshape", [x], shape=(*shape[:at], *wanted, *shape[at + 1:]), batch=at > 0 or wanted[0] == shape[0])
