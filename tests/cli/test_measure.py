"""``fastconv summary``, ``bench``, ``tune`` and ``config``."""

import importlib.util
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from cli.helpers import command, done, refused, save_model, started
from fastconv.measure import subject
from fastconv.measure.peers import missing


def test_config(capsys):
    lines = done(capsys, "config").splitlines()
    said = {line[:15].strip(): line[17:] for line in lines}
    assert list(said) == ["fastconv", "processor", "instruction set", "available", "not available", "OpenMP", "threads",
                          "BLAS"]
    facts = done(capsys, "config", "--json")
    assert facts["fastconv"] == fc.__version__ and facts["isa"] in facts["isa_available"]
    assert not set(facts["isa_available"]) & set(facts["isa_lacking"])
    assert said["threads"] == f"{fc.get_num_threads()} ({facts['threads_reason']})"
    assert facts["processor"] in said["processor"] and all(size in said["processor"] for size in facts["caches"].values())
    if facts["blas"]:
        assert facts["blas"]["symbol"] in said["BLAS"] and f"{facts['blas']['integer_bits']}-bit integers" in said["BLAS"]
    for runtime in facts["openmp_runtimes"]:
        assert runtime["file"] in said["OpenMP"]
    for name, reason in facts["isa_lacking"].items():
        assert f"{name}: {reason}" in said["not available"]


