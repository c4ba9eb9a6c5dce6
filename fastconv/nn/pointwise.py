"""Activations that are programs of ``map``. ``inplace`` is taken for PyTorch's sake: it changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastconv import functional as F
from fastconv.graph.parameter import filled
from fastconv.nn._check import LARGEST, flag, integer, number
from fastconv.nn.init import constant_
from fastconv.nn.module import Module


class _Pointwise(Module):
    """A function of :mod:`fastconv.functional`, with the attributes named in ``arguments``."""

    function: Callable[..., Any]
    arguments: tuple[str, ...] = ()

    def forward(self, x):
        return type(self).function(x, *(getattr(self, name) for name in self.arguments))

    def extra_repr(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)}" for name in self.arguments)
        return shown + (", " * bool(shown) + "inplace=True" if getattr(self, "inplace", False) else "")


class _InPlace(_Pointwise):
    def __init__(self, inplace: bool = False):
        super().__init__()
        self.inplace = flag(type(self).__name__, "inplace", inplace)


class SELU(_InPlace):
    """``scale * x`` where positive, else ``scale * alpha * (exp(x) - 1)``, with constants that keep mean and variance."""

    function = staticmethod(F.selu)


class Mish(_InPlace):
    """``x * tanh(softplus(x))``."""

    function = staticmethod(F.mish)


class LogSigmoid(_Pointwise):
    """``log(sigmoid(x))``."""

    function = staticmethod(F.logsigmoid)


class Softsign(_Pointwise):
    """``x / (1 + abs(x))``."""

    function = staticmethod(F.softsign)


class Tanhshrink(_Pointwise):
    """``x - tanh(x)``."""

    function = staticmethod(F.tanhshrink)


class CELU(_Pointwise):
    """``x`` where positive, else ``alpha * (exp(x / alpha) - 1)``; ``alpha`` is not 0."""

    function, arguments = staticmethod(F.celu), ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        super().__init__()
        self.alpha = number("CELU", "alpha", alpha, -LARGEST, LARGEST)
        if not self.alpha:
            raise ValueError("CELU: alpha=0: expected another number")
        self.inplace = flag("CELU", "inplace", inplace)


class Softplus(_Pointwise):
    """``log(1 + exp(beta * x)) / beta``; ``x`` where ``beta * x`` is above ``threshold``."""

    function, arguments = staticmethod(F.softplus), ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        super().__init__()
        self.beta = number("Softplus", "beta", beta, -LARGEST, LARGEST)
        self.threshold = number("Softplus", "threshold", threshold, -LARGEST, LARGEST)


class Hardshrink(_Pointwise):
    """``x``, but 0 within [-lambd, lambd]."""

    function, arguments = staticmethod(F.hardshrink), ("lambd",)

    def __init__(self, lambd: float = 0.5):
        super().__init__()
        self.lambd = number("Hardshrink", "lambd", lambd, -LARGEST, LARGEST)


class Softshrink(_Pointwise):
    """``x - lambd`` above ``lambd``, ``x + lambd`` below ``-lambd``, else 0."""

    function, arguments = staticmethod(F.softshrink), ("lambd",)

    def __init__(self, lambd: float = 0.5):
        super().__init__()
        self.lambd = number("Softshrink", "lambd", lambd, 0, LARGEST)


class Threshold(_Pointwise):
    """``x`` where it is above ``threshold``, else ``value``."""

    function, arguments = staticmethod(F.threshold), ("threshold", "value")

    def __init__(self, threshold: float, value: float, inplace: bool = False):
        super().__init__()
        self.threshold = number("Threshold", "threshold", threshold, -LARGEST, LARGEST)
        self.value = number("Threshold", "value", value, -LARGEST, LARGEST)
        self.inplace = flag("Threshold", "inplace", inplace)


class GLU(_Pointwise):
    """``a * sigmoid(b)``, a and b the halves of the input along ``dim``."""

    function, arguments = staticmethod(F.glu), ("dim",)

    def __init__(self, dim: int = -1):
        super().__init__()
        self.dim = integer("GLU", "dim", dim, -8)


class RReLU(Module):
    """``x`` where it is at least 0, else a slope times it: in training drawn from [lower, upper), else the mean of these."""

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False):
        super().__init__()
        self.lower = number("RReLU", "lower", lower, -LARGEST, LARGEST)
        self.upper = number("RReLU", "upper", upper, -LARGEST, LARGEST)
        if self.lower > self.upper:
            raise ValueError(f"RReLU: lower={lower} is above upper={upper}")
        self.inplace = flag("RReLU", "inplace", inplace)

    def forward(self, x):
        return F.rrelu(x, self.lower, self.upper, self.training)

    def extra_repr(self) -> str:
        return f"lower={self.lower}, upper={self.upper}" + (", inplace=True" if self.inplace else "")


class PReLU(Module):
    """``x`` where positive, else ``weight * x``, with a weight for all, or for each channel, that is learnt.

    Parameters
    ----------
    num_parameters : int, default 1
        1, or the channels of the input.
    init : float, default 0.25

    Attributes
    ----------
    weight : Parameter
        (num_parameters,).
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25):
        super().__init__()
        count = integer("PReLU", "num_parameters", num_parameters, 1)
        self.init = number("PReLU", "init", init, -LARGEST, LARGEST)
        self.weight = filled("PReLU", "weight", (count,))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All weights ``init``."""
        constant_(self.weight, self.init)

    def forward(self, x):
        return F.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.weight.size}"
