// The door: NCHW and any other strided array to channels-last and back. Bound by memory; turned.inl.h has the copy that
// exchanges pixels and channels.
#ifndef FASTCONV_LAYOUT_INL_H
#define FASTCONV_LAYOUT_INL_H

#include "fastconv/turned.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kDoorPast = 8 << 20;  // bytes of a side from which what is written goes past the caches (of 32 MB here)
constexpr int64_t kDoorValues = 16384;   // of a tile at least, where there are so many

// Pixels in the order of the buffer, as runs between which both sides have a stride: the dimensions that follow each other
// evenly on both sides are one.
struct DoorRuns {
    int64_t length, user_step, own_step;  // of a run: pixels, and how far apart they are
    int64_t extent[4], user[4], own[4];   // outer dimensions, the last first
    int outer;
};

FC_INLINE DoorRuns door_runs(const DoorArgs* a) {
    const int64_t* s = a->slot->stride;
    const int64_t extent[4] = {a->W, a->H, a->D, a->n}, user[4] = {s[4], s[3], s[2], s[0]};
    const int64_t row = a->BW * a->ld, own[4] = {a->ld, row, a->BH * row, a->BD * a->BH * row};
    DoorRuns r{1, 0, a->ld, {}, {}, {}, 0};
    for (int i = 0; i < 4; ++i) {
        if (extent[i] == 1) continue;
        if (r.length == 1) {
            r.length = extent[i], r.user_step = user[i], r.own_step = own[i];
        } else if (r.outer == 0 && user[i] == r.length * r.user_step && own[i] == r.length * r.own_step) {
            r.length *= extent[i];
        } else {
            r.extent[r.outer] = extent[i], r.user[r.outer] = user[i], r.own[r.outer++] = own[i];
        }
    }
    return r;
}

// dst[i * di + c] = src[i * si + c]
FC_INLINE void copy_rows(const float* src, int64_t si, float* dst, int64_t di, int64_t I, int64_t C) {
    constexpr int W = kWidth;
    if (si == C && di == C) {
        memcpy(dst, src, sizeof(float) * static_cast<size_t>(I * C));
    } else if (C == 1) {
        for (int64_t i = 0; i < I; ++i) dst[i * di] = src[i * si];
    } else if (C < W) {
        for (int64_t i = 0; i < I; ++i)
            store_n<W>(dst + i * di, load_n<W>(src + i * si, static_cast<int>(C)), static_cast<int>(C));
    } else {
        for (int64_t i = 0; i < I; ++i) {
            for (int64_t c = 0; c + W <= C; c += W) store<W>(dst + i * di + c, load<W>(src + i * si + c));
            store<W>(dst + i * di + C - W, load<W>(src + i * si + C - W));
        }
    }
}

// dst[i * di + c * dc] = src[i * si + c * sc], neither side with neighbours in memory.
FC_NOINLINE void move_values(const float* src, int64_t si, int64_t sc, float* dst, int64_t di, int64_t dc, int64_t I,
                             int64_t C) {
    for (int64_t i0 = 0; i0 < I; i0 += 16)
        for (int64_t c0 = 0; c0 < C; c0 += 16)
            for (int64_t i = i0; i < min64(I, i0 + 16); ++i)
                for (int64_t c = c0; c < min64(C, c0 + 16); ++c) dst[i * di + c * dc] = src[i * si + c * sc];
}

// Pixels [first, last) and channels [c, c + C) of all, in (`Out` false) or out.
template <bool Out>
FC_INLINE void door_pixels(const DoorArgs* a, const DoorRuns& r, int64_t first, int64_t last, int64_t c, int64_t C, bool past,
                           float* scratch) {
    const int64_t halo = ((a->pd * a->BH + a->ph) * a->BW + a->pw) * a->ld;
    const int64_t between = a->C == 1 ? 1 : a->slot->stride[1];
    for (int64_t p = first, count; p < last; p += count) {
        int64_t run = p / r.length, at = p % r.length;
        count = min64(last - p, r.length - at);
        float* user = static_cast<float*>(a->slot->data) + at * r.user_step + c * between;
        float* own = a->buffer + halo + at * r.own_step + c;
        for (int d = 0; d < r.outer; ++d) {
            const int64_t i = d + 1 < r.outer ? run % r.extent[d] : run;
            user += i * r.user[d], own += i * r.own[d], run /= r.extent[d];
        }
        if (between == 1) {
            if (Out)
                copy_rows(own, r.own_step, user, r.user_step, count, C);
            else
                copy_rows(user, r.user_step, own, r.own_step, count, C);
        } else if (r.user_step == 1) {
            if (Out)
                turn(own, r.own_step, C, user, between, count, past, scratch);
            else
                turn(user, between, count, own, r.own_step, C, past, scratch);
        } else if (Out) {
            move_values(own, r.own_step, 1, user, r.user_step, between, count, C);
        } else {
            move_values(user, r.user_step, between, own, r.own_step, 1, count, C);
        }
    }
}

