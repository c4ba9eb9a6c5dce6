"""Batch normalisation (Ioffe and Szegedy, 2015) and its backward pass."""

from __future__ import annotations

import numpy as np

from fastconv.functional._call import activation, call, define, define_gradient, flag, flat
from fastconv.graph.arrays import as_float32, overlap
from fastconv.graph.ir import Tensor
from fastconv.kernels.layout import distinct

PARAMETERS = (activation("input"), *(flat(name, ndim=1, optional=True)
                                     for name in ("weight", "bias", "running_mean", "running_var")))
_batch_norm = define("batch_norm", "batch_norm", *PARAMETERS, attrs=("training", "momentum", "eps"))
_batch_norm_backward = define_gradient("batch_norm", "batch_norm_backward", activation("grad_output"), *PARAMETERS,
                                       attrs=("training", "eps"), wanted=(0, 1, 2))


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalises each channel: ``(x - mean) / sqrt(var + eps) * weight + bias``.

    Parameters
    ----------
    input : array, of 2 to 5 dimensions (N, C, ...), float32
    running_mean, running_var : array, shape (C,), float32, or None
        The statistics used when ``training`` is False. In training those of the batch are used, and these are updated in
        place: ``(1 - momentum) * running + momentum * batch``, with the batch's unbiased variance. None for both: those of
        the batch are used in either case.
    weight, bias : array, shape (C,), float32, optional
    training : bool, default False
    momentum : float, default 0.1
    eps : float, default 1e-5

    Returns
    -------
    ndarray, shape of ``input``, float32

    Raises
    ------
    TypeError, ValueError
        Also for running statistics that are to be updated and cannot be, and for training with one value per channel.
    """
    if training is False:
        return _batch_norm(input, weight, bias, running_mean, running_var, False, momentum, eps)
    flag("batch_norm", "training", training)
    updates: tuple[int, ...] = ()
    if training and not isinstance(input, Tensor) and running_mean is not None and running_var is not None:
        updates = (3, 4)
        for name, array in (("running_mean", running_mean), ("running_var", running_var)):
            if as_float32("batch_norm", name, array) is not array or not array.flags.writeable:
                raise ValueError(f"batch_norm: {name} is read-only or not an aligned array: training updates it in place")
            if not distinct(array):
                raise ValueError(f"batch_norm: {name} of strides {array.strides} has elements that share memory: training "
                                 "updates it in place")
        if overlap(running_mean, running_var):
            raise ValueError("batch_norm: running_mean and running_var share memory: training updates both")
    values = input, weight, bias, running_mean, running_var
    arguments = [p._replace(value=v) for p, v in zip(PARAMETERS, values, strict=True)]
    return call("batch_norm", "batch_norm", *arguments, updates=updates, training=bool(training), momentum=momentum, eps=eps)


def batch_norm_backward(grad_output, input, running_mean, running_var, weight=None, training=False, eps=1e-5):
    """Gradients of :func:`batch_norm`: ``(grad_input, grad_weight, grad_bias)``.

    In training the mean and variance of the batch are functions of the input and are differentiated through; the running
    statistics are then neither used nor changed.
    """
    flag("batch_norm_backward", "training", training)
    x = as_float32("batch_norm_backward", "input", input)
    channels = x.shape[1] if x.ndim > 1 else 1
    if training:
        running_mean = running_var = None
    weight = np.ones(channels, np.float32) if weight is None else weight
    return _batch_norm_backward(x, weight, np.zeros(channels, np.float32), running_mean, running_var, grad_output,
                                bool(training), eps)
