"""Depthwise and narrow grouped convolution in all passes, against the float64 reference, from guarded buffers of NaN."""

import math

import numpy as np
import pytest
import reference as ref

from fastconv import functional as F
from fastconv.kernels import depthwise, layout
from fastconv.ops.conv.depthwise import backward_data_phases, forward_geometry, forward_packing
from fastconv.ops.conv.problem import Problem

from .guarded import gaps, guarded, images, pixels
from .problems import Case, run

WIDTH = depthwise.width()
DEEP = 128 + WIDTH + 3  # channels: two blocks of vectors and a tail


def dw(n, c, size, kernel, multiplier=1, **keywords):
    return Case(n, c, c * multiplier, size, kernel, groups=c, **keywords)


def grouped(n, groups, c, k, size, kernel, **keywords):
    return Case(n, groups * c, groups * k, size, kernel, groups=groups, **keywords)


CASES = {
    # 3x3 tiles: every remainder of rows and columns, vectors with and without a tail
    **{f"3x3 {h}x{w}": dw(2, WIDTH + 3, (h, w), (3, 3), padding=1) for h, w in
       [(1, 1), (1, 9), (2, 3), (3, 2), (4, 4), (5, 7), (6, 6), (7, 8), (9, 5)]},
    **{f"3x3/2 {h}x{w}": dw(2, WIDTH + 3, (h, w), (3, 3), padding=1, stride=2) for h, w in
       [(1, 1), (2, 9), (3, 4), (5, 6), (8, 15), (9, 17)]},
    # the four phases of backward to data in one tile: odd and even padding, more of it than the kernel reaches, deep
    **{f"{k}x{k}/2 {h}x{w} padding {p}": dw(2, WIDTH + 5, (h, w), (k, k), padding=p, stride=2) for k, h, w, p in
       [(3, 9, 18, 0), (3, 16, 17, 2), (3, 5, 6, 5), (5, 9, 20, 0), (5, 17, 16, 1), (5, 8, 19, 2), (5, 11, 9, 3),
        (5, 3, 4, 6)]},
    "3x3/2 deep": dw(1, DEEP, (9, 17), (3, 3), padding=1, stride=2),
    # depths are images of their own where kernel and stride are flat; a stride along them, or padding, is not
    **{f"{k}x{k}/2 in depth {d}": dw(2, WIDTH + 1, (d, 9, 8), (1, k, k), padding=(0, 1, 1), stride=(1, 2, 2))
       for k, d in ((3, 1), (3, 2), (5, 4))},
    "3x3/2 in deep blocks": dw(1, DEEP, (3, 9, 17), (1, 3, 3), padding=(0, 1, 1), stride=(1, 2, 2)),
    "3x3/2 in padded depth": dw(1, WIDTH, (3, 9, 8), (1, 3, 3), padding=1, stride=(1, 2, 2)),
    "3x3/2 in every other depth": dw(1, WIDTH, (5, 9, 8), (1, 3, 3), padding=(0, 1, 1), stride=2),
    "3x3/2 padding differs": dw(1, WIDTH, (9, 17), (3, 3), padding=(1, 0), stride=2),
    **{f"{c} channels": dw(1, c, (5, 6), (3, 3), padding=1) for c in
       (2, 3, WIDTH - 1, WIDTH, 2 * WIDTH, 2 * WIDTH + 1, 127, 128, 129, DEEP)},
    "no padding": dw(2, WIDTH, (9, 11), (3, 3)),
    "padding on one side": dw(1, WIDTH, (6, 9), (3, 3), padding=(2, 0)),
    "padding over the kernel": dw(1, 5, (3, 2), (3, 3), padding=4),
    "no pixel inside": dw(1, WIDTH + 1, (1, 1), (2, 2), padding=3, stride=3),
    "one pixel": dw(3, WIDTH + 1, (3, 3), (3, 3)),
    "one pixel padded": dw(2, WIDTH, (1, 1), (3, 3), padding=1),
    "dilation": dw(1, WIDTH + 2, (13, 17), (3, 3), padding=2, dilation=2),
    "dilation over the image": dw(1, WIDTH, (5, 4), (3, 3), padding=9, dilation=9),
    "dilation and stride": dw(2, WIDTH + 1, (19, 23), (3, 3), padding=(3, 5), dilation=(4, 3), stride=(2, 3)),
    "dilation is stride": dw(1, WIDTH, (14, 15), (3, 3), padding=2, dilation=2, stride=2),
    "dilation twice the stride": dw(1, WIDTH, (17, 18), (3, 3), padding=4, dilation=4, stride=2),
    "stride over kernel": dw(2, WIDTH + 1, (15, 17), (3, 2), stride=(4, 5), padding=1),
    "stride differs": dw(1, WIDTH, (12, 13), (3, 3), stride=(1, 2), padding=1),
    # rows of taps: sizes with and without code of their own, around the run
    **{f"row of {s}": dw(1, WIDTH + 1, (4, w), (2, s), padding=(1, s // 2)) for s, w in
       [(1, 9), (2, 8), (3, 23), (4, 15), (5, 21), (6, 7), (7, 19), (8, 16), (11, 18)]},
    **{f"row of {s}, stride {t}": dw(2, WIDTH, (9, w), (s, s), padding=s // 2, stride=t) for s, t, w in
       [(3, 3, 20), (5, 2, 33), (5, 3, 17), (7, 2, 25)]},
    "7x7": dw(1, 2 * WIDTH, (9, 10), (7, 7), padding=3),
    "kernel over the image": dw(1, WIDTH, (4, 5), (9, 9), padding=4),
    "31 taps": dw(1, WIDTH, (50,), (31,), padding=15),
    "1d dilated": dw(2, WIDTH + 3, (61,), (3,), padding=8, dilation=8),
    "3d": dw(2, WIDTH + 1, (4, 5, 6), (3, 3, 3), padding=1),
    "3d strided": dw(1, WIDTH, (5, 6, 7), (3, 3, 3), padding=1, stride=2),
    "3d dilated": dw(1, WIDTH, (7, 6, 5), (2, 3, 3), padding=(2, 1, 1), dilation=(3, 1, 1)),
    "units": dw(2, 40, (50, 41), (3, 3), padding=1),
    # filters of several groups, or one group's in several vectors
    **{f"multiplier {m}": dw(2, 7, (6, 7), (3, 3), multiplier=m, padding=1) for m in (2, 3, 4, 5, 8)},
    "multiplier, stride": dw(2, 5, (7, 9), (3, 2), multiplier=2, stride=(2, 1), dilation=2, padding=2),
    "many filters": dw(1, 3, (5, 6), (3, 3), multiplier=2 * WIDTH + 3, padding=1),
    **{f"groups of {c} to {k}": grouped(2, 9, c, k, (5, 6), (3, 3), padding=1) for c, k in
       [(2, 2), (3, 3), (4, 4), (2, 4), (4, 2), (4, 1), (3, 5), (1, WIDTH), (WIDTH // 2, WIDTH), (WIDTH, WIDTH // 2),
        (WIDTH, WIDTH + 1), (WIDTH - 1, 3 * WIDTH)]},
    "groups, stride": grouped(1, 8, 4, 4, (9, 10), (3, 3), padding=1, stride=2),
    **{f"groups of {c} to {k}, {r}x{r}/2": grouped(2, 7, c, k, (9, 18), (r, r), padding=p, stride=2) for c, k, r, p in
       [(1, 3, 3, 1), (2, 1, 3, 0), (4, 4, 3, 1), (3, 4, 5, 2), (2, 2, 5, 1), (WIDTH, WIDTH, 3, 1), (1, WIDTH, 3, 1)]},
    "groups, 1x1": grouped(2, 6, 4, 3, (5, 7), (1, 1)),
    "groups, 5x5": grouped(1, 5, 2, 3, (7, 12), (5, 5), padding=2, stride=(1, 2)),
    "groups, 3d": grouped(1, 3, 2, 2, (3, 4, 5), (2, 3, 3), padding=1),
    "groups, deep": grouped(1, 2 * WIDTH + 1, 4, 4, (4, 5), (3, 3), padding=1),
}
NAMES = list(CASES)


def problem(case):
    attrs = {"stride": case.stride, "padding": tuple((p, p) for p in case.padding), "dilation": case.dilation,
             "groups": case.groups}
    return Problem(case.x_shape, case.w_shape, case.y_shape, attrs)


def convolve(x, shape, steps, threads, extra, bias=None, residual=None, n=None, **keywords):
    """Runs convolutions (geometry, packing, weight) from x into one output of this shape."""
    ldx, ldy, count = x.shape[1] + extra, shape[1] + 2 * extra, x.shape[0] * math.prod(shape[2:])
    x_flat, y = pixels(x, ldx), guarded(max(0, count * ldy - (ldy - shape[1])))
    if bias is not None:
        bias_flat = guarded(shape[1])
        bias_flat[:] = bias
        keywords["bias"] = bias_flat.ctypes.data
    if residual is not None:
        residual_flat = pixels(residual, shape[1] + 1)
        keywords.update(residual=residual_flat.ctypes.data, ldr=shape[1] + 1)
    for geometry, packing, w in steps:
        packed = guarded(w.size // math.prod(w.shape[2:]) * len(packing["taps"]))
        if packing["taps"]:
            run(layout.pack_weight(w.ctypes.data, packed.ctypes.data, **packing), 1, threads)
        assert not np.isnan(packed).any()
        run(depthwise.forward({**geometry, "ldx": ldx}, x=x_flat.ctypes.data, w=packed.ctypes.data, y=y.ctypes.data,
                              ldy=ldy, **keywords), x.shape[0], threads, n)
    if count:
        assert np.isnan(gaps(y, count, shape[1], ldy)).all()
    return images(y, (x.shape[0], *shape[1:]), ldy)


def forward(case, x, w, threads=1, extra=3, **keywords):
    p = problem(case)
    return convolve(x, case.y_shape, [(forward_geometry(p), forward_packing(p), w)], threads, extra, **keywords)


def backward_data(case, gy, w, threads=1, extra=3, **keywords):
    steps = [(geometry, packing, w) for geometry, packing in backward_data_phases(problem(case))]
    return convolve(gy, case.x_shape, steps, threads, extra, **keywords)


def backward_weight(case, x, gy, threads=1, parts=1, extra=3):
    p, ldx, ldy = problem(case), case.c + extra, case.k + 2 * extra
    x_flat, gy_flat = pixels(x, ldx), pixels(gy, ldy)
    size = math.prod(case.w_shape)
    partial, result = guarded(parts * size), guarded(case.w_shape)
    run(depthwise.backward_weight({**forward_geometry(p), "ldx": ldx}, x=x_flat.ctypes.data, gy=gy_flat.ctypes.data,
                                  ldy=ldy, dw=partial.ctypes.data, parts=parts, part_stride=size), x.shape[0], threads)
    run(layout.unpack_weight(result.ctypes.data, partial.ctypes.data, parts=parts, part_stride=size,
                             **forward_packing(p)), 1, threads)
    return result


def data_applies(case):
    return case.k // case.groups <= WIDTH


@pytest.fixture
def rng():
    return np.random.default_rng(17)


def integers(case, rng):
    x, w, g = (ref.exact_integers(rng, s, b) for s, b in ((case.x_shape, 6), (case.w_shape, 5), (case.y_shape, 5)))
    assert ref.conv(abs(x), abs(w), None, *case.attributes).max() < 2**24
    assert ref.conv_backward_weight(abs(x), case.w_shape, abs(g), *case.attributes).max() < 2**24
    return x, w, g


@pytest.mark.parametrize("name", NAMES)
def test_forward(name, rng):
    case = CASES[name]
    x, w, _ = integers(case, rng)
    y = ref.conv(x, w, None, *case.attributes)
    for threads, extra in ((1, 0), (2, 3)):
        np.testing.assert_array_equal(forward(case, x, w, threads, extra), y)
    x, w = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.w_shape))
    one, two = (forward(case, x, w, threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    size = ref.conv(abs(x), abs(w), None, *case.attributes)
    assert (abs(one - ref.conv(x, w, None, *case.attributes)) <= 2.0**-24 * (math.prod(case.w_shape[1:]) + 1) * size).all()


@pytest.mark.parametrize("name", [name for name in NAMES if data_applies(CASES[name])])
def test_backward_data(name, rng):
    case = CASES[name]
    _, w, g = integers(case, rng)
    truth = ref.conv_backward_data(case.x_shape, w, g, *case.attributes)
    for threads, extra in ((1, 0), (2, 3)):
        np.testing.assert_array_equal(backward_data(case, g, w, threads, extra), truth)
    w, g = (rng.standard_normal(s, np.float32) for s in (case.w_shape, case.y_shape))
    one, two = (backward_data(case, g, w, threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    size = ref.conv_backward_data(case.x_shape, abs(w), abs(g), *case.attributes)
    terms = case.taps * (case.k // case.groups)
    assert (abs(one - ref.conv_backward_data(case.x_shape, w, g, *case.attributes)) <= 2.0**-24 * (terms + 1) * size).all()


@pytest.mark.parametrize("name", NAMES)
def test_backward_weight(name, rng):
    case = CASES[name]
    x, _, g = integers(case, rng)
    truth = ref.conv_backward_weight(x, case.w_shape, g, *case.attributes)
    for threads, parts, extra in ((1, 1, 0), (2, 1, 3), (2, 3, 3), (1, 50, 1)):  # more parts than rows too
        np.testing.assert_array_equal(backward_weight(case, x, g, threads, parts, extra), truth)
    x, g = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.y_shape))
    one, two = (backward_weight(case, x, g, threads, 2) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    size = ref.conv_backward_weight(abs(x), case.w_shape, abs(g), *case.attributes)
    terms = case.n * math.prod(case.out)
    truth = ref.conv_backward_weight(x, case.w_shape, g, *case.attributes)
    assert (abs(one - truth) <= 2.0**-24 * (terms + 1) * size).all()


@pytest.mark.parametrize("name", [name for name in NAMES if data_applies(CASES[name])])
def test_the_passes_are_adjoint(name, rng):
    case = CASES[name]
    x, w, g = integers(case, rng)
    product = (forward(case, x, w).astype(np.float64) * g).sum()
    assert product == (backward_data(case, g, w).astype(np.float64) * x).sum()
    assert product == (backward_weight(case, x, g).astype(np.float64) * w).sum()


EPILOGUES = ["3x3 7x8", "3x3/2 9x17", "3x3/2 16x17 padding 2", "5x5/2 17x16 padding 1", "3x3/2 in depth 2",
             "row of 5", "row of 4", "multiplier 3", "groups of 4 to 4", "groups of 3 to 5", "dilation and stride",
             "many filters"]


@pytest.mark.parametrize("name", EPILOGUES)
@pytest.mark.parametrize("act", [None, "relu", "clip", "leaky_relu"])
def test_epilogue(name, act, rng):
    case = CASES[name]
    x, w, _ = integers(case, rng)
    a, b = {None: (0, 0), "relu": (0, 0), "clip": (-20, 35), "leaky_relu": (0.25, 0)}[act]
    apply = {None: lambda v: v, "relu": lambda v: np.maximum(v, 0), "clip": lambda v: np.clip(v, -20, 35),
             "leaky_relu": lambda v: np.where(v < 0, v / 4, v)}[act]
    residual, bias = ref.exact_integers(rng, case.y_shape, 4), ref.exact_integers(rng, (case.k,), 4)
    for one, other in ((bias, residual), (bias, None), (None, residual)):
        y = ref.conv(x, w, one, *case.attributes) + (0 if other is None else other)
        got = forward(case, x, w, 2, bias=one, residual=other, act=act, act_a=a, act_b=b)
        np.testing.assert_array_equal(got, apply(y))
    if data_applies(case):  # a transposed convolution: every phase of the stride has its bias, those without taps too
        g, residual = ref.exact_integers(rng, case.y_shape, 4), ref.exact_integers(rng, case.x_shape, 4)
        bias = ref.exact_integers(rng, (case.c,), 4)
        y = ref.conv_backward_data(case.x_shape, w, g, *case.attributes) + residual
        y += bias.reshape(1, -1, *[1] * len(case.size))
        got = backward_data(case, g, w, 2, bias=bias, residual=residual, act=act, act_a=a, act_b=b)
        np.testing.assert_array_equal(got, apply(y))


@pytest.mark.parametrize("name", ["3x3 7x8", "3x3/2 9x17", "row of 5", "multiplier 3", "groups of 4 to 4", "3d"])
def test_an_image_does_not_depend_on_its_batch(name, rng):
    case = CASES[name]
    x = rng.standard_normal((15, *case.x_shape[1:]), np.float32)
    w = rng.standard_normal(case.w_shape, np.float32)
    y = forward(case, x, w, 2)
    for i in (0, 7, 14):
        np.testing.assert_array_equal(forward(case, x[i:i + 1], w)[0], y[i])
    order = np.random.default_rng(0).permutation(15)
    np.testing.assert_array_equal(forward(case, x[order], w, 2), y[order])


@pytest.mark.parametrize("name", ["3x3 5x7", "row of 5", "groups of 4 to 4"])
def test_empty_and_smaller_batches(name, rng):
    case = CASES[name]
    x, w, g = integers(case, rng)
    assert forward(case, x[:0], w).shape == g[:0].shape
    np.testing.assert_array_equal(backward_weight(case, x[:0], g[:0], parts=2), np.zeros(case.w_shape))
    got = forward(case, np.concatenate([x, x]), w, n=case.n)
    np.testing.assert_array_equal(got[:case.n], ref.conv(x, w, None, *case.attributes))
    assert np.isnan(got[case.n:]).all()


@pytest.mark.parametrize(("channels", "bias"), [(32, False), (32, True), (40, True)])
def test_images_larger_than_the_caches(channels, bias, rng):
    """Rows are fetched ahead and, where whole vectors are written, outputs go past the caches: the same numbers."""
    case = dw(2, channels, (260, 200), (3, 3), padding=1)
    assert case.n * math.prod(case.size) * channels * 4 > 8 << 20
    x, w = ref.exact_integers(rng, case.x_shape, 6), ref.exact_integers(rng, case.w_shape, 5)
    b = ref.exact_integers(rng, (channels,), 4) if bias else None
    got = forward(case, x, w, 2, extra=0, bias=b)
    # an image of its own is small enough to stay; the exactness of small ones is test_forward's
    for i in range(case.n):
        np.testing.assert_array_equal(got[i], forward(case, x[i:i + 1, :, :, :], w, extra=1, bias=b)[0])
    # backward to data of stride 2, of which this is the image
    case = dw(2, channels, (260, 200), (3, 3), padding=1, stride=2)
    g = ref.exact_integers(rng, case.y_shape, 5)
    back = backward_data(case, g, w, 2, extra=0, bias=b)
    for i in range(case.n):
        np.testing.assert_array_equal(back[i], backward_data(case, g[i:i + 1], w, extra=1, bias=b)[0])
    some = (slice(0, 1), slice(0, 3), slice(100, 130), slice(0, 40))
    inner = ref.conv(x[0:1, 0:3, 99:131, 0:41], w[:3], None if b is None else b[:3], 1, 0, 1, 3)
    np.testing.assert_array_equal(got[some][:, :, :, 1:40], inner)


def test_a_tap_in_the_padding_is_left_out(rng):
    """An infinite weight meets no zero of the padding, in every kind of tile."""
    for name in ("3x3 5x7", "row of 5", "row of 4", "groups of 4 to 4"):
        case = CASES[name]
        x, w = np.ones(case.x_shape, np.float32), np.ones(case.w_shape, np.float32)
        w.reshape(*w.shape[:2], -1)[:, :, 0] = np.inf  # the first tap: only outputs that it reaches are infinite
        y = forward(case, x, w)
        assert not np.isnan(y).any()
        assert np.isfinite(y[..., 0, :]).all() == (case.padding[0] > 0)


def test_too_many_channels_per_group_is_an_error():
    geometry = forward_geometry(problem(grouped(1, 2, WIDTH + 1, 2, (3, 3), (1, 1))))
    with pytest.raises(ValueError, match=f"channels={WIDTH + 1}: at most {WIDTH} per group"):
        depthwise.forward({**geometry, "ldx": 2 * WIDTH + 2}, x=0, w=0, y=0, ldy=4)


def test_a_single_large_image_is_that_of_a_batch():
    """Alone, its rows are fetched ahead; in a batch of this size they are not."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 24, 160, 160), np.float32), rng.standard_normal((24, 1, 3, 3), np.float32)
    for stride in (1, 2):
        both = F.conv2d(x, w, stride=stride, padding=1, groups=24, algorithm="depthwise")
        one = F.conv2d(x[1:], w, stride=stride, padding=1, groups=24, algorithm="depthwise")
        np.testing.assert_array_equal(one, both[1:])
