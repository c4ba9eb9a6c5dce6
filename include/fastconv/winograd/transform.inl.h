// The one-dimensional Winograd transforms, over vectors of channels; a 2-D tile is these along its columns, then its rows.
//
// F(m, 3) gives m outputs of a correlation with 3 taps by e = m + 2 products (Lavin and Gray, "Fast Algorithms for
// Convolutional Neural Networks", 2016; the construction is Toom and Cook's): y = A^T [(G g) * (B^T d)]. The points are 0, +-1 and
// infinity for F(2, 3), and 0, +-a, +-b and infinity for F(4, 3). With a = 5/8, b = 3/2 the error of F(4x4) is half of that with
// Lavin and Gray's 1 and 2 (measured, docs/convolution/winograd.md), and every coefficient below is exact in float32.
// All scaling is in G, whose arithmetic is in double precision and done once per weight.
//
//   B^T (rows 0, +a, -a, +b, -b, infinity)            A^T
//    a2b2    0   -(a2+b2)   0      1   0               1  1   1   1   1   0
//     0   -a b2    -b2      a      1   0               0  a  -a   b  -b   0
//     0    a b2    -b2     -a      1   0               0  a2  a2  b2  b2  0
//     0   -b a2    -a2      b      1   0               0  a3 -a3  b3 -b3  1
//     0    b a2    -a2     -b      1   0
//     0    a2b2     0   -(a2+b2)   0   1
//
// The gradient of the weights is the adjoint: dg = G^T [(A gy) * (B^T x)].
#ifndef FASTCONV_WINOGRAD_TRANSFORM_INL_H
#define FASTCONV_WINOGRAD_TRANSFORM_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

template <int W>
struct Doubles {
    typedef double D __attribute__((vector_size(W * 8)));
    typedef float F __attribute__((vector_size(W * 4), may_alias, aligned(4)));
};

template <int W>
FC_INLINE Vf<W> scaled_add(float s, Vf<W> a, Vf<W> b) {
    return mul_add<W>(splat<W>(s), a, b);
}

// M outputs of a tile along one dimension; M = 1 is a dimension without taps.
template <int M>
struct Winograd1;

template <>
struct Winograd1<1> {
    static constexpr int kElements = 1, kTaps = 1;
    static constexpr double kG[1][1] = {{1}};
    template <int W>
    static FC_INLINE void input(const Vf<W>* d, Vf<W>* r) {
        r[0] = d[0];
    }
    template <int W>
    static FC_INLINE void output(const Vf<W>* m, Vf<W>* y) {
        y[0] = m[0];
    }
    template <int W>
    static FC_INLINE void gradient(const Vf<W>* g, Vf<W>* r) {
        r[0] = g[0];
    }
};

