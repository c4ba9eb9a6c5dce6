// Convolution on tiles, over one to three bfloat16 planes per operand: one, three or six products per step.
//
//                             b0: 16 filters   b1: 16 filters      32 elements of the reduction (tap, channel)
//                            +----------------+----------------+
//   a0: 16 pixels x 32 -----| tile 0: 16 x 16 | tile 1         |
//   a1: 16 pixels x 32 -----| tile 2          | tile 3         |   in float32, over the whole reduction
//                            +----------------+----------------+
//
//   planes   products, smallest first                                  loads of a and b for them
//   1        h h                                                        a.h b.h
//   2        m h, h h, h m                                              a.m b.h a.h b.m
//   3        l h, m h, h h, h l, h m, m m                               a.l b.h a.m a.h b.l b.m a.m
//
// From product to product one operand stays in its tiles, so that each plane is loaded once (a.m twice). A product of 2 x 2
// tiles takes 64 cycles and a load of two tiles 16: bound by the products where a and b come from the first- or the
// second-level cache.
//
// a is read where it lies, with the pixel stride, when the 16 pixels are equally far apart at this tap (a row without
// padding; any stride) and the channels are whole steps; else a panel of steps is gathered through the table of pointers
// (row and image ends, padding, tiles past the last pixel, channels that are no multiple of 32: then taps follow each other
// without a gap). The reduction is cut every kPass steps, which bounds the panel; the sums wait in scratch.
// Each result is one sum in this order, whatever tile it falls into, and is the same for every cut.
#ifndef FASTCONV_PLANES_AMX_INL_H
#define FASTCONV_PLANES_AMX_INL_H

#include "fastconv/planes/fma.inl.h"
#include "fastconv/planes/tiles.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kPass = 64;                        // steps between rests of the sums: a panel of 128 KB per plane
constexpr int64_t kTilePixels = 32, kTileFilters = 32;          // pixels and filters of 2 x 2 tiles
constexpr int64_t kTileRun = 8 * kTilePixels;             // pixels of a tile of the problem at most
constexpr int64_t kTileWork = int64_t{1} << 22;      // multiply-adds, products of planes counted one by one
constexpr int64_t kTileGroup = 768 * 1024;           // packed weights per tile of the problem
constexpr int64_t kTileBlocks = 16;                  // blocks of 32 filters whose sums wait in scratch at most

// Where a step's a lies: 16 rows `stride` bytes apart, the planes `plane` bytes apart.
struct TileRows {
    const char* at;
    int64_t stride, plane;
};

template <int A, int MT>
FC_INLINE void load_a(Tiles& t, const TileRows* a, int64_t pitch, int plane) {
    t.load<A>(a[0].at + plane * a[0].plane, a[0].stride);
    if constexpr (MT > 1) t.load<A + 1>(a[pitch].at + plane * a[pitch].plane, a[pitch].stride);
}
template <int B, int NT>
FC_INLINE void load_b(Tiles& t, const char* b, int64_t block, int plane) {
    t.load<B>(b + plane * kTileBytes, kTileRow);
    if constexpr (NT > 1) t.load<B + 1>(b + block + plane * kTileBytes, kTileRow);
}
template <int MT, int NT>
FC_INLINE void products(Tiles& t) {
    t.dot<0, 4, 6>();
    if constexpr (NT > 1) t.dot<1, 4, 7>();
    if constexpr (MT > 1) t.dot<2, 5, 6>();
    if constexpr (MT > 1 && NT > 1) t.dot<3, 5, 7>();
}

