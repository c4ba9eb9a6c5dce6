"""Losses: modules whose ``forward(prediction, target)`` is symbolic."""

from __future__ import annotations

import numpy as np

from fastconv._arrays import refuse_masked
from fastconv._values import shown
from fastconv.graph.ir import apply
from fastconv.nn._check import choice, integer, number
from fastconv.nn.module import Module

REDUCTIONS = ("mean", "sum", "none")


class Loss(Module):
    """Base of the losses, which are also called with arrays: ``loss = criterion(engine(x), target); loss.backward()``."""

    _is_loss = True


class CrossEntropyLoss(Loss):
    """Cross entropy of logits (N, C, ...) against class indices (N, ...) or probabilities (N, C, ...), float32, as
    ``torch.nn.CrossEntropyLoss``.

    Parameters
    ----------
    weight : array_like, optional
        One factor per class, float32; "mean" divides by their sum over the batch, with probabilities by their number.
    ignore_index : int, default -100
        A class whose positions do not count.
    reduction : {"mean", "sum", "none"}, default "mean"
    label_smoothing : float, default 0.0
        Share of the target that is spread evenly over the classes.
    """

    def __init__(self, weight=None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0):
        super().__init__()
        if weight is not None:
            refuse_masked("CrossEntropyLoss", "weight", weight)
            try:
                weight = np.asarray(weight, np.float32)
            except (TypeError, ValueError) as error:
                raise TypeError(f"CrossEntropyLoss: weight={shown(weight)}: expected numbers, one per class") from error
            if weight.ndim != 1 or not weight.size:
                raise ValueError(f"CrossEntropyLoss: weight of shape {weight.shape}: expected (C,), one per class")
            if not (weight >= 0).all() or not np.isfinite(weight).all():
                raise ValueError("CrossEntropyLoss: weight must not be negative, infinite or NaN")
        self.register_buffer("weight", weight)
        self.ignore_index = integer("CrossEntropyLoss", "ignore_index", ignore_index, -2**63)
        if self.ignore_index >= 2**63:
            raise ValueError(f"CrossEntropyLoss: ignore_index={ignore_index} must be below 2**63")
        self.reduction = choice("CrossEntropyLoss", "reduction", reduction, REDUCTIONS)
        self.label_smoothing = number("CrossEntropyLoss", "label_smoothing", label_smoothing, 0, 1)

    def forward(self, prediction, target):
        return apply("cross_entropy", [prediction, target, self.weight], reduction=self.reduction,
                     ignore_index=self.ignore_index, label_smoothing=self.label_smoothing)


class MSELoss(Loss):
    """Squared error, as ``torch.nn.MSELoss``.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default "mean"
    """

    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = choice("MSELoss", "reduction", reduction, REDUCTIONS)

    def forward(self, prediction, target):
        return apply("mse_loss", [prediction, target], reduction=self.reduction)
