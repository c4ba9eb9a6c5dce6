"""Convolution by im2col and a matrix product, and unfold and fold, against the float64 reference.

Every product is done by the BLAS that NumPy has loaded and, in a second process, by f32_gemm; at every instruction set.
"""

import math

import numpy as np
import pytest
import reference as ref
from everywhere import again
from fastconv.kernels._runtime import isa_info
from fastconv.kernels.blas import blas_info

from fastconv.kernels import im2col, layout

from .guarded import gaps, guarded, images, pixels
from .problems import CASES, NAMES, Case, run


def packing(case):
    """Weights for a BLAS: one block of all filters of a group."""
    return {**case.packing(), "block": case.k // case.groups}


def pack(case, w):
    packed = guarded(w.size)
    run(layout.pack_weight(w.ctypes.data, packed.ctypes.data, **packing(case)), 1, 1)
    assert not np.isnan(packed).any()
    return packed


def forward(case, x, w, threads=1, bias=None, residual=None, act=None, a=0.0, b=0.0, extra=3):
    ldx, ldy = case.c + extra, case.k + 2 * extra
    x_flat, packed = pixels(x, ldx), pack(case, w)
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
    run(im2col.forward(case.geometry(ldx), x=x_flat.ctypes.data, w=packed.ctypes.data, y=y.ctypes.data, ldy=ldy,
                       **keywords), x.shape[0], threads)
    if count:
        assert np.isnan(gaps(y, count, case.k, ldy)).all()
    return images(y, (x.shape[0], case.k, *case.out), ldy)


def backward_data(case, gy, w, threads=1, extra=3):
    ldx, ldy = case.c + extra, case.k + 2 * extra
    gy_flat, packed = pixels(gy, ldy), pack(case, w)
    count = gy.shape[0] * math.prod(case.size)
    gx = guarded(max(0, count * ldx - (ldx - case.c)))
    run(im2col.backward_data(case.geometry(ldx), gy=gy_flat.ctypes.data, ldy=ldy, w=packed.ctypes.data,
                             gx=gx.ctypes.data), gy.shape[0], threads)
    if count:
        assert np.isnan(gaps(gx, count, case.c, ldx)).all()
    return images(gx, (gy.shape[0], case.c, *case.size), ldx)


def backward_weight(case, x, gy, threads=1, parts=1, extra=3):
    ldx, ldy, floats = case.c + extra, case.k + 2 * extra, math.prod(case.w_shape)
    x_flat, gy_flat = pixels(x, ldx), pixels(gy, ldy)
    partial, dw = guarded(parts * (floats + 5)), guarded(case.w_shape)
    run(im2col.backward_weight(case.geometry(ldx), x=x_flat.ctypes.data, gy=gy_flat.ctypes.data, ldy=ldy,
                               dw=partial.ctypes.data, parts=parts, part_stride=floats + 5), x.shape[0], threads)
    run(layout.unpack_weight(dw.ctypes.data, partial.ctypes.data, parts=parts, part_stride=floats + 5,
                             **packing(case)), 1, 1)
    return dw


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def small_integers(rng, *shape):
    return ref.exact_integers(rng, shape, 4)


@pytest.mark.parametrize("name", NAMES)
def test_exact(name, rng):
    case = CASES[name]
    x, w, gy = (small_integers(rng, *s) for s in (case.x_shape, case.w_shape, case.y_shape))
    y = ref.conv(x, w, None, *case.attributes)
    gx = ref.conv_backward_data(x.shape, w, gy, *case.attributes)
    dw = ref.conv_backward_weight(x, w.shape, gy, *case.attributes)
    for threads in (1, 2):
        for extra in (0, 3):
            np.testing.assert_array_equal(forward(case, x, w, threads, extra=extra), y)
            np.testing.assert_array_equal(backward_data(case, gy, w, threads, extra=extra), gx)
            for parts in (1, 3):
                np.testing.assert_array_equal(backward_weight(case, x, gy, threads, parts, extra=extra), dw)


@pytest.mark.parametrize("name", NAMES)
def test_random(name, rng):
    case = CASES[name]
    x, w, gy = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.w_shape, case.y_shape))
    bound = 2.0 ** -24 * 4  # of float32's rounding, times what the square root of a sum's length may make of it
    results = []
    for threads in (1, 2):
        results.append((forward(case, x, w, threads), backward_data(case, gy, w, threads),
                        backward_weight(case, x, gy, threads, parts=2)))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
    y, gx, dw = results[0]
    terms = case.taps * case.c / case.groups, case.taps * case.k / case.groups, case.n * math.prod(case.out)
    truth = (ref.conv(x, w, None, *case.attributes), ref.conv_backward_data(x.shape, w, gy, *case.attributes),
             ref.conv_backward_weight(x, w.shape, gy, *case.attributes))
    for got, expected, length in zip((y, gx, dw), truth, terms, strict=True):
        assert ref.rel_l2(got, expected) <= bound * math.sqrt(length)
    assert ref.adjoint_gap(y, gy, x, gx) <= bound * math.sqrt(max(terms))


