"""`reduce`: sums, products, extremes, moments over any dimensions of a tensor, as it lies; scans along one are in `scan.py`.

The result of a reduction over the batch is flat: the graph is right for its batch alone (``views.fixed``), as what is made
of the result may be anything. Gradients of what was repeated (:func:`fastconv.ops.views.sum_to`) are right for any batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fastconv.graph.ir import DENSE, FLAT, PIXELS, Node, Operator, Tensor, Type, apply, register
from fastconv.kernels import reduce as kernels
from fastconv.kernels.reduce_way import ALL, RESULTS, TWO_RESULTS, WHOLE, way
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Strided
from fastconv.ops import views
from fastconv.ops.map import fused

CONSTANTS = ("p", "correction", "eps")


def reduced(operation: str, x: Tensor, dims: Sequence[int], keepdim: bool = False, **constants: float) -> Any:
    """A reduction over ``dims``, counted from the front; a pair where the operation has two results. Of integers and truths
    those that have whole results are exact, in int64; extremes have the dtype of ``x``."""
    if x.dtype != "float32" and f"whole_{operation}" in WHOLE:
        operation = f"whole_{operation}"
    return apply("reduce", [x], operation=operation, dims=tuple(sorted(dims)), keepdim=keepdim, **constants)


def kept_shape(shape: Sequence[int], dims: Sequence[int], keepdim: bool) -> tuple[int, ...]:
    return tuple(1 if d in dims else s for d, s in enumerate(shape) if keepdim or d not in dims)


def infer(inputs: list, attrs: dict) -> list[Type]:
    x, dims = inputs[0], attrs["dims"]
    shape = attrs.get("shape")  # of a sum to what was repeated
    if shape is None:
        shape = kept_shape(x.shape, dims, attrs["keepdim"])
        attrs["count"] = prod(x.shape[d] for d in dims)
    layout = FLAT
    if x.batched and 0 in dims and "shape" not in attrs:
        views.fixed(x)
    elif x.batched and 0 not in dims and attrs.get("batched", True):
        layout = PIXELS if x.layout == PIXELS and 2 <= len(shape) <= 5 else DENSE
    operation, second = attrs["operation"], "float32"
    dtype = RESULTS.get(ALL[operation][2], "float32")
    if operation in WHOLE:
        dtype, second = "int64" if operation in ("whole_sum", "whole_prod") or dtype == "int64" else x.dtype, x.dtype
    found = [Type(tuple(shape), layout, dtype)]
    return found + [Type(tuple(shape), layout, second)] * (operation in TWO_RESULTS)


def under(view: Strided, rank: int, dims: Sequence[int], shape: Sequence[int]) -> tuple:
    """A result seen with the dimensions of what is reduced."""
    strides: list[int] = [0] * rank
    at = len(shape)
    missing = len(shape) < rank and rank - len(shape) == len(dims)  # reduced dimensions are gone
    for d in reversed(range(rank)):
        if missing and d in dims:
            continue
        at -= 1
        if at >= 0 and d not in dims:
            strides[d] = view.strides[at]
    return view.ref, tuple(strides), view.dtype


def lower(node: Node, cx: Lowering) -> None:
    attrs, shape = node.attrs, node.inputs[0].shape
    x = tuple(cx.view(node.inputs[0]))
    z = None
    if len(node.inputs) > 1:
        z = tuple(views.broadcast(cx.view(node.inputs[1]), node.inputs[1].shape, shape))
    outputs = [under(cx.view(o, write=True), len(shape), attrs["dims"], o.shape) for o in node.outputs]
    if prod(node.output.shape) == 0:
        return
    keywords = {"shape": shape, "axes": attrs["dims"], "operation": attrs["operation"], "x": x, "z": z, "y": outputs[0],
                "y2": outputs[1] if len(outputs) > 1 else None, "batched": node.inputs[0].batched}
    floats = 0 if attrs["operation"] in WHOLE else way(**keywords).part_floats
    if floats:
        keywords["part"] = cx.temp(4 * floats, "partial reductions")
    keywords.update({name: attrs[name] for name in CONSTANTS if name in attrs})
    cx.step(kernels.reduce, info={"input": shape, "output": node.output.shape}, **keywords)
    if floats:
        cx.step(kernels.merge, op="reduce merge", **keywords)


# ---- what was reduced, repeated ------------------------------------------------------------------------------------------


def repeated(y: Tensor, x: Tensor, dims: Sequence[int], keepdim: bool) -> Tensor:
    """A result of a reduction of ``x`` over ``dims`` as a tensor of its shape: nothing is copied."""
    return apply("repeat_reduced", [y], dims=tuple(dims), keepdim=keepdim, type=x.type)


def infer_repeat(inputs: list, attrs: dict) -> list[Type]:
    type_ = attrs["type"]
    return [Type(type_.shape, type_.layout, inputs[0].dtype, type_.fixed)]


def lower_repeat(node: Node, cx: Lowering) -> None:
    y, shape = node.inputs[0], node.output.shape
    ref, strides, _ = under(cx.view(y), len(shape), node.attrs["dims"], y.shape)
    cx.alias_view(node.output, ref, strides)


def gradient_repeat(node: Node, grads: list) -> list:
    attrs = node.attrs
    return [apply("reduce", grads, operation="sum", dims=attrs["dims"], keepdim=attrs["keepdim"],
                  shape=node.inputs[0].type.shape, batched=node.inputs[0].batched)]


# ---- gradients -----------------------------------------------------------------------------------------------------------


def same(x, y):
    """1 where two values of a program are equal, or both no numbers."""
    return x.builder.line("eq", x, y).logical_or(x.isnan().logical_and(y.isnan()))


def safe_ratio(a, b):
    """a / b, 0 where b is 0."""
    zero = b.builder.line("eq", b, 0.0)
    return zero.where(0.0, a / zero.where(1.0, b))


def position(x: Tensor, dims: Sequence[int]) -> Tensor:
    """The number of each element among those that are reduced with it, of a shape that broadcasts with x."""
    shape = [x.type.shape[d] if d in dims else 1 for d in range(x.ndim)]
    return x.graph.constant(np.arange(prod(shape), dtype=np.int64).reshape(shape))


def gradient(node: Node, grads: list) -> list:
    attrs, x, y = node.attrs, node.inputs[0], node.output
    dims, keepdim, operation = attrs["dims"], attrs["keepdim"], attrs["operation"]
    count, p = attrs.get("count", 0), attrs.get("p", 2.0)

    def back(t: Tensor) -> Tensor:
        return repeated(t, x, dims, keepdim)

    def made(function, *operands) -> list:
        return [views.laid_out(fused(function, *operands), x.type)]

    g = grads[0]
    if operation in TWO_RESULTS:
        return gradient_of_two(node, grads, back, made)
    if g is None or y.dtype != "float32":
        return [None] * len(node.inputs)
    if operation == "sum":
        return [back(g)]
    if operation == "mean":
        return [back(apply("scale", [g], a=1.0 / count if count else 0.0))]
    if operation == "dot":
        z = node.inputs[1]
        gz = views.sum_to(fused(lambda g, x: g * x, back(g), x), z)
        return [*made(lambda g, z: g * z, back(g), z), gz]
    if operation == "prod":
        zeros = reduced("count_nonzero", fused(lambda x: x.builder.line("eq", x, 0.0), x), dims, keepdim)
        others = reduced("prod", fused(lambda x: x.builder.line("eq", x, 0.0).where(1.0, x), x), dims, keepdim)

        def of_product(g, x, zeros, others):
            line = x.builder.line
            zero = line("eq", x, 0.0)
            alone = line("eq", zeros, 1.0).where(zero.where(g * others, 0.0), 0.0)
            return line("eq", zeros, 0.0).where(g * others / zero.where(1.0, x), alone)

        return made(of_product, back(g), x, back(zeros), back(others))
    if operation in ("max", "min", "abs_max", "abs_min"):
        size = (lambda x: x.abs()) if operation.startswith("abs") else (lambda x: x)
        ties = fused(lambda x, y: same(size(x), y), x, back(y))
        shares = reduced("sum", ties, dims, keepdim)
        if operation.startswith("abs"):
            return made(lambda g, t, n, x: t * g * x.sign() / n, back(g), ties, back(shares), x)
        return made(lambda g, t, n: t.where(g / n, 0.0), back(g), ties, back(shares))
    if operation == "logsumexp":
        return made(lambda g, x, y: g * y.isinf().where(x.builder.line("eq", x, y), (x - y).exp()), back(g), x, back(y))
    rules = {
        "squares": lambda g, x, y: g * x * 2.0,
        "norm": lambda g, x, y: safe_ratio(g * x, y),
        "rms": lambda g, x, y: g * x * y * y * y * (-1.0 / max(count, 1)),
        "abs_sum": lambda g, x, y: g * x.sign(),
        "powers": lambda g, x, y: g * x.sign() * p * x.abs().pow(p - 1.0),
        "norm_p": lambda g, x, y: g * x.sign() * safe_ratio(x.abs(), y).pow(p - 1.0),
        "nansum": lambda g, x, y: x.isnan().where(0.0, g),
    }
    return made(rules[operation], back(g), x, back(y)) if operation in rules else [None]


def gradient_of_two(node: Node, grads: list, back, made) -> list:
    attrs, x = node.attrs, node.inputs[0]
    operation, count = attrs["operation"], attrs["count"]
    g, g2 = grads
    if operation in ("argmax", "argmin"):
        return [None] if g2 is None else made(lambda g, at, i: i.builder.line("eq", i, at).where(g, 0.0), back(g2),
                                              back(node.outputs[0]), position(x, attrs["dims"]))
    if operation == "moments":
        g, g2 = g2, g  # those of M2 and of the mean
    spread = None
    if g is not None:
        mean = back(node.outputs[0 if operation == "moments" else 1])
        free = max(count - attrs.get("correction", 0.0), 0.0)
        factor = {"moments": 2.0, "var": 2.0 / free if free else float("nan")}.get(operation)
        if factor is not None:
            spread = fused(lambda g, x, m: g * (x - m) * factor, back(g), x, mean)
        elif operation == "std":
            scale = 1.0 / free if free else float("nan")
            spread = fused(lambda g, x, m, y: safe_ratio(g * (x - m) * scale, y), back(g), x, mean, back(node.outputs[0]))
        else:
            spread = fused(lambda g, x, m, y: g * (x - m) * y * y * y * (-1.0 / count), back(g), x, mean,
                           back(node.outputs[0]))
    if g2 is not None:
        shift = back(apply("scale", [g2], a=1.0 / count if count else 0.0))
        spread = shift if spread is None else fused(lambda a, b: a + b, spread, shift)
    return [None if spread is None else views.laid_out(spread, x.type)]


register(Operator("reduce", infer, lower, gradient, general=True))
register(Operator("repeat_reduced", infer_repeat, lower_repeat, gradient_repeat, general=True))
