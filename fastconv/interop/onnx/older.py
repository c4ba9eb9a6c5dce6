"""What the standard's operators meant before set 7."""

from __future__ import annotations

from fastconv.interop.onnx.table import Node, tensor

ALIGNED = ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater")


def inputs(node: Node, values: list) -> list:
    """The inputs of a node of an older set, as the newer operator takes them."""
    if node.op in ALIGNED and node.get("broadcast") and node.get("axis") is not None:
        first, second = values[0], tensor(values[1])
        behind = len(first.shape) - node.get("axis") % len(first.shape) - second.ndim
        return [first, second.reshape(*second.shape, *[1] * behind) if behind > 0 else second]
    if node.op == "PRelu" and len(values[1].shape) == 1 and int(values[1].shape[0]) > 1:
        return [values[0], tensor(values[1]).reshape(-1, *[1] * (len(values[0].shape) - 2))]
    return values
