// Batched matrix products c = act(alpha * a b + beta * d), any strides; see matmul/args.h.
//
//   item    one matrix of the batch (and one part of the sum), up to `chunk` rows, `group` blocks of 2 W columns
//   in it   runs of the sum (simd/blocks.inl.h), then blocks of columns, then register tiles of even height (matmul/tile.inl.h):
//           the run of a block of b (96 KiB at most) comes from the second-level cache once per tile of rows, a's rows stay there
//   b       is read where it lies, from packed blocks [block][k][2 W], or packed on the way where its rows are one chunk
//   a       is read where it lies, but where rows fall into one set of the first-level cache or b meets it often: [k][14 rows]
//
// Between runs the sums rest in c. With up to four rows and columns that lie along k, the lanes are along k instead (dot_tile).
// Each element of c is a sum of runs of products, added in order, whatever it is cut into; only the dots have an order of
// their own. Bound by the FMA units; up to some eight rows by the bandwidth of b.
#include "fastconv/simd/activation.inl.h"
#include "fastconv/matmul/tile.inl.h"
#include "fastconv/simd/transpose.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kItemWork = 32768;   // vector multiply-adds that a tile of the problem is worth
constexpr int64_t kItemCost = 64;      // what an item costs besides
constexpr int64_t kLongest = 2 * kChain;
constexpr int64_t kThinRows = 16;       // of b at a time
constexpr int64_t kNear = 16384;       // floats of b that come by themselves

struct Product {
    int64_t M, N, K, E, batch, chunks, blocks, groups, parts, items, per;
};

FC_INLINE Product product_of(const MatmulArgs* a) {
    Product p;
    const auto times = [&](int64_t which) { return a->vary == which ? a->n : 1; };
    p.M = a->M * times(FC_VARY_ROWS), p.N = a->N * times(FC_VARY_COLUMNS);
    p.K = a->K * times(FC_VARY_SUM), p.E = a->E * times(FC_VARY_OUTER);
    p.batch = times(FC_VARY_BATCH);
    for (int64_t i = 0; i < a->dims; ++i) p.batch *= a->extent[i];
    p.chunks = ceil_div(p.M, a->chunk);
    p.blocks = ceil_div(p.N, kBlock);
    p.groups = ceil_div(p.blocks, a->group);
    p.parts = a->parts;
    p.items = p.parts * p.batch * p.chunks * p.groups;
    const int64_t sum = p.parts > 1 ? min64(a->part, p.K * p.E) : p.K * p.E;
    const int64_t work = min64(p.M, a->chunk) * ceil_div(min64(p.N, a->group * kBlock), kWidth) * (sum + 4);
    p.per = max64(1, kItemWork / (kItemCost + work));
    return p;
}

// `lanes` (at most `width`) series of `depth` values, `across` apart, as dst[k * pitch + lane], zeros behind them. A vector may be written
// over the beginning of the next k, which comes after it; so up to W - 1 floats behind the end are written as well.
FC_NOINLINE void gather_panel(float* dst, int64_t pitch, const float* src, int64_t across, int64_t along, int64_t lanes, int64_t width,
                              int64_t depth) {
    constexpr int W = kWidth;
    if (across == 1) {
        for (int64_t k = 0; k < depth; ++k, src += along, dst += pitch)
            for (int64_t v = 0; v < width; v += W)
                store<W>(dst + v, load_n<W>(src + v, static_cast<int>(max64(0, min64(W, lanes - v)))));
        return;
    }
    for (int64_t v = 0; v < width; v += W, src += W * across, dst += W) {
        const int n = static_cast<int>(max64(0, min64(W, lanes - v)));
        if (along == 1) {
            for (int64_t k = 0; k < depth; k += W) {
                const int left = static_cast<int>(min64(W, depth - k));
                Vf<W> r[W];
                if (n == W && left == W) {
#pragma GCC unroll 16
                    for (int i = 0; i < W; ++i) r[i] = load<W>(src + i * across + k);
                } else {
                    for (int i = 0; i < W; ++i) r[i] = i < n ? load_n<W>(src + i * across + k, left) : Vf<W>{};
                }
                transpose<W>(r);
                alignas(64) float rest[W][W];
                float* to = left == W ? dst + k * pitch : rest[0];
                const int64_t step = left == W ? pitch : W;
#pragma GCC unroll 16
                for (int i = 0; i < W; ++i) store<W>(to + i * step, r[i]);
                for (int i = 0; left < W && i < left; ++i) store<W>(dst + (k + i) * pitch, load<W>(rest[i]));
            }
        } else {
            for (int64_t k = 0; k < depth; ++k)
                for (int i = 0; i < W; ++i) dst[k * pitch + i] = i < n ? src[k * along + i * across] : 0.0f;
        }
    }
}

