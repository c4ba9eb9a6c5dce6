# The arguments of many problems in one step; their meaning is in the header.
from libc.stdint cimport int64_t

from fastconv.kernels._runtime cimport FcStep


cdef extern from "fastconv/conv/args_many.h" nogil:
    ctypedef struct ManyArgs:
        const FcStep* steps
        int64_t* ends
        int64_t count
