"""Learning-rate schedules, with PyTorch's names, arguments and values.

A schedule sets the attribute `lr` of an optimiser when it is constructed and at each `step`. The optimiser may be any
object with a float attribute `lr`; `OneCycleLR` also sets its `momentum` or `betas`. As in PyTorch, the rate that the
optimiser had when its first schedule was constructed is the base of all its schedules; it is kept as its attribute
`initial_lr`, and an optimiser that takes no new attribute gives each schedule the rate it has just then.

Each rate is computed from its closed form and not from the rate before, so rounding does not add up and a loaded
schedule goes on with the same bits.
"""

import bisect
import math

from fastconv._values import shown

from . import _check
from ._schedule import Schedule, groups_of, per_group, set_option
from .combined import SequentialLR, WarmupLR
from .plateau import ReduceLROnPlateau

__all__ = [
    "CosineAnnealingLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "WarmupLR",
]


class StepLR(Schedule):
    """Multiply the rate by `gamma` every `step_size` steps.

    Parameters
    ----------
    optimizer : object with a float attribute `lr`
    step_size : int
        At least 1.
    gamma : float, default 0.1
        At least 0.
    interval : {'epoch', 'step'}, default 'epoch'
        What is counted.
    """

    def __init__(self, optimizer, step_size, gamma=0.1, *, interval=None):
        self.step_size = _check.whole("StepLR", "step_size", step_size, 1)
        self.gamma = _check.number("StepLR", "gamma", gamma, 0.0)
        super().__init__(optimizer, interval)

    def _rate(self, epoch, base, place):
        return base * self.gamma ** (epoch // self.step_size)


class MultiStepLR(Schedule):
    """Multiply the rate by `gamma` at each milestone.

    Parameters
    ----------
    optimizer : object with a float attribute `lr`
    milestones : iterable of int
        At least 0; one that is named twice counts twice.
    gamma : float, default 0.1
        At least 0.
    interval : {'epoch', 'step'}, default 'epoch'
        What is counted.
    """

    def __init__(self, optimizer, milestones, gamma=0.1, *, interval=None):
        if isinstance(milestones, str) or not hasattr(milestones, "__iter__"):
            raise TypeError(f"MultiStepLR: milestones={shown(milestones)} must be a list of ints")
        self.milestones = sorted(_check.whole("MultiStepLR", "milestones", m, 0) for m in milestones)
        self.gamma = _check.number("MultiStepLR", "gamma", gamma, 0.0)
        super().__init__(optimizer, interval)

    def _rate(self, epoch, base, place):
        return base * self.gamma ** bisect.bisect_right(self.milestones, epoch)


class LambdaLR(Schedule):
    """Multiply the base rate by a function of the number of steps taken.

    Parameters
    ----------
    optimizer : object with a float attribute `lr`
    lr_lambda : callable, or list of them
        Takes an int from 0, returns a factor; a list has one per parameter group.
    interval : {'epoch', 'step'}, default 'epoch'
        What is counted.
    """

    def __init__(self, optimizer, lr_lambda, *, interval=None):
        def check(function):
            if not callable(function):
                raise TypeError(f"LambdaLR: lr_lambda must be callable, got {type(function).__name__}")
            return function

        self.lr_lambda = lr_lambda
        self._lambdas = per_group("LambdaLR", "lr_lambda", lr_lambda, len(groups_of(optimizer)), check)
        super().__init__(optimizer, interval)

    def _rate(self, epoch, base, place):
        return base * _check.number("LambdaLR", f"lr_lambda({epoch})", self._lambdas[place](epoch), 0.0)


class LinearLR(Schedule):
    """Change the factor of the base rate linearly from `start_factor` to `end_factor` in `total_iters` steps.

    Parameters
    ----------
    optimizer : object with a float attribute `lr`
    start_factor : float, default 1/3
        Above 0, at most 1.
    end_factor : float, default 1
        0 to 1.
    total_iters : int, default 5
        At least 1.
    interval : {'epoch', 'step'}, default 'epoch'
        What is counted.
    """

    def __init__(self, optimizer, start_factor=1.0 / 3, end_factor=1.0, total_iters=5, *, interval=None):
        self.start_factor = _check.number("LinearLR", "start_factor", start_factor, high=1.0, above=0.0)
        self.end_factor = _check.number("LinearLR", "end_factor", end_factor, 0.0, 1.0)
        self.total_iters = _check.whole("LinearLR", "total_iters", total_iters, 1)
        super().__init__(optimizer, interval)

    def _rate(self, epoch, base, place):
        share = min(epoch, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * share)


class CosineAnnealingLR(Schedule):
    """Let the rate fall to `eta_min` along half a cosine in `T_max` steps, and rise again after them.

    Parameters
    ----------
    optimizer : object with a float attribute `lr`
    T_max : int
        At least 1.
    eta_min : float, default 0
        At least 0.
    interval : {'epoch', 'step'}, default 'epoch'
        What is counted.

    References
    ----------
    I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, equation 5, without
    the restarts.
    """

    def __init__(self, optimizer, T_max, eta_min=0.0, *, interval=None):
        self.T_max = _check.whole("CosineAnnealingLR", "T_max", T_max, 1)
        self.eta_min = _check.number("CosineAnnealingLR", "eta_min", eta_min, 0.0)
        super().__init__(optimizer, interval)

    def _rate(self, epoch, base, place):
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * epoch / self.T_max)) / 2


