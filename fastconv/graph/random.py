"""The one source of randomness: a seed, and a generator for initial values."""

from __future__ import annotations

import operator

import numpy as np

from fastconv._values import shown
from fastconv.kernels.locks import Lock
from fastconv.kernels.threads import reset_in_children

_state: dict = {}
_lock = Lock("random numbers")
_words = np.zeros(2, np.uint64)  # seed, and how many forwards have drawn since: dropout's steps read and count here


def manual_seed(seed: int) -> None:
    """Seeds initialisers and dropout.

    Parameters
    ----------
    seed : int
        From 0 to 2**64 - 1. Equal seeds give equal numbers, whatever the number of threads.

    Raises
    ------
    TypeError, ValueError
        When seed is not an integer, or outside that range.
    """
    try:
        value = operator.index(seed)
    except TypeError:
        raise TypeError(f"manual_seed: seed={shown(seed)} is of type {type(seed).__name__}: expected an integer") from None
    if not 0 <= value < 2**64:
        raise ValueError(f"manual_seed: seed={seed} must be from 0 to 2**64 - 1")
    _words[:] = value, 0
    _state["seed"], _state["generator"] = value, np.random.Generator(np.random.PCG64(value))


def initial_seed() -> int:
    """The seed last set, or the one drawn from the operating system where none was."""
    if not _state:
        manual_seed(int(np.random.SeedSequence().generate_state(1, np.uint64)[0]))
    return _state["seed"]


def default_generator() -> np.random.Generator:
    """The generator that initialisers draw from."""
    initial_seed()
    return _state["generator"]


def random_state() -> np.ndarray:
    """What dropout draws from: uint64 (seed, offset), always the same array; each forward that draws adds 1 to offset."""
    initial_seed()
    return _words


class _Renewed:
    """NumPy's generators hold a lock of their own while they draw, in the middle of which another thread may have forked."""

    def after_fork(self) -> None:
        if _state:
            _state["generator"] = check_state(get_state())


_renewed = _Renewed()
reset_in_children(_renewed)


def draw() -> tuple[int, int]:
    """(seed, offset) for one draw; the next gets another offset."""
    initial_seed()
    with _lock:
        words = int(_words[0]), int(_words[1])
        _words[1] += np.uint64(1)
    return words


def get_state() -> dict:
    """All that later draws depend on, as numbers and strings."""
    initial_seed()
    return {"seed": _state["seed"], "words": [int(w) for w in _words],
            "generator": _state["generator"].bit_generator.state}


def check_state(state: dict) -> np.random.Generator:
    """The generator of a :func:`get_state`; ValueError where it is none."""
    try:
        generator = np.random.Generator(np.random.PCG64(0))
        generator.bit_generator.state = state["generator"]
        words = [operator.index(w) for w in (*state["words"], state["seed"])]
        if len(words) != 3 or not all(0 <= w < 2**64 for w in words):
            raise ValueError(f"words={shown(state['words'])} and seed={shown(state['seed'])} must be from 0 to 2**64 - 1")
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ValueError(f"the random state is malformed: {type(error).__name__}: {error}") from None
    return generator


def set_state(state: dict) -> None:
    """Goes on drawing where :func:`get_state` was taken; nothing has changed when it raises."""
    generator = check_state(state)
    _words[:] = state["words"]
    _state["seed"], _state["generator"] = int(state["seed"]), generator
