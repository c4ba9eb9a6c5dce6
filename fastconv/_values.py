"""Values from outside: NumPy's scalars are taken wherever Python's numbers are, and messages show anything briefly."""

from typing import Any

import numpy as np


def plain(value):
    """A NumPy scalar as Python's bool, int or float, also within tuples, lists and dicts; anything else as it is."""
    kind = type(value)
    if kind in (tuple, list):
        return kind([plain(v) for v in value])
    if kind is dict:
        return {key: plain(v) for key, v in value.items()}
    return value.item() if isinstance(value, (np.bool_, np.integer, np.floating)) else value


def shown(value: Any, most: int = 60) -> str:
    """A value for a message, which is short whatever it is."""
    if isinstance(value, int) and abs(value) >= 10**most:
        return f"an integer of more than {most} digits"
    if getattr(value, "shape", ()):
        return f"{'a Parameter' if hasattr(value, 'requires_grad') else 'an array'} of shape {tuple(value.shape)}"
    if isinstance(value, (list, tuple, set, frozenset, dict)) and len(value) > most:
        return f"a {type(value).__name__} of {len(value)} entries"
    text = " ".join(repr(value).split())
    return text if len(text) <= most else text[: most - 3] + "..."
