// Regions of interest: RoI align (averages or maxima of bilinear samples on a grid in each bin) and RoI pool (maxima of whole
// pixels), and their gradients to the features. The gradient is added region by region in order, by tiles that own channels and
// a band of an image, as in resample/sample.inl.h; the winners of maxima are found again.
#ifndef FASTCONV_ROI_INL_H
#define FASTCONV_ROI_INL_H

#include "fastconv/resample/sample.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

struct Roi {
    int64_t image;
    float x, y, bin_w, bin_h;  // align: first corner and size of a bin, in pixels
    int64_t grid_w, grid_h;    // samples of a bin
};

// A sample along an axis: two neighbours and their weights; outside: weights 0.
struct RoiPoint {
    int64_t low, high;
    float w_low, w_high;
    bool inside;
};

FC_INLINE int64_t roi_images(const RoiArgs* a) { return a->batched ? a->n : a->N; }

// -1: there is none of that number.
FC_INLINE int64_t roi_image(const RoiArgs* a, int64_t k) {
    const float image = a->rois[k * a->rs[0]];
    return image >= 0 && image < static_cast<float>(roi_images(a)) ? static_cast<int64_t>(image) : -1;
}
// What a region of no image gives in row `bh`: not a number.
FC_NOINLINE inline void roi_nan(const RoiArgs* a, int64_t k, int64_t bh) {
    for (int64_t bw = 0; bw < a->yW; ++bw)
        for (int64_t c = 0; c < a->C; ++c)
            a->y[k * a->ys[0] + c * a->ys[1] + bh * a->ys[2] + bw * a->ys[3]] = __builtin_nanf("");
}

FC_INLINE Roi roi_of(const RoiArgs* a, int64_t k) {
    const float* r = a->rois + k * a->rs[0];
    const int64_t s = a->rs[1];
    const float scale = static_cast<float>(a->scale), offset = a->aligned ? 0.5f : 0.0f;
    Roi roi;
    roi.image = roi_image(a, k);
    roi.x = r[s] * scale - offset;
    roi.y = r[2 * s] * scale - offset;
    float w = r[3 * s] * scale - offset - roi.x, h = r[4 * s] * scale - offset - roi.y;
    if (!a->aligned) {
        w = w > 1.0f ? w : 1.0f;
        h = h > 1.0f ? h : 1.0f;
    }
    roi.bin_w = w / static_cast<float>(a->yW);
    roi.bin_h = h / static_cast<float>(a->yH);
    // no more samples than a bin over the whole image has, were a corner infinite
    const float most_w = static_cast<float>(1 << 20), cw = __builtin_ceilf(roi.bin_w), ch = __builtin_ceilf(roi.bin_h);
    roi.grid_w = a->samples > 0 ? a->samples : cw > 0 ? static_cast<int64_t>(cw < most_w ? cw : most_w) : 0;
    roi.grid_h = a->samples > 0 ? a->samples : ch > 0 ? static_cast<int64_t>(ch < most_w ? ch : most_w) : 0;
    return roi;
}

FC_INLINE RoiPoint roi_point(float start, float bin, int64_t b, int64_t i, int64_t count, int64_t size) {
    float v = start + static_cast<float>(b) * bin + (static_cast<float>(i) + 0.5f) * bin / static_cast<float>(count);
    if (!(v >= -1.0f && v <= static_cast<float>(size))) return {0, 0, 0, 0, false};
    if (v < 0) v = 0;
    int64_t low = static_cast<int64_t>(v), high = low + 1;
    if (low >= size - 1) {
        low = high = size - 1;
        v = static_cast<float>(low);
    }
    const float part = v - static_cast<float>(low);
    return {low, high, 1.0f - part, part, true};
}

FC_INLINE float roi_share(const Roi& r) { return 1.0f / static_cast<float>(max64(1, r.grid_w * r.grid_h)); }

