"""Losses that are made of other functions."""

from __future__ import annotations

__all__: list[str] = []
