// The argument structure of copies between views (see args.h for the conventions).
#ifndef FASTCONV_ARGS_COPY_H
#define FASTCONV_ARGS_COPY_H

#include <stdint.h>

#include "fastconv/dtypes.h"

#include "fastconv/conv/args.h"

// The dtypes of views, numbered as fastconv/kernels/copy.pyx numbers them.

// y[i0, i1, ...] = x[i0, i1, ...]; f32_copy_add: y += x, where places of y may coincide: what falls into one is added in the
// order of the indices, the dimensions by falling strides of y.
typedef struct CopyArgs {
    int64_t n;
    const void* x;
    void* y;
    const FcSlot* slot;     // a user's array of five dimensions in the place of x or, if `out`, of y; else null
    int64_t out;
    int64_t dims;           // 0 to 8
    int64_t batched;        // dimension 0 is the batch of the run
    int64_t extent[8];
    int64_t sx[8], sy[8];   // bytes: any sign; 0 repeats (of y: f32_copy_add alone)
    int64_t from, to;       // FcDtype; where they differ `cast` converts
} CopyArgs;

#endif