class OneCycleLR(Schedule):
    """Let the rate rise to `max_lr` and fall far below where it began, with the momentum moving the other way.

    Parameters
    ----------
    optimizer : object with a float attribute `lr`, and `momentum` or `betas` where `cycle_momentum`
    max_lr : float, or list of float
        Above 0; a list has one per parameter group.
    total_steps : int, optional
        At least 1; `epochs` times `steps_per_epoch` where it is None.
    epochs, steps_per_epoch : int, optional
        At least 1.
    pct_start : float, default 0.3
        Share of the steps in which the rate rises, 0 to 1.
    anneal_strategy : {'cos', 'linear'}, default 'cos'
    cycle_momentum : bool, default True
    base_momentum, max_momentum : float, default 0.85 and 0.95
        0 to below 1. The momentum (the first of `betas`, where there are any) is `max_momentum` at both ends.
    div_factor : float, default 25
        The rate begins with ``max_lr / div_factor``. Above 0.
    final_div_factor : float, default 1e4
        The rate ends with ``max_lr / div_factor / final_div_factor``. Above 0.
    three_phase : bool, default False
        Fall to the initial rate as fast as it rose, and then to the last.
    interval : {'step', 'epoch'}, default 'step'
        What is counted.

    Raises
    ------
    ValueError
        From `step` after more than `total_steps` steps. Step number `total_steps` itself, which a loop takes after its
        last update, keeps the last rate; PyTorch goes on along the curve there, in the linear case below 0.

    References
    ----------
    L. Smith, N. Topin, "Super-convergence: very fast training of neural networks using large learning rates",
    arXiv:1708.07120.
    """

    interval = "step"

    def __init__(
        self, optimizer, max_lr, total_steps=None, epochs=None, steps_per_epoch=None, pct_start=0.3,
        anneal_strategy="cos", cycle_momentum=True, base_momentum=0.85, max_momentum=0.95, div_factor=25.0,
        final_div_factor=1e4, three_phase=False, *, interval=None,
    ):  # fmt: skip
        owner = "OneCycleLR"
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError(f"{owner}: total_steps=None needs both epochs and steps_per_epoch")
            total_steps = _check.whole(owner, "epochs", epochs, 1)
            total_steps *= _check.whole(owner, "steps_per_epoch", steps_per_epoch, 1)
        self.total_steps = _check.whole(owner, "total_steps", total_steps, 1)
        peaks = per_group(owner, "max_lr", max_lr, len(groups_of(optimizer)),
                          lambda value: _check.number(owner, "max_lr", value, above=0.0))
        div_factor = _check.number(owner, "div_factor", div_factor, above=0.0)
        final_div_factor = _check.number(owner, "final_div_factor", final_div_factor, above=0.0)
        self.max_lr, self.initial_lr = peaks[0], peaks[0] / div_factor
        self.min_lr = self.initial_lr / final_div_factor
        pct_start = _check.number(owner, "pct_start", pct_start, 0.0, 1.0)
        self.anneal_strategy = _check.one_of(owner, "anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.base_momentum = _check.number(owner, "base_momentum", base_momentum, 0.0, below=1.0)
        self.max_momentum = _check.number(owner, "max_momentum", max_momentum, 0.0, below=1.0)
        three_phase = _check.flag(owner, "three_phase", three_phase)
        self.cycle_momentum = _check.flag(owner, "cycle_momentum", cycle_momentum)
        self._momentum = next((name for name in ("betas", "momentum") if hasattr(optimizer, name)), None)
        if self.cycle_momentum and self._momentum is None:
            raise ValueError(
                f"{owner}: cycle_momentum=True needs an optimizer with momentum or betas, "
                f"{type(optimizer).__name__} has neither"
            )
        rise, end = pct_start * self.total_steps - 1, self.total_steps - 1
        self._phases = []  # of each group: (last step, (rate, momentum) before, and after)
        for high in peaks:
            first, peak = (high / div_factor, self.max_momentum), (high, self.base_momentum)
            last = (high / div_factor / final_div_factor, self.max_momentum)
            self._phases.append([(rise, first, peak), *([(2 * rise, peak, first), (end, first, last)] if three_phase else
                                                        [(end, peak, last)])])
        # As in PyTorch the initial rate is also the base of the schedules that are made after this one.
        super().__init__(optimizer, interval, [high / div_factor for high in peaks])

    def _rate(self, epoch, base, place):
        return self._at(epoch, place)[0]

    def _apply(self, epoch):
        super()._apply(epoch)
        if self.cycle_momentum:
            for place, group in enumerate(groups_of(self.optimizer)[:len(self._phases)]):
                momentum = self._at(epoch, place)[1]
                if self._momentum == "betas":
                    betas = group["betas"] if isinstance(group, dict) else group.betas
                    momentum = (momentum, *betas[1:])
                set_option(group, str(self._momentum), momentum)

    def _at(self, epoch, place):
        """Rate and momentum after `epoch` steps."""
        if epoch > self.total_steps:
            raise ValueError(f"OneCycleLR: step {epoch} is beyond total_steps={self.total_steps}")
        start = 0.0
        phases = self._phases[place]
        for number, (end, before, after) in enumerate(phases, 1):  # noqa: B007
            if epoch <= end or number == len(phases):
                break
            start = end
        # Beyond the end of the last phase, and where a phase is empty, its end holds.
        share = min(1.0, (epoch - start) / (end - start)) if end > start else 1.0
        if self.anneal_strategy == "cos":
            return tuple(b + (a - b) / 2 * (1 + math.cos(math.pi * share)) for a, b in zip(before, after, strict=True))
        return tuple(a + (b - a) * share for a, b in zip(before, after, strict=True))
