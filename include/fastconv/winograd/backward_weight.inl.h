// Winograd, backward to weights: the adjoint of the forward, dw = G^T [sum over tiles of (A gy A^T) * (B^T x B)] G.
//
// A tile of the problem is a block of channels by a range of blocks of filters, at one tap along the depth, for one part of the
// Winograd tiles of the batch. It keeps the sums of all elements in scratch, S[e][channel][filter], while runs of tiles
// go by: both operands are transformed to scratch, then each element adds one small matrix product:
//
//                   w: [tile][2 * kWidth filters], 2 loads per tile
//                   +----------+----------+
//   channel 0 v[c]--| acc[0][0]| acc[0][1]|      one broadcast of v per channel and tile,
//     ...           |   ...    |   ...    |      2 * M fused multiply-adds;
//   channel M-1     +----------+----------+      then added to S: a sum of sums, which loses less than one chain
//
// Bound by the FMA units; the transforms cost as much as K/16 and C/16 of them. At the end G^T S G, in double precision, goes to the
// part's gradient in the layout of f32_conv_backward_weight; parts are added in order when it is unpacked.
//
// A result that is not finite, or of a channel or filter with loud edges (winograd/edges.inl.h), is summed again without transforms over
// the same tiles.
#include "fastconv/winograd/edges.inl.h"
#include "fastconv/conv/locality.inl.h"
#include "fastconv/winograd/gemm.inl.h"
#include "fastconv/winograd/place.inl.h"
#include "fastconv/winograd/transform.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

template <int NV, int M>
FC_NOINLINE void winograd_sum(const float* v, int64_t pitch, const float* w, int64_t count, bool add, float* sum) {
    constexpr int W = kWidth;
    Vf<W> acc[M][NV];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) acc[m][j] = Vf<W>{};
    for (int64_t t = 0; t < count; ++t, v += pitch, w += NV * W) {
        Vf<W> b[NV];
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) b[j] = load<W>(w + j * W);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            const Vf<W> x = splat<W>(v[m]);
#pragma GCC unroll 4
            for (int j = 0; j < NV; ++j) acc[m][j] = mul_add<W>(x, b[j], acc[m][j]);
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int j = 0; j < NV; ++j) {
            float* at = sum + (m * NV + j) * W;
            store<W>(at, add ? acc[m][j] + load<W>(at) : acc[m][j]);
        }
}

template <int NV, int M>
FC_INLINE void winograd_sum_height(int64_t height, const float* v, int64_t pitch, const float* w, int64_t count, bool add,
                                   float* sum) {
    if (height == M) {
        winograd_sum<NV, M>(v, pitch, w, count, add, sum);
    } else if constexpr (M > 1) {
        winograd_sum_height<NV, M - 1>(height, v, pitch, w, count, add, sum);
    }
}

template <int NV>
FC_INLINE void winograd_sum_channels(int64_t channels, const float* v, int64_t pitch, const float* w, int64_t count, bool add,
                                     float* sum) {
    const int64_t parts = ceil_div(channels, kTileM);
    for (int64_t p = 0, c = 0; p < parts; ++p) {
        const int64_t end = channels * (p + 1) / parts;
        winograd_sum_height<NV, kTileM>(end - c, v + c, pitch, w, count, add, sum + c * NV * kWidth);
        c = end;
    }
}

struct WinogradSumCut {
    WinogradGrid grid;
    int64_t channel_blocks, blocks, groups, per_part;
    int64_t pitch;                              // floats between two tiles of V
    int64_t v_plane, w_plane, s_plane;          // floats between two elements
};

FC_INLINE WinogradSumCut winograd_sum_cut(const WinogradGradientArgs* a) {
    WinogradSumCut cut;
    cut.grid = winograd_grid(a->n, a->py, a->mh, a->mw);
    cut.channel_blocks = ceil_div(a->C, a->channels);
    cut.blocks = ceil_div(a->K, kBlock);
    cut.groups = ceil_div(cut.blocks, a->blocks);
    cut.per_part = ceil_div(cut.grid.tiles, a->parts);
    cut.pitch = ceil_div(min64(a->C, a->channels), kWidth) * kWidth;
    const int64_t filters = ceil_div(min64(a->K, a->blocks * kBlock), kWidth) * kWidth;
    cut.v_plane = winograd_plane(a->tiles * cut.pitch);
    cut.w_plane = winograd_plane(a->tiles * filters);
    cut.s_plane = winograd_plane(min64(a->C, a->channels) * filters);
    return cut;
}

// A gy A^T of one tile and a range of filters, [block][tile][filter in block].
template <int MH, int MW>
FC_NOINLINE void winograd_gradient(const float* const* px, int64_t first, int64_t K, int64_t tile, int64_t tiles, float* w,
                                   int64_t plane) {
    for (int64_t k = 0; k < K; k += kWidth) {
        const int n = static_cast<int>(min64(kWidth, K - k));
        const int64_t block = k / kBlock * kBlock, width = K - block > kWidth ? kBlock : kWidth;
        transform_gradient<MH, MW>([&](int i, int j) { return load_n<kWidth>(px[i * MW + j] + first + k, n); },
                                   w + block * tiles + tile * width + k - block, plane);
    }
}

