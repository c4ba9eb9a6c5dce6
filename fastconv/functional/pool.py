"""Pooling over windows, and its backward passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fastconv.engine.general import Place, as_array, run
from fastconv.functional._call import activation, call, define, define_gradient, flag, one_image, shape_like
from fastconv.graph.ir import Tensor, showing

# ---- declarations ---------------------------------------------------------------------------------------------------------

DIMS = (1, 2, 3)
WINDOW = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
MEANS = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


def _windows(op: str, attrs: Sequence[str]) -> Iterator[Any]:
    return (define(op, f"{op}{d}d", activation("input", ndim=d + 2), attrs=attrs, unbatched=True) for d in DIMS)


def _backward_of_max(op: str, attrs: Sequence[str]) -> Iterator[Any]:
    return (define_gradient(op, f"{op}{d}d_backward", activation("grad_output"), activation("input", ndim=d + 2),
                            attrs=attrs) for d in DIMS)


def _backward_of_mean(op: str, attrs: Sequence[str]) -> Iterator[Any]:
    def check(d):
        return lambda shown, given: {**given, "input_shape": shape_like(shown, "input_shape", given["input_shape"], d + 2)}

    return (define(f"{op}_backward", f"{op}{d}d_backward", activation("grad_output", ndim=d + 2),
                   attrs=("input_shape", *attrs), check=check(d)) for d in DIMS)


_max_pool1d, _max_pool2d, _max_pool3d = _windows("max_pool", WINDOW)
_max_pool1d_backward, _max_pool2d_backward, _max_pool3d_backward = _backward_of_max("max_pool", WINDOW)
_avg_pool1d, _avg_pool2d, _avg_pool3d = _windows("avg_pool", MEANS)
_avg_pool1d_backward, _avg_pool2d_backward, _avg_pool3d_backward = _backward_of_mean("avg_pool", MEANS)
_adaptive_avg_pool1d, _adaptive_avg_pool2d, _adaptive_avg_pool3d = _windows("adaptive_avg_pool", ("output_size",))
_adaptive_avg_pool1d_backward, _adaptive_avg_pool2d_backward, _adaptive_avg_pool3d_backward = _backward_of_mean(
    "adaptive_avg_pool", ("output_size",))
_adaptive_max_pool1d, _adaptive_max_pool2d, _adaptive_max_pool3d = _windows("adaptive_max_pool", ("output_size",))
_adaptive_max_pool1d_backward, _adaptive_max_pool2d_backward, _adaptive_max_pool3d_backward = _backward_of_max(
    "adaptive_max_pool", ("output_size",))

# ---- maximum --------------------------------------------------------------------------------------------------------------


def positions(values: Tensor) -> Tensor:
    """Where in its image each value of a symbolic max pool was: int64, row-major."""
    from fastconv.ops import pool

    return pool.positions(values)


def _max(op, shown, dims, input, attrs, return_indices=True):
    """A max pool, or with each winner's row-major position in its image, int64."""
    flag(shown, "return_indices", return_indices)

    def body(x, last, *values):
        given = dict(zip(attrs, values, strict=True))
        if last:
            return tuple(y.movedim(1, -1) for y in body(x.movedim(-1, 1), False, *values))
        if x.ndim == dims + 1:
            return tuple(y.squeeze(0) for y in body(x.unsqueeze(0), False, *values))
        out = call(op, shown, activation("input", x, dims + 2), **given)
        return out, positions(out)

    if not return_indices:
        if getattr(input, "ndim", 0) == dims + 1:
            return one_image(lambda x: _max(op, shown, dims, x, attrs, False), [input])
        return call(op, shown, activation("input", input, dims + 2), **attrs)
    if isinstance(input, Tensor):
        with showing(shown):
            return body(input, False, *attrs.values())
    x = as_array(shown, "input", input)
    last = x.ndim == dims + 2 and not x.flags.c_contiguous and np.moveaxis(x, 1, -1).flags.c_contiguous
    if last:  # what comes out lies as what goes in
        x = np.moveaxis(x, 1, -1)
    found = run(shown, body, (Place(0, x.shape, x.dtype.name), last, *attrs.values()), [x])
    return tuple(np.moveaxis(y, -1, 1) for y in found) if last else found


def _window(*values) -> dict:
    return dict(zip(WINDOW, values, strict=True))


def max_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """Maximum over windows of ``(N, C, L)``; see :func:`max_pool2d`."""
    if return_indices is False:
        return _max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode)
    return _max("max_pool", "max_pool1d", 1, input, _window(kernel_size, stride, padding, dilation, ceil_mode),
                return_indices)


