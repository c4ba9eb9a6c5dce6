// The thin vector type that every kernel body is written over: Vec<W> is W floats, W one of 4, 8, 16.
//
// Arithmetic, comparison and selection are GCC/Clang vector extensions; what those lack (fused multiply-add, masked
// loads and stores, square root) is given here per width. kWidth is the widest vector of the translation unit's ISA.
// Everything is in an anonymous namespace inside the ISA's own: no two objects share a symbol.
#ifndef FASTCONV_VEC_INL_H
#define FASTCONV_VEC_INL_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define FC_INLINE inline __attribute__((always_inline))
#define FC_NOINLINE __attribute__((noinline))

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

template <int W>
struct VecTypes {
    typedef float F __attribute__((vector_size(W * 4), may_alias, aligned(W * 4)));
    typedef float FU __attribute__((vector_size(W * 4), may_alias, aligned(4)));
    typedef int32_t I __attribute__((vector_size(W * 4), may_alias, aligned(W * 4)));
    typedef int32_t IU __attribute__((vector_size(W * 4), may_alias, aligned(4)));
    typedef uint32_t U __attribute__((vector_size(W * 4), may_alias, aligned(W * 4)));
};

template <int W>
using Vf = typename VecTypes<W>::F;
template <int W>
using Vi = typename VecTypes<W>::I;
template <int W>
using Vu = typename VecTypes<W>::U;

template <int W>
FC_INLINE Vf<W> load(const float* p) {
    return *reinterpret_cast<const typename VecTypes<W>::FU*>(p);
}
template <int W>
FC_INLINE void store(float* p, Vf<W> v) {
    *reinterpret_cast<typename VecTypes<W>::FU*>(p) = v;
}
template <int W>
FC_INLINE Vi<W> load(const int32_t* p) {
    return *reinterpret_cast<const typename VecTypes<W>::IU*>(p);
}
template <int W>
FC_INLINE void store(int32_t* p, Vi<W> v) {
    *reinterpret_cast<typename VecTypes<W>::IU*>(p) = v;
}
template <int W>
FC_INLINE Vf<W> splat(float s) {
    return s - Vf<W>{};
}
template <int W>
FC_INLINE Vi<W> splat_i(int32_t s) {
    return s - Vi<W>{};
}

// a * b + c: fused where the ISA has it, multiply and add on baseline x86.
template <int W>
struct Ops;

