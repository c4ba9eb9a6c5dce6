"""Convolution and Linear, and their backward passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastconv.functional._call import activation, define, flat, shape_like, shape_of
from fastconv.functional.matmul import linear_any

GEOMETRY = ("stride", "padding", "dilation", "groups", "algorithm", "precision")
DIMS = (1, 2, 3)


def given(shown: str, attrs: dict) -> dict:
    """Without an algorithm and a precision that nobody asked for."""
    return {name: value for name, value in attrs.items() if value is not None or name not in ("algorithm", "precision")}


def shaped(name: str, ndim: int):
    """Checks a shape argument besides."""
    return lambda shown, attrs: given(shown, {**attrs, name: shape_like(shown, name, attrs[name], ndim)})


def declared(op: str, ending: str, arrays: Sequence[str], geometry: Sequence[str], shape: str = "") -> Iterator[Any]:
    """An operator for each number of dimensions, by the names of its arrays and of its attributes."""
    for d in DIMS:
        made = {"weight": flat("weight", ndim=d + 2), "bias": flat("bias", ndim=1, optional=True)}
        yield define(op + ending, f"{op}{d}d{ending}", *(made.get(name) or activation(name, ndim=d + 2) for name in arrays),
                     attrs=(shape, *geometry) if shape else geometry, check=shaped(shape, d + 2) if shape else given,
                     unbatched=not ending)


def sums(op: str) -> Iterator[Any]:
    """Gradients with respect to the bias."""
    return (define("channel_sum", f"{op}{d}d_backward_bias", activation("grad_output", ndim=d + 2)) for d in DIMS)


_conv1d, _conv2d, _conv3d = declared("conv", "", ("input", "weight", "bias"), GEOMETRY)
_conv1d_backward_data, _conv2d_backward_data, _conv3d_backward_data = declared(
    "conv", "_backward_data", ("grad_output", "weight"), GEOMETRY, "input_shape")
_conv1d_backward_weight, _conv2d_backward_weight, _conv3d_backward_weight = declared(
    "conv", "_backward_weight", ("grad_output", "input"), GEOMETRY, "weight_shape")
_conv1d_backward_bias, _conv2d_backward_bias, _conv3d_backward_bias = sums("conv")
_linear = define("linear", "linear", activation("input"), flat("weight", ndim=2), flat("bias", ndim=1, optional=True))
_linear_backward_data = define("linear_backward_data", "linear_backward_data", activation("grad_output", ndim=2),
                               flat("weight", ndim=2), attrs=("input_shape",))
_linear_backward_weight = define("linear_backward_weight", "linear_backward_weight", activation("grad_output", ndim=2),
                                 activation("input", ndim=2))
_linear_backward_bias = define("channel_sum", "linear_backward_bias", activation("grad_output", ndim=2))


def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, algorithm=None, precision=None):
    """Convolution of ``(N, C, L)`` with ``(K, C / groups, R)``; see :func:`conv2d`."""
    return _conv1d(input, weight, bias, stride, padding, dilation, groups, algorithm, precision)


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, algorithm=None, precision=None):
    """Convolution (cross-correlation) of ``(N, C, H, W)`` with ``(K, C / groups, R, S)``.

    Parameters
    ----------
    input : array, shape (N, C, H, W), float32
    weight : array, shape (K, C / groups, R, S), float32
    bias : array, shape (K,), float32, optional
    stride, dilation : int or sequence of int, default 1
        One value for all spatial dimensions or one for each.
    padding : int, sequence of int, sequence of (front, back) pairs, "valid" or "same", default 0
        Zeros around the input.
    groups : int, default 1
    algorithm : str, optional
        "direct", "winograd", "fft", "pointwise", "depthwise", "depthwise_rows", "im2col"...: one that applies to this
        problem; default: the fastest that keeps the precision, by a cost model.
    precision : {"highest", "high", "medium"}, optional
        The promise of accuracy, as for :func:`fastconv.compile`; default "highest".

    Returns
    -------
    ndarray, shape (N, K, P, Q), float32
        With ``P = (H + front + back - dilation * (R - 1) - 1) // stride + 1``, likewise Q.

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype, rank, channel count or argument, naming it and its value; before anything has run.
    MemoryError
        When the problem needs more memory than there is.
    """
    return _conv2d(input, weight, bias, stride, padding, dilation, groups, algorithm, precision)


def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, algorithm=None, precision=None):
    """Convolution of ``(N, C, D, H, W)`` with ``(K, C / groups, T, R, S)``; see :func:`conv2d`."""
    return _conv3d(input, weight, bias, stride, padding, dilation, groups, algorithm, precision)


def conv1d_backward_data(grad_output, weight, input_shape, stride=1, padding=0, dilation=1, groups=1,
                         *, algorithm=None, precision=None):
    """Gradient of :func:`conv1d` with respect to its input; see :func:`conv2d_backward_data`."""
    return _conv1d_backward_data(grad_output, weight, input_shape, stride, padding, dilation, groups, algorithm, precision)


def conv2d_backward_data(grad_output, weight, input_shape, stride=1, padding=0, dilation=1, groups=1,
                         *, algorithm=None, precision=None):
    """Gradient of :func:`conv2d` with respect to its input.

    Parameters
    ----------
    grad_output : array, shape (N, K, P, Q), float32
        Gradient with respect to the output.
    weight : array, shape (K, C / groups, R, S), float32
    input_shape : tuple of int
        ``(N, C, H, W)``: several input sizes lead to the same output size.
    stride, padding, dilation, groups, algorithm, precision
        As for :func:`conv2d`.

    Returns
    -------
    ndarray, shape ``input_shape``, float32
    """
    return _conv2d_backward_data(grad_output, weight, input_shape, stride, padding, dilation, groups, algorithm, precision)


def conv3d_backward_data(grad_output, weight, input_shape, stride=1, padding=0, dilation=1, groups=1,
                         *, algorithm=None, precision=None):
    """Gradient of :func:`conv3d` with respect to its input; see :func:`conv2d_backward_data`."""
    return _conv3d_backward_data(grad_output, weight, input_shape, stride, padding, dilation, groups, algorithm, precision)


def conv1d_backward_weight(grad_output, input, weight_shape, stride=1, padding=0, dilation=1, groups=1,
                           *, algorithm=None, precision=None):
    """Gradient of :func:`conv1d` with respect to its weight; see :func:`conv2d_backward_weight`."""
    return _conv1d_backward_weight(grad_output, input, weight_shape, stride, padding, dilation, groups, algorithm, precision)


def conv2d_backward_weight(grad_output, input, weight_shape, stride=1, padding=0, dilation=1, groups=1,
                           *, algorithm=None, precision=None):
    """Gradient of :func:`conv2d` with respect to its weight.

    Parameters
    ----------
    grad_output : array, shape (N, K, P, Q), float32
        Gradient with respect to the output.
    input : array, shape (N, C, H, W), float32
    weight_shape : tuple of int
        ``(K, C / groups, R, S)``: several kernel sizes lead to the same output size.
    stride, padding, dilation, groups, algorithm, precision
        As for :func:`conv2d`.

    Returns
    -------
    ndarray, shape ``weight_shape``, float32
        Zeros for an empty batch.
    """
    return _conv2d_backward_weight(grad_output, input, weight_shape, stride, padding, dilation, groups, algorithm, precision)


def conv3d_backward_weight(grad_output, input, weight_shape, stride=1, padding=0, dilation=1, groups=1,
                           *, algorithm=None, precision=None):
    """Gradient of :func:`conv3d` with respect to its weight; see :func:`conv2d_backward_weight`."""
    return _conv3d_backward_weight(grad_output, input, weight_shape, stride, padding, dilation, groups, algorithm, precision)


def conv1d_backward_bias(grad_output):
    """Gradient of :func:`conv1d` with respect to its bias: the sum over images and positions, shape (K,)."""
    return _conv1d_backward_bias(grad_output)


def conv2d_backward_bias(grad_output):
    """Gradient of :func:`conv2d` with respect to its bias: the sum over images and pixels, shape (K,)."""
    return _conv2d_backward_bias(grad_output)


def conv3d_backward_bias(grad_output):
    """Gradient of :func:`conv3d` with respect to its bias: the sum over images and voxels, shape (K,)."""
    return _conv3d_backward_bias(grad_output)


def linear(input, weight, bias=None):
    """``input @ weight.T + bias``.

    Parameters
    ----------
    input : array, shape (..., in_features), float32
    weight : array, shape (out_features, in_features), float32
    bias : array, shape (out_features,), float32, optional

    Returns
    -------
    ndarray, shape (..., out_features), float32
    """
    if getattr(input, "ndim", 2) == 2 and getattr(weight, "ndim", 2) == 2:
        return _linear(input, weight, bias)
    return linear_any(input, weight, bias)


def linear_backward_data(grad_output, weight):
    """Gradient of :func:`linear` with respect to its input: ``grad_output @ weight``, shape (N, in_features)."""
    shape = shape_of("linear_backward_data", activation("grad_output", grad_output, 2))
    features = shape_of("linear_backward_data", flat("weight", weight, 2))
    return _linear_backward_data(grad_output, weight, (shape[0], features[1]))


def linear_backward_weight(grad_output, input):
    """Gradient of :func:`linear` with respect to its weight: ``grad_output.T @ input``, (out_features, in_features)."""
    return _linear_backward_weight(grad_output, input)


def linear_backward_bias(grad_output):
    """Gradient of :func:`linear` with respect to its bias: the sum over the batch, shape (out_features,)."""
    return _linear_backward_bias(grad_output)
