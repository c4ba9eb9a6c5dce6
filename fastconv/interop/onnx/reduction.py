"""Over dimensions: sums, means, extrema, norms, and where an extremum is."""

from __future__ import annotations

from fastconv.interop.onnx.shapes import axes_of
from fastconv.interop.onnx.table import Node, function, register, tensor


def reduced(node: Node, x, axes, reduce):
    """``reduce(x, dims, keepdim)`` over the node's axes; over all where none are given, unless that means none."""
    x, dims, keep = tensor(x), axes_of(node, axes), bool(node.get("keepdims", 1))
    if not dims:
        if node.get("noop_with_empty_axes", 0) and dims is not None or node.get("noop_with_empty_axes", 0):
            return None
        dims = range(x.ndim)
    return reduce(x, tuple(d % x.ndim if x.ndim else d for d in dims), keep)


def _add(name: str, reduce, bare=None):
    @register(name)
    def rule(node: Node, x, axes=None):
        found = reduced(node, x, axes, lambda x, dims, keep: reduce(node, x, dims, keep))
        return (bare(node, tensor(x)) if bare else tensor(x)) if found is None else found


def _prod(node: Node, x, dims, keep):
    for d in sorted(dims, reverse=True):
        x = function(node, "prod")(x, d, keepdim=keep)
    return x


_add("ReduceSum", lambda node, x, d, k: x.sum(d, keepdim=k) if d else x)
_add("ReduceMean", lambda node, x, d, k: x.mean(d, keepdim=k) if d else x)
_add("ReduceMax", lambda node, x, d, k: function(node, "amax")(x, d, keepdim=k) if d else x)
_add("ReduceMin", lambda node, x, d, k: function(node, "amin")(x, d, keepdim=k) if d else x)
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


@register("CumSum")
def cumsum(node: Node, x, axis):
    x, dim = tensor(x), int(node.number(axis, "axis"))
    back, without = node.get("reverse", 0), node.get("exclusive", 0)
    y = x.flip(dim) if back else x
    total = function(node, "cumsum")(y, dim)
    total = total - y if without else total
    return total.flip(dim) if back else total


@register("TopK")
def topk(node: Node, x, k=None):
    count = node.get("k") if k is None else int(node.number(k, "K"))
    return tuple(function(node, "topk")(tensor(x), count, node.get("axis", -1), bool(node.get("largest", 1)),
                                        bool(node.get("sorted", 1))))
