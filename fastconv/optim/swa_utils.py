"""Averages of weights: over a training (stochastic weight averaging), or exponential, under PyTorch's names."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable

import numpy as np

from fastconv.engine.updating import averaged
from fastconv.graph.parameter import Parameter, changing
from fastconv.nn.module import Module
from fastconv.optim import _check
from fastconv.optim._schedule import Schedule

__all__ = ["EMA", "SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn",
           "get_swa_multi_avg_fn"]


class _Average:
    """How an average follows: by which part of the way to the new values it goes."""

    def __init__(self, part: Callable[[int], float]):
        self.part = part

    def __call__(self, averaged, current, num_averaged):
        return averaged + (current - averaged) * np.float32(self.part(int(num_averaged)))


class _Ema:
    """The part of an exponential average."""

    def __init__(self, decay: float):
        self.decay = decay

    def __call__(self, number: int) -> float:
        return 1.0 - self.decay


def _equal(number: int) -> float:
    """The part of the average over all."""
    return 1.0 / (number + 1)


def get_ema_avg_fn(decay: float = 0.999) -> Callable:
    """``avg_fn`` of an exponential moving average: ``decay * average + (1 - decay) * current``; decay from 0 to 1."""
    return _Average(_Ema(_check.number("get_ema_avg_fn", "decay", decay, 0.0, 1.0)))


def get_swa_avg_fn() -> Callable:
    """``avg_fn`` of the average over all: ``average + (current - average) / (number + 1)``."""
    return _Average(_equal)


get_ema_multi_avg_fn, get_swa_multi_avg_fn = get_ema_avg_fn, get_swa_avg_fn  # one pass over all parameters in any case


class AveragedModel(Module):
    """A copy of a network with averages of its weights; a module that computes with them.

    ``fastconv.Trainer(..., average=AveragedModel(net, ...))`` updates it after each update of the network.

    Parameters
    ----------
    model : Module
        What is copied: the first update takes its weights as they are then.
    device
        None.
    avg_fn, multi_avg_fn : callable, optional
        How averages follow: what `get_ema_avg_fn` or `get_swa_avg_fn` (the default) returns; or, as ``avg_fn``, any function
        ``f(averaged, current, num_averaged)`` of arrays that returns the new average.
    use_buffers : bool, default False
        Average the running statistics, too; else they are copied.

    Attributes
    ----------
    module : Module
        The network with the averages.
    n_averaged : ndarray
        How many updates there were.

    References
    ----------
    P. Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018.
    """

    def __init__(self, model, device=None, avg_fn=None, multi_avg_fn=None, use_buffers=False):
        super().__init__()
        if not isinstance(model, Module):
            raise TypeError(f"AveragedModel: model is a {type(model).__name__}: expected an nn.Module")
        if device is not None:
            raise ValueError(f"AveragedModel: device={device!r}: expected None")
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: only one of avg_fn and multi_avg_fn can be given")
        for name, function in (("avg_fn", avg_fn), ("multi_avg_fn", multi_avg_fn)):
            if function is not None and not callable(function):
                raise TypeError(f"AveragedModel: {name} is a {type(function).__name__}: expected a function")
        if multi_avg_fn is not None and not isinstance(multi_avg_fn, _Average):
            raise TypeError("AveragedModel: multi_avg_fn: expected what get_ema_multi_avg_fn or get_swa_multi_avg_fn "
                            "returns; a function of one's own goes as avg_fn")
        self.module = copy.deepcopy(model)
        for p in self.module.parameters():
            p.grad = None
        self.register_buffer("n_averaged", np.zeros((), np.int64))
        self.avg_fn = multi_avg_fn or avg_fn or get_swa_avg_fn()
        self.use_buffers = _check.flag("AveragedModel", "use_buffers", use_buffers)

    def forward(self, *inputs):
        return self.module(*inputs)

    def update_parameters(self, model) -> None:
        """Has the averages follow the network.

        Raises
        ------
        TypeError, ValueError
            Another network: of other parameters or buffers. Nothing has been changed then.
        """
        if not isinstance(model, Module):
            raise TypeError(f"AveragedModel.update_parameters: model is a {type(model).__name__}: expected an nn.Module")
        pairs = self._pairs(self.module.named_parameters(), model.named_parameters())
        buffers = self._pairs(self.module.named_buffers(), model.named_buffers())
        number = int(self.n_averaged)
        if self.use_buffers:
            pairs += [(a, b) for a, b in buffers if isinstance(a, Parameter)]
            buffers = [(a, b) for a, b in buffers if not isinstance(a, Parameter)]
        if number == 0:
            for mine, theirs in pairs:
                mine.data = theirs.data
        elif isinstance(self.avg_fn, _Average):
            with changing([a for a, _ in pairs]):
                averaged(pairs, self.avg_fn.part(number))
        else:
            for mine, theirs in pairs:
                mine.data = self.avg_fn(mine.numpy(), theirs.numpy(), number)
        for mine, theirs in buffers:
            if isinstance(mine, Parameter):
                mine.data = theirs.data
            else:
                mine[...] = theirs
        self.n_averaged[...] = number + 1

    @staticmethod
    def _pairs(mine: Iterable, theirs: Iterable) -> list[tuple]:
        mine, theirs = dict(mine), dict(theirs)
        if {k: v.shape for k, v in mine.items()} != {k: v.shape for k, v in theirs.items()}:
            differ = sorted(k for k in {*mine, *theirs}
                            if k not in mine or k not in theirs or mine[k].shape != theirs[k].shape)
            raise ValueError("AveragedModel.update_parameters: model has other parameters or buffers: "
                             f"{', '.join(differ[:5])}")
        return [(value, theirs[name]) for name, value in mine.items()]


class EMA(AveragedModel):
    """A copy of a network with exponential moving averages of its weights.

    Parameters
    ----------
    model, use_buffers
        As for :class:`AveragedModel`.
    decay : float, default 0.999
        0 to 1.
    """

    def __init__(self, model, decay=0.999, use_buffers=False):
        super().__init__(model, avg_fn=_Average(_Ema(_check.number("EMA", "decay", decay, 0.0, 1.0))),
                         use_buffers=use_buffers)


class SWALR(Schedule):
    """Let each rate go to `swa_lr` in `anneal_epochs` steps, and keep it there.

    Parameters
    ----------
    optimizer : object with a float attribute `lr`
    swa_lr : float
        At least 0.
    anneal_epochs : int, default 10
        At least 0.
    anneal_strategy : {'cos', 'linear'}, default 'cos'
    interval : {'epoch', 'step'}, default 'epoch'
        What is counted.
    """

    def __init__(self, optimizer, swa_lr, anneal_epochs=10, anneal_strategy="cos", *, interval=None):
        self.swa_lr = _check.number("SWALR", "swa_lr", swa_lr, 0.0)
        self.anneal_epochs = _check.whole("SWALR", "anneal_epochs", anneal_epochs, 0)
        self.anneal_strategy = _check.one_of("SWALR", "anneal_strategy", anneal_strategy, ("cos", "linear"))
        super().__init__(optimizer, interval)

    def _rate(self, epoch, base, place):
        share = min(1.0, epoch / self.anneal_epochs) if self.anneal_epochs else 1.0
        if self.anneal_strategy == "cos":
            share = (1.0 - math.cos(math.pi * share)) / 2.0
        return base + (self.swa_lr - base) * share
