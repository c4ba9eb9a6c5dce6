// Argument structures of the kernels that measure what the machine can do.
#ifndef FASTCONV_ARGS_PEAK_H
#define FASTCONV_ARGS_PEAK_H

#include <stdint.h>

// A tile owns x[tile * floats ...] and reads it `iterations` times. `y` null: out[tile] becomes the sum of all that was
// read. Otherwise each reading is copied to y[tile * floats ...]. The batch is the number of tiles.
typedef struct BandwidthArgs {
    int64_t n;
    const float* x;
    float* y;
    float* out;
    int64_t floats, iterations;
} BandwidthArgs;

#endif
