"""Convolutions by fastconv's choice and by named algorithms, against the peers and the peaks of the machine."""

from __future__ import annotations

import itertools

from fastconv.bench import bandwidth, goals, report
from fastconv.bench.groups import select
from fastconv.bench.means import summary
from fastconv.bench.record import Record
from fastconv.bench.shapes import Conv
from fastconv.measure import timing
from fastconv.measure.peers import Peer
from fastconv.measure.timing import Measurement

NOTES = {
    False: "Timed: the convolution alone, repeated on the same arrays. fastconv: the steps between the doors of a compiled "
           "engine, channels-last in and out, weights packed; the moves from and to NCHW are not in it (first layers with "
           "padding get their border from the door). PyTorch: a call on tensors already in its layout, the best of "
           "contiguous, channels_last and, forward, channels_last with the weight packed for oneDNN beforehand. OpenVINO, "
           "forward: a model of one operator in float32, the best of NCHW and channels-last tensors, which are its own "
           "layout. ONNX Runtime, forward: the same model, NCHW in and out, moves to and from its own layout included.",
    True: "Timed end to end: NCHW in, NCHW out, layout moves included; weights packed before (fastconv, ONNX Runtime, "
          "OpenVINO and PyTorch's variant 'packed'), the output allocated by PyTorch and given to the others.",
}


FIELDS = ("network", "layer", "problem", "batch", "threads", "pass", "isa")  # that tell one row from another


def measure(options, record: Record) -> None:
    """Measures row by row, and says each; a table behind each setting."""
    convs = select(options.shapes, options.group, options.sample, options.slice)
    todo = {which: [c for c in convs if not (c.first and which == "backward_data")] for which in options.passes}
    total = sum(map(len, todo.values())) * len(options.batch) * len(options.threads)
    print(NOTES[options.end_to_end])
    for threads in options.threads:
        with record.opened(threads) as peers:
            bandwidths = record.more.setdefault("bandwidths", {})
            bandwidths[str(threads)] = bandwidths.get(str(threads)) or measure_bandwidth(options, peers, threads)
            for batch, which in itertools.product(options.batch, options.passes):
                first = len(record.results)
                for c in todo[which]:
                    if record.has(network=c.network, layer=c.layer, problem=str(c), batch=batch, threads=threads,
                                  **{"pass": which}):
                        continue
                    what = f"{c.network}/{c.layer} {c}, {which}, batch {batch}, {report.count(threads, 'thread')}"
                    timing.progress(f"[{len(record.results) + len(record.failures) + 1}/{total}] {what}")
                    with record.attempt(what):
                        print(said(record.add(*measured(options, peers, c, batch, threads, which))), flush=True)
                setting = f"{which}, batch {batch}, {report.count(threads, 'thread')}, {record.machine['isa']}"
                table(record.results[first:], setting)


def conclude(options, record: Record) -> dict:
    """Prints the summary; what goes into the JSON."""
    results = record.results
    means = summary(results)
    reached = goals.evaluate(results)
    goals.show([r for r in reached if r["measured"] is not None])
    noise = timing.noise_lines([r["ratio"] for r in results if r["ratio"]],
                               [Measurement("fastconv", "peak", {}, r["peak_seconds"]) for r in results])
    report.footer(record.machine, [*noise, *record.warnings()])
    return {"notes": NOTES[options.end_to_end], "bandwidths": record.more["bandwidths"], "geometric_means": means,
            "goals": reached, "noise": noise}


def said(row: dict) -> str:
    """A row in a line, as soon as it is there."""
    case = next(c for c in row["cases"] if c["peer"] == "fastconv" and c["variant"] == row["default"])
    ratios = [f"{name} {r['ratio']:.2f} (spread {timing.show_share(r['spread'])})" for name, r in row["ratios"].items()]
    ratios += [f"{name} failed" for name in row.get("left_out", {})]
    what = f"{row['network']}/{row['layer']} {row['problem']}, {row['pass']}, batch {row['batch']}"
    return ", ".join([f"{what}: {row['default']} {report.time_and_share(case)}", *ratios])