template <>
struct Ops<4> {
    static FC_INLINE Vf<4> mul_add(Vf<4> a, Vf<4> b, Vf<4> c) {
#if defined(__aarch64__)
        return (Vf<4>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#elif defined(__FMA__)
        return (Vf<4>)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c);
#else
        return a * b + c;
#endif
    }
#if defined(__SSE2__)
    static FC_INLINE Vf<4> max(Vf<4> a, Vf<4> b) { return (Vf<4>)_mm_max_ps((__m128)a, (__m128)b); }
    static FC_INLINE Vf<4> min(Vf<4> a, Vf<4> b) { return (Vf<4>)_mm_min_ps((__m128)a, (__m128)b); }
#elif defined(__aarch64__)  // NaN wins wherever it is
    static FC_INLINE Vf<4> max(Vf<4> a, Vf<4> b) { return (Vf<4>)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
    static FC_INLINE Vf<4> min(Vf<4> a, Vf<4> b) { return (Vf<4>)vminq_f32((float32x4_t)a, (float32x4_t)b); }
#else
    static FC_INLINE Vf<4> max(Vf<4> a, Vf<4> b) { return a > b ? a : b; }
    static FC_INLINE Vf<4> min(Vf<4> a, Vf<4> b) { return a < b ? a : b; }
#endif
    static FC_INLINE Vf<4> sqrt(Vf<4> a) {
#if defined(__SSE2__)
        return (Vf<4>)_mm_sqrt_ps((__m128)a);
#else
        for (int i = 0; i < 4; ++i) a[i] = __builtin_sqrtf(a[i]);
        return a;
#endif
    }
    static FC_INLINE Vf<4> load_n(const float* p, int n) {
        float t[4] = {0, 0, 0, 0};
        for (int i = 0; i < n; ++i) t[i] = p[i];
        return load<4>(t);
    }
    static FC_INLINE void store_n(float* p, Vf<4> v, int n) {
        for (int i = 0; i < n; ++i) p[i] = v[i];
    }
    static FC_INLINE void stream(float* p, Vf<4> v) {
#if defined(__SSE2__)
        _mm_stream_ps(p, (__m128)v);
#else
        store<4>(p, v);
#endif
    }
    static FC_INLINE Vf<4> permute(Vf<4> v, Vi<4> lane) {
        Vf<4> r;
        for (int i = 0; i < 4; ++i) r[i] = v[lane[i] & 3];
        return r;
    }
};

#if defined(__AVX2__)
#if !defined(__AVX512VL__)
alignas(64) const int32_t tail_mask8[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
#endif

template <>
struct Ops<8> {
    static FC_INLINE Vf<8> mul_add(Vf<8> a, Vf<8> b, Vf<8> c) {
        return (Vf<8>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
    }
    static FC_INLINE Vf<8> max(Vf<8> a, Vf<8> b) { return (Vf<8>)_mm256_max_ps((__m256)a, (__m256)b); }
    static FC_INLINE Vf<8> min(Vf<8> a, Vf<8> b) { return (Vf<8>)_mm256_min_ps((__m256)a, (__m256)b); }
    static FC_INLINE Vf<8> sqrt(Vf<8> a) { return (Vf<8>)_mm256_sqrt_ps((__m256)a); }
    static FC_INLINE void stream(float* p, Vf<8> v) { _mm256_stream_ps(p, (__m256)v); }
    static FC_INLINE Vf<8> permute(Vf<8> v, Vi<8> lane) {
        return (Vf<8>)_mm256_permutevar8x32_ps((__m256)v, (__m256i)lane);
    }
#if defined(__AVX512VL__)
    static FC_INLINE __mmask8 mask(int n) { return static_cast<__mmask8>((1u << n) - 1u); }
    static FC_INLINE Vf<8> load_n(const float* p, int n) { return (Vf<8>)_mm256_maskz_loadu_ps(mask(n), p); }
    static FC_INLINE void store_n(float* p, Vf<8> v, int n) { _mm256_mask_storeu_ps(p, mask(n), (__m256)v); }
#else
    static FC_INLINE __m256i mask(int n) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tail_mask8 + 8 - n));
    }
    static FC_INLINE Vf<8> load_n(const float* p, int n) { return (Vf<8>)_mm256_maskload_ps(p, mask(n)); }
    static FC_INLINE void store_n(float* p, Vf<8> v, int n) { _mm256_maskstore_ps(p, mask(n), (__m256)v); }
#endif
};
#endif

