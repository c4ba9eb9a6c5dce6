"""Normalisation by the values' own statistics; distances and similarities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv._values import plain, shown
from fastconv.functional import normalization as F
from fastconv.graph.ir import apply, fail
from fastconv.graph.parameter import filled
from fastconv.nn import init
from fastconv.nn._check import LARGEST, flag, integer, number
from fastconv.nn.module import Module


def _nothing(layer: str, **given: Any) -> None:
    """Refuses what PyTorch takes and this does not have."""
    for name, value in given.items():
        if value is not None and not (name == "dtype" and str(value).removeprefix("torch.") in ("float32", str(np.float32))):
            raise TypeError(f"{layer}: {name}={shown(value)}: expected None")


def _count(layer: str, name: str, value: Any) -> int:
    """A number of channels that a tensor can have."""
    count = integer(layer, name, value, 1)
    if count >= 2**31:
        raise ValueError(f"{layer}: {name}={count} must be at most {2**31 - 1}")
    return count


class _Affine(Module):
    def _parameters_of(self, shape: tuple[int, ...], weight: bool, bias: bool) -> None:
        layer = type(self).__name__
        self.register_parameter("weight", filled(layer, "weight", shape, 1.0) if weight else None)
        self.register_parameter("bias", filled(layer, "bias", shape) if bias else None)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if getattr(self, "bias", None) is not None:
            init.zeros_(self.bias)


class GroupNorm(_Affine):
    """Normalises groups of channels of each image, as ``torch.nn.GroupNorm`` (Wu and He, 2018).

    Parameters
    ----------
    num_groups : int
        Divides ``num_channels``.
    num_channels : int
    eps : float, default 1e-5
    affine : bool, default True
        Whether there are ``weight`` and ``bias``, one per channel.
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, device=None, dtype=None):
        super().__init__()
        _nothing("GroupNorm", device=device, dtype=dtype)
        self.num_groups = _count("GroupNorm", "num_groups", num_groups)
        self.num_channels = _count("GroupNorm", "num_channels", num_channels)
        if self.num_channels % self.num_groups:
            raise ValueError(f"GroupNorm: num_groups={num_groups}: expected a divisor of num_channels={num_channels}")
        self.eps, self.affine = number("GroupNorm", "eps", eps, 0, LARGEST), flag("GroupNorm", "affine", affine)
        self._parameters_of((self.num_channels,), self.affine, self.affine)

    def forward(self, x):
        if x.ndim > 1 and x.shape[1] != self.num_channels:
            fail(
                "GroupNorm", f"input of shape {x.shape} has {x.shape[1]} channels: expected num_channels={self.num_channels}"
            )
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


def _shape(layer: str, value: Any) -> tuple[int, ...]:
    value = plain(value)
    return tuple(_count(layer, "normalized_shape", v) for v in (value if isinstance(value, (tuple, list)) else (value,)))


