"""The memory planner: lifetimes of buffers, and their offsets in one arena."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv.graph.limits import check_memory

ALIGN = 64
ARENA, WEIGHTS, PARAMETER, CONSTANT, HANDED = "arena", "weights", "parameter", "constant", "handed out"  # kinds of buffers


def aligned(nbytes: int) -> int:
    return (nbytes + ALIGN - 1) // ALIGN * ALIGN


def plan_memory(buffers: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Places buffers so that no two that live at the same time overlap.

    Largest first, each into the tightest gap between the buffers already placed that live at the same time.

    Parameters
    ----------
    buffers : sequence of (nbytes, first, last)
        Size, and the first and last step (inclusive) at which the buffer is needed.

    Returns
    -------
    offsets : list of int
        One per buffer, multiples of 64.
    total : int
        Bytes of the arena.
    """
    offsets = [0] * len(buffers)
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last; sorted by offset
    total = 0
    for i in sorted(range(len(buffers)), key=lambda i: (-buffers[i][0], buffers[i][1], i)):
        nbytes, first, last = buffers[i]
        if nbytes < 0 or first > last:
            raise ValueError(f"plan_memory: buffer {i} has nbytes={nbytes}, first={first}, last={last}")
        size = aligned(nbytes)
        best, best_gap, end = -1, -1, 0
        for other_offset, other_end, other_first, other_last in placed:
            if other_last < first or other_first > last:
                continue
            gap = other_offset - end
            if gap >= size and (best < 0 or gap < best_gap):
                best, best_gap = end, gap
            end = max(end, other_end)
        if best < 0:
            best = end
        offsets[i] = best
        total = max(total, best + size)
        if size:
            at = next((k for k, p in enumerate(placed) if p[0] > best), len(placed))
            placed.insert(at, (best, best + size, first, last))
    return offsets, total


def place(segments: Sequence[Sequence], buffers: Sequence) -> tuple[int, int]:
    """Sets lifetimes and offsets of buffers from the steps that name them; ``segments`` are one time line.

    The first of them, which makes what is kept from run to run, has memory of its own. Returns the bytes of the arena, and
    of what is kept.
    """
    position = 0
    for steps in segments:
        for step in steps:
            for ref in step.refs():
                buffer = ref.buffer
                buffer.first = position if buffer.first < 0 else buffer.first
                buffer.last = position
            position += 1
    arena_bytes = _offset([b for b in buffers if b.kind == ARENA and b.first >= 0])
    # what only the first segment names (folded weights on their way to being packed) is reused like an arena
    passing = [b for b in buffers if b.kind == WEIGHTS and 0 <= b.last < len(segments[0])]
    weights_bytes = _offset(passing)
    held = set(map(id, passing))
    for buffer in buffers:
        if buffer.kind == WEIGHTS and id(buffer) not in held:
            buffer.offset = weights_bytes
            weights_bytes += aligned(buffer.nbytes)
    check_memory(arena_bytes + weights_bytes + sum(b.nbytes for b in buffers if b.kind == HANDED))
    return arena_bytes, weights_bytes


def _offset(buffers: Sequence) -> int:
    """Sets the offsets of buffers that share memory; how much they need."""
    offsets, total = plan_memory([(b.nbytes, b.first, b.last) for b in buffers])
    for buffer, offset in zip(buffers, offsets, strict=True):
        buffer.offset = offset
    return total
