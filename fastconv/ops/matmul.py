"""Contractions of two tensors: out = alpha * sum of left * right + beta * addend, dimensions named by letters as in einsum.

A letter of extent 1 in one operand only is repeated there. A letter of ``out`` that no operand has is a dimension along
which the result is repeated; its extent is in ``extents``. So the gradient of a contraction is one again, broadcasting
included.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from string import ascii_letters
from typing import Any

import numpy as np

from fastconv.graph.ir import DENSE, FLAT, Node, Operator, Tensor, Type, apply, fail, register
from fastconv.kernels import matmul as kernels
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Ref, Strided, row_major
from fastconv.ops import views


def contract(left: Tensor, right: Tensor, spec: str, addend: Tensor | None = None, alpha: float = 1.0, beta: float = 1.0,
             extents: dict[str, int] | None = None) -> Tensor:
    """``spec`` as ``"mk,kn->mn"``; the addend is broadcast to the result."""
    return apply("contract", [left, right, addend], spec=spec, alpha=float(alpha), beta=float(beta), extents=extents or {})


def one() -> np.ndarray:
    """The right operand of a sum."""
    return np.ones((), np.float32)


def parts(spec: str) -> tuple[str, str, str]:
    operands, out = spec.split("->")
    left, right = operands.split(",")
    return left, right, out


def sizes(node_inputs: Sequence[Tensor], attrs: dict) -> dict[str, int]:
    """The extent of each letter."""
    left, right, _ = parts(attrs["spec"])
    found = dict(attrs["extents"])
    for labels, tensor in ((left, node_inputs[0]), (right, node_inputs[1])):
        for label, extent in zip(labels, tensor.type.shape, strict=True):
            if found.get(label, 1) == 1:
                found[label] = extent
            elif extent not in (1, found[label]):
                fail("contract", f"operands of shapes {node_inputs[0].shape} and {node_inputs[1].shape}: {attrs['spec']} "
                                 f"gives {label!r} the extents {found[label]} and {extent}")
    return found


def infer(inputs: list, attrs: dict) -> list[Type]:
    left, right, out = parts(attrs["spec"])
    for tensor in inputs:
        if tensor is not None and tensor.dtype != "float32":
            fail("contract", f"operand of dtype {tensor.dtype}: expected float32", TypeError)
    found = sizes(inputs, attrs)
    shape = tuple(found[label] for label in out)
    addend = inputs[2]
    labelled = [(inputs[0], left), (inputs[1], right)]
    if addend is not None:
        given = addend.type.shape
        if len(given) > len(out) or any(a not in (1, b) for a, b in zip(given[::-1], shape[::-1], strict=False)):
            fail("contract", f"input of shape {addend.shape} cannot be broadcast to the shape of the product, {shape}")
        labelled.append((addend, out[len(out) - len(given):]))
    batched = [(tensor, labels) for tensor, labels in labelled if tensor.batched]
    attrs["vary"] = ""
    if not batched:
        return [Type(shape, FLAT)]
    label = batched[0][1][0]
    same = all(labels[0] == label and label not in labels[1:] for _, labels in batched)
    others = all(label not in labels or tensor.type.shape[labels.index(label)] == 1
                 for tensor, labels in labelled if not tensor.batched)
    if same and others and label not in attrs["extents"] and (out[:1] == label or label not in out) and label not in out[1:]:
        attrs["vary"] = label
        return [Type(shape, DENSE if out[:1] == label else FLAT)]
    for tensor, _ in batched:
        views.fixed(tensor)
    return [Type(shape, FLAT)]


def _gradient_of(grad: Tensor, other: Tensor, out: str, others: str, like: Tensor, labels: str, found: dict[str, int],
                 alpha: float) -> Tensor:
    """The gradient of an operand: the contraction of that of the result with the other operand."""
    free = iter(letter for letter in ascii_letters if letter not in found)
    wanted, extents = "", {}
    for label, extent in zip(labels, like.type.shape, strict=True):
        if extent == 1 and found[label] != 1:  # it was repeated: summed over
            label = next(free)
            extents[label] = 1
        elif label not in out + others:
            extents[label] = extent
        wanted += label
    return views.laid_out(contract(grad, other, f"{out},{others}->{wanted}", None, alpha, 1.0, extents), like.type)


def gradient(node: Node, grads: list) -> list:
    (g,), (a, b, d) = grads, node.inputs
    left, right, out = parts(node.attrs["spec"])
    found, alpha = sizes(node.inputs, node.attrs), node.attrs["alpha"]
    result = [_gradient_of(g, b, out, right, a, left, found, alpha),
              _gradient_of(g, a, out, left, b, right, found, alpha)]
    if d is None:
        return [*result, None]
    unit = g.graph.constant(one())
    return [*result, _gradient_of(g, unit, out, "", d, out[len(out) - d.ndim:], found, node.attrs["beta"])]


def lower(node: Node, cx: Lowering) -> None:
    (a, b, d), attrs = node.inputs, node.attrs
    left, right, out = parts(attrs["spec"])
    found, vary = sizes(node.inputs, attrs), attrs["vary"]
    labels = out + "".join(dict.fromkeys(label for label in left + right if label not in out))
    if vary:
        labels = vary + labels.replace(vary, "")
    shape = [found[label] for label in labels]
    if len(labels) == 0:
        labels, shape = "a", [1]
    kinds = "".join("b" if label in out and (label in left) == (label in right) else "k" if label not in out else
                    "m" if label in left else "n" for label in labels)
    target = cx.view(node.output, write=True)

    def operand(view: Strided, names: str, extents: Sequence[int]) -> tuple:
        dims = list(zip(view.strides, names, extents, strict=True))
        return view.ref, [sum(s for s, name, n in dims if name == label and n != 1) for label in labels], view.dtype

    problem: dict[str, Any] = {
        "shape": shape, "kinds": kinds, "batched": bool(vary), "a": operand(cx.view(a), left, a.type.shape),
        "b": operand(cx.view(b), right, b.type.shape), "c": operand(target, out, node.output.type.shape)}
    if d is not None and attrs["beta"] != 0:
        problem["d"] = operand(cx.view(d), out[len(out) - d.ndim:], d.type.shape)
    constant = [not cx.training and cx.is_constant(t) for t in (a, b)]
    problem["constant"] = "" if all(constant) or not any(constant) else "a" if constant[0] else "b"
    try:
        packed, partials = kernels.needs(**problem)
    except ValueError:  # too many dimensions of a sum: with those last and dense they are one
        for side, tensor, names in (("a", a, left), ("b", b, right)):
            problem[side] = operand(*_sums_last(cx, tensor, names, out))
        packed, partials = kernels.needs(**problem)
    blocks: Ref | int = 0
    if packed:
        source = a if constant[0] else b
        key = ("blocks", source, kernels.packing(**problem)) if problem["constant"] else None
        if key in cx.extra:  # a weight that several products read, of the steps of a recurrent layer
            blocks = cx.extra[key]
        else:
            blocks, segment = cx.packed(4 * packed, source) if key else (cx.temp(4 * packed, "packed"), None)
            cx.step(kernels.pack, **problem, packed=blocks, op="pack", segment=segment)
            if key:
                cx.extra[key] = blocks
    sums = cx.temp(4 * partials, "partial sums") if partials else 0
    last = {"alpha": attrs["alpha"], "beta": attrs["beta"]}
    cx.step(kernels.product, **problem, packed=blocks, partials=sums, **last, algorithm="gemm",
            info={"input": a.type.shape, "output": node.output.type.shape, "weight": b.type.shape,
                  "multiply_adds": prod(shape)})
    if partials:
        cx.step(kernels.sum_parts, **problem, partials=sums, **last, op="sum")


def _sums_last(cx: Lowering, tensor: Tensor, labels: str, out: str) -> tuple[Strided, str, tuple[int, ...]]:
    """A dense copy of an operand whose dimensions that are summed over come last, in the order of their letters."""
    order = sorted(range(len(labels)), key=lambda i: (i != 0 or not tensor.batched, labels[i] not in out, labels[i]))
    shape = tuple(tensor.type.shape[i] for i in order)
    source, place = cx.view(tensor), cx.temp(tensor.type.nbytes, "sums last")
    copy = Strided(place, row_major(shape), tensor.dtype)
    cx.copy(source._replace(strides=tuple(source.strides[i] for i in order)), copy, shape, tensor.batched)
    return copy, "".join(labels[i] for i in order), shape


register(Operator("contract", infer, lower, gradient, general=True))
