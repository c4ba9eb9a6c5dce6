# cython: language_level=3
"""Steps of augmentation: programs of images (augment/args.h)."""

from libc.stdint cimport int64_t

from fastconv.kernels._args_augment cimport AugmentArgs
from fastconv.kernels._runtime cimport Step

OPS = ("warp", "resize", "brightness", "contrast", "saturation", "hue", "gray", "invert", "solarize", "posterize",
       "autocontrast", "equalize", "sharpness", "blur", "erase", "affine")


def augment(*, tuple x, tuple y, shape, size, size_t program, size_t start, room, lines) -> Step:
    """y (N, C, *size) from x of this ``shape`` (N, C, H, W), operands (address, strides, dtype) of float32 or uint8.

    ``program`` and ``start`` are addresses of float32 and int64 values that the caller keeps; ``room`` and ``lines`` what
    images between two steps take at most: pixels, and floats of work beside them. uint8 becomes float32 by an "affine" alone.
    """
    cdef Step step = Step()
    cdef AugmentArgs* a = <AugmentArgs*> step.bind_name("augment", sizeof(AugmentArgs))
    a.x, a.y, a.x_u8, a.y_u8 = <const void*> <size_t> x[0], <void*> <size_t> y[0], x[2] == "uint8", y[2] == "uint8"
    a.C, a.H, a.W = shape[1:]
    a.oH, a.oW = size
    a.program, a.start = <const float*> program, <const int64_t*> start
    a.room, a.lines = room, lines
    for i in range(4):
        a.xs[i], a.ys[i] = x[1][i], y[1][i]
    return step
