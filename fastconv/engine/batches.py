"""Which arrays of a batch go into a network, and which into its loss: by what these take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Any, NamedTuple

import numpy as np

from fastconv._arrays import refuse_masked
from fastconv._values import shown
from fastconv.graph.arrays import as_float32, as_int64, plain


class Taken(NamedTuple):
    """Names of the positional arguments of a function, and how many it takes at least and at most."""

    names: list[str]
    least: int
    most: float

    def __str__(self) -> str:
        return f"({', '.join(self.names)}{', ...' if self.most == inf else ''})"


def taken(function: Callable, skip: int = 0) -> Taken:
    """What a function over symbolic tensors takes behind its first ``skip`` arguments; anything where that is not known."""
    forward: Any = getattr(function, "module", function)
    forward = getattr(forward, "forward", forward)
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        return Taken([], 0, inf)
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    least = sum(p.default is p.empty for p in places)
    most = inf if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(places)
    return Taken([p.name for p in places[skip:]], max(0, least - skip), max(0, most - skip))


class Batches:
    """How the batches of a network and a loss are made up: inputs, then targets.

    Parameters
    ----------
    model, loss : callable
        Over symbolic tensors; the first argument of the loss is the prediction.
    """

    def __init__(self, model: Callable, loss: Callable):
        self.inputs, self.targets = taken(model), taken(loss, 1)

    def _expected(self) -> str:
        return f"the network takes {self.inputs} and the loss behind the prediction {self.targets}"

    def split(self, op: str, count: int) -> int:
        """How many of so many arrays are inputs; where several numbers are possible, one target is."""
        if count < 2:
            raise TypeError(f"{op}: {count} arrays given: expected the inputs and the target")
        fits = [k for k in range(1, count) if self.inputs.least <= k <= self.inputs.most and
                self.targets.least <= count - k <= self.targets.most]
        if not fits:
            raise TypeError(f"{op}: {count} arrays given: {self._expected()}")
        return max(fits)

    def order(self, op: str, batch: Mapping) -> tuple:
        """The arrays of a batch that has names, in order."""
        left, found = dict(batch), []
        for what, takes in (("network", self.inputs), ("loss", self.targets)):
            given = [name for name in takes.names if name in left]
            if len(given) < takes.least or given != takes.names[: len(given)] or not given:
                lacks = next((name for name in takes.names if name not in left), "an array")
                raise TypeError(f"{op}: the batch lacks {lacks!r} for the {what}: it has {shown(list(batch))}; "
                                f"{self._expected()}")
            found += [left.pop(name) for name in given]
        if left:
            raise TypeError(f"{op}: the batch has {shown(list(left))} too many: {self._expected()}")
        return tuple(found)

    def target_name(self, number: int, count: int) -> str:
        """What a target is called in messages."""
        if count == 1:
            return "target"
        return f"target {self.targets.names[number]!r}" if number < len(self.targets.names) else f"target {number}"


def as_input(op: str, name: str, value) -> np.ndarray:
    """An input as an array: float32, or int64 of indices as embeddings take them."""
    array = plain(op, name, value, "a float32 array, or indices") if hasattr(value, "__dlpack__") else None
    if array is not None and array.dtype.name in ("int64", "int32") and array.dtype.isnative:
        return as_int64(op, name, value)
    return as_float32(op, name, value)


def as_target(op: str, name: str, value) -> np.ndarray:
    """A target as an array: of integers, or float32."""
    refuse_masked(op, name, value)
    try:
        array = plain(op, name, value, "class indices of an integer dtype, or a float32 array")
    except ValueError as error:
        kind = type(value).__name__
        raise ValueError(f"{op}: {name} is a {kind} of items of different shapes: expected an array") from error
    if array.dtype.kind in "iu":
        return array
    if isinstance(value, (list, tuple)) and array.dtype == np.float64:
        return array.astype(np.float32)
    if not hasattr(value, "__array__") and not hasattr(value, "__dlpack__") and array.dtype.kind not in "bf":
        raise TypeError(f"{op}: {name} is {shown(value)}: expected class indices of an integer dtype, or a float32 array")
    return as_float32(op, name, value)


def leaves(nested) -> list:
    """The arrays of a nested prediction, in order."""
    if isinstance(nested, (Mapping, tuple, list)):
        return [leaf for part in (nested.values() if isinstance(nested, Mapping) else nested) for leaf in leaves(part)]
    return [nested]


def rebuilt(nested, parts: Iterator):
    """The same nesting around other arrays."""
    if isinstance(nested, Mapping):
        return {key: rebuilt(value, parts) for key, value in nested.items()}
    if isinstance(nested, (tuple, list)):
        values = [rebuilt(value, parts) for value in nested]
        return type(nested)(values) if type(nested) in (tuple, list) else type(nested)(*values)
    return next(parts)
