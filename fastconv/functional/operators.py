"""Python's operators of tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastconv.functional.parametric import round
from fastconv.functional.pointwise import (
    abs,
    add,
    bitwise_and,
    bitwise_left_shift,
    bitwise_not,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    div,
    eq,
    floor_divide,
    ge,
    gt,
    le,
    lt,
    mul,
    ne,
    neg,
    positive,
    pow,
    remainder,
    sub,
)
from fastconv.graph.ir import Tensor
from fastconv.graph.parameter import Parameter


def _methods() -> None:
    def reflected(of):
        return lambda self, other: of(other, self)

    for name, of in (
        ("add", add),
        ("sub", sub),
        ("mul", mul),
        ("truediv", div),
        ("floordiv", floor_divide),
        ("mod", remainder),
        ("pow", pow),
        ("and", bitwise_and),
        ("or", bitwise_or),
        ("xor", bitwise_xor),
        ("lshift", bitwise_left_shift),
        ("rshift", bitwise_right_shift),
    ):
        setattr(Tensor, f"__{name}__", of)
        setattr(Tensor, f"__r{name}__", reflected(of))
    for name, one in (
        ("neg", neg),
        ("pos", positive),
        ("abs", abs),
        ("invert", bitwise_not),
        ("lt", lt),
        ("le", le),
        ("gt", gt),
        ("ge", ge),
        ("round", lambda self, digits=0: round(self, decimals=digits)),
    ):
        setattr(Tensor, f"__{name}__", one)
    for name, of in (("eq", eq), ("ne", ne)):
        setattr(Tensor, f"__{name}__", _compared(of))


def _compared(of: Callable) -> Callable:
    """Of elements in a user's function; else tensors are equal to themselves alone, as keys are."""
    def compare(self, other):
        taken = self.graph.tracing and isinstance(other, (Tensor, Parameter, np.ndarray, np.generic, bool, int, float))
        return of(self, other) if taken else NotImplemented

    return compare


_methods()
