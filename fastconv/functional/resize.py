"""Resampling by scale, and by coordinates."""

from __future__ import annotations

__all__: list[str] = []
