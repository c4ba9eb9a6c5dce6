"""One operator on NumPy arrays: a graph of one node, lowered and bound once per problem and kept while it is small.

A kept program is taken out of the cache while it runs, so that two threads never run the same one; the second thread binds
one of its own, which is kept beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastconv._values import shown
from fastconv.engine.options import ALIKE
from fastconv.graph.arrays import as_float32, as_int64, copied, fresh, lies_channels_last
from fastconv.graph.autodiff import differentiate, remove_dead
from fastconv.graph.ir import PIXELS, Graph, Node, Tensor, apply, building, operator, showing
from fastconv.graph.limits import check_memory
from fastconv.kernels.call import Call, IdleCalls, problem_key
from fastconv.kernels.layout import Slot
from fastconv.kernels.locks import Lock
from fastconv.kernels.threads import get_num_threads, reset_in_children
from fastconv.lowering.lower import Lowering
from fastconv.lowering.program import MAPPED, Program

KEEP_PROGRAM = 4 << 20  # bytes: memory of a larger program is given back after the call; its plan is kept
KEEP_TOTAL = 64 << 20  # bytes of all kept programs together
KEEP_PLANS = 512  # kept problems
Tagged = tuple[Any, tuple]


class Argument(NamedTuple):
    """One array argument of a function: its name in messages, its value (None where it was left out), what it must be."""

    name: str
    value: Any
    layout: str = PIXELS
    dtype: str = "float32"
    ndim: int = 0  # 0: any
    optional: bool = False  # may be None


class Compiled(Call):
    """A graph lowered for one problem. ``program`` is its binding to memory, None after that has been given back.

    As a :class:`Call` it is open while it is bound, if all that a run takes and gives are float32 arrays.
    """

    def __init__(self, lowered: Lowering, inputs: list[Tensor], outputs: list[Tensor], updates: list[int],
                 segments: tuple[str, ...], program: Program | None = None):
        self.lowered, self.inputs, self.outputs = lowered, inputs, outputs
        self.updates = updates  # positions of the inputs that the run changes
        self.segments, self.program = segments, program
        self.dense = False  # only arrays in C order are taken
        self.structure: Any = None  # how results nest, where it is made of a function
        self.there: list[bool] = []  # or which of the gradients that are wanted of it depend on anything
        self.problem: IdleCalls | None = None  # that it is counted for
        self.counted = 0

    @property
    def nbytes(self) -> int:
        """Memory that is kept when this is kept."""
        if self.program is None:
            return 0
        scratch = sum(s.scratch_bytes for s in self.program.segments.values())
        lowered, touched = self.lowered, self.program.touched
        touched += (lowered.arena_bytes - touched) // 64  # address space has its limits, too
        return touched + lowered.weights_bytes + lowered.own_bytes + scratch * get_num_threads()

    def unbind(self) -> None:
        """Gives the memory back."""
        self.program = None
        self.close()

    def offer(self) -> None:
        """Opens it, after a run that has prepared what there is to prepare, for the number of threads that there are now."""
        lowered, program = self.lowered, self.program
        if program is None or self.updates or not lowered.plain or not program.prepared or \
                any(t.ndim > 5 or 0 in t.shape for t in (*self.inputs, *self.outputs)):
            return
        if "random" in lowered.extra and "random source" not in lowered.extra:  # each run is told what it draws from
            return
        self.open([lowered.slots[t.name] for t in self.inputs],
                  [lowered.slots[f"output:{i}"] for i in range(len(self.outputs))],
                  [program.segments[name] for name in self.segments], get_num_threads(),
                  [door for name in self.segments for door in program.doors[name]],
                  [(flag, report) for _, flag, report in program.flags],
                  None if self.structure is None or self.structure.plain else self.structure.build,
                  lowered.arena_bytes >= MAPPED)

    def run(self, arrays: Sequence[np.ndarray], n: int, random: tuple[int, int] | None = None) -> list[np.ndarray]:
        """Runs on one array per input; fresh arrays."""
        if self.program is None:
            self.program = Program(self.lowered, across=True)
        if random is not None:
            self.program.array(self.lowered.extra["random"], (2,), np.uint64)[:] = random
        if self.dense and not all(lies_channels_last(a) and np.moveaxis(a, 1, -1).flags.c_contiguous for a in arrays):
            arrays = [np.ascontiguousarray(array) for array in arrays]
        if self.updates:
            apart = copied(arrays, [arrays[position] for position in self.updates])
            arrays = [a if i in self.updates else apart[i] for i, a in enumerate(arrays)]
        held = [self._point(tensor.name, array, False) for tensor, array in zip(self.inputs, arrays, strict=True)]
        for position in self.updates:
            self._point(f"update:{position}", arrays[position], True)
        made = iter(fresh([(self._shape(i, t, n), t.layout == PIXELS) for i, t in enumerate(self.outputs)
                            if t.dtype == "float32"],
                          [a for a, t in zip(arrays, self.inputs, strict=True) if t.layout == PIXELS]))
        outputs = [next(made) if t.dtype == "float32" else np.empty(self._shape(i, t, n), t.dtype)
                   for i, t in enumerate(self.outputs)]
        for i, array in enumerate(outputs):
            self._point(f"output:{i}", array, True)
        self.program.settle(self.segments, n)
        for segment in self.segments:
            self.program.run(segment, n)
        del held  # what was read
        return outputs

    def _shape(self, i: int, tensor: Tensor, n: int) -> tuple[int, ...]:
        slot = self.lowered.slots.get(f"output:{i}")
        shape = slot.extents if slot and tensor.layout == PIXELS else tensor.shape
        return (n, *shape[1:]) if tensor.layout == PIXELS else shape

    def _point(self, name: str, array: np.ndarray, write: bool) -> np.ndarray:
        """Has a slot point to an array, or to a copy that it takes: to what is returned, which must live through the run."""
        if array.ndim > 5:  # a slot has five dimensions; these are arrays of functions over any rank, whose order is C's
            array = array.reshape(-1) if write else np.ascontiguousarray(array).reshape(-1)
        if self.lowered.slots[name].take(array, write) < 0:
            raise RuntimeError(f"{name} did not take an array of shape {array.shape} and strides {array.strides}")
        return array


class Cache:
    """Idle programs by problem, the least recently used leave first."""

    def __init__(self, keep_program: int = KEEP_PROGRAM, keep_total: int = KEEP_TOTAL, keep_plans: int = KEEP_PLANS):
        self.keep_program, self.keep_total, self.keep_plans = keep_program, keep_total, keep_plans
        self.problems: dict[tuple, IdleCalls] = {}
        self._lock = Lock("functional's cache")
        self.nbytes = 0
        reset_in_children(self)

    def after_fork(self) -> None:
        """In the child of a fork: another thread of the parent may have been inside."""
        self.clear()

    def __len__(self) -> int:
        return len(self.problems)

    def take(self, key: tuple) -> Compiled | None:
        """A program of a problem, which is then the caller's alone; None where there is none."""
        problem = self.problems.get(key)
        return None if problem is None else problem.take()

    def put(self, key: tuple, compiled: Compiled) -> None:
        """Gives a program back; threads that run the same problem at once have one each."""
        size = compiled.nbytes
        if size > self.keep_program:
            compiled.unbind()
            size = 0
        compiled.offer()
        if self._lock.mine:  # a signal handler's call, which interrupts this very function: its program is not kept
            return
        with self._lock:
            problem = self.problems.get(key)
            if problem is None:
                problem = self.problems[key] = IdleCalls()
                problem.touch()
            elif problem is not compiled.problem and (size == 0 and len(problem)):
                return  # one plan without memory is enough
            grown = size - (compiled.counted if problem is compiled.problem else 0)
            compiled.problem, compiled.counted = problem, size
            problem.nbytes += grown
            self.nbytes += grown
            problem.give(compiled)
            while self.nbytes > self.keep_total or len(self.problems) > self.keep_plans:
                oldest = min(self.problems, key=lambda k: self.problems[k].used)
                self.nbytes -= self.problems.pop(oldest).nbytes

    def clear(self) -> None:
        with self._lock:
            self.problems.clear()
            self.nbytes = 0


