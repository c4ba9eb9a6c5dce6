"""Engines and trainers that leave their process: pickles, copies, multiprocessing by every start method, forks."""

import copy
import multiprocessing
import os
import pickle
import signal
import threading

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn, optim
from fastconv.graph.random import default_generator

SHAPE = (4, 3, 12, 12)
METHODS = multiprocessing.get_all_start_methods()


def net():
    fc.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(),
                         nn.Linear(800, 5))


def images(n=SHAPE[0], seed=0):
    return np.random.default_rng(seed).standard_normal((n, *SHAPE[1:]), dtype=np.float32)


def labels(n=SHAPE[0]):
    return np.arange(n) % 5


def run(engine, x):
    """In another process: the result, and the threads there."""
    return engine(x), fc.get_num_threads()


def trained(trainer, x, y):
    trainer.fit((x, y), 2, batch_size=2, verbose=False)
    return trainer


def new_one(shape):
    """Compiles and trains in the child of a process that has done so itself."""
    engine = fc.compile(net(), shape)
    trainer = fc.Trainer(net(), nn.CrossEntropyLoss(), optim.SGD(0.1))
    losses = [trainer.step(images(), labels()) for _ in range(3)]
    return engine(images()), losses


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("frozen", [False, True])
def test_engines_in_other_processes(method, frozen):
    engine = fc.compile(net(), SHAPE, threads=2)
    engine = engine.freeze() if frozen else engine
    batches = [images(n, seed) for seed, n in enumerate((4, 1, 3, 4, 2, 4))]
    expected = [engine(x) for x in batches]
    with multiprocessing.get_context(method).Pool(2) as pool:
        got = pool.starmap(run, [(engine, x) for x in batches])
        again = pool.map(engine, batches)
    for y, (z, threads), w in zip(expected, got, again, strict=True):
        assert y.tobytes() == z.tobytes() == w.tobytes()
        assert threads == 1 if method == "fork" else threads >= 1
    assert [engine(x).tobytes() for x in batches] == [y.tobytes() for y in expected]  # this side goes on


@pytest.mark.parametrize("method", METHODS)
def test_training_in_other_processes(method):
    """Whoever compiles and trains in the child gets the parent's bits, and the parent keeps its own."""
    y, losses = new_one(SHAPE)
    with multiprocessing.get_context(method).Pool(1) as pool:
        z, there = pool.apply(new_one, (SHAPE,))
    assert y.tobytes() == z.tobytes() and losses == there
    assert new_one(SHAPE)[1] == losses


@pytest.mark.parametrize("method", METHODS)
def test_a_trainer_goes_on_elsewhere(method):
    """The state that moves is that of a checkpoint: rule, schedule, log, position, gradients that wait."""
    x, y = images(10), labels(10)

    def trainer():
        rule = optim.Adam(0.01)
        return fc.Trainer(net(), nn.CrossEntropyLoss(), rule, accumulate=3, threads=1,
                          schedule=optim.CosineAnnealingLR(rule, 40, interval="step"), metrics=("accuracy",))

    whole, first = trainer(), trainer()
    trained(trained(whole, x, y), x, y)
    trained(first, x, y)
    first.notes["who"] = "first"
    with multiprocessing.get_context(method).Pool(1) as pool:
        second = pool.apply(trained, (first, x, y))
    assert second.notes == {"who": "first"} and second.epoch == 4 and second.log.column("loss") == whole.log.column("loss")
    for name, array in whole.module.state_dict().items():
        np.testing.assert_array_equal(array, second.module.state_dict()[name])
    assert first.epoch == 2 and second.optimizer is second.schedule.optimizer


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["deepcopy", "pickle"])
def test_a_copy_of_a_trainer_shares_nothing(duplicate):
    x, y = images(8), labels(8)
    first = fc.Trainer(net(), nn.CrossEntropyLoss(), optim.SGD(0.05, momentum=0.9), clip_grad_norm=1.0, seed=3)
    trained(first, x, y)
    second, before = duplicate(first), first.state_dict()
    trained(second, x, y)
    np.testing.assert_array_equal(before["model"]["0.weight"], first.module.state_dict()["0.weight"])
    trained(first, x, y)
    np.testing.assert_array_equal(first.module.state_dict()["0.weight"], second.module.state_dict()["0.weight"])
    assert second.seed == 3 and second._tape.clip_norm == 1.0


def test_what_cannot_be_pickled_says_so():
    engine = fc.compile(lambda x: x + 1.0, SHAPE)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(engine)
    trainer = fc.Trainer(net(), lambda p, t: nn.CrossEntropyLoss()(p, t), optim.SGD(0.1))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(trainer)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_in_the_middle_of_a_training():
    """Child and parent go on from the same step and come to the same parameters."""
    x, y = images(12), labels(12)
    trainer = fc.Trainer(net(), nn.CrossEntropyLoss(), optim.SGD(0.05, momentum=0.9), threads=2)
    trained(trainer, x, y)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            trained(trainer, x, y)
            os.write(write, trainer.module[0].weight.data.tobytes())
            code = 0
        finally:
            os._exit(code)
    trained(trainer, x, y)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(read, 1 << 16) == trainer.module[0].weight.data.tobytes()
    os.close(read), os.close(write)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_while_initial_values_are_drawn():
    """NumPy's generator has a lock, too: held by another thread when the process forks."""
    fc.manual_seed(5)
    locked, done = threading.Event(), threading.Event()

    def draw():
        with default_generator().bit_generator.lock:
            locked.set()
            done.wait(20)

    thread = threading.Thread(target=draw)
    thread.start()
    locked.wait(20)
    child = os.fork()
    if not child:
        signal.alarm(10)  # ends a child that hangs
        os._exit(0 if nn.Linear(3, 2).weight.shape == (2, 3) else 1)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
    assert status == 0
