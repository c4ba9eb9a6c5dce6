// Batch normalisation, backward: per channel sums of g and of g * (x - mean), their merge, and the gradient of x.
//
// With the statistics of the batch both are functions of x: gx = scale * (g - a - (x - mean) * b), where a is the mean
// of g and b that of g * (x - mean), over the variance. With fixed statistics gx = scale * g. g is the gradient of the
// output, or 0 where the activation fused into the forward cut that off: what it saw is computed again, by the forward's own
// operations, which costs less than reading its output. The sums are cut like the statistics of the forward: a tile is a
// range of pixels and up to 256 channels, float sums of 64 pixels go into doubles. Bound by memory.
#ifndef FASTCONV_NORM_BACKWARD_INL_H
#define FASTCONV_NORM_BACKWARD_INL_H

#include "fastconv/norm/norm.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// g where the activation let t through, as the gradients of relu and clip have it, NaN included.
template <int W, int Act>
FC_INLINE Vf<W> let_through(Vf<W> g, Vf<W> t, Vf<W> low, Vf<W> high) {
    if constexpr (Act == FC_ACT_RELU) return t <= Vf<W>{} ? Vf<W>{} : g;
    if constexpr (Act == FC_ACT_CLIP) {
        const Vf<W> below = t < high ? g : Vf<W>{};
        return t > low ? below : Vf<W>{};
    }
    return g;
}

template <int W, int NV, bool Full, int Act>
FC_NOINLINE void chunk_gradient(const NormBackwardArgs* a, const float* stats, int64_t first, int64_t count, int64_t c,
                                int lanes, int64_t ahead_x, int64_t ahead_g, float* s1, float* s2) {
    constexpr int U = 4 / NV;
    const float *x = a->x + first * a->ldx + c, *g = a->gy + first * a->ldg + c, *s = stats + c;
    const Vf<W> low = splat<W>(static_cast<float>(a->act_a)), high = splat<W>(static_cast<float>(a->act_b));
    Vf<W> p[U][NV] = {}, q[U][NV] = {}, m[NV], scale[NV] = {}, shift[NV] = {};
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
        m[v] = load_lanes<W, Full>(s + FC_NORM_MEAN * a->C + v * W, lanes);
        if (!Act) continue;
        scale[v] = load_lanes<W, Full>(s + FC_NORM_SCALE * a->C + v * W, lanes);
        shift[v] = load_lanes<W, Full>(s + FC_NORM_SHIFT * a->C + v * W, lanes);
    }
    for (int64_t i = 0; i < count; i += U)
#pragma GCC unroll 4
        for (int u = 0; u < U; ++u) {
            if (i + u >= count) break;
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) {
                const int64_t at = i + u;
                __builtin_prefetch(x + at * a->ldx + v * W + ahead_x);
                __builtin_prefetch(g + at * a->ldg + v * W + ahead_g);
                const Vf<W> d = load_lanes<W, Full>(x + at * a->ldx + v * W, lanes) - m[v];
                const Vf<W> t = let_through<W, Act>(load_lanes<W, Full>(g + at * a->ldg + v * W, lanes),
                                                    mul_add<W>(d, scale[v], shift[v]), low, high);
                p[u][v] += t;
                q[u][v] = mul_add<W>(t, d, q[u][v]);
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

template <int W, int NV, bool Full, int Act>
FC_INLINE void gradient_sums(const NormBackwardArgs* a, const float* stats, int64_t first, int64_t count, int64_t c,
                             int64_t channels, int64_t start, int64_t stop, double* g, double* gd) {
    float s1[NV * W], s2[NV * W];
    chunk_gradient<W, NV, Full, Act>(a, stats, first, count, c, static_cast<int>(channels),
                                     next_group(c, channels, start, stop, a->ldx),
                                     next_group(c, channels, start, stop, a->ldg), s1, s2);
    for (int64_t k = 0; k < channels; ++k) g[k] += s1[k], gd[k] += s2[k];
}

FC_INLINE int64_t f32_batchnorm_backward_sums_tiles(const NormBackwardArgs* a) {
    return norm_ranges(a->n, a->pixels, a->per_part, a->image_parts) * ceil_div(a->C, kNormChannels);
}
FC_INLINE size_t f32_batchnorm_backward_sums_scratch(const NormBackwardArgs*) { return 0; }

template <int Act>
FC_INLINE void backward_sums(const NormBackwardArgs* a, int64_t begin, int64_t end) {
    constexpr int W = kWidth, NV = kNormVectors;
    const int64_t blocks = ceil_div(a->C, kNormChannels);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t p = tile / blocks;
        const NormRange range = norm_range(p, a->n, a->pixels, a->per_part, a->image_parts);
        const int64_t first = range.first, count = range.count;
        const float* s = a->stats + range.image * FC_NORM_ROWS * a->C;
        const int64_t start = tile % blocks * kNormChannels, stop = min64(a->C, start + kNormChannels);
        double *g = a->part + p * 2 * a->C, *gd = g + a->C;
        for (int64_t c = start; c < stop; ++c) g[c] = gd[c] = 0.0;
        for (int64_t i = first; i < first + count; i += kNormChunk) {
            const int64_t few = min64(kNormChunk, first + count - i);
            int64_t c = start;
            for (; c + NV * W <= stop; c += NV * W)
                gradient_sums<W, NV, true, Act>(a, s, i, few, c, NV * W, start, stop, g + c, gd + c);
            for (; c + W <= stop; c += W) gradient_sums<W, 1, true, Act>(a, s, i, few, c, W, start, stop, g + c, gd + c);
            if (c < stop) gradient_sums<W, 1, false, Act>(a, s, i, few, c, stop - c, start, stop, g + c, gd + c);
        }
    }
}

