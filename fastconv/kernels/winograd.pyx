# cython: language_level=3
"""Steps of the Winograd family: 3x3, 1x3 and 3x1 kernels (with any depth) of stride 1 and dilation 1.

A problem is a dict: groups, channels, filters (per group), depth (taps along the depth), tile (outputs of a Winograd tile, (mh, mw),
one of TILES), input and output (extents (D, H, W)), origin (the input pixel of the first tap of output pixel 0: minus the padding),
swapped (a kernel of 3x1: height and width exchange their roles; tile and all extents are given in the tensor's own order).
"""

from libc.stdint cimport int32_t, int64_t

from fastconv.kernels._args_winograd cimport EdgeArgs, WinogradArgs, WinogradGradientArgs, WinogradPixels, WinogradWeightArgs
from fastconv.kernels._runtime cimport Step
from fastconv.kernels.conv import ACTIVATIONS, block_filters, packed_filters

cdef int WIDTH = block_filters() // 2

TILES = ((4, 4), (2, 2), (1, 4), (1, 2))


def elements(tile) -> int:
    """Products per tile, channel and filter: (m + 2) per dimension with taps."""
    mh, mw = tile
    return (1 if mh == 1 else mh + 2) * (mw + 2)


def tile_rows() -> int:
    """Winograd tiles of the register tile."""
    return {16: 14, 8: 6}.get(WIDTH, 4)


def weight_floats(dict p) -> tuple:
    """Floats of the transformed weights and of the packed ones from which they are made."""
    per = p["groups"] * p["depth"] * p["channels"]
    taps = 3 if p["tile"][0] == 1 else 9
    return (per * elements(p["tile"]) * (-(-p["filters"] // WIDTH) * WIDTH), per * taps * packed_filters(p["filters"]))


cdef void fill_pixels(WinogradPixels* a, extent, bint swapped, int64_t ld):
    cdef int64_t D = extent[0], H = extent[1], W = extent[2]
    a.image, a.ld = D * H * W, ld
    a.extent[0], a.extent[1], a.extent[2] = D, H, W
    a.step[0], a.step[1], a.step[2] = H * W, W, 1
    if swapped:
        a.extent[1], a.extent[2] = W, H
        a.step[1], a.step[2] = 1, W


cdef void fill_space(WinogradPixels* px, WinogradPixels* py, int64_t* origin, dict p, int64_t ldx, int64_t ldy):
    cdef bint swapped = p.get("swapped", False)
    fill_pixels(px, p["input"], swapped, ldx)
    fill_pixels(py, p["output"], swapped, ldy)
    d, h, w = p["origin"]
    origin[0], origin[1], origin[2] = (d, w, h) if swapped else (d, h, w)


def bit_parts(dict p) -> int:
    """Parts in which `weight` says what bits the weights have: three 32-bit integers each."""
    return p["groups"] * -(-p["filters"] // (2 * WIDTH)) * -(-p["depth"] * p["channels"] // 64)


def weight(dict p, *, size_t w, size_t u, size_t bits=0) -> Step:
    """U from weights that pack_weight has packed, in ascending order of the input pixels that they meet.

    bits: where to say what bits they have, for `forward`.
    """
    cdef Step step = Step()
    cdef WinogradWeightArgs* a = <WinogradWeightArgs*> step.bind_name("f32_winograd_weight", sizeof(WinogradWeightArgs))
    a.w, a.u, a.bits = <const float*> w, <float*> u, <int32_t*> bits
    a.G, a.C, a.K, a.R = p["groups"], p["channels"], p["filters"], p["depth"]
    a.mh, a.mw = p["tile"]
    return step


def forward(dict p, *, size_t x, ldx, size_t u, size_t w, size_t y, ldy, size_t zeros, size_t bias=0, size_t residual=0,
            ldr=0, act=None, act_a=0.0, act_b=0.0, tiles, blocks, chunk=0, size_t bits=0, share=0.0) -> Step:
    """A convolution of stride 1; addresses, strides in elements.

    tiles and blocks: Winograd tiles and blocks of filters per tile of the problem; chunk: channels per partial sum, 0 for one sum;
    bits: what `weight` says of the weights; share: windows with less of their tile's energy are computed without transforms.
    """
    cdef Step step = Step()
    cdef WinogradArgs* a = <WinogradArgs*> step.bind_name("f32_conv_winograd", sizeof(WinogradArgs))
    fill_space(&a.px, &a.py, a.origin, p, ldx, ldy)
    a.x, a.u, a.w, a.y = <const float*> x, <const float*> u, <const float*> w, <float*> y
    a.bias, a.residual, a.zeros = <const float*> bias, <const float*> residual, <const float*> zeros
    a.ldr = ldr
    a.G, a.C, a.K, a.R = p["groups"], p["channels"], p["filters"], p["depth"]
    a.mh, a.mw = p["tile"]
    a.tiles, a.blocks, a.chunk = tiles, blocks, chunk
    a.bits, a.bit_parts, a.share = <const int32_t*> bits, bit_parts(p), share
    a.act, a.act_a, a.act_b = ACTIVATIONS[act], act_a, act_b
    return step


def backward_weight(dict p, *, size_t x, ldx, size_t gy, ldy, size_t dw, size_t zeros, tiles, channels, blocks, parts,
                    part_stride, size_t loud_x=0, size_t loud_y=0) -> Step:
    """Partial sums of the weight gradient, `parts` ranges of Winograd tiles, as f32_conv_backward_weight lays them out.

    tiles: Winograd tiles per run; channels and blocks: channels and blocks of filters per tile of the problem; loud_x and loud_y:
    what loud_edges found of the channels and filters.
    """
    cdef Step step = Step()
    cdef WinogradGradientArgs* a = <WinogradGradientArgs*> step.bind_name("f32_conv_winograd_backward_weight",
                                                                         sizeof(WinogradGradientArgs))
    fill_space(&a.px, &a.py, a.origin, p, ldx, ldy)
    a.x, a.gy, a.dw, a.zeros = <const float*> x, <const float*> gy, <float*> dw, <const float*> zeros
    a.G, a.C, a.K, a.R = p["groups"], p["channels"], p["filters"], p["depth"]
    a.mh, a.mw = p["tile"]
    a.tiles, a.channels, a.blocks, a.parts, a.part_stride = tiles, channels, blocks, parts, part_stride
    a.loud_x, a.loud_y = <const int32_t*> loud_x, <const int32_t*> loud_y
    return step


def loud_edges(*, size_t x, ldx, channels, extents, low, high, size_t loud) -> Step:
    """loud (one 32-bit integer per channel): whether a channel lies mostly outside the box [low, high) of each image."""
    cdef Step step = Step()
    cdef EdgeArgs* a = <EdgeArgs*> step.bind_name("f32_loud_edges", sizeof(EdgeArgs))
    a.x, a.ld, a.C, a.loud = <const float*> x, ldx, channels, <int32_t*> loud
    for i in range(3):
        a.extent[i], a.low[i], a.high[i] = extents[i], low[i], high[i]
    a.step = max(1, min(8, (high[1] - low[1]) // 4))
    return step
