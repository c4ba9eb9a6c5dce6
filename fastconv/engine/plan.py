"""A network planned for one set of input shapes, and the careful way for arrays into and out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod

import numpy as np

from fastconv.graph import passes
from fastconv.graph.arrays import as_float32, as_integers, foreign, fresh, refuse_out, refuse_shared
from fastconv.graph.ir import PIXELS, Graph, Tensor
from fastconv.graph.trace import Structure
from fastconv.kernels.call import Call
from fastconv.kernels.layout import distinct
from fastconv.kernels.threads import MOST
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Ref
from fastconv.lowering.program import Program


def optimise(graph: Graph, training: bool) -> None:
    """The passes that come before differentiation."""
    passes.name_gates(graph)
    passes.absorb_flatten(graph)
    passes.absorb_padding(graph)
    if not training:
        passes.fold_bias(graph)
        passes.fold_batchnorm(graph)
    passes.merge(graph, early=True)


class Plan:
    """A lowered graph for one set of input shapes, with what is needed to call it."""

    def __init__(self, graph: Graph, structure: Structure, batch: int, algorithm, gradients: Sequence = (),
                 finish: Callable | None = None, precision: str = "highest", choose_for: int | None = None,
                 back: Iterable[tuple[Tensor, Tensor | None]] = ()):
        self.back = list(back)  # inputs, and their gradients, which leave by arrays
        self.graph, self.structure, self.batch = graph, structure, batch
        self._held = graph.held()
        if not graph.fused:  # a clone's plan is made from the same graph
            passes.fuse(graph)
            graph.fused = True
        self.outputs = graph.outputs
        for i, tensor in enumerate(self.outputs):
            if not tensor.name:
                tensor.name = f"output{i}"
        self.lowered = Lowering(graph, batch, algorithm, precision, choose_for)
        self.lowered.placed = passes.place_concatenations(graph)
        self.lowered.kept = {g for g in gradients if g is not None}
        self.lowered.run()
        self.exits = [f"output:{i}" for i in range(len(self.outputs))]
        self.read: dict[int, Ref] = {}  # outputs that pass no slot, and where they are after a run
        for i, (name, tensor) in enumerate(zip(self.exits, self.outputs, strict=True)):
            if tensor.dtype == "float32":
                self.lowered.exit(tensor, "forward", name)
            else:
                self.read[i] = self.lowered.keep_until_read(tensor)
        if finish is not None:
            finish(self.lowered)
        for i, (_, gradient) in enumerate(self.back):
            if gradient is not None:
                self.lowered.exit(gradient, "backward", f"gradient:{i}")
        self.lowered.finish()
        for i, (_, gradient) in enumerate(self.back):
            if gradient is not None:
                self.lowered.expect(f"gradient:{i}", gradient)
        for tensor in graph.inputs:
            if tensor.dtype == "float32":
                self.lowered.slot(tensor)
                self.lowered.expect(tensor.name, tensor, only=graph.exact)
        for i, (name, tensor) in enumerate(zip(self.exits, self.outputs, strict=True)):
            if i not in self.read:
                self.lowered.expect(name, tensor)
        self.call = Call()

    def serves(self, n: int) -> bool:
        """Whether it is for a batch of ``n``."""
        return n <= self.batch if self.graph.exact is None else n == self.graph.exact

    def open(self, program: Program) -> None:
        """Lets calls that need nothing but a forward go straight to their steps."""
        if not (self.graph.late_inputs or self.read or not self.lowered.plain or self.lowered.after_runs or
                any(t.dtype != "float32" for t in self.graph.inputs) or any(t.ndim > 5 for t in self.outputs)):
            slots = self.lowered.slots
            self.call.open([slots[t.name] for t in self.graph.inputs], [slots[name] for name in self.exits],
                           [program.segments["forward"]], MOST, program.doors["forward"])

    def output_shapes(self, n: int) -> list[tuple[int, ...]]:
        """Shapes of the outputs for a batch of ``n``; a scalar or a parameter has the same for each."""
        return [(n, *t.shape[1:]) if t.batched else t.shape for t in self.outputs]

    def fresh(self, n: int, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """New arrays for the outputs of a run of ``n`` images."""
        made = fresh([(s, t.layout == PIXELS) for s, t in zip(self.output_shapes(n), self.outputs, strict=True)],
                     [a for a in inputs if a.dtype == np.float32])
        return [np.empty(a.shape, t.dtype) if i in self.read else a
                for i, (a, t) in enumerate(zip(made, self.outputs, strict=True))]

    def take(self, program: Program, expected: Sequence[Tensor], arrays: Sequence[np.ndarray], n: int) -> list[np.ndarray]:
        """Has a run of ``n`` images read these arrays; what it reads, which must live until it has run."""
        held = []
        for t, a in zip(expected, arrays, strict=True):
            if t.dtype != "float32":
                program.array(self.lowered.read(t).ref, t.shape, t.dtype)[:n] = a
                continue
            if a.ndim > 5:  # a slot has no more
                a = np.ascontiguousarray(a).reshape(n, -1)
                held.append(a)
            if self.lowered.slots[t.name].take(a, False) != n:
                raise RuntimeError(f"engine: {t.name} of shape {a.shape} was not accepted by its own plan")
        return held

    def point(self, arrays: Sequence, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Has the outputs of a run of ``n`` images written into these arrays; an error for those that cannot take them.

        What is to be copied after the run: pairs of what is written and where it belongs.
        """
        if len(arrays) != len(self.exits):
            raise ValueError(f"engine: out has {len(arrays)} arrays: the network has {len(self.exits)} outputs")
        later = []
        for i, (name, tensor, array) in enumerate(zip(self.exits, self.outputs, arrays, strict=True)):
            shape = self.output_shapes(n)[i]
            if i in self.read or tensor.ndim > 5:
                if not isinstance(array, np.ndarray) or array.dtype != tensor.dtype or array.shape != shape or \
                        not array.flags.writeable or not distinct(array):
                    refuse_out("engine", array, shape, tensor.dtype)
                if i in self.read:
                    continue
                seen = np.empty((shape[0], prod(shape[1:])) if tensor.batched else (prod(shape),), np.float32)
                later.append((seen, array))
                array = seen
            if self.lowered.slots[name].take(array, True) != (n if tensor.batched else 1):
                refuse_out("engine", array, shape)
        return later

    def gradients(self, n: int) -> list[np.ndarray]:
        """New arrays into which a backward of ``n`` images writes the gradients of inputs."""
        arrays = []
        for i, (tensor, gradient) in enumerate(self.back):
            array = np.zeros((n, *tensor.shape[1:]) if tensor.batched else tensor.shape, np.float32)
            arrays.append(array)
            if gradient is not None and self.lowered.slots[f"gradient:{i}"].take(slotted(array, gradient.batched), True) < 0:
                raise RuntimeError(f"no gradient of shape {array.shape} could be taken")
        return arrays

    def collect(self, program: Program, arrays: Sequence, later: Sequence, n: int) -> None:
        """Fills those outputs that pass no slot, after a run."""
        for seen, array in later:
            array[...] = seen.reshape(array.shape)
        for i, ref in self.read.items():
            tensor = self.outputs[i]
            values = program.array(ref, tensor.shape, tensor.dtype)
            arrays[i][...] = values[:n] if tensor.batched else values


