"""Element by element: arithmetic, comparisons, activations, and normalisations of one line."""

from __future__ import annotations

import numpy as np

from fastconv import functional as F
from fastconv.interop.onnx.narrow import INTEGERS, is_narrow, rounded, wrapped
from fastconv.interop.onnx.reading import BITS, dtypes, held_as
from fastconv.interop.onnx.table import Node, Value, function, is_static, numbers, register, tensor

UNARY = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Abs": "abs",
    "Neg": "neg", "Reciprocal": "reciprocal", "Floor": "floor", "Ceil": "ceil", "Round": "round", "Sign": "sign",
    "Erf": "erf", "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan",
    "Sinh": "sinh", "Cosh": "cosh", "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh", "Softplus": "softplus",
    "Softsign": "softsign", "Mish": "mish", "Not": "logical_not", "IsNaN": "isnan", "HardSwish": "hardswish",
}
BINARY = {"Equal": "eq", "Less": "lt", "LessOrEqual": "le", "Greater": "gt", "GreaterOrEqual": "ge", "And": "logical_and",
          "Or": "logical_or", "Xor": "logical_xor", "Pow": "pow"}


def _unary(name: str):
    return lambda node, x: function(node, name)(tensor(x))


def _binary(name: str):
    return lambda node, a, b: function(node, name)(tensor(a), operand(b))


for _onnx, _ours in UNARY.items():
    register(_onnx)(_unary(_ours))
for _onnx, _ours in BINARY.items():
    register(_onnx)(_binary(_ours))


def operand(value: Value):
    """A value as an operand: one known number as such, which kernels take as a constant."""
    if is_static(value) and value.size == 1 and value.ndim == 0 and value.dtype == np.float32:
        return float(value)
    return tensor(value)


@register("Add")
def add(node: Node, a, b):
    return tensor(a) + operand(b)


@register("Sub")
def sub(node: Node, a, b):
    return tensor(a) - operand(b)


@register("Mul")
def mul(node: Node, a, b):
    return tensor(a) * operand(b)


@register("Div")
def div(node: Node, a, b):
    a, b = tensor(a), operand(b)
    if a.dtype != "float32":
        return function(node, "div")(a, b, rounding_mode="trunc")
    return a / b


@register("Mod")
def mod(node: Node, a, b):
    return function(node, "fmod" if node.get("fmod", 0) else "remainder")(tensor(a), operand(b))


def _fold(name: str):
    def fold(node: Node, *values):
        result = tensor(values[0])
        for value in values[1:]:
            result = function(node, name)(result, tensor(value))
        return result

    return fold


register("Max")(_fold("maximum"))
register("Min")(_fold("minimum"))
register("Sum")(_fold("add"))


@register("Mean")
def mean(node: Node, *values):
    return _fold("add")(node, *values) * (1.0 / len(values))


@register("Clip")
def clip(node: Node, x, low=None, high=None):
    if not is_static(low) or not is_static(high):  # the model computes a limit
        x = tensor(x)
        for name, limit in (("maximum", low), ("minimum", high)):
            x = x if limit is None else function(node, name)(x, tensor(limit).reshape(()))
        return x
    low = node.get("min") if low is None else node.number(low, "min")
    high = node.get("max") if high is None else node.number(high, "max")
    if low is None and high is None:
        return tensor(x)
    if low == 0 and high is None:
        return F.relu(tensor(x))
    x = tensor(x)
    if x.dtype == "float32" and low is not None and high is not None and low < high:
        return F.relu6(x) if (low, high) == (0, 6) else F.hardtanh(x, float(low), float(high))
    return function(node, "clamp")(x, low, high)


@register("LeakyRelu")
def leaky_relu(node: Node, x):
    return F.leaky_relu(tensor(x), float(node.get("alpha", 0.01)))


@register("PRelu")
def prelu(node: Node, x, slope):
    x, slope = tensor(x), tensor(slope)
    return function(node, "where")(x < 0, x * slope, x) if slope.ndim > 1 and x.ndim - slope.ndim != 1 else \
        _prelu(node, x, slope)


def _prelu(node: Node, x, slope):
    if slope.ndim == x.ndim - 1 and slope.ndim and all(int(s) == 1 for s in slope.shape[1:]) and \
            int(slope.shape[0]) == int(x.shape[1]):
        return function(node, "prelu")(x, slope.reshape(-1))
    return function(node, "where")(x < 0, x * slope, x)


