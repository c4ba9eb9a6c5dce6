"""Rows of tables in bags, and rows of zeros with a one."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._values import shown
from fastconv.engine.general import as_array
from fastconv.functional.indexing import embedding, extents, integers
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.graph.ir import Tensor, apply
from fastconv.ops.arguments import flag, integer
from fastconv.ops.map import fused
from fastconv.ops.views import tensor

__all__ = ["embedding_bag", "one_hot"]

MODES = ("sum", "mean", "max")


def bag_of(op: str, input: Tensor, offsets: Tensor, last: bool) -> tuple[Tensor, int]:
    """In which bag each position is, and how many bags there are."""
    bags = extents(offsets)[0] - last
    if bags < 0:
        fail(op, "offsets has no elements: expected one at least with include_last_offset=True")
    starts = offsets[:bags] if last else offsets
    places = np.arange(extents(input)[0])
    if offsets.dtype == "int32":
        places = places.astype(np.int32)
    behind = apply("searchsorted", [starts, tensor(op, "positions", places)], right=True)
    return fused(lambda b: b - 1.0, behind, dtype="int64"), bags


def bagged(op: str, rows: Tensor, valid: Tensor | None, index: Tensor, maps: dict, bags: tuple[int, ...],
           mode: str) -> Tensor:
    """Rows of values reduced into their bags; those that are not valid count nowhere, and an empty bag is 0."""
    layout = "dense" if rows.batched and maps["x_map"][0] == 0 else "flat"
    shape = (*bags, extents(rows)[-1])
    if mode == "max":
        lowest = rows if valid is None else fused(lambda r, v: v.where(r, -np.inf), rows, valid)
        start = tensor(op, "start", np.full(shape, -np.inf, np.float32))
        best = apply("scatter", [start, lowest, index], op="max", **maps)
        return fused(lambda b: b.eq(-np.inf).where(0.0, b), best)
    given = rows if valid is None else fused(lambda r, v: r * v, rows, valid)
    total = apply("scatter", [None, given, index], op="add", shape=shape, layout=layout, **maps)
    if mode == "sum":
        return total
    ones: Any = np.ones((extents(rows)[-2], 1), np.float32) if valid is None else valid
    count = apply("scatter", [None, ones, index], op="add", shape=(*bags, 1), layout=layout, **maps)
    return fused(lambda t, n: t / n.maximum(1.0), total, count)


@function(samples=lambda: [sample(integers(9, 4, 3), (9, 5), mode=mode) for mode in MODES] + [
              sample(integers(9, 7), (9, 5), array(lambda g: np.array([0, 2, 2, 5])), mode="sum"),
              sample(integers(9, 7), (9, 5), array(lambda g: np.array([0, 3, 7])), mode="mean", include_last_offset=True),
              sample(integers(9, 7), (9, 5), array(lambda g: np.array([0, 3])), mode="max", padding_idx=1),
              sample(integers(9, 4, 3), (9, 5), None, None, 2, False, "sum", False, (4, 3), False, 2)],
          wrong=lambda: [wrong(ValueError, "mode='min'", integers(9, 4, 3), (9, 5), mode="min"),
                         wrong(ValueError, "offsets", integers(9, 4, 3), (9, 5), array(lambda g: np.array([0, 2]))),
                         wrong(ValueError, "offsets", integers(9, 4), (9, 5)),
                         wrong(ValueError, "per_sample_weights", integers(9, 4, 3), (9, 5), per_sample_weights=(4, 3)),
                         wrong(IndexError, "input has the value 9", integers(10, 4, 3, low=9), (9, 5))])
def embedding_bag(input: Array, weight: Array, offsets: Array | None = None, max_norm: float | None = None,
                  norm_type: float = 2, scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
                  per_sample_weights: Array | None = None, include_last_offset: bool = False,
                  padding_idx: int | None = None) -> Array:
    """Sums, means or largest values of rows of a table, a bag of rows each.

    Parameters
    ----------
    input : array
        int64 or int32: (bags, rows), or one row after another with ``offsets``.
    weight : array
        float32, (rows, columns).
    offsets : array, optional
        int64 or int32: where each bag begins, from 0 on, ascending.
    max_norm, norm_type, scale_grad_by_freq, sparse
        As for :func:`embedding`.
    mode : {"mean", "sum", "max"}
    per_sample_weights : array, optional
        float32, of the input's shape: factors, for "sum" alone.
    include_last_offset : bool
        Whether the last offset is where the last bag ends.
    padding_idx : int, optional
        A row that counts nowhere.

    Returns
    -------
    array
        (bags, columns); 0 for a bag of nothing.

    Raises
    ------
    IndexError, TypeError, ValueError
    """
    op = "embedding_bag"
    input, weight = tensor(op, "input", input), tensor(op, "weight", weight)
    if mode not in MODES:
        fail(op, f"mode={shown(mode)}: expected one of {', '.join(MODES)}")
    last = flag(op, "include_last_offset", include_last_offset)
    if input.ndim not in (1, 2):
        fail(op, f"input of shape {extents(input)}: expected (bags, rows), or one dimension with offsets")
    if (offsets is None) != (input.ndim == 2):
        rule = "none" if input.ndim == 2 else "where each bag begins"
        fail(op, f"offsets: expected {rule} for input of shape {extents(input)}")
    rows = embedding.record.body(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq,  # type: ignore[attr-defined]
                                 sparse)
    valid: Any = None
    if per_sample_weights is not None:
        weights = tensor(op, "per_sample_weights", per_sample_weights)
        if mode != "sum":
            fail(op, f"per_sample_weights with mode={mode!r}: expected mode='sum'")
        if extents(weights) != extents(input):
            fail(op, f"per_sample_weights of shape {extents(weights)}: expected {extents(input)}, the shape of input")
        rows = rows * weights.unsqueeze(-1)  # type: ignore[attr-defined]
    if padding_idx is not None:
        padded = padding_idx % extents(weight)[0]
        valid = fused(lambda i: i.ne(float(padded)), input).unsqueeze(-1)
    if offsets is None:
        # all rows of a bag go to its one place
        maps: dict = {"x_map": [0, None, 2], "index_map": [], "checked": True, "own": True}
        found = bagged(op, rows, valid, tensor(op, "place", np.zeros((), np.int64)), maps, (extents(input)[0], 1), mode)
        return found.squeeze(1)  # type: ignore[attr-defined]
    starts = tensor(op, "offsets", offsets)
    if starts.ndim != 1 or starts.dtype not in ("int64", "int32"):
        fail(op, f"offsets of shape {extents(starts)} and dtype {starts.dtype}: expected one dimension of int64 or int32")
    bag, bags = bag_of(op, input, starts, last)
    return bagged(op, rows, valid, bag, {"x_map": [None, 1], "index_map": [0], "what": "offsets"}, (bags,), mode)


@function(name="one_hot", differentiable=False,
          samples=lambda: [sample(integers(5, 4, 3), 5), sample(integers(3, 6, dtype="int32"), 4)],
          wrong=lambda: [wrong(IndexError, "tensor has the value 5: expected 0 to 4", integers(6, 4, low=5), 5),
                         wrong(ValueError, "num_classes=0", integers(3, 6), 0)],
          reference=lambda tensor, num_classes=-1: np.eye(num_classes, dtype=np.int64)[tensor])
def _one_hot(tensor_: Array, num_classes: int) -> Array:
    op = "one_hot"
    index, classes = tensor(op, "tensor", tensor_), integer(op, "num_classes", num_classes)
    if classes < 1:
        fail(op, f"num_classes={classes}: expected at least 1" + (", as a graph is planned before it has values"
                                                                  if classes == -1 else ""))
    rank = index.ndim
    layout = "dense" if index.batched else "flat"
    return apply("scatter", [None, np.ones((), np.int64), index], op="set", what="tensor", x_map=[*range(rank), None],
                 index_map=list(range(rank)), shape=(*extents(index), classes), layout=layout)


def one_hot(tensor, num_classes: int = -1):
    """For each integer a row of zeros with a 1 in its place.

    Parameters
    ----------
    tensor : array
        Any shape, int64 or int32, from 0 on.
    num_classes : int, default -1
        How long the rows are; -1, of arrays: as the largest integer needs.

    Returns
    -------
    array
        int64, ``(*tensor.shape, num_classes)``.

    Raises
    ------
    IndexError, TypeError, ValueError
    """
    if num_classes == -1 and not isinstance(tensor, Tensor):
        tensor = as_array("one_hot", "tensor", tensor)
        if tensor.size and tensor.dtype.kind in "iu":
            num_classes = int(tensor.max()) + 1
    return _one_hot(tensor, num_classes)
