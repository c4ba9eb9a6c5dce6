# include/fastconv/resample/args.h, for the Cython families.
from libc.stdint cimport int32_t, int64_t


cdef extern from "fastconv/resample/args.h" nogil:
    ctypedef struct ResampleAxis:
        int64_t size, xs, ys
        const int32_t* start
        const int32_t* index
        const float* weight

    ctypedef struct ResampleBlock:
        int32_t base, taps, kind, use
        int64_t at

    ctypedef struct ResampleArgs:
        const void* x
        void* y
        ResampleAxis axis[8]
        ResampleAxis row
        int64_t outer, batched, most
        int64_t C, xW, step, parts, span
        const int32_t* low
        const int32_t* high
        const ResampleBlock* blocks
        const int32_t* lanes
        const float* weights
        const float* empty
        int64_t x_u8, y_u8, fused
        double fill

    ctypedef struct SampleArgs:
        float* x
        float* y
        const float* grid
        float* ggrid
        int64_t C, dims, mode, padding, align, N, batched
        int64_t xD, xH, xW, yD, yH, yW
        int64_t xs[5]
        int64_t ys[5]
        int64_t gs[5]
        int64_t ggs[5]

    ctypedef struct RoiArgs:
        float* x
        float* y
        const float* rois
        const float* features
        int64_t N, batched, K, C, xH, xW, yH, yW
        int64_t xs[4]
        int64_t ys[4]
        int64_t fs[4]
        int64_t rs[2]
        int64_t samples, aligned, mode
        double scale
