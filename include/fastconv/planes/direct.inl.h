// Convolution and matrix product of bfloat16 operands with float32 accumulation, on vectors: the tile of conv/tile.inl.h with
// pairs of channels in the place of channels.
//
//                       w: [tap][pair of channels][16 filters][2], NV loads per pair
//                       +----------+----------+
//   pixel 0   x[c,c+1] -| acc[0][0]| acc[0][1]|      one broadcast of 32 bits per pixel and pair,
//     ...               |   ...    |   ...    |      M * NV VDPBF16PS on it: two multiply-adds per lane each
//   pixel M-1           +----------+----------+
//
// AVX-512: 14 x 32, AVX2: 6 x 16, portable: 4 x 8. Bound by the units for VDPBF16PS (two per cycle on Zen 5, so that a
// tile does twice the multiply-adds of the float32 one); without that instruction by the FMA units and the unpacking, two
// more operations per broadcast. Each output is one sequential accumulator over (tap, pair), the odd element first, whatever
// the tile: results have the same bits at every instruction set that has FMA, and for every cut.
#ifndef FASTCONV_PLANES_DIRECT_INL_H
#define FASTCONV_PLANES_DIRECT_INL_H

#include "fastconv/planes/epilogue.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kDotM = kWidth == 16 ? 14 : kWidth == 8 ? 6 : 4;
constexpr int kDotBlock = 2 * kWidth;
constexpr int64_t kDotRun = 8 * kDotM, kDotMost = 64 * kDotM;
constexpr int64_t kDotWork = 1 << 21;
constexpr int64_t kDotGroup = (kWidth == 16 ? 640 : 256) * 1024;

// Vector v of a block of filters, at its pair 0.
FC_INLINE const uint16_t* dot_weights(const uint16_t* w, int64_t lane, int64_t block) {
    return w + lane / kLanes * block + lane % kLanes * 2;
}
FC_INLINE int64_t dot_vector(int64_t v, int64_t block) {  // from vector 0 of a block to vector v, in elements
    return kWidth == kLanes ? v * block : v * kWidth * 2;
}

template <int W, int NV, int M>
FC_INLINE void dot_pairs(Vf<W> (&acc)[M][NV], const Vi<W> (&b)[NV], int m, int32_t pair) {
    const Vi<W> x = splat_i<W>(pair);
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[m][v] = dot_pair<W>(x, b[v], acc[m][v]);
}

template <int W, int NV, int M, int U>
FC_INLINE void dot_channels(Vf<W> (&acc)[M][NV], const float* const* px, int64_t c, const uint16_t* w, int64_t step) {
#pragma GCC unroll 4
    for (int u = 0; u < U; ++u) {
        Vi<W> b[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) b[v] = load<W>(reinterpret_cast<const int32_t*>(w + v * step) + u * kLanes);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m)
            dot_pairs<W, NV, M>(acc, b, m, pair_at(reinterpret_cast<const uint16_t*>(px[m]) + c + 2 * u));
    }
}

template <int W, int NV, int M>
FC_NOINLINE void dot_tile(const float* const* px, int64_t pitch, int64_t T, int64_t C, const uint16_t* w, int64_t step,
                          float* const* out, const float* const* res, const PlaneEpilogue& e) {
    Vf<W> acc[M][NV];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[m][v] = Vf<W>{};
    for (int64_t t = 0; t < T; ++t, px += pitch) {
        int64_t c = 0;
        for (; c + 8 <= C; c += 8, w += 8 * kLanes) dot_channels<W, NV, M, 4>(acc, px, c, w, step);
        for (; c + 2 <= C; c += 2, w += 2 * kLanes) dot_channels<W, NV, M, 1>(acc, px, c, w, step);
        if (c < C) {
            Vi<W> b[NV];
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) b[v] = load<W>(reinterpret_cast<const int32_t*>(w + v * step));
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m)
                dot_pairs<W, NV, M>(acc, b, m, reinterpret_cast<const uint16_t*>(px[m])[c]);
            w += 2 * kLanes;
        }
    }
    if (e.args->split) {
        alignas(64) float sums[M * NV * W];
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) store<W>(sums + (m * NV + v) * W, acc[m][v]);
        return finish_split(sums, M, NV * W, out, res, e);
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) finish<W>(acc[m][v], v * W, out[m], res ? res[m] : nullptr, e);
}