FC_INLINE int64_t panel_width(int64_t columns) { return columns > kWidth ? kBlock : kWidth; }

// ---- packing b ----------------------------------------------------------------------------------------------------------

constexpr int64_t kPackBlocks = 1;  // side by side, so that rows of b are read in long pieces

FC_INLINE int64_t f32_matmul_pack_tiles(const MatmulArgs* a) {
    const Product p = product_of(a);
    return p.batch * ceil_div(p.blocks, kPackBlocks) * min64(1, p.K * p.E);
}
FC_INLINE size_t f32_matmul_pack_scratch(const MatmulArgs*) { return 0; }

// Where matrix i of the batch begins.
FC_INLINE int64_t begin_of(const MatmulArgs* a, const int64_t* step, int64_t i) {
    int64_t at = 0;
    for (int64_t d = a->dims - 1; d > 0; --d) at += i % a->extent[d] * step[d], i /= a->extent[d];
    return a->dims ? at + i * step[0] : at;
}

// a's place is that of the matrices, c's that of the blocks: [matrix][block][e][k][column], the last block as wide as need be.
inline void f32_matmul_pack_run(const MatmulArgs* a, int64_t begin, int64_t end, void*) {
    const Product p = product_of(a);
    const int64_t tiles = ceil_div(p.blocks, kPackBlocks);
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t i = tile / tiles, first = tile % tiles * kPackBlocks, last = min64(p.blocks, first + kPackBlocks);
        const float* b = a->b + begin_of(a, a->b_step, i);
        float* packed = a->c + begin_of(a, a->c_step, i);
        const int64_t at_once = a->b_column == 1 ? 1 : p.K;  // where it is copied, row by row
        for (int64_t e = 0; e < p.E; ++e)
            for (int64_t k = 0; k < p.K; k += at_once)
                for (int64_t block = first; block < last; ++block) {
                    const int64_t column = block * kBlock, lanes = min64(kBlock, p.N - column), width = panel_width(lanes);
                    float* to = packed + column * p.K * p.E + (e * p.K + k) * width;
                    const float* from = b + e * a->b_sum + k * a->b_row + column * a->b_column;
                    if (a->b_column == 1 && lanes == kBlock) {
                        store<kWidth>(to, load<kWidth>(from)), store<kWidth>(to + kWidth, load<kWidth>(from + kWidth));
                    } else {
                        gather_panel(to, width, from, a->b_column, a->b_row, lanes, width, at_once);
                    }
                }
    }
}

// ---- what follows the products ------------------------------------------------------------------------------------------

// v = the sums of one row, n columns from `at` on.
FC_INLINE Vf<kWidth> strided_n(const float* at, int64_t step, int n) {
    constexpr int W = kWidth;
    if (step == 1) return load_n<W>(at, n);
    if (step == 0) return splat<W>(at[0]);
    float some[W] = {};
    for (int i = 0; i < n; ++i) some[i] = at[i * step];
    return load<W>(some);
}

