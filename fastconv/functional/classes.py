"""Losses of classes: negative log-likelihood and cross-entropy, of indices and of probabilities."""

from __future__ import annotations

import numpy as np

from fastconv.functional.indexing import embedding
from fastconv.functional.losses import REDUCTIONS, alike, at, chosen, floats, labels, real, reduced, shape_of, shares
from fastconv.functional.parametric import where
from fastconv.functional.pointwise import ne
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.functional.reduction import cast
from fastconv.functional.reduction import sum as total
from fastconv.functional.statistics import logsumexp
from fastconv.functional.structure import reshape, squeeze, unsqueeze
from fastconv.graph.ir import Tensor
from fastconv.ops.arguments import integer
from fastconv.ops.views import tensor

__all__ = ["nll_loss"]


def classes_of(op: str, input, target, dim: int) -> None:
    """Refuses targets that are no class indices for an input with classes along ``dim``."""
    shape = shape_of(input)
    expected = (*shape[:dim], *shape[dim + 1:])
    if target.dtype not in ("int64", "int32", "uint8", "int8"):
        fail(op, f"target has dtype {target.dtype}: expected class indices of an integer dtype", TypeError)
    if shape_of(target) != expected:
        fail(op, f"target of shape {shape_of(target)}: input of shape {shape} expects {expected}")


def picked(op: str, input, target, weight, ignore_index: int, dim: int) -> tuple:
    """The input at the target's class, 0 where that is ignored, and the factors of the places."""
    counts = ne(target, ignore_index)
    index = cast(where(counts, target, 0), "int64")
    found = squeeze(at(input, dim, unsqueeze(index, dim)), dim)
    if weight is None:
        factor = where(counts, 1.0, 0.0)
    else:
        (weight,) = floats(op, weight=weight)
        if shape_of(weight) != (shape_of(input)[dim],):
            fail(op, f"weight of shape {shape_of(weight)}: expected ({shape_of(input)[dim]},), one per class")
        factor = where(counts, squeeze(embedding(index, unsqueeze(weight, 1)), -1), 0.0)
    return where(counts, found, 0.0), factor


def class_dimension(op: str, input) -> tuple[Tensor, int]:
    """The input as a tensor, and the dimension of its classes."""
    (input,) = floats(op, input=input)
    if not input.ndim:
        fail(op, "input of shape () has no dimensions: expected (C,) or (N, C, ...)")
    return input, 0 if input.ndim == 1 else 1


def _ignored(*shape: int):
    def make(g):
        labels = g.integers(0, 5, shape)
        labels.reshape(-1)[::3] = 4
        return labels

    return array(make)


_CLASSES = [sample((6, 5), _ignored(6), reduction=r, ignore_index=i) for r in REDUCTIONS for i in (-100, 4)] + [
    sample((6, 5), labels(5, 6), weight=shares(5)), sample((5,), labels(5)), sample((2, 5, 3, 4), labels(5, 2, 3, 4)),
    sample((2, 5, 3), _ignored(2, 3), weight=shares(5), ignore_index=4), sample((5,), labels(5), weight=shares(5))]
_NO_CLASSES = [wrong(ValueError, "target of shape (6, 5)", (6, 5), labels(5, 6, 5)),
               wrong(TypeError, "target has dtype float32", (6, 5), (6,)),
               wrong(IndexError, "value 5", (6, 5), labels(6, 6, low=5)),
               wrong(ValueError, "weight of shape (4,)", (6, 5), labels(5, 6), weight=(4,)),
               wrong(ValueError, "reduction='x'", (6, 5), labels(5, 6), reduction="x")]


