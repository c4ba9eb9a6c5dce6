"""Steps before they are bound: what a kernel's factory is given, references unresolved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fastconv.graph.ir import Node
from fastconv.kernels.layout import Slot
from fastconv.lowering.places import Buffer, Ref

SEGMENTS = ("prepare", "forward", "backward", "perturb", "accumulate", "update")


class Choice(NamedTuple):
    """The algorithm of one convolution or one gradient of it: ``which`` pass of which ``problem``, and ``why``; whether it
    keeps the promise of the ``precision``."""

    which: str
    problem: str
    precision: str
    algorithm: str
    why: str
    keeps: bool = True


class DoorSpec(NamedTuple):
    """A step that copies between the array of a slot and a buffer, whose place the array can take: into it, or out of it."""

    slot: Slot
    step: StepSpec
    buffer: Buffer
    into: bool


@dataclass(eq=False)
class StepSpec:
    """A step to be bound: the factory of its kernel family and keyword arguments, references in them unresolved."""

    factory: Callable
    arguments: tuple
    keywords: dict
    segment: str
    path: str
    op: str
    algorithm: str
    info: dict = field(default_factory=dict)
    choice: Choice | None = None
    node: Node | None = None
    images: int | None = None  # for how many it runs whatever the batch of the run

    @property
    def why(self) -> str:
        """Why its algorithm was chosen; of the step that does the work, not of those that prepare it."""
        return self.choice.why if self.choice and self.info else ""

    def refs(self) -> list[Ref]:
        found: list[Ref] = []
        _collect(self.arguments, found)
        _collect(tuple(self.keywords.values()), found)
        return found


def _collect(values: Sequence, found: list[Ref]) -> None:
    """References among the values and in lists and tuples of them."""
    for value in values:
        if isinstance(value, Ref):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            _collect(value, found)