FC_NOINLINE void matmul_finish(const MatmulArgs* a, const float* sums, int64_t ld, int64_t rows, int64_t columns, float* c,
                               const float* d, bool first, bool last) {
    constexpr int W = kWidth;
    const float alpha = static_cast<float>(a->alpha), beta = static_cast<float>(a->beta);
    const float lo = static_cast<float>(a->act_a), hi = static_cast<float>(a->act_b);
    for (int64_t m = 0; m < rows; ++m)
        for (int64_t j = 0; j < columns; j += W) {
            const int n = static_cast<int>(min64(W, columns - j));
            float* at = c + m * a->c_row + j * a->c_column;
            Vf<W> v = load_n<W>(sums + m * ld + j, n);
            if (!first) v = strided_n(at, a->c_column, n) + v;
            if (last) {
                if (alpha != 1.0f) v = v * alpha;
                if (d) {
                    const Vf<W> other = strided_n(d + m * a->d_row + j * a->d_column, a->d_column, n);
                    v = beta == 1.0f ? v + other : mul_add<W>(splat<W>(beta), other, v);
                }
                v = activate<W>(v, a->act, lo, hi);
            }
            if (a->c_column == 1) {
                store_n<W>(at, v, n);
            } else {
                for (int i = 0; i < n; ++i) at[i * a->c_column] = v[i];
            }
        }
}

// ---- lanes along k ------------------------------------------------------------------------------------------------------

constexpr int kDotRows = 4, kDotVectors = 4;  // the most rows

// Four vectors' sums over lanes, each as sum_lanes has it.
FC_INLINE void sum_four(const Vf<kWidth> (&v)[4], float* out) {
    Vf<4> q[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        if constexpr (kWidth == 16) {
            Vf<8> half[2];
            __builtin_memcpy(half, &v[i], sizeof v[i]);
            const Vf<8> sum = half[0] + half[1];
            Vf<4> quarter[2];
            __builtin_memcpy(quarter, &sum, sizeof sum);
            q[i] = quarter[0] + quarter[1];
        } else if constexpr (kWidth == 8) {
            Vf<4> quarter[2];
            __builtin_memcpy(quarter, &v[i], sizeof v[i]);
            q[i] = quarter[0] + quarter[1];
        } else {
            __builtin_memcpy(&q[i], &v[i], sizeof q[i]);
        }
    }
#if defined(__SSE2__)
    __m128 r0 = (__m128)q[0], r1 = (__m128)q[1], r2 = (__m128)q[2], r3 = (__m128)q[3];
    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    q[0] = (Vf<4>)r0, q[1] = (Vf<4>)r1, q[2] = (Vf<4>)r2, q[3] = (Vf<4>)r3;
#else
    transpose<4>(q);
#endif
    store<4>(out, (q[0] + q[2]) + (q[1] + q[3]));
}

// M rows by C columns: four vectors of products each, summed in order once per `longest` of them.
template <int M, int C>
FC_NOINLINE void dot_tile(const float* a, int64_t am, const float* b, int64_t bn, int64_t depth, float* out, int64_t ldo) {
    constexpr int W = kWidth, U = kDotVectors;
    constexpr int64_t longest = kChain * U * W;
    for (int64_t k0 = 0; k0 == 0 || k0 < depth; k0 += longest) {
        const int64_t end = min64(depth, k0 + longest);
        Vf<W> acc[M][C][U];
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c)
#pragma GCC unroll 4
                for (int u = 0; u < U; ++u) acc[m][c][u] = Vf<W>{};
        int64_t k = k0;
        for (; k + U * W <= end; k += U * W)
#pragma GCC unroll 4
            for (int u = 0; u < U; ++u) {
                Vf<W> x[M];
#pragma GCC unroll 4
                for (int m = 0; m < M; ++m) x[m] = load<W>(a + m * am + k + u * W);
#pragma GCC unroll 4
                for (int c = 0; c < C; ++c) {
                    const Vf<W> y = load<W>(b + c * bn + k + u * W);
                    if (C == 4) __builtin_prefetch(b + c * bn + k + u * W + 1024);
#pragma GCC unroll 4
                    for (int m = 0; m < M; ++m) acc[m][c][u] = mul_add<W>(x[m], y, acc[m][c][u]);
                }
            }
        for (int u = 0; k < end; k += W, ++u) {  // what is left, to the same lanes
            const int n = static_cast<int>(min64(W, end - k));
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c)
#pragma GCC unroll 4
                for (int m = 0; m < M; ++m) {
                    const Vf<W> x = load_n<W>(a + m * am + k, n), y = load_n<W>(b + c * bn + k, n);
#pragma GCC unroll 4
                    for (int i = 0; i < U; ++i)
                        if (i == u) acc[m][c][i] = mul_add<W>(x, y, acc[m][c][i]);
                }
        }
        Vf<W> whole[M][C];
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) whole[m][c] = (acc[m][c][0] + acc[m][c][1]) + (acc[m][c][2] + acc[m][c][3]);
        if constexpr (C == 4) {
            float sums[4];
            sum_four(whole[0], sums);
            for (int c = 0; c < 4; ++c) out[c] = k0 ? out[c] + sums[c] : sums[c];
        } else {
#pragma GCC unroll 4
            for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
                for (int c = 0; c < C; ++c) {
                    const float sum = sum_lanes<W>(whole[m][c]);
                    out[m * ldo + c] = k0 ? out[m * ldo + c] + sum : sum;
                }
        }
    }
}