@pytest.mark.parametrize("name", ["3x3", "1x1", "one pixel", "one pixel 1x1", "groups", "panels", "filters cut", "3d",
                                  "epilogue tiles"])
@pytest.mark.parametrize("act", [None, "relu", "clip", "leaky_relu"])
def test_epilogue(name, act, rng):
    case = CASES[name]
    x, w, residual = (small_integers(rng, *s) for s in (case.x_shape, case.w_shape, case.y_shape))
    bias = small_integers(rng, case.k)
    a, b = {None: (0, 0), "relu": (0, 0), "clip": (-20, 35), "leaky_relu": (0.25, 0)}[act]
    for with_bias, with_residual in ((True, True), (True, False), (False, True), (False, False)):
        y = ref.conv(x, w, bias if with_bias else None, *case.attributes) + (residual if with_residual else 0)
        y = {None: lambda v: v, "relu": lambda v: np.maximum(v, 0), "clip": lambda v: np.clip(v, -20, 35),
             "leaky_relu": lambda v: np.where(v < 0, v / 4, v)}[act](y)
        got = forward(case, x, w, 2, bias if with_bias else None, residual if with_residual else None, act, a, b)
        np.testing.assert_array_equal(got, y)


def test_nan_goes_where_it_is_read_and_nowhere_else(rng):
    case = CASES["3x3"]
    x, w = small_integers(rng, *case.x_shape), small_integers(rng, *case.w_shape)
    x[0, 2, 4, 5] = np.nan
    got = np.isnan(forward(case, x, w))
    expected = np.isnan(ref.conv(x, np.ones_like(w), None, *case.attributes))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ["3x3", "1x1", "one pixel", "one pixel 1x1", "panels", "filters cut", "channels cut"])
def test_an_image_does_not_depend_on_its_batch(name, rng):
    case = CASES[name]
    x = rng.standard_normal((5, *case.x_shape[1:]), np.float32)
    w = rng.standard_normal(case.w_shape, np.float32)
    gy = rng.standard_normal((5, *case.y_shape[1:]), np.float32)
    y, gx = forward(case, x, w, 2), backward_data(case, gy, w, 2)
    for i in range(5):
        np.testing.assert_array_equal(forward(case, x[i:i + 1], w)[0], y[i])
        np.testing.assert_array_equal(backward_data(case, gy[i:i + 1], w)[0], gx[i])
    order = [3, 0, 4, 1, 2]
    np.testing.assert_array_equal(forward(case, x[order], w, 2), y[order])


