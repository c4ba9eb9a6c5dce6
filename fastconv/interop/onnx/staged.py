"""Runs models of which a part depends on values: what can be planned is compiled, the rest is decided in between.

The nodes are followed until one needs values that are not there yet. What lies before is compiled and run; that node
is then done on arrays (:mod:`fastconv.interop.onnx.dependent`), or traced with the values it needs as constants; and so on.
Plans are kept, by the shapes of what they read and the values of what was made a constant.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.engine import general
from fastconv.graph.ir import Tensor
from fastconv.graph.parameter import Parameter
from fastconv.graph.traced import version
from fastconv.interop.onnx.dependent import HOST, on_host
from fastconv.interop.onnx.table import DependsOnValues, Node, is_static, numbers, tensor, value_of
from fastconv.nn import Module

KEPT = 64  # plans
CHOSEN = 8  # elements that an array of floating point has at most where it says how something is done


class Part(NamedTuple):
    """A compiled run of nodes: where it ends, what it computes, what it reads, and what was known while it was traced."""

    stop: int
    compiled: Any
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    known: dict[str, np.ndarray]


class Stretch(Module):
    """Some nodes of a model as a module."""

    def __init__(self, follow: Callable):
        super().__init__()
        self.follow = follow

    def forward(self, *tensors):
        return self.follow(tensors)


class Staged:
    """A model ready to be run on arrays.

    Parameters
    ----------
    net : OnnxModel
    follow : callable
        ``follow(node, known)`` adds a node's outputs to what is known.
    """

    def __init__(self, net, follow: Callable[[Node, dict[str, Any]], None]):
        self.net, self.follow = net, follow
        self.parts: OrderedDict[tuple, Part] = OrderedDict()
        self.held: list = []  # parameters and buffers, as they were at ``structure``
        self.structure: object = None
        self.versions: list[int] = []
        self.live: dict[tuple, list[str]] = {}  # by a node's place and what is there: what it and those behind it read
        self.mode: bool | None = None
        nodes = net._followed.nodes
        self.needed: list[set[str]] = [set(net.output_names)]  # before each node, from the last
        for node in reversed(nodes):
            self.needed.append(self.needed[-1] - set(node.outputs) | set(reads(node)))
        self.needed.reverse()

    def __reduce__(self):
        return type(None), ()  # a copy of the model makes its own plans

    def run(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        nodes, at = self.net._followed.nodes, 0
        if self.structure is not (now := version()):
            self.held, self.structure = [*self.net.parameters(), *self.net.buffers()], now
        versions = [p.version for p in self.held]
        if versions != self.versions or self.mode != self.net.training:  # plans hold the weights as they were
            self.parts.clear()
            self.versions, self.mode = versions, self.net.training
        values: dict[str, np.ndarray] = dict(zip(self.net.input_names, arrays, strict=True))
        fixed: set[str] = set()  # of which the values are constants of the next part
        while at < len(nodes):
            node = nodes[at]
            if node.op in HOST:
                self.host(node, values)
                at += 1
                continue
            part = self.part(at, values, fixed)
            if part.stop == at:  # this node needs values of what it reads
                more = {name for name in reads(node) if name in values and name not in fixed and chosen(values[name])}
                if not more:
                    self.trace(at, at + 1, values, fixed, part.reads)  # raises what it needs
                    raise node.fail("it depends on the values of the input", DependsOnValues)
                fixed |= more
                continue
            values.update(part.known)
            fixed = {name for name in part.known if name in self.needed[part.stop]}
            if part.makes:
                results = part.compiled.run([values[name] for name in part.reads], 1)
                values.update(zip(part.makes, results, strict=True))
            at = part.stop
        return tuple(values[name] if name in values else self.constant(name) for name in self.net.output_names)

    def host(self, node: Node, values: dict[str, np.ndarray]) -> None:
        given = [None if not name else values[name] if name in values else self.constant(name) for name in node.inputs]
        results = on_host(node, given)
        values.update({name: value for name, value in zip(node.outputs, results, strict=False) if name})

    def constant(self, name: str) -> np.ndarray:
        if name in self.net._followed.places:
            home, key = self.net._followed.places[name]
            return np.array(getattr(home, key).data)  # a copy: it may be a result, and that is not the weight
        return np.array(numbers(value_of(self.net._followed.constants, name)))

    def part(self, at: int, values: dict[str, np.ndarray], fixed: set[str]) -> Part:
        """The compiled nodes from one on, made where they are not kept."""
        where = (at, *values)
        if where not in self.live:
            self.live[where] = sorted(name for name in self.needed[at] if name in values)
        live = self.live[where]
        reads = tuple(name for name in live if name not in fixed)
        key = (at, tuple((name, values[name].shape, values[name].dtype.name) for name in reads),
               tuple((name, values[name].shape, values[name].dtype.name, values[name].tobytes())
                     for name in live if name in fixed))
        if key not in self.parts:
            self.parts[key] = self.make(at, values, fixed, reads)
            while len(self.parts) > KEPT:
                self.parts.popitem(last=False)
        self.parts.move_to_end(key)
        return self.parts[key]

    def make(self, at: int, values: dict[str, np.ndarray], fixed: set[str], reads: tuple[str, ...]) -> Part:
        stop, known = self.trace(at, len(self.net._followed.nodes), values, fixed, reads, wanted=None)
        makes, constants, followed = [], {}, self.net._followed
        if stop > at:
            for name in sorted(self.needed[stop]):
                value = known.get(name)
                if name in values or name in followed.places or name in followed.constants or value is None:
                    continue
                if is_static(value):
                    constants[name] = numbers(value)
                else:
                    makes.append(name)
        compiled = None
        if makes:
            compiled = self.trace(at, stop, values, fixed, reads, wanted=makes)
        return Part(stop, compiled, reads, tuple(makes), constants)

    def trace(self, at: int, stop: int, values, fixed, reads: Sequence[str], wanted: Sequence[str] | None = ()) -> Any:
        """Follows nodes: as far as values allow (``wanted`` None: where that is, and what is known then), or compiled."""
        found: dict[str, Any] = {}
        end = [at]

        def follow(tensors):
            known = dict(self.net._followed.constants)
            known.update((name, getattr(home, key)) for name, (home, key) in self.net._followed.places.items())
            known.update((name, values[name]) for name in fixed)
            known.update(zip(reads, tensors, strict=True))
            for node in self.net._followed.nodes[at: stop]:
                if node.op in HOST and not all(is_static(known.get(name)) for name in node.inputs if name):
                    break
                try:
                    self.follow(node, known)
                except DependsOnValues:
                    if wanted is not None:
                        raise
                    break
                end[0] += 1
            found.update(known)
            if wanted is None:
                raise Far
            return tuple(tensor(value_of(known, name)) for name in wanted)

        arrays = [values[name] for name in reads]
        places = tuple(general.Place(i, a.shape, a.dtype.name) for i, a in enumerate(arrays))
        stretch = Stretch(follow)
        stretch.training = self.net.training
        try:
            compiled = general.compile_function("run", stretch.symbolic(False), places, arrays)
        except Far:
            kept = (Tensor, Parameter)
            return end[0], {name: value for name, value in found.items() if is_static(value) or isinstance(value, kept)}
        return compiled


class Far(BaseException):
    """Ends a trace that was made to see how far it goes."""


def reads(node: Node) -> list[str]:
    """The tensors that a node reads, those of its branches with them."""
    names = [name for name in node.inputs if name]
    for value in node.attributes.values():
        if hasattr(value, "nodes"):
            names += [name for inner in value.nodes for name in reads(inner)] + list(value.outputs)
    return names


def chosen(array: np.ndarray) -> bool:
    """Whether values of an array may say how something is done."""
    return array.dtype != np.float32 or array.size <= CHOSEN and array.ndim < 2
