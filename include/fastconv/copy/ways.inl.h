// What copies do inside a plane of two dimensions: y[r * ry + c * cy] = x[r * rx + c * cx], r < R, c < C, all distances in bytes.
// `copy/copy.inl.h` chooses among these so that y is written along r wherever its elements are neighbours there.
#ifndef FASTCONV_COPY_WAYS_INL_H
#define FASTCONV_COPY_WAYS_INL_H

#include "fastconv/copy/turned.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kPast = 8 << 20;  // bytes of a side from which what is written goes past the caches (of 32 MB here)

struct Plane {
    const char* x;
    char* y;
    int64_t R, rx, ry;  // elements along r
    int64_t C, cx, cy;
};

// An integer of so many bytes that may lie anywhere and alias anything.
template <int Bytes>
struct WordOf;
template <>
struct WordOf<1> {
    typedef uint8_t T;
};
template <>
struct WordOf<4> {
    typedef uint32_t T __attribute__((may_alias, aligned(1)));
};
template <>
struct WordOf<8> {
    typedef uint64_t T __attribute__((may_alias, aligned(1)));
};
template <int Bytes>
using Word = typename WordOf<Bytes>::T;

template <int Bytes>
FC_INLINE void move_word(char* y, const char* x) {
    *reinterpret_cast<Word<Bytes>*>(y) = *reinterpret_cast<const Word<Bytes>*>(x);
}

FC_INLINE bool of_floats(const void* p) { return reinterpret_cast<uintptr_t>(p) % 4 == 0; }

// ---- runs: both sides have neighbours along r ---------------------------------------------------------------------------

// dst[i * di + c] = src[i * si + c]
FC_INLINE void copy_rows(const float* src, int64_t si, float* dst, int64_t di, int64_t I, int64_t C) {
    constexpr int W = kWidth;
    if (si == C && di == C) {
        memcpy(dst, src, sizeof(float) * static_cast<size_t>(I * C));
    } else if (C == 1) {
        for (int64_t i = 0; i < I; ++i) dst[i * di] = src[i * si];
    } else if (C < W) {
        for (int64_t i = 0; i < I; ++i)
            store_n<W>(dst + i * di, load_n<W>(src + i * si, static_cast<int>(C)), static_cast<int>(C));
    } else {
        for (int64_t i = 0; i < I; ++i) {
            for (int64_t c = 0; c + W <= C; c += W) store<W>(dst + i * di + c, load<W>(src + i * si + c));
            store<W>(dst + i * di + C - W, load<W>(src + i * si + C - W));
        }
    }
}

FC_NOINLINE void copy_floats(const Plane& p, int64_t n, bool past) {
    constexpr int W = kWidth;
    const float* x = reinterpret_cast<const float*>(p.x);
    float* y = reinterpret_cast<float*>(p.y);
    const int64_t cx = p.cx / 4, cy = p.cy / 4;
    if (past && n >= 64) {
        const int64_t ahead = n < 1024 ? ceil_div(2048, n) * cx : 0;  // short rows far from each other do not come by themselves
        for (int64_t c = 0; c < p.C; ++c) {
            for (int64_t i = 0; ahead && i < n; i += 16) __builtin_prefetch(x + c * cx + ahead + i);
            put_run<W>(y + c * cy, x + c * cx, n, true);
        }
    } else if (n > 1024) {
        for (int64_t c = 0; c < p.C; ++c) memcpy(y + c * cy, x + c * cx, 4 * static_cast<size_t>(n));
    } else {
        copy_rows(x, cx, y, cy, p.C, n);
    }
}

// Rows of bytes: the first and the last word of a row may overlap.
FC_NOINLINE void copy_bytes(const Plane& p, int64_t bytes) {
    for (int64_t c = 0; c < p.C; ++c) {
        const char* x = p.x + c * p.cx;
        char* y = p.y + c * p.cy;
        if (bytes > 16) {
            memcpy(y, x, static_cast<size_t>(bytes));
        } else if (bytes >= 8) {
            move_word<8>(y, x), move_word<8>(y + bytes - 8, x + bytes - 8);
        } else if (bytes >= 4) {
            move_word<4>(y, x), move_word<4>(y + bytes - 4, x + bytes - 4);
        } else {
            for (int64_t i = 0; i < bytes; ++i) y[i] = x[i];
        }
    }
}

