// Colours, as torchvision's transforms define them: values from 0 to m.top, cut off towards zero where they are whole numbers.
#ifndef FASTCONV_AUGMENT_COLOR_INL_H
#define FASTCONV_AUGMENT_COLOR_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// Each lane the sum over its group of four.
FC_INLINE Vf<kWidth> sum_of_four(Vf<kWidth> v) {
    Vi<kWidth> one, two;
    for (int i = 0; i < kWidth; ++i) {
        one[i] = i ^ 1;
        two[i] = i ^ 2;
    }
    v = v + permute<kWidth>(v, one);
    return v + permute<kWidth>(v, two);
}
// Luminance in all channels of each pixel; of one channel the channel.
FC_INLINE Vf<kWidth> luminance(const Image& m, Vf<kWidth> v) {
    if (m.P != 4) return v;
    Vf<kWidth> weights;
    for (int i = 0; i < kWidth; ++i) weights[i] = i % 4 == 0 ? 0.2989f : i % 4 == 1 ? 0.587f : i % 4 == 2 ? 0.114f : 0.0f;
    const Vf<kWidth> l = sum_of_four(v * weights);
    return m.whole ? truncated<kWidth>(l) : l;
}

FC_NOINLINE inline void blend_constant(const Image& m, float factor, float other) {
    const Vf<kWidth> f = splat<kWidth>(factor), add = splat<kWidth>(other * (1.0f - factor));
    each_vector(m, [=](Vf<kWidth> v) { return settled<kWidth>(mul_add<kWidth>(v, f, add), m.top, m.whole); });
}

FC_NOINLINE inline float mean_luminance(const Image& m) {
    double sum = 0;  // of rows: few enough values for float
    for (int64_t h = 0; h < m.H; ++h) {
        const float* p = m.row(h);
        float row = 0;
        if (m.P == 4) {
            for (int64_t w = 0; w < m.W; ++w, p += 4) {
                const float l = 0.2989f * p[0] + 0.587f * p[1] + 0.114f * p[2];
                row += m.whole ? static_cast<float>(static_cast<int32_t>(l)) : l;
            }
        } else {
            for (int64_t w = 0; w < m.W; ++w) row += p[w];
        }
        sum += static_cast<double>(row);
    }
    return static_cast<float>(sum / static_cast<double>(max64(1, m.H * m.W)));
}

FC_NOINLINE inline void blend_gray(const Image& m, float factor) {
    if (m.P != 4) return;
    const Vf<kWidth> f = splat<kWidth>(factor), g = splat<kWidth>(1.0f - factor);
    each_vector(m, [=](Vf<kWidth> v) {
        return settled<kWidth>(mul_add<kWidth>(v, f, luminance(m, v) * g), m.top, m.whole);
    });
}

FC_INLINE Vf<4> floored(Vf<4> v) {
    const Vf<4> t = truncated<4>(v);
    return t + __builtin_convertvector(t > v, Vf<4>);  // a mask of -1
}
FC_INLINE Vf<4> either(Vi<4> mask, Vf<4> a, Vf<4> b) { return (Vf<4>)((mask & (Vi<4>)a) | (~mask & (Vi<4>)b)); }

// Hue by a part of a turn: to hue, saturation, value and back; four pixels at a time, their channels in vectors. A channel of
// the result is value - value * saturation * max(0, min(k, 4 - k, 1)), k = (n + hue) modulo 6, n = 5, 3, 1 for red, green, blue.
FC_NOINLINE inline void turn_hue(const Image m, float turn) {
    if (m.P != 4) return;
    const Vf<4> one = splat<4>(1.0f), none = {}, back = splat<4>(m.whole ? 255.999f : 1.0f), six = splat<4>(6.0f);
    for (int64_t i = 0; i < m.values(); i += 16) {  // pixels behind the last are there, and written
        Vf<4> v[4] = {load<4>(m.data + i), load<4>(m.data + i + 4), load<4>(m.data + i + 8), load<4>(m.data + i + 12)};
        turn_four(v);
        const Vf<4> r = v[0] / m.top, g = v[1] / m.top, b = v[2] / m.top;
        const Vf<4> high = vmax<4>(vmax<4>(r, g), b), range = high - vmin<4>(vmin<4>(r, g), b);
        const Vi<4> flat = range == none;
        const Vf<4> d = either(flat, one, range), s = range / either(high == none, one, high);
        Vf<4> hue = either(high == r, (g - b) / d, either(high == g, (b - r) / d + 2.0f, (r - g) / d + 4.0f));
        hue = hue / six + splat<4>(turn);
        hue = (hue - floored(hue)) * six;
        for (int c = 0; c < 3; ++c) {
            Vf<4> k = hue + static_cast<float>(5 - 2 * c);
            k = k - six * floored(k / six);
            const Vf<4> share = vmax<4>(vmin<4>(vmin<4>(k, 4.0f - k), one), none);
            v[c] = either(flat, v[c], settled<4>((high - high * s * share) * back, m.top, m.whole));
        }
        turn_four(v);
        for (int p = 0; p < 4; ++p) store<4>(m.data + i + 4 * p, v[p]);
    }
}

