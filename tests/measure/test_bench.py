"""The benchmarks run and write what they promise; no test looks at a time."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from math import prod
from pathlib import Path

import numpy as np
import pytest

from fastconv.bench import accuracy, goals, groups, networks, shapes
from fastconv.bench.goals import IMPOSSIBLE, MET, MISSED, UNMEASURED
from fastconv.bench.variants import PASSES
from fastconv.measure import timing
from fastconv.measure.peers import Peer, environment

ROOT = Path(__file__).resolve().parents[2]
VERDICTS = (MET, MISSED, UNMEASURED, IMPOSSIBLE)

INPUT = {"lenet5": (1, 1, 32, 32)}
ZOO = {"lenet5": "lenet5", "alexnet": "alexnet", "vgg16": "vgg16", "resnet50": "resnet50", "mobilenet": "mobilenet_v1"}
QUICK = ("--quick", "--peers", "none", "--batch", "1")


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_conv_writes_everything(tmp_path):
    target = tmp_path / "conv.json"
    done = run("conv", *QUICK, "--shapes", "lenet5", "--algorithms", "all", "--threads", "1", "--json", str(target))
    assert done.returncode == 0, done.stderr
    content = json.loads(target.read_text())
    assert (content["benchmark"], content["format"]) == ("conv", 1)
    assert content["options"]["rounds"] == 3 and "--quick" in content["command"]
    assert {"cpu", "cores", "isa", "versions", "commit", "date", "environment"} <= content["machine"].keys()
    assert content["machine"]["environment"][0]["fastconv"]["OMP_NUM_THREADS"] == "1"
    assert content["bandwidths"]["1"].keys() == {f"{level} {kind}" for level in ("L1", "L2", "L3", "memory")
                                                 for kind in ("read", "copy")}
    assert min(content["bandwidths"]["1"].values()) > 0
    results = content["results"]
    assert [(r["layer"], r["pass"]) for r in results] == [
        ("conv1", "forward"), ("conv2", "forward"), ("conv2", "backward_data"), ("conv1", "backward_weight"),
        ("conv2", "backward_weight")]
    for r in results:
        ours = {case["variant"]: case["info"] for case in r["cases"]}
        assert {"direct", "im2col"} <= ours.keys() and r["default"] in ours
        assert [name for name, info in ours.items() if info["default"]] == [r["default"]] == list(r["defaults"].values())
        assert all(len(case["seconds"]) == 3 and min(case["seconds"]) > 0 for case in r["cases"])
        assert len(r["peak_seconds"]) == 3 and r["peak_gflops"] > 0 and r["peaks_gflops"]["peak"] == r["peak_gflops"]
        assert r["ratio"] is None and r["ratios"] == {} and r["difference"] < 1e-3
        assert all(case["gflops"] > 0 and case["share_of_peak"] > 0 for case in r["cases"])
    assert results[0]["flops"] == 2 * 6 * 28 * 28 * 25 and results[0]["nbytes"] == 4 * (32 * 32 + 6 * 25 + 6 * 28 * 28)
    assert results[1]["flops"] == results[2]["flops"] == 2 * 16 * 10 * 10 * 6 * 25
    assert "direct" in done.stdout and "FMA peak" in done.stdout and "[5/5]" in done.stderr
    assert "Goals" not in done.stdout  # those of other shapes are not this run's
    assert {g["verdict"] for g in content["goals"]} <= set(VERDICTS)


def test_end_to_end_and_named_algorithms(tmp_path):
    target = tmp_path / "conv.json"
    done = run("conv", *QUICK, "--shapes", "lenet5/conv2", "--threads", "2", "--passes", "forward",
               "--end-to-end", "--algorithms", "im2col", "--isa", "portable", "--json", str(target))
    assert done.returncode == 0, done.stderr
    content = json.loads(target.read_text())
    assert content["machine"]["isa"] == "portable" and len(content["results"]) == 1
    assert "im2col" in {case["variant"] for case in content["results"][0]["cases"]}
    assert "NCHW in, NCHW out" in done.stdout


@pytest.mark.parametrize("name", ["dilated.1d", "ecg", "groups3", "r2plus1d.time", "same4x4", "up3x3", "hifigan", "up.3d",
                                  "speech.position"])
def test_every_kind_of_convolution_against_pytorch(name, tmp_path):
    pytest.importorskip("torch", reason="compares with PyTorch")
    target = tmp_path / "conv.json"
    done = run("conv", "--quick", "--rounds", "1", "--seconds", "0.0001", "--peers", "torch", "--batch", "1", "--shapes",
               f"odd/{name}", "--threads", "1", "--precision", "highest,high", "--json", str(target))
    assert done.returncode == 0, done.stderr
    content = json.loads(target.read_text())
    assert [r["pass"] for r in content["results"]] == list(PASSES) and content["failures"] == []
    for r in content["results"]:
        assert r["difference"] < 1e-3 and r["ratio"]["peer"] == "torch" and set(r["defaults"]) == {"highest", "high"}
        torch = {case["variant"] for case in r["cases"] if case["peer"] == "torch"}
        assert torch == {"contiguous", "channels_last", *(["packed"] if r["pass"] == "forward" else [])}
        assert all(case["ratio"] > 0 for case in r["cases"] if case["peer"] == "fastconv")


@pytest.mark.parametrize("peer", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", ["dilated.1d", "groups3", "same4x4", "up3x3", "up.3d"])
def test_every_kind_of_convolution_against_models(name, peer, tmp_path):
    pytest.importorskip("onnx", reason="makes the model")
    pytest.importorskip(peer, reason="compares with it")
    target = tmp_path / "conv.json"
    done = run("conv", "--quick", "--rounds", "1", "--seconds", "0.0001", "--peers", peer, "--batch", "1", "--shapes",
               f"odd/{name}", "--threads", "1", "--passes", "forward", "--json", str(target))
    assert done.returncode == 0, done.stderr
    content = json.loads(target.read_text())
    (result,) = content["results"]
    assert content["failures"] == [] and list(result["ratios"]) == [peer] and result["difference"] < 1e-3


def test_pictures_and_goals_of_several_runs(tmp_path):
    pytest.importorskip("matplotlib", reason="draws pictures")
    pytest.importorskip("torch", reason="draws ratios")
    files = []
    for number in (1, 2):
        files.append(str(tmp_path / f"{number}.json"))
        done = run("conv", "--quick", "--peers", "torch", "--batch", "1", "--shapes", "lenet5,odd/17->33", "--slice",
                   f"{number}/2", "--threads", "1", "--passes", "forward,backward_data", "--json", files[-1])
        assert done.returncode == 0, done.stderr
    pictures = [tmp_path / "roofline.png", tmp_path / "bars.png"]
    done = run("goals", *files, "--json", str(tmp_path / "all.json"), "--picture", str(pictures[0]), "--bars",
               str(pictures[1]), "--markdown", str(tmp_path / "tables.md"))
    assert done.returncode == 0, done.stderr
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)
    table = (tmp_path / "tables.md").read_text()
    assert "| forward | odd " in table.replace("  ", "") and "depthwise 3x3" in table
    content = json.loads((tmp_path / "all.json").read_text())
    assert sorted((r["layer"], r["pass"]) for r in content["results"]) == [
        ("17->33", "backward_data"), ("17->33", "forward"), ("conv1", "forward"), ("conv2", "backward_data"),
        ("conv2", "forward")]
    odd = [g for g in content["goals"] if g["goal"] == "odd: PyTorch's time by ours, every shape"]
    assert [(g["shapes"], g["worst"], g["setting"].split(",")[0]) for g in odd] == [
        (1, "odd/17->33", "forward"), (1, "odd/17->33", "backward_data")]
    assert all(g["verdict"] == (MET if g["measured"] >= 0.9 else MISSED) for g in odd)
    (tmp_path / "broken.json").write_text("{}")
    done = run("goals", files[0], str(tmp_path / "broken.json"))
    assert done.returncode == 1 and "broken.json': not what" in done.stderr and "Traceback" not in done.stderr


def test_accuracy(tmp_path):
    done = run("accuracy", "--quick", "--peers", "none", "--passes", "forward,backward_weight", "--data", "normal,relu",
               "--markdown", str(tmp_path / "a.md"), "--json", str(tmp_path / "a.json"))
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "a.json").read_text())
    rows = accuracy.flat(content["results"])
    assert {(r["length"], r["pass"]) for r in rows} == {(9, "forward"), (576, "forward"), (256, "backward_weight")}
    at = {(r["who"], r["length"]): r for r in rows if r["pass"] == "forward" and r["data"] == "normal"}
    assert 1e-8 < at["direct", 576]["l2"] < 1e-6 and at["direct", 576]["l2"] < at["direct", 576]["largest"]
    chain, tf32, bf16 = (at[who, 576]["l2"] for who in (accuracy.YARDSTICK, "TF32 operands, exact sums", accuracy.BFLOAT16))
    assert 1e-7 < chain < 1e-6 and 2e-4 < tf32 < 4e-4 and 7 < bf16 / tf32 < 9
    assert {(k["pass"], k["data"]) for k in content["promises"]} == {
        (which, data) for which in ("forward", "backward_weight") for data in ("normal", "relu")}
    assert (tmp_path / "a.md").read_text().count("relative L2 error") == 4


@pytest.mark.parametrize("benchmark, work", [("infer", networks.LENET5_MULTIPLY_ADDS),
                                             ("train", networks.LENET5_TRAINING_MULTIPLY_ADDS)])
def test_lenet(tmp_path, benchmark, work):
    target = tmp_path / "lenet.json"
    done = run(benchmark, "--quick", "--batch", "2", "--peers", "none", "--threads", "1", "--json", str(target))
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(target.read_text())["results"]
    assert (result["batch"], result["threads"], result["flops"]) == (2, 1, 2 * 2 * work)
    assert [case["peer"] for case in result["cases"]] == ["fastconv"] and result["ratios"] == {}
    assert len(result["cases"][0]["seconds"]) == 3 and result["peak_gflops"] > 0


@pytest.mark.parametrize("arguments, message", [
    (["conv", "--shapes", "lenet6"], "lenet6"),
    (["conv", "--shapes", "lenet5/conv9"], "its layers are conv1, conv2"),
    (["conv", "--shapes", "lenet5", "--group", "depthwise"], "nothing is selected"),
    (["conv", "--group", "even"], "expected some of figures"),
    (["conv", "--passes", "sideways"], "sideways"),
    (["conv", "--algorithms", "guessing"], "guessing"),
    (["conv", "--precision", "highest,low"], "expected some of highest, high, medium"),
    (["conv", "--slice", "3/2"], "1 <= I <= N"),
    (["conv", "--slice", "half"], "1 <= I <= N"),
    (["conv", "--sample", "0"], "at least 1"),
    (["conv", "--seconds", "nan"], "seconds above 0"),
    (["conv", "--rounds", "-1"], "at least 1"),
    (["conv", "--picture", "roofline.gif"], "must end in .png"),
    (["accuracy", "--data", "zeros"], "normal, relu"),
    (["infer", "--threads", "0"], "at least 1"),
    (["train", "--batch", "x"], "at least 1"),
    (["train", "--peers", "tensorflow"], "tensorflow"),
])
def test_wrong_arguments_are_named(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("network", ZOO)
def test_shapes_are_those_of_the_zoo(network, monkeypatch):
    from fastconv import nn, zoo
    from fastconv.graph.trace import trace

    class Small(nn.Linear):  # without 120 million initial values that no convolution sees
        def __init__(self, *features):
            super().__init__(1, 1)

        def forward(self, x):
            return x

    monkeypatch.setattr(nn, "Linear", Small)
    net = zoo.create(ZOO[network])
    graph, _ = trace(net.symbolic(False), [(INPUT.get(network, (1, 3, 224, 224)), "input")])
    found = Counter()
    for node in graph.nodes:
        if node.op.name == "conv":
            x, w = node.inputs[0].shape, node.inputs[1].shape
            a = node.attrs
            c = shapes.Conv(network, "", 1, x[1], x[2:], w[0], w[2:], tuple(a["stride"]), tuple(map(tuple, a["padding"])),
                            tuple(a["dilation"]), a["groups"], False, (0, 0))
            found[c.problem] += 1
            assert c.output == node.output.shape[2:] and c.weight_shape == w
    assert found == {c.problem: c.count for c in networks.NETWORKS[network]}


@pytest.mark.parametrize("network, published, other", [
    ("googlenet", 6_998_552, 1024 * 1000 + 1000),  # without the two auxiliary classifiers; the last layer
    ("unet", 31_030_593, -2 * 64 * 9 - 64 - 1),    # for one channel and one class, where the table has 3 and 2
    ("unet3d", 19_069_955, -512 - 256 - 128),      # the paper's; up-convolutions have no bias
])
def test_networks_that_the_zoo_lacks_have_the_published_number_of_parameters(network, published, other):
    table = networks.NETWORKS[network]
    assert sum(c.count * (prod(c.weight_shape) + c.filters) for c in table) + other == published


def test_outputs_of_the_table_are_those_of_the_operators():
    from fastconv import functional as F

    for c in networks.NETWORKS["odd"] + networks.NETWORKS["wavenet"][:3] + networks.NETWORKS["unet3d"][-4:]:
        if c.multiply_adds(1) < 2e8:
            x, w = np.zeros(c.input_shape(1), np.float32), np.zeros(c.weight_shape, np.float32)
            options = {"stride": c.stride, "dilation": c.dilation, "groups": c.groups}
            if c.transposed:
                options |= {"padding": [p[0] for p in c.padding], "output_padding": c.output_padding}
            else:
                options["padding"] = list(c.padding)
            call = getattr(F, f"conv{'_transpose' if c.transposed else ''}{c.dims}d")
            assert call(x, w, **options).shape == c.output_shape(1), c


def test_selection():
    figures = groups.select(list(networks.NETWORKS), ["figures"])
    assert {c.network for c in figures} == set(networks.FIGURES)
    parts = [groups.select(list(networks.NETWORKS), ["figures"], part=(i, 7)) for i in range(1, 8)]
    assert sorted(c for p in parts for c in p) == sorted(figures) and max(map(len, parts)) - min(map(len, parts)) <= 1
    work = [c.multiply_adds(1) for c in groups.select(["resnet50", "odd"], sample=5)]
    everything = [c.multiply_adds(1) for n in ("resnet50", "odd") for c in networks.NETWORKS[n]]
    assert len(work) == 5 and work == sorted(work) and (work[0], work[-1]) == (min(everything), max(everything))
    assert len(groups.select(["lenet5"], sample=9)) == 2 and len(groups.select(["lenet5"], sample=1)) == 1
    for name in groups.GROUPS:
        assert groups.select(list(networks.NETWORKS), [name])
    assert all(c.kernel == (3, 3) and c.dims == 2 and c.groups == 1 for c in groups.select(list(networks.NETWORKS), ["3x3"]))
    twice = shapes.merged([figures[0], figures[1], figures[0]._replace(layer="again", count=2)])
    assert twice == [figures[0]._replace(count=figures[0].count + 2), figures[1]]
    assert shapes.from_json(json.loads(json.dumps(list(figures[0])))) == figures[0]


def row(network, layer, which="forward", batch=16, isa="avx512", torch=None, **seconds):
    """A row as bench conv writes it; variants by name, "_" before a tile, the first one the default; the peak is 100."""
    c = next(c for c in networks.NETWORKS[network] if c.layer == layer)
    cases = []
    for name, t in seconds.items():
        algorithm, _, tile = name.partition("_")
        cases.append({"peer": "fastconv", "variant": name.replace("_", " "), "median_seconds": t, "gflops": 100 / t,
                      "share_of_peak": 1 / t, **({"ratio": torch / t} if torch else {}),
                      "info": {"algorithm": algorithm, "precision": "highest", "tile": tile or None}})
    return {"network": network, "layer": layer, "pass": which, "batch": batch, "threads": 1, "isa": isa, "conv": list(c),
            "cases": cases, "defaults": {"highest": cases[0]["variant"]}, "peaks_gflops": {"peak": 100.0}}


def judged(rows, text):
    return [g for g in goals.evaluate(rows) if g["goal"].startswith(text)]


def test_goals():
    one, two = row("vgg16", "conv3_1", direct=1.25, winograd_2x2=0.5), row("vgg16", "conv4_1", direct=1.0, winograd_4x4=0.5)
    (direct,) = judged([one, two], "direct on AVX512, C*R*S >= 256, batch 16")
    assert direct["measured"] == pytest.approx((0.8 * 1.0) ** 0.5) and direct["verdict"] == MISSED  # 0.894 of 0.90
    assert (direct["shapes"], direct["least"], direct["worst"]) == (2, 0.8, "vgg16/conv3_1")
    assert judged([one], "direct on AVX512, C*R*S >= 256, batch 1:")[0]["verdict"] == UNMEASURED
    (two_by_two,), (four_by_four,) = (judged([one, two], f"Winograd F({n}x{n})") for n in (2, 4))
    assert (two_by_two["measured"], two_by_two["shapes"], two_by_two["verdict"]) == (2.5, 1, MET)
    assert (four_by_four["measured"], four_by_four["verdict"]) == (2.0, MET)
    assert judged([one], "highest on AMX")[0]["verdict"] == IMPOSSIBLE
    (amx,) = judged([row("vgg16", "conv3_1", isa="amx", amx=0.5)], "highest on AMX")
    assert (amx["measured"], amx["verdict"]) == (2.0, MET)
    shallow = row("vgg16", "conv1_1", direct=0.5)
    assert judged([shallow], "direct on AVX512, C*R*S >= 256, batch 16")[0]["verdict"] == UNMEASURED
    backward = row("vgg16", "conv3_1", "backward_data", direct=2.0)
    (rate,) = judged([one, backward], "backward to data")
    assert rate["measured"] == pytest.approx(1.25 / 2.0) and rate["verdict"] == MISSED
    assert judged([backward], "backward to data")[0]["verdict"] == UNMEASURED
    ours = [row("unet", "up0", torch=1.5, direct=1.0), row("alexnet", "conv1", torch=0.99, direct=1.0)]
    (every,), (mean,) = judged(ours, "figures: PyTorch"), judged(ours, "figures on AVX-512")
    assert (every["measured"], every["worst"], every["verdict"]) == (0.99, "alexnet/conv1", MISSED)
    assert mean["measured"] == pytest.approx((1.5 * 0.99) ** 0.5) and mean["verdict"] == MISSED
    for name, text, value in (("up3x3", "odd: PyTorch's time by ours", 2.0), ("depthwise.100", "depthwise 3x3", 2.0)):
        assert {g["verdict"] for g in judged([row("odd", name, torch=value, direct=1.0)], text)} == {MET}
        assert MISSED in {g["verdict"] for g in judged([row("odd", name, torch=value - 0.7, direct=1.0)], text)}


def test_yardsticks_of_accuracy():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((5, 40), np.float32), rng.standard_normal((40, 3), np.float32)
    chain = np.zeros((5, 3), np.float32)
    for i in range(5):
        for j in range(3):
            for k in range(40):  # one rounding of the exact sum, by fractions
                exact = Fraction(float(chain[i, j])) + Fraction(float(a[i, k])) * Fraction(float(b[k, j]))
                near = np.float32(float(exact))
                options = (np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf)))
                chain[i, j] = min(options, key=lambda v: abs(Fraction(float(v)) - exact))
    np.testing.assert_array_equal(accuracy.fma_chain(a, b), chain)
    one = np.array([1.0, 1 + 2**-10, 1 + 2**-11, 1 + 3 * 2**-11, -(1 + 2**-11 + 2**-20), 2.0**20 + 1], np.float32)
    np.testing.assert_array_equal(accuracy.rounded(one, 10), [1, 1 + 2**-10, 1, 1 + 2**-9, -(1 + 2**-10), 2**20])
    found = accuracy.errors(np.array([1.0, 3.0]), np.array([1.0, 2.0]))
    assert found["l2"] == pytest.approx(1 / 5**0.5) and found["largest"] == pytest.approx(1 / 2.5**0.5)


@pytest.mark.parametrize("which", PASSES)
def test_passes_as_matrix_products(which):
    import reference

    c = shapes.conv("", "", 1, 3, 6, 4, 3, 1, 1)
    job = {"conv": list(c), "pass": which, "data": "normal"}
    x, w, gy = accuracy.operands(job)
    expected = {"forward": lambda: reference.conv(x, w, padding=1),
                "backward_data": lambda: reference.conv_backward_data(x.shape, w, gy, padding=1),
                "backward_weight": lambda: reference.conv_backward_weight(x, w.shape, gy, padding=1)}[which]()
    np.testing.assert_allclose(accuracy.exactly(job), accuracy.as_product(job, expected), rtol=1e-12, atol=1e-12)


def test_work_of_lenet():
    forward = sum(c.multiply_adds(1) for c in networks.NETWORKS["lenet5"]) + 400 * 120 + 120 * 84 + 84 * 10
    assert forward == networks.LENET5_MULTIPLY_ADDS


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
    tiny = np.abs(right) / np.abs(right).max() * 1e-6
    assert timing.check_agreement("x", [("a", timing.digest(tiny)), ("b", timing.digest(tiny + 1e-7))]) < 1e-3
    for one, other in ((tiny, tiny + 2e-6), (-tiny, -tiny - 1e-7)):
        with pytest.raises(timing.Disagreement):
            timing.check_agreement("x", [("a", timing.digest(one)), ("b", timing.digest(other))])


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
        peer.input.write("nobody reads this")
    assert peer.process.returncode is not None
