# cython: language_level=3
"""Steps of padding. `channels` is (of x, of y, that both have, first in x, first in y); `input` and `output` are (D, H, W)."""

from itertools import accumulate

from fastconv.kernels._args_pad cimport PadArgs
from fastconv.kernels._runtime cimport Step


cdef Step bound(str kernel, size_t x, ldx, size_t y, ldy, channels, input, output, lists):
    cdef Step step = Step()
    cdef PadArgs* a = <PadArgs*> step.bind_name(kernel, sizeof(PadArgs))
    a.x, a.ldx, a.y, a.ldy = <float*> x, ldx, <float*> y, ldy
    a.X, a.Y, a.C, a.cx, a.cy = channels
    a.xD, a.xH, a.xW = input
    a.yD, a.yH, a.yW = output
    a.d, a.h, a.w = step.ints(lists[0]), step.ints(lists[1]), step.ints(lists[2])
    return step


def forward(*, size_t x, ldx, size_t y, ldy, channels, input, output, sources, value=0.0) -> Step:
    """y from x; `sources`: per axis the input's coordinate of each output coordinate, -1 for the constant."""
    cdef Step step = bound("f32_pad", x, ldx, y, ldy, channels, input, output, sources)
    (<PadArgs*> step.c.args).value = value
    return step


def backward(*, size_t gx, ldx, size_t gy, ldy, channels, input, output, sources) -> Step:
    """gx from gy: each pixel of the input gets the sum over the places that it went to."""
    starts, places = [], []
    for size, source in zip(input, sources):
        found = [[] for _ in range(size)]
        for at, coordinate in enumerate(source):
            if coordinate >= 0:
                found[coordinate].append(at)
        starts.append([0, *accumulate(map(len, found))])
        places.append([at for those in found for at in those])
    cdef Step step = bound("f32_pad_backward", gx, ldx, gy, ldy, channels, input, output, places)
    cdef PadArgs* a = <PadArgs*> step.c.args
    a.start_d, a.start_h, a.start_w = step.ints(starts[0]), step.ints(starts[1]), step.ints(starts[2])
    return step
