# include/fastconv/conv/args.h, for the Cython families.
from libc.stdint cimport int32_t, int64_t


cdef extern from "fastconv/conv/args.h" nogil:
    ctypedef struct FcSlot:
        void* data
        int64_t stride[5]

    ctypedef struct DoorArgs:
        const FcSlot* slot
        float* buffer
        int64_t C, D, H, W, ld, pd, ph, pw, BD, BH, BW

    ctypedef struct PackArgs:
        float* flat
        float* packed
        const int32_t* taps
        int64_t G, K, C, T, crun, krun, sg, sk, sc, st, scrun, skrun, block, parts, part_stride

    ctypedef struct FoldArgs:
        const float* w
        const float* bias
        const float* gamma
        const float* beta
        const float* mean
        const float* var
        float* w_out
        float* bias_out
        int64_t filters, per_filter, groups, outer
        double eps

    ctypedef struct ConvArgs:
        int64_t n
        const float* x
        const float* w
        const float* bias
        const float* residual
        float* y
        const float* zeros
        const int32_t* taps
        int64_t G, C, K, T, ldx, ldy, ldr, xD, xH, xW, iD, iH, iW, sd, sh, sw, yD, yH, yW
        int64_t od, oh, ow, odd, ohh, oww, multiplier, act
        double act_a, act_b
        float* panel
        int64_t panel_begin, panel_end

    ctypedef struct ConvWeightArgs:
        const float* x
        const float* gy
        float* dw
        const float* zeros
        const int32_t* taps
        int64_t G, C, K, T, ldx, ldy, xD, xH, xW, iD, iH, iW, sd, sh, sw, parts, part_stride, multiplier
        int64_t swapped

    ctypedef struct PartialArgs:
        const float* part
        float* out
        int64_t parts, part_stride, count

    ctypedef struct PeakArgs:
        float* out
        int64_t iterations
        double a, b
