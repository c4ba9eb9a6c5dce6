// One output element from one input element, or from a gradient and what the forward kept: what is not `map`'s.
//
// A tile is kMapTile elements of one flat run where no operand has gaps (ld == C everywhere), otherwise as many whole
// pixels as come to that. Tails go through the same vector code as the rest, so an element's bits do not depend on
// where it lies. Bound by memory.
#include "fastconv/simd/math.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

typedef Vf<kWidth> V;

constexpr int64_t kMapTile = 16384;

FC_INLINE V sp(float s) { return splat<kWidth>(s); }
FC_INLINE V fma(V a, V b, V c) { return mul_add<kWidth>(a, b, c); }

FC_INLINE bool map_is_flat(const MapArgs* a) {
    return (!a->x || a->ldx == a->C) && a->ldy == a->C && (!a->z || a->ldz == a->C);
}
FC_INLINE int64_t map_pixels_per_tile(const MapArgs* a) { return rows_of(kMapTile, a->C); }
FC_INLINE int64_t map_pixels(const MapArgs* a) { return (a->fixed_n ? a->fixed_n : a->n) * a->pixels; }
FC_INLINE int64_t map_tiles(const MapArgs* a) {
    const int64_t pixels = map_pixels(a);
    return map_is_flat(a) ? ceil_div(pixels * a->C, kMapTile) : ceil_div(pixels, map_pixels_per_tile(a));
}

// Calls row(element offsets in x, z and y, count) for the runs of the tiles.
template <class Row>
FC_INLINE void map_rows(const MapArgs* a, int64_t begin, int64_t end, const Row& row) {
    const int64_t pixels = map_pixels(a);
    if (map_is_flat(a)) {
        const int64_t first = begin * kMapTile;
        row(first, first, first, min64(pixels * a->C, end * kMapTile) - first);
        return;
    }
    const int64_t per = map_pixels_per_tile(a), last = min64(pixels, end * per);
    for (int64_t p = begin * per; p < last; ++p) row(p * a->ldx, p * a->ldz, p * a->ldy, a->C);
}

template <class F>
FC_INLINE void map_one(const MapArgs* a, int64_t begin, int64_t end) {
    const F f(a);
    map_rows(a, begin, end, [&](int64_t ox, int64_t, int64_t oy, int64_t count) {
        const float* x = a->x + ox;
        float* y = a->y + oy;
        int64_t i = 0;
        for (; i + kWidth <= count; i += kWidth) store<kWidth>(y + i, f(load<kWidth>(x + i)));
        const int tail = static_cast<int>(count - i);
        if (tail) store_n<kWidth>(y + i, f(load_n<kWidth>(x + i, tail)), tail);
    });
}

template <class F>
FC_INLINE void map_two(const MapArgs* a, int64_t begin, int64_t end) {
    const F f(a);
    map_rows(a, begin, end, [&](int64_t ox, int64_t oz, int64_t oy, int64_t count) {
        const float *x = a->x + ox, *z = a->z + oz;
        float* y = a->y + oy;
        int64_t i = 0;
        for (; i + kWidth <= count; i += kWidth)
            store<kWidth>(y + i, f(load<kWidth>(x + i), load<kWidth>(z + i)));
        const int tail = static_cast<int>(count - i);
        if (tail) store_n<kWidth>(y + i, f(load_n<kWidth>(x + i, tail), load_n<kWidth>(z + i, tail)), tail);
    });
}

#define FC_MAP(name, how, F)                                                                        \
    FC_INLINE int64_t name##_tiles(const MapArgs* a) { return map_tiles(a); }                       \
    FC_INLINE size_t name##_scratch(const MapArgs*) { return 0; }                                   \
    inline void name##_run(const MapArgs* a, int64_t begin, int64_t end, void*) { how<F>(a, begin, end); }

struct Copy {
    explicit Copy(const MapArgs*) {}
    FC_INLINE V operator()(V x) const { return x; }
};
FC_MAP(f32_copy, map_one, Copy)

struct Scale {
    float a, b;
    explicit Scale(const MapArgs* m) : a(static_cast<float>(m->a)), b(static_cast<float>(m->b)) {}
    FC_INLINE V operator()(V x) const { return fma(x, sp(a), sp(b)); }
};
FC_MAP(f32_scale, map_one, Scale)

// g where the output z lies between the bounds, else 0, on them too; NaN lets nothing through, as in PyTorch. (An instruction of
// `map` has three operands; as four of them it takes twice the time.)
struct ClipBackward {
    float a, b;
    explicit ClipBackward(const MapArgs* m) : a(static_cast<float>(m->a)), b(static_cast<float>(m->b)) {}
    FC_INLINE V operator()(V g, V z) const {
        const V inside = z < sp(b) ? g : V{};
        return z > sp(a) ? inside : V{};
    }
};
FC_MAP(f32_clip_backward, map_two, ClipBackward)

FC_INLINE int64_t f32_fill_tiles(const MapArgs* a) { return map_tiles(a); }
FC_INLINE size_t f32_fill_scratch(const MapArgs*) { return 0; }
inline void f32_fill_run(const MapArgs* a, int64_t begin, int64_t end, void*) {
    const V value = sp(static_cast<float>(a->a));
    map_rows(a, begin, end, [&](int64_t, int64_t, int64_t oy, int64_t count) {
        float* y = a->y + oy;
        for (int64_t i = 0; i < count; i += kWidth)
            store_n<kWidth>(y + i, value, static_cast<int>(min64(kWidth, count - i)));
    });
}

#undef FC_MAP

}  // namespace
}  // namespace
