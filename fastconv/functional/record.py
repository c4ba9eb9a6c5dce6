"""One record per operator: a Python function over tensors, with samples of right and wrong arguments.

Of it everything else is made: called with symbolic tensors, as in the ``forward`` of a module, it adds to their graph; with
arrays it is traced, compiled and run, and kept for arrays of these shapes; as a method of symbolic tensors; its gradients
(:func:`vjp`); the table of operators in the documentation; and its tests (``tests/functional/test_records.py``).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fastconv.engine import general
from fastconv.functional.arrays import any_values, values
from fastconv.graph.ir import Tensor, current_graph, fail, showing, tracing
from fastconv.graph.parameter import Parameter
from fastconv.kernels.call import Recorded

Array = Any  # what a parameter is annotated with that takes an array or a symbolic tensor
Body = TypeVar("Body", bound=Callable)
records: dict[str, Record] = {}

__all__ = ["Array", "Record", "Sample", "Wrong", "array", "fail", "function", "once", "records", "sample", "vjp", "wrong"]


class Sample(NamedTuple):
    """Arguments to try a record with: a tuple of integers stands for an array of that shape, made by ``make``."""

    args: tuple
    kwargs: dict


class Wrong(NamedTuple):
    """Arguments that a record must refuse, and how: the error, and what its message must say."""

    error: type[Exception]
    message: str
    args: tuple
    kwargs: dict


class Made(NamedTuple):
    """An array of a sample that is not of the usual numbers: what makes it, given a generator."""

    make: Callable


def sample(*args, **kwargs) -> Sample:
    """Arguments; a tuple of integers in the place of an array is its shape, filled with normal deviates."""
    return Sample(args, kwargs)


def wrong(error: type[Exception], message: str, *args, **kwargs) -> Wrong:
    """Wrong arguments, the error that they must raise, and a part of its message."""
    return Wrong(error, message, args, kwargs)


def array(make: Callable) -> Made:
    """An array of a sample as ``make(generator)`` gives it."""
    return Made(make)


class Record:
    """A function over tensors; see the module's text."""

    def __init__(self, body: Callable, name: str, samples: Callable, wrong: Callable, reference: Callable | None,
                 differentiable: bool):
        self.body, self.name, self.samples, self.wrong = body, name, samples, wrong
        self.reference, self.differentiable = reference, differentiable
        self.__doc__ = body.__doc__
        self._quick = Recorded(general.cache.problems, ("record", name), tracing, self._careful)

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """Made when it is first asked for: of all functions together it takes as long as the rest of the import."""
        return inspect.signature(self.body)

    @functools.cached_property
    def _notes(self) -> dict[str, str]:
        return {key: str(p.annotation) for key, p in self.signature.parameters.items()}

    @functools.cached_property
    def arrays(self) -> tuple[str, ...]:
        """The parameters that take arrays."""
        return tuple(key for key, note in self._notes.items() if "Array" in note or "typing.Any" in note)

    @functools.cached_property
    def several(self) -> tuple[str, ...]:
        """Those of them that take sequences of arrays."""
        return tuple(key for key in self.arrays if "Sequence" in self._notes[key] or
                     self.signature.parameters[key].kind is inspect.Parameter.VAR_POSITIONAL)

    def bind(self, args: tuple, kwargs: dict) -> inspect.BoundArguments:
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        bound.apply_defaults()
        return bound

    def __call__(self, *args, **kwargs):
        return self._quick(*args, **kwargs)

    def _careful(self, key: tuple | None, given: list, args: tuple, kwargs: dict):
        """A call that has not been made before; ``given``: the arrays among its arguments, in their order."""
        if current_graph() is not None or any(map(_symbolic, (*args, *kwargs.values()))):
            self.bind(args, kwargs)
            with showing(self.name):
                return self.body(*args, **kwargs)
        arguments, arrays, call = self.taken(args, kwargs)
        if len(arrays) != len(given) or any(a is not b for a, b in zip(arrays, given, strict=True)) or \
                list(kwargs) != [name for name in self.signature.parameters if name in kwargs]:
            key = None  # by which others would be taken, or in another order
        found = general.run(self.name, call, arguments, arrays, key)
        return values(found) if key is None and any_values(args) else found

    def taken(self, args: tuple, kwargs: dict) -> tuple[tuple, list[np.ndarray], Callable]:
        """Arguments with places for arrays, the arrays, and what is called with these arguments."""
        bound, arrays = self.bind(args, kwargs), []

        def take(key, value):
            if value is None or isinstance(value, (bool, int, float)):
                return value
            if isinstance(value, np.generic) and value.dtype.kind in "biuf" and key != self.arrays[0]:
                return float(value) if value.dtype.kind == "f" else value.item()
            arrays.append(general.as_array(self.name, key, value))
            return general.Place(len(arrays) - 1, arrays[-1].shape, arrays[-1].dtype.name)

        values = []
        for key, value in bound.arguments.items():
            if key in self.several and isinstance(value, (tuple, list)):
                value = tuple(tuple(take(f"{key}[{i}]", v) for i,
                                    v in enumerate(part)) if isinstance(part, (tuple, list)) else
                              take(f"{key}[{k}]", part) for k, part in enumerate(value))
            elif key in self.arrays:
                value = take(key, value)
            values.append(value)
        if not arrays and self.arrays:
            first = self.arrays[0]
            given = bound.arguments[first]
            if isinstance(given, (tuple, list)) and not given:
                raise TypeError(f"{self.name}: {first}={given!r}: expected a sequence of at least one array")
            raise TypeError(f"{self.name}: {first} is a {type(given).__name__}: expected an array")
        kinds = [p.kind for p in self.signature.parameters.values()]
        keys = list(bound.arguments)

        def call(*values):
            positional, named = [], {}
            for key, kind, value in zip(keys, kinds, values, strict=True):
                if kind is inspect.Parameter.VAR_POSITIONAL:
                    positional.extend(value)
                elif kind is inspect.Parameter.VAR_KEYWORD:
                    named.update(value)
                elif kind is inspect.Parameter.KEYWORD_ONLY:
                    named[key] = value
                else:
                    positional.append(value)
            return self.body(*positional, **named)

        return tuple(values), arrays, call

    def __repr__(self) -> str:
        return f"<fastconv.functional.{self.name}{self.signature}>"


