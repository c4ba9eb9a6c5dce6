"""The derivatives of the instructions of ``map``: gradients of operands, given the gradient of the result.

``RULES[name](g, y, x, ...)`` has the gradient g of the result y = name(x, ...) and gives one value per operand, None where
it is 0 everywhere. At points without a derivative they are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import factorial, nan
from typing import Any

from fastconv.graph.programs import Builder, Program, Value

LN2, LN10, PI = 0.6931471805599453, 2.302585092994046, 3.141592653589793


def _pow(g, y, x, z):
    line = g.builder.line
    base = (line("eq", z, 0.0)).where(0.0, g * (z * line("pow", x, line("sub", z, 1.0))))
    if not isinstance(z, Value):
        return base, None
    flat = line("logical_and", line("eq", x, 0.0), line("ge", z, 0.0))
    return base, flat.where(0.0, g * (y * line("log", x)))


def _ties(better: str):
    def rule(g, y, x, z):
        line = g.builder.line
        half = line("eq", x, z)
        worse = "lt" if better == "gt" else "gt"
        return (half.where(g * 0.5, line(worse, x, z).where(0.0, g)), half.where(g * 0.5, line(better, x, z).where(0.0, g)))

    return rule


def _first_number(better: str):
    def rule(g, y, x, z):
        line = g.builder.line
        first = line("logical_or", line(better, x, z), line("isnan", z))
        return first.where(g, 0.0), first.where(0.0, g)

    return rule


def _atan2(g, y, x, z):
    line = g.builder.line
    square = line("add", line("mul", x, x), line("mul", z, z))
    factor = line("eq", square, 0.0).where(0.0, g / square)
    return factor * z, -(factor * x)


def _copysign(g, y, x, z):
    line = g.builder.line
    return line("eq", x, 0.0).where(0.0, g * (line("sign", x) * line("copysign", 1.0, z))), None


def _clamp(g, y, x, low, high):
    line = g.builder.line
    return line("logical_and", line("ge", x, low), line("le", x, high)).where(g, 0.0), None, None


def _div(g, y, x, z):
    return g / z, -(g * (y / z))


def polygamma(n: int, x: Any) -> Any:
    """The n-th derivative of digamma, n at least 2, of values from -12 on: 20 terms of its series, then Euler-Maclaurin's
    formula; NaN below."""
    line = x.builder.line
    total = line("pow", x, -(n + 1.0))
    for k in range(1, 20):
        total = total + line("pow", x + float(k), -(n + 1.0))
    t = x + 20.0
    power = line("pow", t, -float(n))
    total = total + power / float(n) + power / t * 0.5 + power / (t * t) * ((n + 1) / 12)
    return (x < -12.0).where(nan, total * float((-1) ** (n + 1) * factorial(n)))


RULES: dict[str, Callable[..., Any]] = {
    "copy": lambda g, y, x: g,
    "add": lambda g, y, x, z: (g, g),
    "sub": lambda g, y, x, z: (g, -g),
    "mul": lambda g, y, x, z: (g * z, g * x),
    "div": _div,
    "fma": lambda g, y, x, z, w: (g * z, g * x, g),
    "fmod": lambda g, y, x, z: (g, -(g * g.builder.line("div_trunc", x, z))),
    "remainder": lambda g, y, x, z: (g, -(g * g.builder.line("div_floor", x, z))),
    "pow": _pow,
    "maximum": _ties("gt"),
    "minimum": _ties("lt"),
    "fmax": _first_number("ge"),
    "fmin": _first_number("le"),
    "atan2": _atan2,
    "hypot": lambda g, y, x, z: (g * (x / y), g * (z / y)),
    "copysign": _copysign,
    "where": lambda g, y, c, x, z: (None, c.where(g, 0.0), c.where(0.0, g)),
    "clamp": _clamp,
    "neg": lambda g, y, x: -g,
    "abs": lambda g, y, x: g * x.sign(),
    "frac": lambda g, y, x: g,
    "reciprocal": lambda g, y, x: -(g * (y * y)),
    "sqrt": lambda g, y, x: g / (y * 2.0),
    "rsqrt": lambda g, y, x: g * (y * y * y) * -0.5,
    "square": lambda g, y, x: g * (x * 2.0),
    "relu": lambda g, y, x: (y <= 0.0).where(0.0, g),
    "exp": lambda g, y, x: g * y,
    "exp2": lambda g, y, x: g * (y * LN2),
    "expm1": lambda g, y, x: g * (y + 1.0),
    "expm1_negative": lambda g, y, x: g * (y + 1.0),
    "log": lambda g, y, x: g / x,
    "log2": lambda g, y, x: g / (x * LN2),
    "log10": lambda g, y, x: g / (x * LN10),
    "log1p": lambda g, y, x: g / (x + 1.0),
    "sin": lambda g, y, x: g * x.cos(),
    "cos": lambda g, y, x: -(g * x.sin()),
    "tan": lambda g, y, x: g * (y * y + 1.0),
    "asin": lambda g, y, x: g * (1.0 - x * x).rsqrt(),
    "acos": lambda g, y, x: -(g * (1.0 - x * x).rsqrt()),
    "atan": lambda g, y, x: g / (x * x + 1.0),
    "sinh": lambda g, y, x: g * x.cosh(),
    "cosh": lambda g, y, x: g * x.sinh(),
    "tanh": lambda g, y, x: g * g.builder.line("fma", -y, y, 1.0),
    "asinh": lambda g, y, x: g * (x * x + 1.0).rsqrt(),
    "acosh": lambda g, y, x: g * (x * x - 1.0).rsqrt(),
    "atanh": lambda g, y, x: g / (1.0 - x * x),
    "sigmoid": lambda g, y, x: g * (y * (1.0 - y)),
    "softplus": lambda g, y, x: g * x.sigmoid(),
    "silu": lambda g, y, x: g * _silu_slope(x, x.sigmoid()),
    "normal_cdf": lambda g, y, x: g * ((x * x * -0.5).exp() * 0.3989422804014327),
    "erf": lambda g, y, x: g * (-(x * x)).exp() * 1.1283791670955126,
    "erfc": lambda g, y, x: g * (-(x * x)).exp() * -1.1283791670955126,
    "erfinv": lambda g, y, x: g * (y * y).exp() * 0.886226925452758,
    "lgamma": lambda g, y, x: g * x.digamma(),
    "digamma": lambda g, y, x: g * x.trigamma(),
    "trigamma": lambda g, y, x: g * polygamma(2, x),
}
#: Instructions whose results do not change with their operands, but by jumps.
STEPS = {
    "div_trunc",
    "div_floor",
    "nextafter",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_and",
    "logical_or",
    "logical_xor",
    "logical_not",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "isnan",
    "isinf",
    "isfinite",
    "signbit",
    "sign",
    "floor",
    "ceil",
    "round",
    "trunc",
}


def _silu_slope(x, s):
    return s * x.builder.line("fma", x, 1.0 - s, 1.0)


def gradients(program: Program, inputs: int, result: int, wanted: Sequence[int]) -> list[tuple[Program, int] | None]:
    """For each wanted input a program of its gradient, over (gradient of the result, inputs, result); None where it is 0.

    Raises
    ------
    NotImplementedError
        Where the derivative of an instruction is no instruction.
    """
    builder = Builder(inputs + 2)
    values = builder.add(program, [builder.input(1 + i) for i in range(inputs)])
    values = [builder.input(inputs + 1) if at == result and at >= inputs else v for at, v in enumerate(values)]
    reaches = set(wanted)  # values that depend on what is wanted
    for at, line in enumerate(program, inputs):
        if any(type(o) is int and o in reaches for o in line[1:]):
            reaches.add(at)
    found: dict[int, Any] = {result: builder.input(0)}
    for at in range(inputs + len(program) - 1, inputs - 1, -1):
        name, *operands = program[at - inputs]
        if at not in found or at not in reaches or name in STEPS:
            continue
        if name not in RULES:
            raise NotImplementedError(f"map: the derivative of {name} is not there")
        parts = RULES[name](found[at], values[at], *(values[o] if type(o) is int else o for o in operands))
        for o, part in zip(operands, parts if isinstance(parts, tuple) else (parts,), strict=True):
            if part is not None and type(o) is int and o in reaches:
                found[o] = found[o] + part if o in found else part
    out: list[tuple[Program, int] | None] = []
    for i in wanted:
        if i not in found:
            out.append(None)
            continue
        lines, (at,) = builder.done([found[i]])
        out.append((lines, at))
    return out
