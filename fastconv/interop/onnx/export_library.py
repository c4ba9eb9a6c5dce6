"""Normalisations, sorting, indices and sampling written as ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from fastconv.graph.ir import Node, Tensor
from fastconv.interop.onnx.export import Writer, shape_constant, writes
from fastconv.interop.onnx.export_general import refuse
from fastconv.ops.gather import addressed, aligned
from fastconv.ops.standardize import split_shape


def used(node: Node, outputs: Sequence[Tensor]) -> bool:
    """Whether anything reads one of these outputs of a node."""
    graph = node.output.graph
    return any(t in graph.outputs or any(t in n.inputs for n in graph.nodes) for t in outputs)


@writes("standardize")
def _standardize(w: Writer, node: Node) -> None:
    a, (x, weight, bias, *running) = node.attrs, node.inputs
    if running or used(node, node.outputs[1:]):
        raise refuse(node, "with statistics of the batch that are kept")
    reduced, weighted, groups = tuple(a["reduced"]), tuple(a["weighted"]), a["groups"]
    eps, shape, out = float(a["eps"]), split_shape(x.type.shape, groups), w.name(node.output)
    last = tuple(range(x.ndim - len(reduced), x.ndim))
    if a["centred"] and not groups and reduced == weighted == last:
        extents = [shape[d] for d in last]
        scale = w.name(weight) if weight is not None else w.constant(np.ones(extents, np.float32))
        w.add("LayerNormalization", [w.name(x), scale, *([w.name(bias)] if bias is not None else [])], [out],
              axis=last[0], epsilon=eps)
        return
    if a["centred"] and not groups and reduced == tuple(range(2, x.ndim)) and weighted == (1,) and x.ndim > 2:
        by_channel(w, node, eps)
    else:
        by_moments(w, node, groups, reduced, weighted, eps, a["centred"])


@writes("group_norm")
def _group_norm(w: Writer, node: Node) -> None:
    x, _, _, *residual = node.inputs
    if any(t is not None for t in residual) or node.attrs.get("act"):
        raise refuse(node, "with what follows it")
    groups, eps = node.attrs["groups"], float(node.attrs["eps"])
    if groups == x.type.shape[1]:
        by_channel(w, node, eps)
    else:
        by_moments(w, node, groups, tuple(range(2, x.ndim + 1)), (1, 2), eps, True)


def by_channel(w: Writer, node: Node, eps: float) -> None:
    x, weight, bias = node.inputs[:3]
    names = [w.name(t) if t is not None else w.constant(np.full(x.type.shape[1], value, np.float32))
             for t, value in ((weight, 1.0), (bias, 0.0))]
    w.add("InstanceNormalization", [w.name(x), *names], [w.name(node.output)], epsilon=eps)


def by_moments(w: Writer, node: Node, groups: int, reduced: Sequence[int], weighted: Sequence[int], eps: float,
               centred: bool) -> None:
    """By the moments of dimensions of the shape with its channels split into groups."""
    x, weight, bias = node.inputs[:3]
    y, shape = w.name(x), split_shape(x.type.shape, groups)
    if groups:
        y = w.add("Reshape", [y, w.constant([0 if x.batched else shape[0], *shape[1:]], np.int64)])
    axes = w.constant(list(reduced), np.int64)
    if centred:
        y = w.add("Sub", [y, w.add("ReduceMean", [y, axes], keepdims=1)])
    variance = w.add("ReduceMean", [w.add("Mul", [y, y]), axes], keepdims=1)
    y = w.add("Div", [y, w.add("Sqrt", [w.add("Add", [variance, w.constant(eps, np.float32)])])])
    affine = [shape[d] if d in weighted else 1 for d in range(len(shape))]
    for op, t in (("Mul", weight), ("Add", bias)):
        if t is not None:
            y = w.add(op, [y, w.add("Reshape", [w.name(t), w.constant(affine, np.int64)])])
    if groups:
        y = w.add("Reshape", [y, shape_constant(w, node.output)])
    w.add("Identity", [y], [w.name(node.output)])


@writes("softmax_along")
def _softmax(w: Writer, node: Node) -> None:
    w.add("LogSoftmax" if node.attrs["log"] else "Softmax", [w.name(node.inputs[0])], [w.name(node.output)],
          axis=node.attrs["dim"])


@writes("sort")
def _sort(w: Writer, node: Node) -> None:
    a, x = node.attrs, node.inputs[0]
    if a["what"] not in ("sort", "topk") or not x.ndim:
        raise refuse(node, a["what"])
    count = node.output.type.shape[a["dim"]]
    w.add("TopK", [w.name(x), w.constant([count], np.int64)], [w.name(t) for t in node.outputs], axis=a["dim"],
          largest=int(bool(a.get("descending"))), sorted=1)


@writes("gather")
def _gather(w: Writer, node: Node) -> None:
    a, (x, *indices) = node.attrs, node.inputs
    out, rank = w.name(node.output), node.output.ndim
    axes, maps = addressed(a), list(a["x_map"])
    if a.get("extents") or not x.ndim:
        raise refuse(node, "gathering of what is repeated")
    if len(indices) == 1 and len(axes) == 1:
        index, axis, places = indices[0], axes[0], list(aligned(indices[0], a))
        rest = [p for p in maps if p is not None]
        order = [*maps[:axis], *places, *maps[axis + 1:]]
        if order == list(range(rank)):
            w.add("Gather", [w.name(x), w.name(index)], [out], axis=axis)
            return
        elements = places == list(range(rank)) and rest == [d for d in range(rank) if d != axis] and x.ndim == rank
        if elements and index.type.shape == node.output.type.shape:
            w.add("GatherElements", [w.name(x), w.name(index)], [out], axis=axis)
            return
    lead = list(range(len(axes)))
    places = list(a["index_map"])
    order = [*places, *(p for p in maps if p is not None)]
    if axes == lead and order == list(range(rank)) and not x.batched:  # rows, found by several indices
        extents = w.constant([1] * (len(places) or 1), np.int64)
        parts = [w.add("Unsqueeze", [w.add("Add", [w.name(i), w.add("Expand", [w.constant(0, i.dtype), extents])]),
                                     w.constant([-1], np.int64)]) for i in indices]
        shapes = {i.type.shape for i in indices}
        if len(shapes) == 1 and places:
            w.add("GatherND", [w.name(x), w.add("Concat", parts, axis=-1) if len(parts) > 1 else parts[0]], [out])
            return
    raise refuse(node, "gathering of this kind")


@writes("affine_grid")
def _affine_grid(w: Writer, node: Node) -> None:
    size, theta = list(node.attrs["size"]), node.inputs[0]
    axes = [(np.arange(n) * 2 - (n - 1)) / max(1, n - 1 if node.attrs["align_corners"] else n) for n in size]
    grid = np.meshgrid(*axes, indexing="ij")[::-1]  # x first
    points = np.stack([*(g.ravel() for g in grid), np.ones(prod(size))]).astype(np.float32)
    y = w.add("Transpose", [w.add("MatMul", [w.name(theta), w.constant(points)])], perm=[0, 2, 1])
    w.add("Reshape", [y, shape_constant(w, node.output)], [w.name(node.output)])


@writes("grid_sample")
def _grid_sample(w: Writer, node: Node) -> None:
    a, x = node.attrs, node.inputs[0]
    if x.ndim != 4:
        raise refuse(node, "sampling of volumes")  # of operator set 20
    w.add("GridSample", [w.name(t) for t in node.inputs], [w.name(node.output)], mode=a["mode"],
          padding_mode=a["padding_mode"], align_corners=int(a["align_corners"]))
