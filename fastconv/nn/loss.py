"""Losses: modules whose ``forward(prediction, target)`` is symbolic."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from numbers import Real

import numpy as np

import fastconv.functional as F
from fastconv._arrays import refuse_masked
from fastconv._values import shown
from fastconv.graph.ir import Tensor
from fastconv.nn._check import choice, integer, number
from fastconv.nn.containers import ModuleDict, ModuleList
from fastconv.nn.module import Module

REDUCTIONS = ("mean", "sum", "none")


class Loss(Module):
    """Base of the losses, which are also called with arrays: ``loss = criterion(engine(x), target); loss.backward()``.

    A subclass names its options, which its function takes.
    """

    _is_loss = True
    _function: str = ""
    _reductions: tuple[str, ...] = REDUCTIONS
    _names: tuple[str, ...] = ()
    size_average = reduce = None  # a reduction, once it is made

    def _begin(self, size_average, reduce, reduction: str, **options) -> None:
        super().__init__()
        owner = type(self).__name__
        if size_average is not None or reduce is not None:
            for name, value in (("size_average", size_average), ("reduce", reduce)):
                if value is not None and not isinstance(value, (bool, np.bool_)):
                    raise TypeError(f"{owner}: {name}={shown(value)}: expected True or False")
            reduction = "none" if reduce is not None and not reduce else \
                "sum" if size_average is not None and not size_average else "mean"
        self.reduction = choice(owner, "reduction", reduction, self._reductions)
        for name, value in options.items():
            setattr(self, name, value)
        self._names = tuple(options)

    def _weights(self, name: str, value, positive: bool = True) -> None:
        """Registers factors, a buffer."""
        owner = type(self).__name__
        if value is not None:
            refuse_masked(owner, name, value)
            try:
                array = np.asarray(value)
                if array.dtype.kind not in "fiub":
                    raise TypeError(f"dtype {array.dtype}")
                value = np.asarray(array, np.float32)
            except (TypeError, ValueError) as error:
                raise TypeError(f"{owner}: {name}={shown(value)}: expected numbers") from error
            if not np.isfinite(value).all() or positive and not (value >= 0).all():
                raise ValueError(f"{owner}: {name} must not be negative, infinite or NaN")
        self.register_buffer(name, value)

    def forward(self, input, target):
        return self._value(input, target)

    def _value(self, *inputs):
        buffers = {name: value for name, value in self._buffers.items() if value is not None}
        options = {name: getattr(self, name) for name in self._names}
        return getattr(F, self._function)(*inputs, **options, **buffers, reduction=self.reduction)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        usual = inspect.signature(type(self)).parameters
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in (*self._names, "reduction")
                         if name in usual and getattr(self, name) != usual[name].default)


def real(owner: str, name: str, value, low: float = -math.inf, above: float = -math.inf) -> float:
    """A finite number."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{owner}: {name}={shown(value)}: expected a number")
    if not low <= float(value) < math.inf or not float(value) > above:
        rule = f"above {above}" if above > -math.inf else f"at least {low}" if low > -math.inf else "a finite number"
        raise ValueError(f"{owner}: {name}={shown(value)}: expected {rule}")
    return float(value)


def truth(owner: str, name: str, value) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{owner}: {name}={shown(value)}: expected True or False")
    return bool(value)


class CrossEntropyLoss(Loss):
    """Cross entropy of logits (N, C, ...) against class indices (N, ...) or probabilities (N, C, ...), float32, as
    ``torch.nn.CrossEntropyLoss``.

    Parameters
    ----------
    weight : array_like, optional
        One factor per class, float32; "mean" divides by their sum over the batch, with probabilities by their number.
    size_average, reduce : bool, optional
        What PyTorch had before ``reduction``.
    ignore_index : int, default -100
        A class whose positions do not count.
    reduction : {"mean", "sum", "none"}, default "mean"
    label_smoothing : float, default 0.0
        Share of the target that is spread evenly over the classes.
    """

    _function = "cross_entropy"

    def __init__(self, weight=None, size_average=None, ignore_index: int = -100, reduce=None, reduction: str = "mean",
                 label_smoothing: float = 0.0):
        self._begin(size_average, reduce, reduction)
        _class_weights(self, weight)
        self.ignore_index = _class_index("CrossEntropyLoss", ignore_index)
        self.label_smoothing = number("CrossEntropyLoss", "label_smoothing", label_smoothing, 0, 1)
        self._names = ("ignore_index", "label_smoothing")


