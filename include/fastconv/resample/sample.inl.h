// Sampling at coordinates (grid_sample): bilinear, nearest or bicubic, in two or three dimensions; its gradients.
//
// A run of output pixels becomes a table: for each tap where it reads and with which weight, for the gradient of the grid also
// how the weight changes with each coordinate. Then values: vectors of channels where those are contiguous, else a channel at a
// time. The gradient to data is added pixel by pixel in order, by tiles that own a channel block of an image and, where there
// are few of those, a band of its pixels: each reads all pixels of the output and keeps what falls into its own.
#ifndef FASTCONV_SAMPLE_INL_H
#define FASTCONV_SAMPLE_INL_H

#include "fastconv/simd/vec.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kSamplePixels = 64, kSampleTaps = 16, kSampleChannels = 64;

struct SampleTable {
    int64_t at[kSamplePixels][kSampleTaps];       // elements from the image's first
    int64_t pixel[kSamplePixels][kSampleTaps];    // and the number of its pixel; -1: outside
    float weight[kSamplePixels][kSampleTaps];
    float slope[3][kSamplePixels][kSampleTaps];   // d weight / d grid coordinate
    int64_t out[kSamplePixels];                   // elements from the output image's first
    int64_t grid[kSamplePixels];                  // and from the image's first in the gradient of the grid
};

// A coordinate in pixels, after padding, and its derivative by the grid's.
struct SampleAt {
    float x, slope;
};

FC_INLINE float reflected(float x, float low, float span, float* slope) {  // into [low, low + span]
    if (span == 0) {
        *slope = 0;
        return 0;
    }
    float off = x - low, sign = 1.0f;
    if (off < 0) {
        off = -off;
        sign = -1.0f;
    }
    const float times = __builtin_floorf(off / span), extra = off - times * span;
    const bool odd = times - 2.0f * __builtin_floorf(times * 0.5f) == 1.0f;
    *slope *= odd ? -sign : sign;
    return odd ? span - extra + low : extra + low;
}

FC_INLINE float clipped(float x, int64_t size, float* slope) {  // NaN is 0
    const float last = static_cast<float>(size - 1);
    if (!(x > 0)) {
        *slope = 0;
        return 0;
    }
    if (x >= last) {
        *slope = 0;
        return last;
    }
    return x;
}

FC_INLINE SampleAt placed(const SampleArgs* a, float x, float slope, int64_t size) {
    if (a->padding == 2) {
        x = a->align ? reflected(x, 0, static_cast<float>(size - 1), &slope)
                     : reflected(x, -0.5f, static_cast<float>(size), &slope);
    }
    if (a->padding) x = clipped(x, size, &slope);
    return {x, slope};
}

// Weights along an axis: where it reads (-1: outside), weights and their slopes; how many.
FC_NOINLINE inline int sample_axis(const SampleArgs* a, float g, int64_t size, int64_t* at, float* weight, float* slope) {
    const float extent = static_cast<float>(size);
    const float scale = a->align ? (extent - 1.0f) * 0.5f : extent * 0.5f;
    const float x = a->align ? (g + 1.0f) * 0.5f * (extent - 1.0f) : ((g + 1.0f) * extent - 1.0f) * 0.5f;
    if (a->mode == 2) {  // each tap is placed for itself
        const float low = __builtin_floorf(x), t = x - low;
        const float A = -0.75f, u = 1.0f - t;
        weight[0] = ((A * (t + 1) - 5 * A) * (t + 1) + 8 * A) * (t + 1) - 4 * A;
        weight[1] = ((A + 2) * t - (A + 3)) * t * t + 1;
        weight[2] = ((A + 2) * u - (A + 3)) * u * u + 1;
        weight[3] = ((A * (u + 1) - 5 * A) * (u + 1) + 8 * A) * (u + 1) - 4 * A;
        slope[0] = ((3 * A * (t + 1) - 10 * A) * (t + 1) + 8 * A) * scale;
        slope[1] = (3 * (A + 2) * t - 2 * (A + 3)) * t * scale;
        slope[2] = -(3 * (A + 2) * u - 2 * (A + 3)) * u * scale;
        slope[3] = -((3 * A * (u + 1) - 10 * A) * (u + 1) + 8 * A) * scale;
        for (int i = 0; i < 4; ++i) {
            const float p = placed(a, low + static_cast<float>(i - 1), 1.0f, size).x;
            at[i] = p > -1.0f && p < extent ? static_cast<int64_t>(p) : -1;
        }
        return 4;
    }
    const SampleAt p = placed(a, x, scale, size);
    if (a->mode == 1) {
        const float r = __builtin_rintf(p.x);
        at[0] = r >= 0.0f && r < extent ? static_cast<int64_t>(r) : -1;
        weight[0] = 1.0f;
        slope[0] = 0.0f;
        return 1;
    }
    const bool near = p.x > -1.0f && p.x < extent;  // false for NaN
    const float low = near ? __builtin_floorf(p.x) : 0.0f;
    const int64_t i = near ? static_cast<int64_t>(low) : -2;
    at[0] = i >= 0 ? i : -1;
    at[1] = near && i + 1 < size ? i + 1 : -1;
    weight[1] = p.x - low;
    weight[0] = 1.0f - weight[1];
    slope[0] = -p.slope;
    slope[1] = p.slope;
    return 2;
}

