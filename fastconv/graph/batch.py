"""The batch as ``forward`` sees it while it is traced: an integer that notes that it has been read.

One plan serves every batch up to its own. What a forward computes of the batch in Python (a factor, a branch, a name)
would be replayed for all of them, so a trace that has read it gives a plan for that batch alone (``Graph.exact``). Taking a
shape apart is no reading: ``n, c, h, w = x.shape`` with nothing made of ``n`` leaves the plan as it is.
"""

from __future__ import annotations

import math
import operator
from typing import Any


class Batch:
    """Behaves like the int that it stands for; whatever would tell one batch from another makes ``seen`` true.

    Not a subclass of int: C code takes the value of such without asking (``1.0 / n``, ``range(n)``).
    """

    __slots__ = ("_value", "seen")

    def __init__(self, value: int):
        self._value, self.seen = value, False

    def __index__(self) -> int:
        self.seen = True
        return self._value

    @property  # type: ignore[misc]
    def __class__(self):  # isinstance(n, int) holds, as it does for what PyTorch gives
        return int

    def __getattr__(self, name: str) -> Any:
        return getattr(operator.index(self), name)

    def __eq__(self, other) -> bool:
        return self is other or operator.index(self) == other

    def __ne__(self, other) -> bool:
        return self is not other and operator.index(self) != other

    def __reduce__(self):
        return int, (operator.index(self),)

    def __array__(self, dtype=None, copy=None):
        import numpy as np

        return np.array(operator.index(self), dtype)


def _unary(function):
    return lambda self, *more: function(operator.index(self), *more)


def _reflected(function):
    return lambda self, other: function(other, operator.index(self))


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift", "and_", "or_", "xor"):
    _plain = _name.rstrip("_")
    setattr(Batch, f"__{_plain}__", _unary(getattr(operator, _name)))
    setattr(Batch, f"__r{_plain}__", _reflected(getattr(operator, _name)))
for _name in ("lt", "le", "gt", "ge", "neg", "pos", "abs", "invert"):
    setattr(Batch, f"__{_name}__", _unary(getattr(operator, _name)))
for _name, _function in {"int": int, "float": float, "complex": complex, "trunc": math.trunc, "floor": math.floor,
                         "ceil": math.ceil, "round": round, "bool": bool, "hash": hash, "str": str, "repr": repr,
                         "format": format, "divmod": divmod}.items():
    setattr(Batch, f"__{_name}__", _unary(_function))
Batch.__rdivmod__ = _reflected(divmod)  # type: ignore[attr-defined]
Batch.__pow__ = _unary(pow)  # type: ignore[attr-defined, operator]  # with a modulus, too


def settle(value: Any) -> Any:
    """An argument with the batch in it as a plain integer, at any depth of tuples, lists and dicts."""
    kind = type(value)
    if kind is Batch:
        return operator.index(value)
    if kind in (tuple, list):
        return kind(settle(v) for v in value)
    if kind is dict:
        return {key: settle(v) for key, v in value.items()}
    return value
