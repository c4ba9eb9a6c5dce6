// Whole numbers of any dtype as int64, and back.
#ifndef FASTCONV_INTEGERS_INL_H
#define FASTCONV_INTEGERS_INL_H

#include "fastconv/simd/vec.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kWholeRun = 512;  // elements that are widened at a time

FC_INLINE int64_t distance(int64_t stride) { return stride < 0 ? -stride : stride; }

constexpr int64_t kInt64 = 1, kInt32 = 2, kUint8 = 3, kInt8 = 4;  // as FcElement of map/args.h and reduce/args.h

FC_INLINE int64_t wrapped_add(int64_t x, int64_t z) {
    return static_cast<int64_t>(static_cast<uint64_t>(x) + static_cast<uint64_t>(z));
}
FC_INLINE int64_t wrapped_mul(int64_t x, int64_t z) {
    return static_cast<int64_t>(static_cast<uint64_t>(x) * static_cast<uint64_t>(z));
}
FC_INLINE int64_t wrapped_neg(int64_t x) { return static_cast<int64_t>(0 - static_cast<uint64_t>(x)); }

template <class T>
FC_INLINE void widen(const void* data, int64_t offset, int64_t stride, int64_t count, int64_t* y) {
    const T* p = static_cast<const T*>(data) + offset;
    if (stride == 1) {
        for (int64_t i = 0; i < count; ++i) y[i] = p[i];
    } else {
        for (int64_t i = 0; i < count; ++i) y[i] = p[i * stride];
    }
}

// `count` elements from `offset` on, `stride` apart.
FC_NOINLINE void load_integers(const void* data, int64_t element, int64_t offset, int64_t stride, int64_t count, int64_t* y) {
    switch (element) {
        case kInt64: return widen<int64_t>(data, offset, stride, count, y);
        case kInt32: return widen<int32_t>(data, offset, stride, count, y);
        case kInt8: return widen<int8_t>(data, offset, stride, count, y);
        default: return widen<uint8_t>(data, offset, stride, count, y);
    }
}

template <class T>
FC_INLINE void narrow(const int64_t* x, int64_t count, void* data, int64_t offset, int64_t stride) {
    T* p = static_cast<T*>(data) + offset;
    if (stride == 1) {
        for (int64_t i = 0; i < count; ++i) p[i] = static_cast<T>(x[i]);
    } else {
        for (int64_t i = 0; i < count; ++i) p[i * stride] = static_cast<T>(x[i]);
    }
}

FC_INLINE void narrow_truth(const int64_t* x, int64_t count, uint8_t* p, int64_t stride) {
    if (stride == 1) {
        for (int64_t i = 0; i < count; ++i) p[i] = x[i] != 0;
    } else {
        for (int64_t i = 0; i < count; ++i) p[i * stride] = x[i] != 0;
    }
}

// The low bits of each; of truths whether it is not 0.
FC_NOINLINE void store_integers(const int64_t* x, int64_t count, void* data, int64_t element, int64_t offset, int64_t stride) {
    switch (element) {
        case kInt64: return narrow<int64_t>(x, count, data, offset, stride);
        case kInt32: return narrow<int32_t>(x, count, data, offset, stride);
        case kInt8: return narrow<int8_t>(x, count, data, offset, stride);
        case kUint8: return narrow<uint8_t>(x, count, data, offset, stride);
        default: return narrow_truth(x, count, static_cast<uint8_t*>(data) + offset, stride);
    }
}

}  // namespace
}  // namespace
#endif
