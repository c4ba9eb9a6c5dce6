// How filters are cut into blocks, for the kernels that read packed weights and for those that pack them.
// A block is 2 vectors wide; a last block that fits in one vector, or in half of one, is packed that narrow.
#ifndef FASTCONV_BLOCKS_INL_H
#define FASTCONV_BLOCKS_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int kBlock = 2 * kWidth;
constexpr int kHalf = kWidth > 4 ? kWidth / 2 : kWidth;

FC_INLINE int64_t block_width(int64_t filters) {
    return filters > kWidth ? kBlock : filters > kHalf ? kWidth : kHalf;
}
// Floats per tap and channel of one group's packed weights.
FC_INLINE int64_t packed_filters(int64_t filters) {
    return filters / kBlock * kBlock + (filters % kBlock ? block_width(filters % kBlock) : 0);
}

// A long sum is cut into runs of kChain to 2 * kChain products: one accumulator sums a run, the runs' sums are added in order.
// The error of a sum grows with the square root of the length of its chains, so that of 25,088 products is about that of
// 500 (N. Higham, Accuracy and Stability of Numerical Algorithms, section 4.2). It costs a load, an addition and a store a run.
constexpr int64_t kChain = 384;

// Taps and channels of a run of T taps of C channels: whole taps, or a part of one.
FC_INLINE int64_t run_taps(int64_t T, int64_t C) {
    return C >= kChain ? 1 : max64(1, ceil_div(T, max64(1, T * C / kChain)));
}
FC_INLINE int64_t run_channels(int64_t C) {
    return C < 2 * kChain ? max64(1, C) : ceil_div(ceil_div(C, C / kChain), 4) * 4;
}

template <int W, int NV, int M>
FC_INLINE void add_runs(Vf<W> (&acc)[M][NV], float* sums, bool many) {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) {
            float* at = sums + (m * NV + v) * W;
            store<W>(at, many ? load<W>(at) + acc[m][v] : acc[m][v]);
            acc[m][v] = Vf<W>{};
        }
}

}  // namespace
}  // namespace
#endif
