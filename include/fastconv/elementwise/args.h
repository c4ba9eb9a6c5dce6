// The argument structures of the elementwise family. An operand is n images of `pixels` pixels of C channels.
#ifndef FASTCONV_ARGS_ELEMENTWISE_H
#define FASTCONV_ARGS_ELEMENTWISE_H

#include <stdint.h>

// y = f(x), or y = f(x, z): a backward, where x is the gradient of the output and z what the forward kept.
typedef struct MapArgs {
    int64_t n;
    const float* x;
    const float* z;         // or null
    float* y;               // may be x or z
    int64_t fixed_n;        // images whatever the batch of the run; 0: the batch
    int64_t pixels, C, ldx, ldz, ldy;
    double a, b;            // constants of f
} MapArgs;

// Where element (image, pixel, channel) of an operand lies; a stride of 0 repeats it. channel is 0 or 1.
typedef struct FcStride {
    int64_t image, pixel, channel;
} FcStride;

// y = f(x, z), each operand broadcast as its strides say.
typedef struct BroadcastArgs {
    int64_t n;
    const float *x, *z;
    float* y;               // may be an operand that is not broadcast
    FcStride sx, sz;
    int64_t fixed_n;        // as in MapArgs
    int64_t pixels, C, ldy;
    double alpha;           // f32_add: x + alpha * z
} BroadcastArgs;

// y = sum of x, or of x * z, over the axes that are not kept; y holds kept images * kept pixels * parts rows: `parts` sums of
// per_part rows each instead of one.
typedef struct SumArgs {
    int64_t n;
    const float *x, *z;     // z may be null
    float* y;
    FcStride sx, sz;
    int64_t fixed_n;        // as in MapArgs
    int64_t pixels, C, ldy;
    int64_t parts, per_part;
    int64_t keep_images, keep_pixels, keep_channels;
} SumArgs;

// What the random numbers of a run are made from.
typedef struct FcRandomState {
    uint64_t seed, offset;
} FcRandomState;

// y = x * mask: the forward on activations, the backward on gradients.
typedef struct DropoutArgs {
    int64_t n;
    const float* x;
    float* y;               // may be x
    const FcRandomState* state;
    int64_t pixels, C, ldx, ldy;
    int64_t stream;         // tells the dropouts of one network apart, 0 .. 65535
    double p;
} DropoutArgs;

// state = source, and source->offset grows by one: each forward run draws its own numbers, its backward the same again.
typedef struct DrawArgs {
    int64_t n;
    FcRandomState *source, *state;
} DrawArgs;

#endif
