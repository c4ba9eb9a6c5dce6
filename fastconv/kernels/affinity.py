"""The processors that this process may use, also where an OpenMP runtime has bound the main thread to one.

With OMP_PROC_BIND, OMP_PLACES or GOMP_CPU_AFFINITY libgomp binds the thread that loads it, so that the thread's own mask
says one processor from then on. What the process had been given is what the runtimes call their places.
"""

from __future__ import annotations

import ctypes
import os
import re
from typing import Any

BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
RUNTIME = re.compile(r"\s(/\S*/lib(?:gomp|iomp5|omp)[^/\s]*)$", re.MULTILINE)


def bound() -> bool:
    """Whether the environment may have a runtime bind threads."""
    if not hasattr(os, "sched_getaffinity") or os.environ.get("OMP_PROC_BIND", "").strip().lower() == "false":
        return False
    return any(os.environ.get(name, "").strip() for name in BINDING)


def places(runtime: Any) -> set[int]:
    """The processors of the places of an OpenMP runtime that binds threads to them; none where it does not."""
    found: set[int] = set()
    try:
        if not runtime.omp_get_proc_bind():
            return found
        for place in range(runtime.omp_get_num_places()):
            numbers = (ctypes.c_int * max(1, runtime.omp_get_place_num_procs(place)))()
            runtime.omp_get_place_proc_ids(place, numbers)
            found.update(numbers)
    except AttributeError:  # older than OpenMP 4.5
        return set()
    return found


def runtimes(maps: str = "/proc/self/maps") -> list[Any]:
    """The OpenMP runtimes that are loaded."""
    try:
        with open(maps) as file:
            paths = sorted(set(RUNTIME.findall(file.read())))
    except OSError:
        return []
    found = []
    for path in paths:
        try:
            found.append(ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW))
        except OSError:
            continue
    return found


def processors() -> set[int]:
    """The processors of this process: its mask, and those that runtimes have places on where threads are bound."""
    mine = os.sched_getaffinity(0)
    if bound():
        return mine.union(*(places(runtime) for runtime in runtimes()))
    return mine


class Unbound:
    """While it is open the main thread has all the processors that the process was given: an OpenMP runtime that is loaded
    then sees them. It binds the thread again; where none did, the mask is what it was."""

    def __enter__(self) -> Unbound:
        self.before = self.during = os.sched_getaffinity(0) if bound() else set()
        if self.before and processors() > self.before:
            try:
                os.sched_setaffinity(0, processors())
                self.during = os.sched_getaffinity(0)
            except OSError:  # not allowed: then it stays
                pass
        return self

    def __exit__(self, *exception: object) -> None:
        if self.during != self.before and os.sched_getaffinity(0) == self.during:
            os.sched_setaffinity(0, self.before)
