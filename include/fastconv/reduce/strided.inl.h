// Strided operands of any element type: where the elements of a list of axes lie, and copies of them as floats.
#ifndef FASTCONV_STRIDED_INL_H
#define FASTCONV_STRIDED_INL_H

#include "fastconv/reduce/args.h"
#include "fastconv/simd/transpose.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE int64_t extent(const FcAxis& axis, int64_t n) { return axis.per_image ? n * axis.per_image : axis.extent; }
FC_INLINE int64_t product(const FcAxis* axes, int64_t rank, int64_t n) {
    int64_t total = 1;
    for (int64_t i = 0; i < rank; ++i) total *= extent(axes[i], n);
    return total;
}
FC_INLINE int64_t element_size(int64_t dtype) { return dtype == FC_INT64 ? 8 : dtype == FC_FLOAT32 || dtype == FC_INT32 ? 4 : 1; }

// The elements of some axes one after the other, the last axis fastest: their offsets.
struct Walk {
    const FcAxis* axes;
    int64_t rank, n, x = 0, z = 0, y = 0, y2 = 0;
    int64_t index[FC_AXES];

    FC_NOINLINE Walk(const FcAxis* axes_, int64_t rank_, int64_t n_, int64_t position) : axes(axes_), rank(rank_), n(n_) {
        for (int64_t i = rank - 1; i >= 0; --i) {
            const int64_t e = extent(axes[i], n);
            index[i] = i && e ? position % e : position;
            position = i && e ? position / e : 0;
            move(i, index[i]);
        }
    }
    FC_INLINE void move(int64_t i, int64_t by) {
        x += by * axes[i].x, z += by * axes[i].z, y += by * axes[i].y, y2 += by * axes[i].y2;
    }
    // How many elements follow at the inner strides, this one included.
    FC_INLINE int64_t left() const { return extent(axes[rank - 1], n) - index[rank - 1]; }
    FC_INLINE void advance(int64_t by) {  // by <= left()
        index[rank - 1] += by;
        move(rank - 1, by);
        if (index[rank - 1] == extent(axes[rank - 1], n)) carry();
    }
    FC_NOINLINE void carry() {
        for (int64_t i = rank - 1; i > 0 && index[i] == extent(axes[i], n); --i) {
            move(i, -index[i]);
            index[i] = 0;
            ++index[i - 1];
            move(i - 1, 1);
        }
    }
};

template <class T>
FC_INLINE void convert(const char* p, int64_t stride, int64_t count, float* out) {
    const T* x = reinterpret_cast<const T*>(p);
    if (stride == 1) {
        for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(x[i]);
    } else {
#pragma GCC unroll 4
        for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(x[i * stride]);
    }
}

// `count` elements, `stride` apart, as floats.
FC_NOINLINE void as_floats(const char* p, int64_t dtype, int64_t stride, int64_t count, float* out) {
    switch (dtype) {
        case FC_FLOAT32: return convert<float>(p, stride, count, out);
        case FC_INT64: return convert<int64_t>(p, stride, count, out);
        case FC_INT32: return convert<int32_t>(p, stride, count, out);
        case FC_INT8: return convert<int8_t>(p, stride, count, out);
        default: return convert<uint8_t>(p, stride, count, out);
    }
}

FC_INLINE void from_floats(const float* x, int64_t count, float* y, int64_t stride) {
    for (int64_t i = 0; i < count; ++i) y[i * stride] = x[i];
}

// rows[j][c] = x[c * stride + j] for n <= 16 values of j: read along j, W of it and W of c at a time turned in registers.
FC_NOINLINE void turned_floats(const float* x, int64_t stride, int64_t lanes, int64_t n, float* rows, int64_t ld) {
    for (int64_t j = 0; j < n; j += kWidth) {
        const int width = static_cast<int>(min64(kWidth, n - j));
        for (int64_t c = 0; c < lanes; c += kWidth) {  // ld leaves room for whole vectors
            const int many = static_cast<int>(min64(kWidth, lanes - c));
            Vf<kWidth> v[kWidth];
            for (int i = 0; i < kWidth; ++i) v[i] = load_n<kWidth>(x + (c + min64(i, many - 1)) * stride + j, width);
            transpose<kWidth>(v);
            for (int i = 0; i < width; ++i) store<kWidth>(rows + (j + i) * ld + c, v[i]);
        }
    }
}

// x^p as PyTorch has it.
FC_INLINE float power(float x, double p) { return static_cast<float>(__builtin_pow(static_cast<double>(x), p)); }

// x = f(x), f one of FcBefore but FC_PLAIN, at n floats.
FC_NOINLINE void change(float* x, int64_t n, int what, double p) {
    typedef Vf<kWidth> V;
    if (what == FC_POWER) {
        for (int64_t i = 0; i < n; ++i) x[i] = power(__builtin_fabsf(x[i]), p);
        return;
    }
    for (int64_t i = 0; i < n; i += kWidth) {
        const int left = static_cast<int>(min64(kWidth, n - i));
        const V v = load_n<kWidth>(x + i, left), one = splat<kWidth>(1.0f);
        V y = (V)((Vu<kWidth>)v & 0x7fffffffu);
        if (what == FC_NONZERO) y = v == V{} ? V{} : one;
        if (what == FC_NAN_TO_ZERO) y = v == v ? v : V{};
        if (what == FC_NUMBER) y = v == v ? one : V{};
        store_n<kWidth>(x + i, y, left);
    }
}

}  // namespace
}  // namespace
#endif
