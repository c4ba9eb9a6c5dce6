"""Benchmarks against the installed peers: ``python -m bench conv|train|infer``. Not part of the installed package."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
