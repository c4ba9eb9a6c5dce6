"""Winograd convolution, forward and backward to weights, against the float64 reference.

F(2x2) and F(2) have dyadic coefficients: with small integers and weights in multiples of 4 they are exact. F(4x4) and F(4)
are held against a rigorous bound per output (winograd_steps.magnitude) and against the promise of precision="high".
"""

import math
import platform

import numpy as np
import pytest
import reference as ref
from fastconv.kernels._runtime import isa_info

from fastconv.kernels import winograd

from .winograd_steps import BLOCK, EPS, WIDTH, Problem, backward_weight, forward, magnitude, matrices, roundings

HALF = max(4, WIDTH // 2)
FUSED = isa_info()["isa"] != "portable" or platform.machine() in ("aarch64", "arm64")  # whether mul_add rounds once


def problems():
    """Around every size that the kernels cut by: images, channels, filters, tiles of the register tile; every padding."""
    found = {}
    for m in (4, 2):
        t = (m, m)
        for size in (1, 2, m - 1, m, m + 1, 2 * m + 1):
            found[f"{m} {size}x{size + 1}"] = Problem(2, 3, 5, (size, size + 1), t)
        for low in (0, 1, 2):
            for high in (0, 1, 2):
                found[f"{m} padding {low} {high}"] = Problem(1, 2, 3, (5, 7), t, (low, high), (high, low))
        found[f"{m} beyond"] = Problem(1, 2, 3, (2, 3), t, (4, 7), (5, 3))  # whole tiles in the padding
        found[f"{m} one pixel"] = Problem(3, 6, 5, (3, 3), t, 0)
        for c in (1, WIDTH - 1, WIDTH, WIDTH + 1, 2 * WIDTH + 3):
            found[f"{m} {c} channels"] = Problem(1, c, 3, (4, 5), t)
        for k in (1, HALF, HALF + 1, WIDTH, WIDTH + 1, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + WIDTH + 2, 3 * BLOCK):
            found[f"{m} {k} filters"] = Problem(1, 3, k, (5, 3), t)
        for n in range(1, winograd.tile_rows() + 3):
            found[f"{m} {n} tiles"] = Problem(n, 3, 4, (m - 1, m), t)
        found[f"{m} groups"] = Problem(2, 3 * (WIDTH + 1), 3 * (HALF + 1), (6, 5), t, groups=3)
        found[f"{m} 3d"] = Problem(2, WIDTH + 1, 5, (3, 6, 5), t, depth=3)
        found[f"{m} 3d flat"] = Problem(1, 4, 5, (3, 6, 5), t, depth=1)
        found[f"{m} 3d padding"] = Problem(1, 3, 4, (1, 3, 4), t, (2, 0, 1), (1, 2, 0), depth=2)
        t = (1, m)
        for size in (1, 2, m, m + 1, 3 * m - 1):
            found[f"{m} row {size}"] = Problem(2, 5, 6, (size,), t)
        found[f"{m} row padding"] = Problem(2, WIDTH + 2, BLOCK + 1, (11,), t, 2, 0)
        found[f"{m} 1x3"] = Problem(2, 3, 5, (4, 9), t)
        found[f"{m} 3x1"] = Problem(2, 3, 5, (9, 4), t, 2, 1, swapped=True)
        found[f"{m} 3x3x1"] = Problem(1, 3, 5, (3, 9, 4), t, 1, depth=3)
    return found


CASES = problems()
NAMES = list(CASES)
EXACT = [name for name in NAMES if max(CASES[name].tile) == 2]
SOME = ["2 3x4", "2 groups", "2 3d", "2 33 filters" if BLOCK == 32 else f"2 {BLOCK + 1} filters", "2 1x3", "2 3x1"]


@pytest.fixture
def rng():
    return np.random.default_rng(23)


def integers(p, rng):
    """x, w, gy for which F(2x2) and F(2) are exact: G takes halves, once per dimension with taps."""
    return (ref.exact_integers(rng, p.x_shape, 6), 4 * ref.exact_integers(rng, p.w_shape, 4),
            4 * ref.exact_integers(rng, p.y_shape, 4))


@pytest.mark.parametrize("name", NAMES)
def test_forward(name, rng):
    """Every output within the rigorous bound, whatever the cut and the threads; bitwise the same for all of them."""
    p = CASES[name]
    x, w = (rng.standard_normal(s, np.float32) for s in (p.x_shape, p.w_shape))
    y = forward(p, x, w)
    assert (abs(y - p.reference(x, w)) <= roundings(p) * EPS * magnitude(p, x, w)).all()
    for threads, tiles, blocks, extra in ((2, 1, 2, 0), (2, 2, 1, 1), (1, 64, 3, 3)):
        np.testing.assert_array_equal(forward(p, x, w, threads, tiles=tiles, blocks=blocks, extra=extra), y)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(("channels", "3d", "groups", "row padding"))])
