"""``fastconv train``: what it writes, what it prints, and how it refuses."""

import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from cli.helpers import WITHOUT, arrays, call, command, done, refused, save, save_folder
from fastconv.data import save_idx

FILES = ["lenet5-curve.png", "lenet5.safetensors"]


def test_train_writes_and_says_how_to_go_on(npz, out):
    ran = command("train", "lenet5", "--data", npz, "--out", out, "--epochs", 2, "--batch-size", 8, "--lr", 0.02, code=None)
    assert ran.returncode == 0, ran.stderr
    assert sorted(os.listdir(out)) == FILES
    lines = ran.stdout.splitlines()
    assert lines[0].startswith(f"LeNet-5 on {npz}: 48 training and 16 test images, ")
    assert lines[1].startswith("test accuracy ") and " % after 2 epochs in " in lines[1]
    assert lines[2] == f"saved {out}/lenet5.safetensors and {out}/lenet5-curve.png"
    assert [line.split()[:2] for line in ran.stderr.splitlines()] == [["epoch", "1/2"], ["epoch", "2/2"]]
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


# ---- refusals: one line, an exit code, and nothing written ------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "message"), [
    (["fly"], "invalid choice: 'fly'"),
    (["train"], "arguments are required: network"),
    (["train", "lenet6"], "invalid choice: 'lenet6' (choose from alexnet, "),
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
    code, output, error = call(capsys, "train", "lenet5", "--data", npz, "--out", out, "--lr", "1e30", "--epochs", 3,
                               "--overwrite")
    assert code == 1 and output.count("\n") == 1
    assert error.splitlines()[-1].startswith("fastconv train: error: Trainer: step ") and "the loss is" in error
    assert sorted(os.listdir(out)) == FILES
    assert all(Path(out, name).read_bytes() == b"the last one" for name in FILES)


def test_debug_shows_the_traceback(tmp_path):
    ran = command("train", "lenet5", "--data", tmp_path / "none.npz", "--out", tmp_path, "--debug")
    assert ran.returncode == 1 and ran.stderr.startswith("Traceback") and "FileNotFoundError" in ran.stderr




def test_packages_that_are_missing(npz, out):
    ran = command("train", "lenet5", "--data", npz, "--out", out, code=WITHOUT.format("safetensors"))
    assert ran.returncode == 1 and ran.stdout == "" and os.listdir(out) == []
    assert "needs safetensors: pip install safetensors (in " in ran.stderr and ran.stderr.count("\n") == 1
    ran = command("train", "lenet5", "--data", npz, "--out", out, "--epochs", 1, code=WITHOUT.format("matplotlib"))
    assert ran.returncode == 0 and os.listdir(out) == ["lenet5.safetensors"]
    assert "no curve: the learning curve needs matplotlib: pip install matplotlib (in " in ran.stderr


def test_every_setting_can_be_given(npz, out, capsys):
    result = done(capsys, "train", "lenet5", "--data", npz, "--out", out, "--epochs", 2, "--batch-size", 7, "--lr", 0.03,
                  "--seed", 3, "--augment", "none", "--validation-split", 0.25, "--precision", "highest", "--threads", 1,
                  "--json")
    assert {key: result[key] for key in ("epochs", "batch_size", "lr", "seed", "augment", "validation_split", "precision")} \
        == {"epochs": 2, "batch_size": 7, "lr": 0.03, "seed": 3, "augment": "none", "validation_split": 0.25,
            "precision": "highest"}
    assert result["evaluated_on"] == "test" and result["threads"] == 1
    # 36 images are left for the training: the test set's accuracy comes from the model that was saved
    evaluated = done(capsys, "evaluate", result["model"], "--data", npz, "--json")
    assert evaluated["accuracy"] == result["accuracy"] and abs(evaluated["loss"] - result["loss"]) < 1e-4


