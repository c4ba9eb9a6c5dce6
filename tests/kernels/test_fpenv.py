"""Denormals are flushed in every thread of a run, and the caller's floating-point mode is as it was afterwards."""

import platform

import numpy as np
import pytest

from fastconv.kernels import elementwise

from .guarded import guarded
from .problems import run

SMALL = np.float32(1e-20)  # its square, 1e-40, is a denormal


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64", "aarch64", "arm64"),
                    reason="only the modes of x86-64 and AArch64 are known")
@pytest.mark.parametrize("threads", [1, 2])
def test_denormals_are_flushed_and_the_callers_mode_is_restored(threads):
    assert SMALL * SMALL > 0, "the mode before"
    x, y = guarded((64, 1 << 12)), guarded((64, 1 << 12))
    x[...] = SMALL
    step = elementwise.unary("f32_scale", x=x.ctypes.data, y=y.ctypes.data, pixels=x.shape[1], channels=1, ldx=1, ldy=1,
                             a=float(SMALL))
    assert step.tiles(64) >= 2 * threads
    run(step, 64, threads)
    assert (y == 0).all()
    assert SMALL * SMALL > 0, "the mode afterwards"
