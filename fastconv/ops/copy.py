"""What moves elements: views, reshapes, assemblies and casts of tensors of any rank, dtype and layout.

A view finds its element o in the input at ``start[d] + sum of step * o[k]`` along each dimension d; ``terms`` lists, for
each dimension k of the view, its pairs (d, step). That is every permutation, slice, flip, repetition, diagonal and window:

    transpose       ((1, 1),), ((0, 1),)         x[::2, 3]    ((0, 2),)             start 0, 3
    repeated        (),                          diagonal     ((0, 1), (1, 1)),     windows  ((0, step),), ((0, 1),)

A view moves nothing. Its adjoint is an assembly: zeros, or another background, into which tensors are laid under such maps;
joins, paddings and diagonals are assemblies too, and their gradients are views.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from fastconv.graph.ir import DENSE, FLAT, PIXELS, RANK, Node, Operator, Tensor, Type, apply, fail, register
from fastconv.kernels import copy as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Strided, row_major
from fastconv.ops import views


class Map(NamedTuple):
    """How the elements of a view are found; see the module's text."""

    shape: tuple[int, ...]
    start: tuple[int, ...]
    terms: tuple[tuple[tuple[int, int], ...], ...]

    def keeps_batch(self, extent: int) -> bool:
        """Whether the first dimension is that of the other side, of this extent, and no other one is of it."""
        return bool(self.shape) and self.shape[0] == extent and self.start[0] == 0 and self.terms[0] == ((0, 1),) and \
            all(d != 0 for term in self.terms[1:] for d, _ in term)

    def strides(self, own: Sequence[int]) -> tuple[int, ...]:
        """Strides of the view of something that has these."""
        return tuple(sum(step * own[d] for d, step in term) for term in self.terms)

    def of(self, whole: Strided) -> Strided:
        """Where the view of something that lies there lies."""
        offset = sum(a * b for a, b in zip(self.start, whole.strides, strict=True)) if prod(self.shape) else 0
        return Strided(whole.ref.plus(offset, np.dtype(whole.dtype).itemsize), self.strides(whole.strides), whole.dtype)

    def distinct(self, shape: Sequence[int]) -> bool:
        """Whether no two elements of the view are the same one of an array of this shape."""
        reach = 0
        strides = map(abs, self.strides(row_major(shape)))
        for extent, stride in sorted(zip(self.shape, strides, strict=True), key=lambda p: p[1]):
            if extent > 1 and stride <= reach:
                return False
            reach += (extent - 1) * stride
        return True

    def inverse(self, shape: Sequence[int]) -> Map | None:
        """The view of this one that is the whole array of this shape again; None where there is none."""
        if prod(self.shape) != prod(shape) or any(len(t) > 1 or t and abs(t[0][1]) != 1 for t in self.terms):
            return None
        start: list[int] = [0] * len(self.shape)
        terms: list[tuple] = [()] * len(shape)
        for k, term in enumerate(self.terms):
            if not term and self.shape[k] > 1:
                return None
            if term:
                (d, step), = term
                if terms[d] or self.shape[k] != shape[d] or self.start[d] != (0 if step > 0 else shape[d] - 1):
                    return None
                terms[d], start[k] = ((k, step),), 0 if step > 0 else shape[d] - 1
        if any(not term and extent > 1 for term, extent in zip(terms, shape, strict=True)):
            return None
        return Map(tuple(shape), tuple(start), tuple(terms))


def identity(shape: Sequence[int], start: Sequence[int] = (), steps: Sequence[int] = ()) -> Map:
    """The map of a block of this shape, from ``start`` on, in steps."""
    steps = steps or [1] * len(shape)
    return Map(tuple(shape), tuple(start) or (0,) * len(shape), tuple(((d, step),) for d, step in enumerate(steps)))


def check_rank(op: str, shape: Sequence[int]) -> None:
    if len(shape) > RANK:
        fail(op, f"a result of shape {tuple(shape)} has {len(shape)} dimensions: at most {RANK} are supported")


# ---- views --------------------------------------------------------------------------------------------------------------


def view(x: Tensor, mapped: Map) -> Tensor:
    """The view of a tensor."""
    return apply("view", [x], map=tuple(mapped))


def infer_view(inputs: list, attrs: dict) -> list[Type]:
    (x,), mapped = inputs, Map(*attrs["map"])
    attrs["map"] = mapped
    check_rank("view", mapped.shape)
    if attrs.get("batch"):  # a repetition for each element of the batch
        return [Type(mapped.shape, DENSE, x.dtype)]
    if not x.batched:
        return [Type(mapped.shape, FLAT, x.dtype)]
    if not mapped.keeps_batch(x.shape[0]):
        views.fixed(x)
        return [Type(mapped.shape, FLAT, x.dtype)]
    alike = x.layout == PIXELS and len(mapped.shape) == x.ndim and diagonal_only(mapped)
    return [Type(mapped.shape, PIXELS if alike else DENSE, x.dtype)]


