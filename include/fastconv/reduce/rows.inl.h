// The inner loops of the reductions: what a state is, how rows of elements and other states are taken into it.
//
//   rows<R>   results in the lanes:    s[c] (+)= x[0][c] (+) ... (+) x[R-1][c], the R combined as a tree
//   block     one result:              8 vectors of lanes along x, then the lanes
//
// A state is one or two floats per result, s and t: FC_ARGMAX, FC_ARGMIN the value and its row (an int32), FC_LOGSUMEXP a
// shift m and the sum of exp(x - m), FC_MOMENTS mean and M2 (Chan, Golub, LeVeque, "Updating formulae and a pairwise
// algorithm for computing sample variances", 1979), the mean as the distance from the result's first element, the pivot: where the
// mean is far from 0, the digits that matter would be lost. What has been taken in is counted outside. Bound by loads.
#ifndef FASTCONV_REDUCE_ROWS_INL_H
#define FASTCONV_REDUCE_ROWS_INL_H

#include "fastconv/reduce/args.h"
#include "fastconv/simd/math.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr float kLargest = 3.40282347e38f;

constexpr bool is_arg(int64_t op) { return op == FC_ARGMAX || op == FC_ARGMIN; }
constexpr int fields(int64_t op) { return op >= FC_ARGMAX ? 2 : 1; }

constexpr float first_value(int op) {
    return op == FC_PROD                          ? 1.0f
           : op == FC_MAX || op == FC_ARGMAX      ? -kInfinity
           : op == FC_MIN || op == FC_ARGMIN      ? kInfinity
           : op == FC_LOGSUMEXP                   ? -kLargest
                                                  : 0.0f;
}

template <int Op, int W>
FC_INLINE Vf<W> combine(Vf<W> a, Vf<W> b) {
    if constexpr (Op == FC_PROD) return a * b;
    if constexpr (Op == FC_MAX || Op == FC_ARGMAX) return a == a ? vmax<W>(a, b) : a;  // NaN of either
    if constexpr (Op == FC_MIN || Op == FC_ARGMIN) return a == a ? vmin<W>(a, b) : a;
    return a + b;
}

template <int Op, int W>
FC_INLINE float combine_lanes(Vf<W> v) {
    if constexpr (W > 4) {
        Vf<W / 2> half[2];
        __builtin_memcpy(half, &v, sizeof v);
        return combine_lanes<Op, W / 2>(combine<Op, W / 2>(half[0], half[1]));
    } else {
        v = combine<Op, 4>(v, permute<4>(v, Vi<4>{2, 3, 0, 1}));
        return combine<Op, 4>(v, permute<4>(v, Vi<4>{1, 0, 3, 2}))[0];
    }
}

// Whether a goes before b as the result: NaN first.
template <int Op>
FC_INLINE Vi<kWidth> better(Vf<kWidth> a, Vf<kWidth> b) {
    const Vi<kWidth> beyond = Op == FC_ARGMAX ? a > b : a < b;
    return beyond | ((a != a) & (b == b));
}

// Two states as one: of `ka` elements and, behind them, of `kb`.
template <int Op>
FC_INLINE void merge(Vf<kWidth>& s, Vf<kWidth>& t, Vf<kWidth> s2, Vf<kWidth> t2, float share, float cross) {
    typedef Vf<kWidth> V;
    if constexpr (is_arg(Op)) {
        const Vi<kWidth> same = (s2 == s) | ((s2 != s2) & (s != s));
        const Vi<kWidth> take = better<Op>(s2, s) | (same & ((Vi<kWidth>)t2 < (Vi<kWidth>)t));
        s = take ? s2 : s;
        t = (V)(take ? (Vi<kWidth>)t2 : (Vi<kWidth>)t);
    } else if constexpr (Op == FC_LOGSUMEXP) {
        const V m = combine<FC_MAX, kWidth>(s, s2);
        t = t * vexp<kWidth>(s - m) + t2 * vexp<kWidth>(s2 - m);
        s = m;
    } else if constexpr (Op == FC_MOMENTS) {
        const V delta = s2 - s;
        s = mul_add<kWidth>(delta, splat<kWidth>(share), s);
        t = mul_add<kWidth>(delta * delta, splat<kWidth>(cross), t + t2);
    } else {
        s = combine<Op, kWidth>(s, s2);
    }
}

// The shift of sums of exp: finite, so that differences from it are numbers; NaN stays.
FC_INLINE Vf<kWidth> shift_of(Vf<kWidth> m) { return clamp<kWidth>(m, -kLargest, kLargest); }

