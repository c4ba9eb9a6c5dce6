// W vectors as the rows of a W x W matrix, transposed in registers: blocks of s x s off the diagonal change places,
// s = 1, 2, 4, ... Two permutations per vector and step.
#ifndef FASTCONV_TRANSPOSE_INL_H
#define FASTCONV_TRANSPOSE_INL_H

#include "fastconv/vec.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

template <int W>
FC_INLINE void transpose(Vf<W> (&r)[W]) {
#if defined(__AVX512F__)
    if constexpr (W == 16) {
#pragma GCC unroll 4
        for (int s = 1; s < 16; s *= 2) {
            alignas(64) int32_t upper[16], lower[16];
#pragma GCC unroll 16
            for (int l = 0; l < 16; ++l) {
                upper[l] = l & s ? 16 + (l ^ s) : l;
                lower[l] = l & s ? 16 + l : l | s;
            }
            const __m512i u = _mm512_load_si512(upper), d = _mm512_load_si512(lower);
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i) {
                if (i & s) continue;
                const __m512 a = (__m512)r[i], b = (__m512)r[i | s];
                r[i] = (Vf<W>)_mm512_permutex2var_ps(a, u, b);
                r[i | s] = (Vf<W>)_mm512_permutex2var_ps(a, d, b);
            }
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

}  // namespace
}  // namespace
#endif