def lower_view(node: Node, cx: Lowering) -> None:
    lies = node.attrs["map"].of(cx.view(node.inputs[0]))
    cx.alias_view(node.output, lies.ref, lies.strides)


def gradient_view(node: Node, grads: list) -> list:
    x, mapped, gradient = node.inputs[0], node.attrs["map"], grads[0]
    repeated = [k for k, term in enumerate(mapped.terms) if not term and mapped.shape[k] != 1]
    if repeated:
        kept = [k for k in range(len(mapped.shape)) if k not in repeated]
        mapped = Map(tuple(mapped.shape[k] for k in kept), mapped.start, tuple(mapped.terms[k] for k in kept))
        gradient = apply("reduce", [gradient], operation="sum", dims=tuple(repeated), keepdim=False, shape=mapped.shape,
                         batched=0 not in repeated)
    back = mapped.inverse(x.type.shape)
    if back is not None:
        return [views.laid_out(view(gradient, back), x.type)]
    part = Part(0, identity(mapped.shape), mapped)
    return [views.laid_out(assemble([gradient], [part], x.type.shape, 0.0, not mapped.distinct(x.type.shape)), x.type)]


# ---- reshapes -----------------------------------------------------------------------------------------------------------


def infer_reshape(inputs: list, attrs: dict) -> list[Type]:
    (x,), shape = inputs, tuple(attrs["shape"])
    check_rank("reshape", shape)
    if x.batched and attrs.get("batch") and shape[:1] == x.shape[:1]:
        return [Type(shape, PIXELS if attrs.get("pixels") and 2 <= len(shape) <= 5 else DENSE, x.dtype)]
    views.fixed(x)
    return [Type(shape, FLAT, x.dtype)]


def viewed(shape: Sequence[int], strides: Sequence[int], other: Sequence[int]) -> tuple[int, ...] | None:
    """Strides under which an array of the other shape has the same elements in the same order; None where there are none."""
    old = [(extent, stride) for extent, stride in zip(shape, strides, strict=True) if extent != 1]
    out, i, at = [0] * len(other), 0, 0
    new = [k for k, extent in enumerate(other) if extent != 1]
    while i < len(old) and at < len(new):
        group, count, first = [old[i]], old[i][0], at
        made = other[new[at]]
        i, at = i + 1, at + 1
        while made != count:
            if made < count:
                made *= other[new[at]]
                at += 1
            else:
                group.append(old[i])
                count *= old[i][0]
                i += 1
        if any(a[1] != b[0] * b[1] for a, b in zip(group, group[1:], strict=False)):
            return None
        stride = group[-1][1]
        for k in reversed(new[first:at]):
            out[k] = stride
            stride *= other[k]
    return tuple(out)


def lower_reshape(node: Node, cx: Lowering) -> None:
    x, y = node.inputs[0], node.output
    source = cx.view(x)
    strides = viewed(x.shape, source.strides, y.shape) if prod(x.shape) else row_major(y.shape)
    if strides is not None:
        cx.alias_view(y, source.ref, strides)
        return
    target = cx.view(y, True)
    inside = viewed(y.shape, target.strides, x.shape)
    if inside is None:  # pixels that are not taken apart so
        whole = Strided(cx.temp(y.type.nbytes, "reshaped"), row_major(x.shape), y.dtype)
        cx.copy(source, whole, x.shape, y.batched)
        cx.copy(whole._replace(strides=row_major(y.shape)), target, y.shape, y.batched)
    else:
        cx.copy(source, target._replace(strides=inside), x.shape, y.batched)


def gradient_reshape(node: Node, grads: list) -> list:
    x = node.inputs[0]
    return [views.laid_out(apply("reshape", grads, shape=x.type.shape, batch=node.attrs.get("batch")), x.type)]


# ---- assemblies ---------------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """A piece of an assembly: what ``source`` sees of the tensor of this number goes to where ``target`` says."""

    tensor: int
    source: Map
    target: Map

    def keeps_batch(self, x: Tensor, extent: int) -> bool:
        return x.batched and self.source.keeps_batch(x.shape[0]) and self.target.keeps_batch(extent)


