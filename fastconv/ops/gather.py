"""Elements found by integer indices, and the adjoint: what gather, index_select, embedding, advanced indexing, scatter,
index_add and their like are made of.

A gather's result has the dimensions of its indices and those dimensions of ``x`` that none addresses; a scatter's source
likewise, seen from its target. ``x_map`` says for each dimension of the table (x, or a scatter's target) which of these it
is, None for one that an index addresses; ``index_map`` says it for those of the indices, which broadcast with one another.

What is outside is never followed. Of indices that are the graph's constants it is refused while it is traced, of those that
are the graph's inputs before a run, of all others by a flag that the kernels raise, which is looked at after the run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv.graph.ir import DENSE, FLAT, PIXELS, Node, Operator, Tensor, Type, apply, fail, register, shown_name
from fastconv.kernels import copy as copy_kernels
from fastconv.kernels import gather as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Ref, Strided
from fastconv.ops import views
from fastconv.ops.map import fused

INDICES = ("int64", "int32")
REDUCTIONS = ("set", "add", "mul", "max", "min")


def one_batch(found: Sequence[tuple[Tensor, Sequence[int | None]]]) -> bool:
    """Whether dimension 0 of a problem is the batch of the run: of all tensors that have one it is there, and no other has
    elements of its own for it. Where it is mixed with others, the graph becomes right for its batch alone."""
    batched = [t for t, _ in found if t.batched]
    if not batched:
        return False
    if all(places[0] == 0 for t, places in found if t.batched) and \
            not any(not t.batched and place == 0 and extent != 1
                    for t, places in found for extent, place in zip(t.shape, places, strict=True)):
        return True
    for t in batched:
        views.fixed(t)
    return False


def refuse_outside(called: str, what: str, values: np.ndarray, extent: int, wrap: bool) -> None:
    """The error for the first index that is outside."""
    bad = (values >= extent) | (values < (-extent if wrap else 0))
    if bad.any():
        outside(called, what, values[bad].flat[0], extent, wrap)


def outside(called: str, what: str, value: int, extent: int, wrap: bool) -> None:
    low = -extent if wrap else 0
    rule = f"expected {low} to {extent - 1}" if extent else "there is nothing to point into"
    raise IndexError(f"{called}: {what} has the value {value}: {rule}")


def check_indices(op: str, indices: Sequence[Tensor], attrs: dict, extents: Sequence[int]) -> None:
    attrs.setdefault("called", shown_name(op))
    attrs.setdefault("what", "index")
    for index, extent in zip(indices, extents, strict=True):
        if index.dtype not in INDICES:
            fail(op, f"{attrs['what']} has dtype {index.dtype}: expected int64 or int32", TypeError)
        if index.value is not None and not attrs.get("checked"):
            values = index.value if attrs.get("skip") is None else index.value[index.value != attrs["skip"]]
            refuse_outside(attrs["called"], attrs["what"], values, extent, attrs["wrap"])


def broadcast_extents(op: str, indices: Sequence[Tensor]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*(index.shape for index in indices))
    except ValueError:
        fail(op, f"indices of shapes {', '.join(str(index.shape) for index in indices)} do not broadcast with one another")
        raise


def aligned(index: Tensor, attrs: dict) -> tuple[int, ...]:
    """The map of one index: those of fewer dimensions have the last ones."""
    return tuple(attrs["index_map"][len(attrs["index_map"]) - index.ndim:])


def positions(x_shape: Sequence[int], indices: Sequence[Tensor], attrs: dict, op: str,
              source: Sequence[int] = ()) -> tuple[int, ...]:
    """The shape of a gather's result; that of a scatter's source, which has dimensions of its own where it says so."""
    extents: dict[int, int] = {}
    if attrs.get("own"):
        rank = max(len(source), 1 + max(place for place in (*attrs["x_map"], *attrs["index_map"]) if place is not None))
        extents = dict(enumerate(source, rank - len(source)))
    extents.update({place: x_shape[d] for d, place in enumerate(attrs["x_map"]) if place is not None})
    extents.update(zip(attrs["index_map"], broadcast_extents(op, indices), strict=True))
    for d, extent in enumerate(attrs.get("extents", ())):  # to which both are repeated
        extents[d] = extents[d] if extent is None else extent
    return tuple(extents[d] for d in range(len(extents)))


def addressed(attrs: dict) -> list[int]:
    """The table's dimension that each index addresses: in order, or as ``axes`` has it."""
    return attrs.get("axes") or [d for d, place in enumerate(attrs["x_map"]) if place is None]


