"""What each step of a tape costs: time, rate, share of this machine's peak, bytes; which algorithm was chosen and why."""

from __future__ import annotations

import json
import math
import time
from functools import cache
from typing import NamedTuple

import numpy as np

from fastconv.kernels import conv as kernels
from fastconv.kernels._runtime import StepList, isa_info
from fastconv.lowering.lower import Lowering
from fastconv.lowering.places import Ref
from fastconv.lowering.program import Program, Snapshot
from fastconv.lowering.steps import SEGMENTS

PEAK_TILES, PEAK_ITERATIONS, PEAK_BURSTS = 64, 4000, 8


@cache
def fma_peak(threads: int) -> float:
    """Float32 operations per second of ``threads`` threads that multiply and add in registers alone; measured once."""
    out = np.zeros(PEAK_TILES * kernels.peak_lanes(), np.float32)
    steps = StepList([kernels.fma_peak(out=out.ctypes.data, iterations=PEAK_ITERATIONS)], PEAK_TILES)
    least = float("inf")
    for _ in range(PEAK_BURSTS):
        least = min(least, steps.time(threads, 9)[0])
        time.sleep(0.002)  # idle threads fall asleep: where two were on one processor, the next wake-up parts them
    return 2 * PEAK_TILES * PEAK_ITERATIONS * kernels.peak_lanes() / least


class ProfileRow(NamedTuple):
    """One step. ``gflops`` counts multiply-adds by the definition as two operations, so that a fast algorithm may exceed the
    peak; where an operator takes several steps (transforms), it is by the time of all of them, and stands at the one that
    multiplies. It and ``share`` of the FMA peak are 0 where a step has no multiply-adds. ``nbytes`` is what its buffers
    hold: what it moves at least."""

    segment: str
    path: str
    op: str
    algorithm: str
    why: str
    kernel: str
    input: tuple | None
    output: tuple | None
    ms: float
    gflops: float
    share: float
    nbytes: int
    offset: int | None

    @property
    def gigabytes_per_second(self) -> float:
        """Bytes of the buffers by the time of the step."""
        return self.nbytes / self.ms / 1e6 if self.ms else 0.0


class Profile:
    """The rows of :meth:`fastconv.Engine.profile`; prints as a table.

    Attributes
    ----------
    rows : list of ProfileRow
    threads, batch : int
    isa : str
        The instruction set.
    peak_gflops : float
        The FMA peak of these threads, measured in this process.
    """

    def __init__(self, rows: list[ProfileRow], threads: int, batch: int, peak_gflops: float):
        self.rows, self.threads, self.batch, self.peak_gflops = rows, threads, batch, peak_gflops
        self.isa = isa_info()["isa"]

    @property
    def ms(self) -> float:
        """The sum over all steps but those that pack weights."""
        return sum(r.ms for r in self.rows if r.segment != "prepare")

    def json(self) -> str:
        """Everything as one JSON object."""
        return json.dumps({"isa": self.isa, "threads": self.threads, "batch": self.batch,
                           "peak_gflops": self.peak_gflops, "ms": self.ms, "steps": [r._asdict() for r in self.rows]})

    def chrome_trace(self) -> str:
        """The steps one after the other as trace events, for chrome://tracing and Perfetto; times in microseconds.

        Format: "Trace Event Format", complete events (ph "X").
        """
        events, begin = [], 0.0
        for r in self.rows:
            details = {key: value for key, value in r._asdict().items() if key not in ("ms", "path", "op")}
            events.append({"name": f"{r.path} {r.op}".strip(), "cat": r.segment, "ph": "X", "ts": begin, "dur": 1e3 * r.ms,
                           "pid": 0, "tid": 0, "args": details})
            begin += 1e3 * r.ms
        return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})

    def __str__(self) -> str:
        shown = [r for r in self.rows if r.segment != "prepare"]
        total = self.ms or 1.0
        table = [("path", "step", "algorithm", "output", "ms", "time", "GFLOP/s", "of peak", "MB", "GB/s", "why")]
        for r in shown:
            rate = (f"{r.gflops:.1f}", f"{r.share:.0%}") if r.gflops else ("", "")
            table.append((r.path or "-", r.op if r.segment == "forward" else f"{r.op} ({r.segment})", r.algorithm,
                          "x".join(map(str, r.output)) if r.output else "", f"{r.ms:.3f}", f"{r.ms / total:.0%}", *rate,
                          f"{r.nbytes / 1e6:.2f}", f"{r.gigabytes_per_second:.1f}" if r.nbytes else "", r.why))
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        left = (0, 1, 2, 3, 10)
        lines = ["  ".join(c.ljust(widths[i]) if i in left else c.rjust(widths[i]) for i, c in enumerate(row)).rstrip()
                 for row in table]
        lines.append(f"{len(shown)} steps, {self.ms:.3f} ms, batch {self.batch}, {self.threads} thread(s), "
                     f"{self.isa}, FMA peak {self.peak_gflops:.1f} GFLOP/s")
        return "\n".join(lines)

    __repr__ = __str__


