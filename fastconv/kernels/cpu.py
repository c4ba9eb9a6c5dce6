"""What cost models need to know of the machine: constants of the instruction set, the same on every processor that has it.

They are not measured, so that a network compiles to the same algorithms, and so to the same bits, wherever it is compiled.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from fastconv.kernels._runtime import isa_info


class Cpu(NamedTuple):
    """Per core. ``width``: floats per vector; ``madds``: multiply-adds per cycle; ``l2``: bytes of the second-level cache
    that a kernel may count on; ``l2_bytes`` and ``memory_bytes``: bytes per cycle from there and from main memory."""

    isa: str
    width: int
    madds: float
    l2: int
    l2_bytes: float
    memory_bytes: float


_LEVELS = {
    "portable": Cpu("portable", 4, 4.0, 256 << 10, 16.0, 4.0),
    "avx2": Cpu("avx2", 8, 16.0, 512 << 10, 32.0, 5.0),
    "avx512": Cpu("avx512", 16, 32.0, 1 << 20, 48.0, 5.0),
}


@cache
def cpu() -> Cpu:
    """The constants of the instruction set that kernels run with."""
    isa = isa_info()["isa"]
    return _LEVELS.get(isa, _LEVELS["avx512"])._replace(isa=isa)