// `steps` steps of MT x NT tiles, from and to `sums` (32 rows of 32 floats).
template <int P, int MT, int NT>
FC_NOINLINE void tile_steps(Tiles& t, const TileRows* a, int64_t pitch, const char* b, int64_t block, int64_t steps,
                            bool first, float* sums) {
    constexpr int64_t row = kTileFilters * 4;
    char* c = reinterpret_cast<char*>(sums);
    if (first) {
        t.zero<0>();
        t.zero<1>();
        t.zero<2>();
        t.zero<3>();
    } else {
        t.load<0>(c, row);
        t.load<1>(c + 64, row);
        t.load<2>(c + 16 * row, row);
        t.load<3>(c + 16 * row + 64, row);
    }
    for (int64_t s = 0; s < steps; ++s, ++a, b += P * kTileBytes) {
        if constexpr (P == 3) {
            load_a<4, MT>(t, a, pitch, 2), load_b<6, NT>(t, b, block, 0), products<MT, NT>(t);
            load_a<4, MT>(t, a, pitch, 1), products<MT, NT>(t);
            load_a<4, MT>(t, a, pitch, 0), products<MT, NT>(t);
            load_b<6, NT>(t, b, block, 2), products<MT, NT>(t);
            load_b<6, NT>(t, b, block, 1), products<MT, NT>(t);
            load_a<4, MT>(t, a, pitch, 1), products<MT, NT>(t);
        } else if constexpr (P == 2) {
            load_a<4, MT>(t, a, pitch, 1), load_b<6, NT>(t, b, block, 0), products<MT, NT>(t);
            load_a<4, MT>(t, a, pitch, 0), products<MT, NT>(t);
            load_b<6, NT>(t, b, block, 1), products<MT, NT>(t);
        } else {
            load_a<4, MT>(t, a, pitch, 0), load_b<6, NT>(t, b, block, 0), products<MT, NT>(t);
        }
    }
    t.store<0>(c, row);
    t.store<1>(c + 64, row);
    t.store<2>(c + 16 * row, row);
    t.store<3>(c + 16 * row + 64, row);
}

template <int P>
FC_INLINE void tile_steps(Tiles& t, bool two_m, bool two_n, const TileRows* a, int64_t pitch, const char* b, int64_t block,
                          int64_t steps, bool first, float* sums) {
    if (two_m && two_n) {
        tile_steps<P, 2, 2>(t, a, pitch, b, block, steps, first, sums);
    } else if (two_m) {
        tile_steps<P, 2, 1>(t, a, pitch, b, block, steps, first, sums);
    } else if (two_n) {
        tile_steps<P, 1, 2>(t, a, pitch, b, block, steps, first, sums);
    } else {
        tile_steps<P, 1, 1>(t, a, pitch, b, block, steps, first, sums);
    }
}

// ---- a --------------------------------------------------------------------------------------------------------------

FC_INLINE void copy_elements(uint16_t* to, const uint16_t* from, int64_t count) {  // at most 32
    if (count == kStep) {
        __builtin_memcpy(to, from, 2 * kStep);
        return;
    }
    int64_t i = 0;
    for (; i + 2 <= count; i += 2) __builtin_memcpy(to + i, from + i, 4);
    if (i < count) to[i] = from[i];
}

// Whether 16 pixels lie equally far apart, none of them in the padding or past the last.
FC_INLINE bool evenly_apart(const float* const* px, const float* zeros, int64_t* stride) {
    const char* first = reinterpret_cast<const char*>(px[0]);
    *stride = reinterpret_cast<const char*>(px[1]) - first;
    if (px[0] == zeros || *stride <= 0) return false;
    for (int i = 2; i < 16; ++i)
        if (reinterpret_cast<const char*>(px[i]) != first + i * *stride) return false;
    return true;
}

