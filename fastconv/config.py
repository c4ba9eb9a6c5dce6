"""What this installation runs on, and why."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

from fastconv._version import __version__
from fastconv.kernels import _runtime, blas, threads
from fastconv.kernels.affinity import processors


def facts() -> dict:
    """The facts that :func:`show_config` prints, as plain values."""
    isa = _runtime.isa_info()
    found = blas.blas_info()
    return {
        "fastconv": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.machine()} {sys.platform}",
        "processor": cpu_model(),
        "cores": cores(),
        "caches": caches(),
        "isa": isa["isa"],
        "isa_reason": isa["reason"],
        "isa_available": isa["available"],
        "isa_lacking": lacking(isa),
        "openmp": isa["openmp"],
        "openmp_runtimes": openmp_runtimes() if isa["openmp"] else [],
        "threads": threads.get_num_threads(),
        "threads_reason": threads.threads_reason(),
        "blas": dict(found) if found else None,
        "blas_reason": blas.blas_reason(),
    }


def show_config() -> None:
    """Prints version, processor, instruction sets, BLAS, OpenMP and threads, each with the reason."""
    known = facts()
    runtimes = known["openmp_runtimes"]
    openmp = "; ".join(f"{r['name']} ({r['file']})" for r in runtimes) or "yes; which library cannot be told"
    if len(runtimes) > 1:
        openmp += ": several in this process, whose threads may compete; import fastconv before the others, or use one"
    sizes = ", ".join(f"{level} {size}" for level, size in known["caches"].items())
    lines = {
        "fastconv": f"{known['fastconv']} (Python {known['python']}, NumPy {known['numpy']}, {known['machine']})",
        "processor": f"{known['processor']}, {known['cores']} usable" + (f"; caches {sizes}" if sizes else ""),
        "instruction set": f"{known['isa']}: {known['isa_reason']}",
        "available": ", ".join(known["isa_available"]),
        "not available": "; ".join(f"{name}: {reason}" for name, reason in known["isa_lacking"].items()) or "-",
        "OpenMP": openmp if known["openmp"] else "no: this build runs on one thread",
        "threads": f"{known['threads']} ({known['threads_reason']})",
        "BLAS": f"{_library(known['blas'])}: {known['blas_reason']}",
    }
    for name, text in lines.items():
        print(f"{name:15}  {text}")


def _library(found: dict | None) -> str:
    if not found:
        return "none"
    name = " ".join(str(found[key]) for key in ("name", "version", "architecture") if found.get(key))
    return f"{name} ({found['symbol']}, {found['integer_bits']}-bit integers, {found['file']})"


def lacking(isa: dict) -> dict[str, str]:
    """Why each instruction set that is not available is not."""
    reasons = {}
    for name in isa["known"]:
        if name not in isa["detected"]:
            reasons[name] = "this processor or its operating system lacks it"
        elif name not in isa["compiled"]:
            reasons[name] = "this build does not contain it"
        elif name not in isa["available"]:
            reasons[name] = "not usable here"
    return reasons


def openmp_runtimes() -> list[dict[str, str]]:
    """The OpenMP libraries in this process: ``name`` and ``file``."""
    from threadpoolctl import threadpool_info

    return [{"name": library["prefix"], "file": library["filepath"]} for library in threadpool_info()
            if library["user_api"] == "openmp"]


# ---- the machine ------------------------------------------------------------------------------------------------------


def cpu_model() -> str:
    """The processor's name, with family, model and stepping: clouds call several generations by one name."""
    fields: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    more = [f"{name} {fields[key]}" for name, key in (("family", "cpu family"), ("model", "model"),
                                                      ("stepping", "stepping")) if key in fields]
    name = fields.get("model name") or _sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine()
    return f"{name} ({', '.join(more)})" if more else name


def cores() -> int:
    """Processors that this process may use."""
    return len(processors()) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def caches(root: str = "/") -> dict[str, str]:
    """Sizes of the first processor's caches, as the kernel writes them: {"L1d": "32K", "L2": "1024K"}."""
    found = {}
    for folder in sorted(Path(root, "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        with contextlib.suppress(OSError):
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
            if kind != "Instruction":
                found[f"L{level}{'d' if kind == 'Data' else ''}"] = size
    return found


def _sysctl(name: str) -> str:
    try:
        return subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
