"""The training tape: forward, backward and update of a network and its loss in one plan."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import numpy as np

from fastconv._values import shown
from fastconv.engine.batches import Batches, as_input, as_target
from fastconv.engine.training_plan import Planned, operation
from fastconv.engine.updating import Learnt
from fastconv.graph.ir import DENSE, PIXELS
from fastconv.graph.parameter import Parameter, changing
from fastconv.kernels import update as kernels
from fastconv.kernels.locks import Lock
from fastconv.kernels.threads import threads_for


class LossTape:
    """Runs a network and its loss, forward only; plans once per shape of input and target.

    Parameters
    ----------
    model, loss : callable
        Over symbolic tensors: ``model(*inputs) -> prediction``, ``loss(prediction, *targets) -> scalar``.
    algorithm, precision, threads, cache_size
        As for :func:`fastconv.compile`.
    choose_for : int, optional
        The batch for which algorithms are chosen; default that of each plan.
    """

    training = False

    def __init__(self, model: Callable, loss: Callable, *, algorithm=None, precision: str = "highest",
                 threads: int | None = None, cache_size: int = 4, choose_for: int | None = None):
        self.choose_for, self._least = choose_for, 1
        self.model, self.loss, self.precision = model, loss, precision
        self.algorithm, self.threads, self.cache_size = algorithm, threads or 0, cache_size
        self._value = np.zeros((), np.float32)
        self._plans: OrderedDict[tuple, Planned] = OrderedDict()
        self._last: Planned | None = None
        self._lock = Lock(operation(self))

    def run(self, *arrays) -> float:
        """The loss of a batch: the inputs, then the target, or as many as the loss takes.

        Parameters
        ----------
        *arrays : ndarray
            Inputs float32 ``(N, C, ...)``; targets of integers (class indices) or float32.

        Raises
        ------
        TypeError, ValueError
            Before anything has run: a wrong dtype or shape, a class index out of range.
        """
        with self._lock:
            planned, held = self._take(arrays)
            self._forward(planned)
            del held  # what was made of the arrays has been read
            return float(self._value)

    def predictions(self):
        """What the model predicted in the last run, nested as it returned it: views that the next run overwrites."""
        if self._last is None:
            raise RuntimeError("predictions: no step has run yet")
        return self._last.predicted()

    def targets(self, arrays: Sequence) -> list[np.ndarray]:
        """Those arrays of the last run's batch that are targets."""
        assert self._last is not None
        return [np.asarray(a) for a in arrays[self._last.inputs:]]

    def _take(self, arrays: Sequence) -> tuple[Planned, Sequence]:
        """The plan for these arrays, and what it points to, which must live until the run is over; what is wrong with them
        is said here."""
        planned = self._last
        held = None if planned is None or not planned.current(self) else planned.accept(arrays)
        if planned is None or held is None:
            planned, arrays = self._plan(arrays)
            held = planned.accept(arrays)
            if held is None:
                raise RuntimeError("the tape does not accept the arrays that it was planned for")
        planned.check_targets()
        return planned, held

    def _forward(self, planned: Planned) -> Planned:
        self._last = planned
        planned.remember()
        planned.program.settle(["forward"], planned.n)
        planned.program.run("forward", planned.n)
        return planned

    # ---- planning -------------------------------------------------------------------------------------------------

    def replan(self, algorithm) -> None:
        """Plans again, with other algorithms, when it next runs. What has been learnt and accumulated stays."""
        with self._lock:
            self.algorithm, self._last = algorithm, None
            self._plans.clear()

    def plan_for(self, batch: int) -> None:
        """Plans, from now on, for this batch or a larger one: what runs does not depend on which batch comes first."""
        with self._lock:
            if batch != self._least:
                self._least, self._last = batch, None
                self._plans.clear()

    def change_loss(self, loss: Callable) -> None:
        """Plans again, with another loss, when it next runs."""
        with self._lock:
            self.loss, self._last = loss, None
            self._plans.clear()

    def _plan(self, arrays: Sequence) -> tuple[Planned, Sequence]:
        """The plan for these arrays, and the arrays as NumPy's; says what is wrong with them."""
        op = operation(self)
        batches = Batches(self.model, self.loss)
        k = batches.split(op, len(arrays))
        inputs = [as_input(op, f"input {i}", a) for i, a in enumerate(arrays[:k])]
        names = [batches.target_name(i, len(arrays) - k) for i in range(len(arrays) - k)]
        targets = [as_target(op, name, a) for name, a in zip(names, arrays[k:], strict=True)]
        for name, a in [*((f"input {i}", a) for i, a in enumerate(inputs)), *zip(names, targets, strict=True)]:
            if a.ndim < 1 or a.shape[0] != inputs[0].shape[0]:
                raise ValueError(f"{op}: {name} of shape {a.shape}: its batch differs from the first input's shape "
                                 f"{inputs[0].shape}")
        if inputs[0].shape[0] < 1:
            raise ValueError(f"{op}: input 0 of shape {inputs[0].shape} is an empty batch")
        kinds = tuple("int64" if a.dtype.kind in "iu" else "float32" for a in (*inputs, *targets))
        rest, n = (*(a.shape[1:] for a in (*inputs, *targets)), k, kinds), inputs[0].shape[0]
        for key in ((rest, None), (rest, n)):  # for any batch, or for this one
            found = self._plans.get(key)
            if found is not None and found.plan.serves(n) and found.current(self):
                self._plans.move_to_end(key)
                return found, [*inputs, *targets]
        batch = max(n, self._least)
        named, aimed = ([(a.shape[1:], name, PIXELS if kind == "float32" and 2 <= a.ndim <= 5 else DENSE, kind)
                         for a, name, kind in zip(some, called, of, strict=True)]
                        for some, called, of in ((inputs, [f"input{i}" for i in range(k)], kinds[:k]),
                                                 (targets, names, kinds[k:])))
        planned = self._planned(named, aimed, batch, n)
        if planned.graph.exact is not None and batch != n:  # right for one batch: to be this one
            planned = self._planned(named, aimed, n, n)
        self._plans[rest, planned.graph.exact] = planned
        while len(self._plans) > self.cache_size:
            self._plans.popitem(last=False)
        return planned, [*inputs, *targets]


    def _planned(self, named: list, aimed: list, batch: int, n: int) -> Planned:
        return Planned(self, [((batch, *s), *rest) for s, *rest in named], [((batch, *s), *rest) for s, *rest in aimed], n)