// Steps [begin, end) of 16 pixels whose channels are whole steps: in place, or gathered into the panel.
FC_INLINE void rows_of_steps(const PlaneConvArgs* a, const float* const* px, int64_t pitch, int64_t begin, int64_t end,
                             char* panel, TileRows* rows) {
    const int64_t per_tap = a->C / kStep, plane = kPass * kTileBytes;
    for (int64_t s = begin; s < end;) {
        const int64_t t = s / per_tap, stop = min64(end, (t + 1) * per_tap);
        const float* const* at = px + t * pitch;
        int64_t stride;
        if (evenly_apart(at, a->zeros, &stride)) {
            for (; s < stop; ++s)
                rows[s - begin] = {reinterpret_cast<const char*>(at[0]) + (s - t * per_tap) * kTileRow, stride,
                                   a->plane_stride * 2};
            continue;
        }
        const int64_t count = stop - s, c = (s - t * per_tap) * kTileRow;
        char* to = panel + (s - begin) * kTileBytes;
        for (; s < stop; ++s) rows[s - begin] = {panel + (s - begin) * kTileBytes, kTileRow, plane};
        for (int64_t p = 0; p < a->planes; ++p)
            for (int i = 0; i < 16; ++i) {
                const char* pixel = reinterpret_cast<const char*>(at[i]) + c;
                for (int64_t j = 0; j < count; ++j) {
                    char* row = to + p * plane + j * kTileBytes + i * kTileRow;
                    if (at[i] == a->zeros) {
                        memset(row, 0, kTileRow);
                    } else {
                        __builtin_memcpy(row, pixel + p * a->plane_stride * 2 + j * kTileRow, kTileRow);
                    }
                }
            }
    }
}

// The same for any number of channels: the panel's rows are the elements of all taps, one tap behind the other.
FC_INLINE void rows_of_elements(const PlaneConvArgs* a, const float* const* px, int64_t pitch, int64_t begin, int64_t end,
                                char* panel, TileRows* rows) {
    const int64_t even = (a->C + 1) & ~int64_t{1}, plane = kPass * kTileBytes;
    for (int64_t s = begin; s < end; ++s) rows[s - begin] = {panel + (s - begin) * kTileBytes, kTileRow, plane};
    for (int64_t p = 0; p < a->planes; ++p)
        for (int i = 0; i < 16; ++i) {
            int64_t t = begin * kStep / even, c = begin * kStep % even;
            for (int64_t s = begin; s < end; ++s) {
                uint16_t* row = reinterpret_cast<uint16_t*>(panel + p * plane + (s - begin) * kTileBytes + i * kTileRow);
                for (int64_t j = 0; j < kStep;) {
                    const float* pixel = t < a->T ? px[t * pitch + i] : a->zeros;
                    const int64_t left = t < a->T ? min64(even - c, kStep - j) : kStep - j;
                    if (pixel == a->zeros) {
                        memset(row + j, 0, static_cast<size_t>(left) * 2);
                    } else {
                        const int64_t real = min64(left, a->C - c);
                        copy_elements(row + j, reinterpret_cast<const uint16_t*>(pixel) + p * a->plane_stride + c, real);
                        if (real < left) row[j + real] = 0;
                    }
                    j += left;
                    c += left;
                    if (c >= even) c = 0, ++t;
                }
            }
        }
}

// ---- the loops ------------------------------------------------------------------------------------------------------

FC_INLINE PlaneCut tile_cut(const PlaneConvArgs* a) {
    PlaneCut cut = plane_cut(a, kTilePixels, kTileFilters, kTilePixels, kTileRun, kTileWork, kTileGroup, 1);
    if (cut.per_group > kTileBlocks) {
        cut.per_group = kTileBlocks;
        cut.groups = ceil_div(cut.blocks, cut.per_group);
    }
    return cut;
}

struct TileScratch {  // per thread, for one group of 32 pixels
    float* sums;              // [blocks of filters][32][32]
    char* panel;              // [2][planes][kPass][16][64 bytes]
    TileRows* rows;           // [2][kPass]
    const float** px;         // [taps][run]
    const float** res;
    float** out;
};

FC_INLINE int64_t tile_panel(const PlaneConvArgs* a) { return a->planes * kPass * kTileBytes; }