def slotted(array: np.ndarray, batched: bool) -> np.ndarray:
    """As a slot takes it, which has five dimensions at most."""
    if array.ndim <= 5:
        return array
    return np.ascontiguousarray(array).reshape((len(array), prod(array.shape[1:])) if batched else (-1,))


def bring(expected: Sequence[Tensor], inputs: Sequence) -> list[np.ndarray]:
    """Inputs as arrays, converted where that needs no copy; says what is wrong with those that no plan could take."""
    if len(inputs) != len(expected):
        raise TypeError(f"engine: {len(inputs)} inputs given, {len(expected)} expected")
    arrays = [as_float32("engine", t.name, x) if t.dtype == "float32" else as_integers("engine", t.name, x, t.dtype)
              for t, x in zip(expected, inputs, strict=True)]
    for t, a in zip(expected, arrays, strict=True):
        if a.ndim != len(t.shape):
            raise ValueError(f"engine: {t.name} of shape {a.shape} has {a.ndim} dimensions: expected {len(t.shape)}, "
                             f"like {('N', *t.shape[1:])}")
        if 0 in a.shape[1:]:
            raise ValueError(f"engine: {t.name} of shape {a.shape}: every extent but the batch must be at least 1")
        if a.shape[0] != arrays[0].shape[0]:
            raise ValueError(f"engine: {t.name} of shape {a.shape}: its batch differs from the first input's, "
                             f"{arrays[0].shape[0]}")
    return arrays


def several(outputs: Sequence[Tensor], out) -> Sequence:
    """An ``out`` that is no array: another library's, or a sequence of arrays, no two of which share memory."""
    if hasattr(out, "__dlpack__"):
        return (foreign("engine", "out", out),)
    if not isinstance(out, (list, tuple)):
        shapes = ", ".join(str(t.shape) for t in outputs)
        raise TypeError(f"engine: out is a {type(out).__name__}: expected a float32 array, or a list of them, for {shapes}")
    out = [foreign("engine", f"out {i}", array) if hasattr(array, "__dlpack__") and not isinstance(array, np.ndarray) else
           array for i, array in enumerate(out)]
    refuse_shared("engine", out)
    return out
