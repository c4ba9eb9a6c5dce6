// Winograd convolution, forward (and backward to data: the same with the taps reversed and the roles exchanged).
//
// A tile of the problem is a run of Winograd tiles (across rows and images) by a range of blocks of filters, done in three
// steps over scratch, so that nothing of the transformed image ever goes to memory:
//
//   V[e][channels][tile] = B^T d B      per tile and vector of channels; pixels in the padding point to a row of zeros
//   M[e][filters][tile]  = U[e] V[e]    winograd/gemm.inl.h, e outermost: each U[e] is read once per run of tiles
//   y = act(A^T M A + bias + residual)  per tile and vector of filters; writes the pixels that exist
//
// M[e] lies where V[e - 1] was, so the scratch is (elements + 1) planes. A plane is an odd number of lines: the lines of
// one tile in all planes then fall into different sets of the first-level cache.
//
// What is computed without transforms, by the tile of f32_conv_direct, from a packed copy of the original weights
// (conv/locality.inl.h): output pixels that see little of their tile's energy, where `share` asks for that; tiles, for a block of
// filters, with results that are not finite (a NaN or an infinity anywhere in the input, in the weights, or through overflow in
// a transform leaves at least one among the m x m results of each filter) or so small that something was flushed on the way; and
// everything, where the weights have few bits.
#include "fastconv/conv/locality.inl.h"
#include "fastconv/winograd/gemm.inl.h"
#include "fastconv/winograd/place.inl.h"
#include "fastconv/winograd/transform.inl.h"

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

struct WinogradScratch {
    float* planes;
    WinogradPlace* places;    // of this run, of the next
    const float** px;
    Redo redo;
    int32_t *quiet, *spoilt;  // output pixels: (tile * MH + i) * MW + j
    uint8_t* marks;           // tiles to be computed again for a block of filters
};

// The listed output pixels without transforms. Black pixels count as padding where weights are finite.
template <int MH, int MW>
FC_NOINLINE void winograd_direct(const WinogradArgs* a, const WinogradScratch& s, int64_t g, const int32_t* list, int64_t count,
                                 bool finite, int64_t begin, int64_t end) {
    const int64_t taps_h = Winograd1<MH>::kTaps, taps = a->R * taps_h * 3;
    const float* x = a->x + g * a->C;
    Redo r = s.redo;
    for (int64_t n = 0; n < count; ++n) {
        const WinogradPlace& p = s.places[list[n] / (MH * MW)];
        const int64_t i = list[n] / MW % MH, j = list[n] % MW, pixel = winograd_output(a->py, p, i, j);
        const float** px = r.px + r.count;
        for (int64_t d = 0; d < a->R; ++d)
            for (int64_t u = 0; u < taps_h; ++u)
                for (int64_t v = 0; v < 3; ++v, px += r.pitch) {
                    *px = winograd_pixel(a->px, x, a->zeros, p.image, p.d + a->origin[0] + d, p.h + i + a->origin[1] + u,
                                         p.w + j + a->origin[2] + v);
                    if (finite && *px != a->zeros && is_black(*px, a->C)) *px = a->zeros;
                }
        r.out[r.count] = a->y + pixel * a->py.ld;
        if (a->residual) r.res[r.count] = a->residual + pixel * a->ldr;
        if (++r.count < r.pitch && n + 1 < count) continue;
        redo(a, r, taps, g, a->w, finite ? a->zeros : nullptr, begin, end);
        r.count = 0;
    }
}

// Lists the pixels of a tile that exist.
template <int MH, int MW>
FC_INLINE int64_t winograd_all(const WinogradPlace& p, int64_t t, int32_t* list) {
    int64_t n = 0;
    for (int64_t i = 0; i < p.rows; ++i)
        for (int64_t j = 0; j < p.columns; ++j) list[n++] = static_cast<int32_t>((t * MH + i) * MW + j);
    return n;
}

