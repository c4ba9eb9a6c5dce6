// The register tile of every float32 convolution and matrix product: M pixels x NV vectors of filters.
//
//                    w: [tap][channel][NV * W filters], streamed, NV loads per channel
//                    +----------+----------+
//   pixel 0   x[c] --| acc[0][0]| acc[0][1]|      one broadcast of x per pixel and channel,
//   pixel 1   x[c] --| acc[1][0]| acc[1][1]|      M * NV fused multiply-adds on it
//     ...            |   ...    |   ...    |
//   pixel M-1        +----------+----------+
//
// AVX-512: 14 x 32 (28 accumulators of 32 registers), AVX2: 6 x 16 (12 of 16), portable: 4 x 8. Pixels are found through a
// table of pointers [tap][pixel], so that any stride, dilation and padding, and tiles that run over the end of a
// row or an image, are the same loop; a pixel in the padding points to a row of zeros, and a tap whose pixels all do is
// left out. Each output is the sum of runs of products (simd/blocks.inl.h), a run one sequential accumulator over (tap,
// channel), whatever M and NV: results do not depend on how the problem was cut (but where a weight is infinite or NaN, and
// zeros are multiplied by it or not).
// Bound by the FMA units: M + NV loads for M * NV FMAs.
#ifndef FASTCONV_CONV_TILE_INL_H
#define FASTCONV_CONV_TILE_INL_H

#include "fastconv/simd/activation.inl.h"
#include "fastconv/simd/blocks.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kLine = 16;    // floats of a cache line
constexpr int64_t kAhead = 1024;  // floats that a stream of weights is asked for ahead of its use
constexpr int kTileM = kWidth == 16 ? 14 : kWidth == 8 ? 6 : 4;

struct Epilogue {
    const float* bias;      // at this block's first filter, or null
    int64_t first;          // this block's first filter, relative to the pointers of the output pixels
    int64_t lanes;          // valid filters of this block
    int64_t act;
    float a, b;
    bool stream;            // whole vectors go past the caches; their lines begin where vectors do
    // Weights to come, which tiles bring nearer on their way: those of the next block from here on (null: none), and whether
    // this block's own are still far away.
    const float* next = nullptr;
    bool cold = false;
    mutable int64_t lines = 0;  // cache lines that a tile asks for with each four channels
    mutable const float* fetch = nullptr;
};

// What one pass of a tile sums: taps 0 .. T - 1, channels begin .. end - 1, to `sums` of the passes before it, if any. The
// last pass ends with the epilogue, the others leave their sums there.
struct Run {
    int64_t T, begin, end;
    float* sums;
    bool first, last;
};

template <int W, int NV, int M, int U>
FC_INLINE void tile_channels(Vf<W> (&acc)[M][NV], const float* const* px, int64_t c, const float* w) {
#pragma GCC unroll 8
    for (int u = 0; u < U; ++u) {
        Vf<W> b[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) b[v] = load<W>(w + (u * NV + v) * W);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            const Vf<W> x = splat<W>(px[m][c + u]);
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) acc[m][v] = mul_add<W>(x, b[v], acc[m][v]);
        }
    }
}

template <int M>
FC_INLINE bool all_zeros(const float* const* px, const float* zeros) {
    bool all = true;
    for (int m = 1; m < M; ++m) all &= px[m] == zeros;
    return all;
}

// The line at p, to be written soon. (Where there is no such instruction, GCC would ask for it to be read.)
FC_INLINE void prefetch_to_write(const float* p) {
#if defined(__x86_64__)
    asm volatile("prefetchw %0" : : "m"(*p));
#else
    __builtin_prefetch(p, 1);
#endif
}

