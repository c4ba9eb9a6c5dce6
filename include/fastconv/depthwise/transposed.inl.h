// Depthwise backward to data, and transposed depthwise convolution, for stride 2: the four phases of the stride in one tile.
//
// Output 2q + a (a = 0, 1; low = 2c + o is the padding) is a sum over taps r = a + o, a + o - 2, ... of pixel
// q + c + (a + o - r) / 2 of the input. A tile is 2 rows x 2M columns of outputs of one vector of channels:
//
//       3x3, o = 1:    input row 0   o   o   o   o   o     each pixel is loaded once and goes into all phases' outputs:
//                      input row 1   o   o   o   o   o     AVX-512: M = 4: 16 accumulators, 9 weights,
//       outputs        [acc acc|acc acc|acc acc|acc acc]            10 loads for 36 multiply-adds
//                      [acc acc|acc acc|acc acc|acc acc]   AVX2:    M = 2 (16 registers: weights are reloaded)
//
// Four separate phases would read the input four times and write every second pixel. An output is one chain over the
// input's (row, column) in order, whatever its tile. Bound by the stores.
#include "fastconv/depthwise/depthwise.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kPairs = kWidth == 16 ? 4 : 2;  // M

// How far before q + c an output pair reads.
constexpr int pair_back(int K, int O) { return (K - 1 - O) / 2; }

// Which of `count` (< 32) positions from `first` on lie in 0 .. size - 1, as bits.
FC_INLINE uint32_t inside_mask(int64_t first, int64_t count, int64_t size) {
    const int64_t begin = first < 0 ? -first : 0, end = max64(begin, min64(count, size - first));
    return span_mask({first, begin, end});
}

// Where a tile's outputs end: bias, residual, activation, for the outputs that exist (rows x columns).
FC_NOINLINE void pairs_epilogue(const DepthwiseArgs* a, const float* acc, int rows, int columns, const Spot& s, const Lane& v) {
    for (int r = 0; r < rows; ++r) {
        Spot at = s;
        at.y += r * s.y_row, at.r += r * s.r_row;
        depthwise_epilogue(a, acc + r * 2 * kPairs * kWidth, 1, columns, at, v);
    }
}

template <int W, int M, int K, int O, bool kPlain>
FC_NOINLINE void depthwise_pairs(const DepthwiseArgs* a, const Spot& s, const Lane& v, const int32_t* channel, int rows,
                                 int columns) {
    constexpr int B = pair_back(K, O), I = B + O + 1, J = B + O + M;
    Vf<W> acc[2][2 * M];
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r)
#pragma GCC unroll 8
        for (int m = 0; m < 2 * M; ++m) acc[r][m] = Vf<W>{};
    const int64_t C = kPlain ? 1 : a->C, step = kPlain ? W : C * v.n;
    const float *w = a->w + v.w, *x = s.x + v.c;
    alignas(64) float px[kPlain ? 1 : I * J * W];
    if constexpr (!kPlain) gather_pixels<W, I, J, false>(x, s.row, s.column, s.rows, s.columns, v.span, px);
    for (int64_t c = 0; c < C; ++c, w += v.n) {
        Vi<W> which{};
        if constexpr (!kPlain) which = load<W>(channel) + splat_i<W>(static_cast<int32_t>(c));
#pragma GCC unroll 8
        for (int i = 0; i < I; ++i) {
            if (!(s.rows >> i & 1u)) continue;
#pragma GCC unroll 8
            for (int j = 0; j < J; ++j) {
                if (!(s.columns >> j & 1u)) continue;
                Vf<W> p;
                if constexpr (kPlain) {
                    p = load<W>(x + i * s.row + j * s.column);
                } else {
                    p = permute<W>(load<W>(px + (i * J + j) * W), which);
                }
#pragma GCC unroll 2
                for (int r = 0; r < 2; ++r) {
                    const int tr = r + O - 2 * (i - B);
#pragma GCC unroll 8
                    for (int m = 0; m < 2 * M; ++m) {
                        const int ts = m % 2 + O - 2 * (j - B - m / 2);
                        if (tr >= 0 && tr < K && ts >= 0 && ts < K)
                            acc[r][m] = mul_add<W>(p, load_filters<W, kPlain>(w + (tr * K + ts) * step, v.n), acc[r][m]);
                    }
                }
            }
        }
    }
    if (kPlain && s.direct) {
        const Ends<W> end(a, s, v);
        float* y = a->y + s.y + v.k;
#pragma GCC unroll 2
        for (int r = 0; r < 2; ++r) {
            if (r >= rows) break;
#pragma GCC unroll 8
            for (int m = 0; m < 2 * M; ++m) {
                if (m >= columns) break;
                put<W>(y + r * s.y_row + m * s.y_column, end(acc[r][m]), s.stream);
            }
        }
        return;
    }
    alignas(64) float t[4 * M * W];
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r)
#pragma GCC unroll 8
        for (int m = 0; m < 2 * M; ++m) store<W>(t + (r * 2 * M + m) * W, acc[r][m]);
    pairs_epilogue(a, t, rows, columns, s, v);
}

