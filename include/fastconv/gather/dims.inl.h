// Walking over the rows of a problem of up to 8 dimensions: all but the last, in order.
#ifndef FASTCONV_DIMS_INL_H
#define FASTCONV_DIMS_INL_H

#include "fastconv/gather/args.h"
#include "fastconv/simd/vec.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE int64_t extent(const Dims& dims, int64_t n, int64_t d) {
    return d == dims.batch ? n * dims.per_image : dims.shape[d];
}

// Elements of the dimensions [begin, end).
FC_INLINE int64_t elements(const Dims& dims, int64_t n, int64_t begin, int64_t end) {
    int64_t count = 1;
    for (int64_t d = begin; d < end; ++d) count *= extent(dims, n, d);
    return count;
}

template <class T>
FC_INLINE bool is_nan(T v) {
    return v != v;
}

// A position in the dimensions [begin, end), and the offsets there of `operands` operands, given by their strides.
struct Walk {
    int begin, end, operands;
    int64_t shape[8], at[8], offset[10];
    const int64_t* strides[10];

    FC_INLINE Walk(const Dims& dims, int64_t n, int64_t b, int64_t e)
        : begin(static_cast<int>(b)), end(static_cast<int>(e)), operands(0) {
        for (int d = begin; d < end; ++d) shape[d] = extent(dims, n, d);
    }
    FC_INLINE void add(const int64_t* s, int64_t from = 0) {
        offset[operands] = from;
        strides[operands++] = s;
    }
    // To the element of this number, from the first.
    FC_NOINLINE void go(int64_t number) {
        for (int d = end - 1; d >= begin; --d) {
            at[d] = number % shape[d];
            number /= shape[d];
            for (int i = 0; i < operands; ++i) offset[i] += at[d] * strides[i][d];
        }
    }
    // How many rows follow in the last dimension, this one included; and to the one behind `by` of them.
    FC_INLINE int64_t left() const { return begin < end ? shape[end - 1] - at[end - 1] : 1; }
    FC_INLINE void skip(int64_t by) {
        if (by > 1) {
            at[end - 1] += by - 1;
            for (int i = 0; i < operands; ++i) offset[i] += (by - 1) * strides[i][end - 1];
        }
        next();
    }
    FC_NOINLINE void next() {
        for (int d = end - 1; d >= begin; --d) {
            for (int i = 0; i < operands; ++i) offset[i] += strides[i][d];
            if (++at[d] < shape[d]) return;
            at[d] = 0;
            for (int i = 0; i < operands; ++i) offset[i] -= shape[d] * strides[i][d];
        }
    }
};

}  // namespace
}  // namespace
#endif
