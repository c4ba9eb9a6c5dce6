// Depthwise convolution of few channels (one, too: a filter over a grey image): the lanes run along the row.
//
//   row of the input, G = 3      r g b r g b r g b r g b r g b r | g b r g b r ...      vector v at v * W
//   tap (., ., s)                reads the same row s * dilation * G values further on
//   its weights                  r g b r g b ... : after G / gcd(G, W) vectors they repeat, and are packed so
//
// Where the filters lie in the lanes, one channel leaves all lanes but one empty; here pixels fill them. The stride along
// the row is 1 and the input lies densely inside its border of zeros, so that a tap is one distance for all vectors: a tile
// is M vectors with the same weights, from any rows. Bound by the loads, which cross lines.
#include "fastconv/depthwise/depthwise.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kRowVectors = 8;         // of a tile: as many sums as hide the latency of a multiply-add
constexpr int kRowTaps = 9;            // whose sums over pixels stay in registers
constexpr int64_t kRowUnit = 16384;    // multiply-adds of vectors that are worth a unit

struct RowShape {
    int64_t values, vectors, taps, period, rows, per;  // per row; vectors of weights of a tap; rows in all, and per unit
};

FC_INLINE RowShape row_shape(const DepthwiseArgs* a) {
    int64_t common = kWidth, g = a->G;
    while (common) {
        const int64_t t = g % common;
        g = common, common = t;
    }
    RowShape s;
    s.values = a->iW * a->G, s.vectors = ceil_div(s.values, kWidth);
    s.taps = a->kD * a->kH * a->kW;
    s.period = a->G / g;
    s.rows = a->n * a->iD * a->iH;
    s.per = max64(1, kRowUnit / max64(1, s.taps * s.vectors));
    return s;
}

// Where the taps of an output lie, from the tap (0, 0, 0).
FC_INLINE void tap_offsets(const DepthwiseArgs* a, int64_t* at) {
    for (int64_t d = 0; d < a->kD; ++d)
        for (int64_t h = 0; h < a->kH; ++h)
            for (int64_t w = 0; w < a->kW; ++w)
                *at++ = (((d * a->dd) * a->xH + h * a->dh) * a->xW + w * a->dw_) * a->G;
}
FC_INLINE const float* row_input(const DepthwiseArgs* a, int64_t row) {
    const int64_t h = row % a->iH, d = row / a->iH % a->iD, n = row / a->iH / a->iD;
    return a->x + (((n * a->xD + d * a->sd) * a->xH + h * a->sh) * a->xW) * a->G;
}

// n values from `first` of all rows' values on, whose pixels lie ld apart.
FC_INLINE Vf<kWidth> row_values(const DepthwiseArgs* a, const float* p, int64_t ld, int64_t first, int n) {
    if (ld == a->G) return load_n<kWidth>(p + first, n);
    float t[kWidth] = {};
    for (int i = 0; i < n; ++i) t[i] = p[(first + i) / a->G * ld + (first + i) % a->G];
    return load<kWidth>(t);
}

// ---- forward ----------------------------------------------------------------------------------------------------------

// Bias, residual and activation of a tile's sums, and their places.
FC_NOINLINE void row_finish(const DepthwiseArgs* a, const int64_t* out, const float* sums, int count, const float* bias, int n) {
    constexpr int W = kWidth;
    const float lo = static_cast<float>(a->act_a), hi = static_cast<float>(a->act_b);
    for (int m = 0; m < count; ++m) {
        Vf<W> v = load<W>(sums + m * W);
        if (bias) v = v + load<W>(bias);
        if (a->residual) v = v + row_values(a, a->residual, a->ldr, out[m], n);
        v = activate<W>(v, a->act, lo, hi);
        if (a->ldy == a->G) {
            store_n<W>(a->y + out[m], v, n);
        } else {
            float t[W];
            store<W>(t, v);
            for (int i = 0; i < n; ++i) a->y[(out[m] + i) / a->G * a->ldy + (out[m] + i) % a->G] = t[i];
        }
    }
}

