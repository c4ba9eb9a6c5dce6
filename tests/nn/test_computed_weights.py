"""Weights computed of other parameters, beside PyTorch's: weight and spectral normalisation, standardised filters."""

import copy
import pickle

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn

LAYERS = [("Conv1d", (3, 4, 3), (2, 3, 8)), ("Conv2d", (3, 17, 3), (2, 3, 8, 8)), ("Conv3d", (3, 4, 2), (2, 3, 4, 4, 4)),
          ("ConvTranspose2d", (3, 4, 3), (2, 3, 8, 8)), ("Linear", (7, 5), (4, 7))]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="computed weights are compared with PyTorch's, which is not installed")


def step(ours, theirs, x, rng, torch):
    """A forward and a backward of both."""
    engine, module = fc.compile(ours, x.shape, training=True), theirs
    ours.zero_grad()
    module.zero_grad()
    y, want = engine(x), module(torch.from_numpy(x))
    np.testing.assert_allclose(y, want.detach().numpy(), rtol=1e-5, atol=1e-5)
    grad = rng.standard_normal(y.shape).astype(np.float32)
    engine.backward(grad)
    want.backward(torch.from_numpy(grad))
    right = dict(module.named_parameters())
    for name, p in ours.named_parameters():
        g = right[name].grad.numpy()
        np.testing.assert_allclose(p.grad, g, rtol=1e-4, atol=1e-4 * (1 + np.abs(g).max()), err_msg=name)
    return y


@pytest.mark.parametrize("dim", [0, 1, None, -1])
@pytest.mark.parametrize("name, args, shape", LAYERS)
def test_weight_norm(name, args, shape, dim, rng, torch):
    with pytest.warns(FutureWarning):
        theirs = torch.nn.utils.weight_norm(getattr(torch.nn, name)(*args), dim=dim)
    layer = getattr(nn, name)(*args)
    before = layer.weight.numpy()
    ours = nn.utils.weight_norm(layer, dim=dim)
    assert ours is layer
    np.testing.assert_allclose(ours.weight, before, rtol=1e-6, atol=1e-7)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = rng.standard_normal(shape).astype(np.float32)
    y = step(ours, theirs, x, rng, torch)
    engine = fc.compile(ours, shape)
    np.testing.assert_allclose(engine(x), y, rtol=1e-5, atol=1e-5)
    assert all(s.segment == "prepare" for s in engine.steps() if s.op in ("reduce", "map"))  # once, not per run
    ours.weight_g.data = 2 * ours.weight_g.data
    ours.bias.data = np.zeros(ours.bias.shape)
    theirs.bias.data.zero_()
    doubled = 2 * theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(engine(x), doubled, rtol=1e-5, atol=1e-5)
    for again in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        np.testing.assert_array_equal(fc.compile(again, shape)(x), engine(x))
    weight = ours.weight
    nn.utils.remove_weight_norm(ours)
    np.testing.assert_array_equal(ours.weight.data, weight)
    assert list(ours.state_dict()) == ["bias", "weight"]
    np.testing.assert_allclose(engine(x), doubled, rtol=1e-5, atol=1e-5)  # traced again


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("name, args, shape", LAYERS)
def test_spectral_norm(name, args, shape, iterations, rng, torch):
    theirs = torch.nn.utils.spectral_norm(getattr(torch.nn, name)(*args), n_power_iterations=iterations)
    ours = nn.utils.spectral_norm(getattr(nn, name)(*args), n_power_iterations=iterations)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = rng.standard_normal(shape).astype(np.float32)
    for _ in range(3):
        step(ours, theirs, x, rng, torch)
        for vector in ("weight_u", "weight_v"):
            np.testing.assert_allclose(getattr(ours, vector).data, getattr(theirs, vector).numpy(), rtol=1e-4, atol=1e-5)
    want = theirs.eval()(torch.from_numpy(x)).detach().numpy()
    before = ours.state_dict()
    for _ in range(2):  # nothing moves in evaluation
        np.testing.assert_allclose(fc.compile(ours, shape)(x), want, rtol=1e-5, atol=1e-5)
    for key, value in before.items():
        np.testing.assert_array_equal(ours.state_dict()[key], value)
    nn.utils.remove_spectral_norm(ours)
    np.testing.assert_allclose(fc.compile(ours, shape)(x), want, rtol=1e-5, atol=1e-5)
    assert list(ours.state_dict()) == ["bias", "weight"]


def test_spectral_norm_is_the_largest_singular_value(rng):
    layer = nn.utils.spectral_norm(nn.Linear(20, 30), n_power_iterations=200)
    fc.compile(layer, (1, 20), training=True)(np.zeros((1, 20), np.float32))
    assert abs(np.linalg.norm(layer.weight, 2) - 1) < 1e-4


