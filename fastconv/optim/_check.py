"""Checks of arguments: every message names who asked, the argument, its value and the rule."""

import math
import numbers
import operator

from fastconv._values import shown

FLOAT32_MAX = 3.4028234663852886e38


def number(owner, name, value, low=None, high=None, *, above=None, below=None):
    """Return `value` as a float32 can hold it, within [low, high] and (above, below); TypeError or ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{owner}: {name} must be a number, got {type(value).__name__}")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    rules = [
        ("finite", math.isfinite(result)),
        ("at most 3.4e38, the largest float32", abs(result) <= FLOAT32_MAX),
        (f"at least {low}", low is None or result >= low),
        (f"at most {high}", high is None or result <= high),
        (f"above {above}", above is None or result > above),
        (f"below {below}", below is None or result < below),
    ]
    for rule, holds in rules:
        if not holds:
            raise ValueError(f"{owner}: {name}={value if abs(result) < math.inf else result} must be {rule}")
    return result


def whole(owner, name, value, low):
    """Return `value` as an int of at least `low`; TypeError or ValueError otherwise."""
    try:
        result = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        result = None
    if result is None:
        raise TypeError(f"{owner}: {name} must be an int, got {type(value).__name__}")
    if result < low:
        raise ValueError(f"{owner}: {name}={result} must be at least {low}")
    return result


def one_of(owner, name, value, allowed):
    """Return `value` if it is among `allowed`; ValueError otherwise."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{owner}: {name}={shown(value)} must be one of {', '.join(map(repr, allowed))}")
    return value


def flag(owner, name, value):
    """Return `value` if it is True or False; TypeError for what merely resembles them, such as "False"."""
    if value is not True and value is not False and type(value).__name__ not in ("bool", "bool_"):
        raise TypeError(f"{owner}: {name}={shown(value)} must be True or False")
    return bool(value)


def keys(owner, state, expected):
    """Raise ValueError unless the dict `state` has exactly the keys `expected`."""
    missing, unknown = set(expected) - set(state), set(state) - set(expected)
    if missing or unknown:
        raise ValueError(f"{owner}: state lacks {sorted(missing)} and has unknown {sorted(unknown)}")