class LayerNorm(_Affine):
    """Normalises over the last dimensions, as ``torch.nn.LayerNorm`` (Ba, Kiros, Hinton, 2016).

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The last extents of the input.
    eps : float, default 1e-5
    elementwise_affine : bool, default True
        Whether there is a ``weight`` per element.
    bias : bool, default True
        Whether there is a ``bias`` as well.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device=None,
        dtype=None,
    ):
        super().__init__()
        _nothing("LayerNorm", device=device, dtype=dtype)
        self.normalized_shape = _shape("LayerNorm", normalized_shape)
        self.eps = number("LayerNorm", "eps", eps, 0, LARGEST)
        self.elementwise_affine = flag("LayerNorm", "elementwise_affine", elementwise_affine)
        self._parameters_of(
            self.normalized_shape, self.elementwise_affine, self.elementwise_affine and flag("LayerNorm", "bias", bias)
        )

    def forward(self, x):
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class RMSNorm(_Affine):
    """Divides by the root of the mean of squares over the last dimensions, as ``torch.nn.RMSNorm`` (Zhang, Sennrich, 2019).

    Parameters
    ----------
    normalized_shape : int or sequence of int
    eps : float, optional
        Default: the distance from 1 to the next float32.
    elementwise_affine : bool, default True
        Whether there is a ``weight`` per element.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device=None,
        dtype=None,
    ):
        super().__init__()
        _nothing("RMSNorm", device=device, dtype=dtype)
        self.normalized_shape = _shape("RMSNorm", normalized_shape)
        self.eps = None if eps is None else number("RMSNorm", "eps", eps, 0, LARGEST)
        self.elementwise_affine = flag("RMSNorm", "elementwise_affine", elementwise_affine)
        self.register_parameter(
            "weight", filled("RMSNorm", "weight", self.normalized_shape, 1.0) if self.elementwise_affine else None
        )

    def forward(self, x):
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class _InstanceNorm(_Affine):
    ndims: int
    shapes: str

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device=None,
        dtype=None,
    ):
        super().__init__()
        layer = type(self).__name__
        _nothing(layer, device=device, dtype=dtype)
        self.num_features = n = _count(layer, "num_features", num_features)
        self.eps, self.momentum = number(layer, "eps", eps, 0, LARGEST), number(layer, "momentum", momentum, 0, 1)
        self.affine, self.track_running_stats = (
            flag(layer, "affine", affine),
            flag(layer, "track_running_stats", track_running_stats),
        )
        self._parameters_of((n,), self.affine, self.affine)
        track = self.track_running_stats
        self.register_buffer("running_mean", filled(layer, "running_mean", (n,), 0.0, False) if track else None)
        self.register_buffer("running_var", filled(layer, "running_var", (n,), 1.0, False) if track else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if track else None)

    def forward(self, x):
        layer = type(self).__name__
        if x.ndim != self.ndims:
            fail(layer, f"input of shape {x.shape} has {x.ndim} dimensions: expected {self.shapes}")
        if x.shape[1] != self.num_features:
            fail(layer, f"input of shape {x.shape} has {x.shape[1]} channels: expected num_features={self.num_features}")
        if self.training and self.running_mean is not None:
            if all(extent == 1 for extent in x.shape[2:]):
                fail(layer, f"input of shape {x.shape} has one value per channel and image: expected more")
            tensors = [x, self.weight, self.bias, self.running_mean, self.running_var]
            return apply("standardize", tensors, groups=0, reduced=tuple(range(2, x.ndim)), weighted=(1,), eps=self.eps,
                         centred=True, momentum=self.momentum, effect=True)[0]
        return F.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.running_mean is None,
                               self.momentum, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class InstanceNorm1d(_InstanceNorm):
    """Instance normalisation of (N, C, L). Arguments are those of :class:`InstanceNorm2d`."""

    ndims, shapes = 3, "3 (N, C, L)"


class InstanceNorm2d(_InstanceNorm):
    """Normalises each channel of each image of (N, C, H, W), as ``torch.nn.InstanceNorm2d`` (Ulyanov and others, 2016).

    Parameters
    ----------
    num_features : int
        C.
    eps : float, default 1e-5
    momentum : float, default 0.1
        Weight of a batch's statistics in the running ones.
    affine : bool, default False
        Whether there are ``weight`` and ``bias``, one per channel.
    track_running_stats : bool, default False
        Whether running statistics are kept, and used in evaluation.
    """

    ndims, shapes = 4, "4 (N, C, H, W)"


class InstanceNorm3d(_InstanceNorm):
    """Instance normalisation of (N, C, D, H, W). Arguments are those of :class:`InstanceNorm2d`."""

    ndims, shapes = 5, "5 (N, C, D, H, W)"


class LocalResponseNorm(Module):
    """:func:`fastconv.functional.local_response_norm` as a layer (Krizhevsky, Sutskever, Hinton, 2012)."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        super().__init__()
        layer = type(self).__name__
        self.size = _count(layer, "size", size)
        self.alpha, self.beta, self.k = (
            number(layer, name, v, -LARGEST, LARGEST) for name, v in (("alpha", alpha), ("beta", beta), ("k", k))
        )

    def forward(self, x):
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(LocalResponseNorm):
    """:class:`LocalResponseNorm` with a window of an odd number of channels, as ``torch.nn.CrossMapLRN2d``: the one below an
    even ``size``. PyTorch's leaves the first channel in the sums of all channels behind its window; this one does not."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1):
        super().__init__(size, alpha, beta, k)

    def forward(self, x):
        window = 2 * ((self.size - 1) // 2) + 1
        return F.local_response_norm(x, window, self.alpha * window / self.size, self.beta, self.k)


class CosineSimilarity(Module):
    """:func:`fastconv.functional.cosine_similarity` of two inputs."""

    def __init__(self, dim: int = 1, eps: float = 1e-8):
        super().__init__()
        self.dim, self.eps = integer("CosineSimilarity", "dim", dim, -8), number("CosineSimilarity", "eps", eps, 0, LARGEST)

    def forward(self, x1, x2):
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """:func:`fastconv.functional.pairwise_distance` of two inputs."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False):
        super().__init__()
        self.norm, self.eps = (
            number("PairwiseDistance", "p", p, -float("inf"), float("inf")),
            number("PairwiseDistance", "eps", eps, 0, LARGEST),
        )
        self.keepdim = flag("PairwiseDistance", "keepdim", keepdim)

    @property
    def p(self) -> float:
        """The norm's order, by its argument's name; the attribute is PyTorch's, ``norm``."""
        return self.norm

    def forward(self, x1, x2):
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
