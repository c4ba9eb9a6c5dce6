// Softmax and log-softmax over the channels of each pixel, shifted by the row's largest value; and their gradients.
// A tile is some whole rows. Bound by the exponentials where the channels fill vectors, by the passes over the row else; rows
// shorter than a vector lie in its lanes, as many as there are, and come out with the same bits.
#ifndef FASTCONV_SOFTMAX_INL_H
#define FASTCONV_SOFTMAX_INL_H

#include "fastconv/simd/math.inl.h"
#include "fastconv/simd/transpose.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kRowTile = 8192;  // elements

FC_INLINE int64_t rows_per_tile(int64_t C) { return rows_of(kRowTile, C); }

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

constexpr int64_t kFewRows = 3;  // so many are faster one by one

// The same where C < kWidth: `each` row that few are left of, else `f(x)` of channel c of kWidth rows in vector x[c].
template <class F, class G>
FC_INLINE void softmax_short_rows(const SoftmaxArgs* a, int64_t begin, int64_t end, const F& each, const G& f) {
    const int64_t per = rows_per_tile(a->C), last = min64(a->n * a->pixels, end * per);
    const int C = static_cast<int>(a->C);
    for (int64_t p = begin * per; p < last; p += kWidth) {
        const int rows = static_cast<int>(min64(kWidth, last - p));
        if (rows <= kFewRows) {
            for (int64_t i = p; i < last; ++i) each(i);
            return;
        }
        Vf<kWidth> x[kWidth];
        for (int r = 0; r < kWidth; ++r) x[r] = r < rows ? load_n<kWidth>(a->x + (p + r) * a->ldx, C) : Vf<kWidth>{};
        transpose<kWidth>(x);
        f(x);
        transpose<kWidth>(x);
        for (int r = 0; r < rows; ++r) store_n<kWidth>(a->y + (p + r) * a->ldy, x[r], C);
    }
}

// Of each lane: the largest of C vectors, as row_max.
FC_INLINE Vf<kWidth> lanes_max(const Vf<kWidth>* x, int64_t C) {
    Vf<kWidth> m = splat<kWidth>(-kInfinity);
    for (int64_t c = 0; c < C; ++c) m = vmax<kWidth>(x[c], m);
    return m;
}

// Of each lane: the sum of C vectors in the order in which sum_lanes adds up a vector.
FC_INLINE Vf<kWidth> lanes_sum(const Vf<kWidth>* x, int64_t C) {
    Vf<kWidth> s[kWidth];
    for (int64_t c = 0; c < kWidth; ++c) s[c] = c < C ? x[c] : Vf<kWidth>{};
    for (int h = kWidth / 2; h; h /= 2)
        for (int i = 0; i < h; ++i) s[i] += s[i + h];
    return s[0];
}

FC_INLINE int64_t f32_softmax_tiles(const SoftmaxArgs* a) { return softmax_tiles(a); }
FC_INLINE size_t f32_softmax_scratch(const SoftmaxArgs*) { return 0; }
inline void f32_softmax_run(const SoftmaxArgs* a, int64_t begin, int64_t end, void*) {
    const auto row = [&](int64_t p) {
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
    };
    if (a->C >= kWidth) return softmax_rows(a, begin, end, row);
    softmax_short_rows(a, begin, end, row, [&](Vf<kWidth>* x) {
        const Vf<kWidth> largest = lanes_max(x, a->C);
        for (int64_t c = 0; c < a->C; ++c) x[c] = vexp<kWidth>(x[c] - largest);
        const Vf<kWidth> inverse = 1.0f / lanes_sum(x, a->C);
        for (int64_t c = 0; c < a->C; ++c) x[c] *= inverse;
    });
}

FC_INLINE int64_t f32_log_softmax_tiles(const SoftmaxArgs* a) { return softmax_tiles(a); }
FC_INLINE size_t f32_log_softmax_scratch(const SoftmaxArgs*) { return 0; }
inline void f32_log_softmax_run(const SoftmaxArgs* a, int64_t begin, int64_t end, void*) {
    const auto row = [&](int64_t p) {
        const float* x = a->x + p * a->ldx;
        float* y = a->y + p * a->ldy;
        const float largest = row_max(x, a->C), log_sum = log_of(row_exp_sum(x, a->C, largest));
        for_vectors(a->C, [&](int64_t c, int n) {
            store_n<kWidth>(y + c, load_n<kWidth>(x + c, n) - largest - log_sum, n);
        });
    };
    if (a->C >= kWidth) return softmax_rows(a, begin, end, row);
    softmax_short_rows(a, begin, end, row, [&](Vf<kWidth>* x) {
        Vf<kWidth> e[kWidth];
        const Vf<kWidth> largest = lanes_max(x, a->C);
        for (int64_t c = 0; c < a->C; ++c) e[c] = vexp<kWidth>(x[c] - largest);
        const Vf<kWidth> log_sum = vlog<kWidth>(lanes_sum(e, a->C));
        for (int64_t c = 0; c < a->C; ++c) x[c] = x[c] - largest - log_sum;
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
