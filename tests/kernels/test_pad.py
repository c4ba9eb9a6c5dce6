"""Padding and its adjoint: every output is read from its list, what was sent to several places is summed."""

import numpy as np
import pytest

from fastconv.kernels import pad

from .guarded import gaps, guarded, images, pixels
from .problems import run

# lists of sources per axis (-1: the constant), input extents, channels (of x, of y, common, first in x, first in y)
CASES = {
    "copy": ((1, 3, 4), ([0], [0, 1, 2], [0, 1, 2, 3]), (5, 5, 5, 0, 0)),
    "constant": ((1, 3, 4), ([0], [-1, 0, 1, 2, -1, -1], [-1, -1, 0, 1, 2, 3, -1]), (5, 5, 5, 0, 0)),
    "cropped": ((1, 5, 6), ([0], [1, 2, 3], [2, 3]), (3, 3, 3, 0, 0)),
    "reflected": ((1, 4, 5), ([0], [2, 1, 0, 1, 2, 3, 2], [4, 3, 2, 1, 0, 1, 2, 3, 4, 3]), (17, 17, 17, 0, 0)),
    "depth": ((3, 2, 2), ([2, 0, 1, 2, 0], [0, 0, 1, 1], [1, 0, 1, 0]), (33, 33, 33, 0, 0)),
    "one element": ((1, 1, 1), ([0, 0, 0], [0, 0], [-1, 0, 0]), (1, 1, 1, 0, 0)),
    "nothing is read": ((2, 2, 2), ([0, 1], [-1, -1, -1], [0, 1]), (2, 2, 2, 0, 0)),
    "channels added": ((1, 3, 3), ([0], [0, 1, 2], [-1, 0, 1, 2]), (4, 9, 4, 0, 3)),
    "channels cropped": ((1, 3, 3), ([0], [0, 1, 2], [2, 1, 0]), (9, 4, 4, 2, 0)),
    "channels moved": ((1, 2, 3), ([0], [1, 0], [0, 1, 2]), (6, 7, 3, 3, 2)),
    "tiles": ((1, 60, 70), ([0], [1, 0, *range(60), 59, 58], [*range(70), 0, 1]), (9, 9, 9, 0, 0)),
}


def three(lists, xs):
    """The input's coordinates of every output pixel, as an index; and which are the constant."""
    grid = np.meshgrid(*map(np.array, lists), indexing="ij")
    return tuple(grid), np.logical_or.reduce([g < 0 for g in grid])


def keywords(size, lists, channels):
    return {"channels": channels, "input": size, "output": tuple(map(len, lists)), "sources": lists}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_pad(name, n):
    size, lists, channels = CASES[name]
    cx, cy, common, first_x, first_y = channels
    rng = np.random.default_rng(3)
    x = rng.standard_normal((n, cx, *size)).astype(np.float32)
    index, constant = three(lists, size)
    expected = np.full((n, cy, *constant.shape), 2.5, np.float32)
    values = np.where(constant, np.float32(2.5), x[(slice(None), slice(first_x, first_x + common), *index)])
    expected[:, first_y:first_y + common] = values
    count = n * constant.size
    for threads, extra in ((1, 0), (2, 3)):
        ldx, ldy = cx + extra, cy + 2 * extra
        y = guarded(count * ldy - (ldy - cy))
        flat = pixels(x, ldx)
        step = pad.forward(x=flat.ctypes.data, ldx=ldx, y=y.ctypes.data, ldy=ldy, value=2.5, **keywords(*CASES[name]))
        run(step, n, threads)
        np.testing.assert_array_equal(images(y, expected.shape, ldy), expected)
        assert np.isnan(gaps(y, count, cy, ldy)).all()


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_pad_backward(name, n):
    size, lists, channels = CASES[name]
    cx, cy, common, first_x, first_y = channels
    rng = np.random.default_rng(4)
    index, constant = three(lists, size)
    gy = rng.integers(-9, 9, (n, cy, *constant.shape)).astype(np.float32)
    expected = np.zeros((n, cx, *size), np.float32)
    values = np.where(constant, 0, gy[:, first_y:first_y + common])
    for image in range(n):
        for c in range(common):
            np.add.at(expected[image, first_x + c], tuple(np.maximum(i, 0) for i in index), values[image, c])
    count = n * int(np.prod(size))
    results = []
    for threads, extra in ((1, 0), (2, 3)):
        ldx, ldy = cx + extra, cy + 2 * extra
        gx = guarded(count * ldx - (ldx - cx))
        flat = pixels(gy, ldy)
        run(pad.backward(gx=gx.ctypes.data, ldx=ldx, gy=flat.ctypes.data, ldy=ldy, **keywords(*CASES[name])), n, threads)
        results.append(images(gx, expected.shape, ldx))
        assert np.isnan(gaps(gx, count, cx, ldx)).all()
    np.testing.assert_array_equal(results[0], expected)
    np.testing.assert_array_equal(results[1], expected)


def test_an_empty_batch():
    lists = CASES["reflected"][1]
    step = pad.forward(x=0, ldx=1, y=0, ldy=1, **keywords((1, 4, 5), lists, (1, 1, 1, 0, 0)))
    run(step, 1, 1, 0)
    run(pad.backward(gx=0, ldx=1, gy=0, ldy=1, **keywords((1, 4, 5), lists, (1, 1, 1, 0, 0))), 1, 1, 0)
