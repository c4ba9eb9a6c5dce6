// Colours, as torchvision's transforms define them: values from 0 to m.top, cut off towards zero where they are whole numbers.
#ifndef FASTCONV_AUGMENT_COLOR_INL_H
#define FASTCONV_AUGMENT_COLOR_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

template <int N>
FC_INLINE Vf<N> floored(Vf<N> v) {
    const Vf<N> t = truncated<N>(v);
    return t + __builtin_convertvector(t > v, Vf<N>);  // a mask of -1
}
template <int N>
FC_INLINE Vf<N> either(Vi<N> mask, Vf<N> a, Vf<N> b) {
    return (Vf<N>)((mask & (Vi<N>)a) | (~mask & (Vi<N>)b));
}

// Of red, green and blue.
template <bool whole, int N>
FC_INLINE Vf<N> luminance(Vf<N> r, Vf<N> g, Vf<N> b) {
    const Vf<N> l = r * 0.2989f + g * 0.587f + b * 0.114f;
    return whole ? truncated<N>(l) : l;
}

template <typename T>
FC_NOINLINE void blend_constant(const Image<T>& m, float factor, float other) {
    const Vf<kWidth> f = splat<kWidth>(factor), add = splat<kWidth>(other * (1.0f - factor));
    each_vector(m, [=](Vf<kWidth> v) { return within<kWidth>(mul_add<kWidth>(v, f, add), Image<T>::top); });
}

template <typename T>
FC_NOINLINE float mean_luminance(const Image<T>& m) {
    double sum = 0;  // of parts: few enough values for float
    if (m.P == 4) {
        Image<T> part = m;
        for (int64_t h = 0; h < m.H; ++h) {
            float row = 0;
            part.H = 1;
            part.data = m.row(h);
            each_pixels<false>(part, [&](auto lanes, auto& r, auto& g, auto& b, int64_t valid) {
                constexpr int N = decltype(lanes)::value;
                const Vf<N> l = luminance<Image<T>::whole, N>(r, g, b);
                row += sum_lanes<N>(either<N>(load<N>(kLanes) < static_cast<int32_t>(valid), l, Vf<N>{}));
            });
            sum += static_cast<double>(row);
        }
    } else {
        for (int64_t h = 0; h < m.H; ++h) {
            float row = 0;
            for (int64_t w = 0; w < m.W; ++w) row += static_cast<float>(m.row(h)[w]);
            sum += static_cast<double>(row);
        }
    }
    return static_cast<float>(sum / static_cast<double>(max64(1, m.H * m.W)));
}

template <typename T>
FC_NOINLINE void blend_gray(const Image<T>& m, float factor) {
    if (m.P != 4) return;
    each_pixels<true>(m, [=](auto lanes, auto& r, auto& g, auto& b, int64_t) {
        constexpr int N = decltype(lanes)::value;
        const Vf<N> f = splat<N>(factor), l = luminance<Image<T>::whole, N>(r, g, b) * (1.0f - factor);
        r = within<N>(mul_add<N>(r, f, l), Image<T>::top);
        g = within<N>(mul_add<N>(g, f, l), Image<T>::top);
        b = within<N>(mul_add<N>(b, f, l), Image<T>::top);
    });
}

// Hue by a part of a turn: to hue, saturation, value and back. A channel of the result is
// value - value * saturation * max(0, min(k, 4 - k, 1)), k = (n + hue) modulo 6, n = 5, 3, 1 for red, green, blue.
template <typename T>
FC_NOINLINE void turn_hue(const Image<T>& m, float turn) {
    if (m.P != 4) return;
    each_pixels<true>(m, [=](auto lanes, auto& red, auto& green, auto& blue, int64_t) {
        constexpr int N = decltype(lanes)::value;
        const Vf<N> one = splat<N>(1.0f), none = {}, back = splat<N>(Image<T>::whole ? 255.999f : 1.0f);
        const Vf<N> r = red / Image<T>::top, g = green / Image<T>::top, b = blue / Image<T>::top;
        const Vf<N> high = vmax<N>(vmax<N>(r, g), b), range = high - vmin<N>(vmin<N>(r, g), b);
        const Vi<N> flat = range == none;
        const Vf<N> d = either<N>(flat, one, range), s = range / either<N>(high == none, one, high);
        Vf<N> hue = either<N>(high == r, g - b, either<N>(high == g, b - r, r - g)) / d;
        hue = (hue + either<N>(high == r, none, either<N>(high == g, splat<N>(2.0f), splat<N>(4.0f)))) / 6.0f + turn;
        hue = (hue - floored<N>(hue)) * 6.0f;
        Vf<N>* v[3] = {&red, &green, &blue};
        for (int c = 0; c < 3; ++c) {
            Vf<N> k = hue + static_cast<float>(5 - 2 * c);
            k = either<N>(k >= 6.0f, k - 6.0f, k);  // below 11
            const Vf<N> share = vmax<N>(vmin<N>(vmin<N>(k, 4.0f - k), one), none);
            *v[c] = either<N>(flat, *v[c], within<N>((high - high * s * share) * back, Image<T>::top));
        }
    });
}

