"""The table of ONNX's operators: how each becomes functions of ours. Its rows are in the files beside this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv import functional as F
from fastconv._values import shown
from fastconv.graph.batch import Batch
from fastconv.graph.ir import Tensor, current_graph
from fastconv.graph.parameter import Parameter

Value = Any  # a symbolic tensor, a parameter, or an array of what is known while tracing (object: with the batch in it)
TABLE: dict[str, Row] = {}


class DependsOnValues(ValueError):
    """Something that must be known while tracing depends on the values of the input."""


class Row(NamedTuple):
    """One operator: ``function(node, *inputs)`` gives its output, or a tuple of them."""

    name: str
    function: Callable


class Node:
    """One node of a model: its operator, its attributes as Python values, and where it stands, for messages."""

    def __init__(self, op: str, name: str, attributes: dict, inputs: list[str], outputs: list[str], opset: int):
        self.op, self.name, self.attributes, self.opset = op, name or (outputs[0] if outputs else op), attributes, opset
        self.inputs, self.outputs = inputs, outputs
        self.kinds: dict[str, str] = {}  # element types that the file says, by tensor
        self.part: Any = None  # of the model's tree, where its mode is this node's

    def kind(self, place: int) -> str | None:
        """The element type of an input as the file has it, where that is known; tensors may hold it in a wider dtype."""
        return self.kinds.get(self.inputs[place]) if place < len(self.inputs) else None

    def get(self, name: str, default=None) -> Any:
        """An attribute; the default where it is not given."""
        return self.attributes.get(name, default)

    def fail(self, message: str, error: type[Exception] = ValueError) -> Exception:
        """The error to raise: the operator and the node's name in front."""
        return error(f"{self._front()} {message}")

    def _front(self) -> str:
        return f"{self.op} {self.name!r}:"

    def call(self, function: Callable, values: Sequence) -> Any:
        """Calls the function of an operator; its errors name the node."""
        try:
            return function(self, *values)
        except (AttributeError, LookupError, ArithmeticError, AssertionError, RecursionError) as error:
            raise self.fail(f"inputs and attributes that do not fit together ({type(error).__name__}: {error})") from error
        except (ValueError, TypeError) as error:
            if self._front() in str(error) or type(error) not in (ValueError, TypeError):
                raise
            raise self.fail(str(error), type(error)) from error

    def static(self, value: Value, what: str) -> np.ndarray:
        """An input that must be known while tracing, as an array."""
        if isinstance(value, Parameter):
            return np.asarray(value.data)
        if isinstance(value, Tensor):
            raise self.fail(f"{what} depends on the values of the input: it must follow from shapes and constants alone",
                            DependsOnValues)
        return value

    def integers(self, value: Value, what: str) -> list:
        """A list of integers that must be known while tracing; the batch may be among them."""
        return [v if type(v) is Batch else int(v) for v in self.static(value, what).reshape(-1)]

    def dim(self, axis: int, count: int, what: str = "axis") -> int:
        """An axis of so many, counted from the first."""
        if not -count <= axis < count:
            raise self.fail(f"{what}={shown(axis)}: expected {-count} to {count - 1}" if count else f"{what} of a scalar")
        return axis % count

    def dims(self, axes: Sequence[int], count: int, what: str = "axes") -> list[int]:
        """Axes, each once, counted from the first."""
        if len(axes) > count:
            raise self.fail(f"{len(axes)} {what}: expected at most {count}")
        found = [self.dim(a, count, what) for a in axes]
        if len(set(found)) < len(found):
            raise self.fail(f"{what}={list(axes)}: expected each once")
        return found

    def number(self, value: Value, what: str) -> float:
        array = self.static(value, what)
        if array.size != 1:
            raise self.fail(f"{what} has {array.size} values: expected one")
        return array.reshape(-1)[0].item() if array.dtype != object else int(array.reshape(-1)[0])


def register(*names: str) -> Callable:
    """Adds a function to the table, under these names."""
    def add(function: Callable) -> Callable:
        for name in names:
            if name in TABLE:
                raise KeyError(f"the operator {name} is in the table twice")
            TABLE[name] = Row(name, function)
        return function

    return add


def value_of(known: Mapping[str, Value], name: str) -> Value:
    """A tensor that nodes before have made."""
    if name not in known:
        raise ValueError(f"tensor {name!r} is an output that the operator does not give as its node is written")
    return known[name]


def is_static(value: Value) -> bool:
    """Whether a value is known while tracing."""
    return value is None or isinstance(value, np.ndarray)


def tensor(value: Value) -> Any:
    """A value as a symbolic tensor."""
    graph = current_graph()
    assert graph is not None
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Parameter):
        return graph.parameter(value)
    return graph.constant(numbers(value))


def numbers(value: np.ndarray) -> np.ndarray:
    """A known array without the batch in it: reading that makes the plan one for this batch alone."""
    return np.array([int(v) for v in value.reshape(-1)], np.int64).reshape(value.shape) if value.dtype == object else value


def shape_of(value: Value) -> list:
    """The extents of a value; the first of one that has the batch is the batch."""
    return list(value.shape)


def function(node: Node, name: str) -> Callable:
    """A function of :mod:`fastconv.functional`."""
    found = getattr(F, name, None)
    if found is None:
        raise node.fail(f"fastconv has no {shown(name)}", NotImplementedError)
    return found
