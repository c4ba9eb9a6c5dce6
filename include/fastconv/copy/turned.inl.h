// A matrix copied with rows and columns exchanged: dst[i * ds + c] = src[c * ss + i], what doors spend their time with.
//
//   src   c  i i i i ...     W x W values at a time go through registers (simd/transpose.inl.h); a block that would end past the
//         c  i i i i         edge begins earlier and writes some values twice, so that only matrices narrower than a vector
//   dst   i  c c c c ...     need masks.
//
// Bound by memory, and what that takes depends on how far apart the rows lie:
// - rows of dst at multiples of 2 KiB fall into two sets (or one) of the first-level cache, which cannot hold the lines of one
//   block: a tile goes to scratch, and from there to dst in long runs (Zen 5, 1024 x 256: from 40 to 70 % of memcpy's speed);
// - dst past the caches is written by whole lines: straight from registers where all its rows are aligned alike and near each
//   other, in runs from scratch where they are far, or short and one behind the other (96 x 65536: from 54 to 113 %); rows that
//   are aligned each in its own way are written as they come (4001 x 5999: from 37 to 45 %);
// - else a run of blocks goes along i, as long as its lines of dst stay in the first-level cache; along c where dst has few
//   long rows.
// Up to 8 rows, or columns, that lie densely are one stream: their vectors are permuted into each other.
#ifndef FASTCONV_TURNED_INL_H
#define FASTCONV_TURNED_INL_H

#include "fastconv/simd/transpose.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// A tile in scratch: rows, values of each (16 more apart); past the caches longer runs pay.
constexpr int64_t kTurnRows = 16, kTurnRun = 128, kTurnRunPast = 1024;
constexpr size_t kTurnScratch = sizeof(float) * kTurnRows * (kTurnRunPast + 16);
constexpr int kFewRows = 8;

// ---- blocks -----------------------------------------------------------------------------------------------------------

template <int W, bool Past>
FC_INLINE void turn_block(const float* src, int64_t ss, float* dst, int64_t ds) {
    Vf<W> r[W];
#pragma GCC unroll 16
    for (int k = 0; k < W; ++k) r[k] = load<W>(src + k * ss);
    transpose<W>(r);
#pragma GCC unroll 16
    for (int k = 0; k < W; ++k) {
        if (Past)
            stream<W>(dst + k * ds, r[k]);
        else
            store<W>(dst + k * ds, r[k]);
    }
}

// n rows of m values, up to W of each.
template <int W>
FC_NOINLINE void turn_part(const float* src, int64_t ss, int m, float* dst, int64_t ds, int n) {
    Vf<W> r[W];
    for (int k = 0; k < W; ++k) r[k] = k < n ? load_n<W>(src + k * ss, m) : Vf<W>{};
    transpose<W>(r);
    for (int k = 0; k < m; ++k) store_n<W>(dst + k * ds, r[k], n);
}

// One value at a time: for strips of one or two, where a block would move sixteen.
FC_INLINE void turn_strip(const float* src, int64_t ss, int64_t I, float* dst, int64_t ds, int64_t C) {
    for (int64_t i = 0; i < I; ++i)
        for (int64_t c = 0; c < C; ++c) dst[i * ds + c] = src[c * ss + i];
}

// A row of blocks: W values of c, I of i. Lines that went past the caches are not written again.
template <int W, bool Past>
FC_INLINE void turn_along(const float* src, int64_t ss, int64_t I, float* dst, int64_t ds) {
    int64_t i = 0;
    for (; i + W <= I; i += W) turn_block<W, Past>(src + i, ss, dst + i * ds, ds);
    if (I - i > 0 && I - i <= 2) {
        turn_strip(src + i, ss, I - i, dst + i * ds, ds, W);
    } else if (i < I) {
        if (Past)
            turn_part<W>(src + i, ss, static_cast<int>(I - i), dst + i * ds, ds, W);
        else
            turn_block<W, false>(src + I - W, ss, dst + (I - W) * ds, ds);
    }
}

// Any extents. `aligned`: rows of dst are all aligned alike; their whole vectors go past the caches if `past`.
template <int W>
FC_NOINLINE void turn_blocks(const float* src, int64_t ss, int64_t I, float* dst, int64_t ds, int64_t C, bool aligned,
                             bool past) {
    if (I < W || C < W) {
        for (int64_t c = 0; c < C; c += W)
            for (int64_t i = 0; i < I; i += W)
                turn_part<W>(src + c * ss + i, ss, static_cast<int>(min64(W, I - i)), dst + i * ds + c, ds,
                             static_cast<int>(min64(W, C - c)));
        return;
    }
    const int64_t odd = static_cast<int64_t>(reinterpret_cast<uintptr_t>(dst) / 4 % W);
    int64_t c = aligned && odd ? W - odd : 0;
    if (c) turn_along<W, false>(src, ss, I, dst, ds);
    if (aligned && past) {
        for (; c + W <= C; c += W) turn_along<W, true>(src + c * ss, ss, I, dst + c, ds);
    } else {
        for (; c + W <= C; c += W) turn_along<W, false>(src + c * ss, ss, I, dst + c, ds);
    }
    if (C - c > 2 && !past) {
        turn_along<W, false>(src + (C - W) * ss, ss, I, dst + C - W, ds);
    } else if (c < C) {
        for (int64_t i = 0; i < I && C - c > 2; i += W)
            turn_part<W>(src + c * ss + i, ss, static_cast<int>(min64(W, I - i)), dst + i * ds + c, ds,
                         static_cast<int>(C - c));
        if (C - c <= 2) turn_strip(src + c * ss, ss, I, dst + c, ds, C - c);
    }
}

