"""Transposed convolution layers."""

from __future__ import annotations

import operator

from fastconv._values import shown
from fastconv.graph.ir import apply, fail
from fastconv.graph.parameter import filled
from fastconv.nn import init
from fastconv.nn._check import flag, integer, one_image_too, sizes
from fastconv.nn.conv import SHAPES
from fastconv.nn.module import Module


class _ConvTranspose(Module):
    dims: int

    def __init__(self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=0, output_padding=0,
                 groups: int = 1, bias: bool = True, dilation=1, padding_mode: str = "zeros"):
        super().__init__()
        layer, dims = type(self).__name__, self.dims
        self.in_channels = integer(layer, "in_channels", in_channels, 1)
        self.out_channels = integer(layer, "out_channels", out_channels, 1)
        self.kernel_size = sizes(layer, "kernel_size", kernel_size, dims, 1)
        self.stride = sizes(layer, "stride", stride, dims, 1)
        self.padding = sizes(layer, "padding", padding, dims, 0)
        self.output_padding = sizes(layer, "output_padding", output_padding, dims, 0)
        self.dilation = sizes(layer, "dilation", dilation, dims, 1)
        self.groups = integer(layer, "groups", groups, 1)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(f"{layer}: groups={groups} does not divide {name}={getattr(self, name)}")
        if not isinstance(padding_mode, str) or padding_mode != "zeros":
            raise ValueError(f"{layer}: padding_mode={shown(padding_mode)}: a transposed convolution has only 'zeros'")
        self.padding_mode = padding_mode
        shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        self.weight = filled(layer, "weight", shape)
        self.register_parameter("bias", None)
        if flag(layer, "bias", bias):
            self.bias = filled(layer, "bias", (self.out_channels,))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's initial values."""
        init.layer_defaults(self.weight, self.bias)

    @one_image_too
    def forward(self, x, output_size=None):
        """Adds the layer to the graph.

        Parameters
        ----------
        x : Tensor
        output_size : sequence of int, optional
            The output's spatial extents, or its whole shape: the ``output_padding`` that leads there replaces the
            layer's own.
        """
        layer = type(self).__name__
        if x.ndim != self.dims + 2:
            fail(layer, f"input of shape {x.shape} has {x.ndim} dimensions: expected {SHAPES[self.dims]}")
        if x.shape[1] != self.in_channels:
            fail(layer, f"input of shape {x.shape} has {x.shape[1]} channels: expected in_channels={self.in_channels}")
        extra = self.output_padding if output_size is None else self._output_padding(x.shape[2:], output_size)
        inputs = [x, self.weight] if self.bias is None else [x, self.weight, self.bias]
        return apply("conv_transpose", inputs, stride=self.stride, padding=self.padding, output_padding=extra,
                     dilation=self.dilation, groups=self.groups)

    def _output_padding(self, size: tuple[int, ...], output_size) -> tuple[int, ...]:
        """The output_padding that makes an output of this size."""
        layer = type(self).__name__
        try:
            wanted = tuple(operator.index(v) for v in output_size)
        except TypeError:
            fail(layer, f"output_size={shown(output_size)}: expected integers", TypeError)
        if len(wanted) == self.dims + 2:
            wanted = wanted[2:]
        if len(wanted) != self.dims:
            fail(layer, f"output_size={shown(output_size)} has {len(wanted)} values: expected {self.dims}, or "
                        f"{self.dims + 2} with batch and channels")
        least = tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in
                      zip(size, self.stride, self.padding, self.dilation, self.kernel_size, strict=True))
        most = tuple(n + s - 1 for n, s in zip(least, self.stride, strict=True))
        if any(not low <= v <= high for v, low, high in zip(wanted, least, most, strict=True)):
            fail(layer, f"output_size={wanted} must be from {least} to {most} for an input of size {tuple(size)}")
        return tuple(v - low for v, low in zip(wanted, least, strict=True))

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, default in (("padding", 0), ("output_padding", 0), ("dilation", 1)):
            if getattr(self, name) != (default,) * self.dims:
                text += f", {name}={getattr(self, name)}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text if self.bias is not None else text + ", bias=False"


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of (N, C, L). Arguments, defaults and attributes are those of :class:`ConvTranspose2d`."""

    dims = 1


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of (N, C, H, W), as ``torch.nn.ConvTranspose2d``: upsampling by ``stride``.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or tuple
        Taps per spatial dimension; a single integer stands for all, here and below.
    stride : int or tuple, default 1
        How far apart the input's pixels land in the output.
    padding : int or tuple, default 0
        How many pixels are left out on both sides of the output.
    output_padding : int or tuple, default 0
        How many pixels the output is longer at its end; smaller than the stride or the dilation.
    groups : int, default 1
        Divides both channel counts.
    bias : bool, default True
    dilation : int or tuple, default 1
        Distance between taps.
    padding_mode : "zeros"
        The only mode there is, as in PyTorch.

    Attributes
    ----------
    weight : Parameter
        (in_channels, out_channels / groups, ...).
    bias : Parameter or None
        (out_channels,).

    Raises
    ------
    TypeError, ValueError
        At construction, naming argument, value and rule; ``output_padding`` too large when it is first used.

    Notes
    -----
    The output is (N, out_channels, P, Q) with
    ``P = (H - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1``, likewise Q.
    ``forward(x, output_size=...)`` takes the size that is wanted instead of ``output_padding``.
    """

    dims = 2


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of (N, C, D, H, W). Arguments, defaults and attributes are those of
    :class:`ConvTranspose2d`.
    """

    dims = 3
