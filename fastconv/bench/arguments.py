"""What the options of the benchmarks may be: lists, durations, shares, parts."""

from __future__ import annotations

import argparse

from fastconv._arguments import whole


def names(text: str) -> list[str]:
    return list(dict.fromkeys(part for part in text.split(",") if part))


def counts(text: str) -> list[int]:
    if not names(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be integers of at least 1")
    return [whole(part) for part in names(text)]


def threads(text: str) -> list[int]:
    from fastconv.kernels.threads import MOST

    found = counts(text)
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
        which, of = map(whole, text.split("/"))
    except (ValueError, argparse.ArgumentTypeError):
        which, of = 1, 0
    if which > of:
        raise argparse.ArgumentTypeError(f"{text!r}: expected I/N with 1 <= I <= N")
    return which, of


def subjects(text: str) -> list[str]:
    """A comma-separated list of networks to measure: their names, and ONNX files."""
    from fastconv.bench.subjects import SUBJECTS, is_file

    values = names(text)
    for value in values or [text]:
        if value not in SUBJECTS and not is_file(value):
            raise argparse.ArgumentTypeError(f"{value!r}: expected some of {', '.join(SUBJECTS)}, or files of ONNX (.onnx)")
    return values


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
