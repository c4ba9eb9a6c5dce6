// Batch normalisation, forward: statistics of ranges of pixels, their merge, and the normalisation itself.
//
//   channels ->   64 ... 256        A tile of the statistics is a range of per_part pixels and up to 256 channels,
//   pixels   +------+------+        worked off in chunks of 64 pixels x 4 vectors, which stay in the first-level cache
//     0..63  | mean, M2    |        while they are read twice: mean, then deviations from it and their squares. So no
//   64..127  |  merged     |        square of a mean is ever taken from a mean of squares. Chunks, and then ranges,
//            +------+------+        are merged in double in a fixed order (T. Chan, G. Golub, R. LeVeque, 1979).
//
// Normalisation: y = act((x - mean) * scale + shift + residual), a tile is about 16384 values, four vectors of channels
// at a time keep their constants in registers while the pixels go by. All of it is bound by memory.
#ifndef FASTCONV_NORM_INL_H
#define FASTCONV_NORM_INL_H

#include "fastconv/simd/activation.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kNormChannels = 256;  // channels per tile of the statistics
constexpr int64_t kNormChunk = 64;      // pixels whose float sums go into the doubles at once
constexpr int kNormVectors = kWidth == 16 ? 4 : 2;
constexpr int64_t kMergeChannels = 64;  // channels per tile of a merge
constexpr int64_t kApplyValues = 16384;

// Where memory goes on when the vectors that hold `channels` channels from c on are through a chunk: at the channels behind
// them, up to stop, of the same pixels, or at the first ones, start, of the next chunk. A distance in elements, at which lines
// are asked for ahead: a chunk's pixels are too far apart for the processor to see that their channels follow one another.
// (Zen 5, one thread, MobileNet v2 at batch 16: sums of the backward 43 -> 27 ms, statistics 17 -> 14 ms.)
FC_INLINE int64_t next_group(int64_t c, int64_t channels, int64_t start, int64_t stop, int64_t ld) {
    return c + channels < stop ? channels : kNormChunk * ld + start - c;
}

template <int W, bool Full>
FC_INLINE Vf<W> load_lanes(const float* p, int lanes) {
    if constexpr (Full) {
        return load<W>(p);
    } else {
        return load_n<W>(p, lanes);
    }
}
template <int W, bool Full>
FC_INLINE void store_lanes(float* p, Vf<W> v, int lanes) {
    if constexpr (Full) {
        store<W>(p, v);
    } else {
        store_n<W>(p, v, lanes);
    }
}

// The p-th range of pixels: as many of each image, or of all images together.
struct NormRange {
    int64_t image, first, count;
};
FC_INLINE NormRange norm_range(int64_t p, int64_t n, int64_t pixels, int64_t per_part, int64_t image_parts) {
    if (!image_parts) return {0, p * per_part, min64(per_part, n * pixels - p * per_part)};
    const int64_t at = p % image_parts * per_part;
    return {p / image_parts, p / image_parts * pixels + at, min64(per_part, pixels - at)};
}
FC_INLINE int64_t norm_ranges(int64_t n, int64_t pixels, int64_t per_part, int64_t image_parts) {
    return image_parts ? n * image_parts : ceil_div(n * pixels, per_part);
}

// ---- statistics ---------------------------------------------------------------------------------------------------

// mean of `count` pixels (up to rounding), and the sums of x - mean and of its square.
template <int W, int NV, bool Full>
FC_NOINLINE void chunk_moments(const float* x, int64_t ld, int64_t count, int lanes, int64_t ahead, float* mean, float* s1,
                               float* s2) {
    constexpr int U = 4 / NV;  // pixels at a time: as many sums under way as an addition takes cycles
    Vf<W> a[U][NV] = {}, b[U][NV] = {}, m[NV];
    int64_t i = 0;
    for (; i + U <= count; i += U)
#pragma GCC unroll 4
        for (int u = 0; u < U; ++u)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) {
                __builtin_prefetch(x + (i + u) * ld + v * W + ahead);
                a[u][v] += load_lanes<W, Full>(x + (i + u) * ld + v * W, lanes);
            }
    for (; i < count; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) a[0][v] += load_lanes<W, Full>(x + i * ld + v * W, lanes);
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
#pragma GCC unroll 4
        for (int u = 1; u < U; ++u) a[0][v] += a[u][v];
        m[v] = a[0][v] * (1.0f / static_cast<float>(count));
        store<W>(mean + v * W, m[v]);
