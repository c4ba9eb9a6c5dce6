"""Functions that are a few others of this room: differences, traces, cross products, replaced slices; indices, windows."""

from __future__ import annotations

import math

import numpy as np

from fastconv._values import shown
from fastconv.functional.constants import check_device, dtype_name, made
from fastconv.functional.joining import cat
from fastconv.functional.matmul import taken
from fastconv.functional.pointwise import ne
from fastconv.functional.record import Array, fail, function, sample, wrong
from fastconv.functional.slicing import index_of, selected
from fastconv.functional.structure import dimension, size_of
from fastconv.functional.writing import write
from fastconv.graph.ir import Tensor, apply
from fastconv.ops.arguments import integer
from fastconv.ops.matmul import contract
from fastconv.ops.views import tensor

__all__ = ["blackman_window", "broadcast_shapes", "clone", "cross", "diff", "ger", "hamming_window", "hann_window",
           "select_scatter", "slice_scatter", "trace", "trapezoid", "trapz", "tril_indices", "triu_indices"]


@function(samples=lambda: [sample((3, 4)), sample(())], reference=lambda x: x)
def clone(input: Array, *, memory_format=None) -> Array:
    """A tensor of the same values, which is another one where either is written in place."""
    return apply("layout", [x := tensor("clone", "input", input)], layout=x.layout)


def _along(x: Tensor, at: int, start: int | None, end: int | None = None, step: int = 1) -> Tensor:
    """A slice of one dimension."""
    return x[(slice(None),) * at + (slice(start, end, step),)]


@function(method="diff", samples=lambda: [sample((5,)), sample((3, 5), 2), sample((3, 5), 1, 0),
                                          sample((3, 5), prepend=(3, 2)),
                                          sample((3, 5), append=(3, 1), dim=-1), sample((3, 2), 3)],
          wrong=lambda: [wrong(ValueError, "n=-1", (3, 4), -1), wrong(IndexError, "dim=2", (3, 4), 1, 2),
                         wrong(ValueError, "0 dimensions", ())])
def diff(input: Array, n: int = 1, dim: int = -1, prepend: Array | None = None, append: Array | None = None) -> Array:
    """Differences of neighbours along ``dim``, ``n`` times; ``prepend`` and ``append`` are joined to the input before,
    where ``n`` is not 0."""
    x, count = tensor("diff", "input", input), integer("diff", "n", n)
    if x.ndim == 0:
        fail("diff", "input has 0 dimensions: expected at least 1")
    if count < 0:
        fail("diff", f"n={count}: expected at least 0")
    at = dimension("diff", dim, x.ndim)
    more = [None if v is None else tensor("diff", name, v) for name, v in (("prepend", prepend), ("append", append))]
    if count and any(v is not None for v in more):
        x = cat([v for v in (more[0], x, more[1]) if v is not None], at)
    for _ in range(min(count, x.type.shape[at])):
        after, before = _along(x, at, 1), _along(x, at, 0, -1)
        x = ne(after, before) if x.dtype == "bool" else after - before
    return x


@function(method="trace", samples=lambda: [sample((4, 4)), sample((3, 5)), sample((5, 3))],
          wrong=lambda: [wrong(ValueError, "expected 2", (3,))])
def trace(input: Array) -> Array:
    """Sum of the diagonal of a matrix."""
    x = tensor("trace", "input", input)
    if x.ndim != 2:
        fail("trace", f"input of shape {size_of(x)} has {x.ndim} dimensions: expected 2")
    return x.diagonal().sum()  # type: ignore[attr-defined]


@function(method="ger", samples=lambda: [sample((3,), (4,))], wrong=lambda: [wrong(ValueError, "expected 1", (3, 2), (4,))])
def ger(input: Array, vec2: Array) -> Array:
    """:func:`outer`, of before."""
    a, b = taken("ger", 1, input=input, vec2=vec2)
    return contract(a, b, "a,b->ab")


@function(method="cross", samples=lambda: [sample((4, 3), (4, 3)), sample((3, 4), (3, 4), dim=0),
                                           sample((2, 3, 5), (1, 3, 1), dim=1)],
          wrong=lambda: [wrong(ValueError, "expected 3 elements", (4, 4), (4, 4)),
                         wrong(ValueError, "expected 3 elements", (4, 3), (4, 2), dim=1)])
def cross(input: Array, other: Array, dim: int | None = None) -> Array:
    """Vector products along ``dim``, of three elements; default the first such dimension."""
    x, y = tensor("cross", "input", input), tensor("cross", "other", other)
    if x.ndim != y.ndim:
        fail("cross", f"input of shape {size_of(x)} and other of shape {size_of(y)}: expected equally many dimensions")
    at = next((d for d in range(x.ndim) if size_of(x)[d] == 3), -1) if dim is None else dim
    at = dimension("cross", at, x.ndim)
    if size_of(x)[at] != 3 or size_of(y)[at] != 3:
        fail("cross", f"input of shape {size_of(x)} and other of shape {size_of(y)}: expected 3 elements along dim={at}")
    return x.roll(-1, at) * y.roll(1, at) - x.roll(1, at) * y.roll(-1, at)  # type: ignore[attr-defined]


@function(method="select_scatter", samples=lambda: [sample((3, 4), (4,), 0, 1), sample((2, 3, 4), (2, 4), 1, -1)],
          wrong=lambda: [wrong(ValueError, "src of shape (3,)", (3, 4), (3,), 0, 1),
                         wrong(IndexError, "index", (3, 4), (4,), 0, 3)])
