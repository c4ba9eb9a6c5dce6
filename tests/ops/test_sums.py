"""Gradients of what is repeated, and of biases, where their sums are cut: float64, and the same bits for any threads."""

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn
from fastconv.ops.sums import MOST, RUN, cut

SHAPES = [(2, 1, 300, 301), (1, 3, 512, 512), (4, 16, 130, 129), (16, 64, 57, 56), (3, 65, 61, 61), (2, 200, 40, 41),
          (6000, 5), (1500, 64), (700, 300), (1, 8, 40000), (1, 2, 8, 70, 71)]


def normal(seed, shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


class Repeated(nn.Module):
    """x * scale + shift with operands of one shape, which broadcasts."""

    def __init__(self, shape):
        super().__init__()
        self.scale, self.shift = nn.Parameter(normal(1, shape)), nn.Parameter(normal(2, shape))

    def forward(self, x):
        return x * self.scale + self.shift


def gradients(module, x, g, threads):
    engine = fc.compile(module, x.shape, training=True, threads=threads)
    engine(x)
    engine.backward(g)
    return [np.array(p.grad) for p in module.parameters()]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kept", ["channels", "pixels", "nothing"])
def test_gradients_of_repeated_operands(kept, shape):
    if kept == "pixels" and len(shape) == 2:
        own = (1, 1)  # a pixel is all there is
    else:
        own = {"channels": (1, shape[1], *(1,) * (len(shape) - 2)), "pixels": (1, 1, *shape[2:]),
               "nothing": (1,) * len(shape)}[kept]
    x, g = normal(3, shape), normal(4, shape)
    axes = tuple(i for i, n in enumerate(own) if n == 1)
    terms = [x.astype(float) * g, g.astype(float)]
    results = [gradients(Repeated(own), x, g, threads) for threads in (1, 2, 5)]
    for i, term in enumerate(terms):
        exact, size = term.sum(axis=axes, keepdims=True), abs(term).sum(axis=axes, keepdims=True)
        assert (abs(results[0][i] - exact) <= 2e-7 * size + 1e-30).all()
        assert results[0][i].tobytes() == results[1][i].tobytes() == results[2][i].tobytes()


class Gated(nn.Module):
    """Squeeze and excitation: one value per image and channel is repeated over the pixels."""

    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 1, bias=False)
        self.gate.weight.data = np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1)

    def forward(self, x, s):
        return x * self.gate(s)


@pytest.mark.parametrize("shape", [(1, 16, 130, 131), (3, 64, 57, 57), (2, 3, 300, 300)], ids=str)
def test_gradients_of_gates(shape):
    """The sum over an image's pixels does not depend on the batch around it."""
    x, s, g = normal(0, shape), normal(1, (*shape[:2], 1, 1)), normal(2, shape)
    module, results = Gated(shape[1]), []
    for threads in (1, 2):
        engine = fc.compile(module, [shape, s.shape], training=True, threads=threads)
        engine(x, s)
        module.gate.weight.grad = None  # gradients accumulate
        engine.backward(g)
        results.append(np.array(module.gate.weight.grad))
    gate = np.einsum("nchw,nchw->nc", x.astype(float), g)
    exact = np.einsum("nk,nc->kc", gate, s[..., 0, 0].astype(float))
    bound = np.einsum("nk,nc->kc", np.einsum("nchw,nchw->nc", abs(x.astype(float)), abs(g)), abs(s[..., 0, 0].astype(float)))
    assert (abs(results[0][..., 0, 0] - exact) <= 3e-7 * bound).all()
    assert results[0].tobytes() == results[1].tobytes()


BIASES = {2: F.linear_backward_bias, 3: F.conv1d_backward_bias, 4: F.conv2d_backward_bias, 5: F.conv3d_backward_bias}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_of_biases(shape):
    g, results = normal(5, shape), []
    axes = (0, *range(2, len(shape)))
    before = fc.get_num_threads()
    try:
        for threads in (1, 2, 3):
            fc.set_num_threads(threads)
            results.append(BIASES[len(shape)](g))
    finally:
        fc.set_num_threads(before)
    exact, size = g.sum(axis=axes, dtype=float), abs(g).sum(axis=axes, dtype=float)
    assert (abs(results[0] - exact) <= 2e-7 * size).all()
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()
    positive = abs(g)
    assert (abs(BIASES[len(shape)](positive) - size) <= 4e-7 * size).all()


def test_long_sums_have_many_ranges():
    """Threads find work however few the channels are, and no range is shorter than what a tile is worth."""
    for rows, width in ((16 * 56 * 56, 64), (512 * 512, 3), (700 * 700, 1), (10**7, 16), (65536, 40)):
        parts, per = cut(rows, width, 1)
        assert parts >= 16 and (parts - 1) * per < rows <= parts * per and parts <= MOST and per % RUN == 0
    assert cut(100, 64, 1)[0] == 1 and cut(10**6, 64, MOST)[0] == 1
