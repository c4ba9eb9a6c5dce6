"""Pooling: maximum and mean over windows, given by their size or (adaptive) by the size of the output.

A max pool whose gradient is wanted gets a second output, the winner's tap in each window: a byte where that suffices, else
an int32. Its backward reads that instead of the input, so the input's memory is free after the forward. Adaptive windows
that divide the input evenly are ordinary windows (global pooling is one window) and are lowered as such.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from math import prod

from fastconv._values import shown
from fastconv.graph.ir import PIXELS, Node, Operator, Tensor, Type, apply, fail, register
from fastconv.kernels import pool as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import View, channels, spatial3
from fastconv.ops.geometry import LIMIT, ints, pads, to3

# ---- shape rules ----------------------------------------------------------------------------------------------------


def dimensions(op: str, x: tuple[int, ...]) -> int:
    """Spatial dimensions of the input."""
    if len(x) not in (3, 4, 5):
        fail(op, f"input of shape {x} has {len(x)} dimensions: expected 3 (N, C, L), 4 (N, C, H, W) or 5 (N, C, D, H, W)")
    return len(x) - 2


def flag(op: str, attrs: dict, name: str, default: bool) -> None:
    value = attrs.setdefault(name, default)
    if not isinstance(value, bool):
        fail(op, f"{name}={shown(value)}: expected True or False", TypeError)


def normalise(op: str, x: tuple[int, ...], attrs: dict) -> None:
    """Checks the window's arguments and replaces them by one entry per dimension.

    Padding is at most half of the kernel, whatever its dilation, as PyTorch has it; given as (front, back) pairs, less than
    the window.
    """
    dims = dimensions(op, x)
    given = attrs.get("padding", 0)
    kernel = attrs["kernel_size"] = ints(op, "kernel_size", attrs["kernel_size"], dims, 1)
    stride = attrs.get("stride")
    attrs["stride"] = kernel if stride is None or stride in ((), []) else ints(op, "stride", stride, dims, 1)
    attrs["dilation"] = ints(op, "dilation", attrs.get("dilation", 1), dims, 1)
    attrs["padding"] = pads(op, given, kernel, attrs["stride"], attrs["dilation"])
    flag(op, attrs, "ceil_mode", False)
    if prod(kernel) >= LIMIT:
        fail(op, f"kernel_size={kernel}: a window of {prod(kernel)} values; expected less than 2**31")
    pairs = isinstance(given, str) or isinstance(given, (tuple, list)) and any(isinstance(p, (tuple, list)) for p in given)
    for k, d, sides in zip(kernel, attrs["dilation"], attrs["padding"], strict=True):
        span = d * (k - 1) + 1
        if not pairs and 2 * max(sides) > k:
            fail(op, f"padding={shown(given)} must be at most half of kernel_size={k}")
        if max(sides) >= span:
            fail(op, f"padding={shown(given)} must be less than the window: kernel_size={k} with dilation={d} spans {span}")


def windows(op: str, x: tuple[int, ...], attrs: dict) -> tuple[int, ...]:
    """Extents of the output, as PyTorch counts windows."""
    out = []
    for i, length in enumerate(x[2:]):
        k, s, d, (low, high) = (attrs[key][i] for key in ("kernel_size", "stride", "dilation", "padding"))
        span = d * (k - 1) + 1
        if length + low + high >= LIMIT or span >= LIMIT:
            fail(op, f"spatial dimension {i} with {length} elements, padding {low}+{high}, kernel_size={k} and dilation={d} "
                     "spans 2**31 elements or more")
        room = length + low + high - span
        count = (-(-room // s) if attrs["ceil_mode"] else room // s) + 1
        if attrs["ceil_mode"] and (count - 1) * s >= length + low:
            count -= 1  # the last window must start inside the input or the padding in front
        if count < 1:
            fail(op, f"the output would be empty: spatial dimension {i} has {length} elements and padding {low}+{high}, but "
                     f"kernel_size={k} with dilation={d} spans {span}")
        out.append(count)
    return tuple(out)


def max_shape(op: str, x: tuple[int, ...], attrs: dict) -> tuple[int, ...]:
    normalise(op, x, attrs)
    return (*x[:2], *windows(op, x, attrs))


def avg_shape(op: str, x: tuple[int, ...], attrs: dict) -> tuple[int, ...]:
    normalise(op, x, attrs)
    if max(attrs["dilation"]) > 1:
        fail(op, f"dilation={shown(attrs['dilation'])} must be 1: the windows of a mean have no holes")
    flag(op, attrs, "count_include_pad", True)
    divisor = attrs.setdefault("divisor_override", None)
    if divisor is not None:
        try:
            number = 0 if isinstance(divisor, bool) else operator.index(divisor)
        except TypeError:
            fail(op, f"divisor_override={shown(divisor)}: expected an integer or None", TypeError)
        if not 0 < abs(number) < LIMIT:
            fail(op, f"divisor_override={shown(divisor)} must be an integer between 1 and 2**31")
        attrs["divisor_override"] = number
    return (*x[:2], *windows(op, x, attrs))


def adaptive_shape(op: str, x: tuple[int, ...], attrs: dict) -> tuple[int, ...]:
    dims = dimensions(op, x)
    size = attrs["output_size"]
    size = tuple(size) if isinstance(size, (tuple, list)) else (size,) * dims
    if len(size) == dims:
        size = tuple(have if want is None else want for want, have in zip(size, x[2:], strict=True))
    attrs["output_size"] = ints(op, "output_size", size, dims, 1)
    if 0 in x[2:] and 0 not in (*x[:2], *attrs["output_size"]):
        fail(op, f"input of shape {x}: expected spatial extents of at least 1")
    if prod(x[2:]) >= LIMIT:
        fail(op, f"input of shape {x}: an image of 2**31 elements or more")
    return (*x[:2], *attrs["output_size"])


# ---- from attributes to the kernels' problem --------------------------------------------------------------------------


def problem(x: Sequence[int], y: Sequence[int], attrs: dict) -> tuple[dict, str]:
    """Geometry for fastconv.kernels.pool, and the type of an index into its windows."""
    geometry: dict = {"channels": channels(x), "input": spatial3(x), "output": spatial3(y)}
    if "output_size" in attrs:
        if any(a % b for a, b in zip(x[2:], y[2:], strict=True)):
            return {**geometry, "adaptive": True}, "i32"
        kernel = stride = tuple(a // b for a, b in zip(geometry["input"], geometry["output"], strict=True))
        geometry.update(kernel=kernel, stride=stride)
    else:
        kernel = to3(attrs["kernel_size"], 1)
        padding = to3(attrs["padding"], (0, 0))
        geometry.update(kernel=kernel, stride=to3(attrs["stride"], 1), dilation=to3(attrs["dilation"], 1),
                        low=tuple(p[0] for p in padding), high=tuple(p[1] for p in padding))
        geometry.update(count_include_pad=attrs.get("count_include_pad", True),
                        divisor=attrs.get("divisor_override") or 0)
    return geometry, "u8" if prod(kernel) <= kernels.MOST_TAPS_U8 else "i32"


def describe(x: Tensor, y: Tensor) -> dict:
    return {"input": x.shape, "output": y.shape}


def lower_max(node: Node, cx: Lowering) -> None:
    (x,) = node.inputs
    geometry, index_type = problem(x.shape, node.output.shape, node.attrs)
    view, y = cx.read(x), cx.write(node.output)
    index: dict = {}
    if len(node.outputs) > 1:
        c = channels(x.shape)
        stored = View(cx.temp(kernels.INDEX_BYTES[index_type] * c * cx.pixels(node.output), "argmax"), c)
        cx.alias(node.outputs[1], stored)
        index = {"index": stored.ref, "ldi": stored.ld, "index_type": index_type}
    cx.step(kernels.max_forward, geometry, x=view.ref, ldx=view.ld, y=y.ref, ldy=y.ld, **index,
            info=describe(x, node.output))


def lower_positions(node: Node, cx: Lowering) -> None:
    (winners,) = node.inputs
    geometry, index_type = problem(node.attrs["input_shape"], winners.shape, node.attrs)
    index, y = cx.read(winners), cx.write(node.output)
    cx.step(kernels.max_positions, geometry, y=y.ref, ldy=y.ld, index=index.ref, ldi=index.ld, index_type=index_type,
            info=describe(winners, node.output))


def positions(values: Tensor) -> Tensor:
    """Where in its image each value of a max pool's output was: int64, row-major."""
    node = values.node
    assert node is not None
    attrs = {key: value for key, value in node.attrs.items() if key != "input_shape"}
    return apply("pool_positions", [argmax(node)], input_shape=node.inputs[0].type.shape, **attrs)


