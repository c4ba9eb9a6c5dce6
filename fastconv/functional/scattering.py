"""Reductions of what goes to one place."""

from __future__ import annotations

from math import prod

import numpy as np

from fastconv._values import shown
from fastconv.functional.indexing import along, as_line, check_along, check_source, extents, integers
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.functional.structure import broadcast_to, reshaped
from fastconv.graph.ir import Tensor, apply
from fastconv.ops.arguments import dimension, flag
from fastconv.ops.copy import cast
from fastconv.ops.map import broadcast_shape, fused
from fastconv.ops.scan import scanned
from fastconv.ops.views import tensor

__all__ = ["index_reduce", "masked_scatter", "scatter_reduce"]

HOW = {"sum": "add", "prod": "mul", "mean": "add", "amax": "max", "amin": "min"}


def neutral(reduce: str, dtype: str) -> np.ndarray:
    """What a reduction starts from where the input does not count."""
    if dtype == "float32":
        low, high = -np.inf, np.inf
    else:
        low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return np.array({"prod": 1, "amax": low, "amin": high}.get(reduce, 0)).astype(dtype)


def reduced(op: str, input: Tensor, source: Tensor, index: Tensor, maps: dict, reduce: str, include_self: bool) -> Tensor:
    if input.dtype == "bool" and reduce in ("sum", "mean", "prod"):
        fail(op, f"input has dtype bool: expected numbers for reduce={reduce!r}", TypeError)
    base = input if include_self else apply("scatter", [input, neutral(reduce, input.dtype), index], op="set", **maps)
    result = apply("scatter", [base, source, index], op=HOW[reduce], **maps)
    if reduce != "mean":
        return result
    one, layout = np.ones((), input.dtype), input.layout if input.batched else "flat"
    count = apply("scatter", [None, one, index], op="add", shape=extents(input), layout=layout, **maps)
    own = 1.0 if include_self else 0.0
    if input.dtype == "float32":
        return fused(lambda y, n: y / (n + own).maximum(1.0), result, count)
    return fused(lambda y, n: y.div_floor((n + own).maximum(1.0)), result, count, dtype=input.dtype)


@function(method="scatter_reduce",
          samples=lambda: [sample((4, 5), 1, integers(5, 4, 9), (4, 9), reduce=reduce, include_self=own)
                           for reduce in HOW for own in (True, False)]
          + [sample((4, 5, 2), 0, integers(4, 6, 5, 2), (6, 5, 2), reduce="amax")],
          wrong=lambda: [wrong(ValueError, "reduce='max'", (4, 5), 1, integers(5, 4, 3), (4, 3), "max"),
                         wrong(TypeError, "include_self=1", (4, 5), 1, integers(5, 4, 3), (4, 3), "sum", include_self=1)])
def scatter_reduce(input: Array, dim: int, index: Array, src: Array, reduce: str, *, include_self: bool = True) -> Array:
    """Values that go to one place, reduced with what is there.

    Parameters
    ----------
    input : array
    dim : int
    index, src : array
        As for :func:`scatter`.
    reduce : {"sum", "prod", "mean", "amax", "amin"}
        In the order of ``src``; NaN wins. Largest and smallest values share their gradient.
    include_self : bool
        Whether the input's own values count in places to which something goes.

    Raises
    ------
    IndexError, TypeError, ValueError
    """
    op = "scatter_reduce"
    input, index, src = tensor(op, "input", input), tensor(op, "index", index), tensor(op, "src", src)
    if not isinstance(reduce, str) or reduce not in HOW:
        fail(op, f"reduce={shown(reduce)}: expected one of {', '.join(HOW)}")
    dim = dimension(op, dim, input.ndim)
    check_source(op, input, src)
    maps = check_along(op, input, dim, index, src)
    return reduced(op, input, src, index, maps, reduce, flag(op, "include_self", include_self))


@function(samples=lambda: [sample((4, 5), 1, integers(5, 9), (4, 9), reduce, include_self=own)
                           for reduce in ("prod", "mean", "amax", "amin") for own in (True, False)],
          wrong=lambda: [wrong(ValueError, "reduce='sum'", (4, 5), 1, integers(5, 9), (4, 9), "sum"),
                         wrong(ValueError, "source of shape (4, 8)", (4, 5), 1, integers(5, 9), (4, 8), "prod")])
