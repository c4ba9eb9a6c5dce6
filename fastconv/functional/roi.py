"""Regions of interest: pooling and alignment."""

from __future__ import annotations

__all__: list[str] = []
