"""Group, layer, instance and RMS normalisation, and what else divides by a norm."""

from __future__ import annotations

__all__: list[str] = []
