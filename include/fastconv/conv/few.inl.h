// Convolution with few filters (at most kHalf): vectorised over channels instead of filters.
//
//   x[pixel m][c .. c+W) --.
//                           * --> acc[m][k], M x K vectors of partial sums, added up across their lanes at the end
//   w[tap][k][c .. c+W)  --'
//
// With the filters in the lanes, a narrow layer (the gradient of a first layer's input, a last layer with one or three
// outputs) would leave most lanes empty and need one broadcast per multiply-add. Here it is M + K loads for M * K
// multiply-adds of full vectors. Weights are [group][tap][filter][channel]. Bound by the FMA units. Lanes are added in
// a fixed order; each output depends on its own inputs alone. A tile lies within a row of the output, and taps whose row
// of the input is padding are left out: backward to data, with its wide padding, has many.
#include "fastconv/conv/tile.inl.h"
#include "fastconv/simd/pixels.inl.h"
#include "fastconv/simd/transpose.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kFewRegisters = kWidth == 16 ? 24 : kWidth == 8 ? 12 : 8;
constexpr int64_t kFewRun = 96;
constexpr int64_t kFewAhead = 4096;          // floats; the processor itself follows the order of the pixels' lines badly
constexpr int64_t kFewAheadBytes = 8 << 20;  // images of more, of which one tap reads each pixel once, are fetched ahead

constexpr int few_pixels(int K) { return kFewRegisters / K > 8 ? 8 : kFewRegisters / K; }

template <int K, int M>
FC_NOINLINE void few_tile(const ConvArgs* a, int64_t taps, const float* const* px, const float* const* weights,
                          float* const* out, const float* const* res, const float* bias, int64_t ahead) {
    constexpr int W = kWidth;
    Vf<W> acc[M][K];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) acc[m][k] = Vf<W>{};
    const int tail = static_cast<int>(a->C % W);
    for (int64_t t = 0; t < taps; ++t, px += kFewRun) {
        const float* w = weights[t];
        int64_t c = 0;
        for (; c + W <= a->C; c += W) {
            Vf<W> x[M];
            if (ahead && c * 4 % 64 == 0)
#pragma GCC unroll 8
                for (int m = 0; m < M; ++m) __builtin_prefetch(px[m] + c + ahead, 0, 3);
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) x[m] = load<W>(px[m] + c);
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) {
                const Vf<W> f = load<W>(w + k * a->C + c);
#pragma GCC unroll 8
                for (int m = 0; m < M; ++m) acc[m][k] = mul_add<W>(x[m], f, acc[m][k]);
            }
        }
        if (tail) {
            Vf<W> x[M];
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) x[m] = Ops<W>::load_n(px[m] + c, tail);
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k) {
                const Vf<W> f = Ops<W>::load_n(w + k * a->C + c, tail);
#pragma GCC unroll 8
                for (int m = 0; m < M; ++m) acc[m][k] = mul_add<W>(x[m], f, acc[m][k]);
            }
        }
    }
    constexpr int N = M * K, V = (N + W - 1) / W;  // sums, pixel by pixel, and vectors of them
    const float lo = static_cast<float>(a->act_a), hi = static_cast<float>(a->act_b);
    alignas(64) float y[V * W];
    if (res)
        for (int m = 0; m < M; ++m)
            for (int k = 0; k < K; ++k) y[m * K + k] = res[m][k];
    const bool together = out[M - 1] == out[0] + (M - 1) * K;  // pixels of a row: none lies between the first and the last
#pragma GCC unroll 4
    for (int i = 0; i < V; ++i) {
        Vf<W> part[W] = {};
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k)
                if (m * K + k >= i * W && m * K + k < i * W + W) part[m * K + k - i * W] = acc[m][k];
        Vf<W> v = sum_each<W>(part);
        if (bias) v = v + load<W>(bias + i * W);
        if (res) v = v + load<W>(y + i * W);
        v = activate<W>(v, a->act, lo, hi);
        if (together) {
            store_n<W>(out[0] + i * W, v, N - i * W < W ? N - i * W : W);
        } else {
            store<W>(y + i * W, v);
        }
    }
    if (together) return;
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) out[m][k] = y[m * K + k];
}