def lower_max_backward(node: Node, cx: Lowering) -> None:
    gy, winners = node.inputs
    geometry, index_type = problem(node.output.shape, gy.shape, node.attrs)
    view, index, gx = cx.read(gy), cx.read(winners), cx.write(node.output)
    cx.step(kernels.max_backward, geometry, gx=gx.ref, ldx=gx.ld, gy=view.ref, ldy=view.ld, index=index.ref, ldi=index.ld,
            index_type=index_type, info=describe(gy, node.output))


def lower_avg(node: Node, cx: Lowering) -> None:
    (x,) = node.inputs
    geometry, _ = problem(x.shape, node.output.shape, node.attrs)
    view, y = cx.read(x), cx.write(node.output)
    cx.step(kernels.avg_forward, geometry, x=view.ref, ldx=view.ld, y=y.ref, ldy=y.ld, info=describe(x, node.output))


def lower_avg_backward(node: Node, cx: Lowering) -> None:
    (gy,) = node.inputs
    geometry, _ = problem(node.output.shape, gy.shape, node.attrs)
    view, gx = cx.read(gy), cx.write(node.output)
    cx.step(kernels.avg_backward, geometry, gx=gx.ref, ldx=gx.ld, gy=view.ref, ldy=view.ld, info=describe(gy, node.output))


