"""Whole networks, inference and training, against PyTorch, ONNX Runtime and OpenVINO."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fastconv._arguments import UsageError
from fastconv.bench import report, subjects
from fastconv.bench.record import Record
from fastconv.measure import machine as machines
from fastconv.measure import networks, race, timing

WHOLE = ("nets", "infer", "train", "report")  # the benchmarks whose results are such rows
HARDWARE = ("cpu", "cores", "caches")
LABELS = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


class Case(NamedTuple):
    threads: int
    network: str
    mode: str
    batch: int

    def __str__(self) -> str:
        return f"{subjects.label(self.network)}, {self.mode}, batch {self.batch}, {report.count(self.threads, 'thread')}"


def cases(options) -> list[Case]:
    """What the options ask for, by threads and network; ``--slice`` takes a part. Networks of files are not trained."""
    batches = {"inference": options.batch, "training": options.training_batch}
    made = [Case(threads, network, mode, batch) for threads in options.threads for network in options.networks
            for mode in options.modes if mode == "inference" or not subjects.is_file(network) for batch in batches[mode]]
    if not made:
        raise UsageError("--networks: ONNX files are measured in inference alone")
    part, parts = options.slice or (1, 1)
    made = made[part - 1::parts]
    if not made:
        raise UsageError(f"--slice {part}/{parts}: nothing is left")
    return made


FIELDS = ("network", "mode", "batch", "threads", "isa", "precision")  # that tell one row from another


def check(options) -> None:
    subjects.check(case.network for case in cases(options))


def measure(options, record: Record) -> None:
    """Measures row by row, and says each."""
    todo = cases(options)
    print("\n".join(notes(todo)))
    for threads, some in itertools.groupby(todo, key=lambda case: case.threads):
        with record.opened(threads) as peers:
            rest = [case for case in some if not record.has(**case._asdict(), precision=options.precision)]
            for network, of_network in itertools.groupby(rest, key=lambda case: case.network):
                with subjects.written(network) as folder:
                    for case in of_network:
                        timing.progress(f"[{len(record.results) + len(record.failures) + 1}/{len(todo)}] {case}")
                        with record.attempt(str(case)):
                            print(said(record.add(*measured(case, options, peers, folder))), flush=True)


def conclude(options, record: Record) -> dict:
    """Prints the tables; what goes into the JSON."""
    results, noise = record.results, race.noise(record.results)
    show(results, detailed=len(options.networks) == 1)
    warnings = [*noise, *record.warnings()]
    if options.markdown:
        report.write_text(options.markdown, report.document(markdown(results), record.machine, warnings))
    report.footer(record.machine, warnings)
    return {"notes": notes(cases(options)), "noise": noise}


def notes(todo: Sequence[Case]) -> list[str]:
    return [networks.NOTE[mode] for mode in dict.fromkeys(case.mode for case in todo)]


def said(row: dict) -> str:
    """A row in a line, as soon as it is there."""
    head, (cells,) = table([row])
    parts = [f"{name} {cell}" for name, cell in zip(head[2:], cells[2:], strict=True) if cell]
    case = Case(row["threads"], row["network"], row["mode"], row["batch"])
    return f"{case}: {', '.join(parts)}"


def merge(options) -> dict:
    """The tables of several runs together. Of a setting that is in several files the last one counts, and the peers that it
    lacks are taken from the others: each ratio is of one run.

    Raises
    ------
    ValueError
        For files that cannot be read, or are from different machines.
    """
    merged: dict[tuple, dict] = {}
    machine: dict = {}
    noise: list[str] = []
    for name in options.files:
        content = report.read(name, WHOLE)
        machine = machine or content["machine"]
        other = machines.differences(machine, content["machine"], HARDWARE)
        if other:
            raise ValueError(f"{options.files[0]!r} and {name!r} are from different machines, {'; '.join(other)}")
        machine["versions"] = {**content["machine"]["versions"], **machine["versions"]}
        noise += [f"{name}: {line}" for line in content.get("noise", [])]
        for number, row in enumerate(content["results"]):
            try:
                key = tuple(row[field] for field in ("network", "mode", "batch", "threads", "isa", "precision"))
                table([row])
            except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
                raise ValueError(f"{name!r}: result {number} is not what fastconv bench writes ({type(error).__name__}: "
                                f"{error})") from None
            merged[key] = join(merged[key], row) if key in merged else row
    results = list(merged.values())
    show(results)
    if options.markdown:
        report.write_text(options.markdown, report.document(markdown(results), machine, noise))
    report.footer(machine, noise)
    return {"machine": machine, "files": options.files, "results": results, "noise": noise}


def join(old: dict, new: dict) -> dict:
    """Two rows about the same setting, with different peers."""
    return {**old, **new, "ratios": {**old["ratios"], **new["ratios"]},
            "memory": {**old.get("memory", {}), **new.get("memory", {})},
            "cases": [*new["cases"], *(c for c in old["cases"] if c["peer"] not in {d["peer"] for d in new["cases"]})]}


def measured(case: Case, options, peers: dict, folder: str) -> tuple[dict, list[tuple[str, str]]]:
    """A row, and who is not in it."""
    shape, failed = (case.batch, *subjects.of(case.network).shape), []  # type: ignore[var-annotated]
    asked = race.job(folder, case.mode, shape, case.threads, options.precision)
    row = race.run(case.network, asked, peers, rounds=options.rounds, seconds=options.seconds,
                   limit=options.limit or math.inf, failures=failed)
    if options.memory:
        row["memory"] = race.memory(asked, race.best_variants(row), options.isa, failed)
    return row, failed


# ---- tables -----------------------------------------------------------------------------------------------------------


def show(results: list[dict], detailed: bool = False) -> None:
    for title, rows in settings(results):
        gflops = sorted(r["peak_gflops"] for r in rows)
        print(f"\n{title}: FMA peak {gflops[len(gflops) // 2]:.1f} GFLOP/s ({gflops[0]:.1f} to {gflops[-1]:.1f}), % of it;\n"
              f"in brackets the library's time by fastconv's: above 1 fastconv is faster")
        report.table(*table(rows))
        if detailed:
            for row in rows:
                print()
                report.table(*details(row))


def settings(results: list[dict]) -> Iterator[tuple[str, list[dict]]]:
    """Titles, and the rows below them."""
    def of(row: dict) -> tuple:
        return row["mode"], row["batch"], row["threads"], row["isa"], row["precision"]

    for key in dict.fromkeys(map(of, results)):
        mode, batch, threads, isa, precision = key
        title = f"{mode}, batch {batch}, {report.count(threads, 'thread')}, {isa}"
        yield (title + ("" if precision == "highest" else f", {precision}"), [row for row in results if of(row) == key])


def libraries(rows: list[dict]) -> list[str]:
    return [name for name in LABELS if any(name in row["ratios"] or name in row.get("left_out", {}) for row in rows)]


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line per network: fastconv's time, share of the peak and memory; each library's best time and its ratio."""
    names, lines = libraries(rows), []
    for row in rows:
        ours = next(c for c in row["cases"] if c["peer"] == "fastconv")
        line = [subjects.label(row["network"]), f"{row['flops'] / 1e9:.3g}", timing.show_seconds(ours["median_seconds"]),
                f"{ours['share_of_peak']:.0%}", timing.show_share(ours["spread"]), mega(row, "fastconv")]
        for name in names:
            r = row["ratios"].get(name)
            line += [f"{timing.show_seconds(best_case(row, name)['median_seconds'])} ({r['ratio']:.2f})" if r
                     else missed(row.get("left_out", {}).get(name, "")), mega(row, name)]
        lines.append(line)
    if len(rows) > 1:
        means = ["geometric mean", "", "", f"{timing.geometric_mean([share(row) for row in rows]):.0%}", "", ""]
        for name in names:
            found = [row["ratios"][name]["ratio"] for row in rows if name in row["ratios"]]
            means += [f"({timing.geometric_mean(found):.2f})" if found else "", ""]
        lines.append(means)
    head = ["network", "GFLOP", "fastconv", "of peak", "spread", "MB"]
    for name in names:
        head += [LABELS.get(name, name), "MB"]
    keep = [i for i in range(len(head)) if head[i] != "MB" or any(line[i] for line in lines)]
    return [head[i] for i in keep], [[line[i] for i in keep] for line in lines]


