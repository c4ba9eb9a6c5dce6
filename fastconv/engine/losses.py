"""Losses as numbers that remember the engine's outputs of which they were computed, and the gradients of these."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from weakref import ref

import numpy as np

from fastconv.engine.batches import leaves
from fastconv.engine.derivative import Derivative, accumulating

__all__ = ["Loss", "find_output", "leaves", "loss_of", "note_outputs"]


class Output(NamedTuple):
    """Where an array came from: an engine, which of its runs, which of its outputs, and how that lies."""

    owner: Any  # weak references
    engine: Any
    run: object
    number: int
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_outputs: dict[int, list[Output]] = {}  # by the id of the array that owns the memory


def _owner(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def note_outputs(engine: Any, run: object, arrays: Sequence[np.ndarray]) -> None:
    """Remembers that these arrays are an engine's outputs, as long as their memory lives."""
    for number, array in enumerate(arrays):
        owner = _owner(array)
        key = id(owner)
        known = [o for o in _outputs.get(key, []) if o.owner() is owner and o.address != array.ctypes.data]
        known.append(Output(ref(owner, lambda _, key=key: _outputs.pop(key, None)), ref(engine), run, number,  # type: ignore
                            array.ctypes.data, array.shape, array.strides))
        _outputs[key] = known


def find_output(array: Any) -> Output | None:
    """The output that an array is, or is a view of."""
    if not isinstance(array, np.ndarray) or not array.size:
        return None
    owner = _owner(array)
    low, high = _bounds(array.ctypes.data, array.shape, array.strides)
    for output in _outputs.get(id(owner), []):
        first, last = _bounds(output.address, output.shape, output.strides)
        if output.owner() is owner and first <= low and high <= last:
            return output
    return None


