"""Checkpoints: a training that was interrupted anywhere goes on bit for bit, and no interruption leaves half a file."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from trainers import RULES, data, make, same, small_net

import fastconv as fc
from fastconv import nn, optim
from fastconv.train import save_model


def dropout_net():
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
                         nn.Linear(4 * 6 * 6, 3))


def trainer(accumulate=1, rule="momentum"):
    fc.manual_seed(7)
    optimizer = RULES[rule]()
    schedule = optim.CosineAnnealingLR(optimizer, 40, interval="step")
    return fc.Trainer(dropout_net(), nn.CrossEntropyLoss(), optimizer, schedule=schedule, accumulate=accumulate, threads=1)


def samples(n=22):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, 2, 6, 6), dtype=np.float32), rng.integers(0, 3, n)


def rows(log):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in log]


@pytest.mark.parametrize("rule", ["momentum", "adamw"])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("stop_after", [1, 4, 6, 9])
def test_resuming_anywhere_continues_bit_for_bit(tmp_path, stop_after, accumulate, rule):
    """Six batches an epoch: in its middle, at its last batch, in the second one; with dropout and running statistics."""
    path, whole = tmp_path / "a.ckpt", trainer(accumulate, rule)
    whole.fit(samples(), 3, validation=samples(9), batch_size=4, verbose=False)
    first, steps = trainer(accumulate, rule), 0
    step = first.step

    def counted(*batch):
        nonlocal steps
        steps += 1
        loss = step(*batch)
        if steps == stop_after:
            os.kill(os.getpid(), signal.SIGINT)
        return loss

    first.step = counted
    with pytest.raises(KeyboardInterrupt):
        first.fit(samples(), 3, validation=samples(9), batch_size=4, verbose=False, checkpoint=path)
    assert steps == stop_after
    second = trainer(accumulate, rule)
    fc.manual_seed(99)
    second.load_checkpoint(path)
    second.fit(samples(), 3 - second.epoch, validation=samples(9), batch_size=4, verbose=False, checkpoint=path)
    assert (second.epoch, second.steps) == (whole.epoch, whole.steps)
    same(whole.state_dict(), second.state_dict())
    assert rows(whole.log) == rows(second.log)
    third = trainer(accumulate, rule)
    third.load_checkpoint(path)
    same(whole.state_dict(), third.state_dict())


SCRIPT = """
import sys, threading, os, signal
sys.path[:0] = {paths!r}
from train.test_checkpoint import trainer, samples
t = trainer()
step = t.step
def slow(*batch):
    loss = step(*batch)
    print("step", flush=True)
    sys.stdin.readline()
    return loss
t.step = slow
t.fit(samples(), 100, batch_size=4, verbose=False, checkpoint={path!r})
"""


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, None)])
def test_signals_leave_a_usable_checkpoint(tmp_path, number, code):
    path = str(tmp_path / "a.ckpt")
    script = SCRIPT.format(paths=[p for p in sys.path if p], path=path)
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    for _ in range(8):
        assert process.stdout.readline() == "step\n"
        process.stdin.write("\n")
        process.stdin.flush()
    assert process.stdout.readline() == "step\n"
    process.send_signal(number)  # in the middle of the ninth step
    _, errors = process.communicate("\n" * 3, timeout=60)
    assert process.returncode == code if code else process.returncode != 0, errors
    assert ("KeyboardInterrupt" in errors) == (code is None)
    resumed, whole = trainer(), trainer()
    resumed.load_checkpoint(path)
    assert (resumed.epoch, resumed.steps) == (1, 9)
    resumed.fit(samples(), 2, batch_size=4, verbose=False)
    fc.manual_seed(7)
    whole = trainer()
    whole.fit(samples(), 3, batch_size=4, verbose=False)
    same(whole.state_dict(), resumed.state_dict())
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_every_so_many_steps(tmp_path, monkeypatch):
    t, saved = trainer(), []
    monkeypatch.setattr(t, "save_checkpoint", lambda path: saved.append((t.epoch, t.steps)))
    t.fit(samples(), 2, batch_size=4, verbose=False, checkpoint=tmp_path / "a", checkpoint_every=4)
    assert saved == [(0, 0), (0, 4), (1, 6), (1, 8), (1, 12), (2, 12)]
    handler = signal.getsignal(signal.SIGTERM)
    assert handler == signal.SIG_DFL or handler.__module__ != "fastconv.train.checkpoint"


def test_in_another_thread(tmp_path):
    """Signals can be caught in the main thread alone; checkpoints are written all the same."""
    t = trainer()
    thread = threading.Thread(target=lambda: t.fit(samples(), 1, batch_size=8, verbose=False, checkpoint=tmp_path / "a"))
    thread.start()
    thread.join()
    other = trainer()
    other.load_checkpoint(tmp_path / "a")
    assert other.epoch == 1


def test_a_full_disk_leaves_the_old_one(tmp_path, monkeypatch):
    t = trainer()
    t.save_checkpoint(tmp_path / "a")
    before = (tmp_path / "a").read_bytes()
    t.fit(samples(), 1, verbose=False)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        t.save_checkpoint(tmp_path / "a")
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == before and os.listdir(tmp_path) == ["a"]


def test_bad_checkpoints(tmp_path):
    t = trainer()
    t.fit(samples(), 1, verbose=False)
    t.save_checkpoint(tmp_path / "a")
    t.save(tmp_path / "model")
    before = t.state_dict()
    with pytest.raises(ValueError, match="model': it is a model file, not a checkpoint"):
        t.load_checkpoint(tmp_path / "model")
    save_model(tmp_path / "b", {}, {"checkpoint": "{"})
    with pytest.raises(ValueError, match="load_checkpoint .*b'"):
        t.load_checkpoint(tmp_path / "b")
    with pytest.raises(FileNotFoundError):
        t.load_checkpoint(tmp_path / "c")
    (tmp_path / "d").write_bytes((tmp_path / "a").read_bytes()[:-3])
    with pytest.raises(ValueError, match="truncated"):
        t.load_checkpoint(tmp_path / "d")
    with pytest.raises(ValueError, match="load_checkpoint .*a'"):
        make(small_net()).load_checkpoint(tmp_path / "a")
    with pytest.raises(ValueError, match="accumulated steps|averages"):
        fc.Trainer(t.module, t.loss, t.optimizer, schedule=t.schedule).load_state_dict(
            {**before, "accumulated": {"steps": 2, "sums": {}}})
    same(before, t.state_dict())
    with pytest.raises(ValueError, match="checkpoint_every=3 without checkpoint"):
        t.fit(data(), 1, checkpoint_every=3)
    with pytest.raises(FileNotFoundError):
        t.fit(samples(), 1, checkpoint=tmp_path / "nowhere" / "a")
    assert t.epoch == 1