def guards(cx: Lowering, indices: Sequence[Tensor], extents: Sequence[int], attrs: dict) -> Ref | int:
    """Has what is outside found: before the run where indices are the caller's, else by the flags returned."""
    if attrs.get("checked"):
        return 0
    flags: Ref | int = 0
    for k, (index, extent) in enumerate(zip(indices, extents, strict=True)):
        if index.value is not None:
            continue
        named = {"called": attrs["called"], "what": attrs["what"], "extent": extent, "wrap": attrs["wrap"]}
        if not cx.before(index, Before(**named, skip=attrs.get("skip"))):
            flags = flags or cx.own(16 * len(indices), "outside")
            cx.after(flags.plus(2 * k, 8), After(**named))  # type: ignore[union-attr]
    return flags


class Before:
    """Refuses values of an input that are outside."""

    def __init__(self, called: str, what: str, extent: int, wrap: bool, skip: int | None):
        self.named, self.skip = (called, what), skip
        self.extent, self.low, self.wrap = extent, -extent if wrap else 0, wrap

    def __call__(self, values: np.ndarray) -> None:
        if values.size and (values.min() < self.low or values.max() >= self.extent):
            refuse_outside(*self.named, values if self.skip is None else values[values != self.skip], self.extent, self.wrap)


class After:
    """The error for a value that a kernel has found outside."""

    def __init__(self, called: str, what: str, extent: int, wrap: bool):
        self.arguments = called, what, extent, wrap

    def __call__(self, value: int) -> None:
        called, what, *rest = self.arguments
        outside(called, what, value, *rest)  # type: ignore[arg-type]


def table_of(tensor: Tensor, operand: Strided) -> tuple[tuple[int, ...], Strided]:
    """The shape and place of what indices point into: a scalar is one element of one dimension."""
    return (tensor.shape, operand) if tensor.ndim else ((1,), operand._replace(strides=(0,)))


def spread(operand: Strided, shape: Sequence[int], places: Sequence[int | None], rank: int) -> Strided:
    """An operand with a stride per dimension of the problem: 0 along those that it has not, or repeats."""
    strides = [0] * rank
    for extent, stride, place in zip(shape, operand.strides, places, strict=True):
        if place is not None and extent != 1:
            strides[place] = stride
    return operand._replace(strides=tuple(strides))


def index_operands(node: Node, cx: Lowering, indices: Sequence[Tensor], table: Strided, x_shape: Sequence[int],
                   rank: int) -> list:
    axes = addressed(node.attrs)
    return [(tuple(spread(cx.view(index), index.shape, aligned(index, node.attrs), rank)), x_shape[axis],
             table.strides[axis], node.attrs["wrap"]) for index, axis in zip(indices, axes, strict=True)]


# ---- gather -------------------------------------------------------------------------------------------------------------


def infer_gather(inputs: list, attrs: dict) -> list[Type]:
    x, *indices = inputs
    attrs.setdefault("wrap", False)
    axes = addressed(attrs)
    table = x.shape or (1,)
    check_indices("gather", indices, attrs, [table[d] for d in axes])
    shape = positions(table, indices, attrs, "gather")
    batched = one_batch([(x, attrs["x_map"]), *((index, aligned(index, attrs)) for index in indices)])
    layout = FLAT if not batched else PIXELS if x.layout == PIXELS and x.ndim == len(shape) else DENSE
    return [Type(shape, layout, x.dtype)]


