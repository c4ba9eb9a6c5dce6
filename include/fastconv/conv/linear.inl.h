// A matrix product with few rows: Linear at the batches of inference, and its gradient to data.
//
//                  w: B blocks of [channel][2 W filters], each streamed once per pass over the rows
//                  +--------+--------+   +--------+--------+
//   row 0   x[c] --| acc    | acc    |   | acc    | acc    |     M rows, B blocks: 14 x 1 down to 4 x 1, 3 x 2, 2 x 2, 1 x 4
//     ...          |        |        |   |        |        |     so that there are at least 8 chains of FMAs
//   row M-1        +--------+--------+   +--------+--------+
//
// Up to kLinearRows rows are one pass, more are cut into passes of nearly equal height: a pass reads all weights of the
// block, and one row at the end would cost as much as eight. Bound by the bandwidth of the weights up to some 8 rows (from
// memory), beyond that by the FMA units. Each output is the sum of runs of products over the channels, as in
// conv/tile.inl.h, whatever M and B: a row's result does not depend on the batch.
#include "fastconv/simd/activation.inl.h"
#include "fastconv/simd/blocks.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kLinearRows = kWidth == 16 ? 14 : kWidth == 8 ? 6 : 4;
constexpr int64_t kLinearChunk = 8 * kLinearRows;  // rows per tile of the problem
constexpr int64_t kLinearAhead = 1024;             // floats: a single stream of weights is asked for so early
constexpr int64_t kLinearWork = 65536;             // vector multiply-adds per tile

template <int W, int NV, int M, int B, int U>
FC_INLINE void linear_channels(Vf<W> (&acc)[M][B * NV], const float* const* px, int64_t c, const float* w, int64_t step) {
#pragma GCC unroll 4
    for (int u = 0; u < U; ++u) {
        Vf<W> f[B * NV];
#pragma GCC unroll 8
        for (int v = 0; v < B * NV; ++v) {
            const float* at = w + v / NV * step + (u * NV + v % NV) * W;
            if (B == 1 && v * W % 16 == 0) __builtin_prefetch(at + kLinearAhead);  // several streams need no help
            f[v] = load<W>(at);
        }
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            const Vf<W> x = splat<W>(px[m][c + u]);
#pragma GCC unroll 8
            for (int v = 0; v < B * NV; ++v) acc[m][v] = mul_add<W>(x, f[v], acc[m][v]);
        }
    }
}

// Bias, residual and activation of a tile's sums [row][vector].
template <int W>
FC_NOINLINE void linear_finish(const LinearArgs* a, int64_t row, int64_t k, const float* sums, int rows, int vectors) {
    const float lo = static_cast<float>(a->act_a), hi = static_cast<float>(a->act_b);
    for (int v = 0; v < vectors && k + v * W < a->K; ++v) {
        const int64_t at = k + v * W;
        const int n = static_cast<int>(min64(W, a->K - at));
        const Vf<W> bias = a->bias ? load_n<W>(a->bias + at, n) : Vf<W>{};
        for (int m = 0; m < rows; ++m) {
            Vf<W> y = load<W>(sums + (m * vectors + v) * W) + bias;
            if (a->residual) y = y + load_n<W>(a->residual + (row + m) * a->ldr + at, n);
            store_n<W>(a->y + (row + m) * a->ldy + at, activate<W>(y, a->act, lo, hi), n);
        }
    }
}

template <int W, int NV, int M, int B>
FC_NOINLINE void linear_tile(const LinearArgs* a, int64_t row, int64_t k, const float* w, int64_t step) {
    Vf<W> acc[M][B * NV];
    const float* px[M];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
        px[m] = a->x + (row + m) * a->ldx;
#pragma GCC unroll 8
        for (int v = 0; v < B * NV; ++v) acc[m][v] = Vf<W>{};
    }
    alignas(64) float sums[M * B * NV * W];
    const int64_t channels = run_channels(a->C);
    bool many = false;
    for (int64_t c = 0; c < a->C;) {
        const int64_t end = min64(a->C, c + channels);
        if (c) add_runs<W, B * NV, M>(acc, sums, many), many = true;
        for (; c + 4 <= end; c += 4, w += 4 * NV * W) linear_channels<W, NV, M, B, 4>(acc, px, c, w, step);
        for (; c < end; ++c, w += NV * W) linear_channels<W, NV, M, B, 1>(acc, px, c, w, step);
    }
    if (many)
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
            for (int v = 0; v < B * NV; ++v) acc[m][v] = load<W>(sums + (m * B * NV + v) * W) + acc[m][v];
    // Most often: whole vectors, no residual, ReLU or nothing behind. Unrolled, everything else would be three quarters of the code.
    if (k + B * NV * W <= a->K && !a->residual && (!a->act || a->act == FC_ACT_RELU)) {
        const Vf<W> least = splat<W>(a->act ? 0.0f : -HUGE_VALF);
#pragma GCC unroll 8
        for (int v = 0; v < B * NV; ++v) {
            const Vf<W> bias = a->bias ? load<W>(a->bias + k + v * W) : Vf<W>{};
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) store<W>(a->y + (row + m) * a->ldy + k + v * W, vmax<W>(least, acc[m][v] + bias));
        }
        return;
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (int v = 0; v < B * NV; ++v) store<W>(sums + (m * B * NV + v) * W, acc[m][v]);
    linear_finish<W>(a, row, k, sums, M, B * NV);
}

