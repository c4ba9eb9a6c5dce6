// Filters of an image into another of its size, and what is done in place with positions: erasing, a factor per channel.
#ifndef FASTCONV_AUGMENT_FILTER_INL_H
#define FASTCONV_AUGMENT_FILTER_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// Along each side of the means of 3 x 3 pixels, the middle five times; pixels at the edge stay.
FC_NOINLINE inline void sharpen_image(const Image& m, const Image& to, float factor) {
    constexpr int W = kWidth;
    memcpy(to.data, m.data, static_cast<size_t>(m.values()) * 4);
    if (m.H < 3 || m.W < 3) return;
    const int64_t down = m.W * m.P, P = m.P;
    const Vf<W> part = splat<W>(1.0f / 13.0f), share = splat<W>(1.0f - factor);
    for (int64_t h = 1; h + 1 < m.H; ++h) {
        const float* p = m.row(h) + P;
        float* out = to.row(h) + P;
        for (int64_t i = 0; i < (m.W - 2) * P; i += W) {
            const int n = static_cast<int>(min64(W, (m.W - 2) * P - i));
            const float* q = p + i;
            Vf<W> sum = load_n<W>(q, n) * 5.0f;
            for (int64_t d = -1; d <= 1; ++d)
                for (int64_t e = -1; e <= 1; ++e)
                    if (d || e) sum = sum + load_n<W>(q + d * down + e * P, n);
            sum = sum * part;
            if (m.whole) sum = truncated<W>(sum + 0.5f);
            const Vf<W> v = load_n<W>(q, n);
            store_n<W>(out + i, settled<W>(mul_add<W>(sum - v, share, v), m.top, m.whole), n);
        }
    }
}

// Separable: down the columns into `to`, then along the rows back. `line` has room for a row and both borders.
FC_NOINLINE inline void blur_image(const Image& m, const Image& to, const float* p, float* line) {
    constexpr int W = kWidth;
    const int64_t ky = static_cast<int64_t>(p[0]), kx = static_cast<int64_t>(p[1]), P = m.P, length = m.W * P;
    const float *wy = p + 2, *wx = wy + ky;
    for (int64_t h = 0; h < m.H; ++h)
        for (int64_t i = 0; i < length; i += W) {
            const int n = static_cast<int>(min64(W, length - i));
            Vf<W> sum{};
            for (int64_t t = 0; t < ky; ++t)
                sum = mul_add<W>(splat<W>(wy[t]), load_n<W>(m.row(mirrored(h + t - ky / 2, m.H, 2)) + i, n), sum);
            store_n<W>(to.row(h) + i, sum, n);
        }
    for (int64_t h = 0; h < m.H; ++h) {
        for (int64_t w = -(kx / 2); w < m.W + kx / 2; ++w)
            memcpy(line + (w + kx / 2) * P, to.row(h) + mirrored(w, m.W, 2) * P, static_cast<size_t>(P) * 4);
        for (int64_t i = 0; i < length; i += W) {
            const int n = static_cast<int>(min64(W, length - i));
            Vf<W> sum{};
            for (int64_t t = 0; t < kx; ++t) sum = mul_add<W>(splat<W>(wx[t]), load_n<W>(line + i + t * P, n), sum);
            store_n<W>(m.row(h) + i, m.whole ? settled<W>(sum + 0.5f, m.top, true) : sum, n);
        }
    }
}

FC_NOINLINE inline void erase_image(const Image& m, const float* p) {
    const int64_t top = static_cast<int64_t>(p[0]), left = static_cast<int64_t>(p[1]);
    const int64_t bottom = min64(m.H, top + static_cast<int64_t>(p[2])), right = min64(m.W, left + static_cast<int64_t>(p[3]));
    for (int64_t h = max64(0, top); h < bottom; ++h)
        for (int64_t w = max64(0, left); w < right; ++w)
            for (int64_t c = 0; c < m.C; ++c) m.row(h)[w * m.P + c] = p[4 + c];
}

FC_NOINLINE inline void scale_image(const Image& m, const float* p) {
    if (m.P == 4) {
        Vf<4> a{}, b{};
        for (int64_t c = 0; c < m.C; ++c) {
            a[c] = p[c];
            b[c] = p[m.C + c];
        }
        for (int64_t i = 0; i < m.values(); i += 4) store<4>(m.data + i, mul_add<4>(load<4>(m.data + i), a, b));
    } else {
        for (int64_t i = 0; i < m.values(); i += m.P)
            for (int64_t c = 0; c < m.C; ++c) m.data[i + c] = m.data[i + c] * p[c] + p[m.C + c];
    }
}

}  // namespace
}  // namespace
#endif
