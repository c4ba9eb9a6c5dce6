"""Distances between rows."""

from __future__ import annotations

import numpy as np

from fastconv.functional.indexing import index_select
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.functional.statistics import vector_norm
from fastconv.functional.structure import unsqueeze
from fastconv.graph.ir import Tensor
from fastconv.ops.arguments import number
from fastconv.ops.views import tensor

__all__ = ["cdist", "pdist"]


def floats(op: str, name: str, value) -> Tensor:
    x = tensor(op, name, value)
    if x.dtype != "float32":
        fail(op, f"{name} has dtype {x.dtype}: expected float32", TypeError)
    return x


def order(op: str, p) -> float:
    """That of a norm."""
    p = float(number(op, "p", p))
    if not p >= 0:
        fail(op, f"p={p:g}: expected a number of at least 0")
    return p


@function(samples=lambda: [sample((5, 3), (4, 3)), sample((2, 5, 3), (2, 4, 3), p=1.0),
                           sample((5, 3), (4, 3), p=float("inf")),
                           sample((2, 1, 5, 3), (3, 4, 3), p=3.0)],
          wrong=lambda: [wrong(ValueError, "x2 of shape (4, 2)", (5, 3), (4, 2)),
                         wrong(ValueError, "p=-1", (5, 3), (4, 3), p=-1.0),
                         wrong(ValueError, "compute_mode='fast'", (5, 3), (4, 3), compute_mode="fast")])
def cdist(x1: Array, x2: Array, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary") -> Array:
    """Distances between all pairs of rows, as :func:`torch.cdist`.

    Parameters
    ----------
    x1 : array (..., P, M)
    x2 : array (..., R, M)
    p : float, default 2
        Of the p-norm: 0 or more, or infinity.
    compute_mode : str
        Taken for PyTorch's sake: distances are always norms of differences, exact for rows that are near each other.

    Returns
    -------
    array (..., P, R)
    """
    a, b = (floats("cdist", name, x) for name, x in (("x1", x1), ("x2", x2)))
    modes = [f"{use}use_mm_for_euclid_dist{end}" for use, end in (("", "_if_necessary"), ("", ""), ("donot_", ""))]
    if compute_mode not in modes:
        fail("cdist", f"compute_mode={compute_mode!r}: expected one of {', '.join(modes)}")
    p = order("cdist", p)
    if a.ndim < 2 or b.ndim < 2 or a.type.shape[-1] != b.type.shape[-1]:
        fail("cdist", f"x1 of shape {tuple(a.shape)} and x2 of shape {tuple(b.shape)}: expected (..., P, M) and "
                      "(..., R, M)")
    first, second = unsqueeze(a, -2), unsqueeze(b, -3)
    return vector_norm(first - second, p, -1)


@function(samples=lambda: [sample((5, 3)), sample((4, 7), 1.0), sample((4, 7), p=float("inf")), sample((4, 3), p=3.0),
                           sample(array(lambda generator: generator.permutation(6).reshape(3, 2).astype(np.float32)), 0.0)],
          wrong=lambda: [wrong(ValueError, "has 3 dimensions: expected 2", (2, 4, 3)),
                         wrong(ValueError, "p=-1", (4, 3), -1)])
def pdist(input: Array, p: float = 2.0) -> Array:
    """Distances between all pairs of rows, the first to all behind it, the second to all behind it, and so on.

    Parameters
    ----------
    input : array (N, M)
    p : float, default 2
        Of the p-norm: 0 or more, or infinity.

    Returns
    -------
    array (N * (N - 1) / 2,)
    """
    x = floats("pdist", "input", input)
    if x.ndim != 2:
        fail("pdist", f"input of shape {x.type.shape} has {x.ndim} dimensions: expected 2")
    first, second = (np.ascontiguousarray(at) for at in np.triu_indices(x.shape[0], 1))
    return vector_norm(index_select(x, 0, first) - index_select(x, 0, second), order("pdist", p), -1)
