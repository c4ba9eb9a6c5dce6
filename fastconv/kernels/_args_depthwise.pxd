# include/fastconv/depthwise/args.h, for the Cython families.
from libc.stdint cimport int64_t


cdef extern from "fastconv/depthwise/args.h" nogil:
    ctypedef struct DepthwiseArgs:
        int64_t n
        const float* x
        const float* w
        const float* bias
        const float* residual
        float* y
        const float* gy
        float* dw
        int64_t parts, part_stride
        int64_t G, C, K
        int64_t ldx, ldy, ldr
        int64_t xD, xH, xW, iD, iH, iW, kD, kH, kW
        int64_t sd, sh, sw, dd, dh, dw_, pd, ph, pw
        int64_t yD, yH, yW, od, oh, ow, odd, ohh, oww
        int64_t act
        double act_a, act_b
