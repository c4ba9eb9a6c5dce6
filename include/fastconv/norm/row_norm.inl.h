// Normalisation of rows of C values by their own statistics (layer and RMS normalisation; groups that lie behind one another,
// whose weights are those of runs of values), and the gradients of the first two.
//
//   forward    y = (x - mean) * r * weight + bias       r = 1 / sqrt(variance + eps), of RMS 1 / sqrt(mean of squares + eps)
//   backward   gx = r * (g - mean(g) - x^ * mean(g * x^))     g = gy * weight, x^ = (x - mean) * r
//              gweight = sum(gy * x^), gbias = sum(gy), over rows: of each range of per_part rows, which a second kernel adds up
//
// A row is read from memory once and gone over again in the first-level cache. The deviations are taken from a rounded mean,
// and what the rounding took away is made good, so that data far from 0 keeps its digits. Bound by memory.
#ifndef FASTCONV_ROW_NORM_INL_H
#define FASTCONV_ROW_NORM_INL_H

#include "fastconv/simd/vec.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kRowValues = 16384;  // of a tile of the forward
constexpr int64_t kRowGroup = 32;      // rows whose gradients of weights are added up apart from the others
constexpr int64_t kRowMerge = 256;     // channels per tile of the merge
constexpr int kRowChains = 4;          // sums under way
constexpr int64_t kRowRun = 128 * kWidth;  // values of a sum that is then added to the row's: errors do not grow with its length

// Calls f(channel, which of the sums, how many lanes) for each vector of a row.
template <class F>
FC_INLINE void row_vectors(int64_t C, const F& f) {
    int64_t c = 0;
    for (; c + kRowChains * kWidth <= C; c += kRowChains * kWidth) {
        f(c, 0, kWidth);
        f(c + kWidth, 1, kWidth);
        f(c + 2 * kWidth, 2, kWidth);
        f(c + 3 * kWidth, 3, kWidth);
    }
    for (; c + kWidth <= C; c += kWidth) f(c, 0, kWidth);
    if (c < C) f(c, 1, static_cast<int>(C - c));
}

FC_INLINE Vf<kWidth> row_load(const float* p, int n) { return n == kWidth ? load<kWidth>(p) : load_n<kWidth>(p, n); }
FC_INLINE void row_store(float* p, Vf<kWidth> v, int n) {
    if (n == kWidth) {
        store<kWidth>(p, v);
    } else {
        store_n<kWidth>(p, v, n);
    }
}
// v in the lanes that the last vector of a row of C values has, else 0.
FC_INLINE Vf<kWidth> row_tail(Vf<kWidth> v, int64_t C) {
    Vi<kWidth> lane;
    for (int i = 0; i < kWidth; ++i) lane[i] = i;
    return lane < splat_i<kWidth>(static_cast<int32_t>(C % kWidth)) ? v : Vf<kWidth>{};
}
// Sums over a row: f(channel, sums, how many lanes) adds a vector to some of kSums of them.
template <int kSums, class F>
FC_INLINE void row_sums(int64_t C, float (&total)[kSums], const F& f) {
    Vf<kWidth> totals[kSums] = {};
    for (int64_t run = 0; run < C; run += kRowRun) {
        Vf<kWidth> s[kRowChains][kSums] = {};
        row_vectors(min64(kRowRun, C - run), [&](int64_t c, int u, int n) __attribute__((always_inline)) { f(run + c, s[u], n); });
        for (int i = 0; i < kSums; ++i) totals[i] += (s[0][i] + s[1][i]) + (s[2][i] + s[3][i]);
    }
    for (int i = 0; i < kSums; ++i) total[i] = sum_lanes<kWidth>(totals[i]);
}

FC_INLINE int64_t f32_row_norm_tiles(const RowNormArgs* a) { return ceil_div(a->n * a->rows, rows_of(kRowValues, a->C)); }
FC_INLINE size_t f32_row_norm_scratch(const RowNormArgs*) { return 0; }

inline void f32_row_norm_run(const RowNormArgs* a, int64_t begin, int64_t end, void*) {
    typedef Vf<kWidth> V;
    const int64_t C = a->C, per = rows_of(kRowValues, C), last = min64(a->n * a->rows, end * per);
    const float one = 1.0f / static_cast<float>(C), eps = static_cast<float>(a->eps);
    for (int64_t row = begin * per; row < last; ++row) {
        const float* x = a->x + row * a->ldx;
        float* y = a->y + row * a->ldy;
        V mean{};
        float low = 0.0f;
        if (a->centred) {
            float sum[1];
            row_sums(C, sum, [&](int64_t c, V(&s)[1], int n) __attribute__((always_inline)) { s[0] += row_load(x + c, n); });
            mean = splat<kWidth>(sum[0] * one);
        }
        const V tail = row_tail(mean, C);
        float sums[2];  // of squared deviations, of deviations
        row_sums(C, sums, [&](int64_t c, V(&s)[2], int n) __attribute__((always_inline)) {
            const V d = row_load(x + c, n) - (n == kWidth ? mean : tail);
            s[0] = mul_add<kWidth>(d, d, s[0]);
            s[1] += d;
        });
        float variance = sums[0] * one;
        if (a->centred) {
            low = sums[1] * one;
            variance = variance - low * low;
            if (variance < 0.0f) variance = 0.0f;
            a->mean[row] = mean[0] + low;
        }
        const float r = 1.0f / __builtin_sqrtf(variance + eps);
        a->rstd[row] = r;
        const V scale = splat<kWidth>(r), shift = splat<kWidth>(-low * r);
        const int64_t first = row % a->cycle * (C / a->run);
        const float *weight = a->weight ? a->weight + first : nullptr, *bias = a->bias ? a->bias + first : nullptr;
        if (a->run == 1) {
            row_vectors(C, [&](int64_t c, int, int n) __attribute__((always_inline)) {
                V v = row_load(x + c, n) - mean;
                v = mul_add<kWidth>(v, scale, shift);
                if (weight) v *= row_load(weight + c, n);
                if (bias) v += row_load(bias + c, n);
                row_store(y + c, v, n);
            });
            continue;
        }
        for (int64_t i = 0; i < C / a->run; ++i, x += a->run, y += a->run) {
            const V w = splat<kWidth>(weight ? weight[i] : 1.0f), b = splat<kWidth>(bias ? bias[i] : 0.0f);
            row_vectors(a->run, [&](int64_t c, int, int n) __attribute__((always_inline)) {
                row_store(y + c, mul_add<kWidth>(row_load(x + c, n) - mean, scale, shift) * w + b, n);
            });
        }
    }
}

