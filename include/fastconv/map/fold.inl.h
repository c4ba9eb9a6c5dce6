// What a row of `map`'s result becomes where a reduction over it follows: its sum, largest or smallest value.
#ifndef FASTCONV_MAP_FOLD_INL_H
#define FASTCONV_MAP_FOLD_INL_H

#include "fastconv/map/args.h"
#include "fastconv/simd/math.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kFoldChains = 8;

template <int fold>
FC_INLINE Vf<kWidth> folded(Vf<kWidth> a, Vf<kWidth> b) {
    if constexpr (fold == FC_FOLD_MAX) return a == a ? vmax<kWidth>(a, b) : a;  // NaN of either
    if constexpr (fold == FC_FOLD_MIN) return a == a ? vmin<kWidth>(a, b) : a;
    return a + b;
}

template <int fold>
FC_NOINLINE float fold_row(const float* x, int64_t n) {
    typedef Vf<kWidth> V;
    const V neutral = splat<kWidth>(fold == FC_FOLD_MAX ? -kInfinity : fold == FC_FOLD_MIN ? kInfinity : 0.0f);
    V acc[kFoldChains];
    for (V& v : acc) v = neutral;
    int64_t i = 0;
    for (; i + kFoldChains * kWidth <= n; i += kFoldChains * kWidth)
#pragma GCC unroll 8
        for (int u = 0; u < kFoldChains; ++u) acc[u] = folded<fold>(acc[u], load<kWidth>(x + i + u * kWidth));
    for (int u = 0; i + kWidth <= n; i += kWidth, ++u) acc[u] = folded<fold>(acc[u], load<kWidth>(x + i));
    for (int step = 1; step < kFoldChains; step *= 2)
        for (int u = 0; u < kFoldChains; u += 2 * step) acc[u] = folded<fold>(acc[u], acc[u + step]);
    alignas(64) float lanes[2 * kWidth];  // the last elements behind
    store<kWidth>(lanes, acc[0]);
    store<kWidth>(lanes + kWidth, neutral);
    for (int j = 0; i + j < n; ++j) lanes[kWidth + j] = x[i + j];
    store<kWidth>(lanes, folded<fold>(load<kWidth>(lanes), load<kWidth>(lanes + kWidth)));
    for (int step = kWidth / 2; step > 0; step /= 2) {
        const V v = load<kWidth>(lanes), w = load<kWidth>(lanes + step);
        store<kWidth>(lanes, folded<fold>(v, w));
    }
    return lanes[0];
}

// Rows of `columns` elements at x, a value each, `across` floats apart at y.
inline void fold_rows(int64_t fold, const float* x, int64_t rows, int64_t columns, float* y, int64_t across) {
    const auto row = fold == FC_FOLD_SUM ? fold_row<FC_FOLD_SUM> : fold == FC_FOLD_MAX ? fold_row<FC_FOLD_MAX> : fold_row<FC_FOLD_MIN>;
    for (int64_t i = 0; i < rows; ++i) y[i * across] = row(x + i * columns, columns);
}

}  // namespace
}  // namespace
#endif
