// Moves between layouts: the door (NCHW and any other strided array to channels-last and back), weight packing.
// Bound by memory; the inner loops go along whichever side is contiguous, 16 x 16 at a time where neither is both.
#include "fastconv/blocks.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// ---- door ---------------------------------------------------------------------------------------------------------

FC_INLINE int64_t door_rows_per_tile(const DoorArgs* a) {
    return max64(1, 16384 / max64(1, a->BW * a->C));
}

// dst[i * ld + c] = src[i * si + c * sc]
FC_INLINE void move_row(const float* src, int64_t si, int64_t sc, float* dst, int64_t ld, int64_t W, int64_t C) {
    if (C == 1 && si == 1 && ld == 1) {
        memcpy(dst, src, sizeof(float) * static_cast<size_t>(W));
    } else if (sc == 1) {
        for (int64_t i = 0; i < W; ++i) memcpy(dst + i * ld, src + i * si, sizeof(float) * static_cast<size_t>(C));
    } else if (C <= 4) {
        for (int64_t c = 0; c < C; ++c)
            for (int64_t i = 0; i < W; ++i) dst[i * ld + c] = src[i * si + c * sc];
    } else {
        for (int64_t i0 = 0; i0 < W; i0 += 16) {
            const int64_t i1 = min64(W, i0 + 16);
            for (int64_t c0 = 0; c0 < C; c0 += 16) {
                const int64_t c1 = min64(C, c0 + 16);
                for (int64_t i = i0; i < i1; ++i)
                    for (int64_t c = c0; c < c1; ++c) dst[i * ld + c] = src[i * si + c * sc];
            }
        }
    }
}

// dst[i * di + c * dc] = src[i * ld + c]
FC_INLINE void move_row_back(const float* src, int64_t ld, float* dst, int64_t di, int64_t dc, int64_t W, int64_t C) {
    if (dc == 1) {
        for (int64_t i = 0; i < W; ++i) memcpy(dst + i * di, src + i * ld, sizeof(float) * static_cast<size_t>(C));
        return;
    }
    for (int64_t i0 = 0; i0 < W; i0 += 16) {
        const int64_t i1 = min64(W, i0 + 16);
        for (int64_t c0 = 0; c0 < C; c0 += 16) {
            const int64_t c1 = min64(C, c0 + 16);
            for (int64_t c = c0; c < c1; ++c)
                for (int64_t i = i0; i < i1; ++i) dst[i * di + c * dc] = src[i * ld + c];
        }
    }
}

FC_INLINE int64_t f32_to_channels_last_tiles(const DoorArgs* a) {
    return ceil_div(a->n * a->BD * a->BH, door_rows_per_tile(a));
}
FC_INLINE size_t f32_to_channels_last_scratch(const DoorArgs*) { return 0; }

inline void f32_to_channels_last_run(const DoorArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t per = door_rows_per_tile(a), rows = a->n * a->BD * a->BH;
    const float* src = static_cast<const float*>(a->slot->data);
    const int64_t* s = a->slot->stride;
    const size_t pixel = sizeof(float) * static_cast<size_t>(a->ld);
    for (int64_t r = begin * per; r < min64(rows, end * per); ++r) {
        const int64_t h = r % a->BH - a->ph, d = r / a->BH % a->BD - a->pd, n = r / (a->BH * a->BD);
        float* dst = a->buffer + r * a->BW * a->ld;
        if (h < 0 || h >= a->H || d < 0 || d >= a->D) {
            memset(dst, 0, pixel * static_cast<size_t>(a->BW));
            continue;
        }
        if (a->pw) memset(dst, 0, pixel * static_cast<size_t>(a->pw));
        move_row(src + n * s[0] + d * s[2] + h * s[3], s[4], s[1], dst + a->pw * a->ld, a->ld, a->W, a->C);
        if (a->BW > a->pw + a->W)
            memset(dst + (a->pw + a->W) * a->ld, 0, pixel * static_cast<size_t>(a->BW - a->pw - a->W));
    }
}

FC_INLINE int64_t f32_from_channels_last_tiles(const DoorArgs* a) {
    return ceil_div(a->n * a->D * a->H, door_rows_per_tile(a));
}
FC_INLINE size_t f32_from_channels_last_scratch(const DoorArgs*) { return 0; }

