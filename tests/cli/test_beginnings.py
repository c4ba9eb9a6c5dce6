"""``fastconv train`` as it is met first: few photographs, defaults, weights of others, what must not be lost."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from cli.helpers import WITHOUT, arrays, call, command, done, refused, save, save_folder
from cli.test_resume import interrupt_after
from fastconv._recipes import fill, recipe
from fastconv.cli.train import _best

FILES = ["lenet5-curve.png", "lenet5.safetensors"]


def photographs(path, count=20, side=48):
    """Three classes of textures in any colours and places, with noise: no single pixel and no mean tells them apart."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    for k, name in enumerate(("checks", "columns", "rows")):
        for i in range(count):
            period, (a, b) = rng.uniform(6, 14), rng.uniform(0, 2 * np.pi, 2)
            waves = np.sign(np.sin(2 * np.pi * rows / period + a)) if k != 1 else 1
            waves = waves * (np.sign(np.sin(2 * np.pi * columns / period + b)) if k != 2 else 1)
            colour = rng.uniform(20, 60, 3) * rng.choice([-1, 1], 3)
            picture = 128 + waves[..., None] * colour + rng.normal(0, 30, (side, side, 3))
            target = Path(path, name, f"{i:02}.png")
            target.parent.mkdir(parents=True, exist_ok=True)
            image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(target)
    return str(path)


def test_few_photographs_are_learned_with_the_defaults(tmp_path, out, capsys):
    """54 + 6 photographs; the model that is saved is of the best epoch, and evaluates as the log says."""
    data = photographs(tmp_path / "photos")
    code, output, error = call(capsys, "train", "resnet18", "--data", data, "--input-size", 48, "--epochs", 24, "--out", out,
                               "--json")
    assert code == 0
    result = json.loads(output)
    assert result["batch_size"] == 8 and 0.001 < result["lr"] < 0.01
    assert "resnet18 is large for 54 images: 11,178,051 parameters" in error
    assert "resnet18 is made for images of 224x224: of 48x48" in error
    accuracies = [row["val_accuracy"] for row in result["log"]]
    assert result["accuracy"] == max(accuracies) >= 5 / 6
    assert accuracies[result["best_epoch"] - 1] == max(accuracies)
    assert (result["last"] is None) == (result["best_epoch"] == 24)
    # all 60 photographs: those it was trained on, and the six
    assert done(capsys, "evaluate", result["model"], "--data", data, "--json")["accuracy"] > 0.8


@pytest.mark.parametrize("images, given, expected", [
    (10_000, {}, (32, 30, 0.05)), (256, {}, (32, 60, 0.04)), (255, {}, (16, 38, 0.025)), (128, {}, (16, 60, 0.02)),
    (54, {}, (8, 60, 0.00875)), (54, {"batch_size": 32}, (32, 60, 0.01)), (54, {"epochs": 30}, (8, 30, 0.00438)),
    (54, {"batch_size": 32, "epochs": 30}, (32, 30, 0.005)), (1, {}, (8, 60, 0.00125)), (6, {"lr": 3.0}, (8, 60, 3.0)),
    (10_000, {"batch_size": 256}, (256, 30, 0.05))])
def test_the_rule_of_the_defaults(images, given, expected):
    for tuning in (False, True):
        settings = {"batch_size": None, "epochs": None, "lr": None, **given}
        fill(settings, recipe("resnet18"), images, tuning)
        lr = expected[2] * (0.2 if tuning and "lr" not in given else 1)
        assert (settings["batch_size"], settings["epochs"]) == expected[:2]
        assert settings["lr"] == pytest.approx(lr, rel=0.01)


def test_the_best_epoch():
    def log(*rows):
        return [{"epoch": i + 1, "val_accuracy": a, "val_loss": loss} for i, (a, loss) in enumerate(rows)]

    assert _best(log((0.5, 1), (0.9, 2), (0.9, 1), (0.2, 0)))["epoch"] == 3
    assert _best(log((0.5, 1), (0.5, 1)))["epoch"] == 2
    assert _best(log((0.5, float("nan")), (0.5, 5), (0.5, float("inf"))))["epoch"] == 2
    assert _best(log((0.5, float("nan"))))["epoch"] == 1


