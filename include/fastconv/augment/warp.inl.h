// Geometry: a projective or affine warp, coordinates a vector at a time, the pixels around 64 of them gathered, then weighed by
// vectors; and antialiased resizing of a part (triangle, or cubic with a = -0.5), rows that are needed first along y, then along x.
#ifndef FASTCONV_AUGMENT_WARP_INL_H
#define FASTCONV_AUGMENT_WARP_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kWarpChunk = 64;

template <typename T>
struct Warp {
    Image<T> from;
    int64_t mode, border;
    const T* fill;  // a pixel
    const int32_t *x, *y;
    const int32_t* at;   // of the first pixel that is read, where all of them are inside; else -1
    const float *u, *v;  // how far behind (x, y)
};

FC_NOINLINE inline float cubic_weight(float d, float a) {
    d = d < 0 ? -d : d;
    return d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0.0f;
}

// Of the four pixels around each of four coordinates that lie `t` behind the second: four weights of each, one after another.
FC_NOINLINE inline void cubic_weights(Vf<4> t, float* to) {
    const float a = -0.75f;
    const Vf<4> u = 1.0f - t, r = t + 1.0f, s = u + 1.0f;
    Vf<4> w[4] = {((a * r - 5 * a) * r + 8 * a) * r - 4 * a, ((a + 2) * t - (a + 3)) * t * t + 1.0f,
                  ((a + 2) * u - (a + 3)) * u * u + 1.0f, ((a * s - 5 * a) * s + 8 * a) * s - 4 * a};
    turn_four(w);
    for (int i = 0; i < 4; ++i) store<4>(to + 4 * i, w[i]);
}

// A pixel that may lie outside.
template <typename T>
FC_NOINLINE const T* warp_tap(const Warp<T>& k, int64_t x, int64_t y) {
    const int64_t i = mirrored(x, k.from.W, k.border), j = mirrored(y, k.from.H, k.border);
    return i < 0 || j < 0 ? k.fill : k.from.data + (j * k.from.W + i) * k.from.P;
}
// N values of p on, each for all values of a pixel.
template <int P>
FC_INLINE Vf<kWidth> each_value(const float* p) {
    if constexpr (P == 1) return load<kWidth>(p);
    if constexpr (kWidth == 4) return splat<kWidth>(*p);
    return permute<kWidth>(load<kWidth>(p), load<kWidth>(kPixels));
}

template <int P, typename T>
FC_NOINLINE void warp_nearest(const Warp<T>& k, T* to, int count) {
    const int32_t* at = k.at;
    const T *data = k.from.data, *fill = k.fill;
    int done = 0;
#if defined(__AVX512F__)
    if constexpr (P * sizeof(T) == 4) {  // what is behind the last is another chunk's, or room
        int32_t one;
        memcpy(&one, fill, 4);
        for (; done < count; done += 16) {
            const __m512i from = _mm512_loadu_si512(at + done);
            const __mmask16 inside = _mm512_cmpge_epi32_mask(from, _mm512_setzero_si512());
            _mm512_storeu_si512(to + done * P, _mm512_mask_i32gather_epi32(_mm512_set1_epi32(one), inside, from, data, 4));
        }
    }
#endif
    for (int i = done; i < count; ++i) {
        const T* p = at[i] >= 0 ? data + static_cast<int64_t>(at[i]) * P : fill;
        memcpy(to + i * P, p, P * sizeof(T));
    }
    for (int i = 0; k.border && i < count; ++i)
        if (at[i] < 0) memcpy(to + i * P, warp_tap(k, k.x[i], k.y[i]), P * sizeof(T));
}

