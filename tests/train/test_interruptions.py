"""Signals that come at any moment of a real training, in a process of its own; disks that are really full."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from trainers import same

import fastconv as fc
from fastconv.data import save_idx
from fastconv.train import MetricLog, plot_curve, save_model
from train.test_checkpoint import samples, trainer

resource = pytest.importorskip("resource", reason="no limits of file sizes on this system")

SCRIPT = """
import os, sys, time
sys.path[:0] = {paths!r}
from train.test_checkpoint import trainer, samples
path, slow, resume = sys.argv[1], float(sys.argv[2]), len(sys.argv) > 3
sync = os.fsync
def fsync(descriptor):
    print("saving", flush=True)
    time.sleep(slow)
    sync(descriptor)
t = trainer()
if resume:
    t.load_checkpoint(path)
os.fsync = fsync
try:
    t.fit(samples(), 10**6, batch_size=4, verbose=False, checkpoint=path, checkpoint_every=1)
except KeyboardInterrupt:
    os._exit(130)
"""


class Training:
    """A training that writes a checkpoint after each step, as fast as it can."""

    def __init__(self, path, slow=0.0, resume=False):
        code = SCRIPT.format(paths=[p for p in sys.path if p])
        self.process = subprocess.Popen([sys.executable, "-c", code, str(path), str(slow), *["resume"] * resume],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_for(self, word, times=1):
        for _ in range(times):
            while self.process.stdout.readline().strip() != word:
                assert self.process.poll() is None, self.process.stderr.read()

    def end(self, *numbers):
        """Sends the signals; returns the exit code."""
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(0.1 if len(numbers) > 1 else 0)
        try:
            _, error = self.process.communicate(timeout=60)
        finally:
            self.process.kill()
        assert "Traceback" not in error, error
        return self.process.returncode


def usable(path):
    """The steps that a checkpoint holds; to the end of its epoch it gives the bits of one that never stopped."""
    found = trainer()
    found.load_checkpoint(path)
    steps = found.steps
    whole = trainer()
    whole.fit(samples(), max(1, -(-steps // 6)), batch_size=4, verbose=False)
    resumed = trainer()
    resumed.load_checkpoint(path)
    if resumed.epoch < whole.epoch:
        resumed.fit(samples(), whole.epoch - resumed.epoch, batch_size=4, verbose=False)
    same(whole.state_dict(), resumed.state_dict())
    return steps


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
@pytest.mark.parametrize("delay", [0.0, 0.003, 0.017, 0.041, 0.09])
def test_a_signal_at_any_moment(tmp_path, number, code, delay):
    """Steps take about a millisecond, and so does writing: the moments fall anywhere in both."""
    path = tmp_path / "a.ckpt"
    training = Training(path)
    training.wait_for("saving", 2)  # a file and its folder: the first is there
    time.sleep(delay)
    assert training.end(number) == code
    usable(path)
    left = sorted(os.listdir(tmp_path))
    assert left == ["a.ckpt"] or (number == signal.SIGKILL and len(left) == 2 and left[0].endswith(".tmp"))


@pytest.mark.parametrize(("numbers", "code", "further"), [
    ([signal.SIGINT], 130, True), ([signal.SIGTERM], 143, True),
    ([signal.SIGTERM, signal.SIGTERM], 143, True),
    ([signal.SIGINT, signal.SIGINT], 130, False),  # the second Ctrl-C does not wait
    ([signal.SIGKILL], -9, False)])
def test_a_signal_while_a_checkpoint_is_written(tmp_path, numbers, code, further):
    """A first signal lets it be written whole; what does not wait leaves the one before."""
    path = tmp_path / "a.ckpt"
    training = Training(path, slow=0.3)
    training.wait_for("saving", 7)  # a file and its folder, before the first step and after each: now the third's file
    before = path.read_bytes()
    assert training.end(*numbers) == code
    assert usable(path) == 3 if further else path.read_bytes() == before and usable(path) == 2
    left = sorted(os.listdir(tmp_path))
    assert left == ["a.ckpt"] or (code == -9 and len(left) == 2)


def test_interrupted_again_and_again(tmp_path):
    """Ten processes, each of which goes on from where the one before was stopped, do what one would have done."""
    path, steps = tmp_path / "a.ckpt", [0]
    for turn in range(10):
        training = Training(path, resume=bool(turn))
        training.wait_for("saving")  # from here on it listens to signals
        time.sleep(0.007 * turn)
        assert training.end([signal.SIGINT, signal.SIGTERM][turn % 2]) == [130, 143][turn % 2]
        t = trainer()
        t.load_checkpoint(path)
        steps.append(t.steps)
    assert steps == sorted(steps) and steps[-1] > 0
    usable(path)


# ---- full disks -------------------------------------------------------------------------------------------------------


def fit(path):
    trainer().fit(samples(), 1, verbose=False, checkpoint=path)


def tuned(path):
    fc.compile(fc.nn.Conv2d(4, 32, 3, padding=1), (1, 4, 9, 9)).tune(path, rounds=1)


def choices(path):
    found = fc.Choices()
    for i in range(100):
        found.add("forward", f"problem {i}", "highest", {"direct": 1.0})
    found.save(path)


WRITERS = {
    "checkpoint.ckpt": lambda path: trainer().save_checkpoint(path),
    "fit.ckpt": fit,
    "model.safetensors": lambda path: fc.train.save(fc.zoo.lenet5(), path),
    "arrays.safetensors": lambda path: save_model(path, {"x": np.zeros(5000, np.float32)}),
    "choices.json": choices,
    "log.csv": lambda path: MetricLog([{"epoch": i, "loss": i / 3} for i in range(500)]).to_csv(path),
    "log.json": lambda path: MetricLog([{"epoch": i, "loss": i / 3} for i in range(500)]).to_json(path),
    "curve.png": lambda path: plot_curve([{"loss": 1.0}, {"loss": 0.5}], path),
    "images.idx": lambda path: save_idx(path, np.zeros((10, 28, 28), np.uint8)),
    "memory.png": lambda path: fc.compile(fc.zoo.lenet5(), (1, 1, 32, 32)).plot_memory(path),
    "roofline.png": lambda path: fc.compile(fc.zoo.lenet5(), (1, 1, 32, 32)).plot(path, rounds=1),
}


@contextlib.contextmanager
def files_of_at_most(nbytes):
    """No file of this process may grow further: the write fails with EFBIG, as Python ignores SIGXFSZ."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("there", [False, True])