FC_INLINE int64_t roi_align_tiles(const RoiArgs* a) { return a->C && a->yW ? a->K * a->yH : 0; }
FC_INLINE size_t roi_align_scratch(const RoiArgs*) { return 0; }

// The larger of both, as ONNX has it: NaN neither wins nor is kept.
FC_INLINE Vf<kWidth> roi_max(Vf<kWidth> a, Vf<kWidth> b) { return choose(a > b, a, b); }

inline void roi_align_run(const RoiArgs* a, int64_t begin, int64_t end, void*) {
    constexpr int W = kWidth;
    const int64_t xc = a->xs[1], yc = a->ys[1];
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t k = tile / a->yH, bh = tile % a->yH;
        const Roi roi = roi_of(a, k);
        const float share = roi_share(roi);
        if (roi.image < 0) {
            roi_nan(a, k, bh);
            continue;
        }
        const float* x = a->x + roi.image * a->xs[0];
        for (int64_t bw = 0; bw < a->yW; ++bw)
            for (int64_t c = 0; c < a->C; c += W) {
                const int n = static_cast<int>(min64(W, a->C - c));
                Vf<W> sum{};
                bool first = true;
                for (int64_t i = 0; i < roi.grid_h; ++i) {
                    const RoiPoint v = roi_point(roi.y, roi.bin_h, bh, i, roi.grid_h, a->xH);
                    for (int64_t j = 0; j < roi.grid_w; ++j) {
                        const RoiPoint u = roi_point(roi.x, roi.bin_w, bw, j, roi.grid_w, a->xW);
                        Vf<W> part[4] = {};
                        if (u.inside && v.inside) {
                            const float *p = x + v.low * a->xs[2] + c * xc, *q = x + v.high * a->xs[2] + c * xc;
                            part[0] = splat<W>(v.w_low * u.w_low) * load_apart(p + u.low * a->xs[3], xc, n);
                            part[1] = splat<W>(v.w_low * u.w_high) * load_apart(p + u.high * a->xs[3], xc, n);
                            part[2] = splat<W>(v.w_high * u.w_low) * load_apart(q + u.low * a->xs[3], xc, n);
                            part[3] = splat<W>(v.w_high * u.w_high) * load_apart(q + u.high * a->xs[3], xc, n);
                        } else if (!a->mode) {
                            continue;
                        }
                        if (a->mode) {
                            const Vf<W> most = roi_max(roi_max(part[0], part[1]), roi_max(part[2], part[3]));
                            sum = first ? most : roi_max(most, sum);
                        } else {
                            sum = sum + ((part[0] + part[1]) + (part[2] + part[3]));
                        }
                        first = false;
                    }
                }
                if (!a->mode) sum = sum * splat<W>(share);
                store_apart(a->y + k * a->ys[0] + c * yc + bh * a->ys[2] + bw * a->ys[3], yc, sum, n);
            }
    }
}

// ---- to data --------------------------------------------------------------------------------------------------------

FC_INLINE SampleBands roi_bands(const RoiArgs* a) { return sample_bands(roi_images(a), a->C, a->xH * a->xW); }

struct RoiPart {
    int64_t image, c0, C, low, high;
};

FC_INLINE RoiPart roi_part(const RoiArgs* a, int64_t tile) {
    const SampleBands b = roi_bands(a);
    const int64_t c0 = tile / b.bands % b.blocks * kSampleChannels, low = tile % b.bands * b.size;
    return {tile / b.bands / b.blocks, c0, min64(kSampleChannels, a->C - c0), low, min64(a->xH * a->xW, low + b.size)};
}
FC_INLINE void roi_clear(const RoiArgs* a, const RoiPart& t) {
    for (int64_t p = t.low; p < t.high; ++p) {
        float* at = a->x + t.image * a->xs[0] + t.c0 * a->xs[1] + p / a->xW * a->xs[2] + p % a->xW * a->xs[3];
        for (int64_t c = 0; c < t.C; ++c) at[c * a->xs[1]] = 0;
    }
}

