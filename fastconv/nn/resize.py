"""Layers that resample: up and down by scale, and regions of interest."""

from __future__ import annotations

import fastconv.functional as F
from fastconv._values import shown
from fastconv.nn._check import choice, flag, integer, number
from fastconv.nn.module import Module

MODES = ("nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area")
FACTOR = (1e-6, 1e6)
LARGEST = 2**31 - 1  # pixels along a dimension


def extents(layer: str, name: str, value):
    """An integer of at least 1, or a tuple of one to three."""
    values = value if isinstance(value, (tuple, list)) else (value,)
    if not 1 <= len(values) <= 3:
        raise ValueError(f"{layer}: {name}={shown(value)}: expected an integer, or one per spatial dimension")
    sizes = tuple(integer(layer, name, v, 1) for v in values)
    if max(sizes) > LARGEST:
        raise ValueError(f"{layer}: {name}={shown(value)} must be at most {LARGEST}")
    return sizes if isinstance(value, (tuple, list)) else sizes[0]


def factors(layer: str, name: str, value):
    """A number above 0, or a tuple of one to three."""
    if not isinstance(value, (tuple, list)):
        number(layer, name, value, *FACTOR)
        return value
    if not 1 <= len(value) <= 3:
        raise ValueError(f"{layer}: {name}={shown(value)}: expected a number, or one per spatial dimension")
    return tuple(number(layer, name, v, *FACTOR) for v in value)


class Upsample(Module):
    """:func:`fastconv.functional.interpolate` as a layer; as ``torch.nn.Upsample``.

    Parameters
    ----------
    size : int or tuple of int, optional
        The extents of the output.
    scale_factor : float or tuple of float, optional
        Or how much larger they are.
    mode : str, default "nearest"
    align_corners : bool, optional
    recompute_scale_factor : bool, optional
        As for `interpolate`.

    Raises
    ------
    ValueError, TypeError, NotImplementedError
        When called: for arguments that do not go together or with the input, naming them and the rule.
    """

    def __init__(self, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None):
        super().__init__()
        layer = type(self).__name__
        self.size = None if size is None else extents(layer, "size", size)
        self.scale_factor = None if scale_factor is None else factors(layer, "scale_factor", scale_factor)
        self.mode = choice(layer, "mode", mode, MODES)
        self.align_corners = None if align_corners is None else flag(layer, "align_corners", align_corners)
        self.recompute_scale_factor = None if recompute_scale_factor is None else flag(
            layer, "recompute_scale_factor", recompute_scale_factor)

    def forward(self, input):
        return F.interpolate(input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor)

    def extra_repr(self) -> str:
        what = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{what}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """:class:`Upsample` with ``mode="nearest"``; as ``torch.nn.UpsamplingNearest2d``."""

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """:class:`Upsample` with ``mode="bilinear"``, corners aligned; as ``torch.nn.UpsamplingBilinear2d``."""

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, "bilinear", True)


class RoIAlign(Module):
    """:func:`fastconv.functional.roi_align` as a layer of images and boxes; as ``torchvision.ops.RoIAlign``.

    Parameters
    ----------
    output_size : int or (int, int)
    spatial_scale : float
    sampling_ratio : int
    aligned : bool, default False
        As for `roi_align`.
    """

    def __init__(self, output_size, spatial_scale, sampling_ratio, aligned=False):
        super().__init__()
        self.output_size = extents("RoIAlign", "output_size", output_size)
        self.spatial_scale = number("RoIAlign", "spatial_scale", spatial_scale, *FACTOR)
        self.sampling_ratio = integer("RoIAlign", "sampling_ratio", sampling_ratio, -LARGEST)
        if self.sampling_ratio > 1024:
            raise ValueError(f"RoIAlign: sampling_ratio={shown(sampling_ratio)} must be at most 1024")
        self.aligned = flag("RoIAlign", "aligned", aligned)

    def forward(self, input, rois):
        return F.roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)

    def extra_repr(self) -> str:
        return (f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
                f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}")


class RoIPool(Module):
    """:func:`fastconv.functional.roi_pool` as a layer of images and boxes; as ``torchvision.ops.RoIPool``.

    Parameters
    ----------
    output_size : int or (int, int)
    spatial_scale : float
        As for `roi_pool`.
    """

    def __init__(self, output_size, spatial_scale):
        super().__init__()
        layer = type(self).__name__
        self.output_size = extents(layer, "output_size", output_size)
        self.spatial_scale = number(layer, "spatial_scale", spatial_scale, *FACTOR)

    def forward(self, input, rois):
        return F.roi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"


class PSRoIAlign(Module):
    """:func:`fastconv.functional.ps_roi_align` as a layer of images and boxes; as ``torchvision.ops.PSRoIAlign``.

    Parameters
    ----------
    output_size : int or (int, int)
    spatial_scale : float
    sampling_ratio : int
        As for `ps_roi_align`.
    """

    def __init__(self, output_size, spatial_scale, sampling_ratio):
        super().__init__()
        self.output_size = extents("PSRoIAlign", "output_size", output_size)
        self.spatial_scale = number("PSRoIAlign", "spatial_scale", spatial_scale, *FACTOR)
        self.sampling_ratio = integer("PSRoIAlign", "sampling_ratio", sampling_ratio, -LARGEST)
        if self.sampling_ratio > 1024:
            raise ValueError(f"PSRoIAlign: sampling_ratio={shown(sampling_ratio)} must be at most 1024")

    def forward(self, input, rois):
        return F.ps_roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, sampling_ratio={self.sampling_ratio}"


class PSRoIPool(RoIPool):
    """:func:`fastconv.functional.ps_roi_pool` as a layer of images and boxes; as ``torchvision.ops.PSRoIPool``.

    Parameters
    ----------
    output_size : int or (int, int)
    spatial_scale : float
        As for `ps_roi_pool`.
    """

    def forward(self, input, rois):
        return F.ps_roi_pool(input, rois, self.output_size, self.spatial_scale)