@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v1"])
def test_other_networks_at_a_small_size(network, tmp_path, out, capsys):
    """33 images in batches of 8: BatchNorm could not take a last batch of one."""
    path = save(tmp_path / "colour.npz", arrays(n=33, test=9, shape=(32, 32, 3)))
    result = done(capsys, "train", network, "--data", path, "--out", out, "--epochs", 1, "--batch-size", 8, "--json")
    assert result["augment"] == "shift+flip"
    assert sorted(os.listdir(out)) == [f"{network}-curve.png", f"{network}.safetensors"]
    net = fc.load(result["model"])
    assert net.network == {"name": network, "arguments": {"num_classes": 3, "in_channels": 3}}
    evaluated = done(capsys, "evaluate", result["model"], "--data", path, "--json")
    assert evaluated["accuracy"] == result["accuracy"] and abs(evaluated["loss"] - result["loss"]) < 1e-3 * result["loss"]
    assert done(capsys, "bench", result["model"], "--seconds", 0.01, "--json")["input"] == [1, 3, 32, 32]


def test_images_are_padded_to_the_input(npz, out, capsys):
    result = done(capsys, "train", "mobilenet_v1", "--data", npz, "--out", out, "--epochs", 1, "--input-size", "32x36",
                  "--json")
    assert result["augment"] == "shift" and fc.load(result["model"]).preprocessing["pad"] == [2, 4]
    refused(capsys, 1, "images of 28x28: they are padded to an input of 26x26", "train", "mobilenet_v1", "--data", npz,
            "--out", out, "--input-size", 26, "--overwrite")
    refused(capsys, 1, "output would be empty", "train", "alexnet", "--data", npz, "--out", out, "--json")


def test_image_folders_give_what_the_arrays_give(npz, tmp_path, out, capsys):
    """The same images as PNG files, in memory and read anew in each epoch: the same model, but for the classes' names."""
    x, y, test_x, test_y = arrays()
    names = ["a", "b", "c"]
    folder = tmp_path / "images"
    order = np.argsort(y, kind="stable")  # as a folder has them
    save_folder(folder / "train", x, y, names)
    save_folder(folder / "test", test_x, test_y, names)
    path = save(tmp_path / "sorted.npz", [np.pad(x[order], ((0, 0), (2, 2), (2, 2))), y[order],
                                          np.pad(test_x, ((0, 0), (2, 2), (2, 2))), test_y])
    padded = tmp_path / "padded"
    for part, images, labels in (("train", x, y), ("test", test_x, test_y)):
        save_folder(padded / part, np.pad(images, ((0, 0), (2, 2), (2, 2))), labels, names)
    states, accuracies = [], []
    for source in (path, padded):
        result = done(capsys, "train", "lenet5", "--data", source, "--out", out, "--epochs", 2, "--json", "--overwrite")
        states.append(fc.train.load_model(result["model"])[0])
        accuracies.append(result["accuracy"])
    assert fc.load(result["model"]).preprocessing["classes"] == names
    assert accuracies[0] == accuracies[1]
    for name in states[0]:
        np.testing.assert_array_equal(states[0][name], states[1][name])
    # images of another size are resized to the network's input
    result = done(capsys, "train", "lenet5", "--data", folder, "--out", out, "--epochs", 1, "--json", "--overwrite")
    assert fc.load(result["model"]).preprocessing["size"] == [32, 32]


def test_a_folder_without_test_images_is_split(tmp_path, out, capsys, monkeypatch):
    x, y, _, _ = arrays(n=60)
    folder = save_folder(tmp_path / "images", x, y, ["a", "b", "c"])
    results = []
    for limit in (2**30, 0):  # in memory, and read from the files for each batch
        monkeypatch.setattr("fastconv.cli._data.IN_MEMORY", limit)
        monkeypatch.setattr("fastconv.cli._data.LOOKED_AT", 10**6)
        output = done(capsys, "train", "lenet5", "--data", folder, "--out", out, "--epochs", 1, "--overwrite")
        assert output.startswith(f"LeNet-5 on {folder}: 54 training, 6 validation images, ")
        assert "validation accuracy " in output and "predict in Python" not in output
        results.append(Path(out, "lenet5.safetensors").read_bytes())
    assert results[0] == results[1]


def test_tuned_training(npz, out, tmp_path, capsys):
    choices = tmp_path / "choices.json"
    tuned = done(capsys, "tune", "lenet5", "--training", "--batch-size", 16, "--rounds", 1, "--save", choices, "--json")
    assert tuned["problems"] and tuned["training"] is True
    for option in (["--tune"], ["--tuned", choices]):
        result = done(capsys, "train", "lenet5", "--data", npz, "--out", out, "--epochs", 1, "--batch-size", 16, *option,
                      "--json", "--overwrite")
        assert 0 <= result["accuracy"] <= 1


