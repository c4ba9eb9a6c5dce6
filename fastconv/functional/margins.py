"""Losses with a margin: hinges, rankings, several classes and labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv._values import plain, shown
from fastconv.functional.activations import logsigmoid
from fastconv.functional.indexing import embedding
from fastconv.functional.losses import (
    REDUCTIONS,
    at,
    chosen,
    floats,
    labels,
    numbers,
    real,
    reduced,
    shape_of,
    shares,
    signs,
)
from fastconv.functional.parametric import clamp, where
from fastconv.functional.pointwise import eq, logical_and, logical_not, ne, square
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.functional.reduction import any as any_of
from fastconv.functional.reduction import mean
from fastconv.functional.reduction import sum as total
from fastconv.functional.structure import squeeze, unsqueeze
from fastconv.graph.ir import Tensor
from fastconv.ops.views import tensor

__all__ = [
    "hinge_embedding_loss", "margin_ranking_loss", "multi_margin_loss", "multilabel_margin_loss",
    "multilabel_soft_margin_loss", "soft_margin_loss",
]


@function(samples=lambda: [sample((3, 4), signs(3, 4), reduction=r) for r in REDUCTIONS] + [
              sample((5,), signs(5), margin=0.3)],
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


@function(samples=lambda: [sample((3, 4), (3, 4), signs(3, 4), reduction=r) for r in REDUCTIONS] + [
              sample((5,), (5,), signs(5), margin=0.5)],
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


@function(samples=lambda: [sample((3, 4), signs(3, 4), reduction=r) for r in REDUCTIONS],
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


@function(samples=lambda: [sample((6, 5), labels(5, 6), reduction=r) for r in REDUCTIONS] + [
              sample((6, 5), labels(5, 6), p=2, margin=0.4), sample((6, 5), labels(5, 6), weight=shares(5)),
              sample((5,), labels(5))],
          wrong=lambda: [wrong(ValueError, "p=3", (6, 5), labels(5, 6), p=3),
                         wrong(ValueError, "weight of shape (4,)", (6, 5), labels(5, 6), weight=(4,)),
                         wrong(ValueError, "target of shape (5,)", (6, 5), labels(5, 5))])
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
          wrong=lambda: [wrong(ValueError, "target of shape (3,)", (3, 4), labels(4, 3))])
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


@function(samples=lambda: [sample((3, 4), shares(3, 4), reduction=r) for r in REDUCTIONS] + [
              sample((3, 4), shares(3, 4), weight=shares(4))],
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
