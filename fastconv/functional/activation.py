"""Activations, softmax and dropout, and their backward passes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from math import inf
from numbers import Real
from typing import Any

import numpy as np

from fastconv._values import plain, shown
from fastconv.engine.eager import Argument, check_array, run_op
from fastconv.functional import activations as general
from fastconv.functional import normalization
from fastconv.functional._call import activation, define, define_gradient, flag
from fastconv.graph.ir import Tensor
from fastconv.graph.random import draw

# ---- arguments ------------------------------------------------------------------------------------------------------------


def number(op: str, name: str, value) -> float:
    """A real number; NaN is refused."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{op}: {name}={shown(value)}: expected a number")
    if not -inf <= float(value) <= inf:
        raise ValueError(f"{op}: {name}={shown(value)}: expected a number")
    return float(value)


def _numbers(op: str, attrs: dict) -> dict:
    return {name: number(op, name, value) for name, value in attrs.items()}


def _limits(op: str, attrs: dict) -> dict:
    low, high = _numbers(op, attrs).values()
    if low > high:
        raise ValueError(f"{op}: max_val={shown(attrs['max_val'])} must be at least min_val={shown(attrs['min_val'])}")
    return {"low": low, "high": high}


def _approximate(op: str, attrs: dict) -> dict:
    if attrs["approximate"] not in ("none", "tanh"):
        raise ValueError(f"{op}: approximate={shown(attrs['approximate'])}: expected 'none' or 'tanh'")
    return attrs


# ---- declarations ---------------------------------------------------------------------------------------------------------


def _both(op: str, name: str, attrs: Sequence[str] = (), check: Callable | None = None,
          general: Callable | None = None) -> tuple[Any, Any]:
    """A function of one array, element by element, and its gradient; ``general`` is the function of arrays of any rank."""
    x, grad = activation("input"), activation("grad_output")
    return (define(op, name, x, attrs=attrs, check=check, general=general),
            define_gradient(op, f"{name}_backward", grad, x, attrs=attrs, check=check))


_relu, _relu_backward = _both("relu", "relu", general=general.relu)
_leaky_relu, _leaky_relu_backward = _both("leaky_relu", "leaky_relu", ("negative_slope",), _numbers,
                                           general.leaky_relu)
_hardtanh, _hardtanh_backward = _both("clip", "hardtanh", ("min_val", "max_val"), _limits, general.hardtanh)
_relu6, _relu6_backward = _both("clip", "relu6", ("low", "high"), general=lambda x, *_: general.relu6(x))
_sigmoid, _sigmoid_backward = _both("sigmoid", "sigmoid", general=general.sigmoid)
_tanh, _tanh_backward = _both("tanh", "tanh", general=general.tanh)
_silu, _silu_backward = _both("silu", "silu", general=general.silu)
_hardswish, _hardswish_backward = _both("hardswish", "hardswish", general=general.hardswish)
_hardsigmoid, _hardsigmoid_backward = _both("hardsigmoid", "hardsigmoid", general=general.hardsigmoid)
_gelu, _gelu_backward = _both("gelu", "gelu", ("approximate",), _approximate,
                               lambda x, approximate: general.gelu(x, approximate=approximate))
_elu, _elu_backward = _both("elu", "elu", ("alpha",), _numbers, general.elu)
_softmax, _softmax_backward = _both("softmax", "softmax", ("dim",))
_log_softmax, _log_softmax_backward = _both("log_softmax", "log_softmax", ("dim",))


def _wide(input) -> bool:
    """Whether this is an array of a rank that activations do not have, or an empty one."""
    return not 2 <= getattr(input, "ndim", 2) <= 5 or getattr(input, "size", 1) == 0


# ---- by value -------------------------------------------------------------------------------------------------------------


def relu(input, inplace=False):
    """``max(x, 0)``; NaN stays NaN. ``input``: float32, of 2 to 5 dimensions (N, C, ...), as for all functions here."""
    result = _relu(input)
    return result if inplace is False else general.placed("relu", input, inplace, result)


