// Max pooling, with and without the winner's index. PyTorch's rules: the first tap inside is taken whatever it holds,
// a later one when it is greater or NaN; a window without a tap inside gives -inf and no index.
// See pool/window.inl.h for the tiles; per tap one load, two comparisons and one or two selections.
#include "fastconv/pool/index.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

template <class Index>
struct MaxTile {
    static constexpr bool kIndex = sizeof(Index) <= 4;
    static constexpr bool kOften = sizeof(Index) != 4;  // indices of 32 bits: adaptive windows, and more than 255 taps

    template <int W, int M, int NW, bool kFull>
    static FC_INLINE void run(const PoolArgs* a, const Window& win, const float* x, int64_t xstep, int64_t pixel,
                              int64_t pstep, int64_t c, int64_t cstep, int lanes) {
        const int64_t nw = NW ? NW : win.nw;
        Vf<W> best[M];
        Vi<W> at[M];
        const bool some = win.nd * win.nh * nw > 0;
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
            best[m] = splat<W>(-__builtin_inff());
            at[m] = splat_i<W>(some ? static_cast<int32_t>(win.tap) : -1);
        }
        for (int64_t d = 0; d < win.nd; ++d)
            for (int64_t h = 0; h < win.nh; ++h) {
                const float* row = x + d * win.sd + h * win.sh;
                const int32_t tap = static_cast<int32_t>(win.tap + d * win.tap_d + h * win.tap_h);
#pragma GCC unroll 3
                for (int64_t k = 0; k < nw; ++k)
#pragma GCC unroll 4
                    for (int m = 0; m < M; ++m) {
                        const Vf<W> v = load_lanes<W, kFull>(row + k * win.sw + m * xstep, lanes);
                        const Vi<W> take = (v > best[m]) | (v != v);
                        best[m] = take ? v : best[m];
                        if (kIndex) at[m] = take ? splat_i<W>(tap + static_cast<int32_t>(k)) : at[m];
                    }
            }
#pragma GCC unroll 4
        for (int m = 0; m < M; ++m) {
            store_lanes<W, kFull>(a->y + (pixel + m * pstep) * a->ldy + c + m * cstep, best[m], lanes);
            if constexpr (kIndex) {
                Index* index = static_cast<Index*>(a->index) + (pixel + m * pstep) * a->ldi + c + m * cstep;
                store_index<W, kFull>(index, at[m], lanes);
            }
        }
    }
};

FC_INLINE int64_t f32_maxpool_tiles(const PoolArgs* a) { return pool_forward_cut(a).tiles; }
FC_INLINE size_t f32_maxpool_scratch(const PoolArgs*) { return 0; }
inline void f32_maxpool_run(const PoolArgs* a, int64_t begin, int64_t end, void*) {
    pool_forward<MaxTile<int64_t>>(a, begin, end);
}

FC_INLINE int64_t f32_maxpool_argmax_u8_tiles(const PoolArgs* a) { return pool_forward_cut(a).tiles; }
FC_INLINE size_t f32_maxpool_argmax_u8_scratch(const PoolArgs*) { return 0; }
inline void f32_maxpool_argmax_u8_run(const PoolArgs* a, int64_t begin, int64_t end, void*) {
    pool_forward<MaxTile<uint8_t>>(a, begin, end);
}

FC_INLINE int64_t f32_maxpool_argmax_i32_tiles(const PoolArgs* a) { return pool_forward_cut(a).tiles; }
FC_INLINE size_t f32_maxpool_argmax_i32_scratch(const PoolArgs*) { return 0; }
inline void f32_maxpool_argmax_i32_run(const PoolArgs* a, int64_t begin, int64_t end, void*) {
    pool_forward<MaxTile<int32_t>>(a, begin, end);
}

}  // namespace
}  // namespace
