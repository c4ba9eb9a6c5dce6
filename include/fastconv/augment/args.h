// The argument structure of augmentation (see args.h for the conventions).
#ifndef FASTCONV_ARGS_AUGMENT_H
#define FASTCONV_ARGS_AUGMENT_H

#include <stdint.h>

// What is done to an image, a number each, followed by its parameters (fastconv/kernels/augment.pyx has the same list):
//   warp      height, width of the result, 9 of a matrix from its pixels to those of the image (x, y, 1), mode (nearest, bilinear,
//             bicubic), border (filled, edge, reflected, symmetric), value of each channel to fill in
//   resize    height, width of the result, top, left, height, width of the part of the image, cubic: antialiased
//   brightness, contrast, saturation factor; hue shift (turns); gray; invert; solarize threshold; posterize bits; autocontrast;
//   equalize; sharpness factor
//   blur      taps along y, along x, their weights
//   erase     top, left, height, width, value of each channel
//   affine    for each channel what it is multiplied with, then what is added
enum {
    kAugmentWarp, kAugmentResize, kAugmentBrightness, kAugmentContrast, kAugmentSaturation, kAugmentHue, kAugmentGray,
    kAugmentInvert, kAugmentSolarize, kAugmentPosterize, kAugmentAutocontrast, kAugmentEqualize, kAugmentSharpness,
    kAugmentBlur, kAugmentErase, kAugmentAffine
};

typedef struct AugmentArgs {
    int64_t n;
    const void* x;
    void* y;
    const float* program;   // of image i: [start[i], start[i + 1])
    const int64_t* start;
    int64_t C, H, W;        // of x
    int64_t oH, oW;         // of y
    int64_t xs[4], ys[4];   // N, C, H, W
    int64_t x_u8, y_u8;     // bytes: whole numbers up to 255; else floats, to 1 where a step keeps within a range
    int64_t room;           // pixels of the largest image between two steps
    int64_t lines;          // floats that steps need beside their images
} AugmentArgs;

#endif
