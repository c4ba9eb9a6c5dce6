"""Transposed convolution and its backward passes."""

from __future__ import annotations

from fastconv.functional._call import activation, call, flat, shape_like


def _attrs(stride, padding, output_padding, groups, dilation, algorithm, precision) -> dict:
    attrs = {"stride": stride, "padding": padding, "output_padding": output_padding, "groups": groups,
             "dilation": dilation}
    attrs.update({} if algorithm is None else {"algorithm": algorithm})
    attrs.update({} if precision is None else {"precision": precision})
    return attrs


def _forward(dims, input, weight, bias, *geometry):
    return call("conv_transpose", f"conv_transpose{dims}d", activation("input", input, dims + 2),
                flat("weight", weight, dims + 2), flat("bias", bias, 1, optional=True), **_attrs(*geometry))


def _backward_data(dims, grad_output, weight, input_shape, *geometry):
    name = f"conv_transpose{dims}d_backward_data"
    return call("conv_transpose_backward_data", name, activation("grad_output", grad_output, dims + 2),
                flat("weight", weight, dims + 2), input_shape=shape_like(name, "input_shape", input_shape, dims + 2),
                **_attrs(*geometry))


def _backward_weight(dims, grad_output, input, weight_shape, *geometry):
    name = f"conv_transpose{dims}d_backward_weight"
    return call("conv_transpose_backward_weight", name, activation("input", input, dims + 2),
                activation("grad_output", grad_output, dims + 2),
                weight_shape=shape_like(name, "weight_shape", weight_shape, dims + 2), **_attrs(*geometry))


def _backward_bias(dims, grad_output):
    return call("channel_sum", f"conv_transpose{dims}d_backward_bias", activation("grad_output", grad_output, dims + 2))


def conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *,
                     algorithm=None, precision=None):
    """Transposed convolution of ``(N, C, L)`` with ``(C, K / groups, R)``; see :func:`conv_transpose2d`."""
    return _forward(1, input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm,
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
    return _forward(2, input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm,
                    precision)


def conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *,
                     algorithm=None, precision=None):
    """Transposed convolution of ``(N, C, D, H, W)`` with ``(C, K / groups, T, R, S)``; see :func:`conv_transpose2d`."""
    return _forward(3, input, weight, bias, stride, padding, output_padding, groups, dilation, algorithm,
                    precision)


def conv_transpose1d_backward_data(grad_output, weight, input_shape, stride=1, padding=0, output_padding=0, groups=1,
                                   dilation=1, *, algorithm=None, precision=None):
    """Gradient of :func:`conv_transpose1d` with respect to its input; see :func:`conv_transpose2d_backward_data`."""
    return _backward_data(1, grad_output, weight, input_shape, stride, padding, output_padding, groups, dilation, algorithm,
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
    return _backward_data(2, grad_output, weight, input_shape, stride, padding, output_padding, groups, dilation, algorithm,
                          precision)


def conv_transpose3d_backward_data(grad_output, weight, input_shape, stride=1, padding=0, output_padding=0, groups=1,
                                   dilation=1, *, algorithm=None, precision=None):
    """Gradient of :func:`conv_transpose3d` with respect to its input; see :func:`conv_transpose2d_backward_data`."""
    return _backward_data(3, grad_output, weight, input_shape, stride, padding, output_padding, groups, dilation, algorithm,
                          precision)


def conv_transpose1d_backward_weight(grad_output, input, weight_shape, stride=1, padding=0, output_padding=0, groups=1,
                                     dilation=1, *, algorithm=None, precision=None):
    """Gradient of :func:`conv_transpose1d` with respect to its weight; see :func:`conv_transpose2d_backward_weight`."""
    return _backward_weight(1, grad_output, input, weight_shape, stride, padding, output_padding, groups, dilation,
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
    return _backward_weight(2, grad_output, input, weight_shape, stride, padding, output_padding, groups, dilation,
                            algorithm, precision)


def conv_transpose3d_backward_weight(grad_output, input, weight_shape, stride=1, padding=0, output_padding=0, groups=1,
                                     dilation=1, *, algorithm=None, precision=None):
    """Gradient of :func:`conv_transpose3d` with respect to its weight; see :func:`conv_transpose2d_backward_weight`."""
    return _backward_weight(3, grad_output, input, weight_shape, stride, padding, output_padding, groups, dilation,
                            algorithm, precision)


def conv_transpose1d_backward_bias(grad_output):
    """Gradient of :func:`conv_transpose1d` with respect to its bias: the sum over images and positions, shape (K,)."""
    return _backward_bias(1, grad_output)


def conv_transpose2d_backward_bias(grad_output):
    """Gradient of :func:`conv_transpose2d` with respect to its bias: the sum over images and pixels, shape (K,)."""
    return _backward_bias(2, grad_output)


def conv_transpose3d_backward_bias(grad_output):
    """Gradient of :func:`conv_transpose3d` with respect to its bias: the sum over images and voxels, shape (K,)."""
    return _backward_bias(3, grad_output)
