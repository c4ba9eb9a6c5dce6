# include/fastconv/pool/args.h, for the Cython families.
from libc.stdint cimport int64_t


cdef extern from "fastconv/pool/args.h" nogil:
    ctypedef struct PoolArgs:
        float* x
        float* y
        void* index
        int64_t C, ldx, ldy, ldi
        int64_t xD, xH, xW, yD, yH, yW
        int64_t kD, kH, kW, sD, sH, sW, dilD, dilH, dilW
        int64_t pD, pH, pW, qD, qH, qW
        int64_t adaptive, include_pad, divisor
