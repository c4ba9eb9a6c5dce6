"""The training tape: forward, backward and update of a network and its loss in one plan."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv.graph.arrays import as_float32, as_int64
from fastconv.graph.autodiff import differentiate
from fastconv.graph.diagnose import first_not_finite
from fastconv.graph.ir import Tensor
from fastconv.graph.parameter import Parameter, touch
from fastconv.graph.planning import Plan, optimise
from fastconv.graph.program import Program
from fastconv.graph.trace import trace
from fastconv.kernels import loss as loss_kernels
from fastconv.kernels import update as kernels
from fastconv.kernels.threads import reset_in_children

RULES = {"sgd": kernels.sgd, "adam": kernels.adam, "adamw": kernels.adamw}


class LossTape:
    """Runs a network and its loss, forward only; plans once per shape of input and target.

    Parameters
    ----------
    model, loss : callable
        Over symbolic tensors: ``model(*inputs) -> prediction``, ``loss(prediction, target) -> scalar``.
    algorithm, precision, threads, cache_size
        As for :func:`fastconv.compile`.
    """

    training = False

    def __init__(self, model: Callable, loss: Callable, *, algorithm=None, precision: str = "highest",
                 threads: int | None = None, cache_size: int = 4):
        self.model, self.loss, self.precision = model, loss, precision
        self.algorithm, self.threads, self.cache_size = algorithm, threads or 0, cache_size
        self._value = np.zeros((), np.float32)
        self._plans: OrderedDict[tuple, _Planned] = OrderedDict()
        self._last: _Planned | None = None
        self._lock = threading.Lock()
        reset_in_children(self)

    def after_fork(self) -> None:
        """In the child of a fork: a run that another thread of the parent was in is not there."""
        self._lock = threading.Lock()

    def run(self, *arrays) -> float:
        """The loss of a batch: the inputs, then the target.

        Parameters
        ----------
        *arrays : ndarray
            Inputs float32 ``(N, C, ...)``; the target of integers (class indices) or float32.

        Raises
        ------
        TypeError, ValueError
            Before anything has run: a wrong dtype or shape, a class index out of range.
        """
        with self._lock:
            self._forward(arrays)
            return float(self._value)

    def predictions(self):
        """What the model predicted in the last run, nested as it returned it: views that the next run overwrites."""
        if self._last is None:
            raise RuntimeError("predictions: no step has run yet")
        return self._last.predicted()

    def _forward(self, arrays: Sequence) -> _Planned:
        planned = self._last
        if planned is None or not planned.accept(arrays):
            planned, arrays = self._plan(arrays)
            if not planned.accept(arrays):
                raise RuntimeError("the tape does not accept the arrays that it was planned for")
        planned.check_targets()
        self._last = planned
        planned.remember()
        planned.program.run("forward", planned.n)
        return planned

    # ---- planning -------------------------------------------------------------------------------------------------

    def replan(self, algorithm) -> None:
        """Plans again, with other algorithms, when it next runs. What has been learnt and accumulated stays."""
        with self._lock:
            self.algorithm, self._last = algorithm, None
            self._plans.clear()

    def _plan(self, arrays: Sequence) -> tuple[_Planned, Sequence]:
        """The plan for these arrays, and the arrays as NumPy's; says what is wrong with them."""
        op = operation(self)
        if len(arrays) < 2:
            raise TypeError(f"{op}: {len(arrays)} arrays given: expected the inputs and the target")
        inputs = [as_float32(op, f"input {i}", a) for i, a in enumerate(arrays[:-1])]
        target = np.asarray(arrays[-1])
        if target.dtype.kind in "iu":
            specs_target = (target.shape, "target", "pixels", "int64")
        else:
            target = as_float32(op, "target", arrays[-1])
            specs_target = (target.shape, "target", "pixels", "float32")
        for name, a in [*((f"input {i}", a) for i, a in enumerate(inputs)), ("target", target)]:
            if a.ndim < 1 or a.shape[0] != inputs[0].shape[0]:
                raise ValueError(f"{op}: {name} of shape {a.shape}: its batch differs from the first input's shape "
                                 f"{inputs[0].shape}")
        if inputs[0].shape[0] < 1:
            raise ValueError(f"{op}: input 0 of shape {inputs[0].shape} is an empty batch")
        rest, n = (*(a.shape[1:] for a in inputs), target.shape[1:], target.dtype.kind), inputs[0].shape[0]
        for key in ((rest, None), (rest, n)):  # for any batch, or for this one
            found = self._plans.get(key)
            if found is not None and found.plan.serves(n):
                self._plans.move_to_end(key)
                return found, [*inputs, target]
        planned = _Planned(self, [(a.shape, f"input{i}") for i, a in enumerate(inputs)], specs_target)
        self._plans[rest, planned.graph.exact] = planned
        while len(self._plans) > self.cache_size:
            self._plans.popitem(last=False)
        return planned, [*inputs, target]


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
    steps : int
        Updates done.
    state : dict
        Per parameter (by id) and state name, the rule's float32 buffers.
    """

    training = True

    def __init__(self, model: Callable, loss: Callable, rule, *, clip_norm: float | None = None,
                 clip_value: float | None = None, accumulate: int = 1, algorithm=None, precision: str = "highest",
                 threads: int | None = None, cache_size: int = 4):
        for name, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value!r} must be above 0")
        if isinstance(accumulate, bool) or not isinstance(accumulate, (int, np.integer)) or accumulate < 1:
            raise ValueError(f"accumulate={accumulate!r}: expected an integer of at least 1")
        accumulate = int(accumulate)
        super().__init__(model, loss, algorithm=algorithm, precision=precision, threads=threads, cache_size=cache_size)
        self.rule, self.clip_norm, self.clip_value, self.accumulate = rule, clip_norm, clip_value, accumulate
        self.steps = 0
        self.state: dict[tuple[int, str], np.ndarray] = {}
        self.hyper, self.summing = kernels.Hyper(), kernels.Hyper(grad_scale=1.0 / accumulate)
        self._micro = 0
        self._sums: dict[int, np.ndarray] = {}
        self._owners: dict[int, Parameter] = {}  # keeps alive what state and sums know by id: no other may take that id

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
            hyper = self.rule.hyper(self.steps + 1)  # first: what the rule refuses, it refuses before anything has changed
            planned = self._forward(arrays)
            loss = float(self._value)
            if not math.isfinite(loss):
                planned.restore()
                where = planned.first_not_finite(arrays)
                raise FloatingPointError(f"step {self.steps + 1}: the loss is {loss}" + (f": {where}" if where else ""))
            planned.program.run("backward", planned.n)
            self._finish(planned, hyper)
            return loss

    def _finish(self, planned: _Planned, hyper: dict) -> None:
        program = planned.program
        if self.accumulate > 1:
            self.summing.first = float(self._micro == 0)
            program.run("accumulate", planned.n)
            self._micro += 1
            if self._micro < self.accumulate:
                return
            self._micro = 0
        self.steps += 1
        self.hyper.grad_scale = 1.0
        self.hyper.set(**hyper)
        program.run("update", planned.n)
        touch(planned.updated)

    @property
    def accumulated(self) -> int:
        """Steps whose gradients are summed and wait for the next update."""
        return self._micro

    def restart(self, steps: int, accumulated: int = 0) -> None:
        """Goes on as if so many updates had been done, and so many steps since; their sums are :meth:`sum`."""
        with self._lock:
            self.steps, self._micro = steps, accumulated

    def buffer(self, parameter: Parameter, name: str) -> np.ndarray:
        """The rule's state of a parameter, zeros at first."""
        self._owners[id(parameter)] = parameter
        return self.state.setdefault((id(parameter), name), np.zeros(parameter.shape, np.float32))

    def sum(self, parameter: Parameter) -> np.ndarray:
        """What the steps since the last update have added up for a parameter."""
        self._owners[id(parameter)] = parameter
        return self._sums.setdefault(id(parameter), np.zeros(parameter.shape, np.float32))


