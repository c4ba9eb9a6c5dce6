"""Transposed convolution: a convolution's backward to data, run forwards.

With the same weight (in_channels, out_channels / groups, *kernel), ``conv_transpose`` maps the output of a convolution to
its input. So its three passes are those of that convolution with their roles exchanged, and every algorithm serves them
by the lowering that it has:

    conv_transpose                  backward to data       by phases of the stride: no zeros are multiplied
    conv_transpose_backward_data    forward
    conv_transpose_backward_weight  backward to weights    input and gradient exchanged

``output_padding`` makes the image longer at its end. What lies there may be out of the convolution's reach; then it is
the bias alone. Shapes and rules are those of ``torch.nn.ConvTranspose2d``.
"""

from __future__ import annotations

from math import prod

from fastconv._values import shown
from fastconv.graph.ir import FLAT, Node, Operator, Type, apply, fail, register
from fastconv.kernels import im2col
from fastconv.lowering.lower import PRECISIONS, Lowering
from fastconv.lowering.places import channels
from fastconv.ops.conv.choose import choose
from fastconv.ops.conv.problem import Problem, epilogue
from fastconv.ops.conv.rules import lower_backward_weight, lower_conv
from fastconv.ops.geometry import LIMIT, ints, pads


def normalise(op: str, attrs: dict, kernel: tuple[int, ...]) -> None:
    """Checks stride, padding, output_padding, dilation and groups and replaces them by one entry per dimension."""
    dims = len(kernel)
    attrs["stride"] = stride = ints(op, "stride", attrs.get("stride", 1), dims, 1)
    attrs["dilation"] = dilation = ints(op, "dilation", attrs.get("dilation", 1), dims, 1)
    padding = attrs.get("padding", 0)
    if isinstance(padding, str):
        fail(op, f"padding={shown(padding)}: expected integers; a transposed convolution has no 'valid' or 'same'")
    attrs["padding"] = pads(op, padding, kernel, stride, dilation)
    attrs["output_padding"] = extra = ints(op, "output_padding", attrs.get("output_padding", 0), dims, 0)
    for e, s, d in zip(extra, stride, dilation, strict=True):
        if e >= max(s, d):
            fail(op, f"output_padding={extra if dims > 1 else e} must be smaller than stride={s} or dilation={d}")
    attrs["groups"] = ints(op, "groups", attrs.get("groups", 1), 1, 1)[0]
    attrs["kernel"] = kernel
    if attrs.get("precision") not in (None, *PRECISIONS):
        fail(op, f"precision={shown(attrs['precision'])}: expected one of {', '.join(PRECISIONS)}")


def transposed_shape(op: str, x: tuple[int, ...], w: tuple[int, ...], attrs: dict) -> tuple[int, ...]:
    """The shape of the output; raises where input, weight and arguments do not go together."""
    dims = len(x) - 2
    if dims not in (1, 2, 3):
        fail(op, f"input of shape {x} has {len(x)} dimensions: expected 3 (N, C, L), 4 (N, C, H, W) or 5 (N, C, D, H, W)")
    if len(w) != dims + 2:
        fail(op, f"weight of shape {w} has {len(w)} dimensions: expected {dims + 2}, like the input of shape {x}")
    if min(w) < 1:
        fail(op, f"weight of shape {w}: every extent must be at least 1")
    normalise(op, attrs, w[2:])
    groups = attrs["groups"]
    if w[0] % groups:
        fail(op, f"groups={groups} does not divide in_channels={w[0]}")
    if x[1] != w[0]:
        fail(op, f"input of shape {x} has {x[1]} channels: weight of shape {w} expects {w[0]}")
    size = []
    for i, (n, k, s, (low, high), e, d) in enumerate(zip(x[2:], w[2:], attrs["stride"], attrs["padding"],
                                                         attrs["output_padding"], attrs["dilation"], strict=True)):
        span = d * (k - 1) + 1
        full = (n - 1) * s + span + e
        if full >= LIMIT:
            fail(op, f"spatial dimension {i} with {n} elements, stride={s}, kernel_size={k}, dilation={d} and "
                     f"output_padding={e} spans 2**31 elements or more")
        if full <= low + high:
            fail(op, f"the output would be empty: spatial dimension {i} has {n} elements, which stride={s}, kernel_size={k},"
                     f" dilation={d} and output_padding={e} make {full}, and padding {low}+{high} removes as many")
        size.append(full - low - high)
    return (x[0], w[1] * groups, *size)


def infer(inputs: list, attrs: dict) -> list[Type]:
    x, w, b = (*inputs, None)[:3]
    shape = transposed_shape("conv_transpose", x.shape, w.shape, attrs)
    if b is not None and b.shape != (shape[1],):
        fail("conv_transpose", f"bias of shape {b.shape}: expected ({shape[1]},), one per output channel")
    return [Type(shape)]


def infer_backward_data(inputs: list, attrs: dict) -> list[Type]:
    op = "conv_transpose_backward_data"
    gy, w = inputs
    shape = tuple(attrs["input_shape"])
    expected = transposed_shape(op, shape, w.shape, attrs)
    if gy.shape != expected:
        fail(op, f"grad_output of shape {gy.shape}: input_shape={shape} and weight of shape {w.shape} give an output of "
                 f"shape {expected}")
    return [Type(shape)]


def infer_backward_weight(inputs: list, attrs: dict) -> list[Type]:
    op = "conv_transpose_backward_weight"
    x, gy = inputs
    shape = tuple(attrs["weight_shape"])
    expected = transposed_shape(op, x.shape, shape, attrs)
    if gy.shape != expected:
        fail(op, f"grad_output of shape {gy.shape}: input of shape {x.shape} and weight_shape={shape} give an output of "
                 f"shape {expected}")
    return [Type(shape, FLAT)]


def gradient(node: Node, grads: list) -> list:
    (gy,) = grads
    x, w, b = (*node.inputs, None)[:3]
    geometry = {key: node.attrs[key] for key in ("stride", "padding", "output_padding", "dilation", "groups")}
    geometry.update({key: node.attrs[key] for key in ("algorithm", "precision") if key in node.attrs}, wish=True)
    gx = apply("conv_transpose_backward_data", [gy, w], input_shape=x.shape, **geometry)
    gw = apply("conv_transpose_backward_weight", [x, gy], weight_shape=w.shape, **geometry)
    gb = None if b is None else apply("channel_sum", [gy])
    return [gx, gw, gb][: len(node.inputs)]


def lower(node: Node, cx: Lowering) -> None:
    x, w = node.inputs[:2]
    p = Problem(node.output.shape, w.shape, x.shape, node.attrs)
    algorithm = choose("backward_data", node, p, cx)
    if algorithm.fuses_backward_data:
        algorithm.lower_backward_data(node, p, cx)
        return
    plain = Node(node.op, [x, w], {**node.attrs, "act": None}, node.path, node.segment, node.outputs)
    algorithm.lower_backward_data(plain, p, cx)
    fused = epilogue(node, cx)
    if not fused:
        return
    y = cx.read(node.output)
    cx.step(im2col.epilogue, x=y.ref, ldx=y.ld, y=y.ref, ldy=y.ld, pixels=prod(p.x), channels=channels(node.output.shape),
            op="epilogue", **fused)


register(Operator("conv_transpose", infer, lower, gradient, activations=(0,)))
register(Operator("conv_transpose_backward_data", infer_backward_data, lower_conv))
register(Operator("conv_transpose_backward_weight", infer_backward_weight, lower_backward_weight))