def test_training_beside_pytorch(rng, torch):
    def made(m, utils):
        return m.Sequential(utils.spectral_norm(m.Conv2d(3, 8, 3)), m.BatchNorm2d(8), m.ReLU(), m.Flatten(),
                            utils.spectral_norm(m.Linear(8 * 49, 3)))

    ours, theirs = made(nn, nn.utils), made(torch.nn, torch.nn.utils)
    ours.load_state_dict(theirs.state_dict())
    x, t = rng.standard_normal((4, 3, 9, 9)).astype(np.float32), rng.standard_normal((4, 3)).astype(np.float32)
    trainer = fc.Trainer(ours, nn.MSELoss(), fc.optim.SGD(lr=0.05, momentum=0.9))
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    for _ in range(8):
        loss = trainer.step(x, t)
        optimizer.zero_grad()
        want = torch.nn.functional.mse_loss(theirs(torch.from_numpy(x)), torch.from_numpy(t))
        want.backward()
        optimizer.step()
        np.testing.assert_allclose(float(loss), want.item(), rtol=2e-3)
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key], value.numpy(), rtol=1e-2, atol=1e-3, err_msg=key)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_standardised_filters(dims, rng):
    layer = getattr(nn, f"StdConv{dims}d")(4, 6, 3, padding=1, groups=2, eps=1e-3)
    w = layer.weight.numpy().astype(np.float64)
    rows = w.reshape(6, -1)
    right = ((rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-3)).reshape(w.shape)
    plain = getattr(nn, f"Conv{dims}d")(4, 6, 3, padding=1, groups=2)
    plain.weight.data, plain.bias.data = right, layer.bias.data
    x = rng.standard_normal((2, 4, *(5,) * dims)).astype(np.float32)
    want = fc.compile(plain, x.shape)(x)
    np.testing.assert_allclose(fc.compile(layer, x.shape)(x), want, rtol=1e-4, atol=1e-5)
    plain.weight.data = w
    made = nn.utils.standardize_weight(plain, eps=1e-3)
    np.testing.assert_allclose(fc.compile(made, x.shape)(x), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made.weight, right, rtol=1e-4, atol=1e-5)
    assert list(made.state_dict()) == ["bias", "weight_raw"]
    nn.utils.unstandardize_weight(made)
    np.testing.assert_allclose(fc.compile(made, x.shape)(x), want, rtol=1e-4, atol=1e-5)


def test_frozen_stays_frozen():
    layer = nn.Conv2d(3, 4, 3).requires_grad_(False)
    nn.utils.weight_norm(layer)
    assert not layer.weight_g.requires_grad and not layer.weight_v.requires_grad
    assert not nn.utils.remove_weight_norm(layer).weight.requires_grad


@pytest.mark.parametrize("call, error, message", [
    (lambda c: nn.utils.weight_norm(3), TypeError, "weight_norm: module is a int: expected a Module"),
    (lambda c: nn.utils.weight_norm(c, "w"), ValueError, "weight_norm: name='w': Conv2d has no parameter of this name"),
    (lambda c: nn.utils.weight_norm(c, dim=4), IndexError, "weight_norm: dim=4: the weight of shape"),
    (lambda c: nn.utils.weight_norm(c, dim=1.5), TypeError, "weight_norm: dim=1.5: expected an integer"),
    (lambda c: nn.utils.weight_norm(nn.utils.weight_norm(c)), RuntimeError, "Conv2d.weight is computed already"),
    (lambda c: nn.utils.spectral_norm(c, n_power_iterations=0), ValueError, "n_power_iterations=0 must be at least 1"),
    (lambda c: nn.utils.spectral_norm(c, dim=4), IndexError, "spectral_norm: dim=4"),
    (lambda c: nn.utils.spectral_norm(c, eps=-1), ValueError, "spectral_norm: eps=-1"),
    (lambda c: nn.utils.standardize_weight(c, "bias"), ValueError, r"weight of shape \(4,\): expected at least 2 dim"),
    (lambda c: nn.utils.remove_weight_norm(c), ValueError, "remove_weight_norm: name='weight': Conv2d computes no such"),
    (lambda c: nn.utils.remove_weight_norm(nn.utils.spectral_norm(c)), ValueError, "computes no such weight"),
    (lambda c: setattr(nn.utils.weight_norm(c), "weight", nn.Parameter(np.zeros(3))), TypeError, "weight is computed of"),
    (lambda c: c.apply(lambda m: fc.functional.weight_standardization(np.zeros(4, np.float32))), ValueError,
     "has 1 dimensions: expected at least 2")])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(nn.Conv2d(3, 4, 3))


def test_lists_and_dicts_of_parameters(rng):
    values = [rng.standard_normal((2, 3)).astype(np.float32) for _ in range(3)]
    listed = nn.ParameterList(values[:2])
    listed.append(nn.Parameter(values[2]))
    assert list(listed.state_dict()) == ["0", "1", "2"] and len(listed) == 3 and listed[-1] is listed[2]
    assert len(listed[1:]) == 2 and listed[1:][0] is listed[1]
    listed += [values[0]]
    listed[0] = values[1]
    np.testing.assert_array_equal(listed[0].data, values[1])
    named = nn.ParameterDict({"a": values[0], "b": nn.Parameter(values[1])})
    assert list(named) == ["a", "b"] and "a" in named and named.get("c") is None and list(named.state_dict()) == ["a", "b"]
    taken = named.pop("a")
    np.testing.assert_array_equal(taken.data, values[0])

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scales = nn.ParameterList([np.full(3, 2, np.float32), np.full(3, 3, np.float32)])
            self.shift = nn.ParameterDict({"one": np.ones(3, np.float32)})

        def forward(self, x):
            for scale in self.scales:
                x = x * scale
            return x + self.shift["one"]

    net = Net()
    assert [name for name, _ in net.named_parameters()] == ["scales.0", "scales.1", "shift.one"]
    engine, x = fc.compile(net, (2, 3), training=True), rng.standard_normal((2, 3)).astype(np.float32)
    np.testing.assert_allclose(engine(x), 6 * x + 1, rtol=1e-6)
    engine.backward(np.ones((2, 3), np.float32))
    np.testing.assert_allclose(net.scales[0].grad, 3 * x.sum(0), rtol=1e-5)
    with pytest.raises(IndexError, match="ParameterList: index 5 is out of range for 4 parameters"):
        listed[5]
    with pytest.raises(TypeError, match="ParameterDict: got a str: expected parameters or arrays"):
        named["c"] = "x"
