"""The whole networks that are measured: those of fastconv.zoo, and a U-Net."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

from fastconv import zoo
from fastconv.bench.unet import UNet
from fastconv.cli._recipes import recipe
from fastconv.graph.random import manual_seed
from fastconv.measure import subject


class Subject(NamedTuple):
    """How a network is made, and the shape (C, H, W) of its input."""

    make: Callable
    shape: tuple[int, int, int]


def _subjects() -> dict[str, Subject]:
    known = {}
    for name, make in sorted(zoo.NETWORKS.items()):
        size = recipe(name).size
        known[name] = Subject(make, (1 if name == "lenet5" else 3, size, size))
    return {**known, "unet": Subject(UNet, (3, 256, 256))}


SUBJECTS = _subjects()


@contextlib.contextmanager
def written(name: str, modes=subject.MODES) -> Iterator[str]:
    """A folder that describes the network, with the same untrained weights each time."""
    with tempfile.TemporaryDirectory(prefix="fastconv-bench-") as folder:
        manual_seed(0)
        subject.write(folder, SUBJECTS[name].make(), SUBJECTS[name].shape, modes)
        yield folder
