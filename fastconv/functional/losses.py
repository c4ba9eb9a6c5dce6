"""Losses that are made of other functions, under PyTorch's names, with its arguments and definitions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv._values import plain, shown
from fastconv.functional.activations import logsigmoid
from fastconv.functional.indexing import embedding, gather
from fastconv.functional.pointwise import abs as absolute
from fastconv.functional.pointwise import (
    clamp,
    eq,
    exp,
    log,
    log1p,
    logical_and,
    logical_not,
    minimum,
    ne,
    sqrt,
    square,
    where,
    xlogy,
)
from fastconv.functional.record import Array, array, fail, function, once, sample, wrong
from fastconv.functional.reduction import amax, cast, logsumexp, mean
from fastconv.functional.reduction import any as any_of
from fastconv.functional.reduction import sum as total
from fastconv.functional.structure import reshape, squeeze, unsqueeze
from fastconv.graph.ir import Tensor, apply, current_graph
from fastconv.ops.arguments import flag, integer, number
from fastconv.ops.views import tensor

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "gaussian_nll_loss",
    "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "margin_ranking_loss", "multi_margin_loss",
    "multilabel_margin_loss", "multilabel_soft_margin_loss", "nll_loss", "poisson_nll_loss", "smooth_l1_loss",
    "soft_margin_loss", "triplet_margin_loss", "triplet_margin_with_distance_loss",
]
REDUCTIONS = ("none", "mean", "sum")
at = gather.record.body  # type: ignore[attr-defined]  # whose errors name the loss


# ---- arguments ----------------------------------------------------------------------------------------------------------


def chosen(op: str, reduction, size_average=None, reduce=None, also: tuple[str, ...] = ()) -> str:
    """The reduction; ``size_average`` and ``reduce`` are what PyTorch had before it."""
    if size_average is not None or reduce is not None:
        each = reduce is not None and not flag(op, "reduce", reduce)
        apart = size_average is not None and not flag(op, "size_average", size_average)
        return "none" if each else "sum" if apart else "mean"
    if not isinstance(reduction, str) or reduction not in (*REDUCTIONS, *also):
        fail(op, f"reduction={shown(reduction)}: expected one of {', '.join((*REDUCTIONS, *also))}")
    return reduction


def reduced(loss, reduction: str, dims: Sequence[int] | None = None):
    """What a reduction makes of a loss per element."""
    return loss if reduction == "none" else mean(loss) if reduction == "mean" else total(loss)


def floats(op: str, **tensors) -> list[Tensor]:
    """Arguments as tensors of float32; others are refused."""
    for name, value in tensors.items():
        if isinstance(value, (bool, int, float)) and not isinstance(value, np.generic):  # np.float64 is a float
            fail(op, f"{name} is a {type(value).__name__}: expected an array", TypeError)
    found = [tensor(op, name, value) for name, value in tensors.items()]
    for name, t in zip(tensors, found, strict=True):
        if t.dtype != "float32":
            fail(op, f"{name} has dtype {t.dtype}: expected float32", TypeError)
    return found


def pair(op: str, input, target) -> list[Tensor]:
    """Input and target of an error: arrays whose shapes broadcast, no numbers."""
    input, target = floats(op, input=input, target=target)
    if any(1 not in (a, b) and a != b for a, b in zip(shape_of(input)[::-1], shape_of(target)[::-1], strict=False)):
        fail(op, f"target of shape {shape_of(target)}: expected one that broadcasts with that of input, {shape_of(input)}")
    return [input, target]


def shape_of(t) -> tuple[int, ...]:
    """The shape, without reading the batch for the user."""
    return t.type.shape


def alike(op: str, input, target, name: str = "target") -> None:
    if shape_of(target) != shape_of(input):
        fail(op, f"{name} of shape {shape_of(target)}: expected {shape_of(input)}, the shape of the input")


def real(op: str, name: str, value) -> float:
    value = float(number(op, name, value))
    if math.isnan(value):
        fail(op, f"{name}={value}: expected a number")
    return value


def weighted(op: str, loss, input, weight, reduction: str, by_weight: bool):
    """A loss per element with a factor each."""
    if weight is None:
        return reduced(loss, reduction)
    (weight,) = floats(op, weight=weight)
    alike(op, input, weight, "weight")
    if reduction == "mean" and by_weight:
        return total(loss * weight) / total(weight)
    return reduced(loss * weight, reduction)


# ---- errors -------------------------------------------------------------------------------------------------------------

_PAIR = [((3, 4), (3, 4)), ((2, 3, 4, 5), (2, 3, 4, 5)), ((5,), (5,)), ((), ())]
_EVERY = [sample(a, b, reduction=r) for a, b in _PAIR for r in REDUCTIONS]
_WRONG = [wrong(ValueError, "reduction='max'", (3, 4), (3, 4), reduction="max"),
          wrong(TypeError, "target has dtype int64", (3, 4), array(lambda g: g.integers(0, 3, (3, 4))))]


@function(samples=lambda: [*_EVERY, sample((3, 4), (3, 4), weight=(3, 4)), sample((3, 4), (4,)),
                           sample((3, 4), (3, 4), reduction="sum", weight=(3, 4)), sample((3, 4), (3, 4), reduce=False)],
          wrong=lambda: [*_WRONG, wrong(ValueError, "weight of shape", (3, 4), (3, 4), weight=(4,))])
def l1_loss(input: Array, target: Array, size_average: bool | None = None, reduce: bool | None = None,
            reduction: str = "mean", weight: Array | None = None) -> Array:
    """The absolute error, ``|input - target|``.

    Parameters
    ----------
    input, target : arrays of shapes that broadcast, float32
    size_average, reduce : bool, optional
        What PyTorch had before ``reduction``.
    reduction : {"mean", "sum", "none"}, default "mean"
    weight : array of the input's shape, optional
        Factors; the mean is divided by their sum.

    Raises
    ------
    TypeError, ValueError
        For another dtype, shapes that do not go together, another reduction.
    """
    reduction = chosen("l1_loss", reduction, size_average, reduce)
    input, target = pair("l1_loss", input, target)
    return weighted("l1_loss", absolute(input - target), input, weight, reduction, True)


@function(name="mse_loss", samples=lambda: [*_EVERY, sample((3, 4), (3, 4), weight=(3, 4)), sample((3, 4), (4,))],
          wrong=lambda: _WRONG)
def mse_of_any(input: Array, target: Array, size_average: bool | None = None, reduce: bool | None = None,
               reduction: str = "mean", weight: Array | None = None) -> Array:
    """The squared error, ``(input - target) ** 2``; arguments as for :func:`l1_loss`."""
    reduction = chosen("mse_loss", reduction, size_average, reduce)
    input, target = pair("mse_loss", input, target)
    return weighted("mse_loss", square(input - target), input, weight, reduction, True)


def huber(difference, delta: float):
    """Half the square up to ``delta``, a line beyond it."""
    far = absolute(difference)
    near = clamp(far, max=delta)
    return near * (far - 0.5 * near)  # delta * (far - delta / 2) beyond delta


@function(samples=lambda: [*_EVERY, sample((3, 4), (3, 4), beta=0.3), sample((3, 4), (3, 4), beta=0.0)],
          wrong=lambda: [*_WRONG, wrong(ValueError, "beta=-1", (3, 4), (3, 4), beta=-1.0)])
def smooth_l1_loss(input: Array, target: Array, size_average: bool | None = None, reduce: bool | None = None,
                   reduction: str = "mean", beta: float = 1.0) -> Array:
    """The absolute error, rounded off near 0: half the square over ``beta`` up to it, then ``|input - target| - beta / 2``.

    Parameters
    ----------
    input, target, size_average, reduce, reduction
        As for :func:`l1_loss`.
    beta : float, default 1
        At least 0.
    """
    reduction, beta = chosen("smooth_l1_loss", reduction, size_average, reduce), real("smooth_l1_loss", "beta", beta)
    if beta < 0:
        fail("smooth_l1_loss", f"beta={beta}: expected at least 0")
    input, target = pair("smooth_l1_loss", input, target)
    d = input - target
    return reduced(huber(d, beta) / beta if beta > 0 else absolute(d), reduction)


@function(samples=lambda: [*_EVERY, sample((3, 4), (3, 4), delta=0.3), sample((3, 4), (3, 4), weight=(3, 4))],
          wrong=lambda: [*_WRONG, wrong(ValueError, "delta=0", (3, 4), (3, 4), delta=0.0)])
def huber_loss(input: Array, target: Array, reduction: str = "mean", delta: float = 1.0,
               weight: Array | None = None) -> Array:
    """Half the squared error up to ``delta``, then ``delta * (|input - target| - delta / 2)``.

    Parameters
    ----------
    input, target, reduction
        As for :func:`l1_loss`.
    delta : float, default 1
        Above 0.
    weight : array of the input's shape, optional
        Factors; the mean is over the elements.
    """
    reduction, delta = chosen("huber_loss", reduction), real("huber_loss", "delta", delta)
    if delta <= 0:
        fail("huber_loss", f"delta={delta}: expected above 0")
    input, target = pair("huber_loss", input, target)
    return weighted("huber_loss", huber(input - target, delta), input, weight, reduction, False)


# ---- likelihoods --------------------------------------------------------------------------------------------------------


def _shares(*shape):
    return array(lambda g: g.uniform(0.05, 0.95, shape).astype(np.float32))


@function(samples=lambda: [sample(_shares(3, 4), _shares(3, 4), reduction=r) for r in REDUCTIONS] + [
              sample(_shares(3, 4), _shares(3, 4), weight=(4,)), sample(_shares(5), _shares(5))],
          wrong=lambda: [wrong(ValueError, "target of shape (4,)", (3, 4), (4,)),
                         wrong(ValueError, "reduction=3", (3,), (3,), reduction=3)])
def binary_cross_entropy(input: Array, target: Array, weight: Array | None = None, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Array:
    """Cross entropy of probabilities, ``-(target * log(input) + (1 - target) * log(1 - input))``, logarithms at least -100.

    Parameters
    ----------
    input : array, float32
        Probabilities, 0 to 1.
    target : array of the input's shape, float32
    weight : array that broadcasts to this shape, optional
        Factors.
    size_average, reduce, reduction
        As for :func:`l1_loss`.
    """
    op = "binary_cross_entropy"
    reduction = chosen(op, reduction, size_average, reduce)
    input, target = floats(op, input=input, target=target)
    alike(op, input, target)
    p, label = apply("detach", [input]), apply("detach", [target])
    loss = (target - 1.0) * clamp(log1p(-p), min=-100.0) - target * clamp(log(p), min=-100.0)
    slope = (p - label) / clamp((1.0 - p) * p, min=1e-12)  # finite where a logarithm is not
    loss = loss + (input - p) * slope
    if weight is not None:
        (weight,) = floats(op, weight=weight)
        loss = loss * weight
    return reduced(loss, reduction)


@function(samples=lambda: [sample((3, 4), _shares(3, 4), reduction=r) for r in REDUCTIONS] + [
              sample((3, 4), _shares(3, 4), weight=(3, 1)), sample((3, 4), _shares(3, 4), pos_weight=_shares(4)),
              sample((2, 3, 4, 5), _shares(2, 3, 4, 5), pos_weight=_shares(3, 1, 1), weight=(5,))],
          wrong=lambda: [wrong(ValueError, "target of shape (4,)", (3, 4), (4,))])
def binary_cross_entropy_with_logits(input: Array, target: Array, weight: Array | None = None,
                                     size_average: bool | None = None, reduce: bool | None = None,
                                     reduction: str = "mean", pos_weight: Array | None = None) -> Array:
    """Cross entropy of the sigmoid of ``input``, without rounding errors where that is near 0 or 1.

    Parameters
    ----------
    input : array, float32
        Logits.
    target, weight, size_average, reduce, reduction
        As for :func:`binary_cross_entropy`.
    pos_weight : array that broadcasts to this shape, optional
        Factors of the targets' part.
    """
    op = "binary_cross_entropy_with_logits"
    reduction = chosen(op, reduction, size_average, reduce)
    input, target = floats(op, input=input, target=target)
    alike(op, input, target)
    loss = (1.0 - target) * input
    if pos_weight is None:
        loss = loss - logsigmoid(input)
    else:
        (pos_weight,) = floats(op, pos_weight=pos_weight)
        loss = loss - (1.0 + (pos_weight - 1.0) * target) * logsigmoid(input)
    if weight is not None:
        (weight,) = floats(op, weight=weight)
        loss = loss * weight
    return reduced(loss, reduction)


@function(samples=lambda: [sample((3, 4), _shares(3, 4), reduction=r) for r in (*REDUCTIONS, "batchmean")] + [
              sample((3, 4), (3, 4), log_target=True), sample((5,), _shares(5)),
              sample((2, 2), array(lambda g: np.array([[0, 1], [0.5, 0.5]], np.float32)), reduction="sum")],
          wrong=lambda: [wrong(ValueError, "reduction='avg'", (3, 4), (3, 4), reduction="avg")])
def kl_div(input: Array, target: Array, size_average: bool | None = None, reduce: bool | None = None,
           reduction: str = "mean", log_target: bool = False) -> Array:
    """The Kullback-Leibler divergence, ``target * (log(target) - input)``.

    Parameters
    ----------
    input : array, float32
        Logarithms of probabilities.
    target : array of a shape that broadcasts, float32
        Probabilities, or with ``log_target`` logarithms of such.
    reduction : {"mean", "batchmean", "sum", "none"}, default "mean"
        "batchmean" divides the sum by the first extent.
    log_target : bool, default False
    size_average, reduce
        As for :func:`l1_loss`.
    """
    reduction = chosen("kl_div", reduction, size_average, reduce, ("batchmean",))
    input, target = pair("kl_div", input, target)
    if flag("kl_div", "log_target", log_target):
        loss = exp(target) * (target - input)
    else:
        loss = xlogy(target, target) - target * input
    if reduction == "batchmean":
        return mean(total(loss, tuple(range(1, loss.ndim))) if loss.ndim > 1 else loss)
    return reduced(loss, reduction)


@function(samples=lambda: [sample((3, 4), _shares(3, 4), reduction=r) for r in REDUCTIONS] + [
              sample(_shares(3, 4), array(lambda g: g.uniform(0, 6, (3, 4)).astype(np.float32)), log_input=False, full=True),
              sample((3, 4), array(lambda g: g.uniform(0, 6, (3, 4)).astype(np.float32)), full=True)],
          wrong=lambda: [wrong(ValueError, "reduction='x'", (3,), (3,), reduction="x")])
def poisson_nll_loss(input: Array, target: Array, log_input: bool = True, full: bool = False,
                     size_average: bool | None = None, eps: float = 1e-8, reduce: bool | None = None,
                     reduction: str = "mean") -> Array:
    """The negative log-likelihood of counts, ``exp(input) - target * input``.

    Parameters
    ----------
    input, target : arrays of shapes that broadcast, float32
    log_input : bool, default True
        False: the rate itself is given, ``input - target * log(input + eps)``.
    full : bool, default False
        Add Stirling's approximation of ``log(target!)``, for targets above 1.
    eps : float, default 1e-8
    size_average, reduce, reduction
        As for :func:`l1_loss`.
    """
    op = "poisson_nll_loss"
    reduction = chosen(op, reduction, size_average, reduce)
    input, target = floats(op, input=input, target=target)
    if flag(op, "log_input", log_input):
        loss = exp(input) - target * input
    else:
        loss = input - target * log(input + real(op, "eps", eps))
    if flag(op, "full", full):
        above = where(target > 1.0, target, 1.0)
        stirling = above * log(above) - above + 0.5 * log(2.0 * math.pi * above)
        loss = loss + where(target > 1.0, stirling, 0.0)
    return reduced(loss, reduction)


@function(samples=lambda: [sample((3, 4), (3, 4), _shares(3, 4), reduction=r) for r in REDUCTIONS] + [
              sample((3, 4), (3, 4), _shares(3, 1)), sample((3, 4), (3, 4), _shares(3)),
              sample((3, 4), (3, 4), _shares(3, 4), full=True, eps=0.5), sample((3, 4), (3, 4), 0.7)],
          wrong=lambda: [wrong(ValueError, "var of shape", (3, 4), (3, 4), _shares(2)),
                         wrong(ValueError, "var=-1", (3, 4), (3, 4), -1.0)])
def gaussian_nll_loss(input: Array, target: Array, var: Array, full: bool = False, eps: float = 1e-6,
                      reduction: str = "mean") -> Array:
    """The negative log-likelihood of normal deviates, ``(log(var) + (input - target)**2 / var) / 2``.

    Parameters
    ----------
    input, target : arrays of shapes that broadcast, float32
    var : array or float
        Variances, at least 0: of the input's shape, of this shape with one extent 1, or without the last dimension.
    full : bool, default False
        Add the constant ``log(2 pi) / 2``.
    eps : float, default 1e-6
        Variances count as at least this; their gradient passes.
    reduction
        As for :func:`l1_loss`.
    """
    op = "gaussian_nll_loss"
    reduction, eps = chosen(op, reduction), real(op, "eps", eps)
    input, target = floats(op, input=input, target=target)
    if not isinstance(var, Tensor) and not hasattr(var, "shape"):
        value = real(op, "var", var)
        if value < 0:
            fail(op, f"var={value}: expected at least 0")
        spread: Any = max(value, eps)
        loss = square(input - target) / spread * 0.5 + 0.5 * math.log(spread)
    else:
        (var,) = floats(op, var=var)
        shape, wide = shape_of(var), shape_of(input)
        if shape != wide:
            if wide[:-1] == shape and wide:
                var = unsqueeze(var, -1)
            elif len(shape) != len(wide) or sum(s for w, s in zip(wide, shape, strict=True) if w != s) != 1:
                fail(op, f"var of shape {shape}: expected {wide}, the shape of the input, or one extent of it 1")
        spread = var + apply("detach", [clamp(var, min=eps) - var])
        loss = 0.5 * (log(spread) + square(input - target) / spread)
    if flag(op, "full", full):
        loss = loss + 0.5 * math.log(2.0 * math.pi)
    return reduced(loss, reduction)


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


def _labels(high: int, *shape: int, low: int = 0, dtype: str = "int64"):
    return array(lambda g: np.asarray(g.integers(low, high, shape), dtype))


def _ignored(*shape: int):
    def make(g):
        labels = g.integers(0, 5, shape)
        labels.reshape(-1)[::3] = 4
        return labels

    return array(make)


_CLASSES = [sample((6, 5), _ignored(6), reduction=r, ignore_index=i) for r in REDUCTIONS for i in (-100, 4)] + [
    sample((6, 5), _labels(5, 6), weight=_shares(5)), sample((5,), _labels(5)), sample((2, 5, 3, 4), _labels(5, 2, 3, 4)),
    sample((2, 5, 3), _ignored(2, 3), weight=_shares(5), ignore_index=4), sample((5,), _labels(5), weight=_shares(5))]
_NO_CLASSES = [wrong(ValueError, "target of shape (6, 5)", (6, 5), _labels(5, 6, 5)),
               wrong(TypeError, "target has dtype float32", (6, 5), (6,)),
               wrong(IndexError, "value 5", (6, 5), _labels(6, 6, low=5)),
               wrong(ValueError, "weight of shape (4,)", (6, 5), _labels(5, 6), weight=(4,)),
               wrong(ValueError, "reduction='x'", (6, 5), _labels(5, 6), reduction="x")]


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
              *_CLASSES, sample((6, 5), _ignored(6), ignore_index=4, label_smoothing=0.2, weight=_shares(5)),
              sample((2, 5, 3), _labels(5, 2, 3), label_smoothing=0.3, reduction="none"), sample((6, 5), _soft(6, 5)),
              sample((2, 5, 3, 4), _soft(2, 5, 3, 4), weight=_shares(5), label_smoothing=0.1), sample((5,), _soft(5)),
              sample((6, 5), _soft(6, 5), reduction="sum"), sample((6, 5), _soft(6, 5), reduction="none")],
          wrong=lambda: [*_NO_CLASSES[2:],
                         wrong(ValueError, "label_smoothing=2", (6, 5), _labels(5, 6), label_smoothing=2.0),
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


# ---- margins ------------------------------------------------------------------------------------------------------------


def _signs(*shape: int):
    return array(lambda g: np.asarray(2 * g.integers(0, 2, shape) - 1, np.float32))


def numbers(op: str, **tensors) -> list[Tensor]:
    """Arguments as tensors; targets of 1 and -1 may be integers."""
    for name, value in tensors.items():
        if isinstance(value, (bool, int, float)) and not isinstance(value, np.generic):  # np.float64 is a float
            fail(op, f"{name} is a {type(value).__name__}: expected an array", TypeError)
    found = [tensor(op, name, value) for name, value in tensors.items()]
    for name, t in zip(tensors, found, strict=True):
        if t.dtype == "bool":
            fail(op, f"{name} has dtype bool: expected 1 and -1", TypeError)
    return found


@function(samples=lambda: [sample((3, 4), _signs(3, 4), reduction=r) for r in REDUCTIONS] + [
              sample((5,), _signs(5), margin=0.3)],
          wrong=lambda: [wrong(TypeError, "margin='a'", (3,), (3,), margin="a")])
def hinge_embedding_loss(input: Array, target: Array, margin: float = 1.0, size_average: bool | None = None,
                         reduce: bool | None = None, reduction: str = "mean") -> Array:
    """``input`` where the target is 1, ``max(0, margin - input)`` where it is -1.

    Parameters
    ----------
    input, target : arrays of shapes that broadcast
    margin : float, default 1
    size_average, reduce, reduction
        As for :func:`l1_loss`.
    """
    op = "hinge_embedding_loss"
    reduction, margin = chosen(op, reduction, size_average, reduce), real(op, "margin", margin)
    (input,) = floats(op, input=input)
    (target,) = numbers(op, target=target)
    loss = where(ne(target, 1), clamp(margin - input, min=0.0), 0.0) + where(ne(target, -1), input, 0.0)
    return reduced(loss, reduction)


@function(samples=lambda: [sample((3, 4), (3, 4), _signs(3, 4), reduction=r) for r in REDUCTIONS] + [
              sample((5,), (5,), _signs(5), margin=0.5)],
          wrong=lambda: [wrong(ValueError, "different numbers of dimensions", (3,), (3,), (1, 3))])
def margin_ranking_loss(input1: Array, input2: Array, target: Array, margin: float = 0, size_average: bool | None = None,
                        reduce: bool | None = None, reduction: str = "mean") -> Array:
    """``max(0, -target * (input1 - input2) + margin)``: where the target is 1, ``input1`` shall be the larger one.

    Parameters
    ----------
    input1, input2, target : arrays of as many dimensions, of shapes that broadcast
    margin : float, default 0
    size_average, reduce, reduction
        As for :func:`l1_loss`.
    """
    op = "margin_ranking_loss"
    reduction, margin = chosen(op, reduction, size_average, reduce), real(op, "margin", margin)
    input1, input2 = floats(op, input1=input1, input2=input2)
    (target,) = numbers(op, target=target)
    if not input1.ndim == input2.ndim == target.ndim:
        fail(op, f"input1 of shape {shape_of(input1)}, input2 of shape {shape_of(input2)} and target of shape "
                 f"{shape_of(target)} have different numbers of dimensions")
    return reduced(clamp((input2 - input1) * target + margin, min=0.0), reduction)


@function(samples=lambda: [sample((3, 4), _signs(3, 4), reduction=r) for r in REDUCTIONS],
          wrong=lambda: [wrong(ValueError, "reduction='x'", (3,), (3,), reduction="x")])
def soft_margin_loss(input: Array, target: Array, size_average: bool | None = None, reduce: bool | None = None,
                     reduction: str = "mean") -> Array:
    """``log(1 + exp(-target * input))`` of targets 1 and -1.

    Parameters
    ----------
    input, target : arrays of shapes that broadcast
    size_average, reduce, reduction
        As for :func:`l1_loss`.
    """
    reduction = chosen("soft_margin_loss", reduction, size_average, reduce)
    (input,) = floats("soft_margin_loss", input=input)
    (target,) = numbers("soft_margin_loss", target=target)
    return reduced(-logsigmoid(input * target), reduction)


def rows_of_classes(op: str, input, target, same: bool) -> tuple[Tensor, Tensor]:
    (input,), target = floats(op, input=input), tensor(op, "target", target)
    if not input.ndim:  # one class
        input, target = unsqueeze(input, 0), unsqueeze(target, 0) if same and not target.ndim else target
    shape = shape_of(input)
    if not 1 <= len(shape) <= 2 or not shape[-1]:
        fail(op, f"input of shape {shape}: expected (C,) or (N, C)")
    if target.dtype not in ("int64", "int32"):
        fail(op, f"target has dtype {target.dtype}: expected int64", TypeError)
    expected = shape if same else shape[:-1]
    if shape_of(target) != expected and not (not same and len(shape) == 1 and shape_of(target) == (1,)):
        fail(op, f"target of shape {shape_of(target)}: input of shape {shape} expects {expected}")
    return input, target


@function(samples=lambda: [sample((6, 5), _labels(5, 6), reduction=r) for r in REDUCTIONS] + [
              sample((6, 5), _labels(5, 6), p=2, margin=0.4), sample((6, 5), _labels(5, 6), weight=_shares(5)),
              sample((5,), _labels(5))],
          wrong=lambda: [wrong(ValueError, "p=3", (6, 5), _labels(5, 6), p=3),
                         wrong(ValueError, "weight of shape (4,)", (6, 5), _labels(5, 6), weight=(4,)),
                         wrong(ValueError, "target of shape (5,)", (6, 5), _labels(5, 5))])
def multi_margin_loss(input: Array, target: Array, p: int = 1, margin: float = 1.0, weight: Array | None = None,
                      size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> Array:
    """The mean over the other classes of ``max(0, margin - input[target] + input[i]) ** p``.

    Parameters
    ----------
    input : array (C,) or (N, C), float32
    target : array () or (N,) of integers
    p : {1, 2}, default 1
    margin : float, default 1
    weight : array (C,), optional
        A factor per class of the target.
    size_average, reduce, reduction
        As for :func:`l1_loss`.
    """
    op = "multi_margin_loss"
    reduction, margin = chosen(op, reduction, size_average, reduce), real(op, "margin", margin)
    if plain(p) not in (1, 2) or isinstance(p, bool):
        fail(op, f"p={shown(p)}: expected 1 or 2")
    input, target = rows_of_classes(op, input, target, False)
    if input.ndim == 1 and target.ndim:
        target = squeeze(target, 0)
    count, index = shape_of(input)[-1], unsqueeze(target, -1)
    own = at(input, -1, index)
    loss = clamp(margin - own + input, min=0.0)
    if plain(p) == 2:
        loss = square(loss)
    if weight is not None:
        (weight,) = floats(op, weight=weight)
        if shape_of(weight) != (count,):
            fail(op, f"weight of shape {shape_of(weight)}: expected ({count},), one per class")
        loss = loss * embedding(target, unsqueeze(weight, 1))
    loss = where(eq(index, np.arange(count)), 0.0, loss)
    return reduced(mean(loss, -1), reduction)


def _positions(*rows: Sequence[int]):
    return array(lambda g: np.array(rows if len(rows) > 1 else rows[0], np.int64))


@function(samples=lambda: [sample((3, 4), _positions((3, 0, -1, 1), (-1, 1, 2, 3), (0, 1, 2, 3)), reduction=r)
                           for r in REDUCTIONS] + [sample((4,), _positions((1, 3, -1, 0)))],
          wrong=lambda: [wrong(ValueError, "target of shape (3,)", (3, 4), _labels(4, 3))])
def multilabel_margin_loss(input: Array, target: Array, size_average: bool | None = None, reduce: bool | None = None,
                           reduction: str = "mean") -> Array:
    """The sum over targets j and other classes i of ``max(0, 1 - (input[j] - input[i])) / C``.

    Parameters
    ----------
    input : array (C,) or (N, C), float32
    target : array of the input's shape, int64
        Classes of each row, up to the first -1.
    size_average, reduce, reduction
        As for :func:`l1_loss`.
    """
    op = "multilabel_margin_loss"
    reduction = chosen(op, reduction, size_average, reduce)
    input, target = rows_of_classes(op, input, target, True)
    count = shape_of(input)[-1]
    before = np.tri(count, dtype=bool)  # of each place those up to it
    counts = logical_not(any_of(logical_and(unsqueeze(target < 0, -2), before), -1))
    index = where(counts, target, 0)
    is_target = any_of(logical_and(eq(unsqueeze(index, -1), np.arange(count)), unsqueeze(counts, -1)), -2)
    margins = clamp(1.0 - unsqueeze(at(input, -1, index), -1) + unsqueeze(input, -2), min=0.0)
    used = logical_and(unsqueeze(counts, -1), unsqueeze(logical_not(is_target), -2))
    loss = total(where(used, margins, 0.0), (-2, -1)) / float(count)
    return reduced(loss, reduction)


@function(samples=lambda: [sample((3, 4), _shares(3, 4), reduction=r) for r in REDUCTIONS] + [
              sample((3, 4), _shares(3, 4), weight=_shares(4))],
          wrong=lambda: [wrong(ValueError, "reduction='x'", (3, 4), (3, 4), reduction="x")])
def multilabel_soft_margin_loss(input: Array, target: Array, weight: Array | None = None,
                                size_average: bool | None = None, reduce: bool | None = None,
                                reduction: str = "mean") -> Array:
    """The mean over classes of the cross entropy of sigmoids.

    Parameters
    ----------
    input, target : arrays of shapes that broadcast, (..., C), float32
    weight : array that broadcasts to this shape, optional
    size_average, reduce, reduction
        As for :func:`l1_loss`.
    """
    op = "multilabel_soft_margin_loss"
    reduction = chosen(op, reduction, size_average, reduce)
    input, target = floats(op, input=input, target=target)
    if not input.ndim:
        fail(op, "input of shape (): expected (..., C)")
    loss = -(target * logsigmoid(input) + (1.0 - target) * logsigmoid(-input))
    if weight is not None:
        (weight,) = floats(op, weight=weight)
        loss = loss * weight
    return reduced(mean(loss, -1), reduction)


# ---- distances ----------------------------------------------------------------------------------------------------------


def distance(x, y, p: float, eps: float):
    """``|x - y + eps|`` along the last dimension, in the p-norm."""
    d = absolute(x - y + eps)
    if p == 2.0:
        return sqrt(total(square(d), -1))
    if p == 1.0:
        return total(d, -1)
    if math.isinf(p):
        return amax(d, -1)
    return total(d**p, -1) ** (1.0 / p)


def check_margin(op: str, margin) -> float:
    margin = real(op, "margin", margin)
    if margin <= 0:
        fail(op, f"margin={margin}: expected above 0")
    return margin


def same_rank(op: str, anchor, positive, negative) -> list[Tensor]:
    anchor, positive, negative = floats(op, anchor=anchor, positive=positive, negative=negative)
    if not anchor.ndim == positive.ndim == negative.ndim:
        fail(op, f"anchor of shape {shape_of(anchor)}, positive of shape {shape_of(positive)} and negative of shape "
                 f"{shape_of(negative)} have different numbers of dimensions")
    return [anchor, positive, negative]


@function(samples=lambda: [sample((3, 4), (3, 4), (3, 4), reduction=r) for r in REDUCTIONS] + [
              sample((3, 4), (3, 4), (3, 4), swap=True, margin=2.0), sample((3, 4), (3, 4), (3, 4), p=1.0),
              sample((3, 4), (3, 4), (3, 4), p=3.0, eps=1e-3), sample((4,), (4,), (4,)),
              sample((2, 3, 4), (2, 3, 4), (1, 3, 4))],
          wrong=lambda: [wrong(ValueError, "margin=0", (3, 4), (3, 4), (3, 4), margin=0.0),
                         wrong(ValueError, "different numbers of dimensions", (3, 4), (3, 4), (4,))])
def triplet_margin_loss(anchor: Array, positive: Array, negative: Array, margin: float = 1.0, p: float = 2,
                        eps: float = 1e-6, swap: bool = False, size_average: bool | None = None,
                        reduce: bool | None = None, reduction: str = "mean") -> Array:
    """``max(0, margin + d(anchor, positive) - d(anchor, negative))``, distances along the last dimension.

    Parameters
    ----------
    anchor, positive, negative : arrays of as many dimensions, of shapes that broadcast, float32
    margin : float, default 1
        Above 0.
    p : float, default 2
        The norm.
    eps : float, default 1e-6
        Added to differences.
    swap : bool, default False
        Take the smaller one of the negative's distances to anchor and positive.
    size_average, reduce, reduction
        As for :func:`l1_loss`.

    References
    ----------
    V. Balntas et al., "Learning shallow convolutional feature descriptors with triplet losses", BMVC 2016 (swap).
    """
    op = "triplet_margin_loss"
    reduction, margin = chosen(op, reduction, size_average, reduce), check_margin(op, margin)
    anchor, positive, negative = same_rank(op, anchor, positive, negative)
    p, eps = real(op, "p", p), real(op, "eps", eps)
    apart = distance(anchor, negative, p, eps)
    if flag(op, "swap", swap):
        apart = minimum(apart, distance(positive, negative, p, eps))
    return reduced(clamp(margin + distance(anchor, positive, p, eps) - apart, min=0.0), reduction)


def triplet_margin_with_distance_loss(anchor, positive, negative, *, distance_function: Callable | None = None,
                                      margin: float = 1.0, swap: bool = False, reduction: str = "mean"):
    """:func:`triplet_margin_loss` with a distance of one's own.

    Parameters
    ----------
    anchor, positive, negative : arrays of as many dimensions, float32
    distance_function : callable, optional
        ``f(x, y)`` over symbolic tensors; default the Euclidean distance along the last dimension.
    margin, swap, reduction
        As for :func:`triplet_margin_loss`.
    """
    op = "triplet_margin_with_distance_loss"
    if distance_function is not None and not callable(distance_function):
        raise TypeError(f"{op}: distance_function is a {type(distance_function).__name__}: expected a function")
    apart = distance_function or (lambda x, y: distance(x, y, 2.0, 1e-6))

    def body(anchor, positive, negative):
        kind, limit = chosen(op, reduction), check_margin(op, margin)
        anchor, positive, negative = same_rank(op, anchor, positive, negative)
        far = apart(anchor, negative)
        if flag(op, "swap", swap):
            far = minimum(far, apart(positive, negative))
        return reduced(clamp(limit + apart(anchor, positive) - far, min=0.0), kind)

    if current_graph() is not None or any(isinstance(t, Tensor) for t in (anchor, positive, negative)):
        return body(anchor, positive, negative)
    return once(op, body, {"anchor": anchor, "positive": positive, "negative": negative})


@function(samples=lambda: [sample((3, 4), (3, 4), _signs(3), reduction=r) for r in REDUCTIONS] + [
              sample((3, 4), (3, 4), _signs(3), margin=0.3), sample((4,), (4,), _signs())],
          wrong=lambda: [wrong(ValueError, "target of shape (4,)", (3, 4), (3, 4), (4,)),
                         wrong(ValueError, "input1 of shape", (3, 4, 5), (3, 4, 5), (3,))])
def cosine_embedding_loss(input1: Array, input2: Array, target: Array, margin: float = 0,
                          size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> Array:
    """``1 - cos(input1, input2)`` where the target is 1, ``max(0, cos(input1, input2) - margin)`` where it is -1.

    Parameters
    ----------
    input1, input2 : arrays (N, D) or (D,), float32
    target : array (N,) or ()
    margin : float, default 0
    size_average, reduce, reduction
        As for :func:`l1_loss`.
    """
    op = "cosine_embedding_loss"
    reduction, margin = chosen(op, reduction, size_average, reduce), real(op, "margin", margin)
    input1, input2 = floats(op, input1=input1, input2=input2)
    (target,) = numbers(op, target=target)
    if target.ndim > 1 or input1.ndim != target.ndim + 1 or input2.ndim != input1.ndim:
        fail(op, f"input1 of shape {shape_of(input1)}, input2 of shape {shape_of(input2)} and target of shape "
                 f"{shape_of(target)}: expected (N, D), (N, D) and (N,), or (D,), (D,) and ()")
    if target.ndim and shape_of(target) != shape_of(input1)[:1]:
        fail(op, f"target of shape {shape_of(target)}: expected {shape_of(input1)[:1]}")
    eps = 1e-12
    norms = sqrt((total(square(input1), -1) + eps) * (total(square(input2), -1) + eps))
    cosine = total(input1 * input2, -1) / norms
    loss = where(eq(target, 1), 1.0 - cosine, 0.0) + where(eq(target, -1), clamp(cosine - margin, min=0.0), 0.0)
    return reduced(loss, reduction)
