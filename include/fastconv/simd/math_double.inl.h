// Elementary functions in double precision inside, so that a float comes out within 1 unit in the last place on the whole range:
// exp, log and their relatives, trigonometric and hyperbolic functions and their inverses, pow, erf, gamma, remainders.
//
// D is half a vector of floats, converted. Reductions: Cody and Waite (1980); Payne and Hanek, "Radian reduction for trigonometric
// functions" (SIGNUM 1983), for arguments past 2^20. Series are Taylor's, or interpolations at Chebyshev's points where so said.
// As everywhere in a run, denormal floats count as zero. Bound by arithmetic.
#ifndef FASTCONV_MATH_DOUBLE_INL_H
#define FASTCONV_MATH_DOUBLE_INL_H

#include "fastconv/simd/math.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

typedef double D __attribute__((vector_size(kWidth * 4), may_alias));
typedef int64_t L __attribute__((vector_size(kWidth * 4), may_alias));
typedef uint64_t UL __attribute__((vector_size(kWidth * 4), may_alias));
typedef Vf<kWidth> V;
typedef Vf<kWidth / 2> H;

constexpr double kInf = __builtin_inf();
constexpr double kPi = 3.14159265358979323846, kLn2 = 0.693147180559945309417;

FC_INLINE D ds(double s) { return s - D{}; }
FC_INLINE D dfma(D a, D b, D c) {
#if defined(__AVX512F__)
    return (D)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__AVX2__)
    return (D)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(__aarch64__)
    return (D)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
    return a * b + c;
#endif
}
FC_INLINE D dsqrt(D a) {
#if defined(__AVX512F__)  // masked for the reason that the floats' has
    return (D)_mm512_maskz_sqrt_pd(static_cast<__mmask8>(-1), (__m512d)a);
#elif defined(__AVX2__)
    return (D)_mm256_sqrt_pd((__m256d)a);
#elif defined(__SSE2__)
    return (D)_mm_sqrt_pd((__m128d)a);
#else
    for (int i = 0; i < kWidth / 2; ++i) a[i] = __builtin_sqrt(a[i]);
    return a;
#endif
}
FC_INLINE D dabs(D a) { return (D)((L)a & 0x7fffffffffffffff); }
FC_INLINE D dsign(D magnitude, D a) { return (D)((L)magnitude | ((L)a & static_cast<int64_t>(0x8000000000000000u))); }
FC_INLINE D dround(D a) {  // to an integer, half to even; |a| < 2^51
    const D magic = ds(6755399441055744.0);
    return (a + magic) - magic;
}
FC_INLINE D dtrunc(D a) {  // |a| < 2^51
    const D r = dround(dabs(a));
    return dsign(r > dabs(a) ? r - 1.0 : r, a);
}
FC_INLINE D dnan() { return ds(__builtin_nan("")); }
template <int N>
FC_INLINE D dseries(const double (&c)[N], D x) {  // c[0] + c[1] x + ...
    D p = ds(c[N - 1]);
#pragma GCC unroll 1
    for (int i = N - 2; i >= 0; --i) p = dfma(p, x, ds(c[i]));
    return p;
}

template <class F>
FC_INLINE V by_double(V x, V z, F f) {
    H hx[2], hz[2], hy[2];
    __builtin_memcpy(hx, &x, sizeof x);
    __builtin_memcpy(hz, &z, sizeof z);
#pragma GCC unroll 1
    for (int i = 0; i < 2; ++i)
        hy[i] = __builtin_convertvector(f(__builtin_convertvector(hx[i], D), __builtin_convertvector(hz[i], D)), H);
    V y;
    __builtin_memcpy(&y, hy, sizeof y);
    return y;
}

// exp(x), to 1e-14, of what is no float: 0 and infinity after conversion.
constexpr double kExpSeries[] = {1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320,
                                 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800};
FC_NOINLINE D dexp(D x) {
    D c = x > ds(300.0) ? ds(300.0) : x;
    c = c < ds(-300.0) ? ds(-300.0) : c;
    const D n = dround(c * (1.0 / kLn2));
    const D r = dfma(n, ds(-1.90821492927058770002e-10), dfma(n, ds(-6.93147180369123816490e-01), c));
    const L bits = (L)(n + 6755399441055744.0) << 52;
    return (D)((L)dseries(kExpSeries, r) + bits);
}

