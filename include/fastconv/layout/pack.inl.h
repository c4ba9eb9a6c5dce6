// Weights between the user's layout and that of the kernels, and BatchNorm folded into them.
//
//   the user's OIHW      k: [c0 t0] [c0 t1] ... [c1 t0] ...       a row per filter, contiguous over channels and taps
//   packed               (t, c): [k0] [k1] ... [k31]              a row per tap and channel, contiguous over filters
//
// A transposition: W filters by W neighbouring elements of their rows at a time, in registers. Where filters are neighbours in the
// user's layout too (1x1 kernels with the roles of filters and channels exchanged) it is a copy. Bound by memory.
#include "fastconv/simd/blocks.inl.h"
#include "fastconv/simd/transpose.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

struct PackedBlock {
    int64_t g, k0, width, valid;
    float* at;
};

FC_INLINE PackedBlock packed_block(const PackArgs* a, int64_t tile) {
    const int64_t block = a->block ? a->block : kBlock, K = a->K * a->krun, C = a->C * a->crun;
    const int64_t blocks = ceil_div(K, block), g = tile / blocks, b = tile % blocks, k0 = b * block;
    const int64_t left = min64(block, K - k0);
    const int64_t width = a->block ? left : block_width(left);
    const int64_t per_group = a->T * C * ((blocks - 1) * block + (a->block ? K - (blocks - 1) * block
                                                                           : block_width(K - (blocks - 1) * block)));
    return {g, k0, width, left, a->packed + g * per_group + k0 * a->T * C};
}

// The elements of one channel in the user's layout: `span` of them from `first` on, whose rows in the packed layout are row[i],
// less the channel, or -1. `dense`: there is none of those; `whole`: and channels follow each other without a gap.
struct Elements {
    int64_t first, span;
    bool dense, whole;
    int32_t* row;
};

FC_INLINE int64_t most_elements(const PackArgs* a) { return 4 * a->T * a->crun + 64; }

FC_INLINE Elements elements(const PackArgs* a, int32_t* row) {
    int64_t first = INT64_MAX, last = INT64_MIN;
    for (int64_t t = 0; t < a->T; ++t) {
        const int64_t at = a->taps[t] * a->st, end = at + (a->crun - 1) * a->scrun;
        first = min64(first, min64(at, end)), last = max64(last, max64(at, end));
    }
    if (!a->T) first = 0, last = -1;
    Elements e = {first, last - first + 1, false, false, row};
    if (e.span > most_elements(a)) return e;
    for (int64_t i = 0; i < e.span; ++i) row[i] = -1;
    for (int64_t t = 0; t < a->T; ++t)
        for (int64_t run = 0; run < a->crun; ++run)
            row[a->taps[t] * a->st + run * a->scrun - first] = static_cast<int32_t>((t * a->crun + run) * a->C);
    e.dense = e.span == a->T * a->crun;
    for (int64_t i = 0; i < e.span; ++i) e.dense = e.dense && row[i] >= 0;
    e.whole = e.dense && (a->sc == e.span || a->C == 1);
    return e;
}

FC_INLINE float* filter_row(const PackArgs* a, const PackedBlock& b, int64_t k) {
    const int64_t filter = b.k0 + k;
    return a->flat + b.g * a->sg + filter / a->K * a->skrun + filter % a->K * a->sk;
}

// W filters from k on, `valid` of them in the user's layout and `lanes` in the packed one.
template <int W, bool kPack, bool kFull>
FC_INLINE void move_elements(const float* const (&from)[W], int64_t n, int64_t valid, int64_t lanes, float* const (&to)[W]) {
    Vf<W> v[W];
    if constexpr (kPack) {
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i)
            v[i] = kFull ? load<W>(from[i]) : i < valid ? load_n<W>(from[i], static_cast<int>(n)) : Vf<W>{};
        transpose<W>(v);
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i)
            if ((kFull || i < n) && to[i]) store_n<W>(to[i], v[i], kFull ? W : static_cast<int>(lanes));
    } else {
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i)
            v[i] = kFull ? load<W>(to[i]) : i < n ? load_n<W>(to[i], static_cast<int>(lanes)) : Vf<W>{};
        transpose<W>(v);
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i)
            if (kFull || i < valid) store_n<W>(const_cast<float*>(from[i]), v[i], kFull ? W : static_cast<int>(n));
    }
}

template <int W, bool kPack>
FC_INLINE void transpose_filters(const PackArgs* a, const PackedBlock& b, const Elements& e, int64_t k) {
    const int64_t lanes = min64(W, b.width - k), valid = max64(0, min64(W, b.valid - k));
    const float *user[W], *from[W];
    float* to[W];
    for (int64_t i = 0; i < W; ++i) user[i] = filter_row(a, b, k + min64(i, max64(0, valid - 1))) + e.first;
    const int64_t rows = e.whole ? 1 : a->C, length = e.whole ? a->C * e.span : e.span;
    for (int64_t c0 = 0; c0 < rows; ++c0) {
        int64_t c = c0, i = 0;
        for (int64_t j = 0; j < length; j += W) {
            const int64_t n = min64(W, length - j);
            for (int64_t m = 0; m < n; ++m) {
                to[m] = e.row[i] < 0 ? nullptr : b.at + (e.row[i] + c) * b.width + k;
                if (++i == e.span) i = 0, ++c;
            }
            for (int64_t m = 0; m < W; ++m) from[m] = user[m] + c0 * a->sc + j;
            if (n == W && valid == W && lanes == W) {
                move_elements<W, kPack, true>(from, n, valid, lanes, to);
            } else {
                move_elements<W, kPack, false>(from, n, valid, lanes, to);
            }
        }
    }
}

