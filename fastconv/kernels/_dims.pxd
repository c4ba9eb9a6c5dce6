# How dimensions come from Python into their structures.
from libc.stdint cimport int64_t

from fastconv.kernels._args_gather cimport Dims


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
