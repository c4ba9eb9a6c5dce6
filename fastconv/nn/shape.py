"""Layers that move elements: other shapes, pixels and channels, windows."""

from __future__ import annotations

import fastconv.functional as F
from fastconv._values import shown
from fastconv.nn._check import integer, sizes
from fastconv.nn.module import Module


def factor(layer: str, name: str, value) -> int:
    """How many times, or parts: at least 1, and no more than a shape could have."""
    if integer(layer, name, value, 1) >= 2**31:
        raise ValueError(f"{layer}: {name}={shown(value)} must be below 2**31")
    return int(value)


class Unflatten(Module):
    """One dimension as several; as ``torch.nn.Unflatten``.

    Parameters
    ----------
    dim : int
    unflattened_size : sequence of int
        Their extents, of which one may be -1.

    Raises
    ------
    TypeError, ValueError
        For a dimension or extents that are no integers, and when called, for those that do not go together with the input.
    """

    def __init__(self, dim, unflattened_size):
        super().__init__()
        self.dim = integer("Unflatten", "dim", dim, -8)
        if not isinstance(unflattened_size, (tuple, list)) or not unflattened_size:
            raise TypeError(f"Unflatten: unflattened_size={shown(unflattened_size)}: expected a sequence of integers")
        self.unflattened_size = tuple(integer("Unflatten", "unflattened_size", v, -1) for v in unflattened_size)

    def forward(self, input):
        return F.unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class PixelShuffle(Module):
    """``(*, C * r^2, H, W)`` to ``(*, C, H * r, W * r)``; as ``torch.nn.PixelShuffle``.

    Parameters
    ----------
    upscale_factor : int
        r, at least 1.
    """

    def __init__(self, upscale_factor):
        super().__init__()
        self.upscale_factor = factor("PixelShuffle", "upscale_factor", upscale_factor)

    def forward(self, input):
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """``(*, C, H * r, W * r)`` to ``(*, C * r^2, H, W)``; as ``torch.nn.PixelUnshuffle``.

    Parameters
    ----------
    downscale_factor : int
        r, at least 1.
    """

    def __init__(self, downscale_factor):
        super().__init__()
        self.downscale_factor = factor("PixelUnshuffle", "downscale_factor", downscale_factor)

    def forward(self, input):
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Channels ``(N, groups * k, ...)`` in the order of k first, then the groups; as ``torch.nn.ChannelShuffle``.

    Parameters
    ----------
    groups : int
        At least 1; must divide the channels.
    """

    def __init__(self, groups):
        super().__init__()
        self.groups = factor("ChannelShuffle", "groups", groups)

    def forward(self, input):
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class _Window(Module):
    def __init__(self, kernel_size, dilation, padding, stride):
        super().__init__()
        for name, value, least in (("kernel_size", kernel_size, 1), ("dilation", dilation, 1), ("padding", padding, 0),
                                   ("stride", stride, 1)):
            setattr(self, name, self.one_or_several(name, value, least))

    def one_or_several(self, name: str, value, least: int):
        """An integer, or one per spatial dimension."""
        layer = type(self).__name__
        if not isinstance(value, (tuple, list)):
            return integer(layer, name, value, least)
        return sizes(layer, name, value, min(max(len(value), 1), 3), least)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Unfold(_Window):
    """:func:`fastconv.functional.unfold` as a layer: windows of images as columns; as ``torch.nn.Unfold``.

    Parameters
    ----------
    kernel_size, dilation, padding, stride : int or sequence of int
    """

    def __init__(self, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__(kernel_size, dilation, padding, stride)

    def forward(self, input):
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(_Window):
    """:func:`fastconv.functional.fold` as a layer: columns summed into images; as ``torch.nn.Fold``.

    Parameters
    ----------
    output_size : int or sequence of int
    kernel_size, dilation, padding, stride : int or sequence of int
    """

    def __init__(self, output_size, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = self.one_or_several("output_size", output_size, 1)

    def forward(self, input):
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, {super().extra_repr()}"
