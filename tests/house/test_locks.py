"""Locks: none is missing in the one list, a fork's child finds all of them free, and nobody waits for itself."""

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from fastconv.kernels.locks import Lock, live

import fastconv as fc
import fastconv.functional as F
from fastconv import nn, optim
from fastconv.data import DataLoader

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (4, 3, 12, 12)
INSIDE = "called by what runs inside a call of it, in the same thread"
fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def network():
    fc.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(1152, 5))


def images(n=SHAPE[0], seed=0):
    return np.random.default_rng(seed).standard_normal((n, *SHAPE[1:]), dtype=np.float32)


def in_a_process(source, timeout=120):
    """Runs Python in a process of its own; fails with what it wrote, or where it does not end."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=timeout,
                          cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- the list -------------------------------------------------------------------------------------------------------------

OTHERS = re.compile(r"\b(?:threading\.)?(?:Lock|RLock|Condition|Semaphore|BoundedSemaphore|Event|Barrier|allocate_lock)\(\)|"
                    r"PyThread_allocate_lock\(\)$|\bstd::(?:\w*_)?mutex|call_once|pthread_mutex|omp_init_lock|omp critical")
ALLOWED = {
    "fastconv/kernels/locks.pyx": 3,  # what the one kind is made of: declared, made at first, and in a child
    "fastconv/data/prefetch.py": 1,  # of a thread that a child does not have: it begins another (Worker.usable)
}


def test_there_is_one_kind_of_lock():
    """What no fork renews would be held for ever in a child."""
    found: dict[str, int] = {}
    for folder, kinds in (("fastconv", ("*.py", "*.pyx", "*.pxd")), ("include", ("*.h",))):
        for path in (p for kind in kinds for p in (ROOT / folder).rglob(kind)):
            for line in path.read_text().splitlines():
                if OTHERS.search(line.split("#")[0].rstrip()):
                    name = path.relative_to(ROOT).as_posix()
                    found[name] = found.get(name, 0) + 1
    assert found == ALLOWED


def test_the_list_holds_those_that_are_alive():
    before = len(live())
    lock = Lock("mine")
    assert lock in live() and len(live()) == before + 1
    engine = fc.compile(network(), SHAPE)
    kinds = {one.what for one in live()}
    assert {"engine", "packing of weights", "functional's cache", "random numbers", "BLAS guard", "search for a BLAS",
            "mine"} <= kinds
    del lock, engine
    assert "mine" not in {one.what for one in live()}


# ---- forks ----------------------------------------------------------------------------------------------------------------

SETUP = """
import os, signal, sys, threading, time
import numpy as np
import fastconv as fc, fastconv.functional as F
from fastconv import nn, optim
from fastconv.data import ArrayDataset, DataLoader
from fastconv.kernels.locks import live
from house.test_locks import SHAPE, images, network

x, y = images(), np.arange(4)
module = network()
engine = fc.compile(module, SHAPE)
clone, training = engine.clone(), fc.compile(module, SHAPE, training=True)
blas = fc.compile(nn.Conv2d(3, 4, 3), SHAPE, algorithm="im2col")
trainer = fc.Trainer(network(), nn.CrossEntropyLoss(), optim.Adam(1e-3), seed=1)
loader = DataLoader(ArrayDataset(images(8), np.arange(8)), 2, prefetch=2)

def everything():
    with module[0].weight.edit() as weight:
        weight *= 1.5
    engine(x), clone(x), blas(x)
    training(x)
    training.backward(np.ones((4, 5), np.float32))
    trainer.step(x, y)
    trainer.evaluate((x, y))
    trainer.predict(x)
    F.dropout(F.conv2d(x, module[0].weight.data), 0.5)
    F.conv2d(x, module[0].weight.data, algorithm="im2col")
    assert len(list(loader)) == 4

def child(work):
    "Forks, does the work there; whether it came to its end within half a minute."
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(60)
            work()
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    for _ in range(1200):
        if os.waitpid(pid, os.WNOHANG)[0]:
            break
        time.sleep(0.05)
    else:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return False
    return True
