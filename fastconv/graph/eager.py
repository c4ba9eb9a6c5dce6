"""One operator on NumPy arrays: a graph of one node, lowered and bound once per problem and kept while it is small.

A kept program is taken out of the cache while it runs, so that two threads never run the same one; the second thread finds
the place empty and binds a program of its own.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastconv.graph.arrays import as_float32, as_int64
from fastconv.graph.autodiff import differentiate, remove_dead
from fastconv.graph.ir import PIXELS, Graph, Node, Tensor, apply, building, showing
from fastconv.graph.lower import Lowering
from fastconv.graph.plan import check_memory
from fastconv.graph.program import Program
from fastconv.kernels.threads import get_num_threads, reset_in_children

KEEP_PROGRAM = 4 << 20  # bytes: memory of a larger program is given back after the call; its plan is kept
KEEP_TOTAL = 64 << 20  # bytes of all kept programs together
KEEP_PLANS = 512  # kept problems


class Argument(NamedTuple):
    """One array argument of a function: its name in messages, its value (None where it was left out), what it must be."""

    name: str
    value: Any
    layout: str = PIXELS
    dtype: str = "float32"
    ndim: int = 0  # 0: any
    optional: bool = False  # may be None


@dataclass(eq=False)
class Compiled:
    """A graph lowered for one problem. ``program`` is its binding to memory, None after that has been given back."""

    lowered: Lowering
    inputs: list[Tensor]
    outputs: list[Tensor]
    updates: list[int]  # positions of the inputs that the run changes
    segments: tuple[str, ...]
    program: Program | None = None

    @property
    def nbytes(self) -> int:
        """Memory that is kept when this is kept."""
        if self.program is None:
            return 0
        scratch = sum(s.scratch_bytes for s in self.program.segments.values())
        return self.lowered.arena_bytes + self.lowered.weights_bytes + scratch * get_num_threads()

    def run(self, arrays: Sequence[np.ndarray], n: int, random: tuple[int, int] | None = None) -> list[np.ndarray]:
        """Runs on one array per input; fresh arrays."""
        if self.program is None:
            self.program = Program(self.lowered)
        if random is not None:
            self.program.array(self.lowered.extra["random"], (2,), np.uint64)[:] = random
        for tensor, array in zip(self.inputs, arrays, strict=True):
            if tensor.dtype != "float32":
                self.program.array(self.lowered.read(tensor).ref, tensor.shape, tensor.dtype)[: len(array)] = array
            else:
                self._point(tensor.name, array, False)
        for position in self.updates:
            self._point(f"update:{position}", arrays[position], True)
        outputs = [np.empty((n, *t.shape[1:]) if t.layout == PIXELS else t.shape, t.dtype) for t in self.outputs]
        for i, (tensor, array) in enumerate(zip(self.outputs, outputs, strict=True)):
            if tensor.dtype == "float32":
                self._point(f"output:{i}", array, True)
        for segment in self.segments:
            self.program.run(segment, n)
        for tensor, array in zip(self.outputs, outputs, strict=True):
            if tensor.dtype != "float32":
                view, c = self.lowered.read(tensor), tensor.shape[1]
                pixels = self.program.array(view.ref, (tensor.shape[0], *tensor.shape[2:], c), tensor.dtype)
                array[...] = np.moveaxis(pixels[:n], -1, 1)
        return outputs

    def _point(self, name: str, array: np.ndarray, write: bool) -> None:
        if self.lowered.slots[name].take(array, write) < 0:
            raise RuntimeError(f"{name} did not take an array of shape {array.shape} and strides {array.strides}")


class Cache:
    """Idle programs by problem, the least recently used leave first."""

    def __init__(self, keep_program: int = KEEP_PROGRAM, keep_total: int = KEEP_TOTAL, keep_plans: int = KEEP_PLANS):
        self.keep_program, self.keep_total, self.keep_plans = keep_program, keep_total, keep_plans
        self._idle: OrderedDict[tuple, tuple[Compiled, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.nbytes = 0
        reset_in_children(self)

    def after_fork(self) -> None:
        """In the child of a fork: another thread of the parent may have been inside."""
        self._lock = threading.Lock()
        self.clear()

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, key: tuple) -> Compiled | None:
        """The program of a problem, which is then the caller's alone; None where there is none."""
        with self._lock:
            found = self._idle.pop(key, None)
            if found is None:
                return None
            self.nbytes -= found[1]
            return found[0]

    def put(self, key: tuple, compiled: Compiled) -> None:
        """Gives a program back."""
        size = compiled.nbytes
        if size > self.keep_program:
            compiled.program, size = None, 0
        with self._lock:
            old = self._idle.pop(key, None)
            if old is not None:
                self.nbytes -= old[1]
            self._idle[key] = compiled, size
            self.nbytes += size
            while self.nbytes > self.keep_total or len(self._idle) > self.keep_plans:
                self.nbytes -= self._idle.popitem(last=False)[1][1]

    def clear(self) -> None:
        with self._lock:
            self._idle.clear()
            self.nbytes = 0


cache = Cache()