template <int M>
FC_INLINE void dot_rows(const float* a, int64_t am, const float* b, int64_t bn, int64_t columns, int64_t depth, float* out,
                        int64_t ldo) {
    constexpr int C = (kWidth == 16 ? 4 : 2) / M;
    int64_t j = 0;
    for (; j + C <= columns; j += C) dot_tile<M, C>(a, am, b + j * bn, bn, depth, out + j, ldo);
    if constexpr (C > 1)
        for (; j < columns; ++j) dot_tile<M, 1>(a, am, b + j * bn, bn, depth, out + j, ldo);
}

// ---- one item -----------------------------------------------------------------------------------------------------------

FC_INLINE size_t b_scratch(const MatmulArgs* a) {
    return a->b_how == FC_B_PACKED ? 0 : (kLongest * kBlock + 2 * kBlock) * sizeof(float);
}

FC_INLINE int64_t a_scratch(const MatmulArgs* a) { return a->pack_a ? (ceil_div(a->chunk, kRows) + 1) * kRows * kLongest + 64 : 0; }
FC_INLINE int64_t stage_pitch(const MatmulArgs* a) { return a->group * kBlock + 16; }

FC_INLINE size_t f32_matmul_scratch(const MatmulArgs* a) {
    return b_scratch(a) + static_cast<size_t>(a_scratch(a) + (a->stage ? a->chunk * stage_pitch(a) : 0)) * sizeof(float);
}

struct Item {
    const float *a, *b, *d;
    float* c;
    int64_t rows, column, columns;  // columns: up to which
    int64_t e0, e1, k0, k1;
    float *own_b, *own_a, *stage;
};

inline void matmul_dots(const MatmulArgs* a, const Item& t) {
    alignas(64) float sums[kDotRows * kBlock];
    for (int64_t e = t.e0; e == t.e0 || e < t.e1; ++e)
        for (int64_t j = t.column; j < t.columns; j += kBlock) {
            const int64_t columns = min64(kBlock, t.columns - j);
            const float *x = t.a + e * a->a_sum + t.k0, *y = t.b + e * a->b_sum + t.k0 + j * a->b_column;
            const int64_t depth = e < t.e1 ? t.k1 - t.k0 : 0;
            int64_t row = 0;
            for (; row + 2 <= t.rows; row += 2)
                dot_rows<2>(x + row * a->a_row, a->a_row, y, a->b_column, columns, depth, sums + row * kBlock, kBlock);
            if (row < t.rows) dot_rows<1>(x + row * a->a_row, 0, y, a->b_column, columns, depth, sums + row * kBlock, kBlock);
            matmul_finish(a, sums, kBlock, t.rows, columns, t.c + j * a->c_column, t.d ? t.d + j * a->d_column : nullptr,
                          e == t.e0 && !a->accumulate, e + 1 >= t.e1);
        }
}

