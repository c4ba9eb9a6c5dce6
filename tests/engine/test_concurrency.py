"""Many Python threads at once: clones with an arena each, one engine that all wait for, and whatever else runs meanwhile.

Results must have the bits of a single thread's; a deadlock ends in a dump of all stacks instead of a test that never ends.
"""

import faulthandler
import threading

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn, optim

THREADS, RUNS = 8, 150


@pytest.fixture(autouse=True)
def no_deadlock():
    faulthandler.dump_traceback_later(240, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


class Branches(nn.Module):
    """A residual and a concatenation, so that buffers of the arena are shared out in less simple ways."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.c, self.norm, self.relu = nn.Conv2d(16, 8, 1), nn.BatchNorm2d(16), nn.ReLU()
        self.head = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24 * 64, 7))

    def forward(self, x):
        y = self.relu(self.norm(self.a(x)))
        y = self.relu(self.b(y) + y)
        return self.head(F.cat([y, self.c(y)], 1))


def net():
    fc.manual_seed(1)
    return Branches()


def batches(count=RUNS):
    """Of every size up to the planned one: each run replays the plan at another batch."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1 + i % 4, 3, 16, 16), dtype=np.float32) for i in range(count)]


def together(work, count=THREADS):
    """Runs work(number) in so many threads, all at once; raises what the first of them that failed raised."""
    start, errors = threading.Barrier(count), []

    def one(number):
        try:
            start.wait()
            work(number)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("algorithm", [None, "im2col", "winograd"])
def test_clones(threads, algorithm):
    """im2col calls NumPy's BLAS, whose threads a guard sets to one while any engine is in it."""
    first = fc.compile(net(), (4, 3, 16, 16), threads=threads, algorithm=algorithm)
    xs = batches()
    expected = [first(x).tobytes() for x in xs]
    engines = [first] + [first.clone() for _ in range(THREADS - 1)]

    def work(number):
        out = np.empty((4, 7), np.float32)
        for i in range(RUNS):
            i = (i + 5 * number) % RUNS
            n = len(xs[i])
            assert engines[number](xs[i], out=out[:n]).tobytes() == expected[i], (number, i)

    together(work)


def test_one_engine_for_all():
    """Calls wait for each other; new shapes are planned in between, and old ones fall out of the cache."""
    engine = fc.compile(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), (2, 3, 9, 9), cache_size=2)
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((2, 3, 9 + i % 5, 9), dtype=np.float32) for i in range(RUNS)]
    expected = [engine(x).tobytes() for x in xs]

    def work(number):
        for i in range(RUNS):
            i = (i + 3 * number) % RUNS
            assert engine(xs[i]).tobytes() == expected[i], (number, i)

    together(work)


def test_everything_at_once():
    """Clones, clones being made, functions, trainings, plans and NumPy's own products, side by side."""
    first = fc.compile(net(), (4, 3, 16, 16), threads=2)
    im2col = fc.compile(net(), (4, 3, 16, 16), threads=2, algorithm="im2col")
    xs = batches(8)
    w = np.random.default_rng(2).standard_normal((5, 3, 3, 3), dtype=np.float32)
    matrix = np.random.default_rng(3).standard_normal((200, 200))

    def losses():
        trainer = fc.Trainer(network(), nn.CrossEntropyLoss(), optim.Adam(0.01), threads=2)
        return [trainer.step(x, np.arange(len(x))) for x in xs]

    def network():
        rng = np.random.default_rng(4)  # not manual_seed: the generator of parameters is the process's
        module = net_of[0]()
        for parameter in module.parameters():
            parameter.data = rng.standard_normal(parameter.shape, dtype=np.float32) * np.float32(0.1)
        return module

    net_of = [lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 196, 4))]
    jobs = {
        "clone": lambda own: [own(x).tobytes() for x in xs],
        "new clone": lambda own: [first.clone()(x).tobytes() for x in xs],
        "im2col": lambda own: [im2col(x).tobytes() for x in xs],
        "function": lambda own: [F.conv2d(x, w, padding=1).tobytes() for x in xs],
        "training": lambda own: losses(),
        "compile": lambda own: [fc.compile(network(), (4, 3, 16, 16))(x).tobytes() for x in xs],
        "numpy": lambda own: [(matrix @ matrix).tobytes() for _ in range(20)],
        "freeze": lambda own: [first.freeze()(x).tobytes() for x in xs],
    }
    expected = {name: job(first) for name, job in jobs.items()}
    names = list(jobs)
    clones = [first.clone() for _ in names]

    def work(number):
        for turn in range(3):
            name = names[(number + turn) % len(names)]
            assert jobs[name](clones[number]) == expected[name], name

    together(work, len(names))


def test_trainings_side_by_side():
    """Each trainer has its own tape; dropout draws from a generator that is the process's, so there is none here."""
    x, y = batches(1)[0].repeat(6, axis=0), np.arange(6) % 3

    def trainer():
        fc.manual_seed(0)
        return fc.Trainer(nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(),
                                        nn.Linear(6 * 196, 3)), nn.CrossEntropyLoss(), optim.SGD(0.05, momentum=0.9))

    whole = trainer()
    expected = [whole.step(x, y) for _ in range(12)]
    trainers, got = [trainer() for _ in range(4)], {}

    def work(number):
        got[number] = [trainers[number].step(x, y) for _ in range(12)]

    together(work, 4)
    assert all(losses == expected for losses in got.values()) and len(got) == 4


def test_errors_in_some_threads_leave_the_others_alone():
    engine = fc.compile(net(), (4, 3, 16, 16))
    x = batches(1)[0]
    expected = engine(x).tobytes()

    def work(number):
        for _ in range(RUNS):
            if number % 2:
                with pytest.raises((TypeError, ValueError)):
                    engine(x.astype(np.float64) if number % 4 == 1 else x[:, :2])
            else:
                assert engine(x).tobytes() == expected

    together(work)