def measure_bandwidth(options, peers: dict[str, Peer], threads: int) -> dict[str, float]:
    """GB/s by level and kind, in fastconv's process."""
    job = {"name": "bandwidth", "threads": threads}
    made, _ = timing.compare({"fastconv": peers["fastconv"]}, "fastconv.bench.bandwidth", job, min(3, options.rounds),
                             options.seconds)
    found = bandwidth.gigabytes_per_second(made)
    print(f"\nBandwidth of {report.count(threads, 'thread')}, GB/s: "
          + ", ".join(f"{name} {value:.0f}" for name, value in found.items()))
    return found


def measured(options, peers: dict[str, Peer], c: Conv, batch: int, threads: int, which: str) -> tuple[dict, list]:
    """One convolution: what goes into the JSON, and who is not in it."""
    job = {"name": f"{c.network}/{c.layer} {which}", "conv": list(c), "batch": batch, "threads": threads, "pass": which,
           "precisions": options.precision, "algorithms": options.algorithms, "end_to_end": options.end_to_end}
    failed: list = []
    made, difference = timing.compare(peers, "fastconv.bench.variants", job, options.rounds, options.seconds, failed)
    peak_times = {m.variant: m for m in made if m.info.get("peak")}
    peak_time = peak_times["peak"]
    timed = [m for m in made if not m.info.get("peak")]
    best = {name: timing.best([m for m in timed if m.peer == name]) for name in peers if name != "fastconv"}
    flops, cases = 2 * c.multiply_adds(batch), []
    for m in timed:
        case = {**m.json(), "gflops": flops / m.median / 1e9, "share_of_peak": timing.share_of_peak(m, flops, peak_time)}
        torch = best.get("torch")
        if m.peer == "fastconv" and torch:
            case["ratio"] = timing.ratio(m, torch)["ratio"]
        cases.append(case)
    defaults = {p: m.variant for m in timed for p in m.info.get("default", ())}
    chosen = next(m for m in timed if m.variant == defaults[options.precision[0]] and m.peer == "fastconv")
    ratios = {name: timing.ratio(chosen, other) for name, other in best.items() if other}
    return {"network": c.network, "layer": c.layer, "count": c.count, "problem": str(c), "conv": list(c), "batch": batch,
            "threads": threads, "pass": which, "flops": flops, "nbytes": c.nbytes(batch), "cases": cases,
            "default": chosen.variant, "defaults": defaults, "peak_gflops": timing.peak_flops(peak_time) / 1e9,
            "peaks_gflops": {name: timing.peak_flops(m) / 1e9 for name, m in peak_times.items()},
            "peak_seconds": peak_time.seconds, "difference": difference, "ratio": ratios.get("torch"), "ratios": ratios,
            }, failed


def table(rows: list[dict], title: str) -> None:
    """One line per convolution: time and share of the peak by algorithm, the default's marked, and the peers' best."""
    if not rows:
        return
    gflops = sorted(r["peak_gflops"] for r in rows)
    algorithms = list(dict.fromkeys(case["variant"] for r in rows for case in r["cases"] if case["peer"] == "fastconv"))
    others = [name for name in dict.fromkeys(name for r in rows for name in r["ratios"]) if name != "torch"]
    lines = []
    for r in rows:
        by_name = {case["variant"]: case for case in r["cases"] if case["peer"] == "fastconv"}
        line = [f"{r['network']}/{r['layer']}", r["problem"], f"{r['flops'] / 1e9:.3f}"]
        for name in algorithms:
            mark = "*" if name in r["defaults"].values() else " "
            line.append(report.time_and_share(by_name[name]) + mark if name in by_name else "")
        if r["ratio"]:
            of_torch = (case for case in r["cases"] if case["peer"] == "torch")
            theirs = next(case for case in of_torch if case["variant"] == r["ratio"]["variant"])
            line += [report.time_and_share(theirs), theirs["variant"], f"{r['ratio']['ratio']:.2f}",
                     timing.show_share(r["ratio"]["spread"])]
        line += [f"{r['ratios'][name]['ratio']:.2f}" if name in r["ratios"] else "" for name in others]
        lines.append(line)
    head = ["layer", "problem", "GFLOP", *algorithms]
    head += ["torch", "variant", "torch/default", "spread"] if rows[0]["ratio"] else []
    print(f"\n{title}: FMA peak {gflops[len(gflops) // 2]:.1f} GFLOP/s ({gflops[0]:.1f} to {gflops[-1]:.1f}); % of it")
    report.table([*head, *others], lines)
