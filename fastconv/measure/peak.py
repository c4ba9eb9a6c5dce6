"""What the machine can compute at most, measured in the same rounds as what is compared with it."""

from __future__ import annotations

import numpy as np

from fastconv.measure.timing import Variant

PEAK_TILES, PEAK_ITERATIONS = 64, 4000


def peak(threads: int) -> Variant:
    """Fused multiply-adds in registers alone."""
    from fastconv.kernels import conv as kernels

    return registers("peak", kernels.fma_peak, kernels.peak_lanes(), PEAK_ITERATIONS, threads)


def registers(name: str, factory, lanes: int, iterations: int, threads: int, products: int = 1) -> Variant:
    """A kernel that multiplies and adds in registers: ``lanes`` floats per tile, each of so many products per iteration."""
    from fastconv.kernels._runtime import StepList

    out = np.zeros(PEAK_TILES * lanes, np.float32)
    steps = StepList([factory(out=out.ctypes.data, iterations=iterations)], PEAK_TILES)
    flops = 2 * PEAK_TILES * iterations * lanes * products
    return Variant(name, lambda: (out, steps.run(threads)), info={"peak": True, "flops": flops})


def peaks(threads: int) -> list[Variant]:
    """The FMA peak, and those of bfloat16 products where the instruction set in use has them."""
    from fastconv.kernels import planes

    made = [peak(threads)]
    if planes.has_dot():  # a pair of products per float and iteration
        made.append(registers("bf16 peak", planes.dot_peak, planes.peak_lanes(), PEAK_ITERATIONS, threads, 2))
    if planes.has_tiles():
        made.append(registers("amx peak", planes.amx_peak, planes.AMX_PEAK_FLOATS, PEAK_ITERATIONS, threads, 32))
    return made
