"""Pictures of a tape: the roofline, the time per layer, and which buffer lives when."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from fastconv._picture import Picture
from fastconv.kernels._runtime import StepList
from fastconv.kernels.peak import bandwidth
from fastconv.report.profile import Profile, ProfileRow

MEMORY_BYTES = 64 << 20  # per thread: what is read to measure main memory
CACHE_BYTES = 384 << 10  # and the second-level cache
MOST_BARS = 40
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")  # Tol's bright, for any eyes
OTHER = "#bbbbbb"
NAMED = 0.011  # of the picture's width: what a letter takes


class Layer(NamedTuple):
    """The steps of one operator, which follow one another."""

    path: str
    op: str
    algorithm: str
    segment: str
    ms: float
    gflops: float
    share: float
    nbytes: int

    @property
    def title(self) -> str:
        return " ".join(filter(None, (self.path, "" if self.op in self.path else self.op,
                                      "" if self.segment == "forward" or self.segment in self.op else f"({self.segment})")))


@cache
def read_bandwidth(threads: int, nbytes: int) -> float:
    """Bytes per second that ``threads`` threads read, each over and over the same ``nbytes``; measured once."""
    floats, iterations = nbytes // 4, max(1, MEMORY_BYTES // nbytes)
    x, out = np.ones(floats * threads, np.float32), np.zeros(threads, np.float32)
    steps = StepList([bandwidth(x=x.ctypes.data, floats=floats, iterations=iterations, out=out.ctypes.data)], threads)
    return 4 * floats * threads * iterations / steps.time(threads, 5)[0]


def layers(rows: Sequence[ProfileRow]) -> list[Layer]:
    """Steps of the same operator as one; without those that pack weights."""
    found: list[Layer] = []
    for r in rows:
        if r.segment == "prepare":
            continue
        last = found[-1] if found else None
        if last and (last.path, last.op, last.algorithm, last.segment) == (r.path, r.op, r.algorithm, r.segment):
            found[-1] = last._replace(ms=last.ms + r.ms, gflops=max(last.gflops, r.gflops), share=max(last.share, r.share),
                                      nbytes=last.nbytes + r.nbytes)
        else:
            found.append(Layer(r.path, r.op, r.algorithm, r.segment, r.ms, r.gflops, r.share, r.nbytes))
    return found


def plot_profile(profile: Profile, path) -> None:
    """Left the roofline, a point for each layer with multiply-adds; right the time of each layer, the longest first."""
    picture = Picture("engine.plot", path, 14, 6.5)
    roof, bars = picture.figure.subplots(1, 2, width_ratios=(3, 2))
    found = layers(profile.rows)
    known = sorted({layer.algorithm for layer in found if layer.gflops})
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(known)}
    _roofline(roof, profile, [layer for layer in found if layer.gflops and layer.nbytes], colours)
    longest = sorted(found, key=lambda layer: -layer.ms)[:MOST_BARS][::-1]
    bars.barh(range(len(longest)), [layer.ms for layer in longest],
              color=[colours[layer.algorithm] if layer.gflops else OTHER for layer in longest])
    bars.set_yticks(range(len(longest)), [layer.title for layer in longest], fontsize=6)
    for at, layer in enumerate(longest):
        text = f" {layer.share:.0%} of peak" if layer.gflops else f" {layer.nbytes / layer.ms / 1e6:.0f} GB/s"
        bars.text(layer.ms, at, text, fontsize=6, va="center", color="0.3")
    rest = f", the longest {MOST_BARS} of {len(found)} layers" if len(found) > MOST_BARS else ""
    bars.set(xlabel="ms", title=f"{profile.ms:.3f} ms, batch {profile.batch}{rest}")
    bars.margins(x=0.18, y=0.01)
    picture.save()


def _roofline(roof, profile: Profile, found: list[Layer], colours: dict[str, str]) -> None:
    """Points above the peak are algorithms that multiply less than the definition says."""
    peak, threads = profile.peak_gflops, profile.threads
    points = {name: [(layer.gflops * 1e6 * layer.ms / layer.nbytes, layer.gflops, layer.ms) for layer in found
                     if layer.algorithm == name] for name in colours}
    x_of, y_of = ([p[i] for group in points.values() for p in group] or [1.0] for i in (0, 1))
    levels = [(f"main memory, {s / 1e9:.0f} GB/s", s / 1e9, "-") for s in [read_bandwidth(threads, MEMORY_BYTES)]]
    levels += [(f"second-level cache, {s / 1e9:.0f} GB/s", s / 1e9, "--") for s in [read_bandwidth(threads, CACHE_BYTES)]]
    edge = np.geomspace(min(x_of) / 2, 2 * max(2 * peak / levels[0][1], *x_of), 100)
    for label, speed, style in levels:
        roof.plot(edge, np.minimum(peak, speed * edge), style, color="0.4", linewidth=1.2, label=label)
    roof.axhline(peak, color="0.4", linewidth=1.2)
    roof.annotate(f"FMA peak, {peak:.0f} GFLOP/s", (edge[-1], peak), ha="right", va="bottom", fontsize=8)
    for name, group in points.items():
        if group:
            x, y, ms = zip(*group, strict=True)
            roof.scatter(x, y, [20 + 400 * m / profile.ms for m in ms], alpha=0.7, color=colours[name], linewidths=0,
                         label=name or "other")
    roof.set(xscale="log", yscale="log", xlabel="operations per byte of the layer's buffers", ylabel="GFLOP/s",
             ylim=(min(min(y_of) / 1.6, peak / 4), 1.8 * max(peak, *y_of)), xlim=(edge[0], edge[-1]),
             title=f"{profile.isa}, {threads} thread(s); the size of a point is its share of the time")
    roof.grid(alpha=0.3, which="both")
    roof.legend(fontsize=8, loc="best")


def plot_memory(memory: dict, segments: Sequence[tuple[str, int]], path) -> None:
    """The arena: steps from left to right, addresses upwards, a rectangle for each buffer while it lives.

    ``memory`` is what :meth:`fastconv.Engine.memory` returns, ``segments`` names and lengths of the tape's parts in order.
    """
    picture = Picture("engine.plot_memory", path, 12, 6.5)
    axis = picture.figure.subplots()
    buffers = [t for t in memory["tensors"] if t["kind"] == "arena"]
    begin = sum(count for name, count in segments if name == "prepare")  # these pack weights, once: not shown
    end = sum(count for _, count in segments)
    live = np.zeros(end - begin + 1)
    for number, t in enumerate(sorted(buffers, key=lambda t: -t["nbytes"])):
        first, last = max(0, t["first"] - begin), t["last"] - begin
        width, height = last - first + 1, t["nbytes"] / 1e6
        live[first: last + 1] += height
        axis.bar(first - 0.5, height, width, t["offset"] / 1e6, align="edge", alpha=0.75, edgecolor="white", linewidth=0.5,
                 color=COLOURS[number % len(COLOURS)])
        if height > 0.02 * memory["arena"] / 1e6 and NAMED * len(t["name"]) < 1.6 * width / len(live):
            axis.text(first - 0.5 + width / 2, (t["offset"] + t["nbytes"] / 2) / 1e6, t["name"], fontsize=6, ha="center",
                      va="center", clip_on=True)
    axis.step(range(len(live)), live, where="mid", color="black", linewidth=1, label="alive at the step")
    at = -begin
    for name, count in segments:
        if name != "prepare" and count:
            axis.axvline(at - 0.5, color="0.5", linewidth=0.8, linestyle=":")
            axis.annotate(name, (at - 0.3, 1.02 * memory["arena"] / 1e6), fontsize=8, va="bottom")
        at += count
    axis.set(xlabel="step", ylabel="offset in the arena, MB", xlim=(-1, end - begin), ylim=(0, 1.09 * memory["arena"] / 1e6),
             title=f"arena {memory['arena'] / 1e6:.2f} MB ({memory['unshared'] / 1e6:.2f} MB without reuse, most alive at "
                   f"one step {memory['peak'] / 1e6:.2f} MB); packed weights {memory['weights'] / 1e6:.2f} MB")
    axis.legend(fontsize=8, loc="upper right")
    picture.save()
