# include/fastconv/fft/args.h, for the Cython families.
from libc.stdint cimport int32_t, int64_t


cdef extern from "fastconv/fft/args.h" nogil:
    const int FC_FFT_PASSES

    ctypedef struct FftAxis:
        int64_t size, tile, tiles, span
        int64_t extent_in "in"
        int64_t in_step, out, out_step, low, taps, dilation, tap_step, passes
        int32_t radix[12]
        const float* twiddle
        const float* split

    ctypedef struct FftArgs:
        int64_t n
        FftAxis axis[3]
        int64_t G, C, K, depthwise
        const float* x
        int64_t ldx, x_image
        float* y
        int64_t ldy, y_image
        const float* gy
        const float* w
        float* dw
        int64_t sg, sk, sc
        float* packed
        float* xs
        float* ys
        int64_t xs_pitch, ys_pitch, first, count, add, parts, part_stride
        const float* direct
        const float* zeros
        int32_t* bits
        int64_t bit_parts
        int32_t* note
        const int32_t* loud_x
        const int32_t* loud_y
        int64_t groups
        double share, scale
        const float* bias
        const float* residual
        int64_t ldr, act
        double act_a, act_b
