"""Resampling by lists, against matrix products in float64: every way that a row is read, both passes, every layout."""

import numpy as np
import pytest
from fastconv.kernels._runtime import StepList

from fastconv.kernels import resample
from fastconv.kernels.taps import WIDTH, Taps, rows
from fastconv.ops import resampling

from .guarded import guarded

# lists of (index, weight) per output, by name: (extent read, list)
AXES = {
    "linear up": (7, resampling.linear(7, 15)),
    "linear double": (28, resampling.linear(28, 56)),
    "linear half": (64, resampling.linear(64, 32)),
    "linear third": (100, resampling.linear(100, 31)),  # lanes of a vector are further apart than two vectors
    "nearest": (9, resampling.nearest(9, 20)),
    "nearest long": (300, resampling.nearest(300, 90)),
    "cubic": (33, resampling.cubic(33, 65)),
    "area": (50, resampling.area(50, 7)),
    "all": (90, resampling.area(90, 1)),  # more taps than are summed at once
    "antialias": (70, resampling.antialiased(70, 13, cubic=True)),
    "one": (1, resampling.linear(1, 5)),
    "constant": (10, resampling.padded("constant", 10, 20, 3)),  # a vector that reads nothing
    "cropped": (40, resampling.padded("constant", 40, -3, 5)),
    "reflect": (18, resampling.padded("reflect", 18, 17, 3)),
    "circular": (18, resampling.padded("circular", 18, 2, 18)),
    "replicate": (3, resampling.padded("replicate", 3, 40, 1)),
    "parts": (2500, resampling.linear(2500, 6000)),
}


def matrix(taps, extent):
    out = np.zeros((taps.size, extent))
    for i in range(taps.size):
        for t in range(taps.start[i], taps.start[i + 1]):
            out[i, taps.source[t]] += taps.weight[t]
    return out


