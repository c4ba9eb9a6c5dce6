from libc.stdint cimport int64_t

from fastconv.kernels._args cimport FcSlot


cdef extern from "fastconv/copy/args.h" nogil:
    ctypedef struct CopyArgs:
        const void* x
        void* y
        const FcSlot* slot
        int64_t out, dims, batched
        int64_t extent[8]
        int64_t sx[8]
        int64_t sy[8]
        # "from" is a word of Python's
        int64_t source "from"
        int64_t to
