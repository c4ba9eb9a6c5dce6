"""Arrays without elements: results and gradients of the right shapes, sums of nothing are 0, and nothing crashes."""

import inspect

import numpy as np
import pytest

from fastconv import functional as F
from fastconv.functional.record import records

SHAPES = [(0,), (3, 0, 4), (0, 2, 5), (2, 0), (2, 3, 0, 4)]
ACTIVATIONS = ["relu", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "tanh", "hardsigmoid",
               "hardswish", "hardtanh", "relu6", "softplus", "logsigmoid", "softsign", "exp", "square", "abs"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, shape):
    x = np.zeros(shape, np.float32)
    y, gradient = F.vjp(lambda x: getattr(F, name)(x), x)
    assert y.shape == gradient.shape == shape and getattr(F, name)(x).shape == shape


OTHERWISE = ("matmul", "inner", "vdot", "kron", "cross", "dist")  # whose results are not the operands', broadcast
PAIRS = [name for name, record in records.items() if record.differentiable and name not in OTHERWISE and
         list(inspect.signature(record.body).parameters)[:2] == ["input", "other"]]


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name):
    one = np.zeros((1, 4), np.float32)
    for shape in ((3, 0, 4), (0, 4)):
        y, (a, b) = F.vjp(lambda x, z: getattr(F, name)(x, z), [np.zeros(shape, np.float32), one], None)
        assert y.shape == a.shape == shape and b.shape == one.shape and not b.any()


@pytest.mark.parametrize(("call", "shape", "channels"), [
    (lambda x, w, b: F.group_norm(x, 1, w, b), (0, 2), 2), (lambda x, w, b: F.group_norm(x, 2, w, b), (3, 4, 0), 4),
    (lambda x, w, b: F.layer_norm(x, (5,), w, b), (0, 5), 5), (lambda x, w, b: F.layer_norm(x, (5,), w, b), (2, 0, 5), 5),
    (lambda x, w, b: F.instance_norm(x, weight=w, bias=b), (0, 3, 4), 3),
    (lambda x, w, b: F.rms_norm(x, (5,), w) + b, (0, 5), 5),
])
def test_gradients_of_normalisations_are_zeros(call, shape, channels):
    for _ in range(3):  # whatever lay in their memory
        x, w = np.zeros(shape, np.float32), np.full(channels, 7, np.float32)
        y, (gx, gw, gb) = F.vjp(call, [x, w, w])
        assert y.shape == gx.shape == shape and gw.shape == gb.shape == w.shape and not gw.any() and not gb.any()
