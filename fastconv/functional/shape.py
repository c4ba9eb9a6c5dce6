"""Unfolding and folding, and addition."""

from __future__ import annotations

import operator
from numbers import Real

import numpy as np

from fastconv._values import shown
from fastconv.engine.eager import Argument, cache, run_op
from fastconv.functional import pointwise
from fastconv.functional._call import activation, call, define
from fastconv.functional.record import Array, fail, function, sample, wrong
from fastconv.functional.slicing import selected
from fastconv.functional.structure import unsqueeze
from fastconv.graph.arrays import as_float32
from fastconv.graph.ir import FLAT, PIXELS, Tensor, apply
from fastconv.kernels.call import Function
from fastconv.ops.views import tensor

WINDOW = ("kernel_size", "dilation", "padding", "stride")
_unfold = define("unfold", "unfold", activation("input"), attrs=WINDOW)
_fold = define("fold", "fold", activation("input", ndim=3), attrs=("output_size", *WINDOW))


def _windows(*values) -> bool:
    """Whether arguments of a window are those of one dimension: a sequence of one, which numbers are not."""
    return any(isinstance(v, (tuple, list)) and len(v) == 1 for v in values)


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """im2col: ``(N, C, spatial...)`` to ``(N, C * taps, windows)``, a channel's taps together.

    Parameters
    ----------
    input : array, of 3 to 5 dimensions, float32
        Of three it is one image, (C, H, W), unless one of the following is a sequence of one integer: then (N, C, L).
    kernel_size, dilation, padding, stride : int or sequence of int
        As for :func:`conv2d`; the argument order is PyTorch's.
    """
    if getattr(input, "ndim", 4) != 3 or _windows(kernel_size, dilation, padding, stride):
        if not isinstance(input, Tensor) or input.layout == PIXELS:
            return _unfold(input, kernel_size, dilation, padding, stride)
    return _unfolded(input, kernel_size, dilation, padding, stride)


@function(name="unfold", samples=lambda: [sample((2, 3, 5, 6), 2), sample((2, 3, 7, 6), (3, 2), (1, 2), (1, 0), (2, 1)),
                                          sample((3, 5, 6), 2, padding=1)],
          wrong=lambda: [wrong(ValueError, "has 2 dimensions", (3, 4), 2),
                         wrong(ValueError, "would be empty", (3, 4, 4), 5)])
def _unfolded(input: Array, kernel_size, dilation=1, padding=0, stride=1) -> Array:
    """:func:`unfold` of images one by one too, wherever they lie."""
    x, window = tensor("unfold", "input", input), (kernel_size, dilation, padding, stride)
    one = x.ndim == 3 and not _windows(*window)
    columns = apply("unfold", [unsqueeze(x, 0) if one else x], **dict(zip(WINDOW, window, strict=True)))
    return selected(columns, 0, 0) if one else columns


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """col2im, the adjoint of :func:`unfold`: ``(N, C * taps, windows)`` summed into ``(N, C, *output_size)``.

    Parameters
    ----------
    input : array, shape (N, C * taps, windows), float32
        Or of one image, without N.
    output_size : sequence of int
        One extent per spatial dimension; an int stands for two.
    kernel_size, dilation, padding, stride : int or sequence of int
    """
    size = _output_size(output_size)
    if getattr(input, "ndim", 3) == 3 and (not isinstance(input, Tensor) or input.layout == PIXELS):
        return _fold(input, size, kernel_size, dilation, padding, stride)
    return _folded(input, size, kernel_size, dilation, padding, stride)


def _output_size(output_size) -> tuple[int, ...]:
    size = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * 2
    try:
        return tuple(operator.index(s) for s in size)
    except TypeError:
        raise TypeError(f"fold: output_size={shown(output_size)}: expected integers") from None


@function(name="fold", samples=lambda: [sample((2, 12, 20), (5, 6), 2), sample((12, 42), (5, 6), 2, 1, 1),
                                        sample((2, 6, 6), (7, 6), (3, 2), (1, 2), (0, 0), (2, 2))],
          wrong=lambda: [wrong(ValueError, "multiple of 4", (1, 9, 4), (3, 3), 2),
                         wrong(TypeError, "output_size=1.5", (1, 8, 4), 1.5, 2)])
def _folded(input: Array, output_size, kernel_size, dilation=1, padding=0, stride=1) -> Array:
    """:func:`fold` of images one by one too, wherever they lie."""
    y, window = tensor("fold", "input", input), (kernel_size, dilation, padding, stride)
    if y.ndim not in (2, 3):
        fail("fold", f"input of shape {y.type.shape} has {y.ndim} dimensions: expected 3 (N, C * taps, windows), or 2")
    image = apply("fold", [unsqueeze(y, 0) if y.ndim == 2 else y], output_size=_output_size(output_size),
                  **dict(zip(WINDOW, window, strict=True)))
    return selected(image, 0, 0) if y.ndim == 2 else image


unfold.record, fold.record = _unfolded.record, _folded.record  # type: ignore[attr-defined]


_FLOAT32 = np.dtype(np.float32)


def add(input, other, *, alpha=1):
    """``input + alpha * other``, of two arrays of shapes that broadcast, or of an array and a number."""
    if type(alpha) is not int or alpha != 1 or \
            type(input) is np.ndarray and (input.dtype is not _FLOAT32 or not 1 < input.ndim < 6):
        return pointwise.add(input, other, alpha=alpha)
    return _add(input, other)


def _repeats(a, b) -> bool:
    """Whether one of these shapes, of equal length, repeats the other along the batch, channels or all of space."""
    def one_of(x, y):
        return x == y or 1 in (x, y)

    return len(a) == len(b) and a[0] == b[0] and one_of(a[1], b[1]) and \
        (a[2:] == b[2:] or all(v == 1 for v in a[2:]) or all(v == 1 for v in b[2:]))


def _add_carefully(input, other):
    given = input, other
    if any(isinstance(v, Tensor) or not 2 <= getattr(v, "ndim", 2) <= 5 or getattr(v, "size", 1) == 0 for v in given) or \
            any(isinstance(v, np.ndarray) and v.dtype.kind in "iub" for v in given):
        return pointwise.add(input, other)
    for name, value, array in (("other", other, input), ("input", input, other)):
        if isinstance(value, Real) and not isinstance(value, bool):
            return call("scale", "add", activation("input" if name == "other" else "other", array), a=1.0, b=float(value))
    x, z = as_float32("add", "input", input), as_float32("add", "other", other)
    dims, batch = max(x.ndim, z.ndim), max((a.shape[0] for a in (x, z) if a.ndim == max(x.ndim, z.ndim) > 0), default=1)
    if 0 in (x.shape[:1] + z.shape[:1]):
        batch = 0
    layouts = [PIXELS if a.ndim == dims and a.shape[:1] == (batch,) else FLAT for a in (x, z)]
    if x.shape != z.shape and not _repeats(x.shape, z.shape):
        return pointwise.add(x, z)
    return run_op("add", [Argument(n, a, layout) for n, a, layout in zip(("input", "other"), (x, z), layouts, strict=True)],
                  {}, tag=("add", ()))


_add = Function(cache.problems, "add", 2, _add_carefully)