cache = Cache()


def run_op(op: str, arguments: Sequence[Argument], attrs: dict, shown: str = "", updates: Sequence[int] = (),
           random: tuple[int, int] | None = None, tag: Tagged | None = None) -> Any:
    """Runs one operator on arrays.

    Parameters
    ----------
    op : str
        Name of the operator.
    arguments : sequence of Argument
        Its inputs in order; their values are arrays or None.
    attrs : dict
        Its attributes.
    shown : str
        The function's name in messages; default ``op``.
    updates : sequence of int
        Positions of arguments that the operator changes in place.
    random : (seed, offset), optional
        What an operator that draws random numbers draws from.
    tag : (str, tuple), optional
        The tag of the :class:`Function` that was called, and the values with which, by which it finds the problem again.

    Returns
    -------
    ndarray or tuple of ndarray
        Fresh arrays, one per output of the operator.
    """
    outputs = _run(op, arguments, attrs, shown or op, updates, (), (), random, tag)
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def run_backward(op: str, arguments: Sequence[Argument], attrs: dict, grad_outputs: Sequence[Argument],
                 wanted: Sequence[int], shown: str, tag: Tagged | None = None) -> list[np.ndarray]:
    """Gradients of one operator by its gradient rule: of the inputs at the positions ``wanted``."""
    return _run(op, arguments, attrs, shown, (), grad_outputs, wanted, tag=tag)


