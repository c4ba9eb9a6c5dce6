"""Unfolding and folding, and addition."""

from __future__ import annotations

import operator
from numbers import Real

from fastconv._values import shown
from fastconv.functional._call import activation, call, define
from fastconv.graph.arrays import as_float32
from fastconv.graph.eager import Argument, cache, run_op
from fastconv.graph.ir import FLAT, PIXELS, Tensor, apply, showing
from fastconv.kernels.call import Function

WINDOW = ("kernel_size", "dilation", "padding", "stride")
_unfold = define("unfold", "unfold", activation("input"), attrs=WINDOW)
_fold = define("fold", "fold", activation("input", ndim=3), attrs=("output_size", *WINDOW))


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """im2col: ``(N, C, spatial...)`` to ``(N, C * taps, windows)``, a channel's taps together.

    Parameters
    ----------
    input : array, of 3 to 5 dimensions, float32
    kernel_size, dilation, padding, stride : int or sequence of int
        As for :func:`conv2d`; the argument order is PyTorch's.
    """
    return _unfold(input, kernel_size, dilation, padding, stride)


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """col2im, the adjoint of :func:`unfold`: ``(N, C * taps, windows)`` summed into ``(N, C, *output_size)``.

    Parameters
    ----------
    input : array, shape (N, C * taps, windows), float32
    output_size : sequence of int
        One extent per spatial dimension; an int stands for two.
    kernel_size, dilation, padding, stride : int or sequence of int
    """
    size = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * 2
    try:
        size = tuple(operator.index(s) for s in size)
    except TypeError:
        raise TypeError(f"fold: output_size={shown(output_size)}: expected integers") from None
    return _fold(input, size, kernel_size, dilation, padding, stride)


def add(input, other):
    """``input + other``, of two arrays or of an array and a number.

    An operand may have extent 1, or lack leading dimensions, where the other has more: along channels, along all spatial
    dimensions, along the batch.
    """
    return _add(input, other)


def _add_carefully(input, other):
    if isinstance(input, Tensor) or isinstance(other, Tensor):
        with showing("add"):
            return apply("add", [input, other])
    for name, value, array in (("other", other, input), ("input", input, other)):
        if isinstance(value, Real) and not isinstance(value, bool):
            return call("scale", "add", activation("input" if name == "other" else "other", array), a=1.0, b=float(value))
    x, z = as_float32("add", "input", input), as_float32("add", "other", other)
    dims, batch = max(x.ndim, z.ndim), max((a.shape[0] for a in (x, z) if a.ndim == max(x.ndim, z.ndim) > 0), default=1)
    if 0 in (x.shape[:1] + z.shape[:1]):
        batch = 0
    layouts = [PIXELS if a.ndim == dims and a.shape[:1] == (batch,) else FLAT for a in (x, z)]
    return run_op("add", [Argument(n, a, layout) for n, a, layout in zip(("input", "other"), (x, z), layouts, strict=True)],
                  {}, tag=("add", ()))


_add = Function(cache.problems, "add", 2, _add_carefully)
