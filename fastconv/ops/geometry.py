"""Sizes, strides and taps of windows over 1, 2 or 3 spatial dimensions, checked once and normalised."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import product

from fastconv._values import shown
from fastconv.graph.ir import fail

LIMIT = 2**31  # offsets of taps are 32-bit integers
Pairs = tuple[tuple[int, int], ...]


def ints(op: str, name: str, value, dims: int, least: int) -> tuple[int, ...]:
    """``value`` as one integer per spatial dimension, each at least ``least``; an int stands for all."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims
    try:
        values = tuple(operator.index(v) for v in values)
    except TypeError:
        fail(op, f"{name}={shown(value)}: expected an integer or {dims} integers", TypeError)
    if any(isinstance(v, bool) for v in (value if isinstance(value, (tuple, list)) else (value,))):
        fail(op, f"{name}={shown(value)}: expected an integer or {dims} integers", TypeError)
    if len(values) == 1:
        values *= dims
    if len(values) != dims:
        fail(op, f"{name}={shown(value)} has {len(values)} values: expected 1 or {dims}, one per spatial dimension")
    if any(v < least for v in values):
        fail(op, f"{name}={shown(value)} must be at least {least}")
    if any(v >= LIMIT for v in values):
        fail(op, f"{name}={shown(value)} must be below 2**31")
    return values


def pads(op: str, padding, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Pairs:
    """Padding as (front, back) per dimension; takes an int, one int per dimension, pairs, "valid" and "same"."""
    dims = len(kernel)
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * dims
        if padding == "same":
            if any(s != 1 for s in stride):
                fail(op, f"padding='same' needs stride 1, not stride={tuple(stride)}")
            total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
            return tuple((t // 2, t - t // 2) for t in total)
        fail(op, f"padding={shown(padding)}: expected integers, 'valid' or 'same'")
    if isinstance(padding, (tuple, list)) and any(isinstance(p, (tuple, list)) for p in padding):
        if len(padding) != dims or any(not isinstance(p, (tuple, list)) or len(p) != 2 for p in padding):
            fail(op, f"padding={shown(padding)}: expected {dims} pairs (front, back)")
        return tuple(ints(op, "padding", tuple(p), 2, 0) for p in padding)  # type: ignore[misc]
    return tuple((p, p) for p in ints(op, "padding", padding, dims, 0))


def output_size(op: str, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Pairs,
                dilation: Sequence[int]) -> tuple[int, ...]:
    """Extents of the output; an extent below 1 is an error that names the sizes."""
    out = []
    for i, (x, k, s, (a, b), d) in enumerate(zip(size, kernel, stride, padding, dilation, strict=True)):
        span = d * (k - 1) + 1
        if x + a + b >= LIMIT or span >= LIMIT:
            fail(op, f"spatial dimension {i} with {x} elements, padding {a}+{b}, kernel_size={k} and dilation={d} "
                     "spans 2**31 elements or more")
        if x + a + b < span:
            fail(op, f"the output would be empty: spatial dimension {i} has {x} elements and padding {a}+{b}, but "
                     f"kernel_size={k} with dilation={d} spans {span}")
        out.append((x + a + b - span) // s + 1)
    return tuple(out)


def to3(values: Sequence, fill) -> tuple:
    """Values per spatial dimension as (D, H, W), with ``fill`` for dimensions that are not there."""
    values = tuple(values)
    return (fill,) * (3 - len(values)) + values


def window_taps(kernel3: Sequence[int], low3: Sequence[int], dilation3: Sequence[int]) -> list[tuple[int, int, int]]:
    """Offsets of the taps of a window, in order, relative to output position times stride."""
    return [tuple(i * d - p for i, d, p in zip(index, dilation3, low3, strict=True))  # type: ignore[misc]
            for index in product(*(range(k) for k in kernel3))]
