"""What the caches and the memory of this machine can do, measured in the same run as what is compared with it."""

from __future__ import annotations

import numpy as np

from fastconv.measure.timing import Variant

# Bytes that each thread goes over: half of what is usual for the level, and far more than any cache for the memory.
LEVELS = {"L1": 16 << 10, "L2": 384 << 10, "L3": 4 << 20, "memory": 96 << 20}
BURST = 64 << 20  # bytes per call


def prepare_fastconv(job: dict) -> list[Variant]:
    """Reading, and copying (bytes read and bytes written count), at each level."""
    return [made(level, kind, job["threads"]) for level in LEVELS for kind in ("read", "copy")]


def made(level: str, kind: str, threads: int) -> Variant:
    from fastconv.kernels._runtime import StepList
    from fastconv.kernels.peak import bandwidth

    floats = LEVELS[level] // 4 // (2 if kind == "copy" else 1)
    iterations = max(1, BURST // (4 * floats))
    x, out = aligned(threads * floats), np.zeros(threads, np.float32)
    y = aligned(threads * floats) if kind == "copy" else None
    target = {"out": out.ctypes.data} if y is None else {"y": y.ctypes.data}
    steps = StepList([bandwidth(x=x.ctypes.data, floats=floats, iterations=iterations, **target)], threads)
    nbytes = threads * iterations * floats * 4 * (1 if y is None else 2)
    return Variant(f"{level} {kind}", lambda: (x, y, out, steps.run(threads)),
                   info={"level": level, "kind": kind, "bytes": nbytes})


def aligned(floats: int) -> np.ndarray:
    """Zeros that begin with a cache line: a load across two of them counts twice."""
    memory = np.zeros(floats + 16, np.float32)
    begin = -memory.ctypes.data % 64 // 4
    memory[:] = 0.0  # pages that were never written are all one page of zeros
    return memory[begin:begin + floats]


def gigabytes_per_second(measurements) -> dict[str, float]:
    """"L2 read" and so on: the best round."""
    return {m.variant: m.info["bytes"] / min(m.seconds) / 1e9 for m in measurements}
