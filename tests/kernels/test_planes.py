"""float32 as bfloat16 planes, and convolutions over them, against the float64 reference.

Inputs and outputs end at a guard page and start as NaN. Integers reach every plane: 8 bits fill one, 16 two, 24 three.
"""

import math

import numpy as np
import pytest
import reference as ref

from fastconv.kernels import conv, planes

from .guarded import guarded
from .plane_problems import NAN, directly, forward, halves, one_accumulator, packed, split, values
from .problems import CASES as SHARED
from .problems import Case, run

BLOCK = conv.block_filters()
CASES = {
    **SHARED,
    **{f"{n} pixels": Case(1, 5, BLOCK, (1, n), (1, 1)) for n in
       (1, 3, 6, 7, 8, 13, 14, 15, 16, 17, 31, 32, 33, 47, 64, 65, 111, 112, 113)},
    **{f"{k} filters": Case(1, 3, k, (4, 4), (3, 3), padding=1) for k in
       (2, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 48, 49, 65)},
    # the reduction's steps of 32: channels by taps around one and two steps, odd channels, whole steps read in place
    **{f"{c} channels": Case(1, c, 10, (3, 5), (2, 2)) for c in (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)},
    **{f"{c} channels 1x1": Case(2, c, 20, (3, 9), (1, 1)) for c in (31, 32, 33, 62, 64, 66, 96)},
    "in place": Case(2, 32, 33, (5, 40), (3, 3)),
    "in place padded": Case(2, 64, 40, (6, 34), (3, 3), padding=1),
    "in place stride": Case(1, 32, 16, (5, 70), (3, 3), padding=1, stride=2),
    "in place dilation": Case(1, 64, 17, (9, 41), (3, 3), padding=2, dilation=2),
    "width 1, stride": Case(2, 32, 8, (35, 1), (3, 1), stride=(2, 2), padding=(1, 0)),
    "long reduction": Case(1, 544, 35, (3, 7), (3, 3), padding=1),    # more steps than one pass holds
    "long 1x1": Case(3, 2100, 40, (1, 1), (1, 1)),
    "1x1 tiles": Case(1, 300, 3 * BLOCK, (15, 20), (1, 1)),
    "1x1 filter tiles": Case(1, 2100, 4 * BLOCK, (1, 3), (1, 1)),
    "four blocks": Case(1, 30, 4 * BLOCK + 3, (1, 1), (1, 1)),
    "groups odd": Case(2, 15, 9, (5, 6), (3, 3), padding=1, groups=3),
    "groups in place": Case(1, 96, 51, (4, 40), (3, 3), padding=1, groups=3),
    "1d wide": Case(2, 32, 24, (100,), (3,), dilation=4, padding=4),
    "3d in place": Case(1, 32, 16, (3, 4, 20), (2, 3, 3), padding=(0, 1, 1)),
}
NAMES = list(CASES)
FORWARD = [("bf16_conv_direct", 1), ("bf16_conv_amx", 1), ("bf16_conv_amx", 2), ("bf16_conv_amx", 3)]
BITS = {1: (8, 4), 2: (10, 6), 3: (12, 6)}  # of x and w in the exact tests: more than one plane holds where there are more


@pytest.fixture
def rng():
    return np.random.default_rng(12)


def special():
    """Zeros, denormals, values around every power of two, ties, the largest, infinities, NaN."""
    info = np.finfo(np.float32)
    some = [0.0, info.tiny, info.smallest_subnormal, info.tiny * (1 - 2.0**-23), 2.0**-118, 2.0**-119 * 1.0039, info.max,
            np.nextafter(info.max, np.float32(0)), 3.3895314e38, 3.3961776e38, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-23,
            2 - 2.0**-23, 1.9960938, 0.1, 1 / 3, 2.0**-126 * 1.996, np.inf, np.nan]
    some = np.array(some, np.float32)
    return np.concatenate([some, -some])


# ---- the split ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("channels", "ldx", "ldp"), [(1, 1, 2), (2, 2, 2), (5, 7, 8), (16, 16, 16), (17, 17, 18),
                                                      (33, 40, 64), (64, 64, 64), (300, 300, 320)])
