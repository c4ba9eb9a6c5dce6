"""Matrix products of any rank, and einsum."""

from __future__ import annotations

__all__: list[str] = []
