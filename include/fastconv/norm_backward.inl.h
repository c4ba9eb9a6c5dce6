// Batch normalisation, backward: per channel sums of g and of g * (x - mean), their merge, and the gradient of x.
//
// With the statistics of the batch both are functions of x: gx = scale * (g - a - (x - mean) * b), where a is the mean
// of g and b that of g * (x - mean), over the variance. With fixed statistics gx = scale * g. g is the gradient of the
// output, or 0 where a relu fused into the forward cut it off. The sums are cut like the statistics of the forward: a
// tile is a range of pixels and up to 256 channels, float sums of 64 pixels go into doubles. Bound by memory.
#ifndef FASTCONV_NORM_BACKWARD_INL_H
#define FASTCONV_NORM_BACKWARD_INL_H

#include "fastconv/norm.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// gy where the fused relu let the value (or a NaN) through.
template <int W, bool Full>
FC_INLINE Vf<W> load_gradient(const float* gy, const float* y, int lanes) {
    const Vf<W> g = load_lanes<W, Full>(gy, lanes);
    return y ? (load_lanes<W, Full>(y, lanes) <= Vf<W>{} ? Vf<W>{} : g) : g;
}

template <int W, int NV, bool Full>
FC_NOINLINE void chunk_gradient(const NormBackwardArgs* a, int64_t first, int64_t count, int64_t c, int lanes,
                                float* s1, float* s2) {
    constexpr int U = 4 / NV;
    const float *x = a->x + first * a->ldx + c, *g = a->gy + first * a->ldg + c;
    const float *y = a->y ? a->y + first * a->ldy + c : nullptr, *mean = a->stats + FC_NORM_MEAN * a->C + c;
    Vf<W> p[U][NV] = {}, q[U][NV] = {}, m[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) m[v] = load_lanes<W, Full>(mean + v * W, lanes);
    for (int64_t i = 0; i < count; i += U)
#pragma GCC unroll 4
        for (int u = 0; u < U; ++u) {
            if (i + u >= count) break;
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) {
                const int64_t at = i + u;
                const Vf<W> t = load_gradient<W, Full>(g + at * a->ldg + v * W, y ? y + at * a->ldy + v * W : y, lanes);
                p[u][v] += t;
                q[u][v] = mul_add<W>(t, load_lanes<W, Full>(x + at * a->ldx + v * W, lanes) - m[v], q[u][v]);
            }
        }
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
#pragma GCC unroll 4
        for (int u = 1; u < U; ++u) p[0][v] += p[u][v], q[0][v] += q[u][v];
        store<W>(s1 + v * W, p[0][v]);
        store<W>(s2 + v * W, q[0][v]);
    }
}

template <int W, int NV, bool Full>
FC_INLINE void gradient_sums(const NormBackwardArgs* a, int64_t first, int64_t count, int64_t c, int64_t channels,
                             double* g, double* gd) {
    float s1[NV * W], s2[NV * W];
    chunk_gradient<W, NV, Full>(a, first, count, c, static_cast<int>(channels), s1, s2);
    for (int64_t k = 0; k < channels; ++k) g[k] += s1[k], gd[k] += s2[k];
}

FC_INLINE int64_t f32_batchnorm_backward_sums_tiles(const NormBackwardArgs* a) {
    return ceil_div(a->n * a->pixels, a->per_part) * ceil_div(a->C, kNormChannels);
}
FC_INLINE size_t f32_batchnorm_backward_sums_scratch(const NormBackwardArgs*) { return 0; }

inline void f32_batchnorm_backward_sums_run(const NormBackwardArgs* a, int64_t begin, int64_t end, void*) {
    constexpr int W = kWidth, NV = kNormVectors;
    const int64_t blocks = ceil_div(a->C, kNormChannels), pixels = a->n * a->pixels;
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t p = tile / blocks, first = p * a->per_part, count = min64(a->per_part, pixels - first);
        const int64_t start = tile % blocks * kNormChannels, stop = min64(a->C, start + kNormChannels);
        double *g = a->part + p * 2 * a->C, *gd = g + a->C;
        for (int64_t c = start; c < stop; ++c) g[c] = gd[c] = 0.0;
        for (int64_t i = first; i < first + count; i += kNormChunk) {
            const int64_t few = min64(kNormChunk, first + count - i);
            int64_t c = start;
            for (; c + NV * W <= stop; c += NV * W)
                gradient_sums<W, NV, true>(a, i, few, c, NV * W, g + c, gd + c);
            for (; c + W <= stop; c += W) gradient_sums<W, 1, true>(a, i, few, c, W, g + c, gd + c);
            if (c < stop) gradient_sums<W, 1, false>(a, i, few, c, stop - c, g + c, gd + c);
        }
    }
}