def _class_weights(loss: Loss, weight) -> None:
    owner = type(loss).__name__
    loss._weights("weight", weight)
    if weight is not None and (loss.weight.data.ndim != 1 or not loss.weight.size):
        raise ValueError(f"{owner}: weight of shape {loss.weight.shape}: expected (C,), one per class")


def _class_index(owner: str, value) -> int:
    index = integer(owner, "ignore_index", value, -2**63)
    if index >= 2**63:
        raise ValueError(f"{owner}: ignore_index={value} must be below 2**63")
    return index


class NLLLoss(Loss):
    """The negative log-likelihood, :func:`fastconv.functional.nll_loss`.

    Parameters
    ----------
    weight, size_average, ignore_index, reduce, reduction
        As for :class:`CrossEntropyLoss`.
    """

    _function = "nll_loss"

    def __init__(self, weight=None, size_average=None, ignore_index: int = -100, reduce=None, reduction: str = "mean"):
        self._begin(size_average, reduce, reduction)
        _class_weights(self, weight)
        self.ignore_index, self._names = _class_index("NLLLoss", ignore_index), ("ignore_index",)


class MSELoss(Loss):
    """Squared error, as ``torch.nn.MSELoss``.

    Parameters
    ----------
    size_average, reduce : bool, optional
        What PyTorch had before ``reduction``.
    reduction : {"mean", "sum", "none"}, default "mean"
    """

    _function = "mse_loss"

    def __init__(self, size_average=None, reduce=None, reduction: str = "mean"):
        self._begin(size_average, reduce, reduction)


class L1Loss(Loss):
    """Absolute error, :func:`fastconv.functional.l1_loss`; parameters as for :class:`MSELoss`."""

    _function = "l1_loss"

    def __init__(self, size_average=None, reduce=None, reduction: str = "mean"):
        self._begin(size_average, reduce, reduction)


class SmoothL1Loss(Loss):
    """:func:`fastconv.functional.smooth_l1_loss`; ``beta`` at least 0, the others as for :class:`MSELoss`."""

    _function = "smooth_l1_loss"

    def __init__(self, size_average=None, reduce=None, reduction: str = "mean", beta: float = 1.0):
        self._begin(size_average, reduce, reduction, beta=real("SmoothL1Loss", "beta", beta, 0.0))


class HuberLoss(Loss):
    """:func:`fastconv.functional.huber_loss`; ``delta`` above 0, ``reduction`` as for :class:`MSELoss`."""

    _function = "huber_loss"

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        self._begin(None, None, reduction, delta=real("HuberLoss", "delta", delta, above=0.0))


class BCELoss(Loss):
    """Cross entropy of probabilities, :func:`fastconv.functional.binary_cross_entropy`.

    Parameters
    ----------
    weight : array_like, optional
        Factors of the elements.
    size_average, reduce, reduction
        As for :class:`MSELoss`.
    """

    _function = "binary_cross_entropy"

    def __init__(self, weight=None, size_average=None, reduce=None, reduction: str = "mean"):
        self._begin(size_average, reduce, reduction)
        self._weights("weight", weight, False)


