"""Sums, means, extrema, norms and scans over any dimensions."""

from __future__ import annotations

__all__: list[str] = []
