"""Test files again at another instruction set of this machine."""

import os
import subprocess
import sys

import pytest
from fastconv.kernels._runtime import isa_info


def again(isa: str, *files, here: bool | None = None, **settings: str) -> None:
    """Runs the files at an instruction set, in a process with these settings in its environment; skips where that is what
    this process has (``here``; default: the instruction set decides)."""
    if "FASTCONV_TEST_INNER" in os.environ:
        pytest.skip("already inside")
    if isa == isa_info()["isa"] if here is None else here:
        pytest.skip("this process")
    environment = {**os.environ, "FASTCONV_ISA": isa, "FASTCONV_TEST_INNER": "1", **settings}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", *map(str, files)], env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