@pytest.fixture
def noise(tmp_path):
    """Nothing that could be learned: which epoch is the best is chance."""
    rng = np.random.default_rng(1)
    return save(tmp_path / "noise.npz", [part for n in (48, 16) for part in
                                         (rng.integers(0, 255, (n, 28, 28), np.uint8), np.arange(n) % 3)])


def unsteady(noise, out, *more):
    return ("train", "lenet5", "--data", noise, "--out", out, "--epochs", 6, "--batch-size", 8, "--lr", 0.1, *more)


def test_best_and_last(noise, out, capsys):
    for seed in range(20):
        result = done(capsys, *unsteady(noise, out, "--seed", seed, "--overwrite", "--json"))
        if result["last"]:
            break
    assert result["last"], "no seed whose last epoch is not its best"
    rows = {row["epoch"]: row for row in result["log"]}
    for path, epoch in ((result["model"], result["best_epoch"]), (result["last"], 6)):
        got = done(capsys, "evaluate", path, "--data", noise, "--json")
        assert got["accuracy"] == rows[epoch]["val_accuracy"]
        assert got["loss"] == pytest.approx(rows[epoch]["val_loss"], rel=1e-4)
    said = done(capsys, *unsteady(noise, out, "--seed", seed, "--overwrite"))
    assert f"of epoch {result['best_epoch']}, the best by the test images" in said and "lenet5-last.safetensors" in said
    for other in range(seed + 1, seed + 40):  # one whose last is its best leaves no last of another training
        if done(capsys, *unsteady(noise, out, "--seed", other, "--overwrite", "--json"))["last"] is None:
            assert sorted(os.listdir(out)) == FILES
            break
    else:
        raise AssertionError("no seed whose last epoch is its best")


def test_a_resumed_training_remembers_its_best(noise, tmp_path, capsys, monkeypatch):
    for seed in range(20):
        whole, parts = tmp_path / f"whole{seed}", tmp_path / f"parts{seed}"
        whole.mkdir(), parts.mkdir()
        result = done(capsys, *unsteady(noise, whole, "--seed", seed, "--json"))
        if result["best_epoch"] < 6:
            break
    steps = 6 * result["best_epoch"] + 3  # in the epoch after the best
    assert interrupt_after(steps, 2, capsys, monkeypatch, *unsteady(noise, parts, "--seed", seed))[0] == 130
    again = done(capsys, "train", "lenet5", "--data", noise, "--out", parts, "--resume", parts / "lenet5.checkpoint",
                 "--json")
    assert again["best_epoch"] == result["best_epoch"]
    for name in ("lenet5.safetensors", "lenet5-last.safetensors"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()


# --- what must not be lost ------------------------------------------------------------------------------------------------


def test_a_model_is_not_overwritten_in_silence(npz, out, capsys, monkeypatch):
    train = ("train", "lenet5", "--data", npz, "--out", out, "--epochs", 1, "--batch-size", 8)
    done(capsys, *train)
    model = Path(out, "lenet5.safetensors")
    before = model.read_bytes()
    refused(capsys, 2, "lenet5.safetensors already: --overwrite replaces it, --init", *train, "--seed", 1)
    assert model.read_bytes() == before and sorted(os.listdir(out)) == FILES
    assert interrupt_after(2, 2, capsys, monkeypatch, *train, "--seed", 1, "--overwrite")[0] == 130
    assert model.read_bytes() == before
    done(capsys, "train", "lenet5", "--data", npz, "--out", out, "--resume", f"{out}/lenet5.checkpoint")  # was allowed to
    assert model.read_bytes() != before


def test_a_last_epoch_is_not_lost_either(npz, out, capsys):
    Path(out, "lenet5-last.safetensors").write_bytes(b"of another training")
    train = ("train", "lenet5", "--data", npz, "--out", out, "--epochs", 1)
    refused(capsys, 2, "lenet5-last.safetensors already: --overwrite replaces it", *train)
    assert os.listdir(out) == ["lenet5-last.safetensors"]
    done(capsys, *train, "--overwrite")
    assert sorted(os.listdir(out)) == FILES


def test_a_model_that_came_meanwhile_is_not_overwritten(npz, out, tmp_path, capsys, monkeypatch):
    train = ("train", "lenet5", "--data", npz, "--out", out, "--epochs", 1, "--batch-size", 8)
    assert interrupt_after(2, 2, capsys, monkeypatch, *train)[0] == 130
    Path(out, "lenet5.safetensors").write_bytes(b"of another training")
    again = ("train", "lenet5", "--data", npz, "--out", out, "--resume", f"{out}/lenet5.checkpoint")
    refused(capsys, 2, "already: --overwrite replaces it", *again)
    done(capsys, *again, "--overwrite")


def test_one_class_is_refused(tmp_path, out, capsys):
    x, y, test_x, test_y = arrays()
    folder = save_folder(tmp_path / "images", x[:4], y[:4] * 0, ["alone"])
    refused(capsys, 1, "of one class (alone): there is nothing to tell apart", "train", "lenet5", "--data", folder,
            "--out", out)
    path = save(tmp_path / "d.npz", [x, y * 0, test_x, test_y * 0])
    refused(capsys, 1, "of one class (0)", "train", "lenet5", "--data", path, "--out", out)
    assert os.listdir(out) == []


# --- weights of others ----------------------------------------------------------------------------------------------------


def fresh(path, classes=3, channels=1, seed=7):
    fc.manual_seed(seed)
    net = fc.zoo.lenet5(classes, channels)
    fc.train.save(net, path, {"mean": [0.25], "std": [0.5], "size": [28, 28], "pad": [2, 2],
                              "classes": [str(i) for i in range(classes)]})
    return net.state_dict()


def written(state, path):
    """The same weights in files of other kinds."""
    if path.suffix == ".npz":
        np.savez(path, **state)
    elif path.suffix == ".safetensors":
        fc.train.save_model(path, {name: value.astype(np.float16) for name, value in state.items()})
    else:
        torch = pytest.importorskip("torch", reason="torch is not installed")
        tensors = {f"module.{name}": torch.from_numpy(value.copy()) for name, value in state.items()}
        torch.save({"epoch": 3, "state_dict": tensors} if path.suffix == ".pth" else tensors, path)
    return path


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".pth", ".pt"])
def test_a_training_begins_from_weights(ending, npz, out, tmp_path, capsys):
    """A learning rate that changes nothing shows what it began from."""
    state = fresh(tmp_path / "model")
    path = written(state, tmp_path / f"weights{ending}")
    said = done(capsys, "train", "lenet5", "--data", npz, "--out", out, "--epochs", 1, "--lr", 1e-30, "--init", path)
    assert f"weights of {path}\n" in said
    after = fc.train.load_model(f"{out}/lenet5.safetensors")[0]
    for name, value in state.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-3 if ending == ".safetensors" else 0, atol=1e-6)


