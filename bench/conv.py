"""Every convolution of five networks, by every algorithm that applies, against PyTorch's."""

from __future__ import annotations

import numpy as np

from bench import report, timing
from bench.peers import Peer
from bench.shapes import Conv, select
from bench.timing import Measurement, Variant

PASSES = ("forward", "backward_data", "backward_weight")
PEAK_TILES, PEAK_ITERATIONS = 64, 4000
NOTES = {
    False: "Timed: the convolution alone, repeated on the same arrays. fastconv: the steps between the doors of a compiled "
           "engine, channels-last in and out, weights packed; the moves from and to NCHW are not in it (first layers with "
           "padding get their border from the door). PyTorch: a call on tensors already in its layout, the best of "
           "contiguous, channels_last and, forward, channels_last with the weight packed for oneDNN beforehand.",
    True: "Timed end to end: NCHW in, NCHW out, layout moves included; weights packed before (fastconv, and PyTorch's "
          "variant 'packed'), the output allocated by PyTorch and given to fastconv.",
}


# ---- in the processes of the peers ----------------------------------------------------------------------------------


def arrays(job: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input, weight and gradient of the output: the same in every process, zero mean."""
    c, n = Conv(*job["conv"]), job["batch"]
    rng = np.random.default_rng(20)
    shapes = ((n, c.channels, c.size, c.size), (c.filters, c.channels // c.groups, c.kernel, c.kernel),
              (n, c.filters, c.output, c.output))
    return tuple(rng.random(s, np.float32) - np.float32(0.5) for s in shapes)


def prepare_fastconv(job: dict) -> list[Variant]:
    """The peak, and each algorithm that applies; the one that is chosen when none is named says so."""
    made = [peak(job["threads"])]
    default = prepare_algorithm(job, None)
    default.info["default"] = True
    chosen = {default.name: default}
    for name in job["algorithms"]:
        try:
            variant = prepare_algorithm(job, name)
        except ValueError as error:
            if "does not apply" not in str(error):
                raise
            continue
        chosen.setdefault(variant.name, variant)  # backward_weight sums "pointwise" by the kernels of "direct"
    return made + list(chosen.values())


def peak(threads: int) -> Variant:
    """Fused multiply-adds in registers alone."""
    from fastconv.kernels._runtime import StepList

    from fastconv.kernels import conv as kernels

    out = np.zeros(PEAK_TILES * kernels.peak_lanes(), np.float32)
    steps = StepList([kernels.fma_peak(out=out.ctypes.data, iterations=PEAK_ITERATIONS)], PEAK_TILES)
    flops = 2 * PEAK_TILES * PEAK_ITERATIONS * kernels.peak_lanes()
    return Variant("peak", lambda: (out, steps.run(threads)), info={"peak": True, "flops": flops})


def prepare_algorithm(job: dict, algorithm: str | None) -> Variant:
    """One convolution compiled as a network of its own; what runs are its steps without those at the doors."""
    import fastconv as fc
    from fastconv import functional as F

    c = Conv(*job["conv"])
    x, w, gy = arrays(job)
    options = {"stride": c.stride, "padding": c.padding, "groups": c.groups, "algorithm": algorithm}
    weight = fc.Parameter(w)
    function, inputs = {
        "forward": (lambda x: F.conv2d(x, weight, **options), [x]),
        "backward_data": (lambda g: F.conv2d_backward_data(g, weight, x.shape, **options), [gy]),
        "backward_weight": (lambda g, x: F.conv2d_backward_weight(g, x, w.shape, **options), [gy, x]),
    }[job["pass"]]
    engine = fc.compile(function, [a.shape for a in inputs], threads=job["threads"])
    out = engine(*inputs)
    rows = [row for row in engine.steps() if row.segment == "forward"]
    inner = [i for i, row in enumerate(rows) if row.op not in ("input", "output")]
    first, last = inner[0], inner[-1] + 1
    if len(inner) != last - first:
        raise RuntimeError(f"steps at the doors lie between those of the convolution: {[row.op for row in rows]}")
    steps, threads = engine._current[1].segments["forward"], job["threads"]
    name = next(rows[i].algorithm for i in inner if rows[i].algorithm)
    info = {"kernels": [rows[i].kernel for i in inner], "default": False}

    def whole():
        engine(*inputs, out=out)

    def alone():
        steps.run(threads, first, last)

    return Variant(name, whole if job["end_to_end"] else alone, out.copy(), whole, info)


def prepare_torch(job: dict) -> list[Variant]:
    import torch

    torch.set_num_threads(job["threads"])
    c = Conv(*job["conv"])
    names = ("contiguous", "channels_last", "packed") if job["pass"] == "forward" else ("contiguous", "channels_last")
    with torch.inference_mode():
        tensors = [torch.from_numpy(a) for a in arrays(job)]
        return [torch_variant(job, c, name, tensors) for name in names]


def torch_variant(job: dict, c: Conv, name: str, tensors: list) -> Variant:
    """"packed" is what torch.compile does with frozen weights: the weight in oneDNN's own layout."""
    import torch

    outer = torch.contiguous_format
    layout = outer if name == "contiguous" else torch.channels_last
    x, w, gy = (t.contiguous(memory_format=layout) for t in tensors)
    stride, padding, one = [c.stride] * 2, [c.padding] * 2, [1, 1]
    if name == "packed":
        packed = torch._C._nn.mkldnn_reorder_conv2d_weight(tensors[1].to_mkldnn(), padding, stride, one, c.groups,
                                                           list(x.shape))
        call = torch.ops.mkldnn._convolution_pointwise

        def convolve(x):
            return call(x, packed, None, padding, stride, one, c.groups, "none", [], "")
    elif job["pass"] == "forward":
        def convolve(x):
            return torch.nn.functional.conv2d(x, w, None, stride, padding, 1, c.groups)
    else:
        number = PASSES.index(job["pass"]) - 1
        mask = [number == 0, number == 1, False]
        backward = torch.ops.aten.convolution_backward

        def convolve(gy, x=x):
            return backward(gy, x, w, None, stride, padding, one, False, [0, 0], c.groups, mask)[number]

    given = (x,) if job["pass"] == "forward" else (gy, x) if job["pass"] == "backward_weight" else (gy,)
    if job["end_to_end"] and layout is not outer:
        given = tensors[:1] if job["pass"] == "forward" else (tensors[2], tensors[0])[: len(given)]

        def run():
            return convolve(*(t.contiguous(memory_format=layout) for t in given)).contiguous(memory_format=outer)
    else:
        def run():
            return convolve(*given)

    return Variant(name, run, run().numpy(), context=torch.inference_mode)


# ---- in the parent --------------------------------------------------------------------------------------------------


def main(options) -> dict:
    """Runs the comparison, prints its tables, returns what goes into the JSON."""
    convs = select(options.shapes)
    names = ["fastconv", *(p for p in options.peers if p == "torch")]
    todo = {which: [c for c in convs if not (c.first and which == "backward_data")] for which in options.passes}
    total = sum(map(len, todo.values())) * len(options.batch) * len(options.threads)
    results, peaks, machine = [], [], None
    print(NOTES[options.end_to_end])
    for threads in options.threads:
        with report.opened(names, threads, options.isa) as peers:
            machine = report.machine(peers, machine)
            for batch in options.batch:
                for which in options.passes:
                    first = len(results)
                    for c in todo[which]:
                        timing.progress(f"[{len(results) + 1}/{total}] {c.network}/{c.layer} {c}, {which}, batch {batch}, "
                                        f"{threads} thread(s)")
                        row, peak_time = measure(options, peers, c, batch, threads, which)
                        results.append(row)
                        peaks.append(peak_time)
                    table(results[first:], peaks[first:],
                          f"{which}, batch {batch}, {threads} thread(s), {machine['isa']}")
    ratios = [r["ratio"] for r in results if r["ratio"]]
    means = summary(results)
    report.footer(machine, timing.noise_lines(ratios, peaks))
    return {"machine": machine, "notes": NOTES[options.end_to_end], "results": results, "geometric_means": means}


def measure(options, peers: dict[str, Peer], c: Conv, batch: int, threads: int, which: str) -> tuple[dict, Measurement]:
    """One convolution: what goes into the JSON, and the peak's times."""
    job = {"name": f"{c.network}/{c.layer} {which}", "conv": list(c), "batch": batch, "threads": threads, "pass": which,
           "algorithms": options.algorithms, "end_to_end": options.end_to_end}
    measured, difference = timing.compare(peers, "bench.conv", job, options.rounds, options.seconds)
    peak_time = next(m for m in measured if m.info.get("peak"))
    flops = 2 * c.multiply_adds(batch)
    cases = []
    for m in measured:
        if m is not peak_time:
            cases.append({**m.json(), "gflops": flops / m.median / 1e9,
                          "share_of_peak": timing.share_of_peak(m, flops, peak_time)})
    default = next(m for m in measured if m.info.get("default"))
    torch = timing.best([m for m in measured if m.peer == "torch"])
    return {"network": c.network, "layer": c.layer, "count": c.count, "problem": str(c), **c._asdict(), "batch": batch,
            "threads": threads, "pass": which, "flops": flops, "cases": cases, "default": default.variant,
            "peak_gflops": timing.peak_flops(peak_time) / 1e9, "peak_seconds": peak_time.seconds,
            "difference": difference, "ratio": timing.ratio(default, torch) if torch else None}, peak_time


def table(rows: list[dict], peaks: list[Measurement], title: str) -> None:
    """One line per convolution: time and share of the peak by algorithm, the default's marked, and the peer's best."""
    if not rows:
        return
    gflops = sorted(timing.peak_flops(p) / 1e9 for p in peaks)
    algorithms = list(dict.fromkeys(case["variant"] for r in rows for case in r["cases"] if case["peer"] == "fastconv"))
    lines = []
    for r in rows:
        by_name = {case["variant"]: case for case in r["cases"] if case["peer"] == "fastconv"}
        line = [f"{r['network']}/{r['layer']}", r["problem"], f"{r['flops'] / 1e9:.3f}"]
        for name in algorithms:
            mark = "*" if name == r["default"] else " "
            line.append(report.time_and_share(by_name[name]) + mark if name in by_name else "")
        if r["ratio"]:
            of_torch = (case for case in r["cases"] if case["peer"] == "torch")
            theirs = next(case for case in of_torch if case["variant"] == r["ratio"]["variant"])
            line += [report.time_and_share(theirs), theirs["variant"], f"{r['ratio']['ratio']:.2f}",
                     f"{r['ratio']['spread']:.0%}"]
        lines.append(line)
    head = ["layer", "problem", "GFLOP", *algorithms]
    head += ["torch", "variant", "torch/default", "spread"] if rows[0]["ratio"] else []
    print(f"\n{title}: FMA peak {gflops[len(gflops) // 2]:.1f} GFLOP/s ({gflops[0]:.1f} to {gflops[-1]:.1f}); % of it")
    report.table(head, lines)


def summary(results: list[dict]) -> list[dict]:
    """Geometric means of the ratios per pass, batch, threads and network, and over all networks."""
    means = []
    keys = dict.fromkeys((r["pass"], r["batch"], r["threads"]) for r in results)
    for which, batch, threads in keys:
        group = [r for r in results if (r["pass"], r["batch"], r["threads"]) == (which, batch, threads) and r["ratio"]]
        for network in [*dict.fromkeys(r["network"] for r in group), *(["all"] if group else [])]:
            some = [r for r in group if network in (r["network"], "all")]
            means.append({"pass": which, "batch": batch, "threads": threads, "network": network, "shapes": len(some),
                          "geometric_mean": timing.geometric_mean([r["ratio"]["ratio"] for r in some]),
                          "won": sum(r["ratio"]["ratio"] > 1 for r in some)})
    if means:
        print("\nGeometric means of torch's best time by that of fastconv's default algorithm: above 1, fastconv is faster")
        report.table(["pass", "batch", "threads", "network", "mean", "faster in"],
                     [[m["pass"], str(m["batch"]), str(m["threads"]), m["network"], f"{m['geometric_mean']:.2f}",
                       f"{m['won']} of {m['shapes']}"] for m in means])
    return means