def test_split(count, channels, ldx, ldp, rng):
    x = rng.standard_normal((2, channels, 67), np.float32) * np.float32(2.0) ** rng.integers(-90, 100, (2, channels, 67))
    x = x.astype(np.float32)
    flat = special()
    x.reshape(-1)[: flat.size] = flat[: x.size]
    expected = ref.split_bfloat16(x, count).astype(np.float32)
    for threads in (1, 2):
        got = values(split(x, count, ldp, ldx, threads)).reshape(count, 2, 67, ldp)
        assert not got[..., channels:].any()
        got = np.moveaxis(got[..., :channels], -1, 2)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(np.signbit(got[0]), np.signbit(expected[0]))


def test_three_planes_hold_every_bit(rng):
    """From 2**-100 up to the largest float32, h + m + l is x."""
    bits = rng.integers(0, 2**32, 20000, dtype=np.uint32)
    x = bits.view(np.float32)
    x = np.concatenate([x[np.isfinite(x) & (np.abs(x) >= 2.0**-100)], [np.finfo(np.float32).max]]).astype(np.float32)
    planes_ = values(split(x.reshape(1, 1, -1), 3, 2)).reshape(3, -1, 2)[..., 0]
    assert np.isfinite(planes_).all()
    np.testing.assert_array_equal(planes_.astype(np.float64).sum(axis=0), x)


def test_an_empty_batch_is_split():
    assert split(np.zeros((0, 3, 4), np.float32), 2, 4).size == 0


# ---- the weights ----------------------------------------------------------------------------------------------------