// One pixel, four blocks of filters at once; bound by the bandwidth of the weights, half that of float32.
template <int W, int NV, int B>
FC_NOINLINE void dot_row(const float* const* px, int64_t pitch, int64_t T, int64_t C, const uint16_t* w, int64_t step,
                         int64_t blocks, float* out, const float* res, const PlaneEpilogue& e) {
    Vf<W> acc[B][NV];
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[b][v] = Vf<W>{};
    for (int64_t t = 0; t < T; ++t, px += pitch) {
        const uint16_t* x = reinterpret_cast<const uint16_t*>(px[0]);
        for (int64_t c = 0; c < C; c += 2, w += 2 * kLanes) {
            const Vi<W> pair = splat_i<W>(c + 1 < C ? pair_at(x + c) : x[c]);
#pragma GCC unroll 4
            for (int b = 0; b < B; ++b)
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v)
                    acc[b][v] = dot_pair<W>(pair, load<W>(reinterpret_cast<const int32_t*>(w + b * blocks + v * step)),
                                            acc[b][v]);
        }
    }
    if (e.args->split) {
        alignas(64) float sums[B * NV * W];
#pragma GCC unroll 4
        for (int b = 0; b < B; ++b)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) store<W>(sums + (b * NV + v) * W, acc[b][v]);
        return finish_split(sums, 1, B * NV * W, &out, res ? &res : nullptr, e);
    }
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) finish<W>(acc[b][v], (b * NV + v) * W, out, res, e);
}

template <int W, int NV>
FC_INLINE void dot_block(int64_t count, const float* const* px, int64_t pitch, int64_t T, int64_t C, const uint16_t* w,
                         int64_t step, float* const* out, const float* const* res, const PlaneEpilogue& e) {
    int64_t m = 0;
    const auto r = [&] { return res ? res + m : nullptr; };
    for (; m + kDotM <= count; m += kDotM) dot_tile<W, NV, kDotM>(px + m, pitch, T, C, w, step, out + m, r(), e);
    if constexpr (kDotM == 14)
        if (m + 7 <= count) dot_tile<W, NV, 7>(px + m, pitch, T, C, w, step, out + m, r(), e), m += 7;
    if constexpr (kDotM > 4)
        if (m + 4 <= count) dot_tile<W, NV, 4>(px + m, pitch, T, C, w, step, out + m, r(), e), m += 4;
    if (m + 2 <= count) dot_tile<W, NV, 2>(px + m, pitch, T, C, w, step, out + m, r(), e), m += 2;
    if (m + 1 <= count) dot_tile<W, NV, 1>(px + m, pitch, T, C, w, step, out + m, r(), e), m += 1;
}

FC_INLINE PlaneCut dot_cut(const PlaneConvArgs* a) {
    const int64_t most = max64(kDotRun, min64(kDotMost, 8192 / max64(1, a->T) / kDotM * kDotM));
    const int64_t row = a->n * a->iD * a->iH * a->iW == 1 ? 4 : 1;  // dot_row takes four blocks at once
    return plane_cut(a, kDotM, kDotBlock, kDotRun, most, kDotWork, kDotGroup, row);
}

FC_INLINE int64_t bf16_conv_direct_tiles(const PlaneConvArgs* a) {
    const PlaneCut cut = dot_cut(a);
    return a->G * cut.groups * cut.chunks;
}
FC_INLINE size_t bf16_conv_direct_scratch(const PlaneConvArgs* a) {
    return static_cast<size_t>((a->T + 2) * dot_cut(a).run) * sizeof(void*);
}

