// Argument structure of the depthwise family: convolutions with few channels per group, filters in the lanes.
#ifndef FASTCONV_ARGS_DEPTHWISE_H
#define FASTCONV_ARGS_DEPTHWISE_H

#include <stdint.h>

// Output point (d, h, w) of iD x iH x iW per image is output pixel (od + d * odd, ...) and reads, for tap (r, ...) of
// kD x kH x kW, input pixel (d * sd + r * dd - pd, ...); pixels outside the input are left out of the sum.
// Weights are [vector of filters][tap][channel of the group][filter]; see depthwise/depthwise.inl.h for what a vector holds.
// The kernels along rows take C = K = 1, stride 1 along the row, padding that lies in the input, and a dense input; their
// weights are [tap][channel, repeated to whole vectors], their partial sums [tap][channel].
typedef struct DepthwiseArgs {
    int64_t n;
    const float* x;
    const float* w;
    const float *bias, *residual;  // [G*K]; added before the activation; or null
    float* y;
    const float* gy;        // backward to weights: the gradient of the output (strides of y), and
    float* dw;              // partial sums, laid out as the weights, part_stride floats apart
    int64_t parts, part_stride;
    int64_t G, C, K;        // groups; channels and filters per group
    int64_t ldx, ldy, ldr;
    int64_t xD, xH, xW;
    int64_t iD, iH, iW;
    int64_t kD, kH, kW;
    int64_t sd, sh, sw;
    int64_t dd, dh, dw_;    // dilation
    int64_t pd, ph, pw;     // padding in front; may be negative
    int64_t yD, yH, yW;
    int64_t od, oh, ow;     // first output pixel
    int64_t odd, ohh, oww;  // output step
    int64_t act;
    double act_a, act_b;
} DepthwiseArgs;

#endif
