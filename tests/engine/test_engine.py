"""What an engine promises about itself: which calls replay, what is kept, the same bits, its account of memory and steps."""

import os
import subprocess
import sys

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn


class Net(nn.Module):
    """Residuals, concatenations, groups, depthwise, pooling, a gate, over any size of image."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.wide = nn.Conv2d(12, 24, 1)
        self.groups = nn.Conv2d(12, 24, 3, padding=1, groups=3)
        self.depth = nn.Conv2d(48, 48, 3, padding=1, groups=48, bias=False)
        self.norm, self.relu = nn.BatchNorm2d(48), nn.ReLU()
        self.pool, self.mean = nn.MaxPool2d(3, 2, 1), nn.AdaptiveAvgPool2d(1)
        self.gate, self.last = nn.Conv2d(48, 48, 1), nn.Linear(48, 7)

    def forward(self, x):
        x = self.relu(self.first(x))
        x = F.cat([self.wide(x), self.groups(x)], 1)
        x = self.relu(self.norm(self.depth(x)) + x)
        x = self.pool(x)
        return self.last(self.mean(x * F.sigmoid(self.gate(self.mean(x)))).flatten(1))


@pytest.fixture(scope="module")
def net():
    fc.manual_seed(0)
    return Net()


def images(*shape):
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


@pytest.fixture
def threads():
    before = fc.get_num_threads()
    yield fc.set_num_threads
    fc.set_num_threads(before)


@pytest.mark.parametrize("algorithm", [None, "direct", "im2col"])
def test_neither_threads_nor_batch_change_a_bit(net, algorithm, threads):
    x = images(9, 3, 27, 18)
    engine = fc.compile(net, x.shape, algorithm=algorithm)
    threads(1)
    y = engine(x)
    assert len(np.unique(y)) == y.size  # each image and feature has a value of its own
    for n in (2, 3):
        threads(n)
        np.testing.assert_array_equal(engine(x), y)
    np.testing.assert_array_equal(np.concatenate([engine(x[i : i + 1]) for i in range(9)]), y)
    np.testing.assert_array_equal(engine(x[4:]), y[4:])
    np.testing.assert_array_equal(fc.compile(net, (20, 3, 27, 18), algorithm=algorithm)(x), y)


@pytest.mark.parametrize("algorithm", [None, "im2col"])
def test_threads_do_not_change_a_bit_of_a_gradient(net, algorithm, threads):
    x, g, gradients = images(6, 3, 27, 18), images(6, 7), []
    for n in (1, 2, 3):
        threads(n)
        engine = fc.compile(net, x.shape, training=True, algorithm=algorithm)
        engine(x)
        net.zero_grad()
        engine.backward(g)
        gradients.append({name: p.grad.copy() for name, p in net.named_parameters()})
    assert all(np.abs(gradient).max() > 0 for gradient in gradients[0].values())
    for other in gradients[1:]:
        for name, gradient in gradients[0].items():
            np.testing.assert_array_equal(other[name], gradient, err_msg=name)


def test_smaller_batches_replay_the_plan_and_shapes_are_kept_up_to_the_cache_size(net):
    engine = fc.compile(net, (4, 3, 16, 16), cache_size=2)
    planned = engine._current[0]
    for n in (4, 1, 0, 3):
        assert engine(images(n, 3, 16, 16)).shape == (n, 7)
        assert engine._current[0] is planned
    engine(images(2, 3, 20, 20))
    second = engine._current[0]
    engine(images(4, 3, 16, 16))
    assert engine._current[0] is planned  # kept
    engine(images(2, 3, 24, 24))  # 20 x 20 was used least recently
    assert len(engine._plans) == 2
    engine(images(4, 3, 16, 16))
    assert engine._current[0] is planned
    engine(images(2, 3, 20, 20))
    assert engine._current[0] is not second
    engine(images(6, 3, 20, 20))  # a larger batch replaces the plan of its shape
    assert engine.batch == 6 and len(engine._plans) == 2


def test_memory_and_steps_account_for_the_plan(net):
    engine = fc.compile(net, (2, 3, 16, 16), training=True)
    memory, steps = engine.memory(), engine.steps()
    arena = [t for t in memory["tensors"] if t["kind"] == "arena"]
    assert memory["unshared"] == sum(t["nbytes"] for t in arena)
    assert 0 < memory["peak"] <= memory["arena"] < memory["unshared"]
    assert all(0 <= t["first"] <= t["last"] < len(steps) and t["offset"] + t["nbytes"] <= memory["arena"] for t in arena)
    for i, one in enumerate(arena):
        for other in arena[:i]:
            apart = one["offset"] + one["nbytes"] <= other["offset"] or other["offset"] + other["nbytes"] <= one["offset"]
            assert apart or one["last"] < other["first"] or other["last"] < one["first"], (one, other)
    assert {s.segment for s in steps} == {"prepare", "forward", "backward"}
    assert (engine.batch, engine.output_shapes) == (2, [(2, 7)])
    (first,) = [s for s in steps if s.path == "first" and s.op == "conv"]
    assert (first.algorithm, first.input, first.output) == ("direct", (2, 3, 16, 16), (2, 12, 8, 8))
    assert first.multiply_adds == 2 * 12 * 8 * 8 * 27 and first.nbytes >= 4 * 2 * 12 * 8 * 8
    (depth,) = [s for s in steps if s.path == "depth" and s.op == "conv"]
    assert (depth.algorithm, depth.kernel) == ("depthwise", "f32_conv_depthwise")


def test_a_run_leaves_nothing_to_the_next(net):
    """A second run leaves nothing of the first one's data: neither in the arena nor in borders."""
    x = images(3, 3, 16, 16)
    engine = fc.compile(net, x.shape)
    y = engine(x)
    engine(np.full_like(x, np.nan))
    np.testing.assert_array_equal(engine(x), y)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("training", [False, True])
