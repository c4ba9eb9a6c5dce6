"""What holds for every command and every option, as the parser lists them: a new one is tested from its first day.

What single commands say to what is wrong with them alone is in test_refusals.py.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types

import pytest

import fastconv as fc
from cli.helpers import ROOT, call, command, environment, refused
from cli.test_refusals import COMMANDS, Place
from fastconv import cli
from fastconv.cli import _Signals, parser
from fastconv.cli._completion import SHELLS

QUICK = ("--peers", "none", "--threads", "1", "--quick", "--rounds", "1", "--seconds", "0.0005")
NETWORK = ("--networks", "lenet5", "--batch", "1")
BENCHMARKS = {
    "bench conv": ("bench", "conv", "--shapes", "lenet5/conv1", "--batch", "1", "--passes", "forward", *QUICK),
    "bench goals": ("bench", "goals", "{conv}"),
    "bench accuracy": ("bench", "accuracy", "--passes", "forward", "--algorithms", "direct", "--precision",
                       "highest", *QUICK),
    "bench nets": ("bench", "nets", "--modes", "inference", *NETWORK, *QUICK),
    "bench infer": ("bench", "infer", *QUICK),
    "bench train": ("bench", "train", "--batch", "2", *QUICK),
    "bench overhead": ("bench", "overhead", *NETWORK, *QUICK),
    "bench memory": ("bench", "memory", "--modes", "inference", *NETWORK, *QUICK[:4]),
    "bench report": ("bench", "report", "{nets}"),
}
GOOD = {**COMMANDS, "config": ("config",), **BENCHMARKS}
PARSERS = next(action.choices for action in parser()._actions if action.dest == "command")
PARSERS = {**PARSERS, **{f"bench {name}": sub.filled() for name, sub in PARSERS["bench"].commands.items()}}
# where a process is started for each: of the benchmarks, which are run by one function, two
APART = [name for name in PARSERS if name not in BENCHMARKS or name in ("bench conv", "bench infer")]
NUMBERS = {"whole", "seed", "positive", "share", "extent", "duration", "part"}
LISTS = {"counts", "threads"}  # numbers, with commas between
GARBAGE = ("", "x", "-1", "0x", "nan", "inf", "-inf", "1e999", "1.5.2", "²", "9" * 400, "1 2", "\0", "½", "None", "1,5")

PROGRESS = ("epoch ", "[")

# says when main() listens to signals, and when it has done its work
LISTENING = """
import os, signal, sys
import fastconv.cli as cli
enter = cli._Signals.__enter__
def entered(signals):
    enter(signals)
    try:
        return signals
    finally:
        print("begin", flush=True)
