// Depthwise convolution, channels-last, vectorised over channels: per tap one load of the weights and one of the input
// for each pixel of a run along the row. Weights are packed like any others, with one channel per filter.
// Bound by the loads of the input (first-level cache).
#include "fastconv/conv_tile.inl.h"
#include "fastconv/pixels.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kDepthRun = 4;

// n channels for filters k .. k + n: channel of filter i is i / multiplier.
template <int W>
FC_INLINE Vf<W> load_channels(const float* x, int64_t k, int64_t multiplier, int n) {
    if (multiplier == 1) return load_n<W>(x + k, n);
    float t[W];
    for (int i = 0; i < W; ++i) t[i] = i < n ? x[(k + i) / multiplier] : 0.0f;
    return load<W>(t);
}

template <int W, int M>
FC_INLINE void depthwise_tile(const ConvArgs* a, const float* const* px, int64_t pitch, const float* w, int64_t width,
                              int64_t k, int n, float* const* out, const float* const* res) {
    Vf<W> acc[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) acc[m] = Vf<W>{};
    if (a->multiplier == 1 && n == W) {
        for (int64_t t = 0; t < a->T; ++t) {
            const Vf<W> f = load<W>(w + t * width);
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) acc[m] = mul_add<W>(load<W>(px[t * pitch + m] + k), f, acc[m]);
        }
    } else {
        for (int64_t t = 0; t < a->T; ++t) {
            const Vf<W> f = load<W>(w + t * width);
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m)
                acc[m] = mul_add<W>(load_channels<W>(px[t * pitch + m], k, a->multiplier, n), f, acc[m]);
        }
    }
    const Vf<W> bias = a->bias ? load_n<W>(a->bias + k, n) : Vf<W>{};
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
        Vf<W> y = acc[m] + bias;
        if (res) y = y + load_n<W>(res[m] + k, n);
        y = activate<W>(y, a->act, static_cast<float>(a->act_a), static_cast<float>(a->act_b));
        store_n<W>(out[m] + k, y, n);
    }
}

template <int W>
FC_INLINE void depthwise_vector(const ConvArgs* a, const float* const* px, int64_t pitch, int64_t count,
                                const float* w, int64_t width, int64_t k, int n, float* const* out,
                                const float* const* res) {
    int64_t m = 0;
    for (; m + kDepthRun <= count; m += kDepthRun)
        depthwise_tile<W, kDepthRun>(a, px + m, pitch, w, width, k, n, out + m, res ? res + m : nullptr);
    for (; m < count; ++m)
        depthwise_tile<W, 1>(a, px + m, pitch, w, width, k, n, out + m, res ? res + m : nullptr);
}

constexpr int64_t kDepthChunk = 64;

// K filters in all (G is the number of channels, K = G * multiplier is passed in args->K).
FC_INLINE int64_t f32_conv_depthwise_tiles(const ConvArgs* a) {
    return ceil_div(a->n * a->iD * a->iH * a->iW, kDepthChunk);
}
FC_INLINE size_t f32_conv_depthwise_scratch(const ConvArgs* a) {
    return static_cast<size_t>((a->T + 2) * kDepthChunk) * sizeof(void*);
}

inline void f32_conv_depthwise_run(const ConvArgs* a, int64_t begin, int64_t end, void* scratch) {
    const int64_t pixels = a->n * a->iD * a->iH * a->iW;
    const float** px = static_cast<const float**>(scratch);
    const float** res = px + a->T * kDepthChunk;
    float** out = static_cast<float**>(scratch) + (a->T + 1) * kDepthChunk;
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t first = tile * kDepthChunk, count = min64(kDepthChunk, pixels - first);
        input_pointers(a, a->x, first, count, kDepthChunk, px);
        output_pointers(a, first, count, out, res);
        const float* const* r = a->residual ? res : nullptr;
        for (int64_t k0 = 0; k0 < a->K; k0 += kBlock) {
            const int64_t lanes = min64(kBlock, a->K - k0), width = lanes == kBlock ? kBlock : block_width(lanes);
            const float* w = a->w + k0 * a->T;
            if (width == kHalf) {
                depthwise_vector<kHalf>(a, px, kDepthChunk, count, w, width, k0, static_cast<int>(lanes), out, r);
                continue;
            }
            for (int64_t v = 0; v < lanes; v += kWidth)
                depthwise_vector<kWidth>(a, px, kDepthChunk, count, w + v, width, k0 + v,
                                         static_cast<int>(min64(kWidth, lanes - v)), out, r);
        }
    }
}

