// Scans: sums, products, extremes and log-sum-exp of all elements up to each, along one axis.
//
// kLines lines are taken together, side by side where they lie so: an addition takes three to four cycles, which one line
// alone would wait for. Sums, products and logarithms are carried in double, as PyTorch has it. Bound by memory where lines lie side by
// side, else by loads of single elements.
#ifndef FASTCONV_SCAN_INL_H
#define FASTCONV_SCAN_INL_H

#include "fastconv/reduce/args_scan.h"
#include "fastconv/simd/integers.inl.h"
#include "fastconv/reduce/strided.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kLines = 16;
constexpr int64_t kScanTile = 16384;

FC_INLINE int64_t scan_groups(const ScanArgs* a) {  // lines together are neighbours along the last axis that is kept
    return ceil_div(extent(a->kept[a->kept_rank - 1], a->n), kLines);
}
FC_INLINE int64_t scan_per_tile(const ScanArgs* a) {
    return max64(1, kScanTile / max64(1, kLines * extent(a->along, a->n)));
}
FC_INLINE int64_t scan_total(const ScanArgs* a) {
    return product(a->kept, a->kept_rank - 1, a->n) * scan_groups(a);
}

FC_INLINE int64_t f32_scan_tiles(const ScanArgs* a) {
    return extent(a->along, a->n) ? ceil_div(scan_total(a), scan_per_tile(a)) : 0;
}
FC_INLINE size_t f32_scan_scratch(const ScanArgs*) { return 0; }

// `lines` lines, `apart` elements from one another.
template <int Scan>
FC_NOINLINE void scan_lines(const ScanArgs* a, const char* x, float* y, int64_t* y2, int64_t lines, int64_t apart_x,
                            int64_t apart_y, int64_t apart_y2) {
    constexpr bool extreme = Scan == FC_CUMMAX || Scan == FC_CUMMIN;
    double carry[kLines];
    float shift[kLines], row[kLines] = {};
    int64_t at[kLines] = {};
    for (int64_t c = 0; c < kLines; ++c) {
        carry[c] = Scan == FC_CUMPROD ? 1.0 : 0.0;
        shift[c] = Scan == FC_CUMMIN ? kInfinity : -kInfinity;
    }
    const int64_t n = extent(a->along, a->n), size = element_size(a->dtype_x);
    for (int64_t k = 0; k < n; ++k) {
        const int64_t i = a->backwards ? n - 1 - k : k;
        as_floats(x + size * i * a->along.x, a->dtype_x, apart_x, lines, row);
        float* out = y + i * a->along.y;
        for (int64_t c = 0; c < kLines; ++c) {
            const float v = row[c];
            if constexpr (Scan == FC_CUMSUM) {
                carry[c] += static_cast<double>(v);
            } else if constexpr (Scan == FC_CUMPROD) {
                carry[c] *= static_cast<double>(v);
            } else if constexpr (extreme) {
                const bool takes = (Scan == FC_CUMMAX ? v >= shift[c] : v <= shift[c]) || v != v;
                shift[c] = takes ? v : shift[c];  // no number is beyond NaN, which stays
                at[c] = takes ? i : at[c];
            }
        }
        if constexpr (Scan == FC_LOGCUMSUMEXP) {
            for (int64_t c = 0; c < lines; ++c) {
                const double v = static_cast<double>(row[c]), old = carry[c];
                const double top = v > old || v != v ? v : old, low = v > old || v != v ? old : v;
                const bool finite = top - top == 0.0;  // else the larger of two infinities, or NaN
                carry[c] = k == 0 ? v : finite ? top + __builtin_log1p(__builtin_exp(low - top)) : top;
                out[c * apart_y] = static_cast<float>(carry[c]);
            }
            continue;
        }
        for (int64_t c = 0; c < lines; ++c) out[c * apart_y] = extreme ? shift[c] : static_cast<float>(carry[c]);
        if (extreme && y2)
            for (int64_t c = 0; c < lines; ++c) y2[i * a->along.y2 + c * apart_y2] = at[c];
    }
}

inline void f32_scan_run(const ScanArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t per = scan_per_tile(a), groups = scan_groups(a), last = min64(scan_total(a), end * per);
    const FcAxis& inner = a->kept[a->kept_rank - 1];
    const int64_t wide = extent(inner, a->n);
    for (int64_t g = begin * per; g < last; ++g) {
        const int64_t c0 = g % groups * kLines, lines = min64(kLines, wide - c0);
        const Walk at(a->kept, a->kept_rank, a->n, g / groups * wide + c0);
        const char* x = static_cast<const char*>(a->x) + element_size(a->dtype_x) * at.x;
        float* y = a->y + at.y;
        int64_t* y2 = a->y2 ? a->y2 + at.y2 : nullptr;
        switch (a->scan) {
            case FC_CUMSUM: scan_lines<FC_CUMSUM>(a, x, y, y2, lines, inner.x, inner.y, inner.y2); break;
            case FC_CUMPROD: scan_lines<FC_CUMPROD>(a, x, y, y2, lines, inner.x, inner.y, inner.y2); break;
            case FC_CUMMAX: scan_lines<FC_CUMMAX>(a, x, y, y2, lines, inner.x, inner.y, inner.y2); break;
            case FC_CUMMIN: scan_lines<FC_CUMMIN>(a, x, y, y2, lines, inner.x, inner.y, inner.y2); break;
            default: scan_lines<FC_LOGCUMSUMEXP>(a, x, y, y2, lines, inner.x, inner.y, inner.y2); break;
        }
    }
}

