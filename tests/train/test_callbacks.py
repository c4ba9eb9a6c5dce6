"""Callbacks of fit: they decide from the log alone."""

import csv
import json
import math

import numpy as np
import pytest

import fastconv as fc
from fastconv import zoo
from fastconv.train import EarlyStopping, LogWriter, MetricLog, ModelCheckpoint


class Trainer:
    """What callbacks need of one."""

    def __init__(self):
        self.log, self.stopped, self.saved, self.module = MetricLog(), False, [], self
        self.weights = 0

    def epoch(self, callback, **row):
        self.weights += 1
        self.log.append({"epoch": len(self.log) + 1, **row})
        callback(self, self.log[-1])

    def stop(self):
        self.stopped = True

    def save(self, path):
        self.saved.append(len(self.log))

    def state_dict(self):
        return {"weights": self.weights}

    def load_state_dict(self, state):
        self.weights = state["weights"]


def run(callback, name, values):
    trainer = Trainer()
    for value in values:
        if not trainer.stopped:
            trainer.epoch(callback, **{name: value})
    return trainer


@pytest.mark.parametrize("name, mode, values, epochs", [
    ("val_loss", "auto", [3, 2, 1, 1, 1, 0], 5),
    ("val_accuracy", "auto", [0.5, 0.6, 0.7, 0.7, 0.6, 0.9], 5),
    ("val_accuracy", "min", [0.5, 0.6, 0.7, 0.7], 3),
    ("val_loss", "auto", [3, math.nan, math.nan, 1], 3),
    ("val_loss", "auto", [math.nan, 2, 3, 1, 2, 3, 4], 6),
    ("val_loss", "auto", [4, 3, 2, 1], 4),
])
def test_early_stopping(name, mode, values, epochs):
    trainer = run(EarlyStopping(name, patience=2, mode=mode), name, values)
    assert len(trainer.log) == epochs


def test_small_changes_are_none():
    assert len(run(EarlyStopping("val_loss", 2, min_delta=0.1), "val_loss", [1, 0.95, 0.92, 0.5]).log) == 3
    assert len(run(EarlyStopping("val_loss", 2), "val_loss", [1, 0.95, 0.92, 0.5]).log) == 4


def test_the_best_is_restored_unless_it_was_before_a_resume(caplog):
    trainer = run(EarlyStopping(patience=2, restore_best=True), "val_loss", [3, 1, 2, 2])
    assert trainer.stopped and trainer.weights == 2
    trainer = run(EarlyStopping(patience=9), "val_loss", [3, 1, 2])
    trainer.epoch(EarlyStopping(patience=2, restore_best=True), val_loss=2)
    assert trainer.stopped and trainer.weights == 4 and "before this training was resumed" in caplog.text


def test_model_checkpoint():
    assert run(ModelCheckpoint("a"), "val_loss", [3, 2, 2, 4, 1]).saved == [1, 2, 5]
    assert run(ModelCheckpoint("a", save_best_only=False), "val_loss", [3, 2, 4]).saved == [1, 2, 3]


def test_with_a_trainer(tmp_path):
    fc.manual_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16, 1, 32, 32), dtype=np.float32), rng.integers(0, 3, 16)
    trainer = fc.Trainer(zoo.lenet5(3), fc.nn.CrossEntropyLoss(), fc.optim.SGD(lr=1e-6), threads=1)
    pytest.importorskip("matplotlib", reason="curves need matplotlib")
    callbacks = [EarlyStopping("val_accuracy", patience=2), ModelCheckpoint(tmp_path / "best.safetensors"),
                 LogWriter(tmp_path / "log.csv"), LogWriter(tmp_path / "log.json"), LogWriter(tmp_path / "curve.png")]
    trainer.fit((x, y), 50, validation=(x, y), callbacks=callbacks, verbose=False)
    assert 3 <= len(trainer.log) < 50
    with open(tmp_path / "log.csv") as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == trainer.log.column("loss")
    assert [row["epoch"] for row in json.loads((tmp_path / "log.json").read_text())] == trainer.log.column("epoch")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    best = int(np.argmin(trainer.log.column("val_loss")))
    loaded = fc.Trainer(fc.load(tmp_path / "best.safetensors"), fc.nn.CrossEntropyLoss(), fc.optim.SGD(lr=1), threads=1)
    assert loaded.evaluate((x, y))["loss"] == trainer.log[best]["val_loss"]


def test_bad_input():
    with pytest.raises(ValueError, match="monitor='val_top5' is no column of the log, which has epoch, val_loss"):
        run(EarlyStopping("val_top5"), "val_loss", [1])
    with pytest.raises(ValueError, match="EarlyStopping: patience=0"):
        EarlyStopping(patience=0)
    with pytest.raises(ValueError, match="ModelCheckpoint: mode='best'"):
        ModelCheckpoint("a", mode="best")
    with pytest.raises(ValueError, match="EarlyStopping: min_delta=-1"):
        EarlyStopping(min_delta=-1)
    with pytest.raises(TypeError, match="monitor is a int"):
        EarlyStopping(3)
    with pytest.raises(ValueError, match=r"LogWriter: path='a.txt' must end in .csv, .json or .png"):
        LogWriter("a.txt")
