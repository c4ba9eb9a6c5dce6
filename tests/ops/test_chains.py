"""Activations that are written as several operators go over memory once; what others read stays."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F
from fastconv import nn

rng = np.random.default_rng(0)
MOVES = {"f32_to_channels_last", "f32_from_channels_last", "copy"}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ONE_STEP = {
    "hardswish": (lambda x: x * F.clamp(x + 3, 0, 6) / 6, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "hardswish by a product": (lambda x: x * F.relu6(x + 3) * (1 / 6), lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "hardswish, the gate first": (lambda x: F.relu6(x + 3) / 6 * x, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "a gate of other slope": (lambda x: x * F.hardtanh(x * 0.2 + 0.5, 0, 1), lambda x: x * np.clip(x * 0.2 + 0.5, 0, 1)),
    "silu": (lambda x: x * F.sigmoid(x), lambda x: x * sigmoid(x)),
    "silu, the gate first": (lambda x: F.sigmoid(x) * x, lambda x: x * sigmoid(x)),
    "hardswish of a gate": (lambda x: x * F.hardsigmoid(x), lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "scaled twice, and cut": (lambda x: F.relu((x * 2 + 1) * 0.5 - 1), lambda x: np.maximum((x * 2 + 1) * 0.5 - 1, 0)),
}


def kernels(engine):
    return [s.kernel for s in engine.steps() if s.kernel not in MOVES and s.op != "pack"]


@pytest.mark.parametrize("shape", [(3, 24, 9, 8), (2, 1, 5, 7), (1, 40, 1, 1), (5, 33), (2, 17, 50), (4, 3, 2, 5, 6)])
@pytest.mark.parametrize("name", ONE_STEP)
def test_one_step(name, shape):
    function, reference = ONE_STEP[name]
    x = (rng.standard_normal(shape) * 4).astype(np.float32)
    engine = fc.compile(function, shape)
    assert len(kernels(engine)) == 1
    np.testing.assert_allclose(engine(x), reference(x.astype(np.float64)), rtol=2e-6, atol=2e-6)
    for n in range(1, shape[0]):
        np.testing.assert_array_equal(engine(x[:n]), engine(x)[:n])


@pytest.mark.parametrize("name", ONE_STEP)
def test_gradients(name):
    function, reference = ONE_STEP[name]
    x, g = (rng.standard_normal((2, 5, 4, 3)) * 3).astype(np.float32), rng.standard_normal((2, 5, 4, 3)).astype(np.float32)
    x[np.abs(np.abs(x) - 3) < 0.05] = 1  # not where the slope jumps
    x[np.abs(np.abs(x) - 2.5) < 0.05] = 1
    x[np.abs(x - 0.5) < 0.05] = 1
    engine = fc.compile(function, x.shape, training=True, input_gradients=True)
    engine(x)
    (got,) = engine.backward(g)
    wide, step = x.astype(np.float64), 1e-5
    want = g * (reference(wide + step) - reference(wide - step)) / (2 * step)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_what_others_read_stays():
    x = (rng.standard_normal((2, 20, 6, 5)) * 3).astype(np.float32)

    def gates(x):
        gate = F.sigmoid(x)
        y = F.clamp(x + 3, 0, 6)
        return x * gate, gate, y, y * x / 6

    for got, want in zip(fc.compile(gates, x.shape)(x), (x * sigmoid(x), sigmoid(x), np.clip(x + 3, 0, 6),
                                                        np.clip(x + 3, 0, 6) * x / 6), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_gates_of_another_tensor_are_products():
    """Squeeze and excitation: the gate is of other values, and of one pixel."""
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(20, 20, 1)

        def forward(self, x):
            return x * F.sigmoid(self.conv(F.adaptive_avg_pool2d(x, 1))) * F.hardsigmoid(x + 0)

    net, x = Gated().eval(), rng.standard_normal((2, 20, 6, 5)).astype(np.float32)
    pooled = x.astype(np.float64).mean((2, 3))
    gate = sigmoid(pooled @ net.conv.weight.data[:, :, 0, 0].T.astype(np.float64) + net.conv.bias.data)
    want = x * gate[:, :, None, None] * np.clip(x / 6 + 0.5, 0, 1)
    np.testing.assert_allclose(fc.compile(net, x.shape)(x), want, rtol=1e-5, atol=1e-5)
