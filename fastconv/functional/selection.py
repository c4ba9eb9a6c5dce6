"""Values in order: sorting, the largest few, medians, modes, places in ascending lines. NaN is the largest of all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastconv._values import shown
from fastconv.functional.indexing import extents
from fastconv.functional.parametric import lerp
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.graph.ir import Tensor, apply
from fastconv.ops.arguments import dimension, flag, integer
from fastconv.ops.map import fused
from fastconv.ops.reduce import reduced
from fastconv.ops.views import tensor

__all__ = ["argsort", "bucketize", "kthvalue", "median", "mode", "msort", "nanmedian", "nanquantile", "quantile",
           "searchsorted", "sort", "topk"]


class Selected(NamedTuple):
    """Values, and where along the dimension they were (int64)."""

    values: Array
    indices: Array


def different(*shape: int):
    """Of a sample: values that are all different, so that there is one order."""
    return array(lambda g: g.permutation(int(np.prod(shape))).reshape(shape).astype(np.float32))


def in_order(op: str, what: str, input, dim, **attrs) -> Selected:
    input = tensor(op, "input", input)
    dim = dimension(op, dim, input.ndim)
    return Selected(*apply("sort", [input], what=what, dim=dim, **attrs))


@function(method="sort",
          samples=lambda: [sample(different(3, 7)), sample(different(5, 4, 3), 0, True), sample((3, 60), 1)],
          wrong=lambda: [wrong(IndexError, "dim=2: expected -2 to 1", (3, 4), 2),
                         wrong(TypeError, "descending=1", (3, 4), 0, 1), wrong(TypeError, "dim=0.5", (3, 4), 0.5)])
def sort(input: Array, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Selected:
    """The values of each line along ``dim`` in order.

    Parameters
    ----------
    input : array
        Any shape and dtype.
    dim : int
    descending : bool
        The largest first: NaN.
    stable : bool
        Equal values always stay in the order in which they lie.

    Returns
    -------
    values, indices
        Of the input's shape; indices are int64.

    Raises
    ------
    IndexError, TypeError
    """
    flag("sort", "stable", False if stable is None else stable)
    return in_order("sort", "sort", input, dim, descending=flag("sort", "descending", descending))


@function(method="argsort", differentiable=False,
          samples=lambda: [sample(different(3, 7)), sample(different(3, 7), 0, True)])
def argsort(input: Array, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Array:
    """The indices of :func:`sort`."""
    flag("argsort", "stable", stable)
    return in_order("argsort", "sort", input, dim, descending=flag("argsort", "descending", descending)).indices


@function(method="msort", samples=lambda: [sample(different(5, 3)), sample(different(6))],
          wrong=lambda: [wrong(ValueError, "no dimensions", array(lambda g: np.float32(1)))])
def msort(input: Array) -> Array:
    """The values in order along the first dimension."""
    input = tensor("msort", "input", input)
    if input.ndim == 0:
        fail("msort", "input has no dimensions: expected one at least")
    return in_order("msort", "sort", input, 0).values


@function(method="topk",
          samples=lambda: [sample(different(3, 7), 2), sample(different(40, 3), 2, 0, False), sample(different(5), 5),
                           sample(different(3, 100), 9), sample(different(3, 4), 0)],
          wrong=lambda: [wrong(ValueError, "k=8: expected 0 to 7", (3, 7), 8), wrong(ValueError, "k=-1", (3, 7), -1),
                         wrong(TypeError, "k=1.5", (3, 7), 1.5), wrong(IndexError, "dim=2", (3, 7), 1, 2)])
def topk(input: Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Selected:
    """The ``k`` largest values of each line along ``dim``, or the smallest, in order; of equal ones those that lie first.

    Parameters
    ----------
    input : array
    k : int
        Between 0 and the line's length.
    dim : int
    largest : bool
    sorted : bool
        They are in any case.

    Returns
    -------
    values, indices
        ``k`` along ``dim``; indices are int64.

    Raises
    ------
    IndexError, TypeError, ValueError
    """
    op = "topk"
    input, k = tensor(op, "input", input), integer(op, "k", k)
    dim = dimension(op, dim, input.ndim)
    flag(op, "sorted", sorted)
    length = extents(input)[dim] if input.ndim else 1
    if not 0 <= k <= length:
        fail(op, f"k={k}: expected 0 to {length}, the elements in dimension {dim} of input of shape {extents(input)}")
    if input.ndim == 0:
        return in_order(op, "sort", input, dim)
    return in_order(op, "topk", input, dim, count=k, descending=flag(op, "largest", largest))


def one_of(op: str, what: str, input: Tensor, dim, keepdim, **attrs) -> Selected:
    keep, dim = flag(op, "keepdim", keepdim), dimension(op, dim, input.ndim)
    if input.ndim and extents(input)[dim] == 0:
        fail(op, f"input of shape {extents(input)} has no elements in dimension {dim}", IndexError)
    return in_order(op, what, input, dim, keepdim=keep, **attrs)


@function(method="kthvalue",
          samples=lambda: [sample(different(3, 7), 2), sample(different(5, 4), 5, 0, True), sample(different(6), 1)],
          wrong=lambda: [wrong(ValueError, "k=0: expected 1 to 7", (3, 7), 0), wrong(ValueError, "k=8", (3, 7), 8)])
def kthvalue(input: Array, k: int, dim: int = -1, keepdim: bool = False) -> Selected:
    """The ``k``-th smallest value of each line along ``dim``, counted from 1, and where it was."""
    op = "kthvalue"
    input, k = tensor(op, "input", input), integer(op, "k", k)
    at = dimension(op, dim, input.ndim)
    length = extents(input)[at] if input.ndim else 1
    if not 1 <= k <= length:
        fail(op, f"k={k}: expected 1 to {length}, the elements in dimension {at} of input of shape {extents(input)}")
    return one_of(op, "kth", input, dim, keepdim, k=k - 1)


def middle(op: str, input, dim, keepdim) -> Array | Selected:
    input = tensor(op, "input", input)
    if dim is not None:
        return one_of(op, op, input, dim, keepdim)
    if flag(op, "keepdim", keepdim):
        fail(op, "keepdim=True: expected a dim")
    if 0 in extents(input):  # of nothing
        return tensor(op, "input", np.full((), np.nan, np.float32))
    return one_of(op, op, input.reshape(-1), 0, False).values


@function(method="median",
          samples=lambda: [sample(different(3, 6), 1), sample(different(5, 4), 0, True)],
          wrong=lambda: [wrong(IndexError, "dim=2", (3, 7), 2)])
def median(input: Array, dim: int | None = None, keepdim: bool = False) -> Selected:
    """The median of each line along ``dim``, of an even number the lower one, and where it was; without ``dim`` that of all
    values, and no index. A line with NaN gives the first NaN."""
    return middle("median", input, dim, keepdim)


@function(method="nanmedian",
          samples=lambda: [sample(different(3, 6), 1),
                           sample(array(lambda g: np.array([[3, np.nan, 1, 2], [np.nan, 5, 4, 6]], np.float32)), 1, True)])
def nanmedian(input: Array, dim: int | None = None, keepdim: bool = False) -> Selected:
    """As :func:`median`, of those values that are not NaN."""
    return middle("nanmedian", input, dim, keepdim)


@function(samples=lambda: [sample(array(lambda g: np.array([[3, 1, 1, 2, 3, 1], [5, 5, 4, 4, 4, 0]], np.float32))),
                           sample(array(lambda g: np.array([[3, 1], [2, 1], [3, 1]], np.float32)), 0, True)],
          wrong=lambda: [wrong(IndexError, "no elements in dimension 1", (3, 0))])
def mode(input: Array, dim: int = -1, keepdim: bool = False) -> Selected:
    """The most frequent value of each line along ``dim``, of equally frequent ones the smallest, and where it was last."""
    return one_of("mode", "mode", tensor("mode", "input", input), dim, keepdim)


# ---- quantiles ----------------------------------------------------------------------------------------------------------

INTERPOLATIONS = ("linear", "lower", "higher", "nearest", "midpoint")


def quantiles(op: str, input, q, dim, keepdim, interpolation, ignore_nan: bool) -> Tensor:
    """Between two neighbours of the sorted values of each line; a line with NaN gives NaN, unless they are ignored."""
    x = tensor(op, "input", input)
    if x.dtype != "float32":
        fail(op, f"input has dtype {x.dtype}: expected float32", TypeError)
    if interpolation not in INTERPOLATIONS:
        fail(op, f"interpolation={shown(interpolation)}: expected one of {', '.join(INTERPOLATIONS)}")
    keep, rank = flag(op, "keepdim", keepdim), x.ndim
    several = not isinstance(q, (int, float)) and getattr(q, "ndim", 0) == 1
    at = tensor(op, "q", np.float32(q) if isinstance(q, (int, float)) else q)
    if at.dtype != "float32" or at.ndim > 1:
        fail(op, f"q of shape {extents(at)} and dtype {at.dtype}: expected float32, a number or one dimension")
    if at.value is not None and not ((at.value >= 0) & (at.value <= 1)).all():
        fail(op, f"q={shown(q)}: expected 0 to 1")
    axis = None if dim is None else dimension(op, dim, rank)
    x = x.reshape(-1) if axis is None or rank == 0 else x  # type: ignore[attr-defined]
    line = 0 if axis is None or rank == 0 else axis
    if 0 in extents(x):
        fail(op, f"input of shape {extents(x)} has no elements")
    length = extents(x)[line]
    ordered = in_order(op, "sort", x.transpose(line, -1), -1).values  # type: ignore[attr-defined]
    at = at.reshape(-1)  # type: ignore[attr-defined]
    nan = fused(lambda v: v.isnan(), ordered)
    missing = reduced("sum", nan, [ordered.ndim - 1], True)
    top = length - 1.0
    last = fused(lambda n: (top - n).maximum(0.0) if ignore_nan else n * 0.0 + top, missing)
    place = last * at  # (..., q)
    if not ignore_nan:  # where there is one, it is the last
        place = fused(lambda p, n: (n > 0.0).where(top, p), place, missing)
    kinds = {"lower": lambda p: p.floor(), "higher": lambda p: p.ceil(), "nearest": lambda p: p.round()}
    maps = {"x_map": [*range(ordered.ndim - 1), None], "index_map": list(range(ordered.ndim)), "checked": True}

    def value(function) -> Tensor:
        return apply("gather", [ordered, fused(function, place, dtype="int64")], **maps)

    if interpolation in kinds:
        found = value(kinds[interpolation])
    else:
        low, high = value(lambda p: p.floor()), value(lambda p: p.ceil())
        linear = interpolation == "linear"
        share = fused(lambda p: p - p.floor() if linear else p.floor().eq(p).where(0.0, 0.5), place)
        found = lerp(low, high, share)
    found = found.transpose(line, -1)  # type: ignore[attr-defined]
    found = found.unsqueeze(0).transpose(0, line + 1)  # the quantiles in front
    if not keep:
        found = found.squeeze(line + 1)
    elif axis is None:
        found = found.reshape(extents(found)[0], *(1,) * rank)
    if rank == 0 and keep:
        found = found.reshape(extents(found)[0])
    return found if several else found.squeeze(0)


QUANTILES = [(3, 7), 0.3], [(4, 5), array(lambda g: np.array([0.0, 0.25, 1.0], np.float32)), 1], [(4, 5), 0.6, 0, True]


def _quantile(name: str, ignore: bool, text: str):
    def body(input: Array, q: Array, dim: int | None = None, keepdim: bool = False, *,
             interpolation: str = "linear") -> Array:
        return quantiles(name, input, q, dim, keepdim, interpolation, ignore)

    body.__name__ = body.__qualname__ = name
    body.__doc__ = f"""{text}

    Parameters
    ----------
    input : array, float32
    q : float, or array of one dimension
        From 0 to 1; several are the first dimension of the result.
    dim : int, optional
        Default all values.
    keepdim : bool
    interpolation : {{"linear", "lower", "higher", "nearest", "midpoint"}}
        What is between two values.

    Raises
    ------
    IndexError, TypeError, ValueError
    """
    return function(name=name, method=name, samples=lambda: [sample(*each) for each in QUANTILES] + [
                        sample((3, 6), 0.35, 1, interpolation=kind) for kind in INTERPOLATIONS],
                    wrong=lambda: [wrong(ValueError, "interpolation='up'", (3, 4), 0.5, interpolation="up"),
                                   wrong(ValueError, "q=1.5", (3, 4), 1.5)])(body)


quantile = _quantile("quantile", False, "The value below which a share ``q`` of each line lies; NaN for a line with NaN.")
nanquantile = _quantile("nanquantile", True, "As :func:`quantile`, of the values that are not NaN.")


# ---- places in lines ----------------------------------------------------------------------------------------------------


def ascending(*shape: int):
    """Of a sample: lines in order."""
    return array(lambda g: np.sort(g.standard_normal(shape).astype(np.float32), -1))


@function(differentiable=False,
          samples=lambda: [sample(ascending(9), (4, 5)), sample(ascending(3, 9), (3, 7), right=True),
                           sample(array(lambda g: np.arange(0, 20, 2)), array(lambda g: g.integers(-3, 23, 9)),
                                  out_int32=True)],
          wrong=lambda: [wrong(ValueError, "sorted_sequence of shape (3, 9)", ascending(3, 9), (4, 7)),
                         wrong(TypeError, "input has dtype float32", array(lambda g: np.arange(4)), (4,)),
                         wrong(ValueError, "side='up'", ascending(9), (4,), side="up"),
                         wrong(ValueError, "side='left'", ascending(9), (4,), side="left", right=True)])
def searchsorted(sorted_sequence: Array, input: Array, *, out_int32: bool = False, right: bool = False,
                 side: str | None = None, sorter: Array | None = None) -> Array:
    """Where each value belongs in its ascending line: the first element that is not less, or (``right``) that is greater.

    Parameters
    ----------
    sorted_sequence : array
        One line for all values, or one for each line of the input: the same dimensions but the last.
    input : array or float
        Of the same dtype.
    out_int32 : bool
        Result in int32, not int64.
    right : bool
    side : {"left", "right"}, optional
        The same in NumPy's words.
    sorter : array, optional
        int64, of the sequence's shape: positions by which it ascends.

    Returns
    -------
    array
        Of the input's shape.

    Raises
    ------
    TypeError, ValueError
    """
    op = "searchsorted"
    lines, values = tensor(op, "sorted_sequence", sorted_sequence), tensor(op, "input", input)
    if values.value is not None and values.ndim == 0 and values.dtype != lines.dtype and isinstance(input, (int, float)):
        values = tensor(op, "input", np.asarray(input).astype(lines.dtype))
    if values.dtype != lines.dtype:
        fail(op, f"input has dtype {values.dtype}: expected {lines.dtype}, that of sorted_sequence", TypeError)
    if lines.ndim == 0 or lines.ndim > 1 and extents(lines)[:-1] != extents(values)[:-1]:
        fail(op, f"sorted_sequence of shape {extents(lines)}: expected one dimension, or those of input of shape "
                 f"{extents(values)} but the last")
    right = flag(op, "right", right)
    if side not in (None, "left", "right"):
        fail(op, f"side={shown(side)}: expected 'left' or 'right'")
    if side == "left" and right:
        fail(op, "side='left' and right=True contradict one another")
    inputs = [lines, values]
    if sorter is not None:
        inputs.append(tensor(op, "sorter", sorter))
        if inputs[2].dtype != "int64":
            fail(op, f"sorter has dtype {inputs[2].dtype}: expected int64", TypeError)
        if extents(inputs[2]) != extents(lines):
            fail(op, f"sorter of shape {extents(inputs[2])}: expected {extents(lines)}, the shape of sorted_sequence")
    return apply("searchsorted", inputs, right=right or side == "right", out_int32=flag(op, "out_int32", out_int32))


@function(differentiable=False, samples=lambda: [sample((4, 5), ascending(9)), sample((3,), ascending(4), right=True)],
          wrong=lambda: [wrong(ValueError, "boundaries of shape (2, 4)", (3,), ascending(2, 4))])
def bucketize(input: Array, boundaries: Array, *, out_int32: bool = False, right: bool = False) -> Array:
    """Between which of the ascending ``boundaries`` (one dimension) each value lies; as :func:`searchsorted` says."""
    boundaries = tensor("bucketize", "boundaries", boundaries)
    if boundaries.ndim != 1:
        fail("bucketize", f"boundaries of shape {extents(boundaries)}: expected one dimension")
    return searchsorted.record.body(boundaries, input, out_int32=out_int32, right=right)  # type: ignore[attr-defined]
