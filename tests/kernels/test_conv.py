"""Convolution without im2col, 1x1, weight gradients and their packing, against the float64 reference.

Inputs and outputs end at a guard page and start as NaN; integer inputs reach every bit that a float32 sum keeps exact.
"""

import itertools
import math

import numpy as np
import pytest
import reference as ref
from everywhere import again
from fastconv.kernels._runtime import isa_info

from fastconv.kernels import conv, layout

from .guarded import gaps, guarded, images, pixels
from .problems import CASES as SHARED
from .problems import Case, run

BLOCK = conv.block_filters()
WIDTH = BLOCK // 2
HALF = max(4, WIDTH // 2)  # the most filters that f32_conv_few takes
CASES = {
    **SHARED,
    # around the tile: pixels, filters, channels one less, equal, one more than a tile's
    **{f"{n} pixels": Case(1, 5, BLOCK, (1, n), (1, 1)) for n in (1, 3, 6, 7, 8, 13, 14, 15, 29, 111, 112, 113)},
    **{f"{k} filters": Case(1, 3, k, (4, 4), (3, 3), padding=1) for k in
       (2, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 48, 49, 64, 65)},
    **{f"{c} channels": Case(1, c, 10, (3, 5), (2, 2)) for c in (1, 2, 3, 4, 5, 13, 14, 15, 27, 29)},
    "1x1 tiles": Case(1, 300, 3 * WIDTH, (15, 20), (1, 1)),         # several ranges of pixels, then of filters
    "1x1 filter tiles": Case(1, 2100, 4 * BLOCK, (1, 3), (1, 1)),
    # pixels 4 KiB apart, where the tile is lower: by the channels, and by the stride
    "4 KiB apart": Case(1, 1024, 5, (3, 11), (1, 1)),
    "4 KiB by stride": Case(1, 512, 33, (3, 33), (1, 1), stride=2),
    # pixels ordered by the taps that they have: chunks of several images, more regions than are told apart, gaps
    "images in a chunk": Case(17, 3, WIDTH + 1, (7, 7), (3, 3), padding=1),
    "several chunks": Case(2, 2, 5, (30, 31), (3, 5), padding=(1, 2)),
    "many regions": Case(1, 2, 3, (33, 9), (29, 3), padding=(14, 1)),
    "many regions, dilated": Case(2, 1, 9, (5, 60), (1, 15), padding=(0, 28), dilation=(1, 4)),
    "dilation over the image": Case(2, 17, 5, (6, 7), (3, 3), padding=8, dilation=8),
    "strided regions": Case(3, 70, 4, (11, 13), (5, 4), stride=(2, 3), padding=(2, 3)),
    "regions in depth": Case(3, 2, 6, (4, 5, 6), (3, 3, 3), padding=1),
    # weight gradients where gy is copied: its pixels 512 bytes apart, at a stride; whole rows, part of a row; filters over
    "copied": Case(2, 20, 256, (15, 13), (3, 3), padding=1, stride=2),
    "copied, 250 filters": Case(1, 16, 250, (4, 300), (1, 2), stride=(1, 2)),
    "copied in blocks": Case(1, 16, 32 * BLOCK, (5, 6), (1, 1), stride=2),
    "four blocks": Case(1, 30, 4 * BLOCK + 3, (1, 1), (1, 1)),
    # long sums, in runs of 384 products at least: of whole taps, the last run shorter; of parts of a tap
    **{f"{c} channels, {r}x{s}": Case(2, c, BLOCK + 3, (5, 6), (r, s), padding=(r // 2, s // 2)) for c, r, s in
       [(43, 3, 6), (85, 3, 3), (257, 3, 3), (385, 1, 3), (770, 3, 1), (1537, 1, 1), (2, 9, 43)]},
    "four blocks of long sums": Case(1, 1203, 4 * BLOCK, (1, 1), (1, 1)),
    "four blocks of taps": Case(1, 100, 4 * BLOCK, (3, 5), (3, 5)),
    "multiplier": Case(2, 6, 18, (7, 9), (3, 3), padding=1, groups=6),
    "multiplier stride": Case(2, 5, 10, (7, 9), (3, 2), stride=(2, 1), dilation=2, padding=2, groups=5),
    # f32_conv_few: every number of filters; channels around the vector; pixels around its tiles; groups
    **{f"few {k}": Case(2, WIDTH + 3, k, (6, 7), (3, 3), padding=1) for k in range(1, HALF + 1)},
    **{f"few, {c} channels": Case(1, c, 3, (3, 5), (2, 2)) for c in
       (WIDTH - 1, WIDTH, WIDTH + 1, 2 * WIDTH - 1, 2 * WIDTH, 2 * WIDTH + 1)},
    **{f"few, {n} pixels": Case(1, 5, 2, (1, n), (1, 1)) for n in (2, 4, 5, 12, 16, 17, 95, 96, 97, 193)},
    "few groups": Case(2, 3 * (WIDTH + 1), 6, (5, 4), (3, 2), padding=(1, 0), groups=3),
    "groups unpadded": Case(2, 12, 9, (9, 8), (3, 2), groups=3),
    "few groups of one": Case(3, 10, 2, (9, 11), (2, 3), stride=(2, 1), padding=1, groups=2),
    # weight gradients by rows of taps: 1 to 7 contiguous values, more rows than a tile has, over 256 pixels
    **{f"rows of {c * s[-1]}, {s} {c}": Case(2, c, (3, WIDTH, BLOCK + 3)[i % 3], (22, 17), s, stride=(1, 2)[i % 2])
       for i, (c, s) in enumerate([(1, (9, 1)), (1, (8, 2)), (1, (5, 3)), (1, (9, 4)), (1, (4, 5)), (1, (3, 6)),
                                   (1, (2, 7)), (2, (7, 1)), (2, (8, 2)), (2, (5, 3)), (3, (4, 1)), (3, (8, 2)),
                                   (4, (3, 1)), (5, (3, 1)), (6, (5, 1))])},
    "rows in depth": Case(2, 1, HALF + 1, (5, 6, 9), (3, 2, 3), stride=(1, 2, 1)),
    "rows, one row": Case(2, 2, 5, (300,), (3,), stride=2),
    "rows padded": Case(1, 2, 7, (9, 12), (3, 3), padding=(1, 0)),
    "rows, wide": Case(2, 3, 12, (33, 31), (7, 7), stride=2),
}
NAMES = list(CASES)


def has_runs(case):
    """Whether a row of taps over a dense image is one run of contiguous values."""
    return case.groups == 1 and case.kernel[-1] > 1 and case.padding[-1] == 0 and case.dilation[-1] == 1


def packing(case, few=False, runs=False):
    p, run_of = case.packing(), {}
    if runs:
        run_of = {"run": case.kernel[-1], "run_stride": 1}
        p["taps"] = p["taps"][:: case.kernel[-1]]
    if few:  # [group][tap][filter][channel]: the roles of filters and channels exchanged, one block
        block = p["channels"] * run_of.get("run", 1)
        p.update(filters=p["channels"], channels=p["filters"], filter_stride=p["channel_stride"],
                 channel_stride=p["filter_stride"], block=block)
    return {**p, **{("filter_" if few else "channel_") + key: value for key, value in run_of.items()}}


def floats(case, few=False):
    per = case.k // case.groups
    return case.groups * case.taps * (case.c // case.groups) * (per if few else conv.packed_filters(per))


def geometry(case, ldx, runs=False):
    g = case.geometry(ldx)
    if runs:
        g.update(taps=g["taps"][:: case.kernel[-1]], channels=case.kernel[-1] * case.c)
    return g


def zeros(case, runs=False):
    row = guarded(case.c * (case.kernel[-1] if runs else 1))
    row[:] = 0
    return row


def forward(kernel, case, x, w, threads=1, bias=None, residual=None, act=None, a=0.0, b=0.0, extra=3, n=None,
            runs=False):
    few = kernel == "f32_conv_few"
    ldx, ldy = case.c + (0 if runs else extra), case.k + 2 * extra
    x_flat, packed, zero = pixels(x, ldx), guarded(floats(case, few)), zeros(case, runs)
    run(layout.pack_weight(w.ctypes.data, packed.ctypes.data, **packing(case, few, runs)), 1, threads)
    assert not np.isnan(packed).any()
    count = x.shape[0] * math.prod(case.out)
    y = guarded(max(0, count * ldy - (ldy - case.k)))
    keywords = {"act": act, "act_a": a, "act_b": b}
    if bias is not None:
        bias_flat = guarded(case.k)
        bias_flat[:] = bias
        keywords["bias"] = bias_flat.ctypes.data
    if residual is not None:
        residual_flat = pixels(residual, case.k + 1)
        keywords.update(residual=residual_flat.ctypes.data, ldr=case.k + 1)
    run(conv.forward(kernel, geometry(case, ldx, runs), x=x_flat.ctypes.data, w=packed.ctypes.data,
                     y=y.ctypes.data, ldy=ldy, zeros=zero.ctypes.data, **keywords), x.shape[0], threads, n)
    if count and n is None:
        assert np.isnan(gaps(y, count, case.k, ldy)).all()
    return images(y, (x.shape[0], case.k, *case.out), ldy)


def backward_weight(case, x, gy, threads=1, parts=1, extra=3, runs=False, swapped=False):
    kernel = "f32_conv_backward_weight"
    ldx, ldy, size = case.c + (0 if runs else extra), case.k + 2 * extra, floats(case)
    pack = packing(case, few=swapped, runs=runs)
    if swapped:
        del pack["block"]
        size = case.groups * len(pack["taps"]) * pack["channels"] * conv.packed_filters(
            pack["filters"] * pack.get("filter_run", 1))
    x_flat, gy_flat, zero = pixels(x, ldx), pixels(gy, ldy), zeros(case, runs)
    partial, dw = guarded(parts * size), guarded(case.w_shape)
    run(conv.backward_weight(kernel, geometry(case, ldx, runs), x=x_flat.ctypes.data, gy=gy_flat.ctypes.data,
                             ldy=ldy, dw=partial.ctypes.data, zeros=zero.ctypes.data, parts=parts, part_stride=size,
                             swapped=swapped), x.shape[0], threads)
    run(layout.unpack_weight(dw.ctypes.data, partial.ctypes.data, parts=parts, part_stride=size, **pack), 1, threads)
    return dw


def kernels(case):
    names = ["f32_conv_direct"]
    if case.taps == 1 and set(case.stride) == {1} and set(case.padding) == {0} and case.groups == 1:
        names.append("f32_conv_pointwise")
    if case.k // case.groups <= HALF:
        names.append("f32_conv_few")
    return names


PAIRS = [(name, kernel) for name in NAMES for kernel in kernels(CASES[name])]


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.mark.parametrize(("name", "kernel"), PAIRS)
def test_forward_exact(name, kernel, rng):
    case = CASES[name]
    w = ref.exact_integers(rng, case.w_shape, 4)
    x = ref.exact_integers(rng, case.x_shape, 6)
    assert ref.conv(abs(x), abs(w), None, *case.attributes).max() < 2**24
    y = ref.conv(x, w, None, *case.attributes)
    for threads, extra in ((1, 0), (2, 3)):
        np.testing.assert_array_equal(forward(kernel, case, x, w, threads, extra=extra), y)


@pytest.mark.parametrize(("name", "kernel"), PAIRS)
def test_forward_random(name, kernel, rng):
    case = CASES[name]
    x, w = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.w_shape))
    one, two = (forward(kernel, case, x, w, threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    length = case.taps * case.c // case.groups
    assert ref.rel_l2(one, ref.conv(x, w, None, *case.attributes)) <= 2.0 ** -24 * 4 * math.sqrt(length)


@pytest.mark.parametrize("name", NAMES)
def test_backward_weight(name, rng):
    case = CASES[name]
    x, gy = ref.exact_integers(rng, case.x_shape, 6), ref.exact_integers(rng, case.y_shape, 4)
    assert ref.conv_backward_weight(abs(x), case.w_shape, abs(gy), *case.attributes).max() < 2**24
    expected = ref.conv_backward_weight(x, case.w_shape, gy, *case.attributes)
    for threads, parts, extra in ((1, 1, 0), (2, 1, 3), (2, 3, 3)):
        np.testing.assert_array_equal(backward_weight(case, x, gy, threads, parts, extra), expected)
    x, gy = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.y_shape))
    one, two = (backward_weight(case, x, gy, threads, 2) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    # the same sums in the same order, whichever operand is in the lanes
    np.testing.assert_array_equal(backward_weight(case, x, gy, 2, 2, swapped=True), one)
    length = case.n * math.prod(case.out)
    truth = ref.conv_backward_weight(x, case.w_shape, gy, *case.attributes)
    size = ref.conv_backward_weight(abs(x), case.w_shape, abs(gy), *case.attributes)
    assert np.abs(one - truth).max() <= 2.0 ** -24 * 4 * math.sqrt(length) * size.max()


@pytest.mark.parametrize("name", [name for name in NAMES if has_runs(CASES[name])])
def test_runs(name, rng):
    """A row of taps read as one row of channels: the same sums, from a dense image that ends at a guard page."""
    case = CASES[name]
    x, w = ref.exact_integers(rng, case.x_shape, 6), ref.exact_integers(rng, case.w_shape, 4)
    gy = ref.exact_integers(rng, case.y_shape, 4)
    assert ref.conv_backward_weight(abs(x), case.w_shape, abs(gy), *case.attributes).max() < 2**24
    y = ref.conv(x, w, None, *case.attributes)
    dw = ref.conv_backward_weight(x, case.w_shape, gy, *case.attributes)
    for kernel in {"f32_conv_direct", *kernels(case)} & {"f32_conv_direct", "f32_conv_few"}:
        for threads in (1, 2):
            np.testing.assert_array_equal(forward(kernel, case, x, w, threads, runs=True), y)
    for threads, parts in ((1, 1), (2, 1), (2, 3)):
        np.testing.assert_array_equal(backward_weight(case, x, gy, threads, parts, runs=True), dw)
    x, gy = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.y_shape))
    one, two = (backward_weight(case, x, gy, threads, 2, runs=True) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    # each weight is one sequential sum over the pixels of a part, however its taps are read
    np.testing.assert_array_equal(one, backward_weight(case, x, gy, 1, 2))
    np.testing.assert_array_equal(one, backward_weight(case, x, gy, 2, 2, runs=True, swapped=True))


@pytest.mark.parametrize("kernel", ["f32_conv_direct", "f32_conv_few"])
def test_a_phase_writes_its_own_pixels(kernel, rng):
    """One phase of a transposed convolution: every third row and second column of the output, the rest untouched."""
    case = Case(2, WIDTH + 2, 3, (4, 5), (2, 2))
    x, w = ref.exact_integers(rng, case.x_shape, 6), ref.exact_integers(rng, case.w_shape, 4)
    few = kernel == "f32_conv_few"
    x_flat, packed, zero = pixels(x, case.c), guarded(floats(case, few=few)), zeros(case)
    run(layout.pack_weight(w.ctypes.data, packed.ctypes.data, **packing(case, few=few)), 1, 1)
    y = guarded((2, 10, 8, case.k))
    placed = {**case.geometry(case.c), "output": (1, 10, 8), "origin": (0, 2, 1), "output_step": (1, 3, 2)}
    run(conv.forward(kernel, placed, x=x_flat.ctypes.data, w=packed.ctypes.data, y=y.ctypes.data, ldy=case.k,
                     zeros=zero.ctypes.data), 2, 2)
    expected = np.full_like(y, np.nan)
    expected[:, 2:9:3, 1:8:2] = np.moveaxis(ref.conv(x, w, None, *case.attributes), 1, -1)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("act", [None, "relu", "clip", "leaky_relu"])
@pytest.mark.parametrize(("channels", "pixels"), list(itertools.product((1, 383, 767, 768, 1537), (1, 2, 29))))
@pytest.mark.parametrize("kernel", ["f32_conv_direct", "f32_conv_few"])
def test_a_phase_without_taps(kernel, channels, pixels, act, rng):
    """A phase of a stride that no tap reaches, sums of no, one and several runs: bias, residual and activation alone."""
    k = 4 * BLOCK + 5 if kernel == "f32_conv_direct" else 3
    a, b = {None: (0, 0), "relu": (0, 0), "clip": (-2, 3), "leaky_relu": (0.25, 0)}[act]
    apply = {None: lambda v: v, "relu": lambda v: np.maximum(v, 0), "clip": lambda v: np.clip(v, -2, 3),
             "leaky_relu": lambda v: np.where(v < 0, v / 4, v)}[act]
    bias, residual, zero = guarded(k), guarded((1, pixels, k)), guarded(channels, 0)
    x, w = guarded((1, pixels, channels)), guarded(0)
    bias[:], residual[:] = ref.exact_integers(rng, bias.shape, 4), ref.exact_integers(rng, residual.shape, 4)
    geometry = {"taps": [], "groups": 1, "channels": channels, "filters": k, "ldx": channels, "input": (1, 1, pixels),
                "space": (1, 1, pixels), "stride": (1, 1, 1), "output": (1, 1, pixels)}
    for added in ({}, {"bias": bias.ctypes.data}, {"bias": bias.ctypes.data, "residual": residual.ctypes.data, "ldr": k}):
        y = guarded((1, pixels, k))
        run(conv.forward(kernel, geometry, x=x.ctypes.data, w=w.ctypes.data, y=y.ctypes.data, ldy=k,
                         zeros=zero.ctypes.data, act=act, act_a=a, act_b=b, **added), 1, 1)
        expected = np.zeros_like(residual) + (bias if added else 0) + (residual if "residual" in added else 0)
        np.testing.assert_array_equal(y, apply(expected))


@pytest.mark.parametrize("bits", [(12, 12), (20, 1)])
def test_wide_integers_are_exact(bits, rng):
    """Products of up to 24 bits: one input per window, so that no sum passes 2**24."""
    case = CASES["3x3"]
    w = ref.exact_integers(rng, case.w_shape, bits[1])
    x = np.zeros(case.x_shape, np.float32)
    x[:, 2, 1::3, 1::3] = ref.exact_integers(rng, x[:, 2, 1::3, 1::3].shape, bits[0])
    assert 2**19 < ref.conv(abs(x), abs(w), None, *case.attributes).max() < 2**24
    np.testing.assert_array_equal(forward("f32_conv_direct", case, x, w), ref.conv(x, w, None, *case.attributes))


@pytest.mark.parametrize(("name", "kernel"), [p for p in PAIRS if p[0] in
                                              ("3x3", "1x1", "groups", "33 filters", "9 filters",
                                               "multiplier", "four blocks", "113 pixels",
                                               "few 1", f"few {HALF}", "few groups")])
@pytest.mark.parametrize("act", [None, "relu", "clip", "leaky_relu"])
def test_epilogue(name, kernel, act, rng):
    case = CASES[name]
    x, w, residual = (ref.exact_integers(rng, s, 4) for s in (case.x_shape, case.w_shape, case.y_shape))
    bias = ref.exact_integers(rng, (case.k,), 4)
    a, b = {None: (0, 0), "relu": (0, 0), "clip": (-20, 35), "leaky_relu": (0.25, 0)}[act]
    for with_bias, with_residual in ((True, True), (True, False), (False, True)):
        y = ref.conv(x, w, bias if with_bias else None, *case.attributes) + (residual if with_residual else 0)
        y = {None: lambda v: v, "relu": lambda v: np.maximum(v, 0), "clip": lambda v: np.clip(v, -20, 35),
             "leaky_relu": lambda v: np.where(v < 0, v / 4, v)}[act](y)
        got = forward(kernel, case, x, w, 2, bias if with_bias else None, residual if with_residual else None, act, a, b)
        np.testing.assert_array_equal(got, y)


@pytest.mark.parametrize("act", ["relu", "clip", "leaky_relu"])
def test_nan_passes_an_activation(act, rng):
    case = CASES["3x3"]
    x, w = ref.exact_integers(rng, case.x_shape, 4), ref.exact_integers(rng, case.w_shape, 4)
    x[0, 2, 4, 5] = np.nan
    got = np.isnan(forward("f32_conv_direct", case, x, w, act=act, a=0.5, b=6.0))
    np.testing.assert_array_equal(got, np.isnan(ref.conv(x, np.ones_like(w), None, *case.attributes)))


@pytest.mark.parametrize(("name", "kernel"), [p for p in PAIRS if p[0] in
                                              ("3x3", "1x1", "one pixel 1x1", "four blocks", "3d",
                                               "four blocks of long sums", "four blocks of taps", "257 channels, 3x3",
                                               "1537 channels, 1x1", "few 3", "few groups")])
def test_an_image_does_not_depend_on_its_batch(name, kernel, rng):
    case = CASES[name]
    x = rng.standard_normal((15, *case.x_shape[1:]), np.float32)
    w = rng.standard_normal(case.w_shape, np.float32)
    y = forward(kernel, case, x, w, 2)
    for i in (0, 7, 14):
        np.testing.assert_array_equal(forward(kernel, case, x[i:i + 1], w)[0], y[i])
    order = np.random.default_rng(0).permutation(15)
    np.testing.assert_array_equal(forward(kernel, case, x[order], w, 2), y[order])


@pytest.mark.parametrize(("channels", "kernel"), [(16384, (1, 1)), (1024, (4, 4)), (64, (16, 16))])
def test_the_error_does_not_grow_with_the_length_of_a_sum(channels, kernel, rng):
    """That of 16,384 products stays what one accumulator has of 768; with one accumulator it was three times that."""
    case = Case(1, channels, 2 * BLOCK, tuple(k + 3 for k in kernel), kernel)
    x, w = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.w_shape))
    y = forward("f32_conv_pointwise" if case.taps == 1 else "f32_conv_direct", case, x, w)
    assert ref.rel_l2(y, ref.conv(x, w, None, *case.attributes)) <= 5e-7


