"""Reductions of what a program makes: the values of the program and the reduction apart, and of NumPy in float64."""

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn
from fastconv.functional.record import vjp

IMAGE, OTHER = (5, 8, 9, 40), (5, 8, 1, 1)
# name: (function over arrays or symbolic tensors, shapes, whether nothing in between is written)
CASES = {
    "product, everything": (lambda m, x, y: (x * y).sum(), [IMAGE, IMAGE], True),
    "squared error": (lambda m, x, y: ((x - y) ** 2).mean(), [IMAGE, IMAGE], True),
    "over the last dimension": (lambda m, x, y: m.abs(x - y).sum(-1), [(7, 3000), (7, 3000)], True),
    "by a value per row": (lambda m, x, y: m.exp(x - y).sum(-1), [(7, 90), (7, 1)], True),
    "mean, kept dimensions": (lambda m, x, y: (x * y).mean(1, keepdims=True) if m is np else (x * y).mean(1, keepdim=True),
                              [(6, 2049), (6, 2049)], True),
    "rows that are too short": (lambda m, x, y: (x - y).mean(-1), [(30, 7), (30, 1)], True),
    "channels": (lambda m, x, y: m.exp(x * y).sum(1), [(4, 64, 5, 6), (4, 64, 1, 1)], True),
    "pixels": (lambda m, x, y: (x * y).sum((2, 3)), [IMAGE, OTHER], True),
    "the batch": (lambda m, x, y: (x * y).sum(0), [(6, 40), (6, 40)], True),
    "batch and pixels": (lambda m, x, y: (x - y).mean((0, 2, 3)), [IMAGE, OTHER], True),
    "largest": (lambda m, x, y: (x - y).max(1) if m is np else (x - y).amax(1), [(7, 300), (7, 300)], True),
    "smallest": (lambda m, x, y: (x - y).min(1) if m is np else (x - y).amin(1), [(7, 300), (7, 300)], True),
    "norm": (lambda m, x, y: m.sqrt(((x - y) ** 2).sum(1)) if m is np else (x - y).norm(dim=1), [(7, 300), (7, 1)], True),
    "read twice": (lambda m, x, y: _twice(m, x * y), [(7, 64), (7, 64)], False),
}


def _twice(m, t):
    return t.sum(-1) / (t.max(-1) if m is np else t.amax(-1))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_values_and_steps(name, last):
    function, shapes, merged = CASES[name]
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    if last:
        inputs = [np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) for x in inputs]

    class Net(nn.Module):
        def forward(self, x, y):
            return function(F, x, y)

    engine = fc.compile(Net(), shapes)
    want = function(np, *(x.astype(np.float64) for x in inputs))
    before = fc.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            fc.set_num_threads(threads)
            found.append(engine(*inputs))
    finally:
        fc.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0].shape == want.shape
    np.testing.assert_allclose(found[0], want, rtol=2e-6, atol=2e-6 * max(1.0, np.abs(want).max()))
    assert any(s.op == "reduce_map" for s in engine.steps()) == merged


@pytest.mark.parametrize("name", ["by a value per row", "norm", "channels", "pixels", "mean, kept dimensions"])
def test_an_image_does_not_depend_on_its_batch(name):
    function, shapes, _ = CASES[name]
    x, y = (np.random.default_rng(1).standard_normal(s).astype(np.float32) for s in shapes)

    class Net(nn.Module):
        def forward(self, x, y):
            return function(F, x, y)

    if y.shape[0] == 1:
        pytest.skip("the other operand is no batch")
    engine = fc.compile(Net(), shapes)
    whole = engine(x, y)
    for n in (1, 2):
        np.testing.assert_array_equal(engine(x[:n], y[:n]), whole[:n])


def test_gradients():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 6, 50)).astype(np.float32)
    loss, (gx, gy) = vjp(lambda x, y: ((x - y) ** 2 * F.exp(x)).mean(), (x, y))
    a, b = x.astype(np.float64), y.astype(np.float64)
    np.testing.assert_allclose(loss, ((a - b) ** 2 * np.exp(a)).mean(), rtol=1e-6)
    np.testing.assert_allclose(gx, (2 * (a - b) + (a - b) ** 2) * np.exp(a) / a.size, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gy, -2 * (a - b) * np.exp(a) / a.size, rtol=1e-4, atol=1e-6)


def test_nothing_to_add_up():
    y = F.sum(np.ones((3, 0), np.float32) * np.ones((3, 1), np.float32), -1)
    np.testing.assert_array_equal(y, np.zeros(3))
    _, g = vjp(lambda x: (x * x).sum(), np.zeros((0, 4), np.float32))
    assert g.shape == (0, 4)


@pytest.mark.parametrize("seed", range(40))
def test_random_shapes(seed):
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 5))
    shape = [int(rng.integers(1, 70 if d == rank - 1 or rng.random() < 0.3 else 6)) for d in range(rank)]
    other = [s if rng.random() < 0.6 else 1 for s in shape]
    dims = tuple(int(d) for d in rng.choice(rank, int(rng.integers(1, rank + 1)), replace=False))
    x, y = (memory(rng.standard_normal(s).astype(np.float32), rng) for s in (shape, other))

    def function(x, y):
        return (x * y - x).sum(dims)

    got, (gx, _) = vjp(function, (x, y))
    a, b = x.astype(np.float64), y.astype(np.float64)
    want = (a * b - a).sum(dims)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * (1 + np.abs(a * b - a).sum(dims).max()))
    np.testing.assert_allclose(gx, np.broadcast_to(b - 1, shape), rtol=1e-5, atol=1e-5)


def memory(x, rng):
    """The same values in another order in memory."""
    order = rng.permutation(x.ndim)
    return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
