"""Memory of programs: aligned, zero, given back; much of it is a mapping of its own."""

import os
import sys

import numpy as np
import pytest
from fastconv.kernels._runtime import Memory

LARGE = 4 << 20  # from here on it is mapped
SIZES = [0, 1, 64, 4097, LARGE - 1, LARGE, LARGE + 1, LARGE + 4095, LARGE + 4097, 3 * LARGE + 12345, 64 << 20]


@pytest.mark.parametrize("nbytes", SIZES)
def test_zero_aligned_and_writable_to_its_last_byte(nbytes):
    for _ in range(3):  # what the one before has written is not seen
        memory = Memory(nbytes)
        assert memory.nbytes == nbytes and memory.address % (2 << 20 if nbytes >= LARGE else 64) == 0
        array = np.frombuffer(memory, np.uint8)
        assert array.size == nbytes and not array.any()
        array.fill(255)
        del array, memory


def statistics():
    with open("/proc/self/statm") as file:
        total, resident = map(int, file.read().split()[:2])
    return total, resident


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and mappings are made on Linux alone")
def test_what_nobody_touches_takes_no_pages_and_all_is_given_back():
    page, nbytes = os.sysconf("SC_PAGE_SIZE"), (256 << 20) + 5
    before = statistics()
    memory = Memory(nbytes)
    held = statistics()
    assert held[0] - before[0] >= nbytes // page and (held[1] - before[1]) * page < nbytes // 8
    np.frombuffer(memory, np.uint8).sum()
    del memory
    for _ in range(50):
        Memory(nbytes)
    after = statistics()
    assert abs(after[0] - before[0]) * page < nbytes // 8


def test_more_than_there_is():
    for nbytes in (2**62, 2**64 - 1, 2**64 - (2 << 20)):
        with pytest.raises(MemoryError, match=f"{nbytes} bytes"):
            Memory(nbytes)
