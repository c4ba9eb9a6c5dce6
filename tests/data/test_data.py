"""The loader and its thread."""

import gc
import os
import pathlib
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import fastconv as fc
from fastconv import data
from fastconv.data import ArrayDataset, DataLoader

# --- DataLoader ------------------------------------------------------------------------------------------------------


def pairs(count=10):
    return ArrayDataset(np.arange(3 * count, dtype=np.float32).reshape(count, 3), np.arange(count))


class Items:
    """A dataset of single items, which counts what it is asked for."""

    def __init__(self, count=10, fail_at=None):
        self.count, self.fail_at, self.asked = count, fail_at, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        assert type(index) is int
        if index == self.fail_at:
            raise KeyError(f"item {index} is broken")
        self.asked.append(index)
        return np.full((2, 2), index, np.float32), index


def labels(loader):
    return [batch[-1].tolist() for batch in loader]


def prefetchers():
    return [thread for thread in threading.enumerate() if thread.name == "fastconv-prefetch"]


def wait_until_no_thread():
    for _ in range(500):
        if not prefetchers():
            return
        time.sleep(0.01)
    raise AssertionError(f"threads left: {prefetchers()}")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    gc.collect()
    wait_until_no_thread()


@pytest.mark.parametrize("dataset", [pairs(), Items()], ids=["arrays", "items"])
@pytest.mark.parametrize("prefetch", [0, 1, 2, 50])
def test_batches(dataset, prefetch):
    loader = DataLoader(dataset, 4, prefetch=prefetch)
    assert len(loader) == 3
    assert labels(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert labels(DataLoader(dataset, 4, drop_last=True, prefetch=prefetch)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert labels(DataLoader(dataset, 99, prefetch=prefetch)) == [list(range(10))]
    assert labels(DataLoader(dataset, 99, drop_last=True, prefetch=prefetch)) == []
    for batch in loader:
        assert type(batch) is tuple and all(type(part) is np.ndarray and part.flags.c_contiguous for part in batch)


def test_default_batch_size_is_one():
    assert labels(DataLoader(pairs(3))) == [[0], [1], [2]]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_empty_dataset(prefetch):
    loader = DataLoader(pairs(0), 4, shuffle=True, prefetch=prefetch)
    assert len(loader) == 0 and list(loader) == [] and loader.epoch == 1


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_batch_can_be_changed_without_changing_the_dataset(shuffle):
    dataset = pairs()
    before = dataset.arrays[0].copy()
    for images, _ in DataLoader(dataset, 4, shuffle):
        images[...] = -1
    assert (dataset.arrays[0] == before).all()


def test_shuffling_depends_on_seed_and_epoch_only():
    loader = DataLoader(pairs(100), 7, shuffle=True, seed=5)
    first, second = labels(loader), labels(loader)
    assert sorted(sum(first, [])) == list(range(100)) == sorted(sum(second, []))
    assert first != second and sum(first, []) != list(range(100))
    assert first != labels(DataLoader(pairs(100), 7, shuffle=True, seed=6))
    assert first == labels(DataLoader(Items(100), 7, shuffle=True, seed=5, prefetch=0))
    other = DataLoader(pairs(100), 7, shuffle=True, seed=5)
    other.set_epoch(1)
    assert labels(other) == second and other.epoch == 2
    key = np.array([5, 1], dtype=np.uint64)
    wanted = np.random.Generator(np.random.Philox(key=key)).permutation(100)
    assert sum(second, []) == wanted.tolist()


def test_seed_takes_64_bits():
    assert sorted(sum(labels(DataLoader(pairs(), 3, True, seed=2**64 - 1)), [])) == list(range(10))


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("taken", [0, 1, 2, 3])
def test_saved_loader_goes_on_where_it_was(prefetch, taken):
    loader = DataLoader(pairs(), 4, shuffle=True, seed=1, prefetch=prefetch)
    labels(loader)
    batches = iter(loader)
    for _ in range(taken):
        next(batches)
    state = loader.state_dict()
    assert state == {"seed": 1, "epoch": 1, "position": min(4 * taken, 10)}
    rest = [batch[1].tolist() for batch in batches]
    following = labels(loader)
    loaded = DataLoader(pairs(), 4, shuffle=True, prefetch=prefetch)
    loaded.load_state_dict(state)
    assert labels(loaded) == rest
    assert labels(loaded) == following
    assert loaded.state_dict() == {"seed": 1, "epoch": 3, "position": 0}


def test_an_epoch_left_early_is_not_gone_on_with():
    loader = DataLoader(pairs(), 4, shuffle=True)
    for _ in loader:
        break
    assert loader.state_dict()["position"] == 4
    second = labels(loader)
    assert loader.epoch == 2
    loader.set_epoch(1)
    assert labels(loader) == second and len(second) == 3


def test_two_iterations_at_once_do_not_mix():
    loader = DataLoader(pairs(), 4, shuffle=True)
    one, other = iter(loader), iter(loader)
    got = [(next(one)[1].tolist(), next(other)[1].tolist()) for _ in range(3)]
    assert next(one, None) is None
    assert loader.state_dict() == {"seed": 0, "epoch": 1, "position": 10}  # of the later one
    assert next(other, None) is None and loader.epoch == 2
    loader.set_epoch(0)
    assert labels(loader) == [first for first, _ in got] and labels(loader) == [second for _, second in got]


def test_transform_sees_each_batch_in_order():
    seen = []

    def transform(batch):
        images, classes = batch
        seen.append(classes.tolist())
        images *= 2
        return [images.transpose(1, 0), classes]

    for images, classes in DataLoader(pairs(), 4, transform=transform):
        assert images.flags.c_contiguous and (images[0] == 2 * 3 * classes).all()
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    single = DataLoader(pairs(), 4, transform=lambda batch: batch[1])
    assert [type(batch) for batch in single] == [tuple] * 3


def test_collate_function():
    loader = DataLoader(Items(), 4, collate_fn=lambda items: (np.array([label for _, label in items]) * 10,))
    assert labels(loader) == [[0, 10, 20, 30], [40, 50, 60, 70], [80, 90]]


def test_subclass_of_array_dataset_is_asked_for_items():
    class Doubled(ArrayDataset):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return image, 2 * label

    assert labels(DataLoader(Doubled(*pairs(4).arrays), 4)) == [[0, 2, 4, 6]]


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_errors_reach_the_consumer_at_their_batch(prefetch):
    loader = DataLoader(Items(fail_at=6), 2, prefetch=prefetch)
    batches, got = iter(loader), []
    with pytest.raises(KeyError, match="item 6 is broken") as caught:
        for batch in batches:
            got.append(batch[1].tolist())
    assert got == [[0, 1], [2, 3], [4, 5]]
    assert any(entry.name == "__getitem__" for entry in caught.traceback)
    wait_until_no_thread()
    assert next(batches, None) is None
    assert loader.state_dict()["position"] == 6


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError])
def test_every_kind_of_error_reaches_the_consumer(error):
    def transform(batch):
        raise error

    with pytest.raises(error):
        next(iter(DataLoader(pairs(), transform=transform)))
    wait_until_no_thread()


