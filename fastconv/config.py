"""What this installation runs on, and why."""

from __future__ import annotations

import platform
import sys

import numpy as np

from fastconv._version import __version__
from fastconv.kernels import _runtime, blas, threads


def facts() -> dict:
    """The facts that :func:`show_config` prints, as plain values."""
    isa = _runtime.isa_info()
    found = blas.blas_info()
    return {
        "fastconv": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.machine()} {sys.platform}",
        "isa": isa["isa"],
        "isa_reason": isa["reason"],
        "isa_available": isa["available"],
        "openmp": isa["openmp"],
        "threads": threads.get_num_threads(),
        "threads_reason": threads.threads_reason(),
        "blas": dict(found) if found else None,
        "blas_reason": blas.blas_reason(),
    }


def show_config() -> None:
    """Prints version, instruction set, BLAS, OpenMP and threads, each with the reason."""
    known = facts()
    found = known["blas"]
    library = " ".join(str(found[key]) for key in ("name", "version", "architecture") if found.get(key)) if found else "none"
    lines = {
        "fastconv": f"{known['fastconv']} (Python {known['python']}, NumPy {known['numpy']}, {known['machine']})",
        "instruction set": f"{known['isa']}: {known['isa_reason']}",
        "available": ", ".join(known["isa_available"]),
        "OpenMP": "yes" if known["openmp"] else "no: this build runs on one thread",
        "threads": f"{known['threads']} ({known['threads_reason']})",
        "BLAS": f"{library}: {known['blas_reason']}",
    }
    for name, text in lines.items():
        print(f"{name:15}  {text}")
