"""What functions that work element by element share: operands, the dtype of a result, programs of `map` over them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from fastconv._values import plain, shown
from fastconv.graph.batch import settle
from fastconv.graph.ir import Tensor, current_graph, fail
from fastconv.graph.parameter import Parameter
from fastconv.graph.programs import write
from fastconv.ops import map as ops

_CATEGORY = {"bool": 0, "uint8": 1, "int8": 1, "int32": 1, "int64": 1, "float32": 2}
_SIZES = {"int8": 1, "uint8": 1, "int32": 4, "int64": 8}


def as_operand(name: str, value: Any) -> Any:
    """A tensor as it is, a parameter or an array as a tensor, a number as Python's."""
    value = plain(settle(value))
    if isinstance(value, (Tensor, bool, int, float)):
        return value
    if isinstance(value, (Parameter, np.ndarray)):
        graph = current_graph()
        if graph is None:
            fail("map", f"{name} is {shown(value)}: expected arrays alone, or to be called in forward()", TypeError)
        return graph.parameter(value) if isinstance(value, Parameter) else graph.constant(value)  # type: ignore[union-attr]
    fail("map", f"{name} is a {type(value).__name__}: expected a tensor, an array or a number", TypeError)
    return None


def as_tensor(name: str, value: Any) -> Tensor:
    """An operand that must not be a number."""
    value = as_operand(name, value)
    if not isinstance(value, Tensor):
        fail("map", f"{name}={shown(value)}: expected a tensor or an array", TypeError)
    return value


def _join(a: str, b: str) -> str:
    if _CATEGORY[a] != _CATEGORY[b]:
        return a if _CATEGORY[a] > _CATEGORY[b] else b
    if a == b or _CATEGORY[a] != 1:
        return a
    if _SIZES[a] == _SIZES[b]:
        return "int32"  # of int8 and uint8; PyTorch's int16 is not among our dtypes
    return a if _SIZES[a] > _SIZES[b] else b


def promoted(operands: Sequence[Any]) -> str:
    """The dtype of a result, by PyTorch's rule: those of tensors count before those without dimensions and numbers."""
    groups: list[list[str]] = [[], [], []]
    for value in operands:
        if isinstance(value, Tensor):
            groups[0 if value.ndim else 1].append(value.dtype)
        else:
            groups[2].append("bool" if isinstance(value, bool) else "int64" if isinstance(value, int) else "float32")
    result = ""
    for group in groups:
        if group:
            dtype = reduce(_join, group)
            if not result or _CATEGORY[dtype] > _CATEGORY[result]:
                result = dtype
    return result


def floating(operands: Sequence[Any]) -> str:
    """The same, of a function whose results are no integers."""
    return "float32"


def truth(operands: Sequence[Any]) -> str:
    return "bool"


def compute(function: Callable, dtype: Callable[[Sequence[Any]], str] | str, **named: Any) -> Tensor:
    """``function`` of values, one per operand (tensors, draws, numbers), as one node; ``dtype`` is its, or makes it."""
    operands = [value if isinstance(value, tuple) else as_operand(name, value) for name, value in named.items()]
    tensors = [o for o in operands if isinstance(o, (Tensor, tuple))]
    if not any(isinstance(o, Tensor) for o in tensors):
        fail(
            "map",
            " and ".join(f"{name}={shown(v)}" for name, v in zip(named, operands, strict=True))
            + ": expected a tensor or an array among them",
            TypeError,
        )
    ops.broadcast_shape(
        "map", {name: o.type.shape for name, o in zip(named, operands, strict=True) if isinstance(o, Tensor)}
    )
    result = dtype if isinstance(dtype, str) else dtype([o for o in operands if not isinstance(o, tuple)])
    if all(o.dtype != "float32" for o in tensors if isinstance(o, Tensor)):
        operands = [_exact(name, o) for name, o in zip(named, operands, strict=True)]
        tensors = [o for o in operands if isinstance(o, (Tensor, tuple))]

    def filled(*values):
        at = iter(values)
        return function(*(next(at) if isinstance(o, (Tensor, tuple)) else float(o) for o in operands))

    program, (value,) = write(filled, len(tensors))
    return ops.emit(program, value, tensors, result)


def _exact(name: str, value: Any) -> Any:
    """An integer that no float64 holds as an array without dimensions."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) <= ops.EXACT:
        return value
    if not -(2**63) <= value < 2**63:
        fail("map", f"{name}={shown(value)}: expected an integer of 64 bits")
    return current_graph().constant(np.array(value, np.int64))  # type: ignore[union-attr]


def number(name: str, value: Any) -> float:
    """An argument that is a number."""
    value = plain(settle(value))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        fail("map", f"{name}={shown(value)}: expected a number", TypeError)
    return float(value)


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        fail("map", f"{name}={shown(value)}: expected True or False", TypeError)
    return bool(value)


def integer(name: str, value: Any) -> int:
    value = plain(settle(value))
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        fail("map", f"{name}={shown(value)}: expected an integer", TypeError)
        return 0


def probability(name: str, value: Any) -> float:
    value = number(name, value)
    if not 0 <= value <= 1:
        fail("map", f"{name}={value}: expected a probability, 0 to 1")
    return value