FC_INLINE int64_t roi_align_backward_tiles(const RoiArgs* a) {
    const SampleBands b = roi_bands(a);
    return a->xH && a->xW ? roi_images(a) * b.blocks * b.bands : 0;
}
FC_INLINE size_t roi_align_backward_scratch(const RoiArgs*) { return 0; }

FC_INLINE void roi_add(const RoiArgs* a, const RoiPart& t, int64_t h, int64_t w, float weight, const float* gy) {
    const int64_t p = h * a->xW + w;
    if (p < t.low || p >= t.high || weight == 0) return;
    float* at = a->x + t.image * a->xs[0] + t.c0 * a->xs[1] + h * a->xs[2] + w * a->xs[3];
    for (int64_t c = 0; c < t.C; ++c) at[c * a->xs[1]] += weight * gy[c * a->ys[1]];
}

inline void roi_align_backward_run(const RoiArgs* a, int64_t begin, int64_t end, void*) {
    for (int64_t tile = begin; tile < end; ++tile) {
        const RoiPart t = roi_part(a, tile);
        roi_clear(a, t);
        for (int64_t k = 0; k < a->K; ++k) {
            const Roi roi = roi_of(a, k);
            if (roi.image != t.image) continue;
            const float share = roi_share(roi);
            for (int64_t bh = 0; bh < a->yH; ++bh)
                for (int64_t i = 0; i < roi.grid_h; ++i) {
                    const RoiPoint v = roi_point(roi.y, roi.bin_h, bh, i, roi.grid_h, a->xH);
                    if (!v.inside || v.high * a->xW + a->xW <= t.low || v.low * a->xW >= t.high) continue;
                    for (int64_t bw = 0; bw < a->yW; ++bw)
                        for (int64_t j = 0; j < roi.grid_w; ++j) {
                            const RoiPoint u = roi_point(roi.x, roi.bin_w, bw, j, roi.grid_w, a->xW);
                            if (!u.inside) continue;
                            const float* gy = a->y + k * a->ys[0] + t.c0 * a->ys[1] + bh * a->ys[2] + bw * a->ys[3];
                            roi_add(a, t, v.low, u.low, v.w_low * u.w_low * share, gy);
                            roi_add(a, t, v.low, u.high, v.w_low * u.w_high * share, gy);
                            roi_add(a, t, v.high, u.low, v.w_high * u.w_low * share, gy);
                            roi_add(a, t, v.high, u.high, v.w_high * u.w_high * share, gy);
                        }
                }
        }
    }
}

// ---- pool -----------------------------------------------------------------------------------------------------------

struct RoiBox {
    int64_t image, x, y, w, h;
};

FC_INLINE int64_t roi_round(float v) {  // halves away from zero; what is far out is cut off
    v = v >= 0 ? __builtin_floorf(v + 0.5f) : -__builtin_floorf(0.5f - v);
    return v > -1e9f && v < 1e9f ? static_cast<int64_t>(v) : v > 0 ? 1000000000 : -1000000000;
}
FC_INLINE RoiBox roi_box(const RoiArgs* a, int64_t k) {
    const float* r = a->rois + k * a->rs[0];
    const int64_t s = a->rs[1];
    const float scale = static_cast<float>(a->scale);
    RoiBox b = {roi_image(a, k), roi_round(r[s] * scale), roi_round(r[2 * s] * scale), 0, 0};
    b.w = max64(1, roi_round(r[3 * s] * scale) - b.x + 1);
    b.h = max64(1, roi_round(r[4 * s] * scale) - b.y + 1);
    return b;
}
// Bin b of an axis: pixels [*low, *high).
FC_INLINE void roi_bin(int64_t start, int64_t extent, int64_t parts, int64_t b, int64_t size, int64_t* low, int64_t* high) {
    const float bin = static_cast<float>(extent) / static_cast<float>(parts);
    *low = start + static_cast<int64_t>(__builtin_floorf(static_cast<float>(b) * bin));
    *high = start + static_cast<int64_t>(__builtin_ceilf(static_cast<float>(b + 1) * bin));
    *low = min64(size, max64(0, *low));
    *high = min64(size, max64(0, *high));
}

