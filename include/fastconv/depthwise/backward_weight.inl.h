// Depthwise and narrow grouped convolution, backward to weights: dw[tap][channel][filter], a sum over pixels.
//
// The tile is that of the forward with the roles of weights and outputs exchanged: R x M vectors of the output's gradient
// and the nine sums of a 3x3 kernel stay in registers while each of the tile's pixels is loaded once and multiplied by
// up to nine gradients. Between tiles the sums rest in dw, in the first-level cache.
//
// Part p sums over the p-th range of groups of rows of the whole batch, in order, into its own dw; the parts are added
// in order when the gradient is unpacked. The number of parts comes from the caller: results do not depend on threads.
#include "fastconv/depthwise/depthwise.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kWeightRows = kWidth == 16 ? 4 : 1;

template <int W, int R, int M, int ST, bool kPlain, bool kInside>
FC_NOINLINE void depthwise_weight_tile(const DepthwiseArgs* a, const Spot& s, const Lane& v, const int32_t* channel,
                                       float* dw) {
    constexpr int I = (R - 1) * ST + 3, J = (M - 1) * ST + 3;
    Vf<W> g[R][M];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m)
            g[r][m] = load_filters<W, kPlain>(a->gy + s.y + r * s.y_row + m * s.y_column + v.k, v.n);
    const uint32_t rows = s.rows, columns = s.columns;
    const int64_t C = kPlain ? 1 : a->C, step = kPlain ? W : C * v.n;
    float* w = dw + v.w + s.d0 * 9 * step;
    const float* x = s.x + v.c + s.d0 * s.depth;
    alignas(64) float px[kPlain ? 1 : I * J * W];
    for (int64_t d = s.d0; d < s.d1; ++d, x += s.depth, w += 9 * step) {
        if constexpr (!kPlain) gather_pixels<W, I, J, kInside>(x, s.row, s.column, rows, columns, v.span, px);
        for (int64_t c = 0; c < C; ++c) {
            Vf<W> acc[9];
#pragma GCC unroll 9
            for (int t = 0; t < 9; ++t) acc[t] = load_filters<W, kPlain>(w + t * step + c * v.n, v.n);
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
                                acc[(i - r * ST) * 3 + j - m * ST] = mul_add<W>(p, g[r][m], acc[(i - r * ST) * 3 + j - m * ST]);
                }
            }
#pragma GCC unroll 9
            for (int t = 0; t < 9; ++t) {
                if constexpr (kPlain) {
                    store<W>(w + t * step, acc[t]);
                } else {
                    store_n<W>(w + t * step + c * v.n, acc[t], v.n);
                }
            }
        }
    }
}

// One row of M gradients, one row of taps at a time.
template <int W, int M, int S, int ST, bool kPlain>
FC_NOINLINE void depthwise_weight_row(const DepthwiseArgs* a, const Spot& s, const Lane& v, const int32_t* channel,
                                      int64_t stride, float* dw) {
    Vf<W> g[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) g[m] = load_filters<W, kPlain>(a->gy + s.y + m * s.y_column + v.k, v.n);
    const int64_t C = kPlain ? 1 : a->C, step = kPlain ? W : C * v.n, taps = S ? S : a->kW;
    const uint32_t columns = s.columns;
    for (int64_t d = s.d0; d < s.d1; ++d)
        for (int64_t i = s.i0; i < s.i1; ++i)
            for (int64_t c = 0; c < C; ++c) {
                float* w = dw + v.w + (d * a->kH + i) * taps * step + c * v.n;
                const float* x = s.x + v.c + d * s.depth + i * s.row;
                Vi<W> which{};
                if constexpr (!kPlain) which = load<W>(channel) + splat_i<W>(static_cast<int32_t>(c));
                if constexpr (S > 0) {
                    constexpr int J = (M - 1) * ST + S;
                    Vf<W> acc[S];
#pragma GCC unroll 8
                    for (int t = 0; t < S; ++t) acc[t] = load<W>(w + t * step);
#pragma GCC unroll 24
                    for (int j = 0; j < J; ++j) {
                        if (!(columns >> j & 1u)) continue;
                        const Vf<W> p = load<W>(x + j * s.column);
#pragma GCC unroll 8
                        for (int m = 0; m < M; ++m)
                            if (j >= m * ST && j < m * ST + S) acc[j - m * ST] = mul_add<W>(p, g[m], acc[j - m * ST]);
                    }
#pragma GCC unroll 8
                    for (int t = 0; t < S; ++t) store<W>(w + t * step, acc[t]);
                } else {
                    for (int64_t t = 0; t < taps; ++t) {
                        Vf<W> acc = load_filters<W, kPlain>(w + t * step, v.n);
#pragma GCC unroll 8
                        for (int m = 0; m < M; ++m) {
                            const int64_t j = m * stride + t;
                            if (j >= s.j0 && j < s.j1)
                                acc = mul_add<W>(load_channels<W, kPlain>(x + j * s.column, v.span, which), g[m], acc);
                        }
                        if constexpr (kPlain) {
                            store<W>(w + t * step, acc);
                        } else {
                            store_n<W>(w + t * step, acc, v.n);
                        }
                    }
                }
            }
}

