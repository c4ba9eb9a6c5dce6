"""Reshaping and joining."""

from __future__ import annotations

import operator
from math import prod
from numbers import Real

import numpy as np

from fastconv._values import shown
from fastconv.functional._call import activation, call, define
from fastconv.graph.arrays import as_float32
from fastconv.graph.eager import Argument, cache, run_op
from fastconv.graph.ir import FLAT, PIXELS, Tensor, apply, showing
from fastconv.graph.plan import check_memory
from fastconv.kernels.call import Function

WINDOW = ("kernel_size", "dilation", "padding", "stride")
_unfold = define("unfold", "unfold", activation("input"), attrs=WINDOW)
_fold = define("fold", "fold", activation("input", ndim=3), attrs=("output_size", *WINDOW))


def flatten(input, start_dim=0, end_dim=-1):
    """Joins the axes from ``start_dim`` to ``end_dim``, both included, in NCHW order.

    Of a symbolic tensor the batch stays by itself: ``start_dim`` is at least 1. The result is a fresh array.
    """
    if isinstance(input, Tensor):
        return call("flatten", "flatten", activation("input", input), start_dim=start_dim, end_dim=end_dim)
    x = as_float32("flatten", "input", input)
    dims = max(1, x.ndim)
    try:
        start, end = operator.index(start_dim), operator.index(end_dim)
    except TypeError:
        raise TypeError(f"flatten: start_dim={shown(start_dim)}, end_dim={shown(end_dim)}: expected integers") from None
    if not -dims <= start < dims or not -dims <= end < dims:
        raise ValueError(f"flatten: start_dim={start}, end_dim={end}: input of shape {x.shape} has {x.ndim} dimensions")
    start, end = start % dims, end % dims
    if start > end:
        raise ValueError(f"flatten: start_dim={start_dim} is behind end_dim={end_dim}: input of shape {x.shape}")
    return np.array(x, order="C").reshape(*x.shape[:start], prod(x.shape[start:end + 1]), *x.shape[end + 1:])


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


def cat(tensors, dim=0):
    """Joins arrays along ``dim``; all other extents must agree. Of symbolic tensors not along the batch."""
    if not isinstance(tensors, (tuple, list)) or not tensors:
        raise TypeError(f"cat: tensors={tensors!r:.80}: expected a sequence of at least one")
    if any(isinstance(t, Tensor) for t in tensors):
        return call("concat", "cat", *(activation(f"tensors[{i}]", t) for i, t in enumerate(tensors)), dim=dim)
    arrays = [as_float32("cat", f"tensors[{i}]", t) for i, t in enumerate(tensors)]
    first = arrays[0].shape
    if isinstance(dim, bool) or not isinstance(dim, (int, np.integer)):
        raise TypeError(f"cat: dim={shown(dim)}: expected an integer")
    if not -len(first) <= dim < len(first):
        raise ValueError(f"cat: dim={dim}: tensors[0] of shape {first} has {len(first)} dimensions")
    axis = dim % len(first)
    for i, a in enumerate(arrays):
        if a.ndim != len(first) or a.shape[:axis] + a.shape[axis + 1:] != first[:axis] + first[axis + 1:]:
            raise ValueError(f"cat: tensors[{i}] of shape {a.shape}: expected the extents of tensors[0], {first}, but for "
                             f"dim={dim}")
    try:
        check_memory(4 * sum(a.size for a in arrays))
    except MemoryError as error:
        raise MemoryError(f"cat: tensors of shapes {[a.shape for a in arrays]}: {error}") from None
    return np.concatenate(arrays, axis)


concat = cat


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