def times(lowered: Lowering, snapshot: Snapshot | None, threads: int, rounds: int) -> tuple[Program, dict[str, list[float]]]:
    """Binds a lowering to memory of its own and times its steps on random arrays: seconds by segment.

    What a training forward writes (running statistics) is put back.
    """
    program, rng, arrays = Program(lowered, snapshot=snapshot), np.random.default_rng(0), []
    program.threads = threads
    written = [(p, p.numpy()) for p in lowered.changed]
    counted = [(c, c.copy()) for c in lowered.counters]
    try:
        for slot in lowered.slots.values():
            arrays.append(rng.standard_normal(slot.extents, np.float32))
            slot.take(arrays[-1], True)
        tape = [segment for segment in SEGMENTS if lowered.specs[segment]]
        for segment in tape:
            program.run(segment, lowered.batch) if segment != "prepare" else program.prepare(threads)
        seconds = {segment: [math.inf] * len(lowered.specs[segment]) for segment in tape}
        for _ in range(rounds):  # all of it each time: a backward uses up what its forward left to it
            for segment in tape:
                seconds[segment] = list(map(min, seconds[segment], program.segments[segment].time(threads, 1)))
        return program, seconds
    finally:
        for parameter, value in written:
            parameter.data = value
        for counter, value in counted:
            counter[...] = value


def profile(lowered: Lowering, snapshot: Snapshot | None, threads: int, rounds: int) -> Profile:
    """Times the steps of a lowering in order, at its planned batch."""
    peak, rows = fma_peak(threads), []
    program, measured = times(lowered, snapshot, threads, rounds)
    for segment, seconds_of in measured.items():
        kernels_of = program.segments[segment].kernels()
        spent: dict[tuple, float] = {}  # by operator
        for spec, seconds in zip(lowered.specs[segment], seconds_of, strict=True):
            spent[spec.node, spec.op] = spent.get((spec.node, spec.op), 0.0) + seconds
        for spec, kernel, seconds in zip(lowered.specs[segment], kernels_of, seconds_of, strict=True):
            rate = 2 * spec.info.get("multiply_adds", 0) / spent[spec.node, spec.op]
            buffers, output = {r.buffer for r in spec.refs()}, spec.keywords.get("y")
            output = output[0] if isinstance(output, tuple) and not isinstance(output, Ref) else output  # of a view
            rows.append(ProfileRow(segment, spec.path, spec.op, spec.algorithm, spec.why, kernel, spec.info.get("input"),
                                   spec.info.get("output"), 1e3 * seconds, rate / 1e9, rate / peak,
                                   sum(b.nbytes for b in buffers),
                                   output.buffer.offset + output.offset if output is not None else None))
    return Profile(rows, threads, lowered.batch, peak / 1e9)
