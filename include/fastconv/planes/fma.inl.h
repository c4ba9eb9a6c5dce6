// Results that are not finite, again by float32: what a float32 kernel would have given.
//
// A value that is not finite, or a sum that leaves the range, spoils the products of planes: an infinite h meets the zeros of
// the other operand's m and l, and m is NaN already (planes/planes.inl.h). So every result of planes that should not be a finite
// number is not one; such results, and only they, are computed again: one accumulator over (tap, channel) in order, fused,
// of the operands as their planes add up. With three planes these are the operands themselves (from 2^-100 up), and the
// results have the bits of f32_conv_direct; with two, infinities and NaN are where that kernel has them.
// A rule per element of the output: no neighbour in the tile, the batch or the filter block has a say.
#ifndef FASTCONV_PLANES_FMA_INL_H
#define FASTCONV_PLANES_FMA_INL_H

#include "fastconv/planes/epilogue.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

template <int W>
FC_INLINE bool all_finite(Vf<W> v) {
    const Vi<W> out = ((Vi<W>)v & 0x7f800000) == 0x7f800000;
    if constexpr (W == 16) {
#if defined(__AVX512F__)
        return _mm512_test_epi32_mask((__m512i)out, (__m512i)out) == 0;
#endif
    }
    if constexpr (W == 8) {
#if defined(__AVX2__)
        return _mm256_testz_si256((__m256i)out, (__m256i)out);
#endif
    }
    int32_t any = 0;
    for (int i = 0; i < W; ++i) any |= out[i];
    return any == 0;
}

// The sum of planes. Two of the largest float32 add up to 2^128: that is taken back; an infinite or NaN h is the value.
template <int W>
FC_INLINE Vf<W> sum_planes(Vf<W> h, Vf<W> rest) {
    const Vi<W> top = splat_i<W>(0x7f7fffff), value = (Vi<W>)(h + rest), sign = (Vi<W>)h & splat_i<W>(1 << 31);
    const Vi<W> sum = (value & 0x7fffffff) > top ? top | sign : value;
    return (Vf<W>)(((Vi<W>)h & 0x7fffffff) > top ? (Vi<W>)h : sum);
}
FC_INLINE float sum_planes(const uint16_t* x, int64_t planes, int64_t stride) {
    float rest = 0;
    for (int64_t p = planes - 1; p > 0; --p) rest += plane_value(x[p * stride]);
    return sum_planes<4>(splat<4>(plane_value(*x)), splat<4>(rest))[0];
}
// Pairs of 16 filters' weights, `stride` elements from plane to plane: the odd ones or the even ones of W filters.
template <int W>
FC_INLINE Vf<W> sum_planes(const uint16_t* w, bool odd, int64_t planes, int64_t stride) {
    const auto plane = [&](int64_t p) {
        const Vi<W> v = load<W>(reinterpret_cast<const int32_t*>(w + p * stride));
        return odd ? (Vf<W>)(v & splat_i<W>(static_cast<int32_t>(0xffff0000u))) : (Vf<W>)(v << 16);
    };
    Vf<W> rest = Vf<W>{};
    for (int64_t p = planes - 1; p > 0; --p) rest = rest + plane(p);
    return sum_planes<W>(plane(0), rest);
}

// y[0..W): the elements that are not finite, computed again. px[t * pitch] is the pixel at tap t, w the W filters' first
// pair in the packed weights.
template <int W>
FC_NOINLINE void again_by_fma(const PlaneConvArgs* a, const float* const* px, int64_t pitch, const uint16_t* w, float* y) {
    const int64_t even = (a->C + 1) & ~int64_t{1};
    Vf<W> acc = Vf<W>{};
    for (int64_t t = 0; t < a->T; ++t) {
        const float* pixel = px[t * pitch];
        const int64_t stride = pixel == a->zeros ? 0 : a->plane_stride, planes = pixel == a->zeros ? 1 : a->planes;
        for (int64_t c = 0; c < a->C; ++c) {
            const float x = sum_planes(reinterpret_cast<const uint16_t*>(pixel) + c, planes, stride);
            const int64_t k = t * even + c;
            const uint16_t* at = w + (k / kStep * a->planes * kStep + k % kStep / 2 * 2) * kLanes;
            acc = mul_add<W>(splat<W>(x), sum_planes<W>(at, k % 2, a->planes, kStep * kLanes), acc);
        }
    }
    const Vf<W> was = load<W>(y);
    store<W>(y, ((Vi<W>)was & 0x7f800000) == 0x7f800000 ? acc : was);
}

}  // namespace
}  // namespace
#endif
