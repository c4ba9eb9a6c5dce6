// unfold and fold as torch.nn.functional has them, on channels-last buffers: y holds a row of C * T values per output
// pixel, channel c's taps together (c * T + t), which is (N, C * T, L) with its channels last. Bound by memory: one
// side is always read or written T floats apart.
#include "fastconv/simd/pixels.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// The pixel that output position p reads at tap t, or null in the padding.
FC_INLINE float* tap_pixel(const ConvArgs* a, const Position& p, int64_t t) {
    const int32_t* o = a->taps + 3 * t;
    const int64_t d = p.d * a->sd + o[0], h = p.h * a->sh + o[1], w = p.w * a->sw + o[2];
    const bool inside = d >= 0 && d < a->xD && h >= 0 && h < a->xH && w >= 0 && w < a->xW;
    return inside ? const_cast<float*>(a->x) + (((p.n * a->xD + d) * a->xH + h) * a->xW + w) * a->ldx : nullptr;
}

FC_INLINE int64_t unfold_rows(const ConvArgs* a) { return max64(1, 16384 / max64(1, a->T * a->C)); }
FC_INLINE int64_t f32_unfold_tiles(const ConvArgs* a) {
    return ceil_div(a->n * a->iD * a->iH * a->iW, unfold_rows(a));
}
FC_INLINE size_t f32_unfold_scratch(const ConvArgs*) { return 0; }

inline void f32_unfold_run(const ConvArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t last = min64(a->n * a->iD * a->iH * a->iW, end * unfold_rows(a)), T = a->T, C = a->C;
    int64_t pixel = begin * unfold_rows(a);
    if (pixel >= last) return;
    for (Position p = position(a, pixel); pixel < last; ++pixel, next(a, p))
        for (int64_t t = 0; t < T; ++t) {
            const float* x = tap_pixel(a, p, t);
            float* y = a->y + pixel * a->ldy + t;
            for (int64_t c = 0; c < C; ++c) y[c * T] = x ? x[c] : 0.0f;
        }
}

// The adjoint: adds the rows of y into x, which it zeroes first. Windows overlap, so an image is one tile.
FC_INLINE int64_t f32_fold_tiles(const ConvArgs* a) { return a->n; }
FC_INLINE size_t f32_fold_scratch(const ConvArgs*) { return 0; }

inline void f32_fold_run(const ConvArgs* a, int64_t begin, int64_t end, void*) {
    const int64_t pixels = a->xD * a->xH * a->xW, T = a->T, C = a->C, per_image = a->iD * a->iH * a->iW;
    for (int64_t i = begin * pixels; i < end * pixels; ++i)
        memset(const_cast<float*>(a->x) + i * a->ldx, 0, sizeof(float) * static_cast<size_t>(C));
    if (!per_image) return;
    int64_t pixel = begin * per_image;
    for (Position p = position(a, pixel); pixel < end * per_image; ++pixel, next(a, p))
        for (int64_t t = 0; t < T; ++t) {
            float* x = tap_pixel(a, p, t);
            if (!x) continue;
            const float* y = a->y + pixel * a->ldy + t;
            for (int64_t c = 0; c < C; ++c) x[c] += y[c * T];
        }
}

}  // namespace
}  // namespace
