"""The choice of algorithms: by the cost model, by name, by measurement; what profile() and FASTCONV_VERBOSE say of it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from fastconv._atomic import check_writable
from fastconv.functional import conv2d, conv2d_backward_data
from fastconv.kernels.cpu import cpu
from fastconv.ops.conv import choose
from fastconv.ops.conv.problem import Problem
from fastconv.report.profile import times

SHAPE = (2, 8, 12, 11)


def network():
    fc.manual_seed(1)
    return nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 1),
                         nn.Conv2d(24, 24, 3, groups=24, padding=1))


@pytest.fixture
def x():
    return np.random.default_rng(3).standard_normal(SHAPE, dtype=np.float32)


def problem(x, w, stride=1, padding=0, groups=1, dilation=1):
    attrs = {"stride": (stride,) * 2, "padding": ((padding, padding),) * 2, "dilation": (dilation,) * 2, "groups": groups}
    out = tuple((s + 2 * padding - dilation * (r - 1) - 1) // stride + 1 for s, r in zip(x[2:], w[2:], strict=True))
    return Problem(x, w, (x[0], w[0], *out), attrs)


PROBLEMS = [problem((4, 3, 32, 32), (16, 3, 5, 5)), problem((1, 64, 14, 14), (64, 64, 3, 3), padding=1),
            problem((2, 32, 7, 7), (32, 1, 3, 3), groups=32), problem((2, 32, 7, 7), (8, 32, 1, 1)),
            problem((2, 6, 17, 17), (8, 3, 3, 3), stride=2, groups=2), problem((1, 4, 64, 64), (4, 4, 21, 21), padding=10)]


@pytest.mark.parametrize("which", choose.PASSES)
@pytest.mark.parametrize("p", PROBLEMS, ids=Problem.key)
def test_every_candidate_has_a_cost_and_keeps_the_promise(p, which):
    rank = choose.PRECISIONS.index
    for precision in choose.PRECISIONS:
        found = choose.candidates(which, p, precision)
        assert "direct" in [c.algorithm.name for c in found]
        assert all(np.isfinite(c.cycles) and c.cycles > 0 for c in found)
        assert [c.cycles for c in found] == sorted(c.cycles for c in found)
        assert all(rank(c.algorithm.keeps(which, p, precision)) <= rank(precision) for c in found)
        assert found[0].cycles >= 0.2 * p.multiply_adds / cpu().madds / 4  # no model promises what no algorithm can


def test_a_name_must_apply_to_the_operator_that_it_is_given_to(x):
    w = np.ones((4, 8, 3, 3), np.float32)
    says = r"conv2d: algorithm='pointwise' does not apply to this problem; these do: .*direct.* \(pointwise: only for 1x1"
    with pytest.raises(ValueError, match=says):
        conv2d(x, w, algorithm="pointwise")
    with pytest.raises(ValueError, match="conv2d_backward_data: algorithm='depthwise' does not apply"):
        conv2d_backward_data(np.ones((2, 4, 10, 9), np.float32), w, SHAPE, algorithm="depthwise")
    with pytest.raises(ValueError, match="conv2d: precision='double': expected one of highest, high, medium"):
        conv2d(x, w, precision="double")


def test_a_name_by_path_and_by_pass(x):
    engine = fc.compile(network(), SHAPE, training=True, algorithm={"0": {"forward": "im2col", "backward_weight": "im2col"}})
    chosen = {(s.path, s.op): s for s in engine.steps() if s.why}
    assert chosen["0", "conv"].algorithm == "im2col" and chosen["0", "conv"].why == "named by the user"
    assert chosen["0", "conv_backward_weight"].algorithm == "im2col"
    assert chosen["3", "conv"].algorithm != "im2col" and chosen["3", "conv"].why.startswith("estimated")
    with pytest.raises(ValueError, match="0': algorithm='depthwise' does not apply"):
        fc.compile(network(), SHAPE, algorithm={"0": "depthwise"})
    with pytest.raises(ValueError, match="algorithm names the pass 'backwards': expected forward, backward_data"):
        fc.compile(network(), SHAPE, algorithm={"0": {"backwards": "direct"}})
    with pytest.raises(TypeError, match="algorithm is a int"):
        fc.compile(network(), SHAPE, algorithm=3)


def test_tune_keeps_the_fastest_and_the_file_says_so(x, tmp_path):
    path, seen = tmp_path / "choices.json", []
    engine = fc.compile(network(), SHAPE, threads=1)
    before = engine(x)
    choices = engine.tune(path, rounds=1, progress=lambda *a: seen.append(a))
    assert [s[0] for s in seen] == list(range(len(choose.names()) + 1)) and {s[1] for s in seen} == {len(seen)}
    assert len(choices) == 3
    for entry in choices.entries.values():
        assert {"direct", "im2col"} <= set(entry["seconds"]) <= set(choose.names())
        assert entry["seconds"][entry["algorithm"]] == min(entry["seconds"].values()) > 0
    for step in engine.steps():
        if step.why:
            assert step.why == "measured by tune()"
    np.testing.assert_allclose(engine(x), before, rtol=1e-4, atol=1e-5)
    loaded = fc.Choices.load(path)
    assert loaded.entries == choices.entries
    # a choice that the cost model would not make is followed
    for entry in loaded.entries.values():
        entry["algorithm"] = "im2col"
    other = fc.compile(network(), SHAPE, threads=1, algorithm=loaded)
    assert {s.algorithm for s in other.steps() if s.why} == {"im2col"}
    # they are for every batch, so that results do not depend on it; another image is another problem
    five, larger = ((5, *SHAPE[1:]), (*SHAPE[:2], 13, 11))
    assert {s.algorithm for s in fc.compile(network(), five, algorithm=loaded).steps() if s.why} == {"im2col"}
    assert "im2col" not in {s.algorithm for s in fc.compile(network(), larger, algorithm=loaded).steps() if s.why}


def test_tuning_a_training_engine_leaves_the_module_alone(x):
    net = network()
    engine = fc.compile(net, SHAPE, training=True, threads=1)
    before = {name: np.array(value) for name, value in net.state_dict().items()}
    choices = engine.tune(rounds=1)
    assert {key.split()[2] for key in choices} == {"forward", "backward_data", "backward_weight"}
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(np.array(value), before[name], err_msg=name)
    y = engine(x)
    engine.backward(np.ones_like(y))
    assert all(np.isfinite(p.grad).all() for p in net.parameters())


def test_a_trainer_keeps_what_it_tuned(x):
    def trainer():
        fc.manual_seed(5)
        net = nn.Sequential(network(), nn.Flatten(), nn.Linear(24 * 12 * 11, 3))
        return fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.01, momentum=0.9), threads=1)

    first, target = trainer(), np.array([0, 2])
    first.step(x, target)
    choices = first.tune(SHAPE, rounds=1)
    for entry in choices.entries.values():
        entry["algorithm"] = "im2col"
    first._use(choices)
    saved = first.state_dict()
    assert saved["choices"] == choices.to_dict()
    second = trainer()
    second.load_state_dict(saved)
    assert second._tape.algorithm.entries == choices.entries
    losses = [[t.step(x, target) for _ in range(3)] for t in (first, second)]
    assert losses[0] == losses[1]
    for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    with pytest.raises(ValueError, match="not a dict of choices"):
        second.load_state_dict({**saved, "choices": {"entries": 3}})


@pytest.mark.parametrize("content, says", [
    (b"", "is not a file of choices"), (b"[]", "is not a file of choices"), (b"\xff\xfe", "is not a file of choices"),
    (b'{"fastconv_choices": 9, "entries": {}}', "format is 9"),
    (b'{"fastconv_choices": 1, "entries": {"a": {}}}', "is not a file of choices"),
])
def test_a_bad_file_of_choices(tmp_path, content, says):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(ValueError, match=says):
        fc.Choices.load(tmp_path / "bad")
    with pytest.raises(FileNotFoundError):
        fc.Choices.load(tmp_path / "none")


@pytest.mark.parametrize("training", [False, True])
def test_profile_lists_every_step(x, training):
    net = network()
    engine = fc.compile(net, SHAPE, training=training, threads=1)
    mean = net[1].running_mean.numpy()
    engine(x)
    if training:
        mean = net[1].running_mean.numpy()
    report = engine.profile(rounds=2)
    steps = engine.steps()
    assert [(r.segment, r.path, r.op, r.kernel) for r in report.rows] == [(s.segment, s.path, s.op, s.kernel) for s in steps]
    assert all(r.ms > 0 for r in report.rows) and report.peak_gflops > 0.1
    for row in report.rows:
        step = next(s for s in steps if (s.path, s.op, s.segment) == (row.path, row.op, row.segment))
        assert (row.gflops > 0) == (step.multiply_adds > 0)
        if row.gflops:
            assert row.share == pytest.approx(row.gflops / report.peak_gflops)
    assert report.ms == pytest.approx(sum(r.ms for r in report.rows if r.segment != "prepare"))
    as_json = json.loads(report.json())
    assert len(as_json["steps"]) == len(report.rows) and as_json["batch"] == 2 and as_json["threads"] == 1
    text = str(report)
    assert "estimated Mcycles: " in text and text.count("\n") == 1 + sum(r.segment != "prepare" for r in report.rows)
    np.testing.assert_array_equal(net[1].running_mean.numpy(), mean)
    with pytest.raises(ValueError, match="engine.profile: rounds=0"):
        engine.profile(rounds=0)


def test_a_backward_is_timed_on_what_its_forward_left():
    """It uses that up; over and over again on its own it would be timed on whatever lies there, NaN at last."""
    net = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())))
    lowered = fc.compile(net, SHAPE, training=True, threads=1)._current[0].lowered

    def gradients(rounds):
        program, _ = times(lowered, None, 1, rounds)
        return [program.array(lowered.read(t).ref, t.shape).copy() for t in lowered.kept]

    for once, thrice in zip(gradients(1), gradients(3), strict=True):
        assert np.isfinite(once).all()
        np.testing.assert_array_equal(once, thrice)


@pytest.mark.parametrize("batch", [1, 16])
def test_few_filters_are_not_left_to_a_matrix_product(batch):
    """By OpenBLAS LeNet-5's first convolution was measured at 4 % of the peak, four times as long as directly."""
    engine = fc.compile(fc.zoo.lenet5(), (batch, 1, 32, 32), threads=1)
    assert [s.algorithm for s in engine.steps() if s.op == "conv" and s.multiply_adds] == ["direct", "direct"]


