"""Regions of interest: pooling and alignment."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from numbers import Real

import numpy as np

from fastconv._values import shown
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.graph.ir import apply

__all__ = ["roi_align", "roi_pool"]


def _boxes(name: str, boxes):
    """Regions (K, 5) from an array of such, or from a list of arrays (L, 4), one per image."""
    if isinstance(boxes, (tuple, list)):
        for i, b in enumerate(boxes):
            if b.ndim != 2 or b.shape[1] != 4:
                fail(name, f"boxes[{i}] of shape {b.shape}: expected (L, 4), x1, y1, x2, y2")
        counts = [int(b.shape[0]) for b in boxes]
        return apply("roi_boxes", [np.repeat(np.arange(len(boxes)), counts).astype(np.float32)[:, None], *boxes])
    if boxes.ndim != 2 or boxes.shape[1] != 5:
        fail(name, f"boxes of shape {boxes.shape}: expected (K, 5), image, x1, y1, x2, y2, or a list of (L, 4) per image")
    return boxes


def checked(name: str, input, boxes, output_size, spatial_scale):
    if input.ndim != 4:
        fail(name, f"input of shape {input.shape} has {input.ndim} dimensions: expected 4 (N, C, H, W)")
    if isinstance(boxes, (tuple, list)) and len(boxes) != int(input.shape[0]):
        fail(name, f"boxes has {len(boxes)} arrays: expected one per image, {int(input.shape[0])}")
    values = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * 2
    try:
        if len(values) != 2 or any(isinstance(v, bool) for v in values):
            raise TypeError
        size = tuple(operator.index(v) for v in values)
    except TypeError:
        fail(name, f"output_size={shown(output_size)}: expected an integer or two", TypeError)
    if min(size) < 1:
        fail(name, f"output_size={shown(output_size)}: every extent must be at least 1")
    if isinstance(spatial_scale, bool) or not isinstance(spatial_scale, Real):
        fail(name, f"spatial_scale={shown(spatial_scale)}: expected a number", TypeError)
    if not 0 < float(spatial_scale) < float("inf"):
        fail(name, f"spatial_scale={shown(spatial_scale)}: must be above 0 and finite")
    regions = _boxes(name, boxes)
    for what, tensor in (("input", input), ("boxes", regions)):
        if tensor.dtype != "float32":
            fail(name, f"{what} has dtype {tensor.dtype}: expected float32", TypeError)
    return regions, size, float(spatial_scale)


def some_regions():
    return array(lambda rng: np.array([[0, 1, 1, 9, 7], [1, -3, -2, 4, 12], [0, 3, 3, 3, 3], [1, 2.2, 1.7, 8.6, 6.1],
                                       [0, 40, 40, 50, 50]], np.float32))


def in_images(count: int):
    return array(lambda rng: rng.uniform(0, 8, (count, 4)).astype(np.float32))


def definition(which: str):
    """The definition that the tests compare with; it is beside them."""
    def reference(input, boxes, output_size, spatial_scale=1.0, *rest, **more):
        from reference import sampling

        if not isinstance(boxes, np.ndarray):
            boxes = np.concatenate([np.column_stack([np.full(len(b), i), b]) for i, b in enumerate(boxes)])
        size = output_size if isinstance(output_size, tuple) else (output_size,) * 2
        given = {"samples": -1, "aligned": False, "mode": "avg", **more}
        given.update(zip(("samples", "aligned"), rest, strict=False))
        extra = {"roi_align": ("samples", "aligned", "mode"), "ps_roi_align": ("samples",)}.get(which, ())
        bins = size[0] * size[1] if which.startswith("ps") else 1
        grads = np.zeros((len(boxes), input.shape[1] // bins, *size))
        return getattr(sampling, which)(input, boxes, size, spatial_scale, *(given[key] for key in extra), grads)[0]
    return reference


@function(samples=lambda: [
    sample((2, 3, 8, 10), some_regions(), 3), sample((2, 17, 8, 10), some_regions(), (2, 3), 0.5, 2, True),
    sample((2, 3, 8, 10), [in_images(2), in_images(1)], 2, 0.75, aligned=False),
], wrong=lambda: [
    wrong(ValueError, "boxes of shape (3, 4)", (1, 2, 4, 4), (3, 4), 2),
    wrong(ValueError, "boxes has 2 arrays", (1, 2, 4, 4), [in_images(2), in_images(1)], 2),
    wrong(ValueError, "output_size=0", (1, 2, 4, 4), (3, 5), 0),
    wrong(TypeError, "output_size=2.5", (1, 2, 4, 4), (3, 5), 2.5),
    wrong(ValueError, "spatial_scale=0", (1, 2, 4, 4), (3, 5), 2, 0),
    wrong(ValueError, "has 3 dimensions", (2, 4, 4), (3, 5), 2),
    wrong(ValueError, "mode='mean'", (1, 2, 4, 4), (3, 5), 2, mode="mean"),
], reference=definition("roi_align"))
def roi_align(input: Array, boxes: Array | Sequence[Array], output_size, spatial_scale: float = 1.0,
              sampling_ratio: int = -1, aligned: bool = False, mode: str = "avg") -> Array:
    """Averages of bilinear samples in the bins of regions; as ``torchvision.ops.roi_align``.

    Parameters
    ----------
    input : array, shape (N, C, H, W), float32
    boxes : array, shape (K, 5), or list of arrays, shape (L, 4), one per image; float32
        Regions: the image's number, and x1, y1, x2, y2. A region of no image gives NaN.
    output_size : int or (int, int)
        Bins along height and width.
    spatial_scale : float, default 1
        What the corners are multiplied with.
    sampling_ratio : int, default -1
        Samples along each side of a bin; at most 0: as many as it has pixels, rounded up.
    aligned : bool, default False
        Half a pixel is taken off, and regions may be smaller than a pixel.
    mode : {"avg", "max"}, default "avg"
        "max", which has no gradient, takes the largest of the weighted pixels of all samples, as ONNX's RoiAlign does.

    Returns
    -------
    array, shape (K, C, *output_size), float32
        Samples more than a pixel outside of the image are 0.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not go together, naming them and the rule.

    References
    ----------
    K. He et al., "Mask R-CNN" (2017), section 3.
    """
    name = "roi_align"
    regions, size, scale = checked(name, input, boxes, output_size, spatial_scale)
    if isinstance(sampling_ratio, bool) or not isinstance(sampling_ratio, int):
        fail(name, f"sampling_ratio={shown(sampling_ratio)}: expected an integer", TypeError)
    if sampling_ratio > 1024:
        fail(name, f"sampling_ratio={sampling_ratio}: must be at most 1024")
    if aligned not in (True, False):
        fail(name, f"aligned={shown(aligned)}: expected True or False", TypeError)
    if mode not in ("avg", "max"):
        fail(name, f"mode={shown(mode)}: expected 'avg' or 'max'")
    return apply("roi_align", [input, regions], size=size, scale=scale, samples=sampling_ratio, aligned=bool(aligned),
                 mode=mode)


@function(samples=lambda: [sample((2, 3, 8, 10), some_regions(), 3), sample((2, 17, 8, 10), some_regions(), (2, 3), 0.5),
                           sample((2, 3, 8, 10), [in_images(2), in_images(1)], 2)],
          wrong=lambda: [wrong(ValueError, "boxes of shape (3, 4)", (1, 2, 4, 4), (3, 4), 2),
                         wrong(ValueError, "output_size=0", (1, 2, 4, 4), (3, 5), 0)],
          reference=definition("roi_pool"))
def roi_pool(input: Array, boxes: Array | Sequence[Array], output_size, spatial_scale: float = 1.0) -> Array:
    """Maxima of the pixels in the bins of regions; as ``torchvision.ops.roi_pool``.

    Parameters
    ----------
    input, boxes, output_size, spatial_scale
        As for :func:`roi_align`; corners are rounded to whole pixels, both of which belong to the region.

    Returns
    -------
    array, shape (K, C, *output_size), float32
        0 in bins outside of the image.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not go together, naming them and the rule.

    References
    ----------
    R. Girshick, "Fast R-CNN" (2015), section 2.1.
    """
    regions, size, scale = checked("roi_pool", input, boxes, output_size, spatial_scale)
    return apply("roi_pool", [input, regions], size=size, scale=scale)