def gradient_gather(node: Node, grads: list) -> list:
    x, *indices = node.inputs
    nothing = [None] * len(indices)
    if grads[0] is None or x.dtype != "float32":
        return [None, *nothing]
    attrs = {**node.attrs, "checked": True, "op": "add", "shape": x.shape, "layout": layout_like(x)}
    g = by_frequency(grads[0], x, indices, attrs) if attrs.get("scaled") else grads[0]
    return [apply("scatter", [None, g, *indices], **attrs), *nothing]


def by_frequency(g: Tensor, x: Tensor, indices: list, attrs: dict) -> Tensor:
    """The gradient of rows, each divided by how often its row was read."""
    index, maps = indices[0], {"x_map": [None], "index_map": list(range(indices[0].ndim)), "checked": True}
    count = apply("scatter", [None, np.ones((), np.float32), index], shape=x.shape[:1], layout=FLAT, op="add", **maps)
    often = apply("gather", [count, index], **maps)
    often = apply("reshape", [often], shape=(*often.shape, 1), batch=often.batched)
    return fused(lambda g, n: g / n, g, often)


def layout_like(x: Tensor) -> str:
    return x.layout if x.batched else FLAT


def lower_gather(node: Node, cx: Lowering) -> None:
    x, *indices = node.inputs
    y, rank, attrs = node.output, node.output.ndim, node.attrs
    x_shape, table = table_of(x, cx.view(x))
    bad = guards(cx, indices, [x_shape[d] for d in addressed(attrs)], attrs)
    cx.step(kernels.gather, x=tuple(spread(table, x_shape, attrs["x_map"], rank)), y=tuple(cx.view(y, write=True)),
            shape=y.shape, indices=index_operands(node, cx, indices, table, x_shape, rank), batched=y.batched, bad=bad,
            info={"input": x.shape, "output": y.shape})


register(Operator("gather", infer_gather, lower_gather, gradient_gather, general=True))


# ---- scatter ------------------------------------------------------------------------------------------------------------


def infer_scatter(inputs: list, attrs: dict) -> list[Type]:
    base, source, *indices = inputs
    attrs.setdefault("wrap", False)
    attrs.setdefault("op", "set")
    target = Type(tuple(attrs["shape"]), attrs["layout"], source.dtype) if base is None else base.type
    if base is not None and base.dtype != source.dtype:
        fail("scatter", f"src has dtype {source.dtype}: expected {base.dtype}, that of input", TypeError)
    axes = addressed(attrs)
    table = target.shape or (1,)
    check_indices("scatter", indices, attrs, [table[d] for d in axes])
    shape = positions(table, indices, attrs, "scatter", source.shape)
    attrs["positions"] = shape
    places = tuple(range(len(shape)))
    found = [(source, places[len(shape) - source.ndim:]), *((index, aligned(index, attrs)) for index in indices)]
    stand_in = Tensor(source.graph, target)  # dimension 0 of the target may be the batch, or what batches add up in
    if target.batched or any(place == 0 for place in attrs["x_map"]):
        found.append((stand_in, attrs["x_map"]))
    attrs["batched"] = one_batch(found)
    if target.batched and not attrs["batched"]:
        return [Type(target.shape, FLAT, target.dtype)]
    return [Type(target.shape, target.layout if target.batched else FLAT, target.dtype)]


