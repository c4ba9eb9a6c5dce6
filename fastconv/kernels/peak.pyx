# cython: language_level=3
"""Steps that measure what the machine can do, other than the FMA peak (conv.fma_peak)."""

from fastconv.kernels._args_peak cimport BandwidthArgs
from fastconv.kernels._runtime cimport Step


def bandwidth(*, size_t x, floats, iterations, size_t y=0, size_t out=0) -> Step:
    """Each tile reads ``floats`` floats of its own ``iterations`` times; the batch is the number of tiles.

    Either ``out`` gets one float per tile, the sum of all that was read, or ``y`` a copy of x.
    """
    if (y == 0) == (out == 0):
        raise ValueError("bandwidth: expected either y (copy) or out (read)")
    cdef Step step = Step()
    cdef BandwidthArgs* a = <BandwidthArgs*> step.bind_name("f32_bandwidth", sizeof(BandwidthArgs))
    a.x, a.y, a.out = <const float*> x, <float*> y, <float*> out
    a.floats, a.iterations = floats, iterations
    return step