// Lists those whose window has less than `share` of the tile's energy; e: that of the tile's pixels.
template <int MH, int MW>
FC_INLINE int64_t winograd_quiet(const float* e, double share, const WinogradPlace& p, int64_t t, int32_t* list) {
    constexpr int EH = Winograd1<MH>::kElements, EW = Winograd1<MW>::kElements, TH = Winograd1<MH>::kTaps;
    float sums[EH][MW], total = 0;
    for (int i = 0; i < EH; ++i) {
        float row = 0;
        for (int j = 0; j < EW; ++j) row += e[i * EW + j];
        total += row;
        for (int j = 0; j < MW; ++j) sums[i][j] = (e[i * EW + j] + e[i * EW + j + 1]) + e[i * EW + j + 2];
    }
    if (!(total >= kFaint)) return winograd_all<MH, MW>(p, t, list);
    const float least = total * static_cast<float>(share);
    int64_t n = 0;
    for (int64_t i = 0; i < p.rows; ++i)
        for (int64_t j = 0; j < p.columns; ++j) {
            float window = sums[i][j];
            for (int u = 1; u < TH; ++u) window += sums[i + u][j];
            if (!(window >= least)) list[n++] = static_cast<int32_t>((t * MH + i) * MW + j);
        }
    return n;
}

