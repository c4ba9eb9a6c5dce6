// Update rules: one fused pass over a parameter, its gradient and its state; clipping, accumulation.
//
//   item 0 (a weight)            item 1 (a bias)   item 2           All parameters of a rule are one step: a list of
//   | tile 0 | tile 1 | tile 2 | | tile 3 |        | tile 4 | ...   items, each cut into tiles of 8192 values.
//
// Bound by memory: every value is read and written once. Sums of squares go into double, 16 sums side by side whatever
// the vector width. Scalars are combined in double and rounded to float once per tile, as PyTorch does.
#ifndef FASTCONV_UPDATE_INL_H
#define FASTCONV_UPDATE_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kItemTile = FC_ITEM_TILE;  // the list of items is cut where it is made

// The item a tile belongs to: the last whose first tile is not behind it.
FC_INLINE const FcItem* find_item(const ItemsArgs* a, int64_t tile) {
    int64_t low = 0, high = a->count;
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (a->items[middle].tile <= tile) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return a->items + low;
}

// body(item, first, count) for the values of each tile.
template <class Body>
FC_INLINE void over_items(const ItemsArgs* a, int64_t begin, int64_t end, const Body& body) {
    const FcItem* item = find_item(a, begin);
    for (int64_t tile = begin; tile < end; ++tile) {
        while (item + 1 < a->items + a->count && item[1].tile <= tile) ++item;
        const int64_t first = (tile - item->tile) * kItemTile;
        body(tile, item, first, min64(kItemTile, item->count - first));
    }
}

// body(i, lanes) for whole vectors, then once for the tail.
template <int W, class Body>
FC_INLINE void over_vectors(int64_t count, const Body& body) {
    int64_t i = 0;
    for (; i + W <= count; i += W) body(i, W);
    if (i < count) body(i, static_cast<int>(count - i));
}

FC_INLINE float to_float(double v) { return static_cast<float>(v); }

// ---- rules --------------------------------------------------------------------------------------------------------

FC_INLINE int64_t f32_sgd_tiles(const ItemsArgs* a) { return a->tiles; }
FC_INLINE size_t f32_sgd_scratch(const ItemsArgs*) { return 0; }

inline void f32_sgd_run(const ItemsArgs* a, int64_t begin, int64_t end, void*) {
    constexpr int W = kWidth;
    over_items(a, begin, end, [](int64_t, const FcItem* item, int64_t first, int64_t count) {
        const FcHyper* h = item->hyper;
        const Vf<W> scale = splat<W>(to_float(h->grad_scale * h->sign)), decay = splat<W>(to_float(h->weight_decay));
        const Vf<W> lr = splat<W>(to_float(-h->lr)), momentum = splat<W>(to_float(h->momentum));
        const Vf<W> fresh = splat<W>(to_float(1.0 - h->dampening));
        const bool decays = h->weight_decay != 0.0, begins = h->first != 0.0, nesterov = h->nesterov != 0.0;
        float *p = item->p + first, *b = item->s0 ? item->s0 + first : nullptr;
        const float* g = item->g + first;
        over_vectors<W>(count, [=](int64_t i, int n) __attribute__((always_inline)) {
            const Vf<W> w = load_n<W>(p + i, n);
            Vf<W> d = load_n<W>(g + i, n) * scale;
            if (decays) d = mul_add<W>(decay, w, d);
            if (b) {
                const Vf<W> buffer = begins ? d : mul_add<W>(fresh, d, load_n<W>(b + i, n) * momentum);
                store_n<W>(b + i, buffer, n);
                d = nesterov ? mul_add<W>(momentum, buffer, d) : buffer;
            }
            store_n<W>(p + i, mul_add<W>(lr, d, w), n);
        });
    });
}

// Adam, and with Decoupled AdamW: they differ in where the weight decay goes.
template <bool Decoupled>
FC_INLINE void adam_run(const ItemsArgs* a, int64_t begin, int64_t end) {
    constexpr int W = kWidth;
    over_items(a, begin, end, [](int64_t, const FcItem* item, int64_t first, int64_t count) {
        const FcHyper* h = item->hyper;
        const Vf<W> scale = splat<W>(to_float(h->grad_scale * h->sign)), decay = splat<W>(to_float(h->weight_decay));
        const Vf<W> keep = splat<W>(to_float(1.0 - h->lr * h->weight_decay));
        const Vf<W> fresh1 = splat<W>(to_float(1.0 - h->beta1)), fresh2 = splat<W>(to_float(1.0 - h->beta2));
        const Vf<W> beta2 = splat<W>(to_float(h->beta2)), eps = splat<W>(to_float(h->eps));
        const Vf<W> step = splat<W>(to_float(-h->lr / h->bias_correction1));
        const Vf<W> correction = splat<W>(to_float(h->bias_correction2_sqrt));
        const bool decays = h->weight_decay != 0.0;
        float *p = item->p + first, *m = item->s0 + first, *v = item->s1 + first;
        const float* g = item->g + first;
        over_vectors<W>(count, [=](int64_t i, int n) __attribute__((always_inline)) {
            Vf<W> w = load_n<W>(p + i, n), d = load_n<W>(g + i, n) * scale;
            if (decays && Decoupled) w *= keep;
            if (decays && !Decoupled) d = mul_add<W>(decay, w, d);
            const Vf<W> m0 = load_n<W>(m + i, n), average = mul_add<W>(fresh1, d - m0, m0);
            const Vf<W> square = mul_add<W>(fresh2 * d, d, load_n<W>(v + i, n) * beta2);
            store_n<W>(m + i, average, n);
            store_n<W>(v + i, square, n);
            store_n<W>(p + i, mul_add<W>(step, average / (vsqrt<W>(square) / correction + eps), w), n);
        });
    });
}

