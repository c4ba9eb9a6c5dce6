"""What memory whole networks take, and how large the packages are."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import zipfile
from pathlib import Path

from fastconv.bench import nets, report, subjects
from fastconv.bench.record import Record
from fastconv.measure import race, timing
from fastconv.measure.peers import PeerError

NOTE = ("Resident memory of a process that does nothing else: with the library imported; at most until the network has run "
        "twice; at most in the runs after that (where /proc can tell). fastconv's plan: the arena that activations share, "
        "the packed weights, the scratch of its threads. The weights of the model are in all of them.")
SHOWN = ("imported", "peak", "running")
PLANNED = ("arena", "weights", "scratch")


FIELDS = nets.FIELDS


def check(options) -> None:
    nets.check(options)
    if options.wheel and not (Path(options.wheel).is_file() and zipfile.is_zipfile(options.wheel)):
        raise ValueError(f"--wheel {options.wheel!r}: no such file, or no wheel")


def measure(options, record: Record) -> None:
    """Measures row by row, and says each."""
    todo = nets.cases(options)
    print(NOTE)
    for threads, some in itertools.groupby(todo, key=lambda case: case.threads):
        with record.opened(threads):
            pass
        rest = [case for case in some if not record.has(**case._asdict(), precision=options.precision)]
        for network, of_network in itertools.groupby(rest, key=lambda case: case.network):
            with subjects.written(network) as folder:
                for case in of_network:
                    timing.progress(f"[{len(record.results) + len(record.failures) + 1}/{len(todo)}] {case}")
                    with record.attempt(str(case)):
                        head, (cells,) = table([record.add(*measured(case, options, folder))])
                        parts = [f"{h} {c}" for h, c in zip(head[1:], cells[1:], strict=True) if c]
                        print(f"{case}: {', '.join(parts)} (MB)", flush=True)


def conclude(options, record: Record) -> dict:
    """Prints the tables; what goes into the JSON."""
    sizes = {name: size for name in ("fastconv", *options.peers) if (size := installed_bytes(name))}
    if options.wheel:
        sizes["fastconv, the wheel"] = Path(options.wheel).stat().st_size
    for title, rows in nets.settings(record.results):
        print(f"\n{title}: MB; of processes imported / peak / running")
        report.table(*table(rows))
    print("\nInstalled, without what they depend on: "
          + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items()))
    warnings = record.warnings()
    print("\n" + "\n".join(report.facts(record.machine, warnings, "")))
    if options.markdown:
        text = "\n\n".join(f"{title}, MB (of processes imported / peak / running):\n\n{report.markdown(*table(rows))}"
                            for title, rows in nets.settings(record.results))
        report.write_text(options.markdown, report.document(text, record.machine, warnings))
    return {"notes": NOTE, "sizes": sizes}


def measured(case: nets.Case, options, folder: str) -> tuple[dict, list]:
    """One network: a case per library with its bytes; and who could not."""
    shape = (case.batch, *subjects.of(case.network).shape)
    asked = race.job(folder, case.mode, shape, case.threads, options.precision)
    usual, cases, failed = race.USUAL[case.mode], [], []
    for name in ("fastconv", *(p for p in options.peers if p in usual)):
        try:
            found = race.memory(asked, {name: usual[name]}, options.isa)[name]
        except PeerError as error:
            if name == "fastconv":
                raise
            failed.append((name, str(error)))
            continue
        planned = {key: found["info"][key] for key in PLANNED if key in found["info"]}
        cases.append({"peer": name, "variant": found["variant"], "bytes": {**{k: found[k] for k in SHOWN}, **planned}})
    return {"network": case.network, "mode": case.mode, "batch": case.batch, "threads": case.threads,
            "precision": options.precision, "cases": cases}, failed


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line per network: what fastconv planned, then three numbers per library, each of which holds the one before."""
    libraries = list(dict.fromkeys(case["peer"] for row in rows for case in row["cases"]))
    head = ["network", *PLANNED, *(nets.LABELS.get(name, name) for name in libraries)]
    lines = []
    for row in rows:
        by_name = {case["peer"]: case["bytes"] for case in row["cases"]}
        line = [subjects.label(row["network"]), *(mega(by_name["fastconv"][key]) for key in PLANNED)]
        lines.append(line + [" / ".join(mega(by_name[name][what]) for what in SHOWN) if name in by_name else ""
                             for name in libraries])
    return head, lines


def mega(nbytes: int) -> str:
    return f"{nbytes / 1e6:.2f}" if nbytes < 1e7 else f"{nbytes / 1e6:.0f}"


def installed_bytes(name: str) -> int:
    """What a package takes on the disk: by the list of its files, or those of its folder where it was not installed."""
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = [Path(str(f.locate())) for f in files if "__pycache__" not in str(f)]
    if not any(path.suffix == ".so" for path in paths):  # built in place, or editable
        spec = importlib.util.find_spec(name)
        folder = Path(spec.origin).parent if spec and spec.origin else None
        kinds = (".py", ".so", ".pxd", ".npz", ".md", ".typed")
        paths = [p for p in folder.rglob("*") if p.suffix in kinds or p.name == "py.typed"] if folder else []
    return sum(path.stat().st_size for path in paths if path.is_file())
