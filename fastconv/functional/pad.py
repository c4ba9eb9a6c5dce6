"""Padding and its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from fastconv.functional._call import activation, define, shape_like, shape_of
from fastconv.functional.record import Array, function, sample, wrong
from fastconv.graph.ir import PIXELS, Tensor
from fastconv.ops.copy import Map, Part, assemble, identity
from fastconv.ops.pad import kept, padded_shape
from fastconv.ops.views import tensor

_pad = define("pad", "pad", activation("input"), attrs=("pad", "mode", "value"))
_pad_backward = define("pad_backward", "pad_backward", activation("grad_output"), attrs=("input_shape", "pad", "mode"))


def pad(input, pad, mode="constant", value=None):
    """Makes dimensions longer or, with negative numbers, shorter; as ``torch.nn.functional.pad``.

    Parameters
    ----------
    input : array, any shape and dtype
    pad : sequence of int
        (front, back) of the last dimension, then of the one before, and so on, for as many dimensions as are given.
    mode : {"constant", "reflect", "replicate", "circular"}, default "constant"
        "reflect" mirrors without repeating the edge, and needs less padding than there are elements; "replicate" repeats
        the edge; "circular" goes on at the other end, with at most as much padding as there are elements.
    value : float, optional
        What "constant" fills in; default 0.

    Returns
    -------
    ndarray, float32

    Raises
    ------
    TypeError, ValueError
        For arguments that do not go together, naming them and the rule.
    """
    return _pad(input, pad, mode, value) if _fits(input, pad, mode) else _padded(input, pad, mode, value)


def _fits(input, pad, mode) -> bool:
    """Whether this is padding of pixels, which has kernels of its own."""
    if isinstance(input, Tensor):
        suits = input.layout == PIXELS and input.dtype == "float32"
    else:
        suits = isinstance(input, np.ndarray) and input.dtype == np.float32 and input.ndim <= 5
    if not suits or not 3 <= input.ndim or not isinstance(pad, (tuple, list)):
        return False
    return len(pad) < 2 * input.ndim - 1 if mode == "constant" else len(pad) == 2 * input.ndim - 4


def _segments(mode: str, size: int, low: int, high: int) -> list[tuple[int, int, int, int]]:
    """(first, step, where to, how many) of what a dimension's elements are laid to; a step of 0 repeats one."""
    first, left = max(0, -low), kept(size, low, high)
    found = [(first, 1, max(0, low), left)]
    if mode == "reflect":
        found += [(low, -1, 0, low), (size - 2, -1, low + size, high)]
    elif mode == "replicate":
        found += [(0, 0, 0, low), (size - 1, 0, low + size, high)]
    elif mode == "circular":
        found += [(first + left - low, 1, 0, low), (first, 1, max(0, low) + left, high)]
    return [segment for segment in found if segment[3] > 0]


@function(name="pad", samples=lambda: [
    sample((2, 3), (1, 2)), sample((2, 3), (1, 2, 0, 3), "constant", 2.5), sample((2, 3, 4), (1, -1, -1, 2, 1, 0)),
    sample((2, 3, 4, 5), (2, 1, 1, 3), "reflect"), sample((3, 4, 5), (2, 1, 1, 0),
                                                          "replicate"), sample((4, 5), (2, -1), "reflect"),
    sample((2, 3, 4, 5), (2, 5, 1, -1), "circular"), sample((2, 3, 4), (3, 4),
                                                            "circular"), sample((3, 4), (-1, 2), "replicate")],
          wrong=lambda: [wrong(ValueError, "mode='reflect' needs less padding", (3, 4), (4, 0), "reflect"),
                         wrong(ValueError, "mode='mirror'", (3, 4), (1, 1),
                               "mirror"), wrong(ValueError, "3 values", (3, 4), (1, 1, 1)),
                         wrong(TypeError, "expected integers", (3, 4),
                               (1, 1.5)), wrong(ValueError, "6 values", (3, 4), (1,) * 6),
                         wrong(ValueError, "takes no value", (3, 4), (1, 1), "reflect", 2.0),
                         wrong(ValueError, "cropping takes away more", (3, 4), (-3, -2)),
                         wrong(ValueError, "at most as much padding", (3, 4), (5, 0), "circular")])
def _padded(input: Array, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Array:
    """:func:`pad` of any rank and dtype, on any dimensions."""
    x = tensor("pad", "input", input)
    shape = x.type.shape
    attrs: dict = {"pad": pad, "mode": mode, "value": value}
    out = padded_shape("pad", shape, attrs, everything=True)
    parts = []
    for segments in product(*(_segments(mode, n, *p) for n, p in zip(shape, attrs["pads"], strict=True))):
        count = tuple(s[3] for s in segments)
        source = Map(count, tuple(s[0] for s in segments), tuple(((d, s[1]),) if s[1] else () for d,
                                                                 s in enumerate(segments)))
        parts.append(Part(0, source, identity(count, [s[2] for s in segments])))
    return assemble([x], parts, out, attrs["value"] if mode == "constant" else None, disjoint=mode == "constant")


pad.record = _padded.record  # type: ignore[attr-defined]


def pad_backward(grad_output, input_shape, pad, mode="constant"):
    """Gradient of :func:`pad`: each element of the input sums over the places that it went to.

    Parameters
    ----------
    grad_output : array, float32
        Gradient with respect to the output.
    input_shape : tuple of int
        The shape of the input; its batch is not padded.
    pad, mode
        As for :func:`pad`.

    Returns
    -------
    ndarray, shape ``input_shape``, float32
    """
    ndim = len(shape_of("pad_backward", activation("grad_output", grad_output)))
    shape = shape_like("pad_backward", "input_shape", input_shape, ndim)
    return _pad_backward(grad_output, shape, pad, mode)
