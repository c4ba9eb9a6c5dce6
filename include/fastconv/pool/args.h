// The argument structure of the pooling family (see args.h for the conventions).
#ifndef FASTCONV_ARGS_POOL_H
#define FASTCONV_ARGS_POOL_H

#include <stdint.h>

// Pooling from x (N, xD, xH, xW, C) to y (N, yD, yH, yW, C); in the backward kernels x is the gradient of the input,
// which is written, and y the gradient of the output. Window o of an axis reads o*s - p + k*dil, k < K, where that is
// inside the input; an adaptive one reads from floor(o*in/out) to ceil((o+1)*in/out).
typedef struct PoolArgs {
    int64_t n;
    float* x;
    float* y;
    void* index;  // [pixels of y][ldi], uint8_t or int32_t: the winner's tap (adaptive: its flat index in the image)
    int64_t C, ldx, ldy, ldi;
    int64_t xD, xH, xW, yD, yH, yW;
    int64_t kD, kH, kW, sD, sH, sW, dilD, dilH, dilW;
    int64_t pD, pH, pW;  // padding in front
    int64_t qD, qH, qW;  // padding behind: only the divisor of an average depends on it
    int64_t adaptive;
    int64_t include_pad;  // averages: padding counts
    int64_t divisor;      // averages: what to divide by; 0: the number of values
} PoolArgs;

#endif