template <>
struct Winograd1<2> {
    static constexpr int kElements = 4, kTaps = 3;
    static constexpr double kG[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
    template <int W>
    static FC_INLINE void input(const Vf<W>* d, Vf<W>* r) {
        r[0] = d[0] - d[2];
        r[1] = d[1] + d[2];
        r[2] = d[2] - d[1];
        r[3] = d[3] - d[1];
    }
    template <int W>
    static FC_INLINE void output(const Vf<W>* m, Vf<W>* y) {
        y[0] = m[0] + (m[1] + m[2]);
        y[1] = (m[1] - m[2]) + m[3];
    }
    template <int W>
    static FC_INLINE void gradient(const Vf<W>* g, Vf<W>* r) {
        r[0] = g[0];
        r[1] = g[0] + g[1];
        r[2] = g[0] - g[1];
        r[3] = g[1];
    }
};

template <>
struct Winograd1<4> {
    static constexpr int kElements = 6, kTaps = 3;
    static constexpr double a = 0.625, b = 1.5, a2 = a * a, b2 = b * b, na = 2 * a2 * (a2 - b2), nb = 2 * b2 * (b2 - a2);
    static constexpr double kG[6][3] = {{1 / (a2 * b2), 0, 0},         {1 / na, a / na, a2 / na}, {1 / na, -a / na, a2 / na},
                                        {1 / nb, b / nb, b2 / nb},     {1 / nb, -b / nb, b2 / nb}, {0, 0, 1}};
    static constexpr float fa = static_cast<float>(a), fb = static_cast<float>(b), fa2 = static_cast<float>(a2),
                           fb2 = static_cast<float>(b2), fab = static_cast<float>(a2 * b2),
                           fsum = static_cast<float>(a2 + b2);
    template <int W>
    static FC_INLINE void input(const Vf<W>* d, Vf<W>* r) {
        const Vf<W> ea = scaled_add<W>(-fb2, d[2], d[4]), oa = scaled_add<W>(-fb2, d[1], d[3]);
        const Vf<W> eb = scaled_add<W>(-fa2, d[2], d[4]), ob = scaled_add<W>(-fa2, d[1], d[3]);
        r[0] = scaled_add<W>(fab, d[0], scaled_add<W>(-fsum, d[2], d[4]));
        r[1] = scaled_add<W>(fa, oa, ea);
        r[2] = scaled_add<W>(-fa, oa, ea);
        r[3] = scaled_add<W>(fb, ob, eb);
        r[4] = scaled_add<W>(-fb, ob, eb);
        r[5] = scaled_add<W>(fab, d[1], scaled_add<W>(-fsum, d[3], d[5]));
    }
    template <int W>
    static FC_INLINE void output(const Vf<W>* m, Vf<W>* y) {
        const Vf<W> sa = m[1] + m[2], da = (m[1] - m[2]) * fa, sb = m[3] + m[4], db = (m[3] - m[4]) * fb;
        y[0] = m[0] + (sa + sb);
        y[1] = da + db;
        y[2] = scaled_add<W>(fa2, sa, sb * fb2);
        y[3] = scaled_add<W>(fa2, da, scaled_add<W>(fb2, db, m[5]));
    }
    template <int W>
    static FC_INLINE void gradient(const Vf<W>* g, Vf<W>* r) {
        const Vf<W> ea = scaled_add<W>(fa2, g[2], g[0]), oa = scaled_add<W>(fa2, g[3], g[1]);
        const Vf<W> eb = scaled_add<W>(fb2, g[2], g[0]), ob = scaled_add<W>(fb2, g[3], g[1]);
        r[0] = g[0];
        r[1] = scaled_add<W>(fa, oa, ea);
        r[2] = scaled_add<W>(-fa, oa, ea);
        r[3] = scaled_add<W>(fb, ob, eb);
        r[4] = scaled_add<W>(-fb, ob, eb);
        r[5] = g[3];
    }
};

// B^T d B of one vector of channels: element (i, j) goes to v + (i * kElements + j) * plane. `at(r, s)` is a vector of the input.
template <int MH, int MW, class At>
FC_INLINE void transform_input(At at, float* v, int64_t plane) {
    constexpr int W = kWidth, EH = Winograd1<MH>::kElements, EW = Winograd1<MW>::kElements;
    Vf<W> t[EH][EW];
#pragma GCC unroll 8
    for (int s = 0; s < EW; ++s) {
        Vf<W> d[EH], r[EH];
#pragma GCC unroll 8
        for (int i = 0; i < EH; ++i) d[i] = at(i, s);
        Winograd1<MH>::template input<W>(d, r);
#pragma GCC unroll 8
        for (int i = 0; i < EH; ++i) t[i][s] = r[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < EH; ++i) {
        Vf<W> r[EW];
        Winograd1<MW>::template input<W>(t[i], r);
#pragma GCC unroll 8
        for (int s = 0; s < EW; ++s) store<W>(v + (i * EW + s) * plane, r[s]);
    }
}

// A^T m A of one vector of filters.
template <int MH, int MW>
FC_INLINE void transform_output(const float* m, int64_t plane, Vf<kWidth> (&y)[MH][MW]) {
    constexpr int W = kWidth, EH = Winograd1<MH>::kElements, EW = Winograd1<MW>::kElements;
    Vf<W> t[MH][EW];
#pragma GCC unroll 8
    for (int s = 0; s < EW; ++s) {
        Vf<W> d[EH], r[MH];
#pragma GCC unroll 8
        for (int i = 0; i < EH; ++i) d[i] = load<W>(m + (i * EW + s) * plane);
        Winograd1<MH>::template output<W>(d, r);
#pragma GCC unroll 8
        for (int i = 0; i < MH; ++i) t[i][s] = r[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < MH; ++i) Winograd1<MW>::template output<W>(t[i], y[i]);
}

// A gy A^T of one vector of filters.
template <int MH, int MW, class At>
FC_INLINE void transform_gradient(At at, float* w, int64_t plane) {
    constexpr int W = kWidth, EH = Winograd1<MH>::kElements, EW = Winograd1<MW>::kElements;
    Vf<W> t[EH][MW];
#pragma GCC unroll 8
    for (int s = 0; s < MW; ++s) {
        Vf<W> g[MH], r[EH];
#pragma GCC unroll 8
        for (int i = 0; i < MH; ++i) g[i] = at(i, s);
        Winograd1<MH>::template gradient<W>(g, r);
#pragma GCC unroll 8
        for (int i = 0; i < EH; ++i) t[i][s] = r[i];
    }
#pragma GCC unroll 8
    for (int i = 0; i < EH; ++i) {
        Vf<W> r[EW];
        Winograd1<MW>::template gradient<W>(t[i], r);
#pragma GCC unroll 8
        for (int s = 0; s < EW; ++s) store<W>(w + (i * EW + s) * plane, r[s]);
    }
}

// All channels of one tile (at one tap along the depth) to V.
template <int MH, int MW>
FC_NOINLINE void winograd_input(const float* const* px, int64_t C, float* v, int64_t step, int64_t plane) {
    constexpr int EW = Winograd1<MW>::kElements;
    int64_t c = 0;
    for (; c + kWidth <= C; c += kWidth, v += step)
        transform_input<MH, MW>([&](int i, int s) { return load<kWidth>(px[i * EW + s] + c); }, v, plane);
    if (c < C) {
        const int n = static_cast<int>(C - c);
        transform_input<MH, MW>([&](int i, int s) { return Ops<kWidth>::load_n(px[i * EW + s] + c, n); }, v, plane);
    }
}

}  // namespace
}  // namespace
#endif
