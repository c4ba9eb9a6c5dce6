// The arguments of scans: cumulative reductions along one axis.
#ifndef FASTCONV_ARGS_SCAN_H
#define FASTCONV_ARGS_SCAN_H

#include "fastconv/reduce/args.h"

enum FcScan { FC_CUMSUM, FC_CUMPROD, FC_CUMMAX, FC_CUMMIN, FC_LOGCUMSUMEXP };

// y[kept, i] = reduction of x[kept, 0 .. i]; y2: for FC_CUMMAX, FC_CUMMIN where the value is (int64), the last of equal ones.
typedef struct ScanArgs {
    int64_t n;
    const void* x;
    float* y;
    int64_t* y2;
    int64_t scan, dtype_x, backwards;  // backwards: from the last element on
    int64_t kept_rank;
    FcAxis along;
    FcAxis kept[FC_AXES];
} ScanArgs;

#endif