def test_no_more_than_prefetch_batches_are_prepared():
    dataset = Items(100)
    batches = iter(DataLoader(dataset, 1, prefetch=3))
    for taken in range(5):
        for _ in range(500):
            if len(dataset.asked) == taken + 3:
                break
            time.sleep(0.01)
        time.sleep(0.02)
        assert len(dataset.asked) == taken + 3
        next(batches)


def test_leaving_the_loop_ends_the_thread():
    for _ in DataLoader(Items(1000), 1):
        assert prefetchers()
        break
    wait_until_no_thread()


def test_an_error_in_the_loop_ends_the_thread():
    with pytest.raises(ZeroDivisionError):
        for _ in DataLoader(Items(1000), 1):
            raise ZeroDivisionError
    gc.collect()
    wait_until_no_thread()


def run_python(program):
    root = pathlib.Path(data.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=root)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent there")
def test_keyboard_interrupt_while_waiting_ends_the_thread():
    program = """
import os, signal, threading, time
import numpy as np
from fastconv.data import ArrayDataset, DataLoader

release = threading.Event()

def transform(batch):
    os.kill(os.getpid(), signal.SIGINT)  # the main thread waits for this batch
    release.wait()
    return batch

batches = iter(DataLoader(ArrayDataset(np.zeros(100)), transform=transform))
try:
    next(batches)
    print("not interrupted")
except KeyboardInterrupt:
    release.set()
    while threading.active_count() > 1:  # the batches are still referred to
        time.sleep(0.01)
    print("ended", next(batches, None))
"""
    assert run_python(program) == (0, "ended None\n", "")


