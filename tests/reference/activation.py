"""Linear, the activations, and the operators that join or reshape tensors; each with its gradient.

A backward takes ``(grad_output, input, ...)`` and recomputes what it needs.
"""

from __future__ import annotations

import numpy as np

from .window import f64


def linear(input, weight, bias=None):
    """``input @ weight.T + bias``: (*, in) with weight (out, in) to (*, out)."""
    y = f64(input) @ f64(weight).T
    return y if bias is None else y + f64(bias)


def linear_backward(grad_output, input, weight):
    """Gradients of ``linear``: ``(grad_input, grad_weight, grad_bias)``."""
    g, x, w = f64(grad_output), f64(input), f64(weight)
    g_rows, x_rows = g.reshape(-1, w.shape[0]), x.reshape(-1, w.shape[1])
    return g @ w, g_rows.T @ x_rows, g_rows.sum(axis=0)


def relu(input):
    """``max(x, 0)``; NaN stays NaN."""
    return np.maximum(f64(input), 0.0)


def relu_backward(grad_output, input):
    """Gradient of ``relu``: 0 at 0, and as it came where the input is NaN (PyTorch)."""
    return np.where(f64(input) <= 0, 0.0, f64(grad_output))


def leaky_relu(input, negative_slope=0.01):
    """``x`` where positive, ``negative_slope * x`` elsewhere."""
    x = f64(input)
    return np.where(x > 0, x, x * negative_slope)


def leaky_relu_backward(grad_output, input, negative_slope=0.01):
    """Gradient of ``leaky_relu``: the slope at 0."""
    g = f64(grad_output)
    return np.where(f64(input) > 0, g, g * negative_slope)


def sigmoid(input):
    """``1 / (1 + exp(-x))``, from the exponential that cannot overflow."""
    x = f64(input)
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1.0) / (1 + small)


def sigmoid_backward(grad_output, input):
    """Gradient of ``sigmoid``: ``y * (1 - y)``, where 1 - sigmoid(x) is sigmoid(-x) without the cancellation."""
    return f64(grad_output) * sigmoid(input) * sigmoid(-f64(input))


def tanh(input):
    """Hyperbolic tangent."""
    return np.tanh(f64(input))


def tanh_backward(grad_output, input):
    """Gradient of ``tanh``: ``1 - y**2``."""
    return f64(grad_output) * (1 - np.tanh(f64(input)) ** 2)


def log_softmax(input, dim):
    """``x - log(sum(exp(x)))`` along ``dim``."""
    x = f64(input)
    with np.errstate(invalid="ignore", divide="ignore"):  # nothing but -inf, or an inf, gives NaN (PyTorch)
        shifted = x - x.max(axis=dim, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True))


def log_softmax_backward(grad_output, input, dim):
    """Gradient of ``log_softmax``."""
    g = f64(grad_output)
    return g - softmax(input, dim) * g.sum(axis=dim, keepdims=True)


def softmax(input, dim):
    """``exp(x) / sum(exp(x))`` along ``dim``."""
    return np.exp(log_softmax(input, dim))


def softmax_backward(grad_output, input, dim):
    """Gradient of ``softmax``."""
    g, y = f64(grad_output), softmax(input, dim)
    return y * (g - (g * y).sum(axis=dim, keepdims=True))


def add(input, other, alpha=1):
    """``input + alpha * other``, broadcast."""
    return f64(input) + alpha * f64(other)


def add_backward(grad_output, input_size, other_size, alpha=1):
    """Gradients of ``add``: ``(grad_input, grad_other)``, summed over the axes that were broadcast."""
    g = f64(grad_output)
    return _sum_to(g, input_size), _sum_to(alpha * g, other_size)


def _sum_to(g, size):
    added = g.ndim - len(size)
    stretched = tuple(i + added for i, length in enumerate(size) if length == 1)
    return g.sum(axis=(*range(added), *stretched), keepdims=True).reshape(size)


def concat(tensors, dim=0):
    """Join along ``dim``."""
    return np.concatenate([f64(t) for t in tensors], axis=dim)


def concat_backward(grad_output, lengths, dim=0):
    """Gradients of ``concat``: the parts of ``grad_output``, of the given lengths along ``dim``."""
    return np.split(f64(grad_output), np.cumsum(lengths)[:-1], axis=dim)


def flatten(input, start_dim=0, end_dim=-1):
    """Join the axes from ``start_dim`` to ``end_dim``, both included."""
    x = f64(input)
    start, end = start_dim % x.ndim, end_dim % x.ndim
    joined = int(np.prod(x.shape[start : end + 1]))
    return x.reshape(*x.shape[:start], joined, *x.shape[end + 1 :])


def flatten_backward(grad_output, input_size):
    """Gradient of ``flatten``."""
    return f64(grad_output).reshape(input_size)