constexpr float kLowest = -3.402823466e38f;

FC_INLINE int64_t roi_pool_tiles(const RoiArgs* a) { return a->C && a->yW ? a->K * a->yH : 0; }
FC_INLINE size_t roi_pool_scratch(const RoiArgs*) { return 0; }

inline void roi_pool_run(const RoiArgs* a, int64_t begin, int64_t end, void*) {
    constexpr int W = kWidth;
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t k = tile / a->yH, bh = tile % a->yH;
        const RoiBox box = roi_box(a, k);
        int64_t h0, h1, w0, w1;
        roi_bin(box.y, box.h, a->yH, bh, a->xH, &h0, &h1);
        if (box.image < 0) {
            roi_nan(a, k, bh);
            continue;
        }
        const float* x = a->x + box.image * a->xs[0];
        for (int64_t bw = 0; bw < a->yW; ++bw) {
            roi_bin(box.x, box.w, a->yW, bw, a->xW, &w0, &w1);
            const bool none = h1 <= h0 || w1 <= w0;
            for (int64_t c = 0; c < a->C; c += W) {
                const int n = static_cast<int>(min64(W, a->C - c));
                Vf<W> most = splat<W>(none ? 0.0f : kLowest);
                for (int64_t h = h0; h < h1; ++h)
                    for (int64_t w = w0; w < w1; ++w)
                        most = roi_max(load_apart(x + c * a->xs[1] + h * a->xs[2] + w * a->xs[3], a->xs[1], n), most);
                store_apart(a->y + k * a->ys[0] + c * a->ys[1] + bh * a->ys[2] + bw * a->ys[3], a->ys[1], most, n);
            }
        }
    }
}

FC_INLINE int64_t roi_pool_backward_tiles(const RoiArgs* a) { return roi_align_backward_tiles(a); }
FC_INLINE size_t roi_pool_backward_scratch(const RoiArgs*) { return 0; }

inline void roi_pool_backward_run(const RoiArgs* a, int64_t begin, int64_t end, void*) {
    for (int64_t tile = begin; tile < end; ++tile) {
        const RoiPart t = roi_part(a, tile);
        roi_clear(a, t);
        for (int64_t k = 0; k < a->K; ++k) {
            const RoiBox box = roi_box(a, k);
            if (box.image != t.image) continue;
            const float* f = a->features + t.image * a->fs[0] + t.c0 * a->fs[1];
            for (int64_t bh = 0; bh < a->yH; ++bh)
                for (int64_t bw = 0; bw < a->yW; ++bw) {
                    int64_t h0, h1, w0, w1;
                    roi_bin(box.y, box.h, a->yH, bh, a->xH, &h0, &h1);
                    roi_bin(box.x, box.w, a->yW, bw, a->xW, &w0, &w1);
                    const float* gy = a->y + k * a->ys[0] + t.c0 * a->ys[1] + bh * a->ys[2] + bw * a->ys[3];
                    for (int64_t c = 0; c < t.C; ++c) {
                        float most = kLowest;
                        int64_t winner = -1;
                        for (int64_t h = h0; h < h1; ++h)
                            for (int64_t w = w0; w < w1; ++w) {
                                const float v = f[c * a->fs[1] + h * a->fs[2] + w * a->fs[3]];
                                if (v > most) {
                                    most = v;
                                    winner = h * a->xW + w;
                                }
                            }
                        if (winner < t.low || winner >= t.high) continue;
                        a->x[t.image * a->xs[0] + (t.c0 + c) * a->xs[1] + winner / a->xW * a->xs[2] +
                             winner % a->xW * a->xs[3]] += gy[c * a->ys[1]];
                    }
                }
        }
    }
}

}  // namespace
}  // namespace
#endif
