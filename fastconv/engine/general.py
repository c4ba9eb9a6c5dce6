"""Functions of arrays of any rank: traced on symbolic tensors, compiled for one set of shapes and attributes, and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv._arrays import refuse_masked
from fastconv.engine.eager import Compiled, cache
from fastconv.engine.options import ALIKE
from fastconv.graph.arrays import as_float32, foreign
from fastconv.graph.autodiff import differentiate
from fastconv.graph.ir import FLAT, ITEMSIZE, RANK, Graph, Tensor, apply, building, running, showing
from fastconv.graph.limits import check_memory
from fastconv.graph.merge import merge
from fastconv.graph.passes import fuse
from fastconv.graph.trace import Structure
from fastconv.kernels.call import problem_key
from fastconv.lowering.lower import Lowering


class Place(NamedTuple):
    """Stands for an array among the arguments of a call."""

    place: int
    shape: tuple[int, ...]
    dtype: str


def as_array(op: str, name: str, value) -> np.ndarray:
    """An argument as an array of one of the dtypes that tensors have; nothing is converted silently."""
    if not isinstance(value, (np.ndarray, np.generic)):
        refuse_masked(op, name, value)
        if not (hasattr(value, "__dlpack__") or hasattr(value, "__array__") or hasattr(value, "__array_interface__")):
            raise TypeError(f"{op}: {name} is a {type(value).__name__}: expected an array")
        value = foreign(op, name, value)
    array = np.asarray(value)
    refuse_masked(op, name, value)
    if array.dtype.kind == "f" or array.dtype.name not in ITEMSIZE or not array.dtype.isnative:
        array = as_float32(op, name, array)
    elif not array.flags.aligned or any(s % array.itemsize for s in array.strides):
        array = array.copy(order="C")
    if array.ndim > RANK:
        raise ValueError(f"{op}: {name} of shape {array.shape} has {array.ndim} dimensions: expected at most {RANK}")
    return array


def run(name: str, function: Callable, arguments: Any, arrays: Sequence[np.ndarray], key: tuple | None = None) -> Any:
    """Calls ``function`` on arrays.

    Parameters
    ----------
    name : str
        Its name in messages, and in the key of what is kept: one per function.
    function : callable
        ``function(*arguments)`` with symbolic tensors in the places of arrays; returns tensors, nested or not.
    arguments : tuple
        Its arguments, a :class:`Place` for each array.
    arrays : sequence of ndarray
    key : tuple, optional
        What it is kept by; default its name and arguments.
    """
    key = key or problem_key((name, "general"), tuple(map(_frozen, arguments)), 0)
    compiled = None if key is None else cache.take(key)
    if compiled is None:
        compiled = compile_function(name, function, arguments, arrays)
    try:
        results = compiled.run(arrays, 1)
    finally:
        if key is not None:
            cache.put(key, compiled)
    return compiled.structure.build(results)


def vjp(name: str, function: Callable, arguments: Any, arrays: Sequence[np.ndarray], grad_outputs: Any,
        wanted: Sequence[int], key: bool = True) -> list[np.ndarray]:
    """Gradients of ``function`` with respect to the arrays at the positions ``wanted``; arguments as for :func:`run`.

    ``key`` says whether the name and the arguments say all about the function, so that it may be kept.
    """
    grads = list(grad_outputs)
    found = problem_key((name, "vjp", tuple(wanted), tuple(None if g is None else g.shape for g in grads)),
                        tuple(map(_frozen, arguments)), 0) if key else None
    compiled = None if found is None else cache.take(found)
    if compiled is None:
        compiled = compile_function(name, function, arguments, arrays, grads, wanted)
    try:
        results = compiled.run([*arrays, *(g for g in grads if g is not None)], 1)
    finally:
        if found is not None:
            cache.put(found, compiled)
    at = iter(results)
    return [next(at) if there else np.zeros(arrays[i].shape, np.float32)
            for i, there in zip(wanted, compiled.there, strict=True)]


def _frozen(value):
    if isinstance(value, Place):
        return ("array", *value)
    if isinstance(value, (tuple, list)):
        return tuple(map(_frozen, value))
    return value


def _filled(value, tensors: Sequence[Tensor]):
    """The arguments with tensors in their places."""
    if isinstance(value, Place):
        return tensors[value.place]
    if type(value) in (tuple, list):
        return type(value)(_filled(v, tensors) for v in value)
    return value


def compile_function(name: str, function: Callable, arguments: Any, arrays: Sequence[np.ndarray],
                     grads: Sequence[np.ndarray | None] = (), wanted: Sequence[int] = ()) -> Compiled:
    """Traces, lowers and plans a function, or gradients of it."""
    graph = Graph()
    tensors = [graph.input(a.shape, f"input {i}", FLAT, a.dtype.name) for i, a in enumerate(arrays)]
    with building(graph, ""), showing(name):
        with running(graph):
            result = function(*_filled(arguments, tensors))
        tensors = list(graph.inputs)  # others, where the function has written them in place
        structure: Any = Structure(result, graph)
        outputs = [_flat(t) for t in structure.tensors]
        graph.outputs = outputs
        merge(graph, early=True)
        if grads:
            if len(grads) != len(outputs):
                raise ValueError(f"{name}: {len(grads)} gradients given, the function has {len(outputs)} outputs")
            seeds = []
            for i, (tensor, grad) in enumerate(zip(outputs, grads, strict=True)):
                if grad is None:
                    continue
                if grad.shape != tensor.shape:
                    raise ValueError(f"{name}: grad_output {i} of shape {grad.shape}: expected {tensor.shape}, the shape of "
                                     "the output")
                if tensor.dtype != "float32":
                    raise ValueError(f"{name}: output {i} has dtype {tensor.dtype}, which has no gradient: expected None "
                                     "for it")
                seed = graph.input(tensor.shape, f"grad_output {i}", FLAT)
                graph.late_inputs.add(seed)
                seeds.append((tensor, seed))
            found = differentiate(graph, seeds, [tensors[i] for i in wanted])
            there = [g is not None for g in found]
            with building(graph, ""):
                graph.segment = "backward"
                outputs = [_flat(g) for g in found if g is not None]
                graph.segment = "forward"
            graph.outputs = list(outputs)
        try:
            check_memory(sum(t.type.nbytes for t in (*graph.inputs, *outputs)))
            graph.exact = None
            fuse(graph)
            outputs = graph.outputs
            lowered = Lowering(graph, 1, choose_for=ALIKE, all_pass=True)
            lowered.run()
            compiled = Compiled(lowered, graph.inputs, outputs, [], ("forward", "backward") if grads else ("forward",))
            for i, tensor in enumerate(outputs):
                lowered.exit(tensor, "backward" if grads else "forward", f"output:{i}")
                lowered.expect(f"output:{i}", tensor)
            lowered.finish()
            check_memory(lowered.arena_bytes + lowered.weights_bytes + lowered.own_bytes +
                         sum(t.type.nbytes for t in outputs))
        except MemoryError as error:
            text = ", ".join(str(a.shape) for a in arrays)
            raise MemoryError(f"{name}: arrays of shape {text}: {error}") from None
    for tensor in graph.inputs:
        lowered.slot(tensor)
        lowered.expect(tensor.name, tensor)
    if grads:
        compiled.there = there
    else:
        compiled.structure = structure
    return compiled


def _flat(tensor: Tensor) -> Tensor:
    return tensor if tensor.layout == FLAT else apply("layout", [tensor], layout=FLAT)

