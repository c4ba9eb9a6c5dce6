"""The benchmarks run and write what they promise; no test looks at a time."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from bench import shapes, timing  # noqa: E402
from bench.peers import Peer, environment  # noqa: E402

INPUT = {"lenet5": (1, 1, 32, 32)}
ZOO = {"mobilenet": "mobilenet_v1"}


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_conv_writes_everything(tmp_path):
    target = tmp_path / "deep" / "conv.json"
    done = run("conv", "--quick", "--shapes", "lenet5", "--peers", "none", "--threads", "1", "--json", str(target))
    assert done.returncode == 0, done.stderr
    content = json.loads(target.read_text())
    assert (content["benchmark"], content["format"]) == ("conv", 1)
    assert content["options"]["rounds"] == 3 and "--quick" in content["command"]
    assert {"cpu", "cores", "isa", "versions", "commit", "date", "environment"} <= content["machine"].keys()
    assert content["machine"]["environment"][0]["fastconv"]["OMP_NUM_THREADS"] == "1"
    results = content["results"]
    assert [(r["layer"], r["pass"]) for r in results] == [
        ("conv1", "forward"), ("conv2", "forward"), ("conv2", "backward_data"), ("conv1", "backward_weight"),
        ("conv2", "backward_weight")]
    for r in results:
        assert {case["variant"] for case in r["cases"]} == {"direct", "im2col"}
        assert r["default"] in ("direct", "im2col")
        assert [case["info"]["default"] for case in r["cases"]].count(True) == 1
        assert all(len(case["seconds"]) == 3 and min(case["seconds"]) > 0 for case in r["cases"])
        assert len(r["peak_seconds"]) == 3 and r["peak_gflops"] > 0
        assert r["ratio"] is None and r["difference"] < 1e-3
        assert all(case["gflops"] > 0 and case["share_of_peak"] > 0 for case in r["cases"])
    assert results[0]["flops"] == 2 * 6 * 28 * 28 * 25
    assert results[1]["flops"] == results[2]["flops"] == 2 * 16 * 10 * 10 * 6 * 25
    assert "direct" in done.stdout and "FMA peak" in done.stdout and "[5/5]" in done.stderr


def test_end_to_end_and_named_algorithms(tmp_path):
    target = tmp_path / "conv.json"
    done = run("conv", "--quick", "--shapes", "lenet5/conv2", "--peers", "none", "--threads", "2", "--passes", "forward",
               "--end-to-end", "--algorithms", "im2col", "--isa", "portable", "--json", str(target))
    assert done.returncode == 0, done.stderr
    content = json.loads(target.read_text())
    assert content["machine"]["isa"] == "portable" and len(content["results"]) == 1
    assert "im2col" in {case["variant"] for case in content["results"][0]["cases"]}
    assert "NCHW in, NCHW out" in done.stdout


@pytest.mark.parametrize("benchmark, work", [("infer", shapes.LENET5_MULTIPLY_ADDS),
                                             ("train", shapes.LENET5_TRAINING_MULTIPLY_ADDS)])
def test_lenet(tmp_path, benchmark, work):
    target = tmp_path / "lenet.json"
    done = run(benchmark, "--quick", "--batch", "2", "--peers", "none", "--threads", "1", "--json", str(target))
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(target.read_text())["results"]
    assert (result["batch"], result["threads"], result["flops"]) == (2, 1, 2 * 2 * work)
    assert [case["peer"] for case in result["cases"]] == ["fastconv"] and result["ratios"] == []
    assert len(result["cases"][0]["seconds"]) == 3 and result["peak_gflops"] > 0


@pytest.mark.parametrize("arguments, message", [
    (["conv", "--shapes", "lenet6"], "lenet6"),
    (["conv", "--shapes", "lenet5/conv9"], "its layers are conv1, conv2"),
    (["conv", "--passes", "sideways"], "sideways"),
    (["infer", "--threads", "0"], "at least 1"),
    (["train", "--peers", "tensorflow"], "tensorflow"),
])
def test_wrong_arguments_are_named(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("network", shapes.NETWORKS)
def test_shapes_are_those_of_the_zoo(network, monkeypatch):
    from fastconv import nn, zoo
    from fastconv.graph.trace import trace

    class Small(nn.Linear):  # without 120 million initial values that no convolution sees
        def __init__(self, *features):
            super().__init__(1, 1)

        def forward(self, x):
            return x

    monkeypatch.setattr(nn, "Linear", Small)
    net = zoo.create(ZOO.get(network, network))
    graph, _ = trace(net.symbolic(False), [(INPUT.get(network, (1, 3, 224, 224)), "input")])
    found = Counter()
    for node in graph.nodes:
        if node.op.name == "conv":
            x, w = node.inputs[0].shape, node.inputs[1].shape
            stride, padding = node.attrs["stride"], node.attrs["padding"]
            assert x[2] == x[3] and w[2] == w[3] and stride[0] == stride[1]
            assert len({p for pair in padding for p in pair}) == 1
            found[(x[1], x[2], w[0], w[2], stride[0], padding[0][0], node.attrs["groups"])] += 1
            assert shapes.Conv("", "", 1, *list(found)[-1]).output == node.output.shape[2]
    assert found == {tuple(c[3:]): c.count for c in shapes.NETWORKS[network]}


def test_work_of_lenet():
    forward = sum(c.multiply_adds(1) for c in shapes.NETWORKS["lenet5"]) + 400 * 120 + 120 * 84 + 84 * 10
    assert forward == shapes.LENET5_MULTIPLY_ADDS


def test_statistics():
    ours = timing.Measurement("fastconv", "a", {}, [1.0, 2.0, 4.0])
    slow, fast = (timing.Measurement("torch", n, {}, t) for n, t in (("s", [9.0, 9.0, 9.0]), ("f", [3.0, 4.0, 20.0])))
    assert timing.best([slow, fast]) is fast and timing.best([]) is None
    found = timing.ratio(ours, fast)
    assert found["pairs"] == [3.0, 2.0, 5.0] and found["ratio"] == 3.0
    assert found["spread"] == pytest.approx((4.0 - 2.5) / 3.0)
    assert timing.geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    peak = timing.Measurement("fastconv", "peak", {"flops": 100.0}, [1.0, 3.0, 2.0])
    assert timing.share_of_peak(ours, 50.0, peak) == pytest.approx(0.25)
    assert len(timing.noise_lines([found], [peak])) == 2
    assert not timing.noise_lines([{"spread": 0.1}], [slow])


def test_outputs_that_differ_are_refused():
    right = np.arange(12.0).reshape(3, 4)
    wrong = right.copy()
    wrong[1, 2] += 0.1
    same = [("a", timing.digest(right)), ("b", timing.digest(right + 1e-6))]
    assert 0 < timing.check_agreement("x", same) < 1e-6
    with pytest.raises(RuntimeError, match="x: b and a differ"):
        timing.check_agreement("x", [same[0], ("b", timing.digest(wrong))])
    with pytest.raises(RuntimeError, match="shapes"):
        timing.check_agreement("x", [same[0], ("b", timing.digest(right.T))])
    with pytest.raises(RuntimeError, match="differ"):
        timing.check_agreement("x", [same[0], ("b", timing.digest(right * np.nan))])


def test_everyone_gets_the_same_threads_and_cap():
    variables = environment(3, "avx2")
    assert variables["OMP_NUM_THREADS"] == "3" and variables["FASTCONV_ISA"] == "avx2"
    assert variables["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert "FASTCONV_ISA" not in environment(1, None)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP") or not os.path.isdir("/proc/self"), reason="needs SIGSTOP and /proc")
def test_peer_is_stopped_between_questions_and_tells_its_errors():
    def state():
        return Path(f"/proc/{peer.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]

    with Peer("fastconv", 1) as peer:
        assert peer.ask(do="hello")["pid"] == peer.process.pid
        assert state() == "T"
        with pytest.raises(RuntimeError, match="KeyError.*nothing"):
            peer.ask(do="time", variant="nothing", seconds=0.1)
        assert peer.ask(do="release") == {}
        os.kill(peer.process.pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="process of fastconv ended"):
            peer.ask(do="hello")
    assert peer.process.returncode is not None
