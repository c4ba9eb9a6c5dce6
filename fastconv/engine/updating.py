"""Update rules as steps: what a rule says of a parameter, the buffers it keeps, and the kernels that obey it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.graph.parameter import Parameter
from fastconv.kernels import matmul
from fastconv.kernels import update as kernels
from fastconv.kernels._runtime import StepList
from fastconv.kernels.threads import threads_for

KERNELS = {"sgd": kernels.sgd, "adam": kernels.adam, "adamw": kernels.adamw}


class Recipe(NamedTuple):
    """How a rule updates a parameter.

    ``phases``, in order: ("kernel", name, count), a kernel of its own over the first so many buffers; ("program",
    instructions), see :func:`kernels.update`; ("ratio", factor, decay, eps, scaled), the ratio of the norms of parameter and
    gradient, see :func:`kernels.norm_ratio`. ``states`` are its buffers of the parameter's shape, ``scalars`` the names of
    what
    ``hyper(step)`` gives to programs, in order.
    """

    phases: tuple
    states: tuple[str, ...] = ()
    scalars: tuple[str, ...] = ()

    def writes_gradient(self) -> bool:
        """Whether the gradient is another one afterwards."""
        return any(phase[0] not in ("kernel", "ratio") and (phase[0] != "program" or _writes(phase[1], "g"))
                   for phase in self.phases)


def _writes(program: Sequence, target: str) -> bool:
    return any(_writes(i[2], target) if i[0] in ("when", "unless") else i[1] == target for i in program)


class Learnt:
    """What a training knows of one parameter: its own number of updates, the rule's buffers, a sum of gradients."""

    def __init__(self, parameter: Parameter, clip_norm: float | None = None, clip_value: float | None = None,
                 parts: int = 1):
        self.shape = parameter.shape
        self.hyper = kernels.Hyper(max_norm=clip_norm or 0.0, clip_value=clip_value or 0.0)
        self.summing = kernels.Hyper(grad_scale=1.0 / parts)
        self.buffers: dict[str, np.ndarray] = {}
        self._spare: dict[str, np.ndarray] = {}

    def buffer(self, name: str) -> np.ndarray:
        """One of the rule's buffers, zeros at first; its address stays."""
        if name not in self.buffers:
            self.buffers[name] = np.zeros(self.shape, np.float32)
        return self.buffers[name]

    @property
    def total(self) -> np.ndarray:
        """What the steps since the last update have added up, where :attr:`waiting`."""
        return self.spare("total")

    def spare(self, name: str) -> np.ndarray:
        """An array of the parameter's shape that is no part of what has been learnt."""
        if name not in self._spare:
            self._spare[name] = np.zeros(self.shape, np.float32)
        return self._spare[name]

    @property
    def waiting(self) -> bool:
        """Whether steps have added to :attr:`total` since the last update."""
        return self.summing.steps > 0

    def reset(self) -> None:
        """As at first, at the same addresses."""
        self.hyper.steps, self.hyper.begun, self.summing.steps = 0, False, 0
        for array in self.buffers.values():
            array[...] = 0


class Row(NamedTuple):
    """A parameter with its gradient, a reference or an address, what is known of it, and the rule of its group."""

    parameter: Parameter
    gradient: Any
    learnt: Learnt
    rule: Any
    recipe: Recipe


