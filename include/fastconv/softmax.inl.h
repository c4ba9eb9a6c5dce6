// Softmax and log-softmax over the channels of each pixel, shifted by the row's largest value; and their gradients.
// A tile is some whole rows. Bound by the exponentials where the channels fill vectors, by the passes over the row else.
#ifndef FASTCONV_SOFTMAX_INL_H
#define FASTCONV_SOFTMAX_INL_H

#include "fastconv/math.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kRowTile = 8192;  // elements

FC_INLINE int64_t rows_per_tile(int64_t C) { return max64(1, kRowTile / C); }

// Calls f(first channel, how many) for each vector of a row.
template <class F>
FC_INLINE void for_vectors(int64_t C, const F& f) {
    int64_t c = 0;
    for (; c + kWidth <= C; c += kWidth) f(c, kWidth);
    if (c < C) f(c, static_cast<int>(C - c));
}

alignas(64) const int32_t lane_index[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// n floats at p, `rest` in the other lanes.
FC_INLINE Vf<kWidth> load_or(const float* p, int n, float rest) {
    if (n == kWidth) return load<kWidth>(p);
    return load<kWidth>(lane_index) < splat_i<kWidth>(n) ? load_n<kWidth>(p, n) : splat<kWidth>(rest);
}

// The largest value of a row; NaN is passed over, and comes out of the exponentials instead.
FC_INLINE float row_max(const float* x, int64_t C) {
    Vf<kWidth> m = splat<kWidth>(-kInfinity);
    for_vectors(C, [&](int64_t c, int n) { m = vmax<kWidth>(load_or(x + c, n, -kInfinity), m); });
    float lanes[kWidth];
    store<kWidth>(lanes, m);
    for (int h = kWidth / 2; h; h /= 2)
        for (int i = 0; i < h; ++i) lanes[i] = lanes[i + h] > lanes[i] ? lanes[i + h] : lanes[i];
    return lanes[0];
}

// A sum of many vectors: runs of 64 are added up apart from the total, which keeps the rounding error of long rows small.
struct RunSum {
    Vf<kWidth> total = {}, part = {};
    int terms = 0;
    FC_INLINE void add(Vf<kWidth> v) {
        part += v;
        if (++terms % 64 == 0) {
            total += part;
            part = Vf<kWidth>{};
        }
    }
    FC_INLINE float lanes() const { return sum_lanes<kWidth>(total + part); }
};

FC_INLINE float row_exp_sum(const float* x, int64_t C, float largest) {
    RunSum sum;
    for_vectors(C, [&](int64_t c, int n) { sum.add(vexp<kWidth>(load_or(x + c, n, -kInfinity) - largest)); });
    return sum.lanes();
}

FC_INLINE int64_t softmax_tiles(const SoftmaxArgs* a) { return ceil_div(a->n * a->pixels, rows_per_tile(a->C)); }

template <class F>
FC_INLINE void softmax_rows(const SoftmaxArgs* a, int64_t begin, int64_t end, const F& f) {
    const int64_t per = rows_per_tile(a->C), last = min64(a->n * a->pixels, end * per);
    for (int64_t p = begin * per; p < last; ++p) f(p);
}

FC_INLINE int64_t f32_softmax_tiles(const SoftmaxArgs* a) { return softmax_tiles(a); }
FC_INLINE size_t f32_softmax_scratch(const SoftmaxArgs*) { return 0; }
inline void f32_softmax_run(const SoftmaxArgs* a, int64_t begin, int64_t end, void*) {
    softmax_rows(a, begin, end, [&](int64_t p) {
        const float* x = a->x + p * a->ldx;
        float* y = a->y + p * a->ldy;
        const float largest = row_max(x, a->C);
        RunSum sum;
        for_vectors(a->C, [&](int64_t c, int n) {
            const Vf<kWidth> e = vexp<kWidth>(load_or(x + c, n, -kInfinity) - largest);
            sum.add(e);
            store_n<kWidth>(y + c, e, n);
        });
        const float inverse = 1.0f / sum.lanes();
        for_vectors(a->C, [&](int64_t c, int n) { store_n<kWidth>(y + c, load_n<kWidth>(y + c, n) * inverse, n); });
    });
}

FC_INLINE int64_t f32_log_softmax_tiles(const SoftmaxArgs* a) { return softmax_tiles(a); }
FC_INLINE size_t f32_log_softmax_scratch(const SoftmaxArgs*) { return 0; }
inline void f32_log_softmax_run(const SoftmaxArgs* a, int64_t begin, int64_t end, void*) {
    softmax_rows(a, begin, end, [&](int64_t p) {
        const float* x = a->x + p * a->ldx;
        float* y = a->y + p * a->ldy;
        const float largest = row_max(x, a->C), log_sum = log_of(row_exp_sum(x, a->C, largest));
        for_vectors(a->C, [&](int64_t c, int n) {
            store_n<kWidth>(y + c, load_n<kWidth>(x + c, n) - largest - log_sum, n);
        });
    });
}

// gx = y * (gy - sum(gy * y))
FC_INLINE int64_t f32_softmax_backward_tiles(const SoftmaxArgs* a) { return softmax_tiles(a); }
FC_INLINE size_t f32_softmax_backward_scratch(const SoftmaxArgs*) { return 0; }
inline void f32_softmax_backward_run(const SoftmaxArgs* a, int64_t begin, int64_t end, void*) {
    softmax_rows(a, begin, end, [&](int64_t p) {
        const float *y = a->y + p * a->ldy, *gy = a->gy + p * a->ldgy;
        float* gx = a->gx + p * a->ldgx;
        RunSum sum;
        for_vectors(a->C, [&](int64_t c, int n) {
            sum.add(load_n<kWidth>(y + c, n) * load_n<kWidth>(gy + c, n));
        });
        const float dot = sum.lanes();
        for_vectors(a->C, [&](int64_t c, int n) {
            store_n<kWidth>(gx + c, load_n<kWidth>(y + c, n) * (load_n<kWidth>(gy + c, n) - dot), n);
        });
    });
}

// gx = gy - exp(y) * sum(gy)
FC_INLINE int64_t f32_log_softmax_backward_tiles(const SoftmaxArgs* a) { return softmax_tiles(a); }
FC_INLINE size_t f32_log_softmax_backward_scratch(const SoftmaxArgs*) { return 0; }
inline void f32_log_softmax_backward_run(const SoftmaxArgs* a, int64_t begin, int64_t end, void*) {
    softmax_rows(a, begin, end, [&](int64_t p) {
        const float *y = a->y + p * a->ldy, *gy = a->gy + p * a->ldgy;
        float* gx = a->gx + p * a->ldgx;
        RunSum sum;
        for_vectors(a->C, [&](int64_t c, int n) { sum.add(load_n<kWidth>(gy + c, n)); });
        const float total = sum.lanes();
        for_vectors(a->C, [&](int64_t c, int n) {
            const Vf<kWidth> e = vexp<kWidth>(load_n<kWidth>(y + c, n));
            store_n<kWidth>(gx + c, load_n<kWidth>(gy + c, n) - e * total, n);
        });
    });
}

}  // namespace
}  // namespace
#endif