def _run(op, arguments, attrs, shown, updates, grad_outputs, wanted, random=None, tag=None) -> list[np.ndarray]:
    everything = (*arguments, *grad_outputs)
    arrays = [None if a.value is None and a.optional else check_array(shown, a) for a in everything]
    n = batch_of(shown, everything, arrays)
    if n == 0 and "input_shape" in attrs and attrs["input_shape"][0] == 0:
        attrs = {**attrs, "input_shape": (1, *attrs["input_shape"][1:])}  # planned for one image, run for none
    specs = tuple(None if v is None else (planned_shape(v.shape, a.layout), a.layout, a.dtype)
                  for a, v in zip(everything, arrays, strict=True))
    if tag is None:
        tag = (op, shown, tuple(a.layout for a in everything), tuple(attrs), tuple(wanted)), tuple(attrs.values())
    key = problem_key(tag[0], (*arrays, *tag[1]), len(arrays))
    compiled = None if key is None else cache.take(key)
    if compiled is None:
        names = [a.name for a in everything]
        compiled = compile_op(op, shown, names, specs, dict(attrs), updates, len(grad_outputs), wanted, random is not None)
    try:
        return compiled.run([v for v in arrays if v is not None], n, random)
    finally:
        if key is not None:
            cache.put(key, compiled)


def compile_op(op: str, shown: str, names: Sequence[str], specs: Sequence, attrs: dict, updates: Sequence[int] = (),
               seeds: int = 0, wanted: Sequence[int] = (), random: bool = False) -> Compiled:
    """Builds, lowers and plans the graph of one node, or of its gradients; raises what its shape rule says."""
    graph = Graph()
    described = describe(names, specs, attrs)
    shape, rows = in_rows(specs) if operator(op).pointwise else (None, None)
    tensors: list[Any] = [None if s is None else graph.input((rows[0], 1, *rows[1:]) if rows else s[0], name, s[1], s[2])
                          for name, s in zip(names, specs, strict=True)]
    tensors, grads = tensors[: len(tensors) - seeds], tensors[len(tensors) - seeds:]
    batch = next((t.shape[0] for t in graph.inputs if t.layout == PIXELS), 1)
    with building(graph, ""), showing(shown):
        made = apply(op, tensors, **attrs)
        outputs = graph.outputs = list(made) if isinstance(made, tuple) else [made]
        check_overflow(graph, described, shown)
        if grads:
            outputs = differentiate_op(graph, grads, [tensors[i] for i in wanted], shown)
        lowered = Lowering(graph, batch, choose_for=ALIKE, all_pass=True)
        if random:
            lowered.extra["random"] = lowered.persistent(16, "random state")
        try:
            check_memory(sum(4 * prod(t.shape) for t in (*graph.inputs, *graph.outputs)))
            lowered.run()
            for i, tensor in enumerate(outputs):
                leave(lowered, tensor, f"output:{i}", "backward" if grads else "forward", shape, rows)
            changed = [graph.inputs.index(tensors[i]) for i in updates if tensors[i] is not None]
            for i in changed:
                leave(lowered, graph.inputs[i], f"update:{i}", "forward")
            lowered.finish()
            check_memory(lowered.arena_bytes + lowered.weights_bytes + sum(4 * prod(t.shape) for t in outputs))
        except MemoryError as error:
            raise MemoryError(f"{shown}: {described}: {error}") from None
    for tensor in graph.inputs:
        expect(lowered, lowered.slot(tensor), tensor, shape, rows)
    compiled = Compiled(lowered, graph.inputs, outputs, changed, ("forward", "backward") if grads else ("forward",))
    compiled.dense = rows is not None
    return compiled


ROW = 16384  # elements: up to there, an image is one row