def test_equal_rows_of_an_image_have_equal_bits(rng):
    """No product has one row: a pixel's bits are the same in an image of one pixel and in one of many."""
    w = rng.standard_normal((24, 40, 1, 1), np.float32)
    pixel = rng.standard_normal((1, 40, 1, 1), np.float32)
    one = forward(Case(1, 40, 24, (1, 1), (1, 1)), pixel, w)
    two = forward(Case(1, 40, 24, (1, 2), (1, 1)), np.repeat(pixel, 2, axis=3), w)
    np.testing.assert_array_equal(two[..., :1], one)
    np.testing.assert_array_equal(two[..., 1:], one)


@pytest.mark.parametrize("name", ["3x3", "1x1", "one pixel"])
def test_empty_batch(name):
    case = CASES[name]
    empty_x, empty_y = np.zeros((0, *case.x_shape[1:]), np.float32), np.zeros((0, *case.y_shape[1:]), np.float32)
    w = np.ones(case.w_shape, np.float32)
    assert forward(case, empty_x, w).shape == empty_y.shape
    assert backward_data(case, empty_y, w).shape == empty_x.shape
    np.testing.assert_array_equal(backward_weight(case, empty_x, empty_y, parts=2), np.zeros(case.w_shape))


def test_a_smaller_batch_replays_the_plan(rng):
    case = CASES["3x3"]
    x, w = small_integers(rng, 4, *case.x_shape[1:]), small_integers(rng, *case.w_shape)
    x_flat, packed, y = pixels(x, case.c), pack(case, w), guarded(4 * case.k * math.prod(case.out))
    step = im2col.forward(case.geometry(case.c), x=x_flat.ctypes.data, w=packed.ctypes.data, y=y.ctypes.data,
                          ldy=case.k)
    run(step, 4, 2, n=3)
    got = images(y, (4, case.k, *case.out), case.k)
    np.testing.assert_array_equal(got[:3], ref.conv(x[:3], w, None, *case.attributes))
    assert np.isnan(got[3]).all()


def test_a_phase_of_a_transposed_convolution_is_refused():
    case = CASES["3x3"]
    for wrong in ({"output": (1, 90, 10)}, {"output_step": (1, 2, 2)}, {"origin": (0, 0, 1)}):
        with pytest.raises(ValueError, match="im2col: output="):
            im2col.forward({**case.geometry(5), **wrong}, x=0, w=0, y=0, ldy=7)


@pytest.mark.parametrize("name", [n for n in NAMES if CASES[n].groups == 1])
def test_unfold_and_fold(name, rng):
    case = CASES[name]
    stride, padding, dilation, _ = case.attributes
    x = small_integers(rng, *case.x_shape)
    columns, windows = case.c * case.taps, math.prod(case.out)
    y = small_integers(rng, case.n, columns, windows)
    for threads, extra in ((1, 0), (2, 3)):
        x_flat = pixels(x, case.c + extra)
        out = guarded(case.n * windows * (columns + extra) - extra)
        run(im2col.unfold(case.geometry(case.c + extra), x=x_flat.ctypes.data, y=out.ctypes.data, ldy=columns + extra),
            case.n, threads)
        np.testing.assert_array_equal(images(out, (case.n, columns, windows), columns + extra),
                                      ref.unfold(x, case.kernel, dilation, padding, stride))
        y_flat = pixels(y, columns + extra)
        count = case.n * math.prod(case.size)
        back = guarded(count * (case.c + extra) - extra)
        run(im2col.fold(case.geometry(case.c + extra), x=back.ctypes.data, y=y_flat.ctypes.data, ldy=columns + extra),
            case.n, threads)
        np.testing.assert_array_equal(images(back, case.x_shape, case.c + extra),
                                      ref.fold(y, case.size, case.kernel, dilation, padding, stride))
        assert np.isnan(gaps(back, count, case.c, case.c + extra)).all()


@pytest.mark.parametrize("isa", isa_info()["available"])
@pytest.mark.parametrize("blas", ["", "none"])
def test_everywhere(isa, blas):
    """This file again at another instruction set, with and without BLAS."""
    again(isa, __file__, here=(isa, blas) == (isa_info()["isa"], "" if blas_info() else "none"), FASTCONV_BLAS=blas)
