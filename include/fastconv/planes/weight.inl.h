// Backward to weights over bfloat16 planes: dw[t][c][k] = sum over pixels of x[pixel at tap t][c] * gy[pixel][k].
//
// The reduction runs over pixels, and the instructions want pairs of its elements side by side: both operands go through
// panels in which two pixels are interleaved, made once per chunk of pixels and used by all the tiles of a slab.
//
//   on vectors   x panel [pair][channel], gy panel [16 filters][pair][filter]: M channels x 2 vectors of filters,
//                M broadcasts and 2 loads for 2 M VDPBF16PS, as in planes/direct.inl.h
//   on tiles     x panel [16 channels][step][channel][pair] (the interleaved panel, transposed), gy panel as above:
//                2 x 2 tiles of 16 channels x 16 filters, products as in planes/amx.inl.h
//
// A tile of the problem is a slab: up to 256 channels x 256 filters of one tap (and group, and part of the pixels); its sums
// stay in scratch while the pixels go by. Bound by the products where a slab has 64 channels and filters or more, by
// the making of the panels below. The cut depends on the problem alone; partial sums are added in order when the gradient is
// unpacked. Sums over several planes that are not finite are computed again by fused multiply-adds, as in planes/fma.inl.h.
#ifndef FASTCONV_PLANES_WEIGHT_INL_H
#define FASTCONV_PLANES_WEIGHT_INL_H

#include "fastconv/planes/amx.inl.h"
#include "fastconv/planes/direct.inl.h"
#include "fastconv/simd/transpose.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kSlab = 256;                       // channels and filters of a slab
constexpr int64_t kSlabPixels = 256;                 // pixels of a panel
constexpr int64_t kSlabSteps = kSlabPixels / kStep;

struct Slab {
    int64_t part, g, t, c0, channels, k0, filters;
};
FC_INLINE int64_t slab_count(int64_t extent) { return ceil_div(extent, kSlab); }
FC_INLINE int64_t slab_size(int64_t extent) {  // equal slabs, in whole blocks of 32
    return ceil_div(ceil_div(extent, slab_count(extent)), 32) * 32;
}
FC_INLINE int64_t slab_tiles(const PlaneWeightArgs* a) {
    return a->parts * a->G * a->T * slab_count(a->C) * slab_count(a->K);
}
FC_INLINE Slab slab(const PlaneWeightArgs* a, int64_t tile) {
    Slab s;
    const int64_t cs = slab_size(a->C), ks = slab_size(a->K);
    s.k0 = tile % slab_count(a->K) * ks, tile /= slab_count(a->K);
    s.c0 = tile % slab_count(a->C) * cs, tile /= slab_count(a->C);
    s.t = tile % a->T, tile /= a->T;
    s.g = tile % a->G, s.part = tile / a->G;
    s.channels = max64(0, min64(cs, a->C - s.c0));
    s.filters = max64(0, min64(ks, a->K - s.k0));
    return s;
}

// ---- panels -----------------------------------------------------------------------------------------------------------

// out[i] = the pair (a[i], b[i]); zeros from `count` to `whole`.
FC_INLINE void interleave(const uint16_t* a, const uint16_t* b, int64_t count, int64_t whole, int32_t* out) {
    constexpr int W = kWidth;
    typedef typename HalfTypes<W>::U H;
    int64_t i = 0;
    for (; i + W <= count; i += W) {
        const Vi<W> low = (Vi<W>)__builtin_convertvector(*reinterpret_cast<const H*>(a + i), Vu<W>);
        const Vi<W> high = (Vi<W>)__builtin_convertvector(*reinterpret_cast<const H*>(b + i), Vu<W>);
        store<W>(out + i, low | (high << 16));
    }
    for (; i < count; ++i) out[i] = static_cast<int32_t>(a[i] | static_cast<uint32_t>(b[i]) << 16);
    for (; i < whole; ++i) out[i] = 0;
}

