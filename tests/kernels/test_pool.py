"""The pooling family against the float64 reference, in buffers that end at a guard page."""

import itertools
import math

import numpy as np
import pytest
from fastconv.kernels._runtime import StepList
from reference import pool as reference
from reference.check import exact_integers, rel_l2
from reference.window import Windows, per_axis, per_axis_pairs

from fastconv.kernels import pool

from .guarded import gaps, guarded, images, pixels

# size, kernel, stride, padding, dilation, ceil_mode
CASES = [
    ((28, 28), 2, 2, 0, 1, False),
    ((9, 11), 3, 2, 1, 1, False),
    ((8, 7), 3, 1, 1, 1, False),
    ((8, 9), 3, 2, 0, 1, True),
    ((7, 7), 2, 2, 1, 1, True),
    ((10, 13), 2, 3, 0, 1, False),  # pixels that no window reads
    ((11, 12), (3, 2), (2, 3), (1, 0), (2, 4), False),
    ((16, 15), 3, 4, 2, 3, True),
    ((9, 9), 3, 6, 2, 2, False),  # windows that do not overlap, with holes
    ((5, 6), 5, 1, 4, 1, False),  # padding beyond half the kernel
    ((6, 5), 3, 2, ((0, 1), (1, 2)), 1, False),
    ((4, 4), 1, 2, 1, 1, True),  # windows without a tap inside
    ((1, 1), 1, 1, 0, 1, False),
    ((23,), 3, 2, 1, 1, False),
    ((2500,), 4, 3, 1, 1, False),  # a row in pieces
    ((5, 6, 7), 2, 2, 0, 1, False),
    ((4, 5, 6), 3, (1, 2, 1), 1, 1, True),
    # dimensions in which nothing happens
    ((3, 9, 8), (1, 3, 3), (1, 2, 2), (0, 1, 1), 1, False),
    ((3, 8, 9), (1, 2, 2), (1, 2, 2), 0, 1, False),
    ((5, 1, 8), (3, 1, 2), (2, 1, 2), (1, 0, 0), 1, False),
    ((6, 7, 1), (2, 3, 1), (2, 3, 1), 0, 1, True),
    ((7, 9), (1, 3), (1, 2), (0, 1), 1, False),
    ((7, 9), (1, 1), (3, 1), 0, 1, False),
    ((17, 18), (16, 16), 1, 0, 1, False),  # 256 taps: the index no longer fits into a byte
    ((40, 40), 20, 7, 3, 1, False),
]
CHANNELS = [1, 3, 6, 16, 17, 70]


def three(values, fill):
    values = tuple(values)
    return (fill,) * (3 - len(values)) + values


def geometry_of(x_shape, case):
    size, kernel, stride, padding, dilation, ceil_mode = case
    n = len(size)
    windows = Windows.of(size, kernel, stride, padding, dilation, ceil_mode)
    pads = per_axis_pairs(padding, n)
    return windows.out, {
        "channels": x_shape[1], "input": three(size, 1), "output": three(windows.out, 1),
        "kernel": three(per_axis(kernel, n), 1), "stride": three(per_axis(stride, n), 1),
        "dilation": three(per_axis(dilation, n), 1), "low": three([p[0] for p in pads], 0),
        "high": three([p[1] for p in pads], 0)}


def adaptive_geometry(x_shape, out):
    return {"channels": x_shape[1], "input": three(x_shape[2:], 1), "output": three(out, 1), "adaptive": True}


