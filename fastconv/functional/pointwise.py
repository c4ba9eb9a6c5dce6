"""Functions of one, two or three arrays element by element, with broadcasting, under ``torch``'s names.

Arrays are of float32, int64, int32, uint8, int8 or bool; the dtype of a result follows PyTorch's rules of promotion.
Floats are computed in float32, and so is what makes floats of integers. What makes integers of integers is exact, in int64,
and wraps round as PyTorch's does; a divisor of 0 is a ZeroDivisionError. Denormal floats count as zeros.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from math import inf, pi
from typing import Any

import numpy as np

from fastconv.functional._elementwise import as_operand, as_tensor, compute, floating, integer, number, promoted, truth
from fastconv.functional.record import Array, Record, array, function, sample, wrong
from fastconv.graph.ir import Tensor, apply, fail
from fastconv.graph.parameter import Parameter
from fastconv.ops import arithmetic, derivatives

LN2 = math.log(2)
_MOST = float(np.finfo(np.float32).max)


def uniform(low: float, high: float, shape=(3, 4, 5)) -> Any:
    """An array of a sample: uniform in a range."""
    return array(lambda g: g.uniform(low, high, shape).astype(np.float32))


def _grid(shape=(3, 17), step=0.5) -> Any:
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
abs = _unary("abs", lambda x: x.abs(), "The absolute value.", dtype=promoted, inputs=_grid())


def _signed(operands: Any) -> str:
    if operands[0].dtype == "bool":
        fail("neg", "input is bool: the negation of truth values is logical_not", TypeError)
    return promoted(operands)


neg = _unary("neg", lambda x: -x, "``-input``.", dtype=_signed)
positive = _unary("positive", lambda x: x, "The input.", dtype=promoted)
sign = _unary("sign", lambda x: x.sign(), "-1, 0 or 1.", dtype=promoted, inputs=_grid())
floor = _unary(
    "floor", lambda x: x.floor(), "The largest integer that is not greater.", dtype=promoted, inputs=_grid(step=0.25)
)
ceil = _unary("ceil", lambda x: x.ceil(), "The smallest integer that is not less.", dtype=promoted, inputs=_grid(step=0.25))
trunc = _unary("trunc", lambda x: x.trunc(), "The integer part.", dtype=promoted, inputs=_grid(step=0.25))
frac = _unary("frac", lambda x: x.frac(), "``input - trunc(input)``.", inputs=_grid(step=0.25))
_NOT = array(lambda g: np.array([[0, -0.0, 1, -1], [inf, -inf, np.nan, 3e38]], np.float32))
isnan = _unary("isnan", lambda x: x.isnan(), "Whether it is no number.", dtype=truth, inputs=_NOT)
isinf = _unary("isinf", lambda x: x.isinf(), "Whether it is infinite.", dtype=truth, inputs=_NOT)
isfinite = _unary("isfinite", lambda x: x.isfinite(), "Whether it is neither infinite nor NaN.", dtype=truth, inputs=_NOT)
isposinf = _unary(
    "isposinf", lambda x: x.builder.line("eq", x, inf), "Whether it is infinity.", dtype=truth, inputs=_NOT, method=""
)
isneginf = _unary(
    "isneginf", lambda x: x.builder.line("eq", x, -inf), "Whether it is -infinity.", dtype=truth, inputs=_NOT, method=""
)
signbit = _unary("signbit", lambda x: x.signbit(), "Whether its sign is negative, -0 included.", dtype=truth, inputs=_NOT)
logical_not = _unary("logical_not", lambda x: x.logical_not(), "Whether it is 0.", dtype=truth, inputs=_NOT)


def _sinc(x):
    zero = x.builder.line("eq", x, 0.0)
    turn = zero.where(1.0, x) * pi
    return zero.where(1.0, turn.sin() / turn)


sinc = _unary("sinc", _sinc, "``sin(pi * input) / (pi * input)``, 1 at 0.", inputs=_grid(step=0.25))


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


_TIES = [(_grid((3, 17)), _grid((3, 17))), (_grid((3, 17)), _grid((17,))), (_grid((4, 6)), 0.5)]
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


# ---- three arrays and more ------------------------------------------------------------------------------------------------


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
    samples=lambda: [sample(_NOT), sample(_NOT, 1.0, 2.0, -2.0)],
    wrong=lambda: [wrong(TypeError, "nan", (3,), nan="a")],
    method="nan_to_num",
    reference=lambda x, *to: np.nan_to_num(x, True, *(to or (0.0, _MOST, -_MOST))),
)
def nan_to_num(input: Array, nan: float | None = 0.0, posinf: float | None = None, neginf: float | None = None) -> Array:
    """NaN and infinities as numbers: by default 0, and the largest and smallest float32."""
    zero, high, low = (
        default if v is None else number(key, v)
        for key, v, default in (("nan", nan, 0.0), ("posinf", posinf, _MOST), ("neginf", neginf, -_MOST))
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
    samples=lambda: [sample(_grid((4, 9))), sample((3, 4), decimals=1), sample(uniform(-500, 500, (9,)), decimals=-2)],
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
    samples=lambda: [sample((3, 4), (3, 4)), sample(_NOT, _NOT, equal_nan=True)],
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


# ---- Python's operators ---------------------------------------------------------------------------------------------------


def _methods() -> None:
    def reflected(of):
        return lambda self, other: of(other, self)

    for name, of in (
        ("add", add),
        ("sub", sub),
        ("mul", mul),
        ("truediv", div),
        ("floordiv", floor_divide),
        ("mod", remainder),
        ("pow", pow),
        ("and", bitwise_and),
        ("or", bitwise_or),
        ("xor", bitwise_xor),
        ("lshift", bitwise_left_shift),
        ("rshift", bitwise_right_shift),
    ):
        setattr(Tensor, f"__{name}__", of)
        setattr(Tensor, f"__r{name}__", reflected(of))
    for name, one in (
        ("neg", neg),
        ("pos", positive),
        ("abs", abs),
        ("invert", bitwise_not),
        ("lt", lt),
        ("le", le),
        ("gt", gt),
        ("ge", ge),
        ("round", lambda self, digits=0: round(self, decimals=digits)),
    ):
        setattr(Tensor, f"__{name}__", one)
    for name, of in (("eq", eq), ("ne", ne)):
        setattr(Tensor, f"__{name}__", _compared(of))


def _compared(of: Callable) -> Callable:
    """Of elements in a user's function; else tensors are equal to themselves alone, as keys are."""
    def compare(self, other):
        taken = self.graph.tracing and isinstance(other, (Tensor, Parameter, np.ndarray, np.generic, bool, int, float))
        return of(self, other) if taken else NotImplemented

    return compare


_methods()
