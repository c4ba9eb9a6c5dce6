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
    base_lr, base_lrs : float, list of float
        The rates that the schedule starts from: of the first parameter group, and of each.
    """

    interval = "epoch"
    needs_metric = False

    def __init__(self, optimizer, interval=None, base_lr=None):
        owner = type(self).__name__
        rate = _check.number(owner, "optimizer.lr", getattr(optimizer, "lr", None), 0.0)
        if interval is not None:
            self.interval = _check.one_of(owner, "interval", interval, ("step", "epoch"))
        self.optimizer = optimizer
        groups = groups_of(optimizer)
        if base_lr is not None:
            self.base_lrs = list(base_lr)
        elif groups[0] is optimizer:
            self.base_lrs = [float(getattr(optimizer, "initial_lr", rate))]
        else:
            self.base_lrs = [float(group.get("initial_lr", group["lr"])) for group in groups]
        for group, base in zip(groups, self.base_lrs, strict=True):
            set_option(group, "initial_lr", base)
        self.last_epoch = 0
        self._apply(0)

    @property
    def base_lr(self):
        """The rate that the schedule starts from, of the first parameter group."""
        return self.base_lrs[0]

    def lr_at(self, epoch, base=None):
        """Return the rate after `epoch` steps, without taking any: of the first group, or of one that begins with `base`."""
        return self._rate(epoch, self.base_lr if base is None else base, 0)

    def _rate(self, epoch, base, place):
        """The rate after `epoch` steps of group number `place`, which begins with `base`."""
        raise NotImplementedError

    def last_step(self):
        """Return how many steps there are, None where they do not end."""
        return getattr(self, "total_steps", None)

    def step(self):
        """Take one step: set the optimiser's rate to the next one."""
        self._apply(self.last_epoch + 1)
        self.last_epoch += 1

    def get_last_lr(self):
        """Return the rates last set, a list of one float per parameter group."""
        return list(self._last_lr)

    def state_dict(self):
        """Return the progress as a dict; the arguments are the constructor's affair and not in it."""
        base = self.base_lrs if len(self.base_lrs) > 1 else self.base_lr
        return {"schedule": type(self).__name__, "last_epoch": self.last_epoch, "base_lr": base}

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
        rates = [self._rate(epoch, base, place) for place, base in enumerate(self.base_lrs)]
        for group, rate in zip(groups_of(self.optimizer), rates, strict=False):  # one that was added later keeps its own
            set_option(group, "lr", rate)
        self._last_lr = rates

    def _check_state(self, state):
        owner = type(self).__name__
        _check.keys(owner, state, self.state_dict())
        if state["schedule"] != owner:
            raise ValueError(f"{owner}: state is of {state['schedule']!r}")
        _check.whole(owner, "last_epoch", state["last_epoch"], 0)
        bases = _listed(state["base_lr"])
        if len(bases) != len(self.base_lrs):
            raise ValueError(f"{owner}: state has base_lr of {len(bases)} parameter groups, the optimizer has "
                             f"{len(self.base_lrs)}")
        for base in bases:
            _check.number(owner, "base_lr", base, 0.0)
        self.lr_at(state["last_epoch"])

    def _set_state(self, state):
        self.last_epoch = int(state["last_epoch"])
        self.base_lrs = [float(base) for base in _listed(state["base_lr"])]


def groups_of(optimizer):
    """Whose rate a schedule sets: the parameter groups of an optimiser, or the object itself."""
    groups = getattr(optimizer, "param_groups", None)
    return groups if isinstance(groups, list) and groups else [optimizer]


def set_option(group, name, value):
    """Sets an option of what `groups_of` returns."""
    if isinstance(group, dict):
        group[name] = value
        return
    with contextlib.nullcontext() if name == "lr" else contextlib.suppress(AttributeError):
        setattr(group, name, value)


def per_group(owner, name, value, count, check):
    """A value for each parameter group: one for all, or a list of as many; each as `check` returns it."""
    if not isinstance(value, (list, tuple)):
        return [check(value)] * count
    if len(value) != count:
        raise ValueError(f"{owner}: {name} has {len(value)} values, the optimizer {count} parameter groups")
    return [check(v) for v in value]


def _listed(value):
    return value if isinstance(value, (list, tuple)) else [value]
