"""Signals at every instruction of what takes and gives back their handlers: none is swallowed, no handler stays."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from trainers import data, make

import fastconv as fc
from fastconv import nn
from fastconv._atomic import write_atomic
from fastconv.graph import parameter
from fastconv.kernels import update
from fastconv.lowering import program
from fastconv.train import checkpoint


@pytest.fixture
def handlers():
    """Handlers of ours for both signals; what they got."""
    got = []
    before = {number: signal.getsignal(number) for number in checkpoint.WAITING}

    def handler(number, frame):
        got.append(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt

    for number in before:
        signal.signal(number, handler)
    yield handler, got
    for number, old in before.items():
        signal.signal(number, old)


class At:
    """Sends signals to this process at instructions, by number, of Saver's methods and of fit's own."""

    def __init__(self, **numbers):
        self.numbers, self.count, self.sent = {count: int(number[1:]) for number, count in numbers.items()}, 0, []

    def __enter__(self):
        sys.settrace(self._call)
        return self

    def __exit__(self, *exc):
        sys.settrace(None)

    def _call(self, frame, event, argument):
        name = frame.f_code.co_name
        if frame.f_code.co_filename == checkpoint.__file__ and name in NAMES or name == "fit" and "self" in frame.f_locals:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return self._opcode
        return None

    def _opcode(self, frame, event, argument):
        if event == "opcode":
            self.count += 1
            if self.count in self.numbers:
                self.sent.append(self.numbers[self.count])
                os.kill(os.getpid(), self.sent[-1])
        return self._opcode


NAMES = ("__enter__", "__exit__", "_leave", "restore", "_stop", "after_step", "after_epoch")
X, Y = data(4)


def run(path, at, callbacks=()):
    """A short fit under signals; what it raised."""
    trainer = make(metrics=())
    with at:
        try:
            trainer.fit((X, Y), 1, batch_size=4, verbose=False, checkpoint=path, callbacks=callbacks)
        except (KeyboardInterrupt, SystemExit, ValueError) as error:
            return error
    return None


def settle(handler):
    """Both handlers are those of before, at the latest after one more signal."""
    for number in checkpoint.WAITING:
        if signal.getsignal(number) != handler:
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), number)
                time.sleep(0)
    assert all(signal.getsignal(number) == handler for number in checkpoint.WAITING)


def length(path):
    at = At()
    assert run(path, at) is None and at.count > 100
    return at.count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_each_instruction(tmp_path, handlers, number):
    handler, got = handlers
    path = tmp_path / "a.ckpt"
    for count in range(1, length(path) + 1):
        got.clear()
        at = At(**{f"_{int(number)}": count})
        error = run(path, at)
        assert at.sent == [number]
        if number == signal.SIGTERM:  # exactly once: fit's own way, or the handler of before
            assert isinstance(error, checkpoint.Terminated) != (got == [number]), (count, error, got)
        else:
            assert isinstance(error, KeyboardInterrupt), (count, error, got)
        assert all(signal.getsignal(n) == handler for n in checkpoint.WAITING), count


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_at_each_instruction(tmp_path, handlers, first):
    handler, got = handlers
    path = tmp_path / "a.ckpt"
    for count in range(61, length(path) + 20):
        got.clear()
        sent = [first]

        def send(trainer, row):
            os.kill(os.getpid(), sent[0])  # noqa: B023
            time.sleep(0)

        error = run(path, At(_2=count), [send])
        settle(handler)
        if first == signal.SIGTERM:
            assert isinstance(error, checkpoint.Terminated) or signal.SIGTERM in got or \
                isinstance(error, KeyboardInterrupt), (count, error, got)
        else:
            assert isinstance(error, KeyboardInterrupt), (count, error, got)


def test_a_signal_before_an_exception_is_not_swallowed(tmp_path, handlers, caplog):
    def fail(number):
        def fail(trainer, row):
            os.kill(os.getpid(), number)
            time.sleep(0)
            raise ValueError("of a callback")

        return fail

    for number, kind in ((signal.SIGTERM, checkpoint.Terminated), (signal.SIGINT, KeyboardInterrupt)):
        error = run(tmp_path / "a.ckpt", At(), [fail(number)])
        assert isinstance(error, kind) and "of a callback" in str(error.__cause__)
        assert "ValueError: of a callback; then ended by signal" in caplog.text
        assert all(signal.getsignal(n) == handlers[0] for n in checkpoint.WAITING)


def test_a_signal_after_the_last_checkpoint_is_not_swallowed(tmp_path, handlers, monkeypatch):
    after = checkpoint.Saver.after_epoch

    def then_sent(self):
        after(self)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(checkpoint.Saver, "after_epoch", then_sent)
    assert isinstance(run(tmp_path / "a.ckpt", At()), checkpoint.Terminated)


def test_a_handler_that_was_set_under_way_stays(tmp_path, handlers):
    def other(number, frame):
        pass

    assert run(tmp_path / "a.ckpt", At(), [lambda trainer, row: signal.signal(signal.SIGTERM, other)]) is None
    assert signal.getsignal(signal.SIGTERM) is other and signal.getsignal(signal.SIGINT) is handlers[0]


# ---- what a run has written is announced, and counted -----------------------------------------------------------------


class Interrupted(Exception):
    pass


def interrupting(function, when):
    def run(*arguments):
        if when == "before":
            raise Interrupted
        result = function(*arguments)
        if when == "after":
            raise Interrupted
        return result

    return run


def net_of(seed=0):
    fc.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 3))


@pytest.mark.parametrize("what", ["engine", "step", "evaluated"])
def test_inference_engines_see_what_an_interrupted_run_wrote(monkeypatch, what):
    """An interrupt between a run and the word that it changed something leaves no engine with old statistics."""
    net = net_of()
    x, y = np.random.default_rng(0).standard_normal((4, 2, 6, 6)).astype(np.float32), np.arange(4) % 3
    inference, training = fc.compile(net, x.shape), fc.compile(net, x.shape, training=True)
    trainer = fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(0.5))
    trainer.step(x, y)
    training(x)
    inference(x)
    touch, calls = parameter.touch, []

    def interrupted(changed):
        calls.append(changed)
        if len(calls) % 2 == 0:  # the word after the run
            raise Interrupted
        touch(changed)

    monkeypatch.setattr(parameter, "touch", interrupted)
    with pytest.raises(Interrupted):
        training(x * 3) if what == "engine" else trainer.step(x, y)
    assert len(calls) == 2 and program.parameters is parameter
    monkeypatch.setattr(parameter, "touch", touch)
    np.testing.assert_array_equal(inference(x), fc.compile(net, x.shape)(x))


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupted_update_is_counted_or_not_done(monkeypatch, accumulate, when):
    """It counts where it was done: going on gives the bits of a training without the interrupt."""
    x, y = np.random.default_rng(0).standard_normal((7, 4, 2, 6, 6)).astype(np.float32), np.arange(4) % 3

    def train(interrupts):
        trainer = fc.Trainer(net_of(), nn.CrossEntropyLoss(), fc.optim.Adam(1e-2), accumulate=accumulate)
        for number, batch in enumerate(x):
            if number in interrupts:
                with monkeypatch.context() as patch, pytest.raises(Interrupted):
                    patch.setattr(update, "run_counted", interrupting(update.run_counted, when))
                    trainer.step(batch, y)
                if when == "after":
                    continue
                for name in ("running_mean", "running_var"):  # the forward ran, and runs again
                    getattr(trainer.module[1], name).data = whole[number][f"1.{name}"]
                trainer.module[1].num_batches_tracked[...] = whole[number]["1.num_batches_tracked"]
            if not interrupts:
                whole.append(trainer.module.state_dict())
            trainer.step(batch, y)
        return trainer

    whole: list = []
    expected, found = train(()), train((2, 5))
    assert found.steps == expected.steps and found._tape.accumulated == expected._tape.accumulated
    for name, value in expected.module.state_dict().items():
        np.testing.assert_array_equal(found.module.state_dict()[name], value, err_msg=name)


# ---- temporary files --------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from fastconv._atomic import write_atomic
with write_atomic(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    if len(sys.argv) > 2:
        sys.stdin.readline()
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def child(path, *arguments):
    return subprocess.Popen([sys.executable, "-c", f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n" + KILLED,
                             str(path), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_what_a_killed_process_left_is_removed_by_the_next_save(tmp_path):
    path, other = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    for target in (path, other):
        with child(target) as process:
            process.communicate()
    (tmp_path / ".a.ckpt.mine.tmp").write_bytes(b"not ours")
    assert len(os.listdir(tmp_path)) == 3
    with child(path, "wait") as running:
        assert running.stdout.readline() == "writing\n"
        with write_atomic(path) as file:
            file.write(b"whole")
        left = sorted(os.listdir(tmp_path))
        assert len(left) == 4 and sum(name.startswith(f".a.ckpt.{running.pid}.") for name in left) == 1
        assert sum(name.startswith(".b.ckpt.") for name in left) == 1
        assert path.read_bytes() == b"whole"
        running.communicate("\n")
    assert running.returncode == 0 and path.read_bytes() == b"half"
    with write_atomic(other):
        pass
    assert sorted(os.listdir(tmp_path)) == [".a.ckpt.mine.tmp", "a.ckpt", "b.ckpt"]


def test_a_file_that_is_being_written_is_not_taken_for_one_that_was_left(tmp_path, monkeypatch):
    """Where the number of its process says nothing, as on another machine, its lock does."""
    from fastconv import _atomic

    path = tmp_path / "a"
    with child(path, "wait") as running:
        assert running.stdout.readline() == "writing\n"
        monkeypatch.setattr(_atomic, "_runs", lambda process: False)
        with write_atomic(path) as file:
            file.write(b"ours")
        assert len(os.listdir(tmp_path)) == 2
        running.communicate("\n")
    assert running.returncode == 0 and os.listdir(tmp_path) == ["a"]
