// Winograd convolution, forward (and backward to data: the same with the taps reversed and the roles exchanged).
//
// A tile of the problem is a run of Winograd tiles (across rows and images) by a range of blocks of filters, done in three
// steps over scratch, so that nothing of the transformed image ever goes to memory:
//
//   V[e][channels][tile] = B^T d B      per tile and vector of channels; pixels in the padding point to a row of zeros
//   M[e][filters][tile]  = U[e] V[e]    winograd_gemm.inl.h, e outermost: each U[e] is read once per run of tiles
//   y = act(A^T M A + bias + residual)  per tile and vector of filters; writes the pixels that exist
//
// M[e] lies where V[e - 1] was, so the scratch is (elements + 1) planes. A plane is an odd number of lines: the lines of
// one tile in all planes then fall into different sets of the first-level cache.
//
// Values that are not finite: a tile with a NaN or an infinity anywhere in its input, in its weights, or through overflow in
// a transform has at least one such value among the m x m results of each filter. Such a tile is computed again by the tile
// of f32_conv_direct, for that block of filters, from a packed copy of the original weights.
#include "fastconv/winograd_gemm.inl.h"
#include "fastconv/winograd_place.inl.h"
#include "fastconv/winograd_transform.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

struct WinogradCut {
    WinogradGrid grid;
    int64_t chunks, blocks, groups;
    int64_t width;        // filters of a group in U, with those that fill its last vector
    int64_t step, plane;  // floats between two vectors, between two elements
};

FC_INLINE WinogradCut winograd_cut(const WinogradArgs* a) {
    WinogradCut cut;
    cut.grid = winograd_grid(a->n, a->py, a->mh, a->mw);
    cut.chunks = ceil_div(cut.grid.tiles, a->tiles);
    cut.blocks = ceil_div(a->K, kBlock);
    cut.groups = ceil_div(cut.blocks, a->blocks);
    cut.width = winograd_filters(a->K);
    cut.step = a->tiles * kWidth;
    const int64_t vectors = max64(a->R * ceil_div(a->C, kWidth), min64(2 * a->blocks, cut.width / kWidth));
    cut.plane = winograd_plane(vectors * cut.step);
    return cut;
}

// Pixels of one tile and a block of filters without transforms, as f32_conv_direct computes them.
template <int W, int NV>
FC_NOINLINE void winograd_direct(const WinogradArgs* a, const WinogradPlace& p, const float* x, const float* w,
                                 const Epilogue& e, const float** px) {
    const int64_t taps_h = a->mh == 1 ? 1 : 3;
    for (int64_t i = 0; i < p.rows; ++i)
        for (int64_t j = 0; j < p.columns; ++j) {
            const int64_t pixel = winograd_output(a->py, p, i, j);
            float* out = a->y + pixel * a->py.ld;
            const float* res = a->residual ? a->residual + pixel * a->ldr : nullptr;
            int64_t t = 0;
            for (int64_t d = 0; d < a->R; ++d)
                for (int64_t u = 0; u < taps_h; ++u)
                    for (int64_t v = 0; v < 3; ++v)
                        px[t++] = winograd_pixel(a->px, x, a->zeros, p.image, p.d + a->origin[0] + d,
                                                 p.h + i + a->origin[1] + u, p.w + j + a->origin[2] + v);
            conv_runs<W, NV, 1>(px, 1, t, a->C, w, nullptr, &out, res ? &res : nullptr, e, 0);
        }
}

// Adds bias and residual, applies the activation and stores the pixels that exist. False: the tile has values that are not
// finite, nothing was stored.
template <int MH, int MW>
FC_INLINE bool winograd_finish(const WinogradArgs* a, const WinogradPlace& p, const float* m, int64_t plane, int64_t k,
                               int n) {
    constexpr int W = kWidth;
    Vf<W> y[MH][MW];
    transform_output<MH, MW>(m, plane, y);
    Vf<W> sum = y[0][0];
#pragma GCC unroll 8
    for (int i = 0; i < MH; ++i)
#pragma GCC unroll 8
        for (int j = i ? 0 : 1; j < MW; ++j) sum = sum + y[i][j];
    // x - x is 0 for every finite x and NaN for the others
    if (__builtin_expect(any_lane<W>(sum - sum != Vf<W>{}), 0)) return false;
    const Vf<W> bias = a->bias ? load_n<W>(a->bias + k, n) : Vf<W>{};
    const float fa = static_cast<float>(a->act_a), fb = static_cast<float>(a->act_b);
    const int64_t first = winograd_output(a->py, p, 0, 0);
    float* out = a->y + first * a->py.ld + k;
    const float* res = a->residual ? a->residual + first * a->ldr + k : nullptr;
    for (int i = 0; i < p.rows; ++i) {
        float* row = out + i * a->py.step[1] * a->py.ld;
        const float* res_row = res ? res + i * a->py.step[1] * a->ldr : nullptr;
        for (int j = 0; j < p.columns; ++j) {
            Vf<W> v = y[i][j] + bias;
            if (res) v = v + load_n<W>(res_row + j * a->py.step[2] * a->ldr, n);
            store_n<W>(row + j * a->py.step[2] * a->py.ld, activate<W>(v, a->act, fa, fb), n);
        }
    }
    return true;
}

