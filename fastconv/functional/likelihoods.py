"""Losses of likelihoods: binary cross-entropy, divergences, counts and normal errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv.functional.activations import logsigmoid
from fastconv.functional.losses import REDUCTIONS, alike, chosen, floats, pair, real, reduced, shape_of, shares
from fastconv.functional.parametric import clamp, where
from fastconv.functional.pointwise import exp, log, log1p, square, xlogy
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.functional.reduction import mean
from fastconv.functional.reduction import sum as total
from fastconv.functional.structure import unsqueeze
from fastconv.graph.ir import Tensor, apply
from fastconv.ops.arguments import flag

__all__ = ["binary_cross_entropy", "binary_cross_entropy_with_logits", "gaussian_nll_loss", "kl_div", "poisson_nll_loss"]


@function(samples=lambda: [sample(shares(3, 4), shares(3, 4), reduction=r) for r in REDUCTIONS] + [
              sample(shares(3, 4), shares(3, 4), weight=(4,)), sample(shares(5), shares(5))],
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


@function(samples=lambda: [sample((3, 4), shares(3, 4), reduction=r) for r in REDUCTIONS] + [
              sample((3, 4), shares(3, 4), weight=(3, 1)), sample((3, 4), shares(3, 4), pos_weight=shares(4)),
              sample((2, 3, 4, 5), shares(2, 3, 4, 5), pos_weight=shares(3, 1, 1), weight=(5,))],
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


@function(samples=lambda: [sample((3, 4), shares(3, 4), reduction=r) for r in (*REDUCTIONS, "batchmean")] + [
              sample((3, 4), (3, 4), log_target=True), sample((5,), shares(5)),
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


@function(samples=lambda: [sample((3, 4), shares(3, 4), reduction=r) for r in REDUCTIONS] + [
              sample(shares(3, 4), array(lambda g: g.uniform(0, 6, (3, 4)).astype(np.float32)), log_input=False, full=True),
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


@function(samples=lambda: [sample((3, 4), (3, 4), shares(3, 4), reduction=r) for r in REDUCTIONS] + [
              sample((3, 4), (3, 4), shares(3, 1)), sample((3, 4), (3, 4), shares(3)),
              sample((3, 4), (3, 4), shares(3, 4), full=True, eps=0.5), sample((3, 4), (3, 4), 0.7)],
          wrong=lambda: [wrong(ValueError, "var of shape", (3, 4), (3, 4), shares(2)),
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
