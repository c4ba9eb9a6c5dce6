"""Checks of constructor arguments; an error names the layer, the argument, its value and the rule."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator
from numbers import Real
from typing import Any, TypeVar

from fastconv._values import shown

Forward = TypeVar("Forward", bound=Callable)
LARGEST = 3.4028234663852886e38  # float32


def integer(layer: str, name: str, value: Any, least: int) -> int:
    """An integer of at least ``least``; no bool, no float."""
    if isinstance(value, bool):
        raise TypeError(f"{layer}: {name}={shown(value)}: expected an integer")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{layer}: {name}={shown(value)}: expected an integer") from None
    if number < least:
        raise ValueError(f"{layer}: {name}={shown(value)} must be at least {least}")
    return number


@contextlib.contextmanager
def speaking_for(layer: str, part: str) -> Iterator[None]:
    """What a layer's part refuses is refused in the name of the layer, which the user has called."""
    try:
        yield
    except (TypeError, ValueError, MemoryError) as error:
        text = str(error)
        if not text.startswith(f"{part}: "):
            raise
        raise type(error)(layer + text[len(part):]) from None


def sizes(layer: str, name: str, value: Any, dims: int, least: int) -> tuple[int, ...]:
    """One integer per spatial dimension; a single one stands for all."""
    if not isinstance(value, (tuple, list)):
        return (integer(layer, name, value, least),) * dims
    if len(value) == 1:
        value = tuple(value) * dims
    if len(value) != dims:
        raise ValueError(f"{layer}: {name}={shown(value)} has {len(value)} values: expected 1 or {dims}, one per spatial "
                         "dimension")
    for v in value:
        integer(layer, name, v, least)
    return tuple(operator.index(v) for v in value)


def number(layer: str, name: str, value: Any, low: float, high: float) -> float:
    """A real number from ``low`` to ``high``, both included; NaN is refused."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{layer}: {name}={shown(value)}: expected a number")
    if not low <= float(value) <= high:
        rule = f"from {low:g} to {high:g}" if high < LARGEST else f"a number of at least {low:g}, finite in float32"
        raise ValueError(f"{layer}: {name}={shown(value)} must be {rule}")
    return float(value)


def flag(layer: str, name: str, value: Any) -> bool:
    """True or False, and nothing that merely resembles them: a positional slip would go unnoticed."""
    if value is not True and value is not False and type(value).__name__ != "bool_" and type(value).__name__ != "bool":
        raise TypeError(f"{layer}: {name}={shown(value)}: expected True or False")
    return bool(value)


def choice(layer: str, name: str, value: Any, options: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{layer}: {name}={shown(value)}: expected one of {', '.join(map(repr, options))}")
    return value


def one_image_too(forward: Forward) -> Forward:
    """A layer's ``forward`` of (N, C, spatial...) that takes one image, (C, spatial...), as well; it has ``self.dims``."""

    @functools.wraps(forward)
    def call(self, x, *rest, **keywords):
        if x.ndim != self.dims + 1:
            return forward(self, x, *rest, **keywords)
        made = forward(self, x.unsqueeze(0), *rest, **keywords)
        return tuple(y.squeeze(0) for y in made) if isinstance(made, tuple) else made.squeeze(0)

    return call  # type: ignore[return-value]
