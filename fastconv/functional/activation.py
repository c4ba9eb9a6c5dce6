"""Activations, softmax and dropout, and their backward passes."""

from __future__ import annotations

import operator
from math import inf
from numbers import Real

import numpy as np

from fastconv.functional._call import activation, call, flag, gradient
from fastconv.graph.eager import Argument, check_array, run_op
from fastconv.graph.ir import Tensor
from fastconv.graph.random import draw

# ---- by value -------------------------------------------------------------------------------------------------------------


def relu(input):
    """``max(x, 0)``; NaN stays NaN. ``input``: float32, of 2 to 5 dimensions (N, C, ...), as for all functions here."""
    return call("relu", "relu", activation("input", input))


def relu_backward(grad_output, input):
    """Gradient of :func:`relu`: ``grad_output`` where the input is above 0, else 0."""
    return gradient("relu", "relu_backward", grad_output, activation("input", input))


def leaky_relu(input, negative_slope=0.01):
    """``x`` where it is above 0, else ``negative_slope * x``."""
    slope = number("leaky_relu", "negative_slope", negative_slope)
    return call("leaky_relu", "leaky_relu", activation("input", input), negative_slope=slope)


def leaky_relu_backward(grad_output, input, negative_slope=0.01):
    """Gradient of :func:`leaky_relu`."""
    slope = number("leaky_relu_backward", "negative_slope", negative_slope)
    return gradient("leaky_relu", "leaky_relu_backward", grad_output, activation("input", input), negative_slope=slope)


def hardtanh(input, min_val=-1.0, max_val=1.0):
    """``x`` clipped to [min_val, max_val]."""
    low, high = _limits("hardtanh", min_val, max_val)
    return call("clip", "hardtanh", activation("input", input), low=low, high=high)


def hardtanh_backward(grad_output, input, min_val=-1.0, max_val=1.0):
    """Gradient of :func:`hardtanh`: ``grad_output`` where the input is strictly inside, else 0."""
    low, high = _limits("hardtanh_backward", min_val, max_val)
    return gradient("clip", "hardtanh_backward", grad_output, activation("input", input), low=low, high=high)


def relu6(input):
    """``x`` clipped to [0, 6]."""
    return call("clip", "relu6", activation("input", input), low=0.0, high=6.0)


def relu6_backward(grad_output, input):
    """Gradient of :func:`relu6`."""
    return gradient("clip", "relu6_backward", grad_output, activation("input", input), low=0.0, high=6.0)


def sigmoid(input):
    """``1 / (1 + exp(-x))``."""
    return call("sigmoid", "sigmoid", activation("input", input))


def sigmoid_backward(grad_output, input):
    """Gradient of :func:`sigmoid`."""
    return gradient("sigmoid", "sigmoid_backward", grad_output, activation("input", input))


def tanh(input):
    """Hyperbolic tangent."""
    return call("tanh", "tanh", activation("input", input))


def tanh_backward(grad_output, input):
    """Gradient of :func:`tanh`."""
    return gradient("tanh", "tanh_backward", grad_output, activation("input", input))


def silu(input):
    """``x * sigmoid(x)``, also called swish."""
    return call("silu", "silu", activation("input", input))


def silu_backward(grad_output, input):
    """Gradient of :func:`silu`."""
    return gradient("silu", "silu_backward", grad_output, activation("input", input))


def hardswish(input):
    """``x * relu6(x + 3) / 6``."""
    return call("hardswish", "hardswish", activation("input", input))


def hardswish_backward(grad_output, input):
    """Gradient of :func:`hardswish`."""
    return gradient("hardswish", "hardswish_backward", grad_output, activation("input", input))


def hardsigmoid(input):
    """``relu6(x + 3) / 6``."""
    return call("hardsigmoid", "hardsigmoid", activation("input", input))


def hardsigmoid_backward(grad_output, input):
    """Gradient of :func:`hardsigmoid`."""
    return gradient("hardsigmoid", "hardsigmoid_backward", grad_output, activation("input", input))


def gelu(input, approximate="none"):
    """``x * Phi(x)``, Phi the normal distribution's; with ``approximate="tanh"`` the usual approximation of it."""
    return call("gelu", "gelu", activation("input", input), approximate=_approximate("gelu", approximate))


