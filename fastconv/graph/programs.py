"""Programs of elementwise instructions: how they are written, with Python's operators, and made smaller.

A program is a tuple of lines ``(instruction, operand, ...)``: an operand is a float, or the number of a value. Inputs are
the values from 0 on, then each line makes one. The instructions are those of ``include/fastconv/map/map.def``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastconv.kernels.map import OPERANDS

Line = tuple
Program = tuple[Line, ...]


class Builder:
    """A program being written; a line that is there already is not written again."""

    def __init__(self, inputs: int):
        self.inputs, self.lines = inputs, []  # type: int, list[Line]
        self.known: dict[tuple, int] = {}

    def input(self, i: int) -> Value:
        return Value(self, i)

    def line(self, name: str, *operands: Any) -> Value:
        """The value of an instruction over values and numbers."""
        line = (name, *(o.at if isinstance(o, Value) else float(o) for o in operands))
        if len(line) != 1 + OPERANDS[name]:
            raise ValueError(f"{name} has {OPERANDS[name]} operands, not {len(line) - 1}")
        key = tuple(repr(o) for o in line)  # 0.0 and -0.0 are two things
        if key not in self.known:
            self.lines.append(line)
            self.known[key] = self.inputs + len(self.lines) - 1
        return Value(self, self.known[key])

    def add(self, program: Program, inputs: Sequence[Any]) -> list[Any]:
        """Writes a program over these values in the place of its inputs; all its values, inputs first."""
        values = list(inputs)
        for name, *operands in program:
            values.append(self.line(name, *(values[o] if type(o) is int else o for o in operands)))
        return values

    def done(self, results: Sequence[Any]) -> tuple[Program, tuple[int, ...]]:
        """The lines that the results need, and the results' numbers."""
        wanted = [r.at if isinstance(r, Value) else r for r in results]
        return needed(self.inputs, tuple(self.lines), wanted)


def needed(inputs: int, lines: Program, results: Sequence[int]) -> tuple[Program, tuple[int, ...]]:
    """A program without the lines that no result needs."""
    alive = set(results)
    for at in range(inputs + len(lines) - 1, inputs - 1, -1):
        if at in alive:
            alive.update(o for o in lines[at - inputs][1:] if type(o) is int)
    place = {i: i for i in range(inputs)}
    kept = []
    for at, line in enumerate(lines, inputs):
        if at in alive:
            kept.append((line[0], *(place[o] if type(o) is int else o for o in line[1:])))
            place[at] = inputs + len(kept) - 1
    return tuple(kept), tuple(place[r] for r in results)


class Value:
    """A value of a program being written, with Python's operators and a method per instruction (``x.exp()``)."""

    __slots__ = ("at", "builder")

    def __init__(self, builder: Builder, at: int):
        self.builder, self.at = builder, at

    def __getattr__(self, name: str) -> Callable[..., Value]:
        if name not in OPERANDS:
            raise AttributeError(name)
        return lambda *others: self.builder.line(name, self, *others)

    def __neg__(self) -> Value:
        return self.builder.line("neg", self)

    def where(self, yes: Any, no: Any) -> Value:
        """``yes`` where this is not 0, else ``no``."""
        return self.builder.line("where", self, yes, no)


def _operator(name: str, instruction: str) -> None:
    def forward(self, other):
        return self.builder.line(instruction, self, other)

    def reflected(self, other):
        return self.builder.line(instruction, other, self)

    setattr(Value, f"__{name}__", forward)
    if name not in ("lt", "le", "gt", "ge"):
        setattr(Value, f"__r{name}__", reflected)


for _name, _instruction in (
    ("add", "add"),
    ("sub", "sub"),
    ("mul", "mul"),
    ("truediv", "div"),
    ("pow", "pow"),
    ("lt", "lt"),
    ("le", "le"),
    ("gt", "gt"),
    ("ge", "ge"),
):
    _operator(_name, _instruction)


def write(function: Callable, inputs: int) -> tuple[Program, tuple[int, ...]]:
    """The program of a Python function over that many values, and the numbers of its results."""
    builder = Builder(inputs)
    made = function(*map(builder.input, range(inputs)))
    made = made if isinstance(made, tuple) else (made,)
    return builder.done([builder.line("copy", m) if not isinstance(m, Value) else m for m in made])
