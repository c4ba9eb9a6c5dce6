// im2col and col2im by panels: rows are the output pixels [panel_begin, panel_end), counted over the images of the
// batch, columns are [tap][channel]. The panel is sized by its user to stay in the second-level cache.
//
//   image row   . . a b c d e . .        panel  | tap 0 | tap 1 | tap 2 |      3 taps of one row, stride 1:
//                 '-'-'-'               pixel w |   a   |   b   |   c   |      one copy of 3 * C floats where
//                   '-'-'-'           pixel w+1 |   b   |   c   |   d   |      the pixels are dense (ldx == C)
//
// Bound by the bandwidth of the cache that holds the panel. What depends on the row of the image (inside or in the
// padding) is found out once per output row and tap, so a pixel costs two comparisons and its copy.
#include "fastconv/simd/pixels.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE void copy_floats(float* dst, const float* src, int64_t n) {
    int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) store<kWidth>(dst + i, load<kWidth>(src + i));
    if (i < n) store_n<kWidth>(dst + i, load_n<kWidth>(src + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}
FC_INLINE void zero_floats(float* dst, int64_t n) {
    int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) store<kWidth>(dst + i, Vf<kWidth>{});
    if (i < n) store_n<kWidth>(dst + i, Vf<kWidth>{}, static_cast<int>(n - i));
}
FC_INLINE void add_floats(float* dst, const float* src, int64_t n) {
    int64_t i = 0;
    for (; i + kWidth <= n; i += kWidth) store<kWidth>(dst + i, load<kWidth>(dst + i) + load<kWidth>(src + i));
    if (i < n) {
        const int m = static_cast<int>(n - i);
        store_n<kWidth>(dst + i, load_n<kWidth>(dst + i, m) + load_n<kWidth>(src + i, m), m);
    }
}

// How many taps from t on read neighbouring pixels of one image row that lie densely: they are one run of floats.
FC_INLINE int64_t tap_run(const ConvArgs* a, int64_t t) {
    const int32_t* o = a->taps + 3 * t;
    int64_t len = 1;
    if (a->ldx != a->C) return len;
    while (t + len < a->T && o[3 * len] == o[0] && o[3 * len + 1] == o[1] && o[3 * len + 2] == o[2] + len) ++len;
    return len;
}

FC_INLINE bool within(int64_t i, int64_t size) { return static_cast<uint64_t>(i) < static_cast<uint64_t>(size); }

// Calls f(floats of the panel, image or null, lo, hi, len) for each run of taps of each pixel: of the run's len
// floats, [lo, hi) are in the image, starting where the pointer says; the others are padding.
template <class F>
FC_INLINE void for_each_run(const ConvArgs* a, F f) {
    const int64_t C = a->C, columns = a->T * C;
    float* x = const_cast<float*>(a->x);
    for (int64_t pixel = a->panel_begin; pixel < a->panel_end;) {
        const Position p = position(a, pixel);
        const int64_t count = min64(a->iW - p.w, a->panel_end - pixel);
        float* row = a->panel + (pixel - a->panel_begin) * columns;
        for (int64_t t = 0, len; t < a->T; t += len) {
            len = tap_run(a, t);
            const int32_t* o = a->taps + 3 * t;
            const int64_t d = p.d * a->sd + o[0], h = p.h * a->sh + o[1];
            const bool line = within(d, a->xD) && within(h, a->xH);
            float* first = line ? x + ((p.n * a->xD + d) * a->xH + h) * a->xW * a->ldx : nullptr;
            for (int64_t i = 0; i < count; ++i) {
                const int64_t w = (p.w + i) * a->sw + o[2];
                const int64_t lo = w < 0 ? -w : 0, hi = min64(len, a->xW - w);
                float* columns_at = row + i * columns + t * C;
                if (!line || lo >= hi) {
                    f(columns_at, nullptr, 0, 0, len * C);
                } else {
                    f(columns_at, first + (w + lo) * a->ldx, lo * C, hi * C, len * C);
                }
            }
        }
        pixel += count;
    }
}

FC_INLINE int64_t f32_im2col_tiles(const ConvArgs*) { return 1; }
FC_INLINE size_t f32_im2col_scratch(const ConvArgs*) { return 0; }

inline void f32_im2col_run(const ConvArgs* a, int64_t begin, int64_t end, void*) {
    if (begin == end) return;
    for_each_run(a, [](float* dst, const float* src, int64_t lo, int64_t hi, int64_t len) {
        if (lo) zero_floats(dst, lo);
        copy_floats(dst + lo, src, hi - lo);
        if (hi < len) zero_floats(dst + hi, len - hi);
    });
}

// Adds the panel into the images (args->x, written). Panels that overlap in an image must follow one another.
FC_INLINE int64_t f32_col2im_tiles(const ConvArgs*) { return 1; }
FC_INLINE size_t f32_col2im_scratch(const ConvArgs*) { return 0; }

inline void f32_col2im_run(const ConvArgs* a, int64_t begin, int64_t end, void*) {
    if (begin == end) return;
    for_each_run(a, [](const float* src, float* dst, int64_t lo, int64_t hi, int64_t) {
        add_floats(dst, src + lo, hi - lo);
    });
}

}  // namespace
}  // namespace
