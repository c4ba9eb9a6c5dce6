"""What a measurement ran on, and whether two ran on the same."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fastconv.config import caches, cores, cpu_model
from fastconv.measure.peers import Peer

SAME = ("cpu", "cores", "caches", "isa")  # what must agree for times to be compared


@contextlib.contextmanager
def opened(names: Sequence[str], threads: int, isa: str | None) -> Iterator[dict[str, Peer]]:
    """The peers' processes."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(Peer(name, threads, isa)) for name in names}


def describe(peers: Mapping[str, Peer], known: dict | None = None) -> dict:
    """The machine and everyone's versions; asked once, the environment of each process for each number of threads."""
    said = {name: peer.ask(do="hello") for name, peer in peers.items()}
    if not known:
        ours = said["fastconv"]
        known = {"cpu": cpu_model(), "cores": cores(), "caches": caches(), "memory": memory_bytes(),
                 "isa": ours["isa"], "isa_reason": ours["isa_reason"], "isa_available": ours["isa_available"],
                 "isa_detected": ours["isa_detected"], "system": platform.platform(), "python": platform.python_version(),
                 "numpy": ours["numpy"], "blas": ours["blas"],
                 "versions": {name: answer["version"] for name, answer in said.items()},
                 "parts": {name: answer["parts"] for name, answer in said.items() if "parts" in answer}, "commit": commit(),
                 "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "environment": []}
    known["environment"].append({name: peer.environment for name, peer in peers.items()})
    return known


def differences(old: dict, new: dict, fields: Sequence[str] = SAME) -> list[str]:
    """In what two machines differ, as far as times depend on it; in words."""
    return [f"{name} {_show(old.get(name))} and {_show(new.get(name))}" for name in fields if old.get(name) != new.get(name)]


def lines(machine: dict) -> list[str]:
    """The machine in words."""
    versions = ", ".join(f"{name} {version}" + "".join(f", {part} {v}" for part, v in
                                                       machine.get("parts", {}).get(name, {}).items())
                         for name, version in machine["versions"].items())
    blas = ", ".join(f"{b['internal_api']} {b['version']} ({b['architecture']})" for b in machine["blas"])
    have = ", ".join(machine["isa_available"])
    return [f"{machine['cpu']}, {machine['cores']} core{'s' * (machine['cores'] != 1)}, caches {_show(machine['caches'])}, "
            f"{machine['memory'] / 2**30:.0f} GiB; {machine['isa']} ({machine['isa_reason']}; of {have})",
            f"{versions}; NumPy {machine['numpy']} with {blas or 'no BLAS'}; Python {machine['python']}; "
            f"{machine['system']}"]


def _show(value) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def commit() -> str | None:
    """The commit of the working tree that fastconv is imported from, "+" behind it where files have changed."""
    tree = Path(__file__).resolve().parents[2]
    if not (tree / ".git").exists():
        return None
    try:
        run = [subprocess.run(["git", *command], cwd=tree, capture_output=True, text=True, check=True).stdout.strip()
               for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])]
    except (OSError, subprocess.CalledProcessError):
        return None
    return run[0] + ("+" if run[1] else "")