def test_partial_sums(name, rng):
    """A sum of sums has fewer roundings in a row: the same bound holds, and a chunk beyond the channels is one chain."""
    p = CASES[name]
    x, w = (rng.standard_normal(s, np.float32) for s in (p.x_shape, p.w_shape))
    y = forward(p, x, w, chunk=WIDTH)
    assert (abs(y - p.reference(x, w)) <= roundings(p) * EPS * magnitude(p, x, w)).all()
    np.testing.assert_array_equal(forward(p, x, w, 2, chunk=WIDTH, tiles=3), y)
    np.testing.assert_array_equal(forward(p, x, w, chunk=8 * WIDTH), forward(p, x, w))


@pytest.mark.parametrize("name", EXACT)
def test_forward_exact(name, rng):
    p = CASES[name]
    x, w, _ = integers(p, rng)
    y = p.reference(x, w)
    assert magnitude(p, x, w).max() < 2**24
    for threads, chunk in ((1, 0), (2, WIDTH)):
        np.testing.assert_array_equal(forward(p, x, w, threads, chunk=chunk), y)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("act", [None, "relu", "clip", "leaky_relu"])
def test_epilogue(name, act, rng):
    p = CASES[name]
    x, w, residual = integers(p, rng)
    bias = ref.exact_integers(rng, (p.k,), 4)
    a, b = {None: (0, 0), "relu": (0, 0), "clip": (-20, 35), "leaky_relu": (0.25, 0)}[act]
    for with_bias, with_residual in ((True, True), (True, False), (False, True)):
        y = p.reference(x, w, bias if with_bias else None) + (residual if with_residual else 0)
        y = {None: lambda v: v, "relu": lambda v: np.maximum(v, 0), "clip": lambda v: np.clip(v, -20, 35),
             "leaky_relu": lambda v: np.where(v < 0, v / 4, v)}[act](y)
        got = forward(p, x, w, 2, bias if with_bias else None, residual if with_residual else None, act, a, b)
        np.testing.assert_array_equal(got, y)


@pytest.mark.parametrize("tile", winograd.TILES)
def test_high(tile, rng):
    """The promise of precision="high": 2**-16 of the norm of the sums over magnitudes, 1e-5 of the result's."""
    for c in (3, 16, 64, 200):
        p = Problem(1, c, 20, (13,) if tile[0] == 1 else (11, 13), tile)
        w = rng.standard_normal(p.w_shape, np.float32)
        for x in (rng.standard_normal(p.x_shape, np.float32), rng.random(p.x_shape, np.float32)):
            y, truth = forward(p, x, w), p.reference(x, w)
            error = np.linalg.norm(y - truth)
            assert error <= 1e-5 * np.linalg.norm(truth)
            assert error <= 2.0**-16 * np.linalg.norm(p.reference(abs(x), abs(w)))


@pytest.mark.parametrize("name", ["4 9x10", "2 3x4", "4 row 11", "4 3d", "2 groups"])
def test_an_image_does_not_depend_on_its_batch(name, rng):
    p = CASES[name]
    x = rng.standard_normal((9, *p.x_shape[1:]), np.float32)
    w = rng.standard_normal(p.w_shape, np.float32)
    y = forward(p, x, w, 2)
    for i in (0, 4, 8):
        np.testing.assert_array_equal(forward(p, x[i : i + 1], w)[0], y[i])
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_array_equal(forward(p, x[order], w, 2), y[order])


