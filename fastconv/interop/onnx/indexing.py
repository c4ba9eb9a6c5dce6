"""By indices: gathering, scattering, one-hot."""

from __future__ import annotations

import numpy as np

from fastconv.interop.onnx.table import Node, function, is_static, numbers, register, tensor


def wrapped(node: Node, indices, extent: int):
    """Indices from 0; negative ones count from the end."""
    if is_static(indices):
        array = numbers(indices).astype(np.int64)
        if array.size and (array.min() < -extent or array.max() >= extent):
            raise node.fail(f"an index of {array.min() if array.min() < -extent else array.max()} is not in "
                            f"{-extent}..{extent - 1}")
        return tensor(np.where(array < 0, array + extent, array))
    return function(node, "cast")(function(node, "where")(indices < 0, indices + extent, indices), "int64")


@register("Gather")
def gather(node: Node, x, indices):
    x = tensor(x)
    axis = node.dim(node.get("axis", 0), x.ndim)
    if is_static(indices) and indices.size == 1 and axis:
        place = int(numbers(indices).reshape(-1)[0])
        one = x[(slice(None),) * axis + (place,)]
        if indices.ndim == 0:
            return one
        for _ in range(indices.ndim):
            one = one.unsqueeze(axis)
        return one
    places = wrapped(node, indices, int(x.shape[axis]))
    y = function(node, "index_select")(x, axis, places.reshape(-1))
    shape = [*x.shape[:axis], *places.shape, *x.shape[axis + 1:]]
    return y.reshape(*shape) if shape else y.reshape(())


@register("GatherElements")
def gather_elements(node: Node, x, indices):
    x, axis = tensor(x), node.get("axis", 0)
    return function(node, "gather")(x, axis, wrapped(node, indices, int(x.shape[axis])))


def _flat_places(node: Node, indices, extents: list[int]):
    """Indices of the last dimension as places in row-major order."""
    place = 0
    for i, extent in enumerate(extents):
        step = int(np.prod(extents[i + 1:], dtype=np.int64))
        part = numbers(indices)[..., i] if is_static(indices) else indices[..., i]
        place = place + wrapped(node, part, extent) * step
    return place


@register("GatherND")
def gather_nd(node: Node, x, indices):
    x, batch = tensor(x), node.get("batch_dims", 0)
    shape = [int(s) for s in x.shape]
    depth = int(indices.shape[-1])
    lead, inner, rest = shape[:batch], shape[batch: batch + depth], shape[batch + depth:]
    places = _flat_places(node, indices, inner)
    count = int(np.prod(lead, dtype=np.int64))
    flat = x.reshape(count * int(np.prod(inner, dtype=np.int64)), *rest)
    if batch:
        first = np.arange(count).reshape(*lead, *[1] * (places.ndim - batch)) * int(np.prod(inner, dtype=np.int64))
        places = places + first
    y = function(node, "index_select")(flat, 0, function(node, "cast")(places, "int64").reshape(-1))
    return y.reshape(*[int(s) for s in places.shape], *rest) if places.ndim or rest else y.reshape(())


def _scattered(node: Node, flat, places, updates, reduction: str):
    if reduction in ("none", None, ""):
        return function(node, "scatter")(flat, 0, places, updates)
    name = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}.get(reduction)
    if name is None:
        raise node.fail(f"reduction={reduction!r}: expected none, add, mul, max or min")
    return function(node, "scatter_reduce")(flat, 0, places, updates, name)


@register("ScatterND")
def scatter_nd(node: Node, x, indices, updates):
    x, updates = tensor(x), tensor(updates)
    shape = [int(s) for s in x.shape]
    depth = int(indices.shape[-1])
    inner, rest = shape[:depth], shape[depth:]
    width = int(np.prod(rest, dtype=np.int64))
    places = function(node, "cast")(_flat_places(node, indices, inner), "int64").reshape(-1, 1)
    places = (places * width + np.arange(width).reshape(1, -1)).reshape(-1)
    y = _scattered(node, x.reshape(-1), function(node, "cast")(places, "int64"), updates.reshape(-1),
                   node.get("reduction", "none"))
    return y.reshape(*shape)


@register("ScatterElements", "Scatter")
def scatter_elements(node: Node, x, indices, updates):
    x, updates, axis = tensor(x), tensor(updates), node.get("axis", 0)
    places = wrapped(node, indices, int(x.shape[axis]))
    reduction = node.get("reduction", "none")
    if reduction in ("none", None, ""):
        return function(node, "scatter")(x, axis, places, updates)
    name = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}.get(reduction)
    if name is None:
        raise node.fail(f"reduction={reduction!r}: expected none, add, mul, max or min")
    return function(node, "scatter_reduce")(x, axis, places, updates, name)


@register("OneHot")
def one_hot(node: Node, indices, depth, values):
    count, axis = int(node.number(depth, "depth")), node.get("axis", -1)
    off, on = node.static(values, "values").reshape(-1)[:2]
    x = tensor(indices)
    axis = node.dim(axis, x.ndim + 1)
    places = np.arange(count).reshape([count if i == axis else 1 for i in range(x.ndim + 1)])
    x = x.unsqueeze(axis)
    hit = function(node, "eq")(x, places)
    hit = function(node, "logical_or")(hit, function(node, "eq")(x + count, places))
    kind = np.asarray(values).dtype.name if is_static(values) else "float32"
    y = function(node, "where")(hit, float(on), float(off))
    return y if kind == "float32" else function(node, "cast")(y, kind)


@register("ReverseSequence")
def reverse_sequence(node: Node, x, lengths):
    """The first steps of each sequence the other way round, the others as they are."""
    x, batch, time = tensor(x), node.get("batch_axis", 1), node.get("time_axis", 0)
    if sorted((batch, time)) != [0, 1]:
        raise node.fail(f"batch_axis={batch}, time_axis={time}: expected 0 and 1")
    count = int(x.shape[time])
    steps, given = tensor(np.arange(count)), function(node, "cast")(tensor(lengths), "int64")
    steps, given = (steps.unsqueeze(batch), given.unsqueeze(time))
    place = function(node, "where")(steps < given, given - 1 - steps, steps)
    shape = [int(s) for s in x.shape]
    place = place.reshape(*place.shape, *[1] * (x.ndim - 2)).expand(*shape)
    return function(node, "gather")(x, time, function(node, "cast")(place, "int64"))
