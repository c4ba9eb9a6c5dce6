// Argument structures of the matrix products.
#ifndef FASTCONV_ARGS_MATMUL_H
#define FASTCONV_ARGS_MATMUL_H

#include <stdint.h>

#define FC_MATMUL_DIMS 8

// Which extent is that of an image, times the batch of the run.
enum { FC_VARY_NONE, FC_VARY_BATCH, FC_VARY_ROWS, FC_VARY_COLUMNS, FC_VARY_SUM, FC_VARY_OUTER };

// How b is read: where it lies (columns next to each other), from what f32_matmul_pack made of it, packed on the way, where it
// lies with the lanes along the sum, or where it lies in long pieces of its rows.
enum { FC_B_DIRECT, FC_B_PACKED, FC_B_SCRATCH, FC_B_DOT, FC_B_THIN };

// c[i][m][n] = act(alpha * sum over e, k of a[i][e][m][k] * b[i][e][k][n] + beta * d[i][m][n]) for every i of the batch; any strides,
// 0 repeats. With several parts the sum over e (`part_outer`) or k is cut into parts of `part` each; c is then
// c[p][i][m][n], and f32_matmul_sum adds them up.
typedef struct MatmulArgs {
    int64_t n;
    const float *a, *b, *d;  // d may be null
    float* c;
    int64_t vary;
    int64_t dims, extent[FC_MATMUL_DIMS];
    int64_t a_step[FC_MATMUL_DIMS], b_step[FC_MATMUL_DIMS], c_step[FC_MATMUL_DIMS], d_step[FC_MATMUL_DIMS];
    int64_t M, N, K, E;
    int64_t a_row, a_column, b_row, b_column, c_row, c_column, d_row, d_column, a_sum, b_sum;
    int64_t b_how, chunk, group;  // rows and blocks of columns that are one item of the work
    int64_t pack_a, stage;        // a is copied into panels; sums rest in scratch between runs, not in c
    int64_t parts, part, c_part, part_outer;  // part_outer: of e
    int64_t accumulate;           // to what c holds; then alpha is 1 and there is neither d nor act
    int64_t act;
    double alpha, beta, act_a, act_b;
} MatmulArgs;

#endif
