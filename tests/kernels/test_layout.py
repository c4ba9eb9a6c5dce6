"""The door between users' arrays and channels-last buffers, and dense copies of strided arrays: bits move, none changes."""

import numpy as np
import pytest

from fastconv.kernels import layout

from .guarded import gaps, guarded, images, pixels
from .problems import run

SHAPES = [(1, 1, 1), (2, 3, 5), (3, 17, 33), (2, 4, 6, 7), (1, 5, 1, 1), (2, 33, 18, 17), (2, 3, 90, 100), (2, 6, 3, 4, 5)]
VIEWS = {
    "dense": lambda a: a,
    "channels last": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1),
    "reversed": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "every second": lambda a: np.repeat(np.repeat(a, 2, 1), 2, -1)[:, 1::2, ..., ::2],
    "images reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
}


def three(size):
    return (1,) * (3 - len(size)) + tuple(size)


def point(array, batched=True):
    slot = layout.Slot()
    slot.expect(array.shape, batched)
    assert slot.take(array, True) == (array.shape[0] if batched else 1)
    return slot


def numbers(shape):
    """Values of which no two are equal, the last of them at a guard page."""
    array = guarded(shape)
    array[...] = np.arange(array.size, dtype=np.float32).reshape(shape) + 1
    return array


def view_of(values, view):
    """The same values in other strides."""
    array = VIEWS[view](values)
    assert np.array_equal(array, values)
    return array


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_door(shape, view):
    n, c, *size = shape
    x, count = view_of(numbers(shape), view), n * int(np.prod(size))
    for threads, ld in ((1, c), (2, c + 3)):
        buffer = guarded(count * ld - (ld - c))
        run(layout.to_channels_last(point(x), buffer.ctypes.data, channels=c, size=three(size), ld=ld), n, threads)
        np.testing.assert_array_equal(images(buffer, shape, ld), x)
        assert np.isnan(gaps(buffer, count, c, ld)).all()
        back = view_of(numbers(shape), view)
        back[...] = np.nan
        run(layout.from_channels_last(point(back), buffer.ctypes.data, channels=c, size=three(size), ld=ld), n, threads)
        np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("low", [(0, 0, 0), (1, 2, 3)])
@pytest.mark.parametrize("high", [(0, 0, 0), (2, 0, 1), (0, 3, 0)])
@pytest.mark.parametrize("shape", [(2, 3, 2, 4, 5), (1, 6, 1, 1, 1), (2, 1, 3, 40, 70)])
def test_a_border_is_zero(shape, low, high):
    n, c, *size = shape
    x, ld = numbers(shape), c  # a border belongs to buffers of our own, without gaps
    padded = tuple(a + b + e for a, b, e in zip(low, size, high, strict=True))
    expected = np.pad(x, ((0, 0), (0, 0), *zip(low, high, strict=True)))
    for threads in (1, 2):
        buffer = guarded(n * int(np.prod(padded)) * ld)
        box = {"channels": c, "size": size, "ld": ld, "halo": low, "padded": padded}
        run(layout.to_channels_last(point(x), buffer.ctypes.data, **box), n, threads)
        np.testing.assert_array_equal(images(buffer, (n, c, *padded), ld), expected)
        back = guarded(shape)
        run(layout.from_channels_last(point(back), buffer.ctypes.data, **box), n, threads)
        np.testing.assert_array_equal(back, x)


def test_a_smaller_batch_leaves_the_rest():
    x, shape = numbers((4, 5, 30, 50)), (4, 5, 30, 50)
    buffer = guarded(x.size)
    run(layout.to_channels_last(point(x), buffer.ctypes.data, channels=5, size=(1, 30, 50), ld=5), 4, 2, n=3)
    got = images(buffer, shape, 5)
    np.testing.assert_array_equal(got[:3], x[:3])
    assert np.isnan(got[3]).all()
    back, buffer = guarded(shape), pixels(x, 5)
    run(layout.from_channels_last(point(back), buffer.ctypes.data, channels=5, size=(1, 30, 50), ld=5), 4, 2, n=3)
    np.testing.assert_array_equal(back[:3], x[:3])
    assert np.isnan(back[3]).all()


@pytest.mark.parametrize("shape", [(1, 2, 3, 4, 5), (3, 1, 1, 1, 1), (2, 7, 1, 1, 9), (1, 1, 2, 6, 5), (2, 40, 2, 3, 3)])
@pytest.mark.parametrize("view", VIEWS)
def test_copy_strided(shape, view):
    x = view_of(numbers(shape), view)
    for threads, batch in ((1, 1), (2, 5)):  # the extents do not follow the batch of the run
        buffer = guarded(x.size)
        run(layout.copy_strided(point(x, False), buffer.ctypes.data, shape=shape), batch, threads)
        np.testing.assert_array_equal(buffer.reshape(shape), x)
        back = view_of(numbers(shape), view)
        back[...] = np.nan
        run(layout.copy_strided(point(back, False), buffer.ctypes.data, shape=shape, reverse=True), batch, threads)
        np.testing.assert_array_equal(back, x)
