// Normalisation of groups of channels, of each image (Y. Wu, K. He, "Group Normalization", 2018; a group of one channel is
// instance normalisation): what lies between the passes over memory, which are batch normalisation's.
//
//   parts of an image --in order--> moments of its channels --in order--> moments of a group --> mean, scale, shift per channel
//
// Backward, with S1 = sum(g * gamma) and S2 = sum(g * gamma * (x - mean)) over the M values of a group:
//
//   gx = g * gamma * r - (x - mean) * r^3 * S2 / M - r * S1 / M
//
// All in double.
#ifndef FASTCONV_NORM_GROUPS_INL_H
#define FASTCONV_NORM_GROUPS_INL_H

#include "fastconv/norm/norm.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// A tile is a group, or as many as have kMergeChannels channels.
struct GroupTile {
    int64_t image, first, last, channels;  // channels of the image, and of one group
};
FC_INLINE int64_t groups_at_once(const GroupNormArgs* a) {
    return min64(a->groups, max64(1, kMergeChannels / (a->C / a->groups)));
}
FC_INLINE int64_t group_tiles(const GroupNormArgs* a) { return a->n * ceil_div(a->groups, groups_at_once(a)); }
FC_INLINE GroupTile group_tile(const GroupNormArgs* a, int64_t tile) {
    const int64_t few = groups_at_once(a), across = ceil_div(a->groups, few), channels = a->C / a->groups;
    const int64_t group = tile % across * few;
    return {tile / across, group * channels, min64(a->groups, group + few) * channels, channels};
}

FC_INLINE int64_t f32_groupnorm_merge_tiles(const GroupNormArgs* a) { return group_tiles(a); }
FC_INLINE size_t f32_groupnorm_merge_scratch(const GroupNormArgs*) { return 0; }

FC_INLINE double group_rstd(const GroupNormArgs* a, double m2, int64_t channels) {
    return 1.0 / __builtin_sqrt(m2 / static_cast<double>(channels * a->pixels) + a->eps);
}

// Means and 1 / deviations of these channels to the stats of their image.
FC_NOINLINE void group_stats(const GroupNormArgs* a, int64_t image, int64_t first, int64_t count, const double* mean,
                             const double* rstd) {
    float* s = a->stats + image * FC_NORM_ROWS * a->C + first;
    for (int64_t c = 0; c < count; ++c) {
        const double low = mean[c] - static_cast<float>(mean[c]), scale = (a->gamma ? a->gamma[first + c] : 1.0f) * rstd[c];
        s[FC_NORM_MEAN * a->C + c] = static_cast<float>(mean[c]);
        s[FC_NORM_LOW * a->C + c] = static_cast<float>(low);
        s[FC_NORM_RSTD * a->C + c] = static_cast<float>(rstd[c]);
        s[FC_NORM_SCALE * a->C + c] = static_cast<float>(scale);
        s[FC_NORM_SHIFT * a->C + c] = static_cast<float>((a->beta ? a->beta[first + c] : 0.0f) - low * scale);
    }
}

// The moments of some channels of an image, from those of its ranges.
FC_NOINLINE void group_moments(const GroupNormArgs* a, int64_t image, int64_t first, int64_t count, double* mean, double* m2) {
    for (int64_t c = 0; c < kMergeChannels; ++c) mean[c] = m2[c] = 0.0;
    for (int64_t p = 0; p < a->image_parts; ++p) {
        const double have = static_cast<double>(p * a->per_part);
        const double more = static_cast<double>(min64(a->per_part, a->pixels - p * a->per_part));
        const double share = more / (have + more), cross = have * share;
        const double *pm = a->part + (image * a->image_parts + p) * 2 * a->C + first, *p2 = pm + a->C;
        for (int64_t c = 0; c < count; ++c) {
            const double delta = pm[c] - mean[c];
            mean[c] += delta * share;
            m2[c] += p2[c] + delta * delta * cross;
        }
    }
}

