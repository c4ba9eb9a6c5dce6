"""Datasets, the loader and its thread, and the files that images come from."""

import gc
import gzip
import io
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastconv import data
from fastconv.data import ArrayDataset, DataLoader

# --- ArrayDataset ----------------------------------------------------------------------------------------------------


def pairs(count=10):
    return ArrayDataset(np.arange(3 * count, dtype=np.float32).reshape(count, 3), np.arange(count))


def test_array_dataset_indexing():
    dataset = pairs()
    assert len(dataset) == 10
    row, label = dataset[-1]
    assert row.tolist() == [27, 28, 29] and label == 9
    assert np.shares_memory(dataset[2:5][0], dataset.arrays[0])
    assert dataset[2:5][1].tolist() == [2, 3, 4]
    assert dataset[[3, 3, 0]][1].tolist() == [3, 3, 0]
    assert dataset[np.array([9, -1], dtype=np.int8)][1].tolist() == [9, 9]
    assert dataset[np.arange(10) > 7][1].tolist() == [8, 9]
    assert dataset[[]][0].shape == (0, 3)
    assert repr(dataset) == "ArrayDataset(float32[10, 3], int64[10])"


def test_array_dataset_gives_c_order_from_any_order():
    source = np.asfortranarray(np.arange(24).reshape(4, 3, 2))
    (rows,) = ArrayDataset(source)[[2, 0]]
    assert rows.flags.c_contiguous and (rows == source[[2, 0]]).all()


def test_array_dataset_takes_dlpack_and_lists():
    class Foreign:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **arguments):
            return self.array.__dlpack__(**arguments)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    source = np.arange(4.0)
    dataset = ArrayDataset(Foreign(source), [1, 2, 3, 4])
    assert np.shares_memory(dataset.arrays[0], source)
    assert dataset[1] == (1.0, 2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ArrayDataset(), ValueError, "at least one array"),
        (lambda: ArrayDataset(np.zeros((4, 2)), np.zeros(5)), ValueError, "array 1 has 5 rows but array 0 has 4"),
        (lambda: ArrayDataset(3.0), ValueError, "array 0 is a single value"),
        (lambda: ArrayDataset(np.array([None])), TypeError, "array 0 holds Python objects"),
        (lambda: pairs()[10], IndexError, "out of bounds"),
        (lambda: pairs()[[0, 10]], IndexError, "out of bounds"),
        (lambda: pairs()[[0.5]], IndexError, "must be an int, a slice or a 1-D array"),
        (lambda: pairs()[True], IndexError, "must be an int, a slice or a 1-D array"),
        (lambda: pairs()[[[0]]], IndexError, r"shape \(1, 1\)"),
        (lambda: pairs()[np.ones(9, bool)], IndexError, "mask of 9 bools does not fit 10"),
    ],
)
def test_array_dataset_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


# --- DataLoader ------------------------------------------------------------------------------------------------------


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


def test_default_collate():
    images, floats, ints, halves = data.default_collate([(np.zeros((2, 3), np.uint8), 0.5, 7, np.float16(1))] * 2)
    assert images.shape == (2, 2, 3) and images.dtype == np.uint8
    assert floats.dtype == np.float32 and ints.dtype == np.int64 and halves.dtype == np.float16
    assert data.default_collate([1, 2])[0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([(np.zeros(3), 1), (np.zeros(4), 1)], ValueError, r"field 0 of item 1 has shape \(4,\) but .* \(3,\)"),
        ([(1, 2), (1,)], ValueError, "item 1 has 1 fields but item 0 has 2"),
        (["a", "b"], TypeError, "field 0 must be an array or a number, got str"),
        ([{"x": 1}], TypeError, "got dict; give the DataLoader a collate_fn"),
    ],
)
def test_default_collate_errors(items, error, message):
    with pytest.raises(error, match=message):
        data.default_collate(items)


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


# --- IDX -------------------------------------------------------------------------------------------------------------


def idx(code=8, sizes=(2, 3), values=b"abcdef", magic=b"\0\0"):
    return magic + bytes([code, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + values


@pytest.mark.parametrize("name", ["a", "a.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", ">i4", "f4", ">f8"])
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (0, 3)])
def test_idx_round_trip(tmp_path, name, dtype, shape):
    array = np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)
    data.save_idx(tmp_path / name, array)
    loaded = data.load_idx(tmp_path / name)
    assert loaded.dtype == array.dtype.newbyteorder("=") and loaded.shape == shape and (loaded == array).all()
    assert loaded.flags.c_contiguous and loaded.flags.writeable
    assert ((tmp_path / name).read_bytes()[:2] == b"\x1f\x8b") == (name == "a.gz")


