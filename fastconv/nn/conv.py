"""Convolution layers."""

from __future__ import annotations

from fastconv._values import shown
from fastconv.graph.ir import apply, fail
from fastconv.graph.parameter import filled
from fastconv.nn import init
from fastconv.nn._check import choice, flag, integer, one_image_too, sizes
from fastconv.nn.module import Module

PADDING_MODES = ("reflect", "replicate", "circular")
SHAPES = {1: "3 (N, C, L)", 2: "4 (N, C, H, W)", 3: "5 (N, C, D, H, W)"}


class _Conv(Module):
    dims: int

    def __init__(self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=0, dilation=1,
                 groups: int = 1, bias: bool = True, padding_mode: str = "zeros"):
        super().__init__()
        layer, dims = type(self).__name__, self.dims
        self.in_channels = integer(layer, "in_channels", in_channels, 1)
        self.out_channels = integer(layer, "out_channels", out_channels, 1)
        self.kernel_size = sizes(layer, "kernel_size", kernel_size, dims, 1)
        self.stride = sizes(layer, "stride", stride, dims, 1)
        self.dilation = sizes(layer, "dilation", dilation, dims, 1)
        self.groups = integer(layer, "groups", groups, 1)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(f"{layer}: groups={groups} does not divide {name}={getattr(self, name)}")
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"{layer}: padding={shown(padding)}: expected integers, 'same' or 'valid'")
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError(f"{layer}: padding='same' needs stride 1, not stride={shown(stride)}")
            self.padding: str | tuple[int, ...] = padding
        else:
            self.padding = sizes(layer, "padding", padding, dims, 0)
        self.padding_mode = choice(layer, "padding_mode", padding_mode, ("zeros", *PADDING_MODES))
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight = filled(layer, "weight", shape)
        self.register_parameter("bias", None)
        if flag(layer, "bias", bias):
            self.bias = filled(layer, "bias", (self.out_channels,))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's initial values."""
        init.layer_defaults(self.weight, self.bias)

    @one_image_too
    def forward(self, x):
        layer = type(self).__name__
        if x.ndim != self.dims + 2:
            fail(layer, f"input of shape {x.shape} has {x.ndim} dimensions: expected {SHAPES[self.dims]}")
        if x.shape[1] != self.in_channels:
            fail(layer, f"input of shape {x.shape} has {x.shape[1]} channels: expected in_channels={self.in_channels}")
        weight = self._filters()
        inputs = [x, weight] if self.bias is None else [x, weight, self.bias]
        padding: str | tuple[int, ...] | int = self.padding
        if self.padding_mode != "zeros":
            inputs[0] = apply("pad", [x], pad=self._pad(), mode=self.padding_mode)
            padding = 0
        return apply("conv", inputs, stride=self.stride, padding=padding, dilation=self.dilation, groups=self.groups)

    def _filters(self):
        return self.weight

    def _pad(self) -> tuple[int, ...]:
        """The padding as (front, back) of the last dimension first."""
        pairs = []
        for i, (k, d) in enumerate(zip(self.kernel_size, self.dilation, strict=True)):
            if self.padding == "same":
                total = d * (k - 1)
                pairs.append((total // 2, total - total // 2))
            else:
                pairs.append((0, 0) if isinstance(self.padding, str) else (self.padding[i],) * 2)
        return tuple(p for pair in pairs[::-1] for p in pair)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * self.dims:
            text += f", padding={self.padding}"
        if self.dilation != (1,) * self.dims:
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode!r}"
        return text if self.bias is not None else text + ", bias=False"


class Conv1d(_Conv):
    """Convolution of (N, C, L). Arguments, defaults and attributes are those of :class:`Conv2d`."""

    dims = 1


class Conv2d(_Conv):
    """Convolution (cross-correlation) of (N, C, H, W), as ``torch.nn.Conv2d``.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or tuple
        Taps per spatial dimension; a single integer stands for all, here and below.
    stride : int or tuple, default 1
    padding : int, tuple, "same" or "valid", default 0
        On both sides; "same" (stride 1 only) keeps the size, the odd one at the end.
    dilation : int or tuple, default 1
        Distance between taps.
    groups : int, default 1
        Divides both channel counts; ``groups == in_channels`` is a depthwise convolution.
    bias : bool, default True
    padding_mode : {"zeros", "reflect", "replicate", "circular"}, default "zeros"
        What the padding holds: zeros, the mirrored image, its edge, or its other end; see :func:`functional.pad`.

    Attributes
    ----------
    weight : Parameter
        (out_channels, in_channels / groups, ...).
    bias : Parameter or None
        (out_channels,).

    Raises
    ------
    TypeError, ValueError
        At construction, naming argument, value and rule.
    """

    dims = 2


class Conv3d(_Conv):
    """Convolution of (N, C, D, H, W). Arguments, defaults and attributes are those of :class:`Conv2d`."""

    dims = 3