// One run of the sum: k .. k + tile.depth of e.
struct Run {
    int64_t e, k;
    bool add, last;
};

// Rows [row, row + rows) by `tile.lanes` columns from j on.
inline void matmul_one(const MatmulArgs* a, const Item& t, const Run& run, Tile& tile, int64_t row, int64_t rows, int64_t j,
                       int64_t vectors) {
    alignas(64) float sums[kTileFloats];
    float* c = t.c + row * a->c_row + j * a->c_column;
    const float* d = t.d ? t.d + row * a->d_row + j * a->d_column : nullptr;
    const bool simple = a->c_column == 1 && (!run.last || (a->alpha == 1.0 && !d && !a->act));
    tile.on = false;
    if (a->stage) {
        float* own = t.stage + row * stage_pitch(a) + j - t.column;
        tile.out = own, tile.ldo = stage_pitch(a), tile.add = run.add;
        matmul_tile_of(rows, vectors, tile);
        if (run.last) matmul_finish(a, own, tile.ldo, rows, tile.lanes, c, d, !a->accumulate, true);
    } else if (simple) {
        tile.out = c, tile.ldo = a->c_row, tile.add = run.add || a->accumulate;
        matmul_tile_of(rows, vectors, tile);
    } else {
        tile.out = sums, tile.ldo = vectors * kWidth, tile.add = false;
        matmul_tile_of(rows, vectors, tile);
        matmul_finish(a, sums, tile.ldo, rows, tile.lanes, c, d, !run.add && !a->accumulate, run.last);
    }
}

// All rows by the columns [from, to), whose blocks lie in `b` where they were packed on the way.
inline void matmul_run_of(const MatmulArgs* a, const Product& p, const Item& t, const Run& run, Tile& tile, int64_t from, int64_t to) {
    const int64_t panels = ceil_div(t.rows, kRows), depth = tile.depth;
    const float* x = t.a + run.e * a->a_sum + run.k * a->a_column;
    const bool scratch = a->b_how == FC_B_SCRATCH;
    if (scratch)
        for (int64_t j = from; j < to; j += kBlock)
            gather_panel(t.own_b + (j - from) * depth, kBlock, t.b + run.e * a->b_sum + run.k * a->b_row + j * a->b_column, a->b_column,
                         a->b_row, to - j, kBlock, depth);
    for (int64_t i = 0; i < panels; ++i) {
        const int64_t row = t.rows * i / panels, rows = t.rows * (i + 1) / panels - row;
        const float* at = a->pack_a ? t.own_a + i * kRows * depth : x + row * a->a_row;
        for (int64_t j = from, taken; j < to; j += taken) {
            const int64_t left = to - j;
            int64_t vectors = tile_vectors(rows, left);
            tile.ahead = 0;
            if (scratch) {
                tile.b = t.own_b + (j - from) * depth, tile.bk = kBlock, tile.bs = kBlock * depth;
            } else if (a->b_how == FC_B_PACKED) {
                tile.bk = panel_width(p.N - j), tile.bs = kBlock * p.K * p.E;
                tile.b = t.b + j * p.K * p.E + (run.e * p.K + run.k) * tile.bk;
            } else {
                tile.b = t.b + run.e * a->b_sum + run.k * a->b_row + j * a->b_column;
                tile.bk = a->b_row, tile.bs = kBlock;
                if (!kMasked && left < kBlock && left % kWidth) {
                    gather_panel(t.own_b, kBlock, tile.b, a->b_column, a->b_row, left, kBlock, depth);
                    tile.b = t.own_b, tile.bk = kBlock;
                    vectors = min64(vectors, 2);
                } else if (p.N * depth > kNear) {
                    tile.ahead = vectors * kWidth;
                }
            }
            taken = vectors * kWidth;
            tile.lanes = min64(taken, left);
            // meanwhile a part of the block that comes after this one
            tile.next = tile.b, tile.step = 0;
            if (a->b_how == FC_B_PACKED && left > kBlock) {
                tile.step = max64(1, kBlock / panels), tile.next = tile.b + tile.bs + i * depth * tile.step;
            }
            tile.a = at;
            matmul_one(a, t, run, tile, row, rows, j, vectors);
        }
    }
}

