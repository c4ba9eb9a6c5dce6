"""A model of the ONNX format as a module: its parameters, and a ``forward`` that follows its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastconv.graph.arrays import foreign
from fastconv.graph.ir import scope
from fastconv.interop.imported import Followed, Graft, Imported
from fastconv.interop.onnx import (  # noqa: F401
    attention,
    bits,
    contrib,
    conv,
    dependent,
    indexing,
    older,
    optimisers,
    pointwise,
    quantized,
    reading,
    reduction,
    shapes,
    signals,
    spatial,
    static,
)
from fastconv.interop.onnx.folded import FOLDED
from fastconv.interop.onnx.reading import Input, ours
from fastconv.interop.onnx.staged import Staged, reads
from fastconv.interop.onnx.table import TABLE, DependsOnValues, Node, is_static, numbers, tensor, value_of


class OnnxGraph(Followed):
    """A graph of ONNX as a model follows it.

    Attributes
    ----------
    staged : Staged, optional
    kept : bytes
        The file's message without weights, see :mod:`fastconv.interop.onnx.kept`.
    """

    def __init__(self, inputs: Sequence[Input], outputs: Sequence[str], metadata: Mapping[str, str]):
        super().__init__()
        self.inputs, self.outputs, self.metadata = tuple(inputs), tuple(outputs), dict(metadata)
        self.staged: Staged | None = None  # what run() has made of it
        self.kept = b""


class OnnxModel(Imported):
    """A network read by :func:`load_onnx`.

    Attributes
    ----------
    inputs : list of Input
        Names, extents (None where any) and dtypes, in the model's order, which is that of ``forward``'s arguments.
    output_names : list of str
    metadata : dict of str
        What the file says about itself: producer, and its own entries.
    opset : int
    """

    def __init__(self, inputs: Sequence[Input], output_names: Sequence[str], opset: int, metadata: dict):
        super().__init__()
        self.opset, self._followed = opset, OnnxGraph(inputs, output_names, metadata)

    def _node(self, node: Node):
        return reads(node), node.outputs, node.name

    def _results(self) -> Sequence[str]:
        return self._followed.outputs

    def _names(self) -> dict[int, str]:
        return {id(getattr(home, key)): name for name, (home, key) in self._followed.places.items()}

    def _graft(self, path: str) -> None:
        super()._graft(path)
        self._followed.staged = None

    @property
    def inputs(self) -> list[Input]:
        return [*self._followed.inputs]

    @property
    def input_names(self) -> list[str]:
        return [i.name for i in self._followed.inputs]

    @property
    def output_names(self) -> list[str]:
        return [*self._followed.outputs]

    @property
    def metadata(self) -> dict[str, str]:
        return self._followed.metadata

    def forward(self, *values):
        if len(values) != len(self.inputs):
            raise TypeError(f"{type(self).__name__}: {len(values)} inputs given, the model has {len(self.inputs)}: "
                            f"{', '.join(self.input_names)}")
        known = self._known()
        for one, value in zip(self.inputs, values, strict=True):
            if one.shape is not None and len(one.shape) != value.ndim:
                raise ValueError(f"{one.name} of shape {tuple(value.shape)} has {value.ndim} dimensions: the model takes "
                                 f"{one.shape}")
            known[one.name] = value
        run(self._followed.nodes, known)
        outputs = tuple(tensor(value_of(known, name)) for name in self.output_names)
        return outputs[0] if len(outputs) == 1 else outputs

    def run(self, *values) -> tuple[np.ndarray, ...]:
        """Runs the model on arrays, whatever depends on their values.

        Engines of :func:`fastconv.compile` are faster, and need shapes that follow from the inputs' shapes. This also takes
        models whose results are as large as values say (NonMaxSuppression, NonZero): what can be planned is compiled, once
        for these shapes, and the rest is decided in between.

        Parameters
        ----------
        *values : arrays
            In the order of ``inputs``, or one dict from names to arrays. Floating point of other widths becomes float32.

        Returns
        -------
        tuple of ndarray
            In the order of ``output_names``.

        Raises
        ------
        TypeError, ValueError
            For another number of arrays, other dimensions, and what is no array.
        """
        given: Sequence = values
        if len(values) == 1 and isinstance(values[0], Mapping):
            wrong = sorted(set(values[0]) ^ set(self.input_names), key=str)
            if wrong:
                raise ValueError(f"run: {'no' if wrong[0] in self.input_names else 'an'} input {wrong[0]!r}: the model has "
                                 f"{', '.join(self.input_names)}")
            given = [values[0][name] for name in self.input_names]
        if len(given) != len(self.inputs):
            raise ValueError(f"run: {len(given)} inputs given: the model has {', '.join(self.input_names)}")
        arrays = [self._taken(one, value) for one, value in zip(self.inputs, given, strict=True)]
        self._mend()
        if self._followed.staged is None:
            self._followed.staged = Staged(self, step)
        return self._followed.staged.run(arrays)

    @staticmethod
    def _taken(one: Input, value) -> np.ndarray:
        """A value for an input as an array of the dtype that it has."""
        if isinstance(value, (float, int)):
            value = np.asarray(value, one.dtype)
        elif not isinstance(value, (np.ndarray, np.generic)):
            if not hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
                raise TypeError(f"run: {one.name} is a {type(value).__name__}: expected an array")
            value = foreign("run", one.name, value)
        array = ours(np.asarray(value))
        if array.dtype.name != one.dtype:
            raise TypeError(f"run: {one.name} has dtype {np.asarray(value).dtype}: the model takes {one.dtype}")
        if one.shape is not None and len(one.shape) != array.ndim:
            raise ValueError(f"run: {one.name} of shape {array.shape} has {array.ndim} dimensions: the model takes "
                             f"{one.shape}")
        return array

    def __repr__(self) -> str:
        takes = ", ".join(f"{i.name} {'(any)' if i.shape is None else tuple('?' if s is None else s for s in i.shape)}"
                          for i in self.inputs)
        return f"OnnxModel({takes} -> {', '.join(self.output_names)}: {len(self._followed.nodes)} nodes, opset {self.opset})"


def run(nodes: Iterable[Node], known: dict[str, Any]) -> None:
    """Follows nodes; ``known`` gets their outputs."""
    for node in nodes:
        step(node, known)


def step(node: Node, known: dict[str, Any]) -> None:
    """Follows one node."""
    if isinstance(node, Graft):
        known[node.writes] = node(tensor(known[node.reads]))
        return
    values = [value_of(known, name) if name else None for name in node.inputs]
    results = apply(node, values, known)
    for name, value in zip(node.outputs, results, strict=False):
        if name:
            known[name] = value


def apply(node: Node, values: list, known: dict[str, Any]) -> Sequence:
    """The outputs of one node."""
    if node.op == "If":
        return _if(node, values, known)
    if node.op in FOLDED and all(map(is_static, values)):
        return [np.asarray(y) for y in node.call(FOLDED[node.op], values)]
    if all(map(is_static, values)) and node.op in static.ALWAYS or \
            all(map(is_static, values)) and values and node.op not in static.NEVER:
        result = static.evaluate(node, values)
        if result is not None:
            return result
    if node.op in dependent.HOST:
        if all(map(is_static, values)):
            return dependent.on_host(node, [v if v is None else numbers(v) for v in values])
        raise node.fail("it is no part of a plan (what it gives, or how much, depends on the values of the input): call "
                        "run(...) of the loaded model", DependsOnValues)
    if node.opset < 7:
        values = older.inputs(node, values)
    row = TABLE.get(node.op)
    if row is None:
        raise node.fail("its inputs depend on the values of the input: expected constants", DependsOnValues)
    with scope(_path(node)):
        result = node.call(row.function, values)
    return result if isinstance(result, (tuple, list)) else (result,)


def _path(node: Node) -> str:
    return node.name.replace(".", "/")


def _if(node: Node, values: list, known: dict[str, Any]) -> list:
    """The branch that a condition takes which is known while tracing."""
    condition = values[0]
    if not is_static(condition):
        raise node.fail("the condition depends on the values of the input: only what follows from shapes is decided",
                        DependsOnValues)
    if condition.size != 1:
        raise node.fail(f"a condition of {condition.size} values: expected one")
    branch = node.get("then_branch" if bool(numbers(condition).reshape(-1)[0]) else "else_branch")
    inside = {**known, **branch.constants}
    run(branch.nodes, inside)
    return [value_of(inside, name) for name in branch.outputs]


class Subgraph:
    """The body of an If."""

    def __init__(self, nodes: list[Node], constants: dict[str, np.ndarray], outputs: list[str]):
        self.nodes, self.constants, self.outputs = nodes, constants, outputs