// Takes R rows of vectors into a state of `share` and `cross` as for merge, row the first one's number.
template <int Op, int R>
FC_INLINE void take(Vf<kWidth>& s, Vf<kWidth>& t, Vf<kWidth> (&v)[R], float share, float cross, int32_t row) {
    typedef Vf<kWidth> V;
    if constexpr (is_arg(Op)) {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const Vi<kWidth> take = better<Op>(v[r], s);
            s = take ? v[r] : s;
            t = (V)(take ? splat_i<kWidth>(row + r) : (Vi<kWidth>)t);
        }
    } else if constexpr (Op == FC_LOGSUMEXP) {
        V m = v[0];
#pragma GCC unroll 8
        for (int r = 1; r < R; ++r) m = combine<FC_MAX, kWidth>(m, v[r]);
        m = combine<FC_MAX, kWidth>(s, shift_of(m));
        t = t * vexp<kWidth>(s - m);
        s = m;
#pragma GCC unroll 1
        for (int r = 0; r < R; ++r) t += vexp<kWidth>(v[r] - m);
    } else if constexpr (Op == FC_MOMENTS) {
        V mean = v[0], m2 = {};
#pragma GCC unroll 8
        for (int r = 1; r < R; ++r) mean += v[r];
        mean *= 1.0f / R;
        if constexpr (R > 1) {
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) m2 = mul_add<kWidth>(v[r] - mean, v[r] - mean, m2);
        }
        merge<Op>(s, t, mean, m2, share, cross);
    } else {
#pragma GCC unroll 3
        for (int step = 1; step < R; step *= 2)
#pragma GCC unroll 8
            for (int r = 0; r + step < R; r += 2 * step) v[r] = combine<Op, kWidth>(v[r], v[r + step]);
        s = combine<Op, kWidth>(s, v[0]);
    }
}

// z: the other operand of FC_DOT; z[0] the pivots of FC_MOMENTS.
// s, t of `lanes` results (whole vectors of them are written) with R more rows; k rows are in them already.
template <int Op, int R>
FC_NOINLINE void rows(const float* const* x, const float* const* z, int64_t lanes, float* s, float* t, double k, int32_t row) {
    typedef Vf<kWidth> V;
    const float share = static_cast<float>(R / (k + R)), cross = static_cast<float>(k * R / (k + R));
    int64_t c = 0;
    auto step = [&](auto get) __attribute__((always_inline)) {
        V v[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            v[r] = get(x[r] + c);
            if constexpr (Op == FC_DOT) v[r] *= get(z[r] + c);
            if constexpr (Op == FC_MOMENTS) v[r] -= get(z[0] + c);
        }
        V state = load<kWidth>(s + c), second = {};
        if constexpr (fields(Op) == 2) second = load<kWidth>(t + c);
        take<Op, R>(state, second, v, share, cross, row);
        store<kWidth>(s + c, state);
        if constexpr (fields(Op) == 2) store<kWidth>(t + c, second);
    };
    for (; c + kWidth <= lanes; c += kWidth) step([](const float* p) { return load<kWidth>(p); });
    if (c < lanes) {
        const int n = static_cast<int>(lanes - c);
        step([n](const float* p) { return load_n<kWidth>(p, n); });
    }
}

// The states of `lanes` results, ks elements each, into those at s, t, of kd elements before them.
template <int Op>
FC_NOINLINE void merge_lanes(float* s, float* t, double kd, const float* s2, const float* t2, double ks, int64_t lanes) {
    if (ks == 0) return;
    const bool empty = kd == 0;
    const float share = static_cast<float>(ks / (kd + ks)), cross = static_cast<float>(kd * ks / (kd + ks));
    for (int64_t c = 0; c < lanes; c += kWidth) {
        const int n = static_cast<int>(min64(kWidth, lanes - c));
        Vf<kWidth> a = load_n<kWidth>(s + c, n), b = {}, a2 = load_n<kWidth>(s2 + c, n), b2 = {};
        if constexpr (fields(Op) == 2) b = load_n<kWidth>(t + c, n), b2 = load_n<kWidth>(t2 + c, n);
        if (empty) {
            a = a2, b = b2;
        } else {
            merge<Op>(a, b, a2, b2, share, cross);
        }
        store_n<kWidth>(s + c, a, n);
        if constexpr (fields(Op) == 2) store_n<kWidth>(t + c, b, n);
    }
}

template <int W>
FC_INLINE Vi<W> lane_numbers() {
    Vi<W> v;
    for (int i = 0; i < W; ++i) v[i] = i;
    return v;
}

