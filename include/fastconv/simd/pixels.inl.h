// From positions in the iteration space of a convolution to pointers to pixels.
#ifndef FASTCONV_PIXELS_INL_H
#define FASTCONV_PIXELS_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// A position in the iteration space, moved along one pixel at a time (no division per pixel).
struct Position {
    int64_t n, d, h, w;
};

template <class Args>
FC_INLINE Position position(const Args* a, int64_t pixel) {
    const int64_t w = pixel % a->iW, row = pixel / a->iW, h = row % a->iH, plane = row / a->iH;
    return {plane / a->iD, plane % a->iD, h, w};
}
template <class Args>
FC_INLINE void next(const Args* a, Position& p) {
    if (++p.w == a->iW) {
        p.w = 0;
        if (++p.h == a->iH) {
            p.h = 0;
            if (++p.d == a->iD) p.d = 0, ++p.n;
        }
    }
}

// True when no tap of any pixel falls into the padding. (A tap that is a run of values is one position here.)
template <class Args>
FC_INLINE bool all_inside(const Args* a) {
    for (int64_t t = 0; t < a->T; ++t) {
        const int32_t* o = a->taps + 3 * t;
        if (o[0] < 0 || o[1] < 0 || o[2] < 0 || (a->iD - 1) * a->sd + o[0] >= a->xD ||
            (a->iH - 1) * a->sh + o[1] >= a->xH || (a->iW - 1) * a->sw + o[2] >= a->xW)
            return false;
    }
    return true;
}

// p[i] = first + i * step
FC_INLINE void fill_pointers(const float** p, int64_t count, const float* first, int64_t step) {
    for (int64_t i = 0; i < count; ++i) p[i] = first + i * step;
}

// Moves a position past a run that ends at most at the end of its row.
template <class Args>
FC_INLINE void skip(const Args* a, Position& p, int64_t run) {
    p.w += run - 1;
    next(a, p);
}

// px[t * pitch + m]: pixel m of a run along a row at tap t, or the row of zeros.
template <class Args>
FC_INLINE void run_pointers(const Args* a, const float* x, const Position& p, int64_t run, bool inside, int64_t pitch,
                            const float** px) {
    const int64_t image = a->xD * a->xH * a->xW, step = a->sw * a->ldx;
    for (int64_t t = 0; t < a->T; ++t) {
        const int32_t* o = a->taps + 3 * t;
        const int64_t d = p.d * a->sd + o[0], h = p.h * a->sh + o[1], w = p.w * a->sw + o[2];
        const float** row = px + t * pitch;
        const float* at = x + (p.n * image + (d * a->xH + h) * a->xW + w) * a->ldx;
        if (inside) {
            fill_pointers(row, run, at, step);
            continue;
        }
        int64_t begin = 0, end = 0;  // the part of the run that is inside
        if (d >= 0 && d < a->xD && h >= 0 && h < a->xH && w < a->xW) {
            begin = w >= 0 ? 0 : a->sw == 1 ? -w : ceil_div(-w, a->sw);
            end = a->sw == 1 ? a->xW - w : ceil_div(a->xW - w, a->sw);
        }
        begin = min64(begin, run);
        end = max64(begin, min64(end, run));
        for (int64_t i = 0; i < begin; ++i) row[i] = a->zeros;
        fill_pointers(row + begin, end - begin, at + begin * step, step);
        for (int64_t i = end; i < run; ++i) row[i] = a->zeros;
    }
}

// The iteration space cut, in each dimension, where a tap enters or leaves the image. Pixels of a region have the same taps in
// the padding. Only the first kCuts are kept: pixels may then share a region that do not share their taps.
struct Regions {
    static constexpr int kCuts = 24;
    int count[3];              // regions per dimension
    int64_t at[3][kCuts + 2];  // region i: [at[i], at[i + 1])
    bool exact;
};

FC_INLINE void cut_regions(int64_t* at, int& count, bool& exact, int64_t cut) {
    if (cut <= 0 || cut >= at[count]) return;
    int i = count;
    while (at[i - 1] > cut) --i;
    if (at[i - 1] == cut) return;
    if (count > Regions::kCuts) {
        exact = false;
        return;
    }
    for (int j = count++; j >= i; --j) at[j + 1] = at[j];
    at[i] = cut;
}

template <class Args>
FC_INLINE Regions regions(const Args* a) {
    Regions r = {{1, 1, 1}, {{0, a->iD}, {0, a->iH}, {0, a->iW}}, true};
    if (all_inside(a)) return r;
    const int64_t size[3] = {a->xD, a->xH, a->xW}, stride[3] = {a->sd, a->sh, a->sw};
    for (int dim = 0; dim < 3; ++dim)
        for (int64_t t = 0; t < a->T; ++t) {
            const int64_t o = a->taps[3 * t + dim];
            cut_regions(r.at[dim], r.count[dim], r.exact, ceil_div(-o, stride[dim]));
            cut_regions(r.at[dim], r.count[dim], r.exact, ceil_div(size[dim] - o, stride[dim]));
        }
    return r;
}

