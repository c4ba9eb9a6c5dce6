"""Layers whose number of input channels is that of the first input they see."""

from __future__ import annotations

import inspect
from typing import Any

from fastconv.graph.ir import Tensor, fail
from fastconv.nn._check import integer, speaking_for
from fastconv.nn.conv import Conv1d, Conv2d, Conv3d
from fastconv.nn.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from fastconv.nn.linear import Linear
from fastconv.nn.module import Module

__all__ = ["LazyConv1d", "LazyConv2d", "LazyConv3d", "LazyConvTranspose1d", "LazyConvTranspose2d", "LazyConvTranspose3d",
           "LazyLinear"]


class _Lazy(Module):
    """Holds the arguments of a layer until it is traced for the first time; then it is that layer."""

    made: Any

    def __init__(self, *args, **keywords):
        super().__init__()
        layer = type(self).__name__
        try:
            given = inspect.signature(self.made).bind(1, *args, **keywords).arguments
        except TypeError as error:
            raise TypeError(f"{layer}: {error}") from None
        least = integer(layer, "groups", given.get("groups", 1), 1)
        for name in ("out_channels", "out_features"):
            if name in given:
                integer(layer, name, given[name], 1)
        with speaking_for(layer, self.made.__name__):
            self.made(least, *args, **keywords)  # which raises what is wrong with them at once
        self._arguments = args, keywords

    def forward(self, x):
        layer = type(self).__name__
        if not isinstance(x, Tensor) or x.ndim < 1:
            fail(layer, f"input is a {type(x).__name__}: expected a tensor", TypeError)
        args, keywords = self._arguments
        dims: int = getattr(self.made, "dims", 0)
        at = x.ndim - dims - 1  # that of features, of a layer that has no dimensions
        if at < 0:
            fail(layer, f"input of shape {tuple(x.type.shape)} has {x.ndim} dimensions: expected {dims + 2}")
        real = self.made(x.type.shape[at], *args, **keywords)
        real.train(self.training)
        del self._arguments
        self.__class__ = self.made  # as PyTorch's: from now on it is that layer
        for name, value in real.__dict__.items():
            if name not in ("_parameters", "_buffers", "_modules"):
                self.__dict__[name] = value
        for name, parameter in real._parameters.items():
            self._parameters[name] = parameter
        return self.forward(x)

    def extra_repr(self) -> str:
        args, keywords = self._arguments
        return ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in keywords.items())])


def _lazy(made: type[Module]) -> type[Module]:
    name = f"Lazy{made.__name__}"
    return type(name, (_Lazy,), {"made": made, "__module__": __name__, "__doc__": f"""A :class:`{made.__name__}` whose
    number of input channels is that of the first input.

    Its arguments are those of :class:`{made.__name__}` without the first. It has no parameters until it is compiled, or
    traced, for the first time; then it is a :class:`{made.__name__}`. A network is compiled before its parameters are given
    to an optimiser.
    """})


LazyLinear, LazyConv1d, LazyConv2d, LazyConv3d = map(_lazy, (Linear, Conv1d, Conv2d, Conv3d))
LazyConvTranspose1d, LazyConvTranspose2d, LazyConvTranspose3d = map(
    _lazy, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d))