def test_idx_bytes_are_those_of_the_format(tmp_path):
    data.save_idx(tmp_path / "a", np.array([[1, -2]], dtype=np.int16))
    assert (tmp_path / "a").read_bytes() == b"\0\0\x0b\x02\0\0\0\x01\0\0\0\x02\0\x01\xff\xfe"
    data.save_idx(tmp_path / "a", np.arange(6, dtype=np.uint8).reshape(2, 3).T)  # any memory order, and it replaces
    assert (tmp_path / "a").read_bytes() == idx(sizes=(3, 2), values=bytes([0, 3, 1, 4, 2, 5]))


BAD_IDX = [
    (b"", "truncated, 0 bytes where a magic number needs 4"),
    (b"\0\0\x08", "truncated, 3 bytes"),
    (idx(magic=b"PK"), "bad magic number 0x504b0802"),
    (idx(code=7), "unknown type code 0x07"),
    (idx(sizes=(), values=b"a"), "0 dimensions, must be from 1 to 32"),
    (idx(sizes=(1,) * 33, values=b"a"), "33 dimensions"),
    (idx()[:9], "truncated, 5 bytes where 2 sizes need 8"),
    (idx(values=b"abcde"), "need 6 bytes but the file holds 5"),
    (idx(values=b"abcdefg"), "trailing bytes after the 6 bytes"),
    (idx(code=0x0E, values=b"abcdef"), "need 48 bytes but the file holds 6"),
    (idx(sizes=(2**32 - 1,) * 3), "too large to address"),
    (idx(sizes=(0, 2**32 - 1, 2**32 - 1), values=b""), "too large to address"),
    (idx(sizes=(2**32 - 1, 1000)), "need 4294967295000 bytes"),
]


@pytest.mark.parametrize(("content", "message"), BAD_IDX)
def test_malformed_idx(tmp_path, content, message):
    path = tmp_path / "bad.idx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="bad.idx") as caught:
        data.load_idx(path)
    assert message in str(caught.value)
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match="bad.idx"):
        data.load_idx(path)


def test_malformed_gzip(tmp_path):
    path = tmp_path / "bad.gz"
    good = gzip.compress(idx())
    for content in (
        good[:-1],
        good[:12],
        good[:2],
        good + b"x",
        good[:-5] + b"\0" + good[-4:],
        b"\x1f\x8b" + bytes(30),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="bad.gz.*gzip"):
            data.load_idx(path)
    path.write_bytes(gzip.compress(idx(sizes=(2**31,))))
    with pytest.raises(ValueError, match="the gzip data cannot hold more than"):
        data.load_idx(path)
    path.write_bytes(gzip.compress(idx(sizes=(1000,))))
    with pytest.raises(ValueError, match="need 1000 bytes, got 6"):
        data.load_idx(path)


def test_idx_missing_or_directory(tmp_path):
    with pytest.raises(FileNotFoundError):
        data.load_idx(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        data.load_idx(tmp_path)


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros(3, np.int64), TypeError, "dtype int64 is not one of uint8"),
        (np.zeros(3, bool), TypeError, "dtype bool"),
        (np.uint8(3), ValueError, "0 dimensions"),
        (np.zeros((2**32, 0), np.uint8), ValueError, "no size may exceed 4294967295"),
    ],
)
def test_save_idx_errors(tmp_path, array, error, message):
    with pytest.raises(error, match=message):
        data.save_idx(tmp_path / "a", array)
    assert list(tmp_path.iterdir()) == []


# --- image datasets --------------------------------------------------------------------------------------------------


def image_parts(shape=(4, 4), train=6, test=3):
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (train, *shape), np.uint8),
        "train_labels": (np.arange(train) % 3).astype(np.uint8),
        "test_images": rng.integers(0, 256, (test, *shape), np.uint8),
        "test_labels": (np.arange(test) % 3).astype(np.uint8),
    }


def check_images(loaded, parts):
    for got, (name, wanted) in zip(loaded, parts.items(), strict=True):
        assert got.dtype == (np.int64 if "labels" in name else np.uint8)
        assert got.flags.c_contiguous and (got == wanted).all()