@register("Elu")
def elu(node: Node, x):
    return F.elu(tensor(x), float(node.get("alpha", 1.0)))


@register("Celu")
def celu(node: Node, x):
    return function(node, "celu")(tensor(x), float(node.get("alpha", 1.0)))


@register("Selu")
def selu(node: Node, x):
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    return F.elu(tensor(x), float(alpha)) * float(gamma)


@register("Gelu")
def gelu(node: Node, x):
    return F.gelu(tensor(x), approximate=node.get("approximate", "none"))


@register("Swish")
def swish(node: Node, x):
    alpha = float(node.get("alpha", 1.0))
    x = tensor(x)
    return F.silu(x) if alpha == 1 else x * F.sigmoid(x * alpha)


@register("HardSigmoid")
def hard_sigmoid(node: Node, x):
    alpha, beta = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    if np.float32(alpha) == np.float32(1 / 6) and beta == 0.5:
        return F.hardsigmoid(tensor(x))
    return F.hardtanh(tensor(x) * alpha + beta, 0.0, 1.0)


@register("ThresholdedRelu")
def thresholded_relu(node: Node, x):
    return function(node, "threshold")(tensor(x), float(node.get("alpha", 1.0)), 0.0)


@register("Shrink")
def shrink(node: Node, x):
    x, lambd, bias = tensor(x), float(node.get("lambd", 0.5)), float(node.get("bias", 0.0))
    where = function(node, "where")
    return where(x < -lambd, x + bias, where(x > lambd, x - bias, 0.0 * x))


@register("IsInf")
def is_inf(node: Node, x):
    x = tensor(x)
    up, down = node.get("detect_positive", 1), node.get("detect_negative", 1)
    if up and down:
        return function(node, "isinf")(x)
    if not up and not down:
        return function(node, "isinf")(x * 0.0)
    return function(node, "eq")(x, float("inf") if up else float("-inf"))


@register("Where")
def where(node: Node, condition, a, b):
    return function(node, "where")(tensor(condition), tensor(a), tensor(b))


@register("Identity")
def identity(node: Node, x):
    return x


@register("Dropout")
def dropout(node: Node, x, ratio=None, training=None):
    p = node.get("ratio", 0.5) if ratio is None else node.number(ratio, "ratio")
    active = training is not None and bool(node.number(training, "training_mode"))
    x = tensor(x)
    y = F.dropout(x, float(p), training=True) if active and p > 0 else x
    if len([o for o in node.outputs if o]) > 1:
        return y, function(node, "eq")(y, y) if not active else function(node, "ne")(y, 0.0)
    return y


@register("Cast", "CastLike")
def cast(node: Node, x, like=None):
    if node.op == "CastLike":
        kind = node.kind(1) or (like.dtype if isinstance(like.dtype, str) else like.dtype.name)
    else:
        to = node.get("to")
        kind = to.lower() if isinstance(to, str) else dtypes().get(to, "")  # a name before set 6
        kind = {"float": "float32", "double": "float64"}.get(kind, kind)
    if kind not in BITS:
        raise node.fail(f"to={node.get('to')}: expected a type of numbers")
    if is_narrow(kind):
        return rounded(node, x, kind, bool(node.get("saturate", 1)), node.get("round_mode", "up"))
    name = held_as(kind)
    if is_static(x):
        return numbers(x).astype(name)
    x = tensor(x)
    if kind in INTEGERS and BITS[kind] < 8:
        x = wrapped(node, x, kind)
    return x if x.dtype == name else function(node, "cast")(x, name)


@register("Softmax", "LogSoftmax", "Hardmax")
def softmax(node: Node, x):
    x = tensor(x)
    kind = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}.get(node.op)
    if node.opset < 13:
        axis = node.get("axis", 1) % max(1, x.ndim)
        if axis != x.ndim - 1 and any(int(s) != 1 for s in x.shape[axis + 1:]):  # over all that follows, as one
            shape = tuple(x.shape)
            flat = x.flatten(axis) if axis else x.reshape(1, -1)
            y = _hardmax(node, flat, -1) if kind is None else function(node, kind)(flat, -1)
            return y.reshape(shape)
    else:
        axis = node.get("axis", -1)
    return _hardmax(node, x, axis) if kind is None else function(node, kind)(x, axis)


