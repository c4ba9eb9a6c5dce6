"""Losses that are made of other functions, under PyTorch's names, with its arguments and definitions: what they share, and
those of differences. The others are in likelihoods, classes, margins and metric."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastconv._values import shown
from fastconv.functional.indexing import gather
from fastconv.functional.parametric import clamp
from fastconv.functional.pointwise import abs as absolute
from fastconv.functional.pointwise import square
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.functional.reduction import mean
from fastconv.functional.reduction import sum as total
from fastconv.graph.ir import Tensor
from fastconv.ops.arguments import flag, number
from fastconv.ops.views import tensor

__all__ = ["huber_loss", "l1_loss", "smooth_l1_loss"]
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


# ---- samples -----------------------------------------------------------------------------------------------------------


def shares(*shape):
    return array(lambda g: g.uniform(0.05, 0.95, shape).astype(np.float32))


def labels(high: int, *shape: int, low: int = 0, dtype: str = "int64"):
    return array(lambda g: np.asarray(g.integers(low, high, shape), dtype))


def signs(*shape: int):
    return array(lambda g: np.asarray(2 * g.integers(0, 2, shape) - 1, np.float32))


# ---- errors -------------------------------------------------------------------------------------------------------------

PAIR = [((3, 4), (3, 4)), ((2, 3, 4, 5), (2, 3, 4, 5)), ((5,), (5,)), ((), ())]
EVERY = [sample(a, b, reduction=r) for a, b in PAIR for r in REDUCTIONS]
WRONG = [wrong(ValueError, "reduction='max'", (3, 4), (3, 4), reduction="max"),
          wrong(TypeError, "target has dtype int64", (3, 4), array(lambda g: g.integers(0, 3, (3, 4))))]


@function(samples=lambda: [*EVERY, sample((3, 4), (3, 4), weight=(3, 4)), sample((3, 4), (4,)),
                           sample((3, 4), (3, 4), reduction="sum", weight=(3, 4)), sample((3, 4), (3, 4), reduce=False)],
          wrong=lambda: [*WRONG, wrong(ValueError, "weight of shape", (3, 4), (3, 4), weight=(4,))])
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


@function(name="mse_loss", samples=lambda: [*EVERY, sample((3, 4), (3, 4), weight=(3, 4)), sample((3, 4), (4,))],
          wrong=lambda: WRONG)
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


@function(samples=lambda: [*EVERY, sample((3, 4), (3, 4), beta=0.3), sample((3, 4), (3, 4), beta=0.0)],
          wrong=lambda: [*WRONG, wrong(ValueError, "beta=-1", (3, 4), (3, 4), beta=-1.0)])
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


@function(samples=lambda: [*EVERY, sample((3, 4), (3, 4), delta=0.3), sample((3, 4), (3, 4), weight=(3, 4))],
          wrong=lambda: [*WRONG, wrong(ValueError, "delta=0", (3, 4), (3, 4), delta=0.0)])
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
