"""Functions on NumPy arrays: problems that are kept, and what is found among them."""

import sys
import threading

import numpy as np
import pytest

import fastconv.functional as F
from fastconv import set_num_threads
from fastconv.engine import eager


@pytest.fixture(autouse=True)
def one_thread():
    """Problems are tiny; a second thread costs more than it brings."""
    set_num_threads(1)
    eager.cache.clear()
    yield
    set_num_threads(1)


# ---- the cache ------------------------------------------------------------------------------------------------------------


def the_kept(cache):
    """The only program that is kept, and the bytes that it is counted with."""
    problem, = cache.problems.values()
    kept = problem.take()
    assert problem.take() is None
    problem.give(kept)
    return kept, problem.nbytes


def test_a_program_is_reused():
    x, w = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 3, 3), np.float32)
    F.conv2d(x, w)
    assert len(eager.cache) == 1
    kept, _ = the_kept(eager.cache)
    F.conv2d(x, w)
    assert the_kept(eager.cache)[0] is kept
    F.conv2d(x[:, :, ::-1, ::-1], w)
    F.conv2d(x.astype(">f4").astype(np.float32), w)
    assert the_kept(eager.cache)[0] is kept
    F.conv2d(x, w, np.ones(1, np.float32))
    F.conv2d(x, w, padding=1)
    F.conv2d(x, w, padding=(1, 1))
    F.conv2d(x[:, :, :3], w)
    assert len(eager.cache) == 5


def test_what_is_wrong_is_said_again():
    """A problem that has run before lets nothing pass that was refused before."""
    x, w = np.ones((2, 1, 4, 4), np.float32), np.ones((1, 1, 3, 3), np.float32)
    good = F.conv2d(x, w)
    for wrong in (x.astype(np.float64), x.astype(">f4"), x.astype(np.int32)):
        with pytest.raises(TypeError, match="input has dtype"):
            F.conv2d(wrong, w)
    with pytest.raises(TypeError, match="input is a list"):
        F.conv2d(x.tolist(), w)
    with pytest.raises(TypeError, match="weight"):
        F.conv2d(x, None)
    np.testing.assert_array_equal(F.conv2d(x[:0], w), good[:0])
    for shape, batch in (((0, 1, 4, 4), 2), ((2, 1, 4, 4), 0)):
        for _ in range(2):
            with pytest.raises(ValueError):
                F.conv2d_backward_data(np.ones((batch, 1, 2, 2), np.float32), w, shape)
            F.conv2d_backward_data(np.ones((shape[0], 1, 2, 2), np.float32), w, shape)
    unaligned = np.frombuffer(b"0" + x.tobytes(), np.float32, count=x.size, offset=1).reshape(x.shape)
    records = np.zeros(x.size, np.dtype("f4, u1"))
    records["f0"] = 1
    for odd in (unaligned, records["f0"].reshape(x.shape), np.broadcast_to(np.float32(1), x.shape), x.view(np.memmap)):
        result = F.conv2d(odd, w)
        np.testing.assert_array_equal(result, good)
        assert type(result) is np.ndarray


def test_results_are_fresh():
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    first = F.relu(x)
    second = F.relu(-x)
    assert not np.shares_memory(first, second) and first.flags.owndata
    np.testing.assert_array_equal(first, x)
    assert not second.any()


def test_a_zero_and_its_negative_are_two_slopes():
    x = np.full((1, 1), -1, np.float32)
    assert [np.signbit(F.leaky_relu(x, slope)).item() for slope in (0.0, -0.0, 0.0)] == [True, False, True]


def test_equal_but_different_attributes_are_told_apart():
    x, w = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 3, 3), np.float32)
    F.conv2d(x, w, stride=1)
    for wrong in (True, 1.0, np.float64(1.0)):
        with pytest.raises(TypeError, match="stride"):
            F.conv2d(x, w, stride=wrong)
    np.testing.assert_array_equal(F.conv2d(x, w, stride=np.int64(1)), F.conv2d(x, w))


def counted(cache):
    return sum(problem.nbytes for problem in cache.problems.values())