// The pixels of a chunk at the slab's tap, channel c0, or the row of zeros.
FC_INLINE void slab_pointers(const PlaneWeightArgs* a, const Slab& s, int64_t first, int64_t count, const float** px) {
    PlaneWeightArgs one = *a;
    one.T = 1;
    one.taps = a->taps + 3 * s.t;
    const uint16_t* x = reinterpret_cast<const uint16_t*>(a->x) + s.g * a->C;
    input_pointers(&one, reinterpret_cast<const float*>(x), first, count, count, px);
}
FC_INLINE const uint16_t* slab_pixel(const PlaneWeightArgs* a, const Slab& s, const float* pixel, int64_t plane) {
    const uint16_t* at = reinterpret_cast<const uint16_t*>(pixel);
    return pixel == a->zeros ? at : at + plane * a->x_plane_stride + s.c0;
}
FC_INLINE const uint16_t* slab_gradient(const PlaneWeightArgs* a, const Slab& s, int64_t pixel, int64_t plane) {
    return reinterpret_cast<const uint16_t*>(a->gy + pixel * a->ldy) + plane * a->gy_plane_stride + s.g * a->K + s.k0;
}

// gy of a step of up to 32 pixels, one plane, as packed weights lie: [16 filters][step][plane][pair][filter].
FC_INLINE void step_gradients(const PlaneWeightArgs* a, const Slab& s, int64_t first, int64_t count, int64_t plane,
                              int64_t planes, int64_t steps, int64_t step, int32_t* panel) {
    const uint16_t* zero = reinterpret_cast<const uint16_t*>(a->zeros);
    for (int64_t i = 0; i < kStep / 2; ++i) {
        const uint16_t* even = 2 * i < count ? slab_gradient(a, s, first + 2 * i, plane) : zero;
        const uint16_t* odd = 2 * i + 1 < count ? slab_gradient(a, s, first + 2 * i + 1, plane) : zero;
        for (int64_t k = 0; k < s.filters; k += kLanes)
            interleave(even + k, odd + k, min64(kLanes, s.filters - k), kLanes,
                       panel + ((k / kLanes * steps + step) * planes + plane) * 256 + i * kLanes);
    }
}
// x of `count` pixels: [pair][channel], `row` values from pair to pair.
FC_INLINE void pixel_panel(const PlaneWeightArgs* a, const Slab& s, const float* const* px, int64_t count, int64_t pairs,
                           int64_t plane, int64_t row, int32_t* panel) {
    const uint16_t* zero = reinterpret_cast<const uint16_t*>(a->zeros);
    for (int64_t i = 0; i < pairs; ++i)
        interleave(2 * i < count ? slab_pixel(a, s, px[2 * i], plane) : zero,
                   2 * i + 1 < count ? slab_pixel(a, s, px[2 * i + 1], plane) : zero, s.channels, row, panel + i * row);
}

// to[c][i] = from[i][c], 16 x 16 values; rows of `from` lie `row` apart, those of `to` 16.
FC_INLINE void transpose16(const int32_t* from, int64_t row, int32_t* to) {
#if defined(__AVX512F__)
    Vf<16> r[16];  // bits that are moved
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) r[i] = load<16>(reinterpret_cast<const float*>(from + i * row));
    transpose<16>(r);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) store<16>(reinterpret_cast<float*>(to + i * 16), r[i]);
#else
    for (int64_t c = 0; c < 16; ++c)
        for (int64_t i = 0; i < 16; ++i) to[c * 16 + i] = from[i * row + c];
#endif
}

// ---- sums -------------------------------------------------------------------------------------------------------------

// dw of the slab's channel c and the 16 filters from k: a row of at most 16 floats.
FC_INLINE float* slab_row(const PlaneWeightArgs* a, const Slab& s, int64_t c, int64_t k) {
    const int64_t filter = s.k0 + k, width = min64(kLanes, a->K - filter);
    return a->dw + s.part * a->part_stride + s.g * a->T * a->C * a->K + filter * a->T * a->C +
           (s.t * a->C + s.c0 + c) * width;
}

