"""What depends on an order of values: sorting, the first few, medians, modes; places in ascending lines."""

from __future__ import annotations

from fastconv.graph.ir import DENSE, FLAT, Node, Operator, Tensor, Type, apply, fail, register
from fastconv.kernels import select as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Strided
from fastconv.ops import views
from fastconv.ops.gather import layout_like, one_batch, spread, table_of

# ---- lines in order -----------------------------------------------------------------------------------------------------


def infer_sort(inputs: list, attrs: dict) -> list[Type]:
    """``what`` of `kernels/select.pyx: sort` along ``dim``; values and int64 indices, of ``count`` elements a line, of one
    where ``keepdim``, else of none."""
    (x,) = inputs
    dim, shape = attrs["dim"], x.shape or (1,)
    if attrs["what"] in ("sort", "topk"):
        shape = (*shape[:dim], attrs.get("count", shape[dim]), *shape[dim + 1:])
    else:
        shape = (*shape[:dim], *(1,) * attrs["keepdim"], *shape[dim + 1:])
    shape = shape if x.ndim else ()
    if x.batched and dim == 0:
        views.fixed(x)
    layout = DENSE if x.batched and dim != 0 else FLAT
    return [Type(shape, layout, x.dtype), Type(shape, layout, "int64")]


def gradient_sort(node: Node, grads: list) -> list:
    x, attrs = node.inputs[0], node.attrs
    if grads[0] is None or x.dtype != "float32":
        return [None]
    dim, rank = attrs["dim"], node.output.ndim
    kept = rank == x.ndim
    places = [None if d == dim else d if kept or d < dim else d - 1 for d in range(max(x.ndim, 1))]
    return [apply("scatter", [None, grads[0], node.outputs[1]], x_map=places, index_map=list(range(rank)), checked=True,
                  shape=x.shape, layout=layout_like(x), op="set")]


def lower_sort(node: Node, cx: Lowering) -> None:
    (x,), attrs, dim = node.inputs, node.attrs, node.attrs["dim"]
    outputs = [cx.view(y, write=True) for y in node.outputs]
    shape, source = table_of(x, cx.view(x))
    if node.output.ndim < len(shape):
        outputs = [y._replace(strides=(*y.strides[:dim], 0, *y.strides[dim:])) for y in outputs]
    keywords = {key: attrs[key] for key in ("count", "k", "descending") if key in attrs}
    cx.step(kernels.sort, attrs["what"], x=tuple(source), values=tuple(outputs[0]), indices=tuple(outputs[1]), shape=shape,
            dim=dim, batched=node.output.batched, info={"input": x.shape, "output": node.output.shape}, **keywords)


register(Operator("sort", infer_sort, lower_sort, gradient_sort, general=True))


# ---- places in lines ----------------------------------------------------------------------------------------------------


def maps(line: Tensor, values: Tensor) -> tuple[list[int | None], list[int]]:
    """Which dimensions of the values those of lines are: their last one is searched, a single line serves all."""
    leading = range(values.ndim - 1) if line.ndim > 1 else ()
    return [*leading, None], list(range(values.ndim))


def infer_searchsorted(inputs: list, attrs: dict) -> list[Type]:
    lines, values, sorter = (*inputs, None)[:3]
    where, here = maps(lines, values)
    found: list = [(lines, where), (values, here), *([(sorter, where)] if sorter is not None else [])]
    if lines.batched and lines.ndim == 1:
        views.fixed(lines)
        found = [(values, here)]
    layout = DENSE if one_batch(found) else FLAT
    dtype = "int32" if attrs.get("out_int32") else "int64"
    return [Type(values.shape, layout, dtype)]


def lower_searchsorted(node: Node, cx: Lowering) -> None:
    lines, values, sorter = (*node.inputs, None)[:3]
    where, here = maps(lines, values)
    rank, y = values.ndim, node.output

    def line(tensor: Tensor) -> tuple[tuple, int]:
        operand = cx.view(tensor)
        return tuple(spread(operand, tensor.shape, where, rank)), operand.strides[-1]

    x, step = line(lines)
    by: tuple[tuple | None, int] = line(sorter) if sorter is not None else (None, 0)
    v: Strided = spread(cx.view(values), values.shape, here, rank)
    cx.step(kernels.searchsorted, x=x, v=tuple(v), y=tuple(cx.view(y, write=True)), shape=y.shape, length=lines.shape[-1],
            line=(step, by[1]), sorter=by[0], right=node.attrs["right"], batched=y.batched,
            info={"input": values.shape, "output": y.shape})


def no_gradient(node: Node, grads: list) -> list:
    return [None] * len(node.inputs)


register(Operator("searchsorted", infer_searchsorted, lower_searchsorted, no_gradient, general=True))


def refuse(op: str) -> None:
    """The error for a function whose result has as many elements as its values say."""
    fail(op, "how large its result is depends on values, which a graph cannot hold: call it on arrays", TypeError)
