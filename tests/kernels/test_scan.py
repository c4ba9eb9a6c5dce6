"""Scans along one axis of strided operands, against float64."""

import numpy as np
import pytest
from fastconv.kernels._runtime import StepList

from fastconv.kernels import reduce as kernels

from .guarded import guarded
from .reduce_problems import operand, strided


def run(operation, x, axis, batched=False, threads=1, backwards=False, out=None):
    y = guarded(x.shape) if out is None else out
    y2 = np.full(x.shape, -7, np.int64) if operation in ("cummax", "cummin") else None
    step = kernels.scan(shape=x.shape, axis=axis, operation=operation, x=operand(x), y=operand(y),
                        y2=None if y2 is None else operand(y2), batched=batched, backwards=backwards)
    steps = StepList([step], x.shape[0] if batched else 1)
    steps.run(threads)
    return y if y2 is None else (y, y2)


def expected(operation, x, axis, backwards):
    x = np.flip(x, axis) if backwards else x
    x = np.moveaxis(x.astype(np.float64), axis, 0)
    y, at, n = np.empty_like(x), np.zeros(x.shape, np.int64), len(x)
    with np.errstate(all="ignore"):
        for i in range(n):
            if i == 0:
                y[0] = x[0]
            elif operation == "cumsum":
                y[i] = y[i - 1] + x[i]
            elif operation == "cumprod":
                y[i] = y[i - 1] * x[i]
            elif operation == "logcumsumexp":
                y[i] = np.where(np.isinf(x[i]) & (x[i] == y[i - 1]), x[i], np.logaddexp(y[i - 1], x[i]))
            else:
                better = (x[i] >= y[i - 1] if operation == "cummax" else x[i] <= y[i - 1]) | np.isnan(x[i])
                y[i], at[i] = np.where(better, x[i], y[i - 1]), np.where(better, i, at[i - 1])
    y, at = np.moveaxis(y, 0, axis), np.moveaxis(at, 0, axis)
    y, at = (np.flip(y, axis), n - 1 - np.flip(at, axis)) if backwards else (y, at)
    return (y, at) if operation in ("cummax", "cummin") else y


@pytest.mark.parametrize("operation", kernels.SCANS)
@pytest.mark.parametrize("shape, axis, order, flips, dtype", [
    ((7,), 0, None, (), "float32"), ((1, 1), 1, None, (), "float32"), ((3, 5000), 1, None, (), "float32"),
    ((300, 33), 0, None, (), "float32"), ((300, 16), 0, None, (), "float32"),
    ((2, 17, 40, 5), 2, (0, 2, 3, 1), (), "float32"),
    ((6, 7, 8), 1, None, (0, 1), "float32"), ((40, 9), 1, (1, 0), (), "uint8"), ((5, 4, 9), 2, None, (), "int64"),
    ((9, 31), 1, None, (), "bool"), ((3, 0), 1, None, (), "float32"), ((0, 3), 1, None, (), "float32"),
])
def test_scan(operation, shape, axis, order, flips, dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape) * (0.1 if operation == "cumprod" else 1) + (operation == "cumprod")
    x = np.round(x * 2) if operation in ("cummax", "cummin") else x
    if dtype != "float32":
        x = np.round(abs(x))
    x = strided(x.astype(dtype), order, 1, flips)
    for backwards in (False, True):
        got, want = run(operation, x, axis, 0 not in flips, 1, backwards), expected(operation, x, axis, backwards)
        again = run(operation, x, axis, 0 not in flips, 2, backwards)
        for a, b, c in zip(*(r if isinstance(r, tuple) else (r,) for r in (got, want, again)), strict=True):
            np.testing.assert_allclose(a, b, rtol=3e-6, atol=3e-6 if x.size else 0)
            np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("operation", kernels.SCANS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_where_there_is_no_number(operation, value):
    rng = np.random.default_rng(0)
    for where in (0, 4, (4, 5, 9), slice(None)):
        x = np.round(3 * rng.standard_normal((3, 12))).astype(np.float32)
        x[1, where] = value
        got, want = run(operation, x, 1), expected(operation, x, 1, False)
        for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (got, want)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_long_sums_are_those_of_double_precision():
    x = np.random.default_rng(0).uniform(0, 1, (2, 300_000)).astype(np.float32)
    np.testing.assert_allclose(run("cumsum", x, 1), x.astype(np.float64).cumsum(1), rtol=1.2e-7)