@pytest.mark.parametrize("name", ["4 3x4", "2 1x2", "4 row 4"])
def test_empty_and_smaller_batch(name, rng):
    p = CASES[name]
    w, x = rng.standard_normal(p.w_shape, np.float32), rng.standard_normal((4, *p.x_shape[1:]), np.float32)
    assert forward(p, x[:0], w).shape == (0, *p.y_shape[1:])
    got = forward(p, x, w, 2, n=3)
    np.testing.assert_array_equal(got[:3], forward(p, x[:3], w))
    assert np.isnan(got[3]).all()
    gy = np.zeros((0, *p.y_shape[1:]), np.float32)
    np.testing.assert_array_equal(backward_weight(p, x[:0], gy, parts=2), np.zeros(p.w_shape))


BAD = [np.nan, np.inf, -np.inf, 3e38, -3e38]


@pytest.mark.parametrize("name", ["4 9x10", "2 5x6", "4 row 11", "2 groups", "4 3d", "4 3x1", f"4 {BLOCK + 1} filters"])
@pytest.mark.parametrize("bad", BAD)
def test_values_that_are_not_finite(name, bad, rng):
    """NaN, infinities and overflow stay where direct convolution has them; all other outputs are finite, and right."""
    p = CASES[name]
    x, w = rng.standard_normal(p.x_shape, np.float32), rng.standard_normal(p.w_shape, np.float32)
    w[0, 0] = 0  # 0 * inf is NaN, 0 * 3e38 is not
    for _ in range(3):
        x[tuple(rng.integers(0, s) for s in x.shape)] = bad
    check_not_finite(p, x, w, forward(p, x, w, 2))
    check_not_finite(p, x, w, forward(p, x, w, act="relu"), relu=True)


@pytest.mark.parametrize("name", ["4 9x10", "2 groups", "4 row 11", "4 3d", f"2 {BLOCK + 1} filters"])
@pytest.mark.parametrize("bad", BAD)
def test_weights_that_are_not_finite(name, bad, rng):
    p = CASES[name]
    x, w = rng.standard_normal(p.x_shape, np.float32), rng.standard_normal(p.w_shape, np.float32)
    w[tuple(rng.integers(0, s) for s in w.shape)] = bad
    check_not_finite(p, x, w, forward(p, x, w, 2))


