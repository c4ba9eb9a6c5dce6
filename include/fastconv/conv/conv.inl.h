// Convolution without im2col (implicit GEMM, channels-last), 1x1 convolution and matrix product: one loop over
// conv/tile.inl.h. A tile of the problem is a run of output pixels (across rows and images) by a group of filter
// blocks whose packed weights stay in the second-level cache.
#include "fastconv/conv/tile.inl.h"
#include "fastconv/simd/pixels.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kRun = 8 * kTileM;           // pixels per tile of the problem: this many, or
constexpr int64_t kRunWork = 32768;            // as many as give a tile so many vector multiply-adds,
constexpr int64_t kRunPointers = 16384;        // while its table of pointers stays in the second-level cache
constexpr int64_t kPaddedRun = 784;            // with padding: so that pixels with the same taps in it fill tiles,
constexpr int64_t kPaddedTasks = 16;           // where so many tasks are left
constexpr int64_t kStreamedBytes = 16 << 20;   // outputs of short sums, which memory bounds, that go past the caches
constexpr int64_t kStreamedSum = 512;
constexpr int64_t kGroupBytes = (kWidth == 16 ? 640 : 256) * 1024;  // packed weights per tile: of the second-level cache

constexpr int64_t kFetchBytes = 256 * 1024;  // of a block's packed weights that are fetched while another's are in use
constexpr int64_t kFetchFrom = 64 * 1024;    // bytes of weights; a network of smaller ones has them in its second-level cache

struct ConvCut {
    int64_t run, chunks, blocks, per_group, groups;
};

FC_INLINE ConvCut conv_cut(const ConvArgs* a) {
    ConvCut cut;
    const int64_t pixels = a->n * a->iD * a->iH * a->iW;
    const int64_t work = max64(1, a->T * a->C * ceil_div(a->K, kWidth));
    const int64_t most = max64(kRun, kRunPointers / max64(1, a->T) / kTileM * kTileM);
    cut.run = max64(kRun, min64(most, ceil_div(kRunWork / work, kTileM) * kTileM));
    cut.blocks = ceil_div(a->K, kBlock);
    if (!all_inside(a)) {
        const int64_t image = a->iD * a->iH * a->iW, wide = max64(cut.run, min64(most, kPaddedRun));
        cut.run = image > 0 && image <= wide ? wide / image * image : wide;
        while (cut.run > kRun && ceil_div(pixels, cut.run) * cut.blocks * a->G < kPaddedTasks)
            cut.run = max64(kRun, ceil_div(cut.run / 2, kTileM) * kTileM);
    }
    cut.chunks = ceil_div(pixels, cut.run);
    const int64_t least = pixels == 1 ? 4 : 1;  // conv_row takes four blocks at once
    cut.per_group = min64(cut.blocks, max64(least, kGroupBytes / max64(1, a->T * a->C * kBlock * 4)));
    if (cut.chunks < 8) {  // few pixels: the blocks of filters are what threads can share
        const int64_t block_work = 2 * min64(cut.run, pixels) * a->T * a->C;
        cut.per_group = min64(cut.per_group, max64(least, 2 * kRunWork / max64(1, block_work)));
    }
    cut.per_group = max64(1, cut.per_group);
    cut.groups = ceil_div(cut.blocks, cut.per_group);
    return cut;
}

FC_INLINE int64_t conv_tiles(const ConvArgs* a) {
    const ConvCut cut = conv_cut(a);
    return a->G * cut.groups * cut.chunks;
}

FC_INLINE bool streams_outputs(const ConvArgs* a) {
    return a->T * a->C <= kStreamedSum && a->n * a->yD * a->yH * a->yW * a->ldy * 4 > kStreamedBytes &&
           a->ldy % kWidth == 0 && a->K % kWidth == 0 && reinterpret_cast<uintptr_t>(a->y) % (4 * kWidth) == 0;
}

