"""Convolutions whose filters are standardised."""

from __future__ import annotations

from fastconv.functional.weights import weight_standardization
from fastconv.nn._check import LARGEST, number
from fastconv.nn.conv import Conv1d, Conv2d, Conv3d, _Conv

__all__ = ["StdConv1d", "StdConv2d", "StdConv3d"]


class _Standardized(_Conv):
    def __init__(self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=0, dilation=1, groups: int = 1,
                 bias: bool = True, padding_mode: str = "zeros", eps: float = 1e-5):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        self.eps = number(type(self).__name__, "eps", eps, 0, LARGEST)

    def _filters(self):
        return weight_standardization(self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, eps={self.eps}"


class StdConv1d(_Standardized, Conv1d):
    """:class:`Conv1d` of standardised filters. Arguments are those of :class:`StdConv2d`."""


class StdConv2d(_Standardized, Conv2d):
    """:class:`Conv2d` of standardised filters, :func:`fastconv.functional.weight_standardization` (Qiao et al., 2019).

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode
        As of :class:`Conv2d`.
    eps : float, default 1e-5
        Added to the variance of a filter.
    """


class StdConv3d(_Standardized, Conv3d):
    """:class:`Conv3d` of standardised filters. Arguments are those of :class:`StdConv2d`."""
