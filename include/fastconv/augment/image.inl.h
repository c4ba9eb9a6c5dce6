// An image between two steps of augmentation: bytes where it came as bytes, else floats; pixels of P values: 1 channel, 4 for
// two to four of them, else as many. All arithmetic is in floats.
#ifndef FASTCONV_AUGMENT_IMAGE_INL_H
#define FASTCONV_AUGMENT_IMAGE_INL_H

#include "fastconv/simd/vec.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

template <typename T>
struct Image {
    T* data;
    int64_t H, W, C, P;
    static constexpr bool whole = sizeof(T) == 1;  // values are whole numbers
    static constexpr float top = whole ? 255.0f : 1.0f;

    FC_INLINE int64_t values() const { return H * W * P; }
    FC_INLINE T* row(int64_t h) const { return data + h * W * P; }
};

alignas(64) const int32_t kLanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
alignas(64) const int32_t kPixels[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};

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

template <int N>
FC_INLINE Vf<N> get(const float* p) {
    return load<N>(p);
}
// Bytes as floats, and back the lowest of each lane, which is from 0 to 255: by instructions, as GCC converts vectors of bytes
// one by one.
template <int N>
FC_INLINE Vf<N> get(const uint8_t* p) {
#if defined(__AVX512F__)
    if constexpr (N == 16) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return __builtin_convertvector((Vi<N>)_mm512_maskz_cvtepu8_epi32(static_cast<__mmask16>(-1), bytes), Vf<N>);
    }
#endif
#if defined(__AVX2__)
    if constexpr (N == 8)
        return __builtin_convertvector(
            (Vi<N>)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))), Vf<N>);
#endif
    if constexpr (N == 4) {
        int32_t four;
        memcpy(&four, p, 4);
#if defined(__SSE2__)
        const __m128i zero = _mm_setzero_si128(), words = _mm_unpacklo_epi8(_mm_cvtsi32_si128(four), zero);
        return __builtin_convertvector((Vi<N>)_mm_unpacklo_epi16(words, zero), Vf<N>);
#elif defined(__aarch64__)
        const uint16x8_t words = vmovl_u8(vreinterpret_u8_s32(vdup_n_s32(four)));
        return __builtin_convertvector((Vi<N>)vmovl_u16(vget_low_u16(words)), Vf<N>);
#else
        const Vf<N> v = {static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]), static_cast<float>(p[3])};
        return v;
#endif
    }
}
template <int N>
FC_INLINE void put_bytes(uint8_t* p, Vi<N> v) {
#if defined(__AVX512F__)
    if constexpr (N == 16) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(static_cast<__mmask16>(-1), (__m512i)v));
        return;
    }
#endif
#if defined(__AVX2__)
    if constexpr (N == 8) {
        const __m256i all = (__m256i)v;
        const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
        return;
    }
#endif
    if constexpr (N == 4) {
        int32_t four;
#if defined(__SSE2__)
        const __m128i words = _mm_packs_epi32((__m128i)v, (__m128i)v);
        four = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
#else
        four = v[0] | v[1] << 8 | v[2] << 16 | static_cast<int32_t>(static_cast<uint32_t>(v[3]) << 24);
#endif
        memcpy(p, &four, 4);
    }
}
template <int N>
FC_INLINE void put(float* p, Vf<N> v) {
    store<N>(p, v);
}
template <int N>
FC_INLINE void put(uint8_t* p, Vf<N> v) {  // from 0 to 255, cut off as a conversion does
    put_bytes<N>(p, __builtin_convertvector(v, Vi<N>));
}
// What is resampled is rounded where values are whole, and not cut off where they are not.
template <int N>
FC_INLINE void put_rounded(float* p, Vf<N> v) {
    store<N>(p, v);
}
template <int N>
FC_INLINE void put_rounded(uint8_t* p, Vf<N> v) {
    put<N>(p, within<N>(v + 0.5f, 255.0f));
}
FC_INLINE void put_value(float* p, float v) { *p = v; }
FC_INLINE void put_value(uint8_t* p, float v) { *p = static_cast<uint8_t>(v > 0 ? (v < 255.0f ? v + 0.5f : 255.0f) : 0.0f); }

