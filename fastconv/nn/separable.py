"""Separable convolutions: a convolution per channel, then one over channels alone."""

from __future__ import annotations

from typing import Any

from fastconv.nn._check import integer, speaking_for
from fastconv.nn.conv import Conv1d, Conv2d, Conv3d
from fastconv.nn.module import Module

__all__ = ["SeparableConv1d", "SeparableConv2d", "SeparableConv3d"]


class _Separable(Module):
    conv: Any

    def __init__(self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=0, dilation=1,
                 depth_multiplier: int = 1, bias: bool = True, padding_mode: str = "zeros"):
        super().__init__()
        layer = type(self).__name__
        self.in_channels = integer(layer, "in_channels", in_channels, 1)
        self.out_channels = integer(layer, "out_channels", out_channels, 1)
        self.depth_multiplier = integer(layer, "depth_multiplier", depth_multiplier, 1)
        middle = self.in_channels * self.depth_multiplier
        with speaking_for(layer, self.conv.__name__):
            self.depthwise = self.conv(self.in_channels, middle, kernel_size, stride, padding, dilation, self.in_channels,
                                       False, padding_mode)
            self.pointwise = self.conv(middle, self.out_channels, 1, bias=bias)
        self.bias = self.pointwise.bias is not None
        for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode"):
            setattr(self, name, getattr(self.depthwise, name))

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class SeparableConv1d(_Separable):
    """Separable convolution of (N, C, L); see :class:`SeparableConv2d`."""

    conv = Conv1d


class SeparableConv2d(_Separable):
    """Separable convolution of (N, C, H, W): ``depthwise``, a convolution of each channel by itself, then ``pointwise``, a
    1x1 convolution over channels (Chollet, 2017; ``SeparableConv2D`` of Keras).

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, padding, dilation, padding_mode
        Of the depthwise convolution, as those of :class:`Conv2d`.
    depth_multiplier : int, default 1
        Filters per channel of the depthwise convolution.
    bias : bool, default True
        Of the pointwise convolution; the other has none.
    """

    conv = Conv2d


class SeparableConv3d(_Separable):
    """Separable convolution of (N, C, D, H, W); see :class:`SeparableConv2d`."""

    conv = Conv3d
