"""A schedule that listens to a metric."""

import math

from . import _check
from ._schedule import groups_of, per_group, set_option


class ReduceLROnPlateau:
    """Multiply the rate by `factor` when a metric has stopped improving.

    Parameters
    ----------
    optimizer : object with a float attribute `lr`
    mode : {'min', 'max'}, default 'min'
        Whether a smaller or a larger metric is better.
    factor : float, default 0.1
        Above 0, below 1.
    patience : int, default 10
        So many steps without improvement are tolerated; the next one reduces the rate. At least 0.
    threshold : float, default 1e-4
        What counts as an improvement, at least 0.
    threshold_mode : {'rel', 'abs'}, default 'rel'
        Better is below ``best * (1 - threshold)`` or below ``best - threshold`` (mode 'min'); with 'max', above
        ``best * (1 + threshold)`` or above ``best + threshold``.
    cooldown : int, default 0
        So many steps after a reduction are not judged. At least 0.
    min_lr : float, or list of float, default 0
        The rate does not fall below it; a list has one per parameter group.
    eps : float, default 1e-8
        A reduction of no more than this is left out.

    Attributes
    ----------
    interval : str
        'epoch': the training loop shall call `step` after each epoch.
    needs_metric : bool
        True: `step` wants the metric.
    """

    interval = "epoch"
    needs_metric = True

    def __init__(
        self, optimizer, mode="min", factor=0.1, patience=10, threshold=1e-4, threshold_mode="rel", cooldown=0,
        min_lr=0.0, eps=1e-8,
    ):  # fmt: skip
        owner = "ReduceLROnPlateau"
        _check.number(owner, "optimizer.lr", getattr(optimizer, "lr", None), 0.0)
        self.optimizer = optimizer
        self.mode = _check.one_of(owner, "mode", mode, ("min", "max"))
        self.factor = _check.number(owner, "factor", factor, above=0.0, below=1.0)
        self.patience = _check.whole(owner, "patience", patience, 0)
        self.threshold = _check.number(owner, "threshold", threshold, 0.0)
        self.threshold_mode = _check.one_of(owner, "threshold_mode", threshold_mode, ("rel", "abs"))
        self.cooldown = _check.whole(owner, "cooldown", cooldown, 0)
        self._least = per_group(owner, "min_lr", min_lr, len(groups_of(optimizer)),
                                lambda value: _check.number(owner, "min_lr", value, 0.0))
        self.min_lr = self._least[0]
        self.eps = _check.number(owner, "eps", eps, 0.0)
        self.last_epoch = 0
        self.best = None
        self.num_bad_epochs = 0
        self.cooldown_counter = 0

    def step(self, metrics):
        """Judge the metric of one more epoch, a number. NaN is never an improvement."""
        value = float(metrics)
        self.last_epoch += 1
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for place, (group, old) in enumerate(zip(groups_of(self.optimizer), self.get_last_lr(), strict=True)):
                new = max(old * self.factor, self._least[min(place, len(self._least) - 1)])
                if old - new > self.eps:
                    set_option(group, "lr", new)
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def get_last_lr(self):
        """Return the optimiser's rates, a list of one float per parameter group."""
        return [float(group["lr"] if isinstance(group, dict) else group.lr) for group in groups_of(self.optimizer)]

    def state_dict(self):
        """Return the progress and the rate as a dict; the arguments are the constructor's affair and not in it."""
        rates = self.get_last_lr()
        return {
            "schedule": "ReduceLROnPlateau",
            "last_epoch": self.last_epoch,
            "lr": rates if len(rates) > 1 else rates[0],
            "best": self.best,
            "num_bad_epochs": self.num_bad_epochs,
            "cooldown_counter": self.cooldown_counter,
        }

    def load_state_dict(self, state):
        """Take over a `state_dict` and set the optimiser's rate accordingly.

        Raises
        ------
        ValueError, TypeError
            The state is of another schedule, has other keys, or a value breaks its rule. Nothing has been changed then.
        """
        owner = "ReduceLROnPlateau"
        _check.keys(owner, state, self.state_dict())
        if state["schedule"] != owner:
            raise ValueError(f"{owner}: state is of {state['schedule']!r}")
        counts = ("last_epoch", "num_bad_epochs", "cooldown_counter")
        values = {name: _check.whole(owner, name, state[name], 0) for name in counts}
        groups = groups_of(self.optimizer)
        rates = per_group(owner, "lr", state["lr"] if len(groups) > 1 else [state["lr"]], len(groups),
                          lambda value: _check.number(owner, "lr", value, 0.0))
        values["best"] = None if state["best"] is None else float(state["best"])
        for group, rate in zip(groups, rates, strict=True):
            set_option(group, "lr", rate)
        for name, value in values.items():
            setattr(self, name, value)

    def _is_better(self, value):
        if self.best is None:
            return value < math.inf if self.mode == "min" else value > -math.inf
        sign = -1.0 if self.mode == "min" else 1.0
        if self.threshold_mode == "rel":
            bound = self.best * (1.0 + sign * self.threshold)
        else:
            bound = self.best + sign * self.threshold
        return value < bound if self.mode == "min" else value > bound
