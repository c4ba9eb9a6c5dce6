"""Activations that are programs of `map`, dropout of whole channels, and general forms of those with kernels of their own.

``inplace=True`` writes the result into an array that is given, and returns it; of symbolic tensors it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from fastconv._values import shown
from fastconv.functional._elementwise import as_operand, as_tensor, compute, flag, floating, integer, number, probability
from fastconv.functional.pointwise import uniform
from fastconv.functional.record import Array, array, function, sample, wrong
from fastconv.graph.ir import FLAT, Tensor, apply, fail
from fastconv.ops import map as ops

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
_SHAPES: list[Any] = [(3, 4, 5), (2, 3, 4, 5), (7,), ()]
_KINKS = array(
    lambda g: np.concatenate([g.uniform(-8, 8, 40), [0, -0.0, 0.5, -0.5, 1, -1, 3, -3, 6, 25, -25]]).astype(np.float32)
)


def _record(
    body: Callable, text: str, samples: list | None = None, wrongs: list | None = None, method: str = ""
) -> Callable:
    body.__doc__ = f"{text}\n\nParameters\n----------\ninput : float32 array of any shape\n"
    given = [sample(s) for s in [*_SHAPES, _KINKS]] if samples is None else samples
    return function(
        samples=lambda: given,
        wrong=lambda: [wrong(TypeError, "input", "a"), *(wrongs or [])],
        method=method,
    )(body)


def _simple(name: str, program: Callable, text: str, method: str = "") -> Callable:
    """An activation without arguments but ``inplace``."""

    def body(input: Array, inplace: bool = False) -> Array:
        flag("inplace", inplace)
        return compute(program, floating, input=as_tensor("input", input))

    body.__name__ = body.__qualname__ = name
    return _record(body, text, method=method)


def _own(name: str, op: str, text: str, method: str = "") -> Callable:
    """One with kernels of its own."""

    def body(input: Array, inplace: bool = False) -> Array:
        flag("inplace", inplace)
        return apply(op, [as_tensor("input", input)])

    body.__name__ = body.__qualname__ = name
    return _record(body, text, method=method)


# ---- those of activation.py, on arrays of any rank ------------------------------------------------------------------------

relu = _own("relu", "relu", "``max(x, 0)``.", "relu")
sigmoid = _own("sigmoid", "sigmoid", "``1 / (1 + exp(-x))``.", "sigmoid")
tanh = _own("tanh", "tanh", "The hyperbolic tangent.", "tanh")
silu = _own("silu", "silu", "``x * sigmoid(x)``.")
hardswish = _own("hardswish", "hardswish", "``x * relu6(x + 3) / 6``.")
hardsigmoid = _own("hardsigmoid", "hardsigmoid", "``relu6(x + 3) / 6``.")


@function(
    samples=lambda: [sample(_KINKS), sample((3, 4), 0.2), sample((3, 4), -0.2)],
    wrong=lambda: [wrong(TypeError, "negative_slope", (3,), "a")],
)
def leaky_relu(input: Array, negative_slope: float = 0.01, inplace: bool = False) -> Array:
    """``x`` where it is above 0, else ``negative_slope * x``."""
    flag("inplace", inplace)
    return apply("leaky_relu", [as_tensor("input", input)], negative_slope=number("negative_slope", negative_slope))


@function(
    samples=lambda: [sample(_KINKS), sample((3, 4), -0.2, 0.7), sample((3, 4), 0.5, 0.5)],
    wrong=lambda: [wrong(ValueError, "min_val", (3,), 2.0, 1.0)],
)
def hardtanh(input: Array, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Array:
    """``x`` clipped to [min_val, max_val]; its gradient is 0 at the bounds."""
    flag("inplace", inplace)
    low, high = number("min_val", min_val), number("max_val", max_val)
    if low > high:
        fail("hardtanh", f"min_val={low} is above max_val={high}")
    return apply("clip", [as_tensor("input", input)], low=low, high=high)


@function(samples=lambda: [sample(_KINKS), sample((3, 4))], wrong=lambda: [wrong(TypeError, "input", "a")])
def relu6(input: Array, inplace: bool = False) -> Array:
    """``x`` clipped to [0, 6]."""
    return hardtanh(input, 0.0, 6.0, inplace)


@function(
    samples=lambda: [sample(_KINKS), sample((3, 4), approximate="tanh")],
    wrong=lambda: [wrong(ValueError, "approximate='fast'", (3,), approximate="fast")],
)
def gelu(input: Array, *, approximate: str = "none") -> Array:
    """``x * Phi(x)``, Phi the normal distribution's; ``approximate="tanh"`` is the usual approximation."""
    return apply("gelu", [as_tensor("input", input)], approximate=approximate)


