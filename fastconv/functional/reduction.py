"""Sums, means, extrema, norms and scans over any dimensions, under ``torch``'s names.

Floats are computed in float32; sums, products and extrema of integers are exact, in int64, and wrap round. Sums of floats
are added up as a tree, moments by a method that keeps the digits that matter where the mean is far from 0. NaN is the result
where there is one, extrema included.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from math import prod as product
from typing import Any, NamedTuple

import numpy as np

from fastconv._values import plain, shown
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.functional.selection import Selected
from fastconv.graph.ir import Tensor
from fastconv.ops.arguments import dimension, flag, number
from fastconv.ops.map import broadcast_shape, fused
from fastconv.ops.reduce import reduced
from fastconv.ops.views import tensor

__all__ = [
    "all",
    "amax",
    "amin",
    "aminmax",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "dist",
    "logsumexp",
    "max",
    "mean",
    "min",
    "nanmean",
    "nansum",
    "norm",
    "prod",
    "renorm",
    "std",
    "std_mean",
    "sum",
    "var",
    "var_mean",
    "vector_norm",
]

Dims = Any  # int, sequence of int or None


# ---- arguments ----------------------------------------------------------------------------------------------------------


def dims_of(op: str, x: Tensor, dim: Dims) -> tuple[int, ...]:
    """Dimensions counted from the front: all of them for None and for an empty sequence; none of what has none."""
    dim = plain(dim)
    if dim is None or isinstance(dim, (tuple, list)) and not dim:
        return tuple(range(x.ndim))
    given = list(dim) if isinstance(dim, (tuple, list)) else [dim]
    found = [dimension(op, d, x.ndim) for d in given]
    if len(set(found)) < len(found):
        fail(op, f"dim={shown(dim)} names a dimension twice: input of shape {x.type.shape}")
    return tuple(found) if x.ndim else ()


def some(op: str, x: Tensor, dims: Sequence[int]) -> None:
    """Refuses an operation that has no value for nothing at all."""
    empty = [d for d in dims if x.type.shape[d] == 0]
    results: list[int] = [s for d, s in enumerate(x.type.shape) if d not in dims]
    if empty and (0 not in results or len(dims) == x.ndim):
        fail(
            op,
            f"input of shape {x.type.shape} has no elements along dimension {empty[0]}: {op} of nothing is not defined",
            IndexError,
        )


def asked(op: str, dtype: Any, natural: str, x: Tensor) -> str:
    """The dtype of a result: the natural one, or float32 where that is asked for."""
    if dtype is None:
        return natural
    try:
        name = str(dtype).removeprefix("torch.") if "torch" in str(dtype) else np.dtype(dtype).name
    except TypeError:
        name = shown(dtype)
    if name not in (natural, "float32"):
        fail(op, f"dtype={name}: expected None, {natural} or float32 for an input of {x.dtype}", TypeError)
    return name


def cast(x: Tensor, dtype: str) -> Tensor:
    return x if x.dtype == dtype else fused(lambda v: v, x, dtype=dtype)


def floats(op: str, x: Tensor, what: str = "float32") -> Tensor:
    if x.dtype != "float32":
        fail(op, f"input has dtype {x.dtype}: expected {what}", TypeError)
    return x


def many(x: Tensor) -> str:
    """The dtype of a sum or product by PyTorch's rule: integers and truths give int64."""
    return "float32" if x.dtype == "float32" else "int64"


def _given(*shape: int, kind: str = "normal"):
    """Arrays of samples that are no normal deviates."""
    made = {
        "ties": lambda g: g.integers(0, 3, shape).astype(np.float32),
        "near 1": lambda g: g.uniform(0.5, 1.5, shape),
        "integers": lambda g: g.integers(-5, 6, shape),
        "truths": lambda g: g.integers(0, 2, shape) == 1,
        "zeros": lambda g: np.maximum(g.standard_normal(shape), 0),
        "nans": lambda g: np.where(g.random(shape) < 0.3, np.nan, g.standard_normal(shape)),
        "different": lambda g: g.permutation(product(shape)).reshape(shape),
    }[kind]
    kept = ("integers", "truths")
    return array(lambda g: made(g) if kind in kept else made(g).astype(np.float32))


