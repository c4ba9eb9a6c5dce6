"""Sums, means, products and extrema over any dimensions, under ``torch``'s names.

Floats are computed in float32; sums, products and extrema of integers are exact, in int64, and wrap round. Sums of floats
are added up as a tree, moments by a method that keeps the digits that matter where the mean is far from 0. NaN is the result
where there is one, extrema included.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod as product
from typing import Any, NamedTuple

import numpy as np

from fastconv._values import plain, shown
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.functional.selection import Selected
from fastconv.graph.ir import Tensor
from fastconv.ops.arguments import dimension, flag
from fastconv.ops.map import fused
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
    "max",
    "mean",
    "min",
    "nanmean",
    "nansum",
    "prod",
    "sum",
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


def given(*shape: int, kind: str = "normal"):
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


DIM_SAMPLES = [
    wrong(IndexError, "dim=3: expected -3 to 2", (2, 3, 4), 3),
    wrong(ValueError, "names a dimension twice", (2, 3), (0, -2)),
    wrong(TypeError, "dim=0.5", (2, 3), 0.5),
    wrong(TypeError, "keepdim=1", (2, 3), 0, 1),
    wrong(TypeError, "input", "a", 0),
]


def samples_of(*dims, **kwargs):
    return [sample((3, 4, 5), *((d,) if d != "none" else ()), **kwargs) for d in dims]


# ---- sums and products --------------------------------------------------------------------------------------------------


@function(
    method="sum",
    samples=lambda: [
        *samples_of("none", 1, (0, 2), -1),
        sample((2, 3), 0, True),
        sample(()),
        sample((), 0),
        sample((2, 0, 3), 1),
        sample(given(3, 4, kind="integers"), 1),
        sample(given(3, 4, kind="truths")),
        sample((700, 3), 0),
        sample((2, 3, 4, 5), (2, 3)),
    ],
    wrong=lambda: [*DIM_SAMPLES, wrong(TypeError, "dtype=int32", (2, 3), 0, dtype="int32")],
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
        *samples_of("none", 1, (0, 2), -1),
        sample((2, 3), 0, True),
        sample(()),
        sample((2, 0), 1),
        sample((4, 8, 7, 7), (2, 3)),
    ],
    wrong=lambda: [*DIM_SAMPLES, wrong(TypeError, "dtype int64", given(3, kind="integers"))],
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
        *samples_of("none", 1, -1),
        sample(given(3, 5, kind="zeros"), 1),
        sample((2, 3), 0, True),
        sample(()),
        sample((2, 0), 1),
        sample(given(3, 4, kind="integers"), 0),
    ],
    wrong=lambda: DIM_SAMPLES[:1] + DIM_SAMPLES[2:],
)
def prod(input: Array, dim: int | None = None, keepdim: bool = False, *, dtype=None) -> Array:
    """The product over a dimension, or over all; arguments as of :func:`sum`. Gradients are right where values are 0."""
    x = tensor("prod", "input", input)
    keepdim, kind = flag("prod", "keepdim", keepdim), asked("prod", dtype, many(x), x)
    return reduced("prod", cast(x, kind) if kind == "float32" else x, dims_of("prod", x, dim), keepdim)


@function(
    method="nansum",
    samples=lambda: [sample(given(3, 4, kind="nans")), sample(given(3, 4, kind="nans"), 1, True), sample((2, 3), (0, 1))],
    wrong=lambda: DIM_SAMPLES,
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
    samples=lambda: [sample(given(3, 4, kind="nans")), sample(given(3, 9, kind="nans"), 1, True), sample((2, 3), (0, 1))],
    wrong=lambda: DIM_SAMPLES,
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
        sample(given(3, 4, kind="ties")),
        sample(given(3, 4, kind="integers"), (0, 1)),
        sample(given(3, 4, kind="truths"), 1),
    ],
    wrong=lambda: DIM_SAMPLES[:3],
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
        wrong=lambda: DIM_SAMPLES,
        samples=lambda: [
            sample(given(3, 4, kind="ties"), 1),
            sample(given(9, 2, kind="truths"), 1, True),
            sample(given(3, 4, kind="integers")),
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
            *samples_of("none", 1, (0, 2)),
            sample(given(3, 40, kind="ties"), 1, True),
            sample(()),
            sample(given(3, 4, kind="integers"), 0),
        ],
        wrong=lambda: [*DIM_SAMPLES, wrong(IndexError, "no elements along dimension 1", (2, 0), 1)],
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
            *samples_of("none", 1, -1),
            sample((3, 5000), 1, True),
            sample(()),
            sample((400, 9), 0),
            sample((2, 3, 4, 5), 1),
        ],
        wrong=lambda: [*DIM_SAMPLES[:1], *DIM_SAMPLES[2:], wrong(IndexError, "no elements", (2, 0), 1)],
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
            sample(given(3, 4, kind="ties")),
            sample(()),
            sample((), 0),
        ],
        wrong=lambda: [DIM_SAMPLES[0], *DIM_SAMPLES[2:], wrong(IndexError, "no elements", (2, 0), 1)],
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