struct WinogradScratch {
    float* planes;
    WinogradPlace* places;  // of this run, of the next
    const float** px;
};

FC_INLINE int64_t winograd_pixels(const WinogradArgs* a) { return max64(36, a->R * 9); }

FC_INLINE size_t winograd_scratch(const WinogradArgs* a) {
    const WinogradCut cut = winograd_cut(a);
    return static_cast<size_t>((cut.grid.elements + 1) * cut.plane) * sizeof(float) +
           static_cast<size_t>(2 * a->tiles) * sizeof(WinogradPlace) +
           static_cast<size_t>(winograd_pixels(a)) * sizeof(float*);
}

// Brings pixels nearer while the products run: those that the next run of tiles reads and those that this one writes. The
// transforms touch few floats of each of many pixels, and would wait for most of them: a third of the time without this.
template <int MH, int MW>
struct WinogradAhead {
    const WinogradArgs* a;
    const WinogradPlace *here, *next;  // next: null where this thread has no further run
    const float *x, *y;                // at the first channel and filter
    int64_t channels, filters;
    int64_t pixel, pixels, calls;      // pixels done, in all; calls to come

    static FC_INLINE void fetch(const float* p, int64_t floats) {
        for (int64_t i = 0; i < floats; i += 16) __builtin_prefetch(p + i, 0, 2);
    }

    // One call per register tile: its share of the pixels.
    FC_INLINE void operator()() {
        const int64_t end = calls > 1 ? pixel + (pixels - pixel) / calls : pixels;
        --calls;
        for (; pixel < end; ++pixel) {
            const int64_t t = pixel / (MH * MW), i = pixel / MW % MH, j = pixel % MW;
            const WinogradPlace& p = here[t];
            if (i < p.rows && j < p.columns) fetch(y + winograd_output(a->py, p, i, j) * a->py.ld, filters);
            if (!next) continue;
            const WinogradPlace& q = next[t];  // of the pixels that a tile reads, those that its neighbours have not
            fetch(winograd_pixel(a->px, x, a->zeros, q.image, q.d + a->origin[0] + a->R - 1,
                                 q.h + a->origin[1] + Winograd1<MH>::kTaps - 1 + i,
                                 q.w + a->origin[2] + Winograd1<MW>::kTaps - 1 + j),
                  channels);
        }
    }
};