_DIM = [
    wrong(IndexError, "dim=3: expected -3 to 2", (2, 3, 4), 3),
    wrong(ValueError, "names a dimension twice", (2, 3), (0, -2)),
    wrong(TypeError, "dim=0.5", (2, 3), 0.5),
    wrong(TypeError, "keepdim=1", (2, 3), 0, 1),
    wrong(TypeError, "input", "a", 0),
]


def _samples(*dims, **kwargs):
    return [sample((3, 4, 5), *((d,) if d != "none" else ()), **kwargs) for d in dims]


# ---- sums and products --------------------------------------------------------------------------------------------------


@function(
    method="sum",
    samples=lambda: [
        *_samples("none", 1, (0, 2), -1),
        sample((2, 3), 0, True),
        sample(()),
        sample((), 0),
        sample((2, 0, 3), 1),
        sample(_given(3, 4, kind="integers"), 1),
        sample(_given(3, 4, kind="truths")),
        sample((700, 3), 0),
        sample((2, 3, 4, 5), (2, 3)),
    ],
    wrong=lambda: [*_DIM, wrong(TypeError, "dtype=int32", (2, 3), 0, dtype="int32")],
)
def sum(input: Array, dim: Dims = None, keepdim: bool = False, *, dtype=None) -> Array:
    """The sum over some dimensions.

    Parameters
    ----------
    input : array
        Any shape and dtype. Of integers and truths the sum is int64.
    dim : int, sequence of int, or None
        None: over all.
    keepdim : bool, default False
        Whether the dimensions stay, with extent 1.
    dtype : None, or the dtype of the result, or float32

    Returns
    -------
    array

    Raises
    ------
    IndexError, TypeError, ValueError
    """
    x = tensor("sum", "input", input)
    keepdim, dims, kind = flag("sum", "keepdim", keepdim), dims_of("sum", x, dim), asked("sum", dtype, many(x), x)
    return reduced("sum", cast(x, kind) if kind == "float32" else x, dims, keepdim)


@function(
    method="mean",
    samples=lambda: [
        *_samples("none", 1, (0, 2), -1),
        sample((2, 3), 0, True),
        sample(()),
        sample((2, 0), 1),
        sample((4, 8, 7, 7), (2, 3)),
    ],
    wrong=lambda: [*_DIM, wrong(TypeError, "dtype int64", _given(3, kind="integers"))],
)
def mean(input: Array, dim: Dims = None, keepdim: bool = False, *, dtype=None) -> Array:
    """The mean over some dimensions of float32 values; arguments as of :func:`sum`. That of nothing is NaN."""
    x = tensor("mean", "input", input)
    if asked("mean", dtype, "float32", x) and dtype is None:
        floats("mean", x, "float32, or dtype=float32")
    return reduced("mean", x, dims_of("mean", x, dim), flag("mean", "keepdim", keepdim))


@function(
    method="prod",
    samples=lambda: [
        *_samples("none", 1, -1),
        sample(_given(3, 5, kind="zeros"), 1),
        sample((2, 3), 0, True),
        sample(()),
        sample((2, 0), 1),
        sample(_given(3, 4, kind="integers"), 0),
    ],
    wrong=lambda: _DIM[:1] + _DIM[2:],
)
def prod(input: Array, dim: int | None = None, keepdim: bool = False, *, dtype=None) -> Array:
    """The product over a dimension, or over all; arguments as of :func:`sum`. Gradients are right where values are 0."""
    x = tensor("prod", "input", input)
    keepdim, kind = flag("prod", "keepdim", keepdim), asked("prod", dtype, many(x), x)
    return reduced("prod", cast(x, kind) if kind == "float32" else x, dims_of("prod", x, dim), keepdim)


@function(
    method="nansum",
    samples=lambda: [sample(_given(3, 4, kind="nans")), sample(_given(3, 4, kind="nans"), 1, True), sample((2, 3), (0, 1))],
    wrong=lambda: _DIM,
)
def nansum(input: Array, dim: Dims = None, keepdim: bool = False, *, dtype=None) -> Array:
    """The sum with NaN counted as 0; arguments as of :func:`sum`."""
    x = tensor("nansum", "input", input)
    if x.dtype != "float32":
        return sum(x, dim, keepdim, dtype=dtype)
    asked("nansum", dtype, "float32", x)
    return reduced("nansum", x, dims_of("nansum", x, dim), flag("nansum", "keepdim", keepdim))