// f(values) for all vectors of an image; what is behind its end is there, and written.
template <typename T, typename F>
FC_INLINE void each_vector(const Image<T>& m, F f) {
    T* p = m.data;  // a store might change what m refers to, for all that the compiler knows
    const int64_t count = m.values();
    for (int64_t i = 0; i < count; i += kWidth) put<kWidth>(p + i, f(get<kWidth>(p + i)));
}

// Lanes of a and, behind them, of b, by constant numbers.
#if defined(__clang__) || __GNUC__ >= 12
#define FC_SHUFFLE(Mask, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FC_SHUFFLE(Mask, a, b, ...) __builtin_shuffle(a, b, Mask{__VA_ARGS__})
#endif
typedef uint8_t Bytes16 __attribute__((vector_size(16)));
#define FC_BYTES(a, b, ...) FC_SHUFFLE(Bytes16, a, b, __VA_ARGS__)

FC_INLINE void turn_four(Vf<4>* v) {  // rows and columns change places
    const Vf<4> a = FC_SHUFFLE(Vi<4>, v[0], v[1], 0, 4, 1, 5), b = FC_SHUFFLE(Vi<4>, v[0], v[1], 2, 6, 3, 7);
    const Vf<4> c = FC_SHUFFLE(Vi<4>, v[2], v[3], 0, 4, 1, 5), d = FC_SHUFFLE(Vi<4>, v[2], v[3], 2, 6, 3, 7);
    v[0] = FC_SHUFFLE(Vi<4>, a, c, 0, 1, 4, 5);
    v[1] = FC_SHUFFLE(Vi<4>, a, c, 2, 3, 6, 7);
    v[2] = FC_SHUFFLE(Vi<4>, b, d, 0, 1, 4, 5);
    v[3] = FC_SHUFFLE(Vi<4>, b, d, 2, 3, 6, 7);
}

template <int N>
struct Lanes {
    static constexpr int value = N;
};
// f(lanes, red, green, blue, how many count), vectors of neighbours, for all pixels of four values; where `change`, they are then
// what it made.
template <bool change, typename F>
FC_INLINE void each_pixels(const Image<uint8_t>& m, F f) {
    constexpr int N = kWidth;
    uint8_t* p = m.data;
    const int64_t count = m.values();
    for (int64_t i = 0; i < count; i += 4 * N) {
        Vi<N> v;
        memcpy(&v, p + i, sizeof v);
        Vf<N> r = __builtin_convertvector(v & 255, Vf<N>), g = __builtin_convertvector((v >> 8) & 255, Vf<N>),
              b = __builtin_convertvector((v >> 16) & 255, Vf<N>);
        f(Lanes<N>{}, r, g, b, min64(N, (count - i) / 4));
        if (change) {
            v = __builtin_convertvector(r, Vi<N>) | __builtin_convertvector(g, Vi<N>) << 8 | __builtin_convertvector(b, Vi<N>) << 16;
            memcpy(p + i, &v, sizeof v);
        }
    }
}
template <bool change, typename F>
FC_INLINE void each_pixels(const Image<float>& m, F f) {
    float* p = m.data;
    const int64_t count = m.values();
    for (int64_t i = 0; i < count; i += 16) {
        Vf<4> v[4] = {load<4>(p + i), load<4>(p + i + 4), load<4>(p + i + 8), load<4>(p + i + 12)};
        turn_four(v);
        f(Lanes<4>{}, v[0], v[1], v[2], min64(4, (count - i) / 4));
        if (change) {
            turn_four(v);
            for (int l = 0; l < 4; ++l) put<4>(p + i + 4 * l, v[l]);
        }
    }
}

// ---- what comes in --------------------------------------------------------------------------------------------------

FC_NOINLINE inline int64_t mirrored(int64_t i, int64_t size, int64_t border) {  // -1: outside
    if (i >= 0 && i < size) return i;
    if (border == 0) return -1;
    if (border == 1 || size == 1) return i < 0 ? 0 : size - 1;
    const int64_t period = border == 2 ? 2 * (size - 1) : 2 * size;
    i %= period;
    if (i < 0) i += period;
    return i < size ? i : border == 2 ? period - i : period - 1 - i;
}

