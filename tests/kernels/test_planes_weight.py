"""Backward to weights over bfloat16 planes, against the float64 reference: integers, bounds, infinities and NaN."""

import math

import numpy as np
import pytest
import reference as ref

from .plane_problems import backward_weight, forward
from .problems import Case
from .test_planes import CASES

WEIGHT = [("bf16_conv_backward_weight", 1), *(("bf16_conv_backward_weight_amx", n) for n in (1, 2, 3))]
SLABS = {**CASES,
         "slabs": Case(1, 289, 300, (5, 9), (2, 2)), "slabs of groups": Case(2, 2 * 257, 2 * 40, (4, 3), (1, 1), groups=2),
         "many pixels": Case(2, 35, 33, (23, 21), (3, 3), padding=1)}


@pytest.fixture
def rng():
    return np.random.default_rng(12)


def weight_magnitude(case, x, gy):
    return ref.conv_backward_weight(abs(x), case.w_shape, abs(gy), *case.attributes)


@pytest.mark.parametrize(("kernel", "count"), WEIGHT)
@pytest.mark.parametrize("name", SLABS)
def test_backward_weight_exact(name, kernel, count, rng):
    case = SLABS[name]
    x, gy = (ref.exact_integers(rng, s, bits) for s, bits in
             zip((case.x_shape, case.y_shape), ((8, 4), (10, 6), (12, 6))[count - 1], strict=True))
    while weight_magnitude(case, x, gy).max() >= 2**23:
        x *= rng.random(x.shape) < 0.7
    expected = ref.conv_backward_weight(x, case.w_shape, gy, *case.attributes)
    for threads, parts, extra in ((1, 1, 0), (2, 3, 3)):
        np.testing.assert_array_equal(backward_weight(kernel, count, case, x, gy, threads, parts, extra), expected)


@pytest.mark.parametrize(("kernel", "count"), WEIGHT)
@pytest.mark.parametrize("name", SLABS)
def test_backward_weight_random(name, kernel, count, rng):
    case = SLABS[name]
    x, gy = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.y_shape))
    one, two = (backward_weight(kernel, count, case, x, gy, threads, 2) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    size = np.linalg.norm(weight_magnitude(case, x, gy))
    truth = ref.conv_backward_weight(ref.split_bfloat16(x, count).sum(axis=0), case.w_shape,
                                     ref.split_bfloat16(gy, count).sum(axis=0), *case.attributes)
    bound = {1: 2.0**-24 * 4 * math.sqrt(case.n * math.prod(case.out)), 2: 2.0**-16, 3: 2.0**-24 * 2}[count]
    assert np.linalg.norm(one - truth) <= bound * size


@pytest.mark.parametrize(("kernel", "count"), WEIGHT)
@pytest.mark.parametrize("name", ["3x3", "groups odd", "33 channels 1x1", "many pixels"])
def test_backward_weight_of_infinities_and_nan(name, kernel, count, rng):
    """What the sums in float32 of finite, infinite and NaN products are, element by element; the others stay right."""
    case = SLABS[name]
    x, gy = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.y_shape))
    x.reshape(-1)[rng.choice(x.size, 3, replace=False)] = np.inf, -np.inf, np.nan
    gy[gy == 0] = 1
    gy.reshape(-1)[rng.choice(gy.size, 2, replace=False)] = np.inf, np.nan
    dw = backward_weight(kernel, count, case, x, gy, 2, 2)
    with np.errstate(invalid="ignore"):
        expected = ref.conv_backward_weight(x, case.w_shape, gy, *case.attributes)
    odd = ~np.isfinite(expected)
    assert odd.any() and not odd.all()
    np.testing.assert_array_equal(dw[odd], expected[odd])
    np.testing.assert_allclose(dw[~odd], expected[~odd], rtol=0.05, atol=0.5 if count == 1 else 1e-3)


@pytest.mark.parametrize(("kernel", "count"), WEIGHT)
def test_backward_weight_of_an_empty_batch(kernel, count):
    case = CASES["3x3"]
    x, gy = np.zeros((0, *case.x_shape[1:]), np.float32), np.zeros((0, *case.y_shape[1:]), np.float32)
    np.testing.assert_array_equal(backward_weight(kernel, count, case, x, gy, parts=2), np.zeros(case.w_shape))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", ["3x3", "in place padded", "groups odd", "1d", "3d"])
def test_forward_and_backward_weight_are_adjoint(name, count, rng):
    """<conv(x, w), gy> = <w, backward_weight(gy, x)>, up to the planes' rounding."""
    case = CASES[name]
    x, w, gy = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.w_shape, case.y_shape))
    left = (np.float64(forward("bf16_conv_amx", count, case, x, w)) * gy).sum()
    right = (np.float64(w) * backward_weight("bf16_conv_backward_weight_amx", count, case, x, gy)).sum()
    size = (ref.conv(abs(x), abs(w), None, *case.attributes) * abs(gy)).sum()
    assert abs(left - right) <= {1: 2.0**-7, 2: 2.0**-16, 3: 2.0**-22}[count] * size
