"""Functions whose results are as large as values say: of arrays only, as a graph is planned before it has values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from fastconv.engine.general import as_array
from fastconv.graph.ir import Tensor, current_graph, fail, showing
from fastconv.kernels import select as kernels
from fastconv.kernels._runtime import StepList
from fastconv.kernels.threads import threads_for
from fastconv.ops.arguments import dimension, flag, integer, number
from fastconv.ops.select import refuse

__all__ = ["batched_nms", "bincount", "histc", "isin", "masked_select", "nms", "nonzero", "unique", "unique_consecutive"]
Body = TypeVar("Body", bound=Callable)


def of_arrays(body: Body) -> Body:
    """A function that refuses to be traced."""

    @functools.wraps(body)
    def call(*args, **kwargs):
        with showing(body.__name__):
            if current_graph() is not None or any(isinstance(v, Tensor) for v in (*args, *kwargs.values())):
                refuse(body.__name__)
            return body(*args, **kwargs)

    return call  # type: ignore[return-value]


@of_arrays
def nonzero(input, *, as_tuple: bool = False):
    """Where values are not 0, in row-major order.

    Parameters
    ----------
    input : array
        Any shape and dtype. NaN is not 0.
    as_tuple : bool, default False
        An array per dimension, not a row per element; a scalar then counts as one dimension.

    Returns
    -------
    array or tuple of arrays
        int64, (elements, dimensions).
    """
    input = as_array("nonzero", "input", input)
    if flag("nonzero", "as_tuple", as_tuple):
        return tuple(np.nonzero(np.atleast_1d(input)))
    return np.argwhere(input)


@of_arrays
def masked_select(input, mask):
    """The values where ``mask`` (bool; both broadcast) is true, in row-major order, as one dimension."""
    input, mask = as_array("masked_select", "input", input), as_array("masked_select", "mask", mask)
    if mask.dtype != np.bool_:
        fail("masked_select", f"mask has dtype {mask.dtype}: expected bool", TypeError)
    try:
        values, where = np.broadcast_arrays(input, mask)
    except ValueError:
        fail("masked_select", f"mask of shape {mask.shape} does not broadcast with input of shape {input.shape}")
    return values[where]


@of_arrays
def unique(input, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None):
    """The different values, in order; NaN are all different.

    Parameters
    ----------
    input : array
    sorted : bool
        They are in any case.
    return_inverse, return_counts : bool
        Also which of them each value is (int64, of the input's shape; with ``dim``, one per slice), and how often it occurs.
    dim : int, optional
        Different slices along it, not values.

    Returns
    -------
    array, or tuple of arrays
    """
    op = "unique"
    input = as_array(op, "input", input)
    flag(op, "sorted", sorted)
    inverse, counts = flag(op, "return_inverse", return_inverse), flag(op, "return_counts", return_counts)
    axis = None if dim is None else dimension(op, dim, input.ndim)
    found: Any = np.unique(input, return_inverse=True, return_counts=True, axis=axis, equal_nan=False)
    values, where, many = found
    where = where.reshape(input.shape if axis is None else -1)
    results = (values, *([where] if inverse else []), *([many] if counts else []))
    return results[0] if len(results) == 1 else results


@of_arrays
def unique_consecutive(input, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None):
    """The values (or slices along ``dim``) that differ from the one before; arguments and results as for :func:`unique`."""
    op = "unique_consecutive"
    input = as_array(op, "input", input)
    inverse, counts = flag(op, "return_inverse", return_inverse), flag(op, "return_counts", return_counts)
    axis = 0 if dim is None else dimension(op, dim, input.ndim)
    line = input.reshape(-1) if dim is None else input
    rows = np.moveaxis(line, axis, 0)
    rows = rows.reshape(len(rows), int(np.prod(rows.shape[1:])))
    starts = np.flatnonzero(np.concatenate([[True], (rows[1:] != rows[:-1]).any(1)])[: len(rows)])
    where = np.cumsum(np.isin(np.arange(len(rows)), starts)) - 1
    results = (np.take(line, starts, axis),
               *([where.reshape(input.shape if dim is None else -1)] if inverse else []),
               *([np.diff(np.append(starts, len(rows)))] if counts else []))
    return results[0] if len(results) == 1 else results


@of_arrays
def bincount(input, weights=None, minlength: int = 0):
    """How often each integer from 0 on is there, or the sum of its weights.

    Parameters
    ----------
    input : array
        One dimension, integers from 0 on.
    weights : array, optional
        Of its shape; the result is then float32.
    minlength : int, default 0

    Returns
    -------
    array
        int64, as long as the largest value and one more, at least ``minlength``.
    """
    op = "bincount"
    input, least = as_array(op, "input", input), integer(op, "minlength", minlength)
    if input.dtype.kind not in "iu":
        fail(op, f"input has dtype {input.dtype}: expected integers", TypeError)
    if input.ndim != 1:
        fail(op, f"input of shape {input.shape}: expected one dimension")
    if least < 0:
        fail(op, f"minlength={least}: expected 0 at least")
    if input.size and input.min() < 0:
        fail(op, f"input has the value {input.min()}: expected 0 at least")
    if weights is None:
        return np.bincount(input, minlength=least).astype(np.int64)
    weights = as_array(op, "weights", weights)
    if weights.shape != input.shape:
        fail(op, f"weights of shape {weights.shape}: expected {input.shape}, the shape of input")
    return np.bincount(input, weights, least).astype(np.float32)


@of_arrays
def histc(input, bins: int = 100, min: float = 0, max: float = 0):
    """How many values lie in each of ``bins`` equal parts of [min, max] (where both are equal, of the values' range); the
    last one has its upper end. float32; NaN and what is outside counts nowhere."""
    op = "histc"
    input, bins = as_array(op, "input", input), integer(op, "bins", bins)
    low, high = float(number(op, "min", min)), float(number(op, "max", max))
    if input.dtype != np.float32:
        fail(op, f"input has dtype {input.dtype}: expected float32", TypeError)
    if bins < 1:
        fail(op, f"bins={bins}: expected 1 at least")
    if low == high and input.size:
        low, high = float(input.min()), float(input.max())
    if low == high:
        low, high = low - 1, high + 1
    if not (np.isfinite(low) and np.isfinite(high)):
        fail(op, f"the range [{low}, {high}] is not finite")
    if low > high:
        fail(op, f"min={low} is larger than max={high}")
    values = input[(input >= low) & (input <= high)].astype(np.float64)
    place = np.minimum(((values - low) / (high - low) * bins).astype(np.int64), bins - 1)
    return np.bincount(place, minlength=bins).astype(np.float32)


@of_arrays
def isin(elements, test_elements, *, assume_unique: bool = False, invert: bool = False):
    """Which of the elements (an array or a number) are among the test elements: bool, of their shape."""
    op = "isin"
    flag(op, "assume_unique", assume_unique)
    arrays = [np.asarray(v) if isinstance(v, (int, float)) else as_array(op, name, v)
              for name, v in (("elements", elements), ("test_elements", test_elements))]
    return np.isin(arrays[0], arrays[1], invert=flag(op, "invert", invert))


# ---- boxes --------------------------------------------------------------------------------------------------------------


def suppressed(op: str, boxes, scores, classes, iou_threshold) -> np.ndarray:
    boxes, scores = as_array(op, "boxes", boxes), as_array(op, "scores", scores)
    for name, a in (("boxes", boxes), ("scores", scores)):
        if a.dtype != np.float32:
            fail(op, f"{name} has dtype {a.dtype}: expected float32", TypeError)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        fail(op, f"boxes of shape {boxes.shape}: expected (boxes, 4)")
    threshold = float(number(op, "iou_threshold", iou_threshold))
    if scores.shape != boxes.shape[:1]:
        fail(op, f"scores of shape {scores.shape}: expected {boxes.shape[:1]}, one per box")
    boxes, scores = np.ascontiguousarray(boxes), np.ascontiguousarray(scores)
    if classes is not None:
        classes = as_array(op, "idxs", classes)
        if classes.dtype.kind not in "iu":
            fail(op, f"idxs has dtype {classes.dtype}: expected integers", TypeError)
        if classes.shape != scores.shape:
            fail(op, f"idxs of shape {classes.shape}: expected {scores.shape}, one per box")
        classes = np.ascontiguousarray(classes, np.int64)
    keep, kept = np.empty(len(boxes), np.int64), np.zeros(1, np.int64)
    step = kernels.nms(boxes=boxes.ctypes.data, scores=scores.ctypes.data, keep=keep.ctypes.data, kept=kept.ctypes.data,
                       count=len(boxes), threshold=threshold, classes=0 if classes is None else classes.ctypes.data)
    StepList([step], 1).run(threads_for(0))
    return keep[: kept[0]].copy()


@of_arrays
def nms(boxes, scores, iou_threshold: float) -> np.ndarray:
    """Non-maximum suppression: boxes that no better one overlaps too much.

    By falling score (equal ones as they lie) each box that is left drops those behind it whose intersection over union with
    it is greater than the threshold.

    Parameters
    ----------
    boxes : array
        float32, (boxes, 4): x1, y1, x2, y2.
    scores : array
        float32, (boxes,).
    iou_threshold : float

    Returns
    -------
    array
        int64: indices of what is left, by falling score.

    Raises
    ------
    TypeError, ValueError

    Notes
    -----
    Exactly torchvision's `nms`, whose overlaps are float32 as well.
    """
    return suppressed("nms", boxes, scores, None, iou_threshold)


@of_arrays
def batched_nms(boxes, scores, idxs, iou_threshold: float) -> np.ndarray:
    """:func:`nms` of each class by itself: ``idxs`` (integers, one per box) says which; indices by falling score."""
    return suppressed("batched_nms", boxes, scores, idxs, iou_threshold)
