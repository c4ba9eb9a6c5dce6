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
    float* p = m.data;  // a store might change what m refers to, for all that the compiler knows
    const int64_t count = m.values();
    for (int64_t i = 0; i < count; i += kWidth) store<kWidth>(p + i, f(load<kWidth>(p + i)));
}

FC_INLINE Vf<4> four(const float* p) { return load<4>(p); }
FC_INLINE Vf<4> four(const uint8_t* p) {
    typedef uint8_t B __attribute__((vector_size(4)));
    B v;
    memcpy(&v, p, 4);
    return __builtin_convertvector(__builtin_convertvector(v, Vi<4>), Vf<4>);
}
FC_INLINE void put_four(float* p, Vf<4> v) { store<4>(p, v); }
FC_INLINE void put_four(uint8_t* p, Vf<4> v) {  // the nearest bytes
    typedef uint8_t B __attribute__((vector_size(4)));
    const Vf<4> w = vmin<4>(vmax<4>(v, Vf<4>{}), splat<4>(255.0f)) + 0.5f;
    const B b = __builtin_convertvector(__builtin_convertvector(w, Vi<4>), B);
    memcpy(p, &b, 4);
}
FC_INLINE void put_value(float* p, float v) { *p = v; }
FC_INLINE void put_value(uint8_t* p, float v) { *p = static_cast<uint8_t>(v > 0 ? (v < 255.0f ? v + 0.5f : 255.0f) : 0.0f); }

FC_INLINE void turn_four(Vf<4>* v) {  // rows and columns change places
    const Vi<4> low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, first = {0, 1, 4, 5}, second = {2, 3, 6, 7};
    const Vf<4> a = __builtin_shuffle(v[0], v[1], low), b = __builtin_shuffle(v[0], v[1], high);
    const Vf<4> c = __builtin_shuffle(v[2], v[3], low), d = __builtin_shuffle(v[2], v[3], high);
    v[0] = __builtin_shuffle(a, c, first);
    v[1] = __builtin_shuffle(a, c, second);
    v[2] = __builtin_shuffle(b, d, first);
    v[3] = __builtin_shuffle(b, d, second);
}

template <typename T>
FC_NOINLINE void read_image(const Image m, const T* x, const int64_t* strides) {
    const int64_t s[4] = {strides[0], strides[1], strides[2], strides[3]};
    const int64_t c1 = m.C > 1 ? s[1] : 0, c2 = m.C > 2 ? 2 * s[1] : c1, c3 = m.C > 3 ? 3 * s[1] : c2;
    for (int64_t h = 0; h < m.H; ++h) {
        float* to = m.row(h);
        const T* row = x + h * s[2];
        int64_t w = 0;
        if (m.P == 4 && s[1] == 1 && s[3] == m.C) {  // the value behind a pixel of three is that of the next one
            for (; w + 1 < m.W; ++w) store<4>(to + 4 * w, four(row + w * s[3]));
        } else if (m.P == 4 && s[3] == 1) {
            for (; w + 4 <= m.W; w += 4) {
                Vf<4> v[4] = {four(row + w), four(row + w + c1), four(row + w + c2), four(row + w + c3)};
                turn_four(v);
                for (int i = 0; i < 4; ++i) store<4>(to + 4 * (w + i), v[i]);
            }
        } else if (m.P == 1 && s[3] == 1) {
            for (; w + 4 <= m.W; w += 4) store<4>(to + w, four(row + w));
        }
        for (; w < m.W; ++w) {
            const T* p = row + w * s[3];
            if (m.P == 4) {
                const Vf<4> v = {static_cast<float>(p[0]), static_cast<float>(p[c1]), static_cast<float>(p[c2]),
                                 static_cast<float>(p[c3])};
                store<4>(to + 4 * w, v);
            } else {
                for (int64_t c = 0; c < m.C; ++c) to[w * m.P + c] = static_cast<float>(p[c * s[1]]);
            }
        }
    }
}

template <typename T>
FC_NOINLINE void write_image(const Image m, T* y, const int64_t* strides) {
    const int64_t s[4] = {strides[0], strides[1], strides[2], strides[3]};
    for (int64_t h = 0; h < m.H; ++h) {
        const float* from = m.row(h);
        T* row = y + h * s[2];
        int64_t w = 0;
        if (m.P == 4 && s[1] == 1 && s[3] == m.C) {  // what is written too far is the next pixel's, and written after
            for (; w + 2 < m.W; ++w) put_four(row + w * s[3], load<4>(from + 4 * w));
        } else if (m.P == 4 && s[3] == 1) {
            for (; w + 4 <= m.W; w += 4) {
                Vf<4> v[4];
                for (int i = 0; i < 4; ++i) v[i] = load<4>(from + 4 * (w + i));
                turn_four(v);
                for (int64_t c = 0; c < m.C; ++c) put_four(row + w + c * s[1], v[c]);
            }
        } else if (m.P == 1 && s[3] == 1) {
            for (; w + 4 <= m.W; w += 4) put_four(row + w, load<4>(from + w));
        }
        for (; w < m.W; ++w)
            for (int64_t c = 0; c < m.C; ++c) put_value(row + w * s[3] + c * s[1], from[w * m.P + c]);
    }
}

}  // namespace
}  // namespace
#endif
