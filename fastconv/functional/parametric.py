"""Functions element by element of three arrays, or of one and what is given beside it: choices, limits, decimals, orders.

Dtypes are as in :mod:`fastconv.functional.pointwise`.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from math import inf, pi
from typing import Any

import numpy as np

from fastconv.functional._elementwise import as_operand, as_tensor, compute, floating, integer, number, promoted
from fastconv.functional.pointwise import SPECIAL, grid, uniform
from fastconv.functional.record import Array, Record, array, function, sample, wrong
from fastconv.graph.ir import Tensor, fail
from fastconv.ops import derivatives

MOST = float(np.finfo(np.float32).max)


@function(
    samples=lambda: [sample((3, 4), (3, 4), (4,), value=0.5), sample((3, 4, 5), (5,), (4, 1))],
    wrong=lambda: [
        wrong(ValueError, "dimension 0", (3,), (4,), (4,)),
        wrong(TypeError, "value", (3,), (3,), (3,), value="a"),
    ],
    method="addcmul",
)
def addcmul(input: Array, tensor1: Array, tensor2: Array, *, value: float = 1) -> Array:
    """``input + value * tensor1 * tensor2``, arrays of any shapes that broadcast."""
    scale = number("value", value)
    return compute(
        lambda x, a, b: x + (a * b * scale if scale != 1 else a * b),
        promoted,
        input=as_tensor("input", input),
        tensor1=as_tensor("tensor1", tensor1),
        tensor2=as_tensor("tensor2", tensor2),
    )


@function(
    samples=lambda: [sample((3, 4), (3, 4), uniform(0.5, 2, (4,)), value=0.5)],
    wrong=lambda: [wrong(ValueError, "dimension 0", (3,), (4,), (4,))],
    method="addcdiv",
)
def addcdiv(input: Array, tensor1: Array, tensor2: Array, *, value: float = 1) -> Array:
    """``input + value * tensor1 / tensor2``, arrays of any shapes that broadcast."""
    scale = number("value", value)
    return compute(
        lambda x, a, b: x + (a * scale if scale != 1 else a) / b,
        floating,
        input=as_tensor("input", input),
        tensor1=as_tensor("tensor1", tensor1),
        tensor2=as_tensor("tensor2", tensor2),
    )


@function(
    samples=lambda: [sample((3, 4), (3, 4), 0.3), sample((3, 4), (4,), uniform(0, 1, (3, 4)))],
    wrong=lambda: [wrong(ValueError, "dimension 0", (3,), (4,), 0.5)],
    method="lerp",
)
def lerp(input: Array, end: Array, weight: Array) -> Array:
    """``input + weight * (end - input)``; exactly ``end`` where ``weight`` is 1.

    Parameters
    ----------
    input, end : arrays of any shapes that broadcast
    weight : array or float
    """

    def program(x, z, w):
        step = z - x
        first, second = x + step * w, z - step * (1.0 - w)
        return x.builder.line("lt", x.builder.line("abs", w), 0.5).where(first, second)

    return compute(program, promoted, input=as_tensor("input", input), end=as_tensor("end", end), weight=weight)


@function(
    samples=lambda: [
        sample(array(lambda g: g.integers(0, 2, (3, 4)).astype(bool)), (3, 4), (4,)),
        sample(array(lambda g: g.integers(0, 2, (3, 1)).astype(bool)), (3, 4), 0.0),
    ],
    wrong=lambda: [
        wrong(TypeError, "condition has dtype float32", (3,), (3,), (3,)),
        wrong(ValueError, "dimension 0", array(lambda g: np.ones(3, bool)), (4,), (3,)),
    ],
)
def where(condition: Array, input: Array, other: Array) -> Array:
    """``input`` where the condition is true, else ``other``.

    Parameters
    ----------
    condition : array of bool
    input, other : arrays, or numbers, of any shapes that broadcast
    """
    chosen = as_tensor("condition", condition)
    if chosen.dtype not in ("bool", "uint8"):
        fail("where", f"condition has dtype {chosen.dtype}: expected bool", TypeError)
    dtype = promoted([as_operand("input", input), as_operand("other", other)])
    return compute(lambda c, x, z: c.where(x, z), dtype, condition=chosen, input=input, other=other)


def _masked_fill(input: Array, mask: Array, value: Array) -> Array:
    """``input`` with ``value`` where the mask is true: arrays of shapes that broadcast; ``value`` a number, or an array of
    one."""
    chosen, x = as_tensor("mask", mask), as_tensor("input", input)
    if chosen.dtype != "bool":
        fail("masked_fill", f"mask has dtype {chosen.dtype}: expected bool", TypeError)
    value = as_operand("value", value)
    if isinstance(value, Tensor) and value.ndim:
        fail("masked_fill", f"value of shape {value.shape}: expected a number")
    return compute(lambda c, v, x: c.where(v, x), x.dtype, mask=chosen, value=value, input=x)


masked_fill = function(
    samples=lambda: [sample((3, 4), array(lambda g: g.integers(0, 2, (4,)).astype(bool)), -1.5)],
    wrong=lambda: [wrong(TypeError, "mask has dtype float32", (3,), (3,), 0.0)],
    method="masked_fill",
    name="masked_fill",
)(_masked_fill)


def _bound(x, bound, above: str):
    """x, or the bound where that is beyond it; NaN of either stays."""
    line = x.builder.line
    if isinstance(bound, float):
        beyond = line(above, x, bound) if bound == bound else line("eq", 0.0, 0.0)
    else:
        beyond = line("logical_or", line(above, x, bound), line("isnan", bound))
    return beyond.where(bound, x)


def _clamp(name: str):
    def body(input: Array, min: Array | None = None, max: Array | None = None) -> Array:
        x = as_tensor("input", input)
        if min is None and max is None:
            fail(name, "min=None, max=None: expected one of them")
        low, high = (None if v is None else as_operand(key, v) for key, v in (("min", min), ("max", max)))
        given = {key: v for key, v in (("min", low), ("max", high)) if v is not None}
        if x.dtype == "float32" and all(not isinstance(v, Tensor) and v == v for v in given.values()):
            low, high = (-inf if low is None else float(low)), (inf if high is None else float(high))
            if low <= high:
                return compute(lambda v: v.builder.line("clamp", v, low, high), "float32", input=x)

        def program(v, *bounds):
            at = iter(bounds)
            v = _bound(v, next(at), "lt") if low is not None else v
            return _bound(v, next(at), "gt") if high is not None else v

        return compute(program, promoted, input=x, **given)

    body.__name__ = body.__qualname__ = name
    body.__doc__ = """``input`` within [min, max]; ``max`` where that is below ``min``. NaN stays NaN.

