// The argument structures of batch normalisation, and of that of rows.
//
// `part` is a work buffer of double[parts][2][C], one row pair per range of per_part pixels. `stats` is float[5][C]:
// mean (rounded), what the rounding took away, 1 / standard deviation, scale, shift; the output is
// (x - mean) * scale + shift, exact to rounding even where the mean is far larger than the deviation.
// Normalisation of groups of channels has its own of each image, [n][5][C], and `image_parts` ranges of each.
#ifndef FASTCONV_ARGS_NORM_H
#define FASTCONV_ARGS_NORM_H

#include <stdint.h>

enum FcNormStats { FC_NORM_MEAN, FC_NORM_LOW, FC_NORM_RSTD, FC_NORM_SCALE, FC_NORM_SHIFT, FC_NORM_ROWS };

// part[p] = mean and sum of squared deviations of the p-th range of pixels, per channel.
typedef struct NormStatisticsArgs {
    int64_t n;
    const float* x;
    double* part;
    int64_t pixels;  // per image
    int64_t C, ld, per_part;
    int64_t image_parts;  // 0: ranges go on over images
} NormStatisticsArgs;

// From the parts, or from the running statistics, to stats.
typedef struct NormMergeArgs {
    int64_t n;
    const double* part;
    const float *gamma, *beta;             // may be null: 1 and 0
    float *running_mean, *running_var;     // merge: updated, may be null; fixed: read
    const int64_t* batches;                // batches before this one, for the cumulative average
    float* stats;
    int64_t pixels, C, per_part;
    double eps;
    double momentum;                       // below 0: the cumulative average
} NormMergeArgs;

// y = act((x - mean) * scale + shift + residual)
typedef struct NormApplyArgs {
    int64_t n;
    const float* x;
    const float* stats;
    const float* residual;  // or null
    float* y;
    int64_t* batches;       // counted up by one, or null
    int64_t pixels, C, ldx, ldy, ldr;
    int64_t own;            // not 0: statistics of each image
    int64_t act;
    double act_a, act_b;
} NormApplyArgs;

// The backward pass; g is gy, or 0 where the activation behind the normalisation (relu or clip, none) let nothing through.
typedef struct NormBackwardArgs {
    int64_t n;
    const float *x, *gy, *stats;
    double* part;           // sums of g and of g * (x - mean)
    float* coef;            // [2][C], of each image where image_parts: gx = g * scale - (x - mean) * coef[1] - coef[0]
    float *ggamma, *gbeta;  // or null
    float* gx;
    int64_t pixels, C, ldx, ldg, ldgx, per_part;
    int64_t image_parts;    // not 0: statistics of each image, as above
    int64_t training;       // 0: the statistics are constants
    int64_t act;
    double act_a, act_b;
} NormBackwardArgs;

// From the parts of each image to its stats, groups of C / groups channels together; backward, to coef, and in the place of an
// image's first part to its share of the gradients of gamma and beta, which are added up next.
typedef struct GroupNormArgs {
    int64_t n;
    double* part;
    const float *gamma, *beta;  // may be null: 1 and 0
    float *stats, *coef;        // coef may be null
    float *ggamma, *gbeta;      // or null
    int64_t pixels, C, groups, per_part, image_parts;
    double eps;
} GroupNormArgs;

// Rows of C values, each normalised by its own statistics; n * rows of them.
typedef struct RowNormArgs {
    int64_t n;
    const float *x, *gy, *weight, *bias;  // the last two may be null
    float* y;                             // backward: gx, or null where there is `part`
    float *mean, *rstd;                   // per row; mean where centred
    float* part;                          // backward: per range of rows the sums of gy * x^ and of gy, [2][C]; or null
    float *gweight, *gbias;               // of the merge; either may be null
    int64_t rows, C, ldx, ldg, ldy, per_part;
    int64_t run, cycle;                   // forward: values in a run with one weight; rows after which the weights begin anew
    int64_t centred;                      // not 0: the mean is taken away
    double eps;
} RowNormArgs;

#endif
