# cython: language_level=3
"""Steps of convolution by Fourier transforms, stride 1. The geometry of a problem is a dict made by :func:`plan`.

A dense (or grouped) convolution is ``weight`` once, then for each range of tiles ``transform``, ``product`` and ``inverse``;
its gradient to weights is, for each range, ``transform`` of x and of the gradient and ``product_weight``, then
``inverse_weight`` once. A depthwise one is ``weight`` and ``depthwise``, its gradient ``depthwise_weight``.
The gradient to data is a convolution, too: of the gradient with the flipped weights.
"""

from functools import lru_cache
from math import cos, pi, prod, sin

from libc.stdint cimport int32_t

from fastconv.kernels._args_fft cimport FC_FFT_PASSES, FftArgs, FftAxis
from fastconv.kernels._runtime cimport Memory, Step
from fastconv.kernels._runtime import isa_info
from fastconv.kernels.conv import ACTIVATIONS, packed_filters

cdef int WIDTH = isa_info()["lanes"]
LARGEST = 1 << 14


# ---- transforms -----------------------------------------------------------------------------------------------------

@lru_cache(None)
def radices(int n):
    """The radices of a complex transform of n elements, largest first, or None where n has a factor over 5."""
    found, left = [], n
    for radix in (5, 3):
        while left % radix == 0:
            found.append(radix)
            left //= radix
    if left & (left - 1):
        return None
    twos = left.bit_length() - 1
    eights, rest = divmod(twos, 3)
    if rest == 1 and eights:
        eights, rest = eights - 1, 4
    found += [8] * eights + {0: [], 1: [2], 2: [4], 4: [4, 4]}[rest]
    return tuple(sorted(found, reverse=True))


@lru_cache(None)
def sizes() -> tuple:
    """Sizes that a tile's transform can have along an axis: products of 2, 3 and 5 that are multiples of 4."""
    return tuple(n for n in range(4, LARGEST + 1, 4) if radices(n))