struct PixelRange {
    int64_t first, stop;
};
FC_INLINE PixelRange part_pixels(const PlaneWeightArgs* a, const Slab& s) {
    const int64_t pixels = a->n * a->iD * a->iH * a->iW, per = ceil_div(pixels, a->parts);
    return {min64(pixels, s.part * per), min64(pixels, (s.part + 1) * per)};
}

// Channel c and filters k..k+W of a slab by fused multiply-adds, the elements of y that are not finite replaced.
template <int W>
FC_NOINLINE void sums_by_fma(const PlaneWeightArgs* a, const Slab& s, int64_t c, int64_t k, const float** px, float* y) {
    const PixelRange range = part_pixels(a, s);
    const int n = static_cast<int>(max64(0, min64(W, s.filters - k)));
    Vf<W> acc = Vf<W>{};
    for (int64_t first = range.first; first < range.stop; first += kSlabPixels) {
        const int64_t count = min64(kSlabPixels, range.stop - first);
        slab_pointers(a, s, first, count, px);
        for (int64_t i = 0; i < count; ++i) {
            const bool none = px[i] == a->zeros;
            const float x = sum_planes(slab_pixel(a, s, px[i], 0) + c, none ? 1 : a->planes, none ? 0 : a->x_plane_stride);
            float value[W] = {};
            for (int j = 0; j < n; ++j)
                value[j] = sum_planes(slab_gradient(a, s, first + i, 0) + k + j, a->planes, a->gy_plane_stride);
            acc = mul_add<W>(splat<W>(x), load<W>(value), acc);
        }
    }
    const Vf<W> was = load<W>(y);
    store<W>(y, ((Vi<W>)was & 0x7f800000) == 0x7f800000 ? acc : was);
}

// The 16 sums of a channel to where they belong.
FC_INLINE void store_sums(const PlaneWeightArgs* a, const Slab& s, int64_t c, int64_t k, const float** px, float* sums) {
    float* row = slab_row(a, s, c, k);
    const int64_t width = min64(kLanes, s.filters - k);
    for (int64_t v = 0; v < width; v += kWidth) {
        if (a->planes > 1 && !all_finite<kWidth>(load<kWidth>(sums + v))) sums_by_fma<kWidth>(a, s, c, k + v, px, sums + v);
        store_n<kWidth>(row + v, load<kWidth>(sums + v), static_cast<int>(min64(kWidth, width - v)));
    }
}

// ---- on vectors -------------------------------------------------------------------------------------------------------

// M channels x NV vectors of filters over `pairs` pairs; x: `row` values from pair to pair; gy: vectors `step` values apart.
template <int W, int NV, int M>
FC_NOINLINE void dot_sums(const int32_t* x, int64_t row, const int32_t* gy, int64_t step, int64_t pairs, bool first,
                          float* sums, int64_t sums_row, int64_t sums_step) {
    Vf<W> acc[M][NV];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[m][v] = first ? Vf<W>{} : load<W>(sums + m * sums_row + v * sums_step);
    for (int64_t i = 0; i < pairs; ++i, x += row, gy += kLanes) {
        Vi<W> b[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) b[v] = load<W>(gy + v * step);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) dot_pairs<W, NV, M>(acc, b, m, x[m]);
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) store<W>(sums + m * sums_row + v * sums_step, acc[m][v]);
}

template <int W, int NV>
FC_INLINE void dot_channels_sums(int64_t channels, const int32_t* x, int64_t row, const int32_t* gy, int64_t step,
                                 int64_t pairs, bool first, float* sums, int64_t sums_row, int64_t sums_step) {
    int64_t c = 0;
    const auto at = [&] { return sums + c * sums_row; };
    for (; c + kDotM <= channels; c += kDotM)
        dot_sums<W, NV, kDotM>(x + c, row, gy, step, pairs, first, at(), sums_row, sums_step);
    if constexpr (kDotM == 14)
        if (c + 7 <= channels) dot_sums<W, NV, 7>(x + c, row, gy, step, pairs, first, at(), sums_row, sums_step), c += 7;
    if constexpr (kDotM > 4)
        if (c + 4 <= channels) dot_sums<W, NV, 4>(x + c, row, gy, step, pairs, first, at(), sums_row, sums_step), c += 4;
    if (c + 2 <= channels) dot_sums<W, NV, 2>(x + c, row, gy, step, pairs, first, at(), sums_row, sums_step), c += 2;
    if (c + 1 <= channels) dot_sums<W, NV, 1>(x + c, row, gy, step, pairs, first, at(), sums_row, sums_step), c += 1;
}

