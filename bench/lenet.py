"""LeNet-5 with the same weights in every library, and the comparison that train and infer share."""

from __future__ import annotations

import numpy as np

from bench import report, timing

SHAPES = ((6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84))  # each with a bias


def weights() -> list[np.ndarray]:
    """Weight, bias, weight, ... uniform in +-1/sqrt(fan_in), PyTorch's default: the same in every process."""
    rng = np.random.default_rng(5)
    made = []
    for shape in SHAPES:
        bound = 1 / np.sqrt(np.prod(shape[1:]))
        made += [rng.uniform(-bound, bound, s).astype(np.float32) for s in (shape, shape[:1])]
    return made


def images(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch of noise and its classes."""
    rng = np.random.default_rng(6)
    return rng.standard_normal((batch, 1, 32, 32)).astype(np.float32), rng.integers(0, 10, batch)


def fastconv_network():
    from fastconv import zoo

    net = zoo.lenet5()
    for parameter, value in zip(net.parameters(), weights(), strict=True):
        parameter.data = value
    return net


def torch_network():
    import torch
    from torch import nn

    net = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), weights(), strict=True):
            parameter.copy_(torch.from_numpy(value))
    return net


def main(options, module: str, names: list[str], multiply_adds: int, note: str) -> dict:
    """For each batch and number of threads: all variants of all peers, the ratio of each peer's best to fastconv's."""
    results, ratios, peaks, machine = [], [], [], None
    print(note)
    for threads in options.threads:
        with report.opened(names, threads, options.isa) as peers:
            machine = report.machine(peers, machine)
            for batch in options.batch:
                title = f"{options.benchmark}, batch {batch}, {threads} thread(s)"
                timing.progress(title)
                job = {"name": title, "batch": batch, "threads": threads}
                measured, difference = timing.compare(peers, module, job, options.rounds, options.seconds)
                peak = next(m for m in measured if m.info.get("peak"))
                measured.remove(peak)
                found = compared(names, measured)
                results.append(result(measured, peak, 2 * batch * multiply_adds, found, difference,
                                      {"batch": batch, "threads": threads}))
                ratios += found
                peaks.append(peak)
                show(title, results[-1])
    report.footer(machine, timing.noise_lines(ratios, peaks))
    return {"machine": machine, "notes": note, "results": results}


def compared(names: list[str], measured: list[timing.Measurement]) -> list[dict]:
    ours = timing.best([m for m in measured if m.peer == "fastconv"])
    return [timing.ratio(ours, timing.best([m for m in measured if m.peer == name])) for name in names if name != "fastconv"]


def result(measured: list[timing.Measurement], peak: timing.Measurement, flops: float, ratios: list[dict],
           difference: float, settings: dict) -> dict:
    cases = [{**m.json(), "share_of_peak": timing.share_of_peak(m, flops, peak)} for m in measured]
    return {**settings, "flops": flops, "cases": cases, "ratios": ratios, "difference": difference,
            "peak_gflops": timing.peak_flops(peak) / 1e9, "peak_seconds": peak.seconds}


def show(title: str, result: dict) -> None:
    best = {(r["peer"], r["variant"]): r for r in result["ratios"]}
    print(f"\n{title}: FMA peak {result['peak_gflops']:.1f} GFLOP/s, % of it; outputs differ by at most "
          f"{result['difference']:.1g} of their root mean square")
    lines = []
    for case in result["cases"]:
        r = best.get((case["peer"], case["variant"]))
        lines.append([case["peer"], case["variant"], report.time_and_share(case), f"{timing.spread(case['seconds']):.0%}",
                      *([f"{r['ratio']:.2f}", f"{r['spread']:.0%}"] if r else [])])
    report.table(["library", "variant", "time", "spread", "by fastconv's", "spread"], lines)
