"""Over dimensions: sums, means, extrema, norms, and where an extremum is."""

from __future__ import annotations

import numpy as np

from fastconv.interop.onnx.shapes import axes_of
from fastconv.interop.onnx.table import Node, function, register, tensor


def reduced(node: Node, x, axes, reduce):
    """``reduce(x, dims, keepdim)`` over the node's axes; over all where none are given, unless that means none."""
    x, dims, keep = tensor(x), axes_of(node, axes), bool(node.get("keepdims", 1))
    if not dims:
        if node.get("noop_with_empty_axes", 0):
            return None
        dims = range(x.ndim)
    elif not x.ndim and set(dims) <= {0, -1}:  # of a scalar, as NumPy has it
        dims = []
    return reduce(x, tuple(node.dims(dims, x.ndim)), keep)


def _add(name: str, reduce, bare=None):
    @register(name)
    def rule(node: Node, x, axes=None):
        found = reduced(node, x, axes, lambda x, dims, keep: reduce(node, x, dims, keep))
        return (bare(node, tensor(x)) if bare else tensor(x)) if found is None else found


def _prod(node: Node, x, dims, keep):
    for d in sorted(dims, reverse=True):
        x = function(node, "prod")(x, d, keepdim=keep)
    return x


def _extreme(node: Node, name: str, x, dims, keep):
    if not dims:
        return x
    if x.dtype == "float32" and any(int(x.shape[d]) == 0 for d in dims):  # of nothing: the neutral element
        shape = [1 if i in dims else int(s) for i, s in enumerate(x.shape) if keep or i not in dims]
        return tensor(np.full(shape, -np.inf if name == "amax" else np.inf, np.float32))
    return function(node, name)(x, dims, keepdim=keep)


_add("ReduceSum", lambda node, x, d, k: x.sum(d, keepdim=k) if d else x)
_add("ReduceMean", lambda node, x, d, k: x.mean(d, keepdim=k) if d else x)
_add("ReduceMax", lambda node, x, d, k: _extreme(node, "amax", x, d, k))
_add("ReduceMin", lambda node, x, d, k: _extreme(node, "amin", x, d, k))
_add("ReduceProd", _prod)
_add("ReduceL1", lambda node, x, d, k: abs(x).sum(d, keepdim=k) if d else abs(x), lambda node, x: abs(x))
_add("ReduceL2", lambda node, x, d, k: (x * x).sum(d, keepdim=k).sqrt() if d else abs(x), lambda node, x: abs(x))
_add("ReduceSumSquare", lambda node, x, d, k: (x * x).sum(d, keepdim=k) if d else x * x, lambda node, x: x * x)
_add("ReduceLogSum", lambda node, x, d, k: (x.sum(d, keepdim=k) if d else x).log(), lambda node, x: x.log())
_add("ReduceLogSumExp", lambda node, x, d, k: function(node, "logsumexp")(x, d, keepdim=k) if d else x)


@register("ArgMax", "ArgMin")
def arg(node: Node, x):
    x, axis, keep = tensor(x), node.get("axis", 0), bool(node.get("keepdims", 1))
    name = "argmax" if node.op == "ArgMax" else "argmin"
    if not node.get("select_last_index", 0):
        return function(node, name)(x, axis, keepdim=keep)
    return (int(x.shape[axis]) - 1) - function(node, name)(x.flip(axis), axis, keepdim=keep)


@register("CumSum", "CumProd")
def cumulative(node: Node, x, axis):
    x, dim = tensor(x), int(node.number(axis, "axis"))
    name = "cumsum" if node.op == "CumSum" else "cumprod"
    if node.get("reverse", 0):
        x = x.flip(dim)
    if node.get("exclusive", 0):  # what stands in front of each: the neutral element before the first
        count = int(x.shape[dim])
        first = x.narrow(dim, 0, min(1, count)) * 0
        x = function(node, "cat")([first if name == "cumsum" else first + 1, x.narrow(dim, 0, max(0, count - 1))], dim)
    total = function(node, name)(x, dim)
    return total.flip(dim) if node.get("reverse", 0) else total


@register("TopK")
def topk(node: Node, x, k=None):
    count = node.get("k") if k is None else int(node.number(k, "K"))
    return tuple(function(node, "topk")(tensor(x), count, node.get("axis", -1), bool(node.get("largest", 1)),
                                        bool(node.get("sorted", 1))))
