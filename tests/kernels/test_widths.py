"""Every width and height of a register tile: channels, filters and rows of taps one by one; the other tests have samples.

The kernels have an instance for each; some would otherwise never run (docs/testing.md, gcov).
"""

import numpy as np
import pytest
import reference as ref

import fastconv.functional as F

from .problems import Case
from .test_conv import backward_weight, has_runs

FILTERS = [1, 4, 8, 12, 16, 24, 32, 33, 48]


@pytest.mark.parametrize("channels", range(1, 18))
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 1), (7, 2), (1, 5)])
def test_backward_weight(channels, kernel):
    rng = np.random.default_rng(0)
    for filters in FILTERS:
        case = Case(2, channels, filters, (8, 7), kernel, padding=tuple(int(r == 3) for r in kernel))
        x, gy = ref.exact_integers(rng, case.x_shape, 6), ref.exact_integers(rng, case.y_shape, 4)
        assert ref.conv_backward_weight(abs(x), case.w_shape, abs(gy), *case.attributes).max() < 2**24
        expected = ref.conv_backward_weight(x, case.w_shape, gy, *case.attributes)
        for runs in (False, True)[: 1 + has_runs(case)]:
            for swapped in (False, True):
                got = backward_weight(case, x, gy, runs=runs, swapped=swapped)
                np.testing.assert_array_equal(got, expected, f"{filters} filters, {runs=}, {swapped=}")


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 8, 9, 12, 16, 17, 24, 32, 40])
@pytest.mark.parametrize(("size", "kernel"), [((12, 40), (9, 9)), ((9, 9), (9, 9)), ((9, 11), (9, 9)), ((3, 80), (1, 70))])
def test_average_of_many_values(channels, size, kernel):
    """Windows of over 64 values: sums of integers are exact in whatever order, so the average is rounded once."""
    x = ref.exact_integers(np.random.default_rng(0), (2, channels, *size), 10)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), kernel, (2, 3))
    sums = windows.sum(axis=(-1, -2))
    assert abs(windows).sum(axis=(-1, -2)).max() < 2**24
    got = F.avg_pool2d(x, kernel, 1, divisor_override=1)
    np.testing.assert_array_equal(got, sums)
    np.testing.assert_allclose(F.avg_pool2d(x, kernel, 1), sums / (kernel[0] * kernel[1]), rtol=3e-7)


@pytest.mark.parametrize("channels", range(1, 17))
def test_winograd_backward_weight(channels):
    """Sums over tiles, channels in the rows of a register tile; filters of one vector and of two."""
    rng = np.random.default_rng(0)
    for filters in (4, 16, 24, 32, 40):
        x, gy = (rng.standard_normal(s, np.float32) for s in ((2, channels, 9, 8), (2, filters, 9, 8)))
        shape = filters, channels, 3, 3
        got = F.conv2d_backward_weight(gy, x, shape, padding=1, algorithm="winograd")
        expected = ref.conv_backward_weight(x, shape, gy, (1, 1), (1, 1), (1, 1), 1)
        assert ref.rel_l2(got, expected) <= 2e-6


@pytest.mark.parametrize("rows", range(1, 31))
def test_winograd_products(rows):
    """Tiles in the rows of a register tile: one row of so many tiles of 2x2."""
    rng = np.random.default_rng(0)
    for filters in (4, 16, 32, 48):
        x, w = rng.standard_normal((1, 17, 2, 2 * rows), np.float32), rng.standard_normal((filters, 17, 3, 3), np.float32)
        got = F.conv2d(x, w, padding=1, algorithm="winograd")
        assert ref.rel_l2(got, ref.conv(x, w, None, (1, 1), (1, 1), (1, 1), 1)) <= 2e-6


@pytest.mark.parametrize("rows", range(1, 31))
def test_linear(rows):
    """Images in the rows of a register tile; integers, so the sums are exact."""
    rng = np.random.default_rng(0)
    for filters in (1, 8, 16, 32, 33, 64, 80):
        x, w = ref.exact_integers(rng, (rows, 50), 8), ref.exact_integers(rng, (filters, 50), 8)
        np.testing.assert_array_equal(F.linear(x, w), x.astype(np.float64) @ w.T.astype(np.float64))