"""


@fork
def test_forks_while_each_lock_is_held():
    said = in_a_process(SETUP + textwrap.dedent("""
        def done(work):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    signal.alarm(60)
                    work()
                    code = 0
                finally:
                    os._exit(code)
            return os.waitpid(pid, 0)[1] == 0

        everything()
        batches = iter(loader)
        next(batches)
        held = [(lock.what, lock) for lock in live()]
        held.append(("prefetch", batches._worker._channel.changed))

        def hold(locks, ready, go):
            for lock in locks:
                lock.__enter__()
            ready.set()
            go.wait()
            for lock in locks:
                lock.__exit__(None, None, None)

        def next_batch():
            everything()
            assert len(list(batches)) == 3

        for name, locks in [*((name, [lock]) for name, lock in held), ("all", [lock for _, lock in held])]:
            ready, go = threading.Event(), threading.Event()
            thread = threading.Thread(target=hold, args=(locks, ready, go), daemon=True)
            thread.start()
            ready.wait()
            assert done(next_batch), f"a child hangs or fails that was forked while {name!r} was held"
            go.set()
            thread.join()
        everything()
        print(len(held), sorted({name for name, _ in held}))
    """))
    assert all(name in said for name in ("'DataLoader'", "'evaluate'", "'step'", "'engine'", "'prefetch'"))


@fork
def test_forks_while_another_thread_works():
    in_a_process(SETUP + textwrap.dedent("""
        everything()
        ending = threading.Event()

        def busy():
            while not ending.is_set():
                everything()

        threads = [threading.Thread(target=busy) for _ in range(2)]
        module, trainer_of_the_threads = network(), trainer
        for thread in threads:
            thread.start()
        try:
            for i in range(12):
                time.sleep(0.01 * i)
                assert child(everything), f"child {i} hangs"
        finally:
            ending.set()
        for thread in threads:
            thread.join()
    """).replace("module, trainer_of_the_threads = network(), trainer", ""))


@fork
def test_the_thread_that_forks_holds_the_lock():
    """The child goes on inside the call, ends it, and can call again."""
    in_a_process(SETUP + textwrap.dedent("""
        parent, forked = os.getpid(), []

        def progress(done, total, name):
            if not forked:
                forked.append(os.fork())
                if forked[0] == 0:
                    signal.alarm(60)

        code = 1
        try:
            engine.tune(rounds=1, progress=progress)
            everything()
            code = 0
        finally:
            if os.getpid() != parent:
                os._exit(code)
        assert os.waitpid(forked[0], 0)[1] == 0
    """))


# ---- re-entry -------------------------------------------------------------------------------------------------------------

class Asking:
    """An array that calls something where it is asked for its values."""

    def __init__(self, array, call):
        self.array, self.call = array, call

    def __array__(self, dtype=None, copy=None):
        self.call()
        return self.array


def refused(call, what):
    """Called inside, it says so; a list of what was said, for the caller to look at."""
    said = []

    def inside(*_):
        with pytest.raises(RuntimeError, match=f"{what}: {INSIDE}"):
            call()
        said.append(what)

    return inside, said


@pytest.fixture(autouse=True)
def no_hang():
    """A thread that waits for itself cannot be told; the whole process is ended with a traceback."""
    import faulthandler

    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def test_an_engine_inside_itself():
    engine, x = fc.compile(network(), SHAPE), images()
    expected = engine(x)
    inside, said = refused(lambda: engine(x), "engine")
    engine.tune(rounds=1, progress=inside)
    assert said
    np.testing.assert_array_equal(engine(x).shape, expected.shape)
    for call in (lambda: engine(x), engine.clone, engine.freeze, lambda: engine.profile(1), lambda: engine.tune(rounds=1)):
        inside, said = refused(call, "engine")
        engine(Asking(x, inside))
        assert len(said) == 1
    other = engine.clone()
    engine(Asking(x, lambda: other(x)))  # another engine may
    training = fc.compile(network(), SHAPE, training=True)
    y = training(x)
    inside, said = refused(lambda: training(x), "engine")
    training.backward(Asking(np.ones_like(y), inside))
    assert said


def test_an_engine_in_a_signal_handler():
    """The error comes out of the handler, and so out of the call that the signal interrupted."""
    engine, x = fc.compile(network(), SHAPE), images()
    before = signal.signal(signal.SIGUSR1, lambda *_: engine(x))
    try:
        with pytest.raises(RuntimeError, match=INSIDE):
            engine(Asking(x, lambda: signal.raise_signal(signal.SIGUSR1)))
        signal.raise_signal(signal.SIGUSR1)  # nothing is interrupted
        engine(x)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_engine_inside_its_own_trace():
    engines, x = [], images()

    def forward(a):
        if engines and a.shape[2] == 6:
            inside(a)
        return F.relu(a)

    engines.append(fc.compile(forward, SHAPE))
    inside, said = refused(lambda: engines[0](x), "engine")
    engines[0](x[..., :6, :6])
    assert said


def test_functions_inside_functions():
    x, w = images(), np.ones((2, 3, 3, 3), np.float32)
    expected = F.conv2d(x, w)
    inner = []
    np.testing.assert_array_equal(F.conv2d(Asking(x, lambda: inner.append(F.conv2d(x, w))), w), expected)
    np.testing.assert_array_equal(inner[0], expected)


def test_a_trainer_inside_itself():
    x, y = images(), np.arange(4)
    trainer = fc.Trainer(network(), nn.CrossEntropyLoss(), optim.SGD(0.1))
    inside, said = refused(lambda: trainer.step(x, y), "step")
    trainer.step(Asking(x, inside), y)
    inside, more = refused(lambda: trainer.step(x, y), "step")
    trainer.step(x, Asking(y, inside))
    assert said and more and trainer.step(x, y) > 0


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_loader_inside_its_own_dataset(prefetch):
    class Data:
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return next(iter(loader))

    loader = DataLoader(Data(), 2, prefetch=prefetch)
    with pytest.raises(RuntimeError, match="DataLoader: iterated over by its own dataset"):
        list(loader)


def test_ctrl_c_ends_the_waiting_for_a_lock():
    import threading

    lock, ready, go = Lock("test"), threading.Event(), threading.Event()

    def hold():
        with lock:
            ready.set()
            go.wait()

    class Enough(Exception):
        pass

    def handler(*_):
        raise Enough

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait()
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Enough), lock:
            raise AssertionError("it was held")
    finally:
        signal.signal(signal.SIGALRM, before)
        go.set()
        thread.join()
    with lock:
        assert lock.mine
    assert not lock.mine
