// Geometry: a projective or affine warp, a pixel of up to four channels per vector of four, coordinates a vector at a time; and
// antialiased resizing of a part (triangle, or cubic with a = -0.5), rows that are needed first along x, then along y.
#ifndef FASTCONV_AUGMENT_WARP_INL_H
#define FASTCONV_AUGMENT_WARP_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

struct Warp {
    int64_t mode, border;
    const float* fill;
};

FC_INLINE int64_t mirrored(int64_t i, int64_t size, int64_t border) {  // -1: outside
    if (i >= 0 && i < size) return i;
    if (border == 0) return -1;
    if (border == 1 || size == 1) return i < 0 ? 0 : size - 1;
    const int64_t period = border == 2 ? 2 * (size - 1) : 2 * size;
    i %= period;
    if (i < 0) i += period;
    return i < size ? i : border == 2 ? period - i : period - 1 - i;
}

FC_INLINE float warp_tap(const Image& m, const Warp& k, int64_t x, int64_t y, int64_t c) {
    const int64_t i = mirrored(x, m.W, k.border), j = mirrored(y, m.H, k.border);
    return i < 0 || j < 0 ? k.fill[c] : m.data[(j * m.W + i) * m.P + c];
}

FC_INLINE float cubic_weight(float d, float a) {
    d = d < 0 ? -d : d;
    return d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0.0f;
}

// Of the four pixels around a coordinate that lies `t` behind the second.
FC_INLINE Vf<4> cubic_weights(float t) {
    const float a = -0.75f, u = 1.0f - t, r = t + 1.0f, s = u + 1.0f;
    const Vf<4> w = {((a * r - 5 * a) * r + 8 * a) * r - 4 * a, ((a + 2) * t - (a + 3)) * t * t + 1.0f,
                     ((a + 2) * u - (a + 3)) * u * u + 1.0f, ((a * s - 5 * a) * s + 8 * a) * s - 4 * a};
    return w;
}

// A pixel anyhow.
FC_NOINLINE inline void warp_pixel(const Image& m, const Warp& k, int32_t x, int32_t y, float u, float v, float* to) {
    const int first = k.mode == 2 ? -1 : 0, last = k.mode == 2 ? 2 : k.mode;
    float wx[4] = {1.0f, 0, 0, 0}, wy[4] = {1.0f, 0, 0, 0};
    for (int i = first; i <= last && k.mode; ++i) {
        wx[i - first] = k.mode == 2 ? cubic_weight(u - static_cast<float>(i), -0.75f) : i ? u : 1.0f - u;
        wy[i - first] = k.mode == 2 ? cubic_weight(v - static_cast<float>(i), -0.75f) : i ? v : 1.0f - v;
    }
    for (int64_t c = 0; c < m.C; ++c) {
        float sum = 0;
        for (int j = first; j <= last; ++j)
            for (int i = first; i <= last; ++i) {
                const float w = wx[i - first] * wy[j - first];
                if (w != 0) sum += w * warp_tap(m, k, x + i, y + j, c);
            }
        to[c] = sum;
    }
}

// Whole numbers, where values are such: rounded.
template <int N>
FC_INLINE Vf<N> rounded(Vf<N> v, const Image& m) {
    return m.whole ? settled<N>(v + 0.5f, m.top, true) : v;
}

