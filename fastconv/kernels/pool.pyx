# cython: language_level=3
"""Steps of the pooling family.

Geometry is a dict made by ops/pool.py: channels, input, output, kernel, stride, dilation, low, high (padding in front
and behind), all but the first as (D, H, W); or, for windows that cut the input into output parts, adaptive=True without
the last five. An index is the winner's tap in its window (adaptive: its flat position in the image), one per output
value, bytes (255: none) or int32 (-1: none).
"""

from fastconv.kernels._args_pool cimport PoolArgs
from fastconv.kernels._runtime cimport Step

INDEX_BYTES = {"u8": 1, "i32": 4}
MOST_TAPS_U8 = 255  # taps 0..254, and 255 for none


cdef Step bound(str kernel, dict g, size_t x, ldx, size_t y, ldy, size_t index, ldi):
    cdef Step step = Step()
    cdef PoolArgs* a = <PoolArgs*> step.bind_name(kernel, sizeof(PoolArgs))
    one, none = (1, 1, 1), (0, 0, 0)
    a.x = <float*> x
    a.y = <float*> y
    a.index = <void*> index
    a.C = g["channels"]
    a.ldx = ldx
    a.ldy = ldy
    a.ldi = ldi
    a.xD, a.xH, a.xW = g["input"]
    a.yD, a.yH, a.yW = g["output"]
    a.kD, a.kH, a.kW = g.get("kernel", one)
    a.sD, a.sH, a.sW = g.get("stride", one)
    a.dilD, a.dilH, a.dilW = g.get("dilation", one)
    a.pD, a.pH, a.pW = g.get("low", none)
    a.qD, a.qH, a.qW = g.get("high", none)
    a.adaptive = g.get("adaptive", False)
    a.include_pad = g.get("count_include_pad", True)
    a.divisor = g.get("divisor", 0)
    return step


def max_forward(dict geometry, *, size_t x, ldx, size_t y, ldy, size_t index=0, ldi=0, index_type="u8") -> Step:
    """Max pooling; with an index, also the winner of each window, index_type "u8" or "i32"."""
    return bound(f"f32_maxpool_argmax_{index_type}" if index else "f32_maxpool", geometry, x, ldx, y, ldy, index, ldi)


def max_positions(dict geometry, *, size_t y, ldy, size_t index, ldi, index_type="u8") -> Step:
    """From the index that a max pool stored to positions in the image, int64 (y), row-major; -1 for windows without a tap."""
    return bound(f"max_positions_{index_type}", geometry, 0, 0, y, ldy, index, ldi)


def max_backward(dict geometry, *, size_t gx, ldx, size_t gy, ldy, size_t index, ldi, index_type="u8") -> Step:
    """Gradient of max pooling: writes all of gx from gy and the index that the forward stored."""
    return bound(f"f32_maxpool_backward_{index_type}", geometry, gx, ldx, gy, ldy, index, ldi)


def avg_forward(dict geometry, *, size_t x, ldx, size_t y, ldy) -> Step:
    """Average pooling; geometry may hold count_include_pad (True) and divisor (0: the number of values)."""
    return bound("f32_avgpool", geometry, x, ldx, y, ldy, 0, 0)


def avg_backward(dict geometry, *, size_t gx, ldx, size_t gy, ldy) -> Step:
    """Gradient of average pooling: writes all of gx from gy."""
    return bound("f32_avgpool_backward", geometry, gx, ldx, gy, ldy, 0, 0)