// The table of output pixels [first, first + count) of an image; how many taps each has.
FC_NOINLINE inline int sample_table(const SampleArgs* a, const float* grid, int64_t first, int64_t count, SampleTable* t) {
    int taps = 0;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t p = first + i, w = p % a->yW, h = p / a->yW % a->yH, d = p / a->yW / a->yH;
        const float* g = grid + d * a->gs[1] + h * a->gs[2] + w * a->gs[3];
        t->out[i] = d * a->ys[2] + h * a->ys[3] + w * a->ys[4];
        t->grid[i] = d * a->ggs[1] + h * a->ggs[2] + w * a->ggs[3];
        int64_t x[4], y[4], z[4] = {0};
        float wx[4], wy[4], wz[4] = {1.0f}, sx[4], sy[4], sz[4] = {0};
        const int nx = sample_axis(a, g[0], a->xW, x, wx, sx), ny = sample_axis(a, g[a->gs[4]], a->xH, y, wy, sy);
        const int nz = a->dims == 3 ? sample_axis(a, g[2 * a->gs[4]], a->xD, z, wz, sz) : 1;
        taps = 0;
        for (int k = 0; k < nz; ++k)
            for (int j = 0; j < ny; ++j)
                for (int l = 0; l < nx; ++l, ++taps) {
                    const bool inside = x[l] >= 0 && y[j] >= 0 && z[k] >= 0;
                    t->at[i][taps] = inside ? z[k] * a->xs[2] + y[j] * a->xs[3] + x[l] * a->xs[4] : 0;
                    t->pixel[i][taps] = inside ? (z[k] * a->xH + y[j]) * a->xW + x[l] : -1;
                    t->weight[i][taps] = wx[l] * wy[j] * wz[k];
                    t->slope[0][i][taps] = sx[l] * wy[j] * wz[k];
                    t->slope[1][i][taps] = wx[l] * sy[j] * wz[k];
                    t->slope[2][i][taps] = wx[l] * wy[j] * sz[k];
                }
    }
    return taps;
}

FC_INLINE bool sample_inside(const SampleTable* t, int64_t i, int k) { return t->pixel[i][k] >= 0; }

FC_INLINE int64_t sample_pixels(const SampleArgs* a) { return a->yD * a->yH * a->yW; }
FC_INLINE int64_t sample_images(const SampleArgs* a) { return a->batched ? a->n : a->N; }
FC_INLINE int64_t sample_runs(const SampleArgs* a) { return ceil_div(sample_pixels(a), kSamplePixels); }
FC_INLINE size_t sample_table_bytes() { return (sizeof(SampleTable) + 63) / 64 * 64; }