constexpr double kAtanhSeries[] = {2.0, 2.0 / 3, 2.0 / 5, 2.0 / 7, 2.0 / 9, 2.0 / 11, 2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19};
FC_NOINLINE D dlog(D x) {
    const L bits = (L)x;
    const L up = (bits & 0xfffffffffffff) > 0x6a09e667f3bcd ? L{} + 1 : L{};  // mantissa above the root of 2
    const D m = (D)((bits & 0xfffffffffffff) | ((1023 - up) << 52));
    const L e = (L)((UL)bits >> 52) - 1023 + up;  // x is positive where it counts
    const D exponent = (D)(e + 0x4338000000000000) - 6755399441055744.0;
    const D f = (m - 1.0) / (m + 1.0);
    D y = dfma(exponent, ds(kLn2), f * dseries(kAtanhSeries, f * f));
    y = x == ds(kInf) ? x : y;
    y = x == D{} ? ds(-kInf) : y;
    return x >= D{} ? y : dnan();
}

// Interpolated; 3e-14.
constexpr double kAtanSeries[] = {0.999999999999973222, -0.333333333308026707, 0.19999999604787235, -0.142856904184955434,
                                  0.111103849132550416, -0.090783902895086733, 0.0756369036443347217, -0.0587445508217082380,
                                  0.0306616567537526248};
FC_NOINLINE D datan(D x) {  // x >= 0
    const L inverse = x > ds(1.0);
    D t = inverse ? 1.0 / x : x;
    const L upper = t > ds(0.41421356237309503);
    t = upper ? (t - 1.0) / (t + 1.0) : t;
    D y = t * dseries(kAtanSeries, t * t);
    y = upper ? y + kPi / 4 : y;
    return inverse ? kPi / 2 - y : y;
}

// x - quadrant * pi / 2, |result| <= pi / 4, for floats past 2^20: m * 2^e times 2 / pi, of whose product only the bits around the
// binary point are formed.
FC_NOINLINE double reduce_far(double value, int64_t* quadrant) {
    static const uint32_t two_over_pi[] = {0, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab};
    int64_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    const int64_t e = ((bits >> 52) & 0x7ff) - 1023 - 23;  // -3 <= e <= 104: value = m * 2^e
    const uint64_t m = (static_cast<uint64_t>(bits & 0xfffffffffffff) | 0x10000000000000u) >> 29;
    const int64_t at = (e + 32) / 32, shift = (e + 32) % 32;  // two_over_pi[k] is worth 2^(-32 k)
    uint64_t w[4];
    for (int i = 0; i < 4; ++i) {
        const uint64_t high = at + i > 0 ? two_over_pi[at - 1 + i] : 0, low = at + i < 8 ? two_over_pi[at + i] : 0;
        w[i] = ((high << 32 | low) << shift) >> 32;
    }
    uint64_t low = m * w[3], mid = m * w[2] + (low >> 32), high = m * w[1] + (mid >> 32), top = m * w[0] + (high >> 32);
    const uint64_t point = (top << 32) | (high & 0xffffffff);  // the lowest 32 bits of top stand before the binary point
    int64_t q = static_cast<int64_t>(point >> 32) & 3;
    const uint64_t fraction = (point << 32) | (mid & 0xffffffff);
    double f = static_cast<double>(fraction) * 0x1p-64;
    if (fraction >> 63) {
        f = -static_cast<double>(~fraction + 1) * 0x1p-64;
        ++q;
    }
    *quadrant = bits < 0 ? -q : q;
    f *= kPi / 2;
    return bits < 0 ? -f : f;
}

constexpr double kSinSeries[] = {1.0, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800.0};
constexpr double kCosSeries[] = {1.0, -1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600,
                                 -1.0 / 87178291200.0};
// sin(x) and cos(x); NaN of infinities.
FC_NOINLINE void dsincos(D x, D* sine, D* cosine) {
    const D c = dabs(x) < ds(1048576.0) ? x : D{};
    const D n = dround(c * (2 / kPi));
    D r = dfma(n, ds(-0x1.921fb54p+0), c);
    r = dfma(n, ds(-0x1.10b461p-30), r);
    r = dfma(n, ds(-0x1.a62633145c06ep-58), r);
    L q = (L)(n + 6755399441055744.0);
    for (int i = 0; i < kWidth / 2; ++i)
        if (!(x[i] < 1048576.0 && x[i] > -1048576.0)) {
            int64_t quadrant = 0;
            r[i] = x[i] - x[i] == 0.0 ? reduce_far(x[i], &quadrant) : __builtin_nan("");
            q[i] = quadrant;
        }
    const D z = r * r, s = r * dseries(kSinSeries, z), k = dseries(kCosSeries, z);
    const L odd = (q & 1) != 0;
    *sine = (D)((L)(odd ? k : s) ^ (q & 2) << 62);
    *cosine = (D)((L)(odd ? s : k) ^ ((q + 1) & 2) << 62);
}