def unpacked(elements, k, groups, taps, reads, count):
    """Packed planes as [plane][group][filter][tap][element]."""
    even = reads + reads % 2
    steps = -(-taps * even // 32)
    w = values(elements).reshape(groups, -(-k // 16), steps, count, 16, 16, 2)
    w = np.transpose(w, (3, 0, 1, 5, 2, 4, 6)).reshape(count, groups, -1, steps * 32)
    assert not w[:, :, k:].any() and not w[..., taps * even:].any()
    w = w[:, :, :k, : taps * even].reshape(count, groups, k, taps, even)
    assert not w[..., reads:].any()
    return w[..., :reads]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", ["3x3", "1x1", "groups", "groups odd", "33 filters", "17 channels", "long reduction", "3d"])
def test_packed_weights(name, count, rng):
    case = CASES[name]
    w = rng.standard_normal(case.w_shape, np.float32)
    w.reshape(-1)[:40] = special()
    g, k, c = case.groups, case.k // case.groups, case.c // case.groups
    got = unpacked(packed(case, w, count), k, g, case.taps, c, count)
    expected = np.moveaxis(ref.split_bfloat16(w, count).reshape(count, g, k, c, case.taps), -1, -2)
    np.testing.assert_array_equal(got, expected.astype(np.float32))


def test_packed_runs(rng):
    """A row of taps as one run of channels, three of which are stored as four; and filters in runs (Linear's columns)."""
    case = Case(1, 3, 18, (9, 9), (5, 2))
    w = rng.standard_normal(case.w_shape, np.float32)
    got = unpacked(packed(case, w, 1, row=4, taps=[0, 2, 4, 6, 8], channel_run=2, channel_run_stride=1), 18, 1, 5, 8, 1)
    expected = np.zeros((18, 5, 2, 4))
    expected[..., :3] = np.transpose(ref.round_bfloat16(w), (0, 2, 3, 1))
    np.testing.assert_array_equal(got.reshape(18, 5, 2, 4), expected)
    v = rng.standard_normal((7, 3 * 20), np.float32)  # (out, features): 3 channels of 20 pixels
    got = unpacked(packed(case, v, 1, taps=[0], filters=3, filter_stride=20, filter_run=20, filter_run_stride=1, channels=7,
                          channel_stride=60), 60, 1, 1, 7, 1)
    expected = np.transpose(ref.round_bfloat16(v).reshape(7, 3, 20), (2, 1, 0)).reshape(60, 7)
    np.testing.assert_array_equal(got.reshape(60, 7), expected)


# ---- forward --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "count"), FORWARD)
@pytest.mark.parametrize("name", NAMES)
def test_forward_exact(name, kernel, count, rng):
    case = CASES[name]
    x, w = (ref.exact_integers(rng, s, bits) for s, bits in
            zip((case.x_shape, case.w_shape), BITS[count], strict=True))
    while ref.conv(abs(x), abs(w), None, *case.attributes).max() >= 2**23:
        w = np.trunc(w / 2).astype(np.float32)
    assert w.any()
    y = ref.conv(x, w, None, *case.attributes)
    for threads, extra in ((1, 0), (2, 3)):
        np.testing.assert_array_equal(forward(kernel, count, case, x, w, threads, extra=extra), y)


@pytest.mark.parametrize(("kernel", "count"), FORWARD)
@pytest.mark.parametrize("splits", [1, 2, 3])
@pytest.mark.parametrize("name", ["3x3", "1x1", "groups odd", "33 filters", "113 pixels", "four blocks", "in place padded"])
def test_the_result_is_split(name, splits, kernel, count, rng):
    """Planes of what is stored, after bias, residual and activation, wherever rows of them differ in length from y's."""
    case = CASES[name]
    x, w, residual = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.w_shape, case.y_shape))
    keywords = {"bias": rng.standard_normal(case.k, np.float32), "residual": residual, "act": "clip", "a": -1.5, "b": 2.5}
    expected = forward(kernel, count, case, x, w, **keywords)
    y, made = forward(kernel, count, case, x, w, 2, splits=splits, **keywords)
    np.testing.assert_array_equal(y, expected)
    rows = np.moveaxis(y, 1, -1).reshape(-1, case.k)
    truth = ref.split_bfloat16(rows, splits).astype(np.float32)
    np.testing.assert_array_equal(values(made)[:, :, :case.k], truth)
    assert (made[:, :, case.k:] == NAN).all()
    alone = forward(kernel, count, case, x, w, splits=splits, alone=True, **keywords)
    np.testing.assert_array_equal(alone, made)


@pytest.mark.parametrize("name", NAMES)
def test_one_plane_random(name, rng):
    """What float32 accumulation of the rounded operands may differ by, and the same bits for one thread and for two."""
    case = CASES[name]
    x, w = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.w_shape))
    for kernel in {kernel for kernel, count in FORWARD if count == 1}:
        one, two = (forward(kernel, 1, case, x, w, threads) for threads in (1, 2))
        np.testing.assert_array_equal(one, two)
        truth = ref.conv(ref.round_bfloat16(x), ref.round_bfloat16(w), None, *case.attributes)
        assert ref.rel_l2(one, truth) <= 2.0 ** -24 * 4 * math.sqrt(case.taps * case.c // case.groups)


@pytest.mark.parametrize(("kernel", "count"), FORWARD)
@pytest.mark.parametrize("name", ["3x3", "1x1", "groups odd", "33 filters", "113 pixels", "four blocks", "in place padded"])
@pytest.mark.parametrize("act", [None, "relu", "clip", "leaky_relu"])
def test_epilogue(name, kernel, count, act, rng):
    case = CASES[name]
    x, w, residual = (ref.exact_integers(rng, s, 4) for s in (case.x_shape, case.w_shape, case.y_shape))
    bias = ref.exact_integers(rng, (case.k,), 4)
    a, b = {None: (0, 0), "relu": (0, 0), "clip": (-20, 35), "leaky_relu": (0.25, 0)}[act]
    for with_bias, with_residual in ((True, True), (True, False), (False, True)):
        y = ref.conv(x, w, bias if with_bias else None, *case.attributes) + (residual if with_residual else 0)
        y = {None: lambda v: v, "relu": lambda v: np.maximum(v, 0), "clip": lambda v: np.clip(v, -20, 35),
             "leaky_relu": lambda v: np.where(v < 0, v / 4, v)}[act](y)
        got = forward(kernel, count, case, x, w, 2, bias if with_bias else None,
                      residual if with_residual else None, act, a, b)
        np.testing.assert_array_equal(got, y)


@pytest.mark.parametrize(("kernel", "count"), FORWARD)
@pytest.mark.parametrize("name", ["3x3", "1x1", "one pixel 1x1", "four blocks", "3d", "in place padded", "long 1x1"])
def test_an_image_does_not_depend_on_its_batch(name, kernel, count, rng):
    case = CASES[name]
    x = rng.standard_normal((15, *case.x_shape[1:]), np.float32)
    w = rng.standard_normal(case.w_shape, np.float32)
    x[3].reshape(-1)[5] = np.inf  # what is recomputed, too
    y = forward(kernel, count, case, x, w, 2)
    assert np.isfinite(y[[0, 7, 14]]).all()
    for i in (0, 3, 7, 14):
        np.testing.assert_array_equal(forward(kernel, count, case, x[i:i + 1], w)[0], y[i])
    order = np.random.default_rng(0).permutation(15)
    np.testing.assert_array_equal(forward(kernel, count, case, x[order], w, 2), y[order])


@pytest.mark.parametrize(("kernel", "count"), FORWARD)
def test_a_phase_writes_its_own_pixels(kernel, count, rng):
    """One phase of a transposed convolution: every third row and second column of the output, the rest untouched."""
    case = Case(2, 18, 3, (4, 5), (2, 2))
    x, w = ref.exact_integers(rng, case.x_shape, 6), ref.exact_integers(rng, case.w_shape, 4)
    image, weights, zero = split(x, count, 18), packed(case, w, count), halves(18, 0)
    y = guarded((2, 10, 8, case.k))
    placed = {**case.geometry(18), "output": (1, 10, 8), "origin": (0, 2, 1), "output_step": (1, 3, 2)}
    run(planes.forward(kernel, placed, x=image.ctypes.data, w=weights.ctypes.data, y=y.ctypes.data, ldy=case.k,
                       zeros=zero.ctypes.data, planes=count, plane_stride=image.size // count), 2, 2)
    expected = np.full_like(y, np.nan)
    expected[:, 2:9:3, 1:8:2] = np.moveaxis(ref.conv(x, w, None, *case.attributes), 1, -1)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(("kernel", "count"), FORWARD)
@pytest.mark.parametrize("name", ["3x3", "1x1", "one pixel", "in place"])
def test_empty_and_smaller_batch(name, kernel, count, rng):
    case = CASES[name]
    w = ref.exact_integers(rng, case.w_shape, 3)
    assert forward(kernel, count, case, np.zeros((0, *case.x_shape[1:]), np.float32), w).shape == (0, *case.y_shape[1:])
    x = ref.exact_integers(rng, (4, *case.x_shape[1:]), 4)
    got = forward(kernel, count, case, x, w, 2, n=3)
    np.testing.assert_array_equal(got[:3], ref.conv(x[:3], w, None, *case.attributes))
    assert np.isnan(got[3]).all()


def test_one_plane_has_the_bits_of_the_definition(rng):
    """One accumulator over (tap, pair of channels), the odd one first, fused: VDPBF16PS, emulated or not."""
    case = Case(1, 7, 5, (4, 6), (2, 2))
    x, w = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.w_shape))
    rx, rw = ref.round_bfloat16(x), ref.round_bfloat16(w)
    y = np.zeros(case.y_shape, np.float32)
    for r in range(2):
        for s in range(2):
            for c in (1, 0, 3, 2, 5, 4, 7, 6):
                if c < 7:  # products are exact in float64, and so is their sum with a float32 of like size
                    term = rx[:, None, c, r:r + 3, s:s + 5] * rw[None, :, c, r, s, None, None]
                    y = (y.astype(np.float64) + term).astype(np.float32)
    np.testing.assert_array_equal(forward("bf16_conv_direct", 1, case, x, w), y)


def test_one_plane_passes_infinities_and_nan_on(rng):
    case = Case(1, 3, 18, (6, 20), (3, 3), padding=1)
    x, w = ref.exact_integers(rng, case.x_shape, 4), ref.exact_integers(rng, case.w_shape, 4)
    w += w == 0
    x[0, 1, 2, 3], x[0, 0, 5, 10], x[0, 2, 0, 19] = np.inf, np.nan, -np.inf
    with np.errstate(invalid="ignore"):
        expected = ref.conv(x, w, None, *case.attributes)
    np.testing.assert_array_equal(forward("bf16_conv_direct", 1, case, x, w), expected)


# ---- several planes -------------------------------------------------------------------------------------------------


def magnitude(case, x, w):
    return np.linalg.norm(ref.conv(abs(x), abs(w), None, *case.attributes))


@pytest.mark.parametrize("name", NAMES)
def test_several_planes_random(name, rng):
    """`high`: 2**-16 of the norm of the sums over magnitudes; three planes: far less; and the same bits for two threads."""
    case = CASES[name]
    x, w = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.w_shape))
    truth, size = ref.conv(x, w, None, *case.attributes), magnitude(case, x, w)
    for count, bound in ((2, 2.0**-16), (3, 2.0**-24 * 2)):
        one, two = (forward("bf16_conv_amx", count, case, x, w, threads) for threads in (1, 2))
        np.testing.assert_array_equal(one, two)
        assert np.linalg.norm(one - truth) <= bound * size