// P values to a pixel; bicubic of four alone.
template <int P, typename T>
FC_NOINLINE void warp_few(const Warp<T>& k, T* to, int count) {
    constexpr int W = kWidth, kValues = kWarpChunk * P;
    const int64_t down = k.from.W * P;
    alignas(64) T taps[4][kValues];
    if (P == 4 && k.mode == 2) {
        alignas(64) float wx[4 * kWarpChunk + W], wy[4 * kWarpChunk];
        alignas(64) T around[16 * P];
        for (int i = 0; i < count; i += 4) {
            cubic_weights(load<4>(k.u + i), wx + 4 * i);
            cubic_weights(load<4>(k.v + i), wy + 4 * i);
        }
        for (int i = 0; i < count; ++i, to += P) {
            const T* p = around;
            int64_t step = 4 * P;
            if (k.at[i] >= 0) {
                p = k.from.data + static_cast<int64_t>(k.at[i]) * P;
                step = down;
            } else {
                for (int t = 0; t < 16; ++t)
                    memcpy(around + t * P, warp_tap(k, k.x[i] - 1 + t % 4, k.y[i] - 1 + t / 4), P * sizeof(T));
            }
            Vf<W> total{};
            for (int g = 0; g < 4 * P; g += W) {
                Vf<W> sum{};
                for (int j = 0; j < 4; ++j) sum = mul_add<W>(splat<W>(wy[4 * i + j]), get<W>(p + j * step + g), sum);
                total = mul_add<W>(sum, each_value<P>(wx + 4 * i + g / P), total);
            }
            Vf<4> parts[W / 4], sum;
            memcpy(parts, &total, sizeof total);
            sum = parts[0];
            for (int g = 1; g < W / 4; ++g) sum = sum + parts[g];
            put_rounded<4>(to, sum);
        }
        return;
    }
    const T* data = k.from.data;
    for (int i = 0; i < count; ++i) {
        const int64_t at = k.at[i];
        if (at >= 0) {
            const T* p = data + at * P;
            memcpy(taps[0] + i * P, p, P * sizeof(T));
            memcpy(taps[1] + i * P, p + P, P * sizeof(T));
            memcpy(taps[2] + i * P, p + down, P * sizeof(T));
            memcpy(taps[3] + i * P, p + down + P, P * sizeof(T));
        } else {
            for (int t = 0; t < 4; ++t)
                memcpy(taps[t] + i * P, warp_tap(k, k.x[i] + (t & 1), k.y[i] + t / 2), P * sizeof(T));
        }
    }
    for (int i = 0; i < count * P; i += W) {  // what is behind the last is another chunk's, or room
        const Vf<W> a = get<W>(taps[0] + i), b = get<W>(taps[1] + i), c = get<W>(taps[2] + i), d = get<W>(taps[3] + i);
        const Vf<W> u = each_value<P>(k.u + i / P), v = each_value<P>(k.v + i / P);
        const Vf<W> high = mul_add<W>(u, b - a, a), low = mul_add<W>(u, d - c, c);
        put_rounded<W>(to + i, mul_add<W>(v, low - high, high));
    }
}

// Pixels of more.
template <typename T>
FC_NOINLINE void warp_many(const Warp<T>& k, T* to, int count) {
    const int first = k.mode == 2 ? -1 : 0, reach = k.mode == 2 ? 4 : static_cast<int>(k.mode) + 1;
    for (int i = 0; i < count; ++i) {
        float wx[4], wy[4];
        for (int t = 0; t < reach; ++t) {
            const float at = static_cast<float>(t + first);
            wx[t] = k.mode == 2 ? cubic_weight(k.u[i] - at, -0.75f) : !k.mode ? 1.0f : t ? k.u[i] : 1.0f - k.u[i];
            wy[t] = k.mode == 2 ? cubic_weight(k.v[i] - at, -0.75f) : !k.mode ? 1.0f : t ? k.v[i] : 1.0f - k.v[i];
        }
        const T* taps[16];
        for (int t = 0; t < reach * reach; ++t) taps[t] = warp_tap(k, k.x[i] + first + t % reach, k.y[i] + first + t / reach);
        for (int64_t c = 0; c < k.from.P; ++c, ++to) {
            float sum = 0;
            for (int t = 0; t < reach * reach; ++t) {
                const float w = wx[t % reach] * wy[t / reach];
                if (w != 0) sum += w * static_cast<float>(taps[t][c]);
            }
            put_value(to, sum);
        }
    }
}

// Whether a warp takes pixels as they are: then from where. p: a matrix, mode, border, fill.
FC_NOINLINE inline bool moves_only(const float* p, int64_t H, int64_t W, Move* move) {
    const float limit = 1e6f, x = p[2], y = p[5];
    if ((p[0] != 1 && p[0] != -1) || p[1] != 0 || p[3] != 0 || (p[4] != 1 && p[4] != -1) || p[6] != 0 || p[7] != 0 || p[8] != 1)
        return false;
    if (!(x > -limit && x < limit && y > -limit && y < limit)) return false;
    const int64_t left = static_cast<int64_t>(x), top = static_cast<int64_t>(y);
    if (static_cast<float>(left) != x || static_cast<float>(top) != y) return false;
    *move = {H, W, top - (p[4] < 0), left - (p[0] < 0), static_cast<int64_t>(p[4]), static_cast<int64_t>(p[0]),
             static_cast<int64_t>(p[10]), p + 11};
    return true;
}

