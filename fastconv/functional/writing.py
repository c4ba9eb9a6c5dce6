"""Symbolic tensors in place: ``x[...] = y`` and methods such as ``x.add_(y)``.

A graph has no memory to write to. The tensor that is written becomes another one under the same object: what has read it
keeps the old one, what reads it from now on gets the new one. Views go along, as they share memory in PyTorch: what a view
is written with is laid into what it is a view of, and what has been seen of a tensor is seen of the new one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from fastconv._values import plain, shown
from fastconv.functional.advanced import index_put
from fastconv.functional.arrays import bare
from fastconv.functional.constants import cast_to, zeros_like
from fastconv.functional.drawn import bernoulli, rand_like, randn_like
from fastconv.functional.methods import index
from fastconv.functional.parametric import where
from fastconv.functional.scattering import masked_scatter
from fastconv.functional.structure import expanded
from fastconv.graph.ir import Tensor, apply, fail
from fastconv.ops.copy import Map, Part, assemble, identity, view
from fastconv.ops.views import tensor as as_symbolic

__all__: list[str] = []
VIEWS = ("view", "reshape", "flatten")


def copied(x: Tensor) -> Tensor:
    """Another tensor of the same values; of the graph's steps none."""
    return apply("layout", [x], layout=x.layout)


def _become(tensor: Tensor, made: Tensor) -> None:
    """The object ``tensor`` is from now on what ``made`` is, which nobody else may know."""
    graph = tensor.graph
    old = Tensor(graph, tensor.type, tensor.node, tensor.index, tensor.name)
    old.parameter, old.value = tensor.parameter, tensor.value
    if old.node is not None:
        old.node.outputs[old.index] = old
    for node in graph.nodes:
        node.inputs = [old if t is tensor else tensor if t is made else t for t in node.inputs]
    graph.inputs = [old if t is tensor else t for t in graph.inputs]
    for known in (graph.late_inputs, graph.undecided, graph.roots):
        if tensor in known:
            known.discard(tensor)
            known.add(old)
    if old.parameter is not None:
        graph._parameters[id(old.parameter)] = old
    tensor.type, tensor.node, tensor.index, tensor.name = made.type, made.node, made.index, made.name
    tensor.parameter, tensor.value = None, None
    assert made.node is not None
    made.node.outputs[made.index] = tensor


def write(op: str, tensor: Tensor, made: Tensor, fresh: bool = False, by: Tensor | None = None) -> Tensor:
    """Has a tensor, what it is a view of, and what has been seen of it, be ``made``; ``fresh``: which nobody else knows;
    ``by``: the view through which it is written."""
    if tensor.parameter is not None:
        fail(op, "a parameter is written in forward: expected an activation; p.data and p.edit() change parameters",
             TypeError)
    if made.type.shape != tensor.type.shape:
        fail(op, f"a result of shape {made.type.shape} in the place of one of shape {tensor.type.shape}")
    if made.dtype != tensor.dtype:
        if made.dtype == "float32":
            fail(op, f"a result of dtype float32 in the place of {tensor.dtype}", TypeError)
        made = cast_to(op, made, tensor.dtype)
    if made is tensor:
        return tensor
    graph, node = tensor.graph, tensor.node
    link = graph.views.get(tensor)
    if link is None and node is not None and node.op.name in VIEWS:
        base = node.inputs[0]
        if base.value is None or base.ndim:  # zeros_like() makes a view of a number
            link = base, node.op.name, node.attrs
    alone, back = fresh and made.node is graph.nodes[-1], None
    if link is not None:
        base, kind, attrs = link
        back = _back(op, base, attrs["map"], made) if kind == "view" else made.reshape(base.shape)  # type: ignore
    seen = [found for found in _views(tensor) if found[0] is not by]
    _become(tensor, made if alone else copied(made))
    for view_, kind, attrs in seen:
        _again(view_, kind, attrs, tensor)
    if link is not None and back is not None:
        graph.views[tensor] = link
        write(op, link[0], back, by=tensor)  # of which nothing is computed where nobody reads it
    return tensor


