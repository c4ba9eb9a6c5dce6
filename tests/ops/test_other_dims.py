"""Softmax, concatenation and Flatten along other dimensions than the channels: values, gradients, within networks."""

import numpy as np
import pytest
import reference as ref
from gradients import float32, run

import fastconv as fc
import fastconv.functional as F
from fastconv import nn
from fastconv.graph.ir import apply

SHAPES = [(3, 4), (2, 3, 5), (2, 7, 4, 5), (1, 17, 3, 1), (2, 1, 3, 4), (2, 5, 3, 2, 4), (3, 33, 2, 9, 1)]
SPATIAL = [(shape, dim) for shape in SHAPES for dim in range(2, len(shape))]


def exact(*shape, seed=0):
    return ref.exact_integers(np.random.default_rng(seed), shape, 8)


@pytest.mark.parametrize(("shape", "dim"), SPATIAL)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name, shape, dim):
    rng = np.random.default_rng(0)
    x, gy = float32(rng, *shape), float32(rng, *shape)
    for batch in (None, 5):  # a smaller batch replays the plan
        y, (gx,) = run(lambda t: apply(name, [t], dim=dim - len(shape)), [x], gy, batch=batch)
        np.testing.assert_allclose(y, getattr(ref, name)(x, dim), rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(gx, getattr(ref, name + "_backward")(gy, x, dim), rtol=1e-5, atol=2e-6)
        # the very bits of the channels' softmax
        turned, gradient = (np.ascontiguousarray(np.swapaxes(a, 1, dim)) for a in (x, gy))
        same, _ = run(lambda t: apply(name, [t], dim=1), [turned], gradient)
        np.testing.assert_array_equal(y, np.swapaxes(same, 1, dim))


@pytest.mark.parametrize(("shape", "dim"), SPATIAL)
def test_concatenation(shape, dim):
    """Of three tensors of different extents, one of them twice."""
    others = [(*shape[:dim], extent, *shape[dim + 1:]) for extent in (shape[dim], 1, 3)]
    x, y, z = (exact(*s, seed=i) for i, s in enumerate(others))
    expected = np.concatenate([x, y, z, x], dim)
    gy = exact(*expected.shape, seed=9)
    for batch in (None, 5):
        got, (gx, gy1, gz) = run(lambda a, b, c: apply("concat", [a, b, c, a], dim=dim), [x, y, z], gy, batch=batch)
        np.testing.assert_array_equal(got, expected)
        first, second, third, fourth = np.split(gy, np.cumsum([s[dim] for s in others]), dim)
        np.testing.assert_array_equal(gx, first + fourth)
        np.testing.assert_array_equal(gy1, second)
        np.testing.assert_array_equal(gz, third)


@pytest.mark.parametrize(("shape", "start", "end"), [(s, a, b) for s in SHAPES for a in range(1, len(s))
                                                     for b in range(a, len(s))])
def test_flatten(shape, start, end):
    x = exact(*shape)
    expected = x.reshape(*shape[:start], -1, *shape[end + 1:])
    gy = exact(*expected.shape, seed=1)
    for batch in (None, 5):
        y, (gx,) = run(lambda t: apply("flatten", [t], start_dim=start, end_dim=end - len(shape)), [x], gy, batch=batch)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(gx, gy.reshape(shape))


class Mixed(nn.Module):
    """All of them between convolutions, reading from and writing into concatenations along channels."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 1), nn.Conv2d(10, 5, 3)
        self.rows, self.columns = nn.Softmax(dim=-1), nn.LogSoftmax(dim=2)
        self.pixels, self.image = nn.Flatten(2), nn.Flatten(1, 2)
        self.head = nn.Linear(5 * 36, 4)

    def forward(self, x):
        wide = F.cat([self.rows(self.a(x)), self.b(x)], 1)
        wide = F.cat([wide, self.columns(wide)], dim=3)  # (N, 10, 8, 16)
        y = self.c(wide)  # (N, 5, 6, 14)
        joined = F.cat([self.pixels(y), self.pixels(y)], -1)
        return joined, self.image(y), self.head(F.flatten(F.adaptive_avg_pool2d(y, (6, 6)), 1))


def test_in_a_network():
    fc.manual_seed(0)
    net = Mixed()
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 8), dtype=np.float32)
    joined, image, head = fc.compile(net, x.shape)(x)
    a, b = F.conv2d(x, net.a.weight.data, net.a.bias.data, padding=1), F.conv2d(x, net.b.weight.data, net.b.bias.data)
    wide = np.concatenate([F.softmax(a, -1), b], 1)
    wide = np.concatenate([wide, F.log_softmax(wide, 2)], 3)
    y = F.conv2d(wide, net.c.weight.data, net.c.bias.data)
    flat = y.reshape(3, 5, -1)
    np.testing.assert_allclose(joined, np.concatenate([flat, flat], -1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(image, y.reshape(3, 30, 14), rtol=1e-5, atol=1e-6)
    pooled = F.adaptive_avg_pool2d(y, (6, 6)).reshape(3, -1)
    np.testing.assert_allclose(head, F.linear(pooled, net.head.weight.data, net.head.bias.data), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dim", range(-4, 4))
def test_on_arrays(dim):
    """As NumPy has them, along the batch too."""
    x = np.random.default_rng(0).standard_normal((3, 4, 5, 2), dtype=np.float32)
    gy = np.random.default_rng(1).standard_normal(x.shape, dtype=np.float32)
    for name in ("softmax", "log_softmax"):
        for array in (x, x[:, ::-1], np.asfortranarray(x)):
            expected = getattr(ref, name)(array, dim % 4)
            np.testing.assert_allclose(getattr(F, name)(array, dim), expected, rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(getattr(F, name + "_backward")(gy, x, dim),
                                   getattr(ref, name + "_backward")(gy, x, dim % 4), rtol=1e-5, atol=2e-6)
    np.testing.assert_array_equal(F.cat([x, gy], dim), np.concatenate([x, gy], dim))


def test_summaries_and_profiles_know_them():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Softmax(-1), nn.Conv2d(2, 2, 3), nn.Flatten(2), nn.Conv1d(2, 1, 3))
    summary = fc.summary(net, (1, 1, 10, 10))
    assert [row.receptive_field for row in summary.rows][:2] == [(3, 3), None]
    assert [row.output for row in summary.rows] == [(1, 2, 8, 8), (1, 2, 8, 8), (1, 2, 6, 6), (1, 2, 36), (1, 1, 34)]
    engine = fc.compile(net, (1, 1, 10, 10))
    assert any(step.op == "softmax" for step in engine.steps()) and engine.profile(1).rows