def test_the_cache_is_bounded(monkeypatch):
    w, cache = np.ones((1, 1, 1, 1), np.float32), eager.cache
    F.conv2d(np.ones((1, 1, 59, 59), np.float32), w)
    total = 3 * cache.nbytes
    cache.clear()
    monkeypatch.setattr(cache, "keep_total", total)
    for side in range(1, 60):
        F.conv2d(np.ones((1, 1, side, side), np.float32), w)
        assert cache.nbytes <= total
        assert cache.nbytes == counted(cache)
    assert 3 <= len(cache) < 59
    monkeypatch.setattr(cache, "keep_plans", 5)
    monkeypatch.setattr(cache, "keep_total", 100 * total)
    for side in range(1, 20):
        F.conv2d(np.ones((1, 1, side, side), np.float32), w)
    assert len(cache) == 5 and cache.nbytes == counted(cache)


def test_the_least_recently_used_leaves(monkeypatch):
    monkeypatch.setattr(eager.cache, "keep_plans", 3)
    xs = [np.ones((1, side), np.float32) for side in range(1, 6)]
    for x in (xs[0], xs[1], xs[2], xs[0], xs[3], xs[0], xs[4]):  # the first is used again each time
        F.relu(x)
    assert [key[-1] for key in eager.cache.problems] == [1, 4, 5]


def test_memory_is_counted_again_for_more_threads():
    x, w = np.ones((1, 8, 9, 9), np.float32), np.ones((8, 8, 3, 3), np.float32)
    F.conv2d(x, w)
    one = eager.cache.nbytes
    set_num_threads(2)
    F.conv2d(x, w)
    kept, size = the_kept(eager.cache)
    assert size == eager.cache.nbytes == kept.nbytes == counted(eager.cache) > one


def test_the_memory_of_a_large_program_is_given_back(monkeypatch):
    cache = eager.cache
    monkeypatch.setattr(cache, "keep_program", 400_000)
    for value in (1, 2):
        y = F.conv2d(np.full((1, 1, 400, 400), value, np.float32), np.ones((1, 1, 1, 1), np.float32))
        assert y.min() == value == y.max()
        big, size = the_kept(cache)
        assert size == 0 == cache.nbytes and big.program is None


@pytest.mark.parametrize("dtype", ["float32", "int64", "int32", "uint8", "int8", "bool"])
def test_arrays_in_the_place_of_buffers_are_not_counted(dtype):
    """Of a large program only the memory counts that a run has used: none, where arrays of any dtype are used in place."""
    cache, shape = eager.cache, (40 << 20) // np.dtype(dtype).itemsize
    x = np.ones(shape, dtype)
    for _ in range(2):
        assert F.logical_not(x).sum() == 0
        kept, size = the_kept(cache)
        assert kept.program is not None and size == cache.nbytes < 4 << 20 < kept.lowered.arena_bytes
        assert all(door.bound for doors in kept.program.doors.values() for door in doors)
    backwards = x[::-1]  # has to be copied: that memory is given back
    backwards[0] = 0
    assert F.logical_not(backwards).nonzero()[0] == 0
    big, size = the_kept(cache)
    assert size == 0 == cache.nbytes and big.program is None
    assert F.logical_not(x).nonzero()[0] == shape - 1
    kept, size = the_kept(cache)
    assert kept.program is not None and size == cache.nbytes < 4 << 20


def test_a_failed_call_keeps_nothing():
    x, w = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 3, 3), np.float32)
    with pytest.raises(ValueError):
        F.conv2d(x, w, stride=0)
    assert len(eager.cache) == 0 and eager.cache.nbytes == 0
    with pytest.raises(TypeError):
        F.conv2d(x, w, stride=[{}])
    assert len(eager.cache) == 0


def test_calls_from_many_threads():
    rng = np.random.default_rng(7)
    w = rng.standard_normal((8, 4, 3, 3), np.float32)
    inputs = [rng.standard_normal((2, 4, 20, 20), np.float32) for _ in range(6)]
    expected = [F.conv2d(x, w) for x in inputs]
    wrong = []
    start = threading.Barrier(len(inputs))

    def work(i):
        start.wait()
        for _ in range(150):
            if not np.array_equal(F.conv2d(inputs[i], w), expected[i]):
                wrong.append(i)

    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(old)
    assert not wrong
    problem, = eager.cache.problems.values()
    assert 1 <= len(problem) <= len(inputs)  # each has one of its own at most
    assert eager.cache.nbytes == problem.nbytes