# ---- gradients --------------------------------------------------------------------------------------------------------


def argmax(node: Node) -> Tensor:
    """The second output of a max pool: which tap won. It exists from the moment that a gradient asks for it."""
    if len(node.outputs) == 1:
        x, y = node.inputs[0], node.output
        dtype = {"u8": "uint8", "i32": "int32"}[problem(x.shape, y.shape, node.attrs)[1]]
        node.outputs.append(Tensor(y.graph, Type(y.shape, PIXELS, dtype, y.type.fixed), node, 1))
    return node.outputs[1]


def add(name: str, shape, attributes: tuple[str, ...], lower, lower_backward, winners: bool) -> None:
    """Registers an operator and its backward, which takes the same attributes and ``input_shape``."""
    backward = f"{name}_backward"

    def infer(inputs: list, attrs: dict) -> list[Type]:
        return [Type(shape(name, inputs[0].shape, attrs))]

    def infer_backward(inputs: list, attrs: dict) -> list[Type]:
        x, gy = tuple(attrs["input_shape"]), inputs[0].shape
        expected = shape(backward, x, attrs)
        if gy != expected:
            fail(backward, f"grad_output of shape {gy}: input_shape={x} and the window give an output of shape {expected}")
        return [Type(x)]

    def gradient(node: Node, grads: list) -> list:
        if grads[0] is None:
            return [None]
        attrs = {key: node.attrs[key] for key in attributes}
        inputs = [grads[0], argmax(node)] if winners else [grads[0]]
        return [apply(backward, inputs, input_shape=node.inputs[0].shape, **attrs)]

    register(Operator(name, infer, lower, gradient, activations=(0,)))
    register(Operator(backward, infer_backward, lower_backward))


register(Operator("pool_positions", lambda inputs, attrs: [Type(inputs[0].shape, PIXELS, "int64")], lower_positions,
                  lambda node, grads: [None]))
WINDOW = ("kernel_size", "stride", "padding", "ceil_mode")
add("max_pool", max_shape, (*WINDOW, "dilation"), lower_max, lower_max_backward, True)
add("avg_pool", avg_shape, (*WINDOW, "count_include_pad", "divisor_override"), lower_avg, lower_avg_backward, False)
add("adaptive_max_pool", adaptive_shape, ("output_size",), lower_max, lower_max_backward, True)
add("adaptive_avg_pool", adaptive_shape, ("output_size",), lower_avg, lower_avg_backward, False)