def run_op(op: str, arguments: Sequence[Argument], attrs: dict, shown: str = "", updates: Sequence[int] = (),
           also: Callable[[Node], Tensor] | None = None, random: tuple[int, int] | None = None) -> Any:
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
    also : callable, optional
        Gives a further output of the node, which is not float32 (the winners of a max pool).
    random : (seed, offset), optional
        What an operator that draws random numbers draws from.

    Returns
    -------
    ndarray or tuple of ndarray
        Fresh arrays, one per output of the operator.
    """
    outputs = _run(op, arguments, attrs, shown or op, updates, (), (), also, random)
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def run_backward(op: str, arguments: Sequence[Argument], attrs: dict, grad_outputs: Sequence[Argument],
                 wanted: Sequence[int], shown: str) -> list[np.ndarray]:
    """Gradients of one operator by its gradient rule: of the inputs at the positions ``wanted``."""
    return _run(op, arguments, attrs, shown, (), grad_outputs, wanted)


def _run(op, arguments, attrs, shown, updates, grad_outputs, wanted, also=None, random=None) -> list[np.ndarray]:
    everything = (*arguments, *grad_outputs)
    arrays = [None if a.value is None and a.optional else check_array(shown, a) for a in everything]
    n = batch_of(shown, everything, arrays)
    if n == 0 and "input_shape" in attrs and attrs["input_shape"][0] == 0:
        attrs = {**attrs, "input_shape": (1, *attrs["input_shape"][1:])}  # planned for one image, run for none
    specs = tuple(None if v is None else (planned_shape(v.shape, a.layout), a.layout, a.dtype)
                  for a, v in zip(everything, arrays, strict=True))
    try:
        key: tuple = (op, shown, specs, frozen(attrs), tuple(wanted), also)
        hash(key)
        compiled = cache.take(key)
    except TypeError:  # an attribute that cannot be hashed: the shape rule will say what is wrong with it
        key, compiled = (), None
    if compiled is None:
        names = [a.name for a in everything]
        compiled = compile_op(op, shown, names, specs, dict(attrs), updates, len(grad_outputs), wanted, also,
                              random is not None)
    outputs = compiled.run([v for v in arrays if v is not None], n, random)
    if key:
        cache.put(key, compiled)
    return outputs


def compile_op(op: str, shown: str, names: Sequence[str], specs: Sequence, attrs: dict, updates: Sequence[int] = (),
               seeds: int = 0, wanted: Sequence[int] = (), also: Callable[[Node], Tensor] | None = None,
               random: bool = False) -> Compiled:
    """Builds, lowers and plans the graph of one node, or of its gradients; raises what its shape rule says."""
    import fastconv.ops  # noqa: F401  (registers the operators)

    graph = Graph()
    given = dict(attrs)
    tensors: list[Any] = [None if s is None else graph.input(s[0], name, s[1], s[2])
                          for name, s in zip(names, specs, strict=True)]
    tensors, grads = tensors[: len(tensors) - seeds], tensors[len(tensors) - seeds:]
    batch = next((t.shape[0] for t in graph.inputs if t.layout == PIXELS), 1)
    with building(graph, ""), showing(shown):
        made = apply(op, tensors, **attrs)
        outputs = graph.outputs = list(made) if isinstance(made, tuple) else [made]
        check_overflow(graph, given, shown)
        if also:
            also(graph.nodes[0])
            outputs = graph.outputs = graph.nodes[0].outputs
        if grads:
            outputs = differentiate_op(graph, grads, [tensors[i] for i in wanted], shown)
        lowered = Lowering(graph, batch)
        if random:
            lowered.extra["random"] = lowered.persistent(16, "random state")
        try:
            check_memory(sum(4 * prod(t.shape) for t in (*graph.inputs, *graph.outputs)))
            lowered.run()
            for i, tensor in enumerate(outputs):
                if tensor.dtype == "float32":
                    leave(lowered, tensor, f"output:{i}", "backward" if grads else "forward")
            changed = [graph.inputs.index(tensors[i]) for i in updates if tensors[i] is not None]
            for i in changed:
                leave(lowered, graph.inputs[i], f"update:{i}", "forward")
            lowered.finish()
            check_memory(lowered.arena_bytes + lowered.weights_bytes + sum(4 * prod(t.shape) for t in outputs))
        except MemoryError as error:
            raise MemoryError(f"{shown}: {describe(graph.inputs, given)}: {error}") from None
    for tensor in graph.inputs:
        if tensor.dtype == "float32":
            lowered.slot(tensor).expect(tensor.shape, tensor.layout == PIXELS)
    return Compiled(lowered, graph.inputs, outputs, changed, ("forward", "backward") if grads else ("forward",))


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


def leave(lowered: Lowering, tensor: Tensor, name: str, segment: str) -> None:
    """A tensor leaves through a slot of this name."""
    lowered.exit(tensor, segment, name)
    lowered.slots[name].expect(tensor.shape, tensor.layout == PIXELS)


def check_overflow(graph: Graph, attrs: dict, shown: str) -> None:
    for tensor in graph.outputs:
        if prod(tensor.shape) * 4 >= 2**62:
            raise ValueError(f"{shown}: {describe(graph.inputs, attrs)}: the product of the output's extents "
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


def frozen(value) -> Any:
    """Attributes as a key: hashable, and 1, 1.0 and True are three different things."""
    if isinstance(value, dict):
        return tuple((k, frozen(value[k])) for k in sorted(value))
    if isinstance(value, (tuple, list)):
        return (type(value), *(frozen(v) for v in value))
    return type(value), value


def describe(inputs: Sequence[Tensor], attrs: dict) -> str:
    """The arguments of a call, for messages."""
    return ", ".join([*(f"{t.name} of shape {t.shape}" for t in inputs), *(f"{k}={v!r}" for k, v in attrs.items())])

