# include/fastconv/select/args.h, for the select family.
from libc.stdint cimport int64_t

from fastconv.kernels._args_gather cimport Dims


cdef extern from "fastconv/select/args.h" nogil:
    ctypedef struct SortArgs:
        const char* x
        char* values
        int64_t* indices
        Dims dims
        int64_t xs[8]
        int64_t vs[8]
        int64_t ns[8]
        int64_t length, xl, vl, il, dtype, what, count, k, descending

    ctypedef struct SearchArgs:
        const char* x
        const char* v
        const int64_t* sorter
        char* y
        Dims dims
        int64_t xs[8]
        int64_t vs[8]
        int64_t ys[8]
        int64_t ss[8]
        int64_t length, xl, sl, dtype, right, wide

    ctypedef struct NmsArgs:
        const float* boxes
        const float* scores
        const int64_t* classes
        int64_t* keep
        int64_t* kept
        int64_t count
        float threshold
