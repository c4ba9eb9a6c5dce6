"""The one thing that arrays are refused for wherever they come in."""

from __future__ import annotations

import sys


def is_masked(value: object) -> bool:
    """Whether it is a masked array. Where nobody has imported numpy.ma there is none, and this does not either."""
    ma = sys.modules.get("numpy.ma")
    return ma is not None and isinstance(value, getattr(ma, "MaskedArray", ()))


def refuse_masked(owner: str, name: str, value: object) -> None:
    """A masked array is no array: what computes would take the values behind its mask for real ones.

    Raises
    ------
    TypeError
        For a masked array.
    """
    if is_masked(value):
        raise TypeError(f"{owner}: {name} is a masked array, and masks are not followed: fill it first, with .filled(value)")