template <int MH, int MW>
FC_INLINE void winograd_unit(const WinogradArgs* a, const WinogradCut& cut, const WinogradScratch& s, int64_t tile,
                             int64_t last) {
    const int64_t chunk = tile % cut.chunks, group = tile / cut.chunks % cut.groups;
    const int64_t g = tile / (cut.chunks * cut.groups);
    const int64_t first = chunk * a->tiles, count = min64(a->tiles, cut.grid.tiles - first);
    WinogradPlace* next = s.places + a->tiles;
    const int64_t vectors = ceil_div(a->C, kWidth);
    const float* x = a->x + g * a->C;
    for (int64_t t = 0; t < count; ++t) {
        const WinogradPlace p = s.places[t] = winograd_place(cut.grid, a->py, MH, MW, first + t);
        for (int64_t r = 0; r < a->R; ++r) {
            winograd_pointers(a->px, x, a->zeros, p.image, p.d + a->origin[0] + r, p.h + a->origin[1], p.w + a->origin[2],
                              Winograd1<MH>::kElements, Winograd1<MW>::kElements, s.px);
            winograd_input<MH, MW>(s.px, a->C, s.planes + cut.plane + r * vectors * cut.step + t * kWidth, cut.step,
                                   cut.plane);
        }
    }
    const int64_t begin = group * a->blocks, end = min64(cut.blocks, begin + a->blocks), depth = a->R * a->C;
    const bool more = tile + 1 < last;
    if (more)  // as many as this run has, or the last ones
        for (int64_t t = 0; t < count; ++t)
            next[t] = winograd_place(cut.grid, a->py, MH, MW,
                                     min64((tile + 1) % cut.chunks * a->tiles + t, cut.grid.tiles - 1));
    WinogradAhead<MH, MW> ahead = {a, s.places, more ? next : nullptr, x, a->y + g * a->K + begin * kBlock, a->C,
                                   min64(a->K, end * kBlock) - begin * kBlock, 0, count * MH * MW,
                                   cut.grid.elements * (end - begin) * ceil_div(count, kTileM)};
    for (int64_t e = 0; e < cut.grid.elements; ++e) {
        const float* v = s.planes + (e + 1) * cut.plane;
        const float* u = a->u + ((g * cut.grid.elements + e) * cut.width + begin * kBlock) * depth;
        float* m = s.planes + e * cut.plane;
        for (int64_t b = begin; b < end; ++b, u += kBlock * depth, m += 2 * cut.step) {
            if (a->K - b * kBlock > kWidth) {
                winograd_rows<2>(count, v, cut.step, a->R, a->C, a->chunk, u, m, ahead);
            } else {
                winograd_rows<1>(count, v, cut.step, a->R, a->C, a->chunk, u, m, ahead);
            }
        }
    }
    const int64_t packed = packed_filters(a->K), taps = a->R * (a->mh == 1 ? 1 : 3) * 3;
    Epilogue epilogue = {nullptr, 0, 0, a->act, static_cast<float>(a->act_a), static_cast<float>(a->act_b), false};
    for (int64_t k = begin * kBlock; k < min64(a->K, end * kBlock); k += kWidth) {
        const int n = static_cast<int>(min64(kWidth, a->K - k));
        const float* m = s.planes + (k - begin * kBlock) / kWidth * cut.step;
        for (int64_t t = 0; t < count; ++t) {
            if (winograd_finish<MH, MW>(a, s.places[t], m + t * kWidth, cut.plane, g * a->K + k, n)) continue;
            const int64_t k0 = k / kBlock * kBlock;
            epilogue.lanes = min64(kBlock, a->K - k0);
            epilogue.first = g * a->K + k0;
            epilogue.bias = a->bias ? a->bias + epilogue.first : nullptr;
            const float* w = a->w + (g * packed + k0) * taps * a->C;
            if (epilogue.lanes > kWidth) {
                winograd_direct<kWidth, 2>(a, s.places[t], x, w, epilogue, s.px);
            } else if (epilogue.lanes > kHalf) {
                winograd_direct<kWidth, 1>(a, s.places[t], x, w, epilogue, s.px);
            } else {
                winograd_direct<kHalf, 1>(a, s.places[t], x, w, epilogue, s.px);
            }
        }
    }
}

FC_INLINE int64_t f32_conv_winograd_tiles(const WinogradArgs* a) {
    const WinogradCut cut = winograd_cut(a);
    return a->G * cut.groups * cut.chunks;
}
FC_INLINE size_t f32_conv_winograd_scratch(const WinogradArgs* a) { return winograd_scratch(a); }

inline void f32_conv_winograd_run(const WinogradArgs* a, int64_t begin, int64_t end, void* scratch) {
    const WinogradCut cut = winograd_cut(a);
    WinogradScratch s;
    s.planes = static_cast<float*>(scratch);
    s.places = reinterpret_cast<WinogradPlace*>(s.planes + (cut.grid.elements + 1) * cut.plane);
    s.px = reinterpret_cast<const float**>(s.places + 2 * a->tiles);
    for (int64_t tile = begin; tile < end; ++tile) {
        if (a->mh == 4) {
            winograd_unit<4, 4>(a, cut, s, tile, end);
        } else if (a->mh == 2) {
            winograd_unit<2, 2>(a, cut, s, tile, end);
        } else if (a->mw == 4) {
            winograd_unit<1, 4>(a, cut, s, tile, end);
        } else {
            winograd_unit<1, 2>(a, cut, s, tile, end);
        }
    }
}

}  // namespace
}  // namespace
