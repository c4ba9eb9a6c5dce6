"""What there is to pay besides arithmetic: a call, a step of the tape, a functional call, an import, compiling a network."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np

from fastconv import nn
from fastconv.bench import doors, nets, plans, report, subjects
from fastconv.bench.record import Record
from fastconv.measure import race, subject, timing
from fastconv.measure.peers import PeerError
from fastconv.measure.timing import Measurement, Variant
from fastconv.train.model import save

NOTE = ("call: a network of one ReLU on one value, from Python. step: what each of 64 more ReLUs adds. functional: one "
        "operator by itself, weights packed in the call, on (1, 8, 8, 8). import: in a fresh interpreter. compile: from a"
        " module (a file, for ONNX Runtime and OpenVINO) until the first result. start: from the start of a process until"
        " the first result of a network in a file (safetensors; ONNX for ONNX Runtime), with bytecode and file in memory."
        " plan: compiling one layer of many taps or phases, without a run. door: arrays of PyTorch's order into channels-"
        "last buffers (bordered: zeros around) and out of them, so many times that 4 MB have moved; bytes read and "
        "written count; beside memcpy of one thread on the same bytes.")
MORE = 64
IMPORTS = {
    "numpy": "import numpy",
    "fastconv": "import numpy, fastconv",
    "fastconv, and an engine": "import numpy, fastconv; fastconv.compile, fastconv.nn.Conv2d",
    "torch": "import torch", "onnxruntime": "import numpy, onnxruntime", "openvino": "import numpy, openvino",
}


FIELDS = ("what", "name", "threads", "isa")  # that tell one row from another


def check(options) -> None:
    subjects.check(options.networks)


def measure(options, record: Record) -> None:
    """Measures row by row, and says each. Imports and plans know no threads."""
    print(NOTE)
    names = ["fastconv", *options.peers]
    for threads in options.threads:
        with record.opened(threads) as peers:
            for what, name, take in todo(options, peers):
                each(record, what, name, threads, lambda failed, take=take, threads=threads: take(threads, failed))
    seconds: dict[str, Measurement] = {}
    for name in IMPORTED:
        each(record, "import", name, 1, lambda failed, name=name: imported(options, names, name, seconds, failed))
    for name in plans.LAYERS:
        each(record, "plan", name, 1, lambda failed, name=name: row([plans.planned(name, options.rounds)]))


def each(record: Record, what: str, name: str, threads: int, take: Callable[..., dict]) -> None:
    if record.has(what=what, name=name, threads=threads):
        return
    about = f"{LABELS[what]}, {name}, {report.count(threads, 'thread')}"
    timing.progress(about)
    failed: list = []
    with record.attempt(about):
        made = record.add({"what": what, "name": name, "threads": threads, **take(failed=failed)}, failed)
        head, (cells,) = table([made])
        print(f"{about}: " + ", ".join(f"{h} {c}" for h, c in zip(head[3:], cells[3:], strict=True) if c), flush=True)


def conclude(options, record: Record) -> dict:
    """Prints the table; what goes into the JSON."""
    record.results.sort(key=lambda row: list(LABELS).index(row["what"]))
    show(record.results)
    noise = timing.noise_lines([r for row in record.results for r in row["ratios"].values()], [])
    warnings = [*noise, *record.warnings()]
    report.footer(record.machine, warnings)
    if options.markdown:
        text = report.markdown(*table(record.results))
        report.write_text(options.markdown, report.document(text, record.machine, warnings))
    return {"notes": NOTE, "noise": noise}


LABELS = {"call": "call", "step": "step of the tape", "functional": "functional call", "import": "import",
          "compile": "compile", "start": "start of a process", "plan": "plan of a layer", "door": "door"}


def todo(options, peers: dict) -> Iterator[tuple[str, str, Callable[[int, list], dict]]]:
    """All but imports: what, its name, and how to measure it."""
    def taking(function: Callable[..., list[Measurement]], *more) -> Callable[[int, list], dict]:
        return lambda threads, failed: row(function(options, peers, threads, *more, failed))

    yield "call", "one ReLU", taking(tiny, 1)
    yield "step", "ReLU of one value", taking(steps)
    for name in FUNCTIONAL:
        yield "functional", name, taking(functional, name)
    for network, batch in itertools.product(options.networks, options.batch):
        yield "compile", f"{subjects.label(network)}, batch {batch}", taking(compiling, network, batch)
    for network, batch in itertools.product(options.networks, options.batch):
        yield "start", f"{subjects.label(network)}, batch {batch}", taking(starting, network, batch)
    for name, shape, kind in doors.doors():
        yield "door", name, taking(doors.timed, name, shape, kind)


def row(measured: list[Measurement]) -> dict:
    """What is measured, and the ratios of what is more than noise (see :func:`difference`)."""
    ours = next(m for m in measured if m.peer == "fastconv")
    others = dict.fromkeys(m.peer for m in measured if m.peer != "fastconv")
    best = [timing.best([m for m in measured if m.peer == n]) for n in others]
    return {"cases": [m.json() for m in measured],
            "ratios": {m.peer: timing.ratio(ours, m) for m in best if m and seen(m.json()) and seen(ours.json())
                       and min(ours.seconds) > 0}}


def seen(case: dict) -> bool:
    """Whether a difference is larger than its own noise; times that are none always are."""
    return case["median_seconds"] > case["info"].get("noise_seconds", 0.0)


def difference(peer: str, variant: str, more: list[float], less: list[float], count: int = 1) -> Measurement:
    """What one takes longer than the other, round by round, by ``count``. Such a difference may be none, or negative: it
    says something only where it exceeds its quartiles' distance, which it brings along."""
    seconds = [(b - a) / count for a, b in zip(less, more, strict=True)]
    low, high = np.percentile(seconds, [25, 75])
    return Measurement(peer, variant, {"noise_seconds": float(high - low)}, seconds)


