"""Progress, metrics, the log and its picture."""

import csv
import io
import json
import math
import pathlib
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from fastconv.train.curve import plot_curve
from fastconv.train.metrics import MetricLog, RunningAverage, accuracy, top_k
from fastconv.train.progress import progress

# --- metrics ---------------------------------------------------------------------------------------------------------


def test_accuracy():
    logits = np.array([[0.1, 0.9, 0.0], [3.0, 2.0, 1.0], [0.0, 0.0, 1.0], [1.0, 2.0, 0.0]])
    assert accuracy(logits, [1, 0, 2, 0]) == 0.75
    assert type(accuracy(logits, [1, 0, 2, 0])) is float
    assert accuracy(logits.astype(np.float32), np.array([1, 0, 2, 1], np.uint8)) == 1.0


def test_top_k():
    logits = np.tile([5.0, 4.0, 3.0, 2.0, 1.0, 0.0], (6, 1))
    target = np.arange(6)
    assert [top_k(logits, target, k) for k in (1, 2, 6)] == [1 / 6, 2 / 6, 1.0]
    assert top_k(logits, target) == 5 / 6


def test_top_k_agrees_with_a_stable_sort():
    rng = np.random.default_rng(0)
    logits = rng.integers(0, 4, (200, 7)).astype(np.float32)  # many ties
    target = rng.integers(0, 7, 200)
    order = np.argsort(-logits, axis=1, kind="stable")
    for k in range(1, 8):
        assert top_k(logits, target, k) == (order[:, :k] == target[:, None]).any(axis=1).mean()
    assert accuracy(logits, target) == (logits.argmax(axis=1) == target).mean()


def test_nan_is_never_right():
    logits = np.array([[np.nan, 0.0], [0.0, np.nan], [1.0, 0.0], [np.inf, 0.0]])
    assert accuracy(logits, [0, 0, 0, 0]) == 0.5
    assert top_k(logits, [0, 0, 0, 0], 2) == 0.5


def test_accuracy_of_pictures():
    logits = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    target = logits.argmax(axis=1)
    assert accuracy(logits, target) == 1.0
    target[0, 0, 0] = (target[0, 0, 0] + 1) % 3
    assert accuracy(logits, target) == 39 / 40


@pytest.mark.parametrize(
    ("logits", "target", "k", "error", "message"),
    [
        (np.zeros((2, 3)), [0], 1, ValueError, r"logits of shape \(2, 3\) must be .* got \(1,\)"),
        (np.zeros(3), [0], 1, ValueError, r"logits of shape \(3,\)"),
        (np.zeros((2, 3)), [0, 3], 1, ValueError, r"target goes from 0 to 3, must be in 0..2"),
        (np.zeros((2, 3)), [-1, 0], 1, ValueError, "target goes from -1 to 0"),
        (np.zeros((2, 3)), [0.0, 1.0], 1, TypeError, "target must be integers, got float64"),
        (np.zeros((0, 3)), np.zeros(0, int), 1, ValueError, "has no samples"),
        (np.zeros((2, 3)), [0, 1], 4, ValueError, "k=4 must be an int from 1 to 3"),
        (np.zeros((2, 3)), [0, 1], 0, ValueError, "k=0 must be"),
        (np.zeros((2, 3)), [0, 1], 1.0, ValueError, "k=1.0 must be"),
    ],
)
def test_metric_errors(logits, target, k, error, message):
    with pytest.raises(error, match=message):
        top_k(logits, target, k)


def test_running_average():
    average = RunningAverage()
    assert math.isnan(average.average) and average.count == 0
    average.update(1.0, 3)
    average.update(np.float32(5.0))
    average.update(math.nan, 0)  # an empty batch says nothing
    assert average.average == 2.0 and average.count == 4
    average.update(math.nan)
    assert math.isnan(average.average)
    average.reset()
    average.update(7)
    assert average.average == 7.0
    with pytest.raises(ValueError, match="n=-1 must be at least 0"):
        average.update(1.0, -1)


# --- the log ---------------------------------------------------------------------------------------------------------


def some_log():
    log = MetricLog()
    log.append(epoch=1, loss=np.float32(0.5))
    log.append({"epoch": 2, "loss": math.nan}, accuracy=np.float64(0.25), note='a,"b"\nc')
    return log


def test_log_rows_and_columns():
    log = some_log()
    assert len(log) == 2 and log[0] == {"epoch": 1, "loss": 0.5} and log[-1]["accuracy"] == 0.25
    assert [type(row["loss"]) for row in log] == [float, float]
    assert log.columns() == ["epoch", "loss", "accuracy", "note"]
    assert log.column("accuracy") == [None, 0.25] and log.column("none") == [None, None]
    assert MetricLog(log.rows[:1]).rows == log.rows[:1]
    assert repr(log) == "MetricLog(2 rows of epoch, loss, accuracy, note)"
    log.append(share=Fraction(1, 4), nothing=None, array=np.array(3))
    assert log[-1] == {"share": 0.25, "nothing": None, "array": 3}