@function(samples=lambda: _CLASSES, wrong=lambda: _NO_CLASSES)
def nll_loss(input: Array, target: Array, weight: Array | None = None, size_average: bool | None = None,
             ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean") -> Array:
    """The negative log-likelihood, ``-input`` at the class of each place.

    Parameters
    ----------
    input : array (C,) or (N, C, ...), float32
        Logarithms of probabilities.
    target : array () or (N, ...) of integers
        Classes.
    weight : array (C,), optional
        A factor per class; the mean is divided by the sum of those of the targets.
    ignore_index : int, default -100
        A class whose places do not count.
    size_average, reduce, reduction
        As for :func:`l1_loss`.

    Raises
    ------
    TypeError, ValueError, IndexError
        For other dtypes and shapes, and for a class that is none.
    """
    reduction = chosen("nll_loss", reduction, size_average, reduce)
    (input, dim), target = class_dimension("nll_loss", input), tensor("nll_loss", "target", target)
    ignore_index = integer("nll_loss", "ignore_index", ignore_index)
    classes_of("nll_loss", input, target, dim)
    found, factor = picked("nll_loss", input, target, weight, ignore_index, dim)
    loss = -found * factor
    return total(loss) / total(factor) if reduction == "mean" else reduced(loss, reduction)


def _soft(*shape: int):
    def make(g):
        shares = g.uniform(0.1, 1, shape).astype(np.float32)
        return shares / shares.sum(0 if len(shape) == 1 else 1, keepdims=True)

    return array(make)


@function(name="cross_entropy", samples=lambda: [
              *_CLASSES, sample((6, 5), _ignored(6), ignore_index=4, label_smoothing=0.2, weight=shares(5)),
              sample((2, 5, 3), labels(5, 2, 3), label_smoothing=0.3, reduction="none"), sample((6, 5), _soft(6, 5)),
              sample((2, 5, 3, 4), _soft(2, 5, 3, 4), weight=shares(5), label_smoothing=0.1), sample((5,), _soft(5)),
              sample((6, 5), _soft(6, 5), reduction="sum"), sample((6, 5), _soft(6, 5), reduction="none")],
          wrong=lambda: [*_NO_CLASSES[2:],
                         wrong(ValueError, "label_smoothing=2", (6, 5), labels(5, 6), label_smoothing=2.0),
                         wrong(ValueError, "ignore_index=1", (6, 5), (6, 5), ignore_index=1)])
def entropy_of_any(input: Array, target: Array, weight: Array | None = None, size_average: bool | None = None,
                   ignore_index: int = -100, reduce: bool | None = None, reduction: str = "mean",
                   label_smoothing: float = 0.0) -> Array:
    """Cross entropy of logits of any rank; see :func:`cross_entropy`."""
    op = "cross_entropy"
    reduction, (input, dim) = chosen(op, reduction, size_average, reduce), class_dimension(op, input)
    target = tensor(op, "target", target)
    ignore_index, smoothing = integer(op, "ignore_index", ignore_index), real(op, "label_smoothing", label_smoothing)
    if not 0 <= smoothing <= 1:
        fail(op, f"label_smoothing={smoothing}: expected 0 to 1")
    logs, count = input - logsumexp(input, dim, True), shape_of(input)[dim]
    per_class = None
    if weight is not None:
        (weight,) = floats(op, weight=weight)
        if shape_of(weight) != (count,):
            fail(op, f"weight of shape {shape_of(weight)}: expected ({count},), one per class")
        per_class = reshape(weight, (count, *[1] * (input.ndim - 1 - dim)))
    if target.dtype == "float32":
        alike(op, input, target)
        if ignore_index >= 0:
            fail(op, f"ignore_index={ignore_index}: a target of probabilities has no class to ignore")
        shares = target * (1.0 - smoothing) + smoothing / count if smoothing else target
        loss = -total(logs * shares if per_class is None else logs * shares * per_class, dim)
        return reduced(loss, reduction)
    classes_of(op, input, target, dim)
    found, factor = picked(op, logs, target, weight, ignore_index, dim)
    loss = -found * factor
    if smoothing:
        even = total(logs if per_class is None else logs * per_class, dim)
        loss = loss * (1.0 - smoothing) - where(ne(target, ignore_index), even, 0.0) * (smoothing / count)
    return total(loss) / total(factor) if reduction == "mean" else reduced(loss, reduction)
