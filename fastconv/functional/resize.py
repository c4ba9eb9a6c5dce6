"""Resampling by scale, and by coordinates."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from numbers import Real

import numpy as np

from fastconv._values import shown
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.graph.ir import apply
from fastconv.ops.resampling import MODES, output_size

__all__ = ["affine_grid", "grid_sample", "interpolate", "upsample", "upsample_bilinear", "upsample_nearest"]

DIMS = {"linear": (1,), "bilinear": (2,), "bicubic": (2,), "trilinear": (3,), "nearest": (1, 2, 3),
        "nearest-exact": (1, 2, 3), "area": (1, 2, 3)}
LARGEST = 2**31 - 1  # elements along an axis of a list


def _integers(name: str, what: str, value, dims: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims
    if len(values) != dims:
        fail(name, f"{what}={shown(value)} has {len(values)} values: expected 1 or {dims}, one per spatial dimension")
    try:
        if any(isinstance(v, (bool, float)) for v in values):
            raise TypeError
        sizes = tuple(operator.index(v) for v in values)
    except TypeError:
        fail(name, f"{what}={shown(value)}: expected integers", TypeError)
    if min(sizes) < 1 or max(sizes) > LARGEST:
        fail(name, f"{what}={shown(value)}: every extent must be at least 1")
    return sizes


def _factors(name: str, value, dims: int) -> tuple[float, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims
    if len(values) != dims:
        fail(name, f"scale_factor={shown(value)} has {len(values)} values: expected 1 or {dims}, one per spatial dimension")
    if any(isinstance(v, bool) or not isinstance(v, (Real, np.floating)) for v in values):
        fail(name, f"scale_factor={shown(value)}: expected numbers", TypeError)
    if not all(0 < float(v) < float("inf") for v in values):
        fail(name, f"scale_factor={shown(value)}: must be above 0 and finite")
    return tuple(float(v) for v in values)


def _resized(input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias, name):
    dims = input.ndim - 2
    if dims not in (1, 2, 3):
        fail(name, f"input of shape {input.shape} has {input.ndim} dimensions: expected 3 (N, C, L), 4 (N, C, H, W) or 5 "
                   "(N, C, D, H, W)")
    if mode not in MODES:
        fail(name, f"mode={shown(mode)}: expected one of {', '.join(map(repr, MODES))}")
    if dims not in DIMS[mode]:
        fail(name, f"mode={mode!r} expects an input of {DIMS[mode][0] + 2} dimensions, got one of shape {input.shape}",
             NotImplementedError)
    if input.dtype not in ("float32", "uint8"):
        fail(name, f"input has dtype {input.dtype}: expected float32 or uint8", TypeError)
    if 0 in input.shape[1:]:
        fail(name, f"input of shape {input.shape}: only the batch may be 0")
    smooth = mode in ("linear", "bilinear", "bicubic", "trilinear")
    if align_corners is not None and not smooth:
        fail(name, f"align_corners={align_corners!r} with mode={mode!r}: it goes with linear, bilinear, bicubic, trilinear")
    for what, value in (("align_corners", align_corners), ("recompute_scale_factor", recompute_scale_factor),
                        ("antialias", antialias)):
        if value not in (None, True, False) or isinstance(value, (int, float)) and not isinstance(value, bool):
            fail(name, f"{what}={shown(value)}: expected True or False", TypeError)
    if antialias and mode not in ("bilinear", "bicubic"):
        fail(name, f"antialias=True with mode={mode!r}: it goes with bilinear and bicubic")
    if (size is None) == (scale_factor is None):
        fail(name, f"size={shown(size)} and scale_factor={shown(scale_factor)}: expected one of the two")
    if size is not None and recompute_scale_factor:
        fail(name, f"recompute_scale_factor=True with size={shown(size)}: there is no scale to recompute")
    spatial, scales = input.shape[2:], (None,) * dims
    if size is not None:
        sizes = _integers(name, "size", size, dims)
    else:
        factors = _factors(name, scale_factor, dims)
        sizes = tuple(output_size(s, f) for s, f in zip(spatial, factors, strict=True))
        if min(sizes) < 1 or max(sizes) > LARGEST:
            fail(name, f"scale_factor={shown(scale_factor)} makes of input of shape {input.shape} an output of {sizes}: "
                       "every extent must be at least 1")
        if not recompute_scale_factor and mode != "area":
            scales = factors
    rules = tuple((2 + i, s, out, ("axis", mode, bool(align_corners), scale, bool(antialias), dims))
                  for i, (s, out, scale) in enumerate(zip(spatial, sizes, scales, strict=True)))
    return apply("resample", [input], rules=rules, adjoint=False)


@function(samples=lambda: [
    sample((2, 3, 5, 7), (9, 11)), sample((2, 17, 5, 7), None, 2.0), sample((1, 3, 6), 4, mode="linear"),
    sample((2, 3, 5, 7), None, (1.7, 0.9), mode="bilinear", align_corners=False),
    sample((2, 3, 5, 7), None, 1.7, mode="bilinear", recompute_scale_factor=True),
    sample((2, 3, 5, 7), (9, 3), mode="bicubic", align_corners=True), sample((2, 20, 9, 8), (4, 3), mode="area"),
    sample((2, 3, 4, 5, 6), (3, 8, 6), mode="trilinear"), sample((2, 3, 5, 7), (9, 11), mode="nearest-exact"),
    sample((2, 3, 12, 9), (5, 14), mode="bilinear", antialias=True),
    sample((2, 3, 12, 9), (5, 14), mode="bicubic", antialias=True),
], wrong=lambda: [
    wrong(ValueError, "expected one of the two", (1, 2, 3, 3)),
    wrong(ValueError, "expected one of the two", (1, 2, 3, 3), 4, 2.0),
    wrong(ValueError, "mode='cubic'", (1, 2, 3, 3), 4, mode="cubic"), wrong(ValueError, "has 2 dimensions", (1, 2), 4),
    wrong(NotImplementedError, "mode='linear' expects", (1, 2, 3, 3), 4, mode="linear"),
    wrong(ValueError, "align_corners=True with mode='nearest'", (1, 2, 3, 3), 4, align_corners=True),
    wrong(ValueError, "antialias=True with mode='nearest'", (1, 2, 3, 3), 4, antialias=True),
    wrong(ValueError, "size=(4, 4, 4) has 3 values", (1, 2, 3, 3), (4, 4, 4)),
    wrong(TypeError, "size=1.5", (1, 2, 3, 3), 1.5),
    wrong(ValueError, "size=0", (1, 2, 3, 3), 0), wrong(ValueError, "scale_factor=-1.0", (1, 2, 3, 3), None, -1.0),
    wrong(ValueError, "scale_factor=0.1 makes", (1, 2, 3, 3), None, 0.1),
    wrong(ValueError, "recompute_scale_factor=True with size", (1, 2, 3, 3), 4, recompute_scale_factor=True),
])
def interpolate(input: Array, size=None, scale_factor=None, mode: str = "nearest", align_corners: bool | None = None,
                recompute_scale_factor: bool | None = None, antialias: bool = False) -> Array:
    """Makes images larger or smaller; as ``torch.nn.functional.interpolate``.

    Parameters
    ----------
    input : array, shape (N, C, L), (N, C, H, W) or (N, C, D, H, W), float32 or uint8
        uint8 gives uint8, rounded to the nearest.
    size : int or tuple of int, optional
        The extents of the output.
    scale_factor : float or tuple of float, optional
        Or how much larger they are: ``floor(extent * scale_factor)``.
    mode : {"nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area"}, default "nearest"
        "linear" for one spatial dimension, "bilinear" and "bicubic" for two, "trilinear" for three, the others for any.
    align_corners : bool, optional
        Whether the centres of the corners' pixels lie on each other, else the corners; linear to trilinear and bicubic only.
    recompute_scale_factor : bool, optional
        Coordinates follow from the extents and not from `scale_factor`.
    antialias : bool, default False
        Wider weights where the image gets smaller; bilinear and bicubic only.

    Returns
    -------
    array, shape (N, C, *size), of the input's dtype

    Raises
    ------
    ValueError, TypeError, NotImplementedError
        For arguments that do not go together, naming them and the rule.
    """
    return _resized(input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias, "interpolate")


@function(samples=lambda: [sample((2, 3, 5, 7), (9, 11)), sample((2, 3, 5, 7), None, 2, "bilinear", True)],
          wrong=lambda: [wrong(ValueError, "expected one of the two", (1, 2, 3, 3))])
def upsample(input: Array, size=None, scale_factor=None, mode: str = "nearest", align_corners: bool | None = None) -> Array:
    """As :func:`interpolate`, its name before; as ``torch.nn.functional.upsample``."""
    return _resized(input, size, scale_factor, mode, align_corners, None, False, "upsample")


@function(samples=lambda: [sample((2, 3, 5, 7), (9, 11)), sample((2, 3, 5), None, 2)],
          wrong=lambda: [wrong(ValueError, "expected one of the two", (1, 2, 3, 3))])
def upsample_nearest(input: Array, size=None, scale_factor=None) -> Array:
    """:func:`interpolate` with ``mode="nearest"``; as ``torch.nn.functional.upsample_nearest``."""
    return _resized(input, size, scale_factor, "nearest", None, None, False, "upsample_nearest")


@function(samples=lambda: [sample((2, 3, 5, 7), (9, 11)), sample((2, 3, 5, 7), None, 2)],
          wrong=lambda: [wrong(NotImplementedError, "mode='bilinear' expects", (1, 2, 3), 4)])
def upsample_bilinear(input: Array, size=None, scale_factor=None) -> Array:
    """:func:`interpolate` with ``mode="bilinear"``, corners aligned; as ``torch.nn.functional.upsample_bilinear``."""
    return _resized(input, size, scale_factor, "bilinear", True, None, False, "upsample_bilinear")


def _coordinates(n: int, *rest: int):
    """Coordinates of a sample, off the places where interpolation has a kink."""
    return array(lambda rng: (rng.integers(-6, 6, (n, *rest)) / 5 + 0.07).astype(np.float32))


@function(samples=lambda: [
    sample((2, 3, 5, 6), _coordinates(2, 3, 4, 2), align_corners=False),
    sample((2, 17, 5, 6), _coordinates(2, 3, 4, 2), padding_mode="border", align_corners=True),
    sample((2, 3, 5, 6), _coordinates(2, 3, 4, 2), mode="bicubic", padding_mode="reflection", align_corners=False),
    sample((2, 3, 5, 6), _coordinates(2, 3, 4, 2), mode="nearest", align_corners=False),
    sample((2, 3, 4, 5, 6), _coordinates(2, 2, 3, 4, 3), align_corners=False),
], wrong=lambda: [
    wrong(ValueError, "grid of shape (1, 3, 3, 3)", (1, 2, 4, 4), (1, 3, 3, 3)),
    wrong(ValueError, "grid of shape (2, 3, 3, 2)", (1, 2, 4, 4), (2, 3, 3, 2)),
    wrong(ValueError, "mode='linear'", (1, 2, 4, 4), (1, 3, 3, 2), mode="linear"),
    wrong(ValueError, "padding_mode='zero'", (1, 2, 4, 4), (1, 3, 3, 2), padding_mode="zero"),
    wrong(ValueError, "mode='bicubic' expects", (1, 2, 4, 4, 4), (1, 3, 3, 3, 3), mode="bicubic"),
    wrong(ValueError, "has 3 dimensions", (1, 2, 4), (1, 3, 3, 2)),
])
def grid_sample(input: Array, grid: Array, mode: str = "bilinear", padding_mode: str = "zeros",
                align_corners: bool | None = None) -> Array:
    """Values of images at coordinates; as ``torch.nn.functional.grid_sample``.

    Parameters
    ----------
    input : array, shape (N, C, H, W) or (N, C, D, H, W), float32
    grid : array, shape (N, ``*size``, 2 or 3), float32
        Coordinates x, y (, z) from -1 to 1 over the image. What is no number is outside (of padding "zeros"), or 0.
    mode : {"bilinear", "nearest", "bicubic"}, default "bilinear"
        "bicubic" for two dimensions only.
    padding_mode : {"zeros", "border", "reflection"}, default "zeros"
        What is outside of the image: 0, its edge, or the image mirrored.
    align_corners : bool, optional
        Whether -1 and 1 are the centres of the pixels at the edge, or (default) their outer sides.

    Returns
    -------
    array, shape (N, C, ``*size``), float32

    Raises
    ------
    ValueError, TypeError
        For arguments that do not go together, naming them and the rule.
    """
    name = "grid_sample"
    if input.ndim not in (4, 5):
        fail(name, f"input of shape {input.shape} has {input.ndim} dimensions: expected 4 (N, C, H, W) or 5 (N, C, D, H, W)")
    for what, tensor in (("input", input), ("grid", grid)):
        if tensor.dtype != "float32":
            fail(name, f"{what} has dtype {tensor.dtype}: expected float32", TypeError)
    if mode not in ("bilinear", "nearest", "bicubic"):
        fail(name, f"mode={shown(mode)}: expected one of 'bilinear', 'nearest', 'bicubic'")
    if mode == "bicubic" and input.ndim == 5:
        fail(name, f"mode='bicubic' expects an input of 4 dimensions, got one of shape {input.shape}")
    if padding_mode not in ("zeros", "border", "reflection"):
        fail(name, f"padding_mode={shown(padding_mode)}: expected one of 'zeros', 'border', 'reflection'")
    if align_corners not in (None, True, False):
        fail(name, f"align_corners={shown(align_corners)}: expected True or False", TypeError)
    if grid.ndim != input.ndim or grid.shape[-1] != input.ndim - 2 or int(grid.shape[0]) != int(input.shape[0]):
        fail(name, f"grid of shape {grid.shape} for input of shape {input.shape}: expected "
                   f"(N, {'D, ' * (input.ndim - 4)}H, W, {input.ndim - 2}) of the same N")
    if 0 in input.shape[2:]:
        fail(name, f"input of shape {input.shape}: expected at least one pixel")
    return apply("grid_sample", [input, grid], mode=mode, padding_mode=padding_mode, align_corners=bool(align_corners))


@function(samples=lambda: [sample((2, 2, 3), (2, 3, 4, 5), align_corners=False), sample((2, 2, 3), (2, 3, 1, 5), True),
                           sample((2, 3, 4), (2, 3, 3, 4, 5), align_corners=False)],
          wrong=lambda: [wrong(ValueError, "theta of shape (1, 3, 3)", (1, 3, 3), (1, 2, 4, 4)),
                         wrong(ValueError, "theta of shape (2, 2, 3)", (2, 2, 3), (1, 2, 4, 4)),
                         wrong(ValueError, "size=(1, 2, 0, 4)", (1, 2, 3), (1, 2, 0, 4)),
                         wrong(ValueError, "size=(4, 4)", (1, 2, 3), (4, 4))])
def affine_grid(theta: Array, size: Sequence[int], align_corners: bool | None = None) -> Array:
    """The coordinates of affine maps, for :func:`grid_sample`; as ``torch.nn.functional.affine_grid``.

    Parameters
    ----------
    theta : array, shape (N, 2, 3) or (N, 3, 4), float32
        Matrices from coordinates of the output to coordinates of the input.
    size : sequence of int
        (N, C, H, W) or (N, C, D, H, W): the shape of the output.
    align_corners : bool, optional
        As for :func:`grid_sample`.

    Returns
    -------
    array, shape (N, H, W, 2) or (N, D, H, W, 3), float32

    Raises
    ------
    ValueError, TypeError
        For arguments that do not go together, naming them and the rule.
    """
    name = "affine_grid"
    try:
        sizes = tuple(operator.index(s) for s in size)
    except TypeError:
        fail(name, f"size={shown(size)}: expected integers", TypeError)
    if len(sizes) not in (4, 5) or min(sizes) < 1:
        fail(name, f"size={shown(size)}: expected (N, C, H, W) or (N, C, D, H, W), every extent at least 1")
    if theta.dtype != "float32":
        fail(name, f"theta has dtype {theta.dtype}: expected float32", TypeError)
    if align_corners not in (None, True, False):
        fail(name, f"align_corners={shown(align_corners)}: expected True or False", TypeError)
    dims = len(sizes) - 2
    if theta.ndim != 3 or theta.shape[1:] != (dims, dims + 1) or int(theta.shape[0]) != sizes[0]:
        fail(name, f"theta of shape {theta.shape} for size={shown(size)}: expected {(sizes[0], dims, dims + 1)}")
    return apply("affine_grid", [theta], size=sizes[2:], align_corners=bool(align_corners))