def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """Maximum over windows of ``(N, C, H, W)``.

    Parameters
    ----------
    input : array, shape (N, C, H, W), float32
    kernel_size, dilation : int or sequence of int
    stride : int or sequence of int, optional
        Default ``kernel_size``.
    padding : int or sequence of int, default 0
        At most half of the kernel; what is added is never the maximum. (front, back) pairs must be less than the window.
    ceil_mode : bool, default False
        Whether a last window that is only partly inside counts.
    return_indices : bool, default False

    Returns
    -------
    ndarray, shape (N, C, P, Q), float32
        The first of equal values wins; NaN is larger than all numbers.
    indices : ndarray, shape (N, C, P, Q), int64
        Only with ``return_indices``: the winner's position in its H x W image, row-major.
    """
    if return_indices is False:
        return _max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode)
    return _max("max_pool", "max_pool2d", 2, input, _window(kernel_size, stride, padding, dilation, ceil_mode),
                return_indices)


def max_pool3d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """Maximum over windows of ``(N, C, D, H, W)``; see :func:`max_pool2d`."""
    if return_indices is False:
        return _max_pool3d(input, kernel_size, stride, padding, dilation, ceil_mode)
    return _max("max_pool", "max_pool3d", 3, input, _window(kernel_size, stride, padding, dilation, ceil_mode),
                return_indices)