#pragma GCC unroll 4
        for (int u = 0; u < U; ++u) a[u][v] = Vf<W>{};
    }
    for (i = 0; i + U <= count; i += U)
#pragma GCC unroll 4
        for (int u = 0; u < U; ++u)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) {
                const Vf<W> d = load_lanes<W, Full>(x + (i + u) * ld + v * W, lanes) - m[v];
                a[u][v] += d;
                b[u][v] = mul_add<W>(d, d, b[u][v]);
            }
    for (; i < count; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            const Vf<W> d = load_lanes<W, Full>(x + i * ld + v * W, lanes) - m[v];
            a[0][v] += d;
            b[0][v] = mul_add<W>(d, d, b[0][v]);
        }
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
#pragma GCC unroll 4
        for (int u = 1; u < U; ++u) a[0][v] += a[u][v], b[0][v] += b[u][v];
        store<W>(s1 + v * W, a[0][v]);
        store<W>(s2 + v * W, b[0][v]);
    }
}

// Adds `more` pixels with mean m + s1 / more, of which s1 and s2 are the sums around m, to `have` pixels.
FC_INLINE void merge_chunk(double* mean, double* m2, int64_t channels, double have, double more, const float* m,
                           const float* s1, const float* s2) {
    const double inverse = 1.0 / more, share = more / (have + more), cross = have * share;
    for (int64_t c = 0; c < channels; ++c) {
        const double off = s1[c] * inverse, own = s2[c] - s1[c] * off, delta = m[c] + off - mean[c];
        mean[c] += delta * share;
        m2[c] += (own < 0.0 ? 0.0 : own) + delta * delta * cross;
    }
}

// The chunk that begins with pixel `have` of its range, into the moments of the range so far.
template <int W, int NV, bool Full>
FC_INLINE void moments(const float* x, int64_t ld, int64_t have, int64_t count, int64_t channels, int64_t ahead,
                       double* mean, double* m2) {
    float m[NV * W], s1[NV * W], s2[NV * W];
    chunk_moments<W, NV, Full>(x, ld, count, static_cast<int>(channels), ahead, m, s1, s2);
    merge_chunk(mean, m2, channels, static_cast<double>(have), static_cast<double>(count), m, s1, s2);
}

FC_INLINE int64_t f32_batchnorm_statistics_tiles(const NormStatisticsArgs* a) {
    return norm_ranges(a->n, a->pixels, a->per_part, a->image_parts) * ceil_div(a->C, kNormChannels);
}
FC_INLINE size_t f32_batchnorm_statistics_scratch(const NormStatisticsArgs*) { return 0; }

inline void f32_batchnorm_statistics_run(const NormStatisticsArgs* a, int64_t begin, int64_t end, void*) {
    constexpr int W = kWidth, NV = kNormVectors;
    const int64_t blocks = ceil_div(a->C, kNormChannels);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t p = tile / blocks;
        const NormRange range = norm_range(p, a->n, a->pixels, a->per_part, a->image_parts);
        const int64_t first = range.first, count = range.count;
        const int64_t start = tile % blocks * kNormChannels, stop = min64(a->C, start + kNormChannels);
        double *mean = a->part + p * 2 * a->C, *m2 = mean + a->C;
        for (int64_t c = start; c < stop; ++c) mean[c] = m2[c] = 0.0;
        for (int64_t i = 0; i < count; i += kNormChunk) {  // pixels outside, channels inside: memory is read in order
            const int64_t few = min64(kNormChunk, count - i);
            const float* x = a->x + (first + i) * a->ld;
            int64_t c = start;
            for (; c + NV * W <= stop; c += NV * W)
                moments<W, NV, true>(x + c, a->ld, i, few, NV * W, next_group(c, NV * W, start, stop, a->ld), mean + c,
                                     m2 + c);
            for (; c + W <= stop; c += W)
                moments<W, 1, true>(x + c, a->ld, i, few, W, next_group(c, W, start, stop, a->ld), mean + c, m2 + c);
            if (c < stop)
                moments<W, 1, false>(x + c, a->ld, i, few, stop - c, next_group(c, W, start, stop, a->ld), mean + c, m2 + c);
        }
    }
}