def operation(tape: LossTape) -> str:
    """What a run of the tape is called in messages."""
    return "step" if tape.training else "evaluate"


class _Planned:
    """One plan of a training tape."""

    def __init__(self, tape: Any, inputs: list, target: tuple):
        self.batch, self.n, self.op = inputs[0][0][0], 0, operation(tape)
        graph, structure = trace(lambda *t: self._model_and_loss(tape, t), [*inputs, target])
        optimise(graph, tape.training)
        *predictions, loss = graph.outputs
        if loss.shape != ():
            raise ValueError(f"the loss has shape {loss.shape}: expected a scalar (reduction 'mean' or 'sum')")
        finish = None
        if tape.training:
            self.parameters = [t for t in graph.parameters if t.parameter.requires_grad]
            gradients = differentiate(graph, [(loss, None)], self.parameters)
            finish = lambda lowered: self._update(tape, lowered, gradients)  # noqa: E731
        plan = Plan(graph, structure, self.batch, tape.algorithm, finish=finish, precision=tape.precision)
        self.graph, self.plan, self.lowered = graph, plan, plan.lowered
        self.program = Program(plan.lowered)
        self.program.threads = tape.threads
        self.written = [(p, np.empty(p.shape, np.float32)) for p in self.lowered.changed]
        self.counted = [(c, c.copy()) for c in self.lowered.counters]
        self.slots = [plan.lowered.slots.get(t.name) for t in graph.inputs]
        self.target = graph.inputs[-1]
        self.integers: Any = None  # the target as an array, where it is of class indices
        if self.target.dtype == "int64":
            self.integers = self.program.array(plan.lowered.read(self.target).ref, self.target.shape, np.int64)
            self.classes = plan.lowered.extra.get("classes", [])
        self.structure = structure
        self.outputs = [np.zeros(t.shape, np.float32) for t in predictions] + [tape._value]
        for name, array in zip(plan.exits, self.outputs, strict=True):
            plan.lowered.slots[name].take(array, True)

    @staticmethod
    def _model_and_loss(tape: LossTape, tensors):
        prediction = tape.model(*tensors[:-1])
        loss = tape.loss(prediction, tensors[-1])
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
        if tape.accumulate > 1:
            sums = [(p, tape.sum(p).ctypes.data) for p in self.updated]
            cx.step(kernels.accumulate, [(s, g, p.size, tape.summing) for (p, g), (_, s) in zip(found, sums, strict=True)],
                    op="accumulate", segment="accumulate")
            found = sums
        if tape.clip_value is not None:
            tape.hyper.clip_value = tape.clip_value
            cx.step(kernels.clip_value, [(g, p.size, tape.hyper) for p, g in found], op="clip_value", segment="update")
        if tape.clip_norm is not None:
            tape.hyper.max_norm = tape.clip_norm
            for i in range(2):
                cx.step(_clip_norm, [(g, p.size) for p, g in found], tape.hyper, i, cx.extra, op="clip_norm",
                        segment="update")
        states = [[tape.buffer(p, name).ctypes.data for name in tape.rule.state_names] for p, _ in found]
        width = 1 if tape.rule.name == "sgd" else 2
        items = [(p.address, g, *(s + [0] * (width - len(s))), p.size, tape.hyper)
                 for (p, g), s in zip(found, states, strict=True)]
        cx.step(RULES[tape.rule.name], items, op=tape.rule.name, segment="update")

    def accept(self, arrays: Sequence) -> bool:
        """Points the tape to these arrays, if they fit the plan."""
        if len(arrays) != len(self.slots):
            return False
        n = -1
        for slot, array in zip(self.slots, arrays, strict=True):
            if slot is None:
                if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu" or \
                        array.shape[1:] != self.target.shape[1:] or array.shape[0] != n:
                    return False
                self.integers[:n] = as_int64(self.op, "target", array) if array.dtype == np.uint64 else array
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
        if self.integers is None:
            return
        count = self.n * (self.integers.size // self.batch)
        for classes, ignore in self.classes:
            bad = loss_kernels.check_targets(self.integers.ctypes.data, count, classes, ignore)
            if bad >= 0:
                raise ValueError(f"cross_entropy: target[{bad}]={self.integers.reshape(-1)[bad]} (in flat order) is not a "
                                 f"class index in 0..{classes - 1}, nor ignore_index={ignore}")


def _clip_norm(items: list, hyper, part: int, shared: dict):
    """One of the two steps that compute the norm; both come from one call."""
    key = ("clip_norm", tuple(item[0] for item in items))
    if part == 0:
        shared[key] = kernels.clip_norm(items, [hyper])
    return shared[key][part]
