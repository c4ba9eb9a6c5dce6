// The argument structures of resampling and of sampling by coordinates (see args.h for the conventions). Strides are in
// elements and may have any sign; dimension 0 is the run-time batch where `batched` says so.
#ifndef FASTCONV_ARGS_RESAMPLE_H
#define FASTCONV_ARGS_RESAMPLE_H

#include <stdint.h>

enum { kResampleAxes = 8 };
enum { kSummed, kSummedSome, kMoved, kMovedSome };

// A dimension of what is written. Coordinate i is a weighted sum over coordinates of what is read: taps [start[i], start[i+1])
// of index and weight; start null: over itself, with weight 1.
typedef struct ResampleAxis {
    int64_t size, xs, ys;
    const int32_t* start;
    const int32_t* index;
    const float* weight;
} ResampleAxis;

// A vector of outputs of a row whose neighbours are contiguous: tap t of its lane l is at base + lanes[t][l].
typedef struct ResampleBlock {
    int32_t base;   // first element, from the part's first
    int32_t taps;
    int32_t kind;   // 0, 1: all within one, two vectors from base on; 2: gathered, lanes count from the part's first
    int32_t use;    // of its lanes: each has all taps; some have fewer; one each, of weight 1; one of weight 1 or none
    int64_t at;     // its first vector in lanes and weights
} ResampleBlock;

// Rows: the outer axes, then W pixels of C contiguous values (pixels), or W values (blocks not null). A row is cut into
// parts of `step` outputs, which read pixels [low[part], high[part]).
typedef struct ResampleArgs {
    int64_t n;
    const void* x;
    void* y;
    ResampleAxis axis[kResampleAxes];  // outer axes, slowest first
    ResampleAxis row;
    int64_t outer, batched, most;      // most: taps of all outer axes together, at most
    int64_t C, xW, step, parts, span;  // span: pixels that a part reads, at most
    const int32_t *low, *high;
    const ResampleBlock* blocks;
    const int32_t* lanes;
    const float* weights;
    const float* empty;                // [W rounded up to vectors] what a value without taps is; null: all have some
    int64_t x_u8, y_u8;
    int64_t fused;                     // pixels: rows and the taps along them are summed at once
    double fill;                       // what a value without taps is
} ResampleArgs;

// Values at coordinates: grid (N, spatial of y..., dims) in [-1, 1], x first. y (N, C, yD, yH, yW) from x; to data x is the
// gradient, written, and y that of the output; to the grid `ggrid` is written.
typedef struct SampleArgs {
    int64_t n;
    float* x;
    float* y;
    const float* grid;
    float* ggrid;
    int64_t C, dims, mode, padding, align;   // mode: bilinear, nearest, bicubic; padding: zeros, border, reflection
    int64_t N, batched;
    int64_t xD, xH, xW, yD, yH, yW;
    int64_t xs[5], ys[5], gs[5], ggs[5];     // N, C, D, H, W; of grids N, D, H, W, coordinate
} SampleArgs;

// Regions of interest (K, 5): image, x1, y1, x2, y2. y (K, C, yH, yW). To data x is the gradient, written.
typedef struct RoiArgs {
    int64_t n;
    float* x;
    float* y;
    const float* rois;
    const float* features;                   // gradient of pooling: what was pooled
    int64_t N, batched, K, C, xH, xW, yH, yW;
    int64_t xs[4], ys[4], fs[4], rs[2];      // K or N, C, H, W
    int64_t samples, aligned, mode;          // samples <= 0: as many as the bin has pixels; mode: average, maximum
    double scale;
} RoiArgs;

#endif
