// What the instructions of map/map.def are written with, beside simd/math.inl.h and simd/math_double.inl.h.
#ifndef FASTCONV_MAP_FUNCTIONS_INL_H
#define FASTCONV_MAP_FUNCTIONS_INL_H

#include "fastconv/simd/math_double.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE V sp(float s) { return splat<kWidth>(s); }
FC_INLINE V fma(V a, V b, V c) { return mul_add<kWidth>(a, b, c); }
FC_INLINE V pick(Vi<kWidth> condition, V yes, V no) { return condition ? yes : no; }
FC_INLINE V truth(Vi<kWidth> condition) { return condition ? sp(1.0f) : V{}; }
FC_INLINE Vi<kWidth> is_nan(V x) { return x != x; }

// x, a zero of its sign where it is denormal: a product that the compiler cannot take away.
FC_INLINE V flush(V x) {
    V one = sp(1.0f);
#if defined(__AVX512F__)
    __asm__("" : "+v"(one));
#elif defined(__SSE2__)
    __asm__("" : "+x"(one));
#elif defined(__aarch64__)
    __asm__("" : "+w"(one));
#else
    __asm__("" : "+m"(one));
#endif
    return x * one;
}

// Rounding by 2^23, above which all floats are whole; -0 stays, a negative result that is 0 is -0.
FC_INLINE V vround(V x) {
    const V a = vabs<kWidth>(x), r = (a + 8388608.0f) - 8388608.0f;
    return with_sign_of<kWidth>(a < sp(8388608.0f) ? r : a, x);
}
FC_INLINE V vfloor(V x) {
    const V r = vround(x);
    return r > x ? r - 1.0f : r;
}
FC_INLINE V vceil(V x) {
    const V r = vround(x);
    return with_sign_of<kWidth>(vabs<kWidth>(r < x ? r + 1.0f : r), x);
}
FC_INLINE V vtrunc(V x) { return with_sign_of<kWidth>(vfloor(vabs<kWidth>(x)), x); }

// The next float towards z; denormal numbers do not exist here.
FC_INLINE V vnextafter(V x, V z) {
    const Vi<kWidth> bits = (Vi<kWidth>)x;
    const Vi<kWidth> away = (x > V{}) == (z > x);
    V y = (V)(away ? (Vi<kWidth>)((Vu<kWidth>)bits + 1u) : (Vi<kWidth>)((Vu<kWidth>)bits - 1u));
    y = x == V{} ? with_sign_of<kWidth>(sp(1.17549435e-38f), z) : y;
    y = x == z ? z : y;
    return x != x ? x : (z != z ? z : y);
}

FC_INLINE V vsilu_backward(V g, V z) {
    const V s = vsigmoid<kWidth>(z);
    return g * (s * fma(z, 1.0f - s, sp(1.0f)));
}
FC_INLINE V vgelu_backward(V g, V z) {  // cdf(z) + z * density(z)
    const V density = 0.398942280f * vexp<kWidth>(-0.5f * z * z);
    return g * fma(z, density, vnormal_cdf<kWidth>(z));
}
// Hendrycks and Gimpel (2016): x / 2 * (1 + tanh(u)) with u = sqrt(2 / pi) * (x + 0.044715 x^3).
FC_INLINE V gelu_inner(V x) { return 0.797884561f * x * fma(x * x, sp(0.044715f), sp(1.0f)); }
FC_INLINE V vgelu_tanh_backward(V g, V z) {
    const V s = vsigmoid<kWidth>(2.0f * gelu_inner(z)), slope = 1.595769122f * fma(z * z, sp(0.134145f), sp(1.0f));
    return g * fma(z * (s * (1.0f - s)), slope, s);
}

template <class F>
FC_INLINE V vbits(V x, V z, F f) {
    return __builtin_convertvector(f(__builtin_convertvector(x, Vi<kWidth>), __builtin_convertvector(z, Vi<kWidth>)), V);
}

}  // namespace
}  // namespace
#endif