def test_a_file_that_cannot_grow(tmp_path, name, there):
    path = tmp_path / name
    if there:
        path.write_bytes(b"as it was")
    with files_of_at_most(1000), pytest.raises(OSError) as caught:
        WRITERS[name](path)
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == b"as it was" if there else not path.exists()
    assert os.listdir(tmp_path) == [name] * there
    WRITERS[name](path)  # and with room it is written
    assert path.stat().st_size > 1000 and os.listdir(tmp_path) == [name]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder],
                                       capture_output=True).returncode:
        pytest.skip("this user may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk(small_disk, name):
    path = small_disk / name
    path.write_bytes(b"as it was")
    (small_disk / "others").write_bytes(b"x" * (55 << 10))  # a page is left, for the temporary file's name
    with contextlib.suppress(OSError), open(small_disk / "more", "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(OSError) as caught:
        WRITERS[name](path)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"as it was" and sorted(os.listdir(small_disk)) == sorted([name, "others", "more"])


def test_the_tests_are_interrupted_where_whoever_runs_them_ignores_signals():
    """As a background job of a script is started: what tests/conftest.py is for."""
    quick = "data/test_data.py::test_keyboard_interrupt_while_waiting_ends_the_thread"
    code = ("import signal, sys; import pytest; signal.signal(signal.SIGINT, signal.SIG_IGN); "
            "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]); "
            "sys.exit(pytest.main(sys.argv[1:]))")
    tests = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code, "-p", "no:cacheprovider", str(tests / quick)], capture_output=True,
                          text=True, cwd=tests.parent, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