#if defined(__AVX512F__)
template <>
struct Ops<16> {
    static FC_INLINE Vf<16> mul_add(Vf<16> a, Vf<16> b, Vf<16> c) {
        return (Vf<16>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
    }
    static FC_INLINE Vf<16> max(Vf<16> a, Vf<16> b) {
        return (Vf<16>)_mm512_maskz_max_ps(static_cast<__mmask16>(-1), (__m512)a, (__m512)b);
    }
    static FC_INLINE Vf<16> min(Vf<16> a, Vf<16> b) {
        return (Vf<16>)_mm512_maskz_min_ps(static_cast<__mmask16>(-1), (__m512)a, (__m512)b);
    }
    static FC_INLINE Vf<16> sqrt(Vf<16> a) {  // not _mm512_sqrt_ps: GCC takes its undefined operand for a mistake
        return (Vf<16>)_mm512_maskz_sqrt_ps(static_cast<__mmask16>(-1), (__m512)a);
    }
    static FC_INLINE __mmask16 mask(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
    static FC_INLINE Vf<16> load_n(const float* p, int n) { return (Vf<16>)_mm512_maskz_loadu_ps(mask(n), p); }
    static FC_INLINE void store_n(float* p, Vf<16> v, int n) { _mm512_mask_storeu_ps(p, mask(n), (__m512)v); }
    static FC_INLINE void stream(float* p, Vf<16> v) { _mm512_stream_ps(p, (__m512)v); }
    static FC_INLINE Vf<16> permute(Vf<16> v, Vi<16> lane) {  // maskz for the reason that sqrt has
        return (Vf<16>)_mm512_maskz_permutexvar_ps(static_cast<__mmask16>(-1), (__m512i)lane, (__m512)v);
    }
};
#endif

template <int W>
FC_INLINE Vf<W> mul_add(Vf<W> a, Vf<W> b, Vf<W> c) {
    return Ops<W>::mul_add(a, b, c);
}
// c - a * b, fused like mul_add.
template <int W>
FC_INLINE Vf<W> negated_mul_add(Vf<W> a, Vf<W> b, Vf<W> c) {
#if defined(__AVX512F__)
    if constexpr (W == 16) return (Vf<W>)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)c);
#endif
#if defined(__AVX2__)
    if constexpr (W == 8) return (Vf<W>)_mm256_fnmadd_ps((__m256)a, (__m256)b, (__m256)c);
#endif
    return mul_add<W>(-a, b, c);
}
template <int W>
FC_INLINE Vf<W> vsqrt(Vf<W> a) {
    return Ops<W>::sqrt(a);
}
// Lane i becomes lane lane[i] of v.
template <int W>
FC_INLINE Vf<W> permute(Vf<W> v, Vi<W> lane) {
    return Ops<W>::permute(v, lane);
}
// The first n floats at p (0 <= n <= W), zeros behind them; nothing past p[n-1] is read.
template <int W>
FC_INLINE Vf<W> load_n(const float* p, int n) {
    return n >= W ? load<W>(p) : Ops<W>::load_n(p, n);
}
template <int W>
FC_INLINE void store_n(float* p, Vf<W> v, int n) {
    if (n >= W) {
        store<W>(p, v);
    } else {
        Ops<W>::store_n(p, v, n);
    }
}
// a > b ? a : b, and a < b ? a : b: the second operand wins for NaN and for equal values. They are the instructions, as those
// give zero for a denormal during a run, which a comparison and a selection, where the compiler takes those, hand on.
template <int W>
FC_INLINE Vf<W> vmax(Vf<W> a, Vf<W> b) {
    return Ops<W>::max(a, b);
}
template <int W>
FC_INLINE Vf<W> vmin(Vf<W> a, Vf<W> b) {
    return Ops<W>::min(a, b);
}
// A store past the caches, to an aligned address; stream_end() before other threads may read what was stored so.
template <int W>
FC_INLINE void stream(float* p, Vf<W> v) {
    Ops<W>::stream(p, v);
}
template <int W>
FC_INLINE void put(float* p, Vf<W> v, bool past_the_caches) {
    if (past_the_caches) {
        stream<W>(p, v);
    } else {
        store<W>(p, v);
    }
}
FC_INLINE void stream_end() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}
// The sum over lanes, by halves.
template <int W>
FC_INLINE float sum_lanes(Vf<W> v) {
    if constexpr (W > 4) {
        Vf<W / 2> half[2];
        __builtin_memcpy(half, &v, sizeof v);
        return sum_lanes<W / 2>(half[0] + half[1]);
    } else {
        return (v[0] + v[2]) + (v[1] + v[3]);
    }
}

FC_INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
FC_INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
FC_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
// How many rows of a width make a tile of so many values: one at least, also of rows without values.
FC_INLINE int64_t rows_of(int64_t values, int64_t width) { return max64(1, values / max64(1, width)); }

}  // namespace
}  // namespace
#endif
