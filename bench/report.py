"""What all benchmarks print and write: the machine, tables, JSON."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import ROOT, timing
from bench.peers import Peer


@contextlib.contextmanager
def opened(names: Sequence[str], threads: int, isa: str | None) -> Iterator[dict[str, Peer]]:
    """The peers' processes."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(Peer(name, threads, isa)) for name in names}


def cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
        return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine(peers: dict[str, Peer], known: dict | None) -> dict:
    """The machine and everyone's versions; asked once, the environment of each process for each number of threads."""
    said = {name: peer.ask(do="hello") for name, peer in peers.items()}
    if known is None:
        affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        known = {"cpu": cpu_model(), "cores": len(affinity), "isa": said["fastconv"]["isa"],
                 "isa_reason": said["fastconv"]["isa_reason"], "system": platform.platform(),
                 "python": platform.python_version(), "numpy": said["fastconv"]["numpy"], "blas": said["fastconv"]["blas"],
                 "versions": {name: answer["version"] for name, answer in said.items()}, "commit": commit(),
                 "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "environment": []}
    known["environment"].append({name: peer.environment for name, peer in peers.items()})
    return known


def commit() -> str | None:
    """The commit of the working tree, "+" behind it where files have changed."""
    try:
        run = [subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
               for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])]
    except (OSError, subprocess.CalledProcessError):
        return None
    return run[0] + ("+" if run[1] else "")


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need; the first two to the left."""
    rows = [list(head), *[[*line, *[""] * (len(head) - len(line))] for line in lines]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        print("  ".join(cells).rstrip())


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The same as a Markdown table."""
    rows = [list(head), ["---"] * len(head), *[[*line, *[""] * (len(head) - len(line))] for line in lines]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)


def write_text(name: str, text: str) -> None:
    """Writes a file, and the folder that it lies in."""
    target = Path(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text.strip() + "\n")


def time_and_share(case: dict) -> str:
    return f"{timing.show_seconds(case['median_seconds'])} {case['share_of_peak']:4.0%}"


def footer(machine: dict, warnings: Sequence[str]) -> None:
    """The machine, how times were taken, and warnings."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    blas = ", ".join(f"{b['internal_api']} {b['version']} ({b['architecture']})" for b in machine["blas"])
    print(f"\n{machine['cpu']}, {machine['cores']} core(s), {machine['isa']} ({machine['isa_reason']}); {versions}; "
          f"NumPy {machine['numpy']} with {blas or 'no BLAS'}; Python {machine['python']}; {machine['system']}")
    print("Times are medians over rounds, ratios medians of the pairs of each round, spreads interquartile ranges by the "
          "median; each peer in a process of its own, stopped while another is timed, with the same number of threads.")
    for line in warnings:
        print(line)


def write(path: str, content: dict, options) -> None:
    """Writes the JSON, to a temporary name first."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    whole = {"format": 1, "benchmark": options.benchmark, "command": [Path(sys.argv[0]).parent.name, *sys.argv[1:]],
             "options": {k: v for k, v in vars(options).items() if not callable(v)}, **content}
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_text(json.dumps(whole, indent=1) + "\n")
    os.replace(temporary, target)
