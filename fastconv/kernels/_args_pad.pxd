# include/fastconv/layout/args_pad.h, for the Cython families.
from libc.stdint cimport int32_t, int64_t


cdef extern from "fastconv/layout/args_pad.h" nogil:
    ctypedef struct PadArgs:
        float* x
        float* y
        const int32_t* d
        const int32_t* h
        const int32_t* w
        const int32_t* start_d
        const int32_t* start_h
        const int32_t* start_w
        int64_t X, Y, C, cx, cy, ldx, ldy, xD, xH, xW, yD, yH, yW
        double value