@lru_cache(None)
def _tables(int n, bint real):
    """Twiddle factors of all passes in float32, rounded from float64, and those that split a real transform of n samples."""
    cdef Memory memory
    cdef float* p
    cdef int length = n // 2 if real else n, m = length
    values = []
    for radix in radices(length):
        m //= radix
        for i in range(1, m):
            for j in range(1, radix):
                angle = -2 * pi * (i * j % (m * radix)) / (m * radix)
                values += [cos(angle), sin(angle)]
    at = len(values)
    if real:
        for k in range(length // 2 + 1):
            values += [cos(2 * pi * k / n), -sin(2 * pi * k / n)]
    memory = Memory(4 * max(1, len(values)))
    p = <float*> memory.base
    for i, v in enumerate(values):
        p[i] = v
    return memory, at


# ---- geometry -------------------------------------------------------------------------------------------------------

def width() -> int:
    """Channels of a vector, and of a block of a spectrum."""
    return WIDTH


def outputs_per_tile(size, kernel, dilation, input, output, low) -> int:
    """How many outputs along an axis a transform of `size` samples gives: all of them, size - extent of the kernel + 1,
    or none (0).

    A tile that is the whole axis needs no more samples than there are between the paddings and those on one side: what wraps
    around is zero and falls on zeros.
    """
    extent = (kernel - 1) * dilation + 1
    if size < extent:
        return 0
    if size >= output + extent - 1 or size >= max(output, low + input, output + extent - 1 - low):
        return output
    return size - extent + 1


def plan(*, groups, channels, filters, input, output, kernel, dilation, low, sizes, tile=None) -> dict:
    """A convolution of stride 1 in the terms of the kernels.

    Parameters
    ----------
    groups, channels, filters : int
        Channels and filters are per group.
    input, output, kernel, dilation, low : tuple of three int
        As (D, H, W); ``low`` is the padding in front, which may be negative (a crop).
    sizes : tuple of three int
        Of the transforms, one of :func:`sizes`, at least the kernel's dilated extent; 1 for axes with one tap.
    tile : tuple of three int, optional
        Outputs per tile; by default as many as the sizes allow.
    """
    order = sorted(range(3), key=lambda i: kernel[i] > 1)  # stable: axes with one tap first
    in_steps, out_steps = (input[1] * input[2], input[2], 1), (output[1] * output[2], output[2], 1)
    axes = []
    for i in order:
        per = outputs_per_tile(sizes[i], kernel[i], dilation[i], input[i], output[i], low[i])
        if (sizes[i] == 1) != (kernel[i] == 1) or per < 1:
            raise ValueError(f"fft: sizes={sizes} do not fit kernel={kernel} with dilation={dilation}")
        per = per if tile is None else tile[i]
        axes.append({"size": sizes[i], "tile": per, "tiles": -(-output[i] // per), "span": sizes[i], "in": input[i],
                     "in_step": in_steps[i], "out": output[i], "out_step": out_steps[i], "low": low[i],
                     "taps": kernel[i], "dilation": dilation[i]})
    if axes[2]["size"] == 1:
        raise ValueError(f"fft: kernel={kernel} has a single tap")
    return {"axes": axes, "order": order, "groups": groups, "channels": channels, "filters": filters,
            "depthwise": channels == 1 and filters == 1 and groups > 1, "x_image": prod(input), "y_image": prod(output),
            "tiles": prod(a["tiles"] for a in axes),
            "frequencies": axes[0]["size"] * axes[1]["size"] * (axes[2]["size"] // 2 + 1),
            # a real transform leaves out a factor of 2, both ways, and the inverse all of its scale
            "scale": 1.0 / (4.0 * prod(a["size"] for a in axes))}


def blocks(int channels) -> int:
    """Vectors of channels."""
    return (channels + WIDTH - 1) // WIDTH


def packed_floats(dict g) -> int:
    """Floats of the transformed weights."""
    if g["depthwise"]:
        return g["frequencies"] * blocks(g["groups"]) * 2 * WIDTH
    return g["frequencies"] * g["groups"] * blocks(g["filters"]) * g["channels"] * 2 * WIDTH


def spectrum_pitch(dict g, which, int count) -> int:
    """Floats per frequency of a spectrum of `count` tiles, of the input ("x") or of the output ("y").

    An odd number of blocks: with frequencies a multiple of 4 KiB apart, those that a transform reads or writes would fall into
    one set of the first-level cache.
    """
    per = blocks(g["groups"] * g["channels"]) if which == "x" else g["groups"] * blocks(g["filters"])
    return (count * per | 1) * 2 * WIDTH


def spectrum_floats(dict g, which, int count) -> int:
    """Floats of a spectrum of `count` tiles."""
    return g["frequencies"] * spectrum_pitch(g, which, count)


def weight_strides(kernel, *, group, filter, channel, flip=False, offset=0) -> dict:
    """Where the user's weights lie, (D, H, W) taps innermost; `flip`: taps in reverse (the gradient to data)."""
    steps = (kernel[1] * kernel[2], kernel[2], 1)
    return {"sg": group, "sk": filter, "sc": channel, "taps": tuple(-s if flip else s for s in steps),
            "origin": offset + (sum((k - 1) * s for k, s in zip(kernel, steps)) if flip else 0)}


def direct_packing(dict g, dict s) -> dict:
    """How layout.pack_weight packs the weights that weight_strides describes for f32_conv_direct; taps in the order of axes."""
    kernel = [1, 1, 1]
    for axis, original in zip(g["axes"], g["order"]):
        kernel[original] = axis["taps"]
    taps = [s["origin"] + i * s["taps"][0] + j * s["taps"][1] + k * s["taps"][2]
            for i in range(kernel[0]) for j in range(kernel[1]) for k in range(kernel[2])]
    return {"taps": taps, "groups": g["groups"], "filters": g["filters"], "channels": g["channels"], "group_stride": s["sg"],
            "filter_stride": s["sk"], "channel_stride": s["sc"]}


def direct_floats(dict g) -> int:
    """Floats of those."""
    return g["groups"] * g["channels"] * packed_filters(g["filters"]) * prod(axis["taps"] for axis in g["axes"])


def bit_parts(dict g) -> int:
    """Parts in which `weight` says what bits the weights have: three 32-bit integers each."""
    if g["depthwise"]:
        return blocks(g["groups"])
    return g["groups"] * blocks(g["filters"]) * -(-g["channels"] // 8)


def notes(dict g, int count) -> int:
    """32-bit integers that `transform` notes of `count` tiles."""
    return count * g["groups"]


cdef FftArgs* bind(Step step, str kernel, dict g) except NULL:
    cdef FftArgs* a = <FftArgs*> step.bind_name(kernel, sizeof(FftArgs))
    cdef FftAxis* axis
    cdef Memory memory
    for i, values in enumerate(g["axes"]):
        axis = &a.axis[i]
        axis.size, axis.tile, axis.tiles, axis.span = values["size"], values["tile"], values["tiles"], values["span"]
        axis.in_, axis.in_step = values["in"], values["in_step"]
        axis.out, axis.out_step, axis.low = values["out"], values["out_step"], values["low"]
        axis.taps, axis.dilation = values["taps"], values["dilation"]
        if axis.size > 1:
            passes = radices(axis.size // 2 if i == 2 else axis.size)
            if passes is None or len(passes) > FC_FFT_PASSES or axis.size > LARGEST or (i == 2 and axis.size % 4):
                raise ValueError(f"fft: size {axis.size} is none of sizes()")
            memory, at = _tables(axis.size, i == 2)
            step.keep(memory)
            axis.passes = len(passes)
            for j, radix in enumerate(passes):
                axis.radix[j] = radix
            axis.twiddle = <const float*> memory.base
            axis.split = axis.twiddle + <Py_ssize_t> at
    a.G, a.C, a.K = g["groups"], g["channels"], g["filters"]
    a.depthwise = g["depthwise"]
    a.x_image, a.y_image = g["x_image"], g["y_image"]
    a.scale = g["scale"]
    return a


cdef void put_weights(FftArgs* a, dict g, dict s, size_t w):
    """The user's weights, or their gradient."""
    a.w = (<const float*> w) + <Py_ssize_t> s["origin"]
    a.dw = (<float*> w) + <Py_ssize_t> s["origin"]
    a.sg, a.sk, a.sc = s["sg"], s["sk"], s["sc"]
    if g["depthwise"]:  # the kernels' lanes are groups
        a.sk = s["sg"]
    for i, original in enumerate(g["order"]):
        a.axis[i].tap_step = s["taps"][original]


cdef void put_epilogue(FftArgs* a, size_t bias, size_t residual, ldr, act, act_a, act_b):
    a.bias = <const float*> bias
    a.residual = <const float*> residual
    a.ldr = ldr
    a.act, a.act_a, a.act_b = ACTIVATIONS[act], act_a, act_b


cdef void put_range(FftArgs* a, dict g, first, count):
    a.first, a.count = first, count
    a.xs_pitch, a.ys_pitch = spectrum_pitch(g, "x", count), spectrum_pitch(g, "y", count)


cdef void put_bits(FftArgs* a, dict g, size_t bits):
    a.bits, a.bit_parts = <int32_t*> bits, bit_parts(g)


# ---- steps ----------------------------------------------------------------------------------------------------------

def weight(dict g, dict strides, *, size_t w, size_t packed, size_t bits=0) -> Step:
    """The transformed weights; `strides` are those of weight_strides. Its batch does not matter.

    bits: where to say what bits they have, for the steps below, which then compute weights of few bits without transforms.
    """
    cdef Step step = Step()
    cdef FftArgs* a = bind(step, "f32_fft_weight", g)
    put_weights(a, g, strides, w)
    if g["depthwise"]:
        a.G, a.K = 1, g["groups"]
    a.packed = <float*> packed
    put_bits(a, g, bits)
    return step


def transform(dict g, *, size_t x, ldx, size_t spectrum, first, count, size_t bits=0, size_t note=0, share=0.0) -> Step:
    """The spectrum of the input's tiles [first, first + count).

    note: where to note (`notes` integers) which tiles have windows with less than ``share`` of the tile's energy.
    """
    cdef Step step = Step()
    cdef FftArgs* a = bind(step, "f32_fft_transform", g)
    a.G, a.C = 1, g["groups"] * g["channels"]
    a.x, a.ldx, a.xs = <const float*> x, ldx, <float*> spectrum
    put_range(a, g, first, count)
    put_bits(a, g, bits)
    a.note, a.groups, a.share = <int32_t*> note, g["groups"], share
    return step


def transform_gradient(dict g, *, size_t gy, ldy, size_t spectrum, first, count) -> Step:
    """The spectrum of the same tiles of the output's gradient: outputs alone, zeros behind them, filters per group padded."""
    cdef Step step = Step()
    axes = [{**axis, "in": axis["out"], "in_step": axis["out_step"], "low": 0, "span": axis["tile"]} for axis in g["axes"]]
    cdef FftArgs* a = bind(step, "f32_fft_transform", {**g, "axes": axes, "channels": g["filters"], "x_image": g["y_image"]})
    a.x, a.ldx, a.xs = <const float*> gy, ldy, <float*> spectrum
    put_range(a, g, first, count)
    a.xs_pitch = a.ys_pitch
    return step


def product(dict g, *, size_t x, size_t packed, size_t y, first, count, size_t bits=0) -> Step:
    """The spectrum of the output from that of the input."""
    cdef Step step = Step()
    cdef FftArgs* a = bind(step, "f32_fft_product", g)
    a.xs, a.packed, a.ys = <float*> x, <float*> packed, <float*> y
    put_range(a, g, first, count)
    put_bits(a, g, bits)
    return step


def inverse(dict g, *, size_t spectrum, size_t y, ldy, size_t x, ldx, size_t direct, size_t zeros, first, count, size_t bits=0,
            size_t note=0, share=0.0, size_t bias=0, size_t residual=0, ldr=0, act=None, act_a=0.0, act_b=0.0) -> Step:
    """Tiles of the output.

    x and ``direct``, the weights as direct_packing has them, are read where results are out of range or windows were noted.
    """
    cdef Step step = Step()
    cdef FftArgs* a = bind(step, "f32_fft_inverse", g)
    a.ys, a.y, a.ldy, a.x, a.ldx = <float*> spectrum, <float*> y, ldy, <const float*> x, ldx
    a.direct, a.zeros = <const float*> direct, <const float*> zeros
    put_range(a, g, first, count)
    put_bits(a, g, bits)
    a.note, a.groups, a.share = <int32_t*> note, g["groups"], share
    put_epilogue(a, bias, residual, ldr, act, act_a, act_b)
    return step


def depthwise(dict g, dict strides, *, size_t x, ldx, size_t w, size_t packed, size_t y, ldy, size_t bits=0, share=0.0,
              size_t bias=0, size_t residual=0, ldr=0, act=None, act_a=0.0, act_b=0.0) -> Step:
    """A depthwise convolution, one filter per channel; the user's weights are read where results are out of range, and for
    windows with less than ``share`` of their tile's energy."""
    cdef Step step = Step()
    cdef FftArgs* a = bind(step, "f32_fft_depthwise", g)
    a.x, a.ldx, a.y, a.ldy, a.packed = <const float*> x, ldx, <float*> y, ldy, <float*> packed
    put_weights(a, g, strides, w)
    put_bits(a, g, bits)
    a.share = share
    put_epilogue(a, bias, residual, ldr, act, act_a, act_b)
    return step


def product_weight(dict g, *, size_t x, size_t gy, size_t sums, first, count, add) -> Step:
    """Adds a range of tiles to the spectrum of the weights' gradient (packed_floats), or with add=False starts it."""
    cdef Step step = Step()
    cdef FftArgs* a = bind(step, "f32_fft_product_weight", g)
    a.xs, a.ys, a.packed, a.add = <float*> x, <float*> gy, <float*> sums, add
    put_range(a, g, first, count)
    return step


def inverse_weight(dict g, dict strides, *, size_t sums, size_t dw, size_t x, ldx, size_t gy, ldy, size_t loud_x=0,
                   size_t loud_y=0) -> Step:
    """The weights' gradient in the user's layout; x and gy are read where it is not finite, and of channels and
    filters that are loud."""
    cdef Step step = Step()
    cdef FftArgs* a = bind(step, "f32_fft_inverse_weight", g)
    a.packed, a.x, a.ldx, a.gy, a.ldy = <float*> sums, <const float*> x, ldx, <const float*> gy, ldy
    put_weights(a, g, strides, dw)
    a.loud_x, a.loud_y = <const int32_t*> loud_x, <const int32_t*> loud_y
    return step


def depthwise_weight(dict g, dict strides, *, size_t x, ldx, size_t gy, ldy, size_t dw, parts, part_stride,
                     size_t loud_x=0, size_t loud_y=0) -> Step:
    """Partial sums of a depthwise gradient to weights over `parts` ranges of tiles, each in the user's layout."""
    cdef Step step = Step()
    cdef FftArgs* a = bind(step, "f32_fft_depthwise_weight", g)
    a.x, a.ldx, a.gy, a.ldy, a.parts, a.part_stride = <const float*> x, ldx, <const float*> gy, ldy, parts, part_stride
    put_weights(a, g, strides, dw)
    a.loud_x, a.loud_y = <const int32_t*> loud_x, <const int32_t*> loud_y
    return step