// Adds bias and residual, applies the activation and stores the pixels that exist. False: the tile has values that are out of
// range, nothing was stored.
template <int MH, int MW>
FC_INLINE bool winograd_finish(const WinogradArgs* a, const WinogradPlace& p, const float* m, int64_t plane, int64_t k,
                               int n) {
    constexpr int W = kWidth;
    Vf<W> y[MH][MW];
    transform_output<MH, MW>(m, plane, y);
    Vi<W> peak = magnitude_bits<W>(y[0][0]);
#pragma GCC unroll 8
    for (int i = 0; i < MH; ++i)
#pragma GCC unroll 8
        for (int j = i ? 0 : 1; j < MW; ++j) peak = larger<W>(peak, magnitude_bits<W>(y[i][j]));
    if (__builtin_expect(out_of_range<W>(peak), 0)) return false;
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


FC_INLINE int64_t winograd_taps(const WinogradArgs* a) { return a->R * (a->mh == 1 ? 1 : 3) * 3; }

FC_INLINE size_t winograd_scratch(const WinogradArgs* a) {
    const WinogradCut cut = winograd_cut(a);
    return static_cast<size_t>((cut.grid.elements + 1) * cut.plane) * sizeof(float) +
           static_cast<size_t>(2 * a->tiles) * sizeof(WinogradPlace) + 36 * sizeof(float*) + redo_bytes(winograd_taps(a)) +
           static_cast<size_t>(a->tiles * (2 * a->mh * a->mw * 4 + 1));
}

FC_INLINE WinogradScratch winograd_layout(const WinogradArgs* a, const WinogradCut& cut, void* scratch) {
    WinogradScratch s;
    s.planes = static_cast<float*>(scratch);
    s.places = reinterpret_cast<WinogradPlace*>(s.planes + (cut.grid.elements + 1) * cut.plane);
    s.px = reinterpret_cast<const float**>(s.places + 2 * a->tiles);
    s.redo = redo_list(s.px + 36, winograd_taps(a));
    s.quiet = reinterpret_cast<int32_t*>(reinterpret_cast<char*>(s.px + 36) + redo_bytes(winograd_taps(a)));
    s.spoilt = s.quiet + a->tiles * a->mh * a->mw;
    s.marks = reinterpret_cast<uint8_t*>(s.spoilt + a->tiles * a->mh * a->mw);
    return s;
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
FC_INLINE void winograd_unit(const WinogradArgs* a, const WinogradCut& cut, const WinogradScratch& s, WeightKind kind,
                             int64_t tile, int64_t last) {
    constexpr int EH = Winograd1<MH>::kElements, EW = Winograd1<MW>::kElements;
    const int64_t chunk = tile % cut.chunks, group = tile / cut.chunks % cut.groups;
    const int64_t g = tile / (cut.chunks * cut.groups);
    const int64_t first = chunk * a->tiles, count = min64(a->tiles, cut.grid.tiles - first);
    WinogradPlace* next = s.places + a->tiles;
    const int64_t vectors = ceil_div(a->C, kWidth);
    const int64_t begin = group * a->blocks, end = min64(cut.blocks, begin + a->blocks), depth = a->R * a->C;
    const float* x = a->x + g * a->C;
    int64_t quiet = 0, pixels = 0;
    for (int64_t t = 0; t < count; ++t) {
        const WinogradPlace p = s.places[t] = winograd_place(cut.grid, a->py, MH, MW, first + t);
        pixels += p.rows * p.columns;
        if (kind.exact) {
            quiet += winograd_all<MH, MW>(p, t, s.quiet + quiet);
            continue;
        }
        float e[EH * EW] = {};
        for (int64_t r = 0; r < a->R; ++r) {
            winograd_pointers(a->px, x, a->zeros, p.image, p.d + a->origin[0] + r, p.h + a->origin[1], p.w + a->origin[2],
                              EH, EW, s.px);
            if (a->share > 0)
                for (int i = 0; i < EH * EW; ++i)
                    if (s.px[i] != a->zeros) e[i] += energy(s.px[i], a->C);
            winograd_input<MH, MW>(s.px, a->C, s.planes + cut.plane + r * vectors * cut.step + t * kWidth, cut.step,
                                   cut.plane);
        }
        if (a->share > 0) quiet += winograd_quiet<MH, MW>(e, a->share, p, t, s.quiet + quiet);
    }
    if (quiet == pixels) return winograd_direct<MH, MW>(a, s, g, s.quiet, quiet, kind.finite, begin, end);
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
    for (int64_t b = begin; b < end; ++b) {
        memset(s.marks, 0, static_cast<size_t>(count));
        for (int64_t k = b * kBlock; k < min64(a->K, (b + 1) * kBlock); k += kWidth) {
            const int n = static_cast<int>(min64(kWidth, a->K - k));
            const float* m = s.planes + (k - begin * kBlock) / kWidth * cut.step;
            for (int64_t t = 0; t < count; ++t)
                if (!winograd_finish<MH, MW>(a, s.places[t], m + t * kWidth, cut.plane, g * a->K + k, n)) s.marks[t] = 1;
        }
        int64_t spoilt = 0;
        for (int64_t t = 0; t < count; ++t)
            if (s.marks[t]) spoilt += winograd_all<MH, MW>(s.places[t], t, s.spoilt + spoilt);
        if (spoilt) winograd_direct<MH, MW>(a, s, g, s.spoilt, spoilt, kind.finite, b, b + 1);
    }
    if (quiet) winograd_direct<MH, MW>(a, s, g, s.quiet, quiet, kind.finite, begin, end);
}

FC_INLINE int64_t f32_conv_winograd_tiles(const WinogradArgs* a) {
    const WinogradCut cut = winograd_cut(a);
    return a->G * cut.groups * cut.chunks;
}
FC_INLINE size_t f32_conv_winograd_scratch(const WinogradArgs* a) { return winograd_scratch(a); }

inline void f32_conv_winograd_run(const WinogradArgs* a, int64_t begin, int64_t end, void* scratch) {
    const WinogradCut cut = winograd_cut(a);
    const WinogradScratch s = winograd_layout(a, cut, scratch);
    const WeightKind kind = weight_kind(a->bits, a->bit_parts);
    for (int64_t tile = begin; tile < end; ++tile) {
        if (a->mh == 4) {
            winograd_unit<4, 4>(a, cut, s, kind, tile, end);
        } else if (a->mh == 2) {
            winograd_unit<2, 2>(a, cut, s, kind, tile, end);
        } else if (a->mw == 4) {
            winograd_unit<1, 4>(a, cut, s, kind, tile, end);
        } else {
            winograd_unit<1, 2>(a, cut, s, kind, tile, end);
        }
    }
}

}  // namespace
}  // namespace