// The gradients of gamma and beta, zeros for an empty batch, and the two coefficients of gx.
FC_INLINE int64_t f32_batchnorm_backward_merge_tiles(const NormBackwardArgs* a) {
    return ceil_div(a->C, kMergeChannels);
}
FC_INLINE size_t f32_batchnorm_backward_merge_scratch(const NormBackwardArgs*) { return 0; }

inline void f32_batchnorm_backward_merge_run(const NormBackwardArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t pixels = a->n * a->pixels, parts = ceil_div(pixels, a->per_part), C = a->C;
    const double inverse = pixels ? 1.0 / static_cast<double>(pixels) : 0.0;
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t c0 = tile * kMergeChannels, channels = min64(kMergeChannels, C - c0);
        double g[kMergeChannels] = {}, gd[kMergeChannels] = {};
        for (int64_t p = 0; p < parts; ++p) {
            const double *pg = a->part + p * 2 * C + c0, *pd = pg + C;
            for (int64_t c = 0; c < channels; ++c) g[c] += pg[c], gd[c] += pd[c];
        }
        for (int64_t c = 0; c < channels; ++c) {
            const int64_t at = c0 + c;
            const double low = pixels ? a->stats[FC_NORM_LOW * C + at] : 0.0;
            const double rstd = pixels ? a->stats[FC_NORM_RSTD * C + at] : 0.0;
            const double off = gd[c] - low * g[c];  // around the mean itself, not the rounded one
            if (a->ggamma) a->ggamma[at] = static_cast<float>(off * rstd);
            if (a->gbeta) a->gbeta[at] = static_cast<float>(g[c]);
            if (!a->training) continue;
            const double b = off * inverse * rstd * rstd;
            a->coef[at] = static_cast<float>(g[c] * inverse - low * b);
            a->coef[C + at] = static_cast<float>(b);
        }
    }
}

template <int W, int NV, bool Full>
FC_NOINLINE void gradient_group(const NormBackwardArgs* a, int64_t first, int64_t count, int64_t c, int lanes) {
    const float* s = a->stats + c;
    const bool training = a->training != 0;
    Vf<W> mean[NV] = {}, scale[NV], off[NV] = {}, slope[NV] = {};
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
        scale[v] = load_lanes<W, Full>(s + FC_NORM_SCALE * a->C + v * W, lanes);
        if (!training) continue;
        mean[v] = load_lanes<W, Full>(s + FC_NORM_MEAN * a->C + v * W, lanes);
        off[v] = load_lanes<W, Full>(a->coef + c + v * W, lanes);
        slope[v] = load_lanes<W, Full>(a->coef + a->C + c + v * W, lanes);
    }
    for (int64_t i = first; i < first + count; ++i) {
        const float *gy = a->gy + i * a->ldg + c, *y = a->y ? a->y + i * a->ldy + c : nullptr;
        float *gx = a->gx + i * a->ldgx + c, *gr = a->gresidual ? a->gresidual + i * a->ldgr + c : nullptr;
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            Vf<W> g = load_gradient<W, Full>(gy + v * W, y ? y + v * W : y, lanes);
            if (gr) store_lanes<W, Full>(gr + v * W, g, lanes);
            if (training) {
                const Vf<W> d = mean[v] - load_lanes<W, Full>(a->x + i * a->ldx + c + v * W, lanes);
                g = mul_add<W>(d, slope[v], g - off[v]);
            }
            store_lanes<W, Full>(gx + v * W, g * scale[v], lanes);
        }
    }
}

FC_INLINE int64_t f32_batchnorm_backward_data_tiles(const NormBackwardArgs* a) {
    return ceil_div(a->n * a->pixels, apply_pixels(a->C));
}
FC_INLINE size_t f32_batchnorm_backward_data_scratch(const NormBackwardArgs*) { return 0; }

inline void f32_batchnorm_backward_data_run(const NormBackwardArgs* a, int64_t begin, int64_t end, void*) {
    constexpr int W = kWidth, NV = kNormVectors;
    const int64_t per = apply_pixels(a->C), pixels = a->n * a->pixels;
    const int64_t stop = min64(pixels, end * per);
    for (int64_t first = begin * per; first < stop; first += kNormChunk) {
        const int64_t count = min64(kNormChunk, stop - first);
        int64_t c = 0;
        for (; c + NV * W <= a->C; c += NV * W) gradient_group<W, NV, true>(a, first, count, c, W);
        for (; c + W <= a->C; c += W) gradient_group<W, 1, true>(a, first, count, c, W);
        if (c < a->C) gradient_group<W, 1, false>(a, first, count, c, static_cast<int>(a->C - c));
    }
}

}  // namespace
}  // namespace
#endif
