"""The one thing that arrays are refused for wherever they come in."""

from __future__ import annotations

import numpy as np


def refuse_masked(owner: str, name: str, value: object) -> None:
    """A masked array is no array: what computes would take the values behind its mask for real ones.

    Raises
    ------
    TypeError
        For a masked array.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{owner}: {name} is a masked array, and masks are not followed: fill it first, with .filled(value)")
