// Elementary functions over vectors: exp, expm1, log, tanh, sigmoid, normal CDF. Right for infinities, NaN, overflow and
// underflow; within 2 units in the last place except where said. Method: Cody and Waite, "Software Manual for the
// Elementary Functions" (1980), argument reduction by a constant in two pieces; coefficients of exp, log and tanh from
// S. Moshier's Cephes library (expf.c, logf.c, tanhf.c). Bound by arithmetic: 10 to 25 operations per vector.
#ifndef FASTCONV_MATH_INL_H
#define FASTCONV_MATH_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr float kInfinity = __builtin_inff();
constexpr float kLn2High = 0.693359375f;  // 9 bits: times an exponent it is exact
constexpr float kLn2Low = -2.12194440e-4f;

// 2^n for -127 < n < 128.
template <int W>
FC_INLINE Vf<W> pow2(Vu<W> n) {
    return (Vf<W>)((n + 127u) << 23);
}

// x = n * ln(2) + r with |r| <= ln(2) / 2; returns n, whose bits are garbage where x is NaN (r is NaN then), and as a float.
template <int W>
FC_INLINE Vu<W> reduce_exp(Vf<W> x, Vf<W>* r, Vf<W>* whole) {
    const Vf<W> magic = splat<W>(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer in the low bits
    const Vf<W> shifted = mul_add<W>(x, splat<W>(1.44269504f), magic);
    const Vf<W> n = *whole = shifted - magic;
    *r = mul_add<W>(n, splat<W>(-kLn2Low), mul_add<W>(n, splat<W>(-kLn2High), x));
    return (Vu<W>)shifted - (Vu<W>)magic;
}

// exp(r) - 1 for |r| <= ln(2) / 2.
template <int W>
FC_INLINE Vf<W> expm1_polynomial(Vf<W> r) {
    Vf<W> p = splat<W>(1.9875691500e-4f);
    p = mul_add<W>(p, r, splat<W>(1.3981999507e-3f));
    p = mul_add<W>(p, r, splat<W>(8.3334519073e-3f));
    p = mul_add<W>(p, r, splat<W>(4.1665795894e-2f));
    p = mul_add<W>(p, r, splat<W>(1.6666665459e-1f));
    p = mul_add<W>(p, r, splat<W>(5.0000001201e-1f));
    return mul_add<W>(p, r * r, r);
}

template <int W>
FC_INLINE Vf<W> vabs(Vf<W> x) {
    return (Vf<W>)((Vu<W>)x & 0x7fffffffu);
}
template <int W>
FC_INLINE Vf<W> with_sign_of(Vf<W> magnitude, Vf<W> x) {
    return (Vf<W>)((Vu<W>)magnitude | ((Vu<W>)x & 0x80000000u));
}

template <int W>
FC_INLINE Vf<W> clamp(Vf<W> x, float low, float high) {  // NaN passes through
    return vmin<W>(splat<W>(high), vmax<W>(splat<W>(low), x));
}

// v * 2^n for v in [0.5, 2) and -152 < n < 130, which is there as a float as well; NaN where v is.
template <int W>
FC_INLINE Vf<W> times_pow2(Vf<W> v, Vu<W> n, [[maybe_unused]] Vf<W> whole) {
#if defined(__AVX512F__)
    if constexpr (W == 16)  // masked for the reason that the square root has
        return (Vf<16>)_mm512_maskz_scalef_ps(static_cast<__mmask16>(-1), (__m512)v, (__m512)whole);
#endif
    const Vu<W> half = (Vu<W>)((Vi<W>)n >> 1);  // in two factors: 2^128 and 2^-150 are no floats
    return v * pow2<W>(half) * pow2<W>(n - half);
}

template <int W>
FC_INLINE Vf<W> vexp(Vf<W> x) {
    Vf<W> r, whole;
    const Vu<W> n = reduce_exp<W>(clamp<W>(x, -104.0f, 89.0f), &r, &whole);
    return times_pow2<W>(expm1_polynomial<W>(r) + splat<W>(1.0f), n, whole);
}

// exp(x) - 1 for x <= 0, without the cancellation; -0 stays -0.
template <int W>
FC_INLINE Vf<W> vexpm1_negative(Vf<W> x) {
    Vf<W> r, whole;
    const Vu<W> n = reduce_exp<W>(clamp<W>(x, -80.0f, 0.0f), &r, &whole);
    const Vf<W> scale = pow2<W>(n);
    return with_sign_of<W>(mul_add<W>(expm1_polynomial<W>(r), scale, scale - splat<W>(1.0f)), x);
}

// Denormal arguments count as zero, as they do during a run.
template <int W>
FC_INLINE Vf<W> vlog(Vf<W> x) {
    const Vu<W> bits = (Vu<W>)x;
    Vf<W> m = (Vf<W>)((bits & 0x007fffffu) | 0x3f000000u);  // [0.5, 1)
    Vf<W> e = __builtin_convertvector((Vi<W>)(bits >> 23) - 126, Vf<W>);
    const Vi<W> small = m < splat<W>(0.707106781f);
    e = small ? e - 1.0f : e;
    m = (small ? m + m : m) - 1.0f;
    const Vf<W> z = m * m;
    Vf<W> p = splat<W>(7.0376836292e-2f);
    p = mul_add<W>(p, m, splat<W>(-1.1514610310e-1f));
    p = mul_add<W>(p, m, splat<W>(1.1676998740e-1f));
    p = mul_add<W>(p, m, splat<W>(-1.2420140846e-1f));
    p = mul_add<W>(p, m, splat<W>(1.4249322787e-1f));
    p = mul_add<W>(p, m, splat<W>(-1.6668057665e-1f));
    p = mul_add<W>(p, m, splat<W>(2.0000714765e-1f));
    p = mul_add<W>(p, m, splat<W>(-2.4999993993e-1f));
    p = mul_add<W>(p, m, splat<W>(3.3333331174e-1f));
    Vf<W> y = mul_add<W>(e, splat<W>(kLn2Low), p * m * z);
    y = mul_add<W>(z, splat<W>(-0.5f), y);
    y = mul_add<W>(e, splat<W>(kLn2High), m + y);
    y = x == splat<W>(kInfinity) ? x : y;
    y = x < splat<W>(1.17549435e-38f) ? splat<W>(-kInfinity) : y;
    return x >= Vf<W>{} ? y : splat<W>(__builtin_nanf(""));
}

FC_INLINE float log_of(float x) { return vlog<4>(splat<4>(x))[0]; }

// 1 / (1 + exp(-x)); 3 units in the last place.
template <int W>
FC_INLINE Vf<W> vsigmoid(Vf<W> x) {
    return 1.0f / (1.0f + vexp<W>(-x));
}

template <int W>
FC_INLINE Vf<W> vtanh(Vf<W> x) {
    const Vf<W> a = vabs<W>(x), z = x * x;
    Vf<W> p = splat<W>(-5.70498872745e-3f);
    p = mul_add<W>(p, z, splat<W>(2.06390887954e-2f));
    p = mul_add<W>(p, z, splat<W>(-5.37397155531e-2f));
    p = mul_add<W>(p, z, splat<W>(1.33314422036e-1f));
    p = mul_add<W>(p, z, splat<W>(-3.33332819422e-1f));
    const Vf<W> near = mul_add<W>(p * z, x, x);
    const Vf<W> far = 1.0f - 2.0f / (vexp<W>(a + a) + 1.0f);
    return with_sign_of<W>(a < splat<W>(0.625f) ? near : far, x);  // of -0, too
}

// The normal distribution's cumulative function, (1 + erf(x / sqrt(2))) / 2, within 1e-7. erf(u) is u * P(u^2) below 1
// and 1 - exp(-Q(u)) up to 4, where it is 1 to rounding; P and Q are minimax fits (errors 1.2e-9 and 2e-11).
template <int W>
FC_INLINE Vf<W> vnormal_cdf(Vf<W> x) {
    const Vf<W> u = vabs<W>(x) * 0.707106781f, z = u * u;
    Vf<W> p = splat<W>(7.889119532e-5f);
    p = mul_add<W>(p, z, splat<W>(-8.020841280e-4f));
    p = mul_add<W>(p, z, splat<W>(5.189535339e-3f));
    p = mul_add<W>(p, z, splat<W>(-2.685444459e-2f));
    p = mul_add<W>(p, z, splat<W>(1.128360018e-1f));
    p = mul_add<W>(p, z, splat<W>(-3.761262714e-1f));
    p = mul_add<W>(p, z, splat<W>(1.128379166f));
    Vf<W> q = splat<W>(2.169676553e-5f);
    q = mul_add<W>(q, u, splat<W>(-4.414626331e-4f));
    q = mul_add<W>(q, u, splat<W>(4.205235239e-3f));
    q = mul_add<W>(q, u, splat<W>(-2.521020676e-2f));
    q = mul_add<W>(q, u, splat<W>(1.084218897e-1f));
    q = mul_add<W>(q, u, splat<W>(6.332165916e-1f));
    q = mul_add<W>(q, u, splat<W>(1.129580213f));
    q = mul_add<W>(q, u, splat<W>(-1.884468379e-4f));
    Vf<W> tail = 0.5f * vexp<W>(-q);  // of the side away from 0
    tail = u < splat<W>(1.0f) ? 0.5f - 0.5f * (p * u) : tail;
    tail = u > splat<W>(4.0f) ? Vf<W>{} : tail;
    return x < Vf<W>{} ? tail : 1.0f - tail;
}

}  // namespace
}  // namespace
#endif
