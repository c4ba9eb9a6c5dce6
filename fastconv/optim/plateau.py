"""A schedule that listens to a metric."""

import math

from . import _check


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
    min_lr : float, default 0
        The rate does not fall below it.
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
        self.min_lr = _check.number(owner, "min_lr", min_lr, 0.0)
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
            old = float(self.optimizer.lr)
            new = max(old * self.factor, self.min_lr)
            if old - new > self.eps:
                self.optimizer.lr = new
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def get_last_lr(self):
        """Return the optimiser's rate, as a list of one float."""
        return [float(self.optimizer.lr)]

    def state_dict(self):
        """Return the progress and the rate as a dict; the arguments are the constructor's affair and not in it."""
        return {
            "schedule": "ReduceLROnPlateau",
            "last_epoch": self.last_epoch,
            "lr": float(self.optimizer.lr),
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
        rate = _check.number(owner, "lr", state["lr"], 0.0)
        values["best"] = None if state["best"] is None else float(state["best"])
        self.optimizer.lr = rate
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
