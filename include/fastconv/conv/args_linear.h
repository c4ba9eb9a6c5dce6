// The argument structure of f32_linear (see args.h for the conventions).
#ifndef FASTCONV_ARGS_LINEAR_H
#define FASTCONV_ARGS_LINEAR_H

#include <stdint.h>

// y[row][k] = act(sum over c of x[row][c] * w[k][c] + bias[k] + residual[row][k]); one row per image.
typedef struct LinearArgs {
    int64_t n;
    const float* x;
    const float* w;         // packed: [block of filters][channel][filter in block], as f32_conv_direct's with one tap
    const float *bias, *residual;  // may be null
    float* y;
    int64_t C, K;
    int64_t ldx, ldy, ldr;
    int64_t act;
    double act_a, act_b;
} LinearArgs;

#endif