def relu_backward(grad_output, input):
    """Gradient of :func:`relu`: ``grad_output`` where the input is above 0, else 0."""
    return _relu_backward(input, grad_output)


def leaky_relu(input, negative_slope=0.01, inplace=False):
    """``x`` where it is above 0, else ``negative_slope * x``."""
    result = _leaky_relu(input, negative_slope)
    return result if inplace is False else general.placed("leaky_relu", input, inplace, result)


def leaky_relu_backward(grad_output, input, negative_slope=0.01):
    """Gradient of :func:`leaky_relu`."""
    return _leaky_relu_backward(input, grad_output, negative_slope)


def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    """``x`` clipped to [min_val, max_val]."""
    result = _hardtanh(input, min_val, max_val)
    return result if inplace is False else general.placed("hardtanh", input, inplace, result)


def hardtanh_backward(grad_output, input, min_val=-1.0, max_val=1.0):
    """Gradient of :func:`hardtanh`: ``grad_output`` where the input is strictly inside, else 0."""
    return _hardtanh_backward(input, grad_output, min_val, max_val)


def relu6(input, inplace=False):
    """``x`` clipped to [0, 6]."""
    result = _relu6(input, 0.0, 6.0)
    return result if inplace is False else general.placed("relu6", input, inplace, result)


def relu6_backward(grad_output, input):
    """Gradient of :func:`relu6`."""
    return _relu6_backward(input, grad_output, 0.0, 6.0)


def sigmoid(input):
    """``1 / (1 + exp(-x))``."""
    return _sigmoid(input)


def sigmoid_backward(grad_output, input):
    """Gradient of :func:`sigmoid`."""
    return _sigmoid_backward(input, grad_output)


def tanh(input):
    """Hyperbolic tangent."""
    return _tanh(input)


def tanh_backward(grad_output, input):
    """Gradient of :func:`tanh`."""
    return _tanh_backward(input, grad_output)


def silu(input, inplace=False):
    """``x * sigmoid(x)``, also called swish."""
    result = _silu(input)
    return result if inplace is False else general.placed("silu", input, inplace, result)


def silu_backward(grad_output, input):
    """Gradient of :func:`silu`."""
    return _silu_backward(input, grad_output)


def hardswish(input, inplace=False):
    """``x * relu6(x + 3) / 6``."""
    result = _hardswish(input)
    return result if inplace is False else general.placed("hardswish", input, inplace, result)


def hardswish_backward(grad_output, input):
    """Gradient of :func:`hardswish`."""
    return _hardswish_backward(input, grad_output)


def hardsigmoid(input, inplace=False):
    """``relu6(x + 3) / 6``."""
    result = _hardsigmoid(input)
    return result if inplace is False else general.placed("hardsigmoid", input, inplace, result)


def hardsigmoid_backward(grad_output, input):
    """Gradient of :func:`hardsigmoid`."""
    return _hardsigmoid_backward(input, grad_output)


def gelu(input, approximate="none"):
    """``x * Phi(x)``, Phi the normal distribution's; with ``approximate="tanh"`` the usual approximation of it."""
    return _gelu(input, approximate)


def gelu_backward(grad_output, input, approximate="none"):
    """Gradient of :func:`gelu`."""
    return _gelu_backward(input, grad_output, approximate)


def elu(input, alpha=1.0, inplace=False):
    """``x`` where it is above 0, else ``alpha * (exp(x) - 1)``."""
    if type(alpha) in (int, float) and alpha < 0:
        return general.placed("elu", input, inplace, general.elu(input, alpha))
    result = _elu(input, alpha)
    return result if inplace is False else general.placed("elu", input, inplace, result)


def elu_backward(grad_output, input, alpha=1.0):
    """Gradient of :func:`elu`."""
    return _elu_backward(input, grad_output, alpha)


# ---- over channels, at random ---------------------------------------------------------------------------------------------


def softmax(input, dim=1, _stacklevel=3, dtype=None):
    """``exp(x) / sum(exp(x))`` along a dimension of a float32 array.

    Parameters
    ----------
    input : array, any shape
    dim : int, default 1
        None: 0 of up to one and of three dimensions, else 1, as PyTorch chooses.
    dtype : None or float32
    """
    return _along(_softmax, normalization.softmax, input, dim, dtype)


