// Filters of an image into another of its size, and what is done in place with positions: erasing, a factor per channel.
#ifndef FASTCONV_AUGMENT_FILTER_INL_H
#define FASTCONV_AUGMENT_FILTER_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// Along each side of the means of 3 x 3 pixels, the middle five times; pixels at the edge stay.
template <typename T>
FC_NOINLINE void sharpen_image(const Image<T>& m, const Image<T>& to, float factor) {
    constexpr int W = kWidth;
    memcpy(to.data, m.data, static_cast<size_t>(m.values()) * sizeof(T));
    if (m.H < 3 || m.W < 3) return;
    const int64_t down = m.W * m.P, P = m.P;
    const Vf<W> part = splat<W>(1.0f / 13.0f), share = splat<W>(1.0f - factor);
    for (int64_t h = 1; h + 1 < m.H; ++h) {
        const T* p = m.row(h) + P;
        T* out = to.row(h) + P;
        for (int64_t i = 0; i < (m.W - 2) * P; i += W) {  // what is written too far is mended below, or the next row's
            const T* q = p + i;
            const Vf<W> v = get<W>(q);
            Vf<W> sum = v * 5.0f;
            for (int64_t d = -1; d <= 1; ++d)
                for (int64_t e = -1; e <= 1; ++e)
                    if (d || e) sum = sum + get<W>(q + d * down + e * P);
            sum = sum * part;
            if (m.whole) sum = truncated<W>(sum + 0.5f);
            put<W>(out + i, within<W>(mul_add<W>(sum - v, share, v), Image<T>::top));
        }
        const int64_t last = (h + 1) * down - P;  // the row's last pixel
        memcpy(to.data + last, m.data + last, static_cast<size_t>(min64(W, m.values() - last)) * sizeof(T));
    }
}

// Separable: a row down the columns into `line`, which has room for it and both borders, then along it.
template <typename T>
FC_NOINLINE void blur_image(const Image<T>& m, const Image<T>& to, const float* p, float* line) {
    constexpr int W = kWidth;
    const int64_t ky = static_cast<int64_t>(p[0]), kx = static_cast<int64_t>(p[1]), P = m.P, length = m.W * P, side = kx / 2;
    const float *wy = p + 2, *wx = wy + ky;
    float* middle = line + side * P;
    for (int64_t h = 0; h < m.H; ++h) {
        for (int64_t i = 0; i < length; i += W) store<W>(middle + i, Vf<W>{});
        for (int64_t t = 0; t < ky; ++t) {
            const T* row = m.row(mirrored(h + t - ky / 2, m.H, 2));
            for (int64_t i = 0; i < length; i += W)
                store<W>(middle + i, mul_add<W>(splat<W>(wy[t]), get<W>(row + i), load<W>(middle + i)));
        }
        for (int64_t w = 1; w <= side; ++w) {
            memcpy(middle - w * P, middle + mirrored(-w, m.W, 2) * P, static_cast<size_t>(P) * 4);
            memcpy(middle + (m.W - 1 + w) * P, middle + mirrored(m.W - 1 + w, m.W, 2) * P, static_cast<size_t>(P) * 4);
        }
        for (int64_t i = 0; i < length; i += W) {
            Vf<W> sum{};
            for (int64_t t = 0; t < kx; ++t) sum = mul_add<W>(splat<W>(wx[t]), load<W>(line + i + t * P), sum);
            put_rounded<W>(to.row(h) + i, sum);
        }
    }
}

template <typename T>
FC_NOINLINE void erase_image(const Image<T>& m, const float* p) {
    const int64_t top = static_cast<int64_t>(p[0]), left = static_cast<int64_t>(p[1]);
    const int64_t bottom = min64(m.H, top + static_cast<int64_t>(p[2])), right = min64(m.W, left + static_cast<int64_t>(p[3]));
    const int64_t first = max64(0, left);
    for (int64_t h = max64(0, top); h < bottom; ++h) {
        T* pixel = m.row(h) + first * m.P;
        if (m.P == 4) {
            T one[4] = {};
            for (int64_t c = 0; c < m.C; ++c) put_value(one + c, p[4 + c]);
            for (int64_t w = first; w < right; ++w, pixel += 4) memcpy(pixel, one, sizeof one);
            continue;
        }
        for (int64_t w = first; w < right; ++w, pixel += m.P)
            for (int64_t c = 0; c < m.C; ++c) put_value(pixel + c, p[4 + c]);
    }
}

FC_NOINLINE inline void scale_image(const Image<float>& m, const float* p) {
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
