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