inline void f32_batchnorm_backward_sums_run(const NormBackwardArgs* a, int64_t begin, int64_t end, void*) {
    if (a->act == FC_ACT_RELU) {
        backward_sums<FC_ACT_RELU>(a, begin, end);
    } else if (a->act == FC_ACT_CLIP) {
        backward_sums<FC_ACT_CLIP>(a, begin, end);
    } else {
        backward_sums<FC_ACT_NONE>(a, begin, end);
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
            const double scale = pixels ? a->stats[FC_NORM_SCALE * C + at] : 0.0, slope = scale * off * inverse * rstd * rstd;
            a->coef[at] = static_cast<float>(scale * g[c] * inverse - low * slope);
            a->coef[C + at] = static_cast<float>(slope);
        }
    }
}

template <int W, int NV, bool Full, int Act>
FC_NOINLINE void gradient_group(const NormBackwardArgs* a, int64_t image, int64_t first, int64_t count, int64_t c, int lanes,
                                bool past) {
    const int64_t ahead_g = next_group(c, NV * W, 0, a->C, a->ldg), ahead_x = next_group(c, NV * W, 0, a->C, a->ldx);
    const float *s = a->stats + image * FC_NORM_ROWS * a->C + c, *coef = a->coef + image * 2 * a->C + c;
    const bool training = a->training != 0;
    const Vf<W> low = splat<W>(static_cast<float>(a->act_a)), high = splat<W>(static_cast<float>(a->act_b));
    Vf<W> mean[NV] = {}, scale[NV], shift[NV] = {}, off[NV] = {}, slope[NV] = {};
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
        scale[v] = load_lanes<W, Full>(s + FC_NORM_SCALE * a->C + v * W, lanes);
        if (Act || training) mean[v] = load_lanes<W, Full>(s + FC_NORM_MEAN * a->C + v * W, lanes);
        if (Act) shift[v] = load_lanes<W, Full>(s + FC_NORM_SHIFT * a->C + v * W, lanes);
        if (!training) continue;
        off[v] = load_lanes<W, Full>(coef + v * W, lanes);
        slope[v] = load_lanes<W, Full>(coef + a->C + v * W, lanes);
    }
    for (int64_t i = first; i < first + count; ++i) {
        const float* gy = a->gy + i * a->ldg + c;
        float* gx = a->gx + i * a->ldgx + c;
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            __builtin_prefetch(gy + v * W + ahead_g);
            Vf<W> g = load_lanes<W, Full>(gy + v * W, lanes), d{};
            if (Act || training) {
                __builtin_prefetch(a->x + i * a->ldx + c + v * W + ahead_x);
                d = load_lanes<W, Full>(a->x + i * a->ldx + c + v * W, lanes) - mean[v];
                g = let_through<W, Act>(g, mul_add<W>(d, scale[v], shift[v]), low, high);
            }
            g = training ? mul_add<W>(-d, slope[v], mul_add<W>(g, scale[v], -off[v])) : g * scale[v];
            put_lanes<W, Full>(gx + v * W, g, lanes, past);
        }
    }
}

FC_INLINE int64_t f32_batchnorm_backward_data_tiles(const NormBackwardArgs* a) {
    return ceil_div(a->n * a->pixels, apply_pixels(a->C));
}
FC_INLINE size_t f32_batchnorm_backward_data_scratch(const NormBackwardArgs*) { return 0; }

template <int Act>
FC_INLINE void backward_data(const NormBackwardArgs* a, int64_t begin, int64_t end) {
    constexpr int W = kWidth, NV = kNormVectors;
    const int64_t per = apply_pixels(a->C), pixels = a->n * a->pixels;
    const int64_t stop = min64(pixels, end * per);
    const bool past = a->gx != a->gy && streams_rows(a->gx, a->ldgx, a->C, pixels);
    for (int64_t first = begin * per, count; first < stop; first += count) {
        const int64_t image = a->image_parts ? first / a->pixels : 0;
        count = min64(kNormChunk, stop - first);
        if (a->image_parts) count = min64(count, (image + 1) * a->pixels - first);
        int64_t c = 0;
        for (; c + NV * W <= a->C; c += NV * W) gradient_group<W, NV, true, Act>(a, image, first, count, c, W, past);
        for (; c + W <= a->C; c += W) gradient_group<W, 1, true, Act>(a, image, first, count, c, W, past);
        if (c < a->C) gradient_group<W, 1, false, Act>(a, image, first, count, c, static_cast<int>(a->C - c), past);
    }
    if (past) stream_end();
}

inline void f32_batchnorm_backward_data_run(const NormBackwardArgs* a, int64_t begin, int64_t end, void*) {
    if (a->act == FC_ACT_RELU) {
        backward_data<FC_ACT_RELU>(a, begin, end);
    } else if (a->act == FC_ACT_CLIP) {
        backward_data<FC_ACT_CLIP>(a, begin, end);
    } else {
        backward_data<FC_ACT_NONE>(a, begin, end);
    }
}

}  // namespace
}  // namespace
#endif