def softmax_backward(grad_output, input, dim=1):
    """Gradient of :func:`softmax`, of 2 to 5 dimensions."""
    return _turned(_softmax_backward, (input, grad_output), dim)


def log_softmax(input, dim=1, _stacklevel=3, dtype=None):
    """``x - log(sum(exp(x)))`` along ``dim``, as :func:`softmax`."""
    return _along(_log_softmax, normalization.log_softmax, input, dim, dtype)


def log_softmax_backward(grad_output, input, dim=1):
    """Gradient of :func:`log_softmax`, of 2 to 5 dimensions."""
    return _turned(_log_softmax_backward, (input, grad_output), dim)


def _along(activation, anything, input, dim, dtype):
    """Along channels or a spatial dimension of an activation by the kernel for that, else however it lies."""
    if type(dim) is int and dim == 1 and dtype is None and isinstance(input, np.ndarray) and 2 <= input.ndim <= 5 and \
            input.size:
        return activation(input, dim)
    dim = plain(dim)
    if dtype is None and isinstance(dim, int) and not isinstance(dim, bool) and not isinstance(input, Tensor) and \
            2 <= getattr(input, "ndim", 0) <= 5 and input.size and dim not in (-1, input.ndim - 1):
        return _turned(activation, (input,), dim)
    return anything(input, dim, dtype)


def _turned(function, arrays, dim):
    """Along the batch of arrays, too: batch and channels change places."""
    if type(dim) is int and dim > 0:
        return function(*arrays, dim)
    dim = plain(dim)
    if not all(hasattr(a, "ndim") and a.ndim > 1 for a in arrays) or isinstance(dim, bool) or not isinstance(dim, int) or \
            dim not in (0, -arrays[0].ndim):
        return function(*arrays, dim)
    turned = [np.swapaxes(np.asarray(a), 0, 1) for a in arrays]
    return np.ascontiguousarray(np.swapaxes(function(*turned, 1), 0, 1))


def dropout(input, p=0.5, training=True, inplace=False, *, seed=None):
    """Zeroes each element with probability ``p`` and scales the others by ``1 / (1 - p)``.

    Parameters
    ----------
    input : array, of 2 to 5 dimensions, float32
    p : float, default 0.5
    training : bool, default True
        False: a copy of the input.
    inplace : bool, default False
        Writes the result into an array that is given.
    seed : int, optional
        From 0 to 2**64 - 1: which elements are zeroed follows from it alone, whatever the number of threads. By default from
        :func:`fastconv.manual_seed` and the number of draws since.
    """
    flag("dropout", "inplace", inplace)
    if seed is None and _wide(input):
        return general.into(input, inplace, general.dropout(input, p, training))
    return general.into(input, inplace, _dropout("dropout", activation("input", input), p, training, seed))


def dropout_backward(grad_output, p=0.5, training=True, *, seed):
    """Gradient of :func:`dropout` with the same ``seed``: zero where the forward zeroed."""
    return _dropout("dropout_backward", activation("grad_output", grad_output), p, training, seed)


def _dropout(shown: str, x: Argument, p, training, seed):
    flag(shown, "training", training)
    p = number(shown, "p", p)
    if not 0 <= p <= 1:
        raise ValueError(f"{shown}: p={p}: expected a probability, 0 to 1")
    if isinstance(x.value, Tensor):
        if seed is not None:
            raise ValueError(f"{shown}: seed={seed!r:.60} works on arrays only")
        return general.dropout(x.value, p, training)
    if seed is not None:
        try:
            seed = operator.index(seed)
        except TypeError:
            raise TypeError(f"{shown}: seed={seed!r:.60}: expected an integer") from None
        if not 0 <= seed < 2**64:
            raise ValueError(f"{shown}: seed={seed} must be from 0 to 2**64 - 1")
    if not training or p == 0:
        return np.array(check_array(shown, x), order="C")
    return run_op("dropout", [x], {"p": p}, shown, random=draw() if seed is None else (seed, 0))
