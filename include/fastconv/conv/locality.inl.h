// What keeps the error of a transform local: the output pixels whose window is quiet beside the rest of their tile, and those
// of tiles that leave the range of float32, are computed by the tile of f32_conv_direct instead (docs/convolution.md, "Local").
//
// A transform's rounding errors are spread over its tile, in proportion to the tile's norm. So the energy (sum of squares) of
// every pixel is taken before it is transformed: C / kWidth multiply-adds a pixel, which also fetch it. Windows are compared
// with their tile, one by one, so that a bright pixel costs the windows around it and not a tile.
#ifndef FASTCONV_LOCALITY_INL_H
#define FASTCONV_LOCALITY_INL_H

#include "fastconv/conv/tile.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr float kFaint = 0x1p-100f;          // a tile of less energy: its squares, or its transform, underflow
constexpr int32_t kLow = (127 - 80) << 23;   // 2^-80: results of a tile that stay below lose digits to what is flushed
constexpr int32_t kInfinite = 0xff << 23;

FC_INLINE float energy(const float* p, int64_t n) {
    Vf<kWidth> sum = {};
    for (; n >= kWidth; n -= kWidth, p += kWidth) {
        const Vf<kWidth> v = load<kWidth>(p);
        sum = mul_add<kWidth>(v, v, sum);
    }
    if (n) {
        const Vf<kWidth> v = Ops<kWidth>::load_n(p, static_cast<int>(n));
        sum = mul_add<kWidth>(v, v, sum);
    }
    return sum_lanes<kWidth>(sum);
}

// Magnitudes as integers, which are ordered as the floats are, NaN above infinity.
template <int W>
FC_INLINE Vi<W> magnitude_bits(Vf<W> v) {
    return (Vi<W>)v & splat_i<W>(0x7fffffff);
}
template <int W>
FC_INLINE Vi<W> larger(Vi<W> a, Vi<W> b) {
    return a > b ? a : b;
}
template <int W>
FC_INLINE bool any_lane(Vi<W> mask) {
#if defined(__AVX512F__)
    if constexpr (W == 16) return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#endif
#if defined(__AVX2__)
    if constexpr (W == 8) return _mm256_movemask_ps((__m256)mask) != 0;
#endif
    int32_t any = 0;
    for (int i = 0; i < W; ++i) any |= mask[i];
    return any != 0;
}

// Whether results whose largest magnitudes (as integers) are these cannot stand: infinite, NaN or, but for zeros, very small.
template <int W>
FC_INLINE bool out_of_range(Vi<W> peak) {
    const Vi<W> faint = (peak < splat_i<W>(kLow)) & (peak > Vi<W>{});
    return any_lane<W>((peak >= splat_i<W>(kInfinite)) | faint);
}

// Whether a pixel is black (denormals are zero).
FC_INLINE bool is_black(const float* p, int64_t n) {
    Vi<kWidth> peak = {};
    for (int64_t i = 0; i < n; i += kWidth)
        peak = larger<kWidth>(peak, magnitude_bits<kWidth>(load_n<kWidth>(p + i, static_cast<int>(min64(kWidth, n - i)))));
    return !any_lane<kWidth>(peak >= splat_i<kWidth>(1 << 23));
}

// ---- weights of few bits -------------------------------------------------------------------------------------------
//
// Sobel, Laplace, counting neighbours: weights that are small multiples of one power of two. With integers for inputs every
// sum of products is exact, and the transforms' are not, so that such a convolution is computed without.

struct FewBits {
    Vi<kWidth> ones = {}, most = {}, least = splat_i<kWidth>(0x7fffffff);
    FC_INLINE void add(Vf<kWidth> v) {
        Vi<kWidth> m = magnitude_bits<kWidth>(v);
        m = m < splat_i<kWidth>(1 << 23) ? Vi<kWidth>{} : m;
        ones |= m;
        most = larger<kWidth>(most, m);
        least = (m == Vi<kWidth>{}) | (m > least) ? least : m;
    }
    FC_INLINE void store(int32_t* to) const {
        to[0] = to[1] = 0, to[2] = 0x7fffffff;
        for (int i = 0; i < kWidth; ++i) {
            to[0] |= ones[i];
            to[1] = to[1] > most[i] ? to[1] : most[i];
            to[2] = to[2] < least[i] ? to[2] : least[i];
        }
    }
};

// What `count` parts of the weights say together. exact: at most seven bits each, the largest at most 64 times the smallest.
// finite: known to be.
struct WeightKind {
    bool exact, finite;
};

FC_INLINE WeightKind weight_kind(const int32_t* parts, int64_t count) {
    if (!parts) return {false, false};
    int32_t ones = 0, most = 0, least = 0x7fffffff;
    for (int64_t i = 0; i < count; ++i, parts += 3) {
        ones |= parts[0];
        most = most > parts[1] ? most : parts[1];
        least = least < parts[2] ? least : parts[2];
    }
    return {most > 0 && most < kInfinite && (ones & 0x1ffff) == 0 && most - least <= 6 << 23, most < kInfinite};
}

