// Sums and products of two operands, either of which may be one value per channel, per image and channel, per pixel or
// in all; and the sums over the repeated axes that their gradients need.
#include "fastconv/math.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE V load_strided(const float* p, int64_t channel, int64_t c, int n) {
    return channel ? load_n<kWidth>(p + c, n) : splat<kWidth>(*p);
}

// ---- x op z -------------------------------------------------------------------------------------------------------
// Tiles as in elementwise.inl.h; bound by memory.

FC_INLINE bool stride_is_flat(const FcStride& s, const BroadcastArgs* a) {
    return s.channel == 1 && s.pixel == a->C && s.image == a->pixels * a->C;
}
FC_INLINE bool broadcast_is_flat(const BroadcastArgs* a) {
    return stride_is_flat(a->sx, a) && stride_is_flat(a->sz, a) && a->ldy == a->C;
}
FC_INLINE int64_t broadcast_pixels(const BroadcastArgs* a) { return (a->fixed_n ? a->fixed_n : a->n) * a->pixels; }
FC_INLINE int64_t broadcast_tiles(const BroadcastArgs* a) {
    const int64_t pixels = broadcast_pixels(a);
    return broadcast_is_flat(a) ? ceil_div(pixels * a->C, kMapTile) : ceil_div(pixels, max64(1, kMapTile / a->C));
}

template <class F>
FC_INLINE void broadcast_row(const F& f, const float* x, int64_t cx, const float* z, int64_t cz, float* y,
                             int64_t count) {
    int64_t i = 0;
    if (cx && cz)
        for (; i + kWidth <= count; i += kWidth)
            store<kWidth>(y + i, f(load<kWidth>(x + i), load<kWidth>(z + i)));
    for (; i < count; i += kWidth) {
        const int n = static_cast<int>(min64(kWidth, count - i));
        store_n<kWidth>(y + i, f(load_strided(x, cx, i, n), load_strided(z, cz, i, n)), n);
    }
}

template <class F>
FC_INLINE void broadcast_run(const BroadcastArgs* a, int64_t begin, int64_t end, const F& f) {
    const int64_t pixels = broadcast_pixels(a);
    if (broadcast_is_flat(a)) {
        const int64_t first = begin * kMapTile, count = min64(pixels * a->C, end * kMapTile) - first;
        broadcast_row(f, a->x + first, 1, a->z + first, 1, a->y + first, count);
        return;
    }
    const int64_t per = max64(1, kMapTile / a->C), last = min64(pixels, end * per);
    for (int64_t p = begin * per; p < last; ++p) {
        const int64_t image = p / a->pixels, pixel = p % a->pixels;
        broadcast_row(f, a->x + image * a->sx.image + pixel * a->sx.pixel, a->sx.channel,
                      a->z + image * a->sz.image + pixel * a->sz.pixel, a->sz.channel, a->y + p * a->ldy, a->C);
    }
}

FC_INLINE int64_t f32_add_tiles(const BroadcastArgs* a) { return broadcast_tiles(a); }
FC_INLINE size_t f32_add_scratch(const BroadcastArgs*) { return 0; }
inline void f32_add_run(const BroadcastArgs* a, int64_t begin, int64_t end, void*) {
    const V alpha = splat<kWidth>(static_cast<float>(a->alpha));
    broadcast_run(a, begin, end, [&](V x, V z) { return mul_add<kWidth>(z, alpha, x); });
}

FC_INLINE int64_t f32_mul_tiles(const BroadcastArgs* a) { return broadcast_tiles(a); }
FC_INLINE size_t f32_mul_scratch(const BroadcastArgs*) { return 0; }
inline void f32_mul_run(const BroadcastArgs* a, int64_t begin, int64_t end, void*) {
    broadcast_run(a, begin, end, [](V x, V z) { return x * z; });
}

// ---- sums over axes -----------------------------------------------------------------------------------------------
//
//            channels kept: a tile is kSumVectors vectors of         channels summed: a tile is some
//            channels of some output rows                            output rows, each one number
//   rows     [ v0 v1 v2 v3 ] += x[row] * z[row]                       sum of lanes of (v += x[row] * z[row])
//
// Runs of kSumRun rows are added up apart from the total, which keeps the rounding error near that of pairwise
// summation. Bound by memory.

constexpr int kSumVectors = 4;
constexpr int64_t kSumRun = 128;
constexpr int64_t kSumChannels = kSumVectors * kWidth;

struct SumShape {
    int64_t outputs;          // rows of y
    int64_t rows;             // rows added up for each
    int64_t outputs_per_tile;
    int64_t channel_tiles;
};

