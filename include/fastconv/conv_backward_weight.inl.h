// Backward to weights, without im2col: dw[t][c][k] = sum over pixels of x[pixel at tap t][c] * gy[pixel][k].
//
// The register tile is M channels x NV vectors of filters, kept while a chunk of pixels goes by: per pixel NV loads of
// gy, M broadcasts of x, M * NV fused multiply-adds. Both operands are read where they lie; nothing is packed. Between
// chunks (sized so that their pixels stay in the second-level cache) the tile rests in the output.
// The cut: weight tiles (group, block of filters, tap) first; where there are few, `parts` ranges of pixels as well,
// whose partial sums are added in order when the gradient is unpacked. It depends on the problem alone.
#include "fastconv/blocks.inl.h"
#include "fastconv/pixels.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kChunk = 256;

template <int W, int NV, int M>
FC_NOINLINE void weight_tile(const float* const* px, int64_t c0, const float* gy, int64_t ldy, int64_t count,
                             int64_t lanes, float* dw) {
    Vf<W> acc[M][NV];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[m][v] = load<W>(dw + (m * NV + v) * W);
    if (lanes >= NV * W) {
        for (int64_t p = 0; p < count; ++p, gy += ldy) {
            const float* x = px[p] + c0;
            Vf<W> b[NV];
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) b[v] = load<W>(gy + v * W);
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) {
                const Vf<W> a = splat<W>(x[m]);
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v) acc[m][v] = mul_add<W>(a, b[v], acc[m][v]);
            }
        }
    } else {
        const int n0 = static_cast<int>(lanes < W ? lanes : W), n1 = static_cast<int>(lanes - n0);
        for (int64_t p = 0; p < count; ++p, gy += ldy) {
            const float* x = px[p] + c0;
            Vf<W> b[NV];
            b[0] = load_n<W>(gy, n0);
            if constexpr (NV > 1) b[1] = load_n<W>(gy + W, n1);
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) {
                const Vf<W> a = splat<W>(x[m]);
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v) acc[m][v] = mul_add<W>(a, b[v], acc[m][v]);
            }
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) store<W>(dw + (m * NV + v) * W, acc[m][v]);
}

template <int W, int NV>
FC_INLINE void weight_channels(const float* const* px, int64_t C, const float* gy, int64_t ldy, int64_t count,
                               int64_t lanes, float* dw) {
    int64_t c = 0;
    constexpr int64_t row = NV * W;
    for (; c + kTileM <= C; c += kTileM) weight_tile<W, NV, kTileM>(px, c, gy, ldy, count, lanes, dw + c * row);
    if constexpr (kTileM == 14)
        if (c + 8 <= C) weight_tile<W, NV, 8>(px, c, gy, ldy, count, lanes, dw + c * row), c += 8;
    if constexpr (kTileM > 4)
        if (c + 4 <= C) weight_tile<W, NV, 4>(px, c, gy, ldy, count, lanes, dw + c * row), c += 4;
    if (c + 2 <= C) weight_tile<W, NV, 2>(px, c, gy, ldy, count, lanes, dw + c * row), c += 2;
    if (c + 1 <= C) weight_tile<W, NV, 1>(px, c, gy, ldy, count, lanes, dw + c * row), c += 1;
}

