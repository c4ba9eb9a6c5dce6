// Depthwise and narrow grouped convolution, channels-last, filters in the lanes.
//
// 3x3 (any depth of the kernel), stride 1 or 2 within a phase: a tile of R rows x M columns of outputs of one vector.
//
//        columns j: 0   1   2   3   4   5          each pixel (i, j) is loaded once and goes into up to nine
//   row i = 0       o   o   o   o   o   o          accumulators; the nine taps' weights stay in registers:
//           1       o [acc acc acc acc] o
//           2       o [acc acc acc acc] o          AVX-512: R = 4, M = 4: 16 accumulators, 9 weights,
//           3       o [acc acc acc acc] o                   36 loads for 144 multiply-adds
//           4       o [acc acc acc acc] o          AVX2:    R = 2, M = 4 (16 registers: weights are reloaded)
//           5       o   o   o   o   o   o          stride 2: half the rows
//
// Other kernels: one row of M outputs, one row of taps at a time; rows of 3, 5 and 7 taps load each pixel once per row.
// Rows and columns of taps that lie in the padding are skipped. The tiles of a unit go over the vectors first: memory is
// read in runs of 512 bytes. Every output is one chain of multiply-adds over (depth, channel, row, column), or for other
// kernels (depth, row, channel, column), whatever its tile. Bound by the FMA units while the image is in the caches,
// else by memory.
#include "fastconv/depthwise/depthwise.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kTileRows = kWidth == 16 ? 4 : 2;
constexpr int kRowRun = kWidth == 16 ? 8 : 4;

// Bias, residual and activation of a tile: once for all tiles, from memory, where they do not end in its registers.
FC_NOINLINE void depthwise_epilogue(const DepthwiseArgs* a, const float* acc, int R, int M, const Spot& s, const Lane& v) {
    constexpr int W = kWidth;
    const float lo = static_cast<float>(a->act_a), hi = static_cast<float>(a->act_b);
    const Vf<W> bias = a->bias ? load_n<W>(a->bias + v.k, v.n) : Vf<W>{};
    for (int r = 0; r < R; ++r)
        for (int m = 0; m < M; ++m, acc += W) {
            Vf<W> y = load<W>(acc);
            if (a->bias) y = y + bias;
            if (a->residual) y = y + load_n<W>(a->residual + s.r + r * s.r_row + m * s.r_column + v.k, v.n);
            float* out = a->y + s.y + r * s.y_row + m * s.y_column + v.k;
            y = activate<W>(y, a->act, lo, hi);
            if (v.n == W) {
                put<W>(out, y, s.stream);
            } else {
                store_n<W>(out, y, v.n);
            }
        }
}

// The end of whole vectors in registers: the bits are those of depthwise_epilogue. (-0 is what changes nothing when added.)
template <int W>
struct Ends {
    Vf<W> bias, low, high;
    FC_INLINE Ends(const DepthwiseArgs* a, const Spot& s, const Lane& v)
        : bias(a->bias ? load<W>(a->bias + v.k) : splat<W>(-0.0f)), low(splat<W>(s.low)), high(splat<W>(s.high)) {}
    FC_INLINE Vf<W> operator()(Vf<W> y) const { return vmin<W>(high, vmax<W>(low, y + bias)); }
};

template <int W, int R, int M>
FC_INLINE void finish_tile(const DepthwiseArgs* a, const Vf<W> (&acc)[R][M], const Spot& s, const Lane& v, bool plain) {
    if (plain && s.direct) {
        const Ends<W> end(a, s, v);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) put<W>(a->y + s.y + r * s.y_row + m * s.y_column + v.k, end(acc[r][m]), s.stream);
        return;
    }
    alignas(64) float t[R * M * W];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) store<W>(t + (r * M + m) * W, acc[r][m]);
    depthwise_epilogue(a, t, R, M, s, v);
}

