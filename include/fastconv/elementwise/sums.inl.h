// Sums of x, or of x * z, over images, pixels, channels: gradients of what was repeated, and of biases.
//
//            channels kept: a tile is kSumVectors vectors of         channels summed: a tile is some
//            channels of some output rows                            output rows, each one number
//   rows     [ v0 v1 v2 v3 ] += x[row] * z[row]                       sum of lanes of (v += x[row] * z[row])
//
// The rows of an output are cut into ranges of per_part, whose sums lie one behind the other, [output][range][channel], and
// are added up by a second step of this kernel (ops/arithmetic.py): a sum of few channels has tiles for all threads too. The
// ranges depend on the planned problem; those behind the rows of a smaller batch hold zeros.
//
// Runs of kSumRun rows are added up apart from the total, which keeps the rounding error near that of pairwise
// summation. Bound by memory; where there is one vector of channels, four rows at a time have sums of their own, as an addition
// takes four cycles.
#ifndef FASTCONV_SUMS_INL_H
#define FASTCONV_SUMS_INL_H

#include "fastconv/elementwise/broadcast.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kSumVectors = 4;
constexpr int64_t kSumRun = 128;
constexpr int64_t kSumChannels = kSumVectors * kWidth;

struct SumShape {
    int64_t outputs;          // ranges of all sums: rows of y
    int64_t rows;             // rows added up for each sum
    int64_t outputs_per_tile;
    int64_t channel_tiles;
};

FC_INLINE SumShape sum_shape(const SumArgs* a) {
    const int64_t n = a->fixed_n ? a->fixed_n : a->n;
    const int64_t out_images = a->keep_images ? n : 1, out_pixels = a->keep_pixels ? a->pixels : 1;
    const int64_t rows = (a->keep_images ? 1 : n) * (a->keep_pixels ? 1 : a->pixels);
    const int64_t width = a->keep_channels ? min64(a->C, kSumChannels) : a->C;
    const int64_t per = a->parts > 1 ? a->per_part : rows;
    return {out_images * out_pixels * a->parts, rows, max64(1, kMapTile / max64(1, per * width)),
            a->keep_channels ? ceil_div(a->C, kSumChannels) : 1};
}

FC_INLINE int64_t f32_sum_axes_tiles(const SumArgs* a) {
    const SumShape s = sum_shape(a);
    return ceil_div(s.outputs, s.outputs_per_tile) * s.channel_tiles;
}
FC_INLINE size_t f32_sum_axes_scratch(const SumArgs*) { return 0; }

// The rows of a sum one after the other, from one of them on: where they lie in x and z.
struct SumRows {
    const SumArgs* a;
    int64_t image, pixel;

    FC_INLINE SumRows(const SumArgs* args, int64_t output, int64_t row) : a(args) {
        const int64_t out_pixels = a->keep_pixels ? a->pixels : 1, row_pixels = a->keep_pixels ? 1 : max64(1, a->pixels);
        image = a->keep_images ? output / out_pixels : row / row_pixels;
        pixel = a->keep_pixels ? output % out_pixels : row % row_pixels;
    }
    FC_INLINE void next() {
        if (a->keep_pixels) {
            ++image;
        } else if (++pixel == a->pixels) {
            pixel = 0;
            ++image;
        }
    }
    FC_INLINE V add(V sum, int64_t c, int n) const {
        const V x = load_strided(a->x + image * a->sx.image + pixel * a->sx.pixel, a->sx.channel, c, n);
        if (!a->z) return sum + x;
        const V z = load_strided(a->z + image * a->sz.image + pixel * a->sz.pixel, a->sz.channel, c, n);
        return mul_add<kWidth>(x, z, sum);
    }
};

template <int NV>
FC_NOINLINE void sum_keep_channels(const SumArgs* a, int64_t output, int64_t begin, int64_t end, int64_t c0, float* y) {
    constexpr int U = NV == 1 ? 4 : NV == 2 ? 2 : 1;
    const int last = static_cast<int>(min64(kWidth, a->C - c0 - (NV - 1) * kWidth));
    V total[NV] = {};
    SumRows rows(a, output, begin);
    for (int64_t r = begin; r < end;) {
        const int64_t stop = min64(end, r + kSumRun);
        V part[U][NV] = {};
        for (; r + U <= stop; r += U)
#pragma GCC unroll 4
            for (int u = 0; u < U; ++u, rows.next())
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v)
                    part[u][v] = rows.add(part[u][v], c0 + v * kWidth, v + 1 < NV ? kWidth : last);
        for (; r < stop; ++r, rows.next())
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v)
                part[0][v] = rows.add(part[0][v], c0 + v * kWidth, v + 1 < NV ? kWidth : last);
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
#pragma GCC unroll 4
            for (int u = 1; u < U; ++u) part[0][v] += part[u][v];
            total[v] += part[0][v];
        }
    }
    for (int v = 0; v < NV; ++v)
        store_n<kWidth>(y + c0 + v * kWidth, total[v], v + 1 < NV ? kWidth : last);
}

FC_INLINE float sum_channels(const SumArgs* a, int64_t output, int64_t begin, int64_t end) {
    V total = {}, part = {};
    int64_t terms = 0;
    SumRows rows(a, output, begin);
    for (int64_t r = begin; r < end; ++r, rows.next()) {
        for (int64_t c = 0; c < a->C; c += kWidth) {
            const int n = static_cast<int>(min64(kWidth, a->C - c));
            V term = rows.add(V{}, c, n);
            if (n < kWidth) {  // a repeated value fills all lanes
                float lanes[kWidth] = {};
                store_n<kWidth>(lanes, term, n);
                term = load<kWidth>(lanes);
            }
            part += term;
            if (++terms % kSumRun == 0) {
                total += part;
                part = V{};
            }
        }
    }
    return sum_lanes<kWidth>(total + part);
}

inline void f32_sum_axes_run(const SumArgs* a, int64_t begin, int64_t end, void*) {
    const SumShape s = sum_shape(a);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t first = tile / s.channel_tiles * s.outputs_per_tile, c0 = tile % s.channel_tiles * kSumChannels;
        const int64_t last = min64(s.outputs, first + s.outputs_per_tile);
        for (int64_t o = first; o < last; ++o) {
            const int64_t output = o / a->parts, from = min64(s.rows, o % a->parts * a->per_part);
            const int64_t to = a->parts > 1 ? min64(s.rows, from + a->per_part) : s.rows;
            float* y = a->y + o * a->ldy;
            if (!a->keep_channels) {
                *y = sum_channels(a, output, from, to);
            } else if (a->C - c0 > 2 * kWidth) {
                if (a->C - c0 > 3 * kWidth) {
                    sum_keep_channels<4>(a, output, from, to, c0, y);
                } else {
                    sum_keep_channels<3>(a, output, from, to, c0, y);
                }
            } else if (a->C - c0 > kWidth) {
                sum_keep_channels<2>(a, output, from, to, c0, y);
            } else {
                sum_keep_channels<1>(a, output, from, to, c0, y);
            }
        }
    }
}

}  // namespace
}  // namespace
#endif
