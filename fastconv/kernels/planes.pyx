# cython: language_level=3
"""Steps of the planes family: float32 operands as one to three bfloat16 planes, and convolutions over them.

A split image is [plane][pixel][ldp] bfloat16 with an even ldp; packed weights are what PlanePackArgs (planes/args.h) says.
Sizes of both are in elements of two bytes. Geometry is the dict of conv.pyx with `ldx` in elements of the split image.
"""

from libc.stdint cimport uint16_t

from fastconv.kernels._args_conv cimport ConvArgs, PeakArgs
from fastconv.kernels._args_planes cimport PlaneConvArgs, PlanePackArgs, PlaneWeightArgs, SplitArgs
from fastconv.kernels.many cimport many
from fastconv.kernels._runtime cimport Step
from fastconv.kernels.conv cimport fill
from fastconv.kernels._runtime import isa_info
from fastconv.kernels.conv import ACTIVATIONS

cdef int WIDTH = 8 if isa_info()["isa"] == "avx512" else isa_info()["lanes"]  # whose kernels are those of AVX2


WEIGHT_BLOCK = 16  # filters per block of a weight gradient's partial sums


def weight_slabs(*, taps, channels, filters, groups=1) -> int:
    """Tiles of a backward to weights per part of the pixels."""
    return groups * taps * -(-channels // 256) * -(-filters // 256)


def has_dot() -> bool:
    """Whether bfloat16 products are an instruction here (VDPBF16PS), or emulated by fused multiply-adds."""
    return isa_info()["isa"] in ("avx512_bf16", "amx")


def has_tiles() -> bool:
    """Whether the kernels over tiles run on AMX here, or on its emulation."""
    return isa_info()["isa"] == "amx"


def level() -> str:
    """The instruction set whose kernels run here."""
    return isa_info()["isa"]


def split_row(int channels) -> int:
    """Elements from pixel to pixel of a split image.

    Whole steps of 32 from there up, and then no multiple of 1 KB: pixels at distances of 4 KB, also at stride 2, evict each
    other from the first-level cache.
    """
    if channels < 32:
        return channels + channels % 2
    cdef int row = (channels + 31) // 32 * 32
    return row + 32 if row % 512 == 0 else row


def packed_elements(*, taps, channels, filters, planes, groups=1) -> int:
    """Elements of packed weights; `channels` are what one tap reads of the split image."""
    steps = -(-taps * (channels + channels % 2) // 32)
    return groups * -(-filters // 16) * steps * planes * 512


def split(*, size_t x, size_t planes, pixels, channels, ldx, ldp, count, plane_stride) -> Step:
    """Splits `pixels` pixels per image into `count` planes that lie plane_stride elements apart."""
    cdef Step step = Step()
    cdef SplitArgs* a = <SplitArgs*> step.bind_name("bf16_split", sizeof(SplitArgs))
    a.x = <const float*> x
    a.planes = <uint16_t*> planes
    a.pixels = pixels
    a.C = channels
    a.ldx = ldx
    a.ldp = ldp
    a.count = count
    a.plane_stride = plane_stride
    return step


def pack_weights(size_t flat, size_t packed, list problems, list offsets) -> Step:
    """pack_weight for each of the problems (dicts), so many bytes behind ``packed``."""
    return many([pack_weight(flat, packed + <size_t> offset, **problem) for problem, offset in zip(problems, offsets)])


def pack_weight(size_t flat, size_t out, *, planes, taps, filters, channels, row=0, groups=1, channel_run=1, filter_run=1,
                group_stride=0, filter_stride, channel_stride, tap_stride=1, channel_run_stride=0,
                filter_run_stride=0) -> Step:
    """Packs weights as layout.pack_weight does, in planes; `row`: channels of a run element in the split image."""
    cdef Step step = Step()
    cdef PlanePackArgs* a = <PlanePackArgs*> step.bind_name("bf16_pack_weight", sizeof(PlanePackArgs))
    a.flat = <float*> flat
    a.out = <uint16_t*> out
    a.taps = step.ints(taps)
    a.T = len(taps)
    a.G = groups
    a.K = filters
    a.C = channels
    a.crun = channel_run
    a.krun = filter_run
    a.sg = group_stride
    a.sk = filter_stride
    a.sc = channel_stride
    a.st = tap_stride
    a.scrun = channel_run_stride
    a.skrun = filter_run_stride
    a.planes = planes
    a.row = row or channels
    return step


def forward(str kernel, dict geometry, *, size_t x, size_t w, size_t y, ldy, size_t zeros, planes=1, plane_stride=0,
            size_t bias=0, size_t residual=0, ldr=0, act=None, act_a=0.0, act_b=0.0, size_t split=0, split_count=0,
            split_ldp=0, split_stride=0, split_alone=False) -> Step:
    """A convolution by bf16_conv_direct (one plane) or bf16_conv_amx; y, bias and residual are float32.

    With `split`, the result goes there as `split_count` planes too (see :func:`split`), or there alone: then nothing is
    stored to y, which still says by its distance from itself where a pixel lies.
    """
    cdef Step step = Step()
    cdef PlaneConvArgs* a = <PlaneConvArgs*> step.bind_name(kernel, sizeof(PlaneConvArgs))
    fill(step, <ConvArgs*> a, {**geometry, "ldx": geometry["ldx"] // 2})
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
    a.planes = planes
    a.plane_stride = plane_stride
    a.split = <uint16_t*> split
    a.split_count, a.split_ldp, a.split_stride = split_count, split_ldp, split_stride
    a.split_alone = split_alone
    return step


def backward_weight(str kernel, dict geometry, *, size_t x, size_t gy, ldy, size_t dw, size_t zeros, parts, part_stride,
                    planes=1, x_plane_stride=0, gy_plane_stride=0) -> Step:
    """Partial sums of the weight gradient by bf16_conv_backward_weight (one plane) or bf16_conv_backward_weight_amx.

    `dw` is what layout.unpack_weight reads with blocks of WEIGHT_BLOCK filters; ldy in elements of the split gradient.
    """
    cdef Step step = Step()
    cdef PlaneWeightArgs* a = <PlaneWeightArgs*> step.bind_name(kernel, sizeof(PlaneWeightArgs))
    a.taps = step.ints([v for tap in geometry["taps"] for v in tap])
    a.T = len(geometry["taps"])
    a.G = geometry["groups"]
    a.C = geometry["channels"]
    a.K = geometry["filters"]
    a.ldx = geometry["ldx"] // 2
    a.ldy = ldy // 2
    a.xD, a.xH, a.xW = geometry["input"]
    a.iD, a.iH, a.iW = geometry["space"]
    a.sd, a.sh, a.sw = geometry["stride"]
    a.x = <const float*> x
    a.gy = <const float*> gy
    a.dw = <float*> dw
    a.zeros = <const float*> zeros
    a.parts = parts
    a.part_stride = part_stride
    a.planes = planes
    a.x_plane_stride = x_plane_stride
    a.gy_plane_stride = gy_plane_stride
    return step


def peak_lanes() -> int:
    """Floats that a tile of bf16_dot_peak writes; twice as many multiply-adds per iteration."""
    return 12 * WIDTH


def dot_peak(*, size_t out, iterations, a=0.5, b=1.0) -> Step:
    """Products of bfloat16 pairs in registers alone: every float grows by 2 a b per iteration."""
    return _peak("bf16_dot_peak", out, iterations, a, b)


AMX_PEAK_FLOATS = 1024  # that a tile of bf16_amx_peak writes; 32 times as many multiply-adds per iteration


def amx_peak(*, size_t out, iterations, a=0.5, b=1.0) -> Step:
    """Products of tiles in registers alone: every float grows by 32 a b per iteration."""
    return _peak("bf16_amx_peak", out, iterations, a, b)


cdef Step _peak(str name, size_t out, iterations, a, b):
    cdef Step step = Step()
    cdef PeakArgs* p = <PeakArgs*> step.bind_name(name, sizeof(PeakArgs))
    p.out = <float*> out
    p.iterations = iterations
    p.a = a
    p.b = b
    return step