FC_INLINE int64_t grid_sample_tiles(const SampleArgs* a) { return sample_images(a) * sample_runs(a); }
FC_INLINE size_t grid_sample_scratch(const SampleArgs*) { return sample_table_bytes(); }

FC_NOINLINE inline void scatter_n(float* p, int64_t stride, const float* v, int n) {
    for (int l = 0; l < n; ++l) p[l * stride] = v[l];
}
FC_NOINLINE inline void gather_n(float* v, const float* p, int64_t stride, int n) {
    for (int l = 0; l < n; ++l) v[l] = p[l * stride];
}
FC_INLINE void store_apart(float* p, int64_t stride, Vf<kWidth> v, int n) {
    if (stride == 1) {
        store_n<kWidth>(p, v, n);
    } else {
        float lanes[kWidth];
        store<kWidth>(lanes, v);
        scatter_n(p, stride, lanes, n);
    }
}
FC_INLINE Vf<kWidth> load_apart(const float* p, int64_t stride, int n) {
    if (stride == 1) return load_n<kWidth>(p, n);
    float lanes[kWidth] = {0};
    gather_n(lanes, p, stride, n);
    return load<kWidth>(lanes);
}

inline void grid_sample_run(const SampleArgs* a, int64_t begin, int64_t end, void* scratch) {
    constexpr int W = kWidth;
    SampleTable* t = static_cast<SampleTable*>(scratch);
    const int64_t runs = sample_runs(a), pixels = sample_pixels(a);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t image = tile / runs, first = tile % runs * kSamplePixels, count = min64(kSamplePixels, pixels - first);
        const float* x = a->x + image * a->xs[0];
        float* y = a->y + image * a->ys[0];
        const int taps = sample_table(a, a->grid + image * a->gs[0], first, count, t);
        if (a->xs[1] == 1 && a->C > 1) {
            for (int64_t i = 0; i < count; ++i)
                for (int64_t c = 0; c < a->C; c += W) {
                    const int n = static_cast<int>(min64(W, a->C - c));
                    Vf<W> sum{};
                    for (int k = 0; k < taps; ++k)
                        if (sample_inside(t, i, k))
                            sum = mul_add<W>(splat<W>(t->weight[i][k]), load_n<W>(x + t->at[i][k] + c, n), sum);
                    store_apart(y + t->out[i] + c * a->ys[1], a->ys[1], sum, n);
                }
        } else {
            for (int64_t c = 0; c < a->C; ++c)
                for (int64_t i = 0; i < count; ++i) {
                    float sum = 0;
                    for (int k = 0; k < taps; ++k)
                        if (sample_inside(t, i, k)) sum += t->weight[i][k] * x[t->at[i][k] + c * a->xs[1]];
                    y[t->out[i] + c * a->ys[1]] = sum;
                }
        }
    }
}

// ---- to data --------------------------------------------------------------------------------------------------------

struct SampleBands {
    int64_t blocks, bands, size;  // channel blocks; bands of an image and pixels of each
};

FC_INLINE SampleBands sample_bands(int64_t images, int64_t C, int64_t pixels) {
    const int64_t blocks = ceil_div(C, kSampleChannels);
    const int64_t bands = images * blocks >= 8 ? 1 : min64(8, max64(1, pixels / 64));
    return {blocks, bands, ceil_div(pixels, bands)};
}

FC_INLINE SampleBands sample_bands(const SampleArgs* a) {
    return sample_bands(sample_images(a), a->C, a->xD * a->xH * a->xW);
}

FC_INLINE int64_t grid_sample_backward_data_tiles(const SampleArgs* a) {
    const SampleBands b = sample_bands(a);
    return sample_images(a) * b.blocks * b.bands;
}
FC_INLINE size_t grid_sample_backward_data_scratch(const SampleArgs*) { return sample_table_bytes(); }

