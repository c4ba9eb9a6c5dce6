"""Reshaping and joining."""

from __future__ import annotations

import operator
from math import prod

import numpy as np

from fastconv.functional._call import activation, call
from fastconv.graph.arrays import as_float32
from fastconv.graph.ir import Tensor


def flatten(input, start_dim=0, end_dim=-1):
    """Joins the axes from ``start_dim`` to ``end_dim``, both included, in NCHW order.

    Of a symbolic tensor only ``start_dim=1, end_dim=-1`` is supported. The result is a fresh array.
    """
    if isinstance(input, Tensor):
        return call("flatten", "flatten", activation("input", input), start_dim=start_dim, end_dim=end_dim)
    x = as_float32("flatten", "input", input)
    dims = max(1, x.ndim)
    try:
        start, end = operator.index(start_dim), operator.index(end_dim)
    except TypeError:
        raise TypeError(f"flatten: start_dim={start_dim!r}, end_dim={end_dim!r}: expected integers") from None
    if not -dims <= start < dims or not -dims <= end < dims:
        raise ValueError(f"flatten: start_dim={start}, end_dim={end}: input of shape {x.shape} has {x.ndim} dimensions")
    start, end = start % dims, end % dims
    if start > end:
        raise ValueError(f"flatten: start_dim={start_dim} is behind end_dim={end_dim}: input of shape {x.shape}")
    return np.array(x, order="C").reshape(*x.shape[:start], prod(x.shape[start:end + 1]), *x.shape[end + 1:])


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """im2col: ``(N, C, spatial...)`` to ``(N, C * taps, windows)``, a channel's taps together.

    Parameters
    ----------
    input : array, of 3 to 5 dimensions, float32
    kernel_size, dilation, padding, stride : int or sequence of int
        As for :func:`conv2d`; the argument order is PyTorch's.
    """
    return call("unfold", "unfold", activation("input", input), kernel_size=kernel_size, dilation=dilation, padding=padding,
                stride=stride)


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """col2im, the adjoint of :func:`unfold`: ``(N, C * taps, windows)`` summed into ``(N, C, *output_size)``.

    Parameters
    ----------
    input : array, shape (N, C * taps, windows), float32
    output_size : sequence of int
        One extent per spatial dimension; an int stands for two.
    kernel_size, dilation, padding, stride : int or sequence of int
    """
    size = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * 2
    try:
        size = tuple(operator.index(s) for s in size)
    except TypeError:
        raise TypeError(f"fold: output_size={output_size!r}: expected integers") from None
    return call("fold", "fold", activation("input", input, 3), output_size=size, kernel_size=kernel_size, dilation=dilation,
                padding=padding, stride=stride)