// ---- rows that are one stream -------------------------------------------------------------------------------------------

#if defined(__AVX2__)
// Lane l of vector j of N interleaved streams is element (j * W + l) / N of stream (j * W + l) % N.
template <int W, int N>
struct Weave {
    alignas(64) int32_t into[N][N][W];    // [vector of the weave][stream]: from which lane of the stream
    alignas(64) int32_t out_of[N][N][W];  // [stream][vector of the weave]: from which lane of the weave
    uint32_t into_mask[N][N], out_mask[N][N];
    constexpr Weave() : into(), out_of(), into_mask(), out_mask() {
        for (int j = 0; j < N; ++j)
            for (int l = 0; l < W; ++l) {
                const int stream = (j * W + l) % N, lane = (j * W + l) / N;
                into[j][stream][l] = lane;
                into_mask[j][stream] |= 1u << l;
                out_of[stream][j][lane] = l;
                out_mask[stream][j] |= 1u << lane;
            }
    }
};
template <int W, int N>
constexpr Weave<W, N> weave{};

// r with the lanes of `mask` replaced by those of v that `lane` names.
FC_INLINE void pick(Vf<8>& r, Vf<8> v, const int32_t* lane, uint32_t mask) {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i chosen = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(mask)), bit), bit);
    const __m256i lanes = _mm256_load_si256(reinterpret_cast<const __m256i*>(lane));
    r = (Vf<8>)_mm256_blendv_ps((__m256)r, _mm256_permutevar8x32_ps((__m256)v, lanes), (__m256)chosen);
}
#if defined(__AVX512F__)
FC_INLINE void pick(Vf<16>& r, Vf<16> v, const int32_t* lane, uint32_t mask) {
    r = (Vf<16>)_mm512_mask_permutexvar_ps((__m512)r, static_cast<__mmask16>(mask), _mm512_load_si512(lane), (__m512)v);
}
#endif

// N rows of I values, ss apart, into a dense dst.
template <int W, int N>
FC_NOINLINE void interleave(const float* src, int64_t ss, int64_t I, float* dst, bool past) {
    constexpr const Weave<W, N>& table = weave<W, N>;
    past = past && reinterpret_cast<uintptr_t>(dst) % (4 * W) == 0;
    int64_t i = 0;
    for (; i + W <= I; i += W) {
        Vf<W> from[N];
#pragma GCC unroll 8
        for (int c = 0; c < N; ++c) from[c] = load<W>(src + c * ss + i);
#pragma GCC unroll 8
        for (int j = 0; j < N; ++j) {
            Vf<W> r{};
#pragma GCC unroll 8
            for (int c = 0; c < N; ++c) pick(r, from[c], table.into[j][c], table.into_mask[j][c]);
            put<W>(dst + i * N + j * W, r, past);
        }
    }
    for (; i < I; ++i)
        for (int c = 0; c < N; ++c) dst[i * N + c] = src[c * ss + i];
}

// A dense src of C times N values into N rows, ds apart.
template <int W, int N>
FC_NOINLINE void deinterleave(const float* src, int64_t C, float* dst, int64_t ds, bool aligned, bool past) {
    constexpr const Weave<W, N>& table = weave<W, N>;
    const int64_t odd = static_cast<int64_t>(reinterpret_cast<uintptr_t>(dst) / 4 % W);
    const int64_t head = min64(C, aligned && odd ? W - odd : 0);
    past = past && aligned;
    int64_t c = 0;
    for (; c < head; ++c)
        for (int i = 0; i < N; ++i) dst[i * ds + c] = src[c * N + i];
    for (; c + W <= C; c += W) {
        Vf<W> from[N];
#pragma GCC unroll 8
        for (int j = 0; j < N; ++j) from[j] = load<W>(src + c * N + j * W);
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) {
            Vf<W> r{};
#pragma GCC unroll 8
            for (int j = 0; j < N; ++j) pick(r, from[j], table.out_of[i][j], table.out_mask[i][j]);
            put<W>(dst + i * ds + c, r, past);
        }
    }
    for (; c < C; ++c)
        for (int i = 0; i < N; ++i) dst[i * ds + c] = src[c * N + i];
}

template <int N>
FC_INLINE bool turn_few(const float* src, int64_t ss, int64_t I, float* dst, int64_t ds, int64_t C, bool aligned,
                        bool past) {
    if constexpr (N > 1) {
        if (C == N && ds == N) {
            interleave<kWidth, N>(src, ss, I, dst, past);
            return true;
        }
        if (I == N && ss == N) {
            deinterleave<kWidth, N>(src, C, dst, ds, aligned, past);
            return true;
        }
        return turn_few<N - 1>(src, ss, I, dst, ds, C, aligned, past);
    }
    return false;
}
#else
template <int N>
FC_INLINE bool turn_few(const float*, int64_t, int64_t, float*, int64_t, int64_t, bool, bool) {
    return false;
}
#endif