cli._Signals.__enter__ = entered
cli._Signals.restore = lambda *_: [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)] and None
code = cli.main(sys.argv[1:])
print("" if code else "end", flush=True)
sys.stderr.flush()
os._exit(code)
"""

# what a text option of a command is: something to read, something to write, or a word
READS, WRITES, WORDS = "reads", "writes", "words"
ROLES = {
    ("train", "network"): WORDS, ("train", "data"): READS, ("train", "out"): WRITES, ("train", "resume"): READS,
    ("train", "init"): READS,
    ("train", "tuned"): READS, ("predict", "model"): READS, ("predict", "images"): READS, ("predict", "tuned"): READS,
    ("evaluate", "model"): READS, ("evaluate", "data"): READS, ("evaluate", "tuned"): READS, ("summary", "model"): READS,
    ("bench", "model"): READS, ("bench", "tuned"): READS, ("bench", "against"): WORDS, ("tune", "model"): READS,
    ("run", "model"): READS, ("run", "inputs"): READS, ("run", "labels"): READS, ("run", "output"): WORDS,
    ("run", "tuned"): READS, ("run", "scale"): WORDS, ("run", "mean"): WORDS,
    ("run", "std"): WORDS, ("convert", "source"): READS, ("convert", "target"): WORDS, ("convert", "network"): WORDS,
    ("profile", "model"): READS, ("profile", "tuned"): READS,
    ("tune", "save"): WRITES, ("bench", "compare"): WORDS,  # two files: tests/measure/test_bench_compare.py
    **{(name, "json"): WRITES for name in BENCHMARKS}, **{(name, "peers"): WORDS for name in BENCHMARKS},
    **{(name, "markdown"): WRITES for name in BENCHMARKS}, **{(name, "picture"): WRITES for name in BENCHMARKS},
    **{(name, dest): WORDS for name in BENCHMARKS for dest in ("networks", "modes", "passes", "algorithms")},
    **{(name, "bars"): WRITES for name in ("bench conv", "bench goals")},
    **{("bench conv", dest): WORDS for dest in ("shapes", "group", "precision")},
    **{("bench accuracy", dest): WORDS for dest in ("precision", "data")},
    ("bench memory", "wheel"): READS, ("bench goals", "files"): READS, ("bench report", "files"): READS,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What the benchmarks that read files are given."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("conv", "nets"):
        assert cli.main([*GOOD[f"bench {name}"], "--json", str(folder / f"{name}.json")]) == 0
    return {name: str(folder / f"{name}.json") for name in ("conv", "nets")}


@pytest.fixture
def place(tmp_path, runs):
    made = Place(tmp_path)
    made.names |= runs
    return made


def arguments(sub):
    return [action for action in sub._actions if not isinstance(action, argparse._SubParsersAction)]


def options(kind):
    """(command, action) of all arguments of a kind."""
    found = []
    for name, sub in PARSERS.items():
        for action in arguments(sub):
            role = kind_of(action)
            if kind == role or role == "text" and kind == ROLES.get((name, action.dest)):
                found.append((name, action))
    return found


def kind_of(action):
    if action.nargs == 0:
        return "switch"
    if action.choices is not None:
        return "choice"
    return "number" if getattr(action.type, "__name__", "") in NUMBERS | LISTS else "text"


def ids(found):
    return [f"{name} {(action.option_strings or [action.dest])[-1]}" for name, action in found]


def each(kind):
    found = options(kind)
    assert found
    return pytest.mark.parametrize(("name", "action"), found, ids=ids(found))


def given(place, name, action, value):
    """A good command line with one argument replaced or added."""
    words = [str(word) for word in GOOD[name]]
    if action.option_strings:
        option = action.option_strings[-1]
        if option in words:
            words[words.index(option) + 1] = "{value}"
            return [word.format(**place.names, value=value) for word in words]
        return [word.format(**place.names) for word in words] + [f"{option}={value}"]
    position = len(name.split()) + [a.dest for a in arguments(PARSERS[name]) if not a.option_strings].index(action.dest)
    words[position] = "{value}"
    return [word.format(**place.names, value=value) for word in words]


def test_no_command_and_no_option_escapes():
    assert set(GOOD) == set(PARSERS), "a command without a good command line in test_refusals.COMMANDS"
    texts = {(name, action.dest) for name, sub in PARSERS.items() for action in arguments(sub)
             if kind_of(action) == "text"}
    assert texts <= set(ROLES), "ROLES says what each text argument is"


@pytest.mark.parametrize("name", PARSERS)
def test_json(name, place, capfd):
    """One object on stdout and nothing else, also from C; standard JSON: no NaN, no infinity."""
    words = [str(word).format(**place.names) for word in GOOD[name]]
    code, output, error = call(capfd, *words, "--json")
    assert code == 0 and output.count("\n") == 1

    def no(constant):
        raise AssertionError(constant)

    assert isinstance(json.loads(output, parse_constant=no), dict)
    assert "Traceback" not in error


@pytest.mark.parametrize("name", PARSERS)
def test_help(name, capsys):
    """Each argument is described."""
    code, output, error = call(capsys, *name.split(), "--help")
    assert code == 0 and error == "" and f"fastconv {name}" in output
    assert all(action.help for action in arguments(PARSERS[name]))
    assert {"--json", "--debug"} <= set(PARSERS[name]._option_string_actions)


@each("number")
def test_numbers(name, action, place, capsys):
    before = place.files()
    for value in GARBAGE:
        if value != "1,5" or action.type.__name__ not in LISTS:
            refused(capsys, 2, (action.option_strings or [action.dest])[-1], *given(place, name, action, value))
    assert place.files() == before


@each("choice")
def test_choices(name, action, place, capsys):
    for value in ("", "x", next(iter(action.choices)) + " "):
        refused(capsys, 2, "invalid choice", *given(place, name, action, value))


@each(READS)
def test_what_is_read(name, action, place, capsys):
    """Nothing there, an empty file, a folder, a link to itself, a pipe that nobody writes, a device without end, garbage."""
    folder = place.path / "nothing"
    folder.mkdir()
    strange = {"missing": place.path / "none", "through a file": place.path / "data.npz" / "x",
               "empty": place.path / "empty",
               "folder": folder, "loop": place.path / "loop", "pipe": place.path / "pipe", "device": "/dev/zero",
               "garbage": place.path / "garbage", "null": "/dev/null", "long": "x" * 5000, "odd": "\udcff\n'\"%s{}"}
    strange["empty"].write_bytes(b"")
    strange["loop"].symlink_to("loop")
    strange["garbage"].write_bytes(os.urandom(5000))
    os.mkfifo(strange["pipe"])
    before = place.files()
    for value in strange.values():
        refused(capsys, 1, "", *given(place, name, action, value))
    assert place.files() == before


@each(WRITES)
def test_what_is_written(name, action, place, capsys):
    into = (lambda folder: folder) if action.metavar == "DIR" else (lambda folder: folder / "file.json")
    before = place.files()
    for folder in (place.path / "none", place.path / "data.npz", place.path / "none" / ".." / "x"):
        refused(capsys, 2, (action.option_strings or [action.dest])[-1], *given(place, name, action, into(folder)))
    if os.path.isdir("/proc"):
        refused(capsys, 2, "cannot write there", *given(place, name, action, into(place.path.__class__("/proc"))))
    assert place.files() == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0 and shutil.which("setpriv") is None,
                    reason="root writes everywhere, and there is no setpriv to be somebody else")
@each(WRITES)
def test_a_folder_without_permission(name, action, place, tmp_path_factory):
    """As another user where the tests run as root."""
    folder = tmp_path_factory.mktemp("theirs")
    folder.chmod(0o500)
    into = folder if action.metavar == "DIR" else folder / "file.json"
    code = "import sys; from fastconv.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, *given(place, name, action, into)]
    if os.geteuid() == 0:
        words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *words]
    ran = subprocess.run(words, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=120)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1) and "cannot write there" in ran.stderr
    assert os.listdir(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("name", APART)
def test_signals(name, delay, number, place):
    """Real ones, early, amid the imports and in the work; a command may have been done before."""
    before = place.files()
    words = [str(word).format(**place.names) for word in GOOD[name]]
    if name == "train":
        words[words.index("--epochs") + 1] = "100000"
    process = subprocess.Popen([sys.executable, "-c", LISTENING, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env=environment(), cwd=ROOT)
    try:
        assert process.stdout.readline() == "begin\n"
        time.sleep(delay)
        process.send_signal(number)
        output, error = process.communicate(timeout=120)
    finally:
        process.kill()
    lines = [line for line in error.splitlines() if not line.startswith(PROGRESS)]
    if process.returncode == 0 or output.endswith("end\n"):
        assert name != "train" and not lines
        return
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], error
    word = "interrupted" if number == signal.SIGINT else "terminated"
    early = [f"fastconv: {word}"]  # it is not yet known which command it will be
    assert lines == early or len(lines) == 1 and lines[0].startswith(f"fastconv {name}: {word}"), error
    left = set(place.files()) - set(before)
    assert left <= {os.path.join("out", "lenet5.checkpoint")}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_one_begins_to_listen(number, monkeypatch, capsys):
    before, enter = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)], _Signals.__enter__

    def entered(signals):
        enter(signals)
        os.kill(os.getpid(), number)
        time.sleep(30)

    monkeypatch.setattr(_Signals, "__enter__", entered)
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert call(capsys, "config") == (128 + number, "", f"fastconv: {word}\n")
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_swallowed_is_not_lost(number, monkeypatch, capsys):
    """By C code that clears errors while something is imported, say: the command stops at its next step."""
    def run(arguments):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            time.sleep(30)

    monkeypatch.setattr("fastconv.cli.config.run", run)
    assert cli.main(["config"]) == 128 + number
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert capsys.readouterr().err == f"fastconv config: {word}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_a_finalizer_is_not_lost(number):
    """Whose exceptions the interpreter drops: the signal comes again."""
    class Late:
        def __del__(self):
            os.kill(os.getpid(), number)
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt), _Signals() as signals:
        Late()
        time.sleep(30)
    assert signals.received == number and sys.unraisablehook != signals._ignored


@pytest.mark.parametrize("name", APART)
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_output_that_cannot_be_written(name, place):
    words = [str(word).format(**place.names) for word in GOOD[name]]
    with open("/dev/full", "w") as full:
        ran = subprocess.run([sys.executable, "-m", "fastconv", *words, "--json"], stdout=full, stderr=subprocess.PIPE,
                             text=True, env=environment(), cwd=ROOT, timeout=120)
    lines = [line for line in ran.stderr.splitlines() if not line.startswith(PROGRESS)]
    assert ran.returncode == 1 and lines == [f"fastconv {name}: error: [Errno 28] No space left on device"]


@pytest.mark.parametrize("closed", ["sys.stdout", "sys.stderr"])
def test_closed_streams(closed):
    """Whoever closes stderr gets no error on stdout instead, and without stdout nothing fails."""
    number = {"sys.stdout": 1, "sys.stderr": 2}[closed]
    code = f"import os, sys; os.close({number}); os.execv(sys.executable, [sys.executable, '-m', 'fastconv', *sys.argv[1:]])"
    ran = command("summary", "lenet5" if number == 1 else "no such model", code=code)
    assert ran.stdout == "" and ran.stderr == "" and ran.returncode == (0 if number == 1 else 1)


def test_out_of_memory(capsys, place, monkeypatch):
    for name in ("bench", "tune"):
        refused(capsys, 1, "more than the", *place.command(name), "--batch-size", 2**31 - 1)
    monkeypatch.setattr(fc.engine.engine.Engine, "__init__", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    refused(capsys, 1, "error: out of memory", *place.command("tune"))


# ---- completion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_scripts(shell, capsys):
    pytest.importorskip("shtab")
    code, script, error = call(capsys, "--print-completion", shell)
    assert code == 0 and error == "" and all(name.split()[-1] in script for name in PARSERS)
    assert all(name in script for name in fc.zoo.NETWORKS)
    if shutil.which(shell) and shell != "tcsh":
        assert subprocess.run([shell, "-n"], input=script, text=True, capture_output=True).returncode == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(("words", "expected"), [
    (("tr",), ["train"]), (("train", "res"), ["resnet101", "resnet18", "resnet34", "resnet50"]),
    (("bench", "--precision", "m"), ["medium"]), (("bench", "ove"), ["overhead"]),
    (("bench", "vgg1"), ["vgg11", "vgg13", "vgg16", "vgg19"]), (("bench", "resnet18", "--profi"), ["--profile"]),
    (("summary", "len"), ["lenet5"]), (("tune", "mobilenet_v"), ["mobilenet_v1", "mobilenet_v2"]),
    (("bench", "infer", "--isa", "p"), ["portable"]), (("bench", "report", "lice"), ["license.txt"]),
    (("train", "--checkpoint-e"), ["--checkpoint-every"]),
    (("predict", "lice"), ["license.txt"]), (("summary", "lice"), ["license.txt"]), (("tune", "x", "--save", "lice"),
                                                                                     ["license.txt"]),
    (("train", "lenet5", "--out", "fol"), ["folder"])])
def test_completion_in_bash(words, expected, tmp_path, capsys):
    pytest.importorskip("shtab")
    (tmp_path / "license.txt").write_text("")
    (tmp_path / "folder").mkdir()
    script = tmp_path / "script"
    script.write_text(call(capsys, "--print-completion", "bash")[1])
    ask = f"source {script}; COMP_WORDS=(fastconv {' '.join(words)}); COMP_CWORD={len(words)}; _shtab_fastconv; " \
          "printf '%s\\n' \"${COMPREPLY[@]}\""
    ran = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, cwd=tmp_path)
    assert sorted(ran.stdout.split()) == expected, ran.stderr


def test_completion_without_shtab(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    code, output, error = call(capsys, "--print-completion", "bash")
    assert (code, output) == (1, "") and "pip install shtab (in " in error and error.count("\n") == 1
    refused(capsys, 2, "invalid choice: 'csh'", "--print-completion", "csh")
    monkeypatch.setitem(sys.modules, "shtab", types.SimpleNamespace(SUPPORTED_SHELLS=["bash"], __version__="1.5"))
    refused(capsys, 1, "shtab 1.5 does not know it", "--print-completion", "fish")


def test_no_command_prints_the_help(capsys):
    code, output, error = call(capsys)
    assert code == 0 and error == "" and all(name in output for name in cli.COMMANDS)


@pytest.mark.parametrize("words", [("train", "lenet5", "--optimizer", "adam"), ("bench", "conv", "--nonsense"), ("predict",),
                                   ("bench", "lenet5", "--nonsense"), ("summary", "lenet5", "more"),
                                   ("--nonsense", "train")])
def test_wrong_options_point_to_the_help_that_has_them(words, capsys):
    name = " ".join(words[:2] if words[1:2] == ("conv",) else words[:1] if words[0] in cli.COMMANDS else ("train",))
    refused(capsys, 2, f"(see fastconv {name} --help)", *words)
