"""Arguments that many functions have, checked in one place."""

from __future__ import annotations

import operator

from fastconv._values import plain, shown
from fastconv.graph.ir import fail


def integer(op: str, name: str, value) -> int:
    """An integer, but no bool."""
    value = plain(value)
    try:
        return operator.index("" if isinstance(value, bool) else value)  # type: ignore[arg-type]
    except TypeError:
        fail(op, f"{name}={shown(value)}: expected an integer", TypeError)
        raise


def dimension(op: str, value, rank: int, name: str = "dim") -> int:
    """A dimension of a tensor of so many, counted from the front; that of a scalar is 0 or -1."""
    dim, rank = integer(op, name, value), max(rank, 1)
    if not -rank <= dim < rank:
        fail(op, f"{name}={dim}: expected {-rank} to {rank - 1}", IndexError)
    return dim % rank


def flag(op: str, name: str, value) -> bool:
    value = plain(value)
    if not isinstance(value, bool):
        fail(op, f"{name}={shown(value)}: expected True or False", TypeError)
    return value


def number(op: str, name: str, value) -> float | int:
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        fail(op, f"{name}={shown(value)}: expected a number", TypeError)
    return value
