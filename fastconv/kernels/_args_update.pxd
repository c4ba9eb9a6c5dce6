# include/fastconv/args_update.h, for the Cython families.
from libc.stdint cimport int64_t


cdef extern from "fastconv/args_update.h" nogil:
    const int64_t FC_ITEM_TILE

    ctypedef struct FcHyper:
        double lr, momentum, dampening, nesterov, weight_decay
        double beta1, beta2, eps, bias_correction1, bias_correction2_sqrt
        double first, grad_scale, max_norm, clip_value, total_norm

    ctypedef struct FcItem:
        float* p
        float* g
        float* s0
        float* s1
        int64_t count
        const FcHyper* hyper
        int64_t tile

    ctypedef struct ItemsArgs:
        const FcItem* items
        int64_t count, tiles
        double* part

    ctypedef struct ClipNormArgs:
        const double* part
        int64_t parts
        FcHyper** hypers
        int64_t count
