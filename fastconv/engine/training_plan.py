"""One plan of a training tape: forward, loss, backward and update of a network for one set of shapes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fastconv._arrays import is_masked
from fastconv.engine.plan import Plan, optimise
from fastconv.engine.updating import Update, clip
from fastconv.graph.arrays import as_int64, copied
from fastconv.graph.autodiff import differentiate
from fastconv.graph.ir import Tensor
from fastconv.graph.trace import trace
from fastconv.kernels import loss as loss_kernels
from fastconv.kernels import update as kernels
from fastconv.lowering.program import Program
from fastconv.report.diagnose import first_not_finite


def operation(tape: Any) -> str:
    """What a run of the tape is called in messages."""
    return "step" if tape.training else "evaluate"


class Planned:
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
            self.key = tape.rule.key
            assigned = tape.rule.assign([(t.name, t.parameter) for t in graph.parameters])
            wanted = [(t, rule) for t, rule in zip(graph.parameters, assigned, strict=True)
                      if t.parameter.requires_grad and rule is not None]
            self.parameters, self.rules = [t for t, _ in wanted], [rule for _, rule in wanted]
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
        self.integers: dict[int, Any] = {}  # by place, inputs and targets of indices as arrays
        for i, tensor in enumerate(graph.inputs):
            if tensor.dtype == "int64":
                self.integers[i] = self.program.array(plan.lowered.read(tensor).ref, tensor.shape, np.int64)
        self.classes = [(graph.inputs.index(t), *rule) for t, *rule in plan.lowered.extra.get("classes", [])]
        self.structure = structure
        self.outputs = [np.zeros(t.shape, np.float32) for t in predictions] + [tape._value]
        for name, array in zip(plan.exits, self.outputs, strict=True):
            plan.lowered.slots[name].take(array, True)

    @staticmethod
    def _model_and_loss(tape: Any, inputs, targets):
        prediction = tape.model(*inputs)
        loss = tape.loss(prediction, *targets)
        if not isinstance(loss, Tensor):
            raise TypeError(f"the loss returned a {type(loss).__name__}: expected one symbolic scalar")
        return prediction, loss

    def predicted(self):
        """The predictions for the batch of the last run."""
        return self.structure.build([a[: self.n] if a.ndim else a for a in self.outputs])[0]

    def _update(self, tape: Any, cx, gradients: list) -> None:
        """Emits the steps of the accumulate and update segments."""
        found = [(t.parameter, cx.read(g).ref, rule)
                 for t, g, rule in zip(self.parameters, gradients, self.rules, strict=True) if g is not None]
        if not found:
            raise ValueError("step: the loss depends on no parameter that requires a gradient: nothing would be trained")
        rows = [(p, g, tape.recall(p), rule) for p, g, rule in found]
        self.learnt = [learnt for _, _, learnt, _ in rows]
        if tape.rule.perturbs:
            Update(rows, private=True).perturb(partial(cx.step, segment="perturb"), cx.extra, tape.rule)
        if tape.accumulate > 1:
            cx.step(kernels.accumulate, [(learnt.total.ctypes.data, g, p.size, learnt.summing) for p, g, learnt, _ in rows],
                    op="accumulate", segment="accumulate")
            rows = [(p, learnt.total.ctypes.data, learnt, rule) for p, _, learnt, rule in rows]
        self.update, step = Update(rows, private=True), partial(cx.step, segment="update")
        if tape.rule.perturbs:
            self.update.put_back(step, tape.rule)
        clip(step, cx.extra, [(p, g) for p, g, _, _ in rows], self.update.hypers, tape.clip_value, tape.clip_norm)
        self.update.emit(step, cx.extra)

    def current(self, tape: Any) -> bool:
        """Whether network, loss and rule are still what was planned."""
        return self.graph.traced.current() and (not tape.training or self.key == tape.rule.key)

    def accept(self, arrays: Sequence) -> Sequence | None:
        """Points the tape to these arrays, copies of those that lie in the memory of predictions, if they fit the plan.

        What it points to, which must live until the run is over; None where they do not fit.
        """
        if len(arrays) != len(self.slots):
            return None
        n, arrays = -1, copied(arrays, self.outputs)
        for i, (slot, array) in enumerate(zip(self.slots, arrays, strict=True)):
            if slot is None:
                if not isinstance(array, np.ndarray) or is_masked(array) or array.dtype.kind not in "iu" or \
                        array.shape[1:] != self.arguments[i].shape[1:] or array.ndim == 0 or len(array) < 1 or \
                        len(array) > self.batch or (n >= 0 and len(array) != n):
                    return None
                n = len(array)
                if array.dtype == np.uint64:
                    array = as_int64(self.op, self.arguments[i].name, array)
                self.integers[i][:n] = array
            else:
                got = slot.take(array, False)
                if got < 1 or (n >= 0 and got != n):
                    return None
                n = got
        self.n = n
        return arrays

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
            check_classes(self.integers[place], self.arguments[place].name, self.n, classes, ignore)


def check_classes(integers: np.ndarray, name: str, n: int, classes: int, ignore: int) -> None:
    """Raises ValueError where one of the first ``n`` targets is no class."""
    count = n * (integers.size // max(1, len(integers)))
    bad = loss_kernels.check_targets(integers.ctypes.data, count, classes, ignore)
    if bad >= 0:
        raise ValueError(f"cross_entropy: {name}[{bad}]={integers.reshape(-1)[bad]} (in flat order) is not a class "
                         f"index in 0..{classes - 1}, nor ignore_index={ignore}")