class BCEWithLogitsLoss(Loss):
    """Cross entropy of sigmoids, :func:`fastconv.functional.binary_cross_entropy_with_logits`.

    Parameters
    ----------
    weight, size_average, reduce, reduction
        As for :class:`BCELoss`.
    pos_weight : array_like, optional
        Factors of the targets' part, one per class.
    """

    _function = "binary_cross_entropy_with_logits"

    def __init__(self, weight=None, size_average=None, reduce=None, reduction: str = "mean", pos_weight=None):
        self._begin(size_average, reduce, reduction)
        self._weights("weight", weight, False)
        self._weights("pos_weight", pos_weight, False)


class KLDivLoss(Loss):
    """The Kullback-Leibler divergence, :func:`fastconv.functional.kl_div`, whose parameters it takes."""

    _function, _reductions = "kl_div", (*REDUCTIONS, "batchmean")

    def __init__(self, size_average=None, reduce=None, reduction: str = "mean", log_target: bool = False):
        self._begin(size_average, reduce, reduction, log_target=truth("KLDivLoss", "log_target", log_target))


class PoissonNLLLoss(Loss):
    """:func:`fastconv.functional.poisson_nll_loss`, whose parameters it takes."""

    _function = "poisson_nll_loss"

    def __init__(self, log_input: bool = True, full: bool = False, size_average=None, eps: float = 1e-8, reduce=None,
                 reduction: str = "mean"):
        owner = "PoissonNLLLoss"
        self._begin(size_average, reduce, reduction, log_input=truth(owner, "log_input", log_input),
                    full=truth(owner, "full", full), eps=real(owner, "eps", eps, 0.0))


class GaussianNLLLoss(Loss):
    """:func:`fastconv.functional.gaussian_nll_loss`, whose parameters it takes; called with input, target and variance."""

    _function = "gaussian_nll_loss"

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"):
        self._begin(None, None, reduction, full=truth("GaussianNLLLoss", "full", full),
                    eps=real("GaussianNLLLoss", "eps", eps, above=0.0))

    def forward(self, input, target, var):  # type: ignore[override]  # of more than two arrays
        return self._value(input, target, var)


class HingeEmbeddingLoss(Loss):
    """:func:`fastconv.functional.hinge_embedding_loss`, whose parameters it takes."""

    _function = "hinge_embedding_loss"

    def __init__(self, margin: float = 1.0, size_average=None, reduce=None, reduction: str = "mean"):
        self._begin(size_average, reduce, reduction, margin=real("HingeEmbeddingLoss", "margin", margin))


class MarginRankingLoss(Loss):
    """:func:`fastconv.functional.margin_ranking_loss`, whose parameters it takes; called with two inputs and the target."""

    _function = "margin_ranking_loss"

    def __init__(self, margin: float = 0.0, size_average=None, reduce=None, reduction: str = "mean"):
        self._begin(size_average, reduce, reduction, margin=real("MarginRankingLoss", "margin", margin))

    def forward(self, input1, input2, target):  # type: ignore[override]  # of more than two arrays
        return self._value(input1, input2, target)


class SoftMarginLoss(Loss):
    """:func:`fastconv.functional.soft_margin_loss`; parameters as for :class:`MSELoss`."""

    _function = "soft_margin_loss"

    def __init__(self, size_average=None, reduce=None, reduction: str = "mean"):
        self._begin(size_average, reduce, reduction)


class MultiMarginLoss(Loss):
    """:func:`fastconv.functional.multi_margin_loss`, whose parameters it takes."""

    _function = "multi_margin_loss"

    def __init__(self, p: int = 1, margin: float = 1.0, weight=None, size_average=None, reduce=None,
                 reduction: str = "mean"):
        owner = "MultiMarginLoss"
        if isinstance(p, (bool, np.bool_)) or not isinstance(p, Real) or p not in (1, 2):
            raise ValueError(f"{owner}: p={shown(p)}: expected 1 or 2")
        self._begin(size_average, reduce, reduction, p=int(p), margin=real(owner, "margin", margin))
        _class_weights(self, weight)


class MultiLabelMarginLoss(Loss):
    """:func:`fastconv.functional.multilabel_margin_loss`; parameters as for :class:`MSELoss`."""

    _function = "multilabel_margin_loss"

    def __init__(self, size_average=None, reduce=None, reduction: str = "mean"):
        self._begin(size_average, reduce, reduction)