class Update:
    """The update of some parameters, each by the rule of its group.

    Parameters
    ----------
    rows : sequence of (Parameter, gradient, Learnt, rule)
        A rule has ``recipe(shape)``, ``hyper(step)`` and ``scale(shape)``.
    private : bool
        Whether gradients may be overwritten.
    """

    def __init__(self, rows: Sequence[tuple], private: bool):
        self.rows = [Row(p, g, learnt, rule, rule.recipe(p.shape)) for p, g, learnt, rule in rows]
        self._private, self._shared = private, {}  # type: bool, dict
        self.parameters = [row.parameter for row in self.rows]
        self.hypers = [row.learnt.hyper for row in self.rows]
        self.begun = [row.learnt.hyper for row in self.rows if row.recipe.states]
        self._arms: dict[tuple, tuple] = {}
        for row in self.rows:
            row.learnt.hyper.ratio = row.rule.scale(row.parameter.shape)
            arm = self._arms.setdefault((id(row.rule), id(row.recipe)), ([], _armed(row.rule, row.recipe)))
            arm[0].append(row.learnt.hyper)

    def arm(self) -> None:
        """Sets the scalars of the coming update; what a rule refuses, it refuses here."""
        for hypers, armed in self._arms.values():
            kernels.arm(hypers, armed)

    def emit(self, step: Callable, shared: dict) -> None:
        """Emits the steps: ``step(factory, *arguments, op=..., **keywords)``."""
        recipes: dict[Recipe, list[Row]] = {}
        seen: set = set()
        self._shared = shared  # memory that steps know by its address
        for row in self.rows:
            where = _place(row.gradient)
            if row.recipe.writes_gradient() and (not self._private or where in seen):
                spare, hyper = row.learnt.spare("gradient").ctypes.data, kernels.Hyper(first=1)
                step(kernels.accumulate, [(spare, row.gradient, row.parameter.size, hyper)], op="copy")
                row = row._replace(gradient=spare)
            seen.add(where)
            recipes.setdefault(row.recipe, []).append(row)
        for recipe, rows in recipes.items():
            for phase, *arguments in recipe.phases:
                PHASES[phase](step, shared, rows, recipe, *arguments)

    def perturb(self, step: Callable, shared: dict, rule) -> None:
        """Emits the steps to where a rule wants its gradients taken; the parameters are kept aside."""
        scalars, aside = rule.aside_scalars, self._aside()
        norms = aside
        if rule.adaptive:
            step(kernels.update, aside, rule.weighted, ("aside",), scalars, op="perturb")
            norms = [(p, states[0], (), size, hyper) for p, _, states, size, hyper in aside]
        _several(step, shared, 2, "perturb", kernels.norm_ratio, [(p, g, size, hyper) for p, g, _, size, hyper in norms],
                 factor="_rho", decay="_none", eps="_tiny", scalars=scalars, together=True)
        step(kernels.update, aside, rule.perturbed, ("aside",), scalars, op="perturb")

    def put_back(self, step: Callable, rule) -> None:
        """Emits the step back to what was kept aside."""
        step(kernels.update, self._aside(), (("scale", "p", "aside", "_one"),), ("aside",), rule.aside_scalars, op="perturb")

    def _aside(self) -> list:
        return [(row.parameter.address, row.gradient, (row.learnt.spare("aside").ctypes.data,), row.parameter.size,
                 row.learnt.hyper) for row in self.rows]


def _place(gradient) -> tuple:
    """Where a gradient lies: equal for two that are the same memory."""
    return (id(gradient.buffer), gradient.offset) if hasattr(gradient, "buffer") else (gradient, 0)


def _armed(rule, recipe: Recipe) -> Callable:
    """The scalars of step number n as attributes of a Hyper."""
    def armed(number: int) -> dict:
        values = rule.hyper(number)
        fields = {name: values[name] for name in values if name in kernels.FIELDS}
        return {**fields, "k": [values[name] for name in recipe.scalars]} if recipe.scalars else fields

    return armed


def _items(rows: Sequence[Row]) -> Iterator[tuple]:
    for row in rows:
        states = tuple(row.learnt.buffer(name).ctypes.data for name in row.recipe.states)
        yield row.parameter.address, row.gradient, states, row.parameter.size, row.learnt.hyper


def _kernel(step: Callable, shared: dict, rows: Sequence[Row], recipe: Recipe, name: str,
            count: int) -> None:
    width = 1 if name == "sgd" else 2
    step(KERNELS[name], [(p, g, *states[:count], *[0] * (width - count), size, hyper)
                         for p, g, states, size, hyper in _items(rows)], op=name)


def _program(step: Callable, shared: dict, rows: Sequence[Row], recipe: Recipe, instructions: tuple) -> None:
    step(kernels.update, list(_items(rows)), instructions, recipe.states, recipe.scalars, op="update")


def _ratio(step: Callable, shared: dict, rows: Sequence[Row], recipe: Recipe, factor: str, decay: str, eps: str,
           scaled: bool) -> None:
    items = [(p, g, size, hyper) for p, g, _, size, hyper in _items(rows)]
    _several(step, shared, 3, "norm_ratio", kernels.norm_ratio, items, factor=factor, decay=decay, eps=eps,
             scaled=scaled, scalars=recipe.scalars)


