"""Losses of distances: triplets, cosines."""

from __future__ import annotations

import math
from collections.abc import Callable

from fastconv.functional.losses import REDUCTIONS, chosen, floats, numbers, real, reduced, shape_of, signs
from fastconv.functional.parametric import clamp, where
from fastconv.functional.pointwise import abs as absolute
from fastconv.functional.pointwise import eq, minimum, sqrt, square
from fastconv.functional.record import Array, fail, function, once, sample, wrong
from fastconv.functional.reduction import amax
from fastconv.functional.reduction import sum as total
from fastconv.graph.ir import Tensor, current_graph
from fastconv.ops.arguments import flag

__all__ = ["cosine_embedding_loss", "triplet_margin_loss", "triplet_margin_with_distance_loss"]


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


@function(samples=lambda: [sample((3, 4), (3, 4), signs(3), reduction=r) for r in REDUCTIONS] + [
              sample((3, 4), (3, 4), signs(3), margin=0.3), sample((4,), (4,), signs())],
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
