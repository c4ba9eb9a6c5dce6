"""Linear, and layers that only rearrange or drop."""

from __future__ import annotations

import math

import fastconv.functional as F
from fastconv.functional.matmul import bilinear, linear_any
from fastconv.graph.ir import apply, fail
from fastconv.graph.parameter import filled
from fastconv.nn import init
from fastconv.nn._check import flag, integer, number
from fastconv.nn.module import Module


class Linear(Module):
    """``x @ weight.T + bias`` over (..., in_features).

    Parameters
    ----------
    in_features, out_features : int
    bias : bool, default True

    Attributes
    ----------
    weight : Parameter
        (out_features, in_features).
    bias : Parameter or None
        (out_features,).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__()
        self.in_features = integer("Linear", "in_features", in_features, 1)
        self.out_features = integer("Linear", "out_features", out_features, 1)
        self.weight = filled("Linear", "weight", (self.out_features, self.in_features))
        self.register_parameter("bias", None)
        if flag("Linear", "bias", bias):
            self.bias = filled("Linear", "bias", (self.out_features,))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's initial values."""
        init.layer_defaults(self.weight, self.bias)

    def forward(self, x):
        if x.ndim < 1 or x.shape[-1] != self.in_features:
            fail("Linear", f"input of shape {tuple(x.shape)} has {x.shape[-1] if x.ndim else 1} features: expected "
                           f"in_features={self.in_features}")
        if x.ndim != 2:
            return linear_any(x, self.weight, self.bias)
        return apply("linear", [x, self.weight] if self.bias is None else [x, self.weight, self.bias])

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """``x1^T weight x2 + bias`` over (..., in1_features) and (..., in2_features), as ``torch.nn.Bilinear``.

    Parameters
    ----------
    in1_features, in2_features, out_features : int
    bias : bool, default True

    Attributes
    ----------
    weight : Parameter
        (out_features, in1_features, in2_features).
    bias : Parameter or None
        (out_features,).
    """

    def __init__(self, in1_features: int, in2_features: int, out_features: int, bias: bool = True):
        super().__init__()
        self.in1_features = integer("Bilinear", "in1_features", in1_features, 1)
        self.in2_features = integer("Bilinear", "in2_features", in2_features, 1)
        self.out_features = integer("Bilinear", "out_features", out_features, 1)
        self.weight = filled("Bilinear", "weight", (self.out_features, self.in1_features, self.in2_features))
        biased = flag("Bilinear", "bias", bias)
        self.register_parameter("bias", filled("Bilinear", "bias", (self.out_features,)) if biased else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's initial values."""
        bound = 1 / math.sqrt(self.in1_features)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input1, input2):
        return bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}, "
                f"bias={self.bias is not None}")


class Flatten(Module):
    """Joins the dimensions from ``start_dim`` to ``end_dim``, both included."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim = integer("Flatten", "start_dim", start_dim, -6)
        self.end_dim = integer("Flatten", "end_dim", end_dim, -6)

    def forward(self, x):
        return F.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Identity(Module):
    """Hands its input on; any arguments are ignored, as in PyTorch."""

    def __init__(self, *args, **keywords):
        super().__init__()

    def forward(self, x):
        return x


class Dropout(Module):
    """Zeroes each value with probability ``p`` in training and scales the rest by ``1 / (1 - p)``.

    Parameters
    ----------
    p : float, default 0.5
    inplace : bool, default False
        Taken for PyTorch's sake: memory is planned, so it changes nothing.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        self.p = number("Dropout", "p", p, 0, 1)
        self.inplace = flag("Dropout", "inplace", inplace)

    def forward(self, x):
        return apply("dropout", [x], p=self.p) if self.training and self.p > 0 else x

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
