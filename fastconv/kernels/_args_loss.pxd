# include/fastconv/loss/args.h, for the loss family.
from libc.stdint cimport int64_t


cdef extern from "fastconv/loss/args.h" nogil:
    ctypedef struct SoftmaxArgs:
        const float* x
        float* y
        const float* gy
        float* gx
        int64_t pixels, C, ldx, ldy, ldgy, ldgx

    ctypedef struct CrossEntropyArgs:
        const float* x
        const int64_t* target
        const float* weight
        float* loss
        float* kept
        double* part
        const float* gy
        int64_t gy_stride
        const float* norm
        float* gx
        int64_t pixels, C, ldx, ldgx, per_tile, ignore_index
        double smoothing
        const float* soft
        int64_t ldt, of_target

    ctypedef struct SquaredErrorArgs:
        const float* x
        const float* target
        float* loss
        double* part
        const float* gy
        const float* norm
        float* gx
        int64_t pixels, C, ldx, ldt, ldl, ldgy, ldgx, per_tile
        double factor

    ctypedef struct LossSumArgs:
        const double* part
        float* loss
        float* norm
        int64_t pixels, per_tile, mean