// `rows` rows of one block, in one pass.
template <int W, int NV, int M>
FC_INLINE void linear_rows(const LinearArgs* a, int64_t rows, int64_t row, int64_t k, const float* w) {
    if (rows == M) {
        linear_tile<W, NV, M, 1>(a, row, k, w, 0);
    } else if constexpr (M > 1) {
        linear_rows<W, NV, M - 1>(a, rows, row, k, w);
    }
}

// Of a narrow last block: greedily into some heights.
template <int W>
FC_INLINE void linear_narrow(const LinearArgs* a, int64_t rows, int64_t row, int64_t k, const float* w) {
    int64_t m = 0;
    for (; m + kLinearRows <= rows; m += kLinearRows) linear_tile<W, 1, kLinearRows, 1>(a, row + m, k, w, 0);
    if constexpr (kLinearRows == 14)
        if (m + 7 <= rows) linear_tile<W, 1, 7, 1>(a, row + m, k, w, 0), m += 7;
    if constexpr (kLinearRows > 4)
        if (m + 4 <= rows) linear_tile<W, 1, 4, 1>(a, row + m, k, w, 0), m += 4;
    if (m + 2 <= rows) linear_tile<W, 1, 2, 1>(a, row + m, k, w, 0), m += 2;
    if (m < rows) linear_tile<W, 1, 1, 1>(a, row + m, k, w, 0);
}

struct LinearCut {
    int64_t chunks, blocks, per_group, groups;
};

FC_INLINE LinearCut linear_cut(const LinearArgs* a) {
    LinearCut cut;
    cut.chunks = ceil_div(a->n, kLinearChunk);
    cut.blocks = ceil_div(a->K, kBlock);
    const int64_t block_work = max64(1, 2 * min64(a->n, kLinearChunk) * a->C);
    cut.per_group = max64(4, kLinearWork / block_work);
    if (a->n > 3) cut.per_group = max64(1, kLinearWork / block_work);
    cut.per_group = min64(cut.per_group, max64(1, cut.blocks));
    cut.groups = ceil_div(cut.blocks, cut.per_group);
    return cut;
}

FC_INLINE int64_t f32_linear_tiles(const LinearArgs* a) {
    const LinearCut cut = linear_cut(a);
    return cut.chunks * cut.groups;
}
FC_INLINE size_t f32_linear_scratch(const LinearArgs*) { return 0; }

inline void f32_linear_run(const LinearArgs* a, int64_t begin, int64_t end, void*) {
    const LinearCut cut = linear_cut(a);
    // rows a multiple of 4 KiB apart share a set of the first-level cache, which has 8 ways at least
    const int64_t most = kLinearRows > 8 && a->ldx * 4 % 4096 == 0 ? 8 : kLinearRows;
    const int64_t step = kBlock * a->C;
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t chunk = tile % cut.chunks, group = tile / cut.chunks;
        const int64_t first = chunk * kLinearChunk, count = min64(kLinearChunk, a->n - first);
        const int64_t last = min64(cut.blocks, (group + 1) * cut.per_group);
        const int64_t passes = ceil_div(count, most);
        for (int64_t block = group * cut.per_group, taken; block < last; block += taken) {
            const int64_t k = block * kBlock, left = a->K - k;
            const float* w = a->w + k * a->C;
            const int64_t whole = min64(last - block, left / kBlock);  // blocks that are not narrower
            taken = count == 1 && whole >= 4 ? 4 : count <= 3 && whole >= 2 ? 2 : 1;
            if (taken == 4) {
                linear_tile<kWidth, 2, 1, 4>(a, first, k, w, step);
            } else if (taken == 2) {
                if (count == 1) linear_tile<kWidth, 2, 1, 2>(a, first, k, w, step);
                if (count == 2) linear_tile<kWidth, 2, 2, 2>(a, first, k, w, step);
                if (count == 3) linear_tile<kWidth, 2, 3, 2>(a, first, k, w, step);
            } else if (left >= kBlock || block_width(left) == kBlock) {
                for (int64_t pass = 0; pass < passes; ++pass) {
                    const int64_t from = count * pass / passes, rows = count * (pass + 1) / passes - from;
                    linear_rows<kWidth, 2, kLinearRows>(a, rows, first + from, k, w);
                }
            } else if (block_width(left) == kWidth) {
                linear_narrow<kWidth>(a, count, first, k, w);
            } else {
                linear_narrow<kHalf>(a, count, first, k, w);
            }
        }
    }
}

}  // namespace
}  // namespace
