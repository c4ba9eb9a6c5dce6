# include/fastconv/gather/args.h, for the gather and select families.
from libc.stdint cimport int64_t


cdef extern from "fastconv/gather/args.h" nogil:
    ctypedef struct Dims:
        int64_t rank, batch, per_image
        int64_t shape[8]

    ctypedef struct IndexOperand:
        const void* data
        int64_t strides[8]
        int64_t extent, step
        int64_t wide, wrap
        int64_t* bad

    ctypedef struct GatherArgs:
        const char* x
        char* y
        Dims dims
        int64_t xs[8]
        int64_t ys[8]
        int64_t count
        IndexOperand index[8]
        int64_t dtype, rows, op, free, inner_free, ranges, piece, skip, skips


cdef inline int fill(Dims* target, object given, int64_t** operands) except -1:
    """The dimensions, and the strides of each operand."""
    cdef int d, k
    target.rank, target.batch, target.per_image = len(given), -1, 0
    for d in range(len(given)):
        dim = given[d]
        target.shape[d] = dim.extent
        if dim.per_image:
            target.batch, target.per_image = d, dim.per_image
        for k in range(len(dim.strides)):
            operands[k][d] = dim.strides[k]
    return 0