def max_pool1d_backward(grad_output, input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """Gradient of :func:`max_pool1d`; see :func:`max_pool2d_backward`."""
    return _max_pool1d_backward(input, grad_output, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d_backward(grad_output, input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """Gradient of :func:`max_pool2d` with respect to its input: each window's gradient is added to its winner.

    ``grad_output`` has the shape of the output; the other arguments are those of the forward.
    """
    return _max_pool2d_backward(input, grad_output, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d_backward(grad_output, input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """Gradient of :func:`max_pool3d`; see :func:`max_pool2d_backward`."""
    return _max_pool3d_backward(input, grad_output, kernel_size, stride, padding, dilation, ceil_mode)


# ---- mean -----------------------------------------------------------------------------------------------------------------


def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """Mean over windows of ``(N, C, L)``; see :func:`avg_pool2d`."""
    return _avg_pool1d(input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    """Mean over windows of ``(N, C, H, W)``.

    Parameters
    ----------
    input : array, shape (N, C, H, W), float32
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        Default ``kernel_size``.
    padding : int or sequence of int, default 0
        Zeros, at most half of the kernel.
    ceil_mode : bool, default False
        Whether a last window that is only partly inside counts.
    count_include_pad : bool, default True
        Whether the padding counts in the divisor.
    divisor_override : int, optional
        The divisor, instead of the size of the window.

    Returns
    -------
    ndarray, shape (N, C, P, Q), float32
    """
    return _avg_pool2d(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    """Mean over windows of ``(N, C, D, H, W)``; see :func:`avg_pool2d`."""
    return _avg_pool3d(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool1d_backward(grad_output, input_shape, kernel_size, stride=None, padding=0, ceil_mode=False,
                        count_include_pad=True):
    """Gradient of :func:`avg_pool1d`; see :func:`avg_pool2d_backward`."""
    return _avg_pool1d_backward(grad_output, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d_backward(grad_output, input_shape, kernel_size, stride=None, padding=0, ceil_mode=False,
                        count_include_pad=True, divisor_override=None):
    """Gradient of :func:`avg_pool2d` with respect to its input, of shape ``input_shape``.

    ``grad_output`` has the shape of the output; the other arguments are those of the forward.
    """
    return _avg_pool2d_backward(grad_output, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad,
                                divisor_override)


def avg_pool3d_backward(grad_output, input_shape, kernel_size, stride=None, padding=0, ceil_mode=False,
                        count_include_pad=True, divisor_override=None):
    """Gradient of :func:`avg_pool3d`; see :func:`avg_pool2d_backward`."""
    return _avg_pool3d_backward(grad_output, input_shape, kernel_size, stride, padding, ceil_mode, count_include_pad,
                                divisor_override)


# ---- windows by the size of the output ------------------------------------------------------------------------------------


def adaptive_avg_pool1d(input, output_size):
    """Mean over windows that cut ``(N, C, L)`` into ``output_size`` parts; see :func:`adaptive_avg_pool2d`."""
    return _adaptive_avg_pool1d(input, output_size)


def adaptive_avg_pool2d(input, output_size):
    """Mean over windows that cut ``(N, C, H, W)`` into ``output_size`` parts.

    Window i of an axis of length L goes from ``floor(i * L / out)`` to ``ceil((i + 1) * L / out)``; one int as
    ``output_size`` stands for all axes, None keeps an axis' length.
    """
    return _adaptive_avg_pool2d(input, output_size)


def adaptive_avg_pool3d(input, output_size):
    """Mean over windows that cut ``(N, C, D, H, W)`` into ``output_size`` parts; see :func:`adaptive_avg_pool2d`."""
    return _adaptive_avg_pool3d(input, output_size)


def adaptive_avg_pool1d_backward(grad_output, input_shape, output_size):
    """Gradient of :func:`adaptive_avg_pool1d` with respect to its input, of shape ``input_shape``."""
    return _adaptive_avg_pool1d_backward(grad_output, input_shape, output_size)


def adaptive_avg_pool2d_backward(grad_output, input_shape, output_size):
    """Gradient of :func:`adaptive_avg_pool2d` with respect to its input, of shape ``input_shape``."""
    return _adaptive_avg_pool2d_backward(grad_output, input_shape, output_size)


def adaptive_avg_pool3d_backward(grad_output, input_shape, output_size):
    """Gradient of :func:`adaptive_avg_pool3d` with respect to its input, of shape ``input_shape``."""
    return _adaptive_avg_pool3d_backward(grad_output, input_shape, output_size)


def adaptive_max_pool1d(input, output_size, return_indices=False):
    """Maximum over windows that cut ``(N, C, L)`` into ``output_size`` parts; see :func:`adaptive_max_pool2d`."""
    if return_indices is False:
        return _adaptive_max_pool1d(input, output_size)
    return _max("adaptive_max_pool", "adaptive_max_pool1d", 1, input, {"output_size": output_size}, return_indices)


def adaptive_max_pool2d(input, output_size, return_indices=False):
    """Maximum over windows that cut ``(N, C, H, W)`` into ``output_size`` parts, as :func:`adaptive_avg_pool2d` does.

    With ``return_indices`` also each winner's row-major position in its image, int64.
    """
    if return_indices is False:
        return _adaptive_max_pool2d(input, output_size)
    return _max("adaptive_max_pool", "adaptive_max_pool2d", 2, input, {"output_size": output_size}, return_indices)


def adaptive_max_pool3d(input, output_size, return_indices=False):
    """Maximum over windows that cut ``(N, C, D, H, W)`` into ``output_size`` parts; see :func:`adaptive_max_pool2d`."""
    if return_indices is False:
        return _adaptive_max_pool3d(input, output_size)
    return _max("adaptive_max_pool", "adaptive_max_pool3d", 3, input, {"output_size": output_size}, return_indices)


def adaptive_max_pool1d_backward(grad_output, input, output_size):
    """Gradient of :func:`adaptive_max_pool1d` with respect to its input."""
    return _adaptive_max_pool1d_backward(input, grad_output, output_size)


def adaptive_max_pool2d_backward(grad_output, input, output_size):
    """Gradient of :func:`adaptive_max_pool2d` with respect to its input."""
    return _adaptive_max_pool2d_backward(input, grad_output, output_size)


def adaptive_max_pool3d_backward(grad_output, input, output_size):
    """Gradient of :func:`adaptive_max_pool3d` with respect to its input."""
    return _adaptive_max_pool3d_backward(input, grad_output, output_size)


# ---- always with indices, under the names that PyTorch has for them -------------------------------------------------------


def max_pool1d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=True):
    """:func:`max_pool1d` with ``return_indices=True``."""
    return max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=True):
    """:func:`max_pool2d` with ``return_indices=True``."""
    return max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=True):
    """:func:`max_pool3d` with ``return_indices=True``."""
    return max_pool3d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def adaptive_max_pool1d_with_indices(input, output_size, return_indices=True):
    """:func:`adaptive_max_pool1d` with ``return_indices=True``."""
    return adaptive_max_pool1d(input, output_size, True)


def adaptive_max_pool2d_with_indices(input, output_size, return_indices=True):
    """:func:`adaptive_max_pool2d` with ``return_indices=True``."""
    return adaptive_max_pool2d(input, output_size, True)


def adaptive_max_pool3d_with_indices(input, output_size, return_indices=True):
    """:func:`adaptive_max_pool3d` with ``return_indices=True``."""
    return adaptive_max_pool3d(input, output_size, True)
