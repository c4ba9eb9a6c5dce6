// From the winner's tap in each window to its row-major position in the image, int64: a table of the taps' offsets, and where the
// window begins. -1 where a window has no tap inside.
#include "fastconv/pool/window.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

FC_INLINE int64_t position_pixels(const PoolArgs* a) { return max64(1, 4096 / max64(1, a->C)); }
FC_INLINE int64_t max_positions_u8_tiles(const PoolArgs* a) {
    return a->C == 0 ? 0 : ceil_div(a->n * a->yD * a->yH * a->yW, position_pixels(a));
}
FC_INLINE size_t max_positions_u8_scratch(const PoolArgs* a) {
    return a->adaptive ? 0 : static_cast<size_t>(a->kD * a->kH * a->kW) * sizeof(int64_t);
}

template <class Index>
FC_INLINE void max_positions(const PoolArgs* a, int64_t begin, int64_t end, int64_t* table) {
    if (!a->adaptive)
        for (int64_t d = 0; d < a->kD; ++d)
            for (int64_t h = 0; h < a->kH; ++h)
                for (int64_t w = 0; w < a->kW; ++w)
                    table[(d * a->kH + h) * a->kW + w] = (d * a->dilD * a->xH + h * a->dilH) * a->xW + w * a->dilW;
    const int64_t per = position_pixels(a), last = min64(a->n * a->yD * a->yH * a->yW, end * per);
    for (int64_t pixel = begin * per; pixel < last; ++pixel) {
        const Index* index = static_cast<const Index*>(a->index) + pixel * a->ldi;
        int64_t* to = reinterpret_cast<int64_t*>(a->y) + pixel * a->ldy;
        const int64_t w = pixel % a->yW, h = pixel / a->yW % a->yH, d = pixel / (a->yW * a->yH) % a->yD;
        const int64_t start = ((d * a->sD - a->pD) * a->xH + h * a->sH - a->pH) * a->xW + w * a->sW - a->pW;
        for (int64_t c = 0; c < a->C; ++c) {
            const int64_t tap = index[c];
            const bool none = sizeof(Index) == 1 ? tap == 255 : tap < 0;
            to[c] = none ? -1 : a->adaptive ? tap : start + table[tap];
        }
    }
}

inline void max_positions_u8_run(const PoolArgs* a, int64_t begin, int64_t end, void* scratch) {
    max_positions<uint8_t>(a, begin, end, static_cast<int64_t*>(scratch));
}
FC_INLINE int64_t max_positions_i32_tiles(const PoolArgs* a) { return max_positions_u8_tiles(a); }
FC_INLINE size_t max_positions_i32_scratch(const PoolArgs* a) { return max_positions_u8_scratch(a); }
inline void max_positions_i32_run(const PoolArgs* a, int64_t begin, int64_t end, void* scratch) {
    max_positions<int32_t>(a, begin, end, static_cast<int64_t*>(scratch));
}

}  // namespace
}  // namespace