IDX_NAMES = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]


@pytest.mark.parametrize("mark", "-.")
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_directory_of_idx_files(tmp_path, mark, ending):
    parts = image_parts()
    for name, array in zip(IDX_NAMES, parts.values(), strict=True):
        stem, kind = name.rsplit("-", 1)
        data.save_idx(tmp_path / f"{stem}{mark}{kind}-ubyte{ending}", array)
    check_images(data.load_image_dataset(tmp_path), parts)
    (tmp_path / f"t10k-labels{mark}idx1-ubyte{ending}").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        data.load_image_dataset(tmp_path)
    for name in ("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte", "t10k-labels-idx1-ubyte.gz"):
        assert name in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_npz(tmp_path, save, shape):
    parts = image_parts(shape)
    path = tmp_path / "a.npz"
    save(path, **parts, other=np.zeros(3))
    check_images(data.load_npz(path), parts)
    check_images(data.load_image_dataset(str(path)), parts)
    names = dict(zip(["x_train", "y_train", "x_test", "y_test"], parts.values(), strict=True))
    names["y_train"] = names["y_train"][:, None].astype(">i4")  # as CIFAR-10 is often stored
    names["x_train"] = np.asfortranarray(names["x_train"])
    save(path, **names)
    check_images(data.load_npz(path), parts)


def bad_npz(**changes):
    parts = {**image_parts(), **changes}
    return {name: array for name, array in parts.items() if array is not None}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            bad_npz(test_labels=None),
            "needs the arrays train_images, .* or x_train, .*; it has test_images, train_images",
        ),
        (bad_npz(train_labels=np.zeros(5, np.uint8)), "6 training images but 5 labels"),
        (bad_npz(test_labels=np.full(3, -1)), "test labels go from -1 to -1"),
        (bad_npz(train_labels=np.full(6, 2**63, np.uint64)), "must be in 0..2"),
        (bad_npz(test_labels=np.array([0, 1, 3])), "test label 3 must be below 3, what the training labels make"),
        (bad_npz(train_labels=np.zeros(6)), "training labels must be integers .* got float64"),
        (bad_npz(train_labels=np.zeros((6, 2), int)), r"training labels must be .* of shape \(6, 2\)"),
        (bad_npz(test_images=np.zeros((3, 4, 5), np.uint8)), r"shape \(4, 4\) but test images have \(4, 5\)"),
        (bad_npz(test_images=np.zeros((3, 4, 4))), "test images must be uint8 .* got float64"),
        (bad_npz(test_images=np.zeros((3, 4), np.uint8)), r"test images must be .* got uint8 of shape \(3, 4\)"),
        (bad_npz(train_images=np.zeros((0, 4, 4), np.uint8)), "and not empty"),
        (bad_npz(test_labels=np.array([0, None, 1])), "test_labels.npy holds pickled Python objects"),
        ({}, "it has none"),
    ],
)
def test_bad_npz(tmp_path, arrays, message):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="bad.npz") as caught:
        data.load_npz(path)
    assert caught.match(message)


def test_number_of_classes(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **image_parts())
    data.load_image_dataset(path, classes=3)
    with pytest.raises(ValueError, match="training label 2 must be below 2, the number of classes"):
        data.load_image_dataset(path, classes=2)
    with pytest.raises(ValueError, match="classes=0"):
        data.load_npz(path, classes=0)


def test_file_that_is_no_npz(tmp_path):
    path = tmp_path / "foreign.npz"
    for content in (b"", b"not a zip", b"PK\x03\x04" + bytes(40)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="foreign.npz.*not an npz file, or truncated"):
            data.load_npz(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match="not an npz"):
        data.load_npz(tmp_path / "one.npy")
    for missing in (tmp_path / "none.npz", tmp_path / "none"):
        with pytest.raises(FileNotFoundError):
            data.load_image_dataset(missing)


