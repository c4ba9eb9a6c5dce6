"""Functions with a scalar result and their gradients; losses that remember what they were computed of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv._values import shown
from fastconv.engine.batches import taken
from fastconv.engine.general import as_array
from fastconv.engine.plan import Plan, optimise, slotted
from fastconv.engine.training_plan import check_classes
from fastconv.graph.arrays import copied
from fastconv.graph.autodiff import differentiate
from fastconv.graph.ir import DENSE, FLAT, ITEMSIZE, PIXELS, Tensor
from fastconv.graph.parameter import Parameter
from fastconv.graph.trace import trace
from fastconv.kernels.locks import Lock
from fastconv.lowering.program import Program

CACHE = 8  # shapes that stay planned


class Derivative:
    """A function over symbolic tensors with a scalar result, run on arrays with its gradients.

    Parameters
    ----------
    function : callable
        Returns a scalar; with ``has_aux`` a pair of it and further tensors.
    argnums : tuple of int
        The arguments whose gradients are wanted.
    name : str
        Its name in messages.
    """

    def __init__(self, function: Callable, argnums: tuple[int, ...], has_aux: bool = False, name: str = "value_and_grad"):
        self.function, self.argnums, self.has_aux, self.name = function, argnums, has_aux, name
        self._plans: OrderedDict[tuple, _Planned] = OrderedDict()
        self._lock = Lock(name)

    def run(self, arrays: Sequence, adds: bool) -> tuple[float, Any, list[np.ndarray], list[tuple[Parameter, np.ndarray]]]:
        """The value, what else the function returns, the gradients of the arguments, fresh arrays, and those of parameters,
        which are the plan's; these are added to ``Parameter.grad``, where ``adds``."""
        given = [as_array(self.name, f"argument {i}", _number(a)) for i, a in enumerate(arrays)]
        for place in self.argnums:
            if not -len(given) <= place < len(given):
                raise ValueError(f"{self.name}: argnums={place}: the function was called with {len(given)} arguments")
            if given[place].dtype != np.float32:
                raise TypeError(f"{self.name}: argument {place} has dtype {given[place].dtype}: only float32 has a gradient")
        with self._lock:
            key = tuple((a.shape, a.dtype.name) for a in given)
            planned = self._plans.get(key)
            if planned is None or not planned.plan.graph.traced.current():
                planned = self._plans[key] = _Planned(self, given)
                while len(self._plans) > CACHE:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(key)
            return planned.run(given, adds)


class _Planned:
    """A function planned for one set of shapes, with its gradients."""

    def __init__(self, derivative: Derivative, arrays: Sequence[np.ndarray]):
        self.name, known = derivative.name, taken(derivative.function).names
        names = [known[i] if i < len(known) else f"argument {i}" for i in range(len(arrays))]
        batched = all(a.ndim and a.size for a in arrays) and len({len(a) for a in arrays}) == 1
        specs = [(a.shape, name, _layout(a) if batched else FLAT, a.dtype.name) for a, name in
                 zip(arrays, names, strict=True)]
        graph, structure = trace(derivative.function, specs)
        optimise(graph, True)
        if derivative.has_aux and (structure.plain or len(structure.build(range(len(graph.outputs)))) != 2):
            raise TypeError(f"{self.name}: has_aux=True: the function must return a pair, the scalar and what else there is")
        if not derivative.has_aux and not structure.plain:
            raise TypeError(f"{self.name}: the function returned several tensors: expected a scalar, or has_aux=True")
        loss = graph.outputs[0]
        if loss.shape != () or loss.dtype != "float32":
            raise ValueError(f"{self.name}: the function's value has shape {tuple(loss.shape)} and dtype {loss.dtype}: "
                             "expected a float32 scalar (a mean or a sum)")
        graph.traced.watch([t.parameter for t in graph.parameters])
        inputs = [graph.inputs[i] for i in derivative.argnums]
        parameters = [t for t in graph.parameters if t.parameter.requires_grad]
        found = differentiate(graph, [(loss, None)], [*inputs, *parameters])
        own = found[len(inputs):]
        self.n = arrays[0].shape[0] if batched else 1
        plan = Plan(graph, structure, self.n if batched else 1, None, own, back=zip(inputs, found, strict=False))
        self.plan, self.program = plan, Program(plan.lowered, across=True)
        self.parameters = [(t.parameter, self.program.array(plan.lowered.read(g).ref, t.shape))
                           for t, g in zip(parameters, own, strict=True) if g is not None]

    def run(self, arrays: Sequence[np.ndarray], adds: bool) -> tuple:
        plan, program, held = self.plan, self.program, []  # type: Plan, Program, list
        read = copied(arrays, [array for _, array in self.parameters])  # this run overwrites those
        for tensor, array in zip(plan.graph.inputs, read, strict=True):
            held += self._take(tensor, array)
        for t, classes, ignore in plan.lowered.extra.get("classes", []):
            integers = program.array(plan.lowered.read(t).ref, t.shape, np.int64)
            check_classes(integers, t.name, len(integers), classes, ignore)
        outputs = plan.fresh(self.n, arrays)
        later = plan.point(outputs, self.n)
        grads = plan.gradients(self.n)
        program.settle(["forward"], self.n)
        program.run("forward", self.n)
        plan.collect(program, outputs, later, self.n)
        add = accumulating(self.parameters if adds else [])
        program.settle(["backward"], self.n)
        program.run("backward", self.n)
        add()
        del held
        built = plan.structure.build(outputs)
        return float(outputs[0]), built if plan.structure.plain else built[1], grads, self.parameters

    def _take(self, tensor: Tensor, array: np.ndarray) -> list[np.ndarray]:
        """Has the run read an array; what must live until it has run."""
        if tensor.dtype != "float32":
            self.program.array(self.plan.lowered.read(tensor).ref, tensor.shape, tensor.dtype)[...] = array
            return []
        array = slotted(array, tensor.batched)
        if self.plan.lowered.slots[tensor.name].take(array, False) < 0:
            raise RuntimeError(f"{self.name}: {tensor.name} of shape {array.shape} was not taken")
        return [array]


