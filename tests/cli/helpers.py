"""What the tests of the commands share: data whose classes can be told apart, and calls within and outside this process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv.cli import main

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; from fastconv.cli import main; sys.exit(main(sys.argv[1:]))"
WITHOUT = "import sys; sys.modules[{!r}] = None; " + MAIN[len("import sys; "):]
GOOD = {"mean": [0.5], "std": [0.5], "size": [28, 28], "pad": [2, 2], "classes": ["no", "yes"]}


def arrays(n=48, test=16, shape=(28, 28), classes=3):
    """Images whose class is where their light is."""
    rng = np.random.default_rng(0)
    parts = []
    for count in (n, test):
        y = np.arange(count) % classes
        x = rng.integers(0, 60, (count, *shape), np.uint8)
        band = shape[0] // classes
        for i, c in enumerate(y):
            x[i, band * c: band * c + max(1, band - 2)] += 150
        parts += [x, y]
    return parts


def save(path, parts):
    np.savez(path, **dict(zip(("x_train", "y_train", "x_test", "y_test"), parts, strict=True)))
    return str(path)


def save_folder(path, images, labels, names):
    """An image folder, a PNG per image."""
    image = pytest.importorskip("PIL.Image")
    for i, (x, y) in enumerate(zip(images, labels, strict=True)):
        target = Path(path, names[y], f"{i:04}.png")
        target.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(x).save(target)
    return str(path)


def save_model(path, network=None, preprocessing=GOOD):
    """An untrained model file."""
    fc.manual_seed(0)
    fc.train.save(network or fc.zoo.lenet5(2), path, preprocessing)
    return str(path)


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def command(*arguments, code=MAIN, cwd=ROOT):
    """The command in a process of its own; ``code=None``: as python -m fastconv."""
    return subprocess.run([sys.executable, *(["-m", "fastconv"] if code is None else ["-c", code]), *map(str, arguments)],
                          capture_output=True, text=True, env=environment(), cwd=cwd, timeout=300)


def started(*arguments, **keywords):
    return subprocess.Popen([sys.executable, "-m", "fastconv", *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=environment(), cwd=ROOT, **keywords)


def call(capsys, *arguments):
    """(exit code, stdout, stderr) of the command within this process."""
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def benchmark(arguments):
    """The exit code of ``fastconv bench`` within this process."""
    return main(["bench", *map(str, arguments)])


def done(capsys, *arguments):
    """What a command that succeeds prints; its JSON where that was asked for."""
    code, output, error = call(capsys, *arguments)
    assert code == 0, error
    return json.loads(output) if "--json" in arguments else output


def refused(capsys, code, message, *arguments):
    got, output, error = call(capsys, *arguments)
    assert got == code and output == "", (got, output, error)
    assert error.count("\n") == 1 and error.startswith("fastconv") and "error: " in error, error
    assert message in error