def functional(options, peers: dict, threads: int, name: str, failed: list) -> list[Measurement]:
    present = {n: p for n, p in peers.items() if n in ("fastconv", "torch")}
    job = {"name": name, "function": name, "threads": threads}
    return timing.compare(present, __name__, job, options.rounds, options.seconds, failed)[0]


def tiny(options, peers: dict, threads: int, count: int, failed: list) -> list[Measurement]:
    """A network of so many ReLUs on one value, by every library."""
    with tempfile.TemporaryDirectory(prefix="fastconv-bench-") as folder:
        subject.write(folder, nn.Sequential(*(nn.ReLU() for _ in range(count))), (1, 1, 1), ["inference"])
        asked = race.job(folder, "inference", (1, 1, 1, 1), threads)
        race.write_onnx(asked, peers)
        measured, _ = timing.compare(peers, race.MODULE, asked, options.rounds, options.seconds, failed)
    return [m for m in measured if not m.info.get("peak")]


def steps(options, peers: dict, threads: int, failed: list) -> list[Measurement]:
    one, many = (tiny(options, peers, threads, count, failed) for count in (1, 1 + MORE))
    return [difference(a.peer, a.variant, b.seconds, a.seconds, MORE) for a in one for b in many
            if (a.peer, a.variant) == (b.peer, b.variant)]


def compiling(options, peers: dict, threads: int, network: str, batch: int,
              failed: list) -> list[Measurement]:
    """How long each library needs until its network has run for the first time; in processes that have run others before."""
    with subjects.written(network, ["inference"]) as folder:
        asked = race.job(folder, "inference", (batch, *subjects.of(network).shape), threads, options.precision)
        race.write_onnx(asked, peers)
        usual = race.USUAL["inference"]
        measured = [Measurement(name, usual[name], {}) for name in peers]
        for _ in range(min(options.rounds, 3)):
            for m in list(measured):
                try:
                    said = peers[m.peer].ask(do="prepare", module=race.MODULE, job={**asked, "only": m.variant})
                    m.seconds.append(said["variants"][0]["info"]["ready_seconds"])
                    peers[m.peer].ask(do="release")
                except PeerError as error:
                    if m.peer == "fastconv":
                        raise
                    failed.append((m.peer, str(error)))
                    measured.remove(m)
    return measured


STARTS = {
    "fastconv": "import numpy, fastconv; x = numpy.zeros({shape}, numpy.float32); "
                "fastconv.compile(fastconv.load({file!r}), {shape}, threads={threads})(x)",
    "onnxruntime": "import numpy, onnxruntime; x = numpy.zeros({shape}, numpy.float32); o = onnxruntime.SessionOptions(); "
                   "o.intra_op_num_threads, o.inter_op_num_threads = {threads}, 1; "
                   "s = onnxruntime.InferenceSession({file!r}, o, providers=['CPUExecutionProvider']); "
                   "s.run(None, {{s.get_inputs()[0].name: x}})",
}


