# include/fastconv/matmul/args.h, for the Cython families.
from libc.stdint cimport int64_t


cdef extern from "fastconv/matmul/args.h" nogil:
    ctypedef struct MatmulArgs:
        const float* a
        const float* b
        const float* d
        float* c
        int64_t vary, dims
        int64_t* extent
        int64_t* a_step
        int64_t* b_step
        int64_t* c_step
        int64_t* d_step
        int64_t M, N, K, E
        int64_t a_row, a_column, b_row, b_column, c_row, c_column, d_row, d_column, a_sum, b_sum
        int64_t b_how, chunk, group, pack_a, stage, parts, part, c_part, part_outer, accumulate, act
        double alpha, beta, act_a, act_b
