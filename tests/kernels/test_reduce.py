"""Reductions over any axes of strided operands, against float64."""

import numpy as np
import pytest

from fastconv.kernels.reduce_way import BESIDE, MOST, OPERATIONS, way

from .reduce_problems import expected, operand, run, strided

EXTREMES = ("max", "min", "argmax", "argmin", "abs_max", "abs_min")
KEYWORDS = {"powers": {"p": 2.5}, "norm_p": {"p": 3.0}, "var": {"correction": 1.0}, "std": {"correction": 1.0},
            "rstd": {"eps": 1e-3}, "rms": {"eps": 1e-3}}
# (shape, axes, order of the dimensions in memory, elements apart, backwards, dtype): each takes a way of its own
WAYS = {
    "one number": ((1,), (0,), None, 1, (), "float32"),
    "block": ((4096,), (0,), None, 1, (), "float32"),
    "blocks": ((9001,), (0,), None, 1, (), "float32"),
    "ranges of one result": ((3, 50_000), (1,), None, 1, (), "float32"),
    "short results": ((300, 49), (1,), None, 1, (), "float32"),
    "short runs, copied": ((5, 40, 3, 60), (1, 3), None, 1, (), "float32"),
    "apart": ((7, 300), (1,), None, 2, (), "float32"),
    "turned": ((9, 100, 17), (2,), None, 1, (), "float32"),
    "turned, several runs": ((2, 30, 70, 5), (1, 3), (1, 0, 2, 3), 1, (), "float32"),
    "side by side": ((30, 70), (0,), None, 1, (), "float32"),
    "runs of rows": ((600, 130), (0,), None, 1, (), "float32"),
    "wider than one go": ((5, 3000), (0,), None, 1, (), "float32"),
    "ranges of rows": ((40_000, 5), (0,), None, 1, (), "float32"),
    "packed": ((2, 1001, 3), (1,), None, 1, (), "float32"),
    "packed, a rest": ((777, 7), (0,), None, 1, (), "float32"),
    "spread": ((3, 50, 6, 8), (1, 3), None, 1, (), "float32"),
    "spread, ranges": ((2, 3000, 4, 8), (1, 3), None, 1, (), "float32"),
    "channels last": ((2, 5, 9, 8), (2, 3), (0, 2, 3, 1), 1, (), "float32"),
    "backwards": ((6, 11, 9), (0, 2), None, 1, (0, 1, 2), "float32"),
    "bytes": ((6, 500, 9), (1,), None, 1, (), "uint8"),
    "truths": ((70, 90), (1,), None, 1, (), "bool"),
    "integers": ((6, 500, 9), (0, 2), (2, 0, 1), 1, (1,), "int64"),
    "eight dimensions": ((2, 3, 2, 3, 2, 3, 2, 3), (1, 3, 6), (7, 0, 6, 1, 5, 2, 4, 3), 1, (), "int32"),
    "nothing reduced": ((5, 40), (), None, 1, (), "float32"),
    "nothing there": ((3, 0, 4), (1,), None, 1, (), "float32"),
    "no results": ((3, 0, 4), (2,), None, 1, (), "float32"),
}


def values(rng, shape, dtype, operation):
    x = rng.standard_normal(shape).astype(np.float32)
    if operation == "integers":
        x = np.round(3 * x)
    if operation == "prod":
        x = (1 + 0.01 * x).astype(np.float32)
    if dtype != "float32":
        x = (np.round(abs(x * 3)) % 5 if operation != "prod" else np.ones(shape)).astype(dtype)
    return x


def compare(operation, got, want, x, axes):
    got, want = (r if isinstance(r, tuple) else (r,) for r in (got, want))
    assert len(got) == len(want)
    count = int(np.prod([x.shape[d] for d in axes]))
    for a, b in zip(got, want, strict=True):
        if a.dtype != np.float32:
            np.testing.assert_array_equal(a, b)
            continue
        finite = np.isfinite(b)
        scale = max(np.abs(b[finite]).max(initial=0), np.abs(x.astype(np.float64)).max(initial=0, where=np.isfinite(x))
                    * (np.sqrt(count) if operation in ("sum", "dot", "nansum") else 1.0))
        rtol = 2e-6 if operation != "prod" else 1e-5 + 1e-7 * np.sqrt(count)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=2e-6 * scale)


