// The argument structures of the select family: what depends on an order of values.
#ifndef FASTCONV_ARGS_SELECT_H
#define FASTCONV_ARGS_SELECT_H

#include <stdint.h>

#include "fastconv/gather/args.h"

enum FcSelect { FC_SORT, FC_TOPK, FC_KTH, FC_MEDIAN, FC_NANMEDIAN, FC_MODE };

// Lines of `length` elements, one for each position of dims, are ordered, equal ones as they lie, NaN as the largest; the first
// `count` are written as values, as indices, or both. FC_KTH and those after it write one: the k-th, and so on.
typedef struct SortArgs {
    int64_t n;
    const char* x;
    char* values;           // or null
    int64_t* indices;       // or null
    Dims dims;
    int64_t xs[8], vs[8], ns[8];
    int64_t length, xl, vl, il;  // strides along a line
    int64_t dtype, what, count, k, descending;
} SortArgs;

// For each position of dims, the first of `length` ascending elements of its line that is not less than (or, where `right`, that is
// greater than) its value.
typedef struct SearchArgs {
    int64_t n;
    const char* x;          // lines
    const char* v;          // values
    const int64_t* sorter;  // positions by which the line ascends, or null
    char* y;                // int64 where `wide`, else int32
    Dims dims;
    int64_t xs[8], vs[8], ys[8], ss[8];
    int64_t length, xl, sl;
    int64_t dtype, right, wide;
} SearchArgs;

// Boxes (x1, y1, x2, y2) by falling score; each drops those behind it, of its class, that overlap it by more than `threshold`.
typedef struct NmsArgs {
    int64_t n;
    const float* boxes;
    const float* scores;
    const int64_t* classes; // or null
    int64_t* keep;          // [boxes] indices of what stays, in that order
    int64_t* kept;          // [1] how many
    int64_t count;
    float threshold;
} NmsArgs;

#endif
