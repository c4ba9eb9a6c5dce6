"""The kernel that measures bandwidths reads all, and copies all, at the instruction set FASTCONV_ISA asks for."""

import numpy as np
import pytest
from fastconv.kernels._runtime import StepList
from fastconv.kernels.peak import bandwidth

from .guarded import guarded


def made(tiles, floats):
    x = guarded((tiles, floats))
    x[...] = np.random.default_rng(1).integers(-8, 9, x.shape)
    return x


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("floats", [1, 15, 16, 17, 127, 128, 400])
def test_everything_is_read(floats, threads):
    x, out = made(3, floats), guarded((3,))
    StepList([bandwidth(x=x.ctypes.data, out=out.ctypes.data, floats=floats, iterations=4)], 3).run(threads)
    np.testing.assert_array_equal(out, 4 * x.sum(1))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("floats", [1, 15, 16, 17, 63, 64, 400])
def test_everything_is_copied(floats, threads):
    x, y = made(3, floats), guarded((3, floats))
    StepList([bandwidth(x=x.ctypes.data, y=y.ctypes.data, floats=floats, iterations=2)], 3).run(threads)
    np.testing.assert_array_equal(y, x)


def test_reads_or_copies():
    with pytest.raises(ValueError, match="either y"):
        bandwidth(x=1, floats=1, iterations=1)
    with pytest.raises(ValueError, match="either y"):
        bandwidth(x=1, y=1, out=1, floats=1, iterations=1)
