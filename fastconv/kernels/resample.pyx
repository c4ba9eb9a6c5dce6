# cython: language_level=3
"""Steps of resampling by lists (taps.py)."""

from libc.stdint cimport int32_t, int64_t

import numpy as np

from fastconv.kernels._args_resample cimport ResampleArgs, ResampleAxis, ResampleBlock, RoiArgs, SampleArgs
from fastconv.kernels._runtime cimport Memory, Step

from fastconv.kernels.taps import Dim, parts, rows


cdef const void* kept(Step step, array) except? NULL:
    """A copy of an array that lives as long as the step; null for None."""
    if array is None:
        return NULL
    cdef Memory memory = Memory(array.nbytes + 64)
    np.frombuffer(memory, np.uint8)[:array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    step.keep(memory)
    return memory.base


cdef int fill_axis(Step step, ResampleAxis* axis, dim) except -1:
    axis.size, axis.xs, axis.ys = dim.size, dim.xs, dim.ys
    if dim.taps is not None:
        axis.start = <const int32_t*> kept(step, dim.taps.start)
        axis.index = <const int32_t*> kept(step, dim.taps.source)
        axis.weight = <const float*> kept(step, dim.taps.weight)
    return 0


def resample(*, tuple x, tuple y, shape, dict axes, bint batched=False, fill=0.0) -> Step:
    """y from x of this ``shape``: along each dimension of ``axes`` its Taps make the coordinates of y; a value for which one
    of the lists is empty is ``fill``. Operands are (address, strides in elements, dtype), dtype float32 or uint8."""
    cdef Step step = Step()
    cdef ResampleArgs* a = <ResampleArgs*> step.bind_name("resample", sizeof(ResampleArgs))
    a.x, a.y = <const void*> <size_t> x[0], <void*> <size_t> y[0]
    a.x_u8, a.y_u8, a.batched, a.fill = x[2] == "uint8", y[2] == "uint8", batched, fill
    plan = rows(shape, x[1], y[1], axes, batched)
    if len(plan.outer) > 8:
        raise ValueError(f"resample: {len(shape)} dimensions cannot be read row by row")
    row = plan.row
    nothing = any([dim.size == 0 for dim in plan.outer[batched:]]) or row.size == 0 or plan.channels == 0
    a.outer, a.C, a.most = len(plan.outer), plan.channels, plan.most
    for i, dim in enumerate(plan.outer):
        fill_axis(step, &a.axis[i], dim)
    fill_axis(step, &a.row, row)
    if nothing:
        a.row.size, a.parts, a.step = 0, 0, 1
        return step
    cut = parts(row, plan.channels, fill)
    a.xW, a.step, a.parts = row.extent, min(cut.step, row.size), len(cut.low)
    a.low, a.high = step.ints(cut.low), step.ints(cut.high)
    a.fused = row.taps is not None and plan.most * row.taps.most <= 4 and 2 * row.extent >= row.size
    a.span = max([h - b for b, h in zip(cut.low, cut.high)])
    a.blocks = <const ResampleBlock*> kept(step, cut.blocks)
    a.lanes = <const int32_t*> kept(step, cut.lanes)
    a.weights, a.empty = <const float*> kept(step, cut.weights), <const float*> kept(step, cut.empty)
    return step


# ---- coordinates --------------------------------------------------------------------------------------------------------

SAMPLE_MODES = ("bilinear", "nearest", "bicubic")
SAMPLE_PADDINGS = ("zeros", "border", "reflection")


cdef void strides5(int64_t* to, strides):
    """N, C, D, H, W of (N, C, H, W) or (N, C, D, H, W)."""
    values = [*strides[:2], *([0] * (5 - len(strides))), *strides[2:]]
    for i in range(5):
        to[i] = values[i]


cdef void grid_strides(int64_t* to, strides):
    """N, D, H, W, coordinate of a grid."""
    values = [strides[0], *([0] * (5 - len(strides))), *strides[1:]]
    for i in range(5):
        to[i] = values[i]


cdef SampleArgs* sampled(Step step, str kernel, x, y, grid, shape, size, str mode, str padding_mode, align_corners, batched):
    cdef SampleArgs* a = <SampleArgs*> step.bind_name(kernel, sizeof(SampleArgs))
    a.x, a.y, a.grid = <float*> <size_t> x[0], <float*> <size_t> y[0], <const float*> <size_t> grid[0]
    a.N, a.C, a.dims, a.batched, a.align = shape[0], shape[1], len(size), batched, align_corners
    a.mode, a.padding = SAMPLE_MODES.index(mode), SAMPLE_PADDINGS.index(padding_mode)
    a.xD, a.xH, a.xW = [1] * (3 - len(size)) + list(shape[2:])
    a.yD, a.yH, a.yW = [1] * (3 - len(size)) + list(size)
    strides5(a.xs, x[1])
    strides5(a.ys, y[1])
    grid_strides(a.gs, grid[1])
    return a


def grid_sample(*, tuple x, tuple y, tuple grid, shape, size, mode="bilinear", padding_mode="zeros", align_corners=False,
                batched=False) -> Step:
    """y (N, C, *size) from x of this ``shape``, (N, C, spatial), at the coordinates of grid (N, *size, dims); float32."""
    cdef Step step = Step()
    sampled(step, "grid_sample", x, y, grid, shape, size, mode, padding_mode, align_corners, batched)
    return step


def grid_sample_backward_data(*, tuple gx, tuple gy, tuple grid, shape, size, mode="bilinear", padding_mode="zeros",
                              align_corners=False, batched=False) -> Step:
    """Writes all of gx."""
    cdef Step step = Step()
    sampled(step, "grid_sample_backward_data", gx, gy, grid, shape, size, mode, padding_mode, align_corners, batched)
    return step


def grid_sample_backward_grid(*, tuple x, tuple gy, tuple grid, tuple ggrid, shape, size, mode="bilinear", padding_mode="zeros",
                              align_corners=False, batched=False) -> Step:
    """Writes all of ggrid."""
    cdef Step step = Step()
    cdef SampleArgs* a = sampled(step, "grid_sample_backward_grid", x, gy, grid, shape, size, mode, padding_mode, align_corners,
                                 batched)
    a.ggrid = <float*> <size_t> ggrid[0]
    grid_strides(a.ggs, ggrid[1])
    return step


cdef RoiArgs* region(Step step, str kernel, x, y, rois, shape, count, size, scale, batched):
    cdef RoiArgs* a = <RoiArgs*> step.bind_name(kernel, sizeof(RoiArgs))
    a.x, a.y, a.rois = <float*> <size_t> x[0], <float*> <size_t> y[0], <const float*> <size_t> rois[0]
    a.N, a.C, a.xH, a.xW = shape
    a.K, a.batched, a.scale = count, batched, scale
    a.yH, a.yW = size
    a.rs[0], a.rs[1] = rois[1]
    for i in range(4):
        a.xs[i], a.ys[i] = x[1][i], y[1][i]
    return a


def roi_align(*, tuple x, tuple y, tuple rois, shape, count, size, scale=1.0, samples=-1, aligned=False, mode="avg",
              batched=False) -> Step:
    """y (count, C, *size) from x of this ``shape`` (N, C, H, W); rois (count, 5). mode "avg" or "max"."""
    cdef Step step = Step()
    cdef RoiArgs* a = region(step, "roi_align", x, y, rois, shape, count, size, scale, batched)
    a.samples, a.aligned, a.mode = samples, aligned, mode == "max"
    return step


def roi_align_backward(*, tuple gx, tuple gy, tuple rois, shape, count, size, scale=1.0, samples=-1, aligned=False,
                       batched=False) -> Step:
    """Writes all of gx, for averages."""
    cdef Step step = Step()
    cdef RoiArgs* a = region(step, "roi_align_backward", gx, gy, rois, shape, count, size, scale, batched)
    a.samples, a.aligned = samples, aligned
    return step


def roi_pool(*, tuple x, tuple y, tuple rois, shape, count, size, scale=1.0, batched=False) -> Step:
    """y (count, C, *size): maxima of whole pixels."""
    cdef Step step = Step()
    region(step, "roi_pool", x, y, rois, shape, count, size, scale, batched)
    return step


def roi_pool_backward(*, tuple gx, tuple gy, tuple x, tuple rois, shape, count, size, scale=1.0, batched=False) -> Step:
    """Writes all of gx: each gradient goes to the first of the largest pixels of its bin in x."""
    cdef Step step = Step()
    cdef RoiArgs* a = region(step, "roi_pool_backward", gx, gy, rois, shape, count, size, scale, batched)
    a.features = <const float*> <size_t> x[0]
    for i in range(4):
        a.fs[i] = x[1][i]
    return step