def test_a_share_counts_all_steps_of_its_operator():
    """The transforms of a Fourier convolution are steps of their own; its rate is that of all three."""
    from fastconv.report.plots import layers

    engine = fc.compile(nn.Conv2d(16, 16, 3, padding=1), (1, 16, 32, 32), algorithm="fft", threads=1)
    report = engine.profile(rounds=1)
    rows = [r for r in report.rows if r.algorithm == "fft" and r.segment == "forward"]
    (main,) = [r for r in rows if r.gflops]
    flops = 2 * 16 * 16 * 9 * 32 * 32
    assert len(rows) > 1 and main.gflops == pytest.approx(flops / (1e6 * sum(r.ms for r in rows)))
    assert main.gigabytes_per_second == pytest.approx(main.nbytes / main.ms / 1e6)
    (layer,) = [x for x in layers(report.rows) if x.algorithm == "fft"]
    assert layer.ms == pytest.approx(sum(r.ms for r in rows)) and layer.nbytes == sum(r.nbytes for r in rows)
    assert sum(x.ms for x in layers(report.rows)) == pytest.approx(report.ms)


def test_trace_and_pictures(x, tmp_path):
    engine = fc.compile(network(), SHAPE, training=True, threads=1)
    report = engine.profile(rounds=1)
    events = json.loads(report.chrome_trace())["traceEvents"]
    assert len(events) == len(report.rows)
    for event, row, after in zip(events, report.rows, [*events[1:], None], strict=True):
        assert event["dur"] == pytest.approx(1e3 * row.ms) and event["args"]["algorithm"] == row.algorithm
        assert after is None or after["ts"] == pytest.approx(event["ts"] + event["dur"])
    image = pytest.importorskip("PIL.Image", reason="pillow reads the pictures")
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib")
    for name, draw in (("plot", lambda path: engine.plot(path, rounds=1)), ("plot_memory", engine.plot_memory)):
        draw(tmp_path / f"{name}.png")
        picture = np.asarray(image.open(tmp_path / f"{name}.png").convert("L"))
        assert picture.shape[0] > 500 and picture.min() < 50 and picture.max() == 255
        with pytest.raises(ValueError, match=rf"engine.{name}: path='curve.jpg' must end in .png"):
            draw("curve.jpg")
        with pytest.raises(FileNotFoundError):
            draw(tmp_path / "nowhere" / "a.png")


