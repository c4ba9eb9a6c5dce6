# cython: language_level=3
"""Steps of the depthwise family: convolutions with few channels per group, filters in the lanes.

Geometry is a dict: groups, channels and filters (per group), ldx, and triples (D, H, W): input, space (the outputs that are
computed), kernel, stride, dilation, low (padding in front, may be negative), output (extents of the output), and where
outputs go, origin and output_step. See DepthwiseArgs in depthwise/args.h.

Weights are what layout.pack_weight makes with the block and the groups of :func:`packing`.
"""

from math import gcd

from fastconv.kernels._args_depthwise cimport DepthwiseArgs
from fastconv.kernels._runtime cimport Step
from fastconv.kernels._runtime import isa_info
from fastconv.kernels.conv import ACTIVATIONS

cdef int WIDTH = isa_info()["lanes"]


def width() -> int:
    """Lanes of a vector: the most channels per group that this family takes."""
    return WIDTH


def vector(channels, filters) -> tuple:
    """How the filters of groups with so many channels and filters lie in vectors (depthwise/depthwise.inl.h).

    Returns
    -------
    filters per vector, whole : (int, bool)
        whole: whether a vector holds whole groups; else a group has several vectors.
    """
    if filters < WIDTH:
        return min(WIDTH // filters, WIDTH // channels) * filters, True
    return WIDTH, False


def repeats(channels) -> int:
    """How often the weights of so many channels are repeated until they end with a vector (the kernels along rows)."""
    return WIDTH // gcd(WIDTH, channels)


cdef int fill(DepthwiseArgs* a, dict g) except -1:
    a.G, a.C, a.K = g["groups"], g["channels"], g["filters"]
    if a.C > WIDTH:
        raise ValueError(f"channels={a.C}: at most {WIDTH} per group")
    a.ldx = g["ldx"]
    a.xD, a.xH, a.xW = g["input"]
    a.iD, a.iH, a.iW = g["space"]
    a.kD, a.kH, a.kW = g["kernel"]
    a.sd, a.sh, a.sw = g["stride"]
    a.dd, a.dh, a.dw_ = g["dilation"]
    a.pd, a.ph, a.pw = g["low"]
    a.yD, a.yH, a.yW = g["output"]
    a.od, a.oh, a.ow = g.get("origin", (0, 0, 0))
    a.odd, a.ohh, a.oww = g.get("output_step", (1, 1, 1))
    return 0


def forward(dict geometry, *, size_t x, size_t w, size_t y, ldy, size_t bias=0, size_t residual=0, ldr=0, act=None,
            act_a=0.0, act_b=0.0) -> Step:
    """A convolution; addresses, strides in elements.

    With ``"transposed": True`` in the geometry the transposed convolution (a convolution's backward to data), whose input
    is the convolution's output: kernel 1x3x3 or 1x5x5, stride 1x2x2, no dilation, no padding of the depth, and ``low`` at least 0 and
    odd or even in both dimensions. Space, origin and output step are not used. With ``"rows": True`` the kernel whose lanes
    run along the row (rows/depthwise_rows.inl.h).
    """
    cdef Step step = Step()
    name = "f32_conv_depthwise" + ("_transposed" if geometry.get("transposed") else "_rows" if geometry.get("rows") else "")
    cdef DepthwiseArgs* a = <DepthwiseArgs*> step.bind_name(name, sizeof(DepthwiseArgs))
    fill(a, geometry)
    a.x = <const float*> x
    a.w = <const float*> w
    a.y = <float*> y
    a.bias = <const float*> bias
    a.residual = <const float*> residual
    a.ldy, a.ldr = ldy, ldr
    a.act = ACTIVATIONS[act]
    a.act_a, a.act_b = act_a, act_b
    return step


def backward_weight(dict geometry, *, size_t x, size_t gy, ldy, size_t dw, parts, part_stride) -> Step:
    """Partial sums of the weight gradient over ranges of rows."""
    cdef Step step = Step()
    name = f"f32_conv_depthwise{'_rows' if geometry.get('rows') else ''}_backward_weight"
    cdef DepthwiseArgs* a = <DepthwiseArgs*> step.bind_name(name, sizeof(DepthwiseArgs))
    fill(a, geometry)
    a.x = <const float*> x
    a.gy = <const float*> gy
    a.dw = <float*> dw
    a.ldy = ldy
    a.parts, a.part_stride = parts, part_stride
    return step
