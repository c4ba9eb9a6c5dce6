// How problems over planes are cut into tiles, and what is done to a result before it is stored.
#ifndef FASTCONV_PLANES_EPILOGUE_INL_H
#define FASTCONV_PLANES_EPILOGUE_INL_H

#include "fastconv/simd/activation.inl.h"
#include "fastconv/simd/pixels.inl.h"
#include "fastconv/planes/planes.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

struct PlaneEpilogue {
    const float* bias;      // at the block's first filter, or null
    int64_t first;          // the block's first filter, relative to the pointers of the output pixels
    int64_t lanes;          // valid filters of the block
    const PlaneConvArgs* args;
};

FC_INLINE PlaneEpilogue plane_epilogue(const PlaneConvArgs* a) { return {nullptr, 0, 0, a}; }

template <int W>
FC_INLINE Vf<W> finished(Vf<W> y, int64_t v, int n, const float* res, const PlaneEpilogue& e) {
    const PlaneConvArgs* a = e.args;
    if (e.bias) y = y + load_n<W>(e.bias + v, n);
    if (res) y = y + load_n<W>(res + e.first + v, n);
    return activate<W>(y, a->act, static_cast<float>(a->act_a), static_cast<float>(a->act_b));
}

template <int W>
FC_INLINE void finish(Vf<W> y, int64_t v, float* out, const float* res, const PlaneEpilogue& e) {
    const int n = static_cast<int>(max64(0, min64(W, e.lanes - v)));
    store_n<W>(out + e.first + v, finished<W>(y, v, n, res, e), n);
}

// `count` pixels of `width` sums each, of which e.lanes are valid, where the result is split: the planes, and the floats if
// anybody reads them.
template <int P>
FC_NOINLINE void finish_split(const float* sums, int64_t count, int64_t width, float* const* out, const float* const* res,
                              const PlaneEpilogue& e) {
    constexpr int W = kWidth;
    const PlaneConvArgs* a = e.args;
    uint16_t* const split = a->split;
    const int64_t ldy = a->ldy, ldp = a->split_ldp, plane = a->split_stride;
    const bool floats = !a->split_alone;
    for (int64_t m = 0; m < count; ++m, sums += width) {
        const int64_t at = out[m] - a->y;
        uint16_t* to = split + (ldy == ldp ? at : at / ldy * ldp) + e.first;
        for (int64_t v = 0; v < e.lanes; v += W) {
            const int n = static_cast<int>(min64(W, e.lanes - v));
            Vf<W> y = finished<W>(load<W>(sums + v), v, n, res ? res[m] : nullptr, e);
            if (floats) store_n<W>(out[m] + e.first + v, y, n);
#pragma GCC unroll 3
            for (int p = 0; p < P; ++p) {
                const typename HalfTypes<W>::U u = upper_halves<W>(next_plane<W>(y));
                if (n == W) {
                    *reinterpret_cast<typename HalfTypes<W>::U*>(to + p * plane + v) = u;
                } else {
                    __builtin_memcpy(to + p * plane + v, &u, static_cast<size_t>(n) * 2);
                }
            }
        }
    }
}

FC_INLINE void finish_split(const float* sums, int64_t count, int64_t width, float* const* out, const float* const* res,
                            const PlaneEpilogue& e) {
    if (e.args->split_count == 1) {
        finish_split<1>(sums, count, width, out, res, e);
    } else if (e.args->split_count == 2) {
        finish_split<2>(sums, count, width, out, res, e);
    } else {
        finish_split<3>(sums, count, width, out, res, e);
    }
}

// Packed elements of one block of 16 filters.
FC_INLINE int64_t plane_block(const PlaneConvArgs* a) { return plane_steps(a, a->C) * a->planes * kStep * kLanes; }

struct PlaneCut {
    int64_t run, chunks, blocks, per_group, groups;
};

// Runs of pixels (multiples of `height`) by groups of filter blocks (multiples of `width` filters) whose planes stay in the
// second-level cache. `most`: pixels of a run at most, `work`: multiply-adds that a tile of the problem should have.
FC_INLINE PlaneCut plane_cut(const PlaneConvArgs* a, int64_t height, int64_t width, int64_t least, int64_t most,
                             int64_t work, int64_t bytes, int64_t at_least_blocks) {
    PlaneCut cut;
    const int64_t pixels = a->n * a->iD * a->iH * a->iW;
    const int64_t reduction = max64(1, a->T * a->C) * a->planes * (a->planes + 1) / 2;
    cut.blocks = ceil_div(a->K, width);
    cut.per_group = max64(at_least_blocks, bytes / max64(1, plane_block(a) * 2 * width / kLanes));
    cut.per_group = min64(cut.blocks, cut.per_group);
    const int64_t row = reduction * cut.per_group * width;
    cut.run = max64(least, min64(most, ceil_div(ceil_div(work, row), height) * height));
    cut.chunks = ceil_div(pixels, cut.run);
    if (cut.chunks < 8) {  // few pixels: the blocks of filters are what threads can share
        const int64_t block_work = reduction * width * min64(cut.run, pixels);
        cut.per_group = min64(cut.per_group, max64(at_least_blocks, ceil_div(work, max64(1, block_work))));
    }
    cut.per_group = max64(1, cut.per_group);
    cut.groups = ceil_div(cut.blocks, cut.per_group);
    return cut;
}

// Whether output pixel i reads input pixel i and nothing else.
FC_INLINE bool one_to_one(const PlaneConvArgs* a) {
    const int32_t* o = a->taps;
    return a->T == 1 && !(o[0] | o[1] | o[2]) && a->sd == 1 && a->sh == 1 && a->sw == 1 && a->xD == a->iD &&
           a->xH == a->iH && a->xW == a->iW;
}

// px[t * pitch + m]: group g's channels of pixel first + m at tap t in plane 0, or the row of zeros.
FC_INLINE void plane_pointers(const PlaneConvArgs* a, int64_t g, int64_t first, int64_t count, int64_t pitch,
                              const float** px) {
    const float* x = reinterpret_cast<const float*>(reinterpret_cast<const uint16_t*>(a->x) + g * a->C);
    if (one_to_one(a)) {
        fill_pointers(px, count, x + first * a->ldx, a->ldx);
    } else {
        input_pointers(a, x, first, count, pitch, px);
    }
}

}  // namespace
}  // namespace
#endif