def test_two_iterations_never_ask_the_dataset_at_once():
    class Single(Items):
        inside = 0

        def __getitem__(self, index):
            Single.inside += 1
            time.sleep(0.001)
            assert Single.inside == 1
            Single.inside -= 1
            return super().__getitem__(index)

    loader = DataLoader(Single(), 2)
    for _ in range(20):
        next(iter(loader))  # left at once, while its thread is at the next batch
    assert list(zip(labels(loader), labels(loader), strict=True))[0] == ([0, 1], [0, 1])


def test_copies_have_the_state_but_not_the_iteration():
    loader = DataLoader(pairs(), 4, shuffle=True, seed=2)
    batches = iter(loader)
    next(batches)
    copy = pickle.loads(pickle.dumps(loader))
    assert labels(copy) == [batch[1].tolist() for batch in batches]


def test_a_cycle_through_the_transform_is_collected():
    class Trainer:
        def __init__(self):
            self.batches = iter(DataLoader(Items(1000), 1, transform=self.transform))

        def transform(self, batch):
            return batch

    trainer = Trainer()
    next(trainer.batches)
    assert prefetchers()
    del trainer
    for _ in range(500):  # the thread itself holds the trainer while it transforms
        gc.collect()
        if not prefetchers():
            break
        time.sleep(0.01)
    wait_until_no_thread()


def test_closed_from_another_thread():
    release = threading.Event()
    batches = iter(DataLoader(pairs(), transform=lambda batch: release.wait(10) and batch))
    timer = threading.Timer(0.1, lambda: (release.set(), batches.close()))
    timer.start()
    with pytest.raises((RuntimeError, StopIteration)):  # closed while it waits, or between two calls
        while True:
            next(batches)
            time.sleep(0.01)
    timer.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_loader_works_in_a_forked_child():
    loader = DataLoader(pairs(20), 2, shuffle=True)
    wanted = labels(loader)
    loader.set_epoch(0)
    batches = iter(loader)
    next(batches)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ok = [batch[1].tolist() for batch in batches] == wanted[1:]  # an iteration begun before the fork
            loader.set_epoch(0)
            ok = ok and labels(loader) == wanted  # and a new one
            os.write(writing, b"y" if ok else b"n")
        finally:
            os._exit(0)
    os.close(writing)
    assert os.read(reading, 1) == b"y"
    os.close(reading)
    os.waitpid(child, 0)
    assert [batch[1].tolist() for batch in batches] == wanted[1:]  # and the parent's own