FC_INLINE SumShape sum_shape(const SumArgs* a) {
    const int64_t out_images = a->keep_images ? a->n : 1, out_pixels = a->keep_pixels ? a->pixels : 1;
    const int64_t rows = (a->keep_images ? 1 : a->n) * (a->keep_pixels ? 1 : a->pixels);
    const int64_t width = a->keep_channels ? min64(a->C, kSumChannels) : a->C;
    return {out_images * out_pixels, rows, max64(1, kMapTile / max64(1, rows * width)),
            a->keep_channels ? ceil_div(a->C, kSumChannels) : 1};
}

FC_INLINE int64_t f32_sum_axes_tiles(const SumArgs* a) {
    const SumShape s = sum_shape(a);
    return ceil_div(s.outputs, s.outputs_per_tile) * s.channel_tiles;
}
FC_INLINE size_t f32_sum_axes_scratch(const SumArgs*) { return 0; }

// Image and pixel of row r of output o.
FC_INLINE void sum_position(const SumArgs* a, int64_t o, int64_t r, int64_t* image, int64_t* pixel) {
    const int64_t out_pixels = a->keep_pixels ? a->pixels : 1, row_pixels = a->keep_pixels ? 1 : a->pixels;
    *image = a->keep_images ? o / out_pixels : r / row_pixels;
    *pixel = a->keep_pixels ? o % out_pixels : r % row_pixels;
}

FC_INLINE V sum_product(const SumArgs* a, int64_t image, int64_t pixel, int64_t c, int n, V sum) {
    const V x = load_strided(a->x + image * a->sx.image + pixel * a->sx.pixel, a->sx.channel, c, n);
    if (!a->z) return sum + x;
    return mul_add<kWidth>(x, load_strided(a->z + image * a->sz.image + pixel * a->sz.pixel, a->sz.channel, c, n), sum);
}

FC_INLINE void sum_keep_channels(const SumArgs* a, int64_t o, int64_t rows, int64_t c0) {
    const int64_t channels = min64(kSumChannels, a->C - c0);
    V total[kSumVectors] = {};
    for (int64_t r0 = 0; r0 < rows; r0 += kSumRun) {
        V part[kSumVectors] = {};
        for (int64_t r = r0; r < min64(rows, r0 + kSumRun); ++r) {
            int64_t image, pixel;
            sum_position(a, o, r, &image, &pixel);
            for (int v = 0; v < kSumVectors; ++v) {
                const int64_t left = channels - v * kWidth;
                if (left > 0)
                    part[v] = sum_product(a, image, pixel, c0 + v * kWidth,
                                          static_cast<int>(min64(kWidth, left)), part[v]);
            }
        }
        for (int v = 0; v < kSumVectors; ++v) total[v] += part[v];
    }
    for (int v = 0; v * kWidth < channels; ++v)
        store_n<kWidth>(a->y + o * a->ldy + c0 + v * kWidth, total[v],
                        static_cast<int>(min64(kWidth, channels - v * kWidth)));
}

FC_INLINE void sum_channels(const SumArgs* a, int64_t o, int64_t rows) {
    V total = {}, part = {};
    int64_t terms = 0;
    for (int64_t r = 0; r < rows; ++r) {
        int64_t image, pixel;
        sum_position(a, o, r, &image, &pixel);
        for (int64_t c = 0; c < a->C; c += kWidth) {
            const int n = static_cast<int>(min64(kWidth, a->C - c));
            V term = sum_product(a, image, pixel, c, n, V{});
            if (n < kWidth) {  // a repeated value fills all lanes
                float lanes[kWidth] = {};
                store_n<kWidth>(lanes, term, n);
                term = load<kWidth>(lanes);
            }
            part += term;
            if (++terms % kSumRun == 0) {
                total += part;
                part = V{};
            }
        }
    }
    a->y[o * a->ldy] = sum_lanes<kWidth>(total + part);
}

inline void f32_sum_axes_run(const SumArgs* a, int64_t begin, int64_t end, void*) {
    const SumShape s = sum_shape(a);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t first = tile / s.channel_tiles * s.outputs_per_tile;
        const int64_t last = min64(s.outputs, first + s.outputs_per_tile);
        for (int64_t o = first; o < last; ++o) {
            if (a->keep_channels) {
                sum_keep_channels(a, o, s.rows, tile % s.channel_tiles * kSumChannels);
            } else {
                sum_channels(a, o, s.rows);
            }
        }
    }
}

}  // namespace
}  // namespace