template <int M>
FC_NOINLINE void row_tile(const DepthwiseArgs* a, const RowShape& s, const int64_t* at, const float* const* x,
                          const int64_t* out, const float* w, const float* bias, int n) {
    constexpr int W = kWidth;
    Vf<W> acc[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) acc[m] = Vf<W>{};
    const int64_t step = s.period * W;
    if (n == W) {
        for (int64_t t = 0; t < s.taps; ++t, w += step) {
            const Vf<W> f = load<W>(w);
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) acc[m] = mul_add<W>(load<W>(x[m] + at[t]), f, acc[m]);
        }
    } else {
        for (int64_t t = 0; t < s.taps; ++t, w += step) {
            const Vf<W> f = load<W>(w);
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) acc[m] = mul_add<W>(Ops<W>::load_n(x[m] + at[t], n), f, acc[m]);
        }
    }
    if (n == W && !a->residual && a->ldy == a->G && (!a->act || a->act == FC_ACT_RELU)) {
        const Vf<W> b = bias ? load<W>(bias) : Vf<W>{};
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
            const Vf<W> v = bias ? acc[m] + b : acc[m];
            store<W>(a->y + out[m], a->act ? vmax<W>(Vf<W>{}, v) : v);
        }
        return;
    }
    alignas(64) float sums[M * W];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) store<W>(sums + m * W, acc[m]);
    row_finish(a, out, sums, M, bias, n);
}

FC_INLINE int64_t f32_conv_depthwise_rows_tiles(const DepthwiseArgs* a) {
    const RowShape s = row_shape(a);
    return ceil_div(s.rows, s.per);
}
FC_INLINE size_t f32_conv_depthwise_rows_scratch(const DepthwiseArgs* a) {
    const RowShape s = row_shape(a);
    return static_cast<size_t>(s.taps) * sizeof(int64_t) + static_cast<size_t>(s.period * kWidth) * sizeof(float);
}

inline void f32_conv_depthwise_rows_run(const DepthwiseArgs* a, int64_t begin, int64_t end, void* scratch) {
    const RowShape s = row_shape(a);
    int64_t* at = static_cast<int64_t*>(scratch);
    float* bias = reinterpret_cast<float*>(at + s.taps);
    tap_offsets(a, at);
    if (a->bias)
        for (int64_t i = 0; i < s.period * kWidth; ++i) bias[i] = a->bias[i % a->G];
    const int64_t first = begin * s.per, last = min64(s.rows, end * s.per);
    for (int64_t phase = 0; phase < min64(s.period, s.vectors); ++phase) {
        const float* w = a->w + phase * kWidth;
        const float* b = a->bias ? bias + phase * kWidth : nullptr;
        const int64_t each = (s.vectors - phase + s.period - 1) / s.period;  // vectors of a row in this phase
        for (int64_t one = 0; one < 2; ++one) {                                  // whole vectors, then the rows' ends
            const int64_t ends = s.values % kWidth && (s.vectors - 1) % s.period == phase ? 1 : 0;
            const int64_t count = one ? ends : each - ends;
            if (!count) continue;
            const float* x[kRowVectors];
            int64_t out[kRowVectors];
            int m = 0;
            const int n = one ? static_cast<int>(s.values % kWidth) : kWidth;
            for (int64_t row = first; row < last; ++row) {
                const float* input = row_input(a, row);
                for (int64_t i = 0; i < count; ++i) {
                    const int64_t value = (one ? s.vectors - 1 : phase + i * s.period) * kWidth;
                    x[m] = input + value, out[m] = row * s.values + value;
                    if (++m == kRowVectors) row_tile<kRowVectors>(a, s, at, x, out, w, b, n), m = 0;
                }
            }
            int i = 0;
            for (; i + 4 <= m; i += 4) row_tile<4>(a, s, at, x + i, out + i, w, b, n);
            for (; i < m; ++i) row_tile<1>(a, s, at, x + i, out + i, w, b, n);
        }
    }
}

// ---- backward to weights ----------------------------------------------------------------------------------------------

