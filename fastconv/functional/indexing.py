"""What finds elements by integers, or puts them there."""

from __future__ import annotations

import numpy as np

from fastconv._values import shown
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.graph.ir import Tensor, apply
from fastconv.ops.arguments import dimension, flag, integer, number
from fastconv.ops.copy import cast
from fastconv.ops.map import fused
from fastconv.ops.reduce import reduced
from fastconv.ops.views import tensor

__all__ = ["embedding", "gather", "index_add", "index_copy", "index_fill", "index_select", "scatter",
           "scatter_add", "take_along_dim"]


def integers(high: int, *shape: int, low: int = 0, dtype: str = "int64"):
    """Of a sample: an array of indices."""
    return array(lambda generator: generator.integers(low, high, shape).astype(dtype))


def extents(value: Tensor) -> tuple[int, ...]:
    """The shape, without reading the batch for the user."""
    return value.type.shape


def along(rank: int, dim: int) -> dict:
    """The maps of an index with the table's dimensions, which addresses one of them."""
    rank = max(rank, 1)
    return {"x_map": [None if d == dim else d for d in range(rank)], "index_map": list(range(rank))}


def check_along(op: str, input: Tensor, dim: int, index: Tensor, source: Tensor | None = None) -> dict:
    """Refuses an index whose shape is not one that a gather or scatter along ``dim`` takes; the maps."""
    if max(index.ndim, 1) != max(input.ndim, 1) and not (op == "gather" and 0 in extents(index)):
        fail(op, f"index of shape {extents(index)} has {index.ndim} dimensions: expected {input.ndim}, as input of shape "
                 f"{extents(input)} has")
    if source is not None and max(source.ndim, 1) != max(index.ndim, 1):
        fail(op, f"src of shape {extents(source)} has {source.ndim} dimensions: expected {index.ndim}, as index has")
    empty = 0 in extents(index)
    for d, extent in enumerate(extents(index)):
        if d != dim and d < input.ndim and extent > extents(input)[d] and not empty:
            fail(op, f"index of shape {extents(index)} is larger than input of shape {extents(input)} in dimension {d}")
        if source is not None and source.ndim and extent > extents(source)[d]:
            fail(op, f"index of shape {extents(index)} is larger than src of shape {extents(source)} in dimension {d}")
    maps = along(input.ndim, dim)
    return maps if index.ndim else {**maps, "index_map": []}


def check_source(op: str, input: Tensor, source: Tensor, name: str = "src") -> None:
    if source.dtype != input.dtype:
        fail(op, f"{name} has dtype {source.dtype}: expected {input.dtype}, that of input", TypeError)


