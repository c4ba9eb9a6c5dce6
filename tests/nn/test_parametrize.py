"""Weights computed of others under PyTorch's names: state dicts, values, gradients, the way back; and layers fused."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from fastconv.nn.utils import parametrizations, parametrize

LAYERS = [("Linear", (5, 4), (3, 5)), ("Conv2d", (3, 4, 3), (2, 3, 7, 6)), ("ConvTranspose1d", (3, 4, 3), (2, 3, 7)),
          ("Conv1d", (4, 6, 3, 1, 1, 1, 2), (2, 4, 7))]


def pair(kind, name, args, shape, keywords, training):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    theirs = getattr(torch.nn.utils.parametrizations, kind)(getattr(torch.nn, name)(*args), **keywords)
    ours = getattr(parametrizations, kind)(getattr(nn, name)(*args), **keywords)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    theirs.train(training)
    engine = fc.compile(ours if training else ours.eval(), shape, training=training)
    return torch, theirs, ours, engine


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("name", "args", "shape"), LAYERS)
@pytest.mark.parametrize(("kind", "keywords"), [
    ("weight_norm", {}), ("weight_norm", {"dim": 1}), ("weight_norm", {"dim": None}), ("spectral_norm", {}),
    ("spectral_norm", {"n_power_iterations": 3, "dim": 1}), ("spectral_norm", {"name": "bias"})])
def test_beside_pytorch(kind, keywords, name, args, shape, training):
    if kind == "spectral_norm" and keywords.get("name") == "bias" and name != "Linear":
        keywords = {}
    torch, theirs, ours, engine = pair(kind, name, args, shape, keywords, training)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    for _ in range(2):  # buffers move in training
        right, got = theirs(torch.from_numpy(x)), engine(x)
        np.testing.assert_allclose(got, right.detach().numpy(), rtol=2e-4, atol=2e-5)
        if training:
            grad = np.random.default_rng(2).standard_normal(got.shape).astype(np.float32)
            for p in (*theirs.parameters(), *ours.parameters()):
                p.grad = None
            engine.backward(grad)
            right.backward(torch.from_numpy(grad))
            for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
                np.testing.assert_allclose(mine.grad, other.grad.numpy(), rtol=2e-3, atol=1e-4)
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(np.asarray(ours.state_dict()[key]), value.numpy(), rtol=1e-3, atol=1e-5, err_msg=key)


def test_there_and_back():
    layer = nn.Conv2d(3, 4, 3)
    before = layer.weight.numpy()
    parametrizations.weight_norm(layer)
    assert parametrize.is_parametrized(layer) and parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias") and "weight" not in layer._parameters
    np.testing.assert_allclose(layer.weight, before, rtol=1e-6)
    layer.parametrizations.weight.original0.data *= 2
    np.testing.assert_allclose(layer.weight, 2 * before, rtol=1e-6)
    engine, x = fc.compile(layer, (1, 3, 5, 5)), np.ones((1, 3, 5, 5), np.float32)
    y = np.array(engine(x))
    layer.parametrizations["weight"].original0.data *= 0.5
    assert np.abs(engine(x) - y).max() > 1e-3
    with pytest.raises(ValueError, match="made of 2 originals"):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    parametrize.remove_parametrizations(layer, "weight")
    assert not parametrize.is_parametrized(layer) and "parametrizations" not in layer._modules
    np.testing.assert_allclose(layer.weight.numpy(), before, rtol=1e-6)
    assert sorted(layer.state_dict()) == ["bias", "weight"]


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)


class Scaled(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.scale = nn.Parameter(np.full((size, 1), 2.0))

    def forward(self, x):
        return x * self.scale


def test_modules_of_ones_own_one_after_the_other():
    layer = nn.Linear(4, 4)
    before = layer.weight.numpy()
    parametrize.register_parametrization(layer, "weight", Symmetric())
    parametrize.register_parametrization(layer, "weight", Scaled(4))
    right = 2 * (np.triu(before) + np.triu(before, 1).T)
    np.testing.assert_allclose(layer.weight, right, rtol=1e-6)
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.original", "parametrizations.weight.1.scale"]
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    engine = fc.compile(layer, x.shape, training=True)
    np.testing.assert_allclose(engine(x), x @ right.T + layer.bias.numpy(), rtol=1e-4, atol=1e-5)
    engine.backward(np.ones((3, 4), np.float32))
    assert layer.parametrizations.weight[1].scale.grad.shape == (4, 1)
    assert not np.tril(layer.parametrizations.weight.original.grad, -1).any()
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    np.testing.assert_array_equal(layer.weight.numpy(), before)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: parametrizations.weight_norm(3), TypeError, "module is a int"),
    (lambda: parametrizations.weight_norm(nn.Linear(2, 2), "w"), ValueError, "tensor_name='w'"),
    (lambda: parametrizations.weight_norm(nn.Linear(2, 2), dim=2), IndexError, "dim=2"),
    (lambda: parametrizations.spectral_norm(nn.Linear(2, 2), dim=-3), ValueError, "dim"),
    (lambda: parametrizations.spectral_norm(nn.Linear(2, 2), n_power_iterations=0), ValueError, "n_power_iterations"),
    (lambda: parametrizations.spectral_norm(nn.ReLU()), ValueError, "has no parameter"),
    (lambda: parametrize.register_parametrization(nn.Linear(2, 3), "weight", Symmetric()), ValueError, "shape|extent"),
    (lambda: parametrize.register_parametrization(nn.Linear(2, 2), "weight", abs), TypeError, "parametrization is a"),
    (lambda: parametrize.remove_parametrizations(nn.Linear(2, 2), "weight"), ValueError, "computes no parameter"),
])
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- fusing --------------------------------------------------------------------------------------------------------------


def moved(bn, generator):
    for name in ("running_mean", "running_var", "weight", "bias"):
        getattr(bn, name).data = generator.uniform(0.5, 2, bn.num_features)
    return bn.eval()


@pytest.mark.parametrize(("layer", "norm", "shape", "transpose"), [
    (lambda: nn.Conv1d(4, 6, 3, groups=2), "BatchNorm1d", (2, 4, 9), False),
    (lambda: nn.Conv2d(3, 5, 3, bias=False), "BatchNorm2d", (2, 3, 8, 7), False),
    (lambda: nn.Conv3d(2, 3, 2), "BatchNorm3d", (1, 2, 4, 5, 3), False),
    (lambda: nn.ConvTranspose2d(3, 5, 3, 2), "BatchNorm2d", (2, 3, 4, 5), True),
    (lambda: nn.Linear(6, 5, bias=False), "BatchNorm1d", (3, 6), None),
])
def test_a_layer_takes_the_normalisation_over(layer, norm, shape, transpose):
    generator, layer = np.random.default_rng(0), layer().eval()
    bn = moved(getattr(nn, norm)(getattr(layer, "out_channels", 5), eps=1e-3), generator)
    one = nn.utils.fuse_linear_bn_eval(layer, bn) if transpose is None else nn.utils.fuse_conv_bn_eval(layer, bn, transpose)
    x = generator.standard_normal(shape).astype(np.float32)
    right = fc.compile(nn.Sequential(layer, bn), shape)(x)
    assert type(one) is type(layer) and one.weight is not layer.weight
    np.testing.assert_allclose(fc.compile(one, shape)(x), right, rtol=1e-4, atol=1e-5)


def test_a_network_is_fused_where_it_can_be():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.before, self.last = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)  # in front of a convolution
            self.twice, self.norm2, self.norm3 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
            self.read, self.norm4 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            self.head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 5), nn.BatchNorm1d(5))

        def forward(self, x):
            x = self.norm1(self.first(x)).relu()
            x = self.last(self.before(x))
            x = self.norm2(self.twice(x)) + self.norm3(self.twice(x))
            y = self.read(x)
            return self.head(self.norm4(y) + y)

    net, generator = Net(), np.random.default_rng(0)
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            moved(module, generator)
    made = nn.utils.fuse(net, (2, 3, 8, 8))
    kinds = {name: type(m).__name__ for name, m in made.named_modules()}
    assert [name for name, kind in kinds.items() if kind == "Identity"] == ["norm1", "head.2"]
    assert all(kinds[name] == "BatchNorm2d" for name in ("before", "norm2", "norm3", "norm4"))
    assert type(net.norm1) is nn.BatchNorm2d
    x = generator.standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(fc.compile(made, x.shape)(x), fc.compile(net, x.shape)(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: nn.utils.fuse_conv_bn_eval(nn.ReLU(), nn.BatchNorm2d(3)), TypeError, "the layer is a ReLU"),
    (lambda: nn.utils.fuse_conv_bn_eval(nn.Conv2d(3, 3, 1).eval(), nn.ReLU()), TypeError, "bn is a ReLU"),
    (lambda: nn.utils.fuse_conv_bn_eval(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)), ValueError, "training mode"),
    (lambda: nn.utils.fuse_conv_bn_eval(nn.Conv2d(3, 4, 1).eval(), nn.BatchNorm2d(3).eval()), ValueError, "4 filters"),
    (lambda: nn.utils.fuse_conv_bn_eval(nn.Conv2d(3, 3, 1).eval(), nn.BatchNorm2d(3, track_running_stats=False).eval()),
     ValueError, "running statistics"),
    (lambda: nn.utils.fuse(3, (1, 3, 4, 4)), TypeError, "net is a int"),
    (lambda: nn.utils.fuse(nn.Conv2d(3, 3, 1), ()), ValueError, "input_shape"),
])
def test_what_cannot_be_fused(call, error, message):
    with pytest.raises(error, match=message):
        call()