template <int K, int O>
FC_INLINE void one_pairs(const DepthwiseArgs* a, const Spot& s, const Lane& v, const int32_t* channel, int rows, int columns) {
    if (a->C == 1 && a->K == 1 && v.n == kWidth)
        return depthwise_pairs<kWidth, kPairs, K, O, true>(a, s, v, channel, rows, columns);
    depthwise_pairs<kWidth, kPairs, K, O, false>(a, s, v, channel, rows, columns);
}

// Rows of pairs per unit, by the work in them.
FC_INLINE int64_t pair_rows(const DepthwiseArgs* a, int64_t block) {
    const int64_t work = ceil_div(a->yW, 2) * a->kH * a->kW * a->C * block;
    return max64(1, min64(ceil_div(a->yH, 2), kUnitWork / max64(1, work)));
}
// Depths are images of their own: the kernel's depth and the stride along it are 1.
FC_INLINE int64_t pair_images(const DepthwiseArgs* a) { return a->n * a->yD; }
FC_INLINE int64_t pair_block(const DepthwiseArgs* a) {
    return unit_block(lanes_count(a), pair_images(a) * ceil_div(ceil_div(a->yH, 2), pair_rows(a, kLanesBlock / kWidth)));
}

FC_INLINE int64_t f32_conv_depthwise_transposed_tiles(const DepthwiseArgs* a) {
    const int64_t block = pair_block(a);
    return pair_images(a) * ceil_div(ceil_div(a->yH, 2), pair_rows(a, block)) * ceil_div(lanes_count(a), block);
}
FC_INLINE size_t f32_conv_depthwise_transposed_scratch(const DepthwiseArgs*) { return 0; }

inline void f32_conv_depthwise_transposed_run(const DepthwiseArgs* a, int64_t begin, int64_t end, void*) {
    const Lanes lanes = make_lanes(a);
    const int64_t block = pair_block(a), blocks = ceil_div(lanes.count, block), per = pair_rows(a, block);
    const int64_t height = ceil_div(a->yH, 2), chunks = ceil_div(height, per), odd = a->ph & 1;
    const int64_t back = pair_back(static_cast<int>(a->kH), static_cast<int>(odd)), reach = back + odd + 1;
    const bool ahead = fetches_ahead(a, kAheadBytes, true);
    const int32_t* channel = lanes.channel;
    Spot s;
    set_ends(a, s);
    s.row = a->xW * a->ldx, s.column = a->ldx;
    s.y_row = a->yW * a->ldy, s.y_column = a->ldy, s.r_row = a->yW * a->ldr, s.r_column = a->ldr;
    for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t v0 = unit % blocks * block, v1 = min64(lanes.count, v0 + block);
        const int64_t chunk = unit / blocks % chunks, image = unit / (blocks * chunks);
        for (int64_t p = chunk * per; p < min64(height, (chunk + 1) * per); ++p) {
            const int64_t top = p + (a->ph >> 1) - back;
            s.rows = inside_mask(top, reach, a->xH);
            const int rows = static_cast<int>(min64(2, a->yH - 2 * p));
            for (int64_t q = 0; 2 * q < a->yW; q += kPairs) {
                const int64_t left = q + (a->pw >> 1) - back;
                s.columns = inside_mask(left, reach - 1 + kPairs, a->xW);
                const int columns = static_cast<int>(min64(2 * kPairs, a->yW - 2 * q));
                s.x = a->x + ((image * a->xH + top) * a->xW + left) * a->ldx;
                const int64_t pixel = (image * a->yH + 2 * p) * a->yW + 2 * q;
                s.y = pixel * a->ldy, s.r = pixel * a->ldr;
                for (int64_t i = v0; i < v1; ++i) {
                    const Lane v = lane(a, lanes, i);
                    if (ahead) fetch_rows(s.x + v.c + reach * s.row, 1, 0, kPairs, s.column);
                    if (a->kH == 3) {
                        odd ? one_pairs<3, 1>(a, s, v, channel, rows, columns)
                            : one_pairs<3, 0>(a, s, v, channel, rows, columns);
                    } else {
                        odd ? one_pairs<5, 1>(a, s, v, channel, rows, columns)
                            : one_pairs<5, 0>(a, s, v, channel, rows, columns);
                    }
                }
            }
        }
    }
    if (s.stream) stream_end();
}

}  // namespace
}  // namespace
