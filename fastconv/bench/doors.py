"""The doors between users' arrays and channels-last buffers, beside memcpy on the same bytes in the same run."""

from __future__ import annotations

import ctypes

import numpy as np

from fastconv.measure import timing
from fastconv.measure.timing import Measurement, Variant

# (N, C, H, W): few and many channels, rows a power of two apart and not, past the caches.
SHAPES = ((1, 3, 224, 224), (1, 16, 128, 128), (1, 17, 149, 149), (1, 64, 56, 56), (1, 64, 64, 64), (1, 96, 256, 256),
          (1, 144, 128, 128), (1, 192, 35, 35), (1, 256, 14, 14), (1, 512, 32, 32), (1, 2048, 7, 7),
          (16, 64, 56, 56), (16, 256, 28, 28))
BORDERED = ((1, 3, 224, 224), (1, 1, 572, 572))  # as first layers read them, one row and column of zeros around
BURST = 4 << 20  # bytes per call


def doors() -> list[tuple[str, tuple, str]]:
    """Name, shape and kind ("in", "out" or "bordered") of each."""
    kinds = [(shape, kind) for shape in SHAPES for kind in ("in", "out")] + [(shape, "bordered") for shape in BORDERED]
    return [(f"{'x'.join(map(str, shape))} {kind}", shape, kind) for shape, kind in kinds]


def timed(options, peers: dict, threads: int, name: str, shape: tuple, kind: str, failed: list) -> list[Measurement]:
    """The door, as fastconv's, and memcpy, as another's: what is not another process's either."""
    job = {"name": name, "shape": list(shape), "kind": kind, "threads": threads}
    measured, _ = timing.compare({"fastconv": peers["fastconv"]}, __name__, job, options.rounds, options.seconds,
                                 failed)
    return [Measurement("memcpy" if m.variant == "memcpy" else m.peer, m.variant, m.info, m.seconds) for m in measured]


def prepare_fastconv(job: dict) -> list[Variant]:
    from fastconv.kernels import layout
    from fastconv.kernels._runtime import Memory, StepList

    n, c, h, w = job["shape"]
    edge = int(job["kind"] == "bordered")
    x, y = (np.ones((n, c, h, w), np.float32) for _ in range(2))
    memory = Memory(4 * n * c * (h + 2 * edge) * (w + 2 * edge))
    slot = layout.Slot()
    slot.expect(x.shape, True)
    slot.take(x, True)
    make = layout.from_channels_last if job["kind"] == "out" else layout.to_channels_last
    step = make(slot, memory.address, channels=c, size=(1, h, w), ld=c, halo=(0, edge, edge),
                padded=(1, h + 2 * edge, w + 2 * edge))
    steps, count = StepList([step], n), max(1, BURST // x.nbytes)
    info = {"bytes": 2 * x.nbytes, "count": count}

    def door():
        for _ in range(count):
            steps.run(job["threads"])

    def copy():
        for _ in range(count):
            ctypes.memmove(y.ctypes.data, x.ctypes.data, x.nbytes)

    return [Variant(job["kind"], lambda: (memory, door()), info=info), Variant("memcpy", copy, info=info)]


def gigabytes_per_second(case: dict) -> float:
    """Bytes read and bytes written."""
    return case["info"]["bytes"] * case["info"]["count"] / case["median_seconds"] / 1e9
