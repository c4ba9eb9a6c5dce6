// W vectors as the rows of a W x W matrix, transposed in registers: first inside the lanes of 128 bits, four rows each, then
// whole lanes. log2(W) shuffles of two vectors per vector, of the kinds that need no vector of indices.
#ifndef FASTCONV_TRANSPOSE_INL_H
#define FASTCONV_TRANSPOSE_INL_H

#include "fastconv/simd/vec.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

#if defined(__AVX512F__)
// Two lanes of a, then two of b.
template <int Which>
FC_INLINE __m512 lanes(__m512 a, __m512 b) {
    return _mm512_maskz_shuffle_f32x4(static_cast<__mmask16>(-1), a, b, Which);
}
#endif

template <int W>
FC_INLINE void transpose(Vf<W> (&r)[W]) {
#if defined(__AVX512F__)
    if constexpr (W == 16) {
        const __mmask16 all = static_cast<__mmask16>(-1);  // maskz for the reason that sqrt has
        __m512 t[16];
#pragma GCC unroll 4
        for (int g = 0; g < 16; g += 4) {  // 4 x 4 inside the lanes of four rows
            const __m512 a = _mm512_maskz_unpacklo_ps(all, (__m512)r[g], (__m512)r[g + 1]);
            const __m512 b = _mm512_maskz_unpackhi_ps(all, (__m512)r[g], (__m512)r[g + 1]);
            const __m512 c = _mm512_maskz_unpacklo_ps(all, (__m512)r[g + 2], (__m512)r[g + 3]);
            const __m512 d = _mm512_maskz_unpackhi_ps(all, (__m512)r[g + 2], (__m512)r[g + 3]);
            t[g] = _mm512_maskz_shuffle_ps(all, a, c, 0x44), t[g + 1] = _mm512_maskz_shuffle_ps(all, a, c, 0xee);
            t[g + 2] = _mm512_maskz_shuffle_ps(all, b, d, 0x44), t[g + 3] = _mm512_maskz_shuffle_ps(all, b, d, 0xee);
        }
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {  // 4 x 4 of whole lanes
            const __m512 a = lanes<0x88>(t[j], t[4 + j]), b = lanes<0xdd>(t[j], t[4 + j]);
            const __m512 c = lanes<0x88>(t[8 + j], t[12 + j]);
            const __m512 d = lanes<0xdd>(t[8 + j], t[12 + j]);
            r[j] = (Vf<W>)lanes<0x88>(a, c), r[8 + j] = (Vf<W>)lanes<0xdd>(a, c);
            r[4 + j] = (Vf<W>)lanes<0x88>(b, d), r[12 + j] = (Vf<W>)lanes<0xdd>(b, d);
        }
        return;
    }
#endif
#if defined(__AVX2__)
    if constexpr (W == 8) {
        __m256 t[8];
#pragma GCC unroll 4
        for (int i = 0; i < 8; i += 2) {
            t[i] = _mm256_unpacklo_ps((__m256)r[i], (__m256)r[i + 1]);
            t[i + 1] = _mm256_unpackhi_ps((__m256)r[i], (__m256)r[i + 1]);
        }
#pragma GCC unroll 2
        for (int i = 0; i < 8; i += 4) {
            const __m256 a = _mm256_shuffle_ps(t[i], t[i + 2], 0x44), b = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
            const __m256 c = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44), d = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
            t[i] = a, t[i + 1] = b, t[i + 2] = c, t[i + 3] = d;
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            r[i] = (Vf<W>)_mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
            r[i + 4] = (Vf<W>)_mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
        }
        return;
    }
#endif
    float from[W][W];
    for (int i = 0; i < W; ++i) store<W>(from[i], r[i]);
    for (int i = 0; i < W; ++i)
        for (int j = 0; j < W; ++j) r[i][j] = from[j][i];
}

// Lane i is sum_lanes(r[i]), with the same bits: two vectors are halved together, each into half of one, 3 instructions for
// each of W - 1 pairs.
template <int W>
FC_INLINE Vf<W> sum_each(const Vf<W> (&r)[W]) {
#if defined(__AVX512F__)
    if constexpr (W == 16) {
        const __mmask16 all = static_cast<__mmask16>(-1);
        Vf<W> t[4];
#pragma GCC unroll 4
        for (int e = 0; e < 4; ++e) {
            const __m512 a = (__m512)r[e], b = (__m512)r[4 + e], c = (__m512)r[8 + e], d = (__m512)r[12 + e];
            const __m512 ab = (__m512)((Vf<W>)lanes<0x44>(a, b) + (Vf<W>)lanes<0xee>(a, b));
            const __m512 cd = (__m512)((Vf<W>)lanes<0x44>(c, d) + (Vf<W>)lanes<0xee>(c, d));
            t[e] = (Vf<W>)lanes<0x88>(ab, cd) + (Vf<W>)lanes<0xdd>(ab, cd);
        }
#pragma GCC unroll 2
        for (int e = 0; e < 4; e += 2) {
            const __m512 a = (__m512)t[e], b = (__m512)t[e + 1];
            t[e] = (Vf<W>)_mm512_maskz_shuffle_ps(all, a, b, 0x44) + (Vf<W>)_mm512_maskz_shuffle_ps(all, a, b, 0xee);
        }
        const __m512 a = (__m512)t[0], b = (__m512)t[2];
        return (Vf<W>)_mm512_maskz_shuffle_ps(all, a, b, 0x88) + (Vf<W>)_mm512_maskz_shuffle_ps(all, a, b, 0xdd);
    }
#endif
#if defined(__AVX2__)
    if constexpr (W == 8) {
        Vf<W> t[4];
#pragma GCC unroll 4
        for (int e = 0; e < 4; ++e) {
            const __m256 a = (__m256)r[e], b = (__m256)r[4 + e];
            t[e] = (Vf<W>)_mm256_permute2f128_ps(a, b, 0x20) + (Vf<W>)_mm256_permute2f128_ps(a, b, 0x31);
        }
#pragma GCC unroll 2
        for (int e = 0; e < 4; e += 2) {
            const __m256 a = (__m256)t[e], b = (__m256)t[e + 1];
            t[e] = (Vf<W>)_mm256_shuffle_ps(a, b, 0x44) + (Vf<W>)_mm256_shuffle_ps(a, b, 0xee);
        }
        const __m256 a = (__m256)t[0], b = (__m256)t[2];
        return (Vf<W>)_mm256_shuffle_ps(a, b, 0x88) + (Vf<W>)_mm256_shuffle_ps(a, b, 0xdd);
    }
#endif
    Vf<W> y{};
    for (int i = 0; i < W; ++i) y[i] = sum_lanes<W>(r[i]);
    return y;
}

}  // namespace
}  // namespace
#endif
