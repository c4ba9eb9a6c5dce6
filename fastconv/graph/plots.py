"""Pictures of a tape: the roofline, the time per step, and which buffer lives when."""

from __future__ import annotations

from functools import cache

import numpy as np

from fastconv._picture import Picture
from fastconv.graph.profile import Profile
from fastconv.kernels._runtime import StepList
from fastconv.kernels.peak import bandwidth

MEMORY_BYTES = 64 << 20  # per thread: what is read to measure main memory
MOST_BARS = 40


@cache
def memory_bandwidth(threads: int) -> float:
    """Bytes per second that ``threads`` threads read from main memory together; measured once."""
    floats = MEMORY_BYTES // 4
    x, out = np.ones(floats * threads, np.float32), np.zeros(threads, np.float32)
    steps = StepList([bandwidth(x=x.ctypes.data, floats=floats, iterations=1, out=out.ctypes.data)], threads)
    return 4 * floats * threads / steps.time(threads, 5)[0]


def plot_profile(profile: Profile, path) -> None:
    """Left the roofline, a point for each step with multiply-adds; right the time of each step, the longest first."""
    picture = Picture("engine.plot", path, 13, 6)
    roof, bars = picture.figure.subplots(1, 2, width_ratios=(3, 2))
    shown = [r for r in profile.rows if r.segment != "prepare"]
    peak, memory = profile.peak_gflops, memory_bandwidth(profile.threads) / 1e9
    points: dict[str, list[tuple[float, float, float]]] = {}
    for r in shown:
        if r.gflops and r.nbytes:
            points.setdefault(r.algorithm, []).append((r.gflops * 1e6 * r.ms / r.nbytes, r.gflops, r.ms))
    reach = [p[0] for group in points.values() for p in group] or [1.0]
    edge = np.geomspace(min(0.1, *reach) / 2, 2 * max(2 * peak / memory, *reach), 100)
    roof.plot(edge, np.minimum(peak, memory * edge), color="0.4")
    for algorithm, group in sorted(points.items()):
        x, y, ms = zip(*group, strict=True)
        roof.scatter(x, y, [20 + 400 * m / profile.ms for m in ms], alpha=0.6, label=algorithm or "other")
    roof.set(xscale="log", yscale="log", xlabel="operations per byte of the step's buffers", ylabel="GFLOP/s",
             title=f"FMA peak {peak:.0f} GFLOP/s, main memory {memory:.0f} GB/s, {profile.threads} thread(s)")
    roof.grid(alpha=0.3, which="both")
    if points:
        roof.legend()
    longest = sorted(shown, key=lambda r: -r.ms)[:MOST_BARS][::-1]
    bars.barh(range(len(longest)), [r.ms for r in longest])
    bars.set_yticks(range(len(longest)), [" ".join(filter(None, (r.path, r.op, r.algorithm))) for r in longest], fontsize=6)
    rest = f", the longest {MOST_BARS} of {len(shown)}" if len(shown) > MOST_BARS else ""
    bars.set(xlabel="ms", title=f"{profile.ms:.3f} ms, batch {profile.batch}{rest}")
    picture.save()


def plot_memory(memory: dict, path) -> None:
    """The arena: steps from left to right, addresses upwards, a rectangle for each buffer while it lives.

    ``memory`` is what :meth:`fastconv.Engine.memory` returns.
    """
    picture = Picture("engine.plot_memory", path, 11, 6)
    axis = picture.figure.subplots()
    buffers = [t for t in memory["tensors"] if t["kind"] == "arena"]
    for number, t in enumerate(sorted(buffers, key=lambda t: -t["nbytes"])):
        width, height = t["last"] - t["first"] + 1, t["nbytes"] / 1e6
        axis.bar(t["first"] - 0.5, height, width, t["offset"] / 1e6, align="edge", alpha=0.7, edgecolor="black",
                 linewidth=0.3)
        if number < 30 and 12 * width > len(memory["tensors"]):  # a name has room
            axis.text(t["first"] - 0.5 + width / 2, t["offset"] / 1e6 + height / 2, t["name"], fontsize=6, ha="center",
                      va="center", clip_on=True)
    axis.set(xlabel="step", ylabel="offset in the arena, MB",
             title=f"arena {memory['arena'] / 1e6:.2f} MB ({memory['unshared'] / 1e6:.2f} MB without reuse, most alive at "
                   f"one step {memory['peak'] / 1e6:.2f} MB); packed weights {memory['weights'] / 1e6:.2f} MB")
    picture.save()