FC_INLINE TileScratch tile_scratch(const PlaneConvArgs* a, const PlaneCut& cut, void* scratch) {
    TileScratch s;
    char* at = static_cast<char*>(scratch);
    s.sums = reinterpret_cast<float*>(at);
    at += cut.per_group * kTilePixels * kTileFilters * 4;
    s.panel = at;
    at += 2 * tile_panel(a);
    s.rows = reinterpret_cast<TileRows*>(at);
    at += 2 * kPass * static_cast<int64_t>(sizeof(TileRows));
    s.px = reinterpret_cast<const float**>(at);
    s.res = s.px + a->T * cut.run;
    s.out = reinterpret_cast<float**>(at) + (a->T + 1) * cut.run;
    return s;
}
FC_INLINE size_t bf16_conv_amx_scratch(const PlaneConvArgs* a) {
    const PlaneCut cut = tile_cut(a);
    return static_cast<size_t>(cut.per_group * kTilePixels * kTileFilters * 4 + 2 * tile_panel(a)) +
           2 * kPass * sizeof(TileRows) + static_cast<size_t>((a->T + 2) * cut.run) * sizeof(void*);
}
FC_INLINE int64_t bf16_conv_amx_tiles(const PlaneConvArgs* a) {
    const PlaneCut cut = tile_cut(a);
    return a->G * cut.groups * cut.chunks;
}

// Bias, residual and activation of `count` pixels by up to 32 filters, and the stores.
FC_INLINE void finish_tiles(const PlaneConvArgs* a, float* sums, int64_t count, const float* const* px, int64_t pitch,
                            const uint16_t* w, float* const* out, const float* const* res, const PlaneEpilogue& e) {
    const int64_t packed = plane_block(a);
    for (int64_t m = 0; m < count; ++m)
        for (int64_t v = 0; v < e.lanes; v += kWidth) {
            float* y = sums + m * kTileFilters + v;
            if (a->planes > 1 && !all_finite<kWidth>(load<kWidth>(y)))
                again_by_fma<kWidth>(a, px + m, pitch, w + v / kLanes * packed + v % kLanes * 2, y);
            if (!a->split) finish<kWidth>(load<kWidth>(y), v, out[m], res ? res[m] : nullptr, e);
        }
    if (a->split) finish_split(sums, count, kTileFilters, out, res, e);
}

// 32 pixels (of which `count` exist) by the blocks of filters [first, last).
template <int P>
FC_INLINE void tile_pixels(const PlaneConvArgs* a, Tiles& tiles, int64_t g, int64_t first, int64_t last, int64_t count,
                           int64_t pitch, const TileScratch& s, PlaneEpilogue& e) {
    const int64_t steps = plane_steps(a, a->C), packed = plane_block(a), filters = ceil_div(a->K, kLanes);
    const uint16_t* weights = reinterpret_cast<const uint16_t*>(a->w) + g * filters * packed;
    const bool two = count > 16;
    for (int64_t begin = 0; begin < steps || begin == 0; begin += kPass) {
        const int64_t end = min64(steps, begin + kPass);
        for (int i = 0; i < (two ? 2 : 1); ++i) {
            const float* const* px = s.px + 16 * i;
            if (a->C % kStep) {
                rows_of_elements(a, px, pitch, begin, end, s.panel + i * tile_panel(a), s.rows + i * kPass);
            } else {
                rows_of_steps(a, px, pitch, begin, end, s.panel + i * tile_panel(a), s.rows + i * kPass);
            }
        }
        for (int64_t block = first; block < last; ++block) {
            const int64_t k0 = block * kTileFilters;
            const uint16_t* w = weights + k0 / kLanes * packed;
            float* sums = s.sums + (block - first) * kTilePixels * kTileFilters;
            tile_steps<P>(tiles, two, a->K - k0 > kLanes, s.rows, kPass,
                          reinterpret_cast<const char*>(w + begin * P * kStep * kLanes), packed * 2, end - begin, begin == 0,
                          sums);
            if (end < steps) continue;
            e.bias = a->bias ? a->bias + g * a->K + k0 : nullptr;
            e.first = g * a->K + k0;
            e.lanes = min64(kTileFilters, a->K - k0);
            finish_tiles(a, sums, count, s.px, pitch, w, s.out, a->residual ? s.res : nullptr, e);
        }
    }
}