// Where `count` pixels from (h, w) on come from in an image of H x W pixels (see Warp).
FC_NOINLINE inline void warp_coordinates(const float* p, int64_t H, int64_t W, int64_t h, int64_t w, int64_t count, int32_t* xs,
                                         int32_t* ys, int32_t* at, float* us, float* vs) {
    constexpr int N = kWidth;
    const int before = p[9] == 2, reach = p[9] == 2 ? 3 : p[9] == 1;
    const Vi<N> last_x = splat_i<N>(static_cast<int32_t>(W) - reach), last_y = splat_i<N>(static_cast<int32_t>(H) - reach);
    const bool flat = p[6] == 0 && p[7] == 0;
    const Vf<N> ramp = __builtin_convertvector(load<N>(kLanes), Vf<N>) + 0.5f;
    const float half = p[9] != 0 ? 0.5f : 0.0f, y = static_cast<float>(h) + 0.5f;  // nearest: the pixel in which it lies
    // beyond these nothing is read but the border, whose period a border of many images would need
    const bool mirrors = p[10] > 1;
    const float low = mirrors ? -1e6f : -4.0f;
    const float far_x = mirrors ? 1e6f : static_cast<float>(W) + 3.0f, far_y = mirrors ? 1e6f : static_cast<float>(H) + 3.0f;
    for (int64_t i = 0; i < count; i += N) {
        const Vf<N> x = ramp + static_cast<float>(w + i);
        Vf<N> u = mul_add<N>(splat<N>(p[0]), x, splat<N>(p[1] * y + p[2]));
        Vf<N> v = mul_add<N>(splat<N>(p[3]), x, splat<N>(p[4] * y + p[5]));
        if (!flat) {
            const Vf<N> z = mul_add<N>(splat<N>(p[6]), x, splat<N>(p[7] * y + p[8]));
            u = u / z;
            v = v / z;
        }
        u = vmin<N>(vmax<N>(u - half, splat<N>(low)), splat<N>(far_x));  // NaN: far
        v = vmin<N>(vmax<N>(v - half, splat<N>(low)), splat<N>(far_y));
        Vi<N> a = __builtin_convertvector(u, Vi<N>), b = __builtin_convertvector(v, Vi<N>);
        a += __builtin_convertvector(a, Vf<N>) > u;  // a mask of -1
        b += __builtin_convertvector(b, Vf<N>) > v;
        const Vi<N> left = a - before, top = b - before;
        const Vi<N> inside = (left >= 0) & (left < last_x) & (top >= 0) & (top < last_y);
        store<N>(at + i, ((Vi<N>)((Vu<N>)top * static_cast<uint32_t>(W)) + left) | ~inside);
        store<N>(xs + i, a);
        store<N>(ys + i, b);
        if (p[9] == 0) continue;
        store<N>(us + i, u - __builtin_convertvector(a, Vf<N>));
        store<N>(vs + i, v - __builtin_convertvector(b, Vf<N>));
    }
}

// to, whose size is set, from m. `fill` has room for a pixel.
template <typename T>
FC_NOINLINE void warp_image(const Image<T> m, const Image<T> to, const float* p, T* fill) {
    Move move;
    if (moves_only(p, m.H, m.W, &move)) {
        Image<T> result = to;
        result.C = m.P;
        float fills[4] = {};
        for (int64_t c = 0; m.P <= 4 && c < m.C; ++c) fills[c] = p[11 + c];
        if (m.P <= 4) move.fill = fills;
        const int64_t strides[4] = {0, 1, m.W * m.P, m.P};
        read_image<T>(result, m.data, strides, move);
        return;
    }
    alignas(64) int32_t xs[kWarpChunk], ys[kWarpChunk], at[kWarpChunk];
    alignas(64) float us[kWarpChunk + kWidth], vs[kWarpChunk + kWidth];
    for (int64_t c = 0; c < m.P; ++c) put_value(fill + c, c < m.C ? p[11 + c] : 0.0f);
    const Warp<T> k = {m, static_cast<int64_t>(p[9]), static_cast<int64_t>(p[10]), fill, xs, ys, at, us, vs};
    for (int64_t h = 0; h < to.H; ++h)
        for (int64_t w = 0; w < to.W; w += kWarpChunk) {
            const int64_t count = min64(kWarpChunk, to.W - w);
            warp_coordinates(p, m.H, m.W, h, w, count, xs, ys, at, us, vs);
            T* row = to.row(h) + w * to.P;
            const int some = static_cast<int>(count);
            if (m.P == 4) {
                k.mode ? warp_few<4>(k, row, some) : warp_nearest<4>(k, row, some);
            } else if (m.P == 1 && k.mode < 2) {
                k.mode ? warp_few<1>(k, row, some) : warp_nearest<1>(k, row, some);
            } else {
                warp_many(k, row, some);
            }
        }
}