template <int P>
FC_INLINE void warp_row(const Image m, const Warp k, const int32_t* xs, const int32_t* ys, const float* us, const float* vs,
                        float* to, int64_t count) {
    const int64_t down = m.W * m.P, reach = k.mode == 1;
    const uint64_t last_x = static_cast<uint64_t>(max64(0, m.W - reach)), last_y = static_cast<uint64_t>(max64(0, m.H - reach));
    for (int64_t i = 0; i < count; ++i, to += P ? P : m.P) {
        const int64_t x = xs[i], y = ys[i];
        if (P == 4 && k.mode == 2 && x >= 1 && y >= 1 && x + 2 < m.W && y + 2 < m.H) {
            const float* p = m.data + ((y - 1) * m.W + x - 1) * 4;
            const Vf<4> wx = cubic_weights(us[i]), wy = cubic_weights(vs[i]);
            Vf<4> sum{};
            for (int j = 0; j < 4; ++j, p += down) {
                Vf<4> line = splat<4>(wx[0]) * load<4>(p);
                for (int l = 1; l < 4; ++l) line = mul_add<4>(splat<4>(wx[l]), load<4>(p + 4 * l), line);
                sum = mul_add<4>(splat<4>(wy[j]), line, sum);
            }
            store<4>(to, rounded<4>(sum, m));
            continue;
        }
        const bool inside = k.mode < 2 && static_cast<uint64_t>(x) < last_x && static_cast<uint64_t>(y) < last_y;
        if (!inside) {
            warp_pixel(m, k, xs[i], ys[i], us[i], vs[i], to);
            for (int64_t c = 0; m.whole && c < m.C; ++c) to[c] = settled1(to[c] + 0.5f, m.top, true);
            continue;
        }
        const float* p = m.data + y * down + x * (P ? P : m.P);
        if (P == 4) {
            if (!k.mode) {
                store<4>(to, load<4>(p));
                continue;
            }
            const Vf<4> a = load<4>(p), b = load<4>(p + 4), c = load<4>(p + down), d = load<4>(p + down + 4);
            const Vf<4> u = splat<4>(us[i]), v = splat<4>(vs[i]);
            const Vf<4> high = mul_add<4>(u, b - a, a), low = mul_add<4>(u, d - c, c);
            store<4>(to, rounded<4>(mul_add<4>(v, low - high, high), m));
        } else {
            for (int64_t c = 0; c < m.P; ++c) {
                if (!k.mode) {
                    to[c] = p[c];
                    continue;
                }
                const float high = p[c] + us[i] * (p[c + m.P] - p[c]);
                const float low = p[c + down] + us[i] * (p[c + down + m.P] - p[c + down]);
                const float s = high + vs[i] * (low - high);
                to[c] = m.whole ? settled1(s + 0.5f, m.top, true) : s;
            }
        }
    }
}

// to, whose size is set, from m.
FC_NOINLINE inline void warp_image(const Image m, const Image to, const float* p) {
    constexpr int W = kWidth, kChunk = 64;
    alignas(64) int32_t xs[kChunk], ys[kChunk];
    alignas(64) float us[kChunk], vs[kChunk];
    const Warp k = {static_cast<int64_t>(p[9]), static_cast<int64_t>(p[10]), p + 11};
    const bool flat = p[6] == 0 && p[7] == 0;
    Vf<W> ramp;
    for (int i = 0; i < W; ++i) ramp[i] = static_cast<float>(i) + 0.5f;
    const float half = k.mode ? 0.5f : 0.0f;  // nearest: the pixel in which the coordinate lies
    // beyond these nothing is read but the border, whose period a border of many images would need
    const float far_x = k.border > 1 ? 1e6f : static_cast<float>(m.W) + 3.0f;
    const float far_y = k.border > 1 ? 1e6f : static_cast<float>(m.H) + 3.0f;
    for (int64_t h = 0; h < to.H; ++h) {
        const float y = static_cast<float>(h) + 0.5f;
        for (int64_t w = 0; w < to.W; w += kChunk) {
            const int64_t count = min64(kChunk, to.W - w);
            for (int64_t i = 0; i < count; i += W) {
                const Vf<W> x = ramp + static_cast<float>(w + i);
                Vf<W> u = mul_add<W>(splat<W>(p[0]), x, splat<W>(p[1] * y + p[2]));
                Vf<W> v = mul_add<W>(splat<W>(p[3]), x, splat<W>(p[4] * y + p[5]));
                if (!flat) {
                    const Vf<W> z = mul_add<W>(splat<W>(p[6]), x, splat<W>(p[7] * y + p[8]));
                    u = u / z;
                    v = v / z;
                }
                u = vmin<W>(vmax<W>(u - half, splat<W>(k.border > 1 ? -1e6f : -4.0f)), splat<W>(far_x));  // NaN: far
                v = vmin<W>(vmax<W>(v - half, splat<W>(k.border > 1 ? -1e6f : -4.0f)), splat<W>(far_y));
                Vi<W> a = __builtin_convertvector(u, Vi<W>), b = __builtin_convertvector(v, Vi<W>);
                a += __builtin_convertvector(a, Vf<W>) > u;  // a mask of -1
                b += __builtin_convertvector(b, Vf<W>) > v;
                store<W>(xs + i, a);
                store<W>(ys + i, b);
                store<W>(us + i, u - __builtin_convertvector(a, Vf<W>));
                store<W>(vs + i, v - __builtin_convertvector(b, Vf<W>));
            }
            float* row = to.row(h) + w * to.P;
            if (m.P == 4) {
                warp_row<4>(m, k, xs, ys, us, vs, row, count);
            } else {
                warp_row<0>(m, k, xs, ys, us, vs, row, count);
            }
        }
    }
}

