"""How many threads runs use: an argument, OMP_NUM_THREADS, the affinity mask and the control group's quota."""

from __future__ import annotations

import math
import os

_state = {"threads": 0, "reason": ""}


def available_threads(root: str = "/") -> tuple[int, str]:
    """(threads, reason) that this process may use: the least of what the environment, affinity and quota say.

    ``root`` is the folder that holds ``proc`` and ``sys``.
    """
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if hasattr(os, "sched_getaffinity"):
        number, reason = len(os.sched_getaffinity(0)), "affinity mask"
    else:
        number, reason = os.cpu_count() or 1, "number of processors"
    quota = cgroup_quota(root)
    if quota is not None and quota < number:
        number, reason = quota, "control group quota"
    if text.isdigit() and int(text) > 0:
        return int(text), "OMP_NUM_THREADS"
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
        At least 1. Results do not depend on it.

    Raises
    ------
    TypeError, ValueError
        When n is not an integer, or less than 1.
    """
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"set_num_threads: n={n!r} is of type {type(n).__name__}: expected an integer")
    if n.__index__() < 1:
        raise ValueError(f"set_num_threads: n={n} must be at least 1")
    _state.update(threads=n.__index__(), reason="set_num_threads")


def get_num_threads() -> int:
    """The number of threads of the following runs."""
    return _state["threads"]


def threads_reason() -> str:
    """Where the number of threads came from."""
    return _state["reason"]


def _after_fork() -> None:
    # the thread pool of the OpenMP runtime does not survive a fork; a region with more than one thread would hang
    _state.update(threads=1, reason="child of a fork")


_state["threads"], _state["reason"] = available_threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