template <int W, int R, int M, int ST, bool kPlain, bool kInside>
FC_NOINLINE void depthwise_tile(const DepthwiseArgs* a, const Spot& s, const Lane& v, const int32_t* channel) {
    constexpr int I = (R - 1) * ST + 3, J = (M - 1) * ST + 3;
    Vf<W> acc[R][M];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) acc[r][m] = Vf<W>{};
    const uint32_t rows = s.rows, columns = s.columns;
    const int64_t C = kPlain ? 1 : a->C, step = kPlain ? W : C * v.n;
    const float* w = a->w + v.w + s.d0 * 9 * step;
    const float* x = s.x + v.c + s.d0 * s.depth;
    alignas(64) float px[kPlain ? 1 : I * J * W];
    for (int64_t d = s.d0; d < s.d1; ++d, x += s.depth, w += 9 * step) {
        if constexpr (!kPlain) gather_pixels<W, I, J, kInside>(x, s.row, s.column, rows, columns, v.span, px);
        for (int64_t c = 0; c < C; ++c) {
            Vf<W> f[9];
#pragma GCC unroll 9
            for (int t = 0; t < 9; ++t) f[t] = load_filters<W, kPlain>(w + t * step + c * v.n, v.n);
            Vi<W> which{};
            if constexpr (!kPlain) which = load<W>(channel) + splat_i<W>(static_cast<int32_t>(c));
#pragma GCC unroll 9
            for (int i = 0; i < I; ++i) {
                if (!kInside && !(rows >> i & 1u)) continue;
                const float* row = x + i * s.row;
#pragma GCC unroll 9
                for (int j = 0; j < J; ++j) {
                    if (!kInside && !(columns >> j & 1u)) continue;
                    Vf<W> p;
                    if constexpr (kPlain) {
                        p = load<W>(row + j * s.column);
                    } else {
                        p = permute<W>(load<W>(px + (i * J + j) * W), which);
                    }
#pragma GCC unroll 8
                    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
                        for (int m = 0; m < M; ++m)
                            if (i >= r * ST && i < r * ST + 3 && j >= m * ST && j < m * ST + 3)
                                acc[r][m] = mul_add<W>(p, f[(i - r * ST) * 3 + j - m * ST], acc[r][m]);
                }
            }
        }
    }
    finish_tile<W, R, M>(a, acc, s, v, kPlain);
}

// One row of M outputs; S taps per row, or a number known at run time (S = 0) with any stride.
template <int W, int M, int S, int ST, bool kPlain>
FC_NOINLINE void depthwise_row(const DepthwiseArgs* a, const Spot& s, const Lane& v, const int32_t* channel, int64_t stride) {
    Vf<W> acc[1][M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) acc[0][m] = Vf<W>{};
    const int64_t C = kPlain ? 1 : a->C, step = kPlain ? W : C * v.n, taps = S ? S : a->kW;
    const uint32_t columns = s.columns;
    const bool inside = s.j0 == 0 && s.j1 == (M - 1) * stride + taps;
    for (int64_t d = s.d0; d < s.d1; ++d)
        for (int64_t i = s.i0; i < s.i1; ++i)
            for (int64_t c = 0; c < C; ++c) {
                const float* w = a->w + v.w + (d * a->kH + i) * taps * step + c * v.n;
                const float* x = s.x + v.c + d * s.depth + i * s.row;
                Vi<W> which{};
                if constexpr (!kPlain) which = load<W>(channel) + splat_i<W>(static_cast<int32_t>(c));
                if constexpr (S > 0) {
                    constexpr int J = (M - 1) * ST + S;
                    Vf<W> f[S];
#pragma GCC unroll 8
                    for (int t = 0; t < S; ++t) f[t] = load_filters<W, kPlain>(w + t * step, v.n);
#pragma GCC unroll 24
                    for (int j = 0; j < J; ++j) {
                        if (!(columns >> j & 1u)) continue;
                        const Vf<W> p = load_channels<W, kPlain>(x + j * s.column, v.span, which);
#pragma GCC unroll 8
                        for (int m = 0; m < M; ++m)
                            if (j >= m * ST && j < m * ST + S) acc[0][m] = mul_add<W>(p, f[j - m * ST], acc[0][m]);
                    }
                } else if (inside) {
                    for (int64_t t = 0; t < taps; ++t) {
                        const Vf<W> f = load_filters<W, kPlain>(w + t * step, v.n);
#pragma GCC unroll 8
                        for (int m = 0; m < M; ++m)
                            acc[0][m] = mul_add<W>(
                                load_channels<W, kPlain>(x + (m * stride + t) * s.column, v.span, which), f, acc[0][m]);
                    }
                } else {
                    for (int64_t t = 0; t < taps; ++t) {
                        const Vf<W> f = load_filters<W, kPlain>(w + t * step, v.n);
#pragma GCC unroll 8
                        for (int m = 0; m < M; ++m) {
                            const int64_t j = m * stride + t;
                            if (j >= s.j0 && j < s.j1)
                                acc[0][m] = mul_add<W>(load_channels<W, kPlain>(x + j * s.column, v.span, which), f,
                                                       acc[0][m]);
                        }
                    }
                }
            }
    finish_tile<W, 1, M>(a, acc, s, v, kPlain);
}