def gradient_scatter(node: Node, grads: list) -> list:
    base, source, *indices = node.inputs
    nothing = [None] * len(indices)
    g, attrs = grads[0], node.attrs
    if g is None or source.dtype != "float32":
        return [None, None, *nothing]
    maps = {key: attrs[key] for key in ("x_map", "index_map", "axes", "wrap", "called", "what", "extents") if key in attrs}
    if attrs.get("skip") is not None:
        fail(attrs["called"], "the gradient of a gradient is not there", NotImplementedError)
    if attrs.get("own"):
        maps["extents"] = list(attrs["positions"])
    if attrs["op"] not in ("set", "add"):
        return [*(gradient_prod if attrs["op"] == "mul" else gradient_extreme)(node, g, maps), *nothing]
    at_base = None if base is None else g
    if attrs["op"] == "set" and base is not None:
        zero = np.zeros((), np.float32)
        at_base = apply("scatter", [g, zero, *indices], **maps, op="set", checked=True)
    if source.value is not None:
        return [at_base, None, *nothing]
    at_source = apply("gather", [g, *indices], **maps, checked=True)
    if any(a > b > 0 for a, b in zip(source.shape[::-1], at_source.shape[::-1], strict=False)):
        fail(attrs["called"], f"a gradient of src of shape {source.shape}, of which index of shape {at_source.shape} takes "
                              "a part: expected the same shape", NotImplementedError)
    if source.shape != at_source.shape:
        at_source = views.sum_to(at_source, source)
    return [at_base, at_source, *nothing]


def gradient_extreme(node: Node, g: Tensor, maps: dict) -> list:
    """Of a largest or smallest value: equal shares to all that are it."""
    base, source, *indices = node.inputs

    def picked(t: Tensor) -> Tensor:
        return apply("gather", [t, *indices], **maps, checked=True)

    own = fused(lambda b, y: b.eq(y), base, node.output)
    theirs = fused(lambda s, y: s.eq(y), source, picked(node.output))
    count = apply("scatter", [own, theirs, *indices], op="add", **maps, checked=True)
    share = fused(lambda g, n: g / n, g, count)
    return [fused(lambda o, s: o * s, own, share), views.sum_to(fused(lambda o, s: o * s, theirs, picked(share)), source)]


def gradient_prod(node: Node, g: Tensor, maps: dict) -> list:
    """Of a product: what the others give, without a division where there is a zero, as PyTorch's rule does it."""
    base, source, *indices = node.inputs

    def picked(t: Tensor) -> Tensor:
        return apply("gather", [t, *indices], **maps, checked=True)

    def times(b: Tensor, s: Tensor) -> Tensor:
        return apply("scatter", [b, s, *indices], op="mul", **maps, checked=True)

    filled = fused(lambda b: b.eq(0.0).where(1.0, b), base)
    at_base = fused(lambda g, p, b: g * p / b, g, times(filled, source), filled)
    zero = fused(lambda s: s.eq(0.0), source)
    zeros = picked(apply("scatter", [fused(lambda b: 0.0, base), zero, *indices], op="add", **maps, checked=True))
    single = fused(lambda z, n: z.logical_and(n.eq(1.0)), zero, zeros)
    without = times(base, fused(lambda o, s: o.where(1.0, s), single, source))
    at_source = fused(lambda o, w, y, s, z: o.where(w, y / z.where(1.0, s)), single,
                      picked(fused(lambda g, w: g * w, g, without)), picked(fused(lambda g, y: g * y, g, node.output)),
                      source, zero)
    return [at_base, views.sum_to(at_source, source)]


def lower_scatter(node: Node, cx: Lowering) -> None:
    base, source, *indices = node.inputs
    y, attrs, shape = node.output, node.attrs, node.attrs["positions"]
    rank = len(shape)
    whole = cx.view(y, write=True)
    y_shape, target = table_of(y, whole)
    start = Strided(cx.zeros(2), (0,) * y.ndim, y.dtype) if base is None else cx.view(base)
    cx.step(copy_kernels.copy, x=tuple(start), y=tuple(whole), shape=y.shape, batched=y.batched, op="copy")
    given = spread(cx.view(source), source.shape, range(rank - source.ndim, rank), rank)
    cx.step(kernels.scatter, x=tuple(given), y=tuple(spread(target, y_shape, attrs["x_map"], rank)), shape=shape,
            indices=index_operands(node, cx, indices, target, y_shape, rank), how=attrs["op"], batched=attrs["batched"],
            bad=guards(cx, indices, [y_shape[d] for d in addressed(attrs)], attrs), skip=attrs.get("skip"),
            info={"input": source.shape, "output": y.shape})


register(Operator("scatter", infer_scatter, lower_scatter, gradient_scatter, general=True))