LONG = [Case(1, c, 32, (h, h), (r, r), padding=r // 2) for c, h, r in
        ((16, 14, 3), (64, 14, 3), (128, 10, 3), (256, 7, 3), (64, 12, 1), (512, 7, 1), (2048, 5, 1), (3, 20, 7),
         (33, 9, 5))]


@pytest.mark.parametrize("case", LONG, ids=lambda c: f"{c.c} {c.kernel}")
def test_three_planes_are_no_worse_than_one_accumulator(case, rng):
    for draw in (rng.standard_normal, rng.random):
        x, w = (draw(s, dtype=np.float32) for s in (case.x_shape, case.w_shape))
        truth = ref.conv(x, w, None, *case.attributes)
        split_, float_ = forward("bf16_conv_amx", 3, case, x, w), one_accumulator(case, x, w)
        assert ref.rel_l2(split_, truth) <= ref.rel_l2(float_, truth)


@pytest.mark.parametrize("case", LONG, ids=lambda c: f"{c.c} {c.kernel}")
def test_two_planes_keep_their_promise(case, rng):
    """1e-5 of the result's norm on ordinary data; 2**-16 of the norm over magnitudes, always (here: filters that cancel)."""
    x, w = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.w_shape))
    assert ref.rel_l2(forward("bf16_conv_amx", 2, case, x, w), ref.conv(x, w, None, *case.attributes)) <= 1e-5
    x = 1 + x / 1000
    w -= w.mean(axis=(1, 2, 3), keepdims=True)
    y = forward("bf16_conv_amx", 2, case, x, w)
    assert np.linalg.norm(y - ref.conv(x, w, None, *case.attributes)) <= 2.0**-16 * magnitude(case, x, w)


