"""The command line: what it writes, what it prints, and how it refuses."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv.cli import main
from fastconv.data import save_idx

ROOT = Path(__file__).resolve().parent.parent
FILES = ["lenet5-curve.png", "lenet5.safetensors"]


def arrays(n=48, test=16, shape=(28, 28), classes=3):
    """Images whose class is where their light is."""
    rng = np.random.default_rng(0)
    parts = []
    for count in (n, test):
        y = np.arange(count) % classes
        x = rng.integers(0, 60, (count, *shape), np.uint8)
        for i, c in enumerate(y):
            x[i, 8 * c: 8 * c + 6] += 150
        parts += [x, y]
    return parts


def save(path, parts):
    np.savez(path, **dict(zip(("x_train", "y_train", "x_test", "y_test"), parts, strict=True)))
    return str(path)


@pytest.fixture
def npz(tmp_path):
    return save(tmp_path / "tiny.npz", arrays())


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return str(tmp_path / "out")


@pytest.fixture(autouse=True)
def threads():
    before = fc.get_num_threads()
    yield
    fc.set_num_threads(before)


def command(*arguments, code="import sys; from fastconv.cli import main; sys.exit(main(sys.argv[1:]))"):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, *(["-m", "fastconv"] if code is None else ["-c", code]), *map(str, arguments)],
                          capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120)


def call(capsys, *arguments):
    """(exit code, stdout, stderr) of the command within this process."""
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def refused(capsys, code, message, *arguments):
    got, output, error = call(capsys, *arguments)
    assert got == code and output == ""
    assert error.count("\n") == 1 and error.startswith("fastconv") and "error: " in error, error
    assert message in error


def test_train_writes_and_says_how_to_go_on(npz, out):
    done = command("train", "lenet5", "--data", npz, "--out", out, "--epochs", 2, "--batch-size", 8, "--lr", 0.02, code=None)
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(out)) == FILES
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"LeNet-5 on {npz}: 48 training and 16 test images, ")
    assert lines[1].startswith("test accuracy ") and " % after 2 epochs in " in lines[1]
    assert lines[2] == f"saved {out}/lenet5.safetensors and {out}/lenet5-curve.png"
    assert [line.split()[:2] for line in done.stderr.splitlines()] == [["epoch", "1/2"], ["epoch", "2/2"]]
    assert open(f"{out}/lenet5-curve.png", "rb").read(8) == b"\x89PNG\r\n\x1a\n"

    snippet = "\n".join(line[4:] for line in lines[lines.index("predict in Python:") + 1:] if line.startswith("    "))
    code, commands = snippet[: snippet.index("python -m")], snippet[snippet.index("python -m"):].splitlines()
    ran = command(code=code)
    assert ran.returncode == 0, ran.stderr
    values = [int(v) for v in ran.stdout.replace("[", " ").replace("]", " ").split()]
    assert values[10:] == arrays()[3][:10].tolist() and len(values) == 20
    accuracy = float(lines[1].split()[2]) / 100
    assert abs(np.mean(np.array(values[:10]) == values[10:]) * 10 - accuracy * 16) <= 6  # ten of the sixteen

    image = pytest.importorskip("PIL.Image")
    picture = str(Path(out) / "a picture.png")
    image.fromarray(arrays()[2][1]).save(picture)
    assert [shlex.split(c)[3] for c in commands] == ["predict", "bench"]
    for text in commands:
        arguments = [picture if a == "IMAGE..." else a for a in shlex.split(text)[3:]]
        ran = command(*arguments, "--json")
        assert ran.returncode == 0, ran.stderr
        result = json.loads(ran.stdout)
        if arguments[0] == "predict":
            [row] = result["predictions"]
            assert row["image"] == picture and row["class"] == str(values[1]) and 1 / 3 < row["probability"] <= 1
        else:
            assert result["input"] == [1, 1, 32, 32] and result["milliseconds"] > 0


def test_the_same_seed_gives_the_same_file_for_any_number_of_threads(npz, tmp_path, capsys):
    files = []
    for name, threads, seed in (("one", 1, 7), ("two", 2, 7), ("other", 2, 8)):
        (tmp_path / name).mkdir()
        assert call(capsys, "train", "lenet5", "--data", npz, "--out", tmp_path / name, "--epochs", 1, "--seed", seed,
                    "--threads", threads)[0] == 0
        files.append((tmp_path / name / "lenet5.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


def test_json(npz, out, capsys):
    code, output, _ = call(capsys, "train", "lenet5", "--data", npz, "--out", out, "--epochs", 1, "--seed", 5, "--json")
    result = json.loads(output)
    assert code == 0 and result["network"] == "lenet5" and result["epochs"] == len(result["log"]) == 1
    assert result["accuracy"] == result["log"][0]["val_accuracy"] and result["seed"] == 5
    assert sorted(os.path.basename(result[key]) for key in ("model", "curve")) == FILES
    code, output, _ = call(capsys, "config", "--json")
    facts = json.loads(output)
    assert code == 0 and facts["fastconv"] == fc.__version__ and facts["isa"] in facts["isa_available"]
    code, output, _ = call(capsys, "bench", "lenet5", "--json", "--batch-size", 2, "--threads", 1)
    result = json.loads(output)
    assert code == 0 and result["input"] == [2, 1, 32, 32] and result["threads"] == 1


def test_data_as_mnist_is_distributed(tmp_path, out, capsys):
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    for name, part in zip(names, arrays(), strict=True):
        save_idx(tmp_path / f"{name}-ubyte.gz", part.astype(np.uint8))
    assert call(capsys, "train", "lenet5", "--data", tmp_path, "--out", out, "--epochs", 1)[0] == 0
    assert fc.load(f"{out}/lenet5.safetensors").network["arguments"] == {"num_classes": 3, "in_channels": 1}


def test_colour_images_of_another_size(tmp_path, out, capsys):
    path = save(tmp_path / "colour.npz", arrays(shape=(24, 20, 3)))
    assert call(capsys, "train", "lenet5", "--data", path, "--out", out, "--epochs", 1)[0] == 0
    net = fc.load(f"{out}/lenet5.safetensors")
    assert net.preprocessing["pad"] == [4, 6] and len(net.preprocessing["mean"]) == 3
    x = arrays(shape=(24, 20, 3))[0]
    np.testing.assert_allclose(net.preprocessing["mean"], x.mean((0, 1, 2)) / 255, atol=1e-6)
    np.testing.assert_allclose(net.preprocessing["std"], x.std((0, 1, 2)) / 255, atol=1e-6)


def test_config(capsys):
    code, output, error = call(capsys, "config")
    assert code == 0 and error == ""
    assert [line.split("  ")[0] for line in output.splitlines()] == [
        "fastconv", "instruction set", "available", "OpenMP", "threads", "BLAS"]
    assert f"{fc.get_num_threads()} (" in output


# ---- refusals: one line, an exit code, and nothing written ------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "arguments are required: command"),
    (["fly"], "invalid choice: 'fly'"),
    (["train"], "arguments are required: network"),
    (["train", "lenet6"], "invalid choice: 'lenet6'"),
    (["train", "lenet5", "--epochs", "0"], "--epochs: '0' must be an integer of at least 1"),
    (["train", "lenet5", "--batch-size", "1.5"], "--batch-size: '1.5' must be an integer of at least 1"),
    (["train", "lenet5", "--threads", "-1"], "--threads: '-1' must be"),
    (["train", "lenet5", "--lr", "nan"], "--lr: 'nan' must be a number above 0"),
    (["train", "lenet5", "--lr", "fast"], "--lr: 'fast' must be a number above 0"),
    (["train", "lenet5", "--seed", "-3"], "--seed: '-3' must be an integer from 0 to 2**64 - 1"),
    (["train", "lenet5", "--colour"], "unrecognized arguments: --colour"),
    (["train", "lenet5", "--out", "/no/such/folder"], "--out '/no/such/folder': no such folder"),
    (["predict", "m.safetensors"], "arguments are required: image"),
])
def test_wrong_usage(arguments, message, capsys):
    refused(capsys, 2, message, *arguments)


def test_folders_that_cannot_be_written_to(npz, out, tmp_path, capsys):
    refused(capsys, 2, "not a folder", "train", "lenet5", "--data", npz, "--out", npz)
    os.mkdir(f"{out}/lenet5.safetensors")
    refused(capsys, 2, "lenet5.safetensors is a folder there", "train", "lenet5", "--data", npz, "--out", out)
    if os.geteuid():
        os.chmod(tmp_path, 0o500)
        refused(capsys, 2, "cannot write there", "train", "lenet5", "--data", npz, "--out", tmp_path)


@pytest.mark.parametrize(("make", "message"), [
    (lambda path: None, "No such file"),
    (lambda path: path.write_bytes(b"PK\x03\x04 but no more"), "not an npz file, or truncated"),
    (lambda path: np.savez(path, images=np.zeros(3)), "needs the arrays"),
    (lambda path: save(path, arrays(shape=(40, 28))), "images of 40x28: LeNet-5 takes even sizes up to 32x32"),
    (lambda path: save(path, arrays(shape=(28, 27))), "images of 28x27"),
    (lambda path: save(path, [np.full_like(p, 3) if p.ndim == 3 else p for p in arrays()]), "all pixels"),
    (lambda path: save(path, [p[:0] for p in arrays()]), "not empty"),
])
def test_bad_data(make, message, tmp_path, out, capsys):
    path = tmp_path / "data.npz"
    make(path)
    refused(capsys, 1, message, "train", "lenet5", "--data", path, "--out", out)
    assert os.listdir(out) == []


def test_a_training_that_fails_keeps_the_files_of_the_last_one(npz, out, capsys):
    for name in FILES:
        Path(out, name).write_bytes(b"the last one")
    code, output, error = call(capsys, "train", "lenet5", "--data", npz, "--out", out, "--lr", "1e30", "--epochs", 3)
    assert code == 1 and output.count("\n") == 1
    assert error.splitlines()[-1].startswith("fastconv train: error: Trainer: step ") and "the loss is" in error
    assert sorted(os.listdir(out)) == FILES
    assert all(Path(out, name).read_bytes() == b"the last one" for name in FILES)


def test_debug_shows_the_traceback(tmp_path):
    done = command("train", "lenet5", "--data", tmp_path / "none.npz", "--out", tmp_path, "--debug")
    assert done.returncode == 1 and done.stderr.startswith("Traceback") and "FileNotFoundError" in done.stderr


WITHOUT = "import sys; sys.modules[{!r}] = None; from fastconv.cli import main; sys.exit(main(sys.argv[1:]))"


def test_packages_that_are_missing(npz, out):
    done = command("train", "lenet5", "--data", npz, "--out", out, code=WITHOUT.format("safetensors"))
    assert done.returncode == 1 and done.stdout == "" and os.listdir(out) == []
    assert "needs safetensors: pip install 'fastconv[demo]'" in done.stderr and done.stderr.count("\n") == 1
    done = command("train", "lenet5", "--data", npz, "--out", out, "--epochs", 1, code=WITHOUT.format("matplotlib"))
    assert done.returncode == 0 and os.listdir(out) == ["lenet5.safetensors"]
    assert "no curve: the learning curve needs matplotlib: pip install 'fastconv[demo]'" in done.stderr
    picture = Path(out, "picture.png")
    picture.write_bytes(b"")
    done = command("predict", f"{out}/lenet5.safetensors", picture, code=WITHOUT.format("PIL"))
    assert done.returncode == 1 and "needs pillow: pip install 'fastconv[demo]'" in done.stderr


def test_files_that_are_no_models_and_no_images(tmp_path, capsys):
    pytest.importorskip("PIL")
    model, picture = str(tmp_path / "net.safetensors"), str(tmp_path / "picture.png")
    Path(picture).write_bytes(b"not a picture")
    refused(capsys, 1, "No such file", "predict", model, picture)
    refused(capsys, 1, "No such file", "bench", model)
    fc.train.save(fc.nn.Linear(2, 3), model)
    refused(capsys, 1, "does not name its network", "predict", model, picture)
    fc.train.save(fc.zoo.lenet5(), model)
    refused(capsys, 1, "does not say what its input needs", "predict", model, picture)
    fc.train.save(fc.zoo.lenet5(2), model, {"mean": [0.5], "std": [0.5], "size": [28, 28], "pad": [2, 2],
                                            "classes": ["no", "yes"]})
    refused(capsys, 1, "is not an image that can be read", "predict", model, picture)
    refused(capsys, 1, "No such file", "predict", model, picture + "x")
    good = {"mean": [0.5], "std": [0.5], "size": [28, 28], "pad": [2, 2], "classes": ["no", "yes"]}
    image = pytest.importorskip("PIL.Image")
    image.new("L", (28, 28)).save(picture)
    for change, message in (({"size": [10**6, 10**6]}, "expected two integers from 1 to"), ({"size": "ab"}, "size='ab'"),
                            ({"pad": [-1, 0]}, "pad="), ({"classes": ["one"]}, "2 classes, its preprocessing names 1"),
                            ({"classes": None}, "classes=None")):
        fc.train.save(fc.zoo.lenet5(2), model, {**good, **change})
        refused(capsys, 1, message, "predict", model, picture)
    fc.train.save(fc.zoo.lenet5(2), model, {"size": [28, 28]})
    refused(capsys, 1, "must have mean, std", "predict", model, picture)
    infinite = fc.zoo.lenet5(2)
    next(infinite.parameters()).data = np.full((6, 1, 5, 5), np.nan)
    fc.train.save(infinite, model, good)
    refused(capsys, 1, "not finite", "predict", model, picture)
    Path(model).write_bytes(Path(model).read_bytes()[:-4])
    refused(capsys, 1, "truncated", "predict", model, picture)


def test_an_interrupt_writes_nothing(npz, out):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        [sys.executable, "-m", "fastconv", "train", "lenet5", "--data", npz, "--out", out, "--epochs", "1000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    try:
        assert process.stderr.readline().startswith("epoch 1/1000000")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert error.splitlines()[-1] == "fastconv train: interrupted" and "Traceback" not in error
    assert os.listdir(out) == []