// ---- antialiased ----------------------------------------------------------------------------------------------------

struct Span {
    int64_t first, count;
};

// The taps of output `o` of `out` over [begin, begin + extent) of `size` inputs, which end at the part: weights, normalised.
FC_INLINE Span resize_taps(int64_t o, int64_t out, float begin, float extent, int64_t size, bool cubic, float* weight,
                           int64_t most) {
    const float scale = extent / static_cast<float>(out), wide = scale > 1.0f ? scale : 1.0f;
    const float support = (cubic ? 2.0f : 1.0f) * wide, center = begin + (static_cast<float>(o) + 0.5f) * scale;
    const int64_t edge0 = max64(0, static_cast<int64_t>(begin)), edge1 = min64(size, static_cast<int64_t>(begin + extent));
    const int64_t low = max64(edge0, static_cast<int64_t>(__builtin_floorf(center - support + 0.5f)));
    const int64_t high = min64(edge1, static_cast<int64_t>(__builtin_floorf(center + support + 0.5f)));
    const int64_t count = min64(most, high - low);
    if (count < 1) {
        weight[0] = 1.0f;
        return {min64(size - 1, max64(0, static_cast<int64_t>(center))), 1};
    }
    float sum = 0;
    for (int64_t i = 0; i < count; ++i) {
        float d = (static_cast<float>(low + i) + 0.5f - center) / wide;
        d = d < 0 ? -d : d;
        weight[i] = cubic ? cubic_weight(d, -0.5f) : d < 1.0f ? 1.0f - d : 0.0f;
        sum += weight[i];
    }
    for (int64_t i = 0; i < count; ++i) weight[i] = sum != 0 ? weight[i] / sum : 1.0f / static_cast<float>(count);
    return {low, count};
}

// to, whose size is set, from a part of m. `lines` has room for a row of m's width, and the taps of every column.
FC_NOINLINE inline void resize_image(const Image m, const Image to, const float* p, float* lines, int64_t most) {
    constexpr int W = kWidth;
    const bool cubic = p[4] != 0;
    float *line = lines, *weights = lines + (m.W * m.P + 2 * W), *wy = weights + to.W * most;
    Span* spans = reinterpret_cast<Span*>(lines + (m.W * m.P + 2 * W + (to.W + 1) * most + 1) / 2 * 2);
    for (int64_t w = 0; w < to.W; ++w) spans[w] = resize_taps(w, to.W, p[1], p[3], m.W, cubic, weights + w * most, most);
    const int64_t from_x = spans[0].first * m.P, until_x = (spans[to.W - 1].first + spans[to.W - 1].count) * m.P;
    for (int64_t h = 0; h < to.H; ++h) {
        const Span rows = resize_taps(h, to.H, p[0], p[2], m.H, cubic, wy, most);
        for (int64_t i = from_x / W * W; i < until_x; i += W) {
            Vf<W> sum{};
            for (int64_t r = 0; r < rows.count; ++r)
                sum = mul_add<W>(splat<W>(wy[r]), load<W>(m.row(rows.first + r) + i), sum);
            store<W>(line + i, sum);
        }
        float* out = to.row(h);
        for (int64_t w = 0; w < to.W; ++w, out += to.P) {
            const float *from = line + spans[w].first * m.P, *k = weights + w * most;
            if (m.P == 4) {
                Vf<4> sum{};
                for (int64_t t = 0; t < spans[w].count; ++t) sum = mul_add<4>(splat<4>(k[t]), load<4>(from + 4 * t), sum);
                store<4>(out, rounded<4>(sum, m));
            } else {
                for (int64_t c = 0; c < m.P; ++c) {
                    float sum = 0;
                    for (int64_t t = 0; t < spans[w].count; ++t) sum += k[t] * from[t * m.P + c];
                    out[c] = m.whole ? settled1(sum + 0.5f, m.top, true) : sum;
                }
            }
        }
    }
}

}  // namespace
}  // namespace
#endif