def laid(shape, order, fill, gap=0, dtype=np.float32):
    """An array of this shape whose memory order is `order`, `gap` elements behind each innermost run; the memory, which ends
    at a page that nobody may touch."""
    sizes = [shape[d] for d in order]
    strides, step = {}, 1
    for at, d in reversed(list(enumerate(order))):
        strides[d] = step
        step *= sizes[at] + (gap if at == len(order) - 1 else 0)
    count = sum((s - 1) * strides[d] for d, s in enumerate(shape)) + 1
    memory = guarded(count) if dtype == np.float32 else guarded(-(-count // 4)).view(np.uint8)[-count:]
    memory[...] = fill
    return np.lib.stride_tricks.as_strided(memory, shape, [strides[d] * memory.itemsize for d in range(len(shape))]), memory


def operand(array):
    return array.__array_interface__["data"][0], tuple(s // array.itemsize for s in array.strides), str(array.dtype)


def run(x, axes, order, threads=1, gap=0, fill=0.0, dtype=np.float32, n=None):
    shape = tuple(axes[d][1].size if d in axes else s for d, s in enumerate(x.shape))
    y, memory = laid(shape, order, np.nan if dtype == np.float32 else 77, gap, dtype)
    lists = {d: t for d, (_, t) in axes.items()}
    step = resample.resample(x=operand(x), y=operand(y), shape=x.shape, axes=lists, batched=True, fill=fill)
    steps = StepList([step], x.shape[0])
    steps.set_batch(x.shape[0] if n is None else n)
    steps.run(threads)
    return y, memory


def expected(x, axes):
    out = x.astype(np.float64)
    for d, (extent, taps) in axes.items():
        out = np.moveaxis(np.tensordot(matrix(taps, extent), out, (1, d)), 0, d)
    return out


def check(x, axes, order, gap=0):
    first, memory = run(x, axes, order, gap=gap)
    want = expected(x, axes)
    most = np.abs(want).max() + 1
    np.testing.assert_allclose(first, want, rtol=0, atol=4e-6 * most)
    assert np.isnan(memory).sum() == memory.size - want.size
    np.testing.assert_array_equal(run(x, axes, order, 2, gap)[0], first)
    alone = np.concatenate([run(x[i:i + 1], axes, order, 2, gap)[0] for i in range(len(x))])
    np.testing.assert_array_equal(alone, first)
    np.testing.assert_array_equal(run(x, axes, order, 1, gap, n=1)[0][:1], first[:1])


@pytest.mark.parametrize("channels", [1, 3, WIDTH - 1, WIDTH, 2 * WIDTH + 5])
@pytest.mark.parametrize("name", AXES)
def test_an_axis(name, channels):
    rng = np.random.default_rng(5)
    extent, taps = AXES[name]
    for (source, gap) in (((0, 1, 2), 0), ((0, 2, 1), 0), ((0, 2, 1), 3), ((1, 2, 0), 0)):
        x, _ = laid((2, channels, extent), source, 0, gap)
        x[...] = rng.standard_normal(x.shape)
        for target, behind in (((0, 1, 2), 0), ((0, 2, 1), 0), ((0, 2, 1), 2)):
            check(x, {2: (extent, taps)}, target, behind)


@pytest.mark.parametrize("names", [("linear up", "linear double"), ("linear half", "linear up"), ("cubic", "cubic"),
                                   ("constant", "reflect"), ("area", "all"), ("nearest", "nearest"), ("one", "antialias")])
@pytest.mark.parametrize("channels", [2, WIDTH + 1])
def test_two_axes_and_their_adjoint(names, channels):
    rng = np.random.default_rng(6)
    axes = {2: AXES[names[0]], 3: AXES[names[1]]}
    x = rng.standard_normal((2, channels, axes[2][0], axes[3][0])).astype(np.float32)
    back = {d: (t.size, t.transposed(extent)) for d, (extent, t) in axes.items()}
    for order in ((0, 1, 2, 3), (0, 2, 3, 1)):
        xs, _ = laid(x.shape, order, 0)
        xs[...] = x
        for target in ((0, 1, 2, 3), (0, 2, 3, 1)):
            check(xs, axes, target)
            y = run(xs, axes, order)[0]
            check(y, back, target)
            np.testing.assert_allclose(matrix(back[2][1], back[2][0]), matrix(axes[2][1], axes[2][0]).T)


def test_three_axes_and_one_that_is_outside():
    x = np.random.default_rng(7).standard_normal((2, 5, 4, 6, 9)).astype(np.float32)
    axes = {2: (4, resampling.linear(4, 7)), 3: (6, resampling.linear(6, 11)), 4: (9, resampling.linear(9, 5))}
    check(x, axes, (0, 1, 2, 3, 4))
    check(x, axes, (0, 2, 3, 4, 1))
    check(x, {2: axes[2]}, (0, 1, 2, 3, 4))
    check(x, {1: (5, resampling.padded("circular", 5, 3, 2))}, (0, 2, 3, 4, 1))
    check(x, {}, (0, 2, 3, 4, 1))


@pytest.mark.parametrize("channels", [1, 3, WIDTH])
def test_moved_values_keep_their_bits(channels):
    """Copies, and what is filled in: NaN, infinities, zeros of either sign, denormals."""
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-42, -1e-42, 1.0, 3e38], np.float32)
    x = np.random.default_rng(8).choice(odd, (2, channels, 20, 21))
    padded = resampling.padded
    for taps in (resampling.nearest(21, 50), padded("reflect", 21, 5, 6), padded("constant", 21, 30, 2)):
        axes = {2: (20, resampling.padded("constant", 20, 1, 1)), 3: (21, taps)}
        want = np.full((2, channels, 22, taps.size), 2.5, np.float32)
        some = np.diff(taps.start) > 0
        want[:, :, 1:-1, some] = x[:, :, :, taps.source]
        for order in ((0, 1, 2, 3), (0, 2, 3, 1)):
            xs, _ = laid(x.shape, order, 0)
            xs[...] = x
            y = run(xs, axes, order, fill=2.5)[0]
            np.testing.assert_array_equal(np.ascontiguousarray(y).view(np.int32), want.view(np.int32))


@pytest.mark.parametrize("channels", [1, 3, WIDTH + 2])
def test_bytes(channels):
    x = np.random.default_rng(9).integers(0, 256, (2, channels, 30, 40)).astype(np.uint8)
    axes = {2: (30, resampling.cubic(30, 17)), 3: (40, resampling.cubic(40, 90))}
    want = expected(x, axes)
    for order in ((0, 1, 2, 3), (0, 2, 3, 1)):
        xs, _ = laid(x.shape, order, 0, dtype=np.uint8)
        xs[...] = x
        y = run(xs, axes, order, 2, dtype=np.uint8)[0]
        assert np.abs(y - np.clip(want, 0, 255)).max() <= 0.5001
        np.testing.assert_allclose(run(xs, axes, order)[0], want, atol=2e-3)


def test_short_rows_become_long_ones():
    taps = resampling.linear(4, 5)
    dims = rows((3, 6, 4, 4), (96, 16, 4, 1), (150, 25, 5, 1), {2: taps, 3: taps}, True)
    assert dims.row.size == 150 and len(dims.outer) == 1 and dims.channels == 1
    axes = {2: taps, 3: resampling.linear(40, 50)}
    assert rows((3, 6, 4, 40), (960, 160, 40, 1), (1000, 250, 50, 1), axes, True).row.size == 50


def test_nothing():
    empty = Taps(np.zeros(1, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    up = {2: AXES["linear up"]}
    for shape, axes in (((2, 3, 0), {2: (0, empty)}), ((0, 3, 7), up), ((2, 0, 7), up)):
        x = np.zeros(shape, np.float32)
        step = resample.resample(x=(0, (1, 1, 1), "float32"), y=(0, (1, 1, 1), "float32"), shape=x.shape,
                                 axes={d: t for d, (_, t) in axes.items()}, batched=True)
        steps = StepList([step], max(1, shape[0]))
        steps.set_batch(shape[0])
        steps.run(2)
    y = np.full((2, 4), np.nan, np.float32)  # an extent of 0 that is padded
    step = resample.resample(x=(0, (0, 1), "float32"), y=operand(y), shape=(2, 0),
                             axes={1: resampling.padded("constant", 0, 1, 3)}, batched=True, fill=7.0)
    StepList([step], 2).run(1)
    assert (y == 7).all()