@function(
    method="nanmean",
    samples=lambda: [sample(_given(3, 4, kind="nans")), sample(_given(3, 9, kind="nans"), 1, True), sample((2, 3), (0, 1))],
    wrong=lambda: _DIM,
)
def nanmean(input: Array, dim: Dims = None, keepdim: bool = False, *, dtype=None) -> Array:
    """The mean of what is not NaN; arguments as of :func:`sum`."""
    x = floats("nanmean", tensor("nanmean", "input", input))
    asked("nanmean", dtype, "float32", x)
    dims, keepdim = dims_of("nanmean", x, dim), flag("nanmean", "keepdim", keepdim)
    return fused(lambda s, n: s / n, reduced("nansum", x, dims, keepdim), reduced("numbers", x, dims, keepdim))


@function(
    method="count_nonzero",
    differentiable=False,
    samples=lambda: [
        sample(_given(3, 4, kind="ties")),
        sample(_given(3, 4, kind="integers"), (0, 1)),
        sample(_given(3, 4, kind="truths"), 1),
    ],
    wrong=lambda: _DIM[:3],
)
def count_nonzero(input: Array, dim: Dims = None) -> Array:
    """How many values are not 0, int64; NaN is not."""
    x = tensor("count_nonzero", "input", input)
    return reduced("count_nonzero", x, dims_of("count_nonzero", x, dim))


def _truth(name: str, text: str):
    def body(input: Array, dim: Dims = None, keepdim: bool = False) -> Array:
        x = tensor(name, "input", input)
        made = reduced(name, x, dims_of(name, x, dim), flag(name, "keepdim", keepdim))
        return cast(made, "uint8") if x.dtype == "uint8" else made

    body.__name__ = body.__qualname__ = name
    body.__doc__ = f"""Whether {text} not 0: bool (uint8 of uint8). NaN is not 0.

    Parameters
    ----------
    input : array
        Any shape and dtype.
    dim : int, sequence of int, or None
    keepdim : bool, default False
    """
    return function(
        method=name,
        differentiable=False,
        wrong=lambda: _DIM,
        samples=lambda: [
            sample(_given(3, 4, kind="ties"), 1),
            sample(_given(9, 2, kind="truths"), 1, True),
            sample(_given(3, 4, kind="integers")),
            sample((2, 0), 1),
            sample((2, 3, 4), (0, 2)),
        ],
    )(body)


any = _truth("any", "one value is")
all = _truth("all", "every value is")


# ---- extrema --------------------------------------------------------------------------------------------------------------


def _extreme(name: str, operation: str, word: str):
    def body(input: Array, dim: Dims = (), keepdim: bool = False) -> Array:
        x = tensor(name, "input", input)
        dims = dims_of(name, x, dim)
        some(name, x, dims)
        return reduced(operation, x, dims, flag(name, "keepdim", keepdim))

    body.__name__ = body.__qualname__ = name
    body.__doc__ = f"""The {word} over some dimensions; all values that are it share its gradient.

    Parameters
    ----------
    input : array
        Any shape and dtype.
    dim : int or sequence of int, default all
    keepdim : bool, default False

    Raises
    ------
    IndexError
        Where there are no values.
    """
    return function(
        method=name,
        samples=lambda: [
            *_samples("none", 1, (0, 2)),
            sample(_given(3, 40, kind="ties"), 1, True),
            sample(()),
            sample(_given(3, 4, kind="integers"), 0),
        ],
        wrong=lambda: [*_DIM, wrong(IndexError, "no elements along dimension 1", (2, 0), 1)],
    )(body)


amax = _extreme("amax", "max", "largest value")
amin = _extreme("amin", "min", "smallest value")


def _place(name: str, word: str):
    def body(input: Array, dim: int | None = None, keepdim: bool = False) -> Array:
        x = tensor(name, "input", input)
        dims = dims_of(name, x, dim)
        if len(dims) != x.ndim and len(dims) != 1:
            fail(name, f"dim={shown(dim)}: expected an integer or None", TypeError)
        some(name, x, dims)
        return reduced(name, x, dims, flag(name, "keepdim", keepdim))[0]

    body.__name__ = body.__qualname__ = name
    body.__doc__ = f"""Where the {word} value is, int64: along a dimension, or among all in C order. The first of equal ones;
    NaN counts as it.

    Parameters
    ----------
    input : array
        Any shape and dtype.
    dim : int or None
    keepdim : bool, default False
    """
    return function(
        method=name,
        differentiable=False,
        samples=lambda: [
            *_samples("none", 1, -1),
            sample((3, 5000), 1, True),
            sample(()),
            sample((400, 9), 0),
            sample((2, 3, 4, 5), 1),
        ],
        wrong=lambda: [*_DIM[:1], *_DIM[2:], wrong(IndexError, "no elements", (2, 0), 1)],
    )(body)


