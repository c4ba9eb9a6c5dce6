"""Indexing by arrays of integers and by masks, mixed with slices; elements in a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv._values import shown
from fastconv.functional.indexing import check_source, extents, integers
from fastconv.functional.record import Array, fail, function, sample, wrong
from fastconv.graph.ir import Tensor, apply
from fastconv.ops.arguments import flag
from fastconv.ops.select import refuse
from fastconv.ops.views import tensor

__all__ = ["index", "index_put", "put", "take"]


def expanded(op: str, key, rank: int) -> list:
    """A key as a list in which everything but None stands for one dimension: masks that are known as arrays of integers,
    slices for an ellipsis and for what is left out."""
    found: list = []
    for k in key if isinstance(key, (tuple, list)) else (key,):
        if isinstance(k, (list, range)) or isinstance(k, np.generic) and k.dtype == np.bool_:
            k = np.asarray(k)
        if isinstance(k, Tensor) and k.dtype == "bool":
            if k.value is None:
                refuse(op)
            k = k.value
        if isinstance(k, np.ndarray) and k.dtype == np.bool_:
            if k.ndim == 0:
                fail(op, f"index {shown(k)}: a mask without dimensions is not supported")
            found.extend(Mask(i, k.shape[d]) for d, i in enumerate(np.nonzero(k)))
        else:
            found.append(k)
    used = sum(k is not None and k is not Ellipsis for k in found)
    dots = [i for i, k in enumerate(found) if k is Ellipsis]
    if len(dots) > 1:
        fail(op, f"index {shown(key)}: an ellipsis may stand once", IndexError)
    if used > rank:
        fail(op, f"index {shown(key)}: {used} indices for {rank} dimensions", IndexError)
    at = dots[0] if dots else len(found)
    return [*found[:at], *[slice(None)] * (rank - used), *found[at + 1:]]


class Mask:
    """Where a mask is true along one of its dimensions."""

    def __init__(self, places: np.ndarray, extent: int):
        self.places, self.extent = places, extent


def addressing(op: str, x: Tensor, key) -> tuple[Tensor, list[Tensor], dict]:
    """What is left of a key: the view that its slices, integers and None give, the arrays of integers, their maps."""
    basic, arrays, axes = [], [], []
    at = 0  # the dimension of the view
    of = 0  # of x
    for k in expanded(op, key, x.ndim):
        if isinstance(k, Mask):
            if extents(x)[of] != k.extent:
                fail(op, f"a mask of {k.extent} elements in dimension {of} of input of shape {extents(x)}", IndexError)
            k = k.places
        if isinstance(k, (Tensor, np.ndarray)) and not (isinstance(k, np.ndarray) and k.ndim == 0):
            arrays.append(tensor(op, "index", k))
            axes.append(at)
            k = slice(None)
        basic.append(k.item() if isinstance(k, np.ndarray) else k)
        at += k is None or isinstance(k, slice)
        of += k is not None
    view = x if all(isinstance(k, slice) and k == slice(None) for k in basic) else x[tuple(basic)]  # type: ignore[index]
    together = all(b == a + 1 for a, b in zip(axes, axes[1:], strict=False))
    rank = max((a.ndim for a in arrays), default=0)
    first = axes[0] if arrays and together else 0
    x_map: list = [None if d in axes else d if d < first else d - sum(a < d for a in axes) + rank for d in range(view.ndim)]
    return view, arrays, {"x_map": x_map, "index_map": list(range(first, first + rank)), "wrap": True}


@function(name="index", samples=lambda: [sample((4, 5), [integers(4, 3, low=-4)]),
                                         sample((4, 5, 6), [None, integers(5, 2, 3)]),
                                         sample((4, 5, 6), [integers(4, 2, 1), None, integers(6, 3)]),
                                         sample((4, 5, 6), [integers(4, 2), integers(5, 3, 1)])],
          reference=lambda input, indices: input[tuple(slice(None) if i is None else i for i in indices)],
          wrong=lambda: [wrong(IndexError, "index has the value 4: expected -4 to 3", (4, 5), [integers(5, 3, low=4)]),
                         wrong(TypeError, "dtype float32", (4, 5), [(3,)]),
                         wrong(ValueError, "do not broadcast", (4, 5), [integers(4, 3), integers(4, 2)])])
def _index(input: Array, indices: Sequence[Array]) -> Array:
    x = tensor("index", "input", input)
    keys = indices if isinstance(indices, (tuple, list)) else (indices,)
    view, arrays, maps = addressing("index", x, [slice(None) if k is None else k for k in keys])
    return apply("gather", [view, *arrays], **maps) if arrays else view


def known(key):
    """A key whose masks are known, as integers."""
    if isinstance(key, (tuple, list)):
        mask = [isinstance(k, np.ndarray) and k.dtype == np.bool_ and k.ndim > 0 for k in key]
        return [i for k, is_mask in zip(key, mask, strict=True) for i in (np.nonzero(k) if is_mask else [k])]
    return known([key])


def index(input, indices):
    """Elements named by arrays of integers: ``input[indices]``, as PyTorch places the result's dimensions.

    Parameters
    ----------
    input : array
    indices : sequence
        Per dimension an array of integers (from the end below zero; they broadcast with one another), a mask (bool; of
        several dimensions for as many) or None for all of it. In ``x[...]`` of a symbolic tensor also integers, slices and
        an ellipsis, and None is there a new dimension.

    Returns
    -------
    array
        The dimensions of the arrays in the place of those they address, in front where these are apart.

    Raises
    ------
    IndexError, TypeError, ValueError
    """
    return _index(input, known(indices))


def indexed(x: Tensor, key) -> Tensor:
    """``x[key]`` of a symbolic tensor."""
    view, arrays, maps = addressing("getitem", x, key)
    return apply("gather", [view, *arrays], **maps) if arrays else view


@function(name="index_put", samples=lambda: [sample((4, 5), [integers(4, 7, low=-4)], (7, 5), accumulate=True),
                                             sample((4, 5, 6), [integers(4, 9), integers(5, 9)], (6,), True),
                                             sample((4, 5), [integers(4, 1), None], 2.5)],
          wrong=lambda: [wrong(ValueError, "values of shape (3,)", (4, 5), [integers(4, 7)], (3,)),
                         wrong(IndexError, "index has the value 4", (4, 5), [integers(5, 3, low=4)], (5,))],
          reference=lambda input, indices, values, accumulate=False: _put_by_numpy(input, indices, values, accumulate))
def _index_put(input: Array, indices: Sequence[Array], values: Array, accumulate: bool = False) -> Array:
    op = "index_put"
    x = tensor(op, "input", input)
    how = "add" if flag(op, "accumulate", accumulate) else "set"
    keys = indices if isinstance(indices, (tuple, list)) else (indices,)
    view, arrays, maps = addressing(op, x, [slice(None) if k is None else k for k in keys])
    if view is not x or not arrays:
        fail(op, "indices: expected arrays of integers, None or whole slices")
    if isinstance(values, (bool, int, float)):
        values = np.asarray(values).astype(x.dtype)
    values = tensor(op, "values", values)
    check_source(op, x, values, "values")
    shape = np.broadcast_shapes(*(extents(a) for a in arrays))
    where = [*(extents(x)[d] for d, place in enumerate(maps["x_map"]) if place is not None)]
    first = maps["index_map"][0] if maps["index_map"] else next(d for d, p in enumerate(maps["x_map"]) if p is None)
    expected = (*where[:first], *shape, *where[first:])
    pairs = zip(extents(values)[::-1], expected[::-1], strict=False)
    if values.ndim > len(expected) or any(a not in (1, b) for a, b in pairs):
        fail(op, f"values of shape {extents(values)} does not broadcast to {expected}, the shape of input[indices]")
    return apply("scatter", [x, values, *arrays], op=how, **maps)


def _put_by_numpy(input, indices, values, accumulate):
    result, key = input.copy(), tuple(slice(None) if i is None else i for i in indices)
    if accumulate:
        np.add.at(result, key, values)  # type: ignore[arg-type]
    else:
        result[key] = values
    return result


def index_put(input, indices, values, accumulate: bool = False):
    """A copy of ``input`` with ``values`` at the elements that ``indices`` name (see :func:`index`).

    Parameters
    ----------
    input : array
    indices : sequence
        Arrays of integers and masks; None for all of a dimension.
    values : array or float
        Of the input's dtype; broadcasts to the shape of ``input[indices]``.
    accumulate : bool
        Added to what is there, in order, also where several go to one place; else the last one stays.

    Raises
    ------
    IndexError, TypeError, ValueError
    """
    return _index_put(input, known(indices), values, accumulate)


@function(method="take", samples=lambda: [sample((4, 5), integers(20, 3, 2, low=-20)), sample((6,), integers(6, 4))],
          wrong=lambda: [wrong(IndexError, "index has the value 20: expected -20 to 19", (4, 5), integers(21, 3, low=20))])
def take(input: Array, index: Array) -> Array:
    """Elements of ``input`` as one row, row-major, that ``index`` (any shape, from the end below zero) names."""
    x, index = tensor("take", "input", input), tensor("take", "index", index)
    return apply("gather", [x.reshape(-1), index], x_map=[None], index_map=list(range(index.ndim)),  # type: ignore[attr-defined]
                 wrap=True)


@function(samples=lambda: [sample((4, 5), integers(20, 6, low=-20), (6,), accumulate=True),
                           sample((4, 5), integers(20, 1, 1), (1, 1))],
          wrong=lambda: [wrong(ValueError, "source of shape (5,)", (4, 5), integers(20, 6), (5,))])
def put(input: Array, index: Array, source: Array, accumulate: bool = False) -> Array:
    """A copy of ``input`` with ``source`` at the elements that ``index`` names as :func:`take` does: set, or added up."""
    op = "put"
    x, index, source = tensor(op, "input", input), tensor(op, "index", index), tensor(op, "source", source)
    check_source(op, x, source, "source")
    if np.prod(extents(source)) != np.prod(extents(index)):
        fail(op, f"source of shape {extents(source)}: expected as many elements as index of shape {extents(index)} has")
    how = "add" if flag(op, "accumulate", accumulate) else "set"
    flat = apply("scatter", [x.reshape(-1), source.reshape(-1), index.reshape(-1)], op=how,  # type: ignore[attr-defined]
                 x_map=[None], index_map=[0], wrap=True)
    return flat.reshape(x.shape)
