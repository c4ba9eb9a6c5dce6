# include/fastconv/reduce/args.h, for the reduce family.
from libc.stdint cimport int64_t


cdef extern from "fastconv/reduce/args.h" nogil:
    ctypedef struct FcAxis:
        int64_t extent, per_image, x, z, y, y2

    ctypedef struct ReduceArgs:
        const void* x
        const void* z
        void* y
        void* y2
        float* part
        int64_t parts, per_part, lanes, pack, spread, order, reduction, before, finish, dtype_x, dtype_z, kept_rank, reduced_rank
        FcAxis kept[8]
        FcAxis reduced[8]
        double p, correction, eps, count


cdef extern from "fastconv/reduce/args_scan.h" nogil:
    ctypedef struct ScanArgs:
        const void* x
        float* y
        int64_t* y2
        int64_t scan, dtype_x, backwards, kept_rank
        FcAxis along
        FcAxis kept[8]
