"""The kernel tests again at every other instruction set of this machine, a process each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fastconv.kernels._runtime import isa_info

HERE = Path(__file__).parent
ALONE = ("test_everywhere.py", "test_conv.py", "test_im2col.py", "test_blas.py")  # the second and third do it themselves
FILES = sorted(str(p) for p in HERE.glob("test_*.py") if p.name not in ALONE)


@pytest.mark.parametrize("isa", isa_info()["available"])
def test_everywhere(isa):
    if "FASTCONV_TEST_INNER" in os.environ:
        pytest.skip("already inside")
    if isa == isa_info()["isa"]:
        pytest.skip("this process")
    environment = {**os.environ, "FASTCONV_ISA": isa, "FASTCONV_TEST_INNER": "1"}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", *FILES], env=environment, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
