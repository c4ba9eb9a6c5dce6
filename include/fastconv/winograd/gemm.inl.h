// The products of a Winograd convolution: one small matrix product per element of the transformed tile.
//
//                   u: [channel][2 * kWidth filters], streamed, 2 loads per channel
//                   +----------+----------+
//   tile 0   v[c] --| acc[0][0]| acc[0][1]|      one broadcast of v per tile and channel,
//   tile 1   v[c] --| acc[1][0]| acc[1][1]|      2 * M fused multiply-adds
//     ...           |   ...    |   ...    |
//   tile M-1        +----------+----------+
//
// v and m lie as [vector of channels or filters][tile][lane]: the M tiles of a vector are M * kWidth contiguous floats, so that all
// broadcasts have one base register and no two of them meet in one set of the first-level cache. Every height 1 to kTileM
// exists, and rows are cut evenly. Bound by the FMA units: M + 2 loads for 2 * M FMAs.
//
// With `chunk` channels per partial sum, a sum is a sum of sums, which loses less than one long chain: with 32 channels
// F(4x4) is more accurate from 256 channels up than one sequential accumulator without any transform.
#ifndef FASTCONV_WINOGRAD_GEMM_INL_H
#define FASTCONV_WINOGRAD_GEMM_INL_H

#include "fastconv/conv/tile.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

template <int NV, int M, int U>
FC_INLINE void winograd_channels(Vf<kWidth> (&acc)[M][NV], const float* v, const float* u) {
    constexpr int W = kWidth;
#pragma GCC unroll 8
    for (int i = 0; i < U; ++i) {
        Vf<W> b[NV];
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) b[j] = load<W>(u + (i * NV + j) * W);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            const Vf<W> x = splat<W>(v[m * W + i]);
#pragma GCC unroll 4
            for (int j = 0; j < NV; ++j) acc[m][j] = mul_add<W>(x, b[j], acc[m][j]);
        }
    }
}

// `step`: floats between two vectors of channels (of v) or filters (of m).
template <int NV, int M>
FC_NOINLINE void winograd_tile(const float* v, int64_t step, int64_t R, int64_t C, int64_t chunk, const float* u,
                               float* m) {
    constexpr int W = kWidth;
    Vf<W> acc[M][NV];
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) acc[i][j] = Vf<W>{};
    int64_t left = chunk;
    bool add = false;
    for (int64_t r = 0; r < R; ++r)
        for (int64_t c = 0; c < C; c += W, v += step) {
            if (chunk && left == 0) {
#pragma GCC unroll 16
                for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
                    for (int j = 0; j < NV; ++j) {
                        float* at = m + j * step + i * W;
                        store<W>(at, add ? acc[i][j] + load<W>(at) : acc[i][j]);
                        acc[i][j] = Vf<W>{};
                    }
                left = chunk;
                add = true;
            }
            left -= W;
            if (c + W <= C) {
                for (int i = 0; i < W; i += 4, u += 4 * NV * W) winograd_channels<NV, M, 4>(acc, v + i, u);
            } else {
                for (int i = 0; i < C - c; ++i, u += NV * W) winograd_channels<NV, M, 1>(acc, v + i, u);
            }
        }
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) {
            float* at = m + j * step + i * W;
            store<W>(at, add ? acc[i][j] + load<W>(at) : acc[i][j]);
        }
}

template <int NV, int M>
FC_INLINE void winograd_height(int64_t height, const float* v, int64_t step, int64_t R, int64_t C, int64_t chunk,
                               const float* u, float* m) {
    if (height == M) {
        winograd_tile<NV, M>(v, step, R, C, chunk, u, m);
    } else if constexpr (M > 1) {
        winograd_height<NV, M - 1>(height, v, step, R, C, chunk, u, m);
    }
}

// m = v * u for `count` tiles and one block of filters; `between` is called once per register tile.
template <int NV, class Between>
FC_INLINE void winograd_rows(int64_t count, const float* v, int64_t step, int64_t R, int64_t C, int64_t chunk,
                             const float* u, float* m, Between& between) {
    const int64_t parts = ceil_div(count, kTileM);
    for (int64_t p = 0, row = 0; p < parts; ++p) {
        const int64_t end = count * (p + 1) / parts;
        between();
        winograd_height<NV, kTileM>(end - row, v + row * kWidth, step, R, C, chunk, u, m + row * kWidth);
        row = end;
    }
}

}  // namespace
}  // namespace
#endif