// erfc(x) for x >= 0: t exp(-x^2 + P(t)), t = 2 / (2 + x) (Numerical Recipes, 6.2); P interpolated, relative error 3e-11 up to 11.
constexpr double kErfcSeries[] = {-1.26551152322319357, 0.999981740250832583, 0.375218287007747824, 0.0822641251010616547,
                                  -0.08817389509874623, -0.0779597692179168065, -0.552948253971349732, 1.9337804328566248,
                                  -5.12168956250759683, 10.1026311287432336, -12.8922099682660568, 10.4138710680310955,
                                  -5.20883992427690928, 1.4855036844073786, -0.185917569860088983};
constexpr double kErfSeries[] = {1.12837916709550028, -0.376126389027465609, 0.112837916454154848, -0.0268661649537248441,
                                 0.00522391522457777429, -0.000854460035984020929, 0.000119313072813114084,
                                 -0.0000127450618567404243};
FC_NOINLINE D derfc(D x) {
    const D t = 2.0 / (2.0 + x);
    return t * dexp(dseries(kErfcSeries, t) - x * x);
}
FC_INLINE D derf(D x) {
    const D a = dabs(x), near = a * dseries(kErfSeries, a * a);
    return dsign(a < ds(0.6) ? near : 1.0 - derfc(a > ds(11.0) ? ds(11.0) : a), x);
}

// ---- over floats --------------------------------------------------------------------------------------------------

#define FC_BY_DOUBLE(name, body)                                                                 \
    FC_INLINE V name(V v) {                                                                      \
        return by_double(v, v, [](D x, D) -> D { body });                                        \
    }

FC_BY_DOUBLE(vexp2, return dexp(x * kLn2);)
FC_BY_DOUBLE(vexpm1, return dsign(dabs(x) < ds(1e-5) ? dfma(x * x, ds(0.5), x) : dexp(x) - 1.0, x);)
FC_BY_DOUBLE(vlog2, return dlog(x) * (1.0 / kLn2);)
FC_BY_DOUBLE(vlog10, return dlog(x) * 0.434294481903251827651;)
FC_INLINE D dlog1p(D x) { return dsign(dabs(x) < ds(1e-5) ? dfma(x * x, ds(-0.5), x) : dlog(1.0 + x), x); }
FC_BY_DOUBLE(vlog1p, return dlog1p(x);)
FC_BY_DOUBLE(vsoftplus, return (x > D{} ? x : D{}) + dlog1p(dexp(-dabs(x))) + (x != x ? x : D{});)
FC_BY_DOUBLE(vsin, D s; D c; dsincos(x, &s, &c); return x == D{} ? x : s;)
FC_BY_DOUBLE(vcos, D s; D c; dsincos(x, &s, &c); return c;)
FC_BY_DOUBLE(vtan, D s; D c; dsincos(x, &s, &c); return x == D{} ? x : s / c;)
FC_BY_DOUBLE(vasin, const D a = dabs(x); return dsign(datan(a / dsqrt((1.0 - a) * (1.0 + a))), x);)
FC_BY_DOUBLE(vacos, return 2.0 * datan(dsqrt((1.0 - x) / (1.0 + x)));)
FC_BY_DOUBLE(vsinh, const D a = dabs(x); const D e = dexp(a);
             return dsign(a < ds(1e-2) ? a * dfma(a * a, dfma(a * a, ds(1.0 / 120), ds(1.0 / 6)), ds(1.0)) : 0.5 * (e - 1.0 / e), x);)
FC_BY_DOUBLE(vcosh, const D e = dexp(dabs(x)); return 0.5 * (e + 1.0 / e);)
FC_BY_DOUBLE(vasinh, const D a = dabs(x);
             return dsign(a < ds(1e-2) ? a * dfma(a * a, dfma(a * a, ds(3.0 / 40), ds(-1.0 / 6)), ds(1.0))
                                       : dlog(a + dsqrt(dfma(a, a, ds(1.0)))), x);)