template <int R, int ST, bool kPlain>
FC_INLINE void weight_columns(const DepthwiseArgs* a, const Spot& s, const Lane& v, const int32_t* channel, int64_t m,
                              float* dw) {
    switch (m) {
        case 4:
            if constexpr (R == (kWeightRows + ST - 1) / ST) {
                if (s.rows == (2u << (R * ST - ST + 2)) - 1 && s.columns == (2u << (4 * ST - ST + 2)) - 1)
                    return depthwise_weight_tile<kWidth, R, 4, ST, kPlain, true>(a, s, v, channel, dw);
            }
            depthwise_weight_tile<kWidth, R, 4, ST, kPlain, false>(a, s, v, channel, dw);
            break;
        case 3: depthwise_weight_tile<kWidth, R, 3, ST, kPlain, false>(a, s, v, channel, dw); break;
        case 2: depthwise_weight_tile<kWidth, R, 2, ST, kPlain, false>(a, s, v, channel, dw); break;
        default: depthwise_weight_tile<kWidth, R, 1, ST, kPlain, false>(a, s, v, channel, dw); break;
    }
}

template <bool kPlain>
FC_INLINE void one_weight_tile(const DepthwiseArgs* a, const Spot& s, const Lane& v, const int32_t* channel,
                               int64_t stride, int64_t r, int64_t m, float* dw) {
    if (stride == 2) {
        if constexpr (kWeightRows == 4)
            if (r == 2) return weight_columns<2, 2, kPlain>(a, s, v, channel, m, dw);
        return weight_columns<1, 2, kPlain>(a, s, v, channel, m, dw);
    }
    if constexpr (kWeightRows == 4) {
        if (r == 4) return weight_columns<4, 1, kPlain>(a, s, v, channel, m, dw);
        if (r == 3) return weight_columns<3, 1, kPlain>(a, s, v, channel, m, dw);
        if (r == 2) return weight_columns<2, 1, kPlain>(a, s, v, channel, m, dw);
    }
    weight_columns<1, 1, kPlain>(a, s, v, channel, m, dw);
}

template <int S, int ST, bool kPlain>
FC_INLINE void weight_run(const DepthwiseArgs* a, const Spot& s, const Lane& v, const int32_t* channel, int64_t stride,
                          int64_t m, float* dw) {
    switch (m) {
        case 8: depthwise_weight_row<kWidth, kRowRun, S, ST, kPlain>(a, s, v, channel, stride, dw); break;
        case 4: depthwise_weight_row<kWidth, 4, S, ST, kPlain>(a, s, v, channel, stride, dw); break;
        case 2: depthwise_weight_row<kWidth, 2, S, ST, kPlain>(a, s, v, channel, stride, dw); break;
        default: depthwise_weight_row<kWidth, 1, S, ST, kPlain>(a, s, v, channel, stride, dw); break;
    }
}

