"""The floating-point mode of whoever calls: as it was before, whatever a run did, in whichever thread.

That denormals are flushed inside, in every thread of a run, is tested in tests/kernels/test_fpenv.py.
"""

import ctypes
import platform
import sys
import threading

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn, optim

FLUSH, DENORMALS_ARE_ZERO = 1 << 15, 1 << 6
NORMAL = 0x1F80  # all exceptions masked, to nearest: what a process starts with

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64") or not sys.platform.startswith("linux"),
                                reason="where MXCSR lies in fenv_t is known for x86-64 glibc and musl alone")


class Mode:
    """MXCSR through the C library: fenv_t is 28 bytes of the x87's state, then MXCSR."""

    def __init__(self):
        self.c = ctypes.CDLL(None)
        self.state = (ctypes.c_uint32 * 16)()

    def get(self):
        assert self.c.fegetenv(self.state) == 0
        return self.state[7] & ~0x3F  # without the exceptions that have happened

    def set(self, value):
        assert self.c.fegetenv(self.state) == 0
        self.state[7] = value
        assert self.c.fesetenv(self.state) == 0


SHAPE = (8, 3, 16, 16)
X = np.full(SHAPE, 1e-30, np.float32)


def network():
    fc.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 196, 3))


def runs(threads):
    """What runs kernels: inference, a functions' call, gradients, a training step; what fails before or in a run."""
    engine = fc.compile(network(), SHAPE, threads=threads)
    backward = fc.compile(network(), SHAPE, training=True, threads=threads)
    trainer = fc.Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(0.1), threads=threads)
    target = np.zeros(8, int)

    def refused():
        with pytest.raises(ValueError):
            engine(X[:, :2])

    def not_finite():
        with pytest.raises(FloatingPointError):
            trainer.step(np.full_like(X, np.inf), target)

    return [lambda: engine(X), lambda: (backward(X), backward.backward(np.ones((8, 3), np.float32))),
            lambda: trainer.step(X, target), lambda: F.conv2d(X, np.ones((2, 3, 3, 3), np.float32)), refused, not_finite,
            lambda: engine.profile(1), lambda: fc.compile(network(), SHAPE, algorithm="im2col", threads=threads)(X)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("mode", [NORMAL, NORMAL | FLUSH | DENORMALS_ARE_ZERO, NORMAL | 0x6000],
                         ids=["as usual", "the caller flushes", "towards zero"])
def test_the_callers_mode_stays(mode, threads):
    """Also a mode that the caller has chosen, as torch.set_flush_denormal does; also in threads that Python started."""
    calls, seen = runs(threads), []

    def work():
        control = Mode()
        before = control.get()
        try:
            for call in calls:
                control.set(mode)
                call()
                seen.append(control.get())
        finally:
            control.set(before)

    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [hex(value) for value in seen] == [hex(mode)] * 2 * len(calls)


def test_denormal_inputs_are_zeros():
    """DAZ: a network sees zeros, in one thread and in two; NumPy, before and after, does not."""
    small = np.full(SHAPE, 1e-41, np.float32)
    assert np.float32(small[0, 0, 0, 0]) * np.float32(2.0**100) > 0
    layer = nn.Conv2d(3, 8, 3, bias=False)
    layer.weight.data = np.full(layer.weight.shape, 2.0**60, np.float32)
    for threads in (1, 2):
        for algorithm in ("direct", "im2col"):
            assert (fc.compile(layer, SHAPE, threads=threads, algorithm=algorithm)(small) == 0).all()
    assert np.float32(small[0, 0, 0, 0]) * np.float32(2.0**100) > 0
