"""Depthwise convolution along rows in all passes, against the float64 reference, from guarded buffers of NaN."""

import math

import numpy as np
import pytest
import reference as ref

from fastconv.kernels import depthwise, layout
from fastconv.ops.conv.depthwise_rows import border, geometry, packing, padded, period

from .guarded import gaps, guarded, images, pixels
from .problems import run
from .test_depthwise import dw, integers, problem

WIDTH = depthwise.width()

CASES = {
    **{f"{c} channels": dw(2, c, (5, 23), (3, 3), padding=1) for c in (1, 2, 3, 5, 8, 12, 31)},
    **{f"row of {w}": dw(1, 1, (3, w), (3, 3), padding=1) for w in
       (1, 2, WIDTH - 1, WIDTH, WIDTH + 1, 7 * WIDTH, 9 * WIDTH + 5)},
    **{f"{r} x {s}": dw(2, 3, (7, 19), (r, s), padding=(r // 2, s // 2)) for r, s in
       ((1, 1), (1, 2), (2, 4), (5, 5), (3, 7))},
    "no padding": dw(2, 3, (6, 21), (3, 3)),
    "padding over half": dw(1, 2, (4, 9), (3, 3), padding=2),
    "dilation": dw(1, 3, (11, 29), (3, 3), padding=(4, 3), dilation=(4, 3)),
    "stride of rows": dw(2, 3, (9, 14), (3, 3), padding=1, stride=(2, 1)),
    "1d": dw(3, 2, (67,), (9,), padding=4),
    "3d": dw(2, 3, (4, 5, 18), (3, 2, 3), padding=(1, 0, 1)),
    "3d, strides": dw(1, 1, (7, 6, 20), (3, 3, 3), padding=1, stride=(2, 2, 1)),
    "units": dw(3, 3, (70, 61), (3, 3), padding=1),
}
DATA = [name for name, case in CASES.items() if set(case.stride) == {1}]


def inside(x, low, high):
    """x in its border, densely, as a kernel reads it."""
    pairs = list(zip(low, high, strict=True))[-(x.ndim - 2):]
    return pixels(np.pad(x, [(0, 0), (0, 0), *pairs]), x.shape[1])


def convolve(p, x, w, shape, taps, low, high, threads, extra, bias=None, residual=None, **keywords):
    space = (1,) * (5 - len(shape)) + shape[2:]
    size = padded((1,) * (5 - x.ndim) + x.shape[2:], low, high)
    x_flat, ld, count = inside(x, low, high), shape[1] + extra, shape[0] * math.prod(shape[2:])
    y, packed = guarded(count * ld - extra), guarded(period(p.groups) * p.taps)
    if bias is not None:
        bias_flat = guarded(shape[1])
        bias_flat[:] = bias
        keywords["bias"] = bias_flat.ctypes.data
    if residual is not None:
        residual_flat = pixels(residual, ld)
        keywords.update(residual=residual_flat.ctypes.data, ldr=ld)
    more = {"block": period(p.groups), "filter_run": depthwise.repeats(p.groups), "filter_run_stride": 0}
    run(layout.pack_weight(w.ctypes.data, packed.ctypes.data, **packing(p, taps, **more)), 1, threads)
    assert not np.isnan(packed).any()
    run(depthwise.forward(geometry(p, size, space), x=x_flat.ctypes.data, w=packed.ctypes.data, y=y.ctypes.data, ldy=ld,
                          **keywords), x.shape[0], threads)
    assert np.isnan(gaps(y, count, shape[1], ld)).all()
    return images(y, shape, ld)


def forward(case, x, w, threads=1, extra=0, **keywords):
    p = problem(case)
    return convolve(p, x, w, case.y_shape, range(p.taps), p.low, p.high, threads, extra, **keywords)


def backward_data(case, gy, w, threads=1, extra=0, **keywords):
    p = problem(case)
    return convolve(p, gy, w, case.x_shape, range(p.taps - 1, -1, -1), *border(p), threads, extra, **keywords)


def backward_weight(case, x, gy, threads=1, parts=1):
    p, size = problem(case), math.prod(case.w_shape)
    x_flat, gy_flat = inside(x, p.low, p.high), pixels(gy, p.groups)
    partial, result = guarded(parts * size), guarded(case.w_shape)
    run(depthwise.backward_weight(geometry(p, padded(p.x, p.low, p.high), p.y), x=x_flat.ctypes.data, gy=gy_flat.ctypes.data,
                                  ldy=p.groups, dw=partial.ctypes.data, parts=parts, part_stride=size), x.shape[0], threads)
    run(layout.unpack_weight(result.ctypes.data, partial.ctypes.data, parts=parts, part_stride=size,
                             **packing(p, range(p.taps), block=p.groups)), 1, threads)
    return result


@pytest.fixture
def rng():
    return np.random.default_rng(23)


def check(compute, exact, operands, terms):
    """Integers come out exactly, for any number of threads; other numbers within what their chain may lose."""
    np.testing.assert_array_equal(compute(*operands), exact(*operands))
    rough = [(v + np.float32(0.3)).astype(np.float32) for v in operands]
    one = compute(*rough)
    np.testing.assert_array_equal(compute(*rough, threads=2), one)
    assert (abs(one - exact(*rough)) <= 2.0**-24 * (terms + 1) * exact(*map(abs, rough))).all()


@pytest.mark.parametrize("name", list(CASES))
def test_forward(name, rng):
    case = CASES[name]
    x, w, _ = integers(case, rng)
    check(lambda x, w, threads=1: forward(case, x, w, threads),
          lambda x, w: ref.conv(x, w, None, *case.attributes), (x, w), case.taps)
    np.testing.assert_array_equal(forward(case, x, w, extra=3), forward(case, x, w))


@pytest.mark.parametrize("name", DATA)
def test_backward_data(name, rng):
    case = CASES[name]
    _, w, g = integers(case, rng)
    check(lambda g, w, threads=1: backward_data(case, g, w, threads),
          lambda g, w: ref.conv_backward_data(case.x_shape, w, g, *case.attributes), (g, w), case.taps)


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("parts", [1, 3])
def test_backward_weight(name, parts, rng):
    case = CASES[name]
    x, _, g = integers(case, rng)
    check(lambda x, g, threads=1: backward_weight(case, x, g, threads, parts),
          lambda x, g: ref.conv_backward_weight(x, case.w_shape, g, *case.attributes), (x, g), case.n * math.prod(case.out))


@pytest.mark.parametrize("name", ["1 channels", "3 channels", "units"])
@pytest.mark.parametrize("extra", [0, 2])
def test_epilogue(name, extra, rng):
    case = CASES[name]
    x, w, g = integers(case, rng)
    residual, bias = ref.exact_integers(rng, case.y_shape, 4), ref.exact_integers(rng, (case.k,), 4)
    y = ref.conv(x, w, bias, *case.attributes) + residual
    for act, a, b, truth in ((None, 0, 0, y), ("relu", 0, 0, np.maximum(y, 0)), ("clip", -20, 35, np.clip(y, -20, 35)),
                             ("leaky_relu", 0.25, 0, np.where(y < 0, y / 4, y))):
        got = forward(case, x, w, 2, extra, bias=bias, residual=residual, act=act, act_a=a, act_b=b)
        np.testing.assert_array_equal(got, truth)
    y = ref.conv_backward_data(case.x_shape, w, g, *case.attributes) + bias.reshape(1, -1, 1, 1)
    np.testing.assert_array_equal(backward_data(case, g, w, 2, extra, bias=bias), y)