def _hardmax(node: Node, x, axis: int):
    count = int(x.shape[axis])
    places = np.arange(count).reshape([count if i == axis % x.ndim else 1 for i in range(x.ndim)])
    return function(node, "cast")(function(node, "eq")(x.argmax(axis, keepdim=True), places), "float32")


# ---- normalisation ------------------------------------------------------------------------------------------------------


@register("BatchNormalization")
def batch_norm(node: Node, x, scale, bias, mean, var):
    x = tensor(x)
    training = bool(node.get("training_mode", 0))
    momentum, eps = float(node.get("momentum", 0.9)), float(node.get("epsilon", 1e-5))
    scale, bias, mean, var = map(tensor, (scale, bias, mean, var))
    if not training:
        if all(t.parameter is not None for t in (scale, bias, mean, var)) and 2 <= x.ndim <= 5:
            learning = node.part is not None and node.part.training
            return F.batch_norm(x, mean, var, scale, bias, learning, 1 - momentum, eps)
        shape = (1, -1, *[1] * (x.ndim - 2))
        scale = scale * (var + eps).rsqrt()
        return x * scale.reshape(shape) + (bias - mean * scale).reshape(shape)
    dims = tuple(i for i in range(x.ndim) if i != 1)
    shape = (1, -1, *[1] * (x.ndim - 2))
    now, spread = x.mean(dims), function(node, "var")(x, dims, correction=0)
    y = (x - now.reshape(shape)) * (spread + eps).rsqrt().reshape(shape) * scale.reshape(shape) + bias.reshape(shape)
    if len([o for o in node.outputs if o]) == 1:
        return y
    return y, mean * momentum + now * (1 - momentum), var * momentum + spread * (1 - momentum)


@register("InstanceNormalization")
def instance_norm(node: Node, x, scale, bias):
    return function(node, "instance_norm")(tensor(x), None, None, tensor(scale), tensor(bias), True, 0.1,
                                           float(node.get("epsilon", 1e-5)))


@register("LayerNormalization")
def layer_norm(node: Node, x, scale, bias=None):
    x = tensor(x)
    axis, eps = node.dim(node.get("axis", -1), x.ndim), float(node.get("epsilon", 1e-5))
    shape = tuple(int(s) for s in x.shape[axis:])
    scale, bias = tensor(scale), None if bias is None else tensor(bias)
    same = tuple(scale.shape) == shape and (bias is None or tuple(bias.shape) == shape)
    y = function(node, "layer_norm")(x, shape, scale if same else None, bias if same else None, eps)
    if not same:
        y = y * scale if bias is None else y * scale + bias
    if len([o for o in node.outputs if o]) == 1:
        return y
    dims = tuple(range(axis, x.ndim))
    mean = x.mean(dims, keepdim=True)
    return y, mean, (function(node, "var")(x, dims, correction=0, keepdim=True) + eps).rsqrt()


@register("RMSNormalization", "SimplifiedLayerNormalization")
def rms_norm(node: Node, x, scale):
    x = tensor(x)
    axis, eps = node.dim(node.get("axis", -1), x.ndim), float(node.get("epsilon", 1e-5))
    return function(node, "rms_norm")(x, tuple(int(s) for s in x.shape[axis:]), None, eps) * tensor(scale)


@register("GroupNormalization")
def group_norm(node: Node, x, scale, bias):
    x, groups, eps = tensor(x), node.get("num_groups"), float(node.get("epsilon", 1e-5))
    scale, bias = tensor(scale), tensor(bias)
    if node.opset < 21:  # one per group
        per = int(x.shape[1]) // groups
        scale, bias = (function(node, "repeat_interleave")(t, per, 0) for t in (scale, bias))
    return function(node, "group_norm")(x, groups, scale, bias, eps)


@register("LRN")
def local_response(node: Node, x):
    return function(node, "local_response_norm")(tensor(x), node.get("size"), float(node.get("alpha", 1e-4)),
                                                 float(node.get("beta", 0.75)), float(node.get("bias", 1.0)))


@register("LpNormalization")
def lp_normalization(node: Node, x):
    return function(node, "normalize")(tensor(x), float(node.get("p", 2)), node.get("axis", -1))


@register("MeanVarianceNormalization")
def mean_variance(node: Node, x):
    x, axes = tensor(x), tuple(node.get("axes", [0, 2, 3]))
    centred = x - x.mean(axes, keepdim=True)
    return centred / ((centred * centred).mean(axes, keepdim=True).sqrt() + 1e-9)
