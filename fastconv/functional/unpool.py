"""Pools that are made of others: of powers, back to where maxima were, over windows of random size."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fastconv._values import plain, shown
from fastconv.functional.indexing import extents, integers
from fastconv.functional.pool import avg_pool1d, avg_pool2d, avg_pool3d
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.graph.ir import Tensor, apply
from fastconv.ops.arguments import flag, number
from fastconv.ops.geometry import ints
from fastconv.ops.map import draw, fused
from fastconv.ops.views import tensor

__all__ = ["fractional_max_pool2d", "fractional_max_pool2d_with_indices", "fractional_max_pool3d",
           "fractional_max_pool3d_with_indices", "lp_pool1d", "lp_pool2d", "lp_pool3d", "max_unpool1d", "max_unpool2d",
           "max_unpool3d"]

MEANS = {1: avg_pool1d, 2: avg_pool2d, 3: avg_pool3d}


def images(op: str, name: str, x: Tensor, dims: int) -> tuple[Tensor, bool]:
    """A batch of images, and whether it was one image without the batch's dimension."""
    if x.ndim not in (dims + 1, dims + 2):
        fail(op, f"{name} of shape {extents(x)} has {x.ndim} dimensions: expected {dims + 2}, or {dims + 1} for one image")
    return (x.unsqueeze(0), True) if x.ndim == dims + 1 else (x, False)  # type: ignore[attr-defined]


# ---- powers -------------------------------------------------------------------------------------------------------------


def powers(op: str, dims: int, input, norm_type, kernel_size, stride, ceil_mode) -> Tensor:
    x, p = tensor(op, "input", input), float(number(op, "norm_type", norm_type))
    kernel = ints(op, "kernel_size", plain(kernel_size), dims, 1)
    if p == 0:
        fail(op, "norm_type=0: expected another number")
    mean = MEANS[dims](fused(lambda v: v.pow(p), x), kernel, stride, 0, flag(op, "ceil_mode", ceil_mode))
    count = float(prod(kernel))
    return fused(lambda y: (y.sign() * y.abs().relu() * count).pow(1.0 / p), mean)


POWERS_WRONG = [(ValueError, "norm_type=0", 0.0, 2), (ValueError, "kernel_size=0", 2.0, 0),
                (TypeError, "norm_type='a'", "a", 2)]


@function(samples=lambda: [sample((2, 3, 9), 2.0, 3), sample((2, 3, 8), 3.0, 2, 1), sample((3, 7), 2, 2, None, True)],
          wrong=lambda: [wrong(error, text, (2, 3, 9), *rest) for error, text, *rest in POWERS_WRONG])