template <bool kPointwise>
FC_INLINE void conv_run(const ConvArgs* a, int64_t begin, int64_t end, void* scratch) {
    const ConvCut cut = conv_cut(a);
    const int64_t pixels = a->n * a->iD * a->iH * a->iW, filters = packed_filters(a->K);
    const float** px = static_cast<const float**>(scratch);
    const float** res = px + max64(1, a->T) * cut.run;
    float** out = static_cast<float**>(scratch) + (max64(1, a->T) + 1) * cut.run;
    Epilogue e = {nullptr, 0, 0, a->act, static_cast<float>(a->act_a), static_cast<float>(a->act_b), streams_outputs(a)};
    const bool low = kTileM == 14 && (a->sw * a->ldx * 4 % 4096 == 0 || a->oww * a->ldy * 4 % 4096 == 0);
    Span* spans = reinterpret_cast<Span*>(out + cut.run);
    Regions in_image;
    if (!kPointwise) in_image = regions(a);
    int64_t chunk_in_table = -1, group_near = -1;
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t chunk = tile % cut.chunks, rest = tile / cut.chunks, group = rest % cut.groups;
        const int64_t g = rest / cut.groups, first = chunk * cut.run, count = min64(cut.run, pixels - first);
        const int64_t id = chunk + g * cut.chunks;
        if (id != chunk_in_table) {
            const float* x = a->x + g * a->C;
            if (kPointwise) {
                for (int64_t m = 0; m < count; ++m) px[m] = x + (first + m) * a->ldx;
                output_pointers(a, first, count, out, res);
            } else {
                region_pointers(a, in_image, x, first, count, cut.run, px, out, res, spans);
            }
            chunk_in_table = id;
        }
        const int64_t last = min64(cut.blocks, (group + 1) * cut.per_group), panel = a->T * a->C * kBlock;
        const bool near = group_near == rest || 4 * a->T * a->C * a->K < kFetchFrom;  // another chunk has had these weights
        for (int64_t block = group * cut.per_group; block < last;) {
            const int64_t k0 = block * kBlock, at_k = g * a->K + k0;
            const float* w = a->w + (g * filters + k0) * a->T * a->C;
            e.bias = a->bias ? a->bias + at_k : nullptr;
            if (count == 1 && (block + 4) * kBlock <= a->K && block + 4 <= last) {
                e.lanes = 4 * kBlock;
                conv_row<kWidth, 2, 4>(px, cut.run, a->T, a->C, w, kBlock * a->T * a->C, a->zeros, out[0] + at_k,
                                       a->residual ? res[0] + at_k : nullptr, e);
                block += 4;
                continue;
            }
            e.lanes = min64(kBlock, a->K - k0);
            e.first = at_k;
            e.cold = !near && group_near < 0 && block == group * cut.per_group;
            e.next = !near && 4 * panel <= kFetchBytes && (block + 1) * kBlock < a->K ? w + panel : nullptr;
            conv_block(k0 + kBlock <= a->K ? kBlock : block_width(e.lanes), low, count, px, cut.run, a->T, a->C, w,
                       a->zeros, out, a->residual ? res : nullptr, e, a->C >= 64 ? a->sw * a->ldx : 0);
            ++block;
        }
        group_near = rest;
    }
    if (e.stream) stream_end();
}

FC_INLINE size_t conv_scratch(const ConvArgs* a) {
    const int64_t run = conv_cut(a).run;
    return static_cast<size_t>((max64(1, a->T) + 2) * run) * sizeof(void*) + static_cast<size_t>(run + 1) * sizeof(Span);
}

FC_INLINE int64_t f32_conv_direct_tiles(const ConvArgs* a) { return conv_tiles(a); }
FC_INLINE size_t f32_conv_direct_scratch(const ConvArgs* a) { return conv_scratch(a); }
inline void f32_conv_direct_run(const ConvArgs* a, int64_t begin, int64_t end, void* s) {
    conv_run<false>(a, begin, end, s);
}

// One tap, no padding, stride 1: input pixel i is output pixel i.
FC_INLINE int64_t f32_conv_pointwise_tiles(const ConvArgs* a) { return conv_tiles(a); }
FC_INLINE size_t f32_conv_pointwise_scratch(const ConvArgs* a) { return conv_scratch(a); }
inline void f32_conv_pointwise_run(const ConvArgs* a, int64_t begin, int64_t end, void* s) {
    conv_run<true>(a, begin, end, s);
}

}  // namespace
}  // namespace
