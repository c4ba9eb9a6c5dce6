// What all pooling kernels share: how a problem is cut, where a window lies, and the walk of the forward kernels.
//
// Forward tiles of registers, W floats wide, 4 vectors each, filled tap by tap:
//
//     many channels: one pixel             few channels: four pixels of a row
//       c    c+W   c+2W  c+3W                ow   ow+1  ow+2  ow+3
//     [    ][    ][    ][    ]             [    ][    ][    ][    ]     (each masked to C when C < W)
//
// Windows that lose taps to the padding are walked one by one with their own extents, so no tap is ever tested.
// Bound by the loads of the input.
#ifndef FASTCONV_POOL_WINDOW_INL_H
#define FASTCONV_POOL_WINDOW_INL_H

#include "fastconv/simd/blocks.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

constexpr int64_t kPoolWork = 1 << 16;   // floats touched per tile
constexpr int64_t kPoolPiece = 1024;     // most pixels of a row in one tile
constexpr int64_t kPoolChannels = 64;    // channel blocks are multiples of this

// The cut: groups of whole rows, or pieces of one row, by blocks of channels.
struct PoolCut {
    int64_t width;                  // pixels of a row
    int64_t rows, rows_per, pieces, piece;
    int64_t channels, cblock, cblocks;
    int64_t tiles;
};

FC_INLINE PoolCut pool_cut(int64_t rows, int64_t width, int64_t C, int64_t reads_per_pixel) {
    PoolCut cut;
    const int64_t reads = max64(1, reads_per_pixel), per_pixel = reads * max64(8, C);  // a vector is never cheaper
    cut.rows = rows;
    cut.width = width;
    cut.channels = C;
    cut.cblock = C;
    if (per_pixel > kPoolWork)
        cut.cblock = min64(C, ceil_div(max64(1, kPoolWork / reads), kPoolChannels) * kPoolChannels);
    cut.cblocks = ceil_div(C, cut.cblock);
    const int64_t pixels = max64(1, min64(kPoolPiece, kPoolWork / (reads * max64(8, cut.cblock))));
    cut.pieces = ceil_div(width, pixels);
    cut.piece = ceil_div(width, cut.pieces);
    cut.rows_per = max64(1, pixels / width);
    cut.tiles = cut.cblocks * (cut.pieces > 1 ? rows * cut.pieces : ceil_div(rows, cut.rows_per));
    return cut;
}

struct PoolPart {
    int64_t row0, row1, w0, w1, c0, c1;
};

FC_INLINE PoolPart pool_part(const PoolCut& cut, int64_t tile) {
    PoolPart part;
    const int64_t rest = tile / cut.cblocks;
    part.c0 = tile % cut.cblocks * cut.cblock;
    part.c1 = min64(cut.channels, part.c0 + cut.cblock);
    if (cut.pieces > 1) {
        part.row0 = rest / cut.pieces;
        part.row1 = part.row0 + 1;
        part.w0 = rest % cut.pieces * cut.piece;
        part.w1 = min64(cut.width, part.w0 + cut.piece);
    } else {
        part.row0 = rest * cut.rows_per;
        part.row1 = min64(cut.rows, part.row0 + cut.rows_per);
        part.w0 = 0;
        part.w1 = cut.width;
    }
    return part;
}

// The place of a row, moved along without divisions.
struct PoolRow {
    int64_t n, d, h;
};

FC_INLINE PoolRow pool_row(int64_t row, int64_t D, int64_t H) {
    return {row / (H * D), row / H % D, row % H};
}
FC_INLINE void next_row(PoolRow& row, int64_t D, int64_t H) {
    if (++row.h == H) {
        row.h = 0;
        if (++row.d == D) row.d = 0, ++row.n;
    }
}

// One axis of the problem.
struct PoolAxis {
    int64_t in, out, k, s, dil, p, q, adaptive;
};

FC_INLINE PoolAxis axis_d(const PoolArgs* a) {
    return {a->xD, a->yD, a->kD, a->sD, a->dilD, a->pD, a->qD, a->adaptive};
}
FC_INLINE PoolAxis axis_h(const PoolArgs* a) {
    return {a->xH, a->yH, a->kH, a->sH, a->dilH, a->pH, a->qH, a->adaptive};
}
FC_INLINE PoolAxis axis_w(const PoolArgs* a) {
    return {a->xW, a->yW, a->kW, a->sW, a->dilW, a->pW, a->qW, a->adaptive};
}