// f of every vector of x[0, n), combined in U chains; lanes behind the last element are left out.
template <int Op, int U, class F>
FC_INLINE float over(const float* x, const float* z, int64_t n, F f) {
    typedef Vf<kWidth> V;
    const V neutral = splat<kWidth>(first_value(Op));
    V acc[U];
#pragma GCC unroll 8
    for (int u = 0; u < U; ++u) acc[u] = neutral;
    int64_t i = 0;
    for (; i + U * kWidth <= n; i += U * kWidth)
#pragma GCC unroll 8
        for (int u = 0; u < U; ++u)
            acc[u] = combine<Op, kWidth>(acc[u], f(load<kWidth>(x + i + u * kWidth),
                                                   z ? load<kWidth>(z + i + u * kWidth) : V{}));
    for (; i + kWidth <= n; i += kWidth)
        acc[0] = combine<Op, kWidth>(acc[0], f(load<kWidth>(x + i), z ? load<kWidth>(z + i) : V{}));
    if (i < n) {
        const int left = static_cast<int>(n - i);
        const V last = f(load_n<kWidth>(x + i, left), z ? load_n<kWidth>(z + i, left) : V{});
        acc[1] = combine<Op, kWidth>(acc[1], lane_numbers<kWidth>() < left ? last : neutral);
    }
    if (n <= kWidth) return combine_lanes<Op, kWidth>(n < kWidth ? acc[1] : acc[0]);
    if (n < U * kWidth) return combine_lanes<Op, kWidth>(combine<Op, kWidth>(acc[0], acc[1]));
#pragma GCC unroll 3
    for (int step = 1; step < U; step *= 2)
#pragma GCC unroll 8
        for (int u = 0; u < U; u += 2 * step) acc[u] = combine<Op, kWidth>(acc[u], acc[u + step]);
    return combine_lanes<Op, kWidth>(acc[0]);
}

// The first element that is `value` (or NaN, where that is): 0 <= result < n, it is there.
FC_INLINE int64_t find(const float* x, int64_t n, float value) {
    typedef Vf<kWidth> V;
    const V wanted = splat<kWidth>(value);
    const bool number = value == value;
    int64_t i = 0;
    for (; i + 4 * kWidth <= n; i += 4 * kWidth) {
        Vi<kWidth> hit = {};
#pragma GCC unroll 4
        for (int u = 0; u < 4; ++u) {
            const V v = load<kWidth>(x + i + u * kWidth);
            hit |= number ? v == wanted : v != v;
        }
        int64_t any[kWidth / 2], all = 0;
        __builtin_memcpy(any, &hit, sizeof hit);
#pragma GCC unroll 8
        for (int u = 0; u < kWidth / 2; ++u) all |= any[u];
        if (all) break;
    }
    while (i < n - 1 && !(number ? x[i] == value : x[i] != x[i])) ++i;
    return i;
}

// The state of x[0, n), n > 0, one result: s[0], t[0]. bound: a value of this result before, and what does not beat it is left
// out; or the pivot of FC_MOMENTS.
template <int Op>
FC_NOINLINE void block(const float* x, const float* z, int64_t n, float* s, float* t, float bound, int32_t row) {
    typedef Vf<kWidth> V;
    if constexpr (is_arg(Op)) {
        constexpr int Plain = Op == FC_ARGMAX ? FC_MAX : FC_MIN;
        float value;
        block<Plain>(x, nullptr, n, &value, nullptr, 0, 0);
        const bool beats = Op == FC_ARGMAX ? value > bound : value < bound;
        const bool takes = beats || (value != value && bound == bound) || row == 0;
        *s = takes ? value : first_value(Op);
        const int32_t at = takes ? row + static_cast<int32_t>(find(x, n, value)) : 0x7fffffff;
        __builtin_memcpy(t, &at, sizeof at);
    } else if constexpr (Op == FC_LOGSUMEXP) {
        block<FC_MAX>(x, nullptr, n, s, nullptr, 0, 0);
        const V m = shift_of(splat<kWidth>(*s));
        *s = m[0];
        *t = over<FC_SUM, 2>(x, nullptr, n, [m](V v, V) { return vexp<kWidth>(v - m); });
    } else if constexpr (Op == FC_MOMENTS) {
        const float mean = over<FC_SUM, 8>(x, nullptr, n, [bound](V v, V) { return v - bound; }) / static_cast<float>(n);
        *s = mean;
        *t = over<FC_SUM, 8>(x, nullptr, n, [bound, mean](V v, V) { return (v - bound - mean) * (v - bound - mean); });
    } else if constexpr (Op == FC_DOT) {
        *s = over<FC_SUM, 8>(x, z ? z : x, n, [](V v, V w) { return v * w; });
    } else {
        *s = over<Op, 8>(x, nullptr, n, [](V v, V) { return v; });
    }
}

}  // namespace
}  // namespace
#endif
