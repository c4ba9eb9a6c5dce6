// Indices of max pooling between memory and lanes of int32: as they are, or as bytes (255 there is none, -1 here).
// Compilers take a conversion of byte vectors apart lane by lane, hence the intrinsics.
#ifndef FASTCONV_POOL_INDEX_INL_H
#define FASTCONV_POOL_INDEX_INL_H

#include "fastconv/pool/window.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// widen and narrow W bytes; narrowing keeps the low byte.
template <int W>
struct Bytes;

template <>
struct Bytes<4> {
    static FC_INLINE Vi<4> widen(const uint8_t* p) {
#if defined(__SSE2__)
        int32_t word;
        memcpy(&word, p, 4);
        const __m128i zero = _mm_setzero_si128();
        return (Vi<4>)_mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(word), zero), zero);
#else
        return Vi<4>{p[0], p[1], p[2], p[3]};
#endif
    }
    static FC_INLINE void narrow(uint8_t* p, Vi<4> v) {
#if defined(__SSE2__)
        const __m128i low = _mm_and_si128((__m128i)v, _mm_set1_epi32(255)), words = _mm_packs_epi32(low, low);
        const int32_t word = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
        memcpy(p, &word, 4);
#else
        for (int i = 0; i < 4; ++i) p[i] = static_cast<uint8_t>(v[i]);
#endif
    }
};

#if defined(__AVX2__)
template <>
struct Bytes<8> {
    static FC_INLINE Vi<8> widen(const uint8_t* p) {
        return (Vi<8>)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    }
    static FC_INLINE void narrow(uint8_t* p, Vi<8> v) {
        const __m256i low = _mm256_and_si256((__m256i)v, _mm256_set1_epi32(255));
        const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
    }
};
#endif

#if defined(__AVX512F__)
template <>
struct Bytes<16> {
    // With a mask of all lanes: GCC 12 warns of an uninitialised value inside the forms without one.
    static FC_INLINE Vi<16> widen(const uint8_t* p) {
        return (Vi<16>)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static FC_INLINE void narrow(uint8_t* p, Vi<16> v) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)v));
    }
};
#endif

// n bytes, n < 2N, as two overlapping words of N or fewer bytes; nothing past them is touched.
template <int N>
FC_INLINE void copy_few(uint8_t* to, const uint8_t* from, int n) {
    if (n >= N) {
        uint8_t a[N], b[N];
        memcpy(a, from, N);
        memcpy(b, from + n - N, N);
        memcpy(to, a, N);
        memcpy(to + n - N, b, N);
    } else if constexpr (N > 2) {
        copy_few<N / 2>(to, from, n);
    } else if (n) {
        *to = *from;
    }
}

template <int W, bool kFull>
FC_INLINE void store_index(uint8_t* p, Vi<W> v, int lanes) {
    if (kFull) {
        Bytes<W>::narrow(p, v);
    } else {
        uint8_t t[W];
        Bytes<W>::narrow(t, v);
        copy_few<W / 2>(p, t, lanes);
    }
}
template <int W, bool kFull>
FC_INLINE void store_index(int32_t* p, Vi<W> v, int lanes) {
    store_lanes<W, kFull>(reinterpret_cast<float*>(p), (Vf<W>)v, lanes);
}
// Lanes past the last hold 255 or 0; nobody looks at them.
template <int W, bool kFull>
FC_INLINE Vi<W> load_index(const uint8_t* p, int lanes) {
    if (kFull) return Bytes<W>::widen(p);
    uint8_t t[W];
    memset(t, 255, W);
    copy_few<W / 2>(t, p, lanes);
    return Bytes<W>::widen(t);
}
template <int W, bool kFull>
FC_INLINE Vi<W> load_index(const int32_t* p, int lanes) {
    return (Vi<W>)load_lanes<W, kFull>(reinterpret_cast<const float*>(p), lanes);
}

}  // namespace
}  // namespace
#endif
