"""Arrays with the methods of PyTorch's tensors; `values.py` says which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv.graph.parameter import Size

methods: dict[str, Callable] = {}  # by name, of those that NumPy has not: of the array and what the caller gives


class Values(np.ndarray):
    """What ``zeros()``, ``tensor()``, ``arange()`` give outside of ``forward``: an array of NumPy's, with PyTorch's methods.

    Where the two have a method of one name, PyTorch's meaning counts, unless NumPy's keywords (``axis``, ``out``,
    ``keepdims``, ``ddof``) are given. NumPy's functions see a plain array. Floating point stays float32, of integers
    and numbers too.
    """

    gives_its_kind = True  # functions that take these give these

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **keywords):
        if out is not None:
            keywords["out"] = tuple(map(bare, out))
        result = getattr(ufunc, method)(*map(bare, inputs), **{key: bare(value) for key, value in keywords.items()})
        if out is not None:
            return out[0] if len(out) == 1 else out
        double = any(isinstance(x, np.ndarray) and x.dtype == np.float64 for x in inputs)
        return tuple(_single(r, double) for r in result) if isinstance(result, tuple) else _single(result, double)

    def __array_function__(self, function, types, arguments, keywords):
        return function(*map(bare, arguments), **{key: bare(value) for key, value in keywords.items()})

    def __reduce_ex__(self, protocol):
        return bare(self).__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        return self.clone()

    def __getattr__(self, name: str) -> Any:
        return method(self, name)

    @property
    def size(self) -> Size:  # type: ignore[override]
        """How many elements; ``x.size()`` and ``x.size(dim)`` are the shape and an extent."""
        return Size(self.shape)


def method(array: np.ndarray, name: str) -> Callable:
    """A method of PyTorch's, bound to an array."""
    function = methods.get(name) if not name.startswith("__") else None
    if function is None:
        raise AttributeError(f"{type(array).__name__!r} object has no attribute {name!r}")

    def call(*args, **kwargs):
        return function(array, *args, **kwargs)  # type: ignore[misc]

    call.__name__ = name
    return call


def bare(value):
    """Plain arrays for these, in sequences too."""
    if type(value) in (list, tuple):
        return type(value)(map(bare, value))
    return np.ndarray.view(value, np.ndarray) if isinstance(value, Values) else value


def values(array) -> Any:
    """An array, or a sequence of such, as Values."""
    if isinstance(array, tuple) and hasattr(array, "_fields"):
        return type(array)(*map(values, array))
    if isinstance(array, (tuple, list)):
        return type(array)(map(values, array))
    if isinstance(array, np.generic):
        array = np.asarray(array)
    return np.ndarray.view(array, Values) if type(array) is np.ndarray else array


def any_values(given) -> bool:
    """Whether there are such among arguments, or in sequences of them."""
    return any(type(v) is Values or type(v) in (tuple, list) and any_values(v) for v in given)


def _single(result, double: bool):
    result = np.asarray(result)
    return values(result.astype(np.float32) if result.dtype == np.float64 and not double else result)