FC_INLINE int64_t bf16_conv_backward_weight_tiles(const PlaneWeightArgs* a) { return slab_tiles(a); }
FC_INLINE size_t bf16_conv_backward_weight_scratch(const PlaneWeightArgs* a) {
    const int64_t cs = slab_size(a->C), ks = slab_size(a->K);
    return static_cast<size_t>(cs * ks + kSlabPixels / 2 * (cs + ks)) * 4 + kSlabPixels * sizeof(void*);
}

// sums: [16 filters][channel][filter].
inline void bf16_conv_backward_weight_run(const PlaneWeightArgs* a, int64_t begin, int64_t end, void* scratch) {
    const int64_t cs = slab_size(a->C), ks = slab_size(a->K), pairs_most = kSlabPixels / 2;
    float* sums = static_cast<float*>(scratch);
    int32_t* x_panel = static_cast<int32_t*>(scratch) + cs * ks;
    int32_t* gy_panel = x_panel + pairs_most * cs;
    const float** px = reinterpret_cast<const float**>(gy_panel + pairs_most * ks);
    for (int64_t tile = begin; tile < end; ++tile) {
        const Slab s = slab(a, tile);
        const PixelRange range = part_pixels(a, s);
        if (range.first == range.stop) memset(sums, 0, static_cast<size_t>(cs * ks) * 4);
        for (int64_t first = range.first; first < range.stop; first += kSlabPixels) {
            const int64_t count = min64(kSlabPixels, range.stop - first), steps = ceil_div(count, kStep);
            const int64_t pairs = ceil_div(count, 2), block = steps * kStep / 2 * kLanes;
            slab_pointers(a, s, first, count, px);
            pixel_panel(a, s, px, count, pairs, 0, s.channels, x_panel);
            for (int64_t j = 0; j < steps; ++j)
                step_gradients(a, s, first + j * kStep, min64(kStep, count - j * kStep), 0, 1, steps, j, gy_panel);
            for (int64_t k = 0; k < s.filters; k += 2 * kWidth) {
                const int32_t* gy = gy_panel + k / kLanes * block + k % kLanes;
                float* at = sums + k / kLanes * kLanes * cs + k % kLanes;
                const int64_t step = kWidth == kLanes ? block : kWidth;
                const int64_t sums_step = kWidth == kLanes ? kLanes * cs : kWidth;
                if (s.filters - k > kWidth) {
                    dot_channels_sums<kWidth, 2>(s.channels, x_panel, s.channels, gy, step, pairs, first == range.first, at,
                                                 kLanes, sums_step);
                } else {
                    dot_channels_sums<kWidth, 1>(s.channels, x_panel, s.channels, gy, step, pairs, first == range.first, at,
                                                 kLanes, sums_step);
                }
            }
        }
        for (int64_t k = 0; k < s.filters; k += kLanes)
            for (int64_t c = 0; c < s.channels; ++c) store_sums(a, s, c, k, px, sums + k * cs + c * kLanes);
    }
}

// ---- on tiles ---------------------------------------------------------------------------------------------------------

FC_INLINE int64_t bf16_conv_backward_weight_amx_tiles(const PlaneWeightArgs* a) { return slab_tiles(a); }
FC_INLINE size_t bf16_conv_backward_weight_amx_scratch(const PlaneWeightArgs* a) {
    const int64_t cs = slab_size(a->C), ks = slab_size(a->K), pairs = kSlabPixels / 2;
    return static_cast<size_t>(cs * ks + pairs * (cs + ks) * a->planes + 16 * cs) * 4 + kSlabSteps * 2 * sizeof(TileRows) +
           kSlabPixels * sizeof(void*);
}

