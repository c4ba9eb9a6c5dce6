# include/fastconv/update/args.h, for the Cython families.
from libc.stdint cimport int64_t


cdef extern from "fastconv/update/args.h" nogil:
    const int64_t FC_ITEM_TILE
    const int FC_SCALARS, FC_STATES, FC_TEMPORARIES

    ctypedef struct FcHyper:
        double lr, momentum, dampening, nesterov, weight_decay
        double beta1, beta2, eps, bias_correction1, bias_correction2_sqrt
        double first, grad_scale, sign, max_norm, clip_value, total_norm, ratio
        double k[16]

    enum FcInstruction:
        FC_WHEN, FC_GRADIENT, FC_SCALE, FC_AXPY, FC_LERP, FC_MUL, FC_DIV, FC_ADDCMUL, FC_ADDCDIV, FC_ROOT, FC_SHIFT
        FC_MAX, FC_ABS, FC_SIGN, FC_CHOOSE, FC_CLAMP, FC_KEEP, FC_FILL

    ctypedef struct FcOp:
        int op, d, a, b, k, j

    ctypedef struct FcItem:
        float* p
        float* g
        float* s0
        float* s1
        float* s2
        float* s3
        int64_t count
        const FcHyper* hyper
        int64_t tile

    ctypedef struct ItemsArgs:
        const FcItem* items
        int64_t count, tiles
        double* part
        const FcOp* ops
        int64_t op_count

    ctypedef struct ClipNormArgs:
        const double* part
        int64_t parts
        FcHyper** hypers
        int64_t count

    ctypedef struct FcRatio:
        const double* w
        const double* u
        int64_t w_parts, u_parts
        FcHyper** hypers
        int64_t count

    ctypedef struct RatioArgs:
        const FcRatio* ratios
        int64_t count, factor, decay, eps, scaled