FC_NOINLINE inline void map_values(const Image& m, int op, float p) {
    constexpr int W = kWidth;
    const Vf<W> top = splat<W>(m.top);
    if (op == kAugmentInvert || op == kAugmentSolarize) {
        const Vf<W> t = splat<W>(op == kAugmentInvert ? -1.0f : p);
        each_vector(m, [=](Vf<W> v) {
            const Vi<W> mask = v >= t;
            return (Vf<W>)((mask & (Vi<W>)(top - v)) | (~mask & (Vi<W>)v));
        });
    } else if (op == kAugmentPosterize) {
        const float step = m.whole ? static_cast<float>(1 << (8 - static_cast<int>(p)))
                                   : 1.0f / static_cast<float>(1 << static_cast<int>(p));
        const Vf<W> s = splat<W>(step), last = splat<W>(m.whole ? 255.0f : 1.0f / step - 1.0f);
        each_vector(m, [=](Vf<W> v) { return vmin<W>(truncated<W>(v / s), last) * s; });
    } else {
        each_vector(m, [=](Vf<W> v) { return luminance(m, v); });
    }
}

FC_NOINLINE inline void stretch_contrast(const Image& m) {
    constexpr int W = kWidth;
    if (m.P > 4) {
        for (int64_t c = 0; c < m.C; ++c) {
            float low = m.data[c], high = low;
            for (int64_t i = c; i < m.values(); i += m.P) {
                low = m.data[i] < low ? m.data[i] : low;
                high = m.data[i] > high ? m.data[i] : high;
            }
            const float scale = (high - low) / m.top;
            for (int64_t i = c; i < m.values() && high > low; i += m.P)
                m.data[i] = settled1((m.data[i] - low) / scale, m.top, m.whole);
        }
        return;
    }
    Vf<W> low = splat<W>(m.top), high{};
    int64_t i = 0;
    for (; i + W <= m.values(); i += W) {
        low = vmin<W>(load<W>(m.data + i), low);
        high = vmax<W>(load<W>(m.data + i), high);
    }
    for (; i < m.values(); ++i) {  // a vector begins a pixel
        const int l = static_cast<int>(i % m.P);
        low[l] = m.data[i] < low[l] ? m.data[i] : low[l];
        high[l] = m.data[i] > high[l] ? m.data[i] : high[l];
    }
    Vf<W> first{}, scale = splat<W>(1.0f);
    for (int64_t c = 0; c < m.P; ++c) {
        float l = low[c], h = high[c];
        for (int64_t j = c; j < W; j += m.P) {
            l = low[j] < l ? low[j] : l;
            h = high[j] > h ? high[j] : h;
        }
        for (int64_t j = c; j < W && h > l; j += m.P) {
            first[j] = l;
            scale[j] = (h - l) / m.top;
        }
    }
    each_vector(m, [=](Vf<W> v) { return settled<W>((v - first) / scale, m.top, m.whole); });
}

FC_INLINE int equalize_bin(float v, float scale) {
    const int32_t i = static_cast<int32_t>(v * scale);
    return i < 0 ? 0 : i > 255 ? 255 : i;
}

FC_NOINLINE inline void equalize_values(const Image m) {
    const float to_byte_scale = m.whole ? 1.0f : 255.999f, back = m.whole ? 1.0f : 1.0f / 255.0f;
    const int64_t values = m.values(), P = m.P;
    float* data = m.data;
    for (int64_t c = 0; c < m.C; ++c) {
        int32_t count[4][256] = {};  // neighbours of one value do not wait for each other
        float table[256];
        for (int64_t i = c, turn = 0; i < values; i += P, ++turn) ++count[turn & 3][equalize_bin(data[i], to_byte_scale)];
        int64_t sum = 0, last = 0;
        for (int v = 0; v < 256; ++v) {
            count[0][v] += count[1][v] + count[2][v] + count[3][v];
            sum += count[0][v];
            if (count[0][v]) last = count[0][v];
        }
        const int64_t step = (sum - last) / 255;
        sum = 0;
        for (int v = 0; v < 256; ++v) {
            table[v] = static_cast<float>(step ? min64(255, (sum + step / 2) / step) : v) * back;
            sum += count[0][v];
        }
        for (int64_t i = c; i < values; i += P) data[i] = table[equalize_bin(data[i], to_byte_scale)];
    }
}

}  // namespace
}  // namespace
#endif