FC_BY_DOUBLE(vacosh, const D y = dlog(x + dsqrt((x - 1.0) * (x + 1.0))); return x >= ds(1.0) ? y : dnan();)
FC_BY_DOUBLE(vatanh, const D a = dabs(x);
             return dsign(a < ds(1e-2) ? a * dfma(a * a, dfma(a * a, ds(1.0 / 5), ds(1.0 / 3)), ds(1.0))
                                       : 0.5 * dlog((1.0 + a) / (1.0 - a)), x);)
FC_BY_DOUBLE(verf, return derf(x);)
FC_BY_DOUBLE(verfc, const D e = derfc(dabs(x) > ds(11.0) ? ds(11.0) : dabs(x)); const D a = dabs(x);
             return a < ds(0.5) ? 1.0 - x * dseries(kErfSeries, x * x) : (x < D{} ? 2.0 - e : e);)

// Giles, "Approximating the erfinv function" (GPU Computing Gems, 2011), in its single form, then a step of Newton's.
constexpr double kErfinvNear[] = {1.50140941, 0.246640727, -0.00417768164, -0.00125372503, 0.000218580870,
                                  -4.39150654e-06, -3.52338770e-06, 3.43273939e-07, 2.81022636e-08};
constexpr double kErfinvFar[] = {2.83297682, 1.00167406, 0.00943887047, -0.00762246130, 0.00573950773,
                                 -0.00367342844, 0.00134934322, 0.000100950558, -0.000200214257};
FC_BY_DOUBLE(verfinv, const D a = dabs(x); const D w = -dlog((1.0 - a) * (1.0 + a));
             D y = a * (w < ds(5.0) ? dseries(kErfinvNear, w - 2.5) : dseries(kErfinvFar, dsqrt(w) - 3.0));
             const D slope = 1.12837916709551257 * dexp(-y * y);
             y = y - (a < ds(0.6) ? derf(y) - a : (1.0 - a) - derfc(y)) / slope;
             y = a == ds(1.0) ? ds(kInf) : y; return dsign(y, x);)

// The gamma function's logarithm and its derivatives: Stirling's series from 8 on, reached by recurrence; reflection below 1/2.
constexpr double kStirling[] = {1.0 / 12, -1.0 / 360, 1.0 / 1260, -1.0 / 1680, 1.0 / 1188, -691.0 / 360360};
FC_NOINLINE D dlgamma_positive(D x) {
    const L low = x < ds(8.0);
    D p = x;
#pragma GCC unroll 1
    for (int i = 1; i < 8; ++i) p = p * (x + static_cast<double>(i));
    const D t = low ? x + 8.0 : x;
    const D u = 1.0 / t;
    const D y = (t - 0.5) * dlog(t) - t + 0.918938533204672741780 + u * dseries(kStirling, u * u);
    return (x == ds(1.0)) | (x == ds(2.0)) ? D{} : (low ? y - dlog(p) : (x == ds(kInf) ? x : y));
}
// x - its nearest integer, exact; 0 for large ones, which are integers.
FC_INLINE D around(D x) { return dabs(x) < ds(1e15) ? x - dround(x) : D{}; }
FC_BY_DOUBLE(vlgamma, const L reflected = x < ds(0.5);
             const D y = dlgamma_positive(reflected ? 1.0 - x : x);
             D s; D c; dsincos(around(x) * kPi, &s, &c);
             const D m = dlog(kPi / dabs(s)) - y;
             return reflected ? (dabs(x) == ds(kInf) ? ds(kInf) : m) : y;)
constexpr double kDigamma[] = {1.0 / 12, -1.0 / 120, 1.0 / 252, -1.0 / 240, 1.0 / 132, -691.0 / 32760};
FC_BY_DOUBLE(vdigamma, const L reflected = x < D{};
             const D a = reflected ? 1.0 - x : x; const L low = a < ds(8.0);
             D sum = D{};
             for (int i = 0; i < 8; ++i) sum = sum + 1.0 / (a + static_cast<double>(i));
             const D t = low ? a + 8.0 : a; const D u = 1.0 / (t * t);
             const D y = dlog(t) - 0.5 / t - u * dseries(kDigamma, u) - (low ? sum : D{});
             D s; D c; const D r = around(x); dsincos(r * kPi, &s, &c);
             const D m = r == D{} ? dnan() : y - kPi * c / s;
             return x == D{} ? dsign(ds(kInf), (D)((L)x ^ static_cast<int64_t>(0x8000000000000000u))) : (reflected ? m : y);)