FC_INLINE void copy_runs(const Plane& p, int64_t size, bool past) {
    const int64_t bytes = p.R * size;
    if ((bytes | p.cx | p.cy) % 4 == 0 && of_floats(p.x) && of_floats(p.y))
        copy_floats(p, bytes / 4, past);
    else
        copy_bytes(p, bytes);
}

// ---- one value along r --------------------------------------------------------------------------------------------------

// Bits, not numbers: sums would lose denormals, which integers are here.
FC_NOINLINE void fill_floats(const Plane& p, bool past) {
    constexpr int W = kWidth;
    for (int64_t c = 0; c < p.C; ++c) {
        float* y = reinterpret_cast<float*>(p.y + c * p.cy);
        int32_t bits;
        memcpy(&bits, p.x + c * p.cx, sizeof bits);
        const Vf<W> v = (Vf<W>)splat_i<W>(bits);
        int64_t i = 0;
        if (past) {
            const int64_t odd = static_cast<int64_t>(reinterpret_cast<uintptr_t>(y) / 4 % 16);
            for (const int64_t head = min64(p.R, odd ? 16 - odd : 0); i < head; ++i) y[i] = v[0];
            for (; i + W <= p.R; i += W) stream<W>(y + i, v);
        } else if (p.R >= W) {
            for (; i + W <= p.R; i += W) store<W>(y + i, v);
            store<W>(y + p.R - W, v);
            continue;
        }
        if (i < p.R) store_n<W>(y + i, v, static_cast<int>(p.R - i));
    }
}

FC_NOINLINE void fill_runs(const Plane& p, int64_t size, bool past) {
    if (size == 4) {
        fill_floats(p, past);
        return;
    }
    for (int64_t c = 0; c < p.C; ++c) {
        const char* x = p.x + c * p.cx;
        char* y = p.y + c * p.cy;
        if (size == 1) {
            memset(y, *x, static_cast<size_t>(p.R));
        } else {
            const Word<8> value = *reinterpret_cast<const Word<8>*>(x);
            for (int64_t r = 0; r < p.R; ++r) reinterpret_cast<Word<8>*>(y)[r] = value;
        }
    }
}

// ---- any strides --------------------------------------------------------------------------------------------------------

template <int Bytes, int Step>
FC_NOINLINE void copy_every(const char* x, char* y, int64_t R) {
    const Word<Bytes>* from = reinterpret_cast<const Word<Bytes>*>(x);
    Word<Bytes>* to = reinterpret_cast<Word<Bytes>*>(y);
    for (int64_t r = 0; r < R; ++r) to[r] = from[r * Step];
}

template <int Bytes>
FC_NOINLINE void copy_strided(const Plane& p) {
    const int64_t step = p.ry == Bytes && p.rx % Bytes == 0 ? p.rx / Bytes : 0;
    if (p.rx == p.ry && p.ry == Bytes) {
        copy_bytes(p, p.R * Bytes);
    } else if (step == -1 || step == 2 || step == 3 || step == 4) {
        for (int64_t c = 0; c < p.C; ++c) {
            const char* x = p.x + c * p.cx;
            char* y = p.y + c * p.cy;
            step == -1  ? copy_every<Bytes, -1>(x, y, p.R)
            : step == 2 ? copy_every<Bytes, 2>(x, y, p.R)
            : step == 3 ? copy_every<Bytes, 3>(x, y, p.R)
                        : copy_every<Bytes, 4>(x, y, p.R);
        }
    } else {
        const int64_t far = p.rx > 64 || p.rx < -64 ? 16 : p.R;  // lines of x that are still there for the next c
        for (int64_t r0 = 0; r0 < p.R; r0 += far)
            for (int64_t c = 0; c < p.C; ++c) {
                const int64_t n = min64(far, p.R - r0);
                const char* x = p.x + r0 * p.rx + c * p.cx;
                char* y = p.y + r0 * p.ry + c * p.cy;
                int64_t r = 0;
                for (; r + 4 <= n; r += 4, x += 4 * p.rx, y += 4 * p.ry)
#pragma GCC unroll 4
                    for (int i = 0; i < 4; ++i) move_word<Bytes>(y + i * p.ry, x + i * p.rx);
                for (; r < n; ++r, x += p.rx, y += p.ry) move_word<Bytes>(y, x);
            }
    }
}

