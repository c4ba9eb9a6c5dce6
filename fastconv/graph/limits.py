"""How much memory there is, and problems that could never fit."""

from __future__ import annotations

import os


def memory_limit() -> int:
    """Bytes of memory this process may use: the machine's, or the control group's limit if that is lower."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                text = file.read().strip()
        except OSError:
            continue
        if text.isdigit():
            limit = min(limit, int(text))
    return limit


def check_memory(nbytes: int) -> None:
    """Raises MemoryError, naming the sizes, when a plan could never fit."""
    limit = memory_limit()
    if nbytes > limit:
        raise MemoryError(f"the plan needs {nbytes / 2**20:,.0f} MiB, more than the {limit / 2**20:,.0f} MiB that there "
                          "are: a smaller batch or input is needed")