def test_other_classes_get_another_head_and_the_input_stays(npz, out, tmp_path, capsys):
    for classes, names in ((5, None), (3, ["x", "y", "z"])):
        state = fresh(tmp_path / "model", classes)
        if names:  # as many classes, but others
            net = fc.load(tmp_path / "model")
            fc.train.save(net, tmp_path / "model", {**net.preprocessing, "classes": names})
        said = done(capsys, "train", "lenet5", "--data", npz, "--out", out, "--epochs", 1, "--lr", 1e-30, "--overwrite",
                    "--init", tmp_path / "model")
        assert "its last layer (11) anew for 3 classes" in said
        after, back = fc.train.load_model(f"{out}/lenet5.safetensors")[0], fc.load(f"{out}/lenet5.safetensors")
        assert after["11.weight"].shape == (3, 84) and (classes != 3 or not np.array_equal(after["11.weight"],
                                                                                           state["11.weight"]))
        for name in state:
            if not name.startswith("11."):
                np.testing.assert_array_equal(after[name], state[name])
        assert back.preprocessing["mean"] == [0.25] and back.preprocessing["std"] == [0.5]


def test_freeze_trains_the_last_layer_alone(npz, tmp_path, capsys):
    fc.manual_seed(3)
    net = fc.zoo.mobilenet_v1(num_classes=3, in_channels=1)
    fc.train.save(net, tmp_path / "model")
    state = net.state_dict()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    train = ("train", "mobilenet_v1", "--data", npz, "--input-size", 32, "--epochs", 2, "--init", tmp_path / "model",
             "--freeze")
    said = done(capsys, *train, "--out", whole)
    assert "; 3,075 of " in said and "parameters are trained" in said
    after = fc.train.load_model(whole / "mobilenet_v1.safetensors")[0]
    changed = [name for name in state if not np.array_equal(state[name], after[name])]
    assert sorted(changed) == ["classifier.bias", "classifier.weight"]  # no running statistics either

    with pytest.MonkeyPatch.context() as patch:
        assert interrupt_after(3, 2, capsys, patch, *train, "--out", parts)[0] == 130
    done(capsys, "train", "mobilenet_v1", "--data", npz, "--out", parts, "--resume", parts / "mobilenet_v1.checkpoint")
    assert (whole / "mobilenet_v1.safetensors").read_bytes() == (parts / "mobilenet_v1.safetensors").read_bytes()


