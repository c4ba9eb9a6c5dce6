// The argument structures of the loss family: softmax and losses. A row is one pixel's C channels.
#ifndef FASTCONV_ARGS_LOSS_H
#define FASTCONV_ARGS_LOSS_H

#include <stdint.h>

// Over channels. The backward reads the output in y and the gradient in gy and writes gx.
typedef struct SoftmaxArgs {
    int64_t n;
    const float* x;
    float* y;
    const float* gy;
    float* gx;              // may be gy
    int64_t pixels, C, ldx, ldy, ldgy, ldgx;
} SoftmaxArgs;

// A tile is per_tile pixels; each leaves in part[2 * tile] the sum of its losses and the sum of what a mean divides by.
typedef struct CrossEntropyArgs {
    int64_t n;
    const float* x;         // logits
    const int64_t* target;  // [n * pixels] classes
    const float* weight;    // [C] or null
    float* loss;            // [n * pixels] or null
    float* kept;            // [n * pixels][2]: largest logit, sum of exp(logit - largest)
    double* part;
    const float* gy;        // backward: gradient of the loss, gy[pixel * gy_stride]; null: 1
    int64_t gy_stride;      // 0 for a scalar, 1 for one per pixel
    const float* norm;      // backward: one factor more, or null
    float* gx;
    int64_t pixels, C, ldx, ldgx, per_tile, ignore_index;
    double smoothing;
    const float* soft;      // in place of target: a share of each class, pixels ldt apart; every pixel counts as one
    int64_t ldt, of_target; // backward: gx is the gradient of soft
} CrossEntropyArgs;

// Squared differences; tiles and parts as above.
typedef struct SquaredErrorArgs {
    int64_t n;
    const float *x, *target;
    float* loss;            // per element or null
    double* part;
    const float* gy;        // backward: a scalar (ldgy = 0), or one per element; null: 1
    const float* norm;      // backward: one factor more, or null
    float* gx;
    int64_t pixels, C, ldx, ldt, ldl, ldgy, ldgx, per_tile;
    double factor;          // backward: 2, or -2 for the gradient of the target
} SquaredErrorArgs;

// From the parts of a loss to the loss.
typedef struct LossSumArgs {
    int64_t n;
    const double* part;
    float* loss;            // the sum, divided by the sum of divisors where mean is set
    float* norm;            // what the backward multiplies by: 1, or 1 / (sum of divisors)
    int64_t pixels, per_tile, mean;
} LossSumArgs;

#endif
