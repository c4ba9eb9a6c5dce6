"""The options that engines and trainers share, checked."""

from __future__ import annotations

import numpy as np

from fastconv._values import shown
from fastconv.kernels.threads import check_threads
from fastconv.lowering.choices import Choices
from fastconv.lowering.lower import PRECISIONS
from fastconv.ops.conv.choose import PASSES, names

ALIKE = 2  # images: the batch for which algorithms are chosen, whatever the batch is: see docs/performance.md


def check_options(op: str, precision, algorithm, threads) -> None:
    """A precision, an algorithm and a number of threads that may be asked for."""
    if precision not in PRECISIONS:
        raise ValueError(f"{op}: precision={shown(precision)}: expected one of {', '.join(PRECISIONS)}")
    check_algorithm(op, algorithm)
    if threads is not None:
        check_threads(op, "threads", threads)


def check_algorithm(op: str, algorithm) -> None:
    """A name, a dict from path to name (or to a dict from pass to name), Choices, or None."""
    if algorithm is None or isinstance(algorithm, Choices):
        return
    if not isinstance(algorithm, (str, dict)):
        raise TypeError(f"{op}: algorithm is a {type(algorithm).__name__}: expected a name, a dict or Choices")
    for name in algorithm.values() if isinstance(algorithm, dict) else [algorithm]:
        if isinstance(name, dict):
            wrong = [which for which in name if which not in PASSES]
            if wrong:
                raise ValueError(f"{op}: algorithm names the pass {wrong[0]!r}: expected {', '.join(PASSES)}")
        for one in name.values() if isinstance(name, dict) else [name]:
            if one is not None and one not in names():
                raise ValueError(f"{op}: algorithm={shown(one)}: expected one of {', '.join(names())}")


def alike(algorithm, batch: int = 0) -> int:
    """The batch to choose algorithms for, so that all batches have the same ones: ALIKE, or of measured choices ``batch``
    if it has been measured, else the largest that has."""
    measured = algorithm.batches if isinstance(algorithm, Choices) else ()
    return batch if batch in measured else max(measured, default=ALIKE)


def check_count(op: str, name: str, value) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{op}: {name}={shown(value)}: expected an integer of at least 1")
