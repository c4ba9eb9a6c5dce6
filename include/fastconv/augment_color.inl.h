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

// Hue by a part of a turn: to hue, saturation, value and back.
FC_NOINLINE inline void turn_hue(const Image& m, float turn) {
    if (m.P != 4) return;
    float* p = m.data;
    for (int64_t i = 0; i < m.H * m.W; ++i, p += 4) {
        const float r = p[0] / m.top, g = p[1] / m.top, b = p[2] / m.top;
        const float high = r > g ? (r > b ? r : b) : (g > b ? g : b), low = r < g ? (r < b ? r : b) : (g < b ? g : b);
        const float range = high - low;
        if (range == 0) continue;
        float hue = high == r ? (g - b) / range : high == g ? 2.0f + (b - r) / range : 4.0f + (r - g) / range;
        hue = hue / 6.0f + turn;
        hue = (hue - __builtin_floorf(hue)) * 6.0f;
        const float s = range / high, sector = __builtin_floorf(hue), f = hue - sector;
        const float a = high * (1.0f - s), c = high * (1.0f - s * f), d = high * (1.0f - s * (1.0f - f));
        const int k = static_cast<int>(sector) % 6;
        const float out[3] = {k == 0 || k == 5 ? high : k == 1 ? c : k == 4 ? d : a,
                              k == 1 || k == 2 ? high : k == 0 ? d : k == 3 ? c : a,
                              k == 3 || k == 4 ? high : k == 2 ? d : k == 5 ? c : a};
        for (int n = 0; n < 3; ++n) p[n] = m.whole ? settled1(out[n] * 255.999f, m.top, true) : settled1(out[n], 1.0f, false);
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

FC_NOINLINE inline void equalize_values(const Image& m) {
    const float to_byte_scale = m.whole ? 1.0f : 255.999f, back = m.whole ? 1.0f : 1.0f / 255.0f;
    for (int64_t c = 0; c < m.C; ++c) {
        int64_t count[256] = {0}, sum = 0, last = 0;
        float table[256];
        for (int64_t i = c; i < m.values(); i += m.P) ++count[static_cast<int>(settled1(m.data[i] * to_byte_scale, 255.0f, true))];
        for (int v = 0; v < 256; ++v) {
            sum += count[v];
            if (count[v]) last = count[v];
        }
        const int64_t step = (sum - last) / 255;
        sum = 0;
        for (int v = 0; v < 256; ++v) {
            table[v] = static_cast<float>(step ? min64(255, (sum + step / 2) / step) : v) * back;
            sum += count[v];
        }
        for (int64_t i = c; i < m.values(); i += m.P)
            m.data[i] = table[static_cast<int>(settled1(m.data[i] * to_byte_scale, 255.0f, true))];
    }
}

}  // namespace
}  // namespace
#endif
