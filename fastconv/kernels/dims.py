"""Dimensions of a problem over strided operands: those that follow one another everywhere become one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

MOST = 8  # dimensions of a tensor
DTYPES = {"float32": 0, "int64": 1, "int32": 2, "uint8": 3, "int8": 4, "bool": 5}  # FcDtype of dtypes.h


class Dim(NamedTuple):
    """A dimension: its (planned) extent, each operand's stride, and, of the one that holds the batch, extent per image."""

    extent: int
    strides: tuple[int, ...]
    per_image: int = 0


def dims(shape: Sequence[int], operands: Sequence[Sequence[int]], batched: bool) -> list[Dim]:
    """The dimensions of ``shape`` with each operand's strides; those of one element are left out."""
    found = []
    for i, extent in enumerate(shape):
        strides = tuple(strides[i] for strides in operands)
        if batched and i == 0:
            found.append(Dim(extent, strides, 1))
        elif extent != 1:
            found.append(Dim(extent, strides))
    return found


def merged(given: Sequence[Dim]) -> list[Dim]:
    """Neighbours, the outer one first, as one wherever all operands go on from one to the other."""
    found: list[Dim] = []
    for dim in given:
        if found and not dim.per_image:
            outer = found[-1]
            if all(a == b * dim.extent for a, b in zip(outer.strides, dim.strides, strict=True)):
                found[-1] = Dim(outer.extent * dim.extent, dim.strides, outer.per_image * dim.extent)
                continue
        found.append(dim)
    return found
