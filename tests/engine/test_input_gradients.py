"""Engines that give the gradients of their inputs, beside the reference in float64."""

import copy
import pickle

import numpy as np
import pytest
import reference as ref

import fastconv as fc
from fastconv import functional as F
from fastconv import nn


def draw(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("n", [3, 1, 2, 5])
def test_of_a_convolution(n):
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.Flatten())
    engine = fc.compile(net, (3, 3, 6, 7), training=True, input_gradients=True)
    x, g = draw(n, 3, 6, 7), draw(n, 5 * 42)
    engine(x)
    (found,) = engine.backward(g)
    want = ref.conv_backward_data(x.shape, net[0].weight.data, g.reshape(n, 5, 6, 7), padding=1)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(net[0].bias.grad, g.reshape(n, 5, 42).sum((0, 2)), rtol=1e-4, atol=1e-4)
    net[0].bias.grad = None


def test_of_several_inputs_and_outputs():
    def function(a, ids, b):
        return a * b, (a - 2 * b).sum(1), F.argmax(a, 1), b + F.embedding(ids, np.eye(4, dtype=np.float32))

    engine = fc.compile(function, {"a": (3, 4), "ids": ((3,), "int64"), "b": (3, 4)}, training=True, input_gradients=True)
    a, b, ids = draw(3, 4), draw(3, 4) + 1, np.array([0, 3, 1])
    engine(a, ids, b)
    g = draw(3, 4, 1)[..., 0], draw(3), draw(3, 4)
    da, none, db = engine.backward(g[0], g[1], None, g[2])
    assert none is None
    np.testing.assert_allclose(da, g[0] * b + g[1][:, None], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(db, g[0] * a - 2 * g[1][:, None] + g[2], rtol=1e-5, atol=1e-6)


def test_of_inputs_that_go_straight_through_or_nowhere():
    engine = fc.compile(lambda a, b: (a, a + 0 * 1.0), [(2, 3), (2, 3)], training=True, input_gradients=True)
    engine(draw(2, 3), draw(2, 3))
    da, db = engine.backward(draw(2, 3), 2 * draw(2, 3))
    np.testing.assert_allclose(da, 3 * draw(2, 3), rtol=1e-6)
    assert not db.any() and db.shape == (2, 3)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 2, 2, 2, 3), (2, 2, 2, 2, 2, 3), (3,)])
def test_of_every_rank(shape):
    engine = fc.compile(lambda x: (x * x).exp(), shape, training=True, input_gradients=True)
    x, g = draw(*shape) * 0.5, draw(*shape)
    engine(x)
    (found,) = engine.backward(g)
    np.testing.assert_allclose(found, 2.0 * x * np.exp(x.astype(np.float64) ** 2) * g, rtol=1e-5, atol=1e-6)


def test_fresh_arrays_that_later_runs_leave_alone():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    engine = fc.compile(net, (2, 2, 4, 4), training=True, input_gradients=True)
    x, g = draw(2, 2, 4, 4), draw(2, 2)
    found = []
    for k in range(3):
        engine(x * (k + 1))
        found.append(engine.backward(g)[0])
    kept = [f.copy() for f in found]
    engine(x)
    engine.backward(g)
    assert all(np.array_equal(a, b) for a, b in zip(found, kept, strict=True))
    for other in (engine.clone(), copy.copy(engine), pickle.loads(pickle.dumps(engine))):
        other(x)
        np.testing.assert_array_equal(other.backward(g)[0], kept[0])


def test_refused():
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="input_gradients=True without training=True"):
        fc.compile(net, (1, 2), input_gradients=True)
    with pytest.raises(TypeError, match="input_gradients=1"):
        fc.compile(net, (1, 2), training=True, input_gradients=1)
    plain = fc.compile(net, (1, 2), training=True)
    plain(draw(1, 2))
    assert plain.backward(draw(1, 2)) is None
