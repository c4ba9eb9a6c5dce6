// Padding (constant, reflect, replicate, circular are lists of coordinates made by the caller) and its adjoint.
//
//   x       a b c d e          w = [2 1 0 1 2 3 4 3]: runs of neighbours are one copy where pixels lie densely
//   y   c b a b c d e d        backward, b: the sum over its places in y, [1, 3] along this axis
//
// Both are gathers: a tile is some rows of what is written, so no two tiles write the same bytes and sums have one order.
// Bound by memory.
#ifndef FASTCONV_PAD_INL_H
#define FASTCONV_PAD_INL_H

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE int64_t pad_rows(int64_t width, int64_t channels) { return max64(1, 16384 / max64(1, width * channels)); }

FC_INLINE void copy_values(float* dst, const float* src, int64_t n) {
    memcpy(dst, src, sizeof(float) * static_cast<size_t>(n));
}
FC_INLINE void fill_values(float* dst, float value, int64_t n) {
    for (int64_t i = 0; i < n; ++i) dst[i] = value;
}

// `count` neighbouring pixels of a row.
FC_INLINE void copy_pixels(float* dst, int64_t ldd, const float* src, int64_t lds, int64_t C, int64_t count) {
    if (ldd == C && lds == C) {
        copy_values(dst, src, count * C);
    } else {
        for (int64_t i = 0; i < count; ++i) copy_values(dst + i * ldd, src + i * lds, C);
    }
}
FC_INLINE void fill_pixels(float* dst, int64_t ld, float value, int64_t C, int64_t count) {
    if (ld == C) {
        fill_values(dst, value, count * C);
    } else if (C > 0) {
        for (int64_t i = 0; i < count; ++i) fill_values(dst + i * ld, value, C);
    }
}

FC_INLINE int64_t f32_pad_tiles(const PadArgs* a) { return ceil_div(a->n * a->yD * a->yH, pad_rows(a->yW, a->Y)); }
FC_INLINE size_t f32_pad_scratch(const PadArgs*) { return 0; }

inline void f32_pad_run(const PadArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t per = pad_rows(a->yW, a->Y), rows = a->n * a->yD * a->yH;
    const float value = static_cast<float>(a->value);
    for (int64_t r = begin * per; r < min64(rows, end * per); ++r) {
        float* dst = a->y + r * a->yW * a->ldy;
        const int64_t h = a->h[r % a->yH], plane = r / a->yH, d = a->d[plane % a->yD];
        if (h < 0 || d < 0) {
            fill_pixels(dst, a->ldy, value, a->Y, a->yW);
            continue;
        }
        const float* src = a->x + ((plane / a->yD * a->xD + d) * a->xH + h) * a->xW * a->ldx + a->cx;
        for (int64_t w = 0, run; w < a->yW; w += run) {
            const int64_t from = a->w[w];
            run = 1;
            if (from < 0) {
                while (w + run < a->yW && a->w[w + run] < 0) ++run;
                fill_pixels(dst + w * a->ldy, a->ldy, value, a->Y, run);
                continue;
            }
            while (w + run < a->yW && a->w[w + run] == from + run) ++run;
            float* at = dst + w * a->ldy;
            if (a->cy) fill_pixels(at, a->ldy, value, a->cy, run);
            copy_pixels(at + a->cy, a->ldy, src + from * a->ldx, a->ldx, a->C, run);
            if (a->cy + a->C < a->Y) fill_pixels(at + a->cy + a->C, a->ldy, value, a->Y - a->cy - a->C, run);
        }
    }
}

// One pixel: the sum over its places in y, in the order of the lists.
FC_INLINE void add_places(const PadArgs* a, const float* image, int64_t d, int64_t h, int64_t w, float* dst) {
    constexpr int W = kWidth;
    for (int64_t c = 0; c < a->C; c += W) {
        const int n = static_cast<int>(min64(W, a->C - c));
        Vf<W> sum{};
        for (int64_t i = a->start_d[d]; i < a->start_d[d + 1]; ++i)
            for (int64_t j = a->start_h[h]; j < a->start_h[h + 1]; ++j) {
                const float* row = image + (a->d[i] * a->yH + a->h[j]) * a->yW * a->ldy + a->cy + c;
                for (int64_t k = a->start_w[w]; k < a->start_w[w + 1]; ++k)
                    sum = sum + load_n<W>(row + a->w[k] * a->ldy, n);
            }
        store_n<W>(dst + c, sum, n);
    }
}

FC_INLINE int64_t f32_pad_backward_tiles(const PadArgs* a) {
    return ceil_div(a->n * a->xD * a->xH, pad_rows(a->xW, a->X));
}
FC_INLINE size_t f32_pad_backward_scratch(const PadArgs*) { return 0; }

inline void f32_pad_backward_run(const PadArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t per = pad_rows(a->xW, a->X), rows = a->n * a->xD * a->xH;
    const int32_t* start = a->start_w;
    for (int64_t r = begin * per; r < min64(rows, end * per); ++r) {
        float* dst = a->x + r * a->xW * a->ldx;
        const int64_t h = r % a->xH, plane = r / a->xH, d = plane % a->xD;
        const float* image = a->y + plane / a->xD * a->yD * a->yH * a->yW * a->ldy;
        const int64_t places = (a->start_d[d + 1] - a->start_d[d]) * static_cast<int64_t>(a->start_h[h + 1] - a->start_h[h]);
        if (!places || a->C < a->X) fill_pixels(dst, a->ldx, 0, a->X, a->xW);
        if (!places) continue;
        dst += a->cx;
        for (int64_t w = 0, run; w < a->xW; w += run) {
            run = 1;
            if (places > 1 || start[w + 1] != start[w] + 1) {
                add_places(a, image, d, h, w, dst + w * a->ldx);
                continue;
            }
            const int64_t at = start[w], from = a->w[at];  // neighbours with one place each, in a row
            while (w + run < a->xW && start[w + run + 1] == start[w + run] + 1 && a->w[at + run] == from + run) ++run;
            const float* src = image + ((a->d[a->start_d[d]] * a->yH + a->h[a->start_h[h]]) * a->yW + from) * a->ldy + a->cy;
            copy_pixels(dst + w * a->ldx, a->ldx, src, a->ldy, a->C, run);
        }
    }
}

}  // namespace
}  // namespace
#endif
