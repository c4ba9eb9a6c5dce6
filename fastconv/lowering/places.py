"""Where tensors lie: buffers whose addresses come when a plan is bound, references into them, strides over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from fastconv.graph.ir import Tensor
from fastconv.graph.parameter import Parameter


@dataclass(eq=False)
class Buffer:
    """Bytes at an address that is known when the plan is bound.

    kind: ``arena`` (lives between its first and last step), ``weights`` (made from parameters, kept; shared by clones),
    ``parameter`` (the module's own array), ``constant`` (an array of the graph's, ``value``), ``handed out`` (an array of
    its own, which the user may keep: a gradient).
    """

    nbytes: int
    kind: str
    name: str = ""
    parameter: Parameter | None = None
    value: np.ndarray | None = None
    first: int = -1
    last: int = -1
    offset: int = 0

    def at(self, offset: int = 0) -> Ref:
        return Ref(self, offset)


class Ref(NamedTuple):
    """An address to be: a buffer and an offset in bytes."""

    buffer: Buffer
    offset: int = 0

    def plus(self, elements: int, size: int = 4) -> Ref:
        """So many elements further on; ``size`` bytes each."""
        return Ref(self.buffer, self.offset + size * elements)


class View(NamedTuple):
    """Where a tensor lies: the reference of its first element and, for activations, the pixel stride in floats."""

    ref: Ref
    ld: int


class Strided(NamedTuple):
    """Where a tensor of any layout lies, as steps over strided arrays take it: strides in elements, one per dimension."""

    ref: Ref
    strides: tuple[int, ...]
    dtype: str = "float32"


def spatial3(shape: Sequence[int]) -> tuple[int, int, int]:
    """(D, H, W) of a logical (N, C, spatial...) shape; what is not there is 1."""
    spatial = tuple(shape[2:])
    return (1,) * (3 - len(spatial)) + spatial  # type: ignore[return-value]


def channels(shape: Sequence[int]) -> int:
    return shape[1] if len(shape) > 1 else 1


def pixels_per_image(shape: Sequence[int]) -> int:
    return prod(shape[2:])


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a dense array in C order, in elements."""
    return tuple(prod(shape[i + 1:]) for i in range(len(shape)))


def pixel_strides(shape: Sequence[int], ld: int) -> tuple[int, ...]:
    """Strides of an activation of pixels, ``ld`` elements apart."""
    return (ld * prod(shape[2:]), 1, *(ld * prod(shape[i + 1:]) for i in range(2, len(shape))))[: len(shape)]


def alike(shape: Sequence[int], a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two sets of strides find the same elements: those of extents of 1 do not matter."""
    return all(x == y or extent == 1 for extent, x, y in zip(shape, a, b, strict=True)) or prod(shape) == 0


def pixels_like(shape: Sequence[int], strides: Sequence[int]) -> int | None:
    """The pixel stride under which these are the strides of pixels; None where they are not."""
    if not 2 <= len(shape) <= 5:
        return None
    ld = next((strides[i] // max(1, prod(shape[i + 1:])) for i in range(len(shape) - 1, 1, -1) if shape[i] > 1),
              strides[0] // max(1, prod(shape[2:])) if shape[0] > 1 else channels(shape))
    return ld if ld >= channels(shape) and alike(shape, strides, pixel_strides(shape, ld)) else None


def shape5(shape: Sequence[int]) -> tuple[int, ...]:
    """A dense shape as exactly five extents, leading ones added, excess leading dimensions merged."""
    shape = tuple(shape)
    if len(shape) > 5:
        shape = (prod(shape[:-4]), *shape[-4:])
    return (1,) * (5 - len(shape)) + shape


def slot_extents(tensor: Tensor) -> tuple[int, ...]:
    """The shape in which an array of the user's is seen through a slot: of more than five dimensions, as one or two."""
    shape = tensor.shape
    if len(shape) <= 5:
        return shape
    return (shape[0], prod(shape[1:])) if tensor.batched else (prod(shape),)


def slot_shape(tensor: Tensor) -> tuple[int, ...]:
    """The same as exactly five extents, the first 0 where it is the batch of the run."""
    shape = slot_extents(tensor)
    if not tensor.batched:
        return shape5(shape) if prod(shape) else (1, 1, 1, 1, 0)
    ones = (1,) * (5 - len(shape))
    return (0, *shape[1:2], *ones, *shape[2:])
