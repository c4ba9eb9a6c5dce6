// The argument structures of the reduce family.
#ifndef FASTCONV_ARGS_REDUCE_H
#define FASTCONV_ARGS_REDUCE_H

#include <stdint.h>

#include "fastconv/dtypes.h"

enum { FC_AXES = 8 };

// What is made of the elements of a result. FC_DOT: sum of x * z, of x * x where z is null. FC_MOMENTS: mean, and sum of squared distances from it.
enum FcReduction { FC_SUM, FC_DOT, FC_PROD, FC_MAX, FC_MIN, FC_ARGMAX, FC_ARGMIN, FC_LOGSUMEXP, FC_MOMENTS };

// What is done to x first: NaN to zero; 1 for what is no NaN, or not zero, and 0 for the rest.
enum FcBefore { FC_PLAIN, FC_ABS, FC_POWER, FC_NONZERO, FC_NAN_TO_ZERO, FC_NUMBER };

// What becomes of the reduction: FC_ROOT value^(1/p); FC_INDEX int64 index (y2: the value), FC_COUNT int64, FC_TRUTH bool;
// FC_VAR, FC_STD, FC_RSTD of moments (y2: the mean; 1 / sqrt(M2 / count + eps)).
enum FcFinish { FC_VALUE, FC_MEAN, FC_SQRT, FC_ROOT, FC_INDEX, FC_COUNT, FC_TRUTH, FC_VAR, FC_STD, FC_RSTD };

// How the elements of a result are taken: one result after another, lanes along the reduction; or many results side by side,
// a row of them (where they lie at a distance: copied together) after the other, turned in registers where the reduction's
// elements lie side by side.
enum FcOrder { FC_ONE_BY_ONE, FC_SIDE_BY_SIDE, FC_TURNED };

typedef struct FcAxis {
    int64_t extent;
    int64_t per_image;      // > 0: the extent is n * per_image
    int64_t x, z, y, y2;    // strides in elements
} FcAxis;

// y[kept] = reduction of x[kept, reduced]; the last axis of each is the inner one.
typedef struct ReduceArgs {
    int64_t n;
    const void *x, *z;      // z: may be null
    void *y, *y2;           // y2 may be null
    float* part;            // parts > 1: states, [part][field][result]
    int64_t parts, per_part;  // ranges of the reduced elements of each result
    int64_t lanes;          // results side by side at most
    int64_t pack;           // rows of results taken as one, as they lie one behind the other
    int64_t spread;         // elements of each result that lie side by side in a row, beside the axes of `reduced`
    int64_t order, reduction, before, finish;
    int64_t dtype_x, dtype_z;  // FcDtype; all are read as floats
    int64_t kept_rank, reduced_rank;
    FcAxis kept[FC_AXES], reduced[FC_AXES];
    double p, correction, eps;
    double count;           // not 0: what a mean is divided by, whose elements are sums of some
} ReduceArgs;

#endif
