"""Sliding windows over the spatial axes: what convolution and pooling have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def f64(array):
    """``array`` as float64, in which everything here is computed."""
    return np.asarray(array, dtype=np.float64)


def per_axis(value, n):
    """One int per spatial axis, from an int or a sequence of ``n``."""
    values = (value,) * n if np.ndim(value) == 0 else tuple(value)
    if len(values) != n:
        raise ValueError(f"{value!r} has {len(values)} entries for {n} spatial axes")
    return tuple(int(v) for v in values)


def per_axis_pairs(padding, n):
    """``(low, high)`` per spatial axis, from an int, ``n`` ints or ``n`` pairs."""
    values = (padding,) * n if np.ndim(padding) == 0 else tuple(padding)
    if len(values) != n:
        raise ValueError(f"padding {padding!r} has {len(values)} entries for {n} spatial axes")
    return tuple((int(v), int(v)) if np.ndim(v) == 0 else (int(v[0]), int(v[1])) for v in values)


@dataclass(frozen=True)
class Windows:
    """The windows of one layer; every field has one entry per spatial axis.

    Window ``o`` of an axis reads the positions ``o * stride - low + tap * dilation`` for each tap of the kernel.
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    out: tuple[int, ...]

    @classmethod
    def of(cls, size, kernel_size, stride, padding, dilation, ceil_mode=False):
        """Normalise the arguments and count the windows."""
        size = tuple(size)
        n = len(size)
        kernel, stride, dilation = per_axis(kernel_size, n), per_axis(stride, n), per_axis(dilation, n)
        padding = per_axis_pairs(padding, n)
        out = []
        for length, k, s, (low, high), d in zip(size, kernel, stride, padding, dilation, strict=True):
            room = length + low + high - (d * (k - 1) + 1)
            count = (-(-room // s) if ceil_mode else room // s) + 1
            # PyTorch: the last window must start inside the input or the low padding, not in the high padding.
            if ceil_mode and (count - 1) * s >= length + low:
                count -= 1
            if count < 1:
                raise ValueError(f"kernel {kernel}, dilation {dilation} does not fit size {size}, padding {padding}")
            out.append(count)
        return cls(size, kernel, stride, padding, dilation, tuple(out))

    def pad(self, x, value=0.0):
        """``x`` with its padding, and as much more as the last window needs (ceil_mode)."""
        return np.pad(x, [(0, 0)] * (x.ndim - len(self.size)) + self._extent(), constant_values=value)

    def unpad(self, x):
        """The inverse of ``pad``: the part of ``x`` that is not padding."""
        return x[(..., *(slice(low, low + length) for (low, _), length in zip(self.padding, self.size, strict=True)))]

    def _extent(self):
        extent = []
        for axis, (low, high) in enumerate(self.padding):
            last = (self.out[axis] - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis]
            extent.append((low, max(high, last + 1 - low - self.size[axis])))
        return extent

    def taps(self):
        """Each tap in row-major order, with the index of what it reads of the padded input: one element per window."""
        for tap in np.ndindex(*self.kernel):
            begin = [t * d for t, d in zip(tap, self.dilation, strict=True)]
            axes = zip(begin, self.out, self.stride, strict=True)
            yield tap, (..., *(slice(b, b + (o - 1) * s + 1, s) for b, o, s in axes))
