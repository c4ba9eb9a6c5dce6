// The door: NCHW and any other strided array to channels-last and back. Bound by memory; copy/turned.inl.h has the copy that
// exchanges pixels and channels.
#ifndef FASTCONV_DOORS_INL_H
#define FASTCONV_DOORS_INL_H

#include "fastconv/copy/ways.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

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
            copy_strided<4>({reinterpret_cast<char*>(own), reinterpret_cast<char*>(user), count, 4 * r.own_step, 4 * r.user_step,
                             C, 4, 4 * between});
        } else {
            copy_strided<4>({reinterpret_cast<char*>(user), reinterpret_cast<char*>(own), count, 4 * r.user_step, 4 * r.own_step,
                             C, 4 * between, 4});
        }
    }
}

// How pixels and channels are cut into tiles.
struct DoorCut {
    int64_t channels, parts, pixels, all;  // of a tile; tiles along the channels; of a tile; of the batch
};

FC_INLINE bool door_past(const DoorArgs* a) { return a->n * a->D * a->H * a->W * a->C * 4 > kPast; }

template <bool Out>
FC_INLINE DoorCut door_cut(const DoorArgs* a) {
    DoorCut cut{};
    const int64_t most = Out ? 64 : 256;  // long runs on the side that is written
    cut.parts = max64(1, ceil_div(a->C, most));
    cut.channels = max64(1, ceil_div(ceil_div(a->C, cut.parts), 16)) * 16;
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

}  // namespace
}  // namespace
#endif