// The taps of window o of an axis that are inside the input: `count` from input coordinate `at` on, the first of which
// is tap `first`; `divisor` is how many values an average takes them for.
struct Span {
    int64_t at, first, count, divisor;
};

FC_INLINE Span pool_span(const PoolAxis& x, int64_t o, bool include_pad) {
    if (x.adaptive) {
        const int64_t begin = o * x.in / x.out, end = ceil_div((o + 1) * x.in, x.out);
        return {begin, begin, end - begin, end - begin};
    }
    const int64_t begin = o * x.s - x.p, room = max64(0, x.in - begin);
    const int64_t first = begin >= 0 ? 0 : x.dil == 1 ? -begin : ceil_div(-begin, x.dil);
    const int64_t last = min64(x.k, x.dil == 1 ? room : ceil_div(room, x.dil));
    const int64_t count = max64(0, last - first);
    // PyTorch: with padding included, a window of ceil_mode still ends where the padding does.
    const int64_t divisor = include_pad ? min64(begin + x.k, x.in + x.q) - begin : count;
    return {begin + first * x.dil, first, count, divisor};
}

// Windows of an axis that have all their taps: [begin, end).
FC_INLINE void pool_interior(const PoolAxis& x, int64_t* begin, int64_t* end) {
    const int64_t last = x.in - 1 - (x.k - 1) * x.dil + x.p;
    *begin = min64(x.out, ceil_div(x.p, x.s));
    *end = last < 0 ? *begin : max64(*begin, min64(x.out, last / x.s + 1));
}

// A window from its first tap inside: extents and strides in floats, and how its taps are numbered.
struct Window {
    int64_t nd, nh, nw;
    int64_t sd, sh, sw;
    int64_t tap, tap_d, tap_h;
    float divisor;
};

FC_INLINE void set_span_w(const PoolArgs* a, Window& win, const Span& d, const Span& h, const Span& w) {
    win.nw = w.count;
    win.tap = d.first * win.tap_d + h.first * win.tap_h + w.first;
    win.divisor = static_cast<float>(a->divisor ? a->divisor : max64(1, d.divisor * h.divisor * w.divisor));
}

// Walks the tiles [begin, end): Tile::run<W, M, NW, full> computes M vectors of windows that are NW taps wide (0: as
// the window says), all W lanes of them when full, else the first `lanes`. Offsets are in floats (elements of index).
template <class Tile, int W>
FC_INLINE void pool_pixel(const PoolArgs* a, const Window& win, const float* x, int64_t pixel, int64_t c0, int64_t c1) {
    int64_t c = c0;
    for (; c + 4 * W <= c1; c += 4 * W) Tile::template run<W, 4, 0, true>(a, win, x + c, W, pixel, 0, c, W, W);
    for (; c + W <= c1; c += W) Tile::template run<W, 1, 0, true>(a, win, x + c, W, pixel, 0, c, 0, W);
    if (c < c1) Tile::template run<W, 1, 0, false>(a, win, x + c, W, pixel, 0, c, 0, static_cast<int>(c1 - c));
}

template <class Tile, int W, int NW, bool kFull>
FC_INLINE void pool_run_vector(const PoolArgs* a, const Window& win, const float* x, int64_t xstep, int64_t pixel,
                               int64_t count, int64_t c, int lanes) {
    if (count >= 4) {
        for (int64_t i = 0; i < count; i += 4) {
            i = min64(i, count - 4);  // the last four overlap: same values again
            Tile::template run<W, 4, NW, kFull>(a, win, x + i * xstep + c, xstep, pixel + i, 1, c, 0, lanes);
        }
    } else {
        for (int64_t i = 0; i < count; ++i)
            Tile::template run<W, 1, 0, kFull>(a, win, x + i * xstep + c, xstep, pixel + i, 1, c, 0, lanes);
    }
}

// `count` pixels of a row whose windows are alike.
template <class Tile, int W, int NW>
FC_INLINE void pool_run(const PoolArgs* a, const Window& win, const float* x, int64_t pixel, int64_t count, int64_t c0,
                        int64_t c1) {
    const int64_t xstep = a->sW * a->ldx;
    int64_t c = c0 + (c1 - c0) / (4 * W) * (4 * W);
    if (c > c0)
        for (int64_t i = 0; i < count; ++i)
            for (int64_t k = c0; k < c; k += 4 * W)
                Tile::template run<W, 4, NW, true>(a, win, x + i * xstep + k, W, pixel + i, 0, k, W, W);
    for (; c + W <= c1; c += W) pool_run_vector<Tile, W, NW, true>(a, win, x, xstep, pixel, count, c, W);
    if (c < c1) pool_run_vector<Tile, W, NW, false>(a, win, x, xstep, pixel, count, c, static_cast<int>(c1 - c));
}

