"""Tensors without elements inside networks: slices of nothing are computed with, joined and differentiated like any."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import functional as F

torch = pytest.importorskip("torch", reason="PyTorch is not installed: it says what functions of nothing are")

CUTS = {"channels": lambda x: x[:, 4:], "pixels": lambda x: x[..., 5:], "images": lambda x: x[4:]}
SHAPES = ((4, 4, 5), (4, 4, 6, 5))
NAMES = sorted(name for name in F.__all__ if hasattr(torch.nn.functional, name) or hasattr(torch, name))
OTHER = {"where", "nonzero", "histc", "unique", "unique_consecutive",  # whose results are as large as values say
         "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "empty_like"}


def numbers(shape):
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def first(result):
    return result[0] if isinstance(result, (tuple, list)) else result


def theirs(name):
    return getattr(torch.nn.functional, name, None) or getattr(torch, name)


def wanted(name, x):
    """What PyTorch gives for one tensor; None where the function does not take one alone, or gives no tensor."""
    try:
        result = first(theirs(name)(x))
    except Exception:
        return None
    return result.numpy() if isinstance(result, torch.Tensor) else None


@pytest.mark.filterwarnings("ignore")  # PyTorch's, of functions that it will drop
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_functions_of_one_tensor(cut, shape):
    x, compared = numbers(shape), 0
    for name in NAMES:
        want = wanted(name, cut(torch.tensor(x)))
        if name in OTHER or want is None:
            continue

        def network(x, name=name):
            return first(getattr(F, name)(cut(x)))

        got = fc.compile(network, shape)(x)
        assert got.shape == want.shape and np.allclose(got, want, atol=1e-5, equal_nan=True), name
        if got.dtype == np.float32:
            engine = fc.compile(network, shape, training=True)
            assert engine(x).shape == got.shape, name
            engine.backward(np.ones_like(got))
        compared += 1
    assert compared > 100


JOINED = {
    "cat": lambda F, x: F.cat([x[:, 4:], x, x[:, 4:]], 1),
    "add": lambda F, x: x[:, 4:] + x[:, :0] * 2,
    "broadcast": lambda F, x: x[:, 4:] * x[:, :1],
    "matmul of no columns": lambda F, x: F.matmul(x[..., 5:], x[..., 5:].transpose(-1, -2)),
    "matmul of no rows": lambda F, x: F.matmul(x[:, 4:], x.transpose(-1, -2)[:, :, :3]),
    "sum": lambda F, x: x[:, 4:].sum(1) + x.mean(1),
    "where": lambda F, x: F.where(x[:, 4:] > 0, x[:, 4:], x[:, :0]),
    "permute": lambda F, x: x[:, 4:].permute(2, 0, 1) * 3,
    "reshape": lambda F, x: x[:, 4:].reshape(4, 5, 0, 7) + 1,
    "pad": lambda F, x: (F if F is not torch else torch.nn.functional).pad(x[..., 5:], (1, 2)) + 1,
    "beside": lambda F, x: (x[:, 4:] * 2.0).sum() + (x * x).sum(),
    "stack": lambda F, x: F.stack([x[:, 4:], x[:, 4:] * 2], 0),
}


@pytest.mark.parametrize("name", JOINED)
def test_networks_of_several(name):
    x = numbers((4, 4, 5))
    t = torch.tensor(x, requires_grad=True)
    want = JOINED[name](torch, t)
    engine = fc.compile(lambda x: JOINED[name](F, x), x.shape, training=True, input_gradients=True)
    got = engine(x)
    assert got.shape == tuple(want.shape)
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-5)
    want.sum().backward()
    np.testing.assert_allclose(engine.backward(np.ones_like(got))[0], t.grad.numpy(), rtol=1e-5)
    np.testing.assert_array_equal(fc.compile(lambda x: JOINED[name](F, x), x.shape)(x), got)


MODULES = {
    "conv": lambda nn: nn.Conv2d(4, 8, 3, padding=1),
    "depthwise": lambda nn: nn.Conv2d(4, 4, 3, groups=4),
    "conv_transpose": lambda nn: nn.ConvTranspose2d(4, 3, 2, stride=2),
    "linear": lambda nn: nn.Linear(5, 7),
    "group_norm": lambda nn: nn.GroupNorm(2, 4),
    "layer_norm": lambda nn: nn.LayerNorm(5),
    "max_pool": lambda nn: nn.MaxPool2d(2),
    "adaptive_avg_pool": lambda nn: nn.AdaptiveAvgPool2d(2),
    "prelu": lambda nn: nn.PReLU(4),
    "upsample": lambda nn: nn.Upsample(scale_factor=2, mode="bilinear"),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_on_no_images(name):
    x = numbers((4, 4, 6, 5))
    model = MODULES[name](torch.nn)
    want = model(torch.tensor(x)[4:])

    class Net(fc.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = MODULES[name](fc.nn)

        def forward(self, x):
            return self.layer(x[4:])

    net = Net()
    engine = fc.compile(net, x.shape, training=True)
    assert engine(x).shape == tuple(want.shape)
    engine.backward(np.ones(want.shape, np.float32))
    for p in net.parameters():
        np.testing.assert_array_equal(p.grad, np.zeros(p.shape, np.float32))
