"""The training tape: forward, backward and update of a network and its loss in one plan."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from fastconv._arrays import is_masked
from fastconv._values import shown
from fastconv.graph.arrays import as_float32, as_int64
from fastconv.graph.autodiff import differentiate
from fastconv.graph.batches import Batches, as_target
from fastconv.graph.diagnose import first_not_finite
from fastconv.graph.ir import Tensor
from fastconv.graph.parameter import Parameter, changing
from fastconv.graph.planning import Plan, optimise
from fastconv.graph.program import Program
from fastconv.graph.trace import trace
from fastconv.kernels import loss as loss_kernels
from fastconv.kernels import update as kernels
from fastconv.kernels.locks import Lock
from fastconv.kernels.threads import threads_for

RULES = {"sgd": kernels.sgd, "adam": kernels.adam, "adamw": kernels.adamw}


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
        self._plans: OrderedDict[tuple, _Planned] = OrderedDict()
        self._last: _Planned | None = None
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

    def _take(self, arrays: Sequence) -> tuple[_Planned, Sequence]:
        """The plan for these arrays, and what it points to, which must live until the run is over; what is wrong with them
        is said here."""
        planned = self._last
        if planned is None or not planned.current(self) or not planned.accept(arrays):
            planned, arrays = self._plan(arrays)
            if not planned.accept(arrays):
                raise RuntimeError("the tape does not accept the arrays that it was planned for")
        planned.check_targets()
        return planned, arrays

    def _forward(self, planned: _Planned) -> _Planned:
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

    def _plan(self, arrays: Sequence) -> tuple[_Planned, Sequence]:
        """The plan for these arrays, and the arrays as NumPy's; says what is wrong with them."""
        op = operation(self)
        batches = Batches(self.model, self.loss)
        k = batches.split(op, len(arrays))
        inputs = [as_float32(op, f"input {i}", a) for i, a in enumerate(arrays[:k])]
        names = [batches.target_name(i, len(arrays) - k) for i in range(len(arrays) - k)]
        targets = [as_target(op, name, a) for name, a in zip(names, arrays[k:], strict=True)]
        for name, a in [*((f"input {i}", a) for i, a in enumerate(inputs)), *zip(names, targets, strict=True)]:
            if a.ndim < 1 or a.shape[0] != inputs[0].shape[0]:
                raise ValueError(f"{op}: {name} of shape {a.shape}: its batch differs from the first input's shape "
                                 f"{inputs[0].shape}")
        if inputs[0].shape[0] < 1:
            raise ValueError(f"{op}: input 0 of shape {inputs[0].shape} is an empty batch")
        kinds = tuple("int64" if a.dtype.kind in "iu" else "float32" for a in targets)
        rest, n = (*(a.shape[1:] for a in (*inputs, *targets)), k, kinds), inputs[0].shape[0]
        for key in ((rest, None), (rest, n)):  # for any batch, or for this one
            found = self._plans.get(key)
            if found is not None and found.plan.serves(n) and found.current(self):
                self._plans.move_to_end(key)
                return found, [*inputs, *targets]
        batch = max(n, self._least)
        named = [((batch, *a.shape[1:]), f"input{i}") for i, a in enumerate(inputs)]
        planned = _Planned(self, named, [((batch, *a.shape[1:]), name, "pixels", kind) for a, name, kind in
                                         zip(targets, names, kinds, strict=True)], n)
        self._plans[rest, planned.graph.exact] = planned
        while len(self._plans) > self.cache_size:
            self._plans.popitem(last=False)
        return planned, [*inputs, *targets]


