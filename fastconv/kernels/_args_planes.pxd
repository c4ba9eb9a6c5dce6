# include/fastconv/planes/args.h, for planes.pyx. The base structures are written out flat.
from libc.stdint cimport int32_t, int64_t, uint16_t


cdef extern from "fastconv/planes/args.h" nogil:
    ctypedef struct SplitArgs:
        const float* x
        uint16_t* planes
        int64_t pixels, C, ldx, ldp, count, plane_stride

    ctypedef struct PlanePackArgs:
        float* flat
        const int32_t* taps
        int64_t G, K, C, T, crun, krun, sg, sk, sc, st, scrun, skrun
        uint16_t* out
        int64_t planes, row

    ctypedef struct PlaneConvArgs:
        const float* x
        const float* w
        const float* bias
        const float* residual
        float* y
        const float* zeros
        int64_t ldy, ldr, act
        double act_a, act_b
        int64_t planes, plane_stride
        uint16_t* split
        int64_t split_count, split_ldp, split_stride, split_alone

    ctypedef struct PlaneWeightArgs:
        const float* x
        const float* gy
        float* dw
        const float* zeros
        const int32_t* taps
        int64_t G, C, K, T, ldx, ldy, xD, xH, xW, iD, iH, iW, sd, sh, sw, parts, part_stride
        int64_t planes, x_plane_stride, gy_plane_stride