template <bool kPlain>
FC_INLINE void one_weight_row(const DepthwiseArgs* a, const Spot& s, const Lane& v, const int32_t* channel,
                              int64_t stride, int64_t m, float* dw) {
    if constexpr (kPlain) {
        if (stride == 1) {
            if (a->kW == 3) return weight_run<3, 1, true>(a, s, v, channel, 1, m, dw);
            if (a->kW == 5) return weight_run<5, 1, true>(a, s, v, channel, 1, m, dw);
            if (a->kW == 7) return weight_run<7, 1, true>(a, s, v, channel, 1, m, dw);
        } else if (stride == 2) {
            if (a->kW == 5) return weight_run<5, 2, true>(a, s, v, channel, 2, m, dw);
        }
    }
    weight_run<0, 1, kPlain>(a, s, v, channel, stride, m, dw);
}

FC_INLINE int64_t weight_rows(int64_t stride) {
    return stride == 1 ? kWeightRows : stride == 2 ? (kWeightRows + 1) / 2 : 1;
}

FC_INLINE int64_t f32_conv_depthwise_backward_weight_tiles(const DepthwiseArgs* a) {
    const int64_t vectors = lanes_count(a);
    return a->parts * ceil_div(vectors, unit_block(vectors, a->parts));
}
FC_INLINE size_t f32_conv_depthwise_backward_weight_scratch(const DepthwiseArgs*) { return 0; }

inline void f32_conv_depthwise_backward_weight_run(const DepthwiseArgs* a, int64_t begin, int64_t end, void*) {
    Shape s = make_shape(a);
    set_block(s, unit_block(s.lanes.count, a->parts));
    const int64_t stride = tile_stride(a, s), R = weight_rows(stride), groups = axis_groups(s.h, R);
    const int64_t all = a->n * a->iD * groups, per = ceil_div(all, a->parts);
    const int64_t taps = a->kD * a->kH * a->kW, taps_columns = stride ? 3 : a->kW, column_stride = s.w.stride;
    const bool plain = a->C == 1 && a->K == 1, ahead = fetches_ahead(a, kAheadWeightBytes);
    const int32_t* channel = s.lanes.channel;
    for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t block = unit % s.blocks, part = unit / s.blocks;
        const int64_t v0 = block * s.block, v1 = min64(s.lanes.count, v0 + s.block);
        float* dw = a->dw + part * a->part_stride;
        const Lane first = lane(a, s.lanes, v0), last = lane(a, s.lanes, v1 - 1);
        memset(dw + first.w, 0, sizeof(float) * static_cast<size_t>(last.w - first.w + taps * a->C * last.n));
        for (int64_t i = part * per; i < min64(all, (part + 1) * per); ++i) {
            const int64_t plane = i / groups;
            const Group rows = axis_group(s.h, R, i % groups);
            const int64_t taps_rows = stride ? (rows.count - 1) * stride + 3 : a->kH;
            Spot row;
            place_rows(a, s, plane / a->iD, plane % a->iD, rows, taps_rows, row);
            Spot at = row;
            const int64_t rows_apart = taps_rows * row.row, new_rows = rows.count * s.h.stride;
            const int64_t gradient_apart = rows.count * row.y_row;
            for (int64_t f = 0; f < s.w.phases; ++f) {
                const int64_t outputs = phase_outputs(s.w, f);
                for (int64_t q = 0, m; q < outputs; q += m) {
                    m = next_columns(stride != 0, outputs - q);
                    place_columns(a, s, row, f, q, (m - 1) * column_stride + taps_columns, at);
                    for (int64_t j = v0; j < v1; ++j) {
                        const Lane v = lane(a, s.lanes, j);
                        if (ahead) {
                            fetch_rows(at.x + v.c + rows_apart, new_rows, at.row, m * column_stride, at.column);
                            fetch_rows(a->gy + at.y + v.k + gradient_apart, rows.count, at.y_row, m, at.y_column);
                        }
                        if (stride) {
                            if (plain && v.n == kWidth) {
                                one_weight_tile<true>(a, at, v, channel, stride, rows.count, m, dw);
                            } else {
                                one_weight_tile<false>(a, at, v, channel, stride, rows.count, m, dw);
                            }
                        } else if (plain && v.n == kWidth) {
                            one_weight_row<true>(a, at, v, channel, column_stride, m, dw);
                        } else {
                            one_weight_row<false>(a, at, v, channel, column_stride, m, dw);
                        }
                    }
                }
            }
        }
    }
}

}  // namespace
}  // namespace