@function(
    samples=lambda: [sample(_KINKS), sample((3, 4), 0.5), sample((3, 4), -0.5)],
    wrong=lambda: [wrong(TypeError, "alpha", (3,), "a")],
)
def elu(input: Array, alpha: float = 1.0, inplace: bool = False) -> Array:
    """``x`` where it is above 0, else ``alpha * (exp(x) - 1)``."""
    flag("inplace", inplace)
    scale, x = number("alpha", alpha), as_tensor("input", input)
    if scale >= 0:
        return apply("elu", [x], alpha=scale)
    return compute(lambda v: (v > 0.0).where(v, v.expm1_negative() * scale), floating, input=x)


# ---- programs -------------------------------------------------------------------------------------------------------------

selu = _simple(
    "selu",
    lambda x: (x > 0.0).where(x * SELU_SCALE, x.expm1_negative() * (SELU_ALPHA * SELU_SCALE)),
    "ELU with the constants that keep mean and variance (Klambauer and others, 2017).",
)
mish = _simple("mish", lambda x: x * x.softplus().tanh(), "``x * tanh(softplus(x))`` (Misra, 2019).")


def logsigmoid(input: Array) -> Array:
    return compute(lambda x: -(-x).softplus(), floating, input=as_tensor("input", input))


def softsign(input: Array) -> Array:
    return compute(lambda x: x / (x.abs() + 1.0), floating, input=as_tensor("input", input))


def tanhshrink(input: Array) -> Array:
    return compute(lambda x: x - x.tanh(), floating, input=as_tensor("input", input))


logsigmoid = _record(logsigmoid, "``log(sigmoid(x))``.")
softsign = _record(softsign, "``x / (1 + abs(x))``.")
tanhshrink = _record(tanhshrink, "``x - tanh(x)``.")


@function(
    samples=lambda: [sample(_KINKS), sample((3, 4), 0.5), sample((3, 4), -2.0)],
    wrong=lambda: [wrong(ValueError, "alpha=0", (3,), 0)],
)
def celu(input: Array, alpha: float = 1.0, inplace: bool = False) -> Array:
    """``max(0, x) + min(0, alpha * (exp(x / alpha) - 1))`` (Barron, 2017).

    Raises
    ------
    ValueError
        For ``alpha`` 0.
    """
    flag("inplace", inplace)
    scale = number("alpha", alpha)
    if scale == 0:
        fail("celu", "alpha=0: expected another number")

    def program(x):
        turned = x / scale if scale != 1 else x
        return (x > 0.0).where(x, (turned.expm1_negative() if scale > 0 else turned.expm1()) * scale)

    return compute(program, floating, input=as_tensor("input", input))


