"""Convolutions as users give them, run by any algorithm from memory in which everything is NaN, against float64.

Data are small integers whose sums float32 holds exactly in whatever order, so that a missing, doubled or misplaced term is a
difference of at least 1: equality for the algorithms that add up products, a thousandth for those that transform.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import reference as R
from gradients import run
from kernels.guarded import guarded

import fastconv.functional as F
from fastconv.lowering.memory import PARAMETER
from fastconv.lowering.places import Buffer
from fastconv.lowering.program import Program
from fastconv.ops.conv import choose
from fastconv.ops.conv.problem import Problem

LARGEST = 3  # of the integers that are drawn
TRANSFORMS = ("winograd", "fft")  # round where other algorithms are exact
EMULATED = 1e5  # multiply-adds up to which AMX is emulated
ACTIVATIONS = {
    None: (lambda t: t, lambda v: v),
    "relu": (F.relu, lambda v: np.maximum(v, 0)),
    "clip": (lambda t: F.hardtanh(t, -4.0, 9.0), lambda v: np.clip(v, -4, 9)),
    "leaky_relu": (lambda t: F.leaky_relu(t, 0.25), lambda v: np.where(v < 0, v / 4, v)),
}


class Guarded(Program):
    """A program each of whose buffers has memory of its own, full of NaN, that ends at a page which nobody may touch."""

    def __init__(self, lowered):
        self._held: dict[int, np.ndarray] = {}
        super().__init__(lowered)

    def address(self, buffer: Buffer) -> int:
        if buffer.kind == PARAMETER:
            return super().address(buffer)
        if id(buffer) not in self._held:
            self._held[id(buffer)] = guarded(-(-buffer.nbytes // 4), 0 if buffer.name == "zeros" else np.nan)
        return self._held[id(buffer)].ctypes.data


@dataclass(frozen=True)
class Conv:
    """A convolution, or (``transposed``) the one whose backward to data is the transposed convolution that is asked for.

    ``axes``: (extent of the input, kernel, stride, dilation, padding in front, behind) per dimension. Transposed, the extent
    is that of the output, less what no input gives; ``extra`` of it is output_padding. ``c`` and ``k`` are per group.
    """

    n: int
    groups: int
    c: int
    k: int
    axes: tuple[tuple[int, int, int, int, int, int], ...]
    transposed: bool = False
    extra: tuple[int, ...] = ()
    bias: bool = False
    residual: bool = False
    act: str | None = None
    beside: bool = False  # input and output lie beside others in the pixels of concatenations
    spare: int = 0  # images that the plan has room for besides
    moved: bool = False  # arrays are channels-last in memory
    kind: str = field(default="", compare=False)

    def __post_init__(self):
        if self.transposed:
            extra = self.extra or (0,) * len(self.axes)
            object.__setattr__(self, "axes", tuple(
                (x - (x - e + low + high - d * (r - 1) - 1) % s, r, s, d, low, high)
                for (x, r, s, d, low, high), e in zip(self.axes, extra, strict=True)))

    @property
    def dims(self) -> int:
        return len(self.axes)

    @property
    def x(self) -> tuple[int, ...]:
        return (self.n, self.groups * self.c, *(a[0] for a in self.axes))

    @property
    def w(self) -> tuple[int, ...]:
        return (self.groups * self.k, self.c, *(a[1] for a in self.axes))

    @property
    def y(self) -> tuple[int, ...]:
        extra = self.extra or (0,) * self.dims
        return (self.n, self.groups * self.k, *((x - e + low + high - d * (r - 1) - 1) // s + 1 for
                                                (x, r, s, d, low, high), e in zip(self.axes, extra, strict=True)))

    @property
    def keywords(self) -> dict:
        """Of the functions."""
        _, _, stride, dilation, low, high = zip(*self.axes, strict=True)
        more = {"output_padding": self.extra or (0,) * self.dims} if self.transposed else {}
        return {"stride": stride, "padding": tuple(zip(low, high, strict=True)), "dilation": dilation, "groups": self.groups,
                **more}

    @property
    def work(self) -> int:
        """Multiply-adds of a pass."""
        return math.prod(self.y) * self.c * math.prod(self.w[2:])

    @property
    def floats(self) -> int:
        return math.prod(self.x) + math.prod(self.y) + math.prod(self.w)

    def problem(self) -> Problem:
        return Problem(self.x, self.w, self.y, self.keywords)

    def algorithms(self, which: str) -> list[str]:
        """Those that do not refuse this pass of the convolution (transposed: of the one behind it)."""
        p = self.problem()
        return [a.name for a in choose._algorithms
                if choose.refusal(a, which, p) is None and (a.name != "amx" or self.work <= EMULATED)]

    def terms(self, which: str) -> int:
        """Products per sum."""
        taps = math.prod(self.w[2:])
        return {"forward": self.c * taps, "backward_data": self.k * taps,
                "backward_weight": math.prod(self.y) // self.y[1]}[which]

    def __str__(self) -> str:
        shown = {name: value for name in ("transposed", "extra", "bias", "residual", "act", "beside", "spare", "moved") if
                 (value := getattr(self, name))}
        return (f"Conv(n={self.n}, groups={self.groups}, c={self.c}, k={self.k}, axes={self.axes}"
                + "".join(f", {name}={value!r}" for name, value in shown.items()) + ")")


def named(transposed: bool, dims: int, ending: str = ""):
    return getattr(F, f"conv{'_transpose' * transposed}{dims}d{ending}")


def integers(rng: np.random.Generator, shape: Sequence[int], moved: bool = False, largest: int = LARGEST) -> np.ndarray:
    """Small integers in an array that ends at a guard page; ``moved``: whose channels are the last axis in memory."""
    values = rng.integers(-largest, largest + 1, shape, np.int8)
    if not moved:
        array = guarded(shape, 0)
        array[...] = values
        return array
    array = np.moveaxis(guarded((shape[0], *shape[2:], shape[1]), 0), -1, 1)
    array[...] = values
    return array


@lru_cache(maxsize=1)
def operands(p: Conv, which: str, fused: bool, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The arrays of one pass, in the order of the function's arguments, and what is right."""
    rng = np.random.default_rng(seed)
    if fused:
        source, target = (p.y, p.x) if p.transposed else (p.x, p.y)
        x, w = integers(rng, source, p.moved), integers(rng, p.w)
        if p.beside:
            x[...] = abs(x)
        right = R.conv_transpose(x, w, None, **p.keywords) if p.transposed else R.conv(x, w, None, *geometry(p))
        arrays = [x, w]
        if p.bias:
            arrays.append(integers(rng, target[1:2]))
            right += arrays[-1].reshape(1, -1, *[1] * p.dims)
        if p.residual:
            arrays.append(integers(rng, target, p.moved))
            right += arrays[-1]
        right = ACTIVATIONS[p.act][1](right)
        if p.beside:
            right = np.concatenate([x, right, x] if source[2:] == target[2:] else [right, right], axis=1)
        return arrays, right
    w, x, y = integers(rng, p.w), integers(rng, p.x, p.moved), integers(rng, p.y, p.moved)
    if which == "backward_weight":
        right = R.conv_transpose_backward(x, y, w, **p.keywords)[1] if p.transposed else \
            R.conv_backward_weight(x, p.w, y, *geometry(p))
        return [x, y] if p.transposed else [y, x], right  # the gradient of the output comes first
    gradient = x if p.transposed else y
    right = R.conv_transpose_backward(gradient, y, w, **p.keywords)[0] if p.transposed else \
        R.conv_backward_data(p.x, w, gradient, *geometry(p))
    return [gradient, w], right


