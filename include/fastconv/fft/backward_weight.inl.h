// Backward to weights by Fourier transforms: dw[r] = sum over outputs of x[p + r] gy[p] is, at each frequency, the product
// of two matrices, channels x tiles by tiles x filters: DW = sum over tiles of X * conj(GY), where a tile of gy is padded with
// zeros to the size of a tile of x. The sums stay in the spectrum while ranges of tiles go by, in order, and are
// transformed back once: f32_fft_transform (of x, of gy), f32_fft_product_weight, f32_fft_inverse_weight. No partial sums are
// needed: the frequencies are what threads share. Depthwise, f32_fft_depthwise_weight does it all for a vector of channels
// and a range of tiles.
//
// The register tile is that of f32_fft_product with channels for tiles: M channels (of one block) x 1 vector of filters.
#include "fastconv/fft/conv.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kFftRows = kWidth == 16 ? 8 : 4;

template <int M>
FC_NOINLINE void fft_weight_tile(const float* x, int64_t xm, const float* g, int64_t gm, int64_t count, float* sums, bool add) {
    FftSums<M> s;
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
        s.set(m, add ? vload(sums + m * kPair) : V{}, add ? vload(sums + m * kPair + kWidth) : V{});
    for (int64_t i = 0; i < count; ++i) fft_multiply<M>(s, x + i * xm, 1, g + i * gm);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
        const Cx sum = s.get(m);
        vstore(sums + m * kPair, sum.re);
        vstore(sums + m * kPair + kWidth, sum.im);
    }
}

FC_INLINE int64_t f32_fft_product_weight_tiles(const FftArgs* a) {
    return a->add && !fft_count(a) ? 0 : ceil_div(fft_frequencies(a), fft_product_run(a));
}
FC_INLINE size_t f32_fft_product_weight_scratch(const FftArgs*) { return 0; }

inline void f32_fft_product_weight_run(const FftArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t run = fft_product_run(a), count = fft_count(a), blocks = fft_blocks(a->K);
    const int64_t xm = fft_blocks(a->G * a->C) * kPair, gm = a->G * blocks * kPair, last = fft_frequencies(a);
    const bool add = a->add;
    for (int64_t f = begin * run; f < min64(last, end * run); ++f) {
        if (f + 1 < last) {
            fft_ahead<false>(a->xs + (f + 1) * a->xs_pitch, count * xm);
            fft_ahead<false>(a->ys + (f + 1) * a->ys_pitch, count * gm);
            fft_ahead<true>(a->packed + (f + 1) * fft_packed_pitch(a), fft_packed_pitch(a));
        }
        for (int64_t b = 0; b < a->G * blocks; ++b) {
            const int64_t first = b / blocks * a->C, stop = first + a->C;
            const float* g = a->ys + f * a->ys_pitch + b * kPair;
            float* sums = a->packed + f * fft_packed_pitch(a) + b * a->C * kPair;
            for (int64_t c = first; c < stop;) {
                const int64_t lane = c % kWidth, rows = min64(kWidth - lane, stop - c);
                const float* x = a->xs + f * a->xs_pitch + (c - lane) * 2 + lane;
                int64_t r = 0;
                const auto at = [&] { return sums + (c - first + r) * kPair; };
                for (; r + kFftRows <= rows; r += kFftRows) fft_weight_tile<kFftRows>(x + r, xm, g, gm, count, at(), add);
                if constexpr (kFftRows > 4)
                    if (r + 4 <= rows) fft_weight_tile<4>(x + r, xm, g, gm, count, at(), add), r += 4;
                if (r + 2 <= rows) fft_weight_tile<2>(x + r, xm, g, gm, count, at(), add), r += 2;
                if (r < rows) fft_weight_tile<1>(x + r, xm, g, gm, count, at(), add);
                c += rows;
            }
        }
    }
}

// One row of taps' gradients, for `lanes` filters at gy, over a range of tiles, by the definition: where infinities or
// NaN meet.
template <bool kDepthwise>
FC_NOINLINE V fft_direct_weight(const FftArgs* a, const float* x, const float* gy, int lanes, int64_t begin, int64_t end,
                                const int64_t* tap) {
    V sum = {};
    for (int64_t t = begin; t < end; ++t) {
        const FftPlace place = fft_place(a, t);
        int64_t extent[3];
        fft_extent(a, place, extent);
        for (int64_t i0 = 0; i0 < extent[0]; ++i0)
            for (int64_t i1 = 0; i1 < extent[1]; ++i1)
                for (int64_t i2 = 0; i2 < extent[2]; ++i2) {
                    const int64_t i[3] = {place.at[0] + i0, place.at[1] + i1, place.at[2] + i2};
                    int64_t from = place.image * a->x_image, to = place.image * a->y_image;
                    bool inside = true;
                    for (int d = 0; d < 3; ++d) {
                        const int64_t p = i[d] - a->axis[d].low + tap[d] * a->axis[d].dilation;
                        inside = inside && p >= 0 && p < a->axis[d].in;
                        from += p * a->axis[d].in_step;
                        to += i[d] * a->axis[d].out_step;
                    }
                    V v = {};
                    if (inside) v = kDepthwise ? load_n<kWidth>(x + from * a->ldx, lanes) : splat<kWidth>(x[from * a->ldx]);
                    sum = mul_add<kWidth>(v, load_n<kWidth>(gy + to * a->ldy, lanes), sum);
                }
    }
    return sum;
}