// Up to three rows by a b that comes from far: some rows of it at a time, in long pieces; the sums meanwhile rest in the first-level
// cache, and go on as if they had not.
inline void matmul_thin(const MatmulArgs* a, const Item& t, const Run& run, Tile& tile) {
    const int64_t depth = tile.depth;
    tile.ldo = stage_pitch(a), tile.ahead = 0, tile.bs = kBlock, tile.bk = a->b_row, tile.add = false;
    for (int64_t k = 0; k == 0 || k < depth; k += kThinRows) {
        tile.a = t.a + run.e * a->a_sum + (run.k + k) * a->a_column;
        tile.depth = max64(0, min64(kThinRows, depth - k)), tile.on = k > 0;
        for (int64_t j = t.column, taken; j < t.columns; j += taken) {
            const int64_t vectors = tile_vectors(t.rows, t.columns - j);
            taken = vectors * kWidth;
            tile.b = t.b + run.e * a->b_sum + (run.k + k) * a->b_row + j;
            tile.lanes = min64(taken, t.columns - j);
            if (!kMasked && tile.lanes % kWidth) {
                gather_panel(t.own_b, kBlock, tile.b, 1, a->b_row, tile.lanes, kBlock, tile.depth);
                tile.b = t.own_b, tile.bk = kBlock;
            }
            tile.out = t.stage + j - t.column;
            matmul_tile_of(t.rows, vectors, tile);
            tile.bk = a->b_row;
        }
    }
    matmul_finish(a, t.stage, stage_pitch(a), t.rows, t.columns - t.column, t.c + t.column * a->c_column,
                  t.d ? t.d + t.column * a->d_column : nullptr, !run.add && !a->accumulate, run.last);
}

inline void matmul_item(const MatmulArgs* a, const Product& p, const Item& t) {
    const int64_t longest = run_channels(t.k1 - t.k0), panels = ceil_div(t.rows, kRows);
    Run run = {t.e0, t.k0, false, false};
    for (run.e = t.e0; run.e == t.e0 || run.e < t.e1; ++run.e)
        for (run.k = t.k0; run.k == t.k0 || run.k < t.k1; run.k += longest) {
            run.last = run.e + 1 >= t.e1 && run.k + longest >= t.k1;
            Tile tile;
            tile.depth = run.e < t.e1 ? max64(0, min64(longest, t.k1 - run.k)) : 0;
            tile.am = a->pack_a ? 1 : a->a_row, tile.ak = a->pack_a ? kRows : a->a_column;
            if (a->b_how == FC_B_THIN) {
                matmul_thin(a, t, run, tile);
                run.add = true;
                continue;
            }
            if (a->pack_a)
                for (int64_t i = 0; i < panels; ++i) {
                    const int64_t row = t.rows * i / panels, rows = t.rows * (i + 1) / panels - row;
                    gather_panel(t.own_a + i * kRows * tile.depth, kRows, t.a + run.e * a->a_sum + run.k * a->a_column + row * a->a_row,
                                 a->a_row, a->a_column, rows, kRows, tile.depth);
                }
            // so many blocks at once that they stay near while the rows pass by: rows of c are written in long pieces then
            const int64_t step = max64(1, kLongest / max64(1, tile.depth)) * kBlock;
            for (int64_t j = t.column; j < t.columns; j += step)
                matmul_run_of(a, p, t, run, tile, j, min64(t.columns, j + step));
            run.add = true;
        }
}

FC_INLINE int64_t f32_matmul_tiles(const MatmulArgs* a) {
    const Product p = product_of(a);
    return ceil_div(p.items, p.per);
}

