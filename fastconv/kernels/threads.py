"""How many threads runs use: an argument, OMP_NUM_THREADS, the affinity mask and the control group's quota."""

from __future__ import annotations

import math
import operator
import os
import weakref
from typing import Any

from fastconv._values import shown
from fastconv.kernels import locks  # noqa: F401  (its locks are renewed in a child before anything here)
from fastconv.kernels._runtime import try_again
from fastconv.kernels.affinity import bound, processors

MOST = 1024  # threads: more than any machine that this is for has processors, and few enough to be started

_state: dict[str, Any] = {"threads": 0, "reason": "", "forked": False}
_to_reset: weakref.WeakSet = weakref.WeakSet()


def available_threads(root: str = "/") -> tuple[int, str]:
    """(threads, reason) that this process may use: the least of what the environment, affinity and quota say.

    ``root`` is the folder that holds ``proc`` and ``sys``.
    """
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if hasattr(os, "sched_getaffinity"):
        number, reason = len(processors()), "places of OpenMP" if bound() else "affinity mask"
    else:
        number, reason = os.cpu_count() or 1, "number of processors"
    quota = cgroup_quota(root)
    if quota is not None and quota < number:
        number, reason = quota, "control group quota"
    if text.isascii() and text.isdigit() and text.strip("0"):
        asked = int(text) if len(text) < 10 else MOST + 1
        return min(asked, MOST), "OMP_NUM_THREADS" if asked <= MOST else f"OMP_NUM_THREADS, of which at most {MOST}"
    return max(1, number), reason


def cgroup_quota(root: str = "/") -> int | None:
    """Whole processors that the control group grants (cpu.max of version 2, cfs_quota_us of version 1), or None."""
    best: float | None = None
    for folder in _cgroup_folders(root):
        try:
            with open(os.path.join(folder, "cpu.max")) as file:
                quota, period = file.read().split()[:2]
        except (OSError, ValueError):
            try:
                with open(os.path.join(folder, "cpu.cfs_quota_us")) as file:
                    quota = file.read().strip()
                with open(os.path.join(folder, "cpu.cfs_period_us")) as file:
                    period = file.read().strip()
            except OSError:
                continue
        try:
            share = int(quota) / int(period)
        except (ValueError, ZeroDivisionError):  # "max", or a broken file
            continue
        if share > 0:
            best = share if best is None else min(best, share)
    return None if best is None else max(1, math.ceil(best))


def _cgroup_folders(root: str) -> list[str]:
    """The process's groups and their parents, innermost first."""
    folders = []
    base = os.path.join(root, "sys/fs/cgroup")
    try:
        with open(os.path.join(root, "proc/self/cgroup")) as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    for line in lines:
        parts = line.split(":", 2)
        if len(parts) != 3 or (parts[1] and "cpu" not in parts[1].split(",")):
            continue
        top = base if not parts[1] else os.path.join(base, parts[1])
        path = parts[2].strip("/")
        while path:
            folders.append(os.path.join(top, path))
            path = os.path.dirname(path)
        folders.append(top)
    folders += [base, os.path.join(base, "cpu")]
    return folders


def set_num_threads(n: int) -> None:
    """Sets the number of threads of all following runs.

    Parameters
    ----------
    n : int
        From 1 to 1024. Results do not depend on it. The child of a fork runs on one thread whatever is set.

    Raises
    ------
    TypeError, ValueError
        When n is not an integer, or outside that range.
    """
    number = check_threads("set_num_threads", "n", n)
    if not _state["forked"]:
        _state.update(threads=number, reason="set_num_threads")
        try_again()


def check_threads(op: str, name: str, value) -> int:
    """A number of threads that may be asked for."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{op}: {name}={shown(value)} is of type {type(value).__name__}: expected an integer")
    if not 1 <= number <= MOST:
        raise ValueError(f"{op}: {name}={number} must be from 1 to {MOST}")
    return number


def threads_for(asked: int) -> int:
    """How many threads a run uses for which so many were asked; 0 where none were."""
    return 1 if _state["forked"] else asked or _state["threads"]


def get_num_threads() -> int:
    """The number of threads of the following runs."""
    return _state["threads"]


def threads_reason() -> str:
    """Where the number of threads came from."""
    return _state["reason"]


def _after_fork() -> None:
    # the thread pool of the OpenMP runtime does not survive a fork; a region with more than one thread would hang
    _state.update(threads=1, reason="child of a fork", forked=True)
    for owner in list(_to_reset):
        owner.after_fork()


def reset_in_children(owner) -> None:
    """Has ``owner.after_fork()`` called in the child of a fork, where what other threads had in hand is lost."""
    _to_reset.add(owner)


_state["threads"], _state["reason"] = available_threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
