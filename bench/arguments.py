"""What the options of ``python -m bench`` may be."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bench import BadOption


def names(text: str) -> list[str]:
    return list(dict.fromkeys(part for part in text.split(",") if part))


def count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected an integer of at least 1")
    return int(text)


def positive(text: str) -> list[int]:
    if not names(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected integers of at least 1")
    return [count(part) for part in names(text)]


def threads(text: str) -> list[int]:
    from fastconv.kernels.threads import MOST

    found = positive(text)
    if max(found) > MOST:
        raise argparse.ArgumentTypeError(f"{text!r}: expected at most {MOST} threads")
    return found


def duration(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 3600.0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds above 0")
    return value


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 10.0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a share such as 0.05")
    return value


def part(text: str) -> tuple[int, int]:
    """"2/5"."""
    try:
        which, of = map(count, text.split("/"))
    except (ValueError, argparse.ArgumentTypeError):
        which, of = 1, 0
    if which > of:
        raise argparse.ArgumentTypeError(f"{text!r}: expected I/N with 1 <= I <= N")
    return which, of


def among(known):
    """A type for argparse: a comma-separated list of known names."""
    def parse(text: str) -> list[str]:
        values = names(text)
        for value in values:
            if value not in known:
                raise argparse.ArgumentTypeError(f"{value!r}: expected some of {', '.join(known)}")
        if not values:
            raise argparse.ArgumentTypeError(f"{text!r}: expected some of {', '.join(known)}")
        return values
    return parse


def check_target(option: str, name: str) -> None:
    """Before anything is measured: whether a file can be written. Folders that are not there will be made.

    Raises
    ------
    BadOption
        When it cannot.
    """
    target = Path(name)
    if target.is_dir():
        raise BadOption(f"{option} {name}: it is a folder, not a file")
    folder = target.resolve().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise BadOption(f"{option} {name}: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK) or str(folder).startswith(("/proc", "/sys")):
        raise BadOption(f"{option} {name}: cannot write in {folder}")
