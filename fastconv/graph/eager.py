"""One operator on NumPy arrays: a graph of one node, lowered and bound once per problem and kept while it is small.

A kept program is taken out of the cache while it runs, so that two threads never run the same one; the second thread finds
the place empty and binds a program of its own.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastconv.graph.arrays import as_float32, as_int64
from fastconv.graph.ir import PIXELS, Graph, Tensor, apply, building, showing
from fastconv.graph.lower import Lowering
from fastconv.graph.plan import check_memory
from fastconv.graph.program import Program
from fastconv.kernels.threads import get_num_threads

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


@dataclass(eq=False)
class Compiled:
    """A graph lowered for one problem. ``program`` is its binding to memory, None after that has been given back."""

    graph: Graph
    inputs: list[Tensor]
    outputs: list[Tensor]
    lowered: Lowering
    program: Program | None = None

    def bind(self) -> Program:
        if self.program is None:
            self.program = Program(self.lowered)
        return self.program

    @property
    def nbytes(self) -> int:
        """Memory that is kept when this is kept."""
        if self.program is None:
            return 0
        scratch = sum(s.scratch_bytes for s in self.program.segments.values())
        return self.lowered.arena_bytes + self.lowered.weights_bytes + scratch * get_num_threads()

    def set_input(self, tensor: Tensor, array: np.ndarray) -> None:
        """Points an input to a user's array, or copies it where it is of integers."""
        if tensor.dtype != "float32":
            program = self.bind()
            program.array(self.lowered.read(tensor).ref, tensor.shape, tensor.dtype)[: len(array)] = array
        elif self.lowered.slot(tensor).take(array, False) < 0:
            raise RuntimeError(f"{tensor} did not take an array of shape {array.shape} and strides {array.strides}")

    def new_output(self, tensor: Tensor, n: int) -> np.ndarray:
        """A fresh array that the next run writes."""
        array = np.empty((n, *tensor.shape[1:]) if tensor.layout == PIXELS else tensor.shape, np.float32)
        self.lowered.slot(tensor).take(array, True)
        return array


class Cache:
    """Idle programs by problem, the least recently used leave first."""

    def __init__(self, keep_program: int = KEEP_PROGRAM, keep_total: int = KEEP_TOTAL, keep_plans: int = KEEP_PLANS):
        self.keep_program, self.keep_total, self.keep_plans = keep_program, keep_total, keep_plans
        self._idle: OrderedDict[tuple, tuple[Compiled, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.nbytes = 0

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


def run_op(op: str, arguments: Sequence[Argument], attrs: dict, shown: str = "") -> Any:
    """Runs one operator on arrays.

    Parameters
    ----------
    op : str
        Name of the operator.
    arguments : sequence of Argument
        Its inputs in order; their values are arrays or None.
    attrs : dict
        Its attributes; None where an attribute is left out.
    shown : str
        The function's name in messages; default ``op``.

    Returns
    -------
    ndarray or tuple of ndarray
        Fresh arrays, one per output of the operator.
    """
    shown = shown or op
    attrs = {k: v for k, v in attrs.items() if v is not None}
    arrays = [None if a.value is None else check_array(shown, a) for a in arguments]
    n = batch_of(shown, arguments, arrays)
    if n == 0 and "input_shape" in attrs and attrs["input_shape"][0] == 0:
        attrs["input_shape"] = (1, *attrs["input_shape"][1:])  # planned for one image, run for none
    specs = tuple(None if v is None else (planned_shape(v.shape, a.layout), a.layout, a.dtype)
                  for a, v in zip(arguments, arrays, strict=True))
    try:
        key = (op, shown, specs, frozen(attrs))
        hash(key)
        compiled = cache.take(key)
    except TypeError:  # an attribute that cannot be hashed: the shape rule will say what is wrong with it
        key, compiled = (), None
    if compiled is None:
        compiled = compile_op(op, shown, [a.name for a in arguments], specs, attrs)
    outputs = run(compiled, [v for v in arrays if v is not None], n)
    if key:
        cache.put(key, compiled)
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def run(compiled: Compiled, arrays: Sequence[np.ndarray], n: int, segment: str = "forward") -> list[np.ndarray]:
    """Runs a program whose one segment makes all its outputs."""
    program = compiled.bind()
    for tensor, array in zip(compiled.inputs, arrays, strict=True):
        compiled.set_input(tensor, array)
    outputs = [compiled.new_output(t, n) for t in compiled.outputs]
    program.run(segment, n)
    return outputs


def compile_op(op: str, shown: str, names: Sequence[str], specs: Sequence, attrs: dict) -> Compiled:
    """Builds, lowers and plans the graph of one node; raises what its shape rule says."""
    import fastconv.ops  # noqa: F401  (registers the operators)

    graph = Graph()
    tensors = [None if s is None else graph.input(s[0], name, s[1], s[2]) for name, s in zip(names, specs, strict=True)]
    with building(graph, ""), showing(shown):
        made = apply(op, tensors, **attrs)
    graph.outputs = list(made) if isinstance(made, tuple) else [made]
    for tensor in graph.outputs:
        if prod(tensor.shape) * 4 >= 2**62:
            raise ValueError(f"{shown}: {describe(graph.inputs, attrs)}: the product of the output's extents "
                             f"{tensor.shape} overflows")
    for i, tensor in enumerate(graph.outputs):
        tensor.name = f"output:{i}"
    batch = next((t.shape[0] for t in graph.inputs if t.layout == PIXELS), 1)
    try:
        with showing(shown):
            return lower(graph, graph.inputs, graph.outputs, batch)
    except MemoryError as error:
        raise MemoryError(f"{shown}: {describe(graph.inputs, attrs)}: {error}") from None


def lower(graph: Graph, inputs: list[Tensor], outputs: list[Tensor], batch: int) -> Compiled:
    """Lowers and plans a graph whose outputs leave in the segment of the node that makes them."""
    lowered = Lowering(graph, batch)
    lowered.run()
    for tensor in outputs:
        lowered.exit(tensor, tensor.node.segment if tensor.node else "forward")
    lowered.finish()
    for tensor in (*inputs, *outputs):
        if tensor.dtype == "float32":
            lowered.slot(tensor).expect(tensor.shape, tensor.layout == PIXELS)
    check_memory(lowered.arena_bytes + lowered.weights_bytes + sum(4 * prod(t.shape) for t in outputs))
    return Compiled(graph, inputs, outputs, lowered)


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