// The pixels [first, first + count) region by region, as runs along a row: f(position, number of the run's first pixel in
// this order, length, whether a region begins).
template <class Args, class F>
FC_INLINE void by_regions(const Args* a, const Regions& r, int64_t first, int64_t count, const F& f) {
    const Position start = position(a, first);
    int64_t m = 0;
    for (int d = 0; d < r.count[0]; ++d)
        for (int h = 0; h < r.count[1]; ++h)
            for (int w = 0; w < r.count[2]; ++w) {
                Position p = start;
                bool begins = true;
                for (int64_t left = count; left > 0;) {
                    const int64_t run = min64(left, a->iW - p.w);
                    const int64_t from = max64(p.w, r.at[2][w]), to = min64(p.w + run, r.at[2][w + 1]);
                    if (from < to && p.h >= r.at[1][h] && p.h < r.at[1][h + 1] && p.d >= r.at[0][d] && p.d < r.at[0][d + 1]) {
                        f(Position{p.n, p.d, p.h, from}, m, to - from, begins);
                        begins = false;
                        m += to - from;
                    }
                    left -= run;
                    skip(a, p, run);
                }
            }
}

// out[m] and res[m]: filter 0 of the output pixels of a run along a row of the iteration space.
FC_INLINE void run_outputs(const ConvArgs* a, const Position& p, int64_t run, float** out, const float** res) {
    const int64_t pixel = ((p.n * a->yD + a->od + p.d * a->odd) * a->yH + a->oh + p.h * a->ohh) * a->yW + a->ow + p.w * a->oww;
    for (int64_t i = 0; i < run; ++i) out[i] = a->y + (pixel + i * a->oww) * a->ldy;
    if (a->residual)
        for (int64_t i = 0; i < run; ++i) res[i] = a->residual + (pixel + i * a->oww) * a->ldr;
}

// A region's pixels in a table of pointers: from `begin` to the next span's; the position of the first.
struct Span {
    int64_t begin;
    Position p;
};

// The table of a chunk, region by region: px[t * pitch + m] is the m-th pixel at tap t, or the row of zeros, out[m] (and res[m])
// the output pixel. `spans`: room for count + 1.
template <class Args>
FC_INLINE void region_pointers(const Args* a, const Regions& r, const float* x, int64_t first, int64_t count, int64_t pitch,
                               const float** px, float** out, const float** res, Span* spans) {
    const float** base = px + (max64(1, a->T) - 1) * pitch;  // the last tap's row, which is written last
    const int64_t step = a->sw * a->ldx;
    int64_t last = 0;
    by_regions(a, r, first, count, [&](const Position& p, int64_t m, int64_t run, bool begins) {
        if (r.exact) {
            if (begins) spans[last++] = {m, p};
        } else {
            for (int64_t i = 0; i < run; ++i) spans[last++] = {m + i, {p.n, p.d, p.h, p.w + i}};
        }
        const float* at = x + (((p.n * a->xD + p.d * a->sd) * a->xH + p.h * a->sh) * a->xW + p.w * a->sw) * a->ldx;
        for (int64_t i = 0; i < run; ++i) base[m + i] = at + i * step;
        run_outputs(a, p, run, out + m, res + m);
    });
    spans[last].begin = count;
    for (int64_t t = 0; t < a->T; ++t) {
        const int32_t* o = a->taps + 3 * t;
        const int64_t shift = ((o[0] * a->xH + o[1]) * a->xW + o[2]) * a->ldx;
        const float** row = px + t * pitch;
        for (int64_t s = 0; s < last; ++s) {
            const Position& p = spans[s].p;
            const int64_t d = p.d * a->sd + o[0], h = p.h * a->sh + o[1], w = p.w * a->sw + o[2];
            if (d >= 0 && d < a->xD && h >= 0 && h < a->xH && w >= 0 && w < a->xW) {
                for (int64_t m = spans[s].begin; m < spans[s + 1].begin; ++m) row[m] = base[m] + shift;
            } else {
                for (int64_t m = spans[s].begin; m < spans[s + 1].begin; ++m) row[m] = a->zeros;
            }
        }
    }
}

// px[t * pitch + m]: pixel first + m at tap t, or the row of zeros. Written by runs along a row of the iteration space.
template <class Args>
FC_INLINE void input_pointers(const Args* a, const float* x, int64_t first, int64_t count, int64_t pitch,
                              const float** px) {
    Position p = position(a, first);
    const bool inside = all_inside(a);
    for (int64_t m = 0; m < count;) {
        const int64_t run = min64(count - m, a->iW - p.w);
        run_pointers(a, x, p, run, inside, pitch, px + m);
        m += run;
        skip(a, p, run);
    }
}

// out[m] and res[m]: filter 0 of output pixel first + m.
FC_INLINE void output_pointers(const ConvArgs* a, int64_t first, int64_t count, float** out, const float** res) {
    if (a->yD == a->iD && a->yH == a->iH && a->yW == a->iW) {  // every output pixel, in order
        for (int64_t m = 0; m < count; ++m) out[m] = a->y + (first + m) * a->ldy;
        if (a->residual)
            for (int64_t m = 0; m < count; ++m) res[m] = a->residual + (first + m) * a->ldr;
        return;
    }
    Position p = position(a, first);
    for (int64_t m = 0; m < count; ++m, next(a, p)) {
        const int64_t pixel = ((p.n * a->yD + a->od + p.d * a->odd) * a->yH + a->oh + p.h * a->ohh) * a->yW + a->ow +
                              p.w * a->oww;
        out[m] = a->y + pixel * a->ldy;
        res[m] = a->residual ? a->residual + pixel * a->ldr : nullptr;
    }
}

}  // namespace
}  // namespace
#endif
