"""What a tape consists of: its steps, and its memory."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastconv.lowering.memory import ARENA, HANDED, WEIGHTS
from fastconv.lowering.program import Program
from fastconv.lowering.steps import SEGMENTS


class StepInfo(NamedTuple):
    """One step of a tape, as :meth:`Engine.steps` lists it."""

    segment: str
    path: str
    op: str
    algorithm: str
    why: str
    kernel: str
    input: tuple | None
    output: tuple | None
    multiply_adds: int
    nbytes: int


def list_steps(program: Program) -> list[StepInfo]:
    """The steps in order."""
    rows = []
    for segment in SEGMENTS:
        for spec, kernel in zip(program.lowered.specs[segment], program.segments[segment].kernels(), strict=True):
            rows.append(StepInfo(segment, spec.path, spec.op, spec.algorithm, spec.why, kernel, spec.info.get("input"),
                                 spec.info.get("output"), spec.info.get("multiply_adds", 0),
                                 sum(r.buffer.nbytes for r in {r.buffer: r for r in spec.refs()}.values())))
    return rows


def list_memory(program: Program) -> dict[str, Any]:
    """The sizes that :meth:`Engine.memory` gives, and its buffers."""
    lowered = program.lowered
    arena = [b for b in lowered.buffers if b.kind == ARENA and b.first >= 0]
    live = [0] * (sum(len(lowered.specs[s]) for s in SEGMENTS) + 1)
    for b in arena:
        live[b.first] += b.nbytes
        live[b.last + 1] -= b.nbytes
    peak = most = 0
    for change in live:
        peak += change
        most = max(most, peak)
    scratch = max(s.scratch_bytes for s in program.segments.values())
    return {"arena": lowered.arena_bytes, "weights": lowered.weights_bytes, "scratch": scratch,
            "gradients": sum(b.nbytes for b in lowered.buffers if b.kind == HANDED),
            "unshared": sum(b.nbytes for b in arena), "peak": most,
            "tensors": [{"name": b.name, "kind": b.kind, "nbytes": b.nbytes, "offset": b.offset, "first": b.first,
                         "last": b.last} for b in lowered.buffers if b.kind in (WEIGHTS, HANDED) or b.first >= 0]}
