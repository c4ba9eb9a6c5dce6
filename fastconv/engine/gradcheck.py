"""Gradients against numbers: central differences in float32, compared element by element.

The function's forward pass runs in float32, so the step is chosen for it, and differences are taken in float64 before they
are summed: outputs that a perturbation does not reach cancel exactly. With a random cotangent g, the numeric derivative of
``<g, f(x)>`` by one element is Richardson's combination of two central differences, ``(4 D(h / 2) - D(h)) / 3``, whose error
is of order h^4 (Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", 1982); the step h is ``eps`` times the RMS of the
input. Where that disagrees (a kink of a ReLU or another winner of a pool inside the step, a higher derivative) the step is
quartered, up to three times; rounding forbids smaller ones. A wrong gradient disagrees at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastconv._values import shown
from fastconv.engine.eager import leave
from fastconv.engine.engine import Engine
from fastconv.engine.plan import optimise
from fastconv.graph.arrays import as_float32, as_int64
from fastconv.graph.autodiff import differentiate
from fastconv.graph.ir import FLAT, PIXELS, Graph, Tensor, running
from fastconv.graph.parameter import Parameter
from fastconv.graph.passes import fuse, place_concatenations
from fastconv.graph.trace import Structure
from fastconv.lowering.lower import Lowering
from fastconv.lowering.program import Program

SHRINK = (1.0, 0.25, 0.0625, 0.015625)


class Worst(NamedTuple):
    """The element that agrees least."""

    name: str
    index: tuple[int, ...]  # type: ignore[assignment]  # a field, not tuple.index
    analytic: float
    numeric: float
    relative: float
    checked: int
    """How many elements were compared."""

    def __str__(self) -> str:
        at = "".join(f"[{i}]" for i in self.index) if len(self.index) < 2 else str(list(self.index))
        return (f"{self.name}{at}: analytic {self.analytic:.7g}, numeric {self.numeric:.7g}, relative difference "
                f"{self.relative:.2g} (worst of {self.checked} elements)")


class GradcheckError(RuntimeError):
    """An analytic gradient that disagrees with the numeric one; ``worst`` is the element that agrees least."""

    def __init__(self, message: str, worst: Worst):
        super().__init__(message)
        self.worst = worst


@dataclass
class Checked:
    """Something to check: what can be perturbed, its gradients, and how the function is evaluated."""

    names: list[str]
    values: list[np.ndarray | Parameter]
    gradients: list[np.ndarray]
    cotangents: list[np.ndarray]
    evaluate: Callable[[], list[np.ndarray]]  # the outputs, in float64, at what the values now hold


def gradcheck(function, inputs, *, eps: float = 4e-2, rtol: float = 1e-3, max_elements: int = 1000, seed: int = 0,
              raise_exception: bool = True) -> bool:
    """Compares the gradients of a function with central differences.

    Parameters
    ----------
    function : callable or Engine
        Over symbolic tensors, as functions of :mod:`fastconv.functional` are (``lambda x, w: F.relu(F.conv2d(x, w))``),
        or a module; it is traced once with one tensor per input. Its gradients with respect to all inputs, and to all
        parameters that it reads, come from the same rules as those of an engine. Of an engine compiled with
        ``training=True``, the gradients of its parameters are checked, by its own ``backward``.
        It must give the same result each time (no dropout).
    inputs : array or sequence of arrays
        float32, or integers (class indices), which are not differentiated; not modified.
    eps : float, default 4e-2
        The first step of the differences, in units of each input's RMS.
    rtol : float, default 1e-3
        Largest relative difference: ``|analytic - numeric| / max(|analytic|, |numeric|, RMS of the input's gradient)``.
    max_elements : int, default 1000
        Of a larger input, so many elements drawn at random are compared.
    seed : int, default 0
        Of the random cotangent and of which elements are compared.
    raise_exception : bool, default True
        False to get False instead of an exception.

    Returns
    -------
    bool
        Whether all compared elements agree.

    Raises
    ------
    GradcheckError
        When they do not; the message and its ``worst`` name the element that agrees least.
    ValueError
        When the function gives two results for one input, or a value that is not finite.
    """
    if not eps > 0 or not rtol > 0:
        raise ValueError(f"gradcheck: eps={shown(eps)} and rtol={shown(rtol)} must be above 0")
    if not callable(function):
        raise TypeError(f"gradcheck: function is a {type(function).__name__}: expected a callable or an engine")
    inputs = [inputs] if hasattr(inputs, "dtype") else list(inputs)
    arrays = [_copy(f"input {i}", x) for i, x in enumerate(inputs)]
    rng = np.random.default_rng(seed)
    problem = engine_problem(function, arrays, rng) if isinstance(function, Engine) else \
        function_problem(function, arrays, rng)
    worst = compare(problem, eps, rtol, max_elements, rng)
    if worst.relative <= rtol:
        return True
    if raise_exception:
        raise GradcheckError(f"gradcheck: {worst}; rtol={rtol:g}", worst)
    return False


def _copy(name: str, value) -> np.ndarray:
    integers = isinstance(value, np.ndarray) and value.dtype.kind in "iu"
    return np.array((as_int64 if integers else as_float32)("gradcheck", name, value), order="C")


# ---- what is checked ------------------------------------------------------------------------------------------------------


def function_problem(function: Callable, arrays: list[np.ndarray], rng) -> Checked:
    """Forward and backward of a function in one plan, as for training."""
    graph, tensors = _trace(function, arrays)
    batch = {t.shape[0] for t in tensors if t.layout == PIXELS}
    if len(batch) != 1 or 0 in batch:
        raise ValueError(f"gradcheck: inputs of shapes {[a.shape for a in arrays]}: expected one batch of at least 1")
    optimise(graph, True)
    wanted = [*(t for t in tensors if t.dtype == "float32"), *(t for t in graph.parameters if t.parameter.requires_grad)]
    seeds = [graph.input(t.shape, f"grad:{i}", t.layout) for i, t in enumerate(graph.outputs)]
    graph.late_inputs.update(seeds)
    gradients = differentiate(graph, list(zip(graph.outputs, seeds, strict=True)), wanted)
    fuse(graph)
    lowered = Lowering(graph, batch.pop())
    lowered.placed = place_concatenations(graph)
    lowered.run()
    outputs = [_leave(lowered, t, f"output:{i}", "forward") for i, t in enumerate(graph.outputs)]
    results = [np.zeros(t.shape, np.float32) if g is None else _leave(lowered, g, f"result:{i}", "backward")
               for i, (t, g) in enumerate(zip(wanted, gradients, strict=True))]
    lowered.finish()
    program = Program(lowered)
    for tensor, array in zip(tensors, arrays, strict=True):
        if tensor.dtype == "float32":
            _point(lowered, tensor, tensor.name, array)
        else:
            program.array(lowered.read(tensor).ref, tensor.shape, np.int64)[...] = array
    for i, (tensor, array) in enumerate(zip(graph.outputs, outputs, strict=True)):
        _point(lowered, tensor, f"output:{i}", array)
    for i, (gradient, array) in enumerate(zip(gradients, results, strict=True)):
        if gradient is not None:
            _point(lowered, gradient, f"result:{i}", array)
    cotangents = [rng.standard_normal(t.shape, dtype=np.float32) for t in graph.outputs]
    for tensor, array in zip(seeds, cotangents, strict=True):
        _point(lowered, tensor, tensor.name, array)

    def evaluate() -> list[np.ndarray]:
        program.run("forward", lowered.batch)
        return [y.astype(np.float64) for y in outputs]

    evaluate()
    program.run("backward", lowered.batch)
    values = [a for a, t in zip(arrays, tensors, strict=True) if t.dtype == "float32"]
    parameters = [t.parameter for t in wanted[len(values):]]
    names = [t.name or f"parameter {i - len(values)}" for i, t in enumerate(wanted)]
    return Checked(names, [*values, *parameters], results, cotangents, evaluate)


def _trace(function: Callable, arrays: list[np.ndarray]) -> tuple[Graph, list[Tensor]]:
    """As trace(), with inputs that become activations or parameters by their first use."""
    graph = Graph()
    tensors = [graph.input(a.shape, f"input {i}", FLAT if a.ndim == 1 and a.dtype == np.float32 else PIXELS, str(a.dtype))
               for i, a in enumerate(arrays)]
    graph.undecided.update(tensors)
    with running(graph):
        result = (function.symbolic(True) if hasattr(function, "symbolic") else function)(*tensors)
    graph.outputs = Structure(result).tensors
    return graph, list(graph.inputs)


def _leave(lowered: Lowering, tensor: Tensor, name: str, segment: str) -> np.ndarray:
    """A tensor leaves through a slot of this name; the array that it goes to."""
    leave(lowered, tensor, name, segment)
    return np.zeros(tensor.shape, np.float32)


def _point(lowered: Lowering, tensor: Tensor, name: str, array: np.ndarray) -> None:
    if name in lowered.slots:
        lowered.slots[name].expect(tensor.shape, tensor.layout == PIXELS)
        lowered.slots[name].take(array, False)


def engine_problem(engine: Engine, arrays: list[np.ndarray], rng) -> Checked:
    """The parameters of an engine, by its own backward."""

    def evaluate() -> list[np.ndarray]:
        return [y.astype(np.float64) for y in _leaves(engine(*arrays))]

    cotangents = [rng.standard_normal(y.shape, dtype=np.float32) for y in evaluate()]
    before = [(p, p.grad) for p in engine.trained_parameters()]
    for p, _ in before:
        p.grad = None
    engine.backward(*cotangents)
    found = [(p, np.array(p.grad)) for p, _ in before if p.grad is not None]
    for p, grad in before:
        p.grad = grad
    return Checked([f"parameter {i}" for i in range(len(found))], [p for p, _ in found], [g for _, g in found],
                   cotangents, evaluate)


def _leaves(value) -> list[np.ndarray]:
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for v in value for leaf in _leaves(v)] if isinstance(value, (list, tuple)) else [value]


# ---- the comparison -------------------------------------------------------------------------------------------------------


def compare(problem: Checked, eps: float, rtol: float, max_elements: int, rng) -> Worst:
    """The element whose analytic gradient agrees least with the numeric one."""
    base = problem.evaluate()
    if any(not np.array_equal(a, b, equal_nan=True) for a, b in zip(base, problem.evaluate(), strict=True)):
        raise ValueError("gradcheck: function gives two results for one input: random operators cannot be checked")
    if not all(np.isfinite(y).all() for y in base):
        raise ValueError("gradcheck: function gives values that are not finite")
    if not problem.values:
        raise ValueError("gradcheck: there is nothing to differentiate with respect to")
    rounding = 8 * 2.0**-24 * np.sqrt(sum(((g * y) ** 2).sum() for g, y in zip(problem.cotangents, base, strict=True)))
    worst: Any = None
    checked = 0
    for name, value, gradient in zip(problem.names, problem.values, problem.gradients, strict=True):
        x = np.array(value.data if isinstance(value, Parameter) else value)
        step = eps * (float(np.sqrt(np.mean(x.astype(np.float64) ** 2))) or 1.0)
        chosen = np.arange(x.size) if x.size <= max_elements else rng.choice(x.size, max_elements, replace=False)
        least = max(float(np.sqrt(np.mean(gradient.astype(np.float64) ** 2))), rounding / step / rtol)
        checked += len(chosen)
        for i in chosen:
            found = element(problem, value, x, int(i), float(gradient.flat[i]), step, least, rtol)
            if worst is None or not found[1] <= worst.relative:
                worst = Worst(name, tuple(int(k) for k in np.unravel_index(i, x.shape)), float(gradient.flat[i]), *found, 0)
    return worst._replace(checked=checked)


def element(problem: Checked, value, x: np.ndarray, i: int, analytic: float, step: float, least: float,
            rtol: float) -> tuple[float, float]:
    """(numeric derivative, relative difference) by one element, at the step where they agree best."""
    best = (np.nan, np.inf)
    for shrink in SHRINK:
        h = step * shrink
        try:
            numeric = (4 * central(problem, value, x, i, h / 2) - central(problem, value, x, i, h)) / 3
        finally:
            put(value, i, x.flat[i])
        relative = abs(analytic - numeric) / max(abs(analytic), abs(numeric), least)
        if relative < best[1]:
            best = numeric, relative
        if relative <= rtol:
            break
    return best


def central(problem: Checked, value, x: np.ndarray, i: int, h: float) -> float:
    above, below = np.float32(x.flat[i] + h), np.float32(x.flat[i] - h)
    put(value, i, above)
    high = problem.evaluate()
    put(value, i, below)
    low = problem.evaluate()
    change = sum((g * (a - b)).sum() for g, a, b in zip(problem.cotangents, high, low, strict=True))
    return float(change) / (float(above) - float(below))


def put(value: np.ndarray | Parameter, i: int, to: np.float32) -> None:
    if isinstance(value, Parameter):
        with value.edit() as array:
            array.flat[i] = to
    else:
        value.flat[i] = to
