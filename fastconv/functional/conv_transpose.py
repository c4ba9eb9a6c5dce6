"""Transposed convolution and its backward passes."""

from __future__ import annotations

from fastconv.functional.conv import declared, sums

GEOMETRY = ("stride", "padding", "output_padding", "groups", "dilation", "algorithm", "precision")

_forward1d, _forward2d, _forward3d = declared("conv_transpose", "", ("input", "weight", "bias"), GEOMETRY)
_backward_data1d, _backward_data2d, _backward_data3d = declared(
    "conv_transpose", "_backward_data", ("grad_output", "weight"), GEOMETRY, "input_shape")
_backward_weight1d, _backward_weight2d, _backward_weight3d = declared(
    "conv_transpose", "_backward_weight", ("input", "grad_output"), GEOMETRY, "weight_shape")
_backward_bias1d, _backward_bias2d, _backward_bias3d = sums("conv_transpose")


def conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *,
                     algorithm=None, precision=None):
    """Transposed convolution of ``(N, C, L)`` with ``(C, K / groups, R)``; see :func:`conv_transpose2d`."""
    return _forward1d(input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm,
                    precision)


def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *,
                     algorithm=None, precision=None):
    """Transposed convolution of ``(N, C, H, W)`` with ``(C, K / groups, R, S)``, as ``torch.nn.functional``'s.

    The adjoint of :func:`conv2d`: with the same weight and arguments it maps that function's output shape to its input
    shape. (V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016, chapter 4.)

    Parameters
    ----------
    input : array, shape (N, C, H, W), float32
    weight : array, shape (C, K / groups, R, S), float32
    bias : array, shape (K,), float32, optional
    stride, dilation : int or sequence of int, default 1
        One value for all spatial dimensions or one for each: how far apart pixels of the input, and taps, land.
    padding : int, sequence of int, sequence of (front, back) pairs, default 0
        How many pixels of the output's border are left out.
    output_padding : int or sequence of int, default 0
        How many pixels the output is longer at its end; smaller than the stride or the dilation. Several sizes of a
        convolution's input lead to one size of its output: this says which is meant.
    groups : int, default 1
    algorithm : str, optional
        One that applies to the convolution's backward to data; default: the fastest that keeps the precision, by a cost
        model.
    precision : {"highest", "high", "medium"}, optional
        The promise of accuracy, as for :func:`fastconv.compile`; default "highest".

    Returns
    -------
    ndarray, shape (N, K, P, Q), float32
        With ``P = (H - 1) * stride - front - back + dilation * (R - 1) + output_padding + 1``, likewise Q.

    Raises
    ------
    TypeError, ValueError
        For a wrong dtype, rank, channel count or argument, naming it and its value; before anything has run.
    MemoryError
        When the problem needs more memory than there is.
    """
    return _forward2d(input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm,
                    precision)


def conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *,
                     algorithm=None, precision=None):
    """Transposed convolution of ``(N, C, D, H, W)`` with ``(C, K / groups, T, R, S)``; see :func:`conv_transpose2d`."""
    return _forward3d(input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm,
                    precision)


def conv_transpose1d_backward_data(grad_output, weight, input_shape, stride=1, padding=0, output_padding=0, groups=1,
                                   dilation=1, *, algorithm=None, precision=None):
    """Gradient of :func:`conv_transpose1d` with respect to its input; see :func:`conv_transpose2d_backward_data`."""
    return _backward_data1d(grad_output, weight, input_shape, stride, padding, output_padding, groups, dilation, algorithm,
                          precision)


def conv_transpose2d_backward_data(grad_output, weight, input_shape, stride=1, padding=0, output_padding=0, groups=1,
                                   dilation=1, *, algorithm=None, precision=None):
    """Gradient of :func:`conv_transpose2d` with respect to its input: a convolution of ``grad_output``.

    Parameters
    ----------
    grad_output : array, shape (N, K, P, Q), float32
        Gradient with respect to the output.
    weight : array, shape (C, K / groups, R, S), float32
    input_shape : tuple of int
        ``(N, C, H, W)``.
    stride, padding, output_padding, groups, dilation, algorithm, precision
        As for :func:`conv_transpose2d`.

    Returns
    -------
    ndarray, shape ``input_shape``, float32
    """
    return _backward_data2d(grad_output, weight, input_shape, stride, padding, output_padding, groups, dilation, algorithm,
                          precision)


def conv_transpose3d_backward_data(grad_output, weight, input_shape, stride=1, padding=0, output_padding=0, groups=1,
                                   dilation=1, *, algorithm=None, precision=None):
    """Gradient of :func:`conv_transpose3d` with respect to its input; see :func:`conv_transpose2d_backward_data`."""
    return _backward_data3d(grad_output, weight, input_shape, stride, padding, output_padding, groups, dilation, algorithm,
                          precision)


def conv_transpose1d_backward_weight(grad_output, input, weight_shape, stride=1, padding=0, output_padding=0, groups=1,
                                     dilation=1, *, algorithm=None, precision=None):
    """Gradient of :func:`conv_transpose1d` with respect to its weight; see :func:`conv_transpose2d_backward_weight`."""
    return _backward_weight1d(input, grad_output, weight_shape, stride, padding, output_padding, groups, dilation,
                            algorithm, precision)


def conv_transpose2d_backward_weight(grad_output, input, weight_shape, stride=1, padding=0, output_padding=0, groups=1,
                                     dilation=1, *, algorithm=None, precision=None):
    """Gradient of :func:`conv_transpose2d` with respect to its weight.

    Parameters
    ----------
    grad_output : array, shape (N, K, P, Q), float32
        Gradient with respect to the output.
    input : array, shape (N, C, H, W), float32
    weight_shape : tuple of int
        ``(C, K / groups, R, S)``.
    stride, padding, output_padding, groups, dilation, algorithm, precision
        As for :func:`conv_transpose2d`.

    Returns
    -------
    ndarray, shape ``weight_shape``, float32
        Zeros for an empty batch.
    """
    return _backward_weight2d(input, grad_output, weight_shape, stride, padding, output_padding, groups, dilation,
                            algorithm, precision)


def conv_transpose3d_backward_weight(grad_output, input, weight_shape, stride=1, padding=0, output_padding=0, groups=1,
                                     dilation=1, *, algorithm=None, precision=None):
    """Gradient of :func:`conv_transpose3d` with respect to its weight; see :func:`conv_transpose2d_backward_weight`."""
    return _backward_weight3d(input, grad_output, weight_shape, stride, padding, output_padding, groups, dilation,
                            algorithm, precision)


def conv_transpose1d_backward_bias(grad_output):
    """Gradient of :func:`conv_transpose1d` with respect to its bias: the sum over images and positions, shape (K,)."""
    return _backward_bias1d(grad_output)


def conv_transpose2d_backward_bias(grad_output):
    """Gradient of :func:`conv_transpose2d` with respect to its bias: the sum over images and pixels, shape (K,)."""
    return _backward_bias2d(grad_output)


def conv_transpose3d_backward_bias(grad_output):
    """Gradient of :func:`conv_transpose3d` with respect to its bias: the sum over images and voxels, shape (K,)."""
    return _backward_bias3d(grad_output)
