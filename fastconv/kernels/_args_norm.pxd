# include/fastconv/norm/args.h, for the Cython families.
from libc.stdint cimport int64_t


cdef extern from "fastconv/norm/args.h" nogil:
    ctypedef struct NormStatisticsArgs:
        const float* x
        double* part
        int64_t pixels, C, ld, per_part

    ctypedef struct NormMergeArgs:
        const double* part
        const float* gamma
        const float* beta
        float* running_mean
        float* running_var
        const int64_t* batches
        float* stats
        int64_t pixels, C, per_part
        double eps, momentum

    ctypedef struct NormApplyArgs:
        const float* x
        const float* stats
        const float* residual
        float* y
        int64_t* batches
        int64_t pixels, C, ldx, ldy, ldr, act
        double act_a, act_b

    ctypedef struct NormBackwardArgs:
        const float* x
        const float* gy
        const float* stats
        double* part
        float* coef
        float* ggamma
        float* gbeta
        float* gx
        int64_t pixels, C, ldx, ldg, ldgx, per_part, training, act
        double act_a, act_b

    ctypedef struct RowNormArgs:
        const float* x
        const float* gy
        const float* weight
        const float* bias
        float* y
        float* mean
        float* rstd
        float* part
        float* gweight
        float* gbias
        int64_t rows, C, ldx, ldg, ldy, per_part, centred
        double eps
