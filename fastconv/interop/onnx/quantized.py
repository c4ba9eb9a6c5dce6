"""Quantised values: computed in float32, where products of bytes are exact up to sums of 2**24."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from fastconv.interop.onnx.conv import conv, matmul
from fastconv.interop.onnx.narrow import INTEGERS, bounds, is_narrow, rounded
from fastconv.interop.onnx.reading import dtypes, held_as
from fastconv.interop.onnx.table import Node, function, register, tensor


def _along(node: Node, value, x, axis: int):
    """A scale or zero point per channel, or per block of an axis, shaped to go with x."""
    value, block = tensor(value), node.get("block_size", 0)
    if block and value.ndim == x.ndim:
        axis = node.dim(axis, x.ndim)
        whole = function(node, "repeat_interleave")(value, block, axis)
        return whole.narrow(axis, 0, int(x.shape[axis]))
    if value.ndim == 0 or all(int(s) == 1 for s in value.shape):
        return value.reshape(()) if value.ndim else value
    if value.ndim == 1:
        axis = node.dim(axis, x.ndim)
        return value.reshape(*[-1 if i == axis else 1 for i in range(x.ndim)])
    return value


# Of each graph: integers that were made here, by their id, and the same values in float32. What reads them reads those, so
# that between two layers nothing is converted back and forth.
_wide: WeakKeyDictionary = WeakKeyDictionary()


def _narrowed(node: Node, y, kind: str):
    """Whole numbers of float32 as integers."""
    made = function(node, "cast")(y, held_as(kind))
    _wide.setdefault(made.graph, {})[id(made)] = made, y
    return made


def _float(node: Node, x):
    x = tensor(x)
    if x.dtype == "float32":
        return x
    known = _wide.get(x.graph, {}).get(id(x))
    return function(node, "cast")(x, "float32") if known is None else known[1]


def quantize(node: Node, x, scale, zero, axis: int = 1, kind: str = "uint8"):
    if is_narrow(kind):
        return rounded(node, tensor(x) / _along(node, scale, x, axis), kind, bool(node.get("saturate", 1)))
    if kind not in INTEGERS:
        raise node.fail(f"a zero point of dtype {kind}: expected integers, or floating point of 8 bits or fewer",
                        NotImplementedError)
    y = function(node, "round")(tensor(x) / _along(node, scale, x, axis))
    if zero is not None:
        y = y + _float(node, _along(node, zero, x, axis))
    return _narrowed(node, function(node, "clamp")(y, *map(float, bounds(kind))), kind)


def kind_of(node: Node, zero, place: int) -> str:
    """The element type of a result: that of its zero point."""
    if zero is None:
        return dtypes().get(node.get("output_dtype", 0), "uint8")
    return node.kind(place) or (zero.dtype if isinstance(zero.dtype, str) else zero.dtype.name)


def dequantize(node: Node, x, scale=None, zero=None, axis: int = 1):
    y = _float(node, x)
    if zero is not None:
        y = y - _float(node, _along(node, zero, y, axis))
    return y if scale is None else y * _along(node, scale, y, axis)


@register("QuantizeLinear")
def quantize_linear(node: Node, x, scale, zero=None):
    return quantize(node, tensor(x), scale, zero, node.get("axis", 1), kind_of(node, zero, 2))


@register("DequantizeLinear")
def dequantize_linear(node: Node, x, scale, zero=None):
    return dequantize(node, tensor(x), scale, zero, node.get("axis", 1))


@register("DynamicQuantizeLinear")
def dynamic(node: Node, x):
    x = tensor(x)
    low, high = (function(node, n)(x) for n in ("amin", "amax"))
    low, high = function(node, "clamp")(low, None, 0.0), function(node, "clamp")(high, 0.0)
    scale = (high - low) / 255.0
    zero = function(node, "cast")(function(node, "clamp")(function(node, "round")(-low / scale), 0.0, 255.0), "uint8")
    return quantize(node, x, scale, zero), scale, zero


@register("QLinearConv")
def qlinear_conv(node: Node, x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b=None):
    y = conv(node, dequantize(node, x, None, x_zero), dequantize(node, w, None, w_zero, 0))
    if b is not None:
        y = y + _along(node, _float(node, b), y, 1)
    scale = _float(node, x_scale) * _along(node, w_scale, y, 1)
    return quantize(node, y * scale, y_scale, y_zero, 1, kind_of(node, y_zero, 7))


@register("QLinearMatMul")
def qlinear_matmul(node: Node, a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero):
    y = matmul(node, dequantize(node, a, None, a_zero, -2), dequantize(node, b, None, b_zero, -1))
    return quantize(node, y * (_along(node, a_scale, y, -2) * _along(node, b_scale, y, -1)), y_scale, y_zero, -1,
                    kind_of(node, y_zero, 7))


@register("ConvInteger")
def conv_integer(node: Node, x, w, x_zero=None, w_zero=None):
    y = conv(node, dequantize(node, x, None, x_zero), dequantize(node, w, None, w_zero, 0))
    return function(node, "cast")(y, "int32")


@register("MatMulInteger")
def matmul_integer(node: Node, a, b, a_zero=None, b_zero=None):
    y = matmul(node, dequantize(node, a, None, a_zero, -2), dequantize(node, b, None, b_zero, -1))
    return function(node, "cast")(y, "int32")
