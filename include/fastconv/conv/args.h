// The argument structures of convolutions and of moving data; other families' are in the args_*.h beside this file, each of
// which is included by those who need it. Each starts with `int64_t n`, the batch of the run (set by tiles()).
// Activations are channels-last: N, D, H, W, C with a pixel stride `ld` in elements (ld >= C); D = H = 1 where a problem
// has fewer dimensions. Sizes: C input channels and K filters (both per group), G groups, T taps.
#ifndef FASTCONV_ARGS_H
#define FASTCONV_ARGS_H

#include <stdint.h>

#include "fastconv/activation.h"

// A user's array: where it is in this run, and its strides in elements.
typedef struct FcSlot {
    void* data;
    int64_t stride[5];  // N, C, D, H, W
} FcSlot;

// Between a user's strided array and a channels-last buffer, which may have a halo.
typedef struct DoorArgs {
    int64_t n;
    const FcSlot* slot;
    float* buffer;
    int64_t C, D, H, W;     // extents without halo
    int64_t ld;
    int64_t pd, ph, pw;     // halo in front of each dimension
    int64_t BD, BH, BW;     // extents of the buffer, halo included
} DoorArgs;

// Weights between the user's strided layout and [group][block of filters][tap][channel][filter in block].
// Channel index i of the packed form is run element i / C, channel i % C (a run of taps read as one row of channels);
// likewise filter index i is run element i / K, filter i % K (Linear behind Flatten, backward to data).
typedef struct PackArgs {
    int64_t n;
    float* flat;            // the user's layout
    float* packed;
    const int32_t* taps;    // [T] tap numbers in the user's layout
    int64_t G, K, C, T;
    int64_t crun, krun;
    int64_t sg, sk, sc, st; // strides of the user's layout, in elements
    int64_t scrun, skrun;   // strides of a run element
    int64_t block;          // filters per block; 0: what f32_conv_direct of this ISA reads
    int64_t parts, part_stride;  // unpack: partial sums to add up, in order
} PackArgs;

// Inference-time BatchNorm folded into the convolution before it: weights times gamma / sqrt(var + eps), per filter.
// Weights lie as [groups][outer][filters of the group][per_filter]; outer is 1 but for a transposed convolution, whose
// filters are the second axis.
typedef struct FoldArgs {
    int64_t n;
    const float *w, *bias, *gamma, *beta, *mean, *var;  // bias, gamma, beta may be null
    float *w_out, *bias_out;
    int64_t filters, per_filter, groups, outer;
    double eps;
} FoldArgs;

// A convolution as a list of taps over an iteration space iD x iH x iW per image. Iteration point (d, h, w) writes the
// output pixel (od + d*odd, ...) and reads, for tap t, the input pixel (d*sd + taps[t][0], ...); pixels outside the
// input are zero. Forward: o = 0, oo = 1, tap offset = r*dilation - padding. Backward to data: one problem per phase.
typedef struct ConvArgs {
    int64_t n;
    const float* x;
    const float* w;         // packed, see PackArgs
    const float* bias;      // [G*K] or null
    const float* residual;  // added before the activation, or null
    float* y;
    const float* zeros;     // at least C zero floats
    const int32_t* taps;    // [T][3]
    int64_t G, C, K, T;
    int64_t ldx, ldy, ldr;
    int64_t xD, xH, xW;
    int64_t iD, iH, iW;
    int64_t sd, sh, sw;
    int64_t yD, yH, yW;
    int64_t od, oh, ow;     // first output pixel
    int64_t odd, ohh, oww;  // output step
    int64_t multiplier;     // depthwise: filters per channel
    int64_t act;
    double act_a, act_b;
    float* panel;           // im2col / col2im: its rows are the pixels [panel_begin, panel_end) of the batch
    int64_t panel_begin, panel_end;
} ConvArgs;

// Backward to weights: dw[part][g][block][t][c][k] = sum over the part's pixels of x[pixel at tap t][c] * gy[pixel][k].
typedef struct ConvWeightArgs {
    int64_t n;
    const float* x;
    const float* gy;
    float* dw;
    const float* zeros;
    const int32_t* taps;
    int64_t G, C, K, T;
    int64_t ldx, ldy;
    int64_t xD, xH, xW;
    int64_t iD, iH, iW;
    int64_t sd, sh, sw;
    int64_t parts, part_stride;
    int64_t multiplier;
    int64_t swapped;        // not 0: dw[part][g][block of channels][t][k][c]
} ConvWeightArgs;

// out[i] = sum over p, in order, of part[p * part_stride + i].
typedef struct PartialArgs {
    int64_t n;
    const float* part;
    float* out;
    int64_t parts, part_stride, count;
} PartialArgs;

// out: 12 vectors per tile (the batch is the number of tiles); each lane becomes lane * a + b, `iterations` times.
typedef struct PeakArgs {
    int64_t n;
    float* out;
    int64_t iterations;
    double a, b;
} PeakArgs;


#endif