def _layout(array: np.ndarray) -> str:
    return PIXELS if array.dtype == np.float32 and 2 <= array.ndim <= 5 else DENSE


def _number(value):
    """A Python number as a scalar array; integers of other widths as int64."""
    if isinstance(value, (bool, int)) and not isinstance(value, np.generic):
        return np.asarray(value)
    if isinstance(value, float):
        return np.float32(value)
    array = np.asarray(value) if isinstance(value, (list, tuple)) else value
    if getattr(getattr(array, "dtype", None), "kind", "") in "iu" and array.dtype.name not in ITEMSIZE:
        return array.astype(np.int64)
    return array


def accumulating(gradients: Sequence[tuple[Parameter, np.ndarray]]) -> Callable[[], None]:
    """Before a run that writes these arrays: sees to it that gradients which are there already stay. What it returns adds
    them up afterwards, as PyTorch does; a ``grad`` that is None becomes the run's own array."""
    kept = []
    for parameter, array in gradients:
        before = parameter.grad
        if before is not None and np.may_share_memory(before, array):
            before = np.array(before, np.float32)
        kept.append(before)

    def add() -> None:
        for (parameter, array), before in zip(gradients, kept, strict=True):
            if before is None:
                parameter.grad = array
            else:
                np.add(before, array, out=before, casting="same_kind")
                parameter.grad = before

    return add


def value_and_grad(function: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """A function that returns what ``function`` does, and its gradients.

    Parameters
    ----------
    function : callable
        Over symbolic tensors, as the ``forward`` of a module: its arguments stand for arrays. Returns a scalar. It may call
        modules; the gradients of their parameters are added to ``Parameter.grad``, as PyTorch's ``backward`` does.
    argnums : int or sequence of int, default 0
        The arguments whose gradients are returned, float32; ``()`` for none.
    has_aux : bool, default False
        The function returns a pair, the scalar and further tensors.

    Returns
    -------
    callable
        ``f(*arrays) -> (value, gradient)``: the value a float (with ``has_aux`` a pair of it and the arrays of the rest),
        the gradient an array, or a tuple of them as ``argnums`` is one. Planned once per set of shapes.

    Raises
    ------
    TypeError, ValueError
        For a value that is no scalar, an argument number that is none, and from calls, for arrays of wrong dtypes.
    """
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"value_and_grad: function is a {type(function).__name__}: expected a callable over symbolic "
                        "tensors")
    numbers = [argnums] if isinstance(argnums, (int, np.integer)) and not isinstance(argnums, bool) else argnums
    if not isinstance(numbers, (list, tuple)) or \
            any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) for n in numbers):
        raise TypeError(f"value_and_grad: argnums={shown(argnums)}: expected an integer, or a sequence of integers")
    called = function.symbolic(True) if hasattr(function, "symbolic") else function
    derivative = Derivative(called, tuple(int(n) for n in numbers), bool(has_aux))

    def run(*arrays):
        value, aux, grads, _ = derivative.run(arrays, True)
        return (value, aux) if has_aux else value, grads[0] if numbers is not argnums else tuple(grads)

    return run
