"""Losses and their gradients with respect to the input.

``reduction`` is "mean", "sum" or "none"; ``grad_output`` of a backward is a scalar for the first two.
"""

from __future__ import annotations

import numpy as np

from .activation import log_softmax, log_softmax_backward
from .window import f64


def _targets(x, target, weight, ignore_index):
    """Class weights, per-position mask, class (0 where ignored) and weight (0 where ignored)."""
    target = np.asarray(target)
    classes = x.shape[1]
    weight = np.ones(classes) if weight is None else f64(weight)
    counted = target != ignore_index
    target = np.where(counted, target, 0)
    if target.size and not (0 <= target.min() and target.max() < classes):
        raise IndexError(f"a target is outside [0, {classes})")
    return weight, counted, target, np.where(counted, weight[target], 0.0)


def cross_entropy(input, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """Cross entropy of logits (N, C, *) against class indices (N, *); see ``torch.nn.functional.cross_entropy``.

    The loss of one position with class t, logarithmic probabilities q and smoothing s is
    ``-(1 - s) * weight[t] * q[t] - s / C * sum over c of weight[c] * q[c]``, and 0 where t is ``ignore_index``.
    "mean" divides the sum by that of ``weight[t]`` over the positions that are not ignored (NaN where there is none).
    """
    x = f64(input)
    weight, counted, target, target_weight = _targets(x, target, weight, ignore_index)
    q = np.moveaxis(log_softmax(x, 1), 1, -1)
    q_target = np.take_along_axis(q, target[..., None], axis=-1)[..., 0]
    loss = -(1 - label_smoothing) * np.where(counted, target_weight * q_target, 0.0)
    if label_smoothing:  # 0 * -inf would be NaN
        loss -= np.where(counted, label_smoothing / x.shape[1] * (q * weight).sum(axis=-1), 0.0)
    if reduction == "none":
        return loss
    with np.errstate(invalid="ignore"):
        return loss.sum() / (target_weight.sum() if reduction == "mean" else 1.0)


def cross_entropy_backward(
    grad_output, input, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0
):
    """Gradient of ``cross_entropy`` with respect to the logits: 0 where ignored, even if the mean itself is NaN."""
    x = f64(input)
    weight, counted, target, target_weight = _targets(x, target, weight, ignore_index)
    one_hot = np.arange(x.shape[1]) == target[..., None]
    grad_q = -(1 - label_smoothing) * target_weight[..., None] * one_hot
    grad_q -= label_smoothing / x.shape[1] * weight * counted[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = f64(grad_output) / (target_weight.sum() if reduction == "mean" else 1.0)
        grad_q = grad_q * (scale[..., None] if reduction == "none" else scale)
    grad_q = np.where(counted[..., None], grad_q, 0.0)  # where nothing counts, the scale is not a number
    return log_softmax_backward(np.moveaxis(grad_q, -1, 1), x, 1)


def mse_loss(input, target, reduction="mean"):
    """Squared error."""
    loss = (f64(input) - f64(target)) ** 2
    return {"mean": loss.mean, "sum": loss.sum, "none": loss.copy}[reduction]()


def mse_loss_backward(grad_output, input, target, reduction="mean"):
    """Gradient of ``mse_loss`` with respect to the input; the target's is its negative."""
    difference = f64(input) - f64(target)
    return f64(grad_output) * 2 * difference / (difference.size if reduction == "mean" else 1)
