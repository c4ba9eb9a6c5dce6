"""Whatever surrounds a command: optimised Python, a stderr that is none, terminals that lack letters, names of all kinds."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from cli.helpers import GOOD, MAIN, ROOT, arrays, call, done, environment, save, save_folder, save_model
from cli.test_refusals import COMMANDS
from fastconv._text import lenient, note, on_terminal, printable
from fastconv.train.progress import progress

EVIL = ["a\x1b]0;owned\x07\x1b[31m", "b\nfake.png: cat (99.9 %)", "c\u202egnp.exe\u2066"]  # a title, a line, a turn


@pytest.fixture
def evil(tmp_path):
    """A model whose classes are named so."""
    return save_model(tmp_path / "evil.safetensors", fc.zoo.lenet5(3), {**GOOD, "classes": EVIL})


def tame(text):
    return all(c.isprintable() or c == "\n" for c in text)


# --- text ---------------------------------------------------------------------------------------------------------------


def test_printable():
    for kept in ("", "cat", "Über 猫 кот قطة 🐈", "a b\u00a0c\u3000d", "می\u200cخواهم", "👩\u200d🔬", "'\"\\"):
        assert printable(kept) == kept
    for code in [*range(32), *range(127, 160), 0x61C, 0x200B, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A),
                 0xFEFF, 0xDC80, 0xDCFF, 0xD800, 0xE0041]:
        shown = printable(f"a{chr(code)}b")
        assert shown.isprintable() and shown.encode("utf-8") and shown[0] == "a" and shown[-1] == "b" and "\\" in shown


class Strange:
    """A stream as tests and services put in stderr's place."""

    def write(self, text):
        return len(text)


def _closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("make", [lambda: None, Strange, _closed, object])
def test_a_training_needs_no_stderr(monkeypatch, make):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 1, 32, 32), np.float32), np.arange(8) % 2
    trainer = fc.Trainer(fc.zoo.lenet5(2), fc.nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.01))
    monkeypatch.setattr(sys, "stderr", make())
    monkeypatch.setenv("FASTCONV_VERBOSE", "1")
    for verbose in (None, True, False):
        trainer.fit((x, y), 1, verbose=verbose)
    with progress(range(3), "bar") as bar:
        assert list(bar) == [0, 1, 2]
    note("gone")
    assert not on_terminal(sys.stderr)
    monkeypatch.undo()
    assert trainer.epoch == 3


@pytest.mark.parametrize("make", [lambda: None, Strange, _closed, object])
def test_lenient_takes_any_stream(make):
    with lenient(make()):
        pass


def test_lenient_restores(tmp_path):
    with open(tmp_path / "a", "w", encoding="ascii") as file:
        with lenient(file):
            file.write("é\udcff")
        assert file.errors == "strict"
        with pytest.raises(UnicodeEncodeError):
            file.write("é")
    assert (tmp_path / "a").read_text() == "\\xe9\\udcff"


# --- names from files ---------------------------------------------------------------------------------------------------


def test_class_names_from_files_move_no_cursor(evil, tmp_path, capsys):
    _, _, images, labels = arrays()
    data = save(tmp_path / "data.npz", arrays())
    folder = Path(save_folder(tmp_path / "images", images[:3], labels[:3], ["x", "y", "z"]))
    paths = sorted(map(str, folder.rglob("*.png")))
    lines = done(capsys, "predict", evil, *paths, "--top", 3)
    assert len(lines.splitlines()) == 3 and tame(lines)
    assert all(shown in lines for shown in ("\\x1b[31m", "\\nfake", "\\u202e"))
    shown = done(capsys, "evaluate", evil, "--data", data)
    assert tame(shown) and "taken for" in shown
    rows = done(capsys, "predict", evil, *paths, "--top", 3, "--json")["predictions"]
    assert {best["class"] for row in rows for best in row["top"]} == set(EVIL)
    assert done(capsys, "evaluate", evil, "--data", data, "--json")["classes"] == EVIL
    code, _, error = call(capsys, "evaluate", evil, "--data", folder)
    assert code == 1 and error.count("\n") == 1 and tame(error) and "none of the 3 classes" in error
    shown = done(capsys, "summary", evil)
    assert tame(shown.replace("\t", " "))


@pytest.mark.parametrize("field, value", [("network", {"name": "\x1b[2Jlenet5", "arguments": {}}),
                                          ("network", {"name": "lenet5", "arguments": {"\x1b[2J": 1}}),
                                          ("preprocessing", {**GOOD, "size": "\x1b[2J\n"})])
def test_errors_about_model_files_are_one_tame_line(tmp_path, capsys, field, value):
    net = fc.zoo.lenet5(2)
    metadata = {"network": json.dumps({"name": "lenet5", "arguments": {"num_classes": 2}}),
                "preprocessing": json.dumps(GOOD), field: json.dumps(value)}
    for more in ({}, {"\x1b[2J\nname": np.zeros(3, np.float32)}):
        fc.train.save_model(tmp_path / "a", {**net.state_dict(), **more}, metadata)
        code, _, error = call(capsys, "predict", tmp_path / "a", tmp_path / "x.png")
        assert code == 1 and error.count("\n") == 1 and tame(error), error


