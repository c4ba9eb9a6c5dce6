"""What moves elements: shapes, permutations, slices, joins, repetitions, padding."""

from __future__ import annotations

__all__: list[str] = []