class TrainingTape(LossTape):
    """Runs training steps; plans once per shape of input and target.

    Parameters
    ----------
    model, loss : callable
        As for :class:`LossTape`.
    rule : object
        An update rule of :mod:`fastconv.optim`: ``key``, ``assign(named)`` and, of each group, ``recipe(shape)``,
        ``hyper(step)`` and ``scale(shape)``; ``perturbs``, where it wants gradients taken elsewhere.
    clip_norm, clip_value : float, optional
        Gradient clipping as PyTorch's ``clip_grad_norm_`` and ``clip_grad_value_``.
    accumulate : int, default 1
        Gradients of so many steps are averaged before each update.
    algorithm, precision, threads, cache_size
        As for :func:`fastconv.compile`.

    Attributes
    ----------
    learnt : mapping
        What a training knows of each parameter, a :class:`Learnt`, as long as the parameter lives.
    """

    training = True

    def __init__(self, model: Callable, loss: Callable, rule, *, clip_norm: float | None = None,
                 clip_value: float | None = None, accumulate: int = 1, algorithm=None, precision: str = "highest",
                 threads: int | None = None, cache_size: int = 4):
        for name, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if value is not None and not value > 0:
                raise ValueError(f"{name}={shown(value)} must be above 0")
        if isinstance(accumulate, bool) or not isinstance(accumulate, (int, np.integer)) or accumulate < 1:
            raise ValueError(f"accumulate={shown(accumulate)}: expected an integer of at least 1")
        accumulate = int(accumulate)
        if accumulate > 1 and rule.perturbs:
            raise ValueError(f"accumulate={accumulate}: {type(rule).__name__} takes each gradient twice, at two places: "
                             "expected 1")
        super().__init__(model, loss, algorithm=algorithm, precision=precision, threads=threads, cache_size=cache_size)
        self.rule, self.clip_norm, self.clip_value, self.accumulate = rule, clip_norm, clip_value, accumulate
        self._updates, self._window = kernels.Hyper(), kernels.Hyper()  # they count: updates, steps since the last one
        self.learnt: WeakKeyDictionary[Parameter, Learnt] = WeakKeyDictionary()

    @property
    def steps(self) -> int:
        """Updates done."""
        return self._updates.steps

    def step(self, *arrays) -> float:
        """One step on a batch: the inputs, then the target. Returns the loss before the update.

        Parameters
        ----------
        *arrays
            As for :meth:`LossTape.run`.

        Raises
        ------
        TypeError, ValueError
            Before anything has run: a wrong dtype or shape, a class index out of range.
        FloatingPointError
            When the loss is infinite or not a number. Parameters, running statistics and the rule's state are then as
            they were before this step.
        """
        with self._lock:
            planned, held = self._take(arrays)
            planned.update.arm()  # what the rule refuses, it refuses before anything has changed
            self._forward(planned)
            loss = float(self._value)
            if not math.isfinite(loss):
                planned.restore()
                where = planned.first_not_finite(held)
                raise FloatingPointError(f"step {self.steps + 1}: the loss is {loss}" + (f": {where}" if where else ""))
            planned.program.run("backward", planned.n)
            if self.rule.perturbs:
                self._again(planned)
            del held  # the backward reads inputs where they lie
            self._finish(planned)
            return loss

    def _again(self, planned: Planned) -> None:
        """Gradients anew, of the parameters where the rule wants them; the update begins with the way back. Running
        statistics stay those of the first forward, and dropout drops others."""
        program, n = planned.program, planned.n
        with changing(planned.update.parameters):
            program.run("perturb", n)
        planned.remember()
        program.run("forward", n)
        planned.restore()
        program.run("backward", n)

    def _finish(self, planned: Planned) -> None:
        program, n = planned.program, planned.n
        waiting, runs = self._window.steps + 1, []  # type: int, list
        if self.accumulate > 1:
            sums = [learnt.summing for learnt in planned.learnt]
            kernels.arm_sums(sums)
            runs.append((program.ready("accumulate", n), [*sums, self._window], [], []))
        if waiting < self.accumulate:
            kernels.run_counted(runs, threads_for(program.threads))
            return
        cleared = [self._window, *(learnt.summing for learnt in self.learnt.values())] if self.accumulate > 1 else []
        runs.append((program.ready("update", n), [*planned.update.hypers, self._updates], planned.update.begun, cleared))
        with changing(planned.update.parameters):
            kernels.run_counted(runs, threads_for(program.threads))

    @property
    def accumulated(self) -> int:
        """Steps whose gradients are summed and wait for the next update."""
        return self._window.steps

    def restart(self, steps: int, accumulated: int = 0) -> None:
        """Goes on as if so many updates had been done, and so many steps since; the rest is in :attr:`learnt`."""
        with self._lock:
            self._updates.steps, self._window.steps = steps, accumulated

    def reset_rule(self, rule) -> None:
        """Goes on with another rule, as if no parameter had been updated."""
        with self._lock:
            self.rule, self._window.steps, self._last = rule, 0, None
            self._plans.clear()
            self.learnt.clear()

    def recall(self, parameter: Parameter) -> Learnt:
        """What is known of a parameter; at first nothing."""
        found = self.learnt.get(parameter)
        if found is None:
            found = self.learnt[parameter] = Learnt(parameter, self.clip_norm, self.clip_value, self.accumulate)
        return found