def _bounds(address: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """The first and the last element's addresses."""
    spans = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    return address + sum(s for s in spans if s < 0), address + sum(s for s in spans if s > 0)


def _spread(output: Output, view: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """The gradient of an output, given that of a view of it."""
    if view.ctypes.data == output.address and view.shape == output.shape and view.strides == output.strides:
        return gradient
    low, high = _bounds(output.address, output.shape, output.strides)
    memory = np.zeros((high - low) // 4 + 1, np.float32)

    def lying(address, shape, strides):
        return np.ndarray(shape, np.float32, memory, address - low, strides)

    where: tuple = (Ellipsis,)
    np.add.at(lying(view.ctypes.data, view.shape, view.strides), where, gradient)  # a view may have an element twice
    return lying(output.address, output.shape, output.strides)


class Loss(float):
    """The value of a loss: a float, with :meth:`backward`. Sums of losses, and multiples, are losses."""

    _sources: list  # (factor, Output, gradient of the output)
    _learnt: list  # (factor, parameter, gradient)

    def __new__(cls, value: float, sources: Sequence = (), learnt: Sequence = ()):
        self = super().__new__(cls, value)
        self._sources, self._learnt = list(sources), list(learnt)
        return self

    def item(self) -> float:
        """The value as a plain float."""
        return float(self)

    def detach(self) -> float:
        """The value as a plain float."""
        return float(self)

    def backward(self) -> None:
        """Runs the backward of the engines whose outputs this is a loss of; adds to ``grad`` of every parameter.

        Raises
        ------
        RuntimeError
            The loss is of no output of an engine compiled with ``training=True``; the engine has been called again since, or
            its backward has run.
        """
        if not self._sources and not self._learnt:
            raise RuntimeError("loss.backward: the loss was computed of no output of an engine compiled with training=True: "
                               "write loss = criterion(engine(x), y), or use fastconv.value_and_grad")
        runs: dict[int, tuple[Any, dict[int, np.ndarray]]] = {}
        for factor, output, gradient in self._sources:
            engine = output.engine()
            if engine is None:
                raise RuntimeError("loss.backward: the engine is gone")
            if not engine._is_last(output.run):
                raise RuntimeError("loss.backward: the engine has been called again since, or its backward has run: it "
                                   "keeps what the backward needs of its last call alone")
            grads = runs.setdefault(id(engine), (engine, {}))[1]
            scaled = gradient * np.float32(factor)
            grads[output.number] = scaled if output.number not in grads else grads[output.number] + scaled
        for engine, grads in runs.values():
            engine.backward(*engine._completed(grads))
        for factor, parameter, gradient in self._learnt:
            add = accumulating([(parameter, gradient * np.float32(factor))])
            add()

    def _with(self, value: float, factor: float) -> Loss:
        return Loss(value, [(f * factor, o, g) for f, o, g in self._sources],
                    [(f * factor, p, g) for f, p, g in self._learnt])

    def __add__(self, other):
        value = float.__add__(self, other)
        if value is NotImplemented:
            return value
        sources, learnt = getattr(other, "_sources", []), getattr(other, "_learnt", [])
        return Loss(value, self._sources + sources, self._learnt + learnt)

    __radd__ = __add__

    def __neg__(self):
        return self._with(-float(self), -1.0)

    def __sub__(self, other):
        return self + (-other)

    def __rsub__(self, other):
        return -self + other

    def __mul__(self, other):
        if isinstance(other, Loss):
            return self._with(0.0, float(other)) + other._with(float(self) * float(other), float(self))
        value = float.__mul__(self, float(other)) if np.ndim(other) == 0 else NotImplemented
        return value if value is NotImplemented else self._with(value, float(other))

    __rmul__ = __mul__

    def __truediv__(self, other):
        return self * (1.0 / other) if not isinstance(other, Loss) else float(self) / float(other)

    def __reduce__(self):
        return float, (float(self),)

    def __repr__(self) -> str:
        return f"Loss({float(self)!r})"

    __str__ = float.__repr__


KEPT = 16  # losses that stay planned
_derivatives: OrderedDict[tuple, Derivative] = OrderedDict()


class _Mark(int):
    """Stands for an array in a nesting."""


def _marked(value: Any, flat: list) -> Any:
    """The same nesting, numbers for arrays, which are added to a list."""
    if isinstance(value, Mapping):
        return {key: _marked(v, flat) for key, v in value.items()}
    if isinstance(value, (tuple, list)) and \
            any(hasattr(v, "__array__") or isinstance(v, (tuple, list, Mapping)) for v in value):
        return tuple(_marked(v, flat) for v in value)
    flat.append(value)
    return _Mark(len(flat) - 1)


def _filled(nesting: Any, tensors: Sequence) -> Any:
    if isinstance(nesting, Mapping):
        return {key: _filled(v, tensors) for key, v in nesting.items()}
    return tensors[nesting] if isinstance(nesting, _Mark) else tuple(_filled(v, tensors) for v in nesting)


def loss_of(criterion: Any, arrays: Sequence) -> Loss:
    """The value of a module that is a loss, called with arrays; its gradient is that with respect to outputs of engines."""
    flat: list = []
    nesting = tuple(_marked(a, flat) for a in arrays)
    arrays = flat
    found = {i: output for i, output in enumerate(map(find_output, arrays)) if output is not None}
    key = id(criterion), tuple(found), repr(nesting)  # the derivative keeps the module: no other has its id
    derivative = _derivatives.pop(key, None)
    if derivative is None:
        symbolic: Any = criterion.symbolic(True)
        plain = nesting == tuple(map(_Mark, range(len(flat))))
        derivative = Derivative(symbolic if plain else lambda *t: symbolic(*(_filled(n, t) for n in nesting)), tuple(found),
                                name=type(criterion).__name__)
    _derivatives[key] = derivative
    while len(_derivatives) > KEPT:
        _derivatives.popitem(last=False)
    value, _, grads, parameters = derivative.run(arrays, False)
    sources = [(1.0, found[i], _spread(found[i], arrays[i], g)) for i, g in zip(found, grads, strict=True)]
    return Loss(value, sources, [(1.0, p, g.copy()) for p, g in parameters])

