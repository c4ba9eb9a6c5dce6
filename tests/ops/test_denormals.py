"""Numbers below 2^-126: zeros of their sign to whatever computes, alone as behind a convolution or a normalisation."""

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn

TINY = np.float32(2.0**-126)
NUMBERS = [0.0, 1e-45, 1e-40, 1e-38, 1.1754942e-38, TINY, 1e-37, 1e-20, 0.5, 1, 2.9, 3, 5.5, 6, 7, 80, 3e38, np.inf]
X = np.array([sign * v for v in NUMBERS for sign in (1, -1)] + [np.nan], np.float32).reshape(-1, 1, 1, 1)
ZEROS = np.where(abs(X) < TINY, np.copysign(np.float32(0), X), X)

FUNCTIONS = {  # name: (function, its gradient, module, PyTorch's)
    "relu": (F.relu, F.relu_backward, nn.ReLU, "relu", {}),
    "relu6": (F.relu6, F.relu6_backward, nn.ReLU6, "relu6", {}),
    "hardtanh": (F.hardtanh, F.hardtanh_backward, nn.Hardtanh, "hardtanh", {"min_val": 0.0, "max_val": 2.0}),
    "leaky_relu": (F.leaky_relu, F.leaky_relu_backward, nn.LeakyReLU, "leaky_relu", {"negative_slope": 0.125}),
    "leaky_relu, negative": (F.leaky_relu, F.leaky_relu_backward, nn.LeakyReLU, "leaky_relu", {"negative_slope": -0.5}),
    "sigmoid": (F.sigmoid, F.sigmoid_backward, nn.Sigmoid, "sigmoid", {}),
    "tanh": (F.tanh, F.tanh_backward, nn.Tanh, "tanh", {}),
    "silu": (F.silu, F.silu_backward, nn.SiLU, "silu", {}),
    "elu": (F.elu, F.elu_backward, nn.ELU, "elu", {"alpha": 1.5}),
    "hardswish": (F.hardswish, F.hardswish_backward, nn.Hardswish, "hardswish", {}),
    "hardsigmoid": (F.hardsigmoid, F.hardsigmoid_backward, nn.Hardsigmoid, "hardsigmoid", {}),
    "gelu": (F.gelu, F.gelu_backward, nn.GELU, "gelu", {}),
    "gelu, tanh": (F.gelu, F.gelu_backward, nn.GELU, "gelu", {"approximate": "tanh"}),
}


def same(y, expected):
    """Equal as numbers: NaN is NaN, and zeros are equal."""
    np.testing.assert_array_equal(y.reshape(-1), expected.reshape(-1))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_denormal_is_a_zero(name):
    f, backward, _, _, keywords = FUNCTIONS[name]
    y = f(X, **keywords)
    assert y.tobytes() == f(ZEROS, **keywords).tobytes()
    assert not ((y != 0) & (abs(y) < TINY)).any()
    g = np.full_like(X, 2)
    same(backward(g, X, **keywords), backward(g, ZEROS, **keywords))


def test_relu_is_never_negative():
    same(F.relu(np.float32([[-1e-38, -1e-45, -0.0]])), np.zeros(3, np.float32))
    assert (F.relu(X[:-1]) >= 0).all() and (F.relu6(X[:-1]) >= 0).all()


@pytest.mark.parametrize("behind", ["a convolution", "a depthwise convolution", "a normalisation", "a linear layer"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_fused_as_alone(name, behind):
    f, backward, module, _, keywords = FUNCTIONS[name]
    finite = np.isfinite(X.reshape(-1))
    x = X[finite]
    channels = 1
    if behind == "a normalisation":
        layer = nn.BatchNorm2d(1, eps=0.0)
    elif behind == "a linear layer":
        x, layer = x.reshape(-1, 1), nn.Linear(1, 1, bias=False)
    else:
        channels = 8 if "depthwise" in behind else 1
        x = np.repeat(x, channels, axis=1)
        layer = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
    if behind != "a normalisation":
        layer.weight.data = np.ones(layer.weight.shape, np.float32)
    net = nn.Sequential(layer, module(**keywords))
    net.eval()
    same(fc.compile(net, x.shape)(x), f(x, **keywords))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_as_pytorch(name):
    """Value and sign, where PyTorch sees the zeros that are seen here."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    f, backward, _, theirs, keywords = FUNCTIONS[name]
    usual = np.isfinite(ZEROS) & (abs(ZEROS) < 1e30)  # GELU of PyTorch is NaN at infinity
    x = torch.from_numpy(ZEROS[usual].reshape(-1, 1).copy()).requires_grad_()
    operator = getattr(torch.nn.functional, theirs, None) or getattr(torch, theirs)
    y = operator(x.double(), **keywords)
    y.sum().backward()
    ours = f(X[usual].reshape(-1, 1), **keywords)
    np.testing.assert_allclose(ours, y.detach().numpy(), rtol=2e-6, atol=3e-7)
    zero = (ours == 0) & (x.detach().numpy() == 0)
    np.testing.assert_array_equal(np.signbit(ours)[zero], np.signbit(y.detach().numpy())[zero])
    np.testing.assert_allclose(backward(np.ones_like(ours), X[usual].reshape(-1, 1), **keywords), x.grad.numpy(), rtol=2e-6,
                               atol=3e-7)


def test_arithmetic_and_losses():
    small, one = np.full((1, 4), 1e-39, np.float32), np.ones((1, 4), np.float32)
    same(F.add(small, -small), np.zeros(4, np.float32))
    same(F.add(small, one), one)
    same(F.softmax(small), np.full(4, 0.25, np.float32))
    assert fc.compile(lambda a: a * 0.5, (1, 4))(np.full((1, 4), TINY, np.float32)).tolist() == [[0.0] * 4]
    assert F.mse_loss(small, np.zeros_like(small)) == 0


def test_what_is_only_moved_stays():
    """Joined, cut, padded, handed through: bit for bit."""
    small = np.float32([[1e-39, -1e-45, 1.0, -0.0]])
    assert F.cat([small, small], 1).tobytes() == np.concatenate([small, small], 1).tobytes()
    padded = F.pad(small.reshape(1, 1, 4), (1, 0))
    assert padded.reshape(-1)[1:].tobytes() == small.tobytes()
    assert fc.compile(lambda a: a, (1, 4))(small).tobytes() == small.tobytes()
