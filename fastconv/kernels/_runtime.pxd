# What the kernel families need to make steps. One extension owns the kernel table; the others cimport this.
from libc.stdint cimport int32_t, int64_t, uint64_t


cdef extern from "fastconv/step.h" nogil:
    ctypedef struct FcKernel:
        const char* name
        int64_t (*tiles)(void* args, int64_t n) noexcept nogil
        void (*run)(const void* args, int64_t begin, int64_t end, void* scratch) noexcept nogil
        size_t (*scratch)(const void* args) noexcept nogil
    ctypedef struct FcStep:
        const FcKernel* kernel
        void* args
        int64_t tiles


cdef class Step:
    cdef FcStep c
    cdef size_t nbytes
    cdef list owned
    cdef public object guard
    cdef public int64_t images
    cdef void* bind(self, const FcKernel* kernel, size_t args_bytes) except NULL
    cdef void* bind_name(self, str name, size_t args_bytes) except NULL
    cdef int32_t* ints(self, object values) except NULL


cdef class Memory:
    cdef void* base
    cdef readonly size_t nbytes


cdef extern from "fastconv/team.h" nogil:
    ctypedef struct atomic_counter "std::atomic<int64_t>":
        pass
    ctypedef struct FcTeam:
        atomic_counter* next
        atomic_counter* done


cdef class StepList:
    cdef FcStep* steps
    cdef readonly Py_ssize_t count
    cdef list keep
    cdef readonly int64_t planned
    cdef readonly int64_t batch
    cdef Memory memory
    cdef size_t stride
    cdef int granted
    cdef int64_t widest
    cdef FcTeam team
    cdef object guard
    cpdef set_batch(self, int64_t n)
    cpdef run(self, int threads, Py_ssize_t begin=*, Py_ssize_t end=*)


cdef const FcKernel* find_kernel(str name) except NULL
