"""A convolution of any dimension as the benchmarks describe it, and how they are selected.

The tables are in :mod:`fastconv.bench.networks`.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import NamedTuple


class Conv(NamedTuple):
    """One convolution; one entry per spatial dimension, of which there are one to three.

    ``padding`` has a pair (front, back) per dimension. Transposed: ``size`` is that of its input, ``channels`` are its
    input channels, and the weight's shape is (channels, filters / groups, *kernel).
    """

    network: str
    layer: str
    count: int  # type: ignore[assignment]
    channels: int
    size: tuple[int, ...]
    filters: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool
    output_padding: tuple[int, ...]

    @property
    def dims(self) -> int:
        return len(self.size)

    @property
    def output(self) -> tuple[int, ...]:
        rows = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, self.output_padding, strict=True)
        if self.transposed:
            return tuple((n - 1) * s + d * (k - 1) + 1 + o - a - b for n, k, s, (a, b), d, o in rows)
        return tuple((n + a + b - d * (k - 1) - 1) // s + 1 for n, k, s, (a, b), d, _ in rows)

    @property
    def first(self) -> bool:
        """Whether it reads the image: no training step computes the gradient of that."""
        return self.channels in (1, 3) and self.groups == 1 and not self.transposed

    @property
    def taps(self) -> int:
        return prod(self.kernel)

    @property
    def depth(self) -> int:
        """C * R * S: how many products the forward sums into an output (of a transposed one without stride)."""
        return self.channels // self.groups * self.taps

    def multiply_adds(self, batch: int) -> int:
        """By the definition, the same for each of the three passes: products with the padding count."""
        pixels = prod(self.size if self.transposed else self.output)
        return batch * pixels * self.filters * self.depth

    def input_shape(self, batch: int) -> tuple[int, ...]:
        return (batch, self.channels, *self.size)

    def output_shape(self, batch: int) -> tuple[int, ...]:
        return (batch, self.filters, *self.output)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        outer, inner = (self.channels, self.filters) if self.transposed else (self.filters, self.channels)
        return (outer, inner // self.groups, *self.kernel)

    def nbytes(self, batch: int) -> int:
        """Bytes of input, weight and output in float32: what any pass has to move at least."""
        return 4 * sum(map(prod, (self.input_shape(batch), self.weight_shape, self.output_shape(batch))))

    @property
    def problem(self) -> tuple:
        """What is computed, without where it comes from."""
        return tuple(self[3:])

    def __str__(self) -> str:
        text = f"{_by(self.size)} {self.channels}->{self.filters} {_by(self.kernel)}"
        text += f"/{_by(self.stride, same=True)}" if max(self.stride) > 1 else ""
        text += f" d{_by(self.dilation, same=True)}" if max(self.dilation) > 1 else ""
        text += f" g{self.groups}" if self.groups > 1 else ""
        text += " asym" if any(a != b for a, b in self.padding) else ""
        return text + (" T" if self.transposed else "")


def _by(extents: tuple[int, ...], same: bool = False) -> str:
    return str(extents[0]) if len(extents) == 1 or (same and len(set(extents)) == 1) else "x".join(map(str, extents))


def conv(network: str, layer: str, count: int, channels: int, size, filters: int, kernel, stride=1, padding=0, groups=1,
         *, dilation=1, dims=2, transposed=False, output_padding=0) -> Conv:
    """A Conv from numbers that stand for every dimension; the number of dimensions is that of ``size``, else ``dims``."""
    dims = len(size) if isinstance(size, tuple) else dims

    def each(value) -> tuple:
        return value if isinstance(value, tuple) else (value,) * dims

    pairs = tuple(p if isinstance(p, tuple) else (p, p) for p in each(padding))
    return Conv(network, layer, count, channels, each(size), filters, each(kernel), each(stride), pairs, each(dilation),
                groups, transposed, each(output_padding))


def from_json(values: list) -> Conv:
    """A Conv from what JSON has made of it: tuples have become lists."""
    def tuples(value):
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    return Conv(*map(tuples, values))


def merged(convs: Iterable[Conv]) -> list[Conv]:
    """Equal problems of a network once, under the first one's name, with their counts added."""
    found: dict[tuple, Conv] = {}
    for c in convs:
        known = found.get(c.problem)
        found[c.problem] = c if known is None else known._replace(count=known.count + c.count)
    return list(found.values())


# ---- groups ---------------------------------------------------------------------------------------------------------
