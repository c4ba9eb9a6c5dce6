// The Fourier transforms of the fft family: complex, mixed radix (2, 3, 4, 5, 8), self-sorting (Stockham: T. G. Stockham,
// "High-speed convolution and correlation", 1966; the passes are decimation in frequency).
//
// Every number is a vector of channels, so a butterfly is a butterfly on vectors and nothing is ever shuffled: a complex
// element is [kWidth real parts][kWidth imaginary parts]. A pass of radix R reads R elements that lie m * s apart,
// transforms them and writes them s apart:
//
//   y[q + s (R p + k)] = exp(-2 pi i p k / (R m)) * sum over j of x[q + s (p + m j)] exp(-2 pi i j k / R),  p < m, q < s
//
// The first pass reads and the last one writes with any stride (pixels of an image, columns of a tile, frequencies of a
// spectrum); what lies between rests in the first-level cache. Bound by that cache: 2 R loads and 2 R stores per
// butterfly of radix R, against its additions (2 per cycle) and multiplications (2 per cycle, other units).
#ifndef FASTCONV_FFT_INL_H
#define FASTCONV_FFT_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kPair = 2 * kWidth;  // floats of a complex element

typedef Vf<kWidth> V;

FC_INLINE V vload(const float* p) { return load<kWidth>(p); }
FC_INLINE void vstore(float* p, V v) { store<kWidth>(p, v); }

struct Cx {
    V re, im;
};

FC_INLINE Cx operator+(const Cx& a, const Cx& b) { return {a.re + b.re, a.im + b.im}; }
FC_INLINE Cx operator-(const Cx& a, const Cx& b) { return {a.re - b.re, a.im - b.im}; }
FC_INLINE Cx scaled(const Cx& a, V s) { return {a.re * s, a.im * s}; }
// a + b * s
FC_INLINE Cx scaled_add(const Cx& a, const Cx& b, V s) {
    return {mul_add<kWidth>(b.re, s, a.re), mul_add<kWidth>(b.im, s, a.im)};
}
// a times -i (forward) or i (inverse): a quarter of a turn in the transform's direction.
template <bool kInverse>
FC_INLINE Cx quarter(const Cx& a) {
    if constexpr (kInverse) {
        return {-a.im, a.re};
    } else {
        return {a.im, -a.re};
    }
}
// a times w, or times its conjugate in the inverse transform.
template <bool kInverse>
FC_INLINE Cx turned(const Cx& a, V wr, V wi) {
    if constexpr (kInverse) {
        return {mul_add<kWidth>(a.im, wi, a.re * wr), negated_mul_add<kWidth>(a.re, wi, a.im * wr)};
    } else {
        return {negated_mul_add<kWidth>(a.im, wi, a.re * wr), mul_add<kWidth>(a.re, wi, a.im * wr)};
    }
}

template <bool kInverse>
FC_INLINE void butterfly(Cx (&x)[2]) {
    const Cx a = x[0];
    x[0] = a + x[1];
    x[1] = a - x[1];
}

template <bool kInverse>
FC_INLINE void butterfly(Cx (&x)[3]) {
    const Cx sum = x[1] + x[2], turn = quarter<kInverse>(scaled(x[1] - x[2], splat<kWidth>(0.86602540378443864676f)));
    const Cx middle = scaled_add(x[0], sum, splat<kWidth>(-0.5f));
    x[0] = x[0] + sum;
    x[1] = middle + turn;
    x[2] = middle - turn;
}

template <bool kInverse>
FC_INLINE void butterfly(Cx (&x)[4]) {
    const Cx a = x[0] + x[2], b = x[0] - x[2], c = x[1] + x[3], d = quarter<kInverse>(x[1] - x[3]);
    x[0] = a + c;
    x[1] = b + d;
    x[2] = a - c;
    x[3] = b - d;
}

