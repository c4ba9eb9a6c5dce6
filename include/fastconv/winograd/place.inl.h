// Where Winograd tiles lie: in the output, in the input, in scratch.
#ifndef FASTCONV_WINOGRAD_PLACE_INL_H
#define FASTCONV_WINOGRAD_PLACE_INL_H

#include "fastconv/simd/blocks.inl.h"

namespace FC_CAT2(fc_, FC_ISA) {
namespace {

// One Winograd tile: the pixels of its first input and output (which may lie outside), and what of its output exists.
struct WinogradPlace {
    int64_t image, d, h, w;  // output position
    int64_t rows, columns;
};

// How an output is cut into Winograd tiles.
struct WinogradGrid {
    int64_t elements, th, tw, tiles;
};

FC_INLINE int64_t winograd_elements(int64_t m) { return m == 1 ? 1 : m + 2; }

FC_INLINE WinogradGrid winograd_grid(int64_t n, const WinogradPixels& y, int64_t mh, int64_t mw) {
    const int64_t th = ceil_div(y.extent[1], mh), tw = ceil_div(y.extent[2], mw);
    return {winograd_elements(mh) * winograd_elements(mw), th, tw, n * y.extent[0] * th * tw};
}

// Floats of a plane that has to hold so many: an odd number of lines, so that the lines of one tile in all planes fall into
// different sets of the first-level cache.
FC_INLINE int64_t winograd_plane(int64_t floats) { return (ceil_div(floats, 16) | 1) * 16; }

// Filters of one group in U: the last block is one or two vectors wide.
FC_INLINE int64_t winograd_filters(int64_t K) { return ceil_div(K, kWidth) * kWidth; }

FC_INLINE WinogradPlace winograd_place(const WinogradGrid& grid, const WinogradPixels& y, int64_t mh, int64_t mw, int64_t tile) {
    const int64_t w = tile % grid.tw * mw, row = tile / grid.tw, h = row % grid.th * mh, plane = row / grid.th;
    return {plane / y.extent[0], plane % y.extent[0], h, w, min64(mh, y.extent[1] - h), min64(mw, y.extent[2] - w)};
}

// The number of the output pixel (i, j) of a tile.
FC_INLINE int64_t winograd_output(const WinogradPixels& y, const WinogradPlace& p, int64_t i, int64_t j) {
    return p.image * y.image + p.d * y.step[0] + (p.h + i) * y.step[1] + (p.w + j) * y.step[2];
}

FC_INLINE const float* winograd_pixel(const WinogradPixels& in, const float* x, const float* zeros, int64_t image, int64_t d,
                                      int64_t h, int64_t w) {
    if (d < 0 || d >= in.extent[0] || h < 0 || h >= in.extent[1] || w < 0 || w >= in.extent[2]) return zeros;
    return x + (image * in.image + d * in.step[0] + h * in.step[1] + w * in.step[2]) * in.ld;
}

// px[i * columns + j]: pixel (d, h + i, w + j), or the row of zeros.
FC_INLINE void winograd_pointers(const WinogradPixels& in, const float* x, const float* zeros, int64_t image, int64_t d,
                                 int64_t h, int64_t w, int64_t rows, int64_t columns, const float** px) {
    const bool depth = d >= 0 && d < in.extent[0];
    const int64_t column = in.step[2] * in.ld;
    for (int64_t i = 0; i < rows; ++i, px += columns) {
        const bool inside = depth && h + i >= 0 && h + i < in.extent[1];
        const float* row = inside ? x + (image * in.image + d * in.step[0] + (h + i) * in.step[1]) * in.ld : zeros;
        for (int64_t j = 0; j < columns; ++j)
            px[j] = inside && w + j >= 0 && w + j < in.extent[2] ? row + (w + j) * column : zeros;
    }
}

}  // namespace
}  // namespace
#endif
