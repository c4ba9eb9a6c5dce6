"""Scans: sums, products, extremes and log-sum-exp of all values up to each along one dimension."""

from __future__ import annotations

from math import prod

from fastconv.graph.ir import Node, Operator, Tensor, Type, apply, register
from fastconv.kernels import reduce as kernels
from fastconv.lowering.lower import Lowering
from fastconv.ops import views
from fastconv.ops.map import fused

EXTREMES = ("cummax", "cummin")
WHOLE = ("cumsum", "cumprod", *EXTREMES)  # exact, in int64, of integers and truths


def scanned(operation: str, x: Tensor, dim: int, backwards: bool = False):
    """The scan of a tensor with dimensions; ``backwards``: of all values from each on. Of extremes (values, indices)."""
    return apply("scan", [x], operation=operation, dim=dim, backwards=backwards)


def infer(inputs: list, attrs: dict) -> list[Type]:
    x = inputs[0]
    if x.batched and attrs["dim"] == 0:
        views.fixed(x)
    whole = x.dtype != "float32" and attrs["operation"] in WHOLE
    dtype = "float32" if not whole else x.dtype if attrs["operation"] in EXTREMES else "int64"
    type_ = Type(x.type.shape, x.layout, dtype, x.type.fixed)
    return [type_] + [Type(x.type.shape, x.layout, "int64", x.type.fixed)] * (attrs["operation"] in EXTREMES)


def lower(node: Node, cx: Lowering) -> None:
    x, attrs = node.inputs[0], node.attrs
    operands = [tuple(cx.view(x)), *(tuple(cx.view(o, write=True)) for o in node.outputs)]
    if prod(x.shape):
        cx.step(
            kernels.scan,
            shape=x.shape,
            axis=attrs["dim"],
            operation=attrs["operation"],
            x=operands[0],
            y=operands[1],
            y2=operands[2] if len(operands) > 2 else None,
            batched=x.batched,
            backwards=attrs["backwards"],
            whole=node.output.dtype != "float32",
            info={"input": x.shape, "output": x.shape},
        )


def gradient(node: Node, grads: list) -> list:
    attrs, x, y, g = node.attrs, node.inputs[0], node.output, grads[0]
    operation, dim, back = attrs["operation"], attrs["dim"], not attrs["backwards"]
    if g is None or y.dtype != "float32":
        return [None]
    if operation == "cumsum":
        made = scanned("cumsum", g, dim, back)
    elif operation in EXTREMES:
        maps = {"x_map": [None if d == dim else d for d in range(x.ndim)], "index_map": list(range(x.ndim))}
        zeros = fused(lambda v: v.builder.line("copy", 0.0), g)
        made = apply("scatter", [zeros, g, node.outputs[1]], op="add", wrap=False, checked=True, **maps)
    elif operation == "cumprod":
        made = of_products(g, x, y, dim, back)
    else:  # in logarithms, what is positive and what is negative apart

        def share(sign):
            log = fused(lambda g, y: (g * sign).maximum(0.0).log() - y, g, y)
            return fused(lambda a, x: (a + x).exp(), scanned("logcumsumexp", log, dim, back), x)

        made = fused(lambda a, b: a - b, share(1.0), share(-1.0))
    return [views.laid_out(made, x.type)]


def of_products(g: Tensor, x: Tensor, y: Tensor, dim: int, back: bool) -> Tensor:
    """Sums of g * y from each element on, by x; where a line has zeros: the first one's by products without it, those behind
    it nothing."""
    zero = fused(lambda v: v.builder.line("eq", v, 0.0), x)
    many = scanned("cumsum", zero, dim, not back)
    first = fused(lambda z, n: z * n.builder.line("eq", n, 1.0), zero, many)
    without = scanned("cumprod", fused(lambda v, f: f.where(1.0, v), x, first), dim, not back)
    sums, others = (scanned("cumsum", fused(lambda g, y: g * y, g, t), dim, back) for t in (y, without))

    def pick(x, many, first, sums, others):
        none = many.builder.line("eq", many, 0.0)
        return none.where(sums / none.where(x, 1.0), first.where(others, 0.0))

    return fused(pick, x, many, first, sums, others)


register(Operator("scan", infer, lower, gradient, general=True))
