# include/fastconv/im2col/args.h, for the Cython families.
from libc.stdint cimport int64_t


cdef extern from "fastconv/im2col/args.h" nogil:
    ctypedef struct GemmArgs:
        int64_t n
        const float* a
        const float* b
        float* c
        int64_t M, N, K, a_row, a_column, b_row, b_column, ldc, accumulate

    ctypedef struct EpilogueArgs:
        int64_t n
        const float* x
        const float* bias
        const float* residual
        float* y
        int64_t rows, C, ldx, ldy, ldr, act
        double act_a, act_b