// R rows of taps at once, each a run of C values, so that narrow first layers have enough accumulators. All taps lie
// inside the image: row r of taps is `shift[r]` floats behind the pixel's pointer.
template <int W, int NV, int C, int R>
FC_NOINLINE void weight_rows(const float* const* px, const int64_t* shift, const float* gy, int64_t ldy, int64_t count,
                             int64_t lanes, float* dw) {
    Vf<W> acc[R][C][NV];
    int n[NV];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) acc[r][c][v] = load<W>(dw + ((r * C + c) * NV + v) * W);
    for (int v = 0; v < NV; ++v) n[v] = static_cast<int>(max64(0, min64(W, lanes - v * W)));
    for (int64_t p = 0; p < count; ++p, gy += ldy) {
        Vf<W> b[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) b[v] = load_n<W>(gy + v * W, n[v]);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const float* x = px[p] + shift[r];
#pragma GCC unroll 8
            for (int c = 0; c < C; ++c) {
                const Vf<W> a = splat<W>(x[c]);
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v) acc[r][c][v] = mul_add<W>(a, b[v], acc[r][c][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) store<W>(dw + ((r * C + c) * NV + v) * W, acc[r][c][v]);
}

// Rows of taps per tile: as many as fill the accumulators of one vector of filters.
template <int C>
constexpr int tap_rows() {
    return kTileM / C < 1 ? 1 : kTileM / C;
}
FC_INLINE int64_t tap_rows(const ConvWeightArgs* a) {
    if (a->G > 1 || a->C > 6 || !all_inside(a)) return 1;
    const int rows[] = {1, tap_rows<1>(), tap_rows<2>(), tap_rows<3>(), tap_rows<4>(), tap_rows<5>(), tap_rows<6>()};
    return rows[a->C] > 7 ? 7 : rows[a->C];
}

template <int W, int NV, int C>
FC_INLINE void weight_tap_rows(const float* const* px, const int64_t* shift, int64_t rows, const float* gy,
                               int64_t ldy, int64_t count, int64_t lanes, float* dw) {
    constexpr int R = tap_rows<C>() > 7 ? 7 : tap_rows<C>();
    if (rows == R) {
        weight_rows<W, NV, C, R>(px, shift, gy, ldy, count, lanes, dw);
    } else {
        for (int64_t r = 0; r < rows; ++r)
            weight_rows<W, NV, C, 1>(px, shift + r, gy, ldy, count, lanes, dw + r * C * NV * W);
    }
}

template <int W, int NV>
FC_INLINE void weight_taps(int64_t C, const float* const* px, const int64_t* shift, int64_t rows, const float* gy,
                           int64_t ldy, int64_t count, int64_t lanes, float* dw) {
    switch (C) {
        case 1: weight_tap_rows<W, NV, 1>(px, shift, rows, gy, ldy, count, lanes, dw); break;
        case 2: weight_tap_rows<W, NV, 2>(px, shift, rows, gy, ldy, count, lanes, dw); break;
        case 3: weight_tap_rows<W, NV, 3>(px, shift, rows, gy, ldy, count, lanes, dw); break;
        case 4: weight_tap_rows<W, NV, 4>(px, shift, rows, gy, ldy, count, lanes, dw); break;
        case 5: weight_tap_rows<W, NV, 5>(px, shift, rows, gy, ldy, count, lanes, dw); break;
        default: weight_tap_rows<W, NV, 6>(px, shift, rows, gy, ldy, count, lanes, dw); break;
    }
}

FC_INLINE int64_t f32_conv_backward_weight_tiles(const ConvWeightArgs* a) {
    return a->parts * a->G * ceil_div(a->K, kBlock) * ceil_div(a->T, tap_rows(a));
}
FC_INLINE size_t f32_conv_backward_weight_scratch(const ConvWeightArgs*) { return kChunk * sizeof(void*); }

inline void f32_conv_backward_weight_run(const ConvWeightArgs* a, int64_t begin, int64_t end, void* scratch) {
    const int64_t blocks = ceil_div(a->K, kBlock), filters = packed_filters(a->K);
    const int64_t pixels = a->n * a->iD * a->iH * a->iW, per_part = ceil_div(pixels, a->parts);
    const int64_t rows = tap_rows(a), groups = ceil_div(a->T, rows);
    const float** px = static_cast<const float**>(scratch);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t t = tile % groups * rows, block = tile / groups % blocks, g = tile / (groups * blocks) % a->G;
        const int64_t part = tile / (groups * blocks * a->G), k0 = block * kBlock, lanes = min64(kBlock, a->K - k0);
        const int64_t width = lanes == kBlock ? kBlock : block_width(lanes), here = min64(rows, a->T - t);
        float* dw = a->dw + part * a->part_stride + (g * filters + k0) * a->T * a->C + t * a->C * width;
        memset(dw, 0, sizeof(float) * static_cast<size_t>(here * a->C * width));
        ConvWeightArgs one = *a;
        one.T = 1;
        one.taps = a->taps + 3 * t;
        int64_t shift[8];
        for (int64_t r = 0; r < here; ++r) {
            const int32_t *o = one.taps + 3 * r, *f = one.taps;
            shift[r] = (((o[0] - f[0]) * a->xH + o[1] - f[1]) * a->xW + o[2] - f[2]) * a->ldx;
        }
        const int64_t stop = min64(pixels, (part + 1) * per_part);
        for (int64_t first = part * per_part; first < stop; first += kChunk) {
            const int64_t count = min64(kChunk, stop - first);
            input_pointers(&one, a->x + g * a->C, first, count, count, px);
            const float* gy = a->gy + first * a->ldy + g * a->K + k0;
            if (rows > 1) {
                if (width == kBlock) {
                    weight_taps<kWidth, 2>(a->C, px, shift, here, gy, a->ldy, count, lanes, dw);
                } else if (width == kWidth) {
                    weight_taps<kWidth, 1>(a->C, px, shift, here, gy, a->ldy, count, lanes, dw);
                } else {
                    weight_taps<kHalf, 1>(a->C, px, shift, here, gy, a->ldy, count, lanes, dw);
                }
            } else if (width == kBlock) {
                weight_channels<kWidth, 2>(px, a->C, gy, a->ldy, count, lanes, dw);
            } else if (width == kWidth) {
                weight_channels<kWidth, 1>(px, a->C, gy, a->ldy, count, lanes, dw);
            } else {
                weight_channels<kHalf, 1>(px, a->C, gy, a->ldy, count, lanes, dw);
            }
        }
    }
}