def test_the_most_that_two_planes_lose():
    """Every operand just above a bfloat16 plus half: m is as large as it gets, and so are its rounding and the product m m.

    2**-17 per operand and 2**-16 for m m, which is not computed: 2**-15, reached by constant operands alone.
    """
    case = Case(1, 64, 4, (20,), (1,))
    x, w = (np.full(s, 1 + 2.0**-8 - 2.0**-16 + 2.0**-17 - 2.0**-23, np.float32) for s in (case.x_shape, case.w_shape))
    lost = np.linalg.norm(forward("bf16_conv_amx", 2, case, x, w) - ref.conv(x, w, None)) / magnitude(case, x, w)
    assert 2.0**-16 < lost <= 2.0**-15


@pytest.mark.parametrize(("count", "bits"), [(3, (12, 12)), (3, (20, 1)), (3, (1, 20)), (2, (16, 8)), (2, (8, 16)),
                                             (1, (8, 8))])
@pytest.mark.parametrize("name", ["3x3", "in place padded", "groups odd", "33 channels 1x1", "1d wide"])
def test_wide_integers_are_exact(name, count, bits, rng):
    """Operands that fill every plane, few enough of them that no sum passes 2**24."""
    case = CASES[name]
    x, w = ref.exact_integers(rng, case.x_shape, bits[0]), ref.exact_integers(rng, case.w_shape, bits[1])
    while ref.conv(abs(x), abs(w), None, *case.attributes).max() >= 2**24:
        x *= rng.random(x.shape) < 0.7
    assert np.abs(x).max() >= 2 ** (bits[0] - 1)
    np.testing.assert_array_equal(forward("bf16_conv_amx", count, case, x, w), ref.conv(x, w, None, *case.attributes))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", ["3x3", "in place padded", "in place stride", "groups odd", "33 channels 1x1",
                                  "long reduction"])
