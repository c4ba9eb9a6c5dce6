"""Leave to use AMX: the kernels over tiles, the operating system's permission, and their emulation for tests.

Linux grants the tile registers to a process that asks for them (arch_prctl, ARCH_REQ_XCOMP_PERM); from then on its signal
frames are larger, and small alternative signal stacks are refused. So the question is put when the first engine that could
use AMX compiles, not at import, and once.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from functools import cache

from fastconv.kernels import planes

NAME = "amx"  # of the algorithm, for users
FORWARD, BACKWARD_WEIGHT = "bf16_conv_amx", "bf16_conv_backward_weight_amx"
EMULATED = "AMX is emulated (FASTCONV_EMULATE_AMX)"

_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18  # x86-64: syscall, ARCH_REQ_XCOMP_PERM, the tiles' state component


def emulated() -> bool:
    """Whether FASTCONV_EMULATE_AMX asks for the kernels over tiles where there is no AMX: thousands of times slower."""
    return os.environ.get("FASTCONV_EMULATE_AMX", "0") not in ("", "0") and not planes.has_tiles()


def why_not() -> str | None:
    """Why the kernels over tiles cannot run here; None: they can. Asks for the permission where it is needed."""
    if emulated():
        return None
    if not planes.has_tiles():
        return f"this process runs {planes.level()} kernels, not AMX"
    return permission()


@cache
def permission() -> str | None:
    """Asks the operating system for the tile registers, once per process; None, or why they are not to be had."""
    reason = request()
    if reason:
        logging.getLogger("fastconv").warning("AMX is not used, AVX-512 is: %s", reason)
    return reason


def request() -> str | None:
    """The request itself."""
    if platform.system() != "Linux":
        return f"{platform.system()} does not say how to ask for the tile registers"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(_ARCH_PRCTL), ctypes.c_long(_REQUEST), ctypes.c_long(_TILE_DATA)) == 0:
        return None
    return f"the operating system refuses the tile registers ({os.strerror(ctypes.get_errno())})"
