"""Losses and their backward passes."""

from __future__ import annotations

from numbers import Real

import numpy as np

from fastconv._values import plain
from fastconv.engine.eager import Argument
from fastconv.functional._call import activation, call, define, flat, gradient
from fastconv.functional.classes import entropy_of_any
from fastconv.functional.losses import chosen, mse_of_any
from fastconv.graph.arrays import as_float32, as_int64
from fastconv.graph.ir import FLAT, PIXELS, Tensor

_mse_loss = define("mse_loss", "mse_loss", activation("input"), activation("target"), attrs=("reduction",))


def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
                  label_smoothing=0.0):
    """Cross entropy of logits against class indices or probabilities, as PyTorch's.

    Parameters
    ----------
    input : array, shape (N, C, ...) or (C,), float32
        Logits.
    target : array, shape (N, ...) or (), of any integer dtype, or of the shape of ``input``, float32
        Class indices, converted to int64; or a probability for each class ("soft labels").
    weight : array, shape (C,), float32, optional
        One factor per class; "mean" divides by the sum of the targets' factors, with probabilities by their number.
    size_average, reduce : bool, optional
        What PyTorch had before ``reduction``.
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
    if size_average is not None or reduce is not None:
        reduction = chosen("cross_entropy", reduction, size_average, reduce)
    if not _has_kernel(input, target, (*_extents(input)[:1], *_extents(input)[2:])):
        return entropy_of_any(input, target, weight, None, ignore_index, None, reduction, label_smoothing)
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


def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """Squared error ``(input - target)**2``.

    Parameters
    ----------
    input, target : arrays of shapes that broadcast, float32
    size_average, reduce : bool, optional
        What PyTorch had before ``reduction``.
    reduction : {"mean", "sum", "none"}, default "mean"
        Over all elements; the first two give a scalar array.
    weight : array of the input's shape, optional
        Factors; the mean is divided by their sum.
    """
    if size_average is not None or reduce is not None:
        reduction = chosen("mse_loss", reduction, size_average, reduce)
    if weight is not None or not _has_kernel(input, target):
        return mse_of_any(input, target, None, None, reduction, weight)
    return _mse_loss(input, target, reduction)


def _extents(value) -> tuple[int, ...]:
    return value.type.shape if isinstance(value, Tensor) else tuple(getattr(value, "shape", ()))


def _has_kernel(input, target, classes: tuple[int, ...] | None = None) -> bool:
    """Whether the kernels of losses take these: activations and targets of their shape, or class indices of this one, which
    are checked as they come in. What is wrong in any case is theirs to say."""
    shape, other = _extents(input), _extents(target)
    if not 2 <= len(shape) <= 5 or not hasattr(target, "dtype"):
        return False
    if isinstance(input, Tensor) or isinstance(target, Tensor):
        if not isinstance(input, Tensor) or not isinstance(target, Tensor) or input.layout == FLAT or input.type.fixed:
            return False
        if target.dtype == "int64":
            return target.node is None and target.value is None and target.batched
        return target.dtype == "float32" and target.layout != FLAT and not target.type.fixed and other == shape
    if classes is not None and getattr(target.dtype, "kind", "") in "iu":
        return True
    return other == shape or classes is not None


def mse_loss_backward(grad_output, input, target, *, reduction="mean"):
    """Gradient of :func:`mse_loss` with respect to ``input``; that of ``target`` is its negative."""
    return gradient("mse_loss", "mse_loss_backward", _scalar(grad_output), activation("input", input),
                    activation("target", target), layout=PIXELS if reduction == "none" else FLAT, reduction=reduction)


def _logits(input, target, weight) -> tuple:
    dtype = "float32" if np.dtype(target.dtype) == np.float32 else "int64"
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