def test_interpreter_exits_with_an_open_iteration():
    program = (
        "import numpy as np; from fastconv.data import *\n"
        "batches = iter(DataLoader(ArrayDataset(np.zeros(1000)), 1)); next(batches); print('done')"
    )
    assert run_python(program) == (0, "done\n", "")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DataLoader(iter([1])), TypeError, "dataset must have __len__ and __getitem__, list_iterator has no"),
        (lambda: DataLoader(pairs(), 0), ValueError, "batch_size=0 must be at least 1"),
        (lambda: DataLoader(pairs(), 2.0), TypeError, "batch_size must be an int, got float"),
        (lambda: DataLoader(pairs(), True), TypeError, "batch_size must be an int, got bool"),
        (lambda: DataLoader(pairs(), seed=-1), ValueError, "seed=-1 must be from 0"),
        (lambda: DataLoader(pairs(), seed=2**64), ValueError, "seed=18446744073709551616 must be from 0"),
        (lambda: DataLoader(pairs(), prefetch=-1), ValueError, "prefetch=-1 must be at least 0"),
        (lambda: DataLoader(pairs(), collate_fn=1), TypeError, "collate_fn must be callable or None, got int"),
        (lambda: DataLoader(pairs(), transform=1), TypeError, "transform must be callable or None, got int"),
        (lambda: DataLoader(pairs()).set_epoch(-1), ValueError, "epoch=-1"),
        (lambda: DataLoader(pairs()).set_epoch("1"), TypeError, "epoch must be an int, got str"),
    ],
)
def test_loader_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("bad", [{}, {"epoch": -1}, {"position": 11}, {"seed": None}, {"batch": 1}])
def test_bad_loader_state_changes_nothing(bad):
    loader = DataLoader(pairs(), seed=3)
    state = {"seed": 1, "epoch": 2, "position": 4, **bad} if bad else {}
    with pytest.raises((ValueError, TypeError)):
        loader.load_state_dict(state)
    assert loader.state_dict() == {"seed": 3, "epoch": 0, "position": 0}


# ---- StopIteration, which must not pass for the end of an epoch ------------------------------------------------------


class Rows:
    """A dataset, a collate function, an augmentation and a transform; one of them ends early."""

    def __init__(self, where, at=None):
        self.where, self.at = where, at

    def __len__(self):
        return 10

    def end(self, where, row):
        if self.where == where and self.at == row:
            next(iter(()))

    def __getitem__(self, row):
        self.end("the dataset", row)
        return np.full(2, row, np.float32), row % 3

    def collate_fn(self, items):
        self.end("collate_fn", len(items))
        return data.default_collate(items)

    def augment(self, batch, rng):
        self.end("augment", len(batch[0]))
        return batch

    def transform(self, batch):
        self.end("transform", len(batch[0]))
        return batch if self.where != "an array" else (Endless(), batch[1])


class Endless:
    def __array__(self, dtype=None, copy=None):
        raise StopIteration


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("where, at, items", [
    ("the dataset", 5, "item 5"), ("collate_fn", 2, "items 8, 9"), ("augment", 2, "items 8, 9"),
    ("transform", 2, "items 8, 9"), ("an array", None, "items 0, 1, 2, 3"),
])
def test_stop_iteration_is_an_error_that_names_the_items(prefetch, where, at, items):
    rows = Rows(where, at)
    loader = DataLoader(rows, 4, prefetch=prefetch, collate_fn=rows.collate_fn, augment=rows.augment,
                        transform=rows.transform)
    with pytest.raises(RuntimeError, match=f"DataLoader: {where} raised StopIteration for {items}: ") as caught:
        list(loader)
    assert isinstance(caught.value.__cause__, StopIteration)
    trainer = fc.Trainer(fc.nn.Linear(2, 3), fc.nn.CrossEntropyLoss(), fc.optim.SGD(0.1))
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        trainer.fit(loader, 2, verbose=False)
    assert len(trainer.log) == 0 and trainer.epoch == 0
    rows.where = None
    row = trainer.fit(loader, 1, verbose=False)[0]
    assert np.isfinite(row["loss"]) and trainer.steps >= 3
    rows.where = where
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        trainer.evaluate(loader)


def test_stop_iteration_in_a_shuffled_dataset_names_its_item():
    loader = DataLoader(Rows("the dataset", 7), 3, shuffle=True)
    with pytest.raises(RuntimeError, match="the dataset raised StopIteration for item 7: "):
        list(loader)