def test_log_to_csv(tmp_path):
    some_log().to_csv(tmp_path / "log.csv")
    text = (tmp_path / "log.csv").read_text()
    assert text.startswith("epoch,loss,accuracy,note\n1,0.5,,\n")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert rows[1] == {"epoch": "2", "loss": "nan", "accuracy": "0.25", "note": 'a,"b"\nc'}


def test_log_to_json(tmp_path):
    some_log().to_json(tmp_path / "log.json")
    rows = json.loads((tmp_path / "log.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert rows[0] == {"epoch": 1, "loss": 0.5}
    assert rows[1] == {"epoch": 2, "loss": None, "accuracy": 0.25, "note": 'a,"b"\nc'}


@pytest.mark.parametrize("value", [[1.0], np.zeros(2), 1j, {"a": 1}])
def test_log_refuses_what_is_no_scalar(value):
    log = MetricLog()
    with pytest.raises(TypeError, match="MetricLog: 'loss' must be None, bool, int, float or str"):
        log.append(loss=value)
    with pytest.raises(TypeError, match="names must be str, got int"):
        log.append({1: 2.0})
    assert len(log) == 0


# --- the picture -----------------------------------------------------------------------------------------------------


def drawn(path):
    """How many pixels of each of the first two line colours a picture has."""
    from matplotlib import image

    pixels = (image.imread(path)[..., :3] * 255).round().astype(int)
    return [int((abs(pixels - colour).sum(axis=2) < 30).sum()) for colour in ((31, 119, 180), (255, 127, 14))]


def test_curve_is_a_picture_of_the_log(tmp_path):
    log = MetricLog(
        {"epoch": n, "train_loss": 1 / n, "val_loss": 1.2 / n, "val_accuracy": 1 - 0.5**n} for n in range(1, 6)
    )
    plot_curve(log, tmp_path / "curve.png", title="LeNet-5")
    assert (tmp_path / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "curve.png"]
    both = drawn(tmp_path / "curve.png")
    assert min(both) > 100
    plot_curve([{"train_loss": row["train_loss"]} for row in log], tmp_path / "curve.png")  # replaced; one line only
    one = drawn(tmp_path / "curve.png")
    assert one[0] > 100 and one[1] == 0


def test_curve_with_gaps(tmp_path):
    plot_curve([{"loss": None, "accuracy": 0.5}, {"loss": math.nan}, {"loss": 1.0}], tmp_path / "c.PNG")
    assert (tmp_path / "c.PNG").exists()


@pytest.mark.parametrize(
    ("log", "name", "message"),
    [
        ([], "a.png", "the log is empty"),
        ([{"epoch": 1, "rate": 0.1}], "a.png", "no column of epoch, rate has loss or accuracy"),
        ([{"loss": 1.0}], "a.svg", "must end in .png"),
    ],
)
def test_curve_errors(tmp_path, log, name, message):
    with pytest.raises(ValueError, match=message):
        plot_curve(log, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_curve_without_matplotlib(tmp_path, monkeypatch):
    for module in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"plot_curve needs matplotlib: pip install matplotlib "):
        plot_curve([{"loss": 1.0}], tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


# --- progress --------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run_bar(source):
    with progress(source, "epoch 1") as bar:
        for value in bar:
            bar.set_postfix(loss=value)
    with progress(3, "bytes") as bar:
        bar.update()
        bar.update(2)


def test_progress_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run_bar([0.5, 0.25])
    assert "epoch 1: 100%" in terminal.getvalue() and "loss=0.25" in terminal.getvalue()
    assert "bytes: 100%" in terminal.getvalue() and "3/3" in terminal.getvalue()


@pytest.mark.parametrize("case", ["file", "none", "no tqdm"])
def test_progress_is_silent_elsewhere(monkeypatch, case):
    stream = {"file": io.StringIO(), "none": None, "no tqdm": Terminal()}[case]
    if case == "no tqdm":
        monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", stream)
    run_bar([0.5, 0.25])
    assert list(progress(iter("ab"))) == ["a", "b"]
    assert stream is None or stream.getvalue() == ""


def test_progress_without_anything_to_iterate_over(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(TypeError, match="nothing to iterate over"):
        list(progress(3))


# --- imports ---------------------------------------------------------------------------------------------------------


def test_nothing_heavy_is_imported_before_it_is_used():
    root = pathlib.Path(__file__).parents[2]
    program = (
        "import sys, fastconv.data, fastconv.optim, fastconv.train.files, fastconv.train.progress, "
        "fastconv.train.metrics, fastconv.train.curve\n"
        "print(sorted({'tqdm', 'matplotlib', 'safetensors', 'PIL', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
