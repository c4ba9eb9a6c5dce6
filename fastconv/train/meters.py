"""Loss and metrics averaged over the batches of a pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastconv.engine.batches import leaves
from fastconv.train.metrics import RunningAverage, accuracy, top_k

RESERVED = ("epoch", "loss", "lr", "seconds")


class Meters:
    """Averages of the loss and of metrics, weighted with the sizes of the batches.

    Parameters
    ----------
    metrics : str, callable, or sequence of them
        As for :class:`fastconv.Trainer`.
    ignore_index : int, optional
        Positions whose target is this class do not count for the metrics of classes.
    """

    def __init__(self, metrics: Any, ignore_index: int | None = None):
        if isinstance(metrics, str) or callable(metrics):
            metrics = (metrics,)
        if not isinstance(metrics, (list, tuple, set, frozenset)):
            raise TypeError(f"Trainer: metrics is a {type(metrics).__name__}: expected names and functions")
        self._ignore = ignore_index
        self._of_classes: dict[str, Callable] = {}
        self._others: dict[str, Callable] = {}
        for metric in metrics:
            name = metric if isinstance(metric, str) else getattr(metric, "__name__", type(metric).__name__)
            if name in RESERVED or name in self.names():
                raise ValueError(f"Trainer: metrics has {name!r} " + ("which the log needs itself" if name in RESERVED
                                                                     else "twice"))
            if not isinstance(metric, str):
                if not callable(metric):
                    raise TypeError(f"Trainer: metrics has a {type(metric).__name__}: expected names and functions")
                self._others[name] = metric
            elif metric == "accuracy":
                self._of_classes[name] = accuracy
            elif re.fullmatch(r"top[1-9]\d*", metric):
                self._of_classes[name] = partial(top_k, k=int(metric[3:]))
            else:
                raise ValueError(f"Trainer: metrics has {metric!r}: expected 'accuracy', 'top5' (any number) or a function")
        self.lr = 0.0  # of the last update
        self._averages = {name: RunningAverage() for name in ("loss", *self.names())}

    def names(self) -> list[str]:
        return [*self._of_classes, *self._others]

    def update(self, loss: float, prediction: Any, *targets: Any) -> None:
        """Adds a batch. Where there are as many targets as arrays in the prediction, the metrics of classes take the first
        pair, in order, of logits and integers that go together; else the first array of the prediction, and of several
        targets the first of integers that fits it. Functions get all as they are."""
        arrays = [np.asarray(t) for t in targets]
        self._averages["loss"].update(loss, len(arrays[0]))
        for name, metric in self._others.items():
            self._averages[name].update(metric(prediction, *arrays), len(arrays[0]))
        heads = leaves(prediction)
        pairs = zip(heads, arrays, strict=True) if len(heads) == len(arrays) else ((heads[0], t) for t in arrays)
        fits = [(p, t) for p, t in pairs if t.dtype.kind in "iu" and (len(arrays) == 1 or self._together(p, t))]
        if not self._of_classes or not fits:
            return
        prediction, target = fits[0]
        if self._ignore is not None:
            counted = target != self._ignore
            if not counted.all():
                prediction, target = np.moveaxis(prediction, 1, -1)[counted], target[counted]
        if target.size:
            for name, metric in self._of_classes.items():
                self._averages[name].update(metric(prediction, target), target.size)

    def _together(self, prediction, target) -> bool:
        """Whether these are logits and the classes of as many samples."""
        return prediction.ndim >= 2 and target.shape == prediction.shape[:1] + prediction.shape[2:] and bool(
            ((target >= 0) & (target < prediction.shape[1]) | (target == self._ignore)).all())

    def averages(self) -> dict[str, float]:
        """The averages so far; what has none is left out, except the loss (NaN)."""
        return {name: meter.average for name, meter in self._averages.items() if meter.count or name == "loss"}

    def state_dict(self) -> dict:
        """Total and count of each average, and the learning rate."""
        return {"lr": self.lr, "averages": {name: [meter.total, meter.count] for name, meter in self._averages.items()}}

    def load_state_dict(self, state: dict) -> None:
        """Goes on with a :meth:`state_dict` of the same metrics."""
        averages = state["averages"]
        if set(averages) != set(self._averages):
            raise ValueError(f"Trainer: state has averages of {', '.join(averages)}, this trainer of "
                             f"{', '.join(self._averages)}")
        self.lr = float(state["lr"])
        for name, (total, count) in averages.items():
            self._averages[name].restore(total, count)

    def texts(self) -> dict[str, str]:
        """The averages for people."""
        return {name: f"{value:.4f}" for name, value in self.averages().items()}