argmax = _place("argmax", "largest")
argmin = _place("argmin", "smallest")


def _both(name: str, operation: str, elementwise: str, word: str):
    def body(input: Array, dim: Array | int | None = None, keepdim: bool = False) -> Array | Selected:
        if isinstance(plain(input), (bool, int, float)):
            fail(name, f"input={shown(input)}: expected an array", TypeError)
        x = tensor(name, "input", input)
        if dim is not None and not isinstance(plain(dim), (int, float, str, tuple, list)):  # another array
            other = tensor(name, "other", dim)
            if other.dtype != x.dtype:
                fail(name, f"other has dtype {other.dtype}: expected {x.dtype}, that of input", TypeError)
            return fused(lambda a, b: getattr(a, elementwise)(b), x, other, dtype=x.dtype)
        keepdim = flag(name, "keepdim", keepdim)
        if dim is None:
            some(name, x, dims_of(name, x, None))
            return reduced(operation, x, dims_of(name, x, None), False)
        dims = dims_of(name, x, dimension(name, dim, x.ndim))
        some(name, x, dims)
        indices, values = reduced(f"arg{operation}", x, dims, keepdim)
        return Selected(values, indices)

    body.__name__ = body.__qualname__ = name
    body.__doc__ = f"""The {word} value: of all; along a dimension, with where it is; or element by element of two arrays.

    Parameters
    ----------
    input : array
        Any shape and dtype.
    dim : int or array, optional
        A dimension; or the other array, which broadcasts with ``input``.
    keepdim : bool, default False

    Returns
    -------
    array, or (values, indices)
        Indices are int64: the first of equal ones; NaN counts as the {word}. The gradient goes to that place; without
        ``dim`` all values that are the {word} share it.
    """
    return function(
        method=name,
        samples=lambda: [
            sample((3, 4, 5)),
            sample((3, 4, 5), 1),
            sample((3, 40), -1, True),
            sample((3, 4), (3, 4)),
            sample(_given(3, 4, kind="ties")),
            sample(()),
            sample((), 0),
        ],
        wrong=lambda: [_DIM[0], *_DIM[2:], wrong(IndexError, "no elements", (2, 0), 1)],
    )(body)


max = _both("max", "max", "maximum", "largest")
min = _both("min", "min", "minimum", "smallest")


class MinMax(NamedTuple):
    """The smallest and the largest values."""

    min: Array
    max: Array


@function(
    method="aminmax",
    samples=lambda: [sample((3, 4)), sample((3, 4, 5), dim=1), sample((3, 4), dim=-1, keepdim=True)],
    wrong=lambda: [wrong(IndexError, "dim=2", (2, 3), dim=2), wrong(IndexError, "no elements", (2, 0), dim=1)],
)
def aminmax(input: Array, *, dim: int | None = None, keepdim: bool = False) -> MinMax:
    """The smallest and the largest value, of all or along a dimension: ``(min, max)``."""
    x = tensor("aminmax", "input", input)
    dims, keepdim = dims_of("aminmax", x, dim), flag("aminmax", "keepdim", keepdim)
    some("aminmax", x, dims)
    return MinMax(*(reduced(way, x, dims, keepdim) for way in ("min", "max")))


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
        *_DIM[:3],
        wrong(TypeError, "keepdim=1", (2, 3), 0, True, 1),
        wrong(TypeError, "unbiased=3", (2, 3), 0, 3),
        wrong(TypeError, "correction='a'", (2, 3), correction="a"),
        wrong(TypeError, "expected one of them", (2, 3), 0, True, correction=1),
        wrong(TypeError, "dtype int64", _given(3, kind="integers")),
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
        sample(_given(3, 4, kind="integers"), 1),
    ],
    wrong=lambda: _DIM,
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
