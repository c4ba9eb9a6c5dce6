"""Containers of parameters: ParameterList, ParameterDict."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastconv.graph.parameter import Parameter
from fastconv.nn.module import Module

__all__ = ["ParameterDict", "ParameterList"]


def _parameter(layer: str, value: Any) -> Parameter:
    if isinstance(value, Parameter):
        return value
    if not hasattr(value, "__array__"):
        raise TypeError(f"{layer}: got a {type(value).__name__}: expected parameters or arrays")
    return Parameter(value)


class ParameterList(Module):
    """A list whose parameters are registered; arrays become parameters. It has no ``forward``."""

    def __init__(self, values: Iterable[Any] | None = None):
        super().__init__()
        self.extend([] if values is None else values)

    def _key(self, index) -> str:
        try:
            number = operator.index(index)
        except TypeError:
            raise TypeError(f"ParameterList: index {index!r}: expected an integer or a slice") from None
        if not -len(self) <= number < len(self):
            raise IndexError(f"ParameterList: index {number} is out of range for {len(self)} parameters")
        return str(number % len(self))

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parameters.values())  # type: ignore[arg-type]

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._parameters[self._key(index)]

    def __setitem__(self, index, value) -> None:
        self._parameters[self._key(index)] = _parameter("ParameterList", value)

    def append(self, value):
        """Adds a parameter at the end."""
        return self.extend([value])

    def extend(self, values: Iterable[Any]):
        """Adds parameters at the end."""
        for parameter in [_parameter("ParameterList", value) for value in values]:
            self.register_parameter(str(len(self)), parameter)
        return self

    def __iadd__(self, values: Iterable[Any]):
        return self.extend(values)

    def extra_repr(self) -> str:
        return ", ".join(str(p.shape) for p in self)


class ParameterDict(Module):
    """A dict whose parameters are registered; arrays become parameters. It has no ``forward``."""

    def __init__(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None):
        super().__init__()
        self.update({} if parameters is None else parameters)

    def update(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Adds or replaces parameters."""
        for name, value in dict(parameters).items():
            self[name] = value

    def __setitem__(self, name: str, value) -> None:
        self.register_parameter(name, _parameter("ParameterDict", value))

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]  # type: ignore[return-value]

    def __delitem__(self, name: str) -> None:
        del self._parameters[name]

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, name) -> bool:
        return name in self._parameters

    def keys(self):
        """The names, in order."""
        return self._parameters.keys()

    def values(self):
        """The parameters, in order."""
        return self._parameters.values()

    def items(self):
        """Pairs of name and parameter, in order."""
        return self._parameters.items()

    def get(self, name: str, default=None):
        """The parameter of a name, or ``default``."""
        return self._parameters.get(name, default)

    def pop(self, name: str) -> Parameter:
        """Removes a parameter and returns it."""
        return self._parameters.pop(name)  # type: ignore[return-value]

    def extra_repr(self) -> str:
        return ", ".join(f"{name}: {p.shape}" for name, p in self.items() if p is not None)
