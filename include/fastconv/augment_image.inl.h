// An image between two steps of augmentation: floats, pixels of P values: 1 channel, 4 for two to four of them, else as many.
#ifndef FASTCONV_AUGMENT_IMAGE_INL_H
#define FASTCONV_AUGMENT_IMAGE_INL_H

#include "fastconv/vec.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

struct Image {
    float* data;
    int64_t H, W, C, P;
    float top;
    bool whole;  // values are whole numbers

    FC_INLINE int64_t values() const { return H * W * P; }
    FC_INLINE float* row(int64_t h) const { return data + h * W * P; }
};

FC_INLINE int64_t augment_pitch(int64_t C) { return C == 1 ? 1 : C <= 4 ? 4 : C; }

// v, towards zero.
template <int N>
FC_INLINE Vf<N> truncated(Vf<N> v) {
    return __builtin_convertvector(__builtin_convertvector(v, Vi<N>), Vf<N>);
}
template <int N>
FC_INLINE Vf<N> within(Vf<N> v, float top) {
    return vmin<N>(vmax<N>(v, splat<N>(0.0f)), splat<N>(top));
}
// Where values are whole numbers, those that an operation gives are cut off, as a conversion does.
template <int N>
FC_INLINE Vf<N> settled(Vf<N> v, float top, bool whole) {
    const Vf<N> w = within<N>(v, top);
    return whole ? truncated<N>(w) : w;
}
FC_INLINE float settled1(float v, float top, bool whole) {
    v = v > 0 ? (v < top ? v : top) : 0.0f;
    return whole ? static_cast<float>(static_cast<int32_t>(v)) : v;
}

// f(values) for all vectors of an image; what is behind its end is there, and written.
template <typename F>
FC_INLINE void each_vector(const Image& m, F f) {
    for (int64_t i = 0; i < m.values(); i += kWidth) store<kWidth>(m.data + i, f(load<kWidth>(m.data + i)));
}

template <typename T>
FC_NOINLINE void read_image(const Image& m, const T* x, const int64_t* s) {
    for (int64_t h = 0; h < m.H; ++h) {
        float* to = m.row(h);
        const T* row = x + h * s[2];
        if (m.P == 4 && m.C == 3 && s[1] == 1) {
            for (int64_t w = 0; w < m.W; ++w, row += s[3], to += 4) {
                const Vf<4> v = {static_cast<float>(row[0]), static_cast<float>(row[1]), static_cast<float>(row[2]), 0.0f};
                store<4>(to, v);
            }
        } else if (m.P == 4) {
            const int64_t last = m.C - 1, c2 = last < 2 ? last : 2, c3 = last < 3 ? last : 3;
            for (int64_t w = 0; w < m.W; ++w, row += s[3], to += 4) {
                const Vf<4> v = {static_cast<float>(row[0]), static_cast<float>(row[s[1]]), static_cast<float>(row[c2 * s[1]]),
                                 static_cast<float>(row[c3 * s[1]])};
                store<4>(to, v);
            }
        } else {
            for (int64_t w = 0; w < m.W; ++w)
                for (int64_t c = 0; c < m.C; ++c) to[w * m.P + c] = static_cast<float>(row[w * s[3] + c * s[1]]);
        }
    }
}

FC_INLINE void put_value(float* p, float v) { *p = v; }
FC_INLINE void put_value(uint8_t* p, float v) { *p = static_cast<uint8_t>(v > 0 ? (v < 255.0f ? v + 0.5f : 255.0f) : 0.0f); }

template <typename T>
FC_NOINLINE void write_image(const Image& m, T* y, const int64_t* s) {
    for (int64_t h = 0; h < m.H; ++h) {
        const float* from = m.row(h);
        T* row = y + h * s[2];
        if (s[1] == 1) {
            for (int64_t w = 0; w < m.W; ++w)
                for (int64_t c = 0; c < m.C; ++c) put_value(row + w * s[3] + c, from[w * m.P + c]);
        } else {
            for (int64_t c = 0; c < m.C; ++c)
                for (int64_t w = 0; w < m.W; ++w) put_value(row + w * s[3] + c * s[1], from[w * m.P + c]);
        }
    }
}

}  // namespace
}  // namespace
#endif