def computed(p: Conv, which: str, fused: bool, arrays: list[np.ndarray], algorithm: str | None,
             precision: str | None) -> np.ndarray:
    """One pass as users ask for it, with its epilogue where it is ``fused``."""
    keywords = {**p.keywords, "algorithm": algorithm, "precision": precision}
    flat: tuple[int, ...] = (1,)
    if fused:
        flat = (1, 2) if p.bias else (1,)
        source, target = (p.y, p.x) if p.transposed else (p.x, p.y)

        def function(x, w, *more):
            more = list(more)
            if p.beside:  # x is placed into the concatenation, and read by the convolution there
                x = F.relu(x)
            y = named(p.transposed, p.dims)(x, w, more.pop(0) if p.bias else None, **keywords)
            y = ACTIVATIONS[p.act][0](y + more.pop(0) if p.residual else y)
            if p.beside:
                return F.cat([x, y, x] if source[2:] == target[2:] else [y, y], dim=1)
            return y
    elif which == "backward_weight":
        flat = ()

        def function(g, x):
            return named(p.transposed, p.dims, "_backward_weight")(g, x, p.w, **keywords)
    else:
        shape = p.y if p.transposed else p.x

        def function(g, w):
            return named(p.transposed, p.dims, "_backward_data")(g, w, (p.n + p.spare, *shape[1:]), **keywords)
    return run(function, arrays, flat=flat, constant=range(len(arrays)), batch=p.n + p.spare, bind=Guarded)[0]


def geometry(p: Conv) -> tuple:
    return tuple(p.keywords[name] for name in ("stride", "padding", "dilation", "groups"))


def passes(p: Conv) -> list[tuple[str, bool]]:
    """(pass of the convolution behind, whether it has the epilogue): those that users can ask for."""
    return [("backward_data" if p.transposed else "forward", True), ("forward" if p.transposed else "backward_data", False),
            ("backward_weight", False)]


def check(p: Conv, which: str, fused: bool, algorithm: str | None, seed: int, precision: str | None = None) -> None:
    """Runs one pass by one algorithm (None: the one that is chosen) and compares; an AssertionError says what is wrong."""
    assert p.terms(which) * LARGEST**2 < 2**23
    arrays, right = operands(p, which, fused, seed)
    got = computed(p, which, fused, arrays, algorithm, precision)
    exact = algorithm is not None and algorithm not in TRANSFORMS
    # the transforms' sums are over magnitudes of up to 100 times the operands'
    loss = 0 if exact else max(2.0**-10, 2.0**-24 * 400 * LARGEST**2 * p.terms(which) ** 0.5)
    wrong = ~(abs(got - right) <= loss)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(f"{p}: {which} by {algorithm}, {precision}: {wrong.sum()} of {wrong.size} values are wrong, "
                             f"the first at {at}: {got[at]}, right is {right[at]}; seed={seed}")


def everything(p: Conv, seed: int = 0) -> int:
    """All passes by all algorithms that do not refuse; how many there were."""
    count = 0
    for which, fused in passes(p):
        for algorithm in (*p.algorithms(which), None):
            check(p, which, fused, algorithm, seed)
            count += 1
    return count


def axis(size: int, kernel: int = 1, stride: int = 1, dilation: int = 1, padding: int | tuple[int, int] = 0) -> tuple:
    """One dimension of a problem; the input grows where it would be too small for the kernel."""
    low, high = padding if isinstance(padding, tuple) else (padding, padding)
    return max(size, dilation * (kernel - 1) + 1 - low - high, 1), kernel, stride, dilation, low, high


def square(size: int, kernel: int = 1, stride: int = 1, dilation: int = 1, padding: int | tuple[int, int] = 0) -> tuple:
    return tuple(itertools.repeat(axis(size, kernel, stride, dilation, padding), 2))