// The sums of one channel and vector of filters to the gradients of the taps: G^T S G in double precision. False where one
// of them is not finite.
template <int MH, int MW, int W>
FC_INLINE bool winograd_taps(const float* s, int64_t plane, float* dw, int64_t tap) {
    using H = Winograd1<MH>;
    using V = Winograd1<MW>;
    using D = typename Doubles<W>::D;
    using F = typename Doubles<W>::F;
    D t[H::kTaps][V::kElements];
#pragma GCC unroll 8
    for (int j = 0; j < V::kElements; ++j) {
        D column[H::kElements];
#pragma GCC unroll 8
        for (int i = 0; i < H::kElements; ++i)
            column[i] = __builtin_convertvector(*reinterpret_cast<const F*>(s + (i * V::kElements + j) * plane), D);
#pragma GCC unroll 8
        for (int r = 0; r < H::kTaps; ++r) {
            t[r][j] = column[0] * H::kG[0][r];
#pragma GCC unroll 8
            for (int i = 1; i < H::kElements; ++i) t[r][j] = t[r][j] + column[i] * H::kG[i][r];
        }
    }
    F check = F{};
#pragma GCC unroll 8
    for (int r = 0; r < H::kTaps; ++r)
#pragma GCC unroll 8
        for (int q = 0; q < V::kTaps; ++q) {
            D sum = t[r][0] * V::kG[0][q];
#pragma GCC unroll 8
            for (int j = 1; j < V::kElements; ++j) sum = sum + t[r][j] * V::kG[j][q];
            const F y = __builtin_convertvector(sum, F);
            *reinterpret_cast<F*>(dw + (r * V::kTaps + q) * tap) = y;
            check = check + (y - y);
        }
    bool finite = true;
    for (int i = 0; i < W; ++i) finite = finite && check[i] == 0.0f;
    return finite;
}

// The same gradients without transforms: one chain per tap over the output pixels of the part's tiles.
template <int W>
FC_NOINLINE void winograd_sum_direct(const WinogradGradientArgs* a, const WinogradGrid& grid, int64_t begin, int64_t end,
                                     int64_t r, int64_t c, int64_t k, int n, float* dw, int64_t tap) {
    const int64_t rows = a->mh == 1 ? 1 : 3;
    Vf<W> acc[9];
    for (int i = 0; i < 9; ++i) acc[i] = Vf<W>{};
    for (int64_t tile = begin; tile < end; ++tile) {
        const WinogradPlace p = winograd_place(grid, a->py, a->mh, a->mw, tile);
        for (int64_t i = 0; i < p.rows; ++i)
            for (int64_t j = 0; j < p.columns; ++j) {
                const Vf<W> g = load_n<W>(a->gy + winograd_output(a->py, p, i, j) * a->py.ld + k, n);
                for (int64_t u = 0; u < rows; ++u)
                    for (int64_t v = 0; v < 3; ++v) {
                        const float* x = winograd_pixel(a->px, a->x, a->zeros, p.image, p.d + a->origin[0] + r,
                                                        p.h + i + a->origin[1] + u, p.w + j + a->origin[2] + v);
                        acc[u * 3 + v] = mul_add<W>(splat<W>(x == a->zeros ? 0.0f : x[c]), g, acc[u * 3 + v]);
                    }
            }
    }
    for (int64_t t = 0; t < 3 * rows; ++t) store<W>(dw + t * tap, acc[t]);
}