def by_order(p, x, w):
    """One float32 chain of multiply-adds per output, over taps, then channels: what a recomputed output must be."""
    pads = [(0, 0), (0, 0), *p.padding]
    padded = np.pad(x.astype(np.float64), [(max(0, a), max(0, b)) for a, b in pads])
    y, per, filters = np.zeros((x.shape[0], p.k, *p.out), np.float32), p.c // p.groups, p.k // p.groups
    with np.errstate(all="ignore"):
        for tap in np.ndindex(*p.kernel):
            at = tuple(slice(t, t + o) for t, o in zip(tap, p.out, strict=True))
            for c in range(per):
                for k in range(p.k):
                    source = padded[(slice(None), k // filters * per + c, *at)]
                    product = source * np.float64(w[(k, c, *tap)])
                    product = product if FUSED else product.astype(np.float32)
                    y[:, k] = (product + np.float64(y[:, k])).astype(np.float32)
    return y


def check_not_finite(p, x, w, y, relu=False):
    """A chain that ends finite must come out finite and close; one that does not, the same infinity or a NaN."""
    chain = by_order(p, x, w)
    if relu:
        chain = np.where(chain < 0, np.float32(0), chain)
    finite = np.isfinite(chain)
    assert finite.any()
    np.testing.assert_array_equal(np.isnan(y), np.isnan(chain))
    np.testing.assert_array_equal(y[~finite], chain[~finite])
    with np.errstate(all="ignore"):
        scale = p.reference(np.where(np.isfinite(x), abs(x), 0), np.where(np.isfinite(w), abs(w), 0))
    if np.isfinite(x).all() and np.isfinite(w).all():  # the promise is about the norm: next to a huge value others lose more
        scale = np.full_like(scale, scale.max())
    assert (abs(np.float64(y[finite]) - chain[finite]) <= 2.0**-14 * scale[finite]).all()


# ---- backward to weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXACT)
def test_backward_weight_exact(name, rng):
    p = CASES[name]
    x, _, gy = integers(p, rng)
    truth = ref.conv_backward_weight(x, p.w_shape, gy, 1, p.padding, 1, p.groups)
    for threads, parts, tiles, channels, blocks in ((1, 1, 5, 7, 1), (2, 1, 1, 64, 2), (2, 3, 2, 3, 1)):
        dw = backward_weight(p, x, gy, threads, parts, tiles=tiles, channels=channels, blocks=blocks)
        np.testing.assert_array_equal(dw, truth)


def gradient_bound(p, x, gy):
    """Per weight: |G^T| [sum over tiles of (|A| |gy| |A^T|) * (|B^T| |x| |B|)] |G| times the roundings in a row, at most."""
    weight = np.zeros(p.w_shape, np.float32)
    scale = np.zeros(p.w_shape)
    # magnitude() is linear in |w|: its adjoint at |gy| is taken by one weight at a time
    for tap in np.ndindex(*p.kernel):
        for k in range(p.k):
            for c in range(p.c // p.groups):
                weight[(k, c, *tap)] = 1
                scale[(k, c, *tap)] = (magnitude(p, x, weight) * abs(np.float64(gy))).sum()
                weight[(k, c, *tap)] = 0
    return (2 * 3 + 2 * 4 + gy.size + 2) * EPS * scale


@pytest.mark.parametrize("name", ["4 5x6", "4 9x10", "4 padding 2 0", "4 beyond", "4 one pixel", "4 3d padding",
                                  "4 row 11", "4 3x1", "4 6 tiles"])
def test_backward_weight_bound(name, rng):
    p = CASES[name]
    x, gy = (rng.standard_normal(s, np.float32) for s in (p.x_shape, p.y_shape))
    truth = ref.conv_backward_weight(x, p.w_shape, gy, 1, p.padding, 1, p.groups)
    dw = backward_weight(p, x, gy)
    assert (abs(dw - truth) <= gradient_bound(p, x, gy)).all()


@pytest.mark.parametrize("name", NAMES)
def test_backward_weight(name, rng):
    """The promise of precision="high"; bitwise the same for any number of threads and any cut of channels and filters."""
    p = CASES[name]
    x, gy = (rng.standard_normal(s, np.float32) for s in (p.x_shape, p.y_shape))
    dw = backward_weight(p, x, gy, parts=2)
    truth = ref.conv_backward_weight(x, p.w_shape, gy, 1, p.padding, 1, p.groups)
    scale = ref.conv_backward_weight(abs(x), p.w_shape, abs(gy), 1, p.padding, 1, p.groups)
    assert np.linalg.norm(dw - truth) <= 2.0**-16 * np.linalg.norm(scale)
    np.testing.assert_array_equal(backward_weight(p, x, gy, 2, 2), dw)
    np.testing.assert_array_equal(backward_weight(p, x, gy, 2, 2, channels=64, blocks=2, extra=0), dw)


@pytest.mark.parametrize("name", ["4 9x10", "2 5x6", "4 row 11", "2 groups", "4 3d", f"2 {HALF + 1} filters"])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("side", ["x", "gy"])
def test_gradients_that_are_not_finite(name, bad, side, rng):
    """As the forward: what is finite in a chain over the same pixels comes out finite."""
    p = CASES[name]
    x, gy = (rng.standard_normal(s, np.float32) for s in (p.x_shape, p.y_shape))
    target = x if side == "x" else gy
    target[tuple(rng.integers(0, s) for s in target.shape)] = bad
    dw = backward_weight(p, x, gy, 2)
    with np.errstate(all="ignore"):
        truth = ref.conv_backward_weight(x, p.w_shape, gy, 1, p.padding, 1, p.groups)
        truth = np.where(abs(truth) < np.finfo(np.float32).max, truth, np.copysign(np.inf, truth))
        clean = [np.where(np.isfinite(v), abs(v), 0) for v in (x, gy)]
    finite = np.isfinite(truth)
    np.testing.assert_array_equal(np.isfinite(dw), finite)
    scale = ref.conv_backward_weight(clean[0], p.w_shape, clean[1], 1, p.padding, 1, p.groups)
    if np.isfinite(bad):
        scale = np.full_like(scale, scale.max())
    assert (abs(np.float64(dw[finite]) - truth[finite]) <= 2.0**-14 * scale[finite]).all()


# ---- the three passes, and what they promise -------------------------------------------------------------------------


@pytest.mark.parametrize("tile", winograd.TILES)
def test_adjoint(tile, rng):
    """<conv(x), g> = <w, backward_weight(x, g)>, through independent transforms."""
    p = Problem(2, 19, 21, (13,) if tile[0] == 1 else (9, 14), tile, 2, 0)
    x, w, g = (rng.standard_normal(s, np.float32) for s in (p.x_shape, p.w_shape, p.y_shape))
    gap = (np.float64(forward(p, x, w)) * g).sum() - (np.float64(backward_weight(p, x, g, parts=3)) * w).sum()
    assert abs(gap) <= 2.0**-16 * (p.reference(abs(x), abs(w)) * abs(g)).sum()


def test_matrices():
    """The bound's own matrices compute correlations: F(m, 3) from the definition."""
    rng = np.random.default_rng(0)
    for m in (2, 4):
        at, g, bt = matrices(m)
        d, w = rng.standard_normal(m + 2), rng.standard_normal(3)
        np.testing.assert_allclose(at @ ((g @ w) * (bt @ d)), np.correlate(d, w, "valid"), rtol=0, atol=1e-12)
    assert math.isclose(matrices(4)[1][0, 0], 1 / (0.625**2 * 1.5**2))


PROMISED = [((2, 2), 16, 0), ((2, 2), 64, 32), ((4, 4), 256, 32), ((4, 4), 512, 32), ((1, 2), 48, 32), ((1, 4), 192, 32)]


@pytest.mark.parametrize(("tile", "channels", "chunk"), PROMISED)
@pytest.mark.parametrize("rectified", [False, True])
def test_highest(tile, channels, chunk, rectified, rng):
    """Where a form keeps "highest": an error no larger than that of one chain of fused multiply-adds per output."""
    p = Problem(2, channels, 33, (19,) if tile[0] == 1 else (12, 11), tile)
    x, w = (rng.standard_normal(s, np.float32) for s in (p.x_shape, p.w_shape))
    if rectified:
        x = np.maximum(x, 0)
    truth = p.reference(x, w)
    assert ref.rel_l2(forward(p, x, w, 2, tiles=28, blocks=8, chunk=chunk), truth) <= ref.rel_l2(by_order(p, x, w), truth)


@pytest.mark.parametrize(("tile", "size", "tiles"), [((2, 2), 512, 32), ((4, 4), 2048, 32), ((1, 2), 512, 32),
                                                    ((1, 4), 1024, 32)])
@pytest.mark.parametrize("rectified", [False, True])
def test_highest_backward_weight(tile, size, tiles, rectified, rng):
    """The same of gradients: against one chain over all output pixels."""
    p = Problem(2, 5, 33, (size // 2,) if tile[0] == 1 else (16, size // 32), tile)
    x, gy = (rng.standard_normal(s, np.float32) for s in (p.x_shape, p.y_shape))
    if rectified:
        x = np.maximum(x, 0)
    truth = ref.conv_backward_weight(x, p.w_shape, gy, 1, p.padding, 1, p.groups)
    chain = np.zeros(p.w_shape, np.float32)
    padded = np.pad(np.float64(x), [(0, 0), (0, 0), *p.padding])
    for n, *pixel in np.ndindex(p.n, *p.out):
        g = np.float64(gy[(n, slice(None), *pixel)])
        window = padded[(n, slice(None), *(slice(i, i + r) for i, r in zip(pixel, p.kernel, strict=True)))]
        chain = (np.multiply.outer(g, window) + chain).astype(np.float32)
    assert ref.rel_l2(backward_weight(p, x, gy, 2, tiles=tiles, channels=64, blocks=2), truth) <= ref.rel_l2(chain, truth)
