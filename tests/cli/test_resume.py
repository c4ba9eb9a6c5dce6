"""Trainings that are interrupted, and go on: Ctrl-C and SIGTERM, exit codes, checkpoints, contradictions."""

import json
import os
import signal
from pathlib import Path

import pytest

import fastconv as fc
from cli.helpers import call, command, done, refused, started
from fastconv.train import save_model

NAME = "lenet5.checkpoint"
SETTINGS = ("--batch-size", 8, "--lr", 0.02, "--seed", 4)


def interrupt_after(steps, number, capsys, monkeypatch, *arguments):
    """Runs the command, and sends itself a signal in the middle of the training."""
    from fastconv.train.trainer import Trainer

    step, count = Trainer.step, 0

    def counted(self, *batch):
        nonlocal count
        count += 1
        loss = step(self, *batch)
        if count == steps:
            os.kill(os.getpid(), number)
        return loss

    monkeypatch.setattr(Trainer, "step", counted)
    result = call(capsys, *arguments)
    monkeypatch.setattr(Trainer, "step", step)
    return result


@pytest.mark.parametrize(("steps", "number", "code"), [
    (1, signal.SIGINT, 130), (8, signal.SIGTERM, 143), (12, signal.SIGINT, 130), (18, signal.SIGTERM, 143)])
