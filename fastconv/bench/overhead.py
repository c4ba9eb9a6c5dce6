"""What there is to pay besides arithmetic: a call, a step of the tape, a functional call, an import, compiling a network."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import numpy as np

from fastconv import nn
from fastconv.bench import nets, report, subjects
from fastconv.measure import race, subject, timing
from fastconv.measure.timing import Measurement, Variant

NOTE = ("call: a network of one ReLU on one value, from Python. step: what each of 64 more ReLUs adds. functional: one "
        "operator by itself, weights packed in the call, on (1, 8, 8, 8). import: in a fresh interpreter. compile: from a "
        "module (a file, for ONNX Runtime and OpenVINO) until the first result.")
MORE = 64
LEAST = 1e-9  # seconds: a difference that noise has made negative is as good as none, and others are divided by it
IMPORTS = {
    "numpy": "import numpy",
    "fastconv": "import numpy, fastconv",
    "fastconv, and an engine": "import numpy, fastconv; fastconv.compile, fastconv.nn.Conv2d",
    "torch": "import torch", "onnxruntime": "import numpy, onnxruntime", "openvino": "import numpy, openvino",
}


def main(options) -> dict:
    """Measures, prints the table, returns what goes into the JSON."""
    print(NOTE)
    results, names = [], ["fastconv", *options.peers]
    machine: dict = {}
    for threads in options.threads:
        with report.opened(names, threads, options.isa) as peers:
            machine = report.machine(peers, machine)
            for row in rows(options, peers, threads):
                results.append({**row, "threads": threads, "isa": machine["isa"]})
    timing.progress("import")
    results += [{**row, "threads": 1, "isa": machine["isa"]} for row in imports(options, names)]
    results.sort(key=lambda row: list(LABELS).index(row["what"]))
    show(results)
    noise = timing.noise_lines([r for row in results for r in row["ratios"].values()], [])
    report.footer(machine, noise)
    if options.markdown:
        report.write_text(options.markdown, report.markdown(*table(results)))
    return {"machine": machine, "notes": NOTE, "results": results, "noise": noise}


LABELS = {"call": "call", "step": "step of the tape", "functional": "functional call", "import": "import",
          "compile": "compile"}


def rows(options, peers: dict, threads: int) -> Iterator[dict]:
    """All but imports, which know no threads."""
    timing.progress(f"calls and steps, {threads} thread(s)")
    one, many = (tiny(options, peers, threads, count) for count in (1, 1 + MORE))
    yield row("call", "one ReLU", one)
    yield row("step", "ReLU of one value", [per_step(a, b) for a in one for b in many
                                            if (a.peer, a.variant) == (b.peer, b.variant)])
    timing.progress(f"functional calls, {threads} thread(s)")
    for name in FUNCTIONAL:
        present = {n: p for n, p in peers.items() if n in ("fastconv", "torch")}
        job = {"name": name, "function": name, "threads": threads}
        measured, _ = timing.compare(present, __name__, job, options.rounds, options.seconds)
        yield row("functional", name, measured)
    for network in options.networks:
        timing.progress(f"compile {network}, {threads} thread(s)")
        for batch in options.batch:
            yield row("compile", f"{network}, batch {batch}", compiling(options, peers, threads, network, batch))


def row(what: str, name: str, measured: list[Measurement]) -> dict:
    ours = next(m for m in measured if m.peer == "fastconv")
    others = dict.fromkeys(m.peer for m in measured if m.peer != "fastconv")
    best = [timing.best([m for m in measured if m.peer == n]) for n in others]
    return {"what": what, "name": name, "cases": [m.json() for m in measured],
            "ratios": {m.peer: timing.ratio(ours, m) for m in best if m}}


def tiny(options, peers: dict, threads: int, count: int) -> list[Measurement]:
    """A network of so many ReLUs on one value, by every library."""
    with tempfile.TemporaryDirectory(prefix="fastconv-bench-") as folder:
        subject.write(folder, nn.Sequential(*(nn.ReLU() for _ in range(count))), (1, 1, 1), ["inference"])
        asked = race.job(folder, "inference", (1, 1, 1, 1), threads)
        race.write_onnx(asked, peers)
        measured, _ = timing.compare(peers, race.MODULE, asked, options.rounds, options.seconds)
    return [m for m in measured if not m.info.get("peak")]


def per_step(one: Measurement, many: Measurement) -> Measurement:
    seconds = [max(LEAST, b - a) / MORE for a, b in zip(one.seconds, many.seconds, strict=True)]
    return Measurement(one.peer, one.variant, {}, seconds)


def compiling(options, peers: dict, threads: int, network: str, batch: int) -> list[Measurement]:
    """How long each library needs until its network has run for the first time; in processes that have run others before."""
    with subjects.written(network, ["inference"]) as folder:
        asked = race.job(folder, "inference", (batch, *subjects.SUBJECTS[network].shape), threads, options.precision)
        race.write_onnx(asked, peers)
        usual = race.USUAL["inference"]
        measured = [Measurement(name, usual[name], {}) for name in peers]
        for _ in range(min(options.rounds, 3)):
            for m in measured:
                said = peers[m.peer].ask(do="prepare", module=race.MODULE, job={**asked, "only": m.variant})
                m.seconds.append(said["variants"][0]["info"]["ready_seconds"])
                peers[m.peer].ask(do="release")
    return measured


def imports(options, names: list[str]) -> Iterator[dict]:
    """Seconds that an import takes in a fresh interpreter; what fastconv adds to NumPy is a row of its own."""
    wanted = {n: code for n, code in IMPORTS.items() if n in ("numpy", "fastconv, and an engine") or n in names}
    measured = {n: Measurement(n, "import", {}) for n in wanted}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    for _ in range(options.rounds):
        for name, code in wanted.items():
            program = f"import time; begin = time.perf_counter()\n{code}\nprint(time.perf_counter() - begin)"
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
            if done.returncode:
                raise RuntimeError(f"import of {name}: {done.stderr.strip().splitlines()[-1]}")
            measured[name].seconds.append(float(done.stdout.split()[-1]))
    baseline = measured.pop("numpy")
    engine = measured.pop("fastconv, and an engine")
    yield {**row("import", "with NumPy", list(measured.values())), "numpy": baseline.json()}
    for name, m in (("on top of NumPy", measured["fastconv"]), ("on top of NumPy, with an engine", engine)):
        above = statistics.median(baseline.seconds)
        yield row("import", name, [Measurement("fastconv", "import", {}, [max(LEAST, s - above) for s in m.seconds])])


# ---- functional calls, in the processes -------------------------------------------------------------------------------

FUNCTIONAL = ("relu", "conv2d", "max_pool2d")


def operands() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((1, 8, 8, 8), np.float32), rng.standard_normal((8, 8, 3, 3), np.float32)


def call_of(job: dict, library, x, w):
    return {"relu": lambda: library.relu(x), "conv2d": lambda: library.conv2d(x, w, padding=1),
            "max_pool2d": lambda: library.max_pool2d(x, 2)}[job["function"]]


def prepare_fastconv(job: dict) -> list[Variant]:
    from fastconv import functional

    call = call_of(job, functional, *operands())
    return [Variant("functional", call, call())]


def prepare_torch(job: dict) -> list[Variant]:
    import torch

    torch.set_num_threads(job["threads"])
    call = call_of(job, torch.nn.functional, *map(torch.from_numpy, operands()))
    with torch.inference_mode():
        return [Variant("functional", call, call().numpy(), context=torch.inference_mode)]


# ---- tables -----------------------------------------------------------------------------------------------------------


def show(results: list[dict]) -> None:
    print()
    report.table(*table(results))


def table(results: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line per row: fastconv's time, each library's best and its ratio."""
    names = nets.libraries(results)
    lines = []
    for r in results:
        ours = next(case for case in r["cases"] if case["peer"] == "fastconv")
        line = [LABELS[r["what"]], r["name"], str(r["threads"]), timing.show_seconds(ours["median_seconds"]),
                f"{ours['spread']:.0%}"]
        for name in names:
            found = r["ratios"].get(name)
            line.append(f"{timing.show_seconds(nets.best_case(r, name)['median_seconds'])} ({found['ratio']:.2f})"
                        if found else "")
        lines.append(line)
    return ["what", "of", "threads", "fastconv", "spread", *(nets.LABELS.get(n, n) for n in names)], lines


