"""Operators of the domain com.microsoft, which ONNX Runtime's tools write: quantised and fused ones."""

from __future__ import annotations

from collections.abc import Callable

from fastconv import functional as F
from fastconv.interop.onnx.conv import average_pool, conv, gemm, global_average, matmul
from fastconv.interop.onnx.quantized import dequantize, dynamic, kind_of, quantize
from fastconv.interop.onnx.table import Node, function, register, tensor

DOMAIN = "com.microsoft"


def ours(*names: str) -> Callable:
    return register(*(f"{DOMAIN}.{name}" for name in names))


def _quantised(node: Node, y, scale, zero, place: int, like: int = 0):
    """A result, with the element type of its zero point, or of an input where it has none."""
    kind = kind_of(node, zero, place) if zero is not None else node.kind(like) or "uint8"
    return quantize(node, y, scale, zero, 1, kind)


def _pair(name: str, rule: Callable) -> None:
    @ours(name)
    def apply(node: Node, a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero=None):
        y = rule(dequantize(node, a, a_scale, a_zero), dequantize(node, b, b_scale, b_zero))
        return _quantised(node, y, y_scale, y_zero, 7)


def _single(name: str, rule: Callable) -> None:
    @ours(name)
    def apply(node: Node, x, x_scale, x_zero, y_scale, y_zero=None):
        if node.get("channels_last", 0):
            raise node.fail("channels_last=1 is not there", NotImplementedError)
        return _quantised(node, rule(node, dequantize(node, x, x_scale, x_zero)), y_scale, y_zero, 4)


def _softmax(node: Node, x):
    axis = node.dim(node.get("axis", -1), x.ndim)
    if node.get("opset", 13) < 13 and axis != x.ndim - 1:
        raise node.fail(f"axis={axis} of a set before 13: expected the last", NotImplementedError)
    return F.softmax(x, axis)


_pair("QLinearAdd", lambda a, b: a + b)
_pair("QLinearMul", lambda a, b: a * b)
_single("QLinearSigmoid", lambda node, x: F.sigmoid(x))
_single("QLinearLeakyRelu", lambda node, x: F.leaky_relu(x, float(node.get("alpha", 0.01))))
_single("QLinearAveragePool", average_pool)
_single("QLinearGlobalAveragePool", global_average)
_single("QLinearSoftmax", _softmax)


@ours("QLinearConcat")
def qlinear_concat(node: Node, y_scale, y_zero, *values):
    if not values or len(values) % 3:
        raise node.fail(f"{len(values)} inputs behind the scale and the zero point: expected three each")
    parts = [dequantize(node, *values[i: i + 3]) for i in range(0, len(values), 3)]
    return _quantised(node, function(node, "cat")(parts, node.get("axis")), y_scale, y_zero, 1, 2)


@ours("QGemm")
def qgemm(node: Node, a, a_scale, a_zero, b, b_scale, b_zero, c=None, y_scale=None, y_zero=None):
    """The scales and zero points of ``b`` are one, or one per column of the product."""
    axis = 0 if node.get("transB", 0) else 1
    y = gemm(node, dequantize(node, a, a_scale, a_zero), dequantize(node, b, b_scale, b_zero, axis))
    if c is not None:
        y = y + dequantize(node, c) * (tensor(a_scale) * tensor(b_scale)) * float(node.get("alpha", 1.0))
    return y if y_scale is None else _quantised(node, y, y_scale, y_zero, 8)


@ours("MatMulIntegerToFloat")
def integer_to_float(node: Node, a, b, a_scale, b_scale, a_zero=None, b_zero=None, bias=None):
    y = matmul(node, dequantize(node, a, a_scale, a_zero, -2), dequantize(node, b, b_scale, b_zero, -1))
    return y if bias is None else y + tensor(bias)


@ours("DynamicQuantizeMatMul")
def dynamic_matmul(node: Node, a, b, b_scale, b_zero=None, bias=None):
    return integer_to_float(node, *_swapped(dynamic(node, a), b, b_scale), b_zero, bias)


def _swapped(made, b, b_scale) -> tuple:
    values, scale, zero = made
    return values, b, scale, b_scale, zero


ACTIVATIONS: dict[str, Callable] = {
    "Relu": lambda x, p: F.relu(x), "Sigmoid": lambda x, p: F.sigmoid(x), "Tanh": lambda x, p: F.tanh(x),
    "LeakyRelu": lambda x, p: F.leaky_relu(x, *p[:1]), "Clip": lambda x, p: F.hardtanh(x, p[0], p[1]),
    "HardSigmoid": lambda x, p: F.hardtanh(x * p[0] + p[1], 0.0, 1.0), "HardSwish": lambda x, p: F.hardswish(x),
}


def _activated(node: Node, y, parameters):
    name = node.get("activation", "")
    if not name:
        return y
    if name not in ACTIVATIONS:
        raise node.fail(f"activation={name!r}: expected one of {', '.join(ACTIVATIONS)}", NotImplementedError)
    return ACTIVATIONS[name](y, [float(p) for p in parameters if p is not None])


@ours("FusedConv")
def fused_conv(node: Node, x, w, b=None, z=None):
    y = conv(node, x, w, b)
    return _activated(node, y if z is None else y + tensor(z), node.get("activation_params") or ())


@ours("FusedGemm")
def fused_gemm(node: Node, a, b, c=None):
    given = [node.get(f"activation_{name}") for name in ("alpha", "beta", "gamma")]
    return _activated(node, gemm(node, a, b, c), given)


@ours("FusedMatMul")
def fused_matmul(node: Node, a, b):
    if node.get("transBatchA", 0) or node.get("transBatchB", 0):
        raise node.fail("transBatchA, transBatchB: expected 0", NotImplementedError)
    a, b = tensor(a), tensor(b)
    a = a.transpose(-2, -1) if node.get("transA", 0) and a.ndim > 1 else a
    b = b.transpose(-2, -1) if node.get("transB", 0) and b.ndim > 1 else b
    return matmul(node, a, b) * float(node.get("alpha", 1.0))


@ours("Gelu", "BiasGelu")
def gelu(node: Node, x, bias=None):
    return F.gelu(tensor(x) if bias is None else tensor(x) + tensor(bias))


@ours("FastGelu")
def fast_gelu(node: Node, x, bias=None):
    return F.gelu(tensor(x) if bias is None else tensor(x) + tensor(bias), "tanh")


@ours("QuickGelu")
def quick_gelu(node: Node, x):
    x = tensor(x)
    return x * F.sigmoid(x * float(node.get("alpha", 1.702)))


@ours("SkipLayerNormalization")
def skip_layer_norm(node: Node, x, skip, scale, bias=None, more=None):
    if any(node.outputs[1:3]):
        raise node.fail("mean and deviation as outputs are not there", NotImplementedError)
    total = tensor(x) + tensor(skip)
    total = total if more is None else total + tensor(more)
    y = function(node, "layer_norm")(total, (int(total.shape[-1]),), tensor(scale), None if bias is None else tensor(bias),
                                     float(node.get("epsilon", 1e-12)))
    return y, None, None, total
