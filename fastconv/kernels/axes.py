"""The axes of strided operands, brought into the order and number in which a kernel goes over them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

DTYPES = {"float32": 0, "int64": 1, "int32": 2, "uint8": 3, "int8": 4, "bool": 5}
BYTES = {"float32": 4, "int64": 8, "int32": 4, "uint8": 1, "int8": 1, "bool": 1}


@dataclass
class Axis:
    """An extent as planned, by how much an image adds to it where it is (part of) the batch's, and a stride per operand."""

    extent: int
    per_image: int
    strides: list[int]


def axes_of(shape, dims, strides, batched: bool) -> list[Axis]:
    """The axes of these dimensions, those of one element left out but for the batch's."""
    return [Axis(shape[d], int(batched and d == 0), [s[d] for s in strides])
            for d in dims if shape[d] != 1 or (batched and d == 0)]


def ordered(axes: list[Axis]) -> list[Axis]:
    """The widest stride of the first operand (or one of 0: what is repeated) outermost; then those of the others."""
    return sorted(axes, key=lambda a: tuple(-abs(s) if s else -float("inf") for s in a.strides))


def collapsed(axes: list[Axis]) -> list[Axis]:
    """Neighbours that are one run in every operand as one axis."""
    out: list[Axis] = []
    for axis in axes:
        last = out[-1] if out else None
        pairs = zip(last.strides, axis.strides, strict=True) if last else ()
        if last and not axis.per_image and all(a == b * axis.extent for a, b in pairs):
            out[-1] = Axis(last.extent * axis.extent, last.per_image * axis.extent, axis.strides)
        else:
            out.append(axis)
    return out


def forward(axes: list[Axis]) -> list[int]:
    """Turns axes that go backwards in the first operand around; by how many elements each operand's first moves."""
    moved = [0] * (len(axes[0].strides) if axes else 0)
    for axis in axes:
        if axis.strides[0] < 0 and not axis.per_image:
            moved = [m + s * (axis.extent - 1) for m, s in zip(moved, axis.strides, strict=True)]
            axis.strides = [-s for s in axis.strides]
    return moved


def count(axes: list[Axis], fixed: bool = False) -> int:
    """How many elements they have; ``fixed``: of one image."""
    return prod((a.per_image or a.extent) if fixed else a.extent for a in axes)
