"""What tests measure with: errors, directional derivatives, adjoint identities, and inputs whose sums are exact."""

from __future__ import annotations

import numpy as np

from .window import f64


def rel_l2(a, b):
    """``||a - b|| / ||b||`` in float64, b being the truth; 0 where both are zero, NaN where either holds a NaN.

    Raises ValueError where the shapes differ: broadcasting would hide a wrong one.
    """
    a, b = f64(a), f64(b)
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape} differ")
    error, norm = np.linalg.norm((a - b).ravel()), np.linalg.norm(b.ravel())
    if error == 0:
        return 0.0
    return float(error / norm) if norm else float("inf")


def central_difference(f, x, v, eps=1e-6):
    """Derivative of ``f`` at ``x`` in the direction ``v``: ``(f(x + eps * v) - f(x - eps * v)) / (2 * eps)``."""
    x, v = f64(x), f64(v)
    return (f(x + eps * v) - f(x - eps * v)) / (2 * eps)


def adjoint_gap(ax, y, x, aty):
    """``|<A x, y> - <x, A^T y>|`` relative to what Cauchy and Schwarz allow the larger of them to be."""
    ax, y, x, aty = (f64(a).ravel() for a in (ax, y, x, aty))
    scale = max(np.linalg.norm(ax) * np.linalg.norm(y), np.linalg.norm(x) * np.linalg.norm(aty))
    gap = abs(ax @ y - x @ aty)
    return float(gap / scale) if gap else 0.0


def exact_integers(rng, shape, bits, sign=True):
    """Uniform float32 integers of ``bits`` bits, at most 24: |value| < 2**bits, negative too where ``sign`` is set.

    ``bits=1`` gives {-1, 0, 1}. A float32 sum of products is exact, in whatever order, where the same sum over the
    absolute values stays under 2**24: ``conv(abs(x), abs(w)).max() < 2**24``.
    """
    if not 1 <= bits <= 24:
        raise ValueError(f"bits={bits} is outside [1, 24]")
    largest = 2**bits - 1
    return rng.integers(-largest if sign else 0, largest, shape, endpoint=True).astype(np.float32)
