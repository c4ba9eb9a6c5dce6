"""The object for AMX as it is shipped, on any x86-64: where the processor lacks its instructions, they trap and are emulated
by a handler (amx_trap.cpp). Its results must have the bits of the kernels that were written over the emulated tiles."""

import ctypes
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fastconv.kernels._runtime import isa_info

from fastconv.kernels import planes, tiles

from .guarded import guarded, images
from .plane_problems import backward_weight, forward, halves, packed, split, unpacked_gradient
from .problems import Case

ROOT = Path(__file__).resolve().parents[2]
OBJECT = next(iter((ROOT / "build").glob(f"objects-{sys.implementation.cache_tag}-*/amx_planes.o")), None)
pytestmark = [
    pytest.mark.skipif(OBJECT is None, reason="the object is not there: built elsewhere, or by a compiler without AMX"),
    pytest.mark.skipif(shutil.which("c++") is None, reason="c++ is not installed"),
    pytest.mark.skipif("avx512_bf16" not in isa_info()["available"], reason="the object uses AVX-512 with bfloat16 as well"),
    pytest.mark.skipif("FASTCONV_TEST_INNER" in os.environ, reason="the object is the same at every instruction set"),
]
CASES = {
    "panel": Case(1, 5, 7, (9, 10), (3, 3), padding=1),
    "in place": Case(2, 32, 33, (4, 40), (3, 3), padding=1),
    "stride": Case(1, 64, 17, (3, 70), (1, 3), stride=2),
    "groups": Case(1, 30, 40, (5, 7), (3, 3), padding=1, groups=2),
    "passes": Case(1, 2100, 40, (1, 3), (1, 1)),
    "one pixel": Case(3, 6, 5, (3, 3), (3, 3)),
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    target = tmp_path_factory.mktemp("amx") / "amx.so"
    subprocess.run(["c++", "-O1", "-std=c++17", "-ffp-contract=off", "-mfma", "-shared", "-fPIC", f"-I{ROOT / 'include'}",
                    str(Path(__file__).with_name("amx_trap.cpp")), str(OBJECT), "-o", str(target)], check=True)
    library = ctypes.CDLL(str(target))
    for name in ("forward", "backward_weight", "peak"):
        getattr(library, name).restype = ctypes.c_int64
    return library


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def geometry(case, ldp):
    g = case.geometry(ldp)
    taps = np.array(g["taps"], np.int32)
    numbers = [len(taps), g["groups"], g["channels"], g["filters"], ldp, *g["input"], *g["space"], *g["stride"]]
    return np.array(numbers, np.int64), taps


def emulated(trapped):
    """Traps there were, or AMX itself."""
    return trapped > 0 or (planes.has_tiles() and tiles.permission() is None)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_forward(name, count, library):
    case, rng = CASES[name], np.random.default_rng(4)
    x, w = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.w_shape))
    x.reshape(-1)[3] = np.inf
    ldp = case.c + case.c % 2 + 6
    image, weights, zero = split(x, count, ldp), packed(case, w, count), halves(max(2, case.c), 0)
    numbers, taps = geometry(case, ldp)
    y = guarded(case.n * math.prod(case.out) * case.k)
    trapped = library.forward(ctypes.c_int64(case.n), pointer(numbers), pointer(taps), pointer(image), pointer(weights),
                              pointer(y), ctypes.c_int64(case.k), pointer(zero), ctypes.c_int64(count),
                              ctypes.c_int64(image.size // count))
    assert emulated(trapped)
    np.testing.assert_array_equal(images(y, case.y_shape, case.k), forward("bf16_conv_amx", count, case, x, w))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_backward_weight(name, count, library):
    case, rng = CASES[name], np.random.default_rng(4)
    x, gy = (rng.standard_normal(s, np.float32) for s in (case.x_shape, case.y_shape))
    ldp, ldy, size = case.c + case.c % 2 + 6, case.k + case.k % 2, math.prod(case.w_shape)
    image, gradient, zero = split(x, count, ldp), split(gy, count, ldy), halves(max(case.c, case.k), 0)
    numbers, taps = geometry(case, ldp)
    dw = guarded(size)
    trapped = library.backward_weight(ctypes.c_int64(case.n), pointer(numbers), pointer(taps), pointer(image),
                                      pointer(gradient), ctypes.c_int64(ldy), pointer(dw), pointer(zero),
                                      ctypes.c_int64(count), ctypes.c_int64(image.size // count),
                                      ctypes.c_int64(gradient.size // count))
    assert emulated(trapped)
    expected = backward_weight("bf16_conv_backward_weight_amx", count, case, x, gy)
    np.testing.assert_array_equal(unpacked_gradient(case, dw), expected)


def test_peak(library):
    out = guarded(2 * planes.AMX_PEAK_FLOATS)
    assert emulated(library.peak(pointer(out), ctypes.c_int64(3)))
    np.testing.assert_array_equal(out, np.tile(np.arange(1024) + 3 * 32 * 1.5, 2))