// `i64_scan`: the same of whole numbers, exact and wrapping round at 64 bits; of extremes y has the dtype of x, else int64.
FC_INLINE int64_t i64_scan_tiles(const ScanArgs* a) { return f32_scan_tiles(a); }
FC_INLINE size_t i64_scan_scratch(const ScanArgs*) { return 0; }

FC_INLINE void scan_whole(int64_t scan, int64_t v, int64_t i, bool first, int64_t& carry, int64_t& at) {
    if (scan == FC_CUMSUM) {
        carry = wrapped_add(carry, v);
    } else if (scan == FC_CUMPROD) {
        carry = wrapped_mul(carry, v);
    } else if (first || (scan == FC_CUMMAX ? v >= carry : v <= carry)) {
        carry = v;
        at = i;
    }
}

// One line from the elements at x, y and y2 on, a run of it at a time.
FC_NOINLINE void scan_line(const ScanArgs* a, int64_t x, int64_t y, int64_t y2) {
    const bool extreme = a->scan == FC_CUMMAX || a->scan == FC_CUMMIN;
    const int64_t n = extent(a->along, a->n), step = a->backwards ? -1 : 1;
    int64_t values[kWholeRun], places[kWholeRun], carry = a->scan == FC_CUMPROD, at = 0;
    for (int64_t k = 0; k < n; k += kWholeRun) {
        const int64_t first = a->backwards ? n - 1 - k : k, count = min64(kWholeRun, n - k);
        load_integers(a->x, a->dtype_x, x + first * a->along.x, step * a->along.x, count, values);
        for (int64_t j = 0; j < count; ++j) {
            scan_whole(a->scan, values[j], first + step * j, k + j == 0, carry, at);
            values[j] = carry, places[j] = at;
        }
        store_integers(values, count, a->y, extreme ? a->dtype_x : kInt64, y + first * a->along.y, step * a->along.y);
        if (extreme && a->y2) store_integers(places, count, a->y2, kInt64, y2 + first * a->along.y2, step * a->along.y2);
    }
}

// `lines` neighbours, side by side.
template <int Scan>
FC_NOINLINE void scan_beside(const ScanArgs* a, int64_t x, int64_t y, int64_t y2, int64_t lines) {
    constexpr bool extreme = Scan == FC_CUMMAX || Scan == FC_CUMMIN;
    const FcAxis& inner = a->kept[a->kept_rank - 1];
    const int64_t n = extent(a->along, a->n);
    int64_t row[kLines] = {}, carry[kLines], at[kLines] = {};
    for (int64_t c = 0; c < kLines; ++c) carry[c] = Scan == FC_CUMPROD;
    for (int64_t k = 0; k < n; ++k) {
        const int64_t i = a->backwards ? n - 1 - k : k;
        load_integers(a->x, a->dtype_x, x + i * a->along.x, inner.x, lines, row);
        for (int64_t c = 0; c < kLines; ++c) scan_whole(Scan, row[c], i, k == 0, carry[c], at[c]);
        store_integers(carry, lines, a->y, extreme ? a->dtype_x : kInt64, y + i * a->along.y, inner.y);
        if (extreme && a->y2) store_integers(at, lines, a->y2, kInt64, y2 + i * a->along.y2, inner.y2);
    }
}

inline void i64_scan_run(const ScanArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t per = scan_per_tile(a), groups = scan_groups(a), last = min64(scan_total(a), end * per);
    const FcAxis& inner = a->kept[a->kept_rank - 1];
    const int64_t wide = extent(inner, a->n);
    for (int64_t g = begin * per; g < last; ++g) {
        const int64_t c0 = g % groups * kLines, lines = min64(kLines, wide - c0);
        const Walk from(a->kept, a->kept_rank, a->n, g / groups * wide + c0);
        if (lines == 1 || distance(a->along.x) < distance(inner.x)) {
            for (int64_t c = 0; c < lines; ++c) scan_line(a, from.x + c * inner.x, from.y + c * inner.y, from.y2 + c * inner.y2);
            continue;
        }
        switch (a->scan) {
            case FC_CUMSUM: scan_beside<FC_CUMSUM>(a, from.x, from.y, from.y2, lines); break;
            case FC_CUMPROD: scan_beside<FC_CUMPROD>(a, from.x, from.y, from.y2, lines); break;
            case FC_CUMMAX: scan_beside<FC_CUMMAX>(a, from.x, from.y, from.y2, lines); break;
            default: scan_beside<FC_CUMMIN>(a, from.x, from.y, from.y2, lines); break;
        }
    }
}

}  // namespace
}  // namespace
#endif
