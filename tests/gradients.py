"""Runs a function of symbolic tensors and its gradients on arrays, through the whole of floor 2."""

import numpy as np

from fastconv.engine import eager
from fastconv.graph import passes
from fastconv.graph.autodiff import differentiate
from fastconv.graph.ir import FLAT, PIXELS, apply, building
from fastconv.graph.trace import trace
from fastconv.lowering.lower import Lowering
from fastconv.lowering.program import Program


def run(function, arrays, gy=None, *, flat=(), constant=(), batch=None, bind=Program):
    """``(y, gradients)``: the output of ``function`` and the gradients of its float32 inputs.

    Parameters
    ----------
    function : callable
        Of one symbolic tensor per array; returns one tensor.
    arrays : sequence of ndarray
    gy : ndarray, optional
        Gradient of the output; without it that of a scalar loss, 1.
    flat : sequence of int
        Which inputs are like parameters.
    constant : sequence of int
        Which inputs need no gradient.
    batch : int, optional
        The planned batch; default that of the arrays.
    bind : callable, optional
        Binds the lowered graph to memory.
    """
    n = max((len(a) for i, a in enumerate(arrays) if i not in flat), default=1)
    planned = batch or max(n, 1)
    specs = [(a.shape if i in flat else (planned, *a.shape[1:]), f"x{i}", FLAT if i in flat else PIXELS, str(a.dtype))
             for i, a in enumerate(arrays)]
    graph, structure = trace(function, specs)
    (y,) = structure.tensors
    inputs = list(graph.inputs)
    seed = None
    if gy is not None:
        seed = graph.input(y.shape, "grad", y.layout)
        graph.late_inputs.add(seed)
    wanted = [t for i, t in enumerate(inputs) if t.dtype == "float32" and i not in constant]
    gradients = differentiate(graph, [(y, seed)], wanted) if wanted else []
    graph.segment = "backward"
    with building(graph):  # each a tensor of its own, even where two are one
        gradients = [None if g is None else apply("scale", [g], a=1.0) for g in gradients]
    graph.segment = "forward"
    graph.outputs = [y]
    passes.fuse(graph)
    outputs = [y, *(g for g in gradients if g is not None)]
    lowered = Lowering(graph, planned, all_pass=True)
    lowered.placed = passes.place_concatenations(graph)
    lowered.run()
    for i, tensor in enumerate(outputs):
        eager.leave(lowered, tensor, f"output:{i}", "backward" if i else "forward")
    lowered.finish()
    for tensor in graph.inputs:
        eager.expect(lowered, lowered.slot(tensor), tensor)
    compiled = eager.Compiled(lowered, graph.inputs, outputs, [], ("forward", "backward"), bind(lowered))
    np.frombuffer(compiled.program.arena, np.uint8)[:] = 255  # NaN
    made = iter(compiled.run([*arrays, *([] if gy is None else [np.asarray(gy)])], n))
    return next(made), [None if g is None else next(made) for g in gradients]


def float32(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)