def _run(arguments, cwd, **more):
    return subprocess.run([sys.executable, *arguments], capture_output=True, env={**environment(), **more}, cwd=cwd,
                          timeout=300)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "ascii:strict", "latin-1"])
def test_names_that_a_terminal_cannot_show(tmp_path, encoding):
    """Undecodable and foreign names of files, classes and folders, through train, predict and evaluate."""
    odd = os.fsdecode(b"k\xff\xfe") + "\u732b"
    _, _, images, labels = arrays(test=24)
    data = save_folder(tmp_path / f"data{odd}", images, labels, [f"a{odd}", "b", "c"])
    out = tmp_path / f"out{odd}"
    out.mkdir()
    where = {"PYTHONIOENCODING": encoding}
    ran = _run(["-m", "fastconv", "train", "lenet5", "--data", data, "--input-size", "32", "--epochs", "1", "--batch-size",
                "8", "--out", out], ROOT, **where)
    assert ran.returncode == 0 and b"saved " in ran.stdout and b"Traceback" not in ran.stderr, ran.stderr
    model = out / "lenet5.safetensors"
    assert fc.load(model).preprocessing["classes"] == [f"a{odd}", "b", "c"]
    image = sorted(Path(data, f"a{odd}").iterdir())[0]
    shutil.copy(image, tmp_path / f"{odd}.png")
    for words in (["predict", model, tmp_path / f"{odd}.png", "--top", "3"], ["evaluate", model, "--data", data]):
        ran = _run(["-m", "fastconv", *words], ROOT, **where)
        assert ran.returncode == 0 and b"\\udcff" in ran.stdout and not ran.stderr, ran
        ran = _run(["-m", "fastconv", *words, "--json"], ROOT, **where)
        assert ran.returncode == 0 and odd in json.dumps(json.loads(ran.stdout), ensure_ascii=False)
    ran = _run(["-m", "fastconv", "predict", model, tmp_path / f"lost{odd}"], ROOT, **where)
    assert ran.returncode == 1 and ran.stderr.count(b"\n") == 1 and b"Traceback" not in ran.stderr


# --- optimised Python ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*COMMANDS, "config", "--help", "bench conv --help", "train --help"])
def test_without_docstrings_and_assertions(tmp_path, name):
    from cli.test_refusals import Place

    words = Place(tmp_path).command(name) if name in COMMANDS else name.split()
    ran = _run(["-OO", "-c", MAIN, *map(str, words)], ROOT)
    assert ran.returncode == 0 and b"Traceback" not in ran.stderr and ran.stdout, ran.stderr


# --- how the camera was held ----------------------------------------------------------------------------------------------


def test_train_predict_and_evaluate_agree_on_the_orientation(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    exif = image.Exif()
    exif[274] = 6
    for name in ("up", "turned"):
        for label, half in (("left", np.s_[:, :8]), ("right", np.s_[:, 8:])):
            for i in range(12):
                picture = np.random.default_rng(i).integers(0, 90, (16, 16), np.uint8)
                picture[half] += 150
                target = tmp_path / name / label / f"{i}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                stored = np.rot90(picture, 1) if name == "turned" else picture  # as a camera held aside stores it
                image.fromarray(np.ascontiguousarray(stored)).save(target, exif=exif if name == "turned" else image.Exif())
    models = {}
    for name, option in (("up", ()), ("turned", ()), ("turned", ("--no-exif",)), ("up", ("--exif",))):
        out = tmp_path / f"out-{name}{len(option)}"
        out.mkdir()
        done(capsys, "train", "lenet5", "--data", tmp_path / name, "--input-size", 32, "--epochs", 1, "--batch-size", 8,
             "--out", out, *option)
        models[(name, *option)] = out / "lenet5.safetensors"
    weights = {key: fc.load(path).state_dict() for key, path in models.items()}
    for key, same in ((("turned",), True), (("up", "--exif"), True), (("turned", "--no-exif"), False)):
        assert all(np.array_equal(weights["up",][n], weights[key][n]) for n in weights[key]) is same
    assert fc.load(models["up",]).preprocessing["apply_exif_orientation"] is True
    assert fc.load(models["turned", "--no-exif"]).preprocessing["apply_exif_orientation"] is False
    for command in ("evaluate", "predict"):
        def said(model, name, *options, command=command):
            where = ("--data", tmp_path / name) if command == "evaluate" else (tmp_path / name,)
            got = done(capsys, command, model, *where, *options, "--json")
            return got["loss"] if command == "evaluate" else [row["probability"] for row in got["predictions"]]

        upright, stored = models["up",], models["turned", "--no-exif"]
        assert said(upright, "up") == said(upright, "turned") == said(upright, "up", "--no-exif")
        assert said(upright, "turned", "--no-exif") != said(upright, "turned")
        assert said(stored, "turned") == said(stored, "turned", "--no-exif") != said(stored, "turned", "--exif")
    code, _, error = call(capsys, "train", "lenet5", "--no-exif", "--resume", models["up",])
    assert code == 1 and "not a checkpoint" in error
