"""Schedules made of schedules."""

import bisect
import math
from collections.abc import Iterable

from fastconv._values import shown

from . import _check
from ._schedule import Schedule


class SequentialLR(Schedule):
    """Run schedules one after another, each from its own beginning.

    Parameters
    ----------
    optimizer : object with a float attribute `lr`
    schedulers : sequence of schedules
        Of this optimiser, all with the same `interval`, which becomes that of the whole. Not `ReduceLROnPlateau`, which
        has no beginning that can be put off.
    milestones : sequence of int
        One less than there are schedules, at least 1 and ascending: after this many steps the next one takes over.
    """

    def __init__(self, optimizer, schedulers, milestones):
        owner = type(self).__name__
        for name, values in (("schedulers", schedulers), ("milestones", milestones)):
            if not isinstance(values, Iterable):
                raise TypeError(f"{owner}: {name} is a {type(values).__name__}: expected a sequence")
        self._schedules = list(schedulers)
        if not self._schedules:
            raise ValueError(f"{owner}: schedulers={shown(schedulers)}: at least one schedule is needed")
        for place, schedule in enumerate(self._schedules):
            if not isinstance(schedule, Schedule):
                kind = type(schedule).__name__
                raise TypeError(f"{owner}: schedulers[{place}] is a {kind}, not a schedule that can be put in a row")
            if schedule.optimizer is not optimizer:
                raise ValueError(f"{owner}: schedule {place} ({type(schedule).__name__}) has another optimizer")
            if schedule.interval != self._schedules[0].interval:
                raise ValueError(
                    f"{owner}: schedule {place} ({type(schedule).__name__}) has interval={schedule.interval!r} but "
                    f"schedule 0 has {self._schedules[0].interval!r}; give interval= to one of them"
                )
        self.milestones = [_check.whole(owner, "milestones", milestone, 1) for milestone in milestones]
        if len(self.milestones) != len(self._schedules) - 1:
            raise ValueError(
                f"{owner}: {len(self._schedules)} schedules need {len(self._schedules) - 1} milestones, "
                f"got {len(self.milestones)}"
            )
        if any(a >= b for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise ValueError(f"{owner}: milestones={self.milestones} must ascend")
        super().__init__(optimizer, self._schedules[0].interval)

    def _rate(self, epoch, base, place):
        schedule, own_epoch = self._turn(epoch)
        return schedule._rate(own_epoch, schedule.base_lrs[place], place)

    def last_step(self):
        """Return where the first of its schedules ends before its turn does, None where none does."""
        starts = [0, *self.milestones]
        for schedule, start, end in zip(self._schedules, starts, [*self.milestones, math.inf], strict=True):
            own = schedule.last_step()
            if own is not None and start + own < end:
                return start + own
        return None

    def state_dict(self):
        return {**super().state_dict(), "schedules": [schedule.state_dict() for schedule in self._schedules]}

    def _turn(self, epoch):
        place = bisect.bisect_right(self.milestones, epoch)
        return self._schedules[place], epoch - (self.milestones[place - 1] if place else 0)

    def _apply(self, epoch):
        schedule, own_epoch = self._turn(epoch)
        schedule._apply(own_epoch)
        schedule.last_epoch = own_epoch
        self._last_lr = schedule._last_lr

    def _check_state(self, state):
        super()._check_state(state)
        if len(state["schedules"]) != len(self._schedules):
            raise ValueError(
                f"{type(self).__name__}: state has {len(state['schedules'])} schedules, not {len(self._schedules)}"
            )
        for schedule, own_state in zip(self._schedules, state["schedules"], strict=True):
            schedule._check_state(own_state)

    def _set_state(self, state):
        super()._set_state(state)
        for schedule, own_state in zip(self._schedules, state["schedules"], strict=True):
            schedule._set_state(own_state)


class WarmupLR(Schedule):
    """Raise the rate linearly in `warmup_steps` steps, then run another schedule from its beginning.

    Parameters
    ----------
    optimizer : object with a float attribute `lr`
    warmup_steps : int
        At least 1.
    after : schedule, optional
        Of this optimiser and with the same `interval`; where it is None the base rate is kept. The warm-up rises to the
        rate that it begins with.
    start_factor : float, default 0.1
        The first rate as a share of that, 0 to 1.
    interval : {'step', 'epoch'}, default 'step'
        What is counted.

    References
    ----------
    P. Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", arXiv:1706.02677, section 2.2.
    """

    interval = "step"

    def __init__(self, optimizer, warmup_steps, after=None, start_factor=0.1, *, interval=None):
        owner = "WarmupLR"
        self.warmup_steps = _check.whole(owner, "warmup_steps", warmup_steps, 1)
        self.start_factor = _check.number(owner, "start_factor", start_factor, 0.0, 1.0)
        if after is not None:
            if not isinstance(after, Schedule):
                raise TypeError(f"{owner}: after is a {type(after).__name__}, not a schedule that can be put in a row")
            if after.optimizer is not optimizer:
                raise ValueError(f"{owner}: after ({type(after).__name__}) has another optimizer")
            wanted = self.interval if interval is None else interval
            if after.interval != wanted:
                raise ValueError(
                    f"{owner}: after ({type(after).__name__}) has interval={after.interval!r} but the warm-up "
                    f"{wanted!r}; give interval= to one of them"
                )
        self.after = after
        super().__init__(optimizer, interval)

    def last_step(self):
        """Return where the schedule behind the warm-up ends, None where it does not."""
        own = None if self.after is None else self.after.last_step()
        return None if own is None else self.warmup_steps + own

    def _rate(self, epoch, base, place):
        def following(steps):
            return base if self.after is None else self.after._rate(steps, self.after.base_lrs[place], place)

        if epoch >= self.warmup_steps:
            return following(epoch - self.warmup_steps)
        target = following(0)
        return target * (self.start_factor + (1 - self.start_factor) * (epoch / self.warmup_steps))

    def state_dict(self):
        return {**super().state_dict(), "after": None if self.after is None else self.after.state_dict()}

    def _apply(self, epoch):
        if self.after is None or epoch < self.warmup_steps:
            super()._apply(epoch)
            return
        self.after._apply(epoch - self.warmup_steps)
        self.after.last_epoch = epoch - self.warmup_steps
        self._last_lr = self.after._last_lr

    def _check_state(self, state):
        super()._check_state(state)
        if (state["after"] is None) != (self.after is None):
            raise ValueError("WarmupLR: only one of the state and this schedule has a schedule after the warm-up")
        if self.after is not None:
            self.after._check_state(state["after"])

    def _set_state(self, state):
        super()._set_state(state)
        if self.after is not None:
            self.after._set_state(state["after"])
