"""What all functions have in common: NumPy arrays run an operator at once, symbolic tensors add a node to their graph.

A function is declared once (:func:`define`) and then called with its arrays and attributes by position. A call that has been
made before, with arrays of the same shapes, runs without a further line of Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv._values import shown
from fastconv.engine.eager import Argument, cache, check_array, check_ndim, run_backward, run_op
from fastconv.graph.ir import FLAT, PIXELS, Tensor, Type, apply, as_pixels, showing
from fastconv.kernels.call import Function


def define(op: str, shown: str, *parameters: Argument, attrs: Sequence[str] = (), check: Callable | None = None,
           unbatched: bool = False, general: Callable | None = None) -> Any:
    """The function ``shown``: an operator of some arrays with these attributes.

    ``check(shown, attrs)`` gives the operator's attributes for those of a call, or raises what is wrong with them.
    ``unbatched``: whether the first array may be one image, without the batch's dimension; so is then the result.
    ``general`` is called for an empty array, or one of a rank that this operator has not.
    """
    names, count = tuple(attrs), len(parameters)

    def careful(*values):
        if unbatched and getattr(values[0], "ndim", 0) == parameters[0].ndim - 1:
            return one_image(made, values)
        if general is not None and (not 2 <= getattr(values[0], "ndim", 2) <= 5 or getattr(values[0], "size", 1) == 0):
            return general(*values)
        given = dict(zip(names, values[count:], strict=True))
        if check is not None:
            given = check(shown, given)
        arguments = [p._replace(value=v) for p, v in zip(parameters, values, strict=False)]
        if any(isinstance(a.value, Tensor) for a in arguments):
            return symbolic(op, shown, arguments, given)
        return run_op(op, arguments, given, shown, tag=(shown, values[count:]))

    made = Function(cache.problems, shown, count, careful)
    return made


def one_image(function: Callable, values: Sequence) -> Any:
    """A function of a batch on one image, which is its first argument."""
    image, *rest = values
    if not isinstance(image, Tensor):
        results = function(image[None], *rest)
        return tuple(r[0] for r in results) if isinstance(results, tuple) else results[0]
    results = function(image.unsqueeze(0), *rest)  # type: ignore[attr-defined]
    return tuple(r.squeeze(0) for r in results) if isinstance(results, tuple) else results.squeeze(0)


def define_gradient(op: str, shown: str, grad_output: Argument, *parameters: Argument, attrs: Sequence[str] = (),
                    check: Callable | None = None, wanted: Sequence[int] = (0,)) -> Any:
    """The function ``shown``: gradients of an operator with respect to the parameters at the positions ``wanted``, by its
    gradient rule. It is called with ``grad_output`` behind the other arrays.
    """
    names, everything = tuple(attrs), (*parameters, grad_output)

    def careful(*values):
        given = dict(zip(names, values[len(everything):], strict=True))
        if check is not None:
            given = check(shown, given)
        arguments = [p._replace(value=v) for p, v in zip(everything, values, strict=False)]
        grads = run_backward(op, arguments[:-1], given, arguments[-1:], wanted, shown, (shown, values[len(everything):]))
        return grads[0] if len(grads) == 1 else tuple(grads)

    return Function(cache.problems, shown, len(everything), careful)


def call(op: str, shown: str, *arguments: Argument, updates: Sequence[int] = (), **attrs) -> Any:
    """Applies an operator to arrays, those at the positions ``updates`` changed in place, or to symbolic tensors."""
    if not any(isinstance(a.value, Tensor) for a in arguments):
        return run_op(op, arguments, attrs, shown, updates)
    return symbolic(op, shown, arguments, attrs)


def symbolic(op: str, shown: str, arguments: Sequence[Argument], attrs: dict) -> Any:
    """Adds a node to the graph of symbolic tensors."""
    for a in arguments:
        if a.value is None and not a.optional:
            raise TypeError(f"{shown}: {a.name} is None: expected a symbolic tensor")
    with showing(shown):
        return apply(op, [decide(shown, a) if isinstance(a.value, Tensor) else a.value for a in arguments], **attrs)


def gradient(op: str, shown: str, grad_output, *arguments: Argument, wanted=(0,), layout: str = PIXELS, **attrs) -> Any:
    """The gradients of an operator with respect to the arguments at the positions ``wanted``, by its gradient rule."""
    grads = run_backward(op, arguments, attrs, [Argument("grad_output", grad_output, layout)], wanted, shown)
    return grads[0] if len(grads) == 1 else tuple(grads)


def decide(shown: str, argument: Argument) -> Tensor:
    """Checks a symbolic argument; an input whose layout is still open takes the one that is wanted here, and what is
    dense or flat is copied where pixels are wanted."""
    tensor, open_ = argument.value, argument.value.graph.undecided
    check_ndim(shown, argument, tensor.shape)
    if tensor in open_:
        open_.discard(tensor)
        tensor.type = Type(tensor.type.shape, argument.layout, tensor.dtype)
    if tensor.dtype == argument.dtype and argument.layout == PIXELS and tensor.parameter is None:
        tensor = as_pixels(shown, tensor, True)
    if tensor.layout != argument.layout and tensor.dtype == "float32":
        kinds = {PIXELS: "an activation", FLAT: "a parameter"}
        raise ValueError(f"{shown}: {argument.name} is {kinds[tensor.layout]}: expected {kinds[argument.layout]}")
    if tensor.dtype != argument.dtype:
        raise TypeError(f"{shown}: {argument.name} has dtype {tensor.dtype}: expected {argument.dtype}")
    return tensor


def activation(name: str, value=None, ndim: int = 0) -> Argument:
    return Argument(name, value, PIXELS, "float32", ndim)


def flat(name: str, value=None, ndim: int = 0, optional: bool = False) -> Argument:
    return Argument(name, value, FLAT, "float32", ndim, optional)


def shape_of(shown: str, argument: Argument) -> tuple[int, ...]:
    """The shape of an array, or of a symbolic tensor; raises what is wrong with others."""
    tensor = argument.value
    if isinstance(tensor, Tensor):
        check_ndim(shown, argument, tensor.shape)
        return tensor.shape
    return check_array(shown, argument).shape


def flag(op: str, name: str, value) -> None:
    """True or False, and nothing that merely resembles them: a positional slip would go unnoticed."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{op}: {name}={shown(value)}: expected True or False")


def shape_like(op: str, name: str, shape, ndim: int) -> tuple[int, ...]:
    """A shape argument as a tuple of integers, extents behind the first at least 1."""
    try:
        values = tuple(int(s.__index__()) for s in shape)
    except (TypeError, AttributeError):
        raise TypeError(f"{op}: {name}={shown(shape)}: expected {ndim} integers") from None
    if len(values) != ndim:
        raise ValueError(f"{op}: {name}={values} has {len(values)} dimensions: expected {ndim}")
    if values[0] < 0 or any(v < 1 for v in values[1:]):
        raise ValueError(f"{op}: {name}={values}: every extent must be at least 1")
    return values