inline void f32_groupnorm_merge_run(const GroupNormArgs* a, int64_t begin, int64_t end, void*) {
    const double pixels = static_cast<double>(a->pixels);
    for (int64_t tile = begin; tile < end; ++tile) {
        const GroupTile t = group_tile(a, tile);
        double mean[kMergeChannels], m2[kMergeChannels], group = 0.0, group2 = 0.0;
        int64_t of = 0;  // channels of the group so far
        for (int64_t c0 = t.first; c0 < t.last; c0 += kMergeChannels) {
            const int64_t few = min64(kMergeChannels, t.last - c0);
            group_moments(a, t.image, c0, few, mean, m2);
            for (int64_t c = 0, more; c < few && t.channels > 1; c += more) {  // channels have as many pixels each
                if (of == t.channels) of = 0, group = group2 = 0.0;
                more = min64(few - c, t.channels - of);
                double sum = 0.0, sum2 = 0.0;
                for (int64_t i = c; i < c + more; ++i) sum += mean[i];
                sum /= static_cast<double>(more);
                for (int64_t i = c; i < c + more; ++i) sum2 += m2[i] + (mean[i] - sum) * (mean[i] - sum) * pixels;
                const double have = static_cast<double>(of), share = static_cast<double>(more) / static_cast<double>(of + more);
                const double delta = sum - group;
                group += delta * share;
                group2 += sum2 + delta * delta * have * share * pixels;
                of += more;
                if (of < t.channels || more < of) continue;
                const double rstd = group_rstd(a, group2, of);
                for (int64_t i = c; i < c + more; ++i) mean[i] = group, m2[i] = rstd;
            }
            if (t.channels > kMergeChannels) continue;
            for (int64_t c = 0; c < few && t.channels == 1; ++c) m2[c] = group_rstd(a, m2[c], 1);
            group_stats(a, t.image, c0, few, mean, m2);
        }
        if (t.channels <= kMergeChannels) continue;
        const double rstd = group_rstd(a, group2, t.channels);
        for (int64_t c = 0; c < kMergeChannels; ++c) mean[c] = group, m2[c] = rstd;
        for (int64_t c0 = t.first; c0 < t.last; c0 += kMergeChannels)
            group_stats(a, t.image, c0, min64(kMergeChannels, t.last - c0), mean, m2);
    }
}

FC_INLINE int64_t f32_groupnorm_backward_merge_tiles(const GroupNormArgs* a) { return group_tiles(a); }
FC_INLINE size_t f32_groupnorm_backward_merge_scratch(const GroupNormArgs*) { return 0; }

inline void f32_groupnorm_backward_merge_run(const GroupNormArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t C = a->C;
    for (int64_t tile = begin; tile < end; ++tile) {
        const GroupTile t = group_tile(a, tile);
        double *g = a->part + t.image * a->image_parts * 2 * C, *gd = g + C;
        const float* s = a->stats + t.image * FC_NORM_ROWS * C;
        for (int64_t p = 1; p < a->image_parts; ++p) {
            const double* more = g + p * 2 * C;
            for (int64_t c = t.first; c < t.last; ++c) g[c] += more[c], gd[c] += more[C + c];
        }
        const double one = 1.0 / static_cast<double>(t.channels * a->pixels);
        for (int64_t first = t.first; first < t.last; first += t.channels) {
            const double low = s[FC_NORM_LOW * C + first], rstd = s[FC_NORM_RSTD * C + first];
            double level = 0.0, slope = 0.0;
            for (int64_t c = first; c < first + t.channels; ++c) {
                const double w = a->gamma ? a->gamma[c] : 1.0;
                const double off = gd[c] - low * g[c];  // around the mean itself, not the rounded one
                level += w * g[c];
                slope += w * off;
                gd[c] = off * rstd;
            }
            if (!a->coef) continue;
            slope *= one * rstd * rstd * rstd;
            level = level * one * rstd - low * slope;
            float* coef = a->coef + t.image * 2 * C;
            for (int64_t c = first; c < first + t.channels; ++c)
                coef[c] = static_cast<float>(level), coef[C + c] = static_cast<float>(slope);
        }
    }
}

FC_INLINE int64_t f32_groupnorm_backward_weight_tiles(const GroupNormArgs* a) { return ceil_div(a->C, kMergeChannels); }
FC_INLINE size_t f32_groupnorm_backward_weight_scratch(const GroupNormArgs*) { return 0; }

inline void f32_groupnorm_backward_weight_run(const GroupNormArgs* a, int64_t begin, int64_t end, void*) {
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t c0 = tile * kMergeChannels, channels = min64(kMergeChannels, a->C - c0);
        double sums[2][kMergeChannels] = {};
        for (int64_t i = 0; i < a->n; ++i) {
            const double* part = a->part + i * a->image_parts * 2 * a->C + c0;
            for (int64_t c = 0; c < channels; ++c) sums[0][c] += part[c], sums[1][c] += part[a->C + c];
        }
        for (int64_t c = 0; c < channels; ++c) {
            if (a->gbeta) a->gbeta[c0 + c] = static_cast<float>(sums[0][c]);
            if (a->ggamma) a->ggamma[c0 + c] = static_cast<float>(sums[1][c]);
        }
    }
}

}  // namespace
}  // namespace
#endif
