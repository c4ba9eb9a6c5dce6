# cython: language_level=3, boundscheck=False
"""A kernel of fastconv's table, called from Cython: through a step, or by hand without the GIL.

The layout of the classes and structures cimported here belongs to one version of fastconv: build again for another.
"""

import numpy as np

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from fastconv.kernels._args_pool cimport PoolArgs
from fastconv.kernels._runtime cimport FcKernel, Step, find_kernel
from fastconv.kernels._runtime import StepList


cdef object fill(PoolArgs* a, const float[:, :, :, ::1] images, int size):
    """The arguments of a pooling with windows of size x size next to one another; the result's array."""
    cdef int64_t rows = images.shape[1] // size, columns = images.shape[2] // size
    if size < 1 or rows < 1 or columns < 1:
        raise ValueError(f"size={size} does not fit into images of {images.shape[1]} x {images.shape[2]}")
    out = np.empty((images.shape[0], rows, columns, images.shape[3]), np.float32)
    cdef float[:, :, :, ::1] y = out
    a.x = <float*> &images[0, 0, 0, 0]  # read only
    a.y = &y[0, 0, 0, 0]
    a.C = a.ldx = a.ldy = images.shape[3]
    a.xD = a.yD = a.kD = a.sD = a.dilD = a.dilH = a.dilW = 1
    a.xH, a.xW, a.yH, a.yW = images.shape[1], images.shape[2], rows, columns
    a.kH = a.kW = a.sH = a.sW = size
    return out


def max_pool(const float[:, :, :, ::1] images, int size, int threads=2):
    """(N, H, W, C) float32 to (N, H // size, W // size, C), on so many threads: fastconv hands out the tiles."""
    cdef Step step = Step()
    cdef PoolArgs* a = <PoolArgs*> step.bind_name("f32_maxpool", sizeof(PoolArgs))  # zeroed, lives as long as the step
    out = fill(a, images, size)
    StepList([step], images.shape[0]).run(threads)
    return out


def max_pool_serial(const float[:, :, :, ::1] images, int size):
    """The same on the calling thread, without the GIL and without a step: a kernel is three functions."""
    cdef PoolArgs a
    cdef const FcKernel* kernel = find_kernel("f32_maxpool")
    cdef int64_t n = images.shape[0]
    cdef void* scratch
    a.index, a.ldi = NULL, 0
    a.pD = a.pH = a.pW = a.qD = a.qH = a.qW = a.adaptive = a.include_pad = a.divisor = 0
    out = fill(&a, images, size)
    with nogil:
        n = kernel.tiles(&a, n)
        scratch = malloc(kernel.scratch(&a) + 64)
        if scratch != NULL:
            kernel.run(&a, 0, n, scratch)
            free(scratch)
    if scratch == NULL:
        raise MemoryError("no memory for the kernel's scratch")
    return out