FC_INLINE int64_t f32_adam_tiles(const ItemsArgs* a) { return a->tiles; }
FC_INLINE size_t f32_adam_scratch(const ItemsArgs*) { return 0; }
inline void f32_adam_run(const ItemsArgs* a, int64_t begin, int64_t end, void*) { adam_run<false>(a, begin, end); }

FC_INLINE int64_t f32_adamw_tiles(const ItemsArgs* a) { return a->tiles; }
FC_INLINE size_t f32_adamw_scratch(const ItemsArgs*) { return 0; }
inline void f32_adamw_run(const ItemsArgs* a, int64_t begin, int64_t end, void*) { adam_run<true>(a, begin, end); }

// ---- gradients ----------------------------------------------------------------------------------------------------

// p = g * grad_scale, or p += g * grad_scale: gradients of several batches, each with its share.
FC_INLINE int64_t f32_accumulate_tiles(const ItemsArgs* a) { return a->tiles; }
FC_INLINE size_t f32_accumulate_scratch(const ItemsArgs*) { return 0; }

inline void f32_accumulate_run(const ItemsArgs* a, int64_t begin, int64_t end, void*) {
    constexpr int W = kWidth;
    over_items(a, begin, end, [](int64_t, const FcItem* item, int64_t first, int64_t count) {
        const Vf<W> scale = splat<W>(to_float(item->hyper->grad_scale));
        const bool begins = item->hyper->first != 0.0;
        float* p = item->p + first;
        const float* g = item->g + first;
        over_vectors<W>(count, [=](int64_t i, int n) __attribute__((always_inline)) {
            const Vf<W> d = load_n<W>(g + i, n);
            store_n<W>(p + i, begins ? d * scale : mul_add<W>(d, scale, load_n<W>(p + i, n)), n);
        });
    });
}

// g = g within [-clip_value, clip_value]; NaN stays.
FC_INLINE int64_t f32_clip_value_tiles(const ItemsArgs* a) { return a->tiles; }
FC_INLINE size_t f32_clip_value_scratch(const ItemsArgs*) { return 0; }

inline void f32_clip_value_run(const ItemsArgs* a, int64_t begin, int64_t end, void*) {
    constexpr int W = kWidth;
    over_items(a, begin, end, [](int64_t, const FcItem* item, int64_t first, int64_t count) {
        const Vf<W> high = splat<W>(to_float(item->hyper->clip_value)), low = -high;
        float* g = item->g + first;
        over_vectors<W>(count, [=](int64_t i, int n) __attribute__((always_inline)) {
            Vf<W> d = load_n<W>(g + i, n);
            d = d < low ? low : d;
            store_n<W>(g + i, d > high ? high : d, n);
        });
    });
}

// part[tile] = the sum of the squares of the tile's gradients.
FC_INLINE int64_t f32_square_sum_tiles(const ItemsArgs* a) { return a->tiles; }
FC_INLINE size_t f32_square_sum_scratch(const ItemsArgs*) { return 0; }

inline void f32_square_sum_run(const ItemsArgs* a, int64_t begin, int64_t end, void*) {
    double* part = a->part;
    over_items(a, begin, end, [=](int64_t tile, const FcItem* item, int64_t first, int64_t count) {
        const float* g = item->g + first;
        double sum[16] = {};
        int64_t i = 0;
        for (; i + 16 <= count; i += 16)
            for (int k = 0; k < 16; ++k) sum[k] += static_cast<double>(g[i + k]) * g[i + k];
        for (int k = 0; i < count; ++i, ++k) sum[k] += static_cast<double>(g[i]) * g[i];
        for (int half = 8; half; half /= 2)
            for (int k = 0; k < half; ++k) sum[k] += sum[k + half];
        part[tile] = sum[0];
    });
}

// PyTorch's clip_grad_norm_: grad_scale = min(1, max_norm / (norm + 1e-6)); a NaN stays one.
FC_INLINE int64_t clip_norm_tiles(const ClipNormArgs*) { return 1; }
FC_INLINE size_t clip_norm_scratch(const ClipNormArgs*) { return 0; }

inline void clip_norm_run(const ClipNormArgs* a, int64_t, int64_t, void*) {
    double sum = 0.0;
    for (int64_t i = 0; i < a->parts; ++i) sum += a->part[i];
    const double norm = __builtin_sqrt(sum), scale = a->hypers[0]->max_norm / (norm + 1e-6);
    for (int64_t i = 0; i < a->count; ++i) {
        a->hypers[i]->total_norm = norm;
        a->hypers[i]->grad_scale = scale > 1.0 ? 1.0 : scale;
    }
}

}  // namespace
}  // namespace
#endif
