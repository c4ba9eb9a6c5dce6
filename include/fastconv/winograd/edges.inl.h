// Which channels of a tensor lie mostly in pixels that some taps of a gradient of weights do not see.
//
// A transform spreads its rounding error over all taps, in proportion to the norms of all pixels, those at the edges included that
// meet some taps only. Where the edges of a channel are louder than what every tap sees, its gradients are summed without
// transforms. Of the inner pixels one row in `step` is read: it is a bound from below. Bound by reading the edges.
#ifndef FASTCONV_EDGES_INL_H
#define FASTCONV_EDGES_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr float kEdge = 63;  // the edges' energy by the inner pixels': norms of a whole up to eight times that of what a tap sees

// One vector of channels.
FC_INLINE int64_t f32_loud_edges_tiles(const EdgeArgs* a) { return ceil_div(a->C, kWidth); }
FC_INLINE size_t f32_loud_edges_scratch(const EdgeArgs*) { return 0; }

// Whether each of a vector of channels is quiet; kFull: all its lanes are channels.
template <bool kFull>
FC_INLINE Vi<kWidth> quiet_edges(const EdgeArgs* a, int64_t c, int lanes) {
    const int64_t W = a->extent[2], image = a->extent[0] * a->extent[1] * W;
    Vf<kWidth> edge = {}, inner = {};
    const auto add = [&](Vf<kWidth> sum, const float* row, int64_t from, int64_t to) __attribute__((always_inline)) {
        for (int64_t w = from; w < to; ++w) {
            const float* p = row + w * a->ld;
            const Vf<kWidth> v = kFull ? load<kWidth>(p) : load_n<kWidth>(p, lanes);
            sum = mul_add<kWidth>(v, v, sum);
        }
        return sum;
    };
    for (int64_t n = 0; n < a->n; ++n)
        for (int64_t d = 0; d < a->extent[0]; ++d)
            for (int64_t h = 0; h < a->extent[1]; ++h) {
                const float* row = a->x + (n * image + (d * a->extent[1] + h) * W) * a->ld + c;
                if (d < a->low[0] || d >= a->high[0] || h < a->low[1] || h >= a->high[1]) {
                    edge = add(edge, row, 0, W);
                    continue;
                }
                edge = add(edge, row, 0, a->low[2]);
                if ((h - a->low[1]) % a->step == 0) inner = add(inner, row, a->low[2], a->high[2]);
                edge = add(edge, row, a->high[2], W);
            }
    return edge <= inner * splat<kWidth>(kEdge);  // not so with infinities and NaN
}

inline void f32_loud_edges_run(const EdgeArgs* a, int64_t begin, int64_t end, void*) {
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t c = tile * kWidth;
        const int lanes = static_cast<int>(min64(kWidth, a->C - c));
        const Vi<kWidth> quiet = lanes == kWidth ? quiet_edges<true>(a, c, lanes) : quiet_edges<false>(a, c, lanes);
        for (int i = 0; i < lanes; ++i) a->loud[c + i] = quiet[i] ? 0 : 1;
    }
}

}  // namespace
}  // namespace
#endif