def test_resuming_gives_the_same_file(steps, number, code, npz, tmp_path, capsys, monkeypatch):
    """Six steps an epoch, three epochs: in the first step, in an epoch, at the end of one, at the very end."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    first = done(capsys, "train", "lenet5", "--data", npz, "--out", whole, "--epochs", 3, *SETTINGS, "--json")
    before = signal.getsignal(signal.SIGTERM)
    got, output, error = interrupt_after(steps, number, capsys, monkeypatch, "train", "lenet5", "--data", npz, "--out",
                                         parts, "--epochs", 3, *SETTINGS)
    assert got == code and os.listdir(parts) == [NAME] and signal.getsignal(signal.SIGTERM) is before
    line = error.splitlines()[-1]
    assert line == (f"fastconv train: {'interrupted' if code == 130 else 'terminated'}: fastconv train lenet5 --data {npz} "
                    f"--out {parts} --resume {parts}/{NAME} goes on")
    fc.manual_seed(99)
    second = done(capsys, *line.split(": ", 2)[2].removesuffix(" goes on").split()[1:], "--json")
    assert sorted(os.listdir(parts)) == ["lenet5-curve.png", "lenet5.safetensors"]
    assert (whole / "lenet5.safetensors").read_bytes() == (parts / "lenet5.safetensors").read_bytes()
    for row in first["log"] + second["log"]:
        row.pop("seconds")
    assert first["log"] == second["log"] and len(second["log"]) == 3
    same = ("epochs", "batch_size", "lr", "seed", "accuracy", "loss", "augment", "validation_split")
    assert {key: first[key] for key in same} == {key: second[key] for key in same}


@pytest.fixture
def unfinished(npz, out, capsys, monkeypatch):
    assert interrupt_after(9, signal.SIGINT, capsys, monkeypatch, "train", "lenet5", "--data", npz, "--out", out,
                           "--epochs", 2, *SETTINGS)[0] == 130
    return f"{out}/{NAME}"


def test_what_contradicts_the_checkpoint(unfinished, npz, out, tmp_path, capsys):
    again = ("train", "lenet5", "--data", npz, "--out", out)
    for option, value, had in (("--epochs", 3, 2), ("--batch-size", 4, 8), ("--lr", "0.5", "0.02"), ("--seed", 5, 4),
                               ("--precision", "high", "highest"), ("--augment", "none", "shift"),
                               ("--input-size", 32, None), ("--validation-split", "0.5", None)):
        refused(capsys, 2, f"the training of {unfinished!r} has {had}", *again, "--resume", unfinished, option, value)
    refused(capsys, 2, "network resnet18: the training", "train", "resnet18", "--data", npz, "--out", out, "--resume",
            unfinished)
    refused(capsys, 2, "--tune: the checkpoint", *again, "--resume", unfinished, "--tune")
    refused(capsys, 1, "are not those of the checkpoint", "train", "lenet5", "--out", out, "--resume", unfinished)
    refused(capsys, 2, "of an unfinished training: --resume ", *again)
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / NAME
    other.write_bytes(Path(unfinished).read_bytes())
    refused(capsys, 2, "is of another unfinished training: --overwrite replaces it", *again, "--resume", other)
    assert os.listdir(out) == [NAME]
    # settings that agree are no contradiction; the checkpoint elsewhere stays
    result = done(capsys, *again[:-1], other.parent, "--resume", unfinished, "--overwrite", "--epochs", 2, *SETTINGS,
                  "--json")
    assert result["epochs"] == 2 and os.listdir(out) == [NAME] and not other.exists()
    assert "--overwrite" not in done(capsys, *again, "--overwrite", "--epochs", 1)
    assert NAME not in os.listdir(out)


def test_what_is_no_checkpoint(unfinished, npz, out, tmp_path, capsys):
    again = ("train", "lenet5", "--data", npz, "--out", tmp_path, "--resume")
    refused(capsys, 1, "No such file", *again, tmp_path / "none")
    refused(capsys, 1, "it is a directory", *again, out)
    fc.train.save(fc.zoo.lenet5(3), tmp_path / "model")
    refused(capsys, 1, "it is a model file, not a checkpoint", *again, tmp_path / "model")
    Path(tmp_path, "broken").write_bytes(Path(unfinished).read_bytes()[:-9])
    refused(capsys, 1, "truncated", *again, tmp_path / "broken")
    net = fc.zoo.lenet5(3)
    fc.Trainer(net, fc.nn.CrossEntropyLoss(), fc.optim.SGD(0.1)).save_checkpoint(tmp_path / "foreign")
    refused(capsys, 1, "was not written by this version's fastconv train", *again, tmp_path / "foreign")
    arrays, metadata = fc.train.load_model(unfinished)
    state = json.loads(metadata["checkpoint"])
    save_model(tmp_path / "newer", arrays, {**metadata, "checkpoint": json.dumps({**state, "format": 99})})
    refused(capsys, 1, "state has format 99", *again, tmp_path / "newer", "--json")
    assert sorted(os.listdir(tmp_path)) == ["broken", "foreign", "model", "newer", "out", "tiny.npz"]


def test_a_checkpoint_is_no_model(unfinished, npz, capsys):
    for name, *rest in (("predict", npz), ("evaluate",), ("summary",), ("bench",)):
        refused(capsys, 1, "is a checkpoint of a training, not a model", name, unfinished, *rest)


@pytest.mark.parametrize(("number", "code", "word"), [
    (signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_signals_from_outside(number, code, word, npz, out):
    process = started("train", "lenet5", "--data", npz, "--out", out, "--epochs", "1000000")
    try:
        assert process.stderr.readline().startswith("epoch 1/1000000")
        process.send_signal(number)
        _, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code
    assert error.splitlines()[-1].startswith(f"fastconv train: {word}: fastconv train lenet5 ") and "Traceback" not in error
    assert os.listdir(out) == [NAME]
    assert fc.train.checkpoint.read_notes(f"{out}/{NAME}")["epochs"] == 1000000


def test_a_training_that_learned_nothing_leaves_no_checkpoint(npz, out, capsys):
    code, _, error = call(capsys, "train", "lenet5", "--data", npz, "--out", out, "--lr", "1e30", "--epochs", 3)
    assert code == 1 and "the loss is" in error and os.listdir(out) == []


def test_every_so_many_steps(npz, out, capsys, monkeypatch):
    from fastconv.train.trainer import Trainer

    saved, save = [], Trainer.save_checkpoint
    monkeypatch.setattr(Trainer, "save_checkpoint", lambda self, path: (saved.append(self.steps), save(self, path)))
    done(capsys, "train", "lenet5", "--data", npz, "--out", out, "--epochs", 1, "--batch-size", 8, "--checkpoint-every", 4)
    assert saved == [0, 4, 6]


def test_a_full_disk_during_the_training(npz, out):
    """The last checkpoint stays, the message is one line."""
    code = ("import os, sys\nfrom fastconv.cli import main\ncount, fsync = 0, os.fsync\n"
            "def full(descriptor):\n    global count\n    count += 1\n    if count > 4: raise OSError(28, 'No space left "
            "on device')\n"
            "    return fsync(descriptor)\nos.fsync = full\nsys.exit(main(sys.argv[1:]))")
    ran = command("train", "lenet5", "--data", npz, "--out", out, "--epochs", 5, code=code)
    assert ran.returncode == 1 and ran.stderr.splitlines()[-1] == "fastconv train: error: [Errno 28] No space left on device"
    assert os.listdir(out) == [NAME] and fc.train.checkpoint.read_notes(f"{out}/{NAME}")["network"] == "lenet5"
