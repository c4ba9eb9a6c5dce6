"""What a plan was traced from besides shapes, and whether that is still so.

Modules say when anything about them changes that is not a parameter's values: :func:`version` is another object then, so
that the question costs a run nothing. Where it moved, what was noted of the modules of a trace is compared with what they
are now. Their attributes count by value; lists, dicts, small arrays and plain records, which change without a word, are
compared at each run.
"""

from __future__ import annotations

import copy
import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np

_version = object()

PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})
FEW, SMALL, DEEP = 1000, 4096, 6  # entries, bytes and levels that are compared; beyond them an object is just itself
OWN = frozenset({"_parameters", "_buffers", "_modules", "_computed", "_transient", "_training"})  # for Module._traits


def version() -> object:
    """Another object whenever a module or a parameter's ``requires_grad`` has changed; see :func:`parameter.epoch`."""
    return _version


class Symbolic:
    """What stands for an array while a forward is traced: the tensors of the graph."""

    __slots__ = ()


class About(dict):
    """What is said about a module, for files and for people: its forward does not read it, so that no run compares it."""


def restructured() -> None:
    """Says that a module is not what it was."""
    global _version
    _version = object()


class _Same:
    """An object that is equal to itself alone, and stays alive."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]


def frozen(value, depth: int = 0) -> Any:
    """What later changes of a value are compared with."""
    kind = type(value)
    if kind in PLAIN:
        return kind, value
    if kind is About:
        return About
    if isinstance(value, Symbolic):
        return Symbolic  # of whatever trace ran last
    if isinstance(value, np.generic):
        return kind, value.tobytes()
    if isinstance(value, np.ndarray):
        return (kind, value.shape, value.dtype.str, value.tobytes()) if 0 < value.nbytes <= SMALL and \
            value.dtype.kind != "O" else _Same(value)
    if _is_record(value):
        return kind, frozen(vars(value), depth + 1)
    if kind in (set, frozenset):
        return kind, frozenset(value)
    if not isinstance(value, (list, tuple, dict)) or depth > DEEP:
        return _Same(value)
    if len(value) > FEW:
        return _Same(value), len(value)
    if isinstance(value, dict):
        return kind, tuple((key, frozen(v, depth + 1)) for key, v in value.items())
    return kind, tuple(frozen(v, depth + 1) for v in value)


def _is_record(value) -> bool:
    return isinstance(value, SimpleNamespace) or (dataclasses.is_dataclass(value) and not isinstance(value, type) and
                                                  hasattr(value, "__dict__"))


def _mutable(value, depth: int = 0) -> bool:
    """Whether it may change without its module noticing."""
    if isinstance(value, tuple):
        return depth <= DEEP and any(_mutable(v, depth + 1) for v in value)
    return isinstance(value, (list, dict, set, np.ndarray)) and type(value) is not About or _is_record(value)


def _plain(value, depth: int = 0) -> bool:
    """Whether ``==`` with a copy says all: lists and dicts of numbers and texts."""
    if type(value) in PLAIN:
        return True
    if depth > DEEP or type(value) not in (list, tuple, dict) or len(value) > FEW:
        return False
    return all(_plain(v, depth + 1) for v in (value.values() if isinstance(value, dict) else value))


class _Note:
    """A module as it was traced: its tables, and those of its attributes that its forward does not set itself."""

    def __init__(self, module, modes: bool):
        self.module, self.modes = module, modes
        self.before = {name: frozen(value) for name, value in self._attributes()}
        self.traits: Any = None
        self.values: dict[str, Any] = {}
        self.changeable: dict[str, Any] = {}
        self.own: set[str] = set()  # set while it was traced: not what the trace depended on

    def _attributes(self):
        return [(name, value) for name, value in vars(self.module).items() if name not in OWN]

    def finish(self) -> None:
        self.traits = self._traits()
        self.values = dict(self._attributes())
        after = {name: frozen(value) for name, value in self.values.items()}
        self.own = {name for name in {*self.before, *after} if self.before.get(name) != after.get(name)}
        for name in self.own:
            self.values.pop(name, None)
        self.changeable = {name: after[name] for name, value in self.values.items() if _mutable(value)}
        self.before = {}

    def _traits(self):
        return [(name, _Same(value)) for name, value in self.module._traits(self.modes)]

    def current(self) -> bool:
        if self._traits() != self.traits:
            return False
        now = [(name, value) for name, value in self._attributes() if name not in self.own]
        if len(now) != len(self.values):
            return False
        for name, value in now:
            if name not in self.values:
                return False
            old = self.values[name]
            if old is not value and frozen(value) != (self.changeable.get(name) or frozen(old)):
                return False
        return True


class Traced:
    """The modules that a trace called, and all below them; ``modes``: whether their training mode counted."""

    def __init__(self):
        self._notes: dict[int, _Note] = {}
        self._roots: list[tuple[Any, bool]] = []
        self._flags: list[tuple[Any, bool]] = []
        self._watched: list[tuple[Any, Any, bool]] = []
        self.version: object = None  # as of when all was found as it had been traced

    def note(self, module, modes: bool) -> None:
        """A module is about to be called."""
        found = self._notes.get(id(module))
        if found is not None and (found.modes or not modes):
            return
        self._roots.append((module, modes))
        self._note(module, modes)

    def _note(self, root, modes: bool) -> None:
        for module in root.modules():
            found = self._notes.get(id(module))
            if found is None:
                self._notes[id(module)] = _Note(module, modes)
            else:
                found.modes |= modes

    def finish(self) -> None:
        """The trace is over."""
        for root, modes in self._roots:  # what a forward made when it first ran
            self._note(root, modes)
        for note in self._notes.values():
            note.finish()
            for name, was in note.changeable.items():
                value = note.values[name]
                simple = _plain(value)
                self._watched.append((value, copy.deepcopy(value) if simple else was, simple))

    def watch(self, parameters) -> None:
        """Whether these are trained counts, too."""
        self._flags = [(p, p.requires_grad) for p in parameters]

    def stale(self) -> bool:
        """Whether :meth:`current` has to look; the shortest question that there is."""
        return self.version is not _version or bool(self._watched)

    def current(self) -> bool:
        """Whether everything is as it was traced. Costs next to nothing where nothing anywhere has changed."""
        for value, was, simple in self._watched:
            if (value != was) if simple else (frozen(value) != was):
                return False
        now = version()
        if self.version is now:
            return True
        if not all(note.current() for note in self._notes.values()) or any(p.requires_grad != f for p, f in self._flags):
            return False
        self.version = now
        return True
