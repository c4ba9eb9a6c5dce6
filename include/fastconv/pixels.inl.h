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

// px[t * pitch + m]: pixel first + m at tap t, or the row of zeros.
template <class Args>
FC_INLINE void input_pointers(const Args* a, const float* x, int64_t first, int64_t count, int64_t pitch,
                              const float** px) {
    Position p = position(a, first);
    const int64_t image = a->xD * a->xH * a->xW;
    if (all_inside(a)) {
        for (int64_t m = 0; m < count; ++m, next(a, p))
            px[m] = x + (p.n * image + (p.d * a->sd * a->xH + p.h * a->sh) * a->xW + p.w * a->sw) * a->ldx;
        for (int64_t t = a->T - 1; t >= 0; --t) {
            const int32_t* o = a->taps + 3 * t;
            const int64_t shift = ((o[0] * a->xH + o[1]) * a->xW + o[2]) * a->ldx;
            for (int64_t m = 0; m < count; ++m) px[t * pitch + m] = px[m] + shift;
        }
        return;
    }
    for (int64_t m = 0; m < count; ++m, next(a, p)) {
        const int64_t d0 = p.d * a->sd, h0 = p.h * a->sh, w0 = p.w * a->sw;
        const float* base = x + p.n * image * a->ldx;
        for (int64_t t = 0; t < a->T; ++t) {
            const int32_t* o = a->taps + 3 * t;
            const int64_t d = d0 + o[0], h = h0 + o[1], w = w0 + o[2];
            const bool inside = static_cast<uint64_t>(d) < static_cast<uint64_t>(a->xD) &&
                                static_cast<uint64_t>(h) < static_cast<uint64_t>(a->xH) &&
                                static_cast<uint64_t>(w) < static_cast<uint64_t>(a->xW);
            px[t * pitch + m] = inside ? base + ((d * a->xH + h) * a->xW + w) * a->ldx : a->zeros;
        }
    }
}

// out[m] and res[m]: filter 0 of output pixel first + m.
FC_INLINE void output_pointers(const ConvArgs* a, int64_t first, int64_t count, float** out, const float** res) {
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
