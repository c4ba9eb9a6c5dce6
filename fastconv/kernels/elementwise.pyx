# cython: language_level=3
"""Steps of the elementwise family: arithmetic with broadcasting, dropout.

Addresses are those of the first element; `pixels` is D * H * W of one image, an `ld` the pixel stride in elements.
"""

from fastconv.kernels._args_elementwise cimport (BroadcastArgs, DrawArgs, DropoutArgs, FcRandomState, FcStride, MapArgs,
                                                 SumArgs)
from fastconv.kernels._runtime cimport Step


def unary(str kernel, *, size_t x, size_t y, pixels, channels, ldx, ldy, a=0.0, b=0.0, fixed_n=0) -> Step:
    """y = f(x) by the kernel of that name; a and b are its constants:

    f32_scale a * x + b. y may be x.
    fixed_n: images whatever the batch of the run, for what is no activation; 0: the batch.
    """
    cdef Step step = Step()
    cdef MapArgs* m = <MapArgs*> step.bind_name(kernel, sizeof(MapArgs))
    m.x = <const float*> x
    m.y = <float*> y
    m.pixels = pixels
    m.C = channels
    m.ldx = ldx
    m.ldy = ldy
    m.a = a
    m.b = b
    m.fixed_n = fixed_n
    return step


def fill(size_t y, *, pixels, channels, ldy, value, fixed_n=0) -> Step:
    """y = value."""
    return unary("f32_fill", x=0, y=y, pixels=pixels, channels=channels, ldx=0, ldy=ldy, a=value,
                 fixed_n=fixed_n)


def clip_backward(*, size_t gy, size_t kept, size_t gx, pixels, channels, ldgy, ldk, ldgx, a=0.0, b=0.0, fixed_n=0) -> Step:
    """gx = gy where the forward's output `kept` lies inside [a, b], else 0. gx may be gy or kept."""
    cdef Step step = unary("f32_clip_backward", x=gy, y=gx, pixels=pixels, channels=channels, ldx=ldgy, ldy=ldgx, a=a, b=b,
                           fixed_n=fixed_n)
    cdef MapArgs* m = <MapArgs*> step.c.args
    m.z = <const float*> kept
    m.ldz = ldk
    return step


cdef FcStride stride(object triple) except *:
    cdef FcStride s
    s.image, s.pixel, s.channel = triple
    return s


def binary(str kernel, *, size_t x, size_t z, size_t y, pixels, channels, x_stride, z_stride, ldy, alpha=1.0,
           fixed_n=0) -> Step:
    """y = x + alpha * z by f32_add, y = x * z by f32_mul.

    A stride is (image, pixel, channel) in elements, channel 0 or 1; 0 repeats an operand: (pixels * ld, ld, 1) for a
    whole activation, (ld, 0, 1) for one of a single pixel, (0, 0, 1) for a vector of channels, (0, 0, 0) for a scalar.
    y may be an operand that repeats nothing; fixed_n as for `unary`.
    """
    cdef Step step = Step()
    cdef BroadcastArgs* m = <BroadcastArgs*> step.bind_name(kernel, sizeof(BroadcastArgs))
    m.x = <const float*> x
    m.z = <const float*> z
    m.y = <float*> y
    m.sx = stride(x_stride)
    m.sz = stride(z_stride)
    m.pixels = pixels
    m.C = channels
    m.ldy = ldy
    m.alpha = alpha
    m.fixed_n = fixed_n
    return step


def sum_axes(*, size_t x, size_t y, pixels, channels, x_stride, ldy, keep_images, keep_pixels, keep_channels, size_t z=0,
             z_stride=(0, 0, 0), parts=1, per_part=0, fixed_n=0) -> Step:
    """y = sum of x, or of x * z where z is given, over the axes not kept; strides and fixed_n as for `binary`.

    y has one row of channels (or one number, where channels are summed) per kept image and pixel, `ldy` apart; with `parts`
    that many instead, one behind the other, each of which sums up to per_part rows.
    """
    cdef Step step = Step()
    cdef SumArgs* m = <SumArgs*> step.bind_name("f32_sum_axes", sizeof(SumArgs))
    m.x = <const float*> x
    m.z = <const float*> z
    m.y = <float*> y
    m.sx = stride(x_stride)
    m.sz = stride(z_stride)
    m.pixels = pixels
    m.C = channels
    m.ldy = ldy
    m.parts = parts
    m.per_part = per_part
    m.fixed_n = fixed_n
    m.keep_images = bool(keep_images)
    m.keep_pixels = bool(keep_pixels)
    m.keep_channels = bool(keep_channels)
    return step


def dropout(*, size_t x, size_t y, size_t state, pixels, channels, ldx, ldy, p, stream=0) -> Step:
    """y = x * mask / (1 - p); on a gradient it is the backward.

    The mask follows from the 16 bytes at `state` (uint64 seed, uint64 offset, read when the step runs), from `stream`
    (0 .. 65535, one per dropout of a network) and from the element's index in N, D, H, W, C order. y may be x.
    """
    cdef Step step = Step()
    cdef DropoutArgs* m = <DropoutArgs*> step.bind_name("f32_dropout", sizeof(DropoutArgs))
    m.x = <const float*> x
    m.y = <float*> y
    m.state = <const FcRandomState*> state
    m.pixels = pixels
    m.C = channels
    m.ldx = ldx
    m.ldy = ldy
    m.p = p
    m.stream = stream
    return step


def random_draw(size_t source, size_t state) -> Step:
    """Copies a random state and adds one to the source's offset: the first step of a forward that draws numbers."""
    cdef Step step = Step()
    cdef DrawArgs* m = <DrawArgs*> step.bind_name("random_draw", sizeof(DrawArgs))
    m.source = <FcRandomState*> source
    m.state = <FcRandomState*> state
    return step
