"""A network planned for one set of input shapes, and the careful way for arrays into and out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fastconv.graph import passes
from fastconv.graph.arrays import as_float32, fresh, refuse_out, refuse_shared
from fastconv.graph.ir import Graph, Tensor
from fastconv.graph.lower import Lowering
from fastconv.graph.program import Program
from fastconv.graph.trace import Structure
from fastconv.kernels.call import Call
from fastconv.kernels.threads import MOST


def optimise(graph: Graph, training: bool) -> None:
    """The passes that come before differentiation."""
    passes.absorb_flatten(graph)
    passes.absorb_padding(graph)
    if not training:
        passes.fold_batchnorm(graph)


class Plan:
    """A lowered graph for one set of input shapes, with what is needed to call it."""

    def __init__(self, graph: Graph, structure: Structure, batch: int, algorithm, gradients: Sequence = (),
                 finish: Callable | None = None, precision: str = "highest", choose_for: int | None = None):
        self.graph, self.structure, self.batch = graph, structure, batch
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
        self.exits = []
        for i, tensor in enumerate(self.outputs):
            name = f"output:{i}"
            self.lowered.exit(tensor, "forward", name)
            self.exits.append(name)
        if finish is not None:
            finish(self.lowered)
        self.lowered.finish()
        for tensor in graph.inputs:
            if tensor.dtype == "float32":
                self.lowered.slot(tensor).expect(tensor.shape, tensor.layout == "pixels", only=graph.exact)
        for name, tensor in zip(self.exits, self.outputs, strict=True):
            self.lowered.slots[name].expect(tensor.shape, tensor.layout == "pixels")
        self.call = Call()

    def serves(self, n: int) -> bool:
        """Whether it is for a batch of ``n``."""
        return n <= self.batch if self.graph.exact is None else n == self.graph.exact

    def open(self, program: Program) -> None:
        """Lets calls that need nothing but a forward go straight to their steps."""
        if not (self.graph.late_inputs or self.lowered.checks or self.lowered.changed):
            slots = self.lowered.slots
            self.call.open([slots[t.name] for t in self.graph.inputs], [slots[name] for name in self.exits],
                           [program.segments["forward"]], MOST, program.doors["forward"])

    def output_shapes(self, n: int) -> list[tuple[int, ...]]:
        """Shapes of the outputs for a batch of ``n``; a scalar or a parameter has the same for each."""
        return [(n, *t.shape[1:]) if t.layout == "pixels" else t.shape for t in self.outputs]

    def fresh(self, n: int, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """New arrays for the outputs of a run of ``n`` images."""
        return fresh([(s, t.layout == "pixels") for s, t in zip(self.output_shapes(n), self.outputs, strict=True)], inputs)

    def point(self, arrays: Sequence, n: int) -> None:
        """Has the outputs of a run of ``n`` images written into these arrays; an error for those that cannot take them."""
        if len(arrays) != len(self.exits):
            raise ValueError(f"engine: out has {len(arrays)} arrays: the network has {len(self.exits)} outputs")
        for i, (name, tensor, array) in enumerate(zip(self.exits, self.outputs, arrays, strict=True)):
            if self.lowered.slots[name].take(array, True) != (n if tensor.layout == "pixels" else 1):
                refuse_out("engine", array, self.output_shapes(n)[i])


def bring(expected: Sequence[Tensor], inputs: Sequence) -> list[np.ndarray]:
    """Inputs as arrays, converted where that needs no copy; says what is wrong with those that no plan could take."""
    if len(inputs) != len(expected):
        raise TypeError(f"engine: {len(inputs)} inputs given, {len(expected)} expected")
    arrays = [as_float32("engine", t.name, x) for t, x in zip(expected, inputs, strict=True)]
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
    """An ``out`` that is no array: a sequence of arrays, no two of which share memory."""
    if not isinstance(out, (list, tuple)):
        shapes = ", ".join(str(t.shape) for t in outputs)
        raise TypeError(f"engine: out is a {type(out).__name__}: expected a float32 array, or a list of them, for {shapes}")
    refuse_shared("engine", out)
    return out
