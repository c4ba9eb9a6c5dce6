"""Functions of one, two or three arrays element by element, with broadcasting, and activations."""

from __future__ import annotations

__all__: list[str] = []