@pytest.mark.parametrize("where", ["x", "w", "both"])
def test_infinities_and_nan_are_where_float32_has_them(name, count, where, rng):
    case = CASES[name]
    x, w = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.w_shape))
    if where != "w":
        x.reshape(-1)[rng.choice(x.size, 4, replace=False)] = np.inf, -np.inf, np.nan, np.finfo(np.float32).max
    if where != "x":
        w.reshape(-1)[rng.choice(w.size, 3, replace=False)] = np.inf, -np.inf, np.nan
    y, expected = forward("bf16_conv_amx", count, case, x, w, 2), directly(case, x, w)
    # where a window reaches into the padding, an infinite weight meets its zeros, or is left out: either is right
    inside = ref.conv(np.ones_like(x), np.ones_like(w), None, *case.attributes) == np.prod(case.w_shape[1:])
    odd = ~np.isfinite(expected)
    assert (odd & inside).any() and not odd.all()
    np.testing.assert_array_equal(np.isfinite(y)[inside], ~odd[inside])
    np.testing.assert_array_equal(y[odd & inside], expected[odd & inside])
    assert np.isnan(y[np.isfinite(expected) & ~np.isfinite(y)]).all()
    both = np.isfinite(y) & ~odd
    np.testing.assert_allclose(y[both], expected[both], rtol=2.0**-10, atol=2.0**-10)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_largest_and_the_smallest(count):
    """One product each: the largest float32, powers of two down to the smallest normal one, zeros of both signs."""
    case = Case(1, 1, 1, (260,), (1,))
    x = np.zeros(case.x_shape, np.float32)
    x.reshape(-1)[:252] = np.float32(2.0) ** np.arange(-126, 126, dtype=np.float32)
    x.reshape(-1)[252:] = np.finfo(np.float32).max, -np.finfo(np.float32).max, 2.0**-127, -(2.0**-149), 0, -0.0, 1, 2.0**-126
    for factor in (1.0, -0.5, 2.0):
        w = np.full(case.w_shape, factor, np.float32)
        y = forward("bf16_conv_amx", count, case, x, w)
        with np.errstate(over="ignore"):
            expected = directly(case, x, w)
        if count < 3:  # the largest has 24 bits
            finite = np.isfinite(expected) & (np.abs(x) < 2.0**127)
            np.testing.assert_array_equal(y[finite], expected[finite])
            np.testing.assert_allclose(y[np.isfinite(y)], expected[np.isfinite(y)], rtol=2.0 ** (-8 * count))
        else:
            np.testing.assert_array_equal(y, expected)


def test_flushing_loses_no_more_than_flushing():
    """Below 2**-100 lower planes vanish: the error stays below what flushing them loses."""
    case = Case(1, 64, 8, (40,), (1,))
    rng = np.random.default_rng(5)
    x = (rng.standard_normal(case.x_shape) * 2.0 ** rng.integers(-126, -90, case.x_shape)).astype(np.float32)
    w = rng.standard_normal(case.w_shape).astype(np.float32)
    x[np.abs(x) < 2.0**-126] = 0
    y, truth = forward("bf16_conv_amx", 3, case, x, w), ref.conv(x, w, None, *case.attributes)
    lost = ref.conv(np.full_like(x, 2.0**-126), abs(w), None, *case.attributes)
    assert (np.abs(y - truth) <= 4 * lost + 2.0**-20 * ref.conv(abs(x), abs(w), None, *case.attributes)).all()


# ---- the peaks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_dot_peak(threads):
    lanes, tiles = planes.peak_lanes(), 3
    out = np.full(tiles * lanes + 1, np.nan, np.float32)
    run(planes.dot_peak(out=out.ctypes.data, iterations=5, a=0.5, b=3.0), tiles, threads)
    np.testing.assert_array_equal(out[:-1], np.tile(np.arange(lanes) + 5 * 2 * 1.5, tiles))
    assert np.isnan(out[-1])


@pytest.mark.parametrize("threads", [1, 2])
def test_amx_peak(threads):
    out = np.full(3 * planes.AMX_PEAK_FLOATS + 1, np.nan, np.float32)
    run(planes.amx_peak(out=out.ctypes.data, iterations=5, a=0.5, b=3.0), 3, threads)
    np.testing.assert_array_equal(out[:-1], np.tile(np.arange(1024) + 5 * 32 * 1.5, 3))
    assert np.isnan(out[-1])
