"""Bad input to the functions: each is refused with the argument and its value named, and what is merely unusual works."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from bad_calls import CASES, CONV, B, G, W, X, ones

import fastconv as fc
import fastconv.functional as F
from fastconv import set_num_threads
from fastconv.engine import eager
from fastconv.graph import limits


@pytest.fixture(autouse=True)
def one_thread():
    set_num_threads(1)
    yield
    set_num_threads(1)


@pytest.mark.parametrize("name", CASES)
def test_refused(name, monkeypatch):
    call, error, message = CASES[name]
    monkeypatch.setattr(eager.Compiled, "run", lambda *_: pytest.fail("something ran"))
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error


def test_memory_is_what_the_machine_or_the_control_group_has(monkeypatch):
    """A problem of 1 MiB is refused when there is less, and the same problem runs when there is more."""
    x, w = ones(1, 1, 256, 256), ones(1, 1, 1, 1)
    monkeypatch.setattr(limits, "memory_limit", lambda: 2**18)
    with pytest.raises(MemoryError, match=r"conv2d: input of shape \(1, 1, 256, 256\)"):
        F.conv2d(x, w)
    monkeypatch.undo()
    assert F.conv2d(x, w).sum() == 256 * 256


def test_a_refused_call_changes_nothing():
    expected = F.conv2d(X, W, B)
    for call, error, _ in CONV.values():
        with pytest.raises(error):
            call()
    np.testing.assert_array_equal(F.conv2d(X, W, B), expected)


def test_batch_norm_of_one_value_per_channel():
    """PyTorch's rule; it depends on the batch of the run, and the statistics stay as they were."""
    mean, var = ones(4), ones(4)
    with pytest.raises(ValueError, match="batch_norm: Expected more than 1 value per channel"):
        F.batch_norm(ones(1, 4), mean, var, training=True)
    assert (mean == 1).all() and (var == 1).all()


# ---- engines --------------------------------------------------------------------------------------------------------

NET = fc.nn.Sequential(fc.nn.Conv2d(4, 3, 3, padding=1), fc.nn.ReLU())


def engine(out=None, x=X):
    return fc.compile(NET, X.shape)(x, out=out)


def two(x):
    return x + 1.0, x * 2.0


class NoArray:
    def __array__(self, dtype=None, copy=None):
        return 3


ENGINE = {
    "no array": (lambda: engine(x=NoArray()), TypeError, "engine: input is a NoArray that NumPy cannot take"),
    "empty extent": (
        lambda: fc.compile(two, X.shape)(X[:, :, :0]),
        ValueError,
        r"engine: input of shape \(2, 4, 0, 9\): every extent but the batch must be at least 1",
    ),
    "out, a word": (lambda: engine("abc"), TypeError, "engine: out is a str"),
    "out, a number": (lambda: engine(3), TypeError, "engine: out is a int"),
    "out, a generator": (lambda: engine(iter([ones(2, 3, 8, 9)])), TypeError, "engine: out is a list_iterator"),
    "out of one element": (
        lambda: engine(np.lib.stride_tricks.as_strided(ones(1), (2, 3, 8, 9), (0, 0, 0, 0))),
        ValueError,
        r"engine: out of strides \(0, 0, 0, 0\) has elements that share memory",
    ),
    "one out twice": (
        lambda: fc.compile(two, X.shape)(X, out=[G[:, :4, :6, :7]] * 2),
        ValueError,
        r"engine: out\[0\] and out\[1\] share memory",
    ),
    "module, a class": (lambda: fc.compile(fc.nn.ReLU, X.shape), TypeError, "compile: module is the class ReLU"),
    "training": (lambda: fc.compile(NET, X.shape, training="no"), TypeError, "compile: training='no'"),
    "threads": (lambda: fc.compile(NET, X.shape, threads=10**6), ValueError, "threads=1000000 must be from 1 to 1024"),
    "threads, type": (lambda: fc.compile(NET, X.shape, threads=True), TypeError, "compile: threads=True"),
    "path": (lambda: fc.compile(NET, X.shape, algorithm={"7": "direct"}), ValueError, "no operator has the path '7'"),
    "set_num_threads": (lambda: set_num_threads(2**40), ValueError, f"n={2**40} must be from 1 to 1024"),
}


@pytest.mark.parametrize("name", ENGINE)
def test_engine_refuses(name):
    call, error, message = ENGINE[name]
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error


def test_integers_of_numpy_are_integers():
    assert fc.compile(NET, np.array(X.shape), threads=np.int64(1), cache_size=np.int8(2))(X).shape == (2, 3, 8, 9)


def test_empty_batch_into_out():
    out = ones(0, 3, 8, 9)
    assert engine(out, X[:0]) is out


def inner(code, **environment):
    """Standard output of a script in a process of its own, which has 60 seconds."""
    found = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": found, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("text", "threads"), [("²", 0), ("9" * 5000, 1024), ("100000", 1024), ("-3", 0), ("0", 0),
                                              (" 2 ", 2), ("3,2", 3), ("1e3", 0)])
def test_garbage_in_omp_num_threads(text, threads):
    """Too many are as many as may be, what is no number is ignored."""
    wanted = threads or int(inner("import fastconv as fc; print(fc.get_num_threads())", OMP_NUM_THREADS=""))
    assert int(inner("import fastconv as fc; print(fc.get_num_threads())", OMP_NUM_THREADS=text)) == wanted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_with_threads_and_under_way():
    """The child runs on one thread whatever was asked for, though another thread was inside when the parent forked."""
    assert inner("""
        import os, signal, threading
        import numpy as np
        import fastconv as fc

        net = fc.nn.Sequential(fc.nn.Conv2d(4, 16, 3, padding=1), fc.nn.ReLU(), fc.nn.Conv2d(16, 16, 3, padding=1))
        x = np.random.default_rng(0).standard_normal((32, 4, 16, 16), np.float32)
        engine = fc.compile(net, x.shape, threads=2)
        expected = engine(x)
        stop = threading.Event()

        def work():
            while not stop.is_set():
                engine(x)

        worker = threading.Thread(target=work)
        worker.start()
        codes = []
        for _ in range(5):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                ok = np.array_equal(engine(x), expected)
                fc.set_num_threads(2)
                ok = ok and fc.get_num_threads() == 1 and np.array_equal(fc.compile(net, x.shape)(x), expected)
                os._exit(0 if ok else 1)
            codes.append(os.waitpid(child, 0)[1])
        stop.set()
        worker.join()
        print(codes)
    """) == "[0, 0, 0, 0, 0]"


def test_parameters_are_written_whole_or_not_at_all():
    parameter = fc.Parameter(ones(3))
    for value in (np.array([5, 6, "x"], object), np.array([1j, 2, 3]), np.array(["a", "b", "c"])):
        with pytest.raises(TypeError, match="parameter: a value of dtype"):
            parameter.data = value
    assert parameter.data.tolist() == [1, 1, 1]
    with pytest.raises(TypeError, match="parameter: a value of dtype object"):
        fc.Parameter(None)


def test_load_state_dict_of_live_views():
    """Values that are the parameters' own data are taken as they were before the first is written."""
    net = fc.nn.Sequential(fc.nn.Linear(3, 3), fc.nn.Linear(3, 3))
    first, second = net[0].weight.numpy(), net[1].weight.numpy()
    net.load_state_dict({"0.weight": net[1].weight.data, "1.weight": net[0].weight.data}, strict=False)
    np.testing.assert_array_equal(net[0].weight.data, second)
    np.testing.assert_array_equal(net[1].weight.data, first)