Parameters
----------
input : array
min, max : number or array that broadcasts, or None, not both

Raises
------
ValueError
    Without a bound.
"""
    return function(
        samples=lambda: [
            sample((3, 4, 5), -0.5, 0.7),
            sample((3, 4), min=0.1),
            sample((3, 4), max=0.1),
            sample((3, 4), (4,), (3, 4)),
            sample((3, 4), 0.5, -0.5),
        ],
        wrong=lambda: [wrong(ValueError, "min=None, max=None", (3,)), wrong(TypeError, "min", (3,), "a")],
        method=name,
        name=name,
    )(body)


clamp, clip = _clamp("clamp"), _clamp("clip")


def _clamp_one(name: str, key: str, above: str) -> Callable[..., Any]:
    def lower(input: Array, min: Array) -> Array:
        return compute(lambda x, b: _bound(x, b, above), promoted, input=as_tensor("input", input), min=min)

    def upper(input: Array, max: Array) -> Array:
        return compute(lambda x, b: _bound(x, b, above), promoted, input=as_tensor("input", input), max=max)

    body = lower if key == "min" else upper
    body.__name__ = body.__qualname__ = name
    body.__doc__ = (
        f"``input``, but {'at least' if key == 'min' else 'at most'} ``{key}``, a number or an array that broadcasts."
    )
    return function(
        samples=lambda: [sample((3, 4), 0.2), sample((3, 4), (4,))],
        wrong=lambda: [wrong(TypeError, key, (3,), "a")],
        method=name,
        name=name,
    )(body)


clamp_min, clamp_max = _clamp_one("clamp_min", "min", "lt"), _clamp_one("clamp_max", "max", "gt")


@function(
    samples=lambda: [sample(SPECIAL), sample(SPECIAL, 1.0, 2.0, -2.0)],
    wrong=lambda: [wrong(TypeError, "nan", (3,), nan="a")],
    method="nan_to_num",
    reference=lambda x, *to: np.nan_to_num(x, True, *(to or (0.0, MOST, -MOST))),
)
def nan_to_num(input: Array, nan: float | None = 0.0, posinf: float | None = None, neginf: float | None = None) -> Array:
    """NaN and infinities as numbers: by default 0, and the largest and smallest float32."""
    zero, high, low = (
        default if v is None else number(key, v)
        for key, v, default in (("nan", nan, 0.0), ("posinf", posinf, MOST), ("neginf", neginf, -MOST))
    )
    x = as_tensor("input", input)
    if x.dtype != "float32":
        return x

    def program(v):
        line = v.builder.line
        return v.isnan().where(zero, line("eq", v, inf).where(high, line("eq", v, -inf).where(low, v)))

    return compute(program, "float32", input=x)


@function(
    samples=lambda: [sample(uniform(0.05, 0.95)), sample(uniform(-0.2, 1.2), eps=0.1)],
    wrong=lambda: [wrong(TypeError, "eps", (3,), eps="a")],
    method="logit",
)
def logit(input: Array, eps: float | None = None) -> Array:
    """``log(input / (1 - input))``, of ``input`` clamped to [eps, 1 - eps] where ``eps`` is given."""
    least = None if eps is None else number("eps", eps)

    def program(x):
        x = x if least is None else x.builder.line("clamp", x, least, 1.0 - least)
        return (x / (1.0 - x)).log()

    return compute(program, floating, input=as_tensor("input", input))


@function(
    samples=lambda: [sample(grid((4, 9))), sample((3, 4), decimals=1), sample(uniform(-500, 500, (9,)), decimals=-2)],
    wrong=lambda: [wrong(TypeError, "decimals", (3,), decimals=0.5)],
    method="round",
)
def round(input: Array, *, decimals: int = 0) -> Array:
    """To the nearest integer, halves to even; of ``decimals`` places behind the point, or before it where negative."""
    places = integer("decimals", decimals)
    x = as_tensor("input", input)
    if not places or x.dtype != "float32":
        return compute(lambda v: v.round(), promoted, input=x)
    scale = 10.0 ** builtins.abs(places)
    if places > 0:
        return compute(lambda v: (v * scale).round() / scale, "float32", input=x)
    return compute(lambda v: (v / scale).round() * scale, "float32", input=x)


@function(
    samples=lambda: [sample(n, uniform(0.2, 9)) for n in (0, 1, 2, 4)],
    wrong=lambda: [wrong(ValueError, "n=-1", -1, (3,)), wrong(TypeError, "n=0.5", 0.5, (3,))],
)
def polygamma(n: int, input: Array) -> Array:
    """The ``n``-th derivative of :func:`digamma`; for ``n`` from 2 to 30 of values from -12 on, NaN below.

    Raises
    ------
    ValueError
        For another ``n``.
    """
    order = integer("n", n)
    if not 0 <= order <= 30:
        fail("polygamma", f"n={order}: expected 0 to 30")

    def program(x):
        return x.digamma() if order == 0 else x.trigamma() if order == 1 else derivatives.polygamma(order, x)

    return compute(program, floating, input=as_tensor("input", input))


@function(samples=lambda: [sample(uniform(1.5, 9), 3)], wrong=lambda: [wrong(ValueError, "p=0", (3,), 0)], method="mvlgamma")
def mvlgamma(input: Array, p: int) -> Array:
    """The logarithm of the multivariate gamma function of dimension ``p``, at least 1."""
    count = integer("p", p)
    if count < 1:
        fail("mvlgamma", f"p={count}: expected at least 1")

    def program(x):
        total = x.lgamma() + count * (count - 1) / 4 * math.log(pi)
        for j in range(1, count):
            total = total + (x - 0.5 * j).lgamma()
        return total

    return compute(program, floating, input=as_tensor("input", input))


@function(
    samples=lambda: [sample((3, 4), (3, 4)), sample(SPECIAL, SPECIAL, equal_nan=True)],
    wrong=lambda: [wrong(TypeError, "rtol", (3,), (3,), rtol="a")],
    method="isclose",
    differentiable=False,
)
def isclose(input: Array, other: Array, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Array:
    """Whether ``abs(input - other) <= atol + rtol * abs(other)``, infinities of one sign and, if so asked, NaN alike."""
    relative, absolute = number("rtol", rtol), number("atol", atol)
    for name, value in (("rtol", relative), ("atol", absolute)):
        if value < 0:
            fail("isclose", f"{name}={value:g}: expected at least 0")

    def program(x, z):
        line = x.builder.line
        near = line("logical_and", (x - z).abs() <= z.abs() * relative + absolute, z.isfinite())
        near = line("logical_or", near, line("eq", x, z))
        return line("logical_or", near, line("logical_and", x.isnan(), z.isnan())) if equal_nan else near

    return compute(program, "bool", input=as_tensor("input", input), other=as_tensor("other", other))


__all__ = [name for name, value in list(globals().items())
           if isinstance(getattr(value, "record", None), Record) and value.record.name == name]
