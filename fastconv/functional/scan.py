"""Scans: sums, products, extremes and log-sum-exp of all values up to each along a dimension."""

from __future__ import annotations

from fastconv.functional.record import Array, array, function, sample, wrong
from fastconv.functional.reduction import asked, cast, floats, many
from fastconv.functional.selection import Selected
from fastconv.graph.ir import Tensor
from fastconv.ops.arguments import dimension
from fastconv.ops.map import fused
from fastconv.ops.scan import scanned
from fastconv.ops.views import tensor

__all__ = ["cummax", "cummin", "cumprod", "cumsum", "logcumsumexp"]

_WRONG = [
    wrong(IndexError, "dim=2: expected -2 to 1", (2, 3), 2),
    wrong(TypeError, "dim=0.5", (2, 3), 0.5),
    wrong(TypeError, "input", "a", 0),
]
_SAMPLES = [
    sample((3, 4, 5), 1),
    sample((3, 40), -1),
    sample((50, 3), 0),
    sample((), 0),
    sample((2, 0), 1),
    sample((2, 3, 4, 5), 1),
]
_INTEGERS = array(lambda g: g.integers(-5, 6, (3, 7)))
_ZEROS = array(lambda g: g.integers(-1, 3, (6, 7)).astype("float32"))


def along(op: str, input, dim) -> tuple[Tensor, int]:
    x = tensor(op, "input", input)
    return x, dimension(op, dim, x.ndim)


def scan(op: str, x: Tensor, dim: int, kind: str = "float32") -> Tensor:
    x = cast(x, "float32") if kind == "float32" else x
    return scanned(op, x, dim) if x.ndim else cast(x, kind)


@function(
    method="cumsum",
    samples=lambda: [*_SAMPLES, sample(_INTEGERS, 1)],
    wrong=lambda: [*_WRONG, wrong(TypeError, "dtype=int32", (2, 3), 0, dtype="int32")],
)
def cumsum(input: Array, dim: int, *, dtype=None) -> Array:
    """The sum of all values up to each along ``dim``: of floats added up in double precision, of integers exact.

    Parameters
    ----------
    input : array
        Any shape and dtype. Of integers and truths the sums are int64.
    dim : int
    dtype : None, or the dtype of the result, or float32

    Returns
    -------
    array of the input's shape
    """
    x, at = along("cumsum", input, dim)
    return scan("cumsum", x, at, asked("cumsum", dtype, many(x), x))


@function(method="cumprod", samples=lambda: [*_SAMPLES, sample(_ZEROS, 1), sample(_INTEGERS, 0)], wrong=lambda: _WRONG)
def cumprod(input: Array, dim: int, *, dtype=None) -> Array:
    """The product of all values up to each along ``dim``; arguments as of :func:`cumsum`."""
    x, at = along("cumprod", input, dim)
    return scan("cumprod", x, at, asked("cumprod", dtype, many(x), x))


@function(
    method="logcumsumexp", samples=lambda: _SAMPLES, wrong=lambda: [*_WRONG, wrong(TypeError, "dtype int64", _INTEGERS, 0)]
)
def logcumsumexp(input: Array, dim: int) -> Array:
    """``log(cumsum(exp(input)))`` along ``dim``, without overflow."""
    x, at = along("logcumsumexp", input, dim)
    return scan("logcumsumexp", floats("logcumsumexp", x), at)


def _extreme(name: str, word: str):
    def body(input: Array, dim: int) -> Selected:
        x, at = along(name, input, dim)
        if not x.ndim:
            return Selected(x, fused(lambda v: v.builder.line("copy", 0.0), x, dtype="int64"))
        values, indices = scanned(name, x, at)
        return Selected(values, indices)

    body.__name__ = body.__qualname__ = name
    body.__doc__ = f"""The {word} of all values up to each along ``dim``, and where it is: the last of equal ones.

    Parameters
    ----------
    input : array
        Any shape and dtype.
    dim : int

    Returns
    -------
    values, indices
        Of the input's shape; indices are int64.
    """
    return function(method=name, samples=lambda: [*_SAMPLES, sample(_ZEROS, 1), sample(_INTEGERS, 0)], wrong=lambda: _WRONG)(
        body
    )


cummax = _extreme("cummax", "largest")
cummin = _extreme("cummin", "smallest")