def assemble(tensors: Sequence[Tensor], parts: Sequence[Part], shape: Sequence[int], fill: float | int | bool | None = None,
             add: bool = False, disjoint: bool = True) -> Tensor:
    """Pieces of tensors laid into an array of this shape.

    Parameters
    ----------
    tensors : sequence of Tensor, of one dtype
    parts : sequence of Part
    shape : sequence of int
    fill : number, optional
        What is where nothing is laid; None where the parts cover it all.
    add : bool
        Whether what falls into one place is summed (float32).
    disjoint : bool
        Whether no element of a tensor is laid twice: then the gradient sums nothing.
    """
    return apply("assemble", tensors, parts=tuple((p.tensor, tuple(p.source), tuple(p.target)) for p in parts),
                 shape=tuple(shape), fill=fill, add=add, disjoint=disjoint)


def laid(tensors: Sequence[Tensor], maps: Sequence[Map], shape: Sequence[int],
         fill: float | int | bool | None = None) -> Tensor:
    """Whole tensors laid into an array of this shape where their maps say."""
    parts = [Part(i, identity(t.type.shape), m) for i, (t, m) in enumerate(zip(tensors, maps, strict=True))]
    return assemble(tensors, parts, shape, fill)


def diagonal_only(mapped: Map) -> bool:
    """Whether each dimension of the view is a part of the one of this number."""
    return all(d == k for k, term in enumerate(mapped.terms) for d, _ in term)


def infer_assemble(inputs: list, attrs: dict) -> list[Type]:
    parts = attrs["parts"] = [Part(i, Map(*source), Map(*target)) for i, source, target in attrs["parts"]]
    shape, dtype = tuple(attrs["shape"]), inputs[0].dtype
    check_rank("assemble", shape)
    if shape and parts and all(p.keeps_batch(inputs[p.tensor], shape[0]) for p in parts):
        pixels = 2 <= len(shape) <= 5 and all(t.layout == PIXELS and t.ndim == len(shape) for t in inputs) and \
            all(diagonal_only(p.source) and diagonal_only(p.target) for p in parts)
        return [Type(shape, PIXELS if pixels else DENSE, dtype)]
    for p in parts:
        x = inputs[p.tensor]
        summed = x.batched and p.source.keeps_batch(x.shape[0]) and not p.target.terms[0]  # whatever the batch is
        if not summed:
            views.fixed(x)
    return [Type(shape, FLAT, dtype)]


def lower_assemble(node: Node, cx: Lowering) -> None:
    y, attrs = node.output, node.attrs
    whole = cx.view(y, True)
    if attrs["fill"] is not None and 0 not in y.shape:
        cx.fill(y, attrs["fill"])
    found = [cx.view(t) for t in node.inputs]
    parts: list[tuple] = []
    for p in attrs["parts"]:
        if 0 not in p.source.shape:
            x = node.inputs[p.tensor]
            parts.append((tuple(p.source.of(found[p.tensor])), tuple(p.target.of(whole)), p.source.shape,
                          x.batched and p.source.keeps_batch(x.shape[0])))
    info = {"input": node.inputs[0].shape, "output": y.shape}
    if attrs["add"]:
        for source, target, shape, batched in parts:
            cx.step(kernels.add, x=source, y=target, shape=shape, batched=batched, info=info)
    elif parts:
        cx.step(kernels.copies, parts=parts, info=info)


def gradient_assemble(node: Node, grads: list) -> list:
    out, attrs = [], node.attrs
    for i, t in enumerate(node.inputs):
        parts = [Part(0, p.target, p.source) for p in attrs["parts"] if p.tensor == i]
        if len(parts) == 1 and parts[0].target == identity(t.type.shape):
            gradient = view(grads[0], parts[0].source)
        else:
            gradient = assemble(grads, parts, t.type.shape, 0.0, not attrs["disjoint"])
        out.append(views.laid_out(gradient, t.type))
    return out


# ---- casts --------------------------------------------------------------------------------------------------------------


def cast(x: Tensor, dtype: str) -> Tensor:
    """The tensor in another dtype."""
    return x if x.dtype == dtype else apply("cast", [x], dtype=dtype)


def infer_cast(inputs: list, attrs: dict) -> list[Type]:
    (x,) = inputs
    return [Type(x.shape, x.layout, attrs["dtype"], x.type.fixed)]


def lower_cast(node: Node, cx: Lowering) -> None:
    x = node.inputs[0]
    cx.copy(cx.view(x), cx.view(node.output, True), x.shape, x.batched, op="cast")


register(Operator("view", infer_view, lower_view, gradient_view, general=True))
register(Operator("reshape", infer_reshape, lower_reshape, gradient_reshape, general=True))
register(Operator("assemble", infer_assemble, lower_assemble, gradient_assemble, general=True))
register(Operator("cast", infer_cast, lower_cast, lambda node, grads: [None], general=True))
