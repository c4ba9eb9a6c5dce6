// The argument structure of padding (see args.h for the conventions).
#ifndef FASTCONV_ARGS_PAD_H
#define FASTCONV_ARGS_PAD_H

#include <stdint.h>

// Padding and cropping from x (N, xD, xH, xW, X) to y (N, yD, yH, yW, Y); in the backward kernel x is the gradient of the
// input, which is written, and y the gradient of the output. Per axis a list says where values come from: forward, for
// each output coordinate the input's, or -1 for the constant; backward, for input coordinate i the output's, at
// [start[i], start[i + 1]) of the list, in the order in which they are added.
typedef struct PadArgs {
    int64_t n;
    float* x;
    float* y;
    const int32_t *d, *h, *w;
    const int32_t *start_d, *start_h, *start_w;  // backward
    int64_t X, Y;     // channels of x and y
    int64_t C;        // channels that both have, from cx on in x and from cy on in y
    int64_t cx, cy;
    int64_t ldx, ldy;
    int64_t xD, xH, xW, yD, yH, yW;
    double value;     // the constant
} PadArgs;

#endif
