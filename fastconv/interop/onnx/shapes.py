"""Shapes: what asks for them, and what gives values another one."""

from __future__ import annotations

from math import prod

import numpy as np

from fastconv import functional as F
from fastconv.graph.batch import Batch
from fastconv.graph.parameter import Parameter
from fastconv.interop.onnx.table import Node, function, is_static, numbers, register, shape_of, tensor


@register("Shape")
def shape(node: Node, x):
    extents = shape_of(x)
    start, end = node.get("start", 0), node.get("end")
    extents = extents[slice(start, end)]
    if any(type(s) is Batch for s in extents):
        out = np.empty(len(extents), object)
        out[:] = extents
        return out
    return np.array([int(s) for s in extents], np.int64)


@register("Size")
def size(node: Node, x):
    return np.array(prod(int(s) for s in x.shape), np.int64)


@register("Reshape")
def reshape(node: Node, x, wanted=None):
    x = tensor(x)
    given = list(node.get("shape")) if wanted is None else node.integers(wanted, "shape")
    if not node.get("allowzero", 0):
        given = [x.shape[i] if type(s) is not Batch and s == 0 else s for i, s in enumerate(given)]
    known = [s for s in given if type(s) is Batch or s != -1]
    if len(known) == len(given) and len(given) and type(given[0]) is not Batch and x.ndim and type(x.shape[0]) is Batch \
            and x.type.shape[0] == given[0] == 1 and prod(x.type.shape[1:]) == prod(given[1:]):
        given[0] = x.shape[0]  # a file that was written for one image: for any number
    return x.reshape(*given) if given else x.reshape(())


@register("Flatten")
def flatten(node: Node, x):
    x, axis = tensor(x), node.get("axis", 1)
    if axis != x.ndim:
        axis = node.dim(axis, x.ndim)
    if axis == 1 and x.ndim > 1:
        return F.flatten(x, 1) if x.ndim > 2 else x
    rows = prod(int(s) for s in x.shape[:axis])
    return x.reshape(rows, prod(int(s) for s in x.shape[axis:]))


@register("Transpose")
def transpose(node: Node, x):
    x = tensor(x)
    return x.permute(*(node.get("perm") or range(x.ndim - 1, -1, -1)))


def axes_of(node: Node, axes, what: str = "axes"):
    """Axes as an attribute of older, an input of newer operators; None where they are not given."""
    if axes is not None:
        return [int(a) for a in node.integers(axes, what)]
    return node.get("axes")


@register("Squeeze")
def squeeze(node: Node, x, axes=None):
    x, axes = tensor(x), axes_of(node, axes)
    axes = [i for i in range(x.ndim) if int(x.shape[i]) == 1] if axes is None else node.dims(axes, x.ndim)
    for a in axes:
        if int(x.shape[a]) != 1:
            raise node.fail(f"axis {a} of shape {tuple(x.shape)} is not 1")
    for a in sorted(axes, reverse=True):
        x = x.squeeze(a)
    return x


@register("Unsqueeze")
def unsqueeze(node: Node, x, axes=None):
    x, axes = tensor(x), axes_of(node, axes)
    for a in sorted(node.dims(axes or (), x.ndim + len(axes or ()))):
        x = x.unsqueeze(a)
    return x


@register("Concat")
def concat(node: Node, *values):
    if all(isinstance(v, (np.ndarray, Parameter)) for v in values) and all(map(is_static, values)):
        return np.concatenate([numbers(v) for v in values], node.get("axis"))
    return function(node, "cat")([tensor(v) for v in values], node.get("axis"))