def test_npz_member_that_claims_more_than_it_holds(tmp_path):
    path = tmp_path / "liar.npz"
    header = io.BytesIO()
    shape = (2**40, 2**10)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        for name in image_parts():
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(10))
    with pytest.raises(ValueError, match="1125899906842624 bytes, but holds 10"):
        data.load_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in image_parts():
            archive.writestr(f"{name}.npy", b"no array")
    with pytest.raises(ValueError, match="train_images.npy is not an array"):
        data.load_npz(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        for name in image_parts():
            archive.writestr(f"{name}.npy", b"no array")
    with pytest.raises(ValueError, match="train_images.npy is compressed by method 12"):
        data.load_npz(path)


def small_npz():
    file = io.BytesIO()
    np.savez_compressed(file, **image_parts())
    return file.getvalue()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_give_valueerror(tmp_path_factory, draw):
    """Whatever is cut off or overwritten: the right arrays, or a ValueError that names the file."""
    content, load = draw.draw(
        st.sampled_from(
            [(small_npz(), data.load_npz), (idx(), data.load_idx), (gzip.compress(idx(), mtime=0), data.load_idx)]
        )
    )
    content = bytearray(content)
    for _ in range(draw.draw(st.integers(0, 3))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    if draw.draw(st.booleans()):
        del content[draw.draw(st.integers(0, len(content))) :]
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    try:
        load(path)
    except ValueError as error:
        assert "damaged'" in str(error)


def test_mnist_sample():
    train_x, train_y, test_x, test_y = data.mnist_sample()
    assert train_x.shape == (10000, 28, 28) and test_x.shape == (2000, 28, 28) and train_x.dtype == np.uint8
    assert np.bincount(train_y).tolist() == [1000] * 10 and np.bincount(test_y).tolist() == [200] * 10
    assert train_y.dtype == np.int64
    # Digits and not noise: the nearest class mean already tells most of them apart.
    means = np.stack([train_x[train_y == digit].mean(axis=0).ravel() for digit in range(10)])
    flat = test_x.reshape(len(test_x), -1).astype(np.float64)
    nearest = ((means**2).sum(axis=1) - 2 * flat @ means.T).argmin(axis=1)
    assert (nearest == test_y).mean() > 0.75
    # No test image is a training image.
    assert not {image.tobytes() for image in train_x} & {image.tobytes() for image in test_x}


# --- to_float --------------------------------------------------------------------------------------------------------


def test_to_float_grey():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    out = data.to_float(images)
    assert out.shape == (1, 1, 16, 16) and out.dtype == np.float32 and out.flags.c_contiguous
    assert (out.ravel() == (np.arange(256) / 255).astype(np.float32)).all()
    out = data.to_float(images, 0.1307, 0.3081, pad=2)
    assert out.shape == (1, 1, 20, 20)
    assert (out[0, 0, 2:-2, 2:-2].ravel() == ((np.arange(256) / 255 - 0.1307) / 0.3081).astype(np.float32)).all()
    border = np.ones((20, 20), bool)
    border[2:-2, 2:-2] = False
    assert (out[0, 0][border] == np.float32(-0.1307 / 0.3081)).all()


def test_to_float_colour():
    images = np.random.default_rng(0).integers(0, 256, (600, 3, 5, 3), np.uint8)
    mean, std = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    out = data.to_float(images, mean, std, pad=(1, 0))
    wanted = ((images / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    assert out.shape == (600, 3, 5, 5) and (out[:, :, 1:-1] == wanted).all()
    assert (out[:, :, 0] == np.float32(-np.divide(mean, std))[:, None]).all()
    assert data.to_float(images[:0]).shape == (0, 3, 3, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((2, 4, 4)),), TypeError, "images must be uint8, got float64"),
        ((np.zeros((4, 4), np.uint8),), ValueError, r"got shape \(4, 4\)"),
        ((np.zeros((2, 4, 4), np.uint8), 0.0, 0.0), ValueError, "std=.*0.0.* must be above 0"),
        ((np.zeros((2, 4, 4), np.uint8), np.nan), ValueError, "mean=nan must be finite"),
        ((np.zeros((2, 4, 4), np.uint8), [0.1, 0.2]), ValueError, r"mean has shape \(2,\), must be a number or one"),
        ((np.zeros((2, 4, 4), np.uint8), 0.0, 1.0, -1), ValueError, "pad=-1 must be"),
        ((np.zeros((2, 4, 4), np.uint8), 0.0, 1.0, 1.5), ValueError, "pad=1.5 must be"),
        ((np.zeros((2, 4, 4), np.uint8), 0.0, 1.0, (1, 2, 3)), ValueError, r"pad=\(1, 2, 3\) must be"),
    ],
)
def test_to_float_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        data.to_float(*arguments)
