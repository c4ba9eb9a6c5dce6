// The register tile of every matrix product that is not a convolution, for any strides of a.
//
//                    b: NV vectors of columns, bk apart from one k to the next
//                    +----------+----------+
//   row 0     a[k] --| acc[0][0]| acc[0][1]|      one broadcast of a per row and k,
//   row 1     a[k] --| acc[1][0]| acc[1][1]|      M * NV fused multiply-adds on it
//     ...            |   ...    |   ...    |
//   row M-1          +----------+----------+
//
// As the convolution's: AVX-512 14 x 32, AVX2 6 x 16, portable 4 x 8, at every height; with few rows up to 8 vectors wide, so that there
// are chains of FMAs enough. Rows are found four to a pointer: base + 0, 1, 2 and 3 strides are one address each, so that a may be
// a matrix, a transposed one or packed, and needs no table. Where masks cost nothing (AVX-512) the last columns are read and written
// masked; elsewhere b's are padded by who packs them.
// Bound by the FMA units: M + NV loads for M * NV FMAs.
#ifndef FASTCONV_MATMUL_TILE_INL_H
#define FASTCONV_MATMUL_TILE_INL_H

#include "fastconv/simd/blocks.inl.h"
#include "fastconv/simd/vec.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kRows = kWidth == 16 ? 14 : kWidth == 8 ? 6 : 4;
constexpr int kLow = kRows > 7 ? 8 : kRows;
constexpr bool kMasked = kWidth == 16;
constexpr int kTileFloats = kRows * kBlock > 16 * kWidth ? kRows * kBlock : 16 * kWidth;

// What a tile reads and writes; strides in floats.
struct Tile {
    const float* a;
    int64_t am, ak;       // from row to row, from k to k
    const float* b;
    int64_t bk, bs;       // from k to k, from one pair of vectors to the next
    int64_t depth;
    float* out;           // columns next to each other
    int64_t ldo, lanes;   // valid columns
    bool add;             // to what is there
    const float* next;    // what will be read after this, asked for on the way: one address per k, `step` apart (high tiles);
    int64_t step, ahead;  // floats from b to the columns that are needed later (low tiles; 0: they come by themselves)
    bool on;              // the sums go on from what is there (low tiles)
};
constexpr int kHigh = kRows / 2;  // from this height on a tile takes long enough to fetch something meanwhile

template <int NV, int M>
FC_NOINLINE void matmul_tile(const Tile& t) {
    constexpr int W = kWidth, P = (M + 3) / 4;
    const int n0 = static_cast<int>(min64(W, t.lanes)), n1 = static_cast<int>(max64(0, min64(W, t.lanes - W)));
    const auto valid = [&](int v) { return NV > 2 ? W : v ? n1 : n0; };
    int64_t am = t.am, ak = t.ak, bk = t.bk;
    asm("" : "+r"(am), "+r"(ak), "+r"(bk));  // or there would be loops of their own for strides of 1
    const int64_t am3 = 3 * am, bs = t.bs;
    const float *p[P], *b = t.b;
#pragma GCC unroll 4
    for (int i = 0; i < P; ++i) {
        p[i] = t.a + 4 * i * am;
        asm("" : "+r"(p[i]));  // each a pointer of its own
    }
    Vf<W> acc[M][NV];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) acc[m][v] = M <= 3 && t.on ? load_n<W>(t.out + m * t.ldo + v * W, valid(v)) : Vf<W>{};
    constexpr bool high = NV == 2 && M >= kHigh;
    const float* next = t.next;
    int64_t step = t.step;
    asm("" : "+r"(step));
    for (int64_t k = t.depth; k > 0; --k) {
        Vf<W> x[M < 4 ? M : 1], y[NV];
        if (high) {
            __builtin_prefetch(next, 0, 3);
            next += step;
        } else if (NV > 1 && M <= 6 && t.ahead) {
#pragma GCC unroll 8
            for (int v = 0; v < NV; v += 64 / (4 * W)) __builtin_prefetch(b + v / 2 * bs + v % 2 * W + t.ahead, 0, 3);
        }
        if constexpr (NV > 2) {  // few rows: their values stay, the columns pass
#pragma GCC unroll 4
            for (int m = 0; m < M; ++m) x[m] = splat<W>(p[0][m < 3 ? m * am : am3]);
#pragma GCC unroll 8
            for (int v = 0; v < NV; ++v) {
                const Vf<W> f = load<W>(b + v / 2 * bs + v % 2 * W);
#pragma GCC unroll 4
                for (int m = 0; m < M; ++m) acc[m][v] = mul_add<W>(x[m], f, acc[m][v]);
            }
        } else {
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) y[v] = kMasked ? Ops<W>::load_n(b + v * W, valid(v)) : load<W>(b + v * W);
#pragma GCC unroll 16
            for (int m = 0; m < M; ++m) {
                const Vf<W> s = splat<W>(p[m / 4][m % 4 < 3 ? m % 4 * am : am3]);
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v) acc[m][v] = mul_add<W>(s, y[v], acc[m][v]);
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < P; ++i) p[i] += ak;
        b += bk;
    }
    constexpr bool masked = kMasked && NV <= 2;
    const int64_t ldo = t.ldo;
    float* out = t.out;
    if (t.add)
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
            for (int v = 0; v < NV; ++v) {
                const float* at = out + m * ldo + v * W;
                acc[m][v] = (masked ? Ops<W>::load_n(at, valid(v)) : load_n<W>(at, valid(v))) + acc[m][v];
            }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m, out += ldo)
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) {
            if (masked) {
                Ops<W>::store_n(out + v * W, acc[m][v], valid(v));
            } else {
                store_n<W>(out + v * W, acc[m][v], valid(v));
            }
        }
}

template <int NV, int M>
FC_INLINE void matmul_height(int64_t rows, const Tile& t) {
    if (rows == M) {
        matmul_tile<NV, M>(t);
    } else if constexpr (M > 1) {
        matmul_height<NV, M - 1>(rows, t);
    }
}

// Vectors of columns that a tile of so many rows takes, where so many columns are left.
FC_INLINE int64_t tile_vectors(int64_t rows, int64_t columns) {
    constexpr int64_t W = kWidth;
    if (rows <= (W == 16 ? 2 : 1) && columns >= 8 * W) return 8;
    if (rows <= (W == 16 ? 3 : 2) && columns >= 4 * W) return 4;
    return columns > W ? 2 : 1;
}

inline void matmul_tile_of(int64_t rows, int64_t vectors, Tile& t) {
    if (vectors == 1 && rows > kLow) {  // of one vector, a tile of half the height has chains enough
        matmul_height<1, kLow>(kLow, t);
        t.a += kLow * t.am, t.out += kLow * t.ldo;
        rows -= kLow;
    }
    switch (vectors) {
        case 8: return matmul_height<8, kWidth == 16 ? 2 : 1>(rows, t);
        case 4: return matmul_height<4, kWidth == 16 ? 3 : 2>(rows, t);
        case 2: return matmul_height<2, kRows>(rows, t);
        default: return matmul_height<1, kLow>(rows, t);
    }
}

}  // namespace
}  // namespace
#endif