// How pixels and channels are cut into tiles.
struct DoorCut {
    int64_t channels, parts, pixels, all;  // of a tile; tiles along the channels; of a tile; of the batch
};

FC_INLINE bool door_past(const DoorArgs* a) { return a->n * a->D * a->H * a->W * a->C * 4 > kDoorPast; }

template <bool Out>
FC_INLINE DoorCut door_cut(const DoorArgs* a) {
    DoorCut cut{};
    const int64_t most = Out ? 64 : 256;  // long runs on the side that is written
    cut.parts = max64(1, ceil_div(a->C, most));
    cut.channels = ceil_div(ceil_div(a->C, cut.parts), 16) * 16;
    cut.parts = ceil_div(a->C, cut.channels);
    cut.all = a->n * a->D * a->H * a->W;
    const int64_t least = cut.all >= 8192 ? 1024 : 256;
    cut.pixels = max64(least, kDoorValues / max64(1, min64(a->C, cut.channels)) / least * least);
    return cut;
}

template <bool Out>
FC_INLINE void door_tiles(const DoorArgs* a, int64_t begin, int64_t end, float* scratch) {
    const DoorCut cut = door_cut<Out>(a);
    const DoorRuns runs = door_runs(a);
    const bool past = door_past(a);
    for (int64_t t = begin; t < end; ++t) {
        const int64_t first = t / cut.parts * cut.pixels, c = t % cut.parts * cut.channels;
        door_pixels<Out>(a, runs, first, min64(cut.all, first + cut.pixels), c, min64(cut.channels, a->C - c), past, scratch);
    }
    if (past) stream_end();
}

// With a border, tiles are rows of the buffer.
FC_INLINE bool has_border(const DoorArgs* a) { return a->BD != a->D || a->BH != a->H || a->BW != a->W; }
FC_INLINE int64_t door_rows_per_tile(const DoorArgs* a) { return max64(1, kDoorValues / max64(1, a->BW * a->C)); }

FC_INLINE int64_t f32_to_channels_last_tiles(const DoorArgs* a) {
    if (has_border(a)) return ceil_div(a->n * a->BD * a->BH, door_rows_per_tile(a));
    const DoorCut cut = door_cut<false>(a);
    return ceil_div(cut.all, cut.pixels) * cut.parts;
}
FC_INLINE size_t f32_to_channels_last_scratch(const DoorArgs*) { return kTurnScratch; }

inline void f32_to_channels_last_run(const DoorArgs* a, int64_t begin, int64_t end, void* scratch) {
    if (!has_border(a)) {
        door_tiles<false>(a, begin, end, static_cast<float*>(scratch));
        return;
    }
    const int64_t per = door_rows_per_tile(a), rows = a->n * a->BD * a->BH;
    const size_t pixel = sizeof(float) * static_cast<size_t>(a->ld);
    const DoorRuns runs = door_runs(a);
    for (int64_t r = begin * per; r < min64(rows, end * per); ++r) {
        const int64_t h = r % a->BH - a->ph, d = r / a->BH % a->BD - a->pd, n = r / (a->BH * a->BD);
        float* dst = a->buffer + r * a->BW * a->ld;
        if (h < 0 || h >= a->H || d < 0 || d >= a->D) {
            memset(dst, 0, pixel * static_cast<size_t>(a->BW));
            continue;
        }
        if (a->pw) memset(dst, 0, pixel * static_cast<size_t>(a->pw));
        const int64_t first = ((n * a->D + d) * a->H + h) * a->W;
        door_pixels<false>(a, runs, first, first + a->W, 0, a->C, false, static_cast<float*>(scratch));
        if (a->BW > a->pw + a->W)
            memset(dst + (a->pw + a->W) * a->ld, 0, pixel * static_cast<size_t>(a->BW - a->pw - a->W));
    }
}

FC_INLINE int64_t f32_from_channels_last_tiles(const DoorArgs* a) {
    const DoorCut cut = door_cut<true>(a);
    return ceil_div(cut.all, cut.pixels) * cut.parts;
}
FC_INLINE size_t f32_from_channels_last_scratch(const DoorArgs*) { return kTurnScratch; }

inline void f32_from_channels_last_run(const DoorArgs* a, int64_t begin, int64_t end, void* scratch) {
    door_tiles<true>(a, begin, end, static_cast<float*>(scratch));
}

// A dense buffer of up to five dimensions from or to a strided array.
FC_INLINE int64_t f32_copy_strided_tiles(const DoorArgs* a) { return (a->fixed_n ? a->fixed_n : a->n) * a->C; }
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

}  // namespace
}  // namespace
#endif
