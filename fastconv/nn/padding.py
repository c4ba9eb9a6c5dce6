"""Padding layers."""

from __future__ import annotations

import operator

from fastconv._values import shown
from fastconv.graph.ir import apply, fail
from fastconv.nn._check import number, one_image_too
from fastconv.nn.conv import SHAPES
from fastconv.nn.module import Module


class _Pad(Module):
    """Pads the spatial dimensions; ``padding`` is kept as PyTorch does, (front, back) of the last dimension first."""

    dims: int
    mode: str
    value = 0.0

    def __init__(self, padding):
        super().__init__()
        layer, count = type(self).__name__, 2 * self.dims
        values = padding if isinstance(padding, (tuple, list)) else (padding,) * count
        try:
            if any(isinstance(v, bool) for v in values):
                raise TypeError
            self.padding = tuple(operator.index(v) for v in values)
        except TypeError:
            raise TypeError(f"{layer}: padding={shown(padding)}: expected an integer or {count} integers") from None
        if len(self.padding) != count:
            raise ValueError(f"{layer}: padding={shown(padding)} has {len(self.padding)} values: expected 1 or {count}, "
                             "(front, back) of the last dimension first")

    @one_image_too
    def forward(self, x):
        if x.ndim != self.dims + 2:
            fail(type(self).__name__, f"input of shape {x.shape} has {x.ndim} dimensions: expected {SHAPES[self.dims]}")
        return apply("pad", [x], pad=self.padding, mode=self.mode, value=self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = number(type(self).__name__, "value", value, float("-inf"), float("inf"))

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class _ZeroPad(_Pad):
    mode = "constant"


class _ReflectionPad(_Pad):
    mode = "reflect"


class _ReplicationPad(_Pad):
    mode = "replicate"


class _CircularPad(_Pad):
    mode = "circular"


class ConstantPad1d(_ConstantPad):
    """A constant around (N, C, L), as ``torch.nn.ConstantPad1d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right); an integer stands for all. Negative numbers crop.
    value : float
    """

    dims = 1


class ConstantPad2d(_ConstantPad):
    """A constant around (N, C, H, W), as ``torch.nn.ConstantPad2d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right, top, bottom); an integer stands for all. Negative numbers crop.
    value : float
    """

    dims = 2


class ConstantPad3d(_ConstantPad):
    """A constant around (N, C, D, H, W), as ``torch.nn.ConstantPad3d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right, top, bottom, front, back); an integer stands for all. Negative numbers crop.
    value : float
    """

    dims = 3


class ZeroPad1d(_ZeroPad):
    """Zeros around (N, C, L), as ``torch.nn.ZeroPad1d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right); an integer stands for all. Negative numbers crop.
    """

    dims = 1


class ZeroPad2d(_ZeroPad):
    """Zeros around (N, C, H, W), as ``torch.nn.ZeroPad2d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right, top, bottom); an integer stands for all. Negative numbers crop.
    """

    dims = 2


class ZeroPad3d(_ZeroPad):
    """Zeros around (N, C, D, H, W), as ``torch.nn.ZeroPad3d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right, top, bottom, front, back); an integer stands for all. Negative numbers crop.
    """

    dims = 3


class ReflectionPad1d(_ReflectionPad):
    """Mirrors the edges of (N, C, L), as ``torch.nn.ReflectionPad1d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right); an integer stands for all. Less than the extent that it is added to.
    """

    dims = 1


class ReflectionPad2d(_ReflectionPad):
    """Mirrors the edges of (N, C, H, W), as ``torch.nn.ReflectionPad2d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right, top, bottom); an integer stands for all. Less than the extent that it is added to.
    """

    dims = 2


class ReflectionPad3d(_ReflectionPad):
    """Mirrors the edges of (N, C, D, H, W), as ``torch.nn.ReflectionPad3d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right, top, bottom, front, back); an integer stands for all. Less than the extent that it is added to.
    """

    dims = 3


class ReplicationPad1d(_ReplicationPad):
    """Repeats the edges of (N, C, L), as ``torch.nn.ReplicationPad1d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right); an integer stands for all.
    """

    dims = 1


class ReplicationPad2d(_ReplicationPad):
    """Repeats the edges of (N, C, H, W), as ``torch.nn.ReplicationPad2d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right, top, bottom); an integer stands for all.
    """

    dims = 2


class ReplicationPad3d(_ReplicationPad):
    """Repeats the edges of (N, C, D, H, W), as ``torch.nn.ReplicationPad3d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right, top, bottom, front, back); an integer stands for all.
    """

    dims = 3


class CircularPad1d(_CircularPad):
    """Goes on at the other end of (N, C, L), as ``torch.nn.CircularPad1d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right); an integer stands for all. At most the extent that it is added to.
    """

    dims = 1


class CircularPad2d(_CircularPad):
    """Goes on at the other end of (N, C, H, W), as ``torch.nn.CircularPad2d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right, top, bottom); an integer stands for all. At most the extent that it is added to.
    """

    dims = 2


class CircularPad3d(_CircularPad):
    """Goes on at the other end of (N, C, D, H, W), as ``torch.nn.CircularPad3d``.

    Parameters
    ----------
    padding : int or tuple
        (left, right, top, bottom, front, back); an integer stands for all. At most the extent that it is added to.
    """

    dims = 3
