"""What all benchmarks print and write: the machine, tables, JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence

from fastconv._atomic import open_regular, write_atomic
from fastconv.measure import machine as machines
from fastconv.measure import timing

FORMAT = 1  # of the JSON
STDOUT = "-"  # in place of the name of a file
WIDTH = 150  # of a table on a terminal


def count(number: int, noun: str) -> str:
    """1 thread, 2 threads."""
    return f"{number} {noun}" + "s" * (number != 1)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need; the first two to the left. What is wider than WIDTH goes on below, behind the first
    column again."""
    rows = [list(head), *[[*line, *[""] * (len(head) - len(line))] for line in lines]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    parts: list[list[int]] = [[0]]
    for i in range(1, len(head)):
        if sum(widths[k] + 2 for k in parts[-1]) + widths[i] > WIDTH and len(parts[-1]) > 1:
            parts.append([0])
        parts[-1].append(i)
    for number, columns in enumerate(parts):
        if number:
            print()
        for row in rows:
            print("  ".join(row[i].ljust(widths[i]) if i < 2 else row[i].rjust(widths[i]) for i in columns).rstrip())


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


HOW = ("Times are medians over rounds, ratios medians of the pairs of each round, spreads interquartile ranges by the "
       "median; each peer in a process of its own, stopped while another is timed, with the same number of threads.")


def facts(known: dict, warnings: Sequence[str], how: str = HOW) -> list[str]:
    """The machine, when, how times were taken, and warnings: what belongs to every table, wherever it goes."""
    when = [f"{known.get('date', '')}, commit {known['commit']}" if known.get("commit") else known.get("date", "")]
    return [*machines.lines(known), *filter(None, when), *filter(None, [how]), *warnings]


def footer(known: dict, warnings: Sequence[str]) -> None:
    print()
    for line in facts(known, warnings):
        print(textwrap.fill(line, WIDTH))


def document(text: str, known: dict, warnings: Sequence[str]) -> str:
    """Tables in Markdown, and below them what they were measured on."""
    return f"{text.strip()}\n\n" + "\n".join(f"- {line}" for line in facts(known, warnings))


def kept(options) -> dict:
    """The options that go into the JSON."""
    return {k: v for k, v in vars(options).items() if not callable(v) and k not in ("command", "words")}


def write(options, content: dict) -> None:
    """What ``--json`` says: one line on stdout, or a file."""
    whole = {"format": FORMAT, "benchmark": options.benchmark, "command": ["fastconv", *options.words],
             "options": kept(options), **content}
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
