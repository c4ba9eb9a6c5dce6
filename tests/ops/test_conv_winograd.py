"""algorithm="winograd" as users meet it: the form that a precision gets, refusals, epilogues, values that are not finite."""

import numpy as np
import pytest
import reference as R

import fastconv as fc
import fastconv.functional as F
from fastconv.kernels.cpu import cpu
from fastconv.ops.conv.problem import Problem
from fastconv.ops.conv.winograd import Winograd, cut, geometry, tiles_of


def problem(n, c, k, size, kernel=(3, 3), stride=1, dilation=1):
    dims = len(size)
    attrs = {"stride": (stride,) * dims, "dilation": (dilation,) * dims, "padding": tuple((r // 2,) * 2 for r in kernel),
             "groups": 1}
    out = tuple((s + r // 2 * 2 - dilation * (r - 1) - 1) // stride + 1 for s, r in zip(size, kernel, strict=True))
    return Problem((n, c, *size), (k, c, *kernel), (n, k, *out), attrs)


def test_the_form_follows_the_precision():
    algorithm = Winograd()
    few, some, many = (problem(16, c, c, (28, 28)) for c in (8, 64, 256))
    for which in ("forward", "backward_data"):
        assert algorithm.form(which, few, "highest", cpu())[::2] == ((2, 2), "high")  # the closest there is
        assert algorithm.form(which, some, "highest", cpu())[::2] == ((2, 2), "highest")
        assert algorithm.form(which, some, "high", cpu()).tile == (4, 4)
        assert algorithm.form(which, many, "highest", cpu())[::2] == ((4, 4), "highest")
        assert [algorithm.keeps(which, p, "highest") for p in (few, some, many)] == ["high", "highest", "highest"]
    assert algorithm.form("backward_weight", some, "highest", cpu())[::2] == ((4, 4), "highest")
    assert algorithm.form("backward_weight", problem(1, 64, 64, (8, 8)), "highest", cpu())[::2] == ((2, 2), "high")
    assert algorithm.form("forward", problem(1, 256, 64, (50,), (3,)), "highest", cpu()).tile == (1, 4)


@pytest.mark.parametrize(("keywords", "shape", "words"), [
    ({"stride": 2, "padding": 1}, (4, 8, 3, 3), "only for stride 1"),
    ({"dilation": 2, "padding": 1}, (4, 8, 3, 3), "only for stride 1 and dilation 1"),
    ({}, (4, 8, 5, 5), "only for kernels of 3x3"),
    ({"groups": 8}, (8, 1, 3, 3), "not for one channel per group"),
])
def test_what_it_refuses(keywords, shape, words):
    with pytest.raises(ValueError, match=words):
        F.conv2d(np.ones((1, 8, 9, 9), np.float32), np.ones(shape, np.float32), algorithm="winograd", **keywords)


@pytest.mark.parametrize(("n", "c", "k", "size"), [(1, 64, 64, (56, 56)), (16, 512, 512, (7, 7)), (3, 3, 5, (1, 1)),
                                                   (16, 256, 256, (14, 14)), (1, 1024, 1024, (4, 4))])
def test_the_cut_covers_the_problem(n, c, k, size):
    p = problem(n, c, k, size)
    for tile in ((4, 4), (2, 2)):
        space = geometry("forward", p, tile)
        sizes, total = cut(n, space, cpu()), tiles_of(n, space)
        assert 1 <= sizes["tiles"] <= total
        assert sizes["blocks"] >= 1


def test_a_block_with_everything_fused():
    """Convolution, BatchNorm, residual and ReLU in one step, and its training."""
    rng = np.random.default_rng(4)

    class Block(fc.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = fc.nn.Conv2d(24, 24, 3, padding=1, bias=False)
            self.norm = fc.nn.BatchNorm2d(24)

        def forward(self, x):
            return F.relu(self.norm(self.conv(x)) + x)

    x = rng.standard_normal((3, 24, 11, 10), np.float32)
    block = Block()
    results = {}
    for name in ("direct", "winograd"):
        engine = fc.compile(block, x.shape, algorithm=name)
        results[name] = engine(x)
        assert any(row.algorithm == name for row in engine.steps()), name
    assert R.rel_l2(results["winograd"], results["direct"]) < 1e-6
    assert not np.array_equal(results["winograd"], results["direct"])  # it did run


def test_nan_stays_where_it_belongs():
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((2, 20, 12, 12), np.float32), rng.standard_normal((18, 20, 3, 3), np.float32)
    x[1, 3, 4, 5], x[0, 0, 0, 11] = np.nan, np.inf
    direct, winograd = (F.conv2d(x, w, padding=1, algorithm=a, precision="high") for a in ("direct", "winograd"))
    np.testing.assert_array_equal(np.isnan(winograd), np.isnan(direct))
    np.testing.assert_array_equal(np.isinf(winograd), np.isinf(direct))
    np.testing.assert_allclose(winograd[np.isfinite(direct)], direct[np.isfinite(direct)], rtol=0, atol=1e-4)