// One pair of 16-channel blocks by all filters of the slab.
template <int P>
FC_INLINE void slab_products(Tiles& tiles, const Slab& s, int64_t c, const int32_t* x_panel, int64_t x_plane,
                             const int32_t* gy_panel, int64_t steps, bool first, TileRows* rows, float* sums) {
    const int64_t pairs = steps * kStep / 2;
    for (int64_t i = 0; i < 2; ++i)
        for (int64_t j = 0; j < steps; ++j)
            rows[i * kSlabSteps + j] = {reinterpret_cast<const char*>(x_panel + (c / 16 + i) * 16 * pairs + j * 256), kTileRow,
                                        x_plane * 4};
    for (int64_t k = 0; k < s.filters; k += kTileFilters)
        tile_steps<P>(tiles, s.channels - c > 16, s.filters - k > kLanes, rows, kSlabSteps,
                      reinterpret_cast<const char*>(gy_panel + k * pairs * P), kLanes * pairs * P * 4, steps, first,
                      sums + k / kTileFilters * 1024);
}

// sums: [32 channels][32 filters][channel][filter]; gy panel: [16 filters][step][plane][pair][filter], as packed weights.
template <int P>
FC_INLINE void slab_run(const PlaneWeightArgs* a, int64_t begin, int64_t end, void* scratch) {
    const int64_t cs = slab_size(a->C), ks = slab_size(a->K), pairs_most = kSlabPixels / 2;
    float* sums = static_cast<float*>(scratch);
    int32_t* x_panel = static_cast<int32_t*>(scratch) + cs * ks;
    int32_t* gy_panel = x_panel + pairs_most * cs * P;
    int32_t* mixed = gy_panel + pairs_most * ks * P;  // 16 pairs, interleaved
    TileRows* rows = reinterpret_cast<TileRows*>(mixed + 16 * cs);
    const float** px = reinterpret_cast<const float**>(rows + kSlabSteps * 2);
    Tiles tiles;
    tiles.open();
    for (int64_t tile = begin; tile < end; ++tile) {
        const Slab s = slab(a, tile);
        const PixelRange range = part_pixels(a, s);
        if (range.first == range.stop) memset(sums, 0, static_cast<size_t>(cs * ks) * 4);
        for (int64_t first = range.first; first < range.stop; first += kSlabPixels) {
            const int64_t count = min64(kSlabPixels, range.stop - first), steps = ceil_div(count, kStep);
            const int64_t pairs = steps * kStep / 2, x_plane = pairs * cs;
            slab_pointers(a, s, first, count, px);
            for (int64_t p = 0; p < P; ++p)
                for (int64_t j = 0; j < steps; ++j) {
                    const int64_t at = j * kStep, here = min64(kStep, count - at);
                    pixel_panel(a, s, px + at, here, kStep / 2, p, cs, mixed);
                    for (int64_t c = 0; c < cs; c += 16)
                        transpose16(mixed + c, cs, x_panel + p * x_plane + c * pairs + j * 256);
                    step_gradients(a, s, first + at, here, p, P, steps, j, gy_panel);
                }
            for (int64_t c = 0; c < s.channels; c += 32)
                slab_products<P>(tiles, s, c, x_panel, x_plane, gy_panel, steps, first == range.first, rows, sums + c * ks);
        }
        for (int64_t c = 0; c < s.channels; ++c)
            for (int64_t k = 0; k < s.filters; k += kLanes)
                store_sums(a, s, c, k, px, sums + c / 32 * 32 * ks + k / 32 * 1024 + c % 32 * 32 + k % 32);
    }
    tiles.close();
}

FC_TILED void bf16_conv_backward_weight_amx_run(const PlaneWeightArgs* a, int64_t begin, int64_t end, void* scratch) {
    if (a->planes == 1) {
        slab_run<1>(a, begin, end, scratch);
    } else if (a->planes == 2) {
        slab_run<2>(a, begin, end, scratch);
    } else {
        slab_run<3>(a, begin, end, scratch);
    }
}

}  // namespace
}  // namespace
#endif