// ---- which tile ---------------------------------------------------------------------------------------------------------

// Stride of the 3x3 tiles, or 0 where they do not apply.
FC_INLINE int64_t tile_stride(const DepthwiseArgs* a, const Shape& s) {
    return a->kH == 3 && a->kW == 3 && s.h.stride == s.w.stride && s.w.stride <= 2 ? s.w.stride : 0;
}
FC_INLINE int64_t tile_rows(int64_t stride) { return stride == 1 ? kTileRows : stride == 2 ? kTileRows / 2 : 1; }

template <int R, int ST, bool kPlain>
FC_INLINE void tile_columns(const DepthwiseArgs* a, const Spot& s, const Lane& v, const int32_t* channel, int64_t m) {
    switch (m) {
        case 4:
            if constexpr (R == kTileRows / ST) {
                if (s.rows == (2u << (R * ST - ST + 2)) - 1 && s.columns == (2u << (4 * ST - ST + 2)) - 1)
                    return depthwise_tile<kWidth, R, 4, ST, kPlain, true>(a, s, v, channel);
            }
            depthwise_tile<kWidth, R, 4, ST, kPlain, false>(a, s, v, channel);
            break;
        case 3: depthwise_tile<kWidth, R, 3, ST, kPlain, false>(a, s, v, channel); break;
        case 2: depthwise_tile<kWidth, R, 2, ST, kPlain, false>(a, s, v, channel); break;
        default: depthwise_tile<kWidth, R, 1, ST, kPlain, false>(a, s, v, channel); break;
    }
}

template <bool kPlain>
FC_INLINE void one_tile(const DepthwiseArgs* a, const Spot& s, const Lane& v, const int32_t* channel, int64_t stride,
                        int64_t r, int64_t m) {
    if (stride == 2) {
        if constexpr (kTileRows == 4)
            if (r == 2) return tile_columns<2, 2, kPlain>(a, s, v, channel, m);
        return tile_columns<1, 2, kPlain>(a, s, v, channel, m);
    }
    if constexpr (kTileRows == 4) {
        if (r == 4) return tile_columns<4, 1, kPlain>(a, s, v, channel, m);
        if (r == 3) return tile_columns<3, 1, kPlain>(a, s, v, channel, m);
    }
    if (r == 2) return tile_columns<2, 1, kPlain>(a, s, v, channel, m);
    tile_columns<1, 1, kPlain>(a, s, v, channel, m);
}

template <int S, int ST, bool kPlain>
FC_INLINE void row_columns(const DepthwiseArgs* a, const Spot& s, const Lane& v, const int32_t* channel, int64_t stride,
                           int64_t m) {
    switch (m) {
        case 8: depthwise_row<kWidth, kRowRun, S, ST, kPlain>(a, s, v, channel, stride); break;
        case 4: depthwise_row<kWidth, 4, S, ST, kPlain>(a, s, v, channel, stride); break;
        case 2: depthwise_row<kWidth, 2, S, ST, kPlain>(a, s, v, channel, stride); break;
        default: depthwise_row<kWidth, 1, S, ST, kPlain>(a, s, v, channel, stride); break;
    }
}

template <bool kPlain>
FC_INLINE void one_row(const DepthwiseArgs* a, const Spot& s, const Lane& v, const int32_t* channel, int64_t stride,
                       int64_t m) {
    if constexpr (kPlain) {
        if (stride == 1) {
            if (a->kW == 3) return row_columns<3, 1, true>(a, s, v, channel, 1, m);
            if (a->kW == 5) return row_columns<5, 1, true>(a, s, v, channel, 1, m);
            if (a->kW == 7) return row_columns<7, 1, true>(a, s, v, channel, 1, m);
        } else if (stride == 2) {
            if (a->kW == 5) return row_columns<5, 2, true>(a, s, v, channel, 2, m);
        }
    }
    row_columns<0, 1, kPlain>(a, s, v, channel, stride, m);
}

