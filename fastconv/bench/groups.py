"""Which convolutions a benchmark takes: those of networks, of layers, of groups."""

from __future__ import annotations

from collections.abc import Callable

from fastconv._arguments import UsageError
from fastconv.bench.networks import FIGURES, NETWORKS
from fastconv.bench.shapes import Conv


def is_deep(c: Conv) -> bool:
    """Dense, and sums at least 256 products: what a direct kernel can be held to the peak for."""
    return c.groups == 1 and c.depth >= 256 and not c.transposed


def is_3x3(c: Conv) -> bool:
    return is_deep(c) and c.kernel == (3, 3) and c.dilation == (1, 1)


def is_winograd(c: Conv) -> bool:
    return is_3x3(c) and c.stride == (1, 1) and min(c.channels, c.filters) >= 64


def is_depthwise(c: Conv) -> bool:
    return c.groups == c.channels > 1 and c.kernel == (3, 3) and not c.transposed


def is_odd(c: Conv) -> bool:
    return c.network == "odd"


def is_figure(c: Conv) -> bool:
    return c.network in FIGURES


GROUPS: dict[str, Callable[[Conv], bool]] = {
    "figures": is_figure,
    "odd": is_odd,
    "deep": lambda c: is_figure(c) and is_deep(c),
    "3x3": lambda c: is_figure(c) and is_3x3(c),
    "winograd": lambda c: is_figure(c) and is_winograd(c),
    "depthwise": is_depthwise,
    "pointwise": lambda c: c.taps == 1 and not is_odd(c),
    "first": lambda c: c.first,
    "1d": lambda c: c.dims == 1,
    "3d": lambda c: c.dims == 3,
    "dilated": lambda c: max(c.dilation) > 1,
    "grouped": lambda c: c.groups > 1,
    "transposed": lambda c: c.transposed,
    "large": lambda c: max(c.kernel) >= 5,
}


def select(names: list[str], groups: list[str] | None = None, sample: int | None = None,
           part: tuple[int, int] | None = None) -> list[Conv]:
    """The convolutions of networks ("resnet50"), or the layer of a name, or those whose names begin so ("resnet50/layer1").

    ``groups``: of these, those in one of the groups; ``sample``: of these, so many from the smallest to the largest by
    work; ``part`` (i, n): of these, the i-th of every n.

    Raises
    ------
    UsageError
        For a name that selects nothing, or when nothing is left.
    """
    found: list[Conv] = []
    for name in names:
        network, _, layer = name.partition("/")
        known = NETWORKS.get(network, [])
        rows = [c for c in known if c.layer == layer] or [c for c in known if c.layer.startswith(layer)]
        if not rows:
            layers = "; its layers are " + ", ".join(c.layer for c in NETWORKS[network]) if network in NETWORKS else ""
            raise UsageError(f"shapes={name!r}: expected one of {', '.join(NETWORKS)}, or network/layer{layers}")
        found += [c for c in rows if c not in found]
    if groups:
        found = [c for c in found if any(GROUPS[g](c) for g in groups)]
    if sample is not None and sample < len(found):
        found.sort(key=lambda c: c.multiply_adds(1))
        steps = max(1, sample - 1)
        found = [found[round(i * (len(found) - 1) / steps)] for i in range(sample)]
    if part is not None:
        found = found[part[0] - 1::part[1]]
    if not found:
        raise UsageError("nothing is selected: no convolution of these shapes is in these groups and this slice")
    return found