// One tile: px[t * pitch + m] is pixel m at tap t, out[m] (and res[m]) the output pixel. The lines that it will write are asked
// for before it starts, and on the way those of the next tile's pixels, which lie about `ahead` floats behind its own (0: no).
template <int W, int NV, int M>
FC_NOINLINE void conv_tile(const float* const* px, int64_t pitch, const Run& run, const float* w, const float* zeros,
                           float* const* out, const float* const* res, const Epilogue& e, int64_t ahead) {
    const int64_t T = run.T, C = run.end, lines = e.lines;
    const float* fetch = e.fetch;
    Vf<W> acc[M][NV];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[m][v] = Vf<W>{};
    if (!e.stream)
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
            for (int64_t at = 0; at < NV * W * 4; at += 64) prefetch_to_write(out[m] + e.first + at / 4);
    if (res)
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
            for (int64_t at = 0; at < NV * W * 4; at += 64) __builtin_prefetch(res[m] + e.first + at / 4);
    for (int64_t t = 0; t < T; ++t, px += pitch) {
        int64_t c = run.begin;
        if (px[0] == zeros && all_zeros<M>(px, zeros)) {
            w += (C - c) * NV * W;
            continue;
        }
        if (C == 5) {  // a row of 5 taps of one channel, LeNet-5's first layer: one pass over the pointers
            tile_channels<W, NV, M, 5>(acc, px, 0, w);
            w += 5 * NV * W;
            continue;
        }
        for (; c + 4 <= C; c += 4, w += 4 * NV * W) {
            if (ahead && c % 16 == 0)
                for (int m = 0; m < M; ++m) __builtin_prefetch(px[m] + c + ahead, 0, 2);
            if (lines) {
                for (int64_t i = 0; i < lines; ++i) __builtin_prefetch(fetch + i * kLine, 0, 2);
                fetch += lines * kLine;
            }
            tile_channels<W, NV, M, 4>(acc, px, c, w);
        }
        for (; c < C; ++c, w += NV * W) tile_channels<W, NV, M, 1>(acc, px, c, w);
    }
    e.fetch = fetch;
    if (!run.first)
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) acc[m][v] = load<W>(run.sums + (m * NV + v) * W) + acc[m][v];
    if (!run.last) {
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) store<W>(run.sums + (m * NV + v) * W, acc[m][v]);
        return;
    }
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
        const int n = static_cast<int>(max64(0, min64(W, e.lanes - v * W)));
        const int64_t at = e.first + v * W;
        if (e.bias) {
            const Vf<W> bias = load_n<W>(e.bias + v * W, n);
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) acc[m][v] = acc[m][v] + bias;
        }
        if (res) {
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) acc[m][v] = acc[m][v] + load_n<W>(res[m] + at, n);
        }
        if (e.act == FC_ACT_RELU) {
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) acc[m][v] = vmax<W>(Vf<W>{}, acc[m][v]);
        } else if (e.act) {
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) acc[m][v] = activate<W>(acc[m][v], e.act, e.a, e.b);
        }
        if (n >= W) {
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) put<W>(out[m] + at, acc[m][v], e.stream);
        } else {
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) Ops<W>::store_n(out[m] + at, acc[m][v], n);
        }
    }
}

// One tile, run by run. Without taps (a phase of a stride that none reaches) it is one run of nothing: bias, residual and
// activation are still due.
template <int W, int NV, int M>
FC_INLINE void conv_runs(const float* const* px, int64_t pitch, int64_t T, int64_t C, const float* w, const float* zeros,
                         float* const* out, const float* const* res, const Epilogue& e, int64_t ahead) {
    const int64_t taps = run_taps(T, C), channels = run_channels(C);
    if (T == 0 || (taps >= T && channels >= C))
        return conv_tile<W, NV, M>(px, pitch, {T, 0, C, nullptr, true, true}, w, zeros, out, res, e, ahead);
    alignas(64) float sums[M * NV * W];
    for (int64_t t = 0; t < T; t += taps)
        for (int64_t c = 0; c < C; c += channels) {
            const Run run = {min64(taps, T - t), c, min64(C, c + channels), sums, t + c == 0,
                             t + taps >= T && c + channels >= C};
            conv_tile<W, NV, M>(px + t * pitch, pitch, run, w, zeros, out, res, e, ahead);
            w += run.T * (run.end - c) * NV * W;
        }
}

