"""The kernel that measures the FMA peak computes what it says, at the instruction set FASTCONV_ISA asks for."""

import numpy as np
import pytest
from fastconv.kernels._runtime import StepList

from fastconv.kernels import conv


@pytest.mark.parametrize("threads", [1, 2])
def test_every_lane_is_computed(threads):
    lanes, tiles = conv.peak_lanes(), 3
    out = np.full(tiles * lanes + 1, np.nan, np.float32)
    steps = StepList([conv.fma_peak(out=out.ctypes.data, iterations=5, a=0.5, b=1.0)], tiles)
    steps.run(threads)
    expected = np.tile(np.arange(lanes) / 32 + 2 * (1 - 1 / 32), tiles)  # exact in float32
    np.testing.assert_array_equal(out[:-1], expected)
    assert np.isnan(out[-1])


def test_no_tile_and_no_iteration():
    out = np.full(2 * conv.peak_lanes(), np.nan, np.float32)
    steps = StepList([conv.fma_peak(out=out.ctypes.data, iterations=0)], 2)
    steps.set_batch(0)
    steps.run(2)
    assert np.isnan(out).all()
    steps.set_batch(1)
    steps.run(2)
    np.testing.assert_array_equal(out[: conv.peak_lanes()], np.arange(conv.peak_lanes()))
    assert np.isnan(out[conv.peak_lanes():]).all()
