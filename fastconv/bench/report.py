"""What all benchmarks print and write: the machine, tables, JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fastconv._atomic import open_regular, write_atomic
from fastconv.measure import machine as machines
from fastconv.measure import timing
from fastconv.measure.machine import describe as machine  # noqa: F401  (report.machine, report.opened)
from fastconv.measure.machine import opened  # noqa: F401

FORMAT = 1  # of the JSON
STDOUT = "-"  # in place of the name of a file


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
    """Writes a file, whole or not at all."""
    with write_atomic(name) as file:
        file.write((text.strip() + "\n").encode())


def time_and_share(case: dict) -> str:
    return f"{timing.show_seconds(case['median_seconds'])} {case['share_of_peak']:4.0%}"


def footer(known: dict, warnings: Sequence[str]) -> None:
    """The machine, how times were taken, and warnings."""
    print("\n" + "\n".join(machines.lines(known)))
    print("Times are medians over rounds, ratios medians of the pairs of each round, spreads interquartile ranges by the "
          "median; each peer in a process of its own, stopped while another is timed, with the same number of threads.")
    for line in warnings:
        print(line)


def write(options, content: dict) -> None:
    """What ``--json`` says: one line on stdout, or a file."""
    kept = {k: v for k, v in vars(options).items() if not callable(v) and k not in ("command", "words")}
    whole = {"format": FORMAT, "benchmark": options.benchmark, "command": ["fastconv", *options.words],
             "options": kept, **content}
    if options.json == STDOUT:
        print(json.dumps(whole))
    elif options.json:
        write_text(options.json, json.dumps(whole, indent=1))


def read(name: str, benchmarks: Sequence[str] = ()) -> dict:
    """What :func:`write` wrote, by one of these benchmarks.

    Raises
    ------
    ValueError
        When the file cannot be read, or is something else.
    """
    try:
        with open_regular(name) as file:
            content = json.loads(file.read())
    except (OSError, ValueError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else f"not JSON ({error})"
        raise ValueError(f"{name!r}: {reason}") from None
    written = isinstance(content, dict) and {"format", "benchmark", "machine", "results"} <= content.keys()
    if not written or not isinstance(content["machine"], dict) or not isinstance(content["results"], list):
        raise ValueError(f"{name!r}: not what fastconv bench ... --json has written")
    if content["format"] != FORMAT:
        raise ValueError(f"{name!r}: format {content['format']!r}, this reads format {FORMAT}")
    if benchmarks and content["benchmark"] not in benchmarks:
        raise ValueError(f"{name!r}: of the benchmark {content['benchmark']!r}, expected {' or '.join(benchmarks)}")
    return content
