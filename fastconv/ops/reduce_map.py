"""`reduce_map`: a reduction of what a program makes of its operands, which is not written (`graph/merge.py` makes them).

Where what is reduced lies along a row, `map` folds each piece of a row of its result to one value, and a reduction of those
follows; elsewhere its result is written after all.
"""

from __future__ import annotations

from math import prod
from typing import Any

from fastconv.graph.ir import PIXELS, Node, Operator, Type, register
from fastconv.graph.merge import FOLDS
from fastconv.kernels import map as map_kernels
from fastconv.kernels import reduce as kernels
from fastconv.kernels.reduce_way import way
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import pixel_strides, row_major
from fastconv.ops import views
from fastconv.ops.reduce import CONSTANTS, under


def infer(inputs: list, attrs: dict) -> list[Type]:
    raise NotImplementedError("reduce_map is made of nodes that have been inferred")


def lower(node: Node, cx: Lowering) -> None:
    attrs, type_ = node.attrs, node.attrs["type"]
    shape, dims, batched = type_.shape, attrs["dims"], type_.batched
    inputs = [tuple(views.broadcast(cx.view(t), t.shape, shape)) for t in node.inputs]
    y = under(cx.view(node.output, write=True), len(shape), dims, node.output.shape)
    if prod(node.output.shape) == 0:
        return
    program: dict[str, Any] = {"inputs": inputs, "program": attrs["program"], "results": [attrs["result"]]}
    info = {"input": shape, "output": node.output.shape}
    fold, _, operation = FOLDS[attrs["operation"]]
    kept = [d for d in range(len(shape)) if d not in dims]
    found = map_kernels.folded(shape, [i[1] for i in inputs], dims, batched and 0 in kept) if prod(shape) else None
    constants = {name: attrs[name] for name in CONSTANTS if name in attrs}
    if found is None:
        own = pixel_strides(shape, shape[1]) if type_.layout == PIXELS and len(shape) > 1 else row_major(shape)
        whole = cx.temp(4 * prod(shape), "what is reduced"), tuple(own), "float32"
        if prod(shape):
            cx.step(map_kernels.map, shape=shape, outputs=[whole], batched=batched, info=info, **program)
        follow(cx, shape, dims, operation, whole, y, batched, constants)
        return
    rows = [shape[d] for d in kept]
    parts = cx.temp(4 * prod(rows) * found[2], "folded rows")
    cx.step(map_kernels.map, shape=shape, outputs=[(parts, (0,) * len(shape), "float32")], batched=batched and 0 in kept,
            fold=(fold, tuple(dims)), info=info, **program)
    of = (*rows, found[2])
    constants["count"] = float(prod(shape[d] for d in dims))
    result = y[0], (*(y[1][d] for d in kept), 0), y[2]
    follow(cx, of, (len(kept),), operation, (parts, row_major(of), "float32"), result, batched and 0 in kept, constants)


def follow(cx: Lowering, shape: Any, axes: Any, operation: str, x: Any, y: Any, batched: bool, constants: dict) -> None:
    keywords: dict[str, Any] = {"shape": shape, "axes": axes, "operation": operation, "x": x, "y": y, "batched": batched}
    floats = way(**keywords).part_floats
    if floats:
        keywords["part"] = cx.temp(4 * floats, "partial reductions")
    cx.step(kernels.reduce, op="reduce", info={"input": tuple(shape), "output": tuple(shape)}, **keywords, **constants)
    if floats:
        cx.step(kernels.merge, op="reduce merge", **keywords, **constants)


register(Operator("reduce_map", infer, lower, general=True))
