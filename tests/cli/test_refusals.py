"""Every command with bad input: one line, a non-zero exit code, nothing half-written."""

import os
import signal
import sys
from pathlib import Path

import pytest

import fastconv as fc
from cli.helpers import GOOD, arrays, call, command, refused, save, save_folder, save_model
from fastconv.train.files import load_model
from fastconv.train.files import save_model as save_arrays

COMMANDS = {
    "train": ("train", "lenet5", "--data", "{data}", "--out", "{out}", "--epochs", 1),
    "predict": ("predict", "{model}", "{image}"),
    "evaluate": ("evaluate", "{model}", "--data", "{data}"),
    "run": ("run", "{model}", "{image}"),
    "summary": ("summary", "{model}"),
    "convert": ("convert", "{model}", "{weights}", "--force"),
    "bench": ("bench", "{model}", "--seconds", "0.01"),
    "profile": ("profile", "{model}", "--rounds", 1),
    "tune": ("tune", "{model}", "--rounds", 1, "--save", "{choices}"),
}
MODELS = ("predict", "run", "evaluate", "summary", "convert", "bench", "profile", "tune")


class Place:
    """Good input for every command, in a folder whose contents are known."""

    def __init__(self, path):
        self.path = path
        (path / "out").mkdir()
        parts = arrays(classes=2)
        self.names = {"data": save(path / "data.npz", parts), "out": str(path / "out"),
                      "choices": str(path / "choices.json"), "weights": str(path / "weights.npz"),
                      "model": save_model(path / "model.safetensors", fc.zoo.lenet5(2), GOOD)}
        save_folder(path / "images", parts[2][:4], parts[3][:4], ["no", "yes"])
        self.names["image"] = str(path / "images" / "yes" / "0001.png")

    def command(self, name, **changes):
        names = {**self.names, **{key: str(value) for key, value in changes.items()}}
        return [str(part).format(**names) for part in COMMANDS[name]]

    def files(self):
        return sorted(str(p.relative_to(self.path)) for p in self.path.rglob("*"))


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_good_input(name, place, capsys):
    """What the other tests spoil works as it is."""
    assert call(capsys, *place.command(name))[0] == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_a_missing_file(name, place, capsys):
    before, missing = place.files(), place.path / "nothing"
    for key in ("model", "image", "data"):
        if f"{{{key}}}" in COMMANDS[name]:
            refused(capsys, 1, "No such file", *place.command(name, **{key: missing}))
    if name == "train":
        refused(capsys, 1, "No such file", *place.command(name), "--resume", missing)
    if name not in ("summary", "tune", "convert"):
        refused(capsys, 1, "No such file", *place.command(name), "--tuned", missing)
    assert place.files() == before


@pytest.mark.parametrize("name", COMMANDS)
def test_a_directory_for_a_file_and_a_file_for_a_directory(name, place, capsys):
    before, folder = place.files(), place.path / "out"
    if name == "train":
        refused(capsys, 1, "expected an .npz file, a folder with MNIST's four IDX files, or an image folder",
                *place.command(name, data=folder))
        refused(capsys, 2, "not a folder", *place.command(name, out=place.names["data"]))
        refused(capsys, 1, "it is a directory", *place.command(name), "--resume", folder)
    else:
        refused(capsys, 1, "it is a directory", *place.command(name, model=folder))
    if name == "predict":
        refused(capsys, 1, "no image in this folder", *place.command(name, image=folder))
    if name == "evaluate":
        refused(capsys, 1, "expected an .npz file", *place.command(name, data=folder))
    if name == "tune":
        refused(capsys, 2, "it is a folder, not a file", *place.command(name, choices=folder))
    if name not in ("summary", "tune", "convert"):
        refused(capsys, 1, "Is a directory", *place.command(name), "--tuned", folder)
    assert place.files() == before


@pytest.mark.parametrize("name", ["train", "predict", "evaluate"])
def test_a_broken_image(name, place, capsys):
    broken = place.path / "images" / "yes" / "0001.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    before = place.files()
    refused(capsys, 1, "0001.png' is not an image that can be read",
            *place.command(name, data=place.path / "images", image=broken))
    assert place.files() == before


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_another_version_and_what_is_none(name, place, capsys):
    model = Path(place.names["model"])
    whole = model.read_bytes()
    before = place.files()
    at = whole.index(b'"fastconv_format":"1"')
    model.write_bytes(whole[:at] + whole[at:].replace(b'"1"', b'"2"', 1))
    refused(capsys, 1, "format 2 is from a newer fastconv, this one reads up to 1", *place.command(name))
    model.write_bytes(whole[:-4])
    refused(capsys, 1, "truncated", *place.command(name))
    model.write_bytes(b"PK" + whole)
    refused(capsys, 1, "not a safetensors file", *place.command(name))
    model.write_bytes(b"")
    refused(capsys, 1, "truncated, 0 bytes", *place.command(name))
    model.write_bytes(whole)
    values, metadata = load_model(model)
    for text, message in (('{"name": "lenet6", "arguments": {}}', "expected one of alexnet"),
                          ('{"name": "lenet5", "arguments": {"depth": 3}}', "unexpected keyword argument 'depth'"),
                          ('{"name": "lenet5", "arguments": {"num_classes": 3}}', "has shape (2, 84): expected (3, 84)"),
                          ("{", "Expecting")):
        save_arrays(model, values, {**metadata, "network": text})
        refused(capsys, 1, message, *place.command(name))
    assert place.files() == before


