"""The kernel tests again at every other instruction set of this machine, a process each."""

from pathlib import Path

import pytest
from everywhere import again
from fastconv.kernels._runtime import isa_info

HERE = Path(__file__).parent
ALONE = ("test_everywhere.py", "test_conv.py", "test_im2col.py", "test_blas.py")  # the second and third do it themselves
FILES = sorted(str(p) for p in HERE.glob("test_*.py") if p.name not in ALONE)


@pytest.mark.parametrize("isa", isa_info()["available"])
def test_everywhere(isa):
    again(isa, *FILES)
