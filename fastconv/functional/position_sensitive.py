"""Regions of interest of maps whose channels belong to a place in the region, as R-FCN has them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.functional.roi import checked, definition, in_images, roi_align, some_regions
from fastconv.functional.slicing import diagonal, select
from fastconv.functional.structure import reshaped
from fastconv.graph.ir import Tensor, apply
from fastconv.ops.map import fused
from fastconv.ops.matmul import contract
from fastconv.ops.reduce import reduced

__all__ = ["ps_roi_align", "ps_roi_pool"]

_WRONG = [
    wrong(ValueError, "boxes of shape (3, 4)", (1, 4, 4, 4), (3, 4), 2),
    wrong(ValueError, "output_size=0", (1, 4, 4, 4), (3, 5), 0),
    wrong(ValueError, "input of shape (1, 6, 4, 4) has 6 channels: expected a multiple of 2 * 2", (1, 6, 4, 4), (3, 5), 2),
]


def _divided(name: str, channels: int, shape, size: tuple[int, int]) -> int:
    """Channels of the result."""
    if channels % (size[0] * size[1]):
        fail(name, f"input of shape {tuple(shape)} has {channels} channels: expected a multiple of {size[0]} * {size[1]}, "
                   "the bins of output_size")
    return channels // (size[0] * size[1])


@function(samples=lambda: [sample((2, 18, 8, 10), some_regions(), 3), sample((2, 12, 8, 10), some_regions(), (2, 3), 0.5, 2),
                           sample((2, 8, 8, 10), [in_images(2), in_images(1)], 2, 0.75)],
          wrong=lambda: _WRONG, reference=definition("ps_roi_align"))
def ps_roi_align(input: Array, boxes: Array | Sequence[Array], output_size, spatial_scale: float = 1.0,
                 sampling_ratio: int = -1) -> Array:
    """:func:`roi_align`, aligned, in which bin (i, j) of channel c is that of channel ``(c * height + i) * width + j``; as
    ``torchvision.ops.ps_roi_align``.

    Parameters
    ----------
    input : array, shape (N, C * height * width, H, W), float32
    boxes, output_size, spatial_scale, sampling_ratio
        As for :func:`roi_align`, output_size being (height, width).

    Returns
    -------
    array, shape (K, C, height, width), float32
        0 in regions without an extent.

    Raises
    ------
    ValueError, TypeError

    References
    ----------
    J. Dai et al., "R-FCN" (2016), section 2; Z. Li et al., "Light-Head R-CNN" (2017).
    """
    name = "ps_roi_align"
    regions, size, scale = checked(name, input, boxes, output_size, spatial_scale)
    channels = _divided(name, input.type.shape[1], input.type.shape, size)
    y = roi_align(input, regions, size, scale, sampling_ratio, True)
    bins = reshaped(name, y, (y.shape[0], channels, *size, *size))
    return diagonal(diagonal(bins, 0, 2, 4), 0, 2, 3)


def _shares(low: Tensor, high: Tensor, bins: int, extent: int) -> Tensor:
    """(K, bins, extent): one over how many pixels of a line a bin has, for each that it has."""
    graph = low.graph
    number = graph.constant(np.arange(bins, dtype=np.float32)[:, None])
    at = graph.constant(np.arange(extent, dtype=np.float32))

    def inside(low, high, number, at):
        size = (high - low).maximum(1.0) / float(bins)
        begin, end = (number * size).floor() + low, ((number + 1.0) * size).ceil() + low
        return (at >= begin).logical_and(at < end)

    low, high = (reshaped("ps_roi_pool", v, (v.shape[0], 1, 1)) for v in (low, high))
    mask = fused(inside, low, high, number, at)
    return fused(lambda m, n: m / n.maximum(1.0), mask, reduced("sum", mask, [2], True))


@function(samples=lambda: [sample((2, 18, 8, 10), some_regions(), 3), sample((2, 12, 8, 10), some_regions(), (2, 3), 0.5),
                           sample((2, 8, 8, 10), [in_images(2), in_images(1)], 2, 0.75)],
          wrong=lambda: [*_WRONG, wrong(IndexError, "image has the value 1: expected 0 to 0", (1, 4, 4, 4),
                                        array(lambda rng: np.array([[1, 0, 0, 2, 2]], np.float32)), 2)],
          reference=definition("ps_roi_pool"))
def ps_roi_pool(input: Array, boxes: Array | Sequence[Array], output_size, spatial_scale: float = 1.0) -> Array:
    """The means of the pixels in the bins of regions, bin (i, j) of channel c of channel ``(c * height + i) * width + j``;
    as ``torchvision.ops.ps_roi_pool``.

    Parameters
    ----------
    input : array, shape (N, C * height * width, H, W), float32
    boxes : as for :func:`roi_align`
        Corners are rounded to whole pixels, the second of which do not belong to the region.
    output_size, spatial_scale
        As for :func:`roi_align`, output_size being (height, width).

    Returns
    -------
    array, shape (K, C, height, width), float32
        0 in bins outside of the image.

    Raises
    ------
    ValueError, TypeError
    IndexError
        For a region of no image.

    References
    ----------
    J. Dai et al., "R-FCN" (2016), section 2.
    """
    name = "ps_roi_pool"
    regions, size, scale = checked(name, input, boxes, output_size, spatial_scale)
    channels = _divided(name, input.type.shape[1], input.type.shape, size)

    def corner(at: int) -> Tensor:  # rounded half away from 0
        return fused(lambda v: ((v * scale).abs() + 0.5).floor() * (v * scale).sign(), select(regions, 1, at))

    rows = _shares(corner(2), corner(4), size[0], input.type.shape[2])
    columns = _shares(corner(1), corner(3), size[1], input.type.shape[3])
    image = fused(lambda v: v.trunc(), select(regions, 1, 0), dtype="int64")
    own = apply("gather", [input, image], x_map=[None, 1, 2, 3], index_map=[0], wrap=False, called=name, what="image")
    own = reshaped(name, own, (own.shape[0], channels, *size, *own.type.shape[2:]))
    return contract(contract(own, rows, "kcijhw,kih->kcijw"), columns, "kcijw,kjw->kcij")