// Whether any of `count` channels has loud edges (winograd/edges.inl.h).
FC_INLINE bool any_loud(const int32_t* loud, int64_t count) {
    bool any = false;
    for (int64_t i = 0; loud && i < count; ++i) any |= loud[i] != 0;
    return any;
}

// ---- output pixels without transforms -------------------------------------------------------------------------------

struct Redo {
    const float** px;  // [tap][pitch]
    float** out;
    const float** res;
    int64_t pitch, count;
};

FC_INLINE int64_t redo_pitch(int64_t taps) { return taps <= 64 ? 8 * kTileM : taps <= 1024 ? 2 * kTileM : kTileM; }
FC_INLINE size_t redo_bytes(int64_t taps) { return static_cast<size_t>((taps + 2) * redo_pitch(taps)) * sizeof(void*); }
FC_INLINE Redo redo_list(void* scratch, int64_t taps) {
    const int64_t pitch = redo_pitch(taps);
    const float** px = static_cast<const float**>(scratch);
    return {px, static_cast<float**>(scratch) + taps * pitch, px + (taps + 1) * pitch, pitch, 0};
}

// Heights of its tile: one, as it is rare, and its code would be a sixth of these families'. The last tile repeats the last pixel.
constexpr int kRedoM = kTileM == 14 ? 7 : kTileM;

template <int W, int NV>
FC_NOINLINE void redo_block(const Redo& r, int64_t taps, int64_t C, const float* w, const float* zeros, bool residual,
                            const Epilogue& e) {
    for (int64_t m = 0; m < r.count; m += kRedoM)
        conv_runs<W, NV, kRedoM>(r.px + m, r.pitch, taps, C, w, zeros, r.out + m, residual ? r.res + m : nullptr, e, 0);
}

// The listed pixels of group g, blocks begin .. end - 1 of filters, as f32_conv_direct computes them from its packed weights.
// `zeros`: the row that stands for padding and black pixels, or null where they are to be multiplied (by infinities).
template <class Args>
FC_NOINLINE void redo(const Args* a, const Redo& r, int64_t taps, int64_t g, const float* w, const float* zeros, int64_t begin,
                      int64_t end) {
    for (int64_t m = r.count; m % kRedoM; ++m) {
        for (int64_t t = 0; t < taps; ++t) r.px[t * r.pitch + m] = r.px[t * r.pitch + r.count - 1];
        r.out[m] = r.out[r.count - 1];
        if (a->residual) r.res[m] = r.res[r.count - 1];
    }
    Epilogue e = {nullptr, 0, 0, a->act, static_cast<float>(a->act_a), static_cast<float>(a->act_b), false};
    for (int64_t b = begin; b < end; ++b) {
        const int64_t k0 = b * kBlock;
        e.lanes = min64(kBlock, a->K - k0);
        e.first = g * a->K + k0;
        e.bias = a->bias ? a->bias + e.first : nullptr;
        const float* from = w + (g * packed_filters(a->K) + k0) * taps * a->C;
        const int64_t width = block_width(e.lanes);
        if (width == kBlock) {
            redo_block<kWidth, 2>(r, taps, a->C, from, zeros, a->residual, e);
        } else if (width == kWidth) {
            redo_block<kWidth, 1>(r, taps, a->C, from, zeros, a->residual, e);
        } else {
            redo_block<kHalf, 1>(r, taps, a->C, from, zeros, a->residual, e);
        }
    }
}

// ---- windows of a grid ------------------------------------------------------------------------------------------------

// sums[i] = e[0] + e[step] + .. of `taps` values from i on, for all i whose window ends below n; by doubling, so that it takes
// log2(taps) additions. Destroys e; both have a vector's room behind n. Returns where the sums are.
FC_INLINE float* window_sums(float* e, float* sums, int64_t n, int64_t taps, int64_t step) {
    if (taps == 1) return e;
    int64_t offset = 0;
    for (int64_t bit = 1;; bit *= 2) {
        if (taps & bit) {
            for (int64_t i = 0; i < n - offset; i += kWidth) {
                const Vf<kWidth> v = load<kWidth>(e + i + offset);
                store<kWidth>(sums + i, offset ? v + load<kWidth>(sums + i) : v);
            }
            offset += bit * step;
        }
        if (2 * bit > taps) return sums;
        for (int64_t i = 0; i < n - bit * step; i += kWidth)
            store<kWidth>(e + i, load<kWidth>(e + i) + load<kWidth>(e + i + bit * step));
    }
}

}  // namespace
}  // namespace
#endif