def guarded_index(count, index_type):
    """An index buffer full of 0xee (bytes) or NaN that ends at the guard page."""
    if index_type == "i32":
        return guarded(count).view(np.int32)
    buffer = guarded(-(-count // 4)).view(np.uint8)
    buffer[...] = 0xEE
    return buffer[buffer.size - count :]


def run(step, batch, threads=1, planned=None):
    steps = StepList([step], planned or batch)
    steps.set_batch(batch)
    steps.run(threads)


def index_images(index, shape, ld):
    """Stored indices as (N, C, *spatial)."""
    n, c, *spatial = shape
    count = n * math.prod(spatial)
    rows = np.lib.stride_tricks.as_strided(index, (count, c), (ld * index.itemsize, index.itemsize))
    return np.moveaxis(rows.reshape(n, *spatial, c), -1, 1).astype(np.int64)


def max_pool(x, geometry, out, index_type=None, extra=0, threads=1):
    """Values and stored indices (none as -1), with a pixel stride of `extra` more than the channels."""
    c = x.shape[1]
    ld, shape = c + extra, (*x.shape[:2], *out)
    count = x.shape[0] * math.prod(out)
    source, y = pixels(x, ld), guarded(max(0, count * ld - extra))
    if index_type is None:
        step = pool.max_forward(geometry, x=source.ctypes.data, ldx=ld, y=y.ctypes.data, ldy=ld)
        run(step, x.shape[0], threads)
        index = None
    else:
        buffer = guarded_index(max(0, count * ld - extra), index_type)
        step = pool.max_forward(geometry, x=source.ctypes.data, ldx=ld, y=y.ctypes.data, ldy=ld,
                                index=buffer.ctypes.data, ldi=ld, index_type=index_type)
        run(step, x.shape[0], threads)
        index = index_images(buffer, shape, ld)
        index[index == 255] = -1 if index_type == "u8" else 255
    assert np.isnan(gaps(y, count, c, ld)).all()
    return images(y, shape, ld), index


def max_pool_backward(gy, x_shape, geometry, index, index_type, extra=0, threads=1):
    c = x_shape[1]
    ld = c + extra
    count = x_shape[0] * math.prod(x_shape[2:])
    source, gx = pixels(gy, ld), guarded(max(0, count * ld - extra))
    stored = np.ascontiguousarray(np.moveaxis(index, 1, -1)).astype(np.uint8 if index_type == "u8" else np.int32)
    buffer = guarded_index(stored.size, index_type)
    buffer[...] = stored.ravel()
    step = pool.max_backward(geometry, gx=gx.ctypes.data, ldx=ld, gy=source.ctypes.data, ldy=ld,
                             index=buffer.ctypes.data, ldi=c, index_type=index_type)
    run(step, x_shape[0], threads)
    assert np.isnan(gaps(gx, count, c, ld)).all()
    return images(gx, x_shape, ld)


def avg_pool(x, geometry, out, extra=0, threads=1):
    c = x.shape[1]
    ld, count = c + extra, x.shape[0] * math.prod(out)
    source, y = pixels(x, ld), guarded(max(0, count * ld - extra))
    run(pool.avg_forward(geometry, x=source.ctypes.data, ldx=ld, y=y.ctypes.data, ldy=ld), x.shape[0], threads)
    assert np.isnan(gaps(y, count, c, ld)).all()
    return images(y, (*x.shape[:2], *out), ld)


def avg_pool_backward(gy, x_shape, geometry, extra=0, threads=1):
    c = x_shape[1]
    ld, count = c + extra, x_shape[0] * math.prod(x_shape[2:])
    source, gx = pixels(gy, ld), guarded(max(0, count * ld - extra))
    run(pool.avg_backward(geometry, gx=gx.ctypes.data, ldx=ld, gy=source.ctypes.data, ldy=ld), x_shape[0], threads)
    assert np.isnan(gaps(gx, count, c, ld)).all()
    return images(gx, x_shape, ld)


def index_types(case):
    taps = math.prod(per_axis(case[1], len(case[0])))
    return ("u8", "i32") if taps <= pool.MOST_TAPS_U8 else ("i32",)


def input_of(rng, n, c, size, bits=4):
    """Few different values, so that ties are common."""
    return exact_integers(rng, (n, c, *size), bits)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_max_pool_is_the_references(case):
    rng = np.random.default_rng(1)
    for c in CHANNELS:
        extra = 3 if c % 2 else 0
        x = input_of(rng, 2, c, case[0])
        out, geometry = geometry_of(x.shape, case)
        expected = reference.max_pool(x, *case[1:])
        values, _ = max_pool(x, geometry, out, extra=extra)
        np.testing.assert_array_equal(values, expected.values)
        gy = exact_integers(rng, values.shape, 8)
        gx = reference.max_pool_backward(gy, expected.indices, x.shape)
        for index_type in index_types(case):
            values, taps = max_pool(x, geometry, out, index_type, extra, threads=2)
            np.testing.assert_array_equal(values, expected.values)
            np.testing.assert_array_equal(taps, expected.taps)
            got = max_pool_backward(gy, x.shape, geometry, taps, index_type, extra)
            np.testing.assert_array_equal(got, gx)


# windows so large that a tile has a part of the channels: that overlap, that do not, by both indices
@pytest.mark.parametrize("case", [((17, 18), 16, 1, 0, 1, False), ((31, 30), 15, 15, 0, 1, False),
                                  ((30, 31), (16, 30), (16, 1), 0, 1, False)], ids=str)
def test_blocks_of_channels(case):
    rng, c = np.random.default_rng(8), 300
    x = input_of(rng, 1, c, case[0])
    assert math.prod(per_axis(case[1], 2)) * c > 1 << 16
    out, geometry = geometry_of(x.shape, case)
    expected = reference.max_pool(x, *case[1:])
    gy = exact_integers(rng, expected.values.shape, 8)
    for index_type in index_types(case):
        values, taps = max_pool(x, geometry, out, index_type, extra=1, threads=2)
        np.testing.assert_array_equal(values, expected.values)
        np.testing.assert_array_equal(taps, expected.taps)
        np.testing.assert_array_equal(max_pool_backward(gy, x.shape, geometry, taps, index_type, extra=1),
                                      reference.max_pool_backward(gy, expected.indices, x.shape))
    np.testing.assert_array_equal(avg_pool(x, geometry, out, extra=1), reference.avg_pool(x, *case[1:4]).astype(np.float32))
    gx = reference.avg_pool_backward(gy, x.shape, *case[1:4])
    assert rel_l2(avg_pool_backward(gy, x.shape, geometry, extra=1, threads=2), gx) <= 2**-24 * 32


@pytest.mark.parametrize("c", [1, 5, 16, 33])
def test_the_last_nan_wins_and_infinities_have_an_index(c):
    rng = np.random.default_rng(2)
    case = ((9, 10), 3, 2, 1, 1, False)
    x = rng.choice(np.array([np.nan, -np.nan, np.inf, -np.inf, 1, 2], np.float32), (3, c, 9, 10),
                   p=[0.03, 0.03, 0.04, 0.8, 0.05, 0.05])
    out, geometry = geometry_of(x.shape, case)
    expected = reference.max_pool(x, *case[1:])
    assert (expected.values == -np.inf).any() and np.isnan(expected.values).any()
    values, taps = max_pool(x, geometry, out, "u8")
    np.testing.assert_array_equal(values, expected.values)
    np.testing.assert_array_equal(taps, expected.taps)
    np.testing.assert_array_equal(max_pool(x, geometry, out)[0], expected.values)


@pytest.mark.parametrize("case", [c for c in CASES if c[4] == 1], ids=str)
@pytest.mark.parametrize("include_pad, divisor", [(True, None), (False, None), (True, 3)])
def test_avg_pool_is_the_references(case, include_pad, divisor):
    rng = np.random.default_rng(3)
    size, kernel, stride, padding, _, ceil_mode = case
    for c in (1, 6, 17, 70):
        x = exact_integers(rng, (2, c, *size), 10)
        out, geometry = geometry_of(x.shape, case)
        geometry.update(count_include_pad=include_pad, divisor=divisor or 0)
        expected = reference.avg_pool(x, kernel, stride, padding, ceil_mode, include_pad, divisor)
        # the sums are exact: only the division rounds
        np.testing.assert_array_equal(avg_pool(x, geometry, out, extra=c % 2), expected.astype(np.float32))
        gy = rng.standard_normal(expected.shape, np.float32)
        gx = reference.avg_pool_backward(gy, x.shape, kernel, stride, padding, ceil_mode, include_pad, divisor)
        got = avg_pool_backward(gy, x.shape, geometry, extra=c % 2, threads=2)
        taps = math.prod(per_axis(kernel, len(size)))
        assert rel_l2(got, gx) <= 2**-24 * (2 + math.sqrt(taps))


ADAPTIVE = [((13, 13), (6, 6)), ((7, 5), (3, 4)), ((4, 3), (7, 5)), ((6, 6), (6, 6)), ((9, 8), (1, 1)), ((11,), (4,)),
            ((5, 6, 7), (2, 4, 3)), ((8, 8), (4, 2)), ((3, 4, 5), (3, 4, 2)), ((2, 2500), (1, 1100))]


@pytest.mark.parametrize("size, out", ADAPTIVE, ids=str)
def test_adaptive_pooling_is_the_references(size, out):
    rng = np.random.default_rng(4)
    for c in (1, 6, 19, 64):
        x = input_of(rng, 2, c, size)
        geometry = adaptive_geometry(x.shape, out)
        values, indices = reference.adaptive_max_pool(x, out)
        got, flat = max_pool(x, geometry, out, "i32", extra=2)
        np.testing.assert_array_equal(got, values)
        np.testing.assert_array_equal(flat, indices)
        gy = exact_integers(rng, values.shape, 8)
        np.testing.assert_array_equal(max_pool_backward(gy, x.shape, geometry, flat, "i32", extra=1),
                                      reference.max_pool_backward(gy, indices, x.shape))
        np.testing.assert_array_equal(avg_pool(x, geometry, out, extra=1),
                                      reference.adaptive_avg_pool(x, out).astype(np.float32))
        gx = reference.adaptive_avg_pool_backward(gy, x.shape, out)
        assert rel_l2(avg_pool_backward(gy, x.shape, geometry), gx) <= 2**-22


@pytest.mark.parametrize("size, c", [((7, 7), 2048), ((56, 57), 24), ((300, 301), 3), ((200000,), 1), ((16, 30, 31), 70)])
def test_a_large_mean_rounds_like_a_tree_of_sums(size, c):
    """Values of one sign: sequential summation would lose about sqrt(pixels) or more of the last place."""
    x = np.random.default_rng(5).uniform(0.5, 1.5, (1, c, *size)).astype(np.float32)
    one = (1,) * len(size)
    expected = reference.global_avg_pool(x)
    _, geometry = geometry_of(x.shape, (size, size, 1, 0, 1, False))
    for g in (adaptive_geometry(x.shape, one), geometry):
        got = avg_pool(x, g, one)
        depth = 32 + 32 * math.log(math.prod(size), 32)  # a level is at most 32 additions
        assert np.abs(got / expected - 1).max() <= 2**-24 * (2 + math.sqrt(depth))


@pytest.mark.parametrize("size, kernel, stride, c", [((40, 41), 3, 2, 33), ((64, 64), 2, 2, 96), ((31, 31), 31, 31, 300)])
def test_threads_and_batch_do_not_change_a_bit(size, kernel, stride, c):
    rng = np.random.default_rng(6)
    x = rng.standard_normal((4, c, *size), np.float32)
    out, geometry = geometry_of(x.shape, (size, kernel, stride, 0, 1, False))
    index_type = "u8" if kernel < 16 else "i32"

    def everything(x, threads):
        values, taps = max_pool(x, geometry, out, index_type, threads=threads)
        gy = values[:, ::-1] + values
        mean = avg_pool(x, geometry, out, threads=threads)
        return [values, taps, mean, max_pool_backward(gy, x.shape, geometry, taps, index_type, threads=threads),
                avg_pool_backward(gy, x.shape, geometry, threads=threads)]

    one, two, alone = everything(x, 1), everything(x, 2), everything(x[2:3], 1)
    for a, b, image in zip(one, two, alone, strict=True):
        assert a.tobytes() == b.tobytes()
        assert a[2:3].tobytes() == image.tobytes()


def test_an_empty_batch_has_no_tiles():
    case = ((6, 6), 2, 2, 0, 1, False)
    out, geometry = geometry_of((1, 4, 6, 6), case)
    x, y, index = guarded(144), guarded(36), guarded_index(36, "u8")
    keywords = {"ldx": 4, "ldy": 4}
    steps = [pool.max_forward(geometry, x=x.ctypes.data, y=y.ctypes.data, **keywords),
             pool.max_forward(geometry, x=x.ctypes.data, y=y.ctypes.data, index=index.ctypes.data, ldi=4, **keywords),
             pool.max_backward(geometry, gx=x.ctypes.data, gy=y.ctypes.data, index=index.ctypes.data, ldi=4, **keywords),
             pool.avg_forward(geometry, x=x.ctypes.data, y=y.ctypes.data, **keywords),
             pool.avg_backward(geometry, gx=x.ctypes.data, gy=y.ctypes.data, **keywords)]
    for step in steps:
        assert step.tiles(0) == 0 and step.tiles(1) == 1
        run(step, 0, planned=1)
    assert np.isnan(x).all() and np.isnan(y).all() and (index == 0xEE).all()


@pytest.mark.parametrize("n, c", list(itertools.product([1, 3], [1, 7, 8, 9, 15, 31, 32, 63, 64, 65, 129])))
def test_every_width_of_channels(n, c):
    rng = np.random.default_rng(7)
    case = ((6, 7), 3, 2, 1, 1, False)
    x = input_of(rng, n, c, case[0])
    out, geometry = geometry_of(x.shape, case)
    expected = reference.max_pool(x, *case[1:])
    values, taps = max_pool(x, geometry, out, "u8", extra=5)
    np.testing.assert_array_equal(values, expected.values)
    np.testing.assert_array_equal(taps, expected.taps)
    gy = exact_integers(rng, values.shape, 8)
    np.testing.assert_array_equal(max_pool_backward(gy, x.shape, geometry, taps, "u8"),
                                  reference.max_pool_backward(gy, expected.indices, x.shape))
    np.testing.assert_array_equal(avg_pool(x, geometry, out), reference.avg_pool(x, 3, 2, 1).astype(np.float32))