def _views(tensor: Tensor) -> list[tuple[Tensor, str, dict]]:
    """What has been seen of a tensor, as views that nobody has written, or that were."""
    graph = tensor.graph
    found = [(n.outputs[0], n.op.name, n.attrs) for n in graph.nodes
             if n.op.name in VIEWS and n.inputs[0] is tensor and n.outputs[0] not in graph.views]
    return found + [(t, kind, attrs) for t, (base, kind, attrs) in graph.views.items() if base is tensor]


def _again(seen: Tensor, kind: str, attrs: dict, base: Tensor) -> None:
    """A view once more, of what its input has become; and the views of it."""
    further = _views(seen)
    base.graph.views.pop(seen, None)
    _become(seen, apply(kind, [base], **{**attrs, **({"map": tuple(attrs["map"])} if kind == "view" else {})}))
    for view_, name, more in further:
        _again(view_, name, more, seen)


def _back(op: str, base: Tensor, mapped: Map, value: Tensor) -> Tensor:
    """What ``base`` is where a view of it is ``value``."""
    inverse = mapped.inverse(base.type.shape)
    return _laid(op, base, mapped, value) if inverse is None else view(value, inverse)


def _laid(op: str, base: Tensor, mapped: Map, value: Tensor | float) -> Tensor:
    """``base`` with a value at the elements of a view."""
    shape = base.type.shape
    strides: list[int] = []
    for extent in (1, *shape[:0:-1])[:len(shape)]:
        strides.append((strides[-1] if strides else 1) * extent)
    strides = strides[::-1]
    if not mapped.distinct(shape):
        fail(op, "a tensor whose elements are repeated (as expand() gives) cannot be written")
    first = sum(a * b for a, b in zip(mapped.start, strides, strict=True))
    places = np.full(mapped.shape, first, np.int64)
    for k, stride in enumerate(mapped.strides(strides)):
        places += (np.arange(mapped.shape[k]) * stride).reshape(-1, *(1,) * (len(mapped.shape) - k - 1))
    flags = np.zeros(prod(shape), bool)
    flags[places.reshape(-1)] = True
    mask = flags.reshape(shape)
    if base.batched and mapped.keeps_batch(shape[0]):
        mask = mask[:1]
    if isinstance(value, Tensor):
        value = assemble([value], [Part(0, identity(mapped.shape), mapped)], shape, 0)
    return where(mask, value, base)


def _set(self: Tensor, key: Any, value: Any) -> None:
    """``x[key] = value``."""
    keys, value = key if isinstance(key, tuple) else (key,), plain(bare(value))
    keys = tuple(bare(k) if not isinstance(k, list) else np.asarray(k) for k in keys)
    number = isinstance(value, (bool, int, float))
    if not number:
        value = as_symbolic("setitem", "value", value)
        if value.dtype != self.dtype:
            value = cast_to("setitem", value, self.dtype)
    elif isinstance(value, float) and self.dtype != "float32":
        value = int(value)
    if not any(isinstance(k, (np.ndarray, Tensor)) for k in keys):
        seen = index(self, keys)
        if not number:
            value = expanded("setitem", _trimmed(value, seen.ndim), seen.shape, "value")
        made = _laid("setitem", self, seen.node.attrs["map"], value) if seen.node is not None and seen is not self else \
            zeros_like(self) + value if number else value
    elif len(keys) == 1 and getattr(keys[0], "dtype", None) in ("bool", np.bool_):
        mask = keys[0]
        if not isinstance(mask, Tensor):
            mask = as_symbolic("setitem", "index", mask)
        if mask.type.shape != self.type.shape[:mask.ndim]:
            fail("setitem", f"a mask of shape {mask.type.shape} for input of shape {self.type.shape}", IndexError)
        mask = mask.reshape((*mask.shape, *(1,) * (self.ndim - mask.ndim)))  # type: ignore[attr-defined]
        made = where(mask, value, self) if number or value.ndim == 0 else \
            masked_scatter(self, expanded("setitem", mask, self.shape, "index"), value)
    else:
        if any(k is None or k is Ellipsis or isinstance(k, slice) and k != slice(None) for k in keys):
            fail("setitem", f"index {shown(key)}: arrays of integers beside slices with bounds, None or an ellipsis are not "
                            "written; index_put() is", TypeError)
        places = [None if isinstance(k, slice) else np.asarray(k) if isinstance(k, int) else k for k in keys]
        made = index_put(self, places, as_symbolic("setitem", "value", np.asarray(value, self.dtype)) if number else value)
    write("setitem", self, made)