template <bool kInverse>
FC_INLINE void butterfly(Cx (&x)[5]) {
    const V c1 = splat<kWidth>(0.30901699437494742410f), c2 = splat<kWidth>(-0.80901699437494742410f);
    const V s1 = splat<kWidth>(0.95105651629515357212f), s2 = splat<kWidth>(0.58778525229247312917f);
    const Cx a = x[1] + x[4], b = x[2] + x[3], d = x[1] - x[4], e = x[2] - x[3];
    const Cx even1 = scaled_add(scaled_add(x[0], a, c1), b, c2), even2 = scaled_add(scaled_add(x[0], a, c2), b, c1);
    const Cx odd1 = quarter<kInverse>(scaled_add(scaled(d, s1), e, s2));
    const Cx odd2 = quarter<kInverse>(scaled_add(scaled(d, s2), e, -s1));
    x[0] = x[0] + (a + b);
    x[1] = even1 + odd1;
    x[2] = even2 + odd2;
    x[3] = even2 - odd2;
    x[4] = even1 - odd1;
}

template <bool kInverse>
FC_INLINE void butterfly(Cx (&x)[8]) {
    const V half = splat<kWidth>(0.70710678118654752440f);
    Cx a[4] = {x[0], x[2], x[4], x[6]}, b[4] = {x[1], x[3], x[5], x[7]};
    butterfly<kInverse>(a);
    butterfly<kInverse>(b);
    const Cx b1 = b[1] + quarter<kInverse>(b[1]), b3 = quarter<kInverse>(b[3]) - b[3];  // times sqrt(2) of an eighth turn
    const Cx b2 = quarter<kInverse>(b[2]);
    x[0] = a[0] + b[0];
    x[4] = a[0] - b[0];
    x[1] = scaled_add(a[1], b1, half);
    x[5] = scaled_add(a[1], b1, -half);
    x[2] = a[2] + b2;
    x[6] = a[2] - b2;
    x[3] = scaled_add(a[3], b3, half);
    x[7] = scaled_add(a[3], b3, -half);
}

// Element i of x is at x + i * xs, its imaginary parts xi further on; element i of y at y + i * ys.
template <int R, bool kInverse>
FC_NOINLINE void fft_pass(const float* x, int64_t xs, int64_t xi, float* y, int64_t ys, int64_t m, int64_t s,
                          const float* twiddle) {
    const int64_t far = m * s * xs;
    for (int64_t q = 0; q < s; ++q) {
        Cx e[R];
#pragma GCC unroll 8
        for (int j = 0; j < R; ++j) e[j] = {vload(x + q * xs + j * far), vload(x + q * xs + j * far + xi)};
        butterfly<kInverse>(e);
#pragma GCC unroll 8
        for (int j = 0; j < R; ++j) {
            vstore(y + (q + s * j) * ys, e[j].re);
            vstore(y + (q + s * j) * ys + kWidth, e[j].im);
        }
    }
    for (int64_t p = 1; p < m; ++p, twiddle += 2 * (R - 1)) {
        x += s * xs;
        y += s * R * ys;
        for (int64_t q = 0; q < s; ++q) {
            Cx e[R];
#pragma GCC unroll 8
            for (int j = 0; j < R; ++j) e[j] = {vload(x + q * xs + j * far), vload(x + q * xs + j * far + xi)};
            butterfly<kInverse>(e);
            vstore(y + q * ys, e[0].re);
            vstore(y + q * ys + kWidth, e[0].im);
#pragma GCC unroll 8
            for (int j = 1; j < R; ++j) {
                const Cx t = turned<kInverse>(e[j], splat<kWidth>(twiddle[2 * j - 2]), splat<kWidth>(twiddle[2 * j - 1]));
                vstore(y + (q + s * j) * ys, t.re);
                vstore(y + (q + s * j) * ys + kWidth, t.im);
            }
        }
    }
}

template <bool kInverse>
FC_INLINE void any_pass(int32_t radix, const float* x, int64_t xs, int64_t xi, float* y, int64_t ys, int64_t m, int64_t s,
                        const float* twiddle) {
    switch (radix) {
        case 2: return fft_pass<2, kInverse>(x, xs, xi, y, ys, m, s, twiddle);
        case 3: return fft_pass<3, kInverse>(x, xs, xi, y, ys, m, s, twiddle);
        case 4: return fft_pass<4, kInverse>(x, xs, xi, y, ys, m, s, twiddle);
        case 5: return fft_pass<5, kInverse>(x, xs, xi, y, ys, m, s, twiddle);
        default: return fft_pass<8, kInverse>(x, xs, xi, y, ys, m, s, twiddle);
    }
}