// ---- merge --------------------------------------------------------------------------------------------------------

// stats of one channel from its mean and variance.
FC_INLINE void set_stats(const NormMergeArgs* a, int64_t c, double mean, double var) {
    float* s = a->stats + c;
    const double rstd = 1.0 / __builtin_sqrt(var + a->eps), scale = (a->gamma ? a->gamma[c] : 1.0) * rstd;
    const double low = mean - static_cast<float>(mean);
    s[FC_NORM_MEAN * a->C] = static_cast<float>(mean);
    s[FC_NORM_LOW * a->C] = static_cast<float>(low);
    s[FC_NORM_RSTD * a->C] = static_cast<float>(rstd);
    s[FC_NORM_SCALE * a->C] = static_cast<float>(scale);
    s[FC_NORM_SHIFT * a->C] = static_cast<float>((a->beta ? a->beta[c] : 0.0) - low * scale);
}

FC_INLINE int64_t f32_batchnorm_merge_tiles(const NormMergeArgs* a) {
    // An empty batch leaves the running statistics alone.
    return a->n * a->pixels > 0 ? ceil_div(a->C, kMergeChannels) : 0;
}
FC_INLINE size_t f32_batchnorm_merge_scratch(const NormMergeArgs*) { return 0; }

inline void f32_batchnorm_merge_run(const NormMergeArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t pixels = a->n * a->pixels, C = a->C;
    const double total = static_cast<double>(pixels);
    const double momentum = a->momentum >= 0.0 ? a->momentum : 1.0 / (static_cast<double>(*a->batches) + 1.0);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t c0 = tile * kMergeChannels, channels = min64(kMergeChannels, C - c0);
        double mean[kMergeChannels] = {}, m2[kMergeChannels] = {};
        for (int64_t first = 0, p = 0; first < pixels; first += a->per_part, ++p) {
            const double have = static_cast<double>(first);
            const double more = static_cast<double>(min64(a->per_part, pixels - first));
            const double share = more / (have + more), cross = have * share;
            const double *pm = a->part + p * 2 * C + c0, *p2 = pm + C;
            for (int64_t c = 0; c < channels; ++c) {
                const double delta = pm[c] - mean[c];
                mean[c] += delta * share;
                m2[c] += p2[c] + delta * delta * cross;
            }
        }
        for (int64_t c = 0; c < channels; ++c) {
            set_stats(a, c0 + c, mean[c], m2[c] / total);
            if (!a->running_mean) continue;
            float *rm = a->running_mean + c0 + c, *rv = a->running_var + c0 + c;
            *rm = static_cast<float>((1.0 - momentum) * *rm + momentum * mean[c]);
            *rv = static_cast<float>((1.0 - momentum) * *rv + momentum * (m2[c] / (total - 1.0)));
        }
    }
}

// stats from the running statistics, whatever the batch of the run.
FC_INLINE int64_t f32_batchnorm_fixed_tiles(const NormMergeArgs* a) { return ceil_div(a->C, 1024); }
FC_INLINE size_t f32_batchnorm_fixed_scratch(const NormMergeArgs*) { return 0; }

inline void f32_batchnorm_fixed_run(const NormMergeArgs* a, int64_t begin, int64_t end, void*) {
    for (int64_t c = begin * 1024; c < min64(a->C, end * 1024); ++c)
        set_stats(a, c, a->running_mean[c], a->running_var[c]);
}

// ---- normalisation ------------------------------------------------------------------------------------------------