template <typename T>
FC_NOINLINE void map_values(const Image<T>& m, int op, float p) {
    constexpr int W = kWidth;
    constexpr bool whole = Image<T>::whole;
    const Vf<W> top = splat<W>(Image<T>::top);
    if (op == kAugmentInvert || op == kAugmentSolarize) {
        const Vf<W> t = splat<W>(op == kAugmentInvert ? -1.0f : p);
        each_vector(m, [=](Vf<W> v) { return either<W>(v >= t, top - v, v); });
    } else if (op == kAugmentPosterize) {  // by powers of two
        const float steps = static_cast<float>(1 << static_cast<int>(p)), step = (whole ? 256.0f : 1.0f) / steps;
        const Vf<W> last = splat<W>(whole ? 255.0f : steps - 1.0f);
        each_vector(m, [=](Vf<W> v) { return vmin<W>(truncated<W>(v * (1.0f / step)), last) * step; });
    } else if (m.P == 4) {
        each_pixels<true>(m, [](auto lanes, auto& r, auto& g, auto& b, int64_t) {
            r = g = b = luminance<Image<T>::whole, decltype(lanes)::value>(r, g, b);
        });
    }
}

// Each channel to the whole range.
template <typename T>
FC_NOINLINE void stretch_contrast(const Image<T>& m) {
    constexpr int W = kWidth;
    constexpr float top = Image<T>::top;
    if (m.P > 4) {
        for (int64_t c = 0; c < m.C; ++c) {
            float low = static_cast<float>(m.data[c]), high = low;
            for (int64_t i = c; i < m.values(); i += m.P) {
                const float v = static_cast<float>(m.data[i]);
                low = v < low ? v : low;
                high = v > high ? v : high;
            }
            const float scale = (high - low) / top;
            for (int64_t i = c; i < m.values() && high > low; i += m.P) {
                const float v = (static_cast<float>(m.data[i]) - low) / scale;
                m.data[i] = static_cast<T>(v > 0 ? (v < top ? v : top) : 0.0f);
            }
        }
        return;
    }
    Vf<W> low = splat<W>(top), high{};
    int64_t i = 0;
    for (; i + W <= m.values(); i += W) {
        const Vf<W> v = get<W>(m.data + i);
        low = vmin<W>(v, low);
        high = vmax<W>(v, high);
    }
    for (; i < m.values(); ++i) {  // a vector begins a pixel
        const int l = static_cast<int>(i % m.P);
        const float v = static_cast<float>(m.data[i]);
        low[l] = v < low[l] ? v : low[l];
        high[l] = v > high[l] ? v : high[l];
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
            scale[j] = (h - l) / top;
        }
    }
    each_vector(m, [=](Vf<W> v) { return within<W>((v - first) / scale, top); });
}

// The table that makes all values of `count` equally frequent.
FC_INLINE void equalizing(const int32_t* count, uint8_t* table) {
    int64_t sum = 0, last = 0;
    for (int v = 0; v < 256; ++v) {
        sum += count[v];
        if (count[v]) last = count[v];
    }
    const int64_t step = (sum - last) / 255;
    sum = 0;
    for (int v = 0; v < 256; ++v) {
        table[v] = static_cast<uint8_t>(step ? min64(255, (sum + step / 2) / step) : v);
        sum += count[v];
    }
}

FC_INLINE int equalize_bin(float v) {
    const int32_t i = static_cast<int32_t>(v * 255.999f);
    return i < 0 ? 0 : i > 255 ? 255 : i;
}
FC_INLINE int equalize_bin(uint8_t v) { return v; }

template <typename T>
FC_NOINLINE void equalize_values(const Image<T>& m) {
    const int64_t values = m.values(), P = m.P;
    T* data = m.data;
    const float back = 1.0f / 255.0f;
    int32_t count[8][256];  // neighbours of one value do not wait for each other
    uint8_t tables[4][256];
    if (Image<T>::whole && P == 4) {
        memset(count, 0, sizeof count);
        for (int64_t i = 0; i < values; i += 4) {
            uint32_t v;
            memcpy(&v, data + i, 4);
            int32_t(*some)[256] = count + (i & 4);
            ++some[0][v & 255];
            ++some[1][v >> 8 & 255];
            ++some[2][v >> 16 & 255];
            if (m.C == 4) ++some[3][v >> 24];
        }
        for (int64_t c = 0; c < m.C; ++c) {
            for (int v = 0; v < 256; ++v) count[c][v] += count[4 + c][v];
            equalizing(count[c], tables[c]);
        }
        for (int64_t i = 0; i < values; i += 4) {
            uint32_t v;
            memcpy(&v, data + i, 4);
            uint32_t w = tables[0][v & 255] | static_cast<uint32_t>(tables[1][v >> 8 & 255]) << 8 |
                         static_cast<uint32_t>(tables[2][v >> 16 & 255]) << 16;
            if (m.C == 4) w |= static_cast<uint32_t>(tables[3][v >> 24]) << 24;
            memcpy(data + i, &w, 4);
        }
        return;
    }
    for (int64_t c = 0; c < m.C; ++c) {
        memset(count, 0, sizeof count);
        for (int64_t i = c, turn = 0; i < values; i += P, ++turn) ++count[turn & 3][equalize_bin(data[i])];
        for (int v = 0; v < 256; ++v) count[0][v] += count[1][v] + count[2][v] + count[3][v];
        equalizing(count[0], tables[0]);
        for (int64_t i = c; i < values; i += P) {
            const uint8_t v = tables[0][equalize_bin(data[i])];
            data[i] = Image<T>::whole ? static_cast<T>(v) : static_cast<T>(static_cast<float>(v) * back);
        }
    }
}

}  // namespace
}  // namespace
#endif
