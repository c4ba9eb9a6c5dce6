"""Batch normalisation."""

from __future__ import annotations

import numpy as np

from fastconv.graph.ir import apply, fail
from fastconv.graph.parameter import filled
from fastconv.nn import init
from fastconv.nn._check import LARGEST, flag, integer, number
from fastconv.nn.module import Module


class _BatchNorm(Module):
    ndims: tuple[int, ...]
    shapes: str

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True):
        super().__init__()
        layer = type(self).__name__
        self.num_features = n = integer(layer, "num_features", num_features, 1)
        self.eps = number(layer, "eps", eps, 0, LARGEST)
        self.momentum = None if momentum is None else number(layer, "momentum", momentum, 0, 1)
        self.affine = flag(layer, "affine", affine)
        self.track_running_stats = flag(layer, "track_running_stats", track_running_stats)
        self.register_parameter("weight", filled(layer, "weight", (n,), 1.0) if self.affine else None)
        self.register_parameter("bias", filled(layer, "bias", (n,)) if self.affine else None)
        track = self.track_running_stats
        self.register_buffer("running_mean", filled(layer, "running_mean", (n,), 0.0, False) if track else None)
        self.register_buffer("running_var", filled(layer, "running_var", (n,), 1.0, False) if track else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if track else None)

    def reset_running_stats(self) -> None:
        """Running mean 0, running variance 1, no batches seen."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            self.num_batches_tracked[...] = 0

    def reset_parameters(self) -> None:
        """Statistics as at first, weight 1, bias 0."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def forward(self, x):
        layer = type(self).__name__
        if x.ndim not in self.ndims:
            fail(layer, f"input of shape {x.shape} has {x.ndim} dimensions: expected {self.shapes}")
        if x.shape[1] != self.num_features:
            fail(layer, f"input of shape {x.shape} has {x.shape[1]} channels: expected "
                        f"num_features={self.num_features}")
        return apply("batch_norm", [x, self.weight, self.bias, self.running_mean, self.running_var],
                     training=self.training or self.running_mean is None, momentum=self.momentum, eps=self.eps,
                     num_batches_tracked=self.num_batches_tracked)

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"track_running_stats={self.track_running_stats}")


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L). Arguments and attributes are those of :class:`BatchNorm2d`."""

    ndims, shapes = (2, 3), "2 (N, C) or 3 (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W), as ``torch.nn.BatchNorm2d`` (Ioffe and Szegedy, 2015).

    Parameters
    ----------
    num_features : int
        C.
    eps : float, default 1e-5
        Added to the variance.
    momentum : float or None, default 0.1
        Weight of the batch's statistics in the running ones; None gives all batches the same weight.
    affine : bool, default True
        Whether there are ``weight`` and ``bias``, one per channel.
    track_running_stats : bool, default True
        Without, the batch's own statistics are used in evaluation too.

    Attributes
    ----------
    weight, bias : Parameter or None
    running_mean, running_var, num_batches_tracked : buffers or None
    """

    ndims, shapes = (4,), "4 (N, C, H, W)"


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (N, C, D, H, W). Arguments and attributes are those of :class:`BatchNorm2d`."""

    ndims, shapes = (5,), "5 (N, C, D, H, W)"
