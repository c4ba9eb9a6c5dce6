# What calls need of slots.
from libc.stdint cimport int64_t

from fastconv.kernels._args_conv cimport FcSlot


cdef class Slot:
    cdef FcSlot slot
    cdef int ndim
    cdef int type
    cdef int size
    cdef int64_t shape[8]
    cdef bint batched
    cdef bint row_major
    cdef int64_t only
    cdef bint dense
    cdef bint last
    cdef int64_t rows[3]
    cpdef int64_t take(self, array, bint write) except -2
    cdef bint along(self, int64_t n) noexcept
    cdef bint lies(self, int64_t n) noexcept
    cpdef set(self, size_t address, int64_t n, int64_t c, int64_t d, int64_t h, int64_t w)