def in_rows(specs: Sequence) -> tuple[tuple | None, tuple | None]:
    """The shape of activations that all have the same, and how it is cut into long rows: nothing need be transposed."""
    shape, layout, dtype = specs[0]
    if any(s != specs[0] for s in specs) or layout != PIXELS or dtype != "float32" or len(shape) < 3:
        return None, None
    size = prod(shape[1:])
    return shape, (shape[0], 1, size) if size <= ROW else (shape[0], size // shape[-1], shape[-1])


def differentiate_op(graph: Graph, grads: list, wanted: list, shown: str) -> list:
    """Adds the gradient nodes; the forward's nodes stay where a gradient's attributes refer to them."""
    for tensor, grad in zip(graph.outputs, grads, strict=False):
        if grad.shape != tensor.shape:
            raise ValueError(f"{shown}: {grad.name} of shape {grad.shape}: expected {tensor.shape}, the shape of the output")
    graph.late_inputs.update(grads)
    gradients = differentiate(graph, list(zip(graph.outputs, grads, strict=False)), wanted)
    graph.outputs = [t for n in graph.nodes for v in n.attrs.values() if isinstance(v, Node) for t in v.outputs]
    remove_dead(graph, [g for g in gradients if g is not None])
    return gradients


def leave(lowered: Lowering, tensor: Tensor, name: str, segment: str, shape=None, rows=None) -> None:
    """A tensor leaves through a slot of this name."""
    lowered.exit(tensor, segment, name)
    expect(lowered, lowered.slots[name], tensor, shape, rows)


def expect(lowered: Lowering, slot: Slot, tensor: Tensor, shape=None, rows=None) -> None:
    slot.expect(shape or tensor.shape, tensor.layout == PIXELS, rows, dtype=tensor.dtype,
                row_major=tensor.dtype != "float32")


def check_overflow(graph: Graph, described: str, shown: str) -> None:
    for tensor in graph.outputs:
        if prod(tensor.shape) * 4 >= 2**62:
            raise ValueError(f"{shown}: {described}: the product of the output's extents "
                             f"{tensor.shape} overflows")


# ---- arguments ----------------------------------------------------------------------------------------------------------


def check_array(shown: str, argument: Argument) -> np.ndarray:
    """An argument as an array of its dtype, at most five dimensions, no extent but the batch zero."""
    if argument.dtype == "int64":
        array = as_int64(shown, argument.name, argument.value)
    else:
        array = as_float32(shown, argument.name, argument.value)
    check_ndim(shown, argument, array.shape)
    if 0 in array.shape[argument.layout == PIXELS:]:
        rule = "every extent but the batch" if argument.layout == PIXELS else "every extent"
        raise ValueError(f"{shown}: {argument.name} of shape {array.shape}: {rule} must be at least 1")
    return array


AXES = {1: "", 2: " (N, C)", 3: " (N, C, L)", 4: " (N, C, H, W)", 5: " (N, C, D, H, W)"}


def check_ndim(shown: str, argument: Argument, shape: tuple[int, ...]) -> None:
    if argument.ndim and len(shape) != argument.ndim:
        axes = AXES[argument.ndim] if argument.layout == PIXELS else ""
        raise ValueError(f"{shown}: {argument.name} of shape {shape} has {len(shape)} dimensions: expected "
                         f"{argument.ndim}{axes}")
    if len(shape) > 5:
        raise ValueError(f"{shown}: {argument.name} of shape {shape} has {len(shape)} dimensions: expected at most 5")


def batch_of(shown: str, arguments: Sequence[Argument], arrays: Sequence[np.ndarray | None]) -> int:
    """The batch that all activations have in common."""
    n, first = -1, ""
    for a, v in zip(arguments, arrays, strict=True):
        if v is None or a.layout != PIXELS:
            continue
        if v.ndim == 0:
            raise ValueError(f"{shown}: {a.name} has no dimensions: expected at least a batch")
        if n >= 0 and len(v) != n:
            raise ValueError(f"{shown}: {a.name} of shape {v.shape} has a batch of {len(v)}: that of {first} is {n}")
        n, first = len(v), first or a.name
    return n if n >= 0 else 1


def planned_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    return (max(1, shape[0]), *shape[1:]) if layout == PIXELS else shape


def describe(names: Sequence[str], specs: Sequence, attrs: dict) -> str:
    """The arguments of a call, for messages."""
    arrays = [f"{name} of shape {s[0]}" for name, s in zip(names, specs, strict=True) if s is not None]
    return ", ".join([*arrays, *(f"{k}={shown(v)}" for k, v in attrs.items())])

