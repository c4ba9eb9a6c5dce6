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

}  // namespace
}  // namespace
#endif