def _orthogonal(step: Callable, shared: dict, rows: Sequence[Row], recipe: Recipe, coefficients: tuple, iterations: int,
                factor: float, program: tuple) -> None:
    """Newton-Schulz iterations on each gradient as a matrix, then a program that applies them.

    Each is ``X = a X + (b A + c A A) X`` with ``A = X X^T``, of a tall matrix ``X = a X + X (b A + c A A)`` with ``A = X^T
    X``; the last one is multiplied by ``factor``.
    """
    a, b, c = coefficients

    def scratch(name: str, count: int) -> int:
        """Memory of this step alone, one for all matrices of a size."""
        key = ("orthogonal", name, count)
        if key not in shared:
            shared[key] = np.zeros(count, np.float32)
        return shared[key].ctypes.data

    def product(sizes: tuple[int, int, int], x, x_strides, y, y_strides, z, d=None, alpha=1.0, beta=0.0) -> None:
        """z = alpha * x y + beta * d, of x with these strides along its rows and columns, and so on."""
        m, n, k = sizes
        operands = {"a": (x, (x_strides[0], 0, x_strides[1]), "float32"),
                    "b": (y, (0, y_strides[1], y_strides[0]), "float32"),
                    "c": (z, (n, 1, 0), "float32"), "d": None if d is None else (d, (n, 1, 0), "float32")}
        problem: dict[str, Any] = {"shape": (m, n, k), "kinds": "mnk", **operands}
        plain = {key: None if value is None else (0, *value[1:]) for key, value in operands.items()}
        packed, partials = matmul.needs(shape=(m, n, k), kinds="mnk", **plain)
        if packed:
            step(matmul.pack, **problem, packed=scratch("packed", packed), op="orthogonal")
        problem.update(packed=scratch("packed", packed) if packed else 0,
                       partials=scratch("partials", partials) if partials else 0)
        step(matmul.product, **problem, alpha=alpha, beta=beta, op="orthogonal")
        if partials:
            problem.pop("packed")
            step(matmul.sum_parts, **problem, alpha=alpha, beta=beta, op="orthogonal")

    for row, (p, g, _, size, hyper) in zip(rows, _items(rows), strict=True):
        height = row.parameter.shape[0]
        width = size // max(1, height)
        if not size:
            continue
        n, tall = min(height, width), height > width
        _several(step, shared, 2, "orthogonal", kernels.norm_ratio, [(p, g, size, hyper)], factor="one", decay="zero",
                 eps="eps", scalars=recipe.scalars, together=True)
        step(kernels.update, [(p, g, (), size, hyper)], (("scale", "g", "g", "ratio"),), (), recipe.scalars,
             op="orthogonal")
        gram, both, other, now = scratch("gram", n * n), scratch("sum", n * n), scratch("next", size), g
        for i in range(iterations):
            last = factor if i == iterations - 1 else 1.0
            if tall:
                product((n, n, height), now, (1, width), now, (width, 1), gram)
            else:
                product((n, n, width), now, (width, 1), now, (1, width), gram)
            product((n, n, n), gram, (n, 1), gram, (n, 1), both, gram, c, b)
            target = other if now is g else g
            first, second = (now, both) if tall else (both, now)
            product((height, width, n), first, (width if tall else n, 1), second, (n if tall else width, 1), target, now,
                    last, a * last)
            now = target
        step(kernels.update, [(p, now, (), size, hyper)], program, (), recipe.scalars, op="update")


PHASES: dict[str, Callable] = {"kernel": _kernel, "program": _program, "ratio": _ratio, "orthogonal": _orthogonal}


def clip(step: Callable, shared: dict, found: Sequence[tuple], hypers: list, value, norm) -> None:
    """Emits the clipping of gradients: (parameter, gradient) each."""
    if value is not None:
        step(kernels.clip_value, [(g, p.size, h) for (p, g), h in zip(found, hypers, strict=True)], op="clip_value")
    if norm is not None:
        _several(step, shared, 2, "clip_norm", kernels.clip_norm, [(g, p.size) for p, g in found], hypers)


def _several(step: Callable, shared: dict, count: int, op: str, make: Callable, *arguments, **keywords) -> None:
    """Emits the steps that one call makes."""
    key = object()
    for i in range(count):
        step(_part, shared, key, i, make, *arguments, op=op, **keywords)


def _part(shared: dict, key, i: int, make: Callable, *arguments, **keywords):
    if i == 0:
        shared[key] = make(*arguments, **keywords)
    return shared[key][i]


def norm_of(arrays: Sequence[np.ndarray]) -> float:
    """The 2-norm of several float32 arrays together, summed in double."""
    held, hyper = [np.ascontiguousarray(a, np.float32) for a in arrays], kernels.Hyper(max_norm=1.0)
    StepList(kernels.clip_norm([(a.ctypes.data, a.size) for a in held], [hyper]), 1).run(threads_for(0))
    return hyper.total_norm


def averaged(pairs: Sequence[tuple[Parameter, Parameter]], part: float) -> None:
    """Has the first parameter of each pair go this part of the way to the second."""
    hyper = kernels.Hyper(k=(part,))
    items = [(a.address, b.address, (), a.size, hyper) for a, b in pairs]
    StepList([kernels.update(items, (("lerp", "p", "p", "g", "part"),), (), ("part",))], 1).run(threads_for(0))