class MultiLabelSoftMarginLoss(Loss):
    """:func:`fastconv.functional.multilabel_soft_margin_loss`, whose parameters it takes."""

    _function = "multilabel_soft_margin_loss"

    def __init__(self, weight=None, size_average=None, reduce=None, reduction: str = "mean"):
        self._begin(size_average, reduce, reduction)
        self._weights("weight", weight, False)


class TripletMarginLoss(Loss):
    """:func:`fastconv.functional.triplet_margin_loss`, whose parameters it takes; called with anchor, positive, negative."""

    _function = "triplet_margin_loss"

    def __init__(self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, size_average=None,
                 reduce=None, reduction: str = "mean"):
        owner = "TripletMarginLoss"
        self._begin(size_average, reduce, reduction, margin=real(owner, "margin", margin, above=0.0),
                    p=real(owner, "p", p, above=0.0), eps=real(owner, "eps", eps, 0.0), swap=truth(owner, "swap", swap))

    def forward(self, anchor, positive, negative):  # type: ignore[override]  # of more than two arrays
        return self._value(anchor, positive, negative)


class TripletMarginWithDistanceLoss(Loss):
    """:func:`fastconv.functional.triplet_margin_with_distance_loss`, whose parameters it takes."""

    _function = "triplet_margin_with_distance_loss"

    def __init__(self, *, distance_function=None, margin: float = 1.0, swap: bool = False, reduction: str = "mean"):
        owner = "TripletMarginWithDistanceLoss"
        if distance_function is not None and not callable(distance_function):
            raise TypeError(f"{owner}: distance_function is a {type(distance_function).__name__}: expected a function")
        self._begin(None, None, reduction, margin=real(owner, "margin", margin, above=0.0),
                    swap=truth(owner, "swap", swap))
        self.distance_function, self._names = distance_function, ("distance_function", *self._names)

    def forward(self, anchor, positive, negative):  # type: ignore[override]  # of more than two arrays
        return self._value(anchor, positive, negative)


class CosineEmbeddingLoss(Loss):
    """:func:`fastconv.functional.cosine_embedding_loss`, whose parameters it takes; called with two inputs and target."""

    _function = "cosine_embedding_loss"

    def __init__(self, margin: float = 0.0, size_average=None, reduce=None, reduction: str = "mean"):
        self._begin(size_average, reduce, reduction, margin=real("CosineEmbeddingLoss", "margin", margin))

    def forward(self, input1, input2, target):  # type: ignore[override]  # of more than two arrays
        return self._value(input1, input2, target)


class CTCLoss(Loss):
    """:func:`fastconv.functional.ctc_loss`, whose parameters it takes; called with logarithms of probabilities, targets, and
    the lengths of both."""

    _function = "ctc_loss"

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False):
        blank = integer("CTCLoss", "blank", blank, 0)
        if blank >= 2**31:
            raise ValueError(f"CTCLoss: blank={blank} must be below 2**31")
        self._begin(None, None, reduction, blank=blank,
                    zero_infinity=truth("CTCLoss", "zero_infinity", zero_infinity))

    def forward(self, log_probs, targets, input_lengths, target_lengths):  # type: ignore[override]  # of more than two arrays
        return self._value(log_probs, targets, input_lengths, target_lengths)


class FocalLoss(Loss):
    """:func:`fastconv.functional.sigmoid_focal_loss` of logits and targets 0 or 1, whose parameters it takes."""

    _function = "sigmoid_focal_loss"

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "mean"):
        alpha = real("FocalLoss", "alpha", alpha)
        if alpha > 1:
            raise ValueError(f"FocalLoss: alpha={alpha}: expected 0 to 1, or a negative number")
        self._begin(None, None, reduction, alpha=alpha, gamma=real("FocalLoss", "gamma", gamma, 0.0))


