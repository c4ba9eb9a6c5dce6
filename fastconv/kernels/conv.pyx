# cython: language_level=3
"""Steps of the convolution family. Geometry is a dict made by ops/conv/problem.py (see ConvArgs in conv/args.h for its meaning)."""

from fastconv.kernels._args_conv cimport ConvArgs, ConvWeightArgs, PartialArgs, PeakArgs
from fastconv.kernels._runtime cimport Step
from fastconv.kernels._runtime import isa_info

cdef int WIDTH = isa_info()["lanes"]

ACTIVATIONS = {None: 0, "relu": 1, "clip": 2, "leaky_relu": 3}


def packed_filters(int filters) -> int:
    """Floats per tap and channel of one group's packed weights (simd/blocks.inl.h)."""
    cdef int block = 2 * WIDTH, half = WIDTH // 2 if WIDTH > 4 else WIDTH, tail = filters % block
    if tail:
        tail = block if tail > WIDTH else WIDTH if tail > half else half
    return filters // block * block + tail


def block_filters() -> int:
    """Filters per block of packed weights."""
    return 2 * WIDTH


def prefers_few(int filters, int channels) -> bool:
    """Whether f32_conv_few, with channels in the lanes, does fewer vector operations than a block of filters would.

    Its multiply-adds and the loads of its two operands, against one broadcast per multiply-add.
    """
    cdef int half = WIDTH // 2 if WIDTH > 4 else WIDTH
    return filters <= half and (channels + WIDTH - 1) // WIDTH * filters * 4 <= channels * 3


cdef double tile_cycles(int rows, int width):
    """Cycles per pixel and tap of the tiles of f32_conv_backward_weight: multiply-adds, loads or the latency of an FMA."""
    cdef int tall = {4: 4, 8: 6}.get(WIDTH, 14)
    cdef int tiles = (rows + tall - 1) // tall, last = width % (2 * WIDTH), vectors
    cdef double height = rows / tiles, cycles = 0
    for vectors, blocks in ((2, width // (2 * WIDTH)), ((last + WIDTH - 1) // WIDTH, 1)):
        if vectors:
            cycles += blocks * tiles * max(4.0, height * vectors / 2, (height + vectors + 2) / 2)
    return cycles


def prefers_swapped(int filters, int channels) -> bool:
    """Whether a weight gradient is faster with its channels in the lanes than with its filters."""
    return tile_cycles(filters, channels) < 0.95 * tile_cycles(channels, filters)


ctypedef fused AnyConvArgs:
    ConvArgs
    ConvWeightArgs


cdef int fill_input(Step step, AnyConvArgs* a, dict g) except -1:
    """What all passes share: taps, sizes, and how the input is walked over."""
    a.taps = step.ints([v for tap in g["taps"] for v in tap])
    a.T = len(g["taps"])
    a.G = g["groups"]
    a.C = g["channels"]
    a.K = g["filters"]
    a.ldx = g["ldx"]
    a.xD, a.xH, a.xW = g["input"]
    a.iD, a.iH, a.iW = g["space"]
    a.sd, a.sh, a.sw = g["stride"]
    a.multiplier = g.get("multiplier", 1)
    return 0


cdef int fill(Step step, ConvArgs* a, dict g) except -1:
    fill_input(step, a, g)
    a.yD, a.yH, a.yW = g["output"]
    a.od, a.oh, a.ow = g.get("origin", (0, 0, 0))
    a.odd, a.ohh, a.oww = g.get("output_step", (1, 1, 1))
    return 0


def forward(str kernel, dict geometry, *, size_t x, size_t w, size_t y, ldy, size_t zeros, size_t bias=0,
            size_t residual=0, ldr=0, act=None, act_a=0.0, act_b=0.0) -> Step:
    """A convolution by f32_conv_direct, f32_conv_pointwise or f32_conv_few; addresses, strides in elements."""
    cdef Step step = Step()
    cdef ConvArgs* a = <ConvArgs*> step.bind_name(kernel, sizeof(ConvArgs))
    fill(step, a, geometry)
    a.x = <const float*> x
    a.w = <const float*> w
    a.y = <float*> y
    a.bias = <const float*> bias
    a.residual = <const float*> residual
    a.zeros = <const float*> zeros
    a.ldy = ldy
    a.ldr = ldr
    a.act = ACTIVATIONS[act]
    a.act_a = act_a
    a.act_b = act_b
    return step


def backward_weight(str kernel, dict geometry, *, size_t x, size_t gy, ldy, size_t dw, size_t zeros, parts,
                    part_stride, swapped=False) -> Step:
    """Partial sums of the weight gradient by f32_conv_backward_weight.

    ``swapped``: packed with the roles of filters and channels exchanged.
    """
    cdef Step step = Step()
    cdef ConvWeightArgs* a = <ConvWeightArgs*> step.bind_name(kernel, sizeof(ConvWeightArgs))
    fill_input(step, a, geometry)
    a.x = <const float*> x
    a.gy = <const float*> gy
    a.ldy = ldy
    a.dw = <float*> dw
    a.zeros = <const float*> zeros
    a.parts = parts
    a.part_stride = part_stride
    a.swapped = swapped
    return step


def sum_partials(*, size_t part, size_t out, parts, part_stride, count) -> Step:
    """out[i]: the sum over p, in order, of part[p * part_stride + i]."""
    cdef Step step = Step()
    cdef PartialArgs* a = <PartialArgs*> step.bind_name("f32_sum_partials", sizeof(PartialArgs))
    a.part = <const float*> part
    a.out = <float*> out
    a.parts = parts
    a.part_stride = part_stride
    a.count = count
    return step


def peak_lanes() -> int:
    """Independent chains of f32_fma_peak times lanes: floats that a tile writes, multiply-adds per iteration."""
    return 12 * WIDTH


def fma_peak(*, size_t out, iterations, a=0.5, b=1.0) -> Step:
    """Multiply-adds in registers alone, what shares of the peak refer to; the batch is the number of tiles."""
    cdef Step step = Step()
    cdef PeakArgs* p = <PeakArgs*> step.bind_name("f32_fma_peak", sizeof(PeakArgs))
    p.out = <float*> out
    p.iterations = iterations
    p.a = a
    p.b = b
    return step