// One pixel, B blocks of filters at once: with a single pixel a block has too few accumulators to hide the latency of
// an FMA. Bound by the bandwidth of the weights.
template <int W, int NV, int B>
FC_NOINLINE void conv_row(const float* const* px, int64_t pitch, int64_t T, int64_t C, const float* w, int64_t step,
                          const float* zeros, float* out, const float* res, const Epilogue& e) {
    Vf<W> acc[B][NV];
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[b][v] = Vf<W>{};
    const int64_t taps = run_taps(T, C), channels = run_channels(C);
    alignas(64) float sums[B * NV * W];
    bool many = false;
    for (int64_t t = 0; t < T; t += taps)
        for (int64_t c0 = 0; c0 < C; c0 += channels) {
            if (t + c0) add_runs<W, NV, B>(acc, sums, many), many = true;
            for (int64_t i = t; i < min64(T, t + taps); ++i) {
                if (px[i * pitch] == zeros) {
                    w += (min64(C, c0 + channels) - c0) * NV * W;
                    continue;
                }
                for (int64_t c = c0; c < min64(C, c0 + channels); ++c, w += NV * W) {
                    const Vf<W> x = splat<W>(px[i * pitch][c]);
#pragma GCC unroll 8
                    for (int b = 0; b < B; ++b)
#pragma GCC unroll 4
                        for (int v = 0; v < NV; ++v)
                            acc[b][v] = mul_add<W>(x, load<W>(w + b * step + v * W), acc[b][v]);
                }
            }
        }
    if (many)
#pragma GCC unroll 8
        for (int b = 0; b < B; ++b)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) acc[b][v] = load<W>(sums + (b * NV + v) * W) + acc[b][v];
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            const int64_t at = (b * NV + v) * W;
            const int n = static_cast<int>(max64(0, min64(W, e.lanes - at)));
            Vf<W> y = acc[b][v] + (e.bias ? load_n<W>(e.bias + at, n) : Vf<W>{});
            if (res) y = y + load_n<W>(res + at, n);
            store_n<W>(out + at, activate<W>(y, e.act, e.a, e.b), n);
        }
}

template <int M>
struct Height {
    static constexpr int value = M;
};

// `count` pixels of one block, cut greedily into the tile heights that exist. `low`: half-height tiles, because the pixels
// lie a multiple of 4 KiB apart and more than 8 of them would evict each other from the first-level cache.
template <int W, int NV>
FC_INLINE void conv_pixels(bool low, int64_t count, const float* const* px, int64_t pitch, int64_t T, int64_t C, const float* w,
                           const float* zeros, float* const* out, const float* const* res, const Epilogue& e,
                           int64_t ahead) {
    int64_t m = 0;
    int64_t step = 0, tiles = 1;
    e.lines = 0;
    if (e.cold || e.next) {
        step = 4 * NV * W / kLine, tiles = ceil_div(count, low ? kTileM / 2 : kTileM);
        e.lines = e.cold ? step : ceil_div(step, tiles);
        e.fetch = e.cold ? w + kAhead : e.next;
    }
    const auto tile = [&](auto height) {
        constexpr int M = decltype(height)::value;
        if (e.cold && m) {
            if (e.fetch < e.next) e.fetch = e.next;
            e.lines = e.next && tiles > 1 ? ceil_div(step, tiles - 1) : 0;
        }
        conv_runs<W, NV, M>(px + m, pitch, T, C, w, zeros, out + m, res ? res + m : nullptr, e, M * ahead);
        m += M;
    };
    if (!low)
        while (m + kTileM <= count) tile(Height<kTileM>{});
    if constexpr (kTileM == 14)
        while (m + 7 <= count) tile(Height<7>{});
    if constexpr (kTileM > 4)
        if (m + 4 <= count) tile(Height<4>{});
    if (m + 2 <= count) tile(Height<2>{});
    if (m + 1 <= count) tile(Height<1>{});
}

FC_INLINE void conv_block(int64_t width, bool low, int64_t count, const float* const* px, int64_t pitch, int64_t T, int64_t C,
                          const float* w, const float* zeros, float* const* out, const float* const* res, const Epilogue& e,
                           int64_t ahead) {
    if (width == kBlock) {
        conv_pixels<kWidth, 2>(low, count, px, pitch, T, C, w, zeros, out, res, e, ahead);
    } else if (width == kWidth) {
        conv_pixels<kWidth, 1>(low, count, px, pitch, T, C, w, zeros, out, res, e, ahead);
    } else {
        conv_pixels<kHalf, 1>(low, count, px, pitch, T, C, w, zeros, out, res, e, ahead);
    }
}

}  // namespace
}  // namespace
#endif