// ---- antialiased ----------------------------------------------------------------------------------------------------

// The taps of output `o` of `out` over [begin, begin + extent) of `size` inputs, which end at the part: weights, normalised, and
// how many; `first` is where they begin.
FC_NOINLINE inline int64_t resize_taps(int64_t o, int64_t out, float begin, float extent, int64_t size, bool cubic, float* weight,
                              int64_t most, int64_t* first) {
    const float scale = extent / static_cast<float>(out), wide = scale > 1.0f ? scale : 1.0f;
    const float support = (cubic ? 2.0f : 1.0f) * wide, center = begin + (static_cast<float>(o) + 0.5f) * scale;
    const int64_t edge0 = max64(0, static_cast<int64_t>(begin)), edge1 = min64(size, static_cast<int64_t>(begin + extent));
    const int64_t low = max64(edge0, static_cast<int64_t>(__builtin_floorf(center - support + 0.5f)));
    const int64_t high = min64(edge1, static_cast<int64_t>(__builtin_floorf(center + support + 0.5f)));
    const int64_t count = min64(most, high - low);
    *first = low;
    if (count < 1) {
        weight[0] = 1.0f;
        *first = min64(size - 1, max64(0, static_cast<int64_t>(center)));
        return 1;
    }
    float sum = 0;
    for (int64_t i = 0; i < count; ++i) {
        float d = (static_cast<float>(low + i) + 0.5f - center) / wide;
        d = d < 0 ? -d : d;
        weight[i] = cubic ? cubic_weight(d, -0.5f) : d < 1.0f ? 1.0f - d : 0.0f;
        sum += weight[i];
    }
    for (int64_t i = 0; i < count; ++i) weight[i] = sum != 0 ? weight[i] / sum : 1.0f / static_cast<float>(count);
    return count;
}

// to, whose size is set, from a part of m: top, left, height, width. `lines` has room for a row of m's width, and the taps of
// every column.
template <typename T>
FC_NOINLINE void resize_image(const Image<T> m, const Image<T> to, const float* part, bool cubic, float* lines, int64_t most) {
    constexpr int W = kWidth;
    float *line = lines, *weights = lines + (m.W * m.P + 2 * W), *wy = weights + to.W * most;
    int64_t* firsts = reinterpret_cast<int64_t*>(lines + (m.W * m.P + 2 * W + (to.W + 1) * most + 1) / 2 * 2);
    int64_t taps = 1;
    for (int64_t w = 0; w < to.W; ++w) {
        float* weight = weights + w * most;
        const int64_t count = resize_taps(w, to.W, part[1], part[3], m.W, cubic, weight, most, firsts + w);
        for (int64_t t = count; t < most; ++t) weight[t] = 0.0f;
        taps = max64(taps, count);
    }
    for (int64_t w = 0; w < to.W; ++w) {  // all have as many: those that would begin too late begin with zeros
        const int64_t late = firsts[w] + taps - m.W;
        float* weight = weights + w * most;
        for (int64_t t = taps - 1; late > 0 && t >= 0; --t) weight[t] = t >= late ? weight[t - late] : 0.0f;
        firsts[w] -= max64(0, late);
    }
    for (int64_t h = 0; h < to.H; ++h) {
        int64_t first;
        const int64_t rows = resize_taps(h, to.H, part[0], part[2], m.H, cubic, wy, most, &first), down = m.W * m.P;
        const T* from = m.row(first);
        for (int64_t i = 0; i < down; i += W) {
            Vf<W> sum{};
            for (int64_t r = 0; r < rows; ++r) sum = mul_add<W>(splat<W>(wy[r]), get<W>(from + r * down + i), sum);
            store<W>(line + i, sum);
        }
        T* out = to.row(h);
        const float* k = weights;
        for (int64_t w = 0; w < to.W; ++w, out += to.P, k += most) {
            const float* p = line + firsts[w] * m.P;
            if (m.P == 4) {
                Vf<4> sum{};
                for (int64_t t = 0; t < taps; ++t) sum = mul_add<4>(splat<4>(k[t]), load<4>(p + 4 * t), sum);
                put_rounded<4>(out, sum);
            } else {
                for (int64_t c = 0; c < m.P; ++c) {
                    float sum = 0;
                    for (int64_t t = 0; t < taps; ++t) sum += k[t] * p[t * m.P + c];
                    put_value(out + c, sum);
                }
            }
        }
    }
}

}  // namespace
}  // namespace
#endif