inline void grid_sample_backward_data_run(const SampleArgs* a, int64_t begin, int64_t end, void* scratch) {
    constexpr int W = kWidth;
    SampleTable* t = static_cast<SampleTable*>(scratch);
    const SampleBands b = sample_bands(a);
    const int64_t pixels = sample_pixels(a), xpixels = a->xD * a->xH * a->xW;
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t band = tile % b.bands, block = tile / b.bands % b.blocks, image = tile / b.bands / b.blocks;
        const int64_t c0 = block * kSampleChannels, C = min64(kSampleChannels, a->C - c0);
        const int64_t low = band * b.size, high = min64(xpixels, low + b.size);
        float* x = a->x + image * a->xs[0] + c0 * a->xs[1];
        const float* y = a->y + image * a->ys[0] + c0 * a->ys[1];
        for (int64_t p = low; p < high; ++p) {
            float* at = x + p / (a->xH * a->xW) * a->xs[2] + p / a->xW % a->xH * a->xs[3] + p % a->xW * a->xs[4];
            for (int64_t c = 0; c < C; ++c) at[c * a->xs[1]] = 0;
        }
        for (int64_t first = 0; first < pixels; first += kSamplePixels) {
            const int64_t count = min64(kSamplePixels, pixels - first);
            const int taps = sample_table(a, a->grid + image * a->gs[0], first, count, t);
            for (int64_t i = 0; i < count; ++i)
                for (int k = 0; k < taps; ++k) {
                    if (t->pixel[i][k] < low || t->pixel[i][k] >= high) continue;
                    float* to = x + t->at[i][k];
                    const float* from = y + t->out[i];
                    const float w = t->weight[i][k];
                    if (a->xs[1] == 1 && C > 1) {
                        for (int64_t c = 0; c < C; c += W) {
                            const int n = static_cast<int>(min64(W, C - c));
                            const Vf<W> g = load_apart(from + c * a->ys[1], a->ys[1], n);
                            store_n<W>(to + c, mul_add<W>(splat<W>(w), g, load_n<W>(to + c, n)), n);
                        }
                    } else {
                        for (int64_t c = 0; c < C; ++c) to[c * a->xs[1]] += w * from[c * a->ys[1]];
                    }
                }
        }
    }
}

// ---- to the grid ----------------------------------------------------------------------------------------------------

FC_INLINE int64_t grid_sample_backward_grid_tiles(const SampleArgs* a) { return grid_sample_tiles(a); }
FC_INLINE size_t grid_sample_backward_grid_scratch(const SampleArgs*) { return sample_table_bytes(); }

inline void grid_sample_backward_grid_run(const SampleArgs* a, int64_t begin, int64_t end, void* scratch) {
    constexpr int W = kWidth;
    SampleTable* t = static_cast<SampleTable*>(scratch);
    const int64_t runs = sample_runs(a), pixels = sample_pixels(a);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t image = tile / runs, first = tile % runs * kSamplePixels, count = min64(kSamplePixels, pixels - first);
        const float *x = a->x + image * a->xs[0], *y = a->y + image * a->ys[0];
        const int taps = sample_table(a, a->grid + image * a->gs[0], first, count, t);
        for (int64_t i = 0; i < count; ++i) {
            float sum[3] = {0, 0, 0};
            for (int k = 0; k < taps; ++k) {
                if (!sample_inside(t, i, k)) continue;
                const float *p = x + t->at[i][k], *q = y + t->out[i];
                float dot = 0;
                if (a->xs[1] == 1) {
                    Vf<W> lanes{};
                    for (int64_t c = 0; c < a->C; c += W) {
                        const int n = static_cast<int>(min64(W, a->C - c));
                        lanes = mul_add<W>(load_n<W>(p + c, n), load_apart(q + c * a->ys[1], a->ys[1], n), lanes);
                    }
                    dot = sum_lanes<W>(lanes);
                } else {
                    for (int64_t c = 0; c < a->C; ++c) dot += p[c * a->xs[1]] * q[c * a->ys[1]];
                }
                for (int d = 0; d < 3; ++d) sum[d] += t->slope[d][i][k] * dot;
            }
            float* g = a->ggrid + image * a->ggs[0] + t->grid[i];
            for (int64_t d = 0; d < a->dims; ++d) g[d * a->ggs[4]] = sum[d];
        }
    }
}

}  // namespace
}  // namespace
#endif