// ---- sums --------------------------------------------------------------------------------------------------------

FC_INLINE int64_t f32_sum_partials_tiles(const PartialArgs* a) { return ceil_div(a->count, 4096); }
FC_INLINE size_t f32_sum_partials_scratch(const PartialArgs*) { return 0; }

inline void f32_sum_partials_run(const PartialArgs* a, int64_t begin, int64_t end, void*) {
    for (int64_t i = begin * 4096; i < min64(a->count, end * 4096); ++i) {
        float sum = a->part[i];
        for (int64_t p = 1; p < a->parts; ++p) sum += a->part[p * a->part_stride + i];
        a->out[i] = a->accumulate ? a->out[i] + sum : sum;
    }
}

FC_INLINE int64_t f32_column_sum_tiles(const ColumnSumArgs* a) { return a->parts; }
FC_INLINE size_t f32_column_sum_scratch(const ColumnSumArgs*) { return 0; }

template <int W>
FC_INLINE void column_sum(const float* x, int64_t rows, int64_t ld, int n, float* out) {
    Vf<W> s[4] = {Vf<W>{}, Vf<W>{}, Vf<W>{}, Vf<W>{}};
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4)
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) s[i] = s[i] + load_n<W>(x + (r + i) * ld, n);
    for (; r < rows; ++r) s[0] = s[0] + load_n<W>(x + r * ld, n);
    store_n<W>(out, (s[0] + s[1]) + (s[2] + s[3]), n);
}

inline void f32_column_sum_run(const ColumnSumArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t rows = a->n * a->rows_per_image, per = ceil_div(rows, a->parts);
    for (int64_t part = begin; part < end; ++part) {
        const int64_t first = min64(rows, part * per), count = min64(rows, first + per) - first;
        for (int64_t c = 0; c < a->C; c += kWidth)
            column_sum<kWidth>(a->x + first * a->ld + c, count, a->ld, static_cast<int>(min64(kWidth, a->C - c)),
                               a->part + part * a->C + c);
    }
}

}  // namespace
}  // namespace
