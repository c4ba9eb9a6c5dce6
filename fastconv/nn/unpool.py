"""Pooling layers that are made of others: of powers, back to where maxima were, over windows of random size."""

from __future__ import annotations

from fastconv import functional as F
from fastconv._values import plain, shown
from fastconv.nn._check import flag, number, sizes
from fastconv.nn.module import Module


class _LPPool(Module):
    dims: int

    def __init__(self, norm_type: float, kernel_size, stride=None, ceil_mode: bool = False):
        super().__init__()
        layer = type(self).__name__
        self.norm_type = number(layer, "norm_type", norm_type, float("-inf"), float("inf"))
        sizes(layer, "kernel_size", kernel_size, self.dims, 1)
        self.kernel_size, self.stride = plain(kernel_size), plain(stride)
        if stride is not None:
            sizes(layer, "stride", stride, self.dims, 1)
        self.ceil_mode = flag(layer, "ceil_mode", ceil_mode)

    def forward(self, x):
        pool = (F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)[self.dims - 1]
        return pool(x, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return (f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
                f"ceil_mode={self.ceil_mode}")


class LPPool1d(_LPPool):
    """The p-norm over windows of (N, C, L). Arguments are those of :class:`LPPool2d`."""

    dims = 1


class LPPool2d(_LPPool):
    """The p-norm over windows of (N, C, H, W), as ``torch.nn.LPPool2d``.

    Parameters
    ----------
    norm_type : float
    kernel_size : int or tuple
    stride : int or tuple, optional
        Default ``kernel_size``.
    ceil_mode : bool, default False
        Whether a last window that is only partly inside counts.
    """

    dims = 2


class LPPool3d(_LPPool):
    """The p-norm over windows of (N, C, D, H, W). Arguments are those of :class:`LPPool2d`."""

    dims = 3


class _MaxUnpool(Module):
    dims: int

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__()
        layer = type(self).__name__
        self.kernel_size = sizes(layer, "kernel_size", kernel_size, self.dims, 1)
        self.stride = self.kernel_size if stride is None else sizes(layer, "stride", stride, self.dims, 1)
        self.padding = sizes(layer, "padding", padding, self.dims, 0)

    def forward(self, x, indices, output_size=None):
        """``indices`` as the pool gave them; ``output_size`` where several sizes lead to this one."""
        unpool = (F.max_unpool1d, F.max_unpool2d, F.max_unpool3d)[self.dims - 1]
        return unpool(x, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """Maxima of (N, C, L) back to where they were. Arguments are those of :class:`MaxUnpool2d`."""

    dims = 1


class MaxUnpool2d(_MaxUnpool):
    """Maxima of (N, C, H, W) put back to where :class:`MaxPool2d` with ``return_indices`` found them, zeros elsewhere.

    Parameters
    ----------
    kernel_size : int or tuple
    stride : int or tuple, optional
        Default ``kernel_size``.
    padding : int or tuple, default 0
    """

    dims = 2


class MaxUnpool3d(_MaxUnpool):
    """Maxima of (N, C, D, H, W) back to where they were. Arguments are those of :class:`MaxUnpool2d`."""

    dims = 3


class _FractionalMaxPool(Module):
    dims: int

    def __init__(self, kernel_size, output_size=None, output_ratio=None, return_indices: bool = False, _random_samples=None):
        super().__init__()
        layer = type(self).__name__
        self.kernel_size = sizes(layer, "kernel_size", kernel_size, self.dims, 1)
        if (output_size is None) == (output_ratio is None):
            raise ValueError(f"{layer}: output_size={shown(output_size)}, output_ratio={shown(output_ratio)}: expected one "
                             "of them")
        self.output_size = None if output_size is None else sizes(layer, "output_size", output_size, self.dims, 1)
        self.output_ratio = plain(output_ratio)
        ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else () if output_ratio is None else (output_ratio,)
        for ratio in ratios:
            if not 0 < number(layer, "output_ratio", ratio, 0, 1) < 1:
                raise ValueError(f"{layer}: output_ratio={shown(output_ratio)} must be between 0 and 1")
        self.return_indices = flag(layer, "return_indices", return_indices)
        if _random_samples is not None and getattr(_random_samples, "shape", ())[2:] != (self.dims,):
            raise TypeError(f"{layer}: _random_samples={shown(_random_samples)}: expected an array of shape "
                            f"(N, C, {self.dims}), float32")
        self._random_samples = _random_samples

    def forward(self, x):
        pool = F.fractional_max_pool2d if self.dims == 2 else F.fractional_max_pool3d
        return pool(x, self.kernel_size, self.output_size, self.output_ratio, self.return_indices, self._random_samples)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, output_size={self.output_size}, output_ratio={self.output_ratio}"


class FractionalMaxPool2d(_FractionalMaxPool):
    """Maxima over windows of (N, C, H, W) whose places are drawn (B. Graham, 2014), as ``torch.nn.FractionalMaxPool2d``.

    Parameters
    ----------
    kernel_size : int or tuple
    output_size : int or tuple, optional
    output_ratio : float or tuple, optional
        Between 0 and 1; this or the size.
    return_indices : bool, default False
        Whether each maximum's row-major place in its image is given as well, int64.
    """

    dims = 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """Maxima over windows of (N, C, D, H, W) whose places are drawn. Arguments are those of :class:`FractionalMaxPool2d`."""

    dims = 3
