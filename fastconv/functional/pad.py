"""Padding and its gradient."""

from __future__ import annotations

from fastconv.functional._call import activation, define, shape_like, shape_of
from fastconv.graph.ir import Tensor

_pad = define("pad", "pad", activation("input"), attrs=("pad", "mode", "value"))
_pad_backward = define("pad_backward", "pad_backward", activation("grad_output"), attrs=("input_shape", "pad", "mode"))


def pad(input, pad, mode="constant", value=None):
    """Makes dimensions longer or, with negative numbers, shorter; as ``torch.nn.functional.pad``.

    Parameters
    ----------
    input : array, shape (N, C, ...), float32
        For "constant", of 1 to 5 dimensions.
    pad : sequence of int
        (front, back) of the last dimension, then of the one before, and so on. "constant" takes any number of dimensions
        (symbolic tensors: all but the batch), the other modes exactly the spatial ones.
    mode : {"constant", "reflect", "replicate", "circular"}, default "constant"
        "reflect" mirrors without repeating the edge, and needs less padding than there are elements; "replicate" repeats
        the edge; "circular" goes on at the other end, with at most as much padding as there are elements.
    value : float, optional
        What "constant" fills in; default 0.

    Returns
    -------
    ndarray, float32

    Raises
    ------
    TypeError, ValueError
        For arguments that do not go together, naming them and the rule.
    """
    everything = isinstance(pad, (tuple, list)) and not isinstance(input, Tensor) and mode == "constant"
    if everything and len(pad) == 2 * getattr(input, "ndim", 0) and 1 <= input.ndim <= 4 and any(pad[-2:]):
        if len(input):  # the batch of an array is a dimension like any other
            return _pad(input[None], pad, mode, value)[0]
    return _pad(input, pad, mode, value)


def pad_backward(grad_output, input_shape, pad, mode="constant"):
    """Gradient of :func:`pad`: each element of the input sums over the places that it went to.

    Parameters
    ----------
    grad_output : array, float32
        Gradient with respect to the output.
    input_shape : tuple of int
        The shape of the input; its batch is not padded.
    pad, mode
        As for :func:`pad`.

    Returns
    -------
    ndarray, shape ``input_shape``, float32
    """
    ndim = len(shape_of("pad_backward", activation("grad_output", grad_output)))
    shape = shape_like("pad_backward", "input_shape", input_shape, ndim)
    return _pad_backward(grad_output, shape, pad, mode)