// ---- through scratch ----------------------------------------------------------------------------------------------------

// n values to where whole lines may go past the caches.
template <int W>
FC_INLINE void put_run(float* dst, const float* src, int64_t n, bool past) {
    int64_t i = 0;
    if (past) {
        const int64_t odd = static_cast<int64_t>(reinterpret_cast<uintptr_t>(dst) / 4 % 16);
        for (const int64_t head = min64(n, odd ? 16 - odd : 0); i < head; ++i) dst[i] = src[i];
        for (; i + 16 <= n; i += 16)
#pragma GCC unroll 4
            for (int v = 0; v < 16; v += W) stream<W>(dst + i + v, load<W>(src + i + v));
    }
    if (!past && n >= 2 * W) {  // the first vector, then aligned ones
        store<W>(dst, load<W>(src));
        i = W - static_cast<int64_t>(reinterpret_cast<uintptr_t>(dst) / 4 % W);
    }
    for (; i + W <= n; i += W) store<W>(dst + i, load<W>(src + i));
    if (i < n) store_n<W>(dst + i, load_n<W>(src + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

template <int W>
FC_NOINLINE void turn_staged(const float* src, int64_t ss, int64_t I, float* dst, int64_t ds, int64_t C, bool past,
                             float* scratch) {
    if (past && ds == C && C <= kTurnRunPast / 2) {  // rows of dst follow each other: one run
        const int64_t step = kTurnRows * kTurnRunPast / C / W * W;
        for (int64_t i = 0; i < I; i += step) {
            const int64_t n = min64(step, I - i);
            turn_blocks<W>(src + i, ss, n, scratch, C, C, false, false);
            put_run<W>(dst + i * C, scratch, n * C, true);
        }
        return;
    }
    const int64_t run = past ? kTurnRunPast : kTurnRun, pitch = run + 16;
    const int64_t most = past || C >= 4 * I ? kTurnRows : 2 * kTurnRows;  // wider where it is src that is read in short runs
    const int64_t shift = ss % 16 ? 0 : static_cast<int64_t>(reinterpret_cast<uintptr_t>(src) / 4 % 16);
    for (int64_t i = 0, rows; i < I; i += rows) {
        rows = min64(i ? most : most - shift, I - i);  // tiles begin where lines of src do
        for (int64_t c = 0; c < C; c += run) {
            const int64_t n = min64(run, C - c);
            turn_blocks<W>(src + c * ss + i, ss, rows, scratch, pitch, n, false, false);
            for (int64_t k = 0; k < rows; ++k) put_run<W>(dst + (i + k) * ds + c, scratch + k * pitch, n, past);
        }
    }
}

// ---- the copy -----------------------------------------------------------------------------------------------------------

// dst[i * ds + c] = src[c * ss + i] for i < I, c < C; scratch: kTurnScratch bytes. `past`: dst goes past the caches, and
// stream_end() follows before others read it.
inline void turn(const float* src, int64_t ss, int64_t I, float* dst, int64_t ds, int64_t C, bool past, float* scratch) {
    constexpr int W = kWidth;
    const bool aligned = ds % 16 == 0;
    if (turn_few<kFewRows>(src, ss, I, dst, ds, C, aligned, past)) return;
    const bool wide = I >= W && C >= W;
    const bool dense = past && ds == C && C <= kTurnRunPast / 2 && I <= 128 && (!aligned || reinterpret_cast<uintptr_t>(dst) % 64);
    past = past && (dense || aligned || !wide);
    const bool few_rows = C >= 4 * I;  // of dst, and long
    if (past ? dense || !wide || (ds >= 512 && !few_rows) : wide && ds % 512 == 0) {
        turn_staged<W>(src, ss, I, dst, ds, C, past, scratch);
        return;
    }
    int64_t sets = 64;  // of the first-level cache, that a column of dst falls into
    for (int64_t lines = ds / 16; aligned && sets > 1 && lines % 2 == 0; lines /= 2) sets /= 2;
    const int64_t run = past ? I : few_rows ? W : max64(W, min64(256, 8 * sets) / W * W);
    const int64_t shift = static_cast<int64_t>(reinterpret_cast<uintptr_t>(src) / 4 % W);
    int64_t i = 0;
    if (ss % 16 == 0 && shift && wide && I > 256) {  // from then on each line of src is read by one block
        i = W - shift;
        turn_blocks<W>(src, ss, W, dst, ds, C, aligned, false);
    }
    for (; i < I; i += run) {
        int64_t from = i, n = min64(run, I - i);
        if (n < W && from >= W - n && wide) from -= W - n, n = W;
        turn_blocks<W>(src + from, ss, n, dst + from * ds, ds, C, aligned, past);
    }
}

}  // namespace
}  // namespace
#endif
