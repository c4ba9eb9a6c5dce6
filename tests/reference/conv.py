"""Convolution (cross-correlation, as every framework has it) in 1, 2 or 3 dimensions, and its adjoints.

With taps ``t``, group ``g``, and x zero outside its bounds::

    y[n, g, o, p] = bias[g, o] + sum over c, t of w[g, o, c, t] * x[n, g, c, p * stride - low + t * dilation]

Each function is a loop over the taps; a tap is one small matrix product per image and group.
Input is (N, C, *spatial), weight is (O, C / groups, *kernel), ``padding`` is an int, an int per axis, or a
``(low, high)`` pair per axis.
"""

from __future__ import annotations

import math

import numpy as np

from .window import Windows, f64, per_axis, per_axis_pairs


def _windows(input_size, weight_size, stride, padding, dilation, groups):
    if input_size[1] != weight_size[1] * groups or weight_size[0] % groups:
        raise ValueError(f"input {input_size}, weight {weight_size} and groups={groups} do not agree")
    return Windows.of(input_size[2:], weight_size[2:], stride, padding, dilation)


def _grouped(x, groups):
    """(N, C, *spatial) as (N, groups, C / groups, pixels)."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, math.prod(x.shape[2:]))


def conv(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Convolve; the argument order of ``torch.nn.functional.conv2d``."""
    x, w = f64(input), f64(weight)
    windows = _windows(x.shape, w.shape, stride, padding, dilation, groups)
    padded = windows.pad(x)
    w_grouped = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    y = np.zeros((x.shape[0], w.shape[0], *windows.out))
    for tap, reads in windows.taps():
        y += (w_grouped[(..., *tap)] @ _grouped(padded[reads], groups)).reshape(y.shape)
    if bias is not None:
        y += f64(bias).reshape(-1, *[1] * len(windows.size))
    return y


def conv_backward_data(input_size, weight, grad_output, stride=1, padding=0, dilation=1, groups=1):
    """Gradient of ``conv`` with respect to its input; the argument order of ``torch.nn.grad.conv2d_input``."""
    w, g = f64(weight), f64(grad_output)
    windows = _windows(input_size, w.shape, stride, padding, dilation, groups)
    padded = windows.pad(np.zeros(input_size))
    w_grouped = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    for tap, reads in windows.taps():
        w_transposed = w_grouped[(..., *tap)].swapaxes(1, 2)
        padded[reads] += (w_transposed @ _grouped(g, groups)).reshape(padded[reads].shape)
    return windows.unpad(padded)


def conv_backward_weight(input, weight_size, grad_output, stride=1, padding=0, dilation=1, groups=1):
    """Gradient of ``conv`` with respect to its weight; the argument order of ``torch.nn.grad.conv2d_weight``."""
    x, g = f64(input), f64(grad_output)
    windows = _windows(x.shape, weight_size, stride, padding, dilation, groups)
    padded = windows.pad(x)
    grad = np.zeros(weight_size)
    for tap, reads in windows.taps():
        per_image = _grouped(g, groups) @ _grouped(padded[reads], groups).swapaxes(2, 3)
        grad[(..., *tap)] = per_image.sum(axis=0).reshape(weight_size[:2])
    return grad


def conv_backward_bias(grad_output):
    """Gradient of ``conv`` with respect to its bias: the sum over images and pixels."""
    g = f64(grad_output)
    return g.sum(axis=(0, *range(2, g.ndim)))


def conv_transpose(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution; the argument order of ``torch.nn.functional.conv_transpose2d``.

    From the definition, by scattering: pixel ``i`` of the input adds ``x[n, g, c, i] * w[g, c, k, t]`` to pixel
    ``i * stride + t * dilation - low`` of the output, where that is inside. Weight is (C, K / groups, *kernel).
    """
    x, w = f64(input), f64(weight)
    n = x.ndim - 2
    stride, dilation, extra = (per_axis(v, n) for v in (stride, dilation, output_padding))
    pairs = per_axis_pairs(padding, n)
    full = [(size - 1) * s + d * (k - 1) + 1 + e for size, s, d, k, e in
            zip(x.shape[2:], stride, dilation, w.shape[2:], extra, strict=True)]
    y = np.zeros((x.shape[0], w.shape[1] * groups, *full))
    w_grouped = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    for tap in np.ndindex(*w.shape[2:]):
        writes = (..., *(slice(t * d, t * d + (size - 1) * s + 1, s) for t, d, s, size in
                         zip(tap, dilation, stride, x.shape[2:], strict=True)))
        y[writes] += (w_grouped[(..., *tap)].swapaxes(1, 2) @ _grouped(x, groups)).reshape(y[writes].shape)
    y = y[(..., *(slice(low, size - high) for size, (low, high) in zip(full, pairs, strict=True)))]
    return y if bias is None else y + f64(bias).reshape(-1, *[1] * n)


def conv_transpose_backward(grad_output, input, weight, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Gradients of ``conv_transpose`` with respect to input and weight, by gathering what the forward scatters."""
    g, x, w = f64(grad_output), f64(input), f64(weight)
    n = x.ndim - 2
    stride, dilation = per_axis(stride, n), per_axis(dilation, n)
    full = np.pad(g, [(0, 0), (0, 0), *per_axis_pairs(padding, n)])
    w_grouped = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    gx, gw = np.zeros(x.shape), np.zeros(w.shape)
    for tap in np.ndindex(*w.shape[2:]):
        reads = full[(..., *(slice(t * d, t * d + (size - 1) * s + 1, s) for t, d, s, size in
                             zip(tap, dilation, stride, x.shape[2:], strict=True)))]
        gx += (w_grouped[(..., *tap)] @ _grouped(reads, groups)).reshape(x.shape)
        per_image = _grouped(x, groups) @ _grouped(reads, groups).swapaxes(2, 3)
        gw[(..., *tap)] = per_image.sum(axis=0).reshape(w.shape[:2])
    return gx, gw


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """im2col: (N, C, *spatial) to (N, C * taps, windows), taps innermost; as ``torch.nn.functional.unfold``."""
    x = f64(input)
    windows = Windows.of(x.shape[2:], kernel_size, stride, padding, dilation)
    padded = windows.pad(x)
    columns = np.stack([padded[reads] for _, reads in windows.taps()], axis=2)
    return columns.reshape(x.shape[0], x.shape[1] * math.prod(windows.kernel), math.prod(windows.out))


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """col2im, the adjoint of ``unfold``: (N, C * taps, windows) summed into (N, C, *output_size)."""
    columns = f64(input)
    windows = Windows.of(output_size, kernel_size, stride, padding, dilation)
    taps = math.prod(windows.kernel)
    columns = columns.reshape(columns.shape[0], columns.shape[1] // taps, taps, *windows.out)
    padded = windows.pad(np.zeros((*columns.shape[:2], *windows.size)))
    for i, (_, reads) in enumerate(windows.taps()):
        padded[reads] += columns[:, :, i]
    return windows.unpad(padded)