inline void f32_from_channels_last_run(const DoorArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t per = door_rows_per_tile(a), rows = a->n * a->D * a->H;
    float* dst = static_cast<float*>(a->slot->data);
    const int64_t* s = a->slot->stride;
    for (int64_t r = begin * per; r < min64(rows, end * per); ++r) {
        const int64_t h = r % a->H, d = r / a->H % a->D, n = r / (a->H * a->D);
        const float* src = a->buffer + (((n * a->BD + d + a->pd) * a->BH + h + a->ph) * a->BW + a->pw) * a->ld;
        move_row_back(src, a->ld, dst + n * s[0] + d * s[2] + h * s[3], s[4], s[1], a->W, a->C);
    }
}

// A dense buffer of up to five dimensions from or to a strided array.
FC_INLINE int64_t f32_copy_strided_tiles(const DoorArgs* a) { return a->fixed_n * a->C; }
FC_INLINE size_t f32_copy_strided_scratch(const DoorArgs*) { return 0; }

inline void f32_copy_strided_run(const DoorArgs* a, int64_t begin, int64_t end, void*) {
    float* user = static_cast<float*>(a->slot->data);
    const int64_t* s = a->slot->stride;
    for (int64_t t = begin; t < end; ++t)
        for (int64_t d = 0; d < a->D; ++d)
            for (int64_t h = 0; h < a->H; ++h) {
                float* u = user + t / a->C * s[0] + t % a->C * s[1] + d * s[2] + h * s[3];
                float* b = a->buffer + ((t * a->D + d) * a->H + h) * a->W;
                for (int64_t w = 0; w < a->W; ++w) {
                    if (a->reverse) {
                        u[w * s[4]] = b[w];
                    } else {
                        b[w] = u[w * s[4]];
                    }
                }
            }
}

// ---- weights ------------------------------------------------------------------------------------------------------

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

// Eight filters at a time, channels and taps in the user's order: eight streams on the user's side, each read or written
// along its lines; on the packed side eight neighbours per element of a stream.
template <int N, class F>
FC_INLINE void for_filters(const PackArgs* a, const PackedBlock& b, int64_t k, F f) {
    const int64_t C = a->C * a->crun;
    float* row[N];
    for (int i = 0; i < N; ++i) {
        const int64_t filter = b.k0 + k + i;
        row[i] = a->flat + b.g * a->sg + filter / a->K * a->skrun + filter % a->K * a->sk;
    }
    for (int64_t c = 0; c < a->C; ++c)
        for (int64_t run = 0; run < a->crun; ++run) {
            float* at = b.at + (run * a->C + c) * b.width + k;
            const int64_t offset = c * a->sc + run * a->scrun;
            for (int64_t t = 0; t < a->T; ++t) {
                float* packed = at + t * C * b.width;
                const int64_t user = offset + a->taps[t] * a->st;
#pragma GCC unroll 8
                for (int i = 0; i < N; ++i) f(row[i][user], packed[i]);
            }
        }
}

template <class F>
FC_INLINE void for_each_weight(const PackArgs* a, const PackedBlock& b, F f) {
    int64_t k = 0;
    for (; k + 8 <= b.valid; k += 8) for_filters<8>(a, b, k, f);
    for (; k < b.valid; ++k) for_filters<1>(a, b, k, f);
}

FC_INLINE int64_t pack_tiles(const PackArgs* a) {
    return a->G * ceil_div(a->K * a->krun, a->block ? a->block : kBlock);
}
FC_INLINE int64_t f32_pack_weight_tiles(const PackArgs* a) { return pack_tiles(a); }
FC_INLINE size_t f32_pack_weight_scratch(const PackArgs*) { return 0; }
FC_INLINE int64_t f32_unpack_weight_tiles(const PackArgs* a) { return pack_tiles(a); }
FC_INLINE size_t f32_unpack_weight_scratch(const PackArgs*) { return 0; }

inline void f32_pack_weight_run(const PackArgs* a, int64_t begin, int64_t end, void*) {
    for (int64_t tile = begin; tile < end; ++tile) {
        const PackedBlock b = packed_block(a, tile);
        for_each_weight(a, b, [](const float& user, float& packed) { packed = user; });
        if (b.valid < b.width)
            for (int64_t row = 0; row < a->T * a->C * a->crun; ++row)
                for (int64_t k = b.valid; k < b.width; ++k) b.at[row * b.width + k] = 0;
    }
}

inline void f32_unpack_weight_run(const PackArgs* a, int64_t begin, int64_t end, void*) {
    for (int64_t tile = begin; tile < end; ++tile) {
        const PackedBlock b = packed_block(a, tile);
        for (int64_t p = 1; p < a->parts; ++p) {
            const float* part = b.at + p * a->part_stride;
            for (int64_t i = 0; i < a->T * a->C * a->crun * b.width; ++i) b.at[i] += part[i];
        }
        for_each_weight(a, b, [](float& user, const float& packed) { user = packed; });
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