// The taps that a spectrum of sums holds, to where the user has them, dw[lane * sk + tap]; x and gy as for
// fft_direct_weight.
template <bool kDepthwise>
FC_INLINE void fft_gradient(const FftArgs* a, const float* spectrum, int64_t fs, const FftScratch& s, const float* x, const float* gy,
                        int lanes, int64_t begin, int64_t end, bool loud, float* dw) {
    const FftAxis &A0 = a->axis[0], &A1 = a->axis[1], &A2 = a->axis[2];
    int64_t extent[3], step[3];
    for (int i = 0; i < 3; ++i) {
        step[i] = a->axis[i].dilation;
        extent[i] = (a->axis[i].taps - 1) * step[i] + 1;
    }
    const bool good = !loud && fft_inverse(a, spectrum, fs, s, extent, step);
    const float scale = static_cast<float>(a->scale);
    for (int64_t t = 0; t < A0.taps * A1.taps * A2.taps; ++t) {
        const int64_t tap[3] = {t / (A2.taps * A1.taps), t / A2.taps % A1.taps, t % A2.taps};
        const float* row = s.grid + (tap[0] * step[0] * A1.size + tap[1] * step[1]) * fft_columns(a) * kPair;
        const V v = good ? vload(row + tap[2] * step[2] * kWidth) * scale
                         : fft_direct_weight<kDepthwise>(a, x, gy, lanes, begin, end, tap);
        float* to = dw + tap[0] * A0.tap_step + tap[1] * A1.tap_step + tap[2] * A2.tap_step;
        for (int i = 0; i < lanes; ++i) to[i * a->sk] = v[i];
    }
}

FC_INLINE int64_t f32_fft_inverse_weight_tiles(const FftArgs* a) { return f32_fft_weight_tiles(a); }
FC_INLINE size_t f32_fft_inverse_weight_scratch(const FftArgs* a) { return f32_fft_weight_scratch(a); }

inline void f32_fft_inverse_weight_run(const FftArgs* a, int64_t begin, int64_t end, void* scratch) {
    const FftScratch s = fft_scratch(a, scratch);
    for (int64_t tile = begin; tile < end; ++tile) {
        const FftFilters f = fft_filters(a, tile);
        const float* gy = a->gy + f.g * a->K + f.block * kWidth;
        const bool loud = a->loud_y && any_loud(a->loud_y + f.g * a->K + f.block * kWidth, f.lanes);
        for (int64_t c = f.first; c < f.end; ++c)
            fft_gradient<false>(a, a->packed + fft_packed_at(a, f.g, f.block, c), fft_packed_pitch(a), s, a->x + f.g * a->C + c, gy,
                            f.lanes, 0, a->n * fft_tiles_per_image(a), loud || (a->loud_x && a->loud_x[f.g * a->C + c]),
                                a->dw + f.offset + c * a->sc);
    }
}

// ---- depthwise: C = K = 1, G channels ---------------------------------------------------------------------------------

// One tile of the problem: one of `parts` ranges of tiles by one vector of channels.
FC_INLINE int64_t f32_fft_depthwise_weight_tiles(const FftArgs* a) { return a->parts * fft_blocks(a->G); }
FC_INLINE size_t f32_fft_depthwise_weight_scratch(const FftArgs* a) {
    return static_cast<size_t>(fft_scratch_floats(a) + 2 * fft_frequencies(a) * kPair) * sizeof(float);
}

inline void f32_fft_depthwise_weight_run(const FftArgs* a, int64_t begin, int64_t end, void* scratch) {
    const int64_t floats = fft_frequencies(a) * kPair, blocks = fft_blocks(a->G), tiles = a->n * fft_tiles_per_image(a);
    float *sums = static_cast<float*>(scratch), *other = sums + floats;
    const FftScratch s = fft_scratch(a, other + floats);
    FftArgs g = *a;  // the gradient's tiles: the outputs alone, no padding
    g.ldx = a->ldy;
    g.x_image = a->y_image;
    for (int i = 0; i < 3; ++i) {
        g.axis[i].in = a->axis[i].out;
        g.axis[i].in_step = a->axis[i].out_step;
        g.axis[i].low = 0;
        g.axis[i].span = a->axis[i].tile;
    }
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t b = tile % blocks, part = tile / blocks, k = b * kWidth;
        const int64_t first = tiles * part / a->parts, last = tiles * (part + 1) / a->parts;
        const int lanes = static_cast<int>(min64(kWidth, a->G - k));
        for (int64_t i = 0; i < floats; i += kWidth) vstore(sums + i, V{});
        for (int64_t t = first; t < last; ++t) {
            const FftPlace place = fft_place(a, t);
            fft_forward(a, place, a->x + k, lanes, s, s.grid, kPair);
            fft_forward(&g, place, a->gy + k, lanes, {other, s.work, s.row}, other, kPair);
            for (int64_t i = 0; i < floats; i += kPair) {
                const V xr = vload(s.grid + i), xi = vload(s.grid + i + kWidth), gr = vload(other + i);
                const V gi = vload(other + i + kWidth);
                V re = mul_add<kWidth>(xr, gr, vload(sums + i)), im = mul_add<kWidth>(xi, gr, vload(sums + i + kWidth));
                vstore(sums + i, mul_add<kWidth>(xi, gi, re));
                vstore(sums + i + kWidth, negated_mul_add<kWidth>(xr, gi, im));
            }
        }
        const bool loud = a->loud_x && (any_loud(a->loud_x + k, lanes) || any_loud(a->loud_y + k, lanes));
        fft_gradient<true>(a, sums, kPair, s, a->x + k, a->gy + k, lanes, first, last, loud,
                           a->dw + part * a->part_stride + k * a->sk);
    }
}

}  // namespace
}  // namespace
