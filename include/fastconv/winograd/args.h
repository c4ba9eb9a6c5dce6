// The argument structures of the Winograd kernels (winograd/winograd.inl.h). Extents and pixel strides are given in the roles
// depth, height, width; a kernel of 3 x 1 exchanges height and width. R is the number of taps along the depth (1 for 1-D
// and 2-D); along the height there are 3 taps, or 1 where `mh` is 1, and along the width there are 3.
#ifndef FASTCONV_ARGS_WINOGRAD_H
#define FASTCONV_ARGS_WINOGRAD_H

#include <stdint.h>

// Where a tensor's pixels are: pixel (d, h, w) of image n is n * image + d * step[0] + h * step[1] + w * step[2].
typedef struct WinogradPixels {
    int64_t extent[3];
    int64_t step[3];
    int64_t image;
    int64_t ld;             // floats between two pixels
} WinogradPixels;

// y[pixel][k] = act(bias + residual + sum over taps and channels of x[pixel + origin + tap][c] * w[tap][c][k]), stride 1.
typedef struct WinogradArgs {
    int64_t n;
    const float* x;
    const float* u;         // transformed weights, see WinogradWeightArgs
    const float* w;         // the same weights as f32_conv_direct reads them, for what is computed without transforms
    const int32_t* bits;    // what f32_winograd_weight says of them in `bit_parts` parts; or null
    int64_t bit_parts;
    double share;           // windows with less of their tile's energy are computed without transforms; 0: none
    const float* bias;      // [G*K] or null
    const float* residual;  // added before the activation, or null
    float* y;
    const float* zeros;     // at least C zero floats
    WinogradPixels px, py;
    int64_t ldr;
    int64_t G, C, K, R;
    int64_t mh, mw;         // outputs of a tile: 4 x 4, 2 x 2, 1 x 4 or 1 x 2
    int64_t origin[3];      // the input pixel of the first tap of output pixel (0, 0, 0): minus the padding
    int64_t tiles;          // Winograd tiles per tile of the problem
    int64_t blocks;         // blocks of filters per tile of the problem
    int64_t chunk;          // channels per partial sum (a multiple of the vector), or 0: one sum over all
    int64_t act;
    double act_a, act_b;
} WinogradArgs;

// Weights as f32_conv_direct reads them, [group][block of filters][tap][channel][filter], to G w G^T:
// [group][element of the tile][block of filters][tap along the depth][channel][filter].
typedef struct WinogradWeightArgs {
    int64_t n;
    const float* w;
    float* u;
    int32_t* bits;          // per tile of the problem three numbers: conv/locality.inl.h; or null
    int64_t G, C, K, R, mh, mw;
} WinogradWeightArgs;

// Backward to weights: the part's gradient in the layout of f32_conv_backward_weight.
typedef struct WinogradGradientArgs {
    int64_t n;
    const float* x;
    const float* gy;
    float* dw;
    const float* zeros;     // at least max(C, K) zero floats
    WinogradPixels px, py;
    int64_t G, C, K, R, mh, mw;
    int64_t origin[3];
    int64_t tiles;          // Winograd tiles per run
    int64_t channels;       // channels per tile of the problem
    int64_t blocks;         // blocks of filters per tile of the problem
    int64_t parts, part_stride;  // ranges of Winograd tiles; floats between their results
    const int32_t* loud_x;  // per channel and filter whether f32_loud_edges finds its edges loud; or null
    const int32_t* loud_y;
} WinogradGradientArgs;

// loud[c]: whether channel c has more than kEdge (winograd/edges.inl.h) times the energy outside the box low .. high - 1 than inside.
typedef struct EdgeArgs {
    int64_t n;
    const float* x;
    int64_t ld, C;
    int64_t extent[3], low[3], high[3];
    int64_t step;           // one row in so many is read of the box
    int32_t* loud;
} EdgeArgs;

#endif
