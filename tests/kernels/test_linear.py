"""A product with few rows against float64: every number of rows around the tile, blocks whole, several and narrow."""

import math

import numpy as np
import pytest
import reference as ref

from fastconv.kernels import conv, layout, linear

from .guarded import gaps, guarded, pixels
from .problems import run

BLOCK = conv.block_filters()
WIDTH = BLOCK // 2
ROWS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 27, 31, 111, 113, 225]
FILTERS = [1, WIDTH // 2, WIDTH // 2 + 1, WIDTH, WIDTH + 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + WIDTH, 4 * BLOCK,
           4 * BLOCK + 3, 5 * BLOCK, 9 * BLOCK + WIDTH + 1]
CHANNELS = [1, 2, 3, 4, 5, 63, 767, 768, 770, 1024, 1531, 1537]  # around the ends of runs, which have 384 at least


def product(x, w, threads=1, bias=None, residual=None, extra=3, n=None, **act):
    rows, c, k = *x.shape, w.shape[0]
    ldx, ldy = c + (extra if c % 1024 else 0), k + 2 * extra
    flat, packed = pixels(x, ldx), guarded(c * conv.packed_filters(k))
    run(layout.pack_weight(w.ctypes.data, packed.ctypes.data, taps=[0], filters=k, channels=c, filter_stride=c,
                           channel_stride=1), 1, threads)
    y = guarded(max(0, rows * ldy - (ldy - k)))
    kept = {}
    if bias is not None:
        kept["bias"] = guarded(k)
        kept["bias"][:] = bias
    if residual is not None:
        kept["residual"] = pixels(residual, k + 1)
    addresses = {name: array.ctypes.data for name, array in kept.items()}
    run(linear.forward(x=flat.ctypes.data, ldx=ldx, w=packed.ctypes.data, y=y.ctypes.data, ldy=ldy, channels=c, filters=k,
                       ldr=k + 1, **addresses, **act), rows, threads, n)
    if n is None:
        assert np.isnan(gaps(y, rows, k, ldy)).all()
    return np.lib.stride_tricks.as_strided(y, (rows, k), (4 * ldy, 4)).copy()


@pytest.fixture
def rng():
    return np.random.default_rng(31)


def problem(rng, n, c, k):
    x, w = ref.exact_integers(rng, (n, c), 6), ref.exact_integers(rng, (k, c), 4)
    assert (abs(np.float64(x)) @ abs(np.float64(w)).T).max() < 2**24
    return x, w


@pytest.mark.parametrize("k", FILTERS)
@pytest.mark.parametrize("n", ROWS)
def test_exact(n, k, rng):
    x, w = problem(rng, n, 19, k)
    expected = np.float64(x) @ np.float64(w).T
    for threads, extra in ((1, 0), (2, 3)):
        np.testing.assert_array_equal(product(x, w, threads, extra=extra), expected)


@pytest.mark.parametrize("c", CHANNELS)
@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 15, 17])
def test_channels(n, c, rng):
    """1024: the rows lie 4 KiB apart, and a tile has fewer of them."""
    x, w = problem(rng, n, c, 4 * BLOCK + 5)
    np.testing.assert_array_equal(product(x, w), np.float64(x) @ np.float64(w).T)


@pytest.mark.parametrize("c", [300, 2003])
@pytest.mark.parametrize("k", [5, 4 * BLOCK, 5 * BLOCK + WIDTH + 1])
def test_a_row_does_not_depend_on_the_others(k, c, rng):
    x, w = rng.standard_normal((29, c), np.float32), rng.standard_normal((k, c), np.float32)
    whole, threaded = (product(x, w, threads) for threads in (1, 2))
    np.testing.assert_array_equal(whole, threaded)
    for n in (1, 2, 3, 4, 8, 15, 28):
        np.testing.assert_array_equal(product(x[3:3 + n], w), whole[3:3 + n])  # as few as none of its accumulators differ
    assert ref.rel_l2(whole, np.float64(x) @ np.float64(w).T) <= 2.0**-24 * 4 * math.sqrt(min(c, 768))


@pytest.mark.parametrize("act", [{}, {"act": "relu"}, {"act": "clip", "act_a": -3.0, "act_b": 6.0},
                                 {"act": "leaky_relu", "act_a": 0.5}])
@pytest.mark.parametrize("k", [3, 2 * BLOCK, 5 * BLOCK + 3])
@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_epilogue(n, k, act, rng):
    x, w = problem(rng, n, 10, k)
    b, z = ref.exact_integers(rng, k, 6), ref.exact_integers(rng, (n, k), 6)
    y = np.float64(x) @ np.float64(w).T + b + z
    expected = {None: y, "relu": np.maximum(y, 0), "clip": np.clip(y, -3, 6),
                "leaky_relu": np.where(y < 0, y / 2, y)}[act.get("act")]
    np.testing.assert_array_equal(product(x, w, 2, b, z, **act), expected)


def test_a_smaller_batch_replays_the_plan(rng):
    x, w = problem(rng, 12, 7, BLOCK)
    y = product(x, w, n=5)
    np.testing.assert_array_equal(y[:5], np.float64(x[:5]) @ np.float64(w).T)
    assert np.isnan(y[5:]).all()
    assert np.isnan(product(x, w, n=0)).all()
