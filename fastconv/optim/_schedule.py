"""What the learning-rate schedules with a closed form have in common."""

import contextlib

from . import _check


class Schedule:
    """What the schedules with a closed form have in common.

    Attributes
    ----------
    interval : {'epoch', 'step'}
        When the training loop shall call `step`: after each epoch or after each update. Every schedule takes it as a
        keyword where its own is not meant.
    needs_metric : bool
        False: `step` takes no argument.
    last_epoch : int
        Number of steps taken, whatever the interval; PyTorch's name.
    base_lr : float
        The rate that the schedule starts from.
    """

    interval = "epoch"
    needs_metric = False

    def __init__(self, optimizer, interval=None, base_lr=None):
        owner = type(self).__name__
        rate = _check.number(owner, "optimizer.lr", getattr(optimizer, "lr", None), 0.0)
        if interval is not None:
            self.interval = _check.one_of(owner, "interval", interval, ("step", "epoch"))
        if base_lr is None:
            base_lr = float(getattr(optimizer, "initial_lr", rate))
        with contextlib.suppress(AttributeError):
            optimizer.initial_lr = base_lr
        self.optimizer = optimizer
        self.base_lr = base_lr
        self.last_epoch = 0
        self._apply(0)

    def lr_at(self, epoch):
        """Return the rate after `epoch` steps, without taking any."""
        raise NotImplementedError

    def last_step(self):
        """Return how many steps there are, None where they do not end."""
        return getattr(self, "total_steps", None)

    def step(self):
        """Take one step: set the optimiser's rate to the next one."""
        self._apply(self.last_epoch + 1)
        self.last_epoch += 1

    def get_last_lr(self):
        """Return the rate last set, as a list of one float (PyTorch has one per parameter group)."""
        return [self._last_lr]

    def state_dict(self):
        """Return the progress as a dict; the arguments are the constructor's affair and not in it."""
        return {"schedule": type(self).__name__, "last_epoch": self.last_epoch, "base_lr": self.base_lr}

    def load_state_dict(self, state):
        """Take over a `state_dict` and set the optimiser's rate accordingly.

        Raises
        ------
        ValueError, TypeError
            The state is of another schedule, has other keys, or a value breaks its rule. Nothing has been changed then.
        """
        self._check_state(state)
        self._set_state(state)
        self._apply(self.last_epoch)

    def _apply(self, epoch):
        rate = self.lr_at(epoch)
        self.optimizer.lr = rate
        self._last_lr = rate

    def _check_state(self, state):
        owner = type(self).__name__
        _check.keys(owner, state, self.state_dict())
        if state["schedule"] != owner:
            raise ValueError(f"{owner}: state is of {state['schedule']!r}")
        _check.whole(owner, "last_epoch", state["last_epoch"], 0)
        _check.number(owner, "base_lr", state["base_lr"], 0.0)
        self.lr_at(state["last_epoch"])

    def _set_state(self, state):
        self.last_epoch = int(state["last_epoch"])
        self.base_lr = float(state["base_lr"])