inline void f32_matmul_run(const MatmulArgs* a, int64_t begin, int64_t end, void* scratch) {
    const Product p = product_of(a);
    Item t;
    t.own_b = static_cast<float*>(scratch);
    t.own_a = reinterpret_cast<float*>(static_cast<char*>(scratch) + b_scratch(a));
    t.stage = t.own_a + a_scratch(a);
    for (int64_t at = begin * p.per; at < min64(p.items, end * p.per); ++at) {
        const int64_t group = at % p.groups, chunk = at / p.groups % p.chunks, matrix = at / (p.groups * p.chunks);
        const int64_t i = matrix % p.batch, part = matrix / p.batch;
        const int64_t row = p.M * chunk / p.chunks;
        t.rows = p.M * (chunk + 1) / p.chunks - row;
        t.column = p.blocks * group / p.groups * kBlock;
        t.columns = min64(p.N, p.blocks * (group + 1) / p.groups * kBlock);
        t.e0 = 0, t.e1 = p.E, t.k0 = 0, t.k1 = p.K;
        if (p.parts > 1 && a->part_outer) {
            t.e0 = min64(p.E, part * a->part), t.e1 = min64(p.E, t.e0 + a->part);
        } else if (p.parts > 1) {
            t.k0 = min64(p.K, part * a->part), t.k1 = min64(p.K, t.k0 + a->part);
        }
        t.a = a->a + begin_of(a, a->a_step, i) + row * a->a_row;
        t.b = a->b + begin_of(a, a->b_step, i);
        t.d = a->d ? a->d + begin_of(a, a->d_step, i) + row * a->d_row : nullptr;
        t.c = a->c + begin_of(a, a->c_step, i) + row * a->c_row + part * a->c_part;
        if (a->b_how == FC_B_DOT) {
            matmul_dots(a, t);
        } else {
            matmul_item(a, p, t);
        }
    }
}

// ---- the sum of the parts -----------------------------------------------------------------------------------------------

// a's place is that of the parts, [part][matrix][M][N]; as many rows as an item of the work.
FC_INLINE int64_t sum_rows(const MatmulArgs* a, const Product& p) { return max64(1, 8192 / max64(1, p.N * a->parts)); }
FC_INLINE int64_t f32_matmul_sum_tiles(const MatmulArgs* a) {
    const Product p = product_of(a);
    return p.N ? p.batch * ceil_div(p.M, sum_rows(a, p)) : 0;
}
FC_INLINE size_t f32_matmul_sum_scratch(const MatmulArgs*) { return 0; }

inline void f32_matmul_sum_run(const MatmulArgs* a, int64_t begin, int64_t end, void*) {
    constexpr int W = kWidth;
    const Product p = product_of(a);
    const int64_t step = sum_rows(a, p), chunks = ceil_div(p.M, step);
    alignas(64) float sums[kTileFloats];
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t i = tile / chunks;
        for (int64_t row = tile % chunks * step; row < min64(p.M, (tile % chunks + 1) * step); ++row)
            for (int64_t j = 0; j < p.N; j += kTileFloats) {
                const int64_t columns = min64(kTileFloats, p.N - j);
                const float* from = a->a + (i * p.M + row) * p.N + j;
                for (int64_t l = 0; l < columns; l += W) {
                    const int n = static_cast<int>(min64(W, columns - l));
                    Vf<W> v = load_n<W>(from + l, n);
                    for (int64_t part = 1; part < a->parts; ++part) v = v + load_n<W>(from + part * a->c_part + l, n);
                    store<W>(sums + l, v);
                }
                float* c = a->c + begin_of(a, a->c_step, i) + row * a->c_row + j * a->c_column;
                const float* d = a->d ? a->d + begin_of(a, a->d_step, i) + row * a->d_row + j * a->d_column : nullptr;
                matmul_finish(a, sums, kTileFloats, 1, columns, c, d, !a->accumulate, true);
            }
    }
}

}  // namespace
}  // namespace