@function(
    samples=lambda: [sample(_KINKS), sample((3, 4), 2.0), sample((3, 4), 0.5, 0.2)],
    wrong=lambda: [wrong(TypeError, "beta", (3,), "a")],
)
def softplus(input: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``log(1 + exp(beta * x)) / beta``; ``x`` where ``beta * x`` is above ``threshold``."""
    factor, limit = number("beta", beta), number("threshold", threshold)

    def program(x):
        scaled = x * factor if factor != 1 else x
        return (scaled > limit).where(x, scaled.softplus() / factor if factor != 1 else scaled.softplus())

    return compute(program, floating, input=as_tensor("input", input))


@function(
    samples=lambda: [sample(_KINKS), sample((3, 4), 0.2), sample((3, 4), 0.0)],
    wrong=lambda: [wrong(TypeError, "lambd", (3,), "a")],
    method="hardshrink",
)
def hardshrink(input: Array, lambd: float = 0.5) -> Array:
    """``x``, but 0 within [-lambd, lambd]."""
    limit = number("lambd", lambd)

    def program(x):
        return x.builder.line("logical_and", x >= -limit, x <= limit).where(0.0, x)

    return compute(program, floating, input=as_tensor("input", input))


@function(samples=lambda: [sample(_KINKS), sample((3, 4), 0.2)], wrong=lambda: [wrong(ValueError, "lambd=-1", (3,), -1)])
def softshrink(input: Array, lambd: float = 0.5) -> Array:
    """``x - lambd`` above ``lambd``, ``x + lambd`` below ``-lambd``, else 0; ``lambd`` at least 0."""
    limit = number("lambd", lambd)
    if limit < 0:
        fail("softshrink", f"lambd={limit:g}: expected at least 0")
    return compute(
        lambda x: (x > limit).where(x - limit, (x < -limit).where(x + limit, x * 0.0)),
        floating,
        input=as_tensor("input", input),
    )


@function(
    samples=lambda: [sample(_KINKS, 0.5, -1.0), sample((3, 4), 0.1, 20)],
    wrong=lambda: [wrong(TypeError, "value", (3,), 0, "a")],
)
def threshold(input: Array, threshold: float, value: float, inplace: bool = False) -> Array:
    """``x`` where it is above ``threshold``, else ``value``."""
    flag("inplace", inplace)
    limit, other = number("threshold", threshold), number("value", value)
    return compute(lambda x: (x <= limit).where(other, x), floating, input=as_tensor("input", input))


@function(
    samples=lambda: [sample((2, 3, 4, 5), (3,)), sample((2, 3), (3,)), sample((2, 3, 4), (1,)), sample((7,), (1,))],
    wrong=lambda: [
        wrong(ValueError, "weight of shape (4,)", (2, 3, 5), (4,)),
        wrong(ValueError, "weight of shape", (2, 3), (2, 3)),
    ],
    method="prelu",
)
def prelu(input: Array, weight: Array) -> Array:
    """``x`` where it is above 0, else ``weight * x`` (He and others, 2015).

    Parameters
    ----------
    input : array of shape (N, C, ...), or of any with a weight of one element
    weight : array of shape (C,), (1,) or ()

    Raises
    ------
    ValueError
        For a weight of another shape.
    """
    x, w = as_tensor("input", input), as_tensor("weight", weight)
    count = w.type.shape[0] if w.ndim else 1
    if w.ndim > 1 or count != 1 and (x.ndim < 2 or count != x.type.shape[1]):
        wanted = f"(1,) or ({x.type.shape[1]},), the channels of the input" if x.ndim > 1 else "(1,)"
        fail("prelu", f"weight of shape {w.type.shape}: expected {wanted}")
    if x.ndim > 2 or w.ndim > x.ndim:
        w = w.reshape((count, *(1,) * (x.ndim - 2)) if x.ndim > 1 else ())
    return compute(lambda v, a: (v > 0.0).where(v, v * a), floating, input=x, weight=w)


@function(
    samples=lambda: [sample((2, 4, 3), 1), sample((3, 6)), sample((4,), 0)],
    wrong=lambda: [wrong(ValueError, "input of shape (2, 3)", (2, 3)), wrong(IndexError, "dim=2", (2, 4), 2)],
)
def glu(input: Array, dim: int = -1) -> Array:
    """``a * sigmoid(b)``, a and b the halves of ``input`` along ``dim`` (Dauphin and others, 2016).

    Raises
    ------
    ValueError
        For an odd extent.
    IndexError
        For a dimension that is not there.
    """
    x, at = as_tensor("input", input), integer("dim", dim)
    if not -x.ndim <= at < x.ndim:
        fail("glu", f"dim={at}: input of shape {x.type.shape} has {x.ndim} dimensions", IndexError)
    if x.type.shape[at] % 2:
        fail("glu", f"input of shape {x.type.shape}: expected an even extent along dim={at}")
    first, second = x.chunk(2, at)
    return compute(lambda a, b: a * b.sigmoid(), floating, input=first, gate=second)


def _slopes(lower: Any, upper: Any) -> tuple[float, float]:
    low, high = number("lower", lower), number("upper", upper)
    if low > high:
        fail("rrelu", f"lower={low:g} is above upper={high:g}")
    return low, high


@function(
    samples=lambda: [sample(_KINKS), sample((3, 4), 0.1, 0.3)], wrong=lambda: [wrong(ValueError, "lower=1", (3,), 1, 0.5)]
)
def rrelu(
    input: Array, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Array:
    """``x`` where it is at least 0, else a slope times it: in training drawn from [lower, upper) for each element, else the
    mean of these."""
    flag("training", training), flag("inplace", inplace)
    (low, high), x = _slopes(lower, upper), as_tensor("input", input)
    if not training:
        return apply("leaky_relu", [x], negative_slope=(low + high) / 2)
    return compute(
        lambda v, u: (v >= 0.0).where(v, v * (u * (high - low) + low)), floating, input=x, drawn=ops.draw(x, x.type.shape)
    )


# ---- dropout --------------------------------------------------------------------------------------------------------------


def _drop(x: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
    """Zeroes what belongs to each number of a draw of this shape with probability ``p``, and scales the rest."""
    scale = 1 / (1 - p) if p < 1 else 0.0
    return compute(lambda v, u: (u < p).where(0.0, v * scale), floating, input=x, drawn=ops.draw(x, shape))


@function(
    samples=lambda: [sample((3, 4), 0.5, False), sample((3, 4), 0.0), sample((3, 4), 1.0)],
    wrong=lambda: [wrong(ValueError, "p=1.5", (3,), 1.5)],
)
def dropout(input: Array, p: float = 0.5, training: bool = True, inplace: bool = False) -> Array:
    """Zeroes each element with probability ``p`` and scales the others by ``1 / (1 - p)``."""
    flag("training", training), flag("inplace", inplace)
    p, x = probability("p", p), as_tensor("input", input)
    if not training or p == 0:
        return x
    return _drop(x, p, x.type.shape) if x.layout == FLAT or not 2 <= x.ndim <= 5 else apply("dropout", [x], p=p)


def _channels(name: str, x: Tensor, ranks: tuple[int, int], batched: int) -> tuple[int, ...]:
    """The shape of a draw per channel."""
    if x.ndim not in ranks:
        fail(name, f"input of shape {x.type.shape} has {x.ndim} dimensions: expected {ranks[0]} or {ranks[1]}")
    kept = 2 if x.ndim >= batched else 1
    return (*x.type.shape[:kept], *(1,) * (x.ndim - kept))


def _dropout_of_channels(name: str, ranks: tuple[int, int], batched: int, text: str) -> Callable:
    def body(input: Array, p: float = 0.5, training: bool = True, inplace: bool = False) -> Array:
        flag("training", training), flag("inplace", inplace)
        chance, x = probability("p", p), as_tensor("input", input)
        shape = _channels(name, x, ranks, batched)
        return _drop(x, chance, shape) if training and chance > 0 else x

    body.__name__ = body.__qualname__ = name
    body.__doc__ = f"""Zeroes each channel with probability ``p`` and scales the others by ``1 / (1 - p)``.

Parameters
----------
input : array of shape {text}
p : float, default 0.5
training : bool, default True
    False: the input.
inplace : bool, default False

Raises
------
ValueError
    For another number of dimensions, and a ``p`` outside [0, 1].
"""
    shape = (2, 3, 4, 5, 6)[: ranks[1]]
    return function(
        samples=lambda: [sample(shape, 0.5, False), sample(shape, 1.0)],
        wrong=lambda: [wrong(ValueError, "p=1.5", shape, 1.5), wrong(ValueError, "dimensions", (3,))],
        name=name,
    )(body)


dropout1d = _dropout_of_channels("dropout1d", (2, 3), 3, "(N, C, L) or (C, L)")
dropout2d = _dropout_of_channels("dropout2d", (3, 4), 3, "(N, C, H, W), or, as in PyTorch, (N, C, L)")
dropout3d = _dropout_of_channels("dropout3d", (4, 5), 5, "(N, C, D, H, W) or (C, D, H, W)")


def _alpha(x: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
    """Dropout that keeps mean and variance of what SELU gives: to its lower limit, then an affine map (Klambauer and
    others)."""
    low = SELU_ALPHA * SELU_SCALE
    if p == 1:
        return compute(lambda v: v * 0.0, floating, input=x)
    a = ((low * low * p + 1) * (1 - p)) ** -0.5
    return compute(
        lambda v, u: (u < p).where(a * low * (p - 1), v * a + a * low * p), floating, input=x, drawn=ops.draw(x, shape)
    )


@function(
    samples=lambda: [sample((3, 4), 0.5), sample((3, 4), 0.0, True), sample((3, 4), 1.0, True)],
    wrong=lambda: [wrong(ValueError, "p=-1", (3,), -1, True)],
)
def alpha_dropout(input: Array, p: float = 0.5, training: bool = False, inplace: bool = False) -> Array:
    """Sets each element to the lower limit of SELU with probability ``p``; mean and variance of the whole are kept."""
    flag("training", training), flag("inplace", inplace)
    p, x = probability("p", p), as_tensor("input", input)
    return _alpha(x, p, x.type.shape) if training and p > 0 else x


@function(
    samples=lambda: [sample((3, 4, 5), 0.5), sample((3, 4, 5), 1.0, True)],
    wrong=lambda: [wrong(ValueError, "p=-1", (3, 4), -1, True), wrong(ValueError, "input of shape", (3,), 0.5, True)],
)
def feature_alpha_dropout(input: Array, p: float = 0.5, training: bool = False, inplace: bool = False) -> Array:
    """:func:`alpha_dropout` of whole channels of (N, C, ...)."""
    flag("training", training), flag("inplace", inplace)
    p, x = probability("p", p), as_tensor("input", input)
    if not training or p == 0:
        return x
    if x.ndim < 2:
        fail("feature_alpha_dropout", f"input of shape {x.type.shape}: expected at least 2 dimensions")
    return _alpha(x, p, (*x.type.shape[:2], *(1,) * (x.ndim - 2)))


@function(
    samples=lambda: [sample((3, 4), 0.5, "row", False), sample((3, 4), 0.0, "batch")],
    reference=lambda x, *a: x,
    wrong=lambda: [wrong(ValueError, "mode='all'", (3, 4), 0.5, "all"), wrong(ValueError, "p=2", (3, 4), 2, "row")],
)
def stochastic_depth(input: Array, p: float, mode: str, training: bool = True) -> Array:
    """Zeroes a residual branch with probability ``p``, and scales it by ``1 / (1 - p)`` else (Huang and others, 2016).

    Parameters
    ----------
    input : array of shape (N, ...)
    p : float
    mode : {"batch", "row"}
        For the whole batch at once, or for each of its rows.
    training : bool, default True
        False: the input.
    """
    flag("training", training)
    chance, x = probability("p", p), as_tensor("input", input)
    if mode not in ("batch", "row"):
        fail("stochastic_depth", f"mode={mode!r}: expected 'batch' or 'row'")
    if not training or chance == 0:
        return x
    return _drop(x, chance, (x.type.shape[0] if mode == "row" else 1, *(1,) * (x.ndim - 1)))


# ---- in place, by PyTorch's names -----------------------------------------------------------------------------------------


def into(input: Any, inplace: Any, result: Any) -> Any:
    """The result; with ``inplace`` written into the array that was given, which is returned."""
    if inplace is not True or not isinstance(input, np.ndarray):
        return result
    input[...] = result
    return input


def placed(name: str, input: Any, inplace: Any, result: Any) -> Any:
    """``into``, for the function of this name."""
    if not isinstance(inplace, (bool, np.bool_)):
        raise TypeError(f"{name}: inplace={shown(inplace)}: expected True or False")
    return into(input, bool(inplace), result)


def _in_place(record: Any) -> Any:
    place = record.record.body.__code__.co_varnames.index("inplace") - 1  # type: ignore[attr-defined]

    def call(input, *args, **kwargs):
        result = record(input, *args, **kwargs)
        if len(args) <= place and "inplace" not in kwargs:
            return result
        return into(input, bool(kwargs["inplace"] if "inplace" in kwargs else args[place]), result)

    call.__name__, call.__doc__, call.record = record.__name__, record.__doc__, record.record  # type: ignore[attr-defined]
    call.__wrapped__ = record  # type: ignore[attr-defined]
    return call


selu, mish, celu, threshold, rrelu = map(_in_place, (selu, mish, celu, threshold, rrelu))
dropout1d, dropout2d, dropout3d = map(_in_place, (dropout1d, dropout2d, dropout3d))
alpha_dropout, feature_alpha_dropout = map(_in_place, (alpha_dropout, feature_alpha_dropout))

Tensor.relu_, Tensor.sigmoid_, Tensor.tanh_ = relu, sigmoid, tanh  # type: ignore[attr-defined]

__all__ = [
    "alpha_dropout",
    "celu",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_alpha_dropout",
    "glu",
    "hardshrink",
    "logsigmoid",
    "mish",
    "prelu",
    "rrelu",
    "selu",
    "softplus",
    "softshrink",
    "softsign",
    "stochastic_depth",
    "tanhshrink",
    "threshold",
]
del inf, as_operand, uniform