@pytest.mark.parametrize("name", ["train", "tune"])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is a folder that nobody can write to on Linux alone")
def test_an_unwritable_output(name, place, capsys):
    before = place.files()
    refused(capsys, 2, "cannot write there", *place.command(name, out="/proc", choices="/proc/choices.json"))
    refused(capsys, 2, "no such folder" if name == "train" else "there is no folder",
            *place.command(name, out=place.path / "none", choices=place.path / "none" / "choices.json"))
    assert place.files() == before


@pytest.mark.parametrize(("name", "option", "value", "rule"), [
    *((name, "--threads", value, "must be") for name in COMMANDS if name not in ("summary", "convert")
      for value in ("0", "-1", "x", "1e3")),
    *((name, "--batch-size", value, "must be an integer of at least 1") for name in ("train", "evaluate", "summary", "bench",
                                                                                     "tune") for value in ("0", "1.5", "²")),
    *((name, "--input-size", value, "must be a size such as 224") for name in ("train", "summary", "bench", "tune")
      for value in ("0", "-3", "32x", "32x32x3", "99999")),
    ("train", "--epochs", "0", "must be an integer of at least 1"), ("train", "--epochs", "9" * 5000, "must be an integer"),
    ("train", "--lr", "nan", "must be a number above 0"), ("train", "--lr", "-1", "must be a number above 0"),
    ("train", "--lr", "inf", "must be a number above 0"), ("train", "--seed", "-1", "must be an integer from 0"),
    ("train", "--seed", "18446744073709551616", "must be an integer from 0"),
    ("train", "--augment", "blur", "invalid choice"),
    ("train", "--validation-split", "1", "between 0 and 1"), ("train", "--checkpoint-every", "0", "at least 1"),
    ("predict", "--top", "0", "at least 1"), ("evaluate", "--split", "all", "invalid choice"),
    ("bench", "--seconds", "0", "above 0"), ("bench", "--seconds", "1e9", "at most 3600"),
    ("tune", "--rounds", "0", "at least 1"),
    ("bench", "--precision", "float16", "invalid choice"), ("predict", "--threads", "100000", "--threads 100000: "),
])
def test_a_bad_number(name, option, value, rule, place, capsys):
    before = place.files()
    refused(capsys, 2, rule, *place.command(name), option, value)
    assert place.files() == before


@pytest.mark.parametrize(("arguments", "message"), [
    (["fly"], "invalid choice: 'fly'"),
    (["train"], "arguments are required: network"),
    (["predict", "m.safetensors"], "arguments are required: image"), (["evaluate"], "arguments are required: model"),
    (["summary"], "arguments are required: model"), (["bench", "--colour"], "unrecognized arguments: --colour"),
    (["bench", "--prec", "high"], "unrecognized arguments: --prec"), (["config", "extra"], "unrecognized arguments: extra"),
])
def test_wrong_usage(arguments, message, capsys):
    refused(capsys, 2, message, *arguments)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", [n for n in COMMANDS if n != "train"])
def test_a_signal(name, number, place, capsys, monkeypatch):
    """Where a command does its work; the training's own are in test_resume.py."""
    from fastconv.engine import tune
    from fastconv.engine.engine import Engine
    from fastconv.interop import native
    from fastconv.measure import race
    from fastconv.report import summary

    before = place.files()

    def stop(*arguments, **keywords):
        os.kill(os.getpid(), number)
        raise AssertionError("the signal was not delivered")

    where = {"summary": (summary, "summary"), "tune": (tune, "measure"), "bench": (race, "run"),
             "convert": (native, "save"), "profile": (Engine, "profile")}
    monkeypatch.setattr(*where.get(name, (Engine, "__call__")), stop)
    code, output, error = call(capsys, *place.command(name))
    assert (code, output) == ((130, "") if number == signal.SIGINT else (143, ""))
    assert error == f"fastconv {name}: {'interrupted' if number == signal.SIGINT else 'terminated'}\n"
    assert place.files() == before
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_while_a_file_is_written(place, capsys, monkeypatch):
    """SIGTERM would end the process where it is: the temporary file goes, and an old file stays."""
    choices = Path(place.names["choices"])
    choices.write_text('{"fastconv_choices": 1, "entries": {}}')
    before, content = place.files(), choices.read_text()
    monkeypatch.setattr(os, "fsync", lambda descriptor: os.kill(os.getpid(), signal.SIGTERM))
    assert call(capsys, *place.command("tune"))[0] == 143
    assert place.files() == before and choices.read_text() == content


@pytest.mark.parametrize("name", [*COMMANDS, "config"])
def test_debug_shows_where(name, place):
    if name == "config":
        pytest.skip("config reads nothing that could be wrong")
    missing = {"model": place.path / "none", "data": place.path / "none.npz"}
    ran = command(*place.command(name, **missing), "--debug")
    assert ran.returncode == 1 and ran.stderr.startswith("Traceback") and "FileNotFoundError" in ran.stderr


def test_a_reader_that_goes_away(place):
    code = ("import os, sys\nfrom fastconv.cli import main\nread, write = os.pipe()\nos.close(read)\nos.dup2(write, 1)\n"
            "sys.exit(main(sys.argv[1:]))")
    ran = command("summary", "resnet18", code=code)
    assert ran.returncode == 1 and ran.stderr == ""
