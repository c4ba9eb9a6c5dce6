"""Dropout of channels, of SELU's values, and of residual branches. They do nothing in evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastconv import functional as F
from fastconv.nn._check import choice, flag, number
from fastconv.nn.module import Module


class _Dropout(Module):
    function: Callable[..., Any]

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        self.p = number(type(self).__name__, "p", p, 0, 1)
        self.inplace = flag(type(self).__name__, "inplace", inplace)

    def forward(self, x):
        return type(self).function(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout1d(_Dropout):
    """Zeroes each channel of (N, C, L) or (C, L) with probability ``p`` in training, scales the rest by ``1 / (1 - p)``."""

    function = staticmethod(F.dropout1d)


class Dropout2d(_Dropout):
    """Zeroes each channel of (N, C, H, W) with probability ``p`` in training, scales the rest by ``1 / (1 - p)``."""

    function = staticmethod(F.dropout2d)


class Dropout3d(_Dropout):
    """Zeroes each channel of (N, C, D, H, W) or (C, D, H, W) with probability ``p`` in training, scales the rest by
    ``1 / (1 - p)``."""

    function = staticmethod(F.dropout3d)


class AlphaDropout(_Dropout):
    """Sets values to the lower limit of SELU with probability ``p`` in training; mean and variance are kept."""

    function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """:class:`AlphaDropout` of whole channels of (N, C, ...)."""

    function = staticmethod(F.feature_alpha_dropout)


class StochasticDepth(Module):
    """Zeroes a residual branch with probability ``p`` in training, for the whole batch or each row of it.

    Parameters
    ----------
    p : float
    mode : {"batch", "row"}
    """

    def __init__(self, p: float, mode: str):
        super().__init__()
        self.p = number("StochasticDepth", "p", p, 0, 1)
        self.mode = choice("StochasticDepth", "mode", mode, ("batch", "row"))

    def forward(self, x):
        return F.stochastic_depth(x, self.p, self.mode, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, mode={self.mode}"