def _trimmed(value: Tensor, rank: int) -> Tensor:
    """Without the leading dimensions of one element that are more than there is place for."""
    while value.ndim > rank and value.type.shape[0] == 1:
        value = value.squeeze(0)  # type: ignore[attr-defined]
    return value


def _written(name: str) -> Callable:
    def method(self: Tensor, *args, **kwargs) -> Tensor:
        return write(name, self, getattr(self, name[:-1])(*args, **kwargs), True)

    method.__name__ = name
    method.__doc__ = f"``{name[:-1]}``, which takes the tensor's place."
    return method


def _filled(self: Tensor, value: Any = 0) -> Tensor:
    value = plain(bare(value))
    made = zeros_like(self) + value if isinstance(value, (int, float)) else \
        expanded("fill_", as_symbolic("fill_", "value", value), self.shape, "value")
    return write("fill_", self, made)


def _copied_into(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    return write("copy_", self, expanded("copy_", as_symbolic("copy_", "src", bare(src)), self.shape, "src"))


WRITTEN: dict[str, Callable] = {
    "zero_": lambda self: _filled(self), "fill_": _filled, "copy_": _copied_into,
    "normal_": lambda self, mean=0.0, std=1.0: write("normal_", self, randn_like(self) * std + mean),
    "uniform_": lambda self, low=0.0, high=1.0: write("uniform_", self, rand_like(self) * (high - low) + low),
    "bernoulli_": lambda self, p=0.5: write("bernoulli_", self, bernoulli(self, p)),
    "clone": lambda self, *, memory_format=None: copied(self), "__setitem__": _set, "index_put": index_put,
    "where": lambda self, condition, other: where(condition, self, other),
    "requires_grad_": lambda self, requires_grad=True: self if requires_grad else self.detach(),
}
SAME = """
abs acos acosh add addcdiv addcmul addmm asin asinh atan atanh baddbmm ceil clamp clamp_max clamp_min clip cos
cosh cumprod cumsum detach digamma div divide erf erfc erfinv exp exp2 expm1 fix float_power floor floor_divide
fmod frac index_add index_copy index_fill index_put ldexp lerp lgamma log log10 log1p log2 logical_and
logical_not logical_or logical_xor logit masked_fill masked_scatter mul multiply nan_to_num neg negative pow
reciprocal relu remainder renorm round rsqrt scatter scatter_add scatter_reduce sgn sigmoid sign sin sinc sinh
softmax sqrt square sub subtract tan tanh tril triu true_divide trunc xlogy
"""  # methods that have a form in place, with an underscore


def _operator(name: str) -> Callable:
    def method(self: Tensor, other: Any):
        return write(f"i{name}", self, getattr(operator, name)(self, other), True) if self.graph.tracing else NotImplemented

    return method


def _define() -> None:
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor"):
        setattr(Tensor, f"__i{name.rstrip('_')}__", _operator(name))
    for name, method in WRITTEN.items():
        setattr(Tensor, name, method)
    for name in SAME.split():
        setattr(Tensor, f"{name}_", _written(f"{name}_"))


_define()