// Whether an output goes past the caches, where its reader would not find it; whole vectors at aligned places. (Zen 5, as
// above: the gradient of x 43 -> 31 ms, the normalisation 25 -> 22 ms.)
constexpr int64_t kNormStreamed = 16 << 20;
FC_INLINE bool streams_rows(const float* y, int64_t ld, int64_t C, int64_t pixels) {
    return pixels * ld * 4 > kNormStreamed && ld % kWidth == 0 && C % kWidth == 0 &&
           reinterpret_cast<uintptr_t>(y) % (4 * kWidth) == 0;
}

template <int W, bool Full>
FC_INLINE void put_lanes(float* p, Vf<W> v, int lanes, bool past_the_caches) {
    if constexpr (Full) {
        put<W>(p, v, past_the_caches);
    } else {
        store_n<W>(p, v, lanes);
    }
}

FC_INLINE int64_t apply_pixels(int64_t C) { return max64(1, kApplyValues / max64(1, C)); }

template <int W, int NV, bool Full>
FC_NOINLINE void apply_group(const NormApplyArgs* a, const float* stats, int64_t first, int64_t count, int64_t c, int lanes,
                             bool past) {
    const int64_t ahead = next_group(c, NV * W, 0, a->C, a->ldx);
    const float* s = stats + c;
    const float a0 = static_cast<float>(a->act_a), a1 = static_cast<float>(a->act_b);
    Vf<W> mean[NV], scale[NV], shift[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
        mean[v] = load_lanes<W, Full>(s + FC_NORM_MEAN * a->C + v * W, lanes);
        scale[v] = load_lanes<W, Full>(s + FC_NORM_SCALE * a->C + v * W, lanes);
        shift[v] = load_lanes<W, Full>(s + FC_NORM_SHIFT * a->C + v * W, lanes);
    }
    const float* x = a->x + first * a->ldx + c;
    const float* r = a->residual ? a->residual + first * a->ldr + c : nullptr;
    float* y = a->y + first * a->ldy + c;
    for (int64_t i = 0; i < count; ++i, x += a->ldx, y += a->ldy) {
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            __builtin_prefetch(x + v * W + ahead);
            Vf<W> t = mul_add<W>(load_lanes<W, Full>(x + v * W, lanes) - mean[v], scale[v], shift[v]);
            if (r) t += load_lanes<W, Full>(r + i * a->ldr + v * W, lanes);
            put_lanes<W, Full>(y + v * W, activate<W>(t, a->act, a0, a1), lanes, past);
        }
    }
}

FC_INLINE int64_t f32_batchnorm_apply_tiles(const NormApplyArgs* a) {
    return ceil_div(a->n * a->pixels, apply_pixels(a->C));
}
FC_INLINE size_t f32_batchnorm_apply_scratch(const NormApplyArgs*) { return 0; }

inline void f32_batchnorm_apply_run(const NormApplyArgs* a, int64_t begin, int64_t end, void*) {
    constexpr int W = kWidth, NV = kNormVectors;
    const int64_t per = apply_pixels(a->C), pixels = a->n * a->pixels;
    if (begin == 0 && a->batches) ++*a->batches;  // here and not in merge, whose tiles read it
    const int64_t stop = min64(pixels, end * per);
    const bool past = a->y != a->x && a->y != a->residual && streams_rows(a->y, a->ldy, a->C, pixels);
    for (int64_t first = begin * per, count; first < stop; first += count) {
        count = min64(kNormChunk, stop - first);
        const float* s = a->stats;
        if (a->own) {
            count = min64(count, a->pixels - first % a->pixels);
            s += first / a->pixels * FC_NORM_ROWS * a->C;
        }
        int64_t c = 0;
        for (; c + NV * W <= a->C; c += NV * W) apply_group<W, NV, true>(a, s, first, count, c, W, past);
        for (; c + W <= a->C; c += W) apply_group<W, 1, true>(a, s, first, count, c, W, past);
        if (c < a->C) apply_group<W, 1, false>(a, s, first, count, c, static_cast<int>(a->C - c), past);
    }
    if (past) stream_end();
}

}  // namespace
}  // namespace
#endif
