"""The number of threads where OpenMP binds them to processors, by itself or because another package has loaded it first."""

import os
import subprocess
import sys

import pytest

from fastconv.kernels import affinity

ALLOWED = sorted(affinity.processors()) if hasattr(os, "sched_getaffinity") else []
pytestmark = pytest.mark.skipif(len(ALLOWED) < 2, reason="affinity masks of two processors or more are needed")
COUNT = """
import json, os
{early}
import numpy as np
{before}
import fastconv as fc
fc_threads = fc.get_num_threads()
import fastconv.nn as nn
y = fc.compile(nn.Conv2d(8, 64, 3), (8, 8, 64, 64))(np.ones((8, 8, 64, 64), np.float32))
tasks = {{int(t): sorted(os.sched_getaffinity(int(t))) for t in os.listdir("/proc/self/task")}}
print(json.dumps([fc_threads, sorted(os.sched_getaffinity(0)), sorted(set().union(*tasks.values()))]))
"""
BOUND = [
    {"OMP_PROC_BIND": "close"}, {"OMP_PROC_BIND": "true"}, {"OMP_PROC_BIND": "spread"}, {"OMP_PROC_BIND": "TRUE"},
    {"OMP_PLACES": "threads"}, {"OMP_PLACES": "cores"}, {"OMP_PLACES": "sockets"},
    {"OMP_PLACES": "threads", "OMP_PROC_BIND": "close"}, {"OMP_PLACES": "cores", "OMP_PROC_BIND": "spread"},
    {"OMP_PLACES": f"{{{ALLOWED[0]}}},{{{ALLOWED[1]}}}"} if len(ALLOWED) > 1 else {},
    {"GOMP_CPU_AFFINITY": " ".join(map(str, ALLOWED))},
]
FIRST = {
    "alone": "", "NumPy": "np.ones((500, 500)) @ np.ones((500, 500))",
    "libgomp": "import ctypes; ctypes.CDLL('libgomp.so.1')",
    "PyTorch": "import torch",
    "PyTorch at work": "import torch; torch.ones(4000, 500) @ torch.ones(500, 500)",
}


def count(environment, before="", early=""):
    """(threads, mask of the main thread, all processors that a thread may run on), in a process of its own."""
    import json

    clean = {name: value for name, value in os.environ.items() if name not in (*affinity.BINDING, "OMP_NUM_THREADS")}
    clean["OPENBLAS_NUM_THREADS"] = "1"  # its threads are not bound
    clean["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    code = COUNT.format(before=before, early=early)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env={**clean, **environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def expected():
    quota = __import__("fastconv.kernels.threads", fromlist=["cgroup_quota"]).cgroup_quota()
    return len(ALLOWED) if quota is None else min(len(ALLOWED), quota)


def there(first):
    if first.startswith("PyTorch"):
        pytest.importorskip("torch", reason="PyTorch is not installed")
    if first == "libgomp":
        import ctypes

        try:
            ctypes.CDLL("libgomp.so.1")
        except OSError:
            pytest.skip("libgomp.so.1 is not found by its name here")


@pytest.mark.parametrize("environment", BOUND, ids=lambda e: " ".join(f"{k}={v}" for k, v in e.items()))
def test_bound_threads_are_as_many(environment):
    threads, _, everywhere = count(environment)
    assert threads == expected()
    assert everywhere == ALLOWED  # they run where there is room, not all in one place


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("environment", [BOUND[0], BOUND[4], BOUND[-1]], ids=lambda e: " ".join(e))
def test_whoever_loads_openmp_first(environment, first):
    there(first)
    threads, mask, everywhere = count(environment, FIRST[first])
    assert threads == expected()
    assert everywhere == ALLOWED
    assert len(mask) < len(ALLOWED)  # the main thread stays bound, as the user has asked


@pytest.mark.parametrize(("environment", "threads"), [
    ({"OMP_PLACES": f"{{{ALLOWED[0] if ALLOWED else 0}}}"}, 1),  # who names one place means it
    ({"GOMP_CPU_AFFINITY": str(ALLOWED[-1] if ALLOWED else 0)}, 1),
    ({"OMP_PROC_BIND": "false"}, None), ({"OMP_PROC_BIND": "false", "OMP_PLACES": "cores"}, None), ({}, None),
    ({"OMP_PROC_BIND": "close", "OMP_NUM_THREADS": "1"}, 1),
], ids=str)
def test_other_settings(environment, threads):
    found, mask, _ = count(environment)
    assert found == (expected() if threads is None else threads)
    if threads is None:
        assert mask == ALLOWED


@pytest.mark.parametrize("environment", [{}, BOUND[0]], ids=str)
def test_a_mask_of_the_process_holds(environment):
    """taskset, by the process itself before anything is loaded."""
    narrow = f"os.sched_setaffinity(0, [{ALLOWED[-1] if ALLOWED else 0}])"
    for when in ("early", "before"):
        threads, mask, everywhere = count(environment, **{when: narrow})
        assert threads == 1 and mask == everywhere == ALLOWED[-1:]
