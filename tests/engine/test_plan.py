"""The memory planner: a property test that no two live buffers overlap, and what it must refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastconv.graph.limits import check_memory, memory_limit
from fastconv.lowering.memory import plan_memory

BUFFERS = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 40), st.integers(0, 12)), max_size=60).map(
    lambda rows: [(nbytes, first, first + length) for nbytes, first, length in rows])


@settings(max_examples=400, deadline=None)
@given(BUFFERS)
def test_no_two_live_buffers_overlap(buffers):
    offsets, total = plan_memory(buffers)
    last = max((b[2] for b in buffers), default=0)
    for step in range(last + 1):
        owner = np.full(total, -1)
        for i, (nbytes, first, end) in enumerate(buffers):
            if first <= step <= end:
                assert offsets[i] % 64 == 0
                assert offsets[i] + nbytes <= total
                part = owner[offsets[i]:offsets[i] + nbytes]
                assert (part == -1).all(), f"buffers {part.max()} and {i} overlap at step {step}"
                part[:] = i


@settings(max_examples=200, deadline=None)
@given(BUFFERS)
def test_the_arena_is_no_larger_than_without_reuse_and_no_smaller_than_the_peak(buffers):
    offsets, total = plan_memory(buffers)
    sizes = [(b[0] + 63) // 64 * 64 for b in buffers]
    peak = max((sum(s for s, b in zip(sizes, buffers, strict=True) if b[1] <= t <= b[2]) for t in range(60)), default=0)
    assert peak <= total <= sum(sizes)


def test_a_chain_needs_two_buffers():
    chain = [(1000, i, i + 1) for i in range(50)]
    assert plan_memory(chain)[1] == 2 * 1024


def test_the_tightest_gap_is_taken():
    # the first and third are gone at step 5 and leave gaps of 1024 and 512 bytes below buffers that live on
    offsets, total = plan_memory([(1024, 0, 4), (960, 0, 9), (512, 0, 4), (448, 0, 9), (384, 5, 9)])
    assert offsets == [0, 1024, 1984, 2496, 1984]
    assert total == 2944


@pytest.mark.parametrize("wrong", [(-1, 0, 1), (64, 2, 1)])
def test_impossible_buffers_are_refused(wrong):
    with pytest.raises(ValueError, match="plan_memory: buffer 0"):
        plan_memory([wrong])


def test_more_memory_than_there_is():
    with pytest.raises(MemoryError, match="a smaller batch or input is needed"):
        check_memory(memory_limit() + 1)
    check_memory(memory_limit() // 2)
