"""The door between users' arrays and channels-last buffers: bits move, none changes."""

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


# What takes each branch of the copy that exchanges pixels and channels (copy/turned.inl.h), at vectors of 4, 8 and 16.
BRANCHES = {
    **{f"{c} channels are one stream": (2, c, 5, 15) for c in range(2, 9)},
    **{f"{p} pixels are one stream": (1, 37, 1, p) for p in range(2, 9)},
    **{f"{c} channels, less than a vector": (1, c, 3, 29) for c in (9, 12, 15)},
    **{f"{p} pixels, less than a vector": (1, 35, 1, p) for p in (9, 12, 15)},
    **{f"{16 + more} by {32 + more}": (1, 16 + more, 1, 32 + more) for more in (0, 1, 2, 3, 9, 15)},
    "tiles of 256 channels": (1, 300, 5, 9),
    "1024 channels: through scratch": (2, 1024, 3, 23),
    "512 channels and pixels": (1, 512, 16, 32),
    "rows 4 KiB apart": (1, 40, 32, 32),
    "rows 2 KiB apart, few": (1, 20, 512, 3),
    "tiles of 1024 pixels": (1, 17, 96, 100),
    "past the caches, rows aligned": (1, 48, 212, 212),
    "past the caches, one run": (1, 50, 209, 211),
    "past the caches, few channels": (1, 3, 900, 901),
    "past the caches, less than a vector": (1, 11, 443, 444),
    "past the caches, 600 channels": (1, 600, 61, 61),
    "past the caches, 1024 channels": (1, 1024, 48, 48),
    "past the caches, 1025 channels": (1, 1025, 7, 300),
}


def shifted(shape, by):
    """An array, and numbers in it, whose first element is so many behind a line of the cache."""
    flat = np.empty(int(np.prod(shape)) + 32, np.float32)
    start = (-flat.ctypes.data // 4) % 16 + by
    array = flat[start: start + int(np.prod(shape))].reshape(shape)
    array[...] = np.arange(array.size, dtype=np.float32).reshape(shape) % 8388593 + 1
    return array


@pytest.mark.parametrize("name", BRANCHES)
def test_each_branch(name):
    shape = BRANCHES[name]
    n, c, *size = shape
    large = int(np.prod(shape)) > 1 << 20
    for threads, ld, by in ((2, c, 4),) if large else ((1, c, 0), (2, c, 4), (2, c + 5, 13), (1, (c + 15) // 16 * 16, 1)):
        x, count = shifted(shape, by), n * int(np.prod(size))
        buffer = guarded(count * ld - (ld - c))
        run(layout.to_channels_last(point(x), buffer.ctypes.data, channels=c, size=three(size), ld=ld), n, threads)
        np.testing.assert_array_equal(images(buffer, shape, ld), x)
        assert np.isnan(gaps(buffer, count, c, ld)).all()
        whole = np.full(x.size + 64, -1, np.float32)  # what lies around the array stays
        back = whole[32 + by: 32 + by + x.size].reshape(shape)
        run(layout.from_channels_last(point(back), buffer.ctypes.data, channels=c, size=three(size), ld=ld), n, threads)
        np.testing.assert_array_equal(back, x)
        assert (whole[:32 + by] == -1).all() and (whole[32 + by + x.size:] == -1).all()


def test_random_doors():
    rng = np.random.default_rng(5)
    for _ in range(150):
        n, c = int(rng.integers(1, 4)), int(rng.choice([1, 2, 3, 5, 8, 9, 16, 17, 33, 64, 65, 130]))
        size = [int(v) for v in rng.integers(1, 40, rng.integers(1, 4))]
        while np.prod(size) > 1500:
            size = size[1:]
        ld, view = c + int(rng.choice([0, 0, 1, 16])), str(rng.choice(list(VIEWS)))
        x, count = view_of(shifted((n, c, *size), int(rng.integers(16))), view), n * int(np.prod(size))
        buffer = guarded(count * ld - (ld - c))
        run(layout.to_channels_last(point(x), buffer.ctypes.data, channels=c, size=three(size), ld=ld), n, 2)
        np.testing.assert_array_equal(images(buffer, x.shape, ld), x)
        back = view_of(np.zeros(x.shape, np.float32), view)
        run(layout.from_channels_last(point(back), buffer.ctypes.data, channels=c, size=three(size), ld=ld), n, 2)
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
