// Sums and products of two operands, either of which may be one value per channel, per image and channel, per pixel or
// in all. The sums over the repeated axes that their gradients need are in elementwise/sums.inl.h.
#include "fastconv/simd/math.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE V load_strided(const float* p, int64_t channel, int64_t c, int n) {
    return channel ? load_n<kWidth>(p + c, n) : splat<kWidth>(*p);
}

// ---- x op z -------------------------------------------------------------------------------------------------------
// Tiles as in elementwise/elementwise.inl.h; bound by memory.

FC_INLINE bool stride_is_flat(const FcStride& s, const BroadcastArgs* a) {
    return s.channel == 1 && s.pixel == a->C && s.image == a->pixels * a->C;
}
FC_INLINE bool broadcast_is_flat(const BroadcastArgs* a) {
    return stride_is_flat(a->sx, a) && stride_is_flat(a->sz, a) && a->ldy == a->C;
}
FC_INLINE int64_t broadcast_pixels(const BroadcastArgs* a) { return (a->fixed_n ? a->fixed_n : a->n) * a->pixels; }
FC_INLINE int64_t broadcast_tiles(const BroadcastArgs* a) {
    const int64_t pixels = broadcast_pixels(a);
    return broadcast_is_flat(a) ? ceil_div(pixels * a->C, kMapTile) : ceil_div(pixels, rows_of(kMapTile, a->C));
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
    const int64_t per = rows_of(kMapTile, a->C), last = min64(pixels, end * per);
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

}  // namespace
}  // namespace