def select_scatter(input: Array, src: Array, dim: int, index: int) -> Array:
    """``input`` with ``src`` in the place of ``input.select(dim, index)``."""
    x = clone(input)
    if x.ndim == 0:
        fail("select_scatter", "input has 0 dimensions: expected at least 1")
    at = dimension("select_scatter", dim, x.ndim)
    place = index_of("select_scatter", "index", integer("select_scatter", "index", index), size_of(x), at)
    return _replaced("select_scatter", x, selected(x, at, place), src)


@function(method="slice_scatter", samples=lambda: [sample((5, 4), (2, 4), 0, 1, 3), sample((3, 6), (3, 3), 1, 0, None, 2),
                                                   sample((3,), (3,))],
          wrong=lambda: [wrong(ValueError, "src of shape (3, 4)", (5, 4), (3, 4), 0, 1, 3),
                         wrong(ValueError, "step=0", (5, 4), (5, 4), 0, 0, 5, 0)])
def slice_scatter(input: Array, src: Array, dim: int = 0, start: int | None = None, end: int | None = None,
                  step: int = 1) -> Array:
    """``input`` with ``src`` in the place of a slice along ``dim``."""
    x = clone(input)
    at = dimension("slice_scatter", dim, x.ndim)
    if integer("slice_scatter", "step", step) < 1:
        fail("slice_scatter", f"step={step}: expected at least 1")
    return _replaced("slice_scatter", x, _along(x, at, start, end, step), src)


def _replaced(op: str, x: Tensor, seen: Tensor, src: Array) -> Tensor:
    new = tensor(op, "src", src)
    if size_of(new) != size_of(seen):
        fail(op, f"src of shape {size_of(new)}: expected {size_of(seen)}")
    if seen is x:
        return new
    write(op, seen, new)
    return x


@function(samples=lambda: [sample((5,)), sample((3, 5), dim=0), sample((3, 5), (5,)), sample((3, 5), dx=0.5)],
          wrong=lambda: [wrong(IndexError, "dim=1", (3,), dim=1), wrong(ValueError, "dx and x", (3,), (3,), dx=2.0)])
def trapezoid(y: Array, x: Array | None = None, *, dx: float | None = None, dim: int = -1) -> Array:
    """Integrals along ``dim`` by the rule of trapezoids, of points ``x``, or ``dx`` (1) apart."""
    values = tensor("trapezoid", "y", y)
    if x is not None and dx is not None:
        fail("trapezoid", "dx and x are given: expected one of them")
    at = dimension("trapezoid", dim, values.ndim)
    means = (_along(values, at, 1) + _along(values, at, 0, -1)) * 0.5
    if x is None:
        return means.sum(at) * (1.0 if dx is None else float(dx))
    points = tensor("trapezoid", "x", x)
    apart = diff(points, dim=0 if points.ndim == 1 else at)
    if points.ndim == 1:
        apart = apart.reshape((-1, *(1,) * (values.ndim - at - 1)))  # type: ignore[attr-defined]
    return (means * apart).sum(at)


def trapz(y, x=None, *, dx=None, dim=-1):
    """:func:`trapezoid`."""
    return trapezoid(y, x, dx=dx, dim=dim)


def broadcast_shapes(*shapes) -> tuple[int, ...]:
    """The shape to which these broadcast."""
    try:
        return tuple(np.broadcast_shapes(*((s,) if isinstance(s, int) else tuple(s) for s in shapes)))
    except (TypeError, ValueError):
        fail("broadcast_shapes", f"shapes {shown(shapes)} cannot be broadcast")
        raise


def _indices(op: str, of, row, col, offset, dtype, device):
    rows, columns, k = (integer(op, name, v) for name, v in (("row", row), ("col", col), ("offset", offset)))
    if rows < 0 or columns < 0:
        fail(op, f"row={rows}, col={columns}: expected at least 0")
    return made(op, np.stack(of(rows, k, columns)).astype(dtype_name(op, dtype or "int64")), device)


def tril_indices(row, col, offset=0, *, dtype=None, device=None):
    """The places of the lower triangle of a matrix, (2, how many), int64."""
    return _indices("tril_indices", np.tril_indices, row, col, offset, dtype, device)


def triu_indices(row, col, offset=0, *, dtype=None, device=None):
    """The places of the upper triangle of a matrix, (2, how many), int64."""
    return _indices("triu_indices", np.triu_indices, row, col, offset, dtype, device)


def _window(op: str, window_length, periodic, terms, dtype, device):
    length = integer(op, "window_length", window_length)
    if length < 0:
        fail(op, f"window_length={length}: expected at least 0")
    check_device(op, device)
    if dtype_name(op, dtype or "float32") != "float32":
        fail(op, f"dtype={shown(dtype)}: expected float32", TypeError)
    at = 2 * math.pi * np.arange(length) / max(1, length if periodic else length - 1)
    values = sum(c * np.cos(k * at) for k, c in enumerate(terms)) if length > 1 else np.ones(length)
    return made(op, np.asarray(values, np.float32))


def hann_window(window_length, periodic=True, *, dtype=None, device=None, requires_grad=False):
    """Hann's window, float32; ``periodic``: of one element more, which is left out."""
    return _window("hann_window", window_length, periodic, (0.5, -0.5), dtype, device)


def hamming_window(window_length, periodic=True, alpha=0.54, beta=0.46, *, dtype=None, device=None, requires_grad=False):
    """Hamming's window, float32: ``alpha - beta cos``."""
    return _window("hamming_window", window_length, periodic, (alpha, -beta), dtype, device)


def blackman_window(window_length, periodic=True, *, dtype=None, device=None, requires_grad=False):
    """Blackman's window, float32."""
    return _window("blackman_window", window_length, periodic, (0.42, -0.5, 0.08), dtype, device)
