"""The one source of randomness: a seed, and a generator for initial values."""

from __future__ import annotations

import operator
import threading

import numpy as np

_state: dict = {}
_lock = threading.Lock()
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
        raise TypeError(f"manual_seed: seed={seed!r} is of type {type(seed).__name__}: expected an integer") from None
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


def draw() -> tuple[int, int]:
    """(seed, offset) for one draw; the next gets another offset."""
    initial_seed()
    with _lock:
        words = int(_words[0]), int(_words[1])
        _words[1] += np.uint64(1)
    return words