def test_verbose_says_which_and_why():
    code = ("import numpy as np; from fastconv.functional import conv2d; "
            "conv2d(np.ones((1, 4, 8, 8), np.float32), np.ones((4, 4, 3, 3), np.float32))")
    for value, lines in (("1", 1), ("0", 0)):
        environment = {**os.environ, "FASTCONV_VERBOSE": value}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        said = done.stderr.splitlines()
        assert len(said) == lines and done.stdout == ""
        if lines:
            assert said[0].startswith("fastconv: conv '' n1 g1 c4 k4 x1x8x8") and "estimated Mcycles: " in said[0]


def test_where_choices_go_is_checked_before_they_are_measured(tmp_path, monkeypatch):
    engine = fc.compile(nn.Conv2d(3, 4, 3), (1, 3, 8, 8))
    trainer = fc.Trainer(nn.Linear(2, 2), nn.MSELoss(), fc.optim.SGD(0.1))
    monkeypatch.setattr("fastconv.engine.engine.tune", lambda *_: pytest.fail("something was measured"))
    (tmp_path / "old").write_text("as it was")
    for path, error in ((tmp_path, IsADirectoryError), (tmp_path / "none" / "x", FileNotFoundError), ("/dev/null", OSError)):
        for call in (lambda path=path: engine.tune(path), lambda path=path: trainer.tune((1, 2), path)):
            with pytest.raises(error):
                call()
    check_writable(tmp_path / "old")
    check_writable(tmp_path / "new")
    assert os.listdir(tmp_path) == ["old"] and (tmp_path / "old").read_text() == "as it was"


def test_choices_are_logged_for_those_who_debug(caplog):
    with caplog.at_level("DEBUG", logger="fastconv"):
        fc.compile(nn.Conv2d(4, 4, 3), (1, 4, 8, 8))
    (record,) = caplog.records
    assert record.levelname == "DEBUG" and record.getMessage().startswith("conv '' n1 g1 c4 k4")


@pytest.mark.parametrize("channels, filters, size",
                         ((960, 240, 1), (16, 8, 1), (72, 24, 1), (1280, 1000, 1), (512, 2048, 7)))
def test_layers_of_few_pixels_are_not_unfolded(channels, filters, size):
    engine = fc.compile(fc.nn.Conv2d(channels, filters, 1), (1, channels, size, size))
    assert [step.algorithm for step in engine.steps() if step.why] == ["pointwise"]
