"""Where threads cannot be created: runs go on with one, which is said once."""

import os
import subprocess
import sys

import pytest

resource = pytest.importorskip("resource", reason="no limits on this system")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what /proc says of memory is asked for")

LIMITED = """
import os, resource, threading, warnings
import numpy as np
import fastconv as fc
from fastconv import nn, optim
from fastconv.data import ArrayDataset, DataLoader

fc.set_num_threads(4)
fc.manual_seed(0)
net = nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 30 * 30, 3))
x = np.random.default_rng(0).standard_normal((8, 8, 32, 32), dtype=np.float32)
engine, other = fc.compile(net, x.shape), fc.compile(net, x.shape, threads=1)
expected = other(x)
trainer = fc.Trainer(net, nn.CrossEntropyLoss(), optim.SGD(1e-3), threads=4)
single = fc.Trainer(net, nn.CrossEntropyLoss(), optim.SGD(1e-3), threads=1)
single.evaluate((x, np.zeros(8, int)))
stack = 64 << 20
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
{before}
resource.setrlimit(resource.RLIMIT_AS, (used + {room}, resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    results = [engine(x) for _ in range(3)]
{inside}
assert all(y.tobytes() == expected.tobytes() for y in results)
print(len([w for w in said if issubclass(w.category, RuntimeWarning)]), *[str(w.message) for w in said], sep="\\n")
{after}
"""


def limited(before="", inside="", after="", room="(24 << 20)", **environment):
    """What a process says whose threads, with stacks of 64 MiB, do not fit the memory that it may have."""
    code = LIMITED.format(before=before, inside=inside, after=after, room=room)
    names = {**os.environ, "OMP_STACKSIZE": "64M", "OPENBLAS_NUM_THREADS": "1", **environment}
    names["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=names)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_one_thread_where_there_can_be_no_more():
    said = limited()
    assert said[0] == "1" and len(said) == 2
    assert said[1].startswith("fastconv: 4 threads cannot be created (") and "runs have one thread" in said[1]


def test_in_other_threads_too():
    """They have a pool of their own; whatever can be had beside them is known before they ask."""
    assert limited(before="results = []", inside="""
    done = []
    threading.stack_size(1 << 20)
    thread = threading.Thread(target=lambda: results.append(engine(x)))
    thread.start()
    thread.join()
    assert len(results) == 4
""")[0] == "1"


def test_a_pool_that_is_there_goes_on():
    said = limited(before="engine(x)\nwith open('/proc/self/statm') as file:\n"
                          "    used = int(file.read().split()[0]) * resource.getpagesize()")
    assert said == ["0"]


def test_enough_room():
    assert limited(room="(1 << 30)") == ["0"]


def test_set_num_threads_tries_again():
    said = limited(after="""
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
before = len(os.listdir("/proc/self/task"))
engine(x)
print(len(os.listdir("/proc/self/task")) - before)
fc.set_num_threads(3)
engine(x)
print(len(os.listdir("/proc/self/task")) - before)
""")
    assert said[-2:] == ["0", "2"]


def test_a_loader_without_its_thread():
    said = limited(inside="""
    threading.stack_size(64 << 20)
    batches = list(DataLoader(ArrayDataset(np.arange(10)), 3, prefetch=2))
    assert [len(b[0]) for b in batches] == [3, 3, 3, 1]
""")
    assert said[0] == "2" and said[2].startswith("DataLoader: no background thread (can't start new thread): batches are")
