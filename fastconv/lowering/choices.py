"""Measured choices of algorithms, by problem: made by ``tune()``, kept in a file, given to ``compile(algorithm=...)``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

from fastconv._atomic import open_regular, write_atomic
from fastconv.kernels._runtime import isa_info

FORMAT = 1


class Choices:
    """Which algorithm was fastest, by instruction set, precision, pass and problem.

    Give it as ``algorithm=`` to :func:`fastconv.compile` or to a :class:`fastconv.Trainer`. A problem that it does not know,
    or that was measured on another instruction set, is left to the cost model.
    """

    def __init__(self, entries: dict[str, dict] | None = None):
        self.entries: dict[str, dict] = dict(entries or {})

    @staticmethod
    def key(which: str, problem: str, precision: str) -> str:
        """The name of a problem under which choices are kept; it begins with the instruction set that was measured."""
        return f"{isa_info()['isa']} {precision} {which} {problem}"

    def add(self, which: str, problem: str, precision: str, seconds: dict[str, float]) -> None:
        """Records the seconds of each algorithm; the fastest is the choice."""
        best = min(seconds, key=seconds.__getitem__)
        self.entries[self.key(which, problem, precision)] = {"algorithm": best, "seconds": dict(seconds)}

    def find(self, which: str, problem: str, precision: str) -> str | None:
        """The algorithm of a problem, None where it has not been measured."""
        entry = self.entries.get(self.key(which, problem, precision))
        return entry["algorithm"] if entry else None

    @property
    def batches(self) -> set[int]:
        """The batches that have been measured."""
        return {int(n) for key in self.entries for n in re.findall(r" n(\d+) g\d", key)}

    def update(self, other: Choices) -> None:
        """Takes over all choices of another."""
        self.entries.update(other.entries)

    def save(self, path) -> None:
        """Writes a JSON file, whole or not at all."""
        with write_atomic(path) as file:
            file.write(json.dumps(self.to_dict(), indent=1).encode())

    def to_dict(self) -> dict:
        """Everything, as dicts, strings and numbers."""
        return {"fastconv_choices": FORMAT, "entries": {key: dict(entry) for key, entry in self.entries.items()}}

    @classmethod
    def from_dict(cls, data: dict) -> Choices:
        """From what :meth:`to_dict` returned; a ValueError for anything else."""
        try:
            if data["fastconv_choices"] != FORMAT:
                raise ValueError(f"its format is {data['fastconv_choices']!r}, this version reads {FORMAT}")
            for key, entry in data["entries"].items():
                if not isinstance(entry["algorithm"], str) or not isinstance(entry["seconds"], dict):
                    raise ValueError(f"the entry {key!r} names no algorithm")
            return cls(data["entries"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a dict of choices: {type(error).__name__}: {error}") from None

    @classmethod
    def load(cls, path) -> Choices:
        """Reads what :meth:`save` wrote.

        Raises
        ------
        OSError
            When the file cannot be read.
        ValueError
            When it is not a file of choices.
        """
        path = os.fspath(path)
        with open_regular(path) as file:
            content = file.read()
        try:
            return cls.from_dict(json.loads(content))
        except ValueError as error:
            raise ValueError(f"{path!r} is not a file of choices: {error}") from None

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __repr__(self) -> str:
        return f"<fastconv.Choices of {len(self)} problems>"
