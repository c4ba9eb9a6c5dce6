"""From a callable over symbolic tensors to a graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fastconv.graph.batch import Batch
from fastconv.graph.ir import FLAT, Graph, Tensor, apply, building, running
from fastconv.graph.traced import version

_NOTHING = object()  # None among the outputs


class Structure:
    """How the outputs of a callable nest: a tensor, or tuples, lists and dicts of such, and None where there is none."""

    def __init__(self, result, graph: Graph | None = None):
        self._graph = graph  # takes numbers in: constants
        self.tensors: list[Tensor] = []
        self._shape = self._take(result)
        self.plain = self._shape is None  # one tensor

    def _take(self, value):
        if isinstance(value, Tensor):
            self.tensors.append(value)
            return None
        if value is None:
            return _NOTHING
        if self._graph is not None and isinstance(value, (int, float, np.ndarray, np.generic)):
            self.tensors.append(self._graph.constant(np.asarray(value)))
            return None
        if isinstance(value, (tuple, list)):
            return type(value)(self._take(v) for v in value) if type(value) in (tuple, list) else \
                type(value)(*(self._take(v) for v in value))
        if isinstance(value, dict):
            return {key: self._take(v) for key, v in value.items()}
        raise TypeError(f"forward returned a {type(value).__name__}: expected symbolic tensors, or tuples, lists or dicts "
                        "of them")

    def build(self, arrays: Sequence):
        """The same nesting around other leaves."""
        return _nest(self._shape, iter(arrays))


def _nest(shape, leaves: Iterator):
    if shape is None:
        return next(leaves)
    if shape is _NOTHING:
        return None
    if isinstance(shape, dict):
        return {key: _nest(v, leaves) for key, v in shape.items()}
    values = (_nest(v, leaves) for v in shape)
    return type(shape)(values) if type(shape) in (tuple, list) else type(shape)(*values)


def trace(function: Callable, inputs: Sequence[tuple], batch: int | None = None) -> tuple[Graph, Structure]:
    """Calls ``function`` with symbolic tensors.

    Parameters
    ----------
    function : callable
        Takes one symbolic tensor per input; returns tensors.
    inputs : sequence of (shape, name) or (shape, name, layout, dtype)
    batch : int, optional
        What it finds as the batch of its inputs, if that is not theirs (0, for which plans are made as for 1).

    Returns
    -------
    graph, structure
        Inputs, nodes and outputs; and how the outputs nest. ``graph.exact`` is the batch if the function has read it.
    """
    graph = Graph()
    tensors = [graph.input(*spec) for spec in inputs]
    planned = next((t.shape[0] for t in tensors if t.batched and t.shape), 1)
    now = version()  # as of before: what a forward changes is looked at once more
    seen = graph.batch = Batch(planned if batch is None else batch)
    try:
        with running(graph):
            result = function(*tensors)
        graph.batch = None
        with building(graph, ""):
            if result is None:
                raise TypeError("forward returned a NoneType: expected symbolic tensors")
            structure = Structure(result)
            structure.tensors = [apply("layout", [t], layout=FLAT) if t.type.fixed and t.graph is graph else t
                                 for t in structure.tensors]
    finally:
        graph.batch = None
    graph.traced.finish()
    graph.traced.version = now
    if seen.seen:
        graph.exact = operator.index(seen)
    if not structure.tensors:
        raise ValueError("forward returned no tensor")
    for tensor in structure.tensors:
        if tensor.graph is not graph:
            raise ValueError(f"forward returned {tensor}, which belongs to another trace")
    graph.outputs = list(structure.tensors)
    return graph, structure
