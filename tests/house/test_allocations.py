"""Steady-state runs allocate nothing: C allocations are counted by a preloaded library, Python's by tracemalloc."""

import os
import shutil
import subprocess
import sys
import textwrap

import pytest

COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdatomic.h>
static atomic_long calls;
long allocation_calls(void) { return calls; }
extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);
void* malloc(size_t n) { ++calls; return __libc_malloc(n); }
void* calloc(size_t a, size_t b) { ++calls; return __libc_calloc(a, b); }
void* realloc(void* p, size_t n) { ++calls; return __libc_realloc(p, n); }
void* memalign(size_t a, size_t n) { ++calls; return __libc_memalign(a, n); }
void* aligned_alloc(size_t a, size_t n) { ++calls; return __libc_memalign(a, n); }
int posix_memalign(void** p, size_t a, size_t n) { ++calls; *p = __libc_memalign(a, n); return *p ? 0 : 12; }
"""

PRELUDE = """
import ctypes, gc, sys, tracemalloc
import numpy as np
import fastconv as fc
from fastconv import nn
count = ctypes.CDLL(None).allocation_calls
count.restype = ctypes.c_long
fc.set_num_threads(int(sys.argv[1]))
rng = np.random.default_rng(0)
def steady(function, runs=200):
    for _ in range(20):
        function()
    gc.collect()
    gc.disable()
    before = count()
    for _ in range(runs):
        function()
    c = count() - before
    tracemalloc.start()
    for _ in range(20):
        function()
    def growth(n):
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(n):
            function()
        return tracemalloc.get_traced_memory()[0] - before
    growth(1)
    short, long = growth(runs), growth(2 * runs)
    tracemalloc.stop()
    print(c, long - short)
"""

INFERENCE = """
net = nn.Sequential(nn.Conv2d(3, 20, 3, padding=1), nn.BatchNorm2d(20), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 40, 3),
                    nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(40 * 9, 10), nn.Softmax(1))
engine = fc.compile(net, (8, 3, 16, 16), algorithm=ALGORITHM)
x = rng.standard_normal((8, 3, 16, 16)).astype(np.float32)
y = np.empty((8, 10), np.float32)
steady(lambda: engine(x, out=y))
"""

TRAINING = """
net = nn.Sequential(nn.Conv2d(3, 20, 3, padding=1), nn.BatchNorm2d(20), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2),
                    nn.Conv2d(20, 40, 3), nn.Tanh(), nn.Flatten(), nn.Linear(40 * 36, 10))
trainer = fc.Trainer(net, loss=nn.CrossEntropyLoss(), optimizer=fc.optim.SGD(lr=0.01, momentum=0.9), clip_grad_norm=1.0)
x = rng.standard_normal((8, 3, 16, 16)).astype(np.float32)
t = rng.integers(0, 10, 8)
steady(lambda: trainer.step(x, t))
"""


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("counting C allocations needs a C compiler on Linux (glibc)")
    folder = tmp_path_factory.mktemp("counter")
    (folder / "count.c").write_text(COUNTER)
    library = folder / "count.so"
    done = subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-fno-builtin", str(folder / "count.c"), "-o", str(library)],
                          capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the counter does not compile with this C library: {done.stderr[-200:]}")
    return library


def counts(counter, code, threads):
    # im2col with our own GEMM: OpenBLAS itself allocates, in its kernels for small matrices and when its threads are set
    environment = {**os.environ, "LD_PRELOAD": str(counter), "FASTCONV_BLAS": "none"}
    done = subprocess.run([sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(threads)], capture_output=True,
                          text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return tuple(int(v) for v in done.stdout.split())


def nothing(c, python):
    """No C allocation at all; less than a byte a run in Python (measuring itself leaves some 64 bytes behind)."""
    assert c == 0
    assert python < 200


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("algorithm", [None, "im2col"])
def test_inference_allocates_nothing(counter, threads, algorithm):
    nothing(*counts(counter, INFERENCE.replace("ALGORITHM", repr(algorithm)), threads))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_step_allocates_nothing(counter, threads):
    nothing(*counts(counter, TRAINING, threads))


def test_the_counter_counts(counter):
    """That the test can fail: an array of 1 MB per call is seen by both counters."""
    c, python = counts(counter, "kept = []\nsteady(lambda: kept.append(np.empty(1 << 18, np.float32)))", 1)
    assert c >= 200 and python > 200 * (1 << 20)
