"""``fastconv predict`` and ``fastconv evaluate``, against what the network computes by itself."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from cli.helpers import GOOD, WITHOUT, arrays, call, command, done, refused, save, save_folder, save_model


@pytest.fixture
def model(tmp_path):
    """LeNet-5 of three classes, untrained."""
    return save_model(tmp_path / "three.safetensors", fc.zoo.lenet5(3), {**GOOD, "classes": ["a", "b", "c"]})


def shares(model, images):
    """Probabilities by the definition, in float64."""
    net = fc.load(model)
    p = net.preprocessing
    x = fc.data.to_float(images, p["mean"], p["std"], p["pad"])
    logits = fc.compile(net, x.shape)(x).astype(np.float64)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_files_and_folders(model, tmp_path, capsys):
    _, _, images, labels = arrays()
    folder = Path(save_folder(tmp_path / "images", images, labels, ["x", "y", "z"]))
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "more.png").write_bytes(b"")
    order = np.argsort(labels, kind="stable")
    expected = shares(model, images[order])
    paths = [str(folder / "xyz"[labels[i]] / f"{i:04}.png") for i in order]
    result = done(capsys, "predict", model, folder, paths[3], "--top", 2, "--json")["predictions"]
    assert [row["image"] for row in result] == [*paths, paths[3]]
    for row, share in zip(result, [*expected, expected[3]], strict=True):
        best = np.argsort(-share)[:2]
        assert [b["class"] for b in row["top"]] == ["abc"[i] for i in best] and row["class"] == row["top"][0]["class"]
        np.testing.assert_allclose([b["probability"] for b in row["top"]], share[best], rtol=1e-5)
        assert row["probability"] == row["top"][0]["probability"]
    lines = done(capsys, "predict", model, paths[0], paths[1], "--top", 99).splitlines()
    best = expected[0].argmax()
    assert len(lines) == 2 and lines[0].startswith(f"{paths[0]}: {'abc'[best]} ({100 * expected[0, best]:.1f} %), ")
    assert lines[0].count("%") == 3


def test_an_image_of_another_size_and_kind(model, tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    x = arrays()[2][:1]
    image.fromarray(np.repeat(np.repeat(x[0], 2, 0), 2, 1)).convert("RGB").save(tmp_path / "big.png")
    image.fromarray(x[0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    image.fromarray(x[0]).save(tmp_path / "plain.png")
    paths = [tmp_path / f"{name}.png" for name in ("plain", "deep", "big")]
    rows = done(capsys, "predict", model, *paths, "--json")["predictions"]
    assert rows[0]["top"] == rows[1]["top"]
    assert rows[2]["probability"] == pytest.approx(rows[0]["probability"], abs=0.02)


def test_files_that_are_no_models_and_no_images(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    model, picture = str(tmp_path / "net.safetensors"), str(tmp_path / "picture.png")
    Path(picture).write_bytes(b"not a picture")
    fc.train.save(fc.nn.Linear(2, 3), model)
    refused(capsys, 1, "does not name its network", "predict", model, picture)
    fc.train.save(fc.zoo.lenet5(), model)
    refused(capsys, 1, "does not say what its input needs", "predict", model, picture)
    save_model(model)
    refused(capsys, 1, "is not an image that can be read", "predict", model, picture)
    refused(capsys, 1, "No such file", "predict", model, picture + "x")
    (tmp_path / "empty").mkdir()
    refused(capsys, 1, "no image in this folder", "predict", model, tmp_path / "empty")
    good = tmp_path / "good.png"
    image.new("L", (28, 28)).save(good)
    whole = Path(good).read_bytes()
    Path(picture).write_bytes(whole[:-20])
    refused(capsys, 1, "is not an image that can be read", "predict", model, good, picture)
    Path(picture).write_bytes(whole)
    for change, message in (({"size": [10**6, 10**6]}, "expected two integers from 1 to"), ({"size": "ab"}, "size='ab'"),
                            ({"pad": [-1, 0]}, "pad="), ({"classes": ["one"]}, "2 classes, its preprocessing names 1"),
                            ({"classes": None}, "classes=None"), ({"classes": [1, 2]}, "expected a list of names"),
                            ({"std": [0.0]}, "must be above 0"), ({"mean": [math.inf]}, "must be finite")):
        save_model(model, preprocessing={**GOOD, **change})
        refused(capsys, 1, message, "predict", model, picture)
    save_model(model, preprocessing={"size": [28, 28]})
    refused(capsys, 1, "must have mean, std", "predict", model, picture)
    infinite = fc.zoo.lenet5(2)
    next(infinite.parameters()).data = np.full((6, 1, 5, 5), np.nan)
    fc.train.save(infinite, model, GOOD)
    refused(capsys, 1, "not finite", "predict", model, picture)


def test_without_pillow(tmp_path):
    model = save_model(tmp_path / "m.safetensors")
    ran = command("predict", model, tmp_path / "picture.png", code=WITHOUT.format("PIL"))
    assert ran.returncode == 1 and "needs pillow: pip install pillow (in " in ran.stderr and ran.stderr.count("\n") == 1


# ---- evaluate -------------------------------------------------------------------------------------------------------


def test_evaluate_by_the_definition(model, tmp_path, capsys):
    parts = arrays(n=50, test=40)
    path = save(tmp_path / "data.npz", parts)
    for split, images, labels in (("test", *parts[2:]), ("train", *parts[:2])):
        share = shares(model, images)
        result = done(capsys, "evaluate", model, "--data", path, "--split", split, "--batch-size", 7, "--json")
        confusion = np.zeros((3, 3), int)
        for true, said in zip(labels, share.argmax(axis=1), strict=True):
            confusion[true, said] += 1
        assert result["confusion"] == confusion.tolist() and result["images"] == len(labels) and result["split"] == split
        assert result["accuracy"] == np.trace(confusion) / len(labels) and "top5" not in result
        np.testing.assert_allclose(result["loss"], -np.log(share[np.arange(len(labels)), labels]).mean(), rtol=1e-5)
        assert result["classes"] == ["a", "b", "c"]
    output = done(capsys, "evaluate", model, "--data", path)
    wrong = np.array(done(capsys, "evaluate", model, "--data", path, "--json")["confusion"])
    np.fill_diagonal(wrong, 0)
    true, said = divmod(int(wrong.argmax()), 3)
    assert f"    {'abc'[true]} taken for {'abc'[said]}: {wrong.max()} of " in output.splitlines()[2]


def test_evaluate_top5_where_there_are_many_classes(tmp_path, capsys):
    names = [f"class {i}" for i in range(14)]
    model = save_model(tmp_path / "m.safetensors", fc.zoo.lenet5(14), {**GOOD, "classes": names})
    parts = arrays(n=28, test=42, classes=14)
    result = done(capsys, "evaluate", model, "--data", save(tmp_path / "d.npz", parts), "--json")
    best = np.argsort(-shares(model, parts[2]), axis=1)[:, :5]
    assert result["top5"] == np.mean([label in row for label, row in zip(parts[3], best, strict=True)])
    assert "top-5 accuracy" in done(capsys, "evaluate", model, "--data", tmp_path / "d.npz")


def test_evaluate_folders_by_the_names_of_their_classes(model, tmp_path, capsys):
    _, _, images, labels = arrays()
    expected = done(capsys, "evaluate", model, "--data", save(tmp_path / "d.npz", arrays()), "--json")
    folder = save_folder(tmp_path / "images", images, labels, ["a", "b", "c"])
    result = done(capsys, "evaluate", model, "--data", folder, "--json")
    assert result["confusion"] == expected["confusion"] and result["split"] == "all"
    only = [i for i in range(len(labels)) if labels[i] != 0]  # a folder need not have every class
    folder = save_folder(tmp_path / "some" / "val", images[only], labels[only], ["a", "b", "c"])
    save_folder(tmp_path / "some" / "train", images, labels, ["a", "b", "c"])
    result = done(capsys, "evaluate", model, "--data", tmp_path / "some", "--json")
    assert result["split"] == "validation" and result["confusion"] == [[0, 0, 0], *expected["confusion"][1:]]
    refused(capsys, 1, "has no test images", "evaluate", model, "--data", tmp_path / "some", "--split", "test")
    os.rename(tmp_path / "some" / "val" / "b", tmp_path / "some" / "val" / "d")
    refused(capsys, 1, "has a folder 'd', which is none of the 3 classes (a, b, c)", "evaluate", model, "--data",
            tmp_path / "some")


def test_evaluate_refuses_what_does_not_fit(model, tmp_path, capsys):
    refused(capsys, 2, "--data: which images? Without it the digits of MNIST are meant", "evaluate", model)
    path = save(tmp_path / "d.npz", arrays(shape=(26, 28)))
    refused(capsys, 1, "images of 26x28 with 1 channel(s): the model takes 28x28 with 1", "evaluate", model, "--data", path)
    path = save(tmp_path / "d.npz", arrays(shape=(28, 28, 3)))
    refused(capsys, 1, "with 3 channel(s): the model takes", "evaluate", model, "--data", path)


def test_the_confusions_of_a_broken_image_are_not_printed(model, tmp_path, capsys):
    _, _, images, labels = arrays()
    folder = save_folder(tmp_path / "images", images, labels, ["a", "b", "c"])
    Path(folder, "c", "zzz.png").write_bytes(b"broken")
    refused(capsys, 1, "zzz.png' is not an image that can be read", "evaluate", model, "--data", folder)
    refused(capsys, 1, "zzz.png' is not an image that can be read", "train", "lenet5", "--data", folder, "--out", tmp_path)
    assert call(capsys, "predict", model, folder)[1] == ""
