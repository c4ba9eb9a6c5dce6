// A matrix product for the im2col path where there is no BLAS, and what follows a product: bias, residual, activation.
//
//                 b: kDepth x (2 * kWidth), packed into scratch
//                 +----------+----------+
//   row 0  a[k] --| acc[0][0]| acc[0][1]|     per k: 2 loads of b, kTileM broadcasts of a (any strides),
//   row 1  a[k] --| acc[1][0]| acc[1][1]|     2 * kTileM fused multiply-adds
//     ...         |   ...    |   ...    |
//                 +----------+----------+
//
// Each element of c is one sequential accumulator over k, which rests in c between two depths. Bound by the FMA units;
// packing b costs one load and store per kRows / 2 of them.
#include "fastconv/conv/tile.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kDepth = 256;
constexpr int64_t kGemmRows = 16 * kTileM;  // rows per tile of the problem

template <int M>
FC_NOINLINE void gemm_tile(const GemmArgs* g, const float* a, const float* b, int64_t depth, float* c, int64_t lanes,
                           bool add) {
    constexpr int W = kWidth, NV = 2;
    const int n[NV] = {static_cast<int>(min64(W, lanes)), static_cast<int>(max64(0, lanes - W))};
    Vf<W> acc[M][NV];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) acc[m][v] = add ? load_n<W>(c + m * g->ldc + v * W, n[v]) : Vf<W>{};
    for (int64_t k = 0; k < depth; ++k, a += g->a_column, b += NV * W) {
        const Vf<W> b0 = load<W>(b), b1 = load<W>(b + W);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
            const Vf<W> x = splat<W>(a[m * g->a_row]);
            acc[m][0] = mul_add<W>(x, b0, acc[m][0]);
            acc[m][1] = mul_add<W>(x, b1, acc[m][1]);
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) store_n<W>(c + m * g->ldc + v * W, acc[m][v], n[v]);
}

FC_INLINE int64_t f32_gemm_tiles(const GemmArgs* g) { return ceil_div(g->M, kGemmRows) * ceil_div(g->N, kBlock); }
FC_INLINE size_t f32_gemm_scratch(const GemmArgs*) { return sizeof(float) * kDepth * kBlock; }

inline void f32_gemm_run(const GemmArgs* g, int64_t begin, int64_t end, void* scratch) {
    float* packed = static_cast<float*>(scratch);
    const int64_t blocks = ceil_div(g->N, kBlock);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t column = tile % blocks * kBlock, lanes = min64(kBlock, g->N - column);
        const int64_t first = tile / blocks * kGemmRows, last = min64(g->M, first + kGemmRows);
        for (int64_t k0 = 0; k0 == 0 || k0 < g->K; k0 += kDepth) {  // once for K = 0, too: c is to be zeroed
            const int64_t depth = min64(kDepth, g->K - k0);
            const float* b = g->b + k0 * g->b_row + column * g->b_column;
            for (int64_t k = 0; k < depth; ++k)
                for (int64_t i = 0; i < kBlock; ++i)
                    packed[k * kBlock + i] = i < lanes ? b[k * g->b_row + i * g->b_column] : 0.0f;
            const bool add = k0 || g->accumulate;
            int64_t m = first;
            const auto a = [&] { return g->a + m * g->a_row + k0 * g->a_column; };
            const auto c = [&] { return g->c + m * g->ldc + column; };
            for (; m + kTileM <= last; m += kTileM) gemm_tile<kTileM>(g, a(), packed, depth, c(), lanes, add);
            if constexpr (kTileM > 4)
                for (; m + 4 <= last; m += 4) gemm_tile<4>(g, a(), packed, depth, c(), lanes, add);
            for (; m < last; ++m) gemm_tile<1>(g, a(), packed, depth, c(), lanes, add);
        }
    }
}

FC_INLINE int64_t epilogue_rows(const EpilogueArgs* e) { return max64(1, 16384 / max64(1, e->C)); }
FC_INLINE int64_t f32_epilogue_tiles(const EpilogueArgs* e) { return ceil_div(e->n * e->rows, epilogue_rows(e)); }
FC_INLINE size_t f32_epilogue_scratch(const EpilogueArgs*) { return 0; }

inline void f32_epilogue_run(const EpilogueArgs* e, int64_t begin, int64_t end, void*) {
    constexpr int W = kWidth;
    const float a = static_cast<float>(e->act_a), b = static_cast<float>(e->act_b);
    for (int64_t r = begin * epilogue_rows(e); r < min64(e->n * e->rows, end * epilogue_rows(e)); ++r) {
        const float* x = e->x + r * e->ldx;
        const float* residual = e->residual ? e->residual + r * e->ldr : nullptr;
        float* y = e->y + r * e->ldy;
        for (int64_t c = 0; c < e->C; c += W) {
            const int n = static_cast<int>(min64(W, e->C - c));
            Vf<W> v = load_n<W>(x + c, n);
            if (e->bias) v = v + load_n<W>(e->bias + c, n);
            if (residual) v = v + load_n<W>(residual + c, n);
            store_n<W>(y + c, activate<W>(v, e->act, a, b), n);
        }
    }
}

}  // namespace
}  // namespace