FC_INLINE PoolCut pool_forward_cut(const PoolArgs* a) {
    int64_t reads = a->kD * a->kH * a->kW;
    if (a->adaptive) reads = ceil_div(a->xD, a->yD) * ceil_div(a->xH, a->yH) * ceil_div(a->xW, a->yW);
    return pool_cut(a->n * a->yD * a->yH, a->yW, a->C, reads);
}

template <class Tile, int W>
FC_INLINE void pool_walk(const PoolArgs* a, int64_t begin, int64_t end) {
    const PoolCut cut = pool_forward_cut(a);
    const PoolAxis ad = axis_d(a), ah = axis_h(a), aw = axis_w(a);
    const int64_t image = a->xD * a->xH * a->xW;
    int64_t inner0 = 0, inner1 = 0;
    if (!a->adaptive) pool_interior(aw, &inner0, &inner1);
    Window win;
    win.sd = a->dilD * a->xH * a->xW * a->ldx;
    win.sh = a->dilH * a->xW * a->ldx;
    win.sw = a->dilW * a->ldx;
    win.tap_h = a->adaptive ? a->xW : a->kW;
    win.tap_d = (a->adaptive ? a->xH : a->kH) * win.tap_h;
    for (int64_t tile = begin; tile < end; ++tile) {
        const PoolPart part = pool_part(cut, tile);
        PoolRow at_row = pool_row(part.row0, a->yD, a->yH);
        for (int64_t row = part.row0; row < part.row1; ++row, next_row(at_row, a->yD, a->yH)) {
            const Span d = pool_span(ad, at_row.d, a->include_pad), h = pool_span(ah, at_row.h, a->include_pad);
            const float* x = a->x + (at_row.n * image + (d.at * a->xH + h.at) * a->xW) * a->ldx;
            win.nd = d.count;
            win.nh = h.count;
            for (int64_t ow = part.w0; ow < part.w1;) {
                const Span w = pool_span(aw, ow, a->include_pad);
                const int64_t pixel = row * a->yW + ow, inner = min64(inner1, part.w1) - ow;
                set_span_w(a, win, d, h, w);
                // No address is formed for a window without a tap inside: it may start far outside.
                const float* at = win.nd > 0 && win.nh > 0 && win.nw > 0 ? x + w.at * a->ldx : a->x;
                if (ow < inner0 || inner <= 1 || win.nd == 0 || win.nh == 0) {
                    pool_pixel<Tile, W>(a, win, at, pixel, part.c0, part.c1);
                    ++ow;
                    continue;
                }
                if (Tile::kOften && a->kW == 2) {
                    pool_run<Tile, W, Tile::kOften ? 2 : 0>(a, win, at, pixel, inner, part.c0, part.c1);
                } else if (Tile::kOften && a->kW == 3) {
                    pool_run<Tile, W, Tile::kOften ? 3 : 0>(a, win, at, pixel, inner, part.c0, part.c1);
                } else {
                    pool_run<Tile, W, 0>(a, win, at, pixel, inner, part.c0, part.c1);
                }
                ow += inner;
            }
        }
    }
}

// A vector half as wide serves layers whose channels fit into it. Tiles that are seldom used (kOften is false) have one
// width, and no code of their own for windows of 2 and 3: they would be a third of the family's code.
template <class Tile>
FC_INLINE void pool_forward(const PoolArgs* a, int64_t begin, int64_t end) {
    if (Tile::kOften && a->C <= kHalf) {
        pool_walk<Tile, kHalf>(a, begin, end);
    } else {
        pool_walk<Tile, kWidth>(a, begin, end);
    }
}

template <int W, bool kFull>
FC_INLINE Vf<W> load_lanes(const float* p, int lanes) {
    return kFull ? load<W>(p) : load_n<W>(p, lanes);
}
template <int W, bool kFull>
FC_INLINE void store_lanes(float* p, Vf<W> v, int lanes) {
    if (kFull) {
        store<W>(p, v);
    } else {
        store_n<W>(p, v, lanes);
    }
}

}  // namespace
}  // namespace
#endif
