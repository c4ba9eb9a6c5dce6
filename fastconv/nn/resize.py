"""Layers that resample: up and down by scale, and regions of interest."""

from __future__ import annotations

import fastconv.functional as F
from fastconv.nn.module import Module


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
        self.size = tuple(size) if isinstance(size, list) else size
        self.scale_factor = tuple(map(float, scale_factor)) if isinstance(scale_factor, (tuple, list)) else scale_factor
        self.mode, self.align_corners, self.recompute_scale_factor = mode, align_corners, recompute_scale_factor

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
        self.output_size = tuple(output_size) if isinstance(output_size, list) else output_size
        self.spatial_scale, self.sampling_ratio, self.aligned = spatial_scale, sampling_ratio, aligned

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
        self.output_size = tuple(output_size) if isinstance(output_size, list) else output_size
        self.spatial_scale = spatial_scale

    def forward(self, input, rois):
        return F.roi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"
