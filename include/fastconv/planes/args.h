// The planes family: float32 as one to three bfloat16 planes, and convolutions over them. A plane element is the upper half
// of a float32.
#ifndef FASTCONV_ARGS_PLANES_H
#define FASTCONV_ARGS_PLANES_H

#include "fastconv/conv/args.h"

// x = h + m + l: planes[p * plane_stride + pixel * ldp + c]. Elements C..ldp-1 of a pixel become zero.
typedef struct SplitArgs {
    int64_t n;
    const float* x;
    uint16_t* planes;
    int64_t pixels;         // per image
    int64_t C, ldx, ldp;    // ldp even
    int64_t count;          // planes: 1 to 3
    int64_t plane_stride;   // in elements
} SplitArgs;

// Weights from the user's layout into [group][16 filters][step of 32][plane][pair][filter][2]. A step is 32 elements of
// the reduction (tap, channel), in order; every tap has an even number of them, the last step is filled with zeros. Run
// element r of a tap holds `row` channels in the split image, of which C exist.
struct PlanePackArgs : PackArgs {
    uint16_t* out;
    int64_t planes, row;
};

// A convolution over split operands. In the base: x is the split image as floats (ldx = ldp / 2), w the packed planes,
// C the elements that one tap reads.
struct PlaneConvArgs : ConvArgs {
    int64_t planes, plane_stride;
    // The result split as well, for a convolution that reads it next: as SplitArgs has it, pixel i of y is pixel i here.
    uint16_t* split;        // or null
    int64_t split_count, split_ldp, split_stride;
    int64_t split_alone;    // not 0: y is not stored
};

// Backward to weights over split operands, x and gy as in PlaneConvArgs (ldy = ldp / 2 as well):
// dw[part][group][16 filters][tap][channel][filter].
struct PlaneWeightArgs : ConvWeightArgs {
    int64_t planes, x_plane_stride, gy_plane_stride;
};

#endif