// Outputs of the next tile along the width: as many as there is a tile for.
FC_INLINE int64_t next_columns(bool tiles, int64_t left) {
    if (tiles) return min64(left, 4);
    return left >= kRowRun ? kRowRun : left >= 4 ? 4 : left >= 2 ? 2 : left;
}

// ---- units --------------------------------------------------------------------------------------------------------------

// Groups of rows per unit, by the work in them.
FC_INLINE int64_t unit_groups(const DepthwiseArgs* a, const Shape& s, int64_t R) {
    const int64_t taps = a->kD * a->kH * a->kW * a->C;
    const int64_t work = R * a->iW * taps * min64(s.block, s.lanes.count);
    return max64(1, min64(axis_groups(s.h, R), kUnitWork / max64(1, work)));
}
FC_INLINE int64_t unit_chunks(const DepthwiseArgs* a, const Shape& s, int64_t R) {
    return a->n * a->iD * ceil_div(axis_groups(s.h, R), unit_groups(a, s, R));
}
FC_INLINE Shape forward_shape(const DepthwiseArgs* a) {
    Shape s = make_shape(a);
    set_block(s, unit_block(s.lanes.count, unit_chunks(a, s, tile_rows(tile_stride(a, s)))));
    return s;
}

FC_INLINE int64_t f32_conv_depthwise_tiles(const DepthwiseArgs* a) {
    const Shape s = forward_shape(a);
    return unit_chunks(a, s, tile_rows(tile_stride(a, s))) * s.blocks;
}
FC_INLINE size_t f32_conv_depthwise_scratch(const DepthwiseArgs*) { return 0; }

inline void f32_conv_depthwise_run(const DepthwiseArgs* a, int64_t begin, int64_t end, void*) {
    const Shape s = forward_shape(a);
    const int64_t stride = tile_stride(a, s), R = tile_rows(stride), groups = axis_groups(s.h, R);
    const int64_t per = unit_groups(a, s, R), chunks = ceil_div(groups, per);
    const int64_t taps_columns = stride ? 3 : a->kW, column_stride = s.w.stride;
    const bool plain = a->C == 1 && a->K == 1, ahead = fetches_ahead(a, kAheadBytes, !stride);
    const int32_t* channel = s.lanes.channel;
    for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t block = unit % s.blocks, chunk = unit / s.blocks % chunks, plane = unit / (s.blocks * chunks);
        const int64_t v0 = block * s.block, v1 = min64(s.lanes.count, v0 + s.block);
        for (int64_t g = chunk * per; g < min64(groups, (chunk + 1) * per); ++g) {
            const Group rows = axis_group(s.h, R, g);
            const int64_t taps_rows = stride ? (rows.count - 1) * stride + 3 : a->kH;
            Spot row;
            set_ends(a, row);
            place_rows(a, s, plane / a->iD, plane % a->iD, rows, taps_rows, row);
            Spot at = row;
            const int64_t rows_apart = taps_rows * row.row, new_rows = rows.count * s.h.stride;
            for (int64_t f = 0; f < s.w.phases; ++f) {
                const int64_t outputs = phase_outputs(s.w, f);
                for (int64_t q = 0, m; q < outputs; q += m) {
                    m = next_columns(stride != 0, outputs - q);
                    place_columns(a, s, row, f, q, (m - 1) * column_stride + taps_columns, at);
                    for (int64_t i = v0; i < v1; ++i) {
                        const Lane v = lane(a, s.lanes, i);
                        if (ahead) {
                            fetch_rows(at.x + v.c + rows_apart, new_rows, at.row, m * column_stride, at.column);
                            if (a->ldy % kWidth)
                                fetch_outputs(a->y + at.y + v.k + rows.count * at.y_row, rows.count, at.y_row, m,
                                              at.y_column);
                        }
                        if (stride) {
                            if (plain && v.n == kWidth) {
                                one_tile<true>(a, at, v, channel, stride, rows.count, m);
                            } else {
                                one_tile<false>(a, at, v, channel, stride, rows.count, m);
                            }
                        } else if (plain && v.n == kWidth) {
                            one_row<true>(a, at, v, channel, column_stride, m);
                        } else {
                            one_row<false>(a, at, v, channel, column_stride, m);
                        }
                    }
                }
            }
        }
    }
    if (streams(a)) stream_end();
}

}  // namespace
}  // namespace
