"""Where tensors of any rank lie: the three layouts, and what the operators over strided arrays share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv.graph.ir import (
    DENSE,
    FLAT,
    PIXELS,
    Node,
    Operator,
    Tensor,
    Type,
    apply,
    as_pixels,
    current_graph,
    fail,
    register,
)
from fastconv.graph.parameter import Parameter
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Strided

__all__ = ["as_pixels", "broadcast", "fixed", "laid_out", "layout_of", "sum_to", "tensor"]


def tensor(op: str, name: str, value) -> Tensor:
    """An argument as a tensor: a parameter, an array and a number become one of the graph being traced."""
    if isinstance(value, Tensor):
        return value
    graph = current_graph()
    if graph is None or not isinstance(value, (Parameter, np.ndarray, np.generic, int, float)):
        fail(op, f"{name} is a {type(value).__name__}: expected a tensor", TypeError)
        raise AssertionError
    return graph.parameter(value) if isinstance(value, Parameter) else graph.constant(np.asarray(value))


def layout_of(inputs: Sequence[Tensor], shape: Sequence[int]) -> str:
    """The layout of an elementwise result of this shape: pixels where the largest operand that has the batch is such, dense
    where there is a batch at all."""
    batched = [t for t in inputs if t is not None and t.batched]
    if not batched:
        return FLAT
    largest = max(batched, key=lambda t: (t.ndim == len(shape), sum(a == b for a, b in zip(t.shape, shape, strict=False))))
    return PIXELS if largest.layout == PIXELS and largest.ndim == len(shape) else DENSE


def broadcast(operand: Strided, own: Sequence[int], shape: Sequence[int]) -> Strided:
    """An operand of shape ``own`` as one of ``shape``: strides of 0 where it is repeated."""
    missing = len(shape) - len(own)
    strides = [0] * missing + [0 if extent == 1 and shape[missing + i] != 1 else operand.strides[i]
                               for i, extent in enumerate(own)]
    return operand._replace(strides=tuple(strides))


def fixed(tensor: Tensor) -> None:
    """Says that an operator mixes the first dimension of this tensor with others: where that is the batch, the graph is
    right for the batch alone that it was traced with."""
    if tensor.batched:
        tensor.graph.exact = tensor.type.shape[0]


def laid_out(tensor: Tensor, like: Type) -> Tensor:
    """The tensor in the layout of another type of the same shape."""
    if tensor.layout == like.layout and tensor.type.fixed == like.fixed:
        return tensor
    return apply("layout", [tensor], layout=like.layout)


def sum_to(gradient: Tensor, like: Tensor) -> Tensor:
    """The gradient of what was repeated to the shape of ``gradient``: its sum over the dimensions of which ``like`` has one
    element, or none."""
    shape, own = gradient.type.shape, like.type.shape
    if shape != own:
        missing = len(shape) - len(own)
        dims = tuple(d for d, s in enumerate(shape) if d < missing or (own[d - missing] == 1 and s != 1))
        gradient = apply("reduce", [gradient], operation="sum", dims=dims, keepdim=True, shape=own, batched=like.batched)
    return laid_out(gradient, like.type)


def infer(inputs: list, attrs: dict) -> list[Type]:
    x, layout = inputs[0], attrs["layout"]
    if layout == FLAT or layout == DENSE and not x.batched:
        fixed(x)
        return [Type(x.shape, FLAT, x.dtype)]
    return [Type(x.shape, layout, x.dtype, layout == PIXELS and not x.batched)]


def lower(node: Node, cx: Lowering) -> None:
    source = cx.view(node.inputs[0])
    cx.alias_view(node.output, source.ref, source.strides)


register(Operator("layout", infer, lower, lambda node, grads: [laid_out(grads[0], node.inputs[0].type)], general=True))


def lower_detach(node: Node, cx: Lowering) -> None:
    source = cx.view(node.inputs[0])
    cx.alias_view(node.output, source.ref, source.strides)


register(Operator("detach", lambda inputs, attrs: [inputs[0].type], lower_detach, lambda node, grads: [None], general=True))
