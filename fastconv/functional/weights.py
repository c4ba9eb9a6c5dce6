"""Weights that are computed of others: standardised filters, directions and lengths, division by a singular value."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.functional.normalization import layer_norm, normalize, positive
from fastconv.functional.record import Array, fail, function, sample, wrong
from fastconv.functional.statistics import norm_over
from fastconv.functional.structure import permuted, reshaped
from fastconv.graph.ir import Tensor, apply
from fastconv.graph.parameter import Parameter
from fastconv.ops.assign import assigned
from fastconv.ops.map import fused
from fastconv.ops.matmul import contract
from fastconv.ops.views import tensor

__all__ = ["weight_standardization"]


def _standardized(weight, eps=1e-5):
    rows = np.asarray(weight, np.float64).reshape(len(weight), -1)
    rows = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + eps)
    return rows.reshape(weight.shape)


@function(samples=lambda: [sample((6, 3, 3, 3)), sample((4, 5), 1e-3), sample((3, 2, 3, 2, 3))],
          wrong=lambda: [wrong(ValueError, "has 1 dimensions", (4,)), wrong(TypeError, "eps='a'", (4, 3), "a")],
          reference=_standardized)
def weight_standardization(weight: Array, eps: float = 1e-5) -> Array:
    """Filters with mean 0 and variance 1: ``(w - mean(w)) / sqrt(var(w) + eps)`` of each, its variance that of the filter's
    own values (Qiao et al., "Weight Standardization", 2019). ``conv2d(x, weight_standardization(w))`` is their convolution.

    Parameters
    ----------
    weight : array, shape (out_channels, ...), float32
    eps : float, default 1e-5

    Raises
    ------
    ValueError
        For fewer than 2 dimensions.
    """
    w = tensor("weight_standardization", "weight", weight)
    if w.ndim < 2:
        fail("weight_standardization", f"weight of shape {w.shape} has {w.ndim} dimensions: expected at least 2")
    return layer_norm(w, w.type.shape[1:], eps=positive("weight_standardization", "eps", eps))


def lengths(v: Tensor, dim: int | None) -> Tensor:
    """The norms of the slices along a dimension, kept as 1 each, or of the whole: of weight normalisation."""
    return norm_over("weight_norm", v, 2, [d for d in range(v.ndim) if d != dim], dim is not None)


def directed(g: Tensor, v: Tensor, dim: int | None) -> Tensor:
    """``g * v / |v|``: weight normalisation."""
    return fused(lambda g, v, n: v * (g / n), g, v, lengths(v, dim))


def spectral(weight: Tensor, u: Tensor, v: Tensor, dim: int, iterations: int, eps: float) -> Tensor:
    """A weight over its largest singular value, as a matrix of one dimension by the others; the singular vectors are
    buffers, which so many power iterations improve."""
    matrix, kept = as_matrix(weight, u, v, dim), (u, v)
    for _ in range(iterations):
        v = normalize(contract(matrix, u, "hw,h->w"), dim=0, eps=eps)
        u = normalize(contract(matrix, v, "hw,w->h"), dim=0, eps=eps)
    if iterations:
        u, v = (assigned(apply("detach", [new]), old) for new, old in zip((u, v), kept, strict=True))
    return over_largest(weight, u, v, dim)


def as_matrix(weight: Tensor, u: Tensor, v: Tensor, dim: int) -> Tensor:
    """A weight as a matrix of one dimension by the others."""
    order = [dim, *(d for d in range(weight.ndim) if d != dim)]
    return reshaped("spectral_norm", permuted(weight, order), (u.shape[0], v.shape[0]))


def over_largest(weight: Tensor, u: Tensor, v: Tensor, dim: int) -> Tensor:
    """A weight over the singular value that belongs to these vectors."""
    matrix = as_matrix(weight, u, v, dim)
    return fused(lambda w, s: w / s, weight, contract(contract(matrix, v, "hw,w->h"), u, "h,h->"))


def improved(weight: Tensor, u, v, dim: int, iterations: int, eps: float) -> tuple[Any, Any]:
    """Singular vectors after so many power iterations, first of u, then of v; buffers, which become that."""
    graph = weight.graph
    u, v = (graph.parameter(p) if isinstance(p, Parameter) else p for p in (u, v))
    kept, matrix = (u, v), as_matrix(weight, u, v, dim)
    for _ in range(iterations):
        u = normalize(contract(matrix, v, "hw,w->h"), dim=0, eps=eps)
        v = normalize(contract(matrix, u, "hw,h->w"), dim=0, eps=eps)
    if iterations:
        u, v = (assigned(apply("detach", [new]), old) for new, old in zip((u, v), kept, strict=True))
    return u, v