FC_INLINE int64_t f32_row_norm_backward_tiles(const RowNormArgs* a) { return ceil_div(a->n * a->rows, a->per_part); }
FC_INLINE size_t f32_row_norm_backward_scratch(const RowNormArgs* a) { return static_cast<size_t>(2 * a->C + kWidth) * sizeof(float); }

// into[0, count) += from, which becomes 0.
FC_INLINE void row_flush(float* into, float* from, int64_t count) {
    row_vectors(count, [&](int64_t c, int, int n) __attribute__((always_inline)) {
        row_store(into + c, row_load(into + c, n) + row_load(from + c, n), n);
        row_store(from + c, Vf<kWidth>{}, n);
    });
}

template <bool kWeight, bool kSums, bool kData>
FC_NOINLINE void row_backward(const RowNormArgs* a, int64_t row, float* gw, float* gb) {
    typedef Vf<kWidth> V;
    const int64_t C = a->C;
    const float *x = a->x + row * a->ldx, *gy = a->gy + row * a->ldg;
    float* gx = kData ? a->y + row * a->ldy : nullptr;
    const float r = a->rstd[row], one = 1.0f / static_cast<float>(C);
    const V mean = splat<kWidth>(a->centred ? a->mean[row] : 0.0f), scale = splat<kWidth>(r);
    float sums[2] = {};  // of g, of g * x^
    if (kData) {
        row_sums(C, sums, [&](int64_t c, V(&s)[2], int n) __attribute__((always_inline)) {
            V g = row_load(gy + c, n);
            if (kWeight) g *= row_load(a->weight + c, n);
            s[0] += g;
            s[1] = mul_add<kWidth>(g, (row_load(x + c, n) - mean) * scale, s[1]);
        });
    }
    const V level = splat<kWidth>(a->centred ? sums[0] * one : 0.0f), slope = splat<kWidth>(sums[1] * one);
    row_vectors(C, [&](int64_t c, int, int n) __attribute__((always_inline)) {
        const V g = row_load(gy + c, n), normal = (row_load(x + c, n) - mean) * scale;
        if (kData) {
            V weighted = g;
            if (kWeight) weighted *= row_load(a->weight + c, n);
            row_store(gx + c, (weighted - level - normal * slope) * scale, n);
        }
        if (kSums) {
            row_store(gw + c, mul_add<kWidth>(g, normal, row_load(gw + c, n)), n);
            row_store(gb + c, row_load(gb + c, n) + g, n);
        }
    });
}

inline void f32_row_norm_backward_run(const RowNormArgs* a, int64_t begin, int64_t end, void* scratch) {
    const int64_t rows = a->n * a->rows;
    float* group = static_cast<float*>(scratch);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t first = tile * a->per_part, last = min64(rows, first + a->per_part);
        float* part = a->part ? a->part + tile * 2 * a->C : nullptr;
        if (part) __builtin_memset(part, 0, static_cast<size_t>(2 * a->C) * sizeof(float));
        if (part) __builtin_memset(group, 0, static_cast<size_t>(2 * a->C) * sizeof(float));
        for (int64_t row = first; row < last; ++row) {
            if (!part && a->weight) {
                row_backward<true, false, true>(a, row, nullptr, nullptr);
            } else if (!part) {
                row_backward<false, false, true>(a, row, nullptr, nullptr);
            } else if (!a->y) {
                row_backward<false, true, false>(a, row, group, group + a->C);
            } else if (a->weight) {
                row_backward<true, true, true>(a, row, group, group + a->C);
            } else {
                row_backward<false, true, true>(a, row, group, group + a->C);
            }
            if (part && ((row - first) % kRowGroup == kRowGroup - 1 || row == last - 1)) row_flush(part, group, 2 * a->C);
        }
    }
}

FC_INLINE int64_t f32_row_norm_merge_tiles(const RowNormArgs* a) { return ceil_div(a->C, kRowMerge); }
FC_INLINE size_t f32_row_norm_merge_scratch(const RowNormArgs*) { return 0; }

inline void f32_row_norm_merge_run(const RowNormArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t parts = ceil_div(a->n * a->rows, a->per_part), last = min64(a->C, end * kRowMerge);
    for (int64_t c = begin * kRowMerge; c < last; ++c) {
        for (int64_t which = 0; which < 2; ++which) {
            float* out = which ? a->gbias : a->gweight;
            if (!out) continue;
            double sum = 0.0;
            for (int64_t p = 0; p < parts; ++p) sum += a->part[(2 * p + which) * a->C + c];
            out[c] = static_cast<float>(sum);
        }
    }
}

}  // namespace
}  // namespace
#endif
