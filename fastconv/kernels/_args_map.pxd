# include/fastconv/map/args.h, for the map family.
from libc.stdint cimport int32_t, int64_t


cdef extern from "fastconv/map/args.h" nogil:
    ctypedef struct FcOperand:
        void* data
        int64_t element, stream, direct
        int64_t* strides

    ctypedef struct FcInstruction:
        int32_t op, to, chain, slot
        int32_t* of

    ctypedef struct ProgramArgs:
        const FcOperand* operands
        const FcInstruction* code
        const float* constants
        int64_t inputs, outputs, instructions, constant_count, values, batched, rank, block, turned, fold
        int64_t* extents
        const int64_t* integers
        int64_t* zero