def _symbolic(value) -> bool:
    return isinstance(value, (Tensor, Parameter)) or isinstance(value, (tuple, list)) and any(map(_symbolic, value))


def function(*, samples: Any = list, wrong: Any = list, reference: Any = None, method: Any = "", name: Any = "",
             differentiable: Any = True) -> Callable[[Body], Body]:
    """Makes a record of a function over tensors.

    Parameters
    ----------
    samples, wrong : callable
        Without arguments; lists of :func:`sample` and :func:`wrong`.
    reference : callable, optional
        The same on float64 NumPy arrays; default PyTorch's function of this name.
    method : str, optional
        Also a method of symbolic tensors, under this name.
    name : str, optional
        Default that of the function.
    differentiable : bool, default True
    """

    def record(body: Body) -> Body:
        made = Record(body, name or body.__name__, samples, wrong, reference, differentiable)
        if made.name in records:
            raise KeyError(f"the function {made.name!r} is recorded twice")
        records[made.name] = made

        quick = made._quick

        @functools.wraps(body)
        def call(*args, **kwargs):
            return quick(*args, **kwargs)

        call.record = made  # type: ignore[attr-defined]
        if method:
            setattr(Tensor, method, call)
        return call  # type: ignore[return-value]

    return record


def vjp(function: Callable, inputs, grad_outputs=None):
    """The gradients of a function of arrays: vector-Jacobian products.

    Parameters
    ----------
    function : callable
        Over symbolic tensors: a function of :mod:`fastconv.functional`, or any composition of such.
    inputs : array, or sequence of arrays
        Its arguments. Gradients are taken with respect to those of float32.
    grad_outputs : array, or sequence of arrays or None, optional
        One per output, of its shape; default ones, for a function with one output.

    Returns
    -------
    outputs, gradients
        What the function returns, and a float32 array per input, of its shape (None for one of another dtype); a single one
        where ``inputs`` is an array.

    Raises
    ------
    TypeError, ValueError
        For arrays of another dtype, and gradients of another number or shape.
    """
    one = not isinstance(inputs, (tuple, list))
    given = [inputs] if one else list(inputs)
    arrays = [general.as_array("vjp", f"inputs[{i}]", value) for i, value in enumerate(given)]
    places = tuple(general.Place(i, a.shape, a.dtype.name) for i, a in enumerate(arrays))
    recorded = getattr(function, "record", None)
    name, keep = (recorded.name, True) if recorded else (getattr(function, "__name__", "vjp"), False)
    call = recorded.body if recorded else function
    outputs = general.run(name, call, places, arrays) if keep else \
        _once(name, call, places, arrays)
    flat = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    if grad_outputs is None:
        grads: list = [np.ones(o.shape, np.float32) if o.dtype == np.float32 else None for o in flat]
    else:
        several = isinstance(grad_outputs, (tuple, list))
        grads = [None if g is None else general.as_array("vjp", f"grad_outputs[{i}]", g)
                 for i, g in enumerate(grad_outputs if several else [grad_outputs])]
    wanted = [i for i, a in enumerate(arrays) if a.dtype == np.float32]
    found = dict(zip(wanted, general.vjp(name, call, places, arrays, grads, wanted, keep), strict=True))
    gradients = [found.get(i) for i in range(len(arrays))]
    return outputs, gradients[0] if one else gradients


def once(name: str, function: Callable, arguments: dict) -> Any:
    """Runs a function over tensors on arrays, by the names of its arguments in their order, and keeps nothing of it."""
    arrays = [general.as_array(name, key, value) for key, value in arguments.items()]
    return _once(name, function, tuple(general.Place(i, a.shape, a.dtype.name) for i, a in enumerate(arrays)), arrays)


def _once(name: str, call: Callable, places: tuple, arrays: list[np.ndarray]):
    compiled = general.compile_function(name, call, places, arrays)
    return compiled.structure.build(compiled.run(arrays, 1))