def test_config_says_where_the_threads_came_from(monkeypatch):
    environment = {"OMP_NUM_THREADS": "3", "FASTCONV_ISA": "portable", "FASTCONV_BLAS": "none"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    text = command("config").stdout
    assert "3 (OMP_NUM_THREADS)" in text and "portable: FASTCONV_ISA=portable" in text and "BLAS             none: " in text


def test_summary(tmp_path, capsys):
    result = done(capsys, "summary", "lenet5", "--batch-size", 3, "--json")
    assert result.pop("model") == "lenet5"
    assert result == json.loads(fc.summary(fc.zoo.lenet5(), (3, 1, 32, 32)).json())
    model = save_model(tmp_path / "m.safetensors")
    assert done(capsys, "summary", model) == str(fc.summary(fc.zoo.lenet5(2), (1, 1, 32, 32))) + "\n"
    assert done(capsys, "summary", "resnet18", "--input-size", "64x32", "--json")["input_shapes"] == [[1, 3, 64, 32]]
    refused(capsys, 2, "--input-size 28x28: lenet5 takes 32x32 alone", "summary", "lenet5", "--input-size", 28)
    refused(capsys, 1, "output would be empty", "summary", "alexnet", "--input-size", 8)


def test_bench(tmp_path, capsys):
    result = done(capsys, "bench", "--json", "--batch-size", 2, "--threads", 1, "--seconds", 0.01, "--profile")
    assert result["model"] == "lenet5" and result["input"] == [2, 1, 32, 32] and result["threads"] == 1
    assert result["images_per_second"] == pytest.approx(2000 / result["milliseconds"]) and result["rounds"] == 7
    assert result["mode"] == "inference" and result["peers"] == {} and result["share_of_peak"] > 0
    assert {"cpu", "caches", "isa_available", "versions"} <= result["machine"].keys()
    assert result["profile"]["batch"] == 2 and len(result["profile"]["steps"]) > 5
    model = save_model(tmp_path / "m.safetensors")
    output = done(capsys, "bench", model, "--seconds", 0.01, "--profile", "--precision", "high")
    assert output.startswith(f"{model}, input 1x1x32x32: ") and "why\n" in output
    output = done(capsys, "bench", model, "--seconds", 0.01, "--training", "--isa", "portable", "--memory")
    assert output.startswith(f"{model} training step, input 1x1x32x32: ") and " MB" in output and ", portable, " in output


@pytest.mark.parametrize("peer", ["torch", "onnxruntime", "openvino"])
def test_bench_against(peer, capsys):
    if lacking := missing(peer):
        pytest.skip(f"{', '.join(lacking)} not installed")
    for network in ("lenet5", "mobilenet_v2", "resnet18"):
        size = [] if network == "lenet5" else ["--input-size", 64]
        result = done(capsys, "bench", network, *size, "--against", peer, "--seconds", 0.02, "--threads", 1, "--json")
        [(name, other)] = result["peers"].items()
        assert name.startswith(f"{peer} ") and other["ratio"] > 0 and other["rounds"] == 7


def test_bench_notices_a_peer_that_computes_something_else(capsys, monkeypatch):
    name = a_peer()
    describe = subject.describe

    def other(graph, names, weights):
        made = describe(graph, names, weights)
        weights["w0"] = np.ascontiguousarray(weights["w0"][::-1])
        return made

    monkeypatch.setattr(subject, "describe", other)
    refused(capsys, 1, f"lenet5, inference: {name}", "bench", "lenet5", "--against", name, "--seconds", 0.01)


def a_peer():
    name = next((n for n in ("torch", "onnxruntime", "openvino") if not missing(n)), None)
    if name is None:
        pytest.skip("no peer is installed")
    return name


def peers_of(parent):
    """The processes of peers that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state = path.read_text().rpartition(")")[2].split()
            if int(state[1]) == parent and b"fastconv.measure.peers" in path.with_name("cmdline").read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


@pytest.mark.skipif(not os.path.exists("/proc/self/cmdline"), reason="the processes are found in /proc, which is Linux's")
def test_ctrl_c_ends_the_peers_too():
    """Ctrl-C goes to the whole group: one line all the same, and no process is left."""
    name = a_peer()
    process = started("bench", "lenet5", "--against", name, "--seconds", 3000, start_new_session=True)
    try:
        while not (children := peers_of(process.pid)):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        time.sleep(1)  # wherever it is then
        os.killpg(process.pid, signal.SIGINT)
        output, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, output, error) == (130, "", "fastconv bench: interrupted\n")
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_bench_says_what_a_peer_does_not_know(capsys, monkeypatch):
    name = a_peer()
    describe = subject.describe

    def other(graph, names, weights):
        nodes, trainable = describe(graph, names, weights)
        nodes[1]["op"] = "unheard_of"
        return nodes, trainable

    monkeypatch.setattr(subject, "describe", other)
    said = f"--against {name if name == 'torch' else 'onnx'}: Unsupported: '1': the operator unheard_of with "
    refused(capsys, 1, said, "bench", "lenet5", "--against", name, "--seconds", 0.01)


def test_a_peer_that_is_missing(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "openvino" else n == "onnx" or find(n, *a))
    refused(capsys, 1, "openvino not installed: pip install openvino (in fastconv's source tree: pip install '.[bench]')",
            "bench", "lenet5", "--against", "openvino")
    refused(capsys, 2, "'tensorflow' must be some of torch,onnxruntime,openvino", "bench", "--against", "tensorflow")


def test_tune(tmp_path, capsys):
    path = tmp_path / "choices.json"
    result = done(capsys, "tune", "lenet5", "--save", path, "--rounds", 1, "--json")
    choices = fc.Choices.load(path)
    assert {row["problem"] for row in result["problems"]} == set(choices) and len(choices) >= 2
    for row in result["problems"]:
        assert choices.entries[row["problem"]]["algorithm"] == row["algorithm"]
        assert all(ms >= row["milliseconds"] for ms in row["others"].values())
    before = set(choices)
    output = done(capsys, "tune", "lenet5", "--save", path, "--rounds", 1, "--batch-size", 3)
    assert output.splitlines()[-1].endswith(f"saved {path}") and before < set(fc.Choices.load(path))
    engine = fc.compile(fc.zoo.lenet5(), (1, 1, 32, 32), algorithm=choices)
    assert {s.algorithm for s in engine.steps() if s.op == "conv" and s.multiply_adds} <= \
        {row["algorithm"] for row in result["problems"]}
    done(capsys, "bench", "lenet5", "--tuned", path, "--seconds", 0.01)
    refused(capsys, 2, "arguments are required: --save", "tune", "lenet5")
    path.write_text("{}")
    refused(capsys, 1, "is not a file of choices", "tune", "lenet5", "--save", path)
    refused(capsys, 1, "is not a file of choices", "bench", "lenet5", "--tuned", path)
    assert path.read_text() == "{}"


def test_a_model_may_have_the_name_of_a_benchmark(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model.safetensors")
    os.rename("model.safetensors", "infer")
    assert done(capsys, "bench", "./infer", "--seconds", 0.01, "--json")["model"] == "./infer"
    assert done(capsys, "bench", "infer", "--quick", "--peers", "none", "--threads", 1, "--json")["benchmark"] == "infer"
    refused(capsys, 2, "conv: a benchmark's name comes first", "bench", "--seconds", 1, "conv")


def test_what_a_benchmark_reads_is_not_written(tmp_path, capsys):
    (tmp_path / "part.json").write_text("{}")
    refused(capsys, 2, "it is one of the files that are read", "bench", "report", tmp_path / "none.json",
            tmp_path / "x" / ".." / "part.json", "--json", tmp_path / "part.json")
    assert (tmp_path / "part.json").read_text() == "{}"


def test_help_is_complete():
    """Every command and option has a help text, and help imports nothing heavy."""
    from fastconv.cli import COMMANDS, parser

    [commands] = [a for a in parser()._actions if hasattr(a, "choices") and a.dest == "command"]
    assert tuple(commands.choices) == COMMANDS
    for name, command_parser in commands.choices.items():
        assert command_parser.description, name
        for action in command_parser._actions:
            if action.dest not in ("help", "images"):
                assert action.help, f"{name} {action.dest}"
    code = "import sys; from fastconv.cli import parser; parser().format_help(); print('numpy' in sys.modules)"
    assert command(code=code).stdout == "False\n"
    text = command("--help").stdout
    for words in ("Exit codes: 0 done; 1 bad data", "130", "143", *COMMANDS):
        assert words in text
