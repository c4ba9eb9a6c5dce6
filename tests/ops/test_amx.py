"""The algorithms over bfloat16 planes from the outside: what they promise, when they apply, the permission for AMX."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import reference as R
from fastconv.kernels._runtime import isa_info

import fastconv as fc
import fastconv.functional as F
from fastconv import nn
from fastconv.functional import conv2d, conv2d_backward_data, conv2d_backward_weight
from fastconv.kernels import planes, tiles

SHAPE = (2, 24, 13, 12)


@pytest.fixture
def emulated(monkeypatch):
    """AMX, or its emulation."""
    monkeypatch.setenv("FASTCONV_EMULATE_AMX", "1")


@pytest.fixture
def arrays():
    rng = np.random.default_rng(8)
    return (rng.standard_normal(SHAPE, dtype=np.float32), rng.standard_normal((20, 24, 3, 3), dtype=np.float32),
            rng.standard_normal((2, 20, 7, 6), dtype=np.float32))


GEOMETRY = {"stride": 2, "padding": 1}


@pytest.mark.parametrize(("algorithm", "precision", "bound"), [("amx", "highest", 3e-7), ("amx", "high", 1e-5),
                                                               ("amx", "medium", 2.0**-7), ("bf16", "medium", 2.0**-7)])
def test_all_passes(algorithm, precision, bound, arrays, emulated):
    x, w, g = arrays
    named = {"algorithm": algorithm, "precision": precision}
    assert R.rel_l2(conv2d(x, w, **GEOMETRY, **named), R.conv(x, w, None, **GEOMETRY)) <= bound
    gx = conv2d_backward_data(g, w, SHAPE, **GEOMETRY, **named)
    assert R.rel_l2(gx, R.conv_backward_data(SHAPE, w, g, **GEOMETRY)) <= bound
    assert R.rel_l2(conv2d_backward_weight(g, x, w.shape, **GEOMETRY, **named),
                    R.conv_backward_weight(x, w.shape, g, **GEOMETRY)) <= bound


@pytest.mark.skipif(not planes.has_dot(), reason="products of bfloat16 are no instruction of this machine, or capped")
@pytest.mark.parametrize(("n", "channels", "spatial", "filters"), [(3, 24, (1, 1), 20), (17, 1000, (1, 1), 777),
                                                                   (2, 5, (1, 1), 1), (9, 150, (2, 3), 777)])
def test_linear_at_medium(n, channels, spatial, filters):
    """All passes, behind a flatten; sums longer than a run. What reaches its input is read off the bias before it."""
    rng = np.random.default_rng(4)
    net = nn.Sequential(nn.Conv2d(channels, channels, 1, groups=channels), nn.Flatten(),
                        nn.Linear(channels * spatial[0] * spatial[1], filters))
    net[0].weight.data, net[0].bias.data = np.ones_like(net[0].weight.data), np.zeros_like(net[0].bias.data)
    x = rng.standard_normal((n, channels, *spatial), dtype=np.float32)
    gy = rng.standard_normal((n, filters), dtype=np.float32)
    engine = fc.compile(net, x.shape, training=True, precision="medium")
    assert any(step.algorithm == "gemm bf16" for step in engine.steps())
    weight, bias = (np.float64(p.data) for p in net[2].parameters())
    flat, wide = np.float64(x.reshape(n, -1)), np.float64(gy)

    def close(a, product, bias=0):
        """Rounding both factors to bfloat16 changes a product by up to 2 ** -7 of it, and a sum of them, as they are rounded
        either way, by that much of the root of their squares: where they cancel, by any part of its own size."""
        squares = product(lambda factor: factor**2)
        assert np.linalg.norm(a - product(lambda factor: factor) - bias) <= 2.0**-7 * np.sqrt(squares.sum())

    close(engine(x), lambda f: f(flat) @ f(weight.T), bias)
    engine.backward(gy)
    close(net[0].bias.grad, lambda f: (f(wide) @ f(weight)).reshape(x.shape).sum((0, 2, 3)))
    close(net[2].weight.grad, lambda f: f(wide.T) @ f(flat))


def network():
    fc.manual_seed(5)
    return nn.Sequential(nn.Conv2d(3, 16, 7, stride=2, padding=3), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
                         nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 5, 1))


@pytest.mark.parametrize(("algorithm", "precision"), [("bf16", "medium"), ("amx", "medium"), ("amx", "high"),
                                                      ("amx", "highest")])
def test_a_convolution_splits_what_the_next_one_reads(algorithm, precision, emulated):
    """No step of its own splits it, floats that nobody reads have no memory, and not a bit is different."""
    def conv(c, k, size):
        return nn.Conv2d(c, k, size, padding=size // 2)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = conv(8, 64, 3), conv(64, 512, 1), conv(512, 64, 3)

        def forward(self, x):
            y = F.relu(self.a(x))  # read as floats too
            return F.relu(self.c(F.relu(self.b(y))) + y)

    net, named = Net(), {"algorithm": algorithm, "precision": precision}
    x = np.random.default_rng(3).standard_normal((2, 8, 9, 11), dtype=np.float32)
    engine = fc.compile(net, x.shape, **named)
    assert sum(step.op == "split" for step in engine.steps()) == 1  # of the input
    assert not [t for t in engine.memory()["tensors"] if t["name"] == "b"]
    y = engine(x)
    a = fc.compile(lambda v: F.relu(net.a(v)), x.shape, **named)(x)
    b = fc.compile(lambda v: F.relu(net.b(v)), a.shape, **named)(a)
    np.testing.assert_array_equal(y, fc.compile(lambda v, r: F.relu(net.c(v) + r), [b.shape, a.shape], **named)(b, a))
    engine(np.full_like(x, np.nan))
    np.testing.assert_array_equal(engine(x), y)


def test_a_network_shares_the_split_of_a_tensor(emulated):
    """Forward and backward to weights read one split of the input; results and gradients are those of float32, nearly."""
    x = np.random.default_rng(2).standard_normal((2, 3, 32, 30), dtype=np.float32)
    plain = fc.compile(network(), x.shape, training=True)
    engine = fc.compile(network(), x.shape, training=True, algorithm="amx", precision="high")
    y, truth = engine(x), plain(x)
    assert R.rel_l2(y, truth) <= 1e-4
    ones = np.ones_like(y)
    engine.backward(ones)
    plain.backward(ones)
    steps = engine.steps()
    assert {s.algorithm for s in steps if s.why} == {"amx"}
    if not planes.has_tiles():
        assert all("AMX is emulated" in s.why for s in steps if s.why)
    splits = [s for s in steps if s.op == "split"]
    # the first input (also without its border, for its weights' gradient), the second, of 16 channels, and four gradients;
    # those of 32 channels are split by the convolutions that make them
    assert len(splits) == 7


def test_without_amx_it_says_why(arrays, monkeypatch):
    monkeypatch.setenv("FASTCONV_EMULATE_AMX", "0")
    if planes.has_tiles():
        pytest.skip("this process has AMX")
    x, w, _ = arrays
    with pytest.raises(ValueError, match=r"algorithm='amx' does not apply .*\(amx: this process runs \w+ kernels, not AMX"):
        conv2d(x, w, algorithm="amx")
    engine = fc.compile(network(), (2, 3, 32, 30), precision="high")
    assert "amx" not in {s.algorithm for s in engine.steps()}


def test_medium_takes_bfloat16_where_it_is_an_instruction():
    big = nn.Conv2d(256, 256, 1)
    step = next(s for s in fc.compile(big, (4, 256, 14, 14), precision="medium").steps() if s.why)
    assert (step.algorithm in ("bf16", "amx")) == planes.has_dot()
    named = next(s for s in fc.compile(big, (4, 256, 14, 14), precision="medium", algorithm="bf16").steps() if s.why)
    assert ("emulated" in named.why) == (not planes.has_dot())
    for precision in ("highest", "high"):
        chosen = {s.algorithm for s in fc.compile(big, (4, 256, 14, 14), precision=precision).steps() if s.why}
        assert "bf16" not in chosen


def test_finite_stays_finite_and_infinities_stay_where_they_are(arrays, emulated):
    x, w, _ = arrays
    x = x.copy()
    x[0, 3, 4, 4], x[1, 0, 0, 0] = np.finfo(np.float32).max, np.inf
    one = np.zeros((1, 24, 1, 1), np.float32)
    one[0, 3], one[0, 0] = 1, 1
    for algorithm, precision in (("amx", "highest"), ("amx", "high"), ("bf16", "medium")):
        y = conv2d(x, one, algorithm=algorithm, precision=precision)
        assert np.isfinite(y[0]).all() and np.isinf(y[1, 0, 0, 0]) and np.isfinite(y[1].reshape(-1)[1:]).all()
        assert y[0, 0, 4, 4] == pytest.approx(np.finfo(np.float32).max, rel=2.0**-8)


# ---- the permission -------------------------------------------------------------------------------------------------


def test_importing_does_not_ask():
    """A child that counts: no arch_prctl by import, none by a plan without convolutions."""
    code = ("from fastconv.kernels import tiles; asked = []; tiles.request = lambda: asked.append(1); "
            "import fastconv as fc; from fastconv import nn; fc.compile(nn.ReLU(), (2, 3)); print(len(asked))")
    done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True)
    assert done.stdout.strip() == "0", done.stderr


def test_a_refusal_is_said_once_and_float32_goes_on(arrays, monkeypatch, caplog):
    x, w, _ = arrays
    monkeypatch.delenv("FASTCONV_EMULATE_AMX", raising=False)
    monkeypatch.setattr(planes, "has_tiles", lambda: True)
    refusal = "the operating system refuses the tile registers (Operation not permitted)"
    monkeypatch.setattr(tiles, "request", lambda: refusal)
    tiles.permission.cache_clear()
    try:
        with caplog.at_level(logging.WARNING, "fastconv"):
            for size in (11, 12, 13):  # three plans
                assert np.isfinite(conv2d(x[:, :, :size], w, precision="high")).all()
        assert [r.getMessage() for r in caplog.records] == ["AMX is not used, AVX-512 is: " + refusal]
        with pytest.raises(ValueError, match="amx: the operating system refuses the tile registers"):
            conv2d(x, w, algorithm="amx")
    finally:
        tiles.permission.cache_clear()


def test_the_request_gives_an_answer():
    """Where there is no AMX the operating system says no, and why; where there is, it may say yes."""
    reason = tiles.request()
    if not planes.has_tiles() and sys.platform == "linux" and "amx" not in isa_info()["available"]:
        assert reason is not None and reason.startswith("the operating system refuses the tile registers (")
    else:
        assert reason is None or isinstance(reason, str)
