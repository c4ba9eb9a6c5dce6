# include/fastconv/elementwise/args.h, for the elementwise family.
from libc.stdint cimport int64_t, uint64_t


cdef extern from "fastconv/elementwise/args.h" nogil:
    ctypedef struct MapArgs:
        const float* x
        const float* z
        float* y
        int64_t fixed_n, pixels, C, ldx, ldz, ldy
        double a, b

    ctypedef struct FcStride:
        int64_t image, pixel, channel

    ctypedef struct BroadcastArgs:
        const float* x
        const float* z
        float* y
        FcStride sx, sz
        int64_t fixed_n, pixels, C, ldy
        double alpha

    ctypedef struct SumArgs:
        const float* x
        const float* z
        float* y
        FcStride sx, sz
        int64_t fixed_n, pixels, C, ldy, parts, per_part, keep_images, keep_pixels, keep_channels

    ctypedef struct FcRandomState:
        uint64_t seed, offset

    ctypedef struct DropoutArgs:
        const float* x
        float* y
        const FcRandomState* state
        int64_t pixels, C, ldx, ldy, stream
        double p

    ctypedef struct DrawArgs:
        FcRandomState* source
        FcRandomState* state