template <int K>
FC_INLINE void few_run(const ConvArgs* a, int64_t count, int64_t taps, const float* const* px,
                       const float* const* weights, float* const* out, const float* const* res, const float* bias,
                       int64_t ahead) {
    constexpr int M = few_pixels(K);
    alignas(64) float of_pixels[(M * K + kWidth - 1) / kWidth * kWidth] = {};
    if (bias) {
        for (int i = 0; i < M * K; ++i) of_pixels[i] = bias[i % K];
        bias = of_pixels;
    }
    int64_t m = 0;
    for (; m + M <= count; m += M)
        few_tile<K, M>(a, taps, px + m, weights, out + m, res ? res + m : nullptr, bias, ahead);
    if constexpr (M > 2)
        for (; m + 2 <= count; m += 2)
            few_tile<K, 2>(a, taps, px + m, weights, out + m, res ? res + m : nullptr, bias, ahead);
    for (; m < count; ++m) few_tile<K, 1>(a, taps, px + m, weights, out + m, res ? res + m : nullptr, bias, ahead);
}

// The taps of a run of pixels of one row whose row of the input exists: their pointers and weights. How many there are.
FC_INLINE int64_t row_taps(const ConvArgs* a, const float* x, const float* w, const Position& p, int64_t run,
                           const float** px, const float** weights) {
    ConvArgs one = *a;
    one.T = 1;
    int64_t count = 0;
    for (int64_t t = 0; t < a->T; ++t) {
        const int32_t* o = a->taps + 3 * t;
        const int64_t d = p.d * a->sd + o[0], h = p.h * a->sh + o[1];
        if (d < 0 || d >= a->xD || h < 0 || h >= a->xH) continue;
        one.taps = o;
        run_pointers(&one, x, p, run, false, kFewRun, px + count * kFewRun);
        weights[count++] = w + t * a->K * a->C;
    }
    return count;
}

FC_INLINE int64_t f32_conv_few_tiles(const ConvArgs* a) {
    return a->G * ceil_div(a->n * a->iD * a->iH * a->iW, kFewRun);
}
FC_INLINE size_t f32_conv_few_scratch(const ConvArgs* a) {
    return static_cast<size_t>((a->T + 2) * kFewRun + a->T) * sizeof(void*);
}

inline void f32_conv_few_run(const ConvArgs* a, int64_t begin, int64_t end, void* scratch) {
    const int64_t pixels = a->n * a->iD * a->iH * a->iW, chunks = ceil_div(pixels, kFewRun);
    const float** px = static_cast<const float**>(scratch);
    const float** res = px + a->T * kFewRun;
    const float** weights = res + kFewRun;
    float** out = static_cast<float**>(scratch) + (a->T + 1) * kFewRun + a->T;
    const bool large = a->T == 1 && pixels * a->ldx * 4 > kFewAheadBytes;
    const int64_t ahead = large ? kFewAhead : 0;
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t g = tile / chunks, first = tile % chunks * kFewRun, count = min64(kFewRun, pixels - first);
        output_pointers(a, first, count, out, res);
        for (int64_t m = 0; m < count; ++m) out[m] += g * a->K;
        if (a->residual)
            for (int64_t m = 0; m < count; ++m) res[m] += g * a->K;
        const float* w = a->w + g * a->T * a->K * a->C;
        const float* bias = a->bias ? a->bias + g * a->K : nullptr;
        Position p = position(a, first);
        for (int64_t m = 0; m < count;) {
            const int64_t run = min64(count - m, a->iW - p.w);
            const int64_t taps = row_taps(a, a->x + g * a->C, w, p, run, px, weights);
            float* const* o = out + m;
            const float* const* r = a->residual ? res + m : nullptr;
            switch (a->K) {
                case 1: few_run<1>(a, run, taps, px, weights, o, r, bias, ahead); break;
                case 2: few_run<2>(a, run, taps, px, weights, o, r, bias, ahead); break;
                case 3: few_run<3>(a, run, taps, px, weights, o, r, bias, ahead); break;
                case 4: few_run<4>(a, run, taps, px, weights, o, r, bias, ahead); break;
                default:
                    if constexpr (kHalf >= 8) {
                        switch (a->K) {
                            case 5: few_run<5>(a, run, taps, px, weights, o, r, bias, ahead); break;
                            case 6: few_run<6>(a, run, taps, px, weights, o, r, bias, ahead); break;
                            case 7: few_run<7>(a, run, taps, px, weights, o, r, bias, ahead); break;
                            default: few_run<8>(a, run, taps, px, weights, o, r, bias, ahead); break;
                        }
                    }
            }
            m += run;
            skip(a, p, run);
        }
    }
}

}  // namespace
}  // namespace