inline void bf16_conv_direct_run(const PlaneConvArgs* a, int64_t begin, int64_t end, void* scratch) {
    const PlaneCut cut = dot_cut(a);
    const int64_t pixels = a->n * a->iD * a->iH * a->iW, packed = plane_block(a), filters = ceil_div(a->K, kLanes);
    const float** px = static_cast<const float**>(scratch);
    const float** res = px + a->T * cut.run;
    float** out = static_cast<float**>(scratch) + (a->T + 1) * cut.run;
    PlaneEpilogue e = plane_epilogue(a);
    const int64_t step = dot_vector(1, packed);
    int64_t in_table = -1;
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t chunk = tile % cut.chunks, rest = tile / cut.chunks, group = rest % cut.groups;
        const int64_t g = rest / cut.groups, first = chunk * cut.run, count = min64(cut.run, pixels - first);
        if (chunk + g * cut.chunks != in_table) {
            plane_pointers(a, g, first, count, cut.run, px);
            output_pointers(a, first, count, out, res);
            in_table = chunk + g * cut.chunks;
        }
        const int64_t last = min64(cut.blocks, (group + 1) * cut.per_group);
        for (int64_t block = group * cut.per_group; block < last;) {
            const int64_t k0 = block * kDotBlock;
            const uint16_t* w = dot_weights(reinterpret_cast<const uint16_t*>(a->w) + g * filters * packed, k0, packed);
            e.bias = a->bias ? a->bias + g * a->K + k0 : nullptr;
            e.first = g * a->K + k0;
            const float* const* r = a->residual ? res : nullptr;
            if (kWidth >= 8 && count == 1 && block + 4 <= last && k0 + 4 * kDotBlock <= a->K) {
                e.lanes = 4 * kDotBlock;
                dot_row<kWidth, 2, 4>(px, cut.run, a->T, a->C, w, step, kDotBlock / kLanes * packed, out[0],
                                      r ? r[0] : nullptr, e);
                block += 4;
                continue;
            }
            e.lanes = min64(kDotBlock, a->K - k0);
            if (e.lanes > kWidth) {
                dot_block<kWidth, 2>(count, px, cut.run, a->T, a->C, w, step, out, r, e);
            } else {
                dot_block<kWidth, 1>(count, px, cut.run, a->T, a->C, w, step, out, r, e);
            }
            ++block;
        }
    }
}

// ---- what the units can do: 12 independent chains in registers, as f32_fma_peak ------------------------------------

FC_INLINE int64_t bf16_dot_peak_tiles(const PeakArgs* a) { return a->n; }
FC_INLINE size_t bf16_dot_peak_scratch(const PeakArgs*) { return 0; }

// Each lane starts at its number and grows by 2 a b per iteration; out as in f32_fma_peak.
inline void bf16_dot_peak_run(const PeakArgs* p, int64_t begin, int64_t end, void*) {
    constexpr int W = kWidth, chains = 12;
    const Vi<W> ha = round_plane<W>(splat<W>(static_cast<float>(p->a)));
    const Vi<W> hb = round_plane<W>(splat<W>(static_cast<float>(p->b)));
    const Vi<W> a = ha | (Vi<W>)((Vu<W>)ha >> 16), b = hb | (Vi<W>)((Vu<W>)hb >> 16);
    for (int64_t tile = begin; tile < end; ++tile) {
        float* out = p->out + tile * chains * W;
        Vf<W> acc[chains];
#pragma GCC unroll 12
        for (int i = 0; i < chains; ++i) {
            for (int k = 0; k < W; ++k) out[i * W + k] = static_cast<float>(i * W + k);
            acc[i] = load<W>(out + i * W);
        }
        for (int64_t n = 0; n < p->iterations; ++n) {
#pragma GCC unroll 12
            for (int i = 0; i < chains; ++i) acc[i] = dot_pair<W>(a, b, acc[i]);
        }
#pragma GCC unroll 12
        for (int i = 0; i < chains; ++i) store<W>(out + i * W, acc[i]);
    }
}

}  // namespace
}  // namespace
#endif
