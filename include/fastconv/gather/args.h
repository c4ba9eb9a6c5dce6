// The argument structures of the gather family: elements found by integer indices.
#ifndef FASTCONV_ARGS_GATHER_H
#define FASTCONV_ARGS_GATHER_H

#include <stdint.h>

#include "fastconv/dtypes.h"

// Where a problem's elements lie: up to 8 dimensions, outermost first; extents of 0 have no elements. Dimension `batch`, if not
// -1, has n * per_image elements. Strides are in elements, 0 repeats.
typedef struct Dims {
    int64_t rank, batch, per_image;
    int64_t shape[8];
} Dims;

// Integers that point into a dimension of a table: one of [0, extent), where `wrap` is set from -extent on. What is outside is
// never used: bad[0] becomes 1 and bad[1] the value, if there is a `bad`.
typedef struct IndexOperand {
    const void* data;      // int64 where `wide`, else int32
    int64_t strides[8];
    int64_t extent, step;  // elements of the table from one index to the next
    int64_t wide, wrap;
    int64_t* bad;
} IndexOperand;

// gather: y[o] = x[o . xs + sum over k of index_k[o . strides_k] * step_k] for each o of dims; zero where an index is outside.
// scatter: y[o . ys + sum over k of ...] op= x[o . xs], in the order of the dimensions that ys and indices leave to collide:
// [0, free) do not, nor the last one where `inner_free`; those between do, in order.
typedef struct GatherArgs {
    int64_t n;
    const char* x;
    char* y;
    Dims dims;
    int64_t xs[8], ys[8];
    int64_t count;         // of index operands
    IndexOperand index[8];
    int64_t dtype;         // of x and y
    int64_t rows;          // no index moves along the last dimension
    int64_t op;            // scatter: FcScatter
    int64_t free, inner_free;
    int64_t ranges;        // scatter: parts of the first index's extent that are tiles of their own
    int64_t piece;         // scatter: elements of the last dimension per tile, where inner_free
    int64_t skip, skips;   // scatter: a value of the first index that is left out, where `skips`
} GatherArgs;

enum FcScatter { FC_SET, FC_ADD, FC_MUL, FC_MAX, FC_MIN };

#endif
