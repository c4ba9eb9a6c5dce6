"""Activations. ``inplace`` is taken for PyTorch's sake: memory is planned, so it changes nothing."""

from __future__ import annotations

from fastconv._values import shown
from fastconv.functional import normalization
from fastconv.graph.ir import apply, fail
from fastconv.nn._check import LARGEST, choice, flag, integer, number
from fastconv.nn.module import Module

INFINITY = float("inf")


class _Activation(Module):
    """An operator without parameters."""

    op: str

    def __init__(self, inplace: bool = False):
        super().__init__()
        self.inplace = flag(type(self).__name__, "inplace", inplace)

    def forward(self, x):
        return apply(self.op, [x])

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class ReLU(_Activation):
    """``max(x, 0)``."""

    op = "relu"


class SiLU(_Activation):
    """``x * sigmoid(x)``."""

    op = "silu"


class Hardswish(_Activation):
    """``x * clip(x + 3, 0, 6) / 6``."""

    op = "hardswish"


class Hardsigmoid(_Activation):
    """``clip(x + 3, 0, 6) / 6``."""

    op = "hardsigmoid"


class Hardtanh(Module):
    """``clip(x, min_val, max_val)``."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False):
        super().__init__()
        layer = type(self).__name__
        self.min_val = number(layer, "min_val", min_val, -INFINITY, INFINITY)
        self.max_val = number(layer, "max_val", max_val, -INFINITY, INFINITY)
        if self.min_val > self.max_val:
            raise ValueError(f"{layer}: min_val={shown(min_val)} is greater than max_val={shown(max_val)}")
        self.inplace = flag(layer, "inplace", inplace)

    def forward(self, x):
        return apply("clip", [x], low=self.min_val, high=self.max_val)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}" + (", inplace=True" if self.inplace else "")


class ReLU6(Hardtanh):
    """``clip(x, 0, 6)``."""

    def __init__(self, inplace: bool = False):
        super().__init__(0.0, 6.0, inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """``x`` where positive, else ``negative_slope * x``."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        super().__init__()
        self.negative_slope = number("LeakyReLU", "negative_slope", negative_slope, -LARGEST, LARGEST)
        self.inplace = flag("LeakyReLU", "inplace", inplace)

    def forward(self, x):
        return apply("leaky_relu", [x], negative_slope=self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class ELU(Module):
    """``x`` where positive, else ``alpha * (exp(x) - 1)``."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        super().__init__()
        self.alpha = number("ELU", "alpha", alpha, 0, LARGEST)
        self.inplace = flag("ELU", "inplace", inplace)

    def forward(self, x):
        return apply("elu", [x], alpha=self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``."""

    def forward(self, x):
        return apply("sigmoid", [x])


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x):
        return apply("tanh", [x])


class GELU(Module):
    """``x`` times the normal distribution function of ``x``; ``approximate="tanh"`` is its usual approximation."""

    def __init__(self, approximate: str = "none"):
        super().__init__()
        self.approximate = choice("GELU", "approximate", approximate, ("none", "tanh"))

    def forward(self, x):
        return apply("gelu", [x], approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class _Softmax(Module):
    op: str

    def __init__(self, dim: int | None = None):
        super().__init__()
        self.dim = dim if dim is None else integer(type(self).__name__, "dim", dim, -8)

    def forward(self, x):
        return getattr(normalization, self.op)(x, 1 if self.dim is None else self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softmax(_Softmax):
    """``exp(x)`` over its sum along ``dim``, by default the channels."""

    op = "softmax"


class Softmin(_Softmax):
    """:class:`Softmax` of ``-x``."""

    op = "softmin"


class Softmax2d(Module):
    """:class:`Softmax` over the channels of (N, C, H, W), or of (C, H, W)."""

    def forward(self, x):
        if x.ndim not in (3, 4):
            fail("Softmax2d", f"input of shape {x.shape} has {x.ndim} dimensions: expected 3 or 4")
        return normalization.softmax(x, -3)


class LogSoftmax(_Softmax):
    """Logarithm of :class:`Softmax`, computed without overflow."""

    op = "log_softmax"
