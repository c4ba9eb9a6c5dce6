"""Variances, norms and distances over any dimensions, under ``torch``'s names.

Floats are computed in float32, moments by a method that keeps the digits that matter where the mean is far from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from fastconv._values import shown
from fastconv.functional.record import Array, fail, function, sample, wrong
from fastconv.functional.reduction import DIM_SAMPLES, Dims, asked, cast, dims_of, floats, given, some
from fastconv.graph.ir import Tensor
from fastconv.ops.arguments import dimension, flag, number
from fastconv.ops.map import broadcast_shape, fused
from fastconv.ops.reduce import reduced
from fastconv.ops.views import tensor

__all__ = [
    "dist",
    "logsumexp",
    "norm",
    "renorm",
    "std",
    "std_mean",
    "var",
    "var_mean",
    "vector_norm",
]


# ---- moments ------------------------------------------------------------------------------------------------------------


def _correction(op: str, dim, unbiased, correction) -> tuple[Dims, float]:
    """The dimensions, and what is taken from the number of values: the forms that PyTorch has."""
    if isinstance(dim, bool):
        if unbiased is not None:
            fail(op, f"dim={dim}: expected dimensions", TypeError)
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        fail(op, f"unbiased={shown(unbiased)} and correction={shown(correction)}: expected one of them", TypeError)
    if correction is not None:
        return dim, float(number(op, "correction", correction))
    return dim, 1.0 if unbiased is None or flag(op, "unbiased", unbiased) else 0.0


_MOMENTS: dict[str, Any] = {
    "wrong": lambda: [
        *DIM_SAMPLES[:3],
        wrong(TypeError, "keepdim=1", (2, 3), 0, True, 1),
        wrong(TypeError, "unbiased=3", (2, 3), 0, 3),
        wrong(TypeError, "correction='a'", (2, 3), correction="a"),
        wrong(TypeError, "expected one of them", (2, 3), 0, True, correction=1),
        wrong(TypeError, "dtype int64", given(3, kind="integers")),
    ],
    "samples": lambda: [
        sample((3, 4, 5)),
        sample((3, 4, 5), 1),
        sample((3, 4, 5), (0, 2), correction=0, keepdim=True),
        sample((3, 4, 5), (1,), False),
        sample((6,), False),
        sample((4, 300), -1, correction=2.5),
    ],
}


def _moments(op: str, operation: str, input, dim, unbiased, keepdim, correction):
    x = floats(op, tensor(op, "input", input))
    dim, correction = _correction(op, dim, unbiased, correction)
    return reduced(operation, x, dims_of(op, x, dim), flag(op, "keepdim", keepdim), correction=correction)


@function(method="var", **_MOMENTS)
def var(
    input: Array, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> Array:
    """The variance over some dimensions: the sum of squared distances from the mean by ``count - correction``.

    Parameters
    ----------
    input : array
        float32, any shape.
    dim : int, sequence of int, or None
        None: over all.
    unbiased : bool, optional
        True is ``correction=1``, False is ``correction=0``.
    keepdim : bool, default False
    correction : float, default 1

    Notes
    -----
    Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    """
    return _moments("var", "var", input, dim, unbiased, keepdim, correction)[0]


@function(method="std", **_MOMENTS)
def std(
    input: Array, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> Array:
    """The square root of the variance; arguments as of :func:`var`."""
    return _moments("std", "std", input, dim, unbiased, keepdim, correction)[0]


@function(**_MOMENTS)
def var_mean(
    input: Array, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Array, Array]:
    """(variance, mean); arguments as of :func:`var`."""
    return _moments("var_mean", "var", input, dim, unbiased, keepdim, correction)


@function(**_MOMENTS)
def std_mean(
    input: Array, dim: Dims = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Array, Array]:
    """(standard deviation, mean); arguments as of :func:`var`."""
    return _moments("std_mean", "std", input, dim, unbiased, keepdim, correction)


# ---- norms --------------------------------------------------------------------------------------------------------------


@function(
    method="logsumexp",
    samples=lambda: [
        sample((3, 4, 5), 1),
        sample((3, 4, 5), (0, 2), True),
        sample((3, 400), -1),
        sample((), 0),
        sample(given(3, 4, kind="integers"), 1),
    ],
    wrong=lambda: DIM_SAMPLES,
)
def logsumexp(input: Array, dim: Dims, keepdim: bool = False) -> Array:
    """``log(sum(exp(input)))`` over some dimensions, without overflow."""
    x = tensor("logsumexp", "input", input)
    return reduced("logsumexp", x, dims_of("logsumexp", x, dim), flag("logsumexp", "keepdim", keepdim))


def norm_over(op: str, x: Tensor, p: Any, dims: Sequence[int], keepdim: bool, name: str = "p") -> Tensor:
    """The p-norm of the values, any p: the largest absolute value for inf, how many are not 0 for 0."""
    p = float(number(op, name, p))
    if p == 0:
        return cast(reduced("count_nonzero", x, dims, keepdim), "float32")
    if p in (inf, -inf):
        some(op, x, dims)
        return reduced("abs_max" if p > 0 else "abs_min", x, dims, keepdim)
    if p < 0:
        some(op, x, dims)
    named = {1.0: "abs_sum", 2.0: "norm"}.get(p)
    return reduced(named, x, dims, keepdim) if named else reduced("norm_p", x, dims, keepdim, p=p)


_NORMS = [1, 2, 3, 2.5, 0.5, 0, inf, -inf, -1]


@function(
    samples=lambda: [sample((3, 4, 5), p, (0, 2)) for p in _NORMS] + [sample((3, 4)), sample((3, 4), 2, 1, True)],
    wrong=lambda: [
        wrong(IndexError, "dim=3", (2, 3), 2, 3),
        wrong(TypeError, "ord='a'", (2, 3), "a"),
        wrong(IndexError, "no elements", (2, 0), inf, 1),
    ],
)
def vector_norm(x: Array, ord: float = 2, dim: Dims = None, keepdim: bool = False, *, dtype=None) -> Array:
    """The norm ``sum(abs(x) ** ord) ** (1 / ord)`` over some dimensions, as ``torch.linalg.vector_norm``.

    Parameters
    ----------
    x : array
        float32, any shape.
    ord : float, default 2
        Any number, inf (the largest absolute value), -inf (the smallest), 0 (how many are not 0).
    dim : int, sequence of int, or None
        None: over all.
    keepdim : bool, default False
    """
    x = floats("vector_norm", tensor("vector_norm", "x", x))
    asked("vector_norm", dtype, "float32", x)
    return norm_over("vector_norm", x, ord, dims_of("vector_norm", x, dim), flag("vector_norm", "keepdim", keepdim), "ord")


@function(
    method="norm",
    samples=lambda: (
        [sample((3, 4))]
        + [sample((3, 4, 5), p, 1) for p in _NORMS]
        + [sample((3, 4), "fro", (0, 1), True), sample((3, 4), 1)]
    ),
    wrong=lambda: [wrong(IndexError, "dim=3", (2, 3), 2, 3), wrong(ValueError, "p='nuc'", (2, 3), "nuc")],
)
def norm(input: Array, p: float | str = "fro", dim: Dims = None, keepdim: bool = False, *, dtype=None) -> Array:
    """The norm of the values over some dimensions, as vectors; arguments as of :func:`vector_norm`, "fro" is 2.

    Raises
    ------
    ValueError
        For the nuclear norm, which needs singular values.
    """
    x = floats("norm", tensor("norm", "input", input))
    asked("norm", dtype, "float32", x)
    if isinstance(p, str) and p != "fro":
        fail("norm", f"p={p!r}: expected a number or 'fro'")
    p = 2.0 if p is None or p == "fro" else p
    return norm_over("norm", x, p, dims_of("norm", x, dim), flag("norm", "keepdim", keepdim))


@function(
    method="dist",
    samples=lambda: [sample((3, 4), (3, 4), p) for p in (2, 1, 3, inf)] + [sample((3, 4), (4,))],
    wrong=lambda: [wrong(TypeError, "p='a'", (3,), (3,), "a")],
)
def dist(input: Array, other: Array, p: float = 2) -> Array:
    """The p-norm of the difference of two arrays that broadcast."""
    x, z = (floats("dist", tensor("dist", name, t)) for name, t in (("input", input), ("other", other)))
    broadcast_shape("dist", {"input": x.type.shape, "other": z.type.shape})
    apart = fused(lambda a, b: a - b, x, z)
    return norm_over("dist", apart, p, tuple(range(apart.ndim)), False)


@function(
    method="renorm",
    samples=lambda: [sample((3, 4, 5), 2, 0, 2.0), sample((3, 4), 1, 1, 3.0), sample((4, 3), inf, -1, 0.5)],
    wrong=lambda: [
        wrong(IndexError, "dim=2", (3, 4), 2, 2, 1.0),
        wrong(ValueError, "at least 2 dimensions", (3,), 2, 0, 1.0),
        wrong(ValueError, "p=0", (3, 4), 0, 0, 1.0),
        wrong(ValueError, "maxnorm=-1", (3, 4), 2, 0, -1.0),
    ],
)
def renorm(input: Array, p: float, dim: int, maxnorm: float) -> Array:
    """The input with each slice along ``dim`` scaled so that its p-norm is at most ``maxnorm``."""
    x = floats("renorm", tensor("renorm", "input", input))
    at, most = dimension("renorm", dim, x.ndim), float(number("renorm", "maxnorm", maxnorm))
    if x.ndim < 2:
        fail("renorm", f"input of shape {x.type.shape}: expected at least 2 dimensions")
    if not number("renorm", "p", p) > 0:
        fail("renorm", f"p={shown(p)}: expected more than 0")
    if not most >= 0:
        fail("renorm", f"maxnorm={shown(maxnorm)}: expected at least 0")
    size = norm_over("renorm", x, p, [d for d in range(x.ndim) if d != at], True)
    return fused(lambda v, n: v * (n > most).where(most / (n + 1e-7), 1.0), x, size)