@register("Split")
def split(node: Node, x, sizes=None):
    x, axis = tensor(x), node.get("axis", 0)
    given = node.get("split") if sizes is None else node.integers(sizes, "split")
    if given is None:
        count = len(node.outputs)
        if node.get("num_outputs", count) != count:
            raise node.fail(f"num_outputs={node.get('num_outputs')}: the node has {count}")
        whole = int(x.shape[axis])
        each = -(-whole // count)
        given = [min(each, whole - i * each) for i in range(count)]
    return tuple(function(node, "split")(x, [int(g) for g in given], axis))


@register("Slice")
def slice_(node: Node, x, starts=None, ends=None, axes=None, steps=None):
    x = tensor(x)
    starts = node.get("starts") if starts is None else node.integers(starts, "starts")
    ends = node.get("ends") if ends is None else node.integers(ends, "ends")
    axes = axes_of(node, axes)
    axes = node.dims(range(len(starts)) if axes is None else axes, x.ndim)
    steps = [1] * len(starts) if steps is None else node.integers(steps, "steps")
    index: list = [slice(None)] * x.ndim
    for a, s, e, by in zip(axes, starts, ends, steps, strict=True):
        extent, by = x.shape[a], int(by)
        if by > 0 and s == 0 and (type(e) is Batch and e is extent or type(e) is not Batch and e >= 2**31 - 1) and by == 1:
            continue
        whole, s, e = int(extent), int(s), int(e)
        if by == 0:
            raise node.fail("a step of 0")
        if by < 0:  # backwards, as NumPy has it: from the start down to, but without, the end
            s = min(s + whole if s < 0 else s, whole - 1)
            e = e + whole if e < 0 else e
            index[a] = slice(s, e if e >= 0 else None, by) if e >= 0 or s >= 0 else slice(0, 0)
        else:
            index[a] = slice(max(s, -whole), min(max(e, -whole), whole), by)
    if all(i == slice(None) for i in index):
        return x
    backwards = [i for i, one in enumerate(index) if one.step is not None and one.step < 0]
    for i in backwards:
        places = range(int(x.shape[i]))[index[i]]
        x = x.flip(i)
        whole = int(x.shape[i])
        index[i] = slice(whole - 1 - places[0], whole - places[-1], -index[i].step) if len(places) else slice(0, 0)
    return x[tuple(index)]


@register("Expand")
def expand(node: Node, x, wanted):
    x, given = tensor(x), node.integers(wanted, "shape")
    given = [1] * max(0, x.ndim - len(given)) + given
    own = [1] * (len(given) - x.ndim) + list(x.shape)
    return x.expand(*[o if type(g) is not Batch and g == 1 else g for o, g in zip(own, given, strict=True)])


@register("Tile")
def tile(node: Node, x, repeats):
    return function(node, "tile")(tensor(x), tuple(int(r) for r in node.integers(repeats, "repeats")))


@register("ConstantOfShape")
def constant_of_shape(node: Node, wanted):
    value = node.get("value")
    value = np.zeros(1, np.float32) if value is None else value
    extents = node.integers(wanted, "shape")
    if extents and type(extents[0]) is Batch:
        return tensor(np.full([1, *map(int, extents[1:])], value.reshape(-1)[0], value.dtype)).expand(*extents)
    return np.full([int(s) for s in extents], value.reshape(-1)[0], value.dtype)


@register("Range")
def range_(node: Node, start, limit, delta):
    given = ((start, "start"), (limit, "limit"), (delta, "delta"))
    first, last, by = (node.static(v, what).reshape(-1)[0] for v, what in given)
    if type(first) is Batch or type(last) is Batch or type(by) is Batch:
        first, last, by = int(first), int(last), int(by)
    if by == 0:
        raise node.fail("delta is 0")
    return np.arange(first, last, by, dtype=np.asarray(start).dtype if np.asarray(start).dtype != object else np.int64)


@register("DepthToSpace")
def depth_to_space(node: Node, x):
    x, block = tensor(x), node.get("blocksize")
    n, c, h, w = x.shape
    if node.get("mode", "DCR") == "CRD":
        return function(node, "pixel_shuffle")(x, block)
    y = x.reshape(n, block, block, int(c) // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(n, int(c) // block**2, int(h) * block, int(w) * block)


@register("SpaceToDepth")
def space_to_depth(node: Node, x):
    x, block = tensor(x), node.get("blocksize")
    n, c, h, w = x.shape
    if node.get("mode", "DCR") == "CRD":
        return function(node, "pixel_unshuffle")(x, block)
    y = x.reshape(n, c, int(h) // block, block, int(w) // block, block).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, int(c) * block**2, int(h) // block, int(w) // block)


@register("EyeLike")
def eye_like(node: Node, x):
    from fastconv.interop.onnx.reading import dtypes

    rows, columns = (int(s) for s in x.shape)
    kind = dtypes().get(node.get("dtype"), "") or (x.dtype if isinstance(x.dtype, str) else x.dtype.name)
    return np.eye(rows, columns, node.get("k", 0), "float32" if "float" in kind else kind)


@register("Trilu")
def trilu(node: Node, x, k=None):
    k = 0 if k is None else int(node.number(k, "k"))
    return function(node, "triu" if node.get("upper", 1) else "tril")(tensor(x), k)


@register("Pad")
def pad(node: Node, x, amounts=None, value=None, axes=None):
    x, mode = tensor(x), node.get("mode", "constant")
    given = [int(p) for p in (node.get("pads") if amounts is None else node.integers(amounts, "pads"))]
    late = value if value is not None and not is_static(value) else None  # a number that the model computes
    fill = node.get("value", 0.0) if value is None else 0.0 if late is not None else node.number(value, "constant_value")
    where = node.dims(range(x.ndim) if axes is None else node.integers(axes, "axes"), x.ndim)
    if len(given) != 2 * len(where):
        raise node.fail(f"pads={given}: expected {2 * len(where)} values")
    pairs = [(0, 0)] * x.ndim
    for i, a in enumerate(where):
        pairs[a] = given[i], given[len(where) + i]
    kind = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}.get(mode)
    if kind is None:
        raise node.fail(f"mode={mode!r}: expected constant, reflect, edge or wrap")
    if not any(map(any, pairs)):
        return x
    if late is not None and kind == "constant":
        inside = [slice(low, low + int(s)) if low >= 0 else slice(None)
                  for (low, high), s in zip(pairs, x.shape, strict=True)]
        border = np.ones([int(s) + low + high for (low, high), s in zip(pairs, x.shape, strict=True)], bool)
        border[tuple(inside)] = False
    while len(pairs) > 1 and pairs[0] == (0, 0):
        pairs = pairs[1:]
    flat = [p for pair in reversed(pairs) for p in pair]
    y = F.pad(x, flat, mode=kind, value=fill) if kind == "constant" else F.pad(x, flat, mode=kind)
    return y if late is None or kind != "constant" else function(node, "where")(tensor(border), tensor(late).reshape(()), y)