class TrainingTape(LossTape):
    """Runs training steps; plans once per shape of input and target.

    Parameters
    ----------
    model, loss : callable
        As for :class:`LossTape`.
    rule : object
        An update rule of :mod:`fastconv.optim`: ``name``, ``state_names`` and ``hyper(step)``.
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
            kernels.arm(planned.hypers, self.rule.hyper)  # what the rule refuses, it refuses before anything has changed
            self._forward(planned)
            loss = float(self._value)
            if not math.isfinite(loss):
                planned.restore()
                where = planned.first_not_finite(arrays)
                raise FloatingPointError(f"step {self.steps + 1}: the loss is {loss}" + (f": {where}" if where else ""))
            planned.program.run("backward", planned.n)
            del held  # the backward reads inputs where they lie
            self._finish(planned)
            return loss

    def _finish(self, planned: _Planned) -> None:
        program, n = planned.program, planned.n
        waiting, runs = self._window.steps + 1, []  # type: int, list
        if self.accumulate > 1:
            sums = [learnt.summing for learnt in planned.learnt]
            kernels.arm_sums(sums)
            runs.append((program.ready("accumulate", n), [*sums, self._window], False, []))
        if waiting < self.accumulate:
            kernels.run_counted(runs, threads_for(program.threads))
            return
        cleared = [self._window, *(learnt.summing for learnt in self.learnt.values())] if self.accumulate > 1 else []
        runs.append((program.ready("update", n), [*planned.hypers, self._updates], bool(self.rule.state_names), cleared))
        with changing(planned.updated):
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
            found = self.learnt[parameter] = Learnt(parameter, self)
        return found


class Learnt:
    """What a training knows of one parameter: its own number of updates, the rule's buffers, a sum of gradients."""

    def __init__(self, parameter: Parameter, tape: TrainingTape):
        self.shape = parameter.shape
        self.hyper = kernels.Hyper(max_norm=tape.clip_norm or 0.0, clip_value=tape.clip_value or 0.0)
        self.summing = kernels.Hyper(grad_scale=1.0 / tape.accumulate)
        self.buffers: dict[str, np.ndarray] = {}
        self._total: np.ndarray | None = None

    def buffer(self, name: str) -> np.ndarray:
        """One of the rule's buffers, zeros at first; its address stays."""
        if name not in self.buffers:
            self.buffers[name] = np.zeros(self.shape, np.float32)
        return self.buffers[name]

    @property
    def total(self) -> np.ndarray:
        """What the steps since the last update have added up, where :attr:`waiting`."""
        if self._total is None:
            self._total = np.zeros(self.shape, np.float32)
        return self._total

    @property
    def waiting(self) -> bool:
        """Whether steps have added to :attr:`total` since the last update."""
        return self.summing.steps > 0

    def reset(self) -> None:
        """As at first, at the same addresses."""
        self.hyper.steps, self.hyper.begun, self.summing.steps = 0, False, 0
        for array in self.buffers.values():
            array[...] = 0


def operation(tape: LossTape) -> str:
    """What a run of the tape is called in messages."""
    return "step" if tape.training else "evaluate"