def scalar(op: str, name: str, value, dtype: str) -> np.ndarray:
    """A number as an array without dimensions of this dtype, to which it is converted."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, (bool, np.bool_)):
        value = number(op, name, value)
    return np.array(value).astype(dtype)


# ---- along a dimension --------------------------------------------------------------------------------------------------


@function(method="gather",
          samples=lambda: [sample((4, 5), 1, integers(5, 4, 3)), sample((3, 4, 5), -3, integers(3, 7, 4, 2)),
                           sample((6,), 0, integers(6, 9, dtype="int32")), sample((5, 3), 0, integers(5, 0, 3))],
          wrong=lambda: [wrong(ValueError, "has 1 dimensions: expected 2", (4, 5), 1, integers(5, 4)),
                         wrong(IndexError, "dim=2", (4, 5), 2, integers(5, 4, 3)),
                         wrong(IndexError, "index has the value 5: expected 0 to 4", (4, 5), 1, integers(6, 4, 3, low=5)),
                         wrong(IndexError, "index has the value -1", (4, 5), 1, integers(0, 4, 3, low=-1)),
                         wrong(ValueError, "larger than input", (4, 5), 1, integers(5, 6, 3)),
                         wrong(TypeError, "dtype float32: expected int64 or int32", (4, 5), 1, (4, 3))])
def gather(input: Array, dim: int, index: Array, *, sparse_grad: bool = False) -> Array:
    """The elements that ``index`` names along ``dim``: ``out[i, j] = input[i, index[i, j]]`` for ``dim=1``.

    Parameters
    ----------
    input : array
        Any shape and dtype.
    dim : int
    index : array
        int64 or int32, as many dimensions as the input, of at most its extents elsewhere than along ``dim``. From 0 on.
    sparse_grad : bool
        Gradients are always dense: it changes nothing.

    Returns
    -------
    array
        Of the index's shape and the input's dtype.

    Raises
    ------
    IndexError
        For an index outside of the dimension.
    TypeError, ValueError
        For an index of another dtype, or of a shape that does not fit.
    """
    input, index = tensor("gather", "input", input), tensor("gather", "index", index)
    if index.dtype == "uint8":
        index = cast(index, "int64")
    flag("gather", "sparse_grad", sparse_grad)
    dim = dimension("gather", dim, input.ndim)
    if index.ndim != input.ndim and 0 in extents(index):  # nothing, whatever its dimensions
        check_along("gather", input, dim, index)
        return tensor("gather", "nothing", np.zeros(extents(index), input.dtype))
    return apply("gather", [input, index], **check_along("gather", input, dim, index))


def scattered(op: str, how: str, input, dim, index, source) -> Array:
    """A scatter along a dimension, its arguments checked."""
    input, index = tensor(op, "input", input), tensor(op, "index", index)
    dim = dimension(op, dim, input.ndim)
    if not isinstance(source, np.ndarray) or source.ndim:
        source = tensor(op, "src", source)
        check_source(op, input, source)
        maps = check_along(op, input, dim, index, source)
    else:
        maps = check_along(op, input, dim, index)
    return apply("scatter", [input, source, index], op=how, **maps)


LEGACY = {None: "set", "add": "add", "multiply": "mul"}


@function(method="scatter",
          samples=lambda: [sample((4, 5), 1, array(lambda g: g.permuted([range(5)] * 4, axis=1)[:, :3]), (4, 3)),
                           sample((4, 5), 0, integers(4, 2, 5), 2.5)],
          wrong=lambda: [wrong(TypeError, "src has dtype int64", (4, 5), 1, integers(5, 4, 3), integers(5, 4, 3)),
                         wrong(ValueError, "reduce='mean'", (4, 5), 1, integers(5, 4, 3), (4, 3), reduce="mean"),
                         wrong(ValueError, "larger than src", (4, 5), 1, integers(5, 4, 3), (4, 2)),
                         wrong(IndexError, "index has the value 7", (4, 5), 1, integers(8, 4, 3, low=7), (4, 3))])
def scatter(input: Array, dim: int, index: Array, src: Array | None = None, value: float | None = None, *,
            reduce: str | None = None) -> Array:
    """A copy of ``input`` with ``out[i, index[i, j]] = src[i, j]`` for ``dim=1``; of several for a place the last stays.

    Parameters
    ----------
    input : array
    dim : int
    index : array
        int64 or int32, of at most the extents of ``src``, and of the input elsewhere than along ``dim``.
    src : array or float
        Of the input's dtype; a number goes to all places.
    value : float, optional
        In the place of ``src``.
    reduce : {None, "add", "multiply"}
        What is done with what is there; in order.

    Raises
    ------
    IndexError, TypeError, ValueError
        As for :func:`gather`.
    """
    op = "scatter"
    if (src is None) == (value is None):
        fail(op, "expected either src or value", TypeError)
    if reduce not in LEGACY:
        fail(op, f"reduce={shown(reduce)}: expected None, 'add' or 'multiply'")
    if value is not None or isinstance(src, (bool, int, float)):
        dtype = tensor(op, "input", input).dtype
        src = scalar(op, "value" if value is not None else "src", src if value is None else value, dtype)
    return scattered(op, LEGACY[reduce], input, dim, index, src)


@function(method="scatter_add",
          samples=lambda: [sample((4, 5), 1, integers(5, 4, 9), (4, 9)), sample((4, 5), 0, integers(4, 6, 3), (6, 3)),
                           sample((3,), 0, integers(3, 50, dtype="int32"), (50,))],
          wrong=lambda: [wrong(ValueError, "src of shape (4,) has 1 dimensions", (4, 5), 1, integers(5, 4, 3), (4,))])
def scatter_add(input: Array, dim: int, index: Array, src: Array) -> Array:
    """A copy of ``input`` with ``out[i, index[i, j]] += src[i, j]`` for ``dim=1``, added in the order of ``src``: the same
    bits for any number of threads. Arguments and errors as for :func:`scatter`."""
    return scattered("scatter_add", "add", input, dim, index, src)


@function(method="take_along_dim",
          samples=lambda: [sample((4, 5), integers(5, 4, 3, low=-5), 1), sample((4, 1, 6), integers(6, 1, 5, 2), 2),
                           sample((4, 5), integers(4, 2, 1), 0)],
          wrong=lambda: [wrong(ValueError, "has 1 dimensions", (4, 5), integers(5, 4), 1),
                         wrong(IndexError, "index has the value 5: expected -5 to 4", (4, 5), integers(6, 4, 3, low=5), 1)])
def take_along_dim(input: Array, indices: Array, dim: int | None = None) -> Array:
    """As :func:`gather`, with input and indices broadcast elsewhere than along ``dim``, and indices from the end below zero;
    ``dim=None`` takes from all elements in a row."""
    op = "take_along_dim"
    input, indices = tensor(op, "input", input), tensor(op, "indices", indices)
    if dim is None:
        return apply("gather", [input.reshape(-1), indices.reshape(-1)], **along(1, 0),
                     wrap=True)  # type: ignore[attr-defined]
    dim = dimension(op, dim, input.ndim)
    if indices.ndim != input.ndim:
        fail(op, f"indices of shape {extents(indices)} has {indices.ndim} dimensions: expected {input.ndim}, as input has")
    for d, (a, b) in enumerate(zip(extents(input), extents(indices), strict=True)):
        if d != dim and a != b and 1 not in (a, b):
            fail(op, f"indices of shape {extents(indices)} does not broadcast with input of shape {extents(input)} in "
                     f"dimension {d}")
    pairs = enumerate(zip(extents(input), extents(indices), strict=True))
    repeated = [None if d == dim else a if b == 1 else b for d, (a, b) in pairs]
    return apply("gather", [input, indices], **along(input.ndim, dim), wrap=True, extents=repeated)


# ---- an index of one dimension ------------------------------------------------------------------------------------------


@function(method="index_select",
          samples=lambda: [sample((4, 5), 1, integers(5, 7)), sample((3, 4, 5), 0, integers(3, 2, dtype="int32")),
                           sample((6,), 0, integers(6, 0))],
          wrong=lambda: [wrong(ValueError, "has 2 dimensions: expected at most 1", (4, 5), 1, integers(5, 4, 3)),
                         wrong(IndexError, "index has the value -1: expected 0 to 4", (4, 5), 1, integers(0, 4, low=-1))])
def index_select(input: Array, dim: int, index: Array) -> Array:
    """The slices of ``input`` along ``dim`` that ``index`` (int64 or int32, one dimension, from 0 on) names, in order."""
    op = "index_select"
    input, index = tensor(op, "input", input), as_line(tensor(op, "index", index), op)
    dim = dimension(op, dim, input.ndim)
    if input.ndim == 0:
        if extents(index) != (1,):
            fail(op, f"index of shape {extents(index)}: expected (1,), as input has no dimensions")
        return apply("gather", [input, index[0]], x_map=[None], index_map=[])
    return apply("gather", [input, index], **along(input.ndim, dim) | {"index_map": [dim]})


def as_line(index: Tensor, op: str) -> Tensor:
    """An index of one dimension; a scalar becomes one of one element."""
    if index.ndim > 1:
        fail(op, f"index of shape {extents(index)} has {index.ndim} dimensions: expected at most 1")
    return index if index.ndim else index.reshape(1)


def indexed(op: str, how: str, input, dim, index, source, name: str) -> Array:
    """Slices of ``source`` put to those of ``input`` that an index of one dimension names."""
    input, index = tensor(op, "input", input), as_line(tensor(op, "index", index), op)
    dim = dimension(op, dim, input.ndim)
    maps = {**along(input.ndim, dim), "index_map": [dim]}
    if isinstance(source, np.ndarray):
        return apply("scatter", [input, source, index], op=how, **maps, wrap=op == "index_fill")
    source = tensor(op, name, source)
    check_source(op, input, source, name)
    if input.ndim == 0:  # one element
        return indexed(op, how, input.reshape(1), 0, index, source.reshape(-1), name).reshape(())  # type: ignore[attr-defined]
    if source.ndim == 0 and index.type.shape == (1,) and input.ndim == 1:
        source = source.reshape(1)  # type: ignore[attr-defined]
    expected = (*extents(input)[:dim], extents(index)[0], *extents(input)[dim + 1:])
    if extents(source) != expected:
        fail(op, f"{name} of shape {extents(source)}: expected {expected}, an index of {extents(index)[0]} elements in "
                 f"dimension {dim} of input of shape {extents(input)}")
    return apply("scatter", [input, source, index], op=how, **maps)


@function(method="index_add",
          samples=lambda: [sample((4, 5), 1, integers(5, 9), (4, 9)), sample((4, 5, 3), 0, integers(4, 6), (6, 5, 3)),
                           sample((4, 5), 0, integers(4, 2), (2, 5), alpha=-0.5)],
          wrong=lambda: [wrong(ValueError, "source of shape (4, 8): expected (4, 9)", (4, 5), 1, integers(5, 9), (4, 8)),
                         wrong(IndexError, "index has the value 5", (4, 5), 1, integers(6, 9, low=5), (4, 9)),
                         wrong(TypeError, "alpha='a'", (4, 5), 1, integers(5, 9), (4, 9), alpha="a")])
def index_add(input: Array, dim: int, index: Array, source: Array, *, alpha: float = 1) -> Array:
    """A copy of ``input`` to whose slices along ``dim`` that ``index`` names ``alpha * source``'s are added, in order.

    Parameters
    ----------
    input : array
    dim : int
    index : array
        int64 or int32, one dimension, from 0 on.
    source : array
        Of the input's dtype and shape but along ``dim``, where it is as long as the index.
    alpha : float

    Raises
    ------
    IndexError, TypeError, ValueError
    """
    alpha = number("index_add", "alpha", alpha)
    if alpha != 1:
        source = tensor("index_add", "source", source) * alpha
    return indexed("index_add", "add", input, dim, index, source, "source")


@function(method="index_copy",
          samples=lambda: [sample((4, 5), 1, array(lambda g: g.permutation(5)[:3]), (4, 3)),
                           sample((4, 5), 0, array(lambda g: g.permutation(4)), (4, 5))],
          wrong=lambda: [wrong(ValueError, "source of shape (4, 8): expected (4, 9)", (4, 5), 1, integers(5, 9), (4, 8))])
def index_copy(input: Array, dim: int, index: Array, source: Array) -> Array:
    """A copy of ``input`` whose slices along ``dim`` that ``index`` names are those of ``source``; of several for one place
    the last one stays. Arguments and errors as for :func:`index_add`."""
    return indexed("index_copy", "set", input, dim, index, source, "source")


@function(method="index_fill",
          samples=lambda: [sample((4, 5), 1, integers(5, 3, low=-5), 2.5), sample((4, 5), 0, integers(4, 1), -1)],
          wrong=lambda: [wrong(TypeError, "value='a'", (4, 5), 1, integers(5, 3), "a"),
                         wrong(IndexError, "index has the value -6", (4, 5), 1, integers(-5, 3, low=-6), 1.0)])
def index_fill(input: Array, dim: int, index: Array, value: float) -> Array:
    """A copy of ``input`` whose slices along ``dim`` that ``index`` (one dimension, from the end below zero) names are
    ``value``."""
    input = tensor("index_fill", "input", input)
    if isinstance(value, Tensor):
        if value.ndim:
            fail("index_fill", f"value of shape {extents(value)}: expected a number or no dimensions")
        check_source("index_fill", input, value, "value")
        index = as_line(tensor("index_fill", "index", index), "index_fill")
        dim = dimension("index_fill", dim, input.ndim)
        return apply("scatter", [input, value, index], op="set", wrap=True, **{**along(input.ndim, dim), "index_map": [dim]})
    return indexed("index_fill", "set", input, dim, index, scalar("index_fill", "value", value, input.dtype), "value")


# ---- tables of rows -----------------------------------------------------------------------------------------------------


@function(samples=lambda: [sample(integers(9, 4, 3), (9, 5)), sample(integers(9, 7, dtype="int32"), (9, 5), padding_idx=-2),
                           sample(integers(4, 2, 3, 2), (4, 1), 0)],
          wrong=lambda: [wrong(ValueError, "weight of shape (9,)", integers(9, 4), (9,)),
                         wrong(ValueError, "padding_idx=9", integers(9, 4), (9, 5), 9),
                         wrong(TypeError, "max_norm='a'", integers(9, 4), (9, 5), None, "a"),
                         wrong(IndexError, "input has the value 9: expected 0 to 8", integers(10, 4, low=9), (9, 5)),
                         wrong(TypeError, "input has dtype float32", (4,), (9, 5))])
def embedding(input: Array, weight: Array, padding_idx: int | None = None, max_norm: float | None = None,
              norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False) -> Array:
    """Rows of a table: ``weight[input]``.

    Parameters
    ----------
    input : array
        Any shape, int64 or int32, from 0 on.
    weight : array
        float32, (rows, columns).
    padding_idx : int, optional
        A row, from the end below zero, whose gradient is 0.
    max_norm : float, optional
        Rows whose norm of order ``norm_type`` is larger are scaled to it as they are read; PyTorch changes the table, too.
    norm_type : float
    scale_grad_by_freq : bool
        Gradients of a row divided by how often it is read.
    sparse : bool
        Gradients are always dense: it changes nothing.

    Returns
    -------
    array
        ``(*input.shape, columns)``.

    Raises
    ------
    IndexError
        For an index outside of the table.
    TypeError, ValueError
    """
    op = "embedding"
    input, weight = tensor(op, "input", input), tensor(op, "weight", weight)
    if weight.ndim != 2:
        fail(op, f"weight of shape {extents(weight)}: expected (rows, columns)")
    flag(op, "sparse", sparse)
    rows = extents(weight)[0]
    attrs: dict = {"what": "input"}
    if padding_idx is not None:
        padding_idx = integer(op, "padding_idx", padding_idx)
        if not -rows <= padding_idx < rows:
            fail(op, f"padding_idx={padding_idx}: expected {-rows} to {rows - 1}, a row of weight")
        attrs["skip"] = padding_idx % rows
    if flag(op, "scale_grad_by_freq", scale_grad_by_freq):
        attrs["scaled"] = True
    rows = apply("gather", [weight, input], x_map=[None, input.ndim], index_map=list(range(input.ndim)), **attrs)
    if max_norm is None:
        return rows
    return bounded(op, rows, number(op, "max_norm", max_norm), number(op, "norm_type", norm_type))


def bounded(op: str, rows: Tensor, most: float, p: float) -> Tensor:
    """Rows of a norm of at most ``most``; gradients pass as if they had been so."""
    if p <= 0:
        fail(op, f"norm_type={p}: expected more than 0")
    power = fused(lambda r: r.abs() if p == np.inf else r.abs().pow(p), rows)
    norm = reduced("max" if p == np.inf else "sum", power, [rows.ndim - 1], True)
    root = 1.0 if p == np.inf else 1.0 / p

    def moved(r, n):
        n = n.pow(root)
        return r * (n > float(most)).where(float(most) / (n + 1e-7) - 1.0, 0.0)

    return rows + apply("detach", [fused(moved, rows, norm)])