def test_a_call_keeps_no_array(net, training):
    """Neither what it was given nor, after it has returned, what it made of that."""
    engine = fc.compile(net, (2, 3, 24, 20), training=training)
    x = np.ones((2, 3, 24, 20), np.float32)
    out = np.empty((2, 7), np.float32)
    other = np.empty(1)
    unaligned = np.frombuffer(b"0" + x.tobytes(), np.float32, count=x.size, offset=1).reshape(x.shape)
    for given in (x, x[:, ::-1], unaligned):
        before = sys.getrefcount(given), sys.getrefcount(out)
        result = engine(given)
        engine(given, out=out)
        after, of_result = (sys.getrefcount(given), sys.getrefcount(out)), sys.getrefcount(result)
        of_other = sys.getrefcount(other)
        assert after == before
        assert of_result == of_other
        np.testing.assert_array_equal(result, out)


def test_a_forked_child_computes_the_same():
    code = """
import os, sys
import numpy as np
import fastconv as fc
from fastconv import nn
fc.set_num_threads(2)
net = nn.Sequential(nn.Conv2d(3, 40, 3), nn.ReLU(), nn.Conv2d(40, 40, 3))
x = np.random.default_rng(0).standard_normal((4, 3, 24, 24), dtype=np.float32)
for algorithm in ("direct", "im2col"):
    engine = fc.compile(net, x.shape, algorithm=algorithm)
    y = engine(x)
    child = os.fork()
    if child == 0:
        same = np.array_equal(engine(x), y) and np.array_equal(fc.compile(net, x.shape, algorithm=algorithm)(x), y)
        os._exit(0 if same and fc.get_num_threads() == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(engine(x), y)
print("ok")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "ok\n", done.stderr


class Outputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 300), nn.Linear(5, 300)

    def forward(self, x):
        return self.a(x), self.b(x), nn.MSELoss()(self.a(x), self.b(x))


def test_gradients_of_several_outputs_and_of_a_scalar():
    fc.manual_seed(0)
    module, x, g = Outputs(), images(4, 5), images(4, 300)
    engine = fc.compile(module, (6, 5), training=True)

    def gradients(first, second, scalar):
        y = engine(x)
        module.zero_grad()
        engine.backward(first, second, scalar)
        assert y[2].shape == ()
        return y, module.a.weight.grad.copy(), module.b.weight.grad.copy()

    zero = np.zeros((), np.float32)
    (a, b, loss), ga, gb = gradients(g, 2 * g, zero)
    np.testing.assert_allclose(ga, g.T @ x, rtol=0, atol=1e-5)
    np.testing.assert_allclose(gb, 2 * g.T @ x, rtol=0, atol=1e-5)
    assert abs(loss - ((a - b) ** 2).mean()) < 1e-5
    _, ga, gb = gradients(0 * g, 0 * g, zero + 3)
    np.testing.assert_allclose(ga, 3 * 2 / a.size * (a - b).T @ x, rtol=0, atol=1e-6)
    np.testing.assert_allclose(gb, -ga, rtol=0, atol=1e-6)


def test_gradients_that_must_be_copied_live_until_they_are_read():
    module, x, g = Outputs(), images(4, 5), images(2, 4, 300)
    raw = np.zeros((2, 4 * 1200 + 1), np.uint8)
    unaligned = [row[1:].view(np.float32).reshape(4, 300) for row in raw]
    for target, values in zip(unaligned, g, strict=True):
        target[...] = values
    engine = fc.compile(module, x.shape, training=True)
    engine(x)
    engine.backward(*unaligned, np.zeros((), np.float32))
    np.testing.assert_allclose(module.a.weight.grad, g[0].T @ x, rtol=0, atol=1e-5)
    np.testing.assert_allclose(module.b.weight.grad, g[1].T @ x, rtol=0, atol=1e-5)


def test_one_backward_for_one_call(net):
    x, g = images(2, 3, 16, 16), images(2, 7)
    engine = fc.compile(net, x.shape, training=True)
    with pytest.raises(RuntimeError, match="not been called since the last backward"):
        engine.backward(g)
    engine(x)
    with pytest.raises(ValueError, match=r"grad_output 0 of shape \(2, 6\): expected \(2, 7\)"):
        engine.backward(g[:, :6])
    engine.backward(g)
    with pytest.raises(RuntimeError, match="not been called since the last backward"):
        engine.backward(g)