def gelu_backward(grad_output, input, approximate="none"):
    """Gradient of :func:`gelu`."""
    return gradient("gelu", "gelu_backward", grad_output, activation("input", input),
                    approximate=_approximate("gelu_backward", approximate))


def elu(input, alpha=1.0):
    """``x`` where it is above 0, else ``alpha * (exp(x) - 1)``."""
    return call("elu", "elu", activation("input", input), alpha=number("elu", "alpha", alpha))


def elu_backward(grad_output, input, alpha=1.0):
    """Gradient of :func:`elu`."""
    return gradient("elu", "elu_backward", grad_output, activation("input", input),
                    alpha=number("elu_backward", "alpha", alpha))


# ---- over channels, at random ---------------------------------------------------------------------------------------------


def softmax(input, dim=1):
    """``exp(x) / sum(exp(x))`` along ``dim``, by default over the channels; of symbolic tensors not along the batch."""
    return _softmax("softmax", call, (input,), dim)


def softmax_backward(grad_output, input, dim=1):
    """Gradient of :func:`softmax`."""
    return _softmax("softmax", _softmax_gradient, (grad_output, input), dim)


def log_softmax(input, dim=1):
    """``x - log(sum(exp(x)))`` along ``dim``, as :func:`softmax`."""
    return _softmax("log_softmax", call, (input,), dim)


def log_softmax_backward(grad_output, input, dim=1):
    """Gradient of :func:`log_softmax`."""
    return _softmax("log_softmax", _softmax_gradient, (grad_output, input), dim)


def _softmax(op, run, arrays, dim):
    """Along the batch of arrays, too: batch and channels change places."""
    if any(isinstance(a, Tensor) for a in arrays) or not all(hasattr(a, "ndim") and a.ndim > 1 for a in arrays) or \
            isinstance(dim, bool) or not isinstance(dim, int) or dim not in (0, -arrays[0].ndim):
        return run(op, op, *arrays[:-1], activation("input", arrays[-1]), dim=dim)
    turned = [np.swapaxes(np.asarray(a), 0, 1) for a in arrays]
    return np.ascontiguousarray(np.swapaxes(_softmax(op, run, turned, 1), 0, 1))


def _softmax_gradient(op, shown, grad_output, argument, **attrs):
    return gradient(op, f"{shown}_backward", grad_output, argument, **attrs)


def dropout(input, p=0.5, training=True, *, seed=None):
    """Zeroes each element with probability ``p`` and scales the others by ``1 / (1 - p)``.

    Parameters
    ----------
    input : array, of 2 to 5 dimensions, float32
    p : float, default 0.5
    training : bool, default True
        False: a copy of the input.
    seed : int, optional
        From 0 to 2**64 - 1: which elements are zeroed follows from it alone, whatever the number of threads. By default from
        :func:`fastconv.manual_seed` and the number of draws since.
    """
    return _dropout("dropout", activation("input", input), p, training, seed)


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
            raise ValueError(f"{shown}: seed={seed!r} works on arrays only")
        return call("dropout", shown, x, p=p) if training and p > 0 else x.value
    if seed is not None:
        try:
            seed = operator.index(seed)
        except TypeError:
            raise TypeError(f"{shown}: seed={seed!r}: expected an integer") from None
        if not 0 <= seed < 2**64:
            raise ValueError(f"{shown}: seed={seed} must be from 0 to 2**64 - 1")
    if not training or p == 0:
        return np.array(check_array(shown, x), order="C")
    return run_op("dropout", [x], {"p": p}, shown, random=draw() if seed is None else (seed, 0))


# ---- arguments ------------------------------------------------------------------------------------------------------------


def number(op: str, name: str, value) -> float:
    """A real number; NaN is refused."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{op}: {name}={value!r}: expected a number")
    if not -inf <= float(value) <= inf:
        raise ValueError(f"{op}: {name}={value!r}: expected a number")
    return float(value)


def _limits(op: str, min_val, max_val) -> tuple[float, float]:
    low, high = number(op, "min_val", min_val), number(op, "max_val", max_val)
    if not low < high:
        raise ValueError(f"{op}: max_val={max_val!r} must be greater than min_val={min_val!r}")
    return low, high


def _approximate(op: str, value) -> str:
    if value not in ("none", "tanh"):
        raise ValueError(f"{op}: approximate={value!r}: expected 'none' or 'tanh'")
    return value
