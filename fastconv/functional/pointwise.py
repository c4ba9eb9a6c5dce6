"""Functions of one or two arrays element by element, with broadcasting, under ``torch``'s names.

Arrays are of float32, int64, int32, uint8, int8 or bool; the dtype of a result follows PyTorch's rules of promotion.
Floats are computed in float32, and so is what makes floats of integers. What makes integers of integers is exact, in int64,
and wraps round as PyTorch's does; a divisor of 0 is a ZeroDivisionError. Denormal floats count as zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from math import inf, pi
from typing import Any

import numpy as np

from fastconv.functional._elementwise import as_operand, as_tensor, compute, floating, number, promoted, truth
from fastconv.functional.record import Array, Record, array, function, sample, wrong
from fastconv.graph.ir import Tensor, apply, fail
from fastconv.ops import arithmetic

LN2 = math.log(2)


def uniform(low: float, high: float, shape=(3, 4, 5)) -> Any:
    """An array of a sample: uniform in a range."""
    return array(lambda g: g.uniform(low, high, shape).astype(np.float32))


def grid(shape=(3, 17), step=0.5) -> Any:
    """Halves and wholes, so that ties are met."""
    return array(lambda g: (g.integers(-6, 7, shape) * step).astype(np.float32))


def _unary(
    name: str,
    program: Callable,
    text: str,
    *,
    inputs: Any = None,
    dtype: Any = floating,
    method: str | None = None,
    differentiable: bool = True,
    reference: Callable | None = None,
) -> Callable[..., Any]:
    """The record of a function of one array."""

    def body(input: Array) -> Array:
        return compute(program, dtype, input=as_tensor("input", input))

    body.__name__ = body.__qualname__ = name
    body.__doc__ = f"{text}\n\nParameters\n----------\ninput : array of any shape\n"
    given = [(3, 4, 5), (7,), ()] if inputs is None else [inputs]
    return function(
        samples=lambda: [sample(x) for x in given],
        wrong=lambda: [wrong(TypeError, "input", "a")],
        method=name if method is None else method,
        name=name,
        differentiable=differentiable,
        reference=reference,
    )(body)


exp = _unary("exp", lambda x: x.exp(), "``e ** input``.")
exp2 = _unary("exp2", lambda x: x.exp2(), "``2 ** input``.")
expm1 = _unary("expm1", lambda x: x.expm1(), "``exp(input) - 1``, precise near 0.")
log = _unary("log", lambda x: x.log(), "The natural logarithm.", inputs=uniform(0.1, 9))
log2 = _unary("log2", lambda x: x.log2(), "The logarithm to base 2.", inputs=uniform(0.1, 9))
log10 = _unary("log10", lambda x: x.log10(), "The logarithm to base 10.", inputs=uniform(0.1, 9))
log1p = _unary("log1p", lambda x: x.log1p(), "``log(1 + input)``, precise near 0.", inputs=uniform(-0.9, 9))
sqrt = _unary("sqrt", lambda x: x.sqrt(), "The square root.", inputs=uniform(0.1, 9))
rsqrt = _unary("rsqrt", lambda x: x.rsqrt(), "``1 / sqrt(input)``.", inputs=uniform(0.1, 9))
reciprocal = _unary("reciprocal", lambda x: x.reciprocal(), "``1 / input``.", inputs=uniform(0.1, 9))
square = _unary("square", lambda x: x.square(), "``input * input``.", dtype=promoted)
sin = _unary("sin", lambda x: x.sin(), "The sine.")
cos = _unary("cos", lambda x: x.cos(), "The cosine.")
tan = _unary("tan", lambda x: x.tan(), "The tangent.", inputs=uniform(-1.4, 1.4))
asin = _unary("asin", lambda x: x.asin(), "The inverse sine.", inputs=uniform(-0.95, 0.95))
acos = _unary("acos", lambda x: x.acos(), "The inverse cosine.", inputs=uniform(-0.95, 0.95))
atan = _unary("atan", lambda x: x.atan(), "The inverse tangent.")
sinh = _unary("sinh", lambda x: x.sinh(), "The hyperbolic sine.")
cosh = _unary("cosh", lambda x: x.cosh(), "The hyperbolic cosine.")
asinh = _unary("asinh", lambda x: x.asinh(), "The inverse hyperbolic sine.")
acosh = _unary("acosh", lambda x: x.acosh(), "The inverse hyperbolic cosine.", inputs=uniform(1.1, 9))
atanh = _unary("atanh", lambda x: x.atanh(), "The inverse hyperbolic tangent.", inputs=uniform(-0.95, 0.95))
erf = _unary("erf", lambda x: x.erf(), "The error function.")
erfc = _unary("erfc", lambda x: x.erfc(), "``1 - erf(input)``, precise where that is small.")
erfinv = _unary("erfinv", lambda x: x.erfinv(), "The inverse of the error function.", inputs=uniform(-0.95, 0.95))
lgamma = _unary(
    "lgamma", lambda x: x.lgamma(), "The logarithm of the absolute value of the gamma function.", inputs=uniform(0.2, 9)
)
digamma = _unary("digamma", lambda x: x.digamma(), "The derivative of :func:`lgamma`.", inputs=uniform(0.2, 9))
deg2rad = _unary("deg2rad", lambda x: x * (pi / 180), "Degrees as radians.")
rad2deg = _unary("rad2deg", lambda x: x * (180 / pi), "Radians as degrees.")
abs = _unary("abs", lambda x: x.abs(), "The absolute value.", dtype=promoted, inputs=grid())


def _signed(operands: Any) -> str:
    if operands[0].dtype == "bool":
        fail("neg", "input is bool: the negation of truth values is logical_not", TypeError)
    return promoted(operands)


neg = _unary("neg", lambda x: -x, "``-input``.", dtype=_signed)
positive = _unary("positive", lambda x: x, "The input.", dtype=promoted)
sign = _unary("sign", lambda x: x.sign(), "-1, 0 or 1.", dtype=promoted, inputs=grid())
floor = _unary(
    "floor", lambda x: x.floor(), "The largest integer that is not greater.", dtype=promoted, inputs=grid(step=0.25)
)
ceil = _unary("ceil", lambda x: x.ceil(), "The smallest integer that is not less.", dtype=promoted, inputs=grid(step=0.25))
trunc = _unary("trunc", lambda x: x.trunc(), "The integer part.", dtype=promoted, inputs=grid(step=0.25))
frac = _unary("frac", lambda x: x.frac(), "``input - trunc(input)``.", inputs=grid(step=0.25))
SPECIAL = array(lambda g: np.array([[0, -0.0, 1, -1], [inf, -inf, np.nan, 3e38]], np.float32))
isnan = _unary("isnan", lambda x: x.isnan(), "Whether it is no number.", dtype=truth, inputs=SPECIAL)
isinf = _unary("isinf", lambda x: x.isinf(), "Whether it is infinite.", dtype=truth, inputs=SPECIAL)
isfinite = _unary("isfinite", lambda x: x.isfinite(), "Whether it is neither infinite nor NaN.", dtype=truth, inputs=SPECIAL)
isposinf = _unary(
    "isposinf", lambda x: x.builder.line("eq", x, inf), "Whether it is infinity.", dtype=truth, inputs=SPECIAL, method=""
)
isneginf = _unary(
    "isneginf", lambda x: x.builder.line("eq", x, -inf), "Whether it is -infinity.", dtype=truth, inputs=SPECIAL, method=""
)
signbit = _unary("signbit", lambda x: x.signbit(), "Whether its sign is negative, -0 included.", dtype=truth, inputs=SPECIAL)
logical_not = _unary("logical_not", lambda x: x.logical_not(), "Whether it is 0.", dtype=truth, inputs=SPECIAL)


def _sinc(x):
    zero = x.builder.line("eq", x, 0.0)
    turn = zero.where(1.0, x) * pi
    return zero.where(1.0, turn.sin() / turn)


sinc = _unary("sinc", _sinc, "``sin(pi * input) / (pi * input)``, 1 at 0.", inputs=grid(step=0.25))


# ---- two arrays -----------------------------------------------------------------------------------------------------------

_PAIRS = [((3, 4, 5), (3, 4, 5)), ((3, 4, 5), (5,)), ((4, 1), (3, 1, 5)), ((2, 3), 1.5), ((), (3, 2))]


def _binary(
    name: str,
    program: Callable,
    text: str,
    *,
    dtype: Any = promoted,
    inputs: Any = None,
    method: str | None = None,
    differentiable: bool = True,
    reference: Callable | None = None,
    numbers: str = "",
) -> Callable[..., Any]:
    """The record of a function of two arrays; which of ``input`` and ``other`` may be a number is said by ``numbers``."""

    def body(input: Array, other: Array) -> Array:
        return compute(
            program,
            dtype,
            input=input if "input" in numbers else as_tensor("input", input),
            other=other if "other" in numbers else as_tensor("other", other),
        )

    body.__name__ = body.__qualname__ = name
    body.__doc__ = (
        f"{text}\n\nParameters\n----------\ninput, other : arrays of any shapes that broadcast"
        f"{f'; {numbers} may be a number' if numbers else ''}\n\n"
        "Raises\n------\nValueError\n    Where the shapes do not go together.\n"
    )
    pairs = _PAIRS if inputs is None else inputs
    return function(
        samples=lambda: [sample(*pair) for pair in pairs],
        wrong=lambda: [wrong(ValueError, "dimension 1 is 3 and 4", (2, 3), (2, 4)), wrong(TypeError, "other", (2, 3), "b")],
        method=name if method is None else method,
        name=name,
        differentiable=differentiable,
        reference=reference,
    )(body)


def _line(name: str) -> Callable:
    def program(x, z):
        builder = getattr(x, "builder", None) or z.builder
        return builder.line(name, x, z)

    return program


_TIES = [(grid((3, 17)), grid((3, 17))), (grid((3, 17)), grid((17,))), (grid((4, 6)), 0.5)]
_POSITIVE = [
    (uniform(0.2, 4, (3, 5)), uniform(0.3, 3, (3, 5))),
    (uniform(0.2, 4, (3, 5)), uniform(0.3, 3, (5,))),
    (uniform(0.2, 4), 2.0),
]
maximum = _binary("maximum", _line("maximum"), "The larger one; NaN where either is.", inputs=_TIES[:2])
minimum = _binary("minimum", _line("minimum"), "The smaller one; NaN where either is.", inputs=_TIES[:2])
fmax = _binary("fmax", _line("fmax"), "The larger one; the other one where one is NaN.", inputs=_TIES[:2])
fmin = _binary("fmin", _line("fmin"), "The smaller one; the other one where one is NaN.", inputs=_TIES[:2])
fmod = _binary(
    "fmod", _line("fmod"), "What a division leaves, with the sign of ``input``.", inputs=_POSITIVE, numbers="other"
)
remainder = _binary(
    "remainder",
    _line("remainder"),
    "What a division leaves, with the sign of ``other``: Python's ``%``.",
    inputs=[*_POSITIVE, ((3, 4), uniform(0.3, 2, (3, 4)))],
    numbers="input, other",
)
atan2 = _binary(
    "atan2", _line("atan2"), "The angle of the point (other, input), in radians.", dtype=floating, inputs=_PAIRS[:2]
)
hypot = _binary("hypot", _line("hypot"), "``sqrt(input ** 2 + other ** 2)``.", inputs=_PAIRS[:2])
copysign = _binary(
    "copysign",
    _line("copysign"),
    "The absolute value of ``input`` with the sign of ``other``.",
    dtype=floating,
    inputs=_PAIRS[:4],
    numbers="other",
)
nextafter = _binary(
    "nextafter",
    _line("nextafter"),
    "The next float32 from ``input`` towards ``other``; denormal ones are left out.",
    differentiable=False,
    reference=lambda x, z: np.nextafter(np.float32(x), np.float32(z)),
    inputs=_PAIRS[:2],
)
eq = _binary("eq", _line("eq"), "Whether they are equal.", dtype=truth, inputs=_TIES, numbers="other")
ne = _binary("ne", _line("ne"), "Whether they differ.", dtype=truth, inputs=_TIES, numbers="other")
lt = _binary("lt", _line("lt"), "Whether ``input`` is less.", dtype=truth, inputs=_TIES, numbers="other")
le = _binary("le", _line("le"), "Whether ``input`` is not greater.", dtype=truth, inputs=_TIES, numbers="other")
gt = _binary("gt", _line("gt"), "Whether ``input`` is greater.", dtype=truth, inputs=_TIES, numbers="other")
ge = _binary("ge", _line("ge"), "Whether ``input`` is not less.", dtype=truth, inputs=_TIES, numbers="other")
logical_and = _binary("logical_and", _line("logical_and"), "Whether neither is 0.", dtype=truth, inputs=_TIES[:2])
logical_or = _binary("logical_or", _line("logical_or"), "Whether not both are 0.", dtype=truth, inputs=_TIES[:2])
logical_xor = _binary("logical_xor", _line("logical_xor"), "Whether just one is 0.", dtype=truth, inputs=_TIES[:2])


def _bits(name: str, text: str, program: Callable, inputs: Any = None) -> Callable[..., Any]:
    def body(input: Array, other: Array) -> Array:
        operands = as_operand("input", input), as_operand("other", other)
        if promoted(operands) == "float32":
            fail(name, "input and other are of dtype float32 together: expected integers or bool", TypeError)
        return compute(program, promoted, input=input, other=other)

    body.__name__ = body.__qualname__ = name
    body.__doc__ = f"{text} Of integers or bool.\n"
    ints = array(lambda g: g.integers(-100, 100, (3, 5)).astype(np.int64))
    flags = array(lambda g: g.integers(0, 2, (3, 5)).astype(bool))
    given = [(ints, ints), (flags, flags), (ints, 5)] if inputs is None else inputs
    return function(
        samples=lambda: [sample(*pair) for pair in given],
        wrong=lambda: [wrong(TypeError, "float32", (2, 3), (2, 3))],
        method=name,
        name=name,
        differentiable=False,
    )(body)


bitwise_and = _bits("bitwise_and", "The bits that both have.", _line("bitwise_and"))
bitwise_or = _bits("bitwise_or", "The bits that either has.", _line("bitwise_or"))
bitwise_xor = _bits("bitwise_xor", "The bits that just one has.", _line("bitwise_xor"))
_SHIFTS = [
    (
        array(lambda g: g.integers(-100, 100, (3, 5)).astype(np.int32)),
        array(lambda g: g.integers(0, 8, (5,)).astype(np.int32)),
    )
]
bitwise_left_shift = _bits(
    "bitwise_left_shift", "``input * 2 ** other``, 0 where ``other`` is not from 0 to 63.", _line("shift_left"), _SHIFTS
)
bitwise_right_shift = _bits(
    "bitwise_right_shift",
    "``input // 2 ** other``; all bits are shifted out where ``other`` is not from 0 to 63.",
    _line("shift_right"),
    _SHIFTS,
)


def _power_of_two(x, z):
    builder = getattr(x, "builder", None) or z.builder
    return builder.line("exp2", z)


@function(
    samples=lambda: [
        sample(array(lambda g: g.integers(-9, 9, (3, 5)).astype(np.int64))),
        sample(array(lambda g: g.integers(0, 2, (3, 5)).astype(bool))),
    ],
    wrong=lambda: [wrong(TypeError, "float32", (2, 3))],
    method="bitwise_not",
    differentiable=False,
)
def bitwise_not(input: Array) -> Array:
    """All bits the other way round: ``-1 - input`` of integers, not of bool.

    Parameters
    ----------
    input : array of integers or bool
    """
    x = as_tensor("input", input)
    if x.dtype == "float32":
        fail("bitwise_not", "input has dtype float32: expected integers or bool", TypeError)
    if x.dtype == "bool":
        return compute(lambda v: v.logical_not(), "bool", input=x)
    if x.dtype == "uint8":
        return compute(lambda v: 255.0 - v, "uint8", input=x)
    return compute(lambda v: -1.0 - v, promoted, input=x)


def _dense(name: str, input: Any, other: Any) -> Tensor | None:
    """A sum, difference or product by the kernels that convolutions fuse, where their rule fits; else None."""
    x, z = as_operand("input", input), as_operand("other", other)
    for value, rest in ((x, z), (z, x)):
        if isinstance(value, Tensor) and value.dtype == "float32" and not isinstance(rest, (Tensor, bool)):
            return apply(name, [x, z])
    if isinstance(x, Tensor) and isinstance(z, Tensor) and arithmetic.fits(x, z):
        return apply(name, [x, z])
    return None


def _scaled(other: Any, alpha: Any) -> Any:
    alpha = alpha if isinstance(alpha, (int, float)) and not isinstance(alpha, bool) else number("alpha", alpha)
    return other if alpha == 1 else mul(other, alpha) if isinstance(as_operand("other", other), Tensor) else other * alpha


_SUMS = [
    *_PAIRS,
    (array(lambda g: g.integers(-9, 9, (3, 5)).astype(np.int64)), array(lambda g: g.integers(-9, 9, (5,)).astype(np.int32))),
]


@function(
    samples=lambda: [*(sample(*p) for p in _SUMS), sample((3, 4), (4,), alpha=0.5), sample((2, 3, 4, 5), (2, 3, 4, 5))],
    wrong=lambda: [
        wrong(ValueError, "dimension 1 is 3 and 4", (2, 3), (2, 4)),
        wrong(TypeError, "alpha", (2,), (2,), alpha="a"),
    ],
    method="add",
)
def add(input: Array, other: Array, *, alpha: float = 1) -> Array:
    """``input + alpha * other``.

    Parameters
    ----------
    input, other : arrays of any shapes that broadcast, or a number
    alpha : float, default 1

    Raises
    ------
    ValueError
        Where the shapes do not go together.
    """
    other = _scaled(other, alpha)
    done = _dense("add", input, other)
    if done is not None:
        return done
    logical = promoted([as_operand("input", input), as_operand("other", other)]) == "bool"
    return compute(_line("logical_or" if logical else "add"), promoted, input=input, other=other)


@function(
    samples=lambda: [*(sample(*p) for p in _SUMS), sample((3, 4), (4,), alpha=0.5), sample((2, 3, 4, 5), (2, 3, 4, 5))],
    wrong=lambda: [wrong(ValueError, "dimension 1 is 3 and 4", (2, 3), (2, 4))],
    method="sub",
)
def sub(input: Array, other: Array, *, alpha: float = 1) -> Array:
    """``input - alpha * other``; arguments as for :func:`add`."""
    other = _scaled(other, alpha)
    x, z = as_operand("input", input), as_operand("other", other)
    if promoted([x, z]) == "bool":
        fail("sub", "input and other are bool: a difference of truth values is logical_xor", TypeError)
    done = _dense("sub", x, z)
    return done if done is not None else compute(_line("sub"), promoted, input=x, other=z)


@function(
    samples=lambda: [*(sample(*p) for p in _SUMS), sample((2, 3, 4, 5), (2, 3, 4, 5)), sample((2, 3, 4, 5), (2, 3, 1, 1))],
    wrong=lambda: [wrong(ValueError, "dimension 1 is 3 and 4", (2, 3), (2, 4))],
    method="mul",
)
def mul(input: Array, other: Array) -> Array:
    """``input * other``; arguments as for :func:`add`."""
    done = _dense("mul", input, other)
    return done if done is not None else compute(_line("mul"), promoted, input=input, other=other)


@function(
    samples=lambda: [
        *(sample(*p) for p in _POSITIVE),
        sample((3, 4), uniform(0.3, 2, (3, 4)), rounding_mode="floor"),
        sample((3, 4), uniform(0.3, 2, (3, 4)), rounding_mode="trunc"),
        sample(array(lambda g: g.integers(-20, 20, (3, 5)).astype(np.int64)), 3, rounding_mode="floor"),
    ],
    wrong=lambda: [
        wrong(ValueError, "rounding_mode='up'", (2, 3), (2, 3), rounding_mode="up"),
        wrong(ValueError, "dimension 1 is 3 and 4", (2, 3), (2, 4)),
    ],
    method="div",
)
def div(input: Array, other: Array, *, rounding_mode: str | None = None) -> Array:
    """``input / other``.

    Parameters
    ----------
    input, other : arrays of any shapes that broadcast, or a number
    rounding_mode : {None, "trunc", "floor"}, optional
        Towards zero, or down, as Python's ``//``; None: not rounded, of float32.

    Raises
    ------
    ValueError
        For another ``rounding_mode``, and where the shapes do not go together.
    """
    if rounding_mode is None:
        return compute(_line("div"), floating, input=input, other=other)
    if rounding_mode not in ("trunc", "floor"):
        fail("div", f"rounding_mode={rounding_mode!r}: expected None, 'trunc' or 'floor'")
    return compute(_line(f"div_{rounding_mode}"), promoted, input=input, other=other)


floor_divide = _binary(
    "floor_divide",
    _line("div_floor"),
    "The quotient, rounded down: Python's ``//``.",
    inputs=[*_POSITIVE, ((3, 4), uniform(0.3, 2, (3, 4)))],
    differentiable=False,
    numbers="input, other",
)


def _power(x, z):
    """Small constant powers are products and roots."""
    if isinstance(z, float) and z in _POWERS:
        return _POWERS[z](x)
    return _line("pow")(x, z)


_POWERS: dict[float, Callable] = {
    1.0: lambda x: x,
    2.0: lambda x: x.square(),
    0.5: lambda x: x.sqrt(),
    -1.0: lambda x: x.reciprocal(),
    -0.5: lambda x: x.rsqrt(),
    3.0: lambda x: x * x * x,
}


def _pow(name: str, dtype: Any, method: str, text: str) -> Callable[..., Any]:
    def body(input: Array, exponent: Array) -> Array:
        return compute(_power, dtype, input=input, exponent=exponent)

    body.__name__ = body.__qualname__ = name
    body.__doc__ = f"{text}\n\nParameters\n----------\ninput, exponent : arrays of any shapes that broadcast, or a number\n"
    powers = [((3, 4), n) for n in (2, 3, 1.0, 0, -2, 5)] + [(uniform(0.2, 4), n) for n in (0.5, -0.5, -1, 1.7)]
    return function(
        samples=lambda: [sample(*p) for p in (*_POSITIVE[:2], *powers, (1.5, (3, 4)), (2, (3,)))],
        wrong=lambda: [wrong(ValueError, "dimension 1 is 3 and 4", (2, 3), (2, 4))],
        method=method,
        name=name,
    )(body)


pow = _pow("pow", promoted, "pow", "``input ** exponent``.")
float_power = _pow("float_power", floating, "float_power", "``input ** exponent``, of float32 always.")


def _xlogy(x, z):
    builder = getattr(x, "builder", None) or z.builder
    zero = builder.line("logical_and", builder.line("eq", x, 0.0), builder.line("eq", z, z))
    return zero.where(0.0, builder.line("mul", x, builder.line("log", z)))


def _xlog1py(x, z):
    builder = getattr(x, "builder", None) or z.builder
    zero = builder.line("logical_and", builder.line("eq", x, 0.0), builder.line("eq", z, z))
    return zero.where(0.0, builder.line("mul", x, builder.line("log1p", z)))


def _logaddexp(base: float) -> Callable:
    unit = math.log(base)

    def program(x, z):
        line = x.builder.line
        more = ((x - z).abs() * -unit).softplus() * (1 / unit)
        return line("eq", x, z).where((x + z) * 0.5 + LN2 / unit, line("maximum", x, z) + more)

    return program


xlogy = _binary(
    "xlogy",
    _xlogy,
    "``input * log(other)``, 0 where ``input`` is.",
    dtype=floating,
    inputs=_POSITIVE,
    numbers="input, other",
)
xlog1py = _binary(
    "xlog1py",
    _xlog1py,
    "``input * log1p(other)``, 0 where ``input`` is.",
    dtype=floating,
    inputs=_POSITIVE,
    method="",
    numbers="input, other",
)
logaddexp = _binary(
    "logaddexp", _logaddexp(2.718281828459045), "``log(exp(input) + exp(other))``.", dtype=floating, inputs=_PAIRS[:3]
)
logaddexp2 = _binary("logaddexp2", _logaddexp(2), "``log2(2 ** input + 2 ** other)``.", dtype=floating, inputs=_PAIRS[:3])
ldexp = _binary(
    "ldexp",
    lambda x, z: _line("mul")(x, _power_of_two(x, z)),
    "``input * 2 ** other``.",
    dtype=floating,
    inputs=[((3, 4), array(lambda g: g.integers(0, 5, (3, 4)).astype(np.int32)))],
)
heaviside = _binary(
    "heaviside",
    lambda x, z: x.builder.line("eq", x, 0.0).where(z, x > 0.0),
    "0 below 0, 1 above, ``other`` at 0.",
    differentiable=False,
    inputs=_TIES[:2],
)


# ---- other names ----------------------------------------------------------------------------------------------------------

absolute, arccos, arcsin, arctan, arccosh, arcsinh, arctanh = abs, acos, asin, atan, acosh, asinh, atanh
arctan2, negative, fix, sgn = atan2, neg, trunc, sign
subtract, multiply, divide, true_divide = sub, mul, div, div
not_equal, less, less_equal, greater, greater_equal = ne, lt, le, gt, ge


def rsub(input: Array, other: Array, *, alpha: float = 1) -> Array:
    """``other - alpha * input``."""
    return sub(other, as_tensor("input", input) if isinstance(input, (int, float)) else input, alpha=alpha)


_ALIASES = (
    "absolute",
    "arccos",
    "arcsin",
    "arctan",
    "arccosh",
    "arcsinh",
    "arctanh",
    "arctan2",
    "negative",
    "fix",
    "sgn",
    "subtract",
    "multiply",
    "divide",
    "true_divide",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
)
_RECORDS = [
    name
    for name, value in list(globals().items())
    if isinstance(getattr(value, "record", None), Record) and value.record.name == name
]
__all__ = [*_RECORDS, *_ALIASES, "rsub"]

for _name in (*_ALIASES, "rsub"):
    setattr(Tensor, _name, globals()[_name])
