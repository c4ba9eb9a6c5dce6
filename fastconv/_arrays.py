"""What holds for arrays wherever they come in: other libraries' are taken where they lie, masked ones refused."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

HOST = (1, 3, 11, 13)  # DLPack's numbers of memory that the processor reads: its own, pinned and managed by others
DEVICES = {2: "CUDA", 4: "OpenCL", 7: "Vulkan", 8: "Metal", 10: "ROCm", 12: "an external device", 14: "oneAPI",
           15: "WebGPU", 16: "Hexagon", 17: "MAIA"}


def lent(value: Any) -> np.ndarray:
    """Another library's array as NumPy's, in the same memory where that is possible: by DLPack, else by NumPy's protocols.

    Raises
    ------
    BufferError
        For memory that is another device's.
    Exception
        Whatever the other library raises where it does not hand its array out.
    """
    if not hasattr(value, "__dlpack__"):
        return np.asarray(value)
    if hasattr(value, "__dlpack_device__"):
        kind, number = (int(n) for n in value.__dlpack_device__())
        if kind not in HOST:
            raise BufferError(f"it lies in the memory of {DEVICES.get(kind, f'device type {kind}')}, device {number}: copy "
                              "it to the CPU's first")
    return np.from_dlpack(value)


def is_masked(value: object) -> bool:
    """Whether it is a masked array. Where nobody has imported numpy.ma there is none, and this does not either."""
    ma = sys.modules.get("numpy.ma")
    return ma is not None and isinstance(value, getattr(ma, "MaskedArray", ()))


def refuse_masked(owner: str, name: str, value: object) -> None:
    """A masked array is no array: what computes would take the values behind its mask for real ones.

    Raises
    ------
    TypeError
        For a masked array.
    """
    if is_masked(value):
        raise TypeError(f"{owner}: {name} is a masked array, and masks are not followed: fill it first, with .filled(value)")
