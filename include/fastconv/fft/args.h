// Argument structures of the fft family.
#ifndef FASTCONV_ARGS_FFT_H
#define FASTCONV_ARGS_FFT_H

#include <stdint.h>

enum { FC_FFT_PASSES = 12 };

// One axis of an FFT convolution. Axes are in the transforms' order, which is the image's order (D, H, W) with the axes
// that have a single tap moved to the front: their size is 1 and they are not transformed. The last axis has the
// real-to-complex transform: its complex passes are of size / 2.
typedef struct FftAxis {
    int64_t size;               // samples of a tile's transform
    int64_t tile, tiles;        // outputs per tile (size - extent of the kernel + 1, or less); tiles per image
    int64_t span;               // samples of a tile that are read, the others are zero
    int64_t in, in_step;        // extent of what is read, and pixels between neighbours along this axis
    int64_t out, out_step;      // the same of what is written
    int64_t low;                // padding in front
    int64_t taps, dilation;
    int64_t tap_step;           // between taps in the user's weights, in elements; negative where they are flipped
    int64_t passes;
    int32_t radix[FC_FFT_PASSES];
    const float* twiddle;       // of all passes but the last, see fft/fft.inl.h
    const float* split;         // last axis: exp(-2 pi i k / size), k <= size / 4
} FftAxis;

// A spectrum is [frequency][tile][block of channels][real parts, imaginary parts], a block being a vector wide; packed
// weights, and the spectrum of their gradient, are [frequency][group][block of filters][channel][real, imaginary].
// Frequencies are those of axis 2 up to size / 2, for all those of axes 0 and 1.
typedef struct FftArgs {
    int64_t n;
    FftAxis axis[3];
    int64_t G, C, K;            // channels and filters per group
    int64_t depthwise;          // packed weights are [block][frequency][real, imaginary]; their lanes are groups
    const float* x;             // pixels that are read
    int64_t ldx, x_image;       // pixel stride; pixels per image
    float* y;                   // pixels that are written
    int64_t ldy, y_image;
    const float* gy;            // backward to weights: the gradient of the output, its pixels y_image of stride ldy
    const float* w;             // the user's weights
    float* dw;                  // or their gradient
    int64_t sg, sk, sc;         // strides of w (or of the weights' gradient), in elements
    float* packed;              // transformed weights
    float* xs;                  // spectrum of a range of tiles
    float* ys;                  // the other spectrum
    int64_t xs_pitch, ys_pitch; // floats per frequency of the spectra
    int64_t first, count;       // tiles [first, first + count) of the batch are in the spectra
    int64_t add;                // backward to weights: add to the sums in packed
    int64_t parts, part_stride; // backward to weights, depthwise
    const float* direct;        // the weights as f32_conv_direct reads them, for what is computed without transforms
    const float* zeros;         // at least C zero floats
    int32_t* bits;              // what f32_fft_weight says of them in `bit_parts` parts (conv/locality.inl.h); or null
    int64_t bit_parts;
    int32_t* note;              // [tile of the range][group]: whether the tile has quiet windows; or null
    const int32_t* loud_x;      // backward to weights: whether f32_loud_edges finds a channel's, a filter's edges loud; or null
    const int32_t* loud_y;
    int64_t groups;             // of the convolution, for that
    double share;               // a window is quiet that has less of its tile's energy
    double scale;               // on the weights: what the transforms leave out
    const float* bias;          // [G * K] or null
    const float* residual;
    int64_t ldr;
    int64_t act;
    double act_a, act_b;
} FftArgs;

#endif