// A complex transform of n elements, the product of the axis' radices. y may be x. work: 2 * n complex elements.
template <bool kInverse>
FC_INLINE void fft_complex(const FftAxis& axis, int64_t n, const float* x, int64_t xs, int64_t xi, float* y, int64_t ys,
                           float* work) {
    const float* twiddle = axis.twiddle;
    float* other = work + n * kPair;
    int64_t m = n, s = 1;
    for (int64_t i = 0; i < axis.passes; ++i) {
        const int32_t radix = axis.radix[i];
        const bool last = i + 1 == axis.passes;
        m /= radix;
        any_pass<kInverse>(radix, x, xs, xi, last ? y : work, last ? ys : kPair, m, s, twiddle);
        twiddle += 2 * (m - 1) * (radix - 1);
        s *= radix;
        x = work;
        xs = kPair;
        xi = kWidth;
        work = other;
        other = const_cast<float*>(x);
    }
}

// A real transform of axis.size samples, of which even ones are the real and odd ones the imaginary parts of x: twice the
// spectrum, frequencies 0 .. size / 2. work: 3 * size / 2 complex elements.
FC_INLINE void fft_real(const FftAxis& axis, const float* x, int64_t xs, int64_t xi, float* y, int64_t ys, float* work) {
    const int64_t n = axis.size / 2;
    float* z = work + 2 * n * kPair;
    fft_complex<false>(axis, n, x, xs, xi, z, kPair, work);
    const V even = vload(z), odd = vload(z + kWidth), sum = even + odd, difference = even - odd;
    vstore(y, sum + sum);
    vstore(y + kWidth, V{});
    vstore(y + n * ys, difference + difference);
    vstore(y + n * ys + kWidth, V{});
    for (int64_t k = 1; 2 * k <= n; ++k) {
        const float *a = z + k * kPair, *b = z + (n - k) * kPair;
        const V ar = vload(a), ai = vload(a + kWidth), br = vload(b), bi = vload(b + kWidth);
        const Cx same = {ar + br, ai - bi}, turn = {ar - br, ai + bi};
        const V wr = splat<kWidth>(axis.split[2 * k]), wi = splat<kWidth>(axis.split[2 * k + 1]);
        const Cx d = quarter<true>(turned<false>(turn, wr, wi));
        vstore(y + k * ys, same.re - d.re);
        vstore(y + k * ys + kWidth, same.im - d.im);
        vstore(y + (n - k) * ys, same.re + d.re);
        vstore(y + (n - k) * ys + kWidth, -(same.im + d.im));
    }
}

// The inverse of fft_real up to the scale (size / 2 and its factor of 2): x has frequencies 0 .. size / 2, kPair apart;
// y gets `size` real vectors, one after the other. y may be x.
FC_INLINE void fft_real_inverse(const FftAxis& axis, const float* x, float* y, float* work) {
    const int64_t n = axis.size / 2;
    float* z = work + 2 * n * kPair;
    const V first = vload(x), last = vload(x + n * kPair);
    vstore(z, first + last);
    vstore(z + kWidth, first - last);
    for (int64_t k = 1; 2 * k <= n; ++k) {
        const float *a = x + k * kPair, *b = x + (n - k) * kPair;
        const V ar = vload(a), ai = vload(a + kWidth), br = vload(b), bi = vload(b + kWidth);
        const Cx same = {ar + br, ai - bi}, turn = {ar - br, ai + bi};
        const V wr = splat<kWidth>(axis.split[2 * k]), wi = splat<kWidth>(axis.split[2 * k + 1]);
        const Cx d = quarter<true>(turned<true>(turn, wr, wi));
        vstore(z + k * kPair, same.re + d.re);
        vstore(z + k * kPair + kWidth, same.im + d.im);
        vstore(z + (n - k) * kPair, same.re - d.re);
        vstore(z + (n - k) * kPair + kWidth, -(same.im - d.im));
    }
    fft_complex<true>(axis, n, z, kPair, kWidth, y, kPair, work);
}

}  // namespace
}  // namespace
#endif