def index_reduce(input: Array, dim: int, index: Array, source: Array, reduce: str, *, include_self: bool = True) -> Array:
    """As :func:`scatter_reduce` for slices along ``dim``, with an index of one dimension; without "sum", which is
    :func:`index_add`."""
    op = "index_reduce"
    input, source = tensor(op, "input", input), tensor(op, "source", source)
    index = as_line(tensor(op, "index", index), op)
    if not isinstance(reduce, str) or reduce not in HOW or reduce == "sum":
        fail(op, f"reduce={shown(reduce)}: expected one of prod, mean, amax, amin")
    dim = dimension(op, dim, input.ndim)
    check_source(op, input, source, "source")
    if input.ndim == 0:  # one element
        inside = index_reduce.record.body  # type: ignore[attr-defined]
        one = inside(input.reshape(1), 0, index, source.reshape(-1), reduce, include_self=include_self)  # type: ignore[attr-defined]
        return one.reshape(())
    expected = (*extents(input)[:dim], extents(index)[0], *extents(input)[dim + 1:])
    if extents(source) != expected:
        fail(op, f"source of shape {extents(source)}: expected {expected}")
    maps = {**along(input.ndim, dim), "index_map": [dim]}
    return reduced(op, input, source, index, maps, reduce, flag(op, "include_self", include_self))


def _mask(*shape: int):
    return array(lambda generator: np.asarray(generator.random(shape) < 0.5))


@function(method="masked_scatter",
          samples=lambda: [sample((4, 5), _mask(4, 5), (20,)), sample((3, 4, 5), _mask(5), (6, 11)),
                           sample((1, 5), _mask(4, 5), (4, 5)), sample((), _mask(), (1,)), sample((0, 3), _mask(3), (0,))],
          wrong=lambda: [wrong(TypeError, "mask has dtype float32: expected bool", (4, 5), (4, 5), (20,)),
                         wrong(TypeError, "source has dtype int64", (4, 5), _mask(4, 5), integers(5, 20)),
                         wrong(ValueError, "dimension 1 is 5 and 4", (4, 5), _mask(4), (20,)),
                         wrong(IndexError, "place in source has the value", (3,),
                               array(lambda generator: np.ones(3, bool)), (1,)),
                         wrong(IndexError, "source is empty; mask has the value 1", (3,),
                               array(lambda generator: np.ones(3, bool)), (0,))])
def masked_scatter(input: Array, mask: Array, source: Array) -> Array:
    """The values of ``source``, in its order, where ``mask`` is true; elsewhere ``input``.

    Parameters
    ----------
    input : array
    mask : array of bool
        Broadcasts with ``input``.
    source : array of the input's dtype
        Any shape, at least as many values as the mask has true ones.

    Raises
    ------
    IndexError
        For fewer values in ``source``.
    TypeError, ValueError
    """
    op = "masked_scatter"
    input, mask, source = tensor(op, "input", input), tensor(op, "mask", mask), tensor(op, "source", source)
    if mask.dtype != "bool":
        fail(op, f"mask has dtype {mask.dtype}: expected bool", TypeError)
    if source.dtype != input.dtype:
        fail(op, f"source has dtype {source.dtype}: expected {input.dtype}, that of input", TypeError)
    shape = broadcast_shape(op, {"input": extents(input), "mask": extents(mask)})
    if not prod(shape):
        return broadcast_to(input, shape)
    where = reshaped(op, broadcast_to(mask, shape), (-1,))
    if prod(extents(source)):
        table, what = reshaped(op, source, (-1,)), "place in source"
        place = fused(lambda m, n: m.where(n - 1.0, 0.0), where, scanned("cumsum", where, 0), dtype="int64")
    else:
        table, what = input.graph.constant(np.zeros(1, input.dtype)), "source is empty; mask"
        place = cast(where, "int64")
    taken = apply("gather", [table, place], x_map=[None], index_map=[0], wrap=False, called=op, what=what)
    return fused(lambda m, a, b: m.where(a, b), mask, reshaped(op, taken, shape), input, dtype=input.dtype)