// What lies where an image of H x W pixels ends: pixel (h, w) of a result is (y + dy * h, x + dx * w) of it, dx and dy 1 or -1.
struct Move {
    int64_t H, W, y, x, dy, dx, border;
    const float* fill;
};

struct Columns {
    int64_t begin, end;
};
// Of `width` columns of a result those that come from columns of the image.
FC_INLINE Columns columns_of(const Move& k, int64_t width) {
    const int64_t begin = max64(0, min64(width, k.dx > 0 ? -k.x : k.x - k.W + 1));
    return {begin, max64(begin, min64(width, k.dx > 0 ? k.W - k.x : k.x + 1))};
}

// Sixteen pixels of planes, or from right to left those that end with p.
FC_INLINE void join_sixteen(uint8_t* to, const uint8_t* p, int64_t c1, int64_t c2, int64_t c3, bool back) {
    Bytes16 v[4];
    memcpy(&v[0], p, 16);
    memcpy(&v[1], p + c1, 16);
    memcpy(&v[2], p + c2, 16);
    memcpy(&v[3], p + c3, 16);
#define FC_LOW(a, b) FC_BYTES(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define FC_HIGH(a, b) FC_BYTES(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define FC_PAIRS_LOW(a, b) FC_BYTES(a, b, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23)
#define FC_PAIRS_HIGH(a, b) FC_BYTES(a, b, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31)
    const Bytes16 a = FC_LOW(v[0], v[1]), b = FC_HIGH(v[0], v[1]), c = FC_LOW(v[2], v[3]), d = FC_HIGH(v[2], v[3]);
    v[0] = FC_PAIRS_LOW(a, c);
    v[1] = FC_PAIRS_HIGH(a, c);
    v[2] = FC_PAIRS_LOW(b, d);
    v[3] = FC_PAIRS_HIGH(b, d);
#undef FC_LOW
#undef FC_HIGH
#undef FC_PAIRS_LOW
#undef FC_PAIRS_HIGH
    for (int i = 0; i < 4; ++i) {
        if (back) v[i] = FC_BYTES(v[i], v[i], 12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
        memcpy(to + 16 * (back ? 3 - i : i), &v[i], 16);
    }
}

// Pixels of a row from x on, s3 values apart, their channels s1; `after`: values lie behind the one with the highest address, too.
template <typename T>
FC_INLINE void read_row(const Image<T>& m, T* to, const T* x, int64_t count, int64_t s1, int64_t s3, bool after) {
    const int64_t c1 = m.C > 1 ? s1 : 0, c2 = m.C > 2 ? 2 * s1 : c1, c3 = m.C > 3 ? 3 * s1 : c2;
    int64_t w = 0;
    if (m.P == 4 && s1 == 1 && m.C > 2 && (s3 >= m.C || s3 <= -m.C)) {  // the value behind a pixel of three is that of the next one
        const int64_t begin = m.C == 3 && s3 < 0 && !after, until = m.C == 3 && s3 > 0 && !after ? count - 1 : count;
        if (begin) memcpy(to, x, 3 * sizeof(T));
        w = begin;
        if (sizeof(T) == 1 && kWidth > 4 && (s3 == 3 || s3 == -3)) {
            const bool back = s3 < 0;
            for (const int64_t first = w; back && w < until && w < first + 1; ++w) memcpy(to + 4 * w, x + w * s3, 4);
            for (; w + (back ? 4 : 6) <= until; w += 4) {
                Bytes16 v;
                memcpy(&v, x + w * s3 - (back ? 9 : 0), 16);
                v = back ? FC_BYTES(v, v, 9, 10, 11, 12, 6, 7, 8, 9, 3, 4, 5, 6, 0, 1, 2, 3)
                         : FC_BYTES(v, v, 0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 11, 12);
                memcpy(to + 4 * w, &v, 16);
            }
        }
        for (; w < until; ++w) memcpy(to + 4 * w, x + w * s3, 4 * sizeof(T));
    } else if (sizeof(T) == 1 && m.P == 4 && (s3 == 1 || s3 == -1)) {
        for (; w + 16 <= count; w += 16)
            join_sixteen(reinterpret_cast<uint8_t*>(to + 4 * w), reinterpret_cast<const uint8_t*>(x + w * s3 - (s3 < 0 ? 15 : 0)),
                         c1, c2, c3, s3 < 0);
    } else if (sizeof(T) == 4 && m.P == 4 && s3 == 1) {
        for (; w + 4 <= count; w += 4) {
            const float* p = reinterpret_cast<const float*>(x + w);
            Vf<4> v[4] = {load<4>(p), load<4>(p + c1), load<4>(p + c2), load<4>(p + c3)};
            turn_four(v);
            for (int i = 0; i < 4; ++i) store<4>(reinterpret_cast<float*>(to + 4 * (w + i)), v[i]);
        }
    } else if (m.P == 1 && s3 == 1) {
        memcpy(to, x, static_cast<size_t>(count) * sizeof(T));
        return;
    }
    for (; w < count; ++w) {
        const T* p = x + w * s3;
        if (m.P == 4) {
            const T v[4] = {p[0], p[c1], p[c2], p[c3]};
            memcpy(to + 4 * w, v, sizeof v);
        } else {
            for (int64_t c = 0; c < m.C; ++c) to[w * m.P + c] = p[c * s1];
        }
    }
}

// An image, whose size is set, of what x has where it is moved to. `strides`: N, C, H, W.
template <typename T>
FC_NOINLINE void read_image(const Image<T> m, const T* x, const int64_t* strides, const Move k) {
    const int64_t s1 = strides[1], s2 = strides[2], s3 = strides[3];
    const Columns inner = columns_of(k, m.W);
    for (int64_t h = 0; h < m.H; ++h) {
        const int64_t y = mirrored(k.y + k.dy * h, k.H, k.border);
        T* to = m.row(h);
        const T* row = y < 0 ? x : x + y * s2;
        const int64_t begin = y < 0 ? m.W : inner.begin, end = y < 0 ? m.W : inner.end;
        if (begin < end) {
            const int64_t one = k.x + k.dx * begin, other = k.x + k.dx * (end - 1);
            const bool after = s3 > 0 ? max64(one, other) + 1 < k.W : min64(one, other) > 0;
            read_row(m, to + begin * m.P, row + one * s3, end - begin, s1, k.dx * s3, after);
        }
        for (int64_t w = begin > 0 ? 0 : end; w < m.W; w = w + 1 == begin ? end : w + 1) {
            const int64_t i = y < 0 ? -1 : mirrored(k.x + k.dx * w, k.W, k.border);
            for (int64_t c = 0; c < m.C; ++c) {
                if (i < 0) {
                    put_value(to + w * m.P + c, k.fill[c]);
                } else {
                    to[w * m.P + c] = row[i * s3 + c * s1];
                }
            }
        }
    }
}

// ---- what goes out --------------------------------------------------------------------------------------------------

FC_NOINLINE inline void write_image(const Image<float> m, float* y, const int64_t* strides, const float*) {
    const int64_t s[4] = {strides[0], strides[1], strides[2], strides[3]};
    for (int64_t h = 0; h < m.H; ++h) {
        const float* from = m.row(h);
        float* row = y + h * s[2];
        int64_t w = 0;
        if (m.P == 4 && s[1] == 1 && s[3] == m.C) {  // what is written too far is the next pixel's, and written after
            for (; w + 2 < m.W; ++w) store<4>(row + w * s[3], load<4>(from + 4 * w));
        } else if (m.P == 4 && s[3] == 1) {
            for (; w + 4 <= m.W; w += 4) {
                Vf<4> v[4];
                for (int i = 0; i < 4; ++i) v[i] = load<4>(from + 4 * (w + i));
                turn_four(v);
                for (int64_t c = 0; c < m.C; ++c) store<4>(row + w + c * s[1], v[c]);
            }
        } else if (m.P == 1 && s[3] == 1) {
            memcpy(row, from, static_cast<size_t>(m.W) * 4);
            continue;
        }
        for (; w < m.W; ++w)
            for (int64_t c = 0; c < m.C; ++c) row[w * s[3] + c * s[1]] = from[w * m.P + c];
    }
}

FC_NOINLINE inline void write_image(const Image<uint8_t> m, uint8_t* y, const int64_t* strides, const float*) {
    constexpr int N = kWidth;
    const int64_t s[4] = {strides[0], strides[1], strides[2], strides[3]};
    for (int64_t h = 0; h < m.H; ++h) {
        const uint8_t* from = m.row(h);
        uint8_t* row = y + h * s[2];
        int64_t w = 0;
        if (m.P == 4 && s[1] == 1 && s[3] == m.C) {
            if (kWidth > 4 && m.C == 3) {
                for (; w + 6 <= m.W; w += 4) {
                    Bytes16 v;
                    memcpy(&v, from + 4 * w, 16);
                    v = FC_BYTES(v, v, 0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 15, 15, 15, 15);
                    memcpy(row + 3 * w, &v, 16);
                }
            }
            for (; w + 2 < m.W; ++w) memcpy(row + w * s[3], from + 4 * w, 4);
        } else if (m.P == 4 && s[3] == 1) {
            for (; w + N <= m.W; w += N) {
                Vi<N> v;
                memcpy(&v, from + 4 * w, sizeof v);
                for (int64_t c = 0; c < m.C; ++c) put_bytes<N>(row + w + c * s[1], (v >> static_cast<int>(8 * c)) & 255);
            }
        } else if (m.P == 1 && s[3] == 1) {
            memcpy(row, from, static_cast<size_t>(m.W));
            continue;
        }
        for (; w < m.W; ++w)
            for (int64_t c = 0; c < m.C; ++c) row[w * s[3] + c * s[1]] = from[w * m.P + c];
    }
}

// Floats of bytes: `scale` has a factor per channel, then what is added.
FC_NOINLINE inline void write_image(const Image<uint8_t> m, float* y, const int64_t* strides, const float* scale) {
    constexpr int N = kWidth;
    const int64_t s[4] = {strides[0], strides[1], strides[2], strides[3]};
    Vf<4> factor{}, addend{};
    for (int64_t c = 0; m.P == 4 && c < m.C; ++c) {
        factor[c] = scale[c];
        addend[c] = scale[m.C + c];
    }
    for (int64_t h = 0; h < m.H; ++h) {
        const uint8_t* from = m.row(h);
        float* row = y + h * s[2];
        int64_t w = 0;
        if (m.P == 4 && s[1] == 1 && s[3] == m.C) {
            for (; w + 2 < m.W; ++w) store<4>(row + w * s[3], mul_add<4>(get<4>(from + 4 * w), factor, addend));
        } else if (m.P == 4 && s[3] == 1) {
            for (; w + N <= m.W; w += N) {
                Vi<N> v;
                memcpy(&v, from + 4 * w, sizeof v);
                for (int64_t c = 0; c < m.C; ++c) {
                    const Vf<N> f = __builtin_convertvector((v >> static_cast<int>(8 * c)) & 255, Vf<N>);
                    store<N>(row + w + c * s[1], mul_add<N>(f, splat<N>(factor[c]), splat<N>(addend[c])));
                }
            }
        } else if (m.P == 1 && s[3] == 1) {
            for (; w + N <= m.W; w += N)
                store<N>(row + w, mul_add<N>(get<N>(from + w), splat<N>(scale[0]), splat<N>(scale[1])));
        }
        for (; w < m.W; ++w)
            for (int64_t c = 0; c < m.C; ++c) {
                const Vf<4> v = mul_add<4>(splat<4>(from[w * m.P + c]), splat<4>(scale[c]), splat<4>(scale[m.C + c]));
                row[w * s[3] + c * s[1]] = v[0];
            }
    }
}

}  // namespace
}  // namespace
#endif