class DiceLoss(Loss):
    """:func:`fastconv.functional.dice_loss` of probabilities and masks or class indices, whose parameters it takes."""

    _function = "dice_loss"

    def __init__(self, smooth: float = 1.0, reduction: str = "mean"):
        self._begin(None, None, reduction, smooth=real("DiceLoss", "smooth", smooth, 0.0))


class TverskyLoss(Loss):
    """:func:`fastconv.functional.tversky_loss` of probabilities and masks or class indices, whose parameters it takes."""

    _function = "tversky_loss"

    def __init__(self, alpha: float = 0.5, beta: float = 0.5, smooth: float = 1.0, reduction: str = "mean"):
        owner = "TverskyLoss"
        self._begin(None, None, reduction, alpha=real(owner, "alpha", alpha, 0.0), beta=real(owner, "beta", beta, 0.0),
                    smooth=real(owner, "smooth", smooth, 0.0))


class MultiTaskLoss(Loss):
    """A weighted sum of losses, one per output of the network: classes and boxes, say.

    ``MultiTaskLoss([CrossEntropyLoss(), SmoothL1Loss()], [1.0, 0.5])`` of a network that returns a pair takes two targets;
    with dicts, of a network that returns a dict, targets come in the order of the losses.

    Parameters
    ----------
    losses : sequence or dict of Module
        Each takes its output and its target, and returns a scalar.
    weights : sequence or dict of float, optional
        A finite factor for each; default 1.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not go together; and when called, for another number of outputs or targets.
    """

    def __init__(self, losses, weights=None):
        self._begin(None, None, "mean")
        named = isinstance(losses, Mapping)
        if not named and not isinstance(losses, (list, tuple, ModuleList)):
            raise TypeError(f"MultiTaskLoss: losses is a {type(losses).__name__}: expected a list or a dict of losses")
        found: dict = dict(losses) if named else dict(enumerate(losses))
        for key, loss in found.items():
            if not isinstance(loss, Module):
                raise TypeError(f"MultiTaskLoss: losses[{key!r}] is a {type(loss).__name__}: expected a loss, a Module")
        if not found:
            raise ValueError(f"MultiTaskLoss: losses={shown(losses)}: expected at least one")
        self.losses = ModuleDict(found) if named else ModuleList(found.values())
        if weights is None:
            weights = dict.fromkeys(found, 1.0)
        elif isinstance(weights, Mapping) != named or not isinstance(weights, (Mapping, list, tuple, np.ndarray)):
            raise TypeError(f"MultiTaskLoss: weights is a {type(weights).__name__}: expected a "
                            f"{'dict' if named else 'list'}, as losses is one")
        weights = dict(weights) if named else dict(enumerate(weights)) if not isinstance(weights, dict) else weights
        if set(weights) != set(found):
            raise ValueError(f"MultiTaskLoss: weights={shown(list(weights.values()))}: expected {len(found)}, one for each "
                             "loss")
        self.weights = {key: real("MultiTaskLoss", f"weights[{key!r}]", weights[key]) for key in found}
        self._names = ("weights",)

    def forward(self, prediction, *targets):
        keys: list = list(self.weights)
        if isinstance(prediction, Tensor):
            prediction = (prediction,)
        if isinstance(prediction, Mapping) != isinstance(self.losses, ModuleDict) or len(prediction) != len(keys) or \
                isinstance(prediction, Mapping) and set(prediction) != set(keys):
            raise ValueError(f"MultiTaskLoss: the network returns {len(prediction)} outputs: expected {len(keys)}, "
                             f"{keys if isinstance(self.losses, ModuleDict) else 'a tuple'}")
        if len(targets) != len(keys):
            raise ValueError(f"MultiTaskLoss: {len(targets)} targets given: expected {len(keys)}")
        total = None
        for key, target in zip(keys, targets, strict=True):
            part = self.losses[key](prediction[key], target) * self.weights[key]
            total = part if total is None else total + part
        return total