def starting(options, peers: dict, threads: int, network: str, batch: int, failed: list) -> list[Measurement]:
    """Seconds from the start of a process until a network in a file has given its first result, in turns; the first of each
    process, which writes bytecode, does not count."""
    found = subjects.of(network)
    with subjects.written(network, ["inference"]) as folder:
        shape = (batch, *found.shape)
        asked = race.job(folder, "inference", shape, threads, options.precision)
        race.write_onnx(asked, peers)
        files = dict.fromkeys(STARTS, found.source or os.path.join(folder, "model.onnx"))
        if not found.source:
            files["fastconv"] = os.path.join(folder, "own.safetensors")
            save(found.make(), files["fastconv"])
        measured = [Measurement(name, "start", {}) for name in STARTS if name in peers]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
                       "PYTHONPYCACHEPREFIX": os.path.join(folder, "bytecode")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for counted in range(1 + min(options.rounds, 5)):
            for m in list(measured):
                code = STARTS[m.peer].format(shape=shape, threads=threads, file=files[m.peer])
                begin = time.monotonic()  # of the whole machine
                done = subprocess.run([sys.executable, "-c", f"{code}; import time; print(time.monotonic())"],
                                      capture_output=True, text=True, env=environment)
                if done.returncode == 0:
                    m.seconds += [float(done.stdout.split()[-1]) - begin] if counted else []
                    continue
                last = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
                if m.peer == "fastconv":
                    raise PeerError(f"fastconv: start of {network}: {last}")
                failed.append((m.peer, last))
                measured.remove(m)
    return measured


IMPORTED = ("with NumPy", "on top of NumPy", "on top of NumPy, with an engine")


def imported(options, names: list[str], name: str, known: dict[str, Measurement], failed: list) -> dict:
    """Seconds that an import takes in a fresh interpreter; what fastconv adds to NumPy is a row of its own. ``known``: those
    measured already, all of them at once."""
    if not known:
        known |= imports(options, names, failed)
    numpy = known["numpy"].seconds
    if name == "with NumPy":
        return {**row([m for n, m in known.items() if n in names]), "numpy": known["numpy"].json()}
    ours = known["fastconv, and an engine" if name.endswith("engine") else "fastconv"]
    return row([difference("fastconv", "import", ours.seconds, numpy)])


def imports(options, names: list[str], failed: list) -> dict[str, Measurement]:
    wanted = {n: code for n, code in IMPORTS.items() if n in ("numpy", "fastconv, and an engine") or n in names}
    measured = {n: Measurement(n, "import", {}) for n in wanted}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    for _ in range(options.rounds):
        for name in list(measured):
            program = f"import time; begin = time.perf_counter()\n{wanted[name]}\nprint(time.perf_counter() - begin)"
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
            if done.returncode == 0:
                measured[name].seconds.append(float(done.stdout.split()[-1]))
                continue
            last = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
            if name not in options.peers:
                raise PeerError(f"fastconv: import of {name}: {last}")
            failed.append((name, last))
            del measured[name]
    return measured


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
        spread = timing.show_share(ours["spread"]) if seen(ours) else ""
        rate = f", {doors.gigabytes_per_second(ours):.0f} GB/s" if r["what"] == "door" else ""
        line = [LABELS[r["what"]], r["name"] + rate, str(r["threads"]), shown(ours), spread]
        for name in names:
            found = r["ratios"].get(name)
            theirs = [case for case in r["cases"] if case["peer"] == name]
            if found:
                line.append(f"{timing.show_seconds(nets.best_case(r, name)['median_seconds'])} ({found['ratio']:.2f})")
            elif theirs:
                line.append(shown(min(theirs, key=lambda case: case["median_seconds"])))
            else:
                line.append("failed" * (name in r.get("left_out", {})))
        lines.append(line)
    return ["what", "of", "threads", "fastconv", "spread", *(nets.LABELS.get(n, n) for n in names)], lines


def shown(case: dict) -> str:
    """A time; of a difference that is within its noise, how large that is."""
    return timing.show_seconds(case["median_seconds"]) if seen(case) else \
        f"below {timing.show_seconds(max(case['info']['noise_seconds'], -case['median_seconds'], 1e-9))}"