class _Planned:
    """One plan of a training tape."""

    def __init__(self, tape: Any, inputs: list, targets: list, n: int):
        self.batch, self.n, self.op = inputs[0][0][0], 0, operation(tape)
        k = self.inputs = len(inputs)
        graph, structure = trace(lambda *t: self._model_and_loss(tape, t[:k], t[k:]), [*inputs, *targets], n)
        optimise(graph, tape.training)
        *predictions, loss = graph.outputs
        if loss.shape != ():
            raise ValueError(f"the loss has shape {loss.shape}: expected a scalar (reduction 'mean' or 'sum')")
        finish = None
        if tape.training:
            graph.traced.watch([t.parameter for t in graph.parameters])
            self.parameters = [t for t in graph.parameters if t.parameter.requires_grad]
            gradients = differentiate(graph, [(loss, None)], self.parameters)
            finish = lambda lowered: self._update(tape, lowered, gradients)  # noqa: E731
        plan = Plan(graph, structure, self.batch, tape.algorithm, finish=finish, precision=tape.precision,
                    choose_for=tape.choose_for)
        self.graph, self.plan, self.lowered = graph, plan, plan.lowered
        self.program = Program(plan.lowered, across=True)
        self.program.threads = tape.threads
        self.written = [(p, np.empty(p.shape, np.float32)) for p in self.lowered.changed]
        self.counted = [(c, c.copy()) for c in self.lowered.counters]
        self.slots = [plan.lowered.slots.get(t.name) for t in graph.inputs]
        self.arguments = graph.inputs
        self.integers: dict[int, Any] = {}  # by place, targets of class indices as arrays
        for i, tensor in enumerate(graph.inputs):
            if tensor.dtype == "int64":
                self.integers[i] = self.program.array(plan.lowered.read(tensor).ref, tensor.shape, np.int64)
        self.classes = [(graph.inputs.index(t), *rule) for t, *rule in plan.lowered.extra.get("classes", [])]
        self.structure = structure
        self.outputs = [np.zeros(t.shape, np.float32) for t in predictions] + [tape._value]
        for name, array in zip(plan.exits, self.outputs, strict=True):
            plan.lowered.slots[name].take(array, True)

    @staticmethod
    def _model_and_loss(tape: LossTape, inputs, targets):
        prediction = tape.model(*inputs)
        loss = tape.loss(prediction, *targets)
        if not isinstance(loss, Tensor):
            raise TypeError(f"the loss returned a {type(loss).__name__}: expected one symbolic scalar")
        return prediction, loss

    def predicted(self):
        """The predictions for the batch of the last run."""
        return self.structure.build([a[: self.n] if a.ndim else a for a in self.outputs])[0]

    def _update(self, tape: TrainingTape, cx, gradients: list) -> None:
        """Emits the steps of the accumulate and update segments."""
        found = [(t.parameter, cx.read(g).ref) for t, g in zip(self.parameters, gradients, strict=True) if g is not None]
        self.updated = [p for p, _ in found]
        self.learnt = [tape.recall(p) for p in self.updated]
        self.hypers = [learnt.hyper for learnt in self.learnt]
        self.rule = tape.rule.name, tape.rule.state_names
        if not found:
            raise ValueError("step: the loss depends on no parameter that requires a gradient: nothing would be trained")
        if tape.accumulate > 1:
            sums = [(p, learnt.total.ctypes.data) for p, learnt in zip(self.updated, self.learnt, strict=True)]
            cx.step(kernels.accumulate, [(s, g, p.size, learnt.summing)
                                         for (p, g), (_, s), learnt in zip(found, sums, self.learnt, strict=True)],
                    op="accumulate", segment="accumulate")
            found = sums
        if tape.clip_value is not None:
            cx.step(kernels.clip_value, [(g, p.size, h) for (p, g), h in zip(found, self.hypers, strict=True)],
                    op="clip_value", segment="update")
        if tape.clip_norm is not None:
            for i in range(2):
                cx.step(_clip_norm, [(g, p.size) for p, g in found], self.hypers, i, cx.extra, op="clip_norm",
                        segment="update")
        states = [[learnt.buffer(name).ctypes.data for name in tape.rule.state_names] for learnt in self.learnt]
        width = 1 if tape.rule.name == "sgd" else 2
        items = [(p.address, g, *(s + [0] * (width - len(s))), p.size, h)
                 for (p, g), s, h in zip(found, states, self.hypers, strict=True)]
        cx.step(RULES[tape.rule.name], items, op=tape.rule.name, segment="update")

    def current(self, tape: Any) -> bool:
        """Whether network, loss and rule are still what was planned."""
        return self.graph.traced.current() and (not tape.training or self.rule == (tape.rule.name, tape.rule.state_names))

    def accept(self, arrays: Sequence) -> bool:
        """Points the tape to these arrays, if they fit the plan."""
        if len(arrays) != len(self.slots):
            return False
        n = -1
        for i, (slot, array) in enumerate(zip(self.slots, arrays, strict=True)):
            if slot is None:
                if not isinstance(array, np.ndarray) or is_masked(array) or array.dtype.kind not in "iu" or \
                        array.shape[1:] != self.arguments[i].shape[1:] or array.shape[:1] != (n,):
                    return False
                if array.dtype == np.uint64:
                    array = as_int64(self.op, self.arguments[i].name, array)
                self.integers[i][:n] = array
            else:
                got = slot.take(array, False)
                if got < 1 or (n >= 0 and got != n):
                    return False
                n = got
        self.n = n
        return True

    def remember(self) -> None:
        """Keeps what the next forward writes of the module: running statistics."""
        for parameter, copy in self.written:
            copy[...] = parameter.data
        for counter, copy in self.counted:
            copy[...] = counter

    def restore(self) -> None:
        """Takes back what the last forward wrote of the module."""
        for parameter, copy in self.written:
            parameter.data = copy
        for counter, copy in self.counted:
            counter[...] = copy

    def first_not_finite(self, arrays: Sequence) -> str:
        """Where the first value that is not finite came from, in words; leaves the module as it is."""
        self.remember()
        try:
            return first_not_finite(self.graph, self.lowered, self.program, self.n, [np.asarray(a) for a in arrays])
        finally:
            self.restore()

    def check_targets(self) -> None:
        for place, classes, ignore in self.classes:
            integers, name = self.integers[place], self.arguments[place].name
            count = self.n * (integers.size // self.batch)
            bad = loss_kernels.check_targets(integers.ctypes.data, count, classes, ignore)
            if bad >= 0:
                raise ValueError(f"cross_entropy: {name}[{bad}]={integers.reshape(-1)[bad]} (in flat order) is not a class "
                                 f"index in 0..{classes - 1}, nor ignore_index={ignore}")


def _clip_norm(items: list, hypers: list, part: int, shared: dict):
    """One of the two steps that compute the norm; both come from one call."""
    key = ("clip_norm", tuple(item[0] for item in items))
    if part == 0:
        shared[key] = kernels.clip_norm(items, hypers)
    return shared[key][part]