template <int P>
FC_INLINE void tile_run(const PlaneConvArgs* a, int64_t begin, int64_t end, void* scratch) {
    const PlaneCut cut = tile_cut(a);
    const int64_t pixels = a->n * a->iD * a->iH * a->iW;
    const TileScratch s = tile_scratch(a, cut, scratch);
    PlaneEpilogue e = plane_epilogue(a);
    Tiles tiles;
    tiles.open();
    int64_t in_table = -1;
    for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t chunk = tile % cut.chunks, rest = tile / cut.chunks, group = rest % cut.groups;
        const int64_t g = rest / cut.groups, first = chunk * cut.run, count = min64(cut.run, pixels - first);
        if (chunk + g * cut.chunks != in_table) {
            plane_pointers(a, g, first, count, cut.run, s.px);
            for (int64_t t = 0; t < a->T; ++t)  // up to whole tiles
                for (int64_t m = count; m % 16; ++m) s.px[t * cut.run + m] = a->zeros;
            output_pointers(a, first, count, s.out, s.res);
            in_table = chunk + g * cut.chunks;
        }
        TileScratch here = s;
        for (int64_t m = 0; m < count; m += kTilePixels) {
            tile_pixels<P>(a, tiles, g, group * cut.per_group, min64(cut.blocks, (group + 1) * cut.per_group),
                           min64(kTilePixels, count - m), cut.run, here, e);
            here.px += kTilePixels;
            here.out += kTilePixels;
            here.res += kTilePixels;
        }
    }
    tiles.close();
}

FC_TILED void bf16_conv_amx_run(const PlaneConvArgs* a, int64_t begin, int64_t end, void* scratch) {
    if (a->planes == 1) {
        tile_run<1>(a, begin, end, scratch);
    } else if (a->planes == 2) {
        tile_run<2>(a, begin, end, scratch);
    } else {
        tile_run<3>(a, begin, end, scratch);
    }
}

// ---- what the tiles can do: four independent sums, all operands in registers ------------------------------------------

FC_INLINE int64_t bf16_amx_peak_tiles(const PeakArgs* a) { return a->n; }
FC_INLINE size_t bf16_amx_peak_scratch(const PeakArgs*) { return 2 * kTileBytes; }

// out: four tiles of floats per tile of the problem; each starts at its number and grows by 32 a b per iteration.
FC_TILED void bf16_amx_peak_run(const PeakArgs* p, int64_t begin, int64_t end, void* scratch) {
    uint16_t *a = static_cast<uint16_t*>(scratch), *b = a + kTileBytes / 2;
    const Vi<4> ha = round_plane<4>(splat<4>(static_cast<float>(p->a)));
    const Vi<4> hb = round_plane<4>(splat<4>(static_cast<float>(p->b)));
    for (int i = 0; i < kTileBytes / 2; ++i) {
        a[i] = static_cast<uint16_t>(static_cast<uint32_t>(ha[0]) >> 16);
        b[i] = static_cast<uint16_t>(static_cast<uint32_t>(hb[0]) >> 16);
    }
    Tiles t;
    t.open();
    t.load<4>(a, kTileRow);
    t.load<5>(a, kTileRow);
    t.load<6>(b, kTileRow);
    t.load<7>(b, kTileRow);
    for (int64_t tile = begin; tile < end; ++tile) {
        float* out = p->out + tile * kTileBytes;
        for (int i = 0; i < kTileBytes; ++i) out[i] = static_cast<float>(i);
        t.load<0>(out, kTileRow);
        t.load<1>(out + 256, kTileRow);
        t.load<2>(out + 512, kTileRow);
        t.load<3>(out + 768, kTileRow);
        for (int64_t n = 0; n < p->iterations; ++n) products<2, 2>(t);
        t.store<0>(out, kTileRow);
        t.store<1>(out + 256, kTileRow);
        t.store<2>(out + 512, kTileRow);
        t.store<3>(out + 768, kTileRow);
    }
    t.close();
}

}  // namespace
}  // namespace
#endif
