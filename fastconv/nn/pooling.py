"""Pooling layers."""

from __future__ import annotations

from fastconv._values import plain, shown
from fastconv.functional.pool import positions
from fastconv.graph.ir import apply, fail
from fastconv.nn._check import flag, integer, one_image_too, sizes
from fastconv.nn.conv import SHAPES
from fastconv.nn.module import Module


class _Pool(Module):
    dims: int

    def _check_input(self, x) -> None:
        if x.ndim != self.dims + 2:
            fail(type(self).__name__, f"input of shape {x.shape} has {x.ndim} dimensions: expected {SHAPES[self.dims]}")

    def _window(self, kernel_size, stride, padding, ceil_mode) -> None:
        layer, dims = type(self).__name__, self.dims
        self.kernel_size = plain(kernel_size)
        self.stride = self.kernel_size if stride is None else plain(stride)
        self.padding = plain(padding)
        self.ceil_mode = flag(layer, "ceil_mode", ceil_mode)
        kernel = sizes(layer, "kernel_size", kernel_size, dims, 1)
        sizes(layer, "stride", self.stride, dims, 1)
        for p, k in zip(sizes(layer, "padding", padding, dims, 0), kernel, strict=True):
            if p > k // 2:
                raise ValueError(f"{layer}: padding={shown(padding)} must be at most half of "
                                 f"kernel_size={shown(kernel_size)}")


class _MaxPool(_Pool):
    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, return_indices: bool = False,
                 ceil_mode: bool = False):
        super().__init__()
        self._window(kernel_size, stride, padding, ceil_mode)
        sizes(type(self).__name__, "dilation", dilation, self.dims, 1)
        self.dilation = plain(dilation)
        self.return_indices = flag(type(self).__name__, "return_indices", return_indices)

    @one_image_too
    def forward(self, x):
        self._check_input(x)
        y = apply("max_pool", [x], kernel_size=self.kernel_size, stride=self.stride, padding=self.padding,
                  dilation=self.dilation, ceil_mode=self.ceil_mode)
        return (y, positions(y)) if self.return_indices else y

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
                f"dilation={self.dilation}, ceil_mode={self.ceil_mode}")


class MaxPool1d(_MaxPool):
    """Maximum over windows of (N, C, L). Arguments are those of :class:`MaxPool2d`."""

    dims = 1


class MaxPool2d(_MaxPool):
    """Maximum over windows of (N, C, H, W), as ``torch.nn.MaxPool2d``.

    Parameters
    ----------
    kernel_size : int or tuple
    stride : int or tuple, optional
        Default ``kernel_size``.
    padding : int or tuple, default 0
        At most half of the kernel; what is added is never the maximum.
    dilation : int or tuple, default 1
    return_indices : bool, default False
        Whether the result is a pair: also each winner's row-major position in its image, int64.
    ceil_mode : bool, default False
        Whether a last window that is only partly inside counts.
    """

    dims = 2


class MaxPool3d(_MaxPool):
    """Maximum over windows of (N, C, D, H, W). Arguments are those of :class:`MaxPool2d`."""

    dims = 3


class _AvgPool(_Pool):
    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode: bool = False, count_include_pad: bool = True,
                 divisor_override: int | None = None):
        super().__init__()
        self._window(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = flag(type(self).__name__, "count_include_pad", count_include_pad)
        self.divisor_override = divisor_override if divisor_override is None else \
            integer(type(self).__name__, "divisor_override", divisor_override, 1)

    @one_image_too
    def forward(self, x):
        self._check_input(x)
        return apply("avg_pool", [x], kernel_size=self.kernel_size, stride=self.stride, padding=self.padding,
                     ceil_mode=self.ceil_mode, count_include_pad=self.count_include_pad,
                     divisor_override=self.divisor_override)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """Mean over windows of (N, C, L). Arguments are those of :class:`AvgPool2d`, without ``divisor_override``."""

    dims = 1

    def __init__(self, kernel_size, stride=None, padding=0, ceil_mode: bool = False, count_include_pad: bool = True):
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)


class AvgPool2d(_AvgPool):
    """Mean over windows of (N, C, H, W), as ``torch.nn.AvgPool2d``.

    Parameters
    ----------
    kernel_size : int or tuple
    stride : int or tuple, optional
        Default ``kernel_size``.
    padding : int or tuple, default 0
        Zeros, at most half of the kernel.
    ceil_mode : bool, default False
        Whether a last window that is only partly inside counts.
    count_include_pad : bool, default True
        Whether the padding counts in the divisor.
    divisor_override : int, optional
        The divisor, instead of the size of the window.
    """

    dims = 2


class AvgPool3d(_AvgPool):
    """Mean over windows of (N, C, D, H, W). Arguments are those of :class:`AvgPool2d`."""

    dims = 3


class _AdaptivePool(_Pool):
    op: str
    return_indices = False

    def __init__(self, output_size):
        super().__init__()
        layer = type(self).__name__
        values = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * self.dims
        if len(values) != self.dims:
            raise ValueError(f"{layer}: output_size={shown(output_size)} has {len(values)} values: expected 1 or "
                             f"{self.dims}, one per spatial dimension")
        for v in values:
            if v is not None:
                integer(layer, "output_size", v, 1)
        self.output_size = plain(output_size)

    @one_image_too
    def forward(self, x):
        self._check_input(x)
        size = self.output_size if isinstance(self.output_size, (tuple, list)) else (self.output_size,) * self.dims
        size = tuple(have if want is None else want for want, have in zip(size, x.shape[2:], strict=True))
        y = apply(self.op, [x], output_size=size)
        return (y, positions(y)) if self.return_indices else y

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptivePool):
    """Mean over windows that divide (N, C, L) into ``output_size`` parts; None keeps the size."""

    dims, op = 1, "adaptive_avg_pool"


class AdaptiveAvgPool2d(_AdaptivePool):
    """Mean over windows that divide (N, C, H, W) into ``output_size`` parts; None keeps a size."""

    dims, op = 2, "adaptive_avg_pool"


class AdaptiveAvgPool3d(_AdaptivePool):
    """Mean over windows that divide (N, C, D, H, W) into ``output_size`` parts; None keeps a size."""

    dims, op = 3, "adaptive_avg_pool"


class _AdaptiveMaxPool(_AdaptivePool):
    op = "adaptive_max_pool"

    def __init__(self, output_size, return_indices: bool = False):
        super().__init__(output_size)
        self.return_indices = flag(type(self).__name__, "return_indices", return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maximum over windows that divide (N, C, L) into ``output_size`` parts; None keeps the size. With ``return_indices``
    also each winner's row-major position in its image, int64."""

    dims = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maximum over windows that divide (N, C, H, W) into ``output_size`` parts; None keeps a size."""

    dims = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maximum over windows that divide (N, C, D, H, W) into ``output_size`` parts; None keeps a size."""

    dims = 3
