# include/fastconv/augment/args.h, for the Cython families.
from libc.stdint cimport int64_t


cdef extern from "fastconv/augment/args.h" nogil:
    ctypedef struct AugmentArgs:
        const void* x
        void* y
        const float* program
        const int64_t* start
        int64_t C, H, W, oH, oW
        int64_t xs[4]
        int64_t ys[4]
        int64_t x_u8, y_u8, room, lines
