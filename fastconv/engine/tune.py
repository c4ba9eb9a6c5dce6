"""Measuring instead of estimating: every algorithm that applies is timed where it will run, in the network's own tape."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from fastconv.lowering.choices import Choices
from fastconv.lowering.lower import Lowering

log = logging.getLogger("fastconv")


def measure(lowered: Lowering, seconds: dict[str, list[float]], found: dict) -> None:
    """Adds the times of one tape's steps to what is known of each problem and algorithm."""
    spent: dict = {}
    for segment, times in seconds.items():
        if segment == "prepare" and not lowered.training:
            continue  # weights are packed once; in training they change with every step
        for spec, took in zip(lowered.specs[segment], times, strict=True):
            if spec.choice is not None and spec.choice.keeps:
                spent[spec.choice] = spent.get(spec.choice, 0.0) + took
    for choice, took in spent.items():
        known = found.setdefault((choice.which, choice.problem, choice.precision), {})
        known[choice.algorithm] = min(took, known.get(choice.algorithm, took))


def choices_of(found: dict) -> Choices:
    choices = Choices()
    for (which, problem, precision), seconds in found.items():
        choices.add(which, problem, precision, seconds)
    return choices


def tune(run: Callable[[str | None], tuple[Lowering, dict]], algorithms: Iterable[str],
         progress: Callable | None) -> Choices:
    """Times a network once per algorithm (``run`` compiles it with that wish and times its steps) and keeps the fastest.

    Two layers with the same problem share one choice, the one with the lowest time.
    """
    found: dict = {}
    names = [None, *algorithms]
    for number, name in enumerate(names):
        if progress is not None:
            progress(number, len(names), name or "the cost model's choice")
        lowered, seconds = run(name)
        measure(lowered, seconds, found)
    choices = choices_of(found)
    log.info("tune: %d problems measured", len(choices))
    return choices
