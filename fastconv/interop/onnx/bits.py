"""Integers bit by bit. Types that tensors do not have are held in int64: their own width is kept."""

from __future__ import annotations

from fastconv.interop.onnx.narrow import INTEGERS
from fastconv.interop.onnx.reading import BITS
from fastconv.interop.onnx.table import Node, function, register, tensor

BINARY = {"BitwiseAnd": "bitwise_and", "BitwiseOr": "bitwise_or", "BitwiseXor": "bitwise_xor"}


def _kind(node: Node, x) -> str:
    kind = node.kind(0) or x.dtype
    if kind not in INTEGERS:
        raise node.fail(f"input of dtype {kind}: expected integers", TypeError)
    return kind


def _kept(node: Node, y, kind: str):
    """The lowest bits of a type, as its value."""
    bits, both = BITS[kind], function(node, "bitwise_and")
    if bits == BITS[y.dtype] or bits == 64:
        return y
    if kind.startswith("u"):
        return both(y, (1 << bits) - 1)
    sign = 1 << (bits - 1)
    return function(node, "bitwise_xor")(both(y, (1 << bits) - 1), sign) - sign


def _binary(name: str):
    def apply(node: Node, a, b):
        a, b = tensor(a), tensor(b)
        _kind(node, a)
        return function(node, name)(a, b)

    return apply


for _onnx, _ours in BINARY.items():
    register(_onnx)(_binary(_ours))


@register("BitwiseNot")
def bitwise_not(node: Node, x):
    x = tensor(x)
    return _kept(node, function(node, "bitwise_not")(x), _kind(node, x))


@register("BitShift")
def bit_shift(node: Node, x, by):
    """Amounts below 0, or of all bits and more, leave what the sign's extension is alone."""
    x, by, direction = tensor(x), tensor(by), node.get("direction")
    kind = _kind(node, x)
    bits, where = BITS[kind], function(node, "where")
    inside = function(node, "logical_and")(function(node, "ge")(by, 0), function(node, "lt")(by, bits))
    by = where(inside, by, by * 0)
    none = x * 0
    if direction == "LEFT":
        return _kept(node, where(inside, function(node, "bitwise_left_shift")(x, by), none), kind)
    if direction != "RIGHT":
        raise node.fail(f"direction={direction!r}: expected LEFT or RIGHT")
    right = function(node, "bitwise_right_shift")
    if kind == "uint64":  # held in int64, whose sign is one of its bits
        half = function(node, "bitwise_and")(right(x, 1), (1 << 63) - 1)
        return where(inside, where(function(node, "gt")(by, 0), right(half, function(node, "clamp")(by - 1, 0)), x), none)
    return where(inside, right(x, by), none if kind.startswith("u") else right(x, bits - 1))