// sum[t] += over `count` vectors, `apart` values from each other, of x at tap t times gy.
template <int T>
FC_INLINE void row_sums(const int64_t* at, const float* x, const float* gy, int64_t count, int64_t apart, int n, float* sum,
                        int64_t step) {
    constexpr int W = kWidth;
    Vf<W> acc[T];
#pragma GCC unroll 9
    for (int t = 0; t < T; ++t) acc[t] = load<W>(sum + t * step);
    if (n == W) {
        for (int64_t i = 0; i < count; ++i, x += apart, gy += apart) {
            const Vf<W> g = load<W>(gy);
#pragma GCC unroll 9
            for (int t = 0; t < T; ++t) acc[t] = mul_add<W>(load<W>(x + at[t]), g, acc[t]);
        }
    } else {
        const Vf<W> g = Ops<W>::load_n(gy, n);
#pragma GCC unroll 9
        for (int t = 0; t < T; ++t) acc[t] = mul_add<W>(Ops<W>::load_n(x + at[t], n), g, acc[t]);
    }
#pragma GCC unroll 9
    for (int t = 0; t < T; ++t) store<W>(sum + t * step, acc[t]);
}

FC_INLINE void row_sums(int64_t taps, const int64_t* at, const float* x, const float* gy, int64_t count, int64_t apart, int n,
                        float* sum, int64_t step) {
    int64_t t = 0;
    for (; t + kRowTaps <= taps; t += kRowTaps) row_sums<kRowTaps>(at + t, x, gy, count, apart, n, sum + t * step, step);
    for (; t + 5 <= taps; t += 5) row_sums<5>(at + t, x, gy, count, apart, n, sum + t * step, step);
    for (; t + 3 <= taps; t += 3) row_sums<3>(at + t, x, gy, count, apart, n, sum + t * step, step);
    for (; t < taps; ++t) row_sums<1>(at + t, x, gy, count, apart, n, sum + t * step, step);
}

FC_INLINE int64_t f32_conv_depthwise_rows_backward_weight_tiles(const DepthwiseArgs* a) { return a->parts; }
FC_INLINE size_t f32_conv_depthwise_rows_backward_weight_scratch(const DepthwiseArgs* a) {
    const RowShape s = row_shape(a);
    return static_cast<size_t>(s.taps) * (sizeof(int64_t) + static_cast<size_t>(s.period * kWidth) * sizeof(float));
}

// Part p sums over the p-th range of rows: dw[p][tap][channel].
inline void f32_conv_depthwise_rows_backward_weight_run(const DepthwiseArgs* a, int64_t begin, int64_t end, void* scratch) {
    const RowShape s = row_shape(a);
    int64_t* at = static_cast<int64_t*>(scratch);
    float* sums = reinterpret_cast<float*>(at + s.taps);
    tap_offsets(a, at);
    const int64_t step = s.period * kWidth, whole = s.values / kWidth;
    for (int64_t part = begin; part < end; ++part) {
        memset(sums, 0, sizeof(float) * static_cast<size_t>(s.taps * step));
        for (int64_t row = s.rows * part / a->parts; row < s.rows * (part + 1) / a->parts; ++row) {
            const float* x = row_input(a, row);
            const float* gy = a->gy + row * s.values;
            for (int64_t phase = 0; phase < min64(s.period, whole); ++phase)
                row_sums(s.taps, at, x + phase * kWidth, gy + phase * kWidth, (whole - phase + s.period - 1) / s.period,
                         s.period * kWidth, kWidth, sums + phase * kWidth, step);
            if (whole < s.vectors)
                row_sums(s.taps, at, x + whole * kWidth, gy + whole * kWidth, 1, 0, static_cast<int>(s.values % kWidth),
                         sums + whole % s.period * kWidth, step);
        }
        float* dw = a->dw + part * a->part_stride;
        for (int64_t t = 0; t < s.taps; ++t)
            for (int64_t g = 0; g < a->G; ++g) {
                float sum = 0;
                for (int64_t i = g; i < step; i += a->G) sum += sums[t * step + i];
                dw[t * a->G + g] = sum;
            }
    }
}

}  // namespace
}  // namespace
