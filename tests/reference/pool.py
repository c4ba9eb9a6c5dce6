"""Pooling in any number of dimensions, as PyTorch defines it, and its gradients.

Input is (N, C, *spatial); ``stride`` defaults to the kernel; ``padding`` is an int, an int per axis, or a
``(low, high)`` pair per axis. A flat index counts row-major over the spatial axes of the unpadded input.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import NamedTuple

import numpy as np

from .window import Windows, f64


class MaxPool(NamedTuple):
    """What ``max_pool`` returns, all of the output's shape."""

    values: np.ndarray
    taps: np.ndarray  # the winner's row-major position in its window, -1 where no tap is inside the input
    indices: np.ndarray  # the winner's flat index, -1 where no tap is inside the input


def max_pool(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """Maximum of each window.

    Ties go to the first tap in row-major order, but the last NaN wins (PyTorch takes a tap when
    ``value > best or isnan(value)``). A window without a tap inside the input gives -inf and the index -1.
    """
    x = f64(input)
    stride = kernel_size if stride is None else stride
    windows = Windows.of(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    padded = windows.pad(x)
    padded_index = windows.pad(np.arange(math.prod(windows.size)).reshape(windows.size), -1)
    shape = (*x.shape[:2], *windows.out)
    values = np.full(shape, -np.inf)
    taps = np.full(shape, -1)
    indices = np.full(shape, -1)
    for i, (_, reads) in enumerate(windows.taps()):
        value, index = padded[reads], padded_index[reads]
        # The first tap inside is taken whatever it holds: a window of nothing but -inf has a winner too.
        takes = (index >= 0) & ((taps < 0) | (value > values) | np.isnan(value))
        values = np.where(takes, value, values)
        taps = np.where(takes, i, taps)
        indices = np.where(takes, index, indices)
    return MaxPool(values, taps, indices)


def max_pool_backward(grad_output, indices, input_size):
    """Gradient of ``max_pool`` and ``adaptive_max_pool``: each window's gradient is added to its winner."""
    n, c = input_size[:2]
    grad = np.zeros((n, c, math.prod(input_size[2:])))
    image, channel = np.indices((n, c))
    for window in np.ndindex(*np.shape(indices)[2:]):
        index = indices[(..., *window)]
        has_winner = index >= 0
        grad[image, channel, np.maximum(index, 0)] += np.where(has_winner, grad_output[(..., *window)], 0.0)
    return grad.reshape(input_size)


def _divisor(windows, count_include_pad, divisor_override):
    """What each window's sum is divided by: an array over the windows."""
    if divisor_override is not None:
        return np.full(windows.out, float(divisor_override))
    counts = []
    for length, out, k, s, (low, high) in zip(
        windows.size, windows.out, windows.kernel, windows.stride, windows.padding, strict=True
    ):
        begin = np.arange(out) * s - low
        # Beyond the padding nothing counts, even with count_include_pad: ceil_mode's last window is cut there.
        end = np.minimum(begin + k, length + high)
        if not count_include_pad:
            begin, end = np.maximum(begin, 0), np.minimum(end, length)
        counts.append(np.maximum(end - begin, 0))
    # A window that holds no pixel has the sum 0, and is to stay 0.
    return np.maximum(reduce(np.multiply.outer, counts), 1).astype(np.float64)


def avg_pool(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    """Mean of each window; the argument order of ``torch.nn.functional.avg_pool2d``."""
    x = f64(input)
    stride = kernel_size if stride is None else stride
    windows = Windows.of(x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    padded = windows.pad(x)
    total = np.zeros((*x.shape[:2], *windows.out))
    for _, reads in windows.taps():
        total += padded[reads]
    return total / _divisor(windows, count_include_pad, divisor_override)


def avg_pool_backward(
    grad_output,
    input_size,
    kernel_size,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
):
    """Gradient of ``avg_pool``: each window's gradient, divided, is added to every pixel it read."""
    stride = kernel_size if stride is None else stride
    windows = Windows.of(input_size[2:], kernel_size, stride, padding, 1, ceil_mode)
    share = f64(grad_output) / _divisor(windows, count_include_pad, divisor_override)
    padded = windows.pad(np.zeros(input_size))
    for _, reads in windows.taps():
        padded[reads] += share
    return windows.unpad(padded)


def _adaptive_windows(size, output_size):
    """Each output position with the slices it reads: from floor(i * L / out) to ceil((i + 1) * L / out)."""
    wanted = (output_size,) * len(size) if np.ndim(output_size) == 0 else tuple(output_size)
    out = tuple(length if o is None else int(o) for length, o in zip(size, wanted, strict=True))
    cells = []
    for cell in np.ndindex(*out):
        axes = zip(cell, size, out, strict=True)
        cells.append((cell, tuple(slice(i * length // o, -(-(i + 1) * length // o)) for i, length, o in axes)))
    return out, cells


def adaptive_avg_pool(input, output_size):
    """Mean over windows that cut each axis into ``output_size`` parts; None keeps an axis' length."""
    x = f64(input)
    out, cells = _adaptive_windows(x.shape[2:], output_size)
    y = np.empty((*x.shape[:2], *out))
    for cell, reads in cells:
        y[(..., *cell)] = x[(..., *reads)].mean(axis=tuple(range(2, x.ndim)))
    return y


def adaptive_avg_pool_backward(grad_output, input_size, output_size):
    """Gradient of ``adaptive_avg_pool``."""
    g = f64(grad_output)
    grad = np.zeros(input_size)
    for cell, reads in _adaptive_windows(input_size[2:], output_size)[1]:
        pixels = math.prod(r.stop - r.start for r in reads)
        grad[(..., *reads)] += g[(..., *cell, *[None] * len(cell))] / pixels
    return grad


def adaptive_max_pool(input, output_size):
    """Maximum over windows that cut each axis into ``output_size`` parts: ``(values, flat indices)``.

    Ties go to the first, but the last NaN wins. The gradient is ``max_pool_backward``.
    """
    x = f64(input)
    size = x.shape[2:]
    out, cells = _adaptive_windows(size, output_size)
    values = np.empty((*x.shape[:2], *out))
    indices = np.empty(values.shape, dtype=np.int64)
    flat = np.arange(math.prod(size)).reshape(size)
    for cell, reads in cells:
        where = flat[reads].ravel()
        window = x.reshape(*x.shape[:2], flat.size)[..., where]
        nan = np.isnan(window)
        last_nan = where.size - 1 - nan[..., ::-1].argmax(axis=-1)
        winner = np.where(nan.any(axis=-1), last_nan, window.argmax(axis=-1))
        values[(..., *cell)] = np.take_along_axis(window, winner[..., None], axis=-1)[..., 0]
        indices[(..., *cell)] = where[winner]
    return values, indices


def global_avg_pool(input):
    """Mean over all spatial axes, kept with length 1."""
    x = f64(input)
    return x.mean(axis=tuple(range(2, x.ndim)), keepdims=True)


def global_avg_pool_backward(grad_output, input_size):
    """Gradient of ``global_avg_pool``."""
    return np.broadcast_to(f64(grad_output) / math.prod(input_size[2:]), input_size).copy()


def global_max_pool(input):
    """Maximum over all spatial axes, kept with length 1: ``(values, flat indices)``, as ``adaptive_max_pool``."""
    return adaptive_max_pool(input, 1)
