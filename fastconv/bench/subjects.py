"""The whole networks that are measured: those of fastconv.zoo, a U-Net, and those of ONNX files."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fastconv import zoo
from fastconv._arguments import UsageError, extent
from fastconv._model import open_model
from fastconv._recipes import recipe
from fastconv.bench.unet import UNet
from fastconv.graph.random import manual_seed
from fastconv.graph.trace import trace
from fastconv.measure import subject


class Subject(NamedTuple):
    """How a network is made, the shape (C, H, W) of its input, and the ONNX file that it is read from."""

    make: Callable
    shape: tuple[int, ...]
    source: str | None = None


def _subjects() -> dict[str, Subject]:
    known = {}
    for name, make in sorted(zoo.NETWORKS.items()):
        size = recipe(name).size
        known[name] = Subject(make, (1 if name == "lenet5" else 3, size, size))
    return {**known, "unet": Subject(UNet, (3, 256, 256))}


SUBJECTS = _subjects()
_FILE = re.compile(r"(?P<path>.*\.onnx)(?:@(?P<size>[^@]*))?", re.IGNORECASE | re.DOTALL)


def is_file(name: str) -> bool:
    """Whether a network is named by an ONNX file: ``model.onnx``, or ``model.onnx@320x240``."""
    return name not in SUBJECTS and _FILE.fullmatch(name) is not None


def label(name: str) -> str:
    """The name that tables show: a file's without its folders."""
    return os.path.basename(name) if is_file(name) else name


def of(name: str) -> Subject:
    """A network by its name, or by that of its ONNX file; ``model.onnx@320x240`` says height and width where any would do.

    Raises
    ------
    OSError, ValueError, NotImplementedError, UsageError
        For a file that cannot be read as a model of one input, or that does not take these extents.
    """
    return _read(name) if is_file(name) else SUBJECTS[name]


def check(networks: Iterable[str]) -> None:
    """Raises what :func:`of` does, before anything is measured."""
    for name in networks:
        of(name)


@functools.cache
def _read(name: str) -> Subject:
    found = _FILE.fullmatch(name)
    assert found is not None
    size = found["size"]
    try:
        model = open_model(found["path"], None if size is None else extent(size))
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{name}: {error}") from None
    except UsageError as error:
        text = str(error).replace("--input-size says", "@SIZE behind its name says").replace("--input-size ", "@")
        raise UsageError(text) from None
    try:
        trace(model.network.symbolic(False), [((1, *model.shape), "input")])
    except (TypeError, ValueError, NotImplementedError) as error:
        raise UsageError(f"{name}: with an input of shape {(1, *model.shape)}: {error}") from error
    return Subject(lambda: model.network, model.shape, found["path"])


@contextlib.contextmanager
def written(name: str, modes=subject.MODES) -> Iterator[str]:
    """A folder that describes the network, with the same untrained weights each time; that of a file for inference alone."""
    found = of(name)
    with tempfile.TemporaryDirectory(prefix="fastconv-bench-") as folder:
        manual_seed(0)
        subject.write(folder, found.make(), found.shape, modes[:1] if found.source else modes, found.source)
        yield folder
