"""Benchmarks against the installed peers: ``python -m bench conv|train|infer``. Not part of the installed package."""

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Started in a working tree that has not been built in place, Python would find its fastconv, which has no kernels, before
# the installed one.
if not any((ROOT / "fastconv" / "kernels" / f"_runtime{suffix}").exists() for suffix in EXTENSION_SUFFIXES):
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