// W filters that are neighbours in the user's layout as well, or one after the other.
template <int W, bool kPack>
FC_INLINE void copy_filters(const PackArgs* a, const PackedBlock& b, int64_t k, bool neighbours) {
    const int64_t lanes = min64(W, b.width - k), valid = max64(0, min64(W, b.valid - k)), C = a->C * a->crun;
    float* user[W];
    for (int64_t i = 0; i < valid; ++i) user[i] = filter_row(a, b, k + i);
    for (int64_t t = 0; t < a->T; ++t)
        for (int64_t i = 0; i < C; ++i) {
            float* packed = b.at + (t * C + i) * b.width + k;
            const int64_t at = i % a->C * a->sc + i / a->C * a->scrun + a->taps[t] * a->st;
            if (neighbours && kPack) {
                store_n<W>(packed, load_n<W>(user[0] + at, static_cast<int>(valid)), static_cast<int>(lanes));
            } else if (neighbours) {
                store_n<W>(user[0] + at, load_n<W>(packed, static_cast<int>(valid)), static_cast<int>(valid));
            } else if (kPack) {
                for (int64_t m = 0; m < lanes; ++m) packed[m] = m < valid ? user[m][at] : 0;
            } else {
                for (int64_t m = 0; m < valid; ++m) user[m][at] = packed[m];
            }
        }
}

template <bool kPack>
FC_INLINE void move_block(const PackArgs* a, const PackedBlock& b, const Elements& e) {
    constexpr int W = kWidth;
    for (int64_t k = 0; k < (kPack ? b.width : b.valid); k += W) {
        const int64_t valid = max64(0, min64(W, b.valid - k)), first = (b.k0 + k) % a->K;
        const bool neighbours = valid > 0 && a->sk == 1 && first + valid <= a->K;
        if (!neighbours && valid > 0 && (e.dense || (kPack && e.span <= W))) {
            transpose_filters<W, kPack>(a, b, e, k);
        } else {
            copy_filters<W, kPack>(a, b, k, neighbours);
        }
    }
}

FC_INLINE int64_t pack_tiles(const PackArgs* a) {
    return a->G * ceil_div(a->K * a->krun, a->block ? a->block : kBlock);
}
FC_INLINE size_t pack_scratch(const PackArgs* a) { return static_cast<size_t>(most_elements(a)) * sizeof(int32_t); }
FC_INLINE int64_t f32_pack_weight_tiles(const PackArgs* a) { return pack_tiles(a); }
FC_INLINE size_t f32_pack_weight_scratch(const PackArgs* a) { return pack_scratch(a); }
FC_INLINE int64_t f32_unpack_weight_tiles(const PackArgs* a) { return pack_tiles(a); }
FC_INLINE size_t f32_unpack_weight_scratch(const PackArgs* a) { return pack_scratch(a); }

inline void f32_pack_weight_run(const PackArgs* a, int64_t begin, int64_t end, void* scratch) {
    const Elements e = elements(a, static_cast<int32_t*>(scratch));
    for (int64_t tile = begin; tile < end; ++tile) move_block<true>(a, packed_block(a, tile), e);
}

inline void f32_unpack_weight_run(const PackArgs* a, int64_t begin, int64_t end, void* scratch) {
    const Elements e = elements(a, static_cast<int32_t*>(scratch));
    for (int64_t tile = begin; tile < end; ++tile) {
        const PackedBlock b = packed_block(a, tile);
        for (int64_t p = 1; p < a->parts; ++p) {
            const float* part = b.at + p * a->part_stride;
            const int64_t floats = a->T * a->C * a->crun * b.width;
            for (int64_t i = 0; i < floats; i += kWidth) {
                const int n = static_cast<int>(min64(kWidth, floats - i));
                store_n<kWidth>(b.at + i, load_n<kWidth>(b.at + i, n) + load_n<kWidth>(part + i, n), n);
            }
        }
        move_block<false>(a, b, e);
    }
}

FC_INLINE int64_t f32_fold_batchnorm_tiles(const FoldArgs* a) { return ceil_div(a->filters, 16); }
FC_INLINE size_t f32_fold_batchnorm_scratch(const FoldArgs*) { return 0; }

inline void f32_fold_batchnorm_run(const FoldArgs* a, int64_t begin, int64_t end, void*) {
    for (int64_t k = begin * 16; k < min64(a->filters, end * 16); ++k) {
        const double scale = (a->gamma ? a->gamma[k] : 1.0) / __builtin_sqrt(a->var[k] + a->eps);
        const int64_t per_group = a->filters / a->groups, g = k / per_group, pitch = per_group * a->per_filter;
        for (int64_t o = 0; o < a->outer; ++o) {
            const int64_t at = (g * a->outer + o) * pitch + k % per_group * a->per_filter;
            for (int64_t i = 0; i < a->per_filter; ++i) a->w_out[at + i] = static_cast<float>(a->w[at + i] * scale);
        }
        const double bias = a->bias ? a->bias[k] : 0.0, beta = a->beta ? a->beta[k] : 0.0;
        a->bias_out[k] = static_cast<float>((bias - a->mean[k]) * scale + beta);
    }
}

}  // namespace
}  // namespace