@pytest.mark.parametrize(("filters", "kernel"), [(64, "f32_conv_direct"), (64, "f32_conv_pointwise"),
                                                   (72, "f32_conv_direct")])
def test_outputs_larger_than_the_caches(filters, kernel, rng):
    """They are stored past the caches where they are whole vectors (64 filters)."""
    case = Case(1, 2, filters, (260, 265), (1, 1))
    assert math.prod(case.y_shape) * 4 > 16 << 20
    x, w = ref.exact_integers(rng, case.x_shape, 6), ref.exact_integers(rng, case.w_shape, 4)
    bias = ref.exact_integers(rng, (filters,), 4)
    y = ref.conv(x, w, bias, *case.attributes)
    np.testing.assert_array_equal(forward(kernel, case, x, w, 2, bias=bias, extra=0), y)


@pytest.mark.parametrize("name", ["3x3", "1x1", "one pixel", "few 2"])
def test_empty_batch(name):
    case = CASES[name]
    x, gy = np.zeros((0, *case.x_shape[1:]), np.float32), np.zeros((0, *case.y_shape[1:]), np.float32)
    w = np.ones(case.w_shape, np.float32)
    for kernel in kernels(case):
        assert forward(kernel, case, x, w).shape == gy.shape
    np.testing.assert_array_equal(backward_weight(case, x, gy, parts=2), np.zeros(case.w_shape))


def test_a_smaller_batch_replays_the_plan(rng):
    case = CASES["3x3"]
    x, w = ref.exact_integers(rng, (4, *case.x_shape[1:]), 4), ref.exact_integers(rng, case.w_shape, 4)
    got = forward("f32_conv_direct", case, x, w, 2, n=3)
    np.testing.assert_array_equal(got[:3], ref.conv(x[:3], w, None, *case.attributes))
    assert np.isnan(got[3]).all()


@pytest.mark.parametrize("count", [1, 16, 33, 4096, 8195])
@pytest.mark.parametrize("parts", [1, 7])
def test_sum_partials(parts, count, rng):
    x = ref.exact_integers(rng, (parts, count + 3), 10)
    part, out = guarded(x.shape), guarded(count)
    part[...] = x
    run(conv.sum_partials(part=part.ctypes.data, out=out.ctypes.data, parts=parts, part_stride=count + 3, count=count), 1, 2)
    np.testing.assert_array_equal(out, x[:, :count].sum(axis=0, dtype=np.float64))


@pytest.mark.parametrize("isa", isa_info()["available"])
def test_everywhere(isa):
    """This file again at every other instruction set of this machine."""
    again(isa, __file__)