def missed(why: str) -> str:
    """What stands in the place of a time: a library that cannot be told about the network has not failed."""
    return why and ("left out" if "Unsupported: " in why else "failed")


def share(row: dict) -> float:
    return next(c["share_of_peak"] for c in row["cases"] if c["peer"] == "fastconv")


def best_case(row: dict, name: str) -> dict:
    variant = row["ratios"][name]["variant"]
    return next(c for c in row["cases"] if (c["peer"], c["variant"]) == (name, variant))


def mega(row: dict, name: str) -> str:
    """The most memory that the process had while the network ran."""
    found = row.get("memory", {}).get(name)
    return f"{(found['running'] or found['peak']) / 1e6:.0f}" if found else ""


def details(row: dict) -> tuple[list[str], list[list[str]]]:
    """Every variant of one network."""
    counted = {(r["peer"], r["variant"]): r for r in row["ratios"].values()}
    lines = []
    for case in row["cases"]:
        r = counted.get((case["peer"], case["variant"]))
        lines.append([case["peer"], case["variant"], report.time_and_share(case), timing.show_share(case["spread"]),
                      str(len(case["seconds"])), *([f"{r['ratio']:.2f}", timing.show_share(r["spread"])] if r else [])])
    return ["library", "variant", "time", "spread", "rounds", "by fastconv's", "spread"], lines


def markdown(results: list[dict]) -> str:
    return "\n\n".join(f"{title}:\n\n{report.markdown(*table(rows))}" for title, rows in settings(results))