def check(operation, x, axes, z=None, batched=False, **keywords):
    got = run(operation, x, axes, z, batched=batched, **keywords)
    compare(operation, got, expected(operation, x, axes, z, **keywords), x, axes)
    again = run(operation, x, axes, z, batched=batched, threads=2, **keywords)
    for a, b in zip(got, again, strict=True):
        np.testing.assert_array_equal(a, b)
    return got


@pytest.mark.parametrize("case", WAYS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_reduce(operation, case):
    shape, axes, order, gaps, flips, dtype = WAYS[case]
    if operation in EXTREMES and 0 in [shape[d] for d in axes]:
        with pytest.raises(ValueError, match="zero-size|empty"):
            expected(operation, np.zeros(shape), axes)  # what is above refuses it
        return
    rng = np.random.default_rng(0)
    x = strided(values(rng, shape, dtype, operation), order, gaps, flips)
    z = strided(values(rng, shape, "float32", operation), order) if operation == "dot" else None
    check(operation, x, axes, z, batched=0 not in flips, **KEYWORDS.get(operation, {}))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_where_there_is_no_number(operation):
    keywords = KEYWORDS.get(operation, {})
    rng = np.random.default_rng(1)
    for shape, axes in (((6, 40), (0,)), ((40, 70), (1,)), ((3, 5000), (1,)), ((600, 3), (0,)), ((20, 9), (1,))):
        for value in (np.nan, -np.nan, np.inf, -np.inf):
            for where in ((0, 0), (-1, -1), (2, 2), (slice(None), slice(None))):
                x = np.round(2 * rng.standard_normal(shape)).astype(np.float32)
                x[where] = value
                with np.errstate(all="ignore"):
                    if operation in ("moments", "var", "std", "rstd", "rms") and np.isinf(value):
                        continue  # inf - inf
                    z = x.copy() if operation == "dot" else None
                    check(operation, x, axes, z, **keywords)


@pytest.mark.parametrize("kind", ["same", "transposed", "a row", "a column", "a number"])
def test_the_other_operand(kind):
    rng = np.random.default_rng(0)
    for shape, axes in (((300, 40), (0,)), ((300, 40), (1,)), ((5, 3000), (1,)), ((20, 6, 30), (0, 2)), ((600, 3), (0,))):
        x, z = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        own = {"same": shape, "transposed": shape, "a row": (1,) * (len(shape) - 1) + shape[-1:],
               "a column": shape[:-1] + (1,), "a number": (1,) * len(shape)}[kind]
        z = strided(z[tuple(slice(0, s) for s in own)], range(len(shape))[::-1] if kind == "transposed" else None)
        check("dot", strided(x), axes, np.broadcast_to(z, shape))


@pytest.mark.parametrize("operation", ["sum", "argmax", "moments", "logsumexp", "count_nonzero"])
def test_batches(operation):
    """An image has its bits in any batch; a reduction over a smaller batch than planned takes those that are there."""
    rng = np.random.default_rng(0)
    for shape, axes in (((5, 7, 300), (2,)), ((5, 300, 7), (1,)), ((4, 50, 6, 8), (1, 3)), ((3, 40_000), (1,)),
                        ((3, 20_000, 3), (1,)), ((7, 100, 9), (2,))):
        x = np.round(3 * rng.standard_normal(shape)).astype(np.float32)
        whole = run(operation, x, axes, batched=True)
        alone = run(operation, x[2:3], axes, batched=True, planned=shape)
        planned_alone = run(operation, x[2:3], axes, batched=True)
        for a, b, c in zip(*(r if isinstance(r, tuple) else (r,) for r in (whole, alone, planned_alone)), strict=True):
            np.testing.assert_array_equal(a[2:3], b)
            np.testing.assert_array_equal(a[2:3], c)
    for shape, axes in (((50, 7), (0,)), ((30_000, 7), (0,)), ((30_000,), (0,)), ((300, 5, 40), (0, 2)),
                        ((300, 4, 8), (0, 2))):
        x = np.round(3 * rng.standard_normal(shape)).astype(np.float32)
        for n in (1, 3, shape[0] // 2):
            got = run(operation, x[:n], axes, batched=True, planned=shape)
            compare(operation, got, expected(operation, x[:n], axes), x[:n], axes)


@pytest.mark.parametrize("shape", [(4_000_000,), (2_000_000, 2), (30_000, 130), (4, 1_000_000)])
def test_sums_are_accurate(shape):
    """No worse than NumPy's pairwise sums, of numbers whose sum does not cancel."""
    x = np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32)
    axes = (1,) if shape[0] == 4 else (0,)
    exact = x.astype(np.float64).sum(axis=axes, keepdims=True)
    error, theirs = (np.abs(s / exact - 1).max() for s in (run("sum", x, axes), np.ascontiguousarray(np.moveaxis(
        x, axes[0], -1)).sum(-1).reshape(exact.shape)))
    assert error <= max(theirs, 2.0**-23)


def test_moments_far_from_zero():
    rng = np.random.default_rng(0)
    for shape, axes in (((40_000,), (0,)), ((30_000, 5), (0,)), ((50, 300), (1,)), ((300, 200), (0,)),
                        ((4, 500, 3, 8), (1, 3))):
        x = (10_000 + rng.standard_normal(shape)).astype(np.float32)
        mean, m2 = run("moments", x, axes)
        want_mean, want = expected("moments", x, axes)
        np.testing.assert_allclose(mean, want_mean, rtol=1.2e-7)
        np.testing.assert_allclose(m2, want, rtol=2e-6)


def test_counts_beyond_the_integers_of_float32():
    x = np.ones((1, 40_000_001), np.bool_)
    assert run("count_nonzero", x, (1,))[0, 0] == 40_000_001
    x[0, 39_999_998] = False
    assert run("argmin", x, (1,))[0][0, 0] == 39_999_998


def test_memory_is_bounded():
    """The states of ranges are few, whatever is reduced."""
    for shape, axes in (((1 << 28,), (0,)), ((1 << 20, 64), (0,)), ((1 << 14, 1 << 14), (1,)), ((1 << 14, 1 << 14), (0,))):
        strides = tuple(int(np.prod(shape[i + 1:])) for i in range(len(shape)))
        plan = way(shape=shape, axes=axes, operation="moments", x=(0, strides, "float32"))
        assert plan.part_floats <= 2 * MOST * BESIDE, (shape, axes, plan)


def problem(rng):
    """A random reduction: operation, view, axes, other operand, keywords."""
    rank = int(rng.integers(1, 6))
    shape = [int(rng.choice([1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 49, 64, 100, 257, 515, 1000])) for _ in range(rank)]
    while np.prod(shape) > 20_000:
        shape[int(np.argmax(shape)) if rng.random() < 0.7 else int(rng.integers(rank))] //= 2
        shape = [max(1, s) for s in shape]
    axes = tuple(d for d in range(rank) if rng.random() < 0.5)
    operation = str(rng.choice(list(OPERATIONS)))
    dtype = "float32" if rng.random() < 0.6 else str(rng.choice(["int64", "int32", "uint8", "int8", "bool"]))
    order = rng.permutation(rank) if rng.random() < 0.6 else None
    flips = tuple(d for d in range(rank) if rng.random() < 0.1)
    x = strided(values(rng, shape, dtype, operation), order, int(rng.choice([1, 1, 1, 2])), flips)
    z = strided(values(rng, shape, "float32", operation), order if rng.random() < 0.5 else None)
    z = z if operation == "dot" else None
    return operation, x, axes, z, bool(rng.random() < 0.5) and 0 not in flips


@pytest.mark.parametrize("seed", range(40))
def test_random_problems(seed):
    rng = np.random.default_rng(seed)
    for _ in range(10):
        operation, x, axes, z, batched = problem(rng)
        assert operand(x)[1] == tuple(s // x.itemsize for s in x.strides)
        check(operation, x, axes, z, batched, **KEYWORDS.get(operation, {}))
