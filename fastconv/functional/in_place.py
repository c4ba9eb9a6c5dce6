"""Activations under PyTorch's names that end in an underscore: written into their input."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature

from fastconv.functional.activation import elu, hardtanh, leaky_relu, relu
from fastconv.functional.activations import celu, into, rrelu, selu, threshold


def _underscored(function: Callable) -> Callable:
    def call(input, *args, **kwargs):
        return into(input, True, function(input, *args, **kwargs))

    call.__name__ = call.__qualname__ = f"{function.__name__}_"
    taken = signature(function)
    call.__signature__ = taken.replace(parameters=[p for p in taken.parameters.values() if p.name != "inplace"])  # type: ignore
    call.__doc__ = f":func:`{function.__name__}`, written into ``input`` where that is an array, and returned."
    return call


relu_, leaky_relu_, elu_, selu_, celu_, hardtanh_, threshold_, rrelu_ = [
    _underscored(function) for function in (relu, leaky_relu, elu, selu, celu, hardtanh, threshold, rrelu)
]

__all__ = ["celu_", "elu_", "hardtanh_", "leaky_relu_", "relu_", "rrelu_", "selu_", "threshold_"]