constexpr double kTrigamma[] = {1.0 / 6, -1.0 / 30, 1.0 / 42, -1.0 / 30, 5.0 / 66, -691.0 / 2730};
FC_BY_DOUBLE(vtrigamma, const L reflected = x < ds(0.5);
             const D a = reflected ? 1.0 - x : x; const L low = a < ds(8.0);
             D sum = D{};
             for (int i = 0; i < 8; ++i) sum = sum + 1.0 / ((a + static_cast<double>(i)) * (a + static_cast<double>(i)));
             const D t = low ? a + 8.0 : a; const D u = 1.0 / t;
             const D y = u + 0.5 * u * u + u * u * u * dseries(kTrigamma, u * u) + (low ? sum : D{});
             D s; D c; dsincos(around(x) * kPi, &s, &c);
             const D m = kPi * kPi / (s * s) - y;
             return reflected ? m : y;)

FC_INLINE V vatan2(V y, V x) {
    return by_double(y, x, [](D v, D u) -> D {
        const D a = dabs(u), b = dabs(v);
        const D small = a < b ? a : b, large = a < b ? b : a;
        D t = small / large;
        t = large == D{} ? D{} : t;            // 0 / 0
        t = small == ds(kInf) ? ds(1.0) : t;
        D r = datan(t);
        r = b > a ? kPi / 2 - r : r;
        r = (L)u < L{} ? kPi - r : r;
        return v != v ? v : (u != u ? u : dsign(r, v));
    });
}
FC_INLINE V vhypot(V x, V z) {
    return by_double(x, z, [](D u, D v) -> D {
        const D y = dsqrt(dfma(u, u, v * v));
        return (dabs(u) == ds(kInf)) | (dabs(v) == ds(kInf)) ? ds(kInf) : y;
    });
}
FC_INLINE V vpow(V x, V z) {
    return by_double(x, z, [](D u, D v) -> D {
        D y = dexp(v * dlog(dabs(u)));
        const D b = dabs(v);
        const D half = b < ds(33554432.0) ? 0.5 * b : D{};  // larger ones are even
        const L odd = (half != dtrunc(half)) & (b == dround(b));
        const L whole = (b >= ds(16777216.0)) | (dround(half + half) == half + half);
        const L negative = (L)u < L{};
        y = (u < D{}) & (u > ds(-kInf)) & ~whole ? dnan() : y;
        y = negative & odd ? dsign(y, u) : y;
        return (v == D{}) | (u == ds(1.0)) | ((u == ds(-1.0)) & (b == ds(kInf))) ? ds(1.0) : y;
    });
}
// u - trunc(u / v) * v, exactly, with u's sign: the quotient is taken in pieces of 28 bits, whose products are exact.
FC_NOINLINE D dfmod(D u, D v) {
    const D b = dabs(v), q = dabs(u) / b;
    D r = dabs(u);
    bool far = false;
    for (int i = 0; i < kWidth / 2; ++i) far |= q[i] >= 268435456.0;
    D scale = ds(far ? 0x1p252 : 1.0);
#pragma GCC unroll 1
    for (int piece = far ? 9 : 0; piece >= 0; --piece, scale = scale * 0x1p-28) {
        const D step = b * scale, k = r / step;
        D left = r - dtrunc(k < ds(0x1p40) ? k : D{}) * step;
        left = left < D{} ? left + step : left;
        r = left >= step ? left - step : left;
    }
    r = b == ds(kInf) ? dabs(u) : r;
    r = (v == D{}) | (dabs(u) == ds(kInf)) | (u != u) | (v != v) ? dnan() : r;
    return dsign(r, u);
}
FC_INLINE V vfmod(V x, V z) { return by_double(x, z, dfmod); }
// With the divisor's sign, as Python's %.
FC_INLINE V vremainder(V x, V z) {
    return by_double(x, z, [](D u, D v) -> D {
        const D m = dfmod(u, v);
        return (m != D{}) & ((m < D{}) != (v < D{})) ? m + v : m;
    });
}
// floor(x / z) of the exact quotient.
FC_INLINE V vdiv_floor(V x, V z) {
    return by_double(x, z, [](D u, D v) -> D {
        const D m = dfmod(u, v), q = (u - m) / v;
        const D whole = (m != D{}) & ((m < D{}) != (v < D{})) ? q - 1.0 : q;
        const D near = dabs(whole) < ds(1e15) ? dround(whole) : whole;
        return v == D{} ? u / v : (near != D{} ? near : dsign(D{}, u / v));
    });
}

#undef FC_BY_DOUBLE

}  // namespace
}  // namespace
#endif