// Backward to weights: dw[part][block][t][k], a sum over pixels per filter. One tile: one part by one block.
FC_INLINE int64_t f32_conv_depthwise_backward_weight_tiles(const ConvWeightArgs* a) {
    return a->parts * ceil_div(a->K, kBlock);
}
FC_INLINE size_t f32_conv_depthwise_backward_weight_scratch(const ConvWeightArgs* a) {
    return static_cast<size_t>(a->T * kDepthChunk) * sizeof(void*);
}

// B taps at once: per pixel one load of gy and B of x for B multiply-adds.
template <int W, int B, bool kFull>
FC_INLINE void depthwise_weight_taps(const ConvWeightArgs* a, const float* const* px, const float* gy, int64_t count,
                                     int64_t k, int n, float* dw, int64_t width) {
    Vf<W> acc[B];
#pragma GCC unroll 9
    for (int t = 0; t < B; ++t) acc[t] = load<W>(dw + t * width);
    gy += k;
    for (int64_t p = 0; p < count; ++p, gy += a->ldy) {
        const Vf<W> g = kFull ? load<W>(gy) : load_n<W>(gy, n);
#pragma GCC unroll 9
        for (int t = 0; t < B; ++t) {
            const float* x = px[t * kDepthChunk + p];
            acc[t] = mul_add<W>(kFull ? load<W>(x + k) : load_channels<W>(x, k, a->multiplier, n), g, acc[t]);
        }
    }
#pragma GCC unroll 9
    for (int t = 0; t < B; ++t) store<W>(dw + t * width, acc[t]);
}

template <int W, bool kFull>
FC_INLINE void depthwise_weight_all(const ConvWeightArgs* a, const float* const* px, const float* gy, int64_t count,
                                    int64_t k, int n, float* dw, int64_t width) {
    int64_t t = 0;
    for (; t + 9 <= a->T; t += 9)
        depthwise_weight_taps<W, 9, kFull>(a, px + t * kDepthChunk, gy, count, k, n, dw + t * width, width);
    for (; t + 4 <= a->T; t += 4)
        depthwise_weight_taps<W, 4, kFull>(a, px + t * kDepthChunk, gy, count, k, n, dw + t * width, width);
    for (; t < a->T; ++t)
        depthwise_weight_taps<W, 1, kFull>(a, px + t * kDepthChunk, gy, count, k, n, dw + t * width, width);
}

template <int W>
FC_INLINE void depthwise_weight(const ConvWeightArgs* a, const float* const* px, const float* gy, int64_t count,
                                int64_t k, int n, float* dw, int64_t width) {
    if (a->multiplier == 1 && n == W) {
        depthwise_weight_all<W, true>(a, px, gy, count, k, n, dw, width);
    } else {
        depthwise_weight_all<W, false>(a, px, gy, count, k, n, dw, width);
    }
}

inline void f32_conv_depthwise_backward_weight_run(const ConvWeightArgs* a, int64_t begin, int64_t end,
                                                   void* scratch) {
    const int64_t blocks = ceil_div(a->K, kBlock);
    const int64_t pixels = a->n * a->iD * a->iH * a->iW, per_part = ceil_div(pixels, a->parts);
    const float** px = static_cast<const float**>(scratch);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t block = tile % blocks, part = tile / blocks, k0 = block * kBlock;
        const int64_t lanes = min64(kBlock, a->K - k0), width = lanes == kBlock ? kBlock : block_width(lanes);
        float* dw = a->dw + part * a->part_stride + k0 * a->T;
        memset(dw, 0, sizeof(float) * static_cast<size_t>(a->T * width));
        const int64_t stop = min64(pixels, (part + 1) * per_part);
        for (int64_t first = part * per_part; first < stop; first += kDepthChunk) {
            const int64_t count = min64(kDepthChunk, stop - first);
            input_pointers(a, a->x, first, count, kDepthChunk, px);
            const float* gy = a->gy + first * a->ldy;
            if (width == kHalf) {
                depthwise_weight<kHalf>(a, px, gy, count, k0, static_cast<int>(lanes), dw, width);
                continue;
            }
            for (int64_t v = 0; v < lanes; v += kWidth)
                depthwise_weight<kWidth>(a, px, gy, count, k0 + v, static_cast<int>(min64(kWidth, lanes - v)), dw + v,
                                         width);
        }
    }
}

}  // namespace
}  // namespace