template <int MH, int MW>
FC_INLINE void winograd_sum_unit(const WinogradGradientArgs* a, const WinogradSumCut& cut, float* scratch, int64_t tile) {
    constexpr int64_t elements = Winograd1<MH>::kElements * Winograd1<MW>::kElements;
    constexpr int64_t taps = Winograd1<MH>::kTaps * Winograd1<MW>::kTaps;
    const int64_t cb = tile % cut.channel_blocks, group = tile / cut.channel_blocks % cut.groups;
    const int64_t rest = tile / (cut.channel_blocks * cut.groups), r = rest % a->R, g = rest / a->R % a->G;
    const int64_t part = rest / (a->R * a->G);
    const int64_t c0 = cb * a->channels, channels = min64(a->channels, a->C - c0);
    const int64_t k0 = group * a->blocks * kBlock, filters = min64(a->blocks * kBlock, a->K - k0);
    const int64_t begin = min64(cut.grid.tiles, part * cut.per_part), end = min64(cut.grid.tiles, begin + cut.per_part);
    float *v = scratch, *w = v + elements * cut.v_plane, *s = w + elements * cut.w_plane;
    const float** px = reinterpret_cast<const float**>(s + elements * cut.s_plane);
    const float* x = a->x + g * a->C;
    for (int64_t first = begin; first < end; first += a->tiles) {
        const int64_t count = min64(a->tiles, end - first);
        for (int64_t t = 0; t < count; ++t) {
            const WinogradPlace p = winograd_place(cut.grid, a->py, MH, MW, first + t);
            winograd_pointers(a->px, x, a->zeros, p.image, p.d + a->origin[0] + r, p.h + a->origin[1],
                              p.w + a->origin[2], Winograd1<MH>::kElements, Winograd1<MW>::kElements, px);
            for (int64_t i = 0; i < elements; ++i) px[i] = px[i] == a->zeros ? px[i] : px[i] + c0;
            winograd_input<MH, MW>(px, channels, v + t * cut.pitch, kWidth, cut.v_plane);
            winograd_pointers(a->py, a->gy, a->zeros, p.image, p.d, p.h, p.w, MH, MW, px);
            for (int64_t i = 0; i < MH * MW; ++i) px[i] = px[i] == a->zeros ? px[i] : px[i] + g * a->K + k0;
            winograd_gradient<MH, MW>(px, 0, filters, t, a->tiles, w, cut.w_plane);
        }
        for (int64_t e = 0; e < elements; ++e) {
            for (int64_t k = 0; k < filters; k += kBlock) {
                const float* operand = w + e * cut.w_plane + k * a->tiles;
                float* sum = s + e * cut.s_plane + k * channels;
                if (filters - k > kWidth) {
                    winograd_sum_channels<2>(channels, v + e * cut.v_plane, cut.pitch, operand, count, first > begin, sum);
                } else {
                    winograd_sum_channels<1>(channels, v + e * cut.v_plane, cut.pitch, operand, count, first > begin, sum);
                }
            }
        }
    }
    const int64_t depth = a->R * taps;
    for (int64_t k = 0; k < filters; k += kHalf) {
        const int64_t at = (k0 + k) / kBlock * kBlock, left = min64(kBlock, a->K - at), width = block_width(left);
        const int64_t block = k / kBlock * kBlock, wide = left > kWidth ? kBlock : kWidth, lane = k - block;
        float* dw = a->dw + part * a->part_stride + (g * packed_filters(a->K) + at) * depth * a->C +
                    (r * taps * a->C + c0) * width + lane;
        const int n = static_cast<int>(min64(kHalf, filters - k));
        const bool loud = a->loud_y && any_loud(a->loud_y + g * a->K + k0 + k, n);
        for (int64_t c = 0; c < channels; ++c) {
            float* out = dw + c * width;
            if (begin == end) {
                for (int64_t t = 0; t < taps; ++t) store<kHalf>(out + t * a->C * width, Vf<kHalf>{});
            } else if (loud || (a->loud_x && a->loud_x[g * a->C + c0 + c]) ||
                       !winograd_taps<MH, MW, kHalf>(s + block * channels + c * wide + lane, cut.s_plane, out, a->C * width)) {
                winograd_sum_direct<kHalf>(a, cut.grid, begin, end, r, g * a->C + c0 + c, g * a->K + k0 + k, n, out,
                                           a->C * width);
            }
        }
    }
    // the lanes behind the last filter of a block that is wider
    const int64_t last = (k0 + filters - 1) / kBlock * kBlock, width = block_width(min64(kBlock, a->K - last));
    for (int64_t lane = ceil_div(k0 + filters - last, kHalf) * kHalf; lane < width; lane += kHalf)
        for (int64_t t = 0; t < taps; ++t)
            for (int64_t c = 0; c < channels; ++c)
                store<kHalf>(a->dw + part * a->part_stride + (g * packed_filters(a->K) + last) * depth * a->C +
                                 ((r * taps + t) * a->C + c0 + c) * width + lane,
                             Vf<kHalf>{});
}

FC_INLINE int64_t f32_conv_winograd_backward_weight_tiles(const WinogradGradientArgs* a) {
    const WinogradSumCut cut = winograd_sum_cut(a);
    return a->parts * a->G * a->R * cut.groups * cut.channel_blocks;
}

FC_INLINE size_t f32_conv_winograd_backward_weight_scratch(const WinogradGradientArgs* a) {
    const WinogradSumCut cut = winograd_sum_cut(a);
    return static_cast<size_t>(cut.grid.elements * (cut.v_plane + cut.w_plane + cut.s_plane)) * sizeof(float) +
           36 * sizeof(float*);
}

inline void f32_conv_winograd_backward_weight_run(const WinogradGradientArgs* a, int64_t begin, int64_t end, void* scratch) {
    const WinogradSumCut cut = winograd_sum_cut(a);
    float* floats = static_cast<float*>(scratch);
    for (int64_t tile = begin; tile < end; ++tile) {
        if (a->mh == 4) {
            winograd_sum_unit<4, 4>(a, cut, floats, tile);
        } else if (a->mh == 2) {
            winograd_sum_unit<2, 2>(a, cut, floats, tile);
        } else if (a->mw == 4) {
            winograd_sum_unit<1, 4>(a, cut, floats, tile);
        } else {
            winograd_sum_unit<1, 2>(a, cut, floats, tile);
        }
    }
}

}  // namespace
}  // namespace
