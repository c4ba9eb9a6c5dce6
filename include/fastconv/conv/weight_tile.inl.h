// The register tile of backward to weights: M values of one operand's pixels by NV vectors of the other's.
//
//                        b[p]: the pixel's filters (or channels), NV loads
//                        +----------+----------+
//   a[p][0]   broadcast--| acc[0][0]| acc[0][1]|      per pixel: M + NV loads, M * NV fused multiply-adds;
//   a[p][1]            --| acc[1][0]| acc[1][1]|      the accumulators stay in registers while a chunk of pixels goes by
//     ...                |   ...    |   ...    |      and rest in the gradient between chunks
//   a[p][M-1]            +----------+----------+
//
// Pixels are found through two lists of pointers, so that pairs whose input pixel is padding are left out. Which operand is
// broadcast is the caller's choice: channels of x by vectors of filters, or, where the filters would fill their last vector
// badly, filters of gy by vectors of channels. AVX-512: up to 14 x 32, AVX2: 6 x 16. Bound by the FMA units.
#ifndef FASTCONV_CONV_WEIGHT_TILE_INL_H
#define FASTCONV_CONV_WEIGHT_TILE_INL_H

#include "fastconv/conv/tile.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// What a chunk of pixels is to a tile: pairs of pixels, and how far behind them (in floats) the next chunk's lie, which are
// prefetched into the second-level cache on the way.
struct WeightPairs {
    const float* const* a;
    const float* const* b;
    int64_t count;
    int64_t ahead_a, ahead_b;
};

template <int W, int NV, int M, bool kWhole>
FC_NOINLINE void weight_tile(const WeightPairs& pairs, int64_t at_a, int64_t at_b, int64_t lanes, float* dw) {
    Vf<W> acc[M][NV];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[m][v] = load<W>(dw + (m * NV + v) * W);
    const int last = static_cast<int>(lanes - (NV - 1) * W);  // valid lanes of the last vector
    const int64_t count = pairs.count, ahead_a = pairs.ahead_a, ahead_b = pairs.ahead_b;
    const float* const* pa = pairs.a;
    const float* const* pb = pairs.b;
    for (int64_t p = 0; p < count; ++p) {
        const float *x = pa[p] + at_a, *y = pb[p] + at_b;
        Vf<W> b[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            b[v] = kWhole || v + 1 < NV ? load<W>(y + v * W) : Ops<W>::load_n(y + v * W, last);
            __builtin_prefetch(y + v * W + ahead_b, 0, 2);
        }
        __builtin_prefetch(x + ahead_a, 0, 2);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            const Vf<W> a = splat<W>(x[m]);
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) acc[m][v] = mul_add<W>(a, b[v], acc[m][v]);
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) store<W>(dw + (m * NV + v) * W, acc[m][v]);
}

template <int W, int NV, int M>
FC_INLINE void weight_tile_of(int64_t m, const WeightPairs& pairs, int64_t at_a, int64_t at_b, int64_t lanes, float* dw) {
    if constexpr (M > 1) {
        if (m < M) return weight_tile_of<W, NV, M - 1>(m, pairs, at_a, at_b, lanes, dw);
    }
    if (lanes == NV * W) return weight_tile<W, NV, M, true>(pairs, at_a, at_b, lanes, dw);
    weight_tile<W, NV, M, false>(pairs, at_a, at_b, lanes, dw);
}

// `rows` values of a by one block of b: tiles as equal in height as can be, so that none is too low to hide the latency of
// an FMA.
template <int W, int NV>
FC_INLINE void weight_block(WeightPairs pairs, int64_t rows, int64_t at_b, int64_t lanes, float* dw) {
    const int64_t tiles = ceil_div(rows, kTileM), low = rows / tiles, high = rows % tiles;
    for (int64_t i = 0, r = 0; i < tiles; ++i) {
        const int64_t m = low + (i < high);
        weight_tile_of<W, NV, kTileM>(m, pairs, r, at_b, lanes, dw + r * NV * W);
        r += m;
        pairs.ahead_b = 0;
    }
}

// R rows of taps at once, each a run of C values, so that narrow first layers have enough accumulators. All taps lie
// inside the image: row r of taps is `shift[r]` floats behind the pixel's pointer.
template <int W, int NV, int C, int R>
FC_NOINLINE void weight_rows(const float* const* px, const int64_t* shift, const float* gy, int64_t ldy, int64_t count,
                             int64_t lanes, float* dw) {
    Vf<W> acc[R][C][NV];
    int n[NV];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) acc[r][c][v] = load<W>(dw + ((r * C + c) * NV + v) * W);
    for (int v = 0; v < NV; ++v) n[v] = static_cast<int>(max64(0, min64(W, lanes - v * W)));
    for (int64_t p = 0; p < count; ++p, gy += ldy) {
        Vf<W> b[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) b[v] = load_n<W>(gy + v * W, n[v]);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const float* x = px[p] + shift[r];
#pragma GCC unroll 8
            for (int c = 0; c < C; ++c) {
                const Vf<W> a = splat<W>(x[c]);
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v) acc[r][c][v] = mul_add<W>(a, b[v], acc[r][c][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) store<W>(dw + ((r * C + c) * NV + v) * W, acc[r][c][v]);
}

// Rows of taps per tile: as many as fill the accumulators of one vector of filters.
template <int C>
constexpr int tap_rows() {
    return kTileM / C < 1 ? 1 : kTileM / C > 7 ? 7 : kTileM / C;
}

template <int W, int NV, int C>
FC_INLINE void weight_tap_rows(const float* const* px, const int64_t* shift, int64_t rows, const float* gy,
                               int64_t ldy, int64_t count, int64_t lanes, float* dw) {
    constexpr int R = tap_rows<C>();
    if (rows == R) {
        weight_rows<W, NV, C, R>(px, shift, gy, ldy, count, lanes, dw);
    } else {
        for (int64_t r = 0; r < rows; ++r)
            weight_rows<W, NV, C, 1>(px, shift + r, gy, ldy, count, lanes, dw + r * C * NV * W);
    }
}

template <int W, int NV>
FC_INLINE void weight_taps(int64_t C, const float* const* px, const int64_t* shift, int64_t rows, const float* gy,
                           int64_t ldy, int64_t count, int64_t lanes, float* dw) {
    switch (C) {
        case 1: weight_tap_rows<W, NV, 1>(px, shift, rows, gy, ldy, count, lanes, dw); break;
        case 2: weight_tap_rows<W, NV, 2>(px, shift, rows, gy, ldy, count, lanes, dw); break;
        case 3: weight_tap_rows<W, NV, 3>(px, shift, rows, gy, ldy, count, lanes, dw); break;
        case 4: weight_tap_rows<W, NV, 4>(px, shift, rows, gy, ldy, count, lanes, dw); break;
        case 5: weight_tap_rows<W, NV, 5>(px, shift, rows, gy, ldy, count, lanes, dw); break;
        default: weight_tap_rows<W, NV, 6>(px, shift, rows, gy, ldy, count, lanes, dw); break;
    }
}

}  // namespace
}  // namespace
#endif