def test_grey_photographs_and_weights_of_colours(tmp_path, out, capsys):
    x, y, _, _ = arrays(n=12)
    folder = save_folder(tmp_path / "images", x, y, ["a", "b", "c"])
    fresh(tmp_path / "model", 3, 3)
    done(capsys, "train", "lenet5", "--data", folder, "--out", out, "--epochs", 1, "--init", tmp_path / "model")
    assert fc.load(f"{out}/lenet5.safetensors").network["arguments"]["in_channels"] == 3
    npz = save(tmp_path / "d.npz", arrays())
    refused(capsys, 1, "0.weight has shape (6, 3, 5, 5): expected (6, 1, 5, 5)", "train", "lenet5", "--data", npz, "--out",
            out, "--init", tmp_path / "model", "--overwrite", "--json")


def test_a_finished_model_goes_on(npz, out, capsys):
    done(capsys, "train", "lenet5", "--data", npz, "--out", out, "--epochs", 1, "--batch-size", 8)
    model = f"{out}/lenet5.safetensors"
    refused(capsys, 1, f"not a checkpoint of a training: --init {model} goes on", "train", "lenet5", "--data", npz, "--out",
            out, "--resume", model)
    before = fc.train.load_model(model)[0]
    said = done(capsys, "train", "lenet5", "--data", npz, "--out", out, "--epochs", 1, "--init", model, "--overwrite",
                "--lr", 1e-30)
    assert "anew" not in said
    after = fc.train.load_model(model)[0]
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_weights_that_do_not_fit(npz, out, tmp_path, capsys):
    train = ("train", "lenet5", "--data", npz, "--out", out, "--epochs", 1, "--json", "--init")
    refused(capsys, 2, "--freeze: without --init", *train[:-1], "--freeze")
    refused(capsys, 1, "No such file", *train, tmp_path / "none")
    fc.train.save(fc.zoo.mobilenet_v1(3), tmp_path / "other")
    refused(capsys, 1, "not the weights of lenet5, they are those of mobilenet_v1: 0.weight is missing", *train,
            tmp_path / "other")
    np.savez(tmp_path / "w.npz", a=np.zeros(3, np.int64))
    refused(capsys, 1, "has no weights", *train, tmp_path / "w.npz")
    np.savez(tmp_path / "w.npz", a=np.array([{}], object))
    refused(capsys, 1, "is not an .npz file of arrays", *train, tmp_path / "w.npz")
    (tmp_path / "w.npz").write_bytes(b"PK\x03\x04")
    refused(capsys, 1, "is not an .npz file of arrays", *train, tmp_path / "w.npz")
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    refused(capsys, 1, "truncated", *train, tmp_path / "w.safetensors")
    trainer = fc.Trainer(fc.zoo.lenet5(3), fc.nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.1))
    trainer.save_checkpoint(tmp_path / "checkpoint")
    refused(capsys, 1, "is a checkpoint of a training: --resume", *train, tmp_path / "checkpoint")
    assert os.listdir(out) == []


def test_files_of_pytorch_that_are_none(npz, out, tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    train = ("train", "lenet5", "--data", npz, "--out", out, "--epochs", 1, "--json", "--init", tmp_path / "w.pth")
    for content in (b"", b"garbage", b"PK\x03\x04garbage"):
        (tmp_path / "w.pth").write_bytes(content)
        refused(capsys, 1, "is not a state dict of PyTorch", *train)
    torch.save([1, 2], tmp_path / "w.pth")
    refused(capsys, 1, "holds a list, not a state dict", *train)
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")  # a pickled module would run code
    refused(capsys, 1, "is not a state dict of PyTorch", *train)


def test_without_torch(npz, out, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"x")
    ran = command("train", "lenet5", "--data", npz, "--out", out, "--init", tmp_path / "w.pth",
                  code=WITHOUT.format("torch"))
    assert ran.returncode == 1 and "is not a state dict of PyTorch" in ran.stderr and ran.stderr.count("\n") == 1