def lp_pool1d(input: Array, norm_type: float, kernel_size, stride=None, ceil_mode: bool = False) -> Array:
    """The p-norm over windows of ``(N, C, L)``; see :func:`lp_pool2d`."""
    return powers("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


@function(samples=lambda: [sample((2, 3, 9, 8), 2.0, 3), sample((2, 3, 8, 7), 2, (2, 3), 1),
                           sample((3, 7, 6), 2, 2, None, True)],
          wrong=lambda: [wrong(error, text, (2, 3, 9, 9), *rest) for error, text, *rest in POWERS_WRONG])
def lp_pool2d(input: Array, norm_type: float, kernel_size, stride=None, ceil_mode: bool = False) -> Array:
    """The p-norm over windows of ``(N, C, H, W)``: ``(sum of x ** p) ** (1 / p)``, of one image as well.

    Parameters
    ----------
    input : array, float32
    norm_type : float
        p: inf is max_pool2d's.
    kernel_size : int or sequence of int
    stride : int or sequence of int, optional
        Default ``kernel_size``.
    ceil_mode : bool
        Whether a last window that is only partly inside counts.

    Raises
    ------
    TypeError, ValueError
    """
    return powers("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


@function(samples=lambda: [sample((2, 3, 5, 6, 4), 2.0, 2), sample((1, 2, 5, 6, 4), 2, (2, 3, 1), 1)],
          wrong=lambda: [wrong(error, text, (2, 3, 4, 4, 4), *rest) for error, text, *rest in POWERS_WRONG])
def lp_pool3d(input: Array, norm_type: float, kernel_size, stride=None, ceil_mode: bool = False) -> Array:
    """The p-norm over windows of ``(N, C, D, H, W)``; see :func:`lp_pool2d`."""
    return powers("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)


# ---- back to where maxima were ------------------------------------------------------------------------------------------


def unpooled(op: str, dims: int, input, indices, kernel_size, stride, padding, output_size) -> Tensor:
    x, where = tensor(op, "input", input), tensor(op, "indices", indices)
    if where.dtype != "int64":
        fail(op, f"indices has dtype {where.dtype}: expected int64", TypeError)
    if extents(where) != extents(x):
        fail(op, f"indices of shape {extents(where)}: expected {extents(x)}, the shape of input")
    (x, one), (where, _) = images(op, "input", x, dims), images(op, "indices", where, dims)
    kernel = ints(op, "kernel_size", plain(kernel_size), dims, 1)
    steps = kernel if stride is None else ints(op, "stride", plain(stride), dims, 1)
    pads = ints(op, "padding", plain(padding), dims, 0)
    size = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(extents(x)[2:], steps, pads, kernel, strict=True))
    if output_size is not None:
        given = tuple(plain(list(output_size)))
        given = given[-dims:] if len(given) in (dims + 1, dims + 2) else given
        wanted = ints(op, "output_size", given, dims, 1)
        for want, usual, s in zip(wanted, size, steps, strict=True):
            if not usual - s < want < usual + s:
                fail(op, f"output_size={shown(output_size)}: expected less than stride={steps} from {size}")
        size = wanted
    shape = (*extents(x)[:2], prod(size))
    flat = apply("scatter", [None, x, where], op="set", what="indices", x_map=[0, 1, None], index_map=list(range(x.ndim)),
                 shape=shape, layout="dense" if x.batched else "flat")
    made = apply("reshape", [flat], shape=(*shape[:2], *size), batch=flat.batched)
    return made.squeeze(0) if one else made


def places(shape: Sequence[int], size: int, one: bool = False):
    """Of a sample: different places in images of so many pixels; of one image without the batch's dimension."""
    count, rows = prod(shape[2:]), prod(shape[:2])
    return array(lambda g: np.stack([g.permutation(size)[:count] for _ in range(rows)]).reshape(shape[1:] if one else shape))


UNPOOL_WRONG = [(TypeError, "indices has dtype float32", lambda shape, size: shape),
                (IndexError, "indices has the value", lambda shape, size: integers(size + 1, *shape, low=size))]


@function(samples=lambda: [sample((2, 3, 4), places((2, 3, 4), 8), 2),
                           sample((2, 3, 4), places((2, 3, 4), 9), 2, 2, 0, (9,))],
          wrong=lambda: [wrong(error, text, (2, 3, 4), make((2, 3, 4), 8), 2) for error, text, make in UNPOOL_WRONG])
def max_unpool1d(input: Array, indices: Array, kernel_size, stride=None, padding=0, output_size=None) -> Array:
    """Maxima put back to where they were, zeros elsewhere, of ``(N, C, L)``; see :func:`max_unpool2d`."""
    return unpooled("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


@function(samples=lambda: [sample((2, 3, 4, 3), places((2, 3, 4, 3), 48), 2),
                           sample((2, 3, 4, 3), places((2, 3, 4, 3), 63), 3, 2, 0, (9, 7)),
                           sample((3, 2, 2), places((1, 3, 2, 2), 16, one=True), 2)],
          wrong=lambda: [*(wrong(error, text, (2, 3, 4, 3), make((2, 3, 4, 3), 48), 2)
                           for error, text, make in UNPOOL_WRONG),
                         wrong(ValueError, "output_size=(9, 9)", (1, 1, 2, 2), places((1, 1, 2, 2), 16), 2,
                               output_size=(9, 9))])
def max_unpool2d(input: Array, indices: Array, kernel_size, stride=None, padding=0, output_size=None) -> Array:
    """Maxima put back to where they were, zeros elsewhere.

    Parameters
    ----------
    input : array, shape (N, C, P, Q) or (C, P, Q), float32
    indices : array
        int64, of its shape: the places that ``max_pool2d(..., return_indices=True)`` gave, row-major in their image.
    kernel_size, stride, padding : int or sequence of int
        Those of the pool.
    output_size : sequence of int, optional
        The image's size, or whole shape; less than the stride from the default, ``(P - 1) * stride - 2 * padding +
        kernel_size``.

    Raises
    ------
    IndexError, TypeError, ValueError
    """
    return unpooled("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


@function(samples=lambda: [sample((2, 3, 2, 2, 3), places((2, 3, 2, 2, 3), 96), 2)],
          wrong=lambda: [wrong(error, text, (2, 3, 2, 2, 3), make((2, 3, 2, 2, 3), 96), 2)
                         for error, text, make in UNPOOL_WRONG])
def max_unpool3d(input: Array, indices: Array, kernel_size, stride=None, padding=0, output_size=None) -> Array:
    """Maxima put back to where they were, zeros elsewhere, of ``(N, C, D, H, W)``; see :func:`max_unpool2d`."""
    return unpooled("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


# ---- windows of random places -------------------------------------------------------------------------------------------


def fractional(op: str, dims: int, input, kernel_size, output_size, output_ratio, random_samples) -> tuple[Tensor, Tensor]:
    """Values and places of the maxima (B. Graham, "Fractional max-pooling", 2014), windows as PyTorch cuts them."""
    x, one = images(op, "input", tensor(op, "input", input), dims)
    n, c, *size = extents(x)
    kernel = ints(op, "kernel_size", plain(kernel_size), dims, 1)
    if (output_size is None) == (output_ratio is None):
        fail(op, "expected either output_size or output_ratio")
    if output_size is not None:
        out = ints(op, "output_size", plain(output_size), dims, 1)
    else:
        ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * dims
        if len(ratios) != dims or any(not 0 < number(op, "output_ratio", r) < 1 for r in ratios):
            fail(op, f"output_ratio={shown(output_ratio)}: expected {dims} numbers between 0 and 1")
        out = tuple(int(length * r) for length, r in zip(size, ratios, strict=True))
    for d, (length, k, count) in enumerate(zip(size, kernel, out, strict=True)):
        if count + k - 1 > length or count < 1:
            fail(op, f"output_size={out} with kernel_size={kernel}: expected at most {length - k + 1} windows in spatial "
                     f"dimension {d} of {length}")
    anchor = x.flatten(2)[:, :, :1].expand(-1, -1, dims)  # type: ignore[attr-defined,index]
    if random_samples is None:
        samples = fused(lambda a, r: r + 0.0, anchor, draw(anchor, (n, c, dims)))
    else:
        samples = tensor(op, "_random_samples", random_samples)
        if extents(samples) != (n, c, dims):
            fail(op, f"_random_samples of shape {extents(samples)}: expected {(n, c, dims)}")
    rank, indices, flat = 2 + 2 * dims, [], None
    for d, (length, k, count) in enumerate(zip(size, kernel, out, strict=True)):
        alpha = float(np.float32(length - k) / np.float32(count - 1)) if count > 1 else 0.0
        last = float(length - k)
        of = d if dims == 3 else 1 - d  # in PyTorch the first of two is for the width
        at = samples[:, :, of: of + 1, None]  # type: ignore[index]
        number_of = tensor(op, "windows", np.arange(count, dtype=np.float32).reshape(count, 1))
        tap = tensor(op, "taps", np.arange(k, dtype=np.float32).reshape(1, k))
        end = float(count - 1)
        place = fused(lambda s, i, t, alpha=alpha, last=last, end=end: t + i.eq(end).where(
            last, ((i + s) * alpha).trunc() - (s * alpha).trunc()), at, number_of, tap, dtype="int64")
        shape = [n, c, *(1,) * (2 * dims)]
        shape[2 + 2 * d: 4 + 2 * d] = [count, k]
        indices.append(apply("reshape", [place], shape=tuple(shape), batch=place.batched))
        flat = indices[-1] if flat is None else fused(lambda f, p, length=float(length): f * length + p, flat, indices[-1],
                                                      dtype="int64")
    taken = apply("gather", [x, *indices], x_map=[0, 1, *(None,) * dims], index_map=list(range(rank)), checked=True)
    order = [0, 1, *range(2, rank, 2), *range(3, rank, 2)]

    def windows(t: Tensor) -> Tensor:
        t = t.permute(order)  # type: ignore[attr-defined]
        return apply("reshape", [t], shape=(n, c, *out, prod(kernel)), batch=t.batched)

    best, which = apply("sort", [windows(taken)], what="topk", dim=2 + dims, count=1, descending=True)
    assert flat is not None
    places_ = apply("gather", [windows(flat), which], x_map=[*range(2 + dims), None], index_map=list(range(3 + dims)),
                    checked=True)
    found = (best.squeeze(-1), places_.squeeze(-1))
    return tuple(y.squeeze(0) for y in found) if one else found  # type: ignore[return-value]


def given(*shape: int):
    """Of a sample: numbers in [0, 1)."""
    return array(lambda g: g.random(shape).astype(np.float32))


def _fractional(dims: int, letters: str, shape: tuple[int, ...], size: tuple[int, ...]) -> tuple[Any, Any]:
    name = f"fractional_max_pool{dims}d"

    def pool_with_indices(input: Array, kernel_size, output_size=None, output_ratio=None, return_indices: bool = False,
                          _random_samples: Array | None = None) -> Array:
        flag(name, "return_indices", return_indices)
        return fractional(name, dims, input, kernel_size, output_size, output_ratio, _random_samples)

    def pool(input: Array, kernel_size, output_size=None, output_ratio=None, return_indices: bool = False,
             _random_samples: Array | None = None) -> Array:
        found = fractional(name, dims, input, kernel_size, output_size, output_ratio, _random_samples)
        return found if flag(name, "return_indices", return_indices) else found[0]

    pool.__doc__ = f"""Maxima over windows of ``({letters})`` whose places are drawn: the output is a fraction of the input.

    Parameters
    ----------
    input : array, float32
        Also one image, without N.
    kernel_size : int or sequence of int
    output_size : int or sequence of int, optional
    output_ratio : float or sequence of float, optional
        Between 0 and 1; this or the size.
    return_indices : bool
        Whether each maximum's row-major place in its image is given as well, int64.
    _random_samples : array, optional
        (N, C, {dims}) in [0, 1): in the place of draws.

    Raises
    ------
    TypeError, ValueError
    """
    pool_with_indices.__doc__ = f":func:`{name}` with ``return_indices=True``."
    draws = given(*shape[:2], dims)  # PyTorch wants no gradient of them: functional/test_indexing.py has the input's
    made = []
    for body, own in ((pool, name), (pool_with_indices, f"{name}_with_indices")):
        body.__name__ = body.__qualname__ = own
        refused = [wrong(ValueError, "either output_size or output_ratio", shape, 2),
                   wrong(ValueError, "expected at most", shape, 2, shape[2:])]
        made.append(function(name=own, differentiable=False, wrong=lambda refused=refused if own == name else []: refused,
                             samples=lambda: [sample(shape, 2, size, None, False, draws),
                                              sample(shape, (2,) * dims, None, (0.5,) * dims, False, draws)])(body))
    return made[0], made[1]


fractional_max_pool2d, fractional_max_pool2d_with_indices = _fractional(2, "N, C, H, W", (2, 3, 9, 8), (4, 5))
fractional_max_pool3d, fractional_max_pool3d_with_indices = _fractional(3, "N, C, D, H, W", (2, 2, 6, 7, 5), (3, 4, 2))
