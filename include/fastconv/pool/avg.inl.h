// Average pooling. Windows of up to 64 values are summed tap by tap; larger ones (global pooling) in blocks of 32 by a
// cascade of accumulators, so that the rounding error grows with the logarithm of the window.
#include "fastconv/pool/window.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kLevels = 5;
constexpr int64_t kFan = 32;  // blocks of a level that make one of the next

struct AvgTile {
    static constexpr bool kOften = true;

    template <int W, int M, int NW, bool kFull>
    static FC_INLINE void run(const PoolArgs* a, const Window& win, const float* x, int64_t xstep, int64_t pixel,
                              int64_t pstep, int64_t c, int64_t cstep, int lanes) {
        Vf<W> sum[M];
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) sum[m] = Vf<W>{};
        if (win.nd * win.nh * win.nw > 64) {
            Vf<W> total[M];  // its address escapes, which would keep sum[] of the other branch out of registers
            cascade<W, M, kFull>(win, x, xstep, total, lanes);
#pragma GCC unroll 4
            for (int m = 0; m < M; ++m) sum[m] = total[m];
        } else {
            const int64_t nw = NW ? NW : win.nw;
            for (int64_t d = 0; d < win.nd; ++d)
                for (int64_t h = 0; h < win.nh; ++h) {
                    const float* row = x + d * win.sd + h * win.sh;
#pragma GCC unroll 3
                    for (int64_t k = 0; k < nw; ++k)
#pragma GCC unroll 4
                        for (int m = 0; m < M; ++m)
                            sum[m] += load_lanes<W, kFull>(row + k * win.sw + m * xstep, lanes);
                }
        }
        const Vf<W> divisor = splat<W>(win.divisor);
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m)
            store_lanes<W, kFull>(a->y + (pixel + m * pstep) * a->ldy + c + m * cstep, sum[m] / divisor, lanes);
    }

    // Level 0 adds up blocks of at most 32 values of a row; every 32nd time, level i moves up to level i + 1.
    template <int W, int M, bool kFull>
    static FC_NOINLINE void cascade(const Window& win, const float* x, int64_t xstep, Vf<W>* sum, int lanes) {
        constexpr int kChains = 8 / M;  // additions in flight hide their latency
        Vf<W> level[kLevels][M];
        for (int i = 0; i < kLevels; ++i)
            for (int m = 0; m < M; ++m) level[i][m] = Vf<W>{};
        // Rows that follow one another without a gap are one row.
        const bool joined = win.sh == win.nw * win.sw;
        const int64_t nw = joined ? win.nh * win.nw : win.nw, nh = joined ? 1 : win.nh;
        int64_t blocks = 0;
        for (int64_t d = 0; d < win.nd; ++d)
            for (int64_t h = 0; h < nh; ++h)
                for (int64_t k0 = 0; k0 < nw; k0 += kFan) {
                    const int64_t k1 = min64(nw, k0 + kFan);
                    const float* p = x + d * win.sd + h * win.sh + k0 * win.sw;
                    Vf<W> part[kChains][M];
                    for (int j = 0; j < kChains; ++j)
                        for (int m = 0; m < M; ++m) part[j][m] = Vf<W>{};
                    int64_t k = k0;
                    for (; k + kChains <= k1; k += kChains)
#pragma GCC unroll 8
                        for (int j = 0; j < kChains; ++j, p += win.sw)
#pragma GCC unroll 4
                            for (int m = 0; m < M; ++m) part[j][m] += load_lanes<W, kFull>(p + m * xstep, lanes);
                    for (; k < k1; ++k, p += win.sw)
                        for (int m = 0; m < M; ++m) part[0][m] += load_lanes<W, kFull>(p + m * xstep, lanes);
                    for (int j = 0; j < kChains; ++j)
                        for (int m = 0; m < M; ++m) level[0][m] += part[j][m];
                    ++blocks;
                    int64_t count = blocks;
                    for (int i = 0; i + 1 < kLevels && count % kFan == 0; ++i, count /= kFan)
                        for (int m = 0; m < M; ++m) {
                            level[i + 1][m] += level[i][m];
                            level[i][m] = Vf<W>{};
                        }
                }
        for (int m = 0; m < M; ++m) {
            sum[m] = level[0][m];
            for (int i = 1; i < kLevels; ++i) sum[m] += level[i][m];
        }
    }
};

FC_INLINE int64_t f32_avgpool_tiles(const PoolArgs* a) { return pool_forward_cut(a).tiles; }
FC_INLINE size_t f32_avgpool_scratch(const PoolArgs*) { return 0; }
inline void f32_avgpool_run(const PoolArgs* a, int64_t begin, int64_t end, void*) {
    pool_forward<AvgTile>(a, begin, end);
}

}  // namespace
}  // namespace
