"""Losses and their backward passes."""

from __future__ import annotations

from numbers import Real

import numpy as np

from fastconv._values import plain
from fastconv.functional._call import activation, call, define, flat, gradient
from fastconv.graph.arrays import as_float32, as_int64
from fastconv.graph.eager import Argument
from fastconv.graph.ir import FLAT, PIXELS, Tensor

_mse_loss = define("mse_loss", "mse_loss", activation("input"), activation("target"), attrs=("reduction",))


def cross_entropy(input, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """Cross entropy of logits against class indices or probabilities, as PyTorch's.

    Parameters
    ----------
    input : array, shape (N, C, ...), float32
        Logits.
    target : array, shape (N, ...), of any integer dtype, or of the shape of ``input``, float32
        Class indices, converted to int64; or a probability for each class ("soft labels").
    weight : array, shape (C,), float32, optional
        One factor per class; "mean" divides by the sum of the targets' factors, with probabilities by their number.
    ignore_index : int, default -100
        A class whose positions do not count.
    reduction : {"mean", "sum", "none"}, default "mean"
    label_smoothing : float, default 0.0
        Share of the target that is spread evenly over the classes.

    Returns
    -------
    ndarray, float32
        A scalar array, or (N, ...) with ``reduction="none"``.

    Raises
    ------
    TypeError, ValueError
        Also for a class index out of range, naming the index, where it is and the number of classes.
    """
    if not isinstance(input, Tensor):
        target = _checked("cross_entropy", input, target, plain(ignore_index))
    return call("cross_entropy", "cross_entropy", *_logits(input, target, weight), ignore_index=ignore_index,
                reduction=reduction, label_smoothing=label_smoothing)


def cross_entropy_backward(grad_output, input, target, weight=None, *, ignore_index=-100, reduction="mean",
                           label_smoothing=0.0):
    """Gradient of :func:`cross_entropy` with respect to ``input``; ``grad_output`` has the shape of the loss."""
    target = _checked("cross_entropy_backward", input, target, plain(ignore_index))
    return gradient("cross_entropy", "cross_entropy_backward", _scalar(grad_output), *_logits(input, target, weight),
                    layout=PIXELS if reduction == "none" else FLAT, ignore_index=ignore_index, reduction=reduction,
                    label_smoothing=label_smoothing)


def mse_loss(input, target, *, reduction="mean"):
    """Squared error ``(input - target)**2``, of arrays of one shape.

    ``reduction`` is "mean" (over all elements), "sum" or "none"; the first two give a scalar array.
    """
    return _mse_loss(input, target, reduction)


def mse_loss_backward(grad_output, input, target, *, reduction="mean"):
    """Gradient of :func:`mse_loss` with respect to ``input``; that of ``target`` is its negative."""
    return gradient("mse_loss", "mse_loss_backward", _scalar(grad_output), activation("input", input),
                    activation("target", target), layout=PIXELS if reduction == "none" else FLAT, reduction=reduction)


def _logits(input, target, weight) -> tuple:
    dtype = "float32" if target.dtype == np.float32 else "int64"
    return activation("input", input), Argument("target", target, PIXELS, dtype), flat("weight", weight, 1, True)


def _scalar(grad_output):
    """A number stands for a scalar array."""
    return np.float32(grad_output) if isinstance(grad_output, Real) else grad_output


def _checked(op: str, input, target, ignore_index) -> np.ndarray:
    """Targets as int64, each a class or ``ignore_index``; or probabilities."""
    if getattr(target, "dtype", None) == np.float32:
        return as_float32(op, "target", target)
    target = as_int64(op, "target", target)
    shape = np.shape(input)
    if len(shape) > 1:
        bad = ((target < 0) | (target >= shape[1])) & (target != ignore_index)
        if bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(f"{op}: target[{', '.join(map(str, at))}]={target[at]} is not a class index: input of shape "
                             f"{tuple(shape)} has {shape[1]} classes, 0..{shape[1] - 1}, and ignore_index={ignore_index}")
    return target
