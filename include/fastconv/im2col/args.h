// Argument structures of the im2col family; im2col and col2im themselves take ConvArgs.
#ifndef FASTCONV_ARGS_IM2COL_H
#define FASTCONV_ARGS_IM2COL_H

#include <stdint.h>

// c (M x N, row stride ldc) = a (M x K) times b (K x N), added to c where `accumulate` is set. Both strides of a and b
// are free, so a transposed operand is one with its strides exchanged.
typedef struct GemmArgs {
    int64_t n;
    const float *a, *b;
    float* c;
    int64_t M, N, K;
    int64_t a_row, a_column, b_row, b_column, ldc;
    int64_t accumulate;
} GemmArgs;

// y[row][c] = activation(x[row][c] + bias[c] + residual[row][c]); x may be y.
typedef struct EpilogueArgs {
    int64_t n;
    const float *x, *bias, *residual;  // bias, residual may be null
    float* y;
    int64_t rows, C, ldx, ldy, ldr;  // rows per image
    int64_t act;
    double act_a, act_b;
} EpilogueArgs;

#endif