FC_INLINE void copy_values_of(const Plane& p, int64_t size) {
    size == 1 ? copy_strided<1>(p) : size == 4 ? copy_strided<4>(p) : copy_strided<8>(p);
}

// ---- planes so small that going from one to the next would cost more than they do ---------------------------------------

constexpr int64_t kTable = 256;

// Elements by where they are, from the place of the plane on.
struct CopyTable {
    int32_t x[kTable], y[kTable];
};

template <int Bytes>
FC_NOINLINE void copy_listed(const CopyTable& t, const char* x, char* y, int64_t n) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < n; ++i) move_word<Bytes>(y + t.y[i], x + t.x[i]);
}

// ---- turned: x has neighbours along c, y along r ------------------------------------------------------------------------

// Bytes x Bytes blocks of a word: y[c * cy + r] = x[r * rx + c], in elements of the word.
#if defined(__AVX2__)
FC_INLINE void turn_words(const char* x, int64_t rx, char* y, int64_t cy, Word<8>*) {
    __m256i r[4], t[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) r[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i * rx));
    t[0] = _mm256_unpacklo_epi64(r[0], r[1]), t[1] = _mm256_unpackhi_epi64(r[0], r[1]);
    t[2] = _mm256_unpacklo_epi64(r[2], r[3]), t[3] = _mm256_unpackhi_epi64(r[2], r[3]);
    r[0] = _mm256_permute2x128_si256(t[0], t[2], 0x20), r[1] = _mm256_permute2x128_si256(t[1], t[3], 0x20);
    r[2] = _mm256_permute2x128_si256(t[0], t[2], 0x31), r[3] = _mm256_permute2x128_si256(t[1], t[3], 0x31);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i * cy), r[i]);
}
#else
FC_INLINE void turn_words(const char* x, int64_t rx, char* y, int64_t cy, Word<8>*) {
    for (int c = 0; c < 4; ++c)
        for (int r = 0; r < 4; ++r) move_word<8>(y + c * cy + 8 * r, x + r * rx + 8 * c);
}
#endif
#if defined(__SSE2__)
FC_INLINE void turn_words(const char* x, int64_t rx, char* y, int64_t cy, Word<1>*) {
    __m128i r[16], t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) r[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i * rx));
#pragma GCC unroll 4
    for (int stage = 0; stage < 4; ++stage) {  // rows i and i + 8 into 2 i and 2 i + 1
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) t[2 * i] = _mm_unpacklo_epi8(r[i], r[i + 8]), t[2 * i + 1] = _mm_unpackhi_epi8(r[i], r[i + 8]);
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) r[i] = t[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(y + i * cy), r[i]);
}
#else
FC_INLINE void turn_words(const char* x, int64_t rx, char* y, int64_t cy, Word<1>*) {
    for (int c = 0; c < 16; ++c)
        for (int r = 0; r < 16; ++r) y[c * cy + r] = x[r * rx + c];
}
#endif

template <int Bytes>
FC_NOINLINE void turn_plane(const Plane& p) {
    constexpr int B = Bytes == 1 ? 16 : 4;
    const int64_t R = p.R / B * B, C = p.C / B * B;
    for (int64_t c = 0; c < C; c += B)
        for (int64_t r = 0; r < R; r += B)
            turn_words(p.x + r * p.rx + c * Bytes, p.rx, p.y + c * p.cy + r * Bytes, p.cy, static_cast<Word<Bytes>*>(nullptr));
    if (R < p.R) copy_strided<Bytes>({p.x + R * p.rx, p.y + R * Bytes, p.R - R, p.rx, Bytes, C, Bytes, p.cy});
    if (C < p.C) copy_strided<Bytes>({p.x + C * Bytes, p.y + C * p.cy, p.R, p.rx, Bytes, p.C - C, Bytes, p.cy});
}

FC_INLINE void turn_values(const Plane& p, int64_t size, bool past, void* scratch) {
    if (size == 4)
        turn(reinterpret_cast<const float*>(p.x), p.rx / 4, p.C, reinterpret_cast<float*>(p.y), p.cy / 4, p.R, past,
             static_cast<float*>(scratch));
    else if (size == 1)
        turn_plane<1>(p);
    else
        turn_plane<8>(p);
}

}  // namespace
}  // namespace
#endif
