"""Benchmarks against the installed peers: ``python -m bench --help``. Not part of the installed package."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class BadOption(ValueError):
    """An option that cannot be followed; its message is all that the user needs."""
