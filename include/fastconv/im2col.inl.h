// im2col and col2im by panels: rows are output pixels [panel_begin, panel_end) of one image (args->n is that image's
// number), columns [tap][channel]. The panel is sized by its user to fit in the second-level cache.
#include "fastconv/pixels.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE int64_t f32_im2col_tiles(const ConvArgs*) { return 1; }
FC_INLINE size_t f32_im2col_scratch(const ConvArgs*) { return 0; }
FC_INLINE int64_t f32_col2im_tiles(const ConvArgs*) { return 1; }
FC_INLINE size_t f32_col2im_scratch(const ConvArgs*) { return 0; }

// Calls f(row of the panel, tap, pointer into the image or null) for each pixel of the panel and each tap.
template <class F>
FC_INLINE void for_each_tap(const ConvArgs* a, float* image, F f) {
    Position p = position(a, a->panel_begin);
    for (int64_t m = a->panel_begin; m < a->panel_end; ++m, next(a, p))
        for (int64_t t = 0; t < a->T; ++t) {
            const int32_t* o = a->taps + 3 * t;
            const int64_t d = p.d * a->sd + o[0], h = p.h * a->sh + o[1], w = p.w * a->sw + o[2];
            const bool inside = static_cast<uint64_t>(d) < static_cast<uint64_t>(a->xD) &&
                                static_cast<uint64_t>(h) < static_cast<uint64_t>(a->xH) &&
                                static_cast<uint64_t>(w) < static_cast<uint64_t>(a->xW);
            f(m - a->panel_begin, t, inside ? image + ((d * a->xH + h) * a->xW + w) * a->ldx : nullptr);
        }
}

inline void f32_im2col_run(const ConvArgs* a, int64_t, int64_t, void*) {
    float* image = const_cast<float*>(a->x) + a->n * a->xD * a->xH * a->xW * a->ldx;
    const int64_t C = a->C;
    for_each_tap(a, image, [a, C](int64_t row, int64_t t, const float* x) {
        float* dst = a->panel + (row * a->T + t) * C;
        int64_t c = 0;
        for (; c + kWidth <= C; c += kWidth) store<kWidth>(dst + c, x ? load<kWidth>(x + c) : Vf<kWidth>{});
        if (c < C) {
            const int n = static_cast<int>(C - c);
            store_n<kWidth>(dst + c, x ? load_n<kWidth>(x + c, n) : Vf<kWidth>{}, n);
        }
    });
}

// Adds the panel into the image (args->x, written).
inline void f32_col2im_run(const ConvArgs* a, int64_t, int64_t, void*) {
    float* image = const_cast<float*>(a->x) + a->n * a->xD * a->xH * a->xW * a->ldx;
    const int64_t C = a->C;
    for_each_tap(a, image, [a, C](int64_t row, int64_t t, float* x) {
        if (!x) return;
        const float* src = a->panel + (row * a->T + t) * C;
        for (int64_t c = 0; c < C; c += kWidth) {
            const int n = static_cast<int>(min64(kWidth, C - c));
            store_n<kWidth>(x + c, load_n<kWidth>(x + c, n) + load_n<kWidth>(src + c, n), n);
        }
    });
}

}  // namespace
}  // namespace
