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
from fastconv.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from fastconv.nn.normalization import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d

__all__ = ["LazyBatchNorm1d", "LazyBatchNorm2d", "LazyBatchNorm3d", "LazyConv1d", "LazyConv2d", "LazyConv3d",
           "LazyConvTranspose1d", "LazyConvTranspose2d", "LazyConvTranspose3d", "LazyInstanceNorm1d", "LazyInstanceNorm2d",
           "LazyInstanceNorm3d", "LazyLinear"]


class _Lazy(Module):
    """Holds the arguments of a layer until it is traced for the first time; then it is that layer."""

    made: Any
    defaults: dict[str, Any] = {}  # that differ from those of the layer

    def __init__(self, *args, **keywords):
        super().__init__()
        layer = type(self).__name__
        names = list(inspect.signature(self.made).parameters)[1:1 + len(args)]
        keywords = {**{k: v for k, v in self.defaults.items() if k not in names}, **keywords}
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
        ranks: Any = getattr(self.made, "ndims", 0)  # of a normalisation
        if ranks:
            at = 1
            if x.ndim not in (ranks if isinstance(ranks, tuple) else (ranks,)):
                fail(layer, f"input of shape {tuple(x.type.shape)} has {x.ndim} dimensions: expected {self.made.shapes}")
        else:
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
        for table in ("_parameters", "_buffers"):
            getattr(self, table).update(getattr(real, table))
        return self.forward(x)

    def extra_repr(self) -> str:
        args, keywords = self._arguments
        return ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in keywords.items())])


def _lazy(made: type[Module], **defaults) -> type[Module]:
    name = f"Lazy{made.__name__}"
    other = f" By default {', '.join(f'``{key}={value}``' for key, value in defaults.items())}." if defaults else ""
    return type(name, (_Lazy,), {"made": made, "defaults": defaults, "__module__": __name__, "__doc__": f"""
    A :class:`{made.__name__}` whose number of input channels is that of the first input.

    Its arguments are those of :class:`{made.__name__}` without the first.{other}

    It has no parameters until it is compiled, or traced, for the first time; then it is a :class:`{made.__name__}`. A
    network is compiled before its parameters are given to an optimiser.
    """})


LazyLinear, LazyConv1d, LazyConv2d, LazyConv3d = map(_lazy, (Linear, Conv1d, Conv2d, Conv3d))
LazyBatchNorm1d, LazyBatchNorm2d, LazyBatchNorm3d = map(_lazy, (BatchNorm1d, BatchNorm2d, BatchNorm3d))
LazyInstanceNorm1d, LazyInstanceNorm2d, LazyInstanceNorm3d = (
    _lazy(made, affine=True, track_running_stats=True)  # as PyTorch's
    for made in (InstanceNorm1d, InstanceNorm2d, InstanceNorm3d))
LazyConvTranspose1d, LazyConvTranspose2d, LazyConvTranspose3d = map(
    _lazy, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d))
