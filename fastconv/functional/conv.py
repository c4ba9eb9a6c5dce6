"""Convolution and Linear, and their backward passes."""

from __future__ import annotations

from typing import Any

from fastconv.functional._call import activation, call, flat, shape_like


def _attrs(stride, padding, dilation, groups, algorithm, precision) -> dict:
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if algorithm is not None:
        attrs["algorithm"] = algorithm
    if precision is not None:
        attrs["precision"] = precision
    return attrs


def _conv(dims, input, weight, bias, stride, padding, dilation, groups, algorithm, precision):
    return call("conv", f"conv{dims}d", activation("input", input, dims + 2), flat("weight", weight, dims + 2),
                flat("bias", bias, 1, optional=True), **_attrs(stride, padding, dilation, groups, algorithm, precision))


def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, algorithm=None, precision=None):
    """Convolution of ``(N, C, L)`` with ``(K, C / groups, R)``; see :func:`conv2d`."""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups, algorithm, precision)


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
        "direct", "winograd", "fft", "pointwise", "depthwise", "im2col"...: one that applies to this problem; default: the
        fastest that keeps the precision, by a cost model.
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
    return _conv(2, input, weight, bias, stride, padding, dilation, groups, algorithm, precision)


def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, *, algorithm=None, precision=None):
    """Convolution of ``(N, C, D, H, W)`` with ``(K, C / groups, T, R, S)``; see :func:`conv2d`."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups, algorithm, precision)


def _backward_data(dims, grad_output, weight, input_shape, stride, padding, dilation, groups, algorithm, precision):
    name = f"conv{dims}d_backward_data"
    return call("conv_backward_data", name, activation("grad_output", grad_output, dims + 2),
                flat("weight", weight, dims + 2), input_shape=shape_like(name, "input_shape", input_shape, dims + 2),
                **_attrs(stride, padding, dilation, groups, algorithm, precision))


def conv1d_backward_data(grad_output, weight, input_shape, stride=1, padding=0, dilation=1, groups=1,
                         *, algorithm=None, precision=None):
    """Gradient of :func:`conv1d` with respect to its input; see :func:`conv2d_backward_data`."""
    return _backward_data(1, grad_output, weight, input_shape, stride, padding, dilation, groups, algorithm, precision)


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
    return _backward_data(2, grad_output, weight, input_shape, stride, padding, dilation, groups, algorithm, precision)


def conv3d_backward_data(grad_output, weight, input_shape, stride=1, padding=0, dilation=1, groups=1,
                         *, algorithm=None, precision=None):
    """Gradient of :func:`conv3d` with respect to its input; see :func:`conv2d_backward_data`."""
    return _backward_data(3, grad_output, weight, input_shape, stride, padding, dilation, groups, algorithm, precision)


def _backward_weight(dims, grad_output, input, weight_shape, stride, padding, dilation, groups, algorithm, precision):
    name = f"conv{dims}d_backward_weight"
    return call("conv_backward_weight", name, activation("grad_output", grad_output, dims + 2),
                activation("input", input, dims + 2), weight_shape=shape_like(name, "weight_shape", weight_shape, dims + 2),
                **_attrs(stride, padding, dilation, groups, algorithm, precision))


def conv1d_backward_weight(grad_output, input, weight_shape, stride=1, padding=0, dilation=1, groups=1,
                           *, algorithm=None, precision=None):
    """Gradient of :func:`conv1d` with respect to its weight; see :func:`conv2d_backward_weight`."""
    return _backward_weight(1, grad_output, input, weight_shape, stride, padding, dilation, groups, algorithm, precision)


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
    return _backward_weight(2, grad_output, input, weight_shape, stride, padding, dilation, groups, algorithm, precision)


def conv3d_backward_weight(grad_output, input, weight_shape, stride=1, padding=0, dilation=1, groups=1,
                           *, algorithm=None, precision=None):
    """Gradient of :func:`conv3d` with respect to its weight; see :func:`conv2d_backward_weight`."""
    return _backward_weight(3, grad_output, input, weight_shape, stride, padding, dilation, groups, algorithm, precision)


def conv1d_backward_bias(grad_output):
    """Gradient of :func:`conv1d` with respect to its bias: the sum over images and positions, shape (K,)."""
    return call("channel_sum", "conv1d_backward_bias", activation("grad_output", grad_output, 3))


def conv2d_backward_bias(grad_output):
    """Gradient of :func:`conv2d` with respect to its bias: the sum over images and pixels, shape (K,)."""
    return call("channel_sum", "conv2d_backward_bias", activation("grad_output", grad_output, 4))


def conv3d_backward_bias(grad_output):
    """Gradient of :func:`conv3d` with respect to its bias: the sum over images and voxels, shape (K,)."""
    return call("channel_sum", "conv3d_backward_bias", activation("grad_output", grad_output, 5))


def linear(input, weight, bias=None):
    """``input @ weight.T + bias``.

    Parameters
    ----------
    input : array, shape (N, in_features), float32
    weight : array, shape (out_features, in_features), float32
    bias : array, shape (out_features,), float32, optional

    Returns
    -------
    ndarray, shape (N, out_features), float32
    """
    return call("linear", "linear", activation("input", input), flat("weight", weight, 2),
                flat("bias", bias, 1, optional=True))


def linear_backward_data(grad_output, weight):
    """Gradient of :func:`linear` with respect to its input: ``grad_output @ weight``, shape (N, in_features)."""
    shape: Any = getattr(grad_output, "shape", None) or memoryview(grad_output).shape
    features: Any = getattr(weight, "shape", None) or memoryview(weight).shape
    return call("linear_backward_data", "linear_backward_data", activation("grad_output", grad_output, 2),
                flat("weight", weight, 2), input_shape=(shape[0], features[-1]))


def linear_backward_weight(grad_output, input):
    """Gradient of :func:`linear` with respect to its weight: ``grad_output.T @ input``, (out_features, in_features)."""
    return call("linear_backward_weight", "linear_backward_weight", activation("grad_output", grad_output, 2),
                activation("input", input, 2))


def linear_backward_bias(grad_output):
    """Gradient of :func:`linear` with respect to its bias: the sum over the batch, shape (out_features,)."""
    return call("channel_sum", "linear_backward_bias", activation("grad_output", grad_output, 2))
