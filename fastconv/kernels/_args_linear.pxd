# include/fastconv/conv/args_linear.h, for the Cython families.
from libc.stdint cimport int64_t


cdef extern from "fastconv/conv/args_linear.h" nogil:
    ctypedef struct LinearArgs:
        const float* x
        const float* w
        const float* bias
        const float* residual
        float* y
        int64_t C, K, ldx, ldy, ldr, act
        double act_a, act_b
