# include/fastconv/winograd/args.h, for the Cython families.
from libc.stdint cimport int32_t, int64_t


cdef extern from "fastconv/winograd/args.h" nogil:
    ctypedef struct WinogradPixels:
        int64_t extent[3]
        int64_t step[3]
        int64_t image, ld

    ctypedef struct WinogradArgs:
        int64_t n
        const float* x
        const float* u
        const float* w
        const int32_t* bits
        int64_t bit_parts
        double share
        const float* bias
        const float* residual
        float* y
        const float* zeros
        WinogradPixels px, py
        int64_t ldr, G, C, K, R, mh, mw
        int64_t origin[3]
        int64_t tiles, blocks, chunk, act
        double act_a, act_b

    ctypedef struct WinogradWeightArgs:
        int64_t n
        const float* w
        float* u
        int32_t* bits
        int64_t G, C, K, R, mh, mw

    ctypedef struct WinogradGradientArgs:
        int64_t n
        const float* x
        const float* gy
        float* dw
        const float* zeros
        WinogradPixels px, py
        int64_t G, C, K, R, mh, mw
        int64_t origin[3]
        int64_t tiles, channels, blocks, parts, part_stride
        const int32_t* loud_x
        const int32_t* loud_y

    ctypedef struct EdgeArgs:
        int64_t n
        const float* x
        int64_t ld, C
        int64_t extent[3]
        int64_t low[3]
        int64_t high[3]
        int64_t step
        int32_t* loud
