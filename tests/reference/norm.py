"""Batch normalisation (Ioffe and Szegedy, 2015) with PyTorch's running statistics, and its gradients."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .window import f64


class BatchNorm(NamedTuple):
    """What ``batch_norm`` returns; the running statistics are the updated ones (None where none were given)."""

    output: np.ndarray
    running_mean: np.ndarray | None
    running_var: np.ndarray | None


def _over_channels(vector, ndim):
    """A vector over the channels, shaped to broadcast against (N, C, *spatial)."""
    return f64(vector).reshape(1, -1, *[1] * (ndim - 2))


def _all_but_channels(ndim):
    return (0, *range(2, ndim))


def _mean(x):
    """Mean per channel, kept broadcastable; 0 for an empty batch."""
    count = x.shape[0] * math.prod(x.shape[2:])
    return x.sum(axis=_all_but_channels(x.ndim), keepdims=True) / max(count, 1)


def _statistics(x, running_mean, running_var, training):
    """Mean and biased variance that normalise ``x``: the batch's own, or the running ones."""
    if training or running_mean is None:
        mean = _mean(x)
        return mean, _mean((x - mean) ** 2)
    return _over_channels(running_mean, x.ndim), _over_channels(running_var, x.ndim)


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalise each channel; the argument order of ``torch.nn.functional.batch_norm``.

    Input is (N, C, *spatial). Unlike PyTorch's, the running statistics passed in are left alone and the new ones are
    returned: ``(1 - momentum) * running + momentum * batch``, where the batch's variance is the unbiased one there
    and the biased one in the output. An empty batch leaves them as they were. Without running statistics the batch's
    own are used in both modes. Raises ValueError where training has one value per channel.
    """
    x = f64(input)
    count = x.shape[0] * math.prod(x.shape[2:])
    if training and count == 1:
        raise ValueError(f"training needs more than one value per channel, got input {x.shape}")
    mean, var = _statistics(x, running_mean, running_var, training)
    y = (x - mean) / np.sqrt(var + eps)
    if weight is not None:
        y = y * _over_channels(weight, x.ndim)
    if bias is not None:
        y = y + _over_channels(bias, x.ndim)
    if training and running_mean is not None and count > 0:
        unbiased = var * count / (count - 1)
        running_mean = (1 - momentum) * f64(running_mean) + momentum * mean.ravel()
        running_var = (1 - momentum) * f64(running_var) + momentum * unbiased.ravel()
    return BatchNorm(y, running_mean, running_var)


def batch_norm_backward(grad_output, input, running_mean, running_var, weight=None, training=False, eps=1e-5):
    """Gradients of ``batch_norm``'s output: ``(grad_input, grad_weight, grad_bias)``.

    In training the batch's mean and variance are functions of the input, and the chain rule goes through them; with
    running statistics they are constants. The running statistics themselves carry no gradient.
    """
    x, g = f64(input), f64(grad_output)
    axes = _all_but_channels(x.ndim)
    mean, var = _statistics(x, running_mean, running_var, training)
    inverse_std = 1 / np.sqrt(var + eps)
    normalised = (x - mean) * inverse_std
    grad_weight = (g * normalised).sum(axis=axes)
    grad_bias = g.sum(axis=axes)
    grad_normalised = g if weight is None else g * _over_channels(weight, x.ndim)
    if training or running_mean is None:
        through_mean = _mean(grad_normalised)
        through_var = normalised * _mean(grad_normalised * normalised)
        grad_normalised = grad_normalised - through_mean - through_var
    return grad_normalised * inverse_std, grad_weight, grad_bias
