"""How much memory this process holds, from /proc; without that (not on Linux) only the most it has ever held."""

from __future__ import annotations

import sys


def resident() -> dict[str, int]:
    """``now`` (0 where it is not known) and ``most`` since the start or :func:`forget`: bytes of resident memory."""
    try:
        with open("/proc/self/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        return {"now": 1024 * int(fields["VmRSS"].split()[0]), "most": 1024 * int(fields["VmHWM"].split()[0])}
    except (OSError, KeyError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"now": 0, "most": most if sys.platform == "darwin" else 1024 * most}


def forget() -> bool:
    """Lets ``most`` begin anew; whether that worked."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True
