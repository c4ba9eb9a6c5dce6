"""One parameter in several places: its gradients add up; layers that learn their channels; separable and bilinear layers."""

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from fastconv.functional import relu


def images(*shape):
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def gradients(forward, parameters, x, g):
    engine = fc.compile(forward, x.shape, training=True)
    y = engine(x)
    engine.backward(g)
    return y, [p.grad.copy() for p in parameters]


def test_a_convolution_applied_eight_times():
    """As eight convolutions of their own with the same weights, whose gradients are added up."""
    conv = nn.Conv2d(5, 5, 3, padding=1)
    conv.weight.data = conv.weight.data * np.float32(2)  # so that all steps matter
    x, g = images(2, 5, 9, 8), images(2, 5, 9, 8)
    many = nn.Sequential(*(nn.Conv2d(5, 5, 3, padding=1) for _ in range(8)))
    for layer in many:
        layer.weight.data, layer.bias.data = conv.weight.data, conv.bias.data

    def tied(t):
        for _ in range(8):
            t = relu(conv(t))
        return t

    def apart(t):
        for layer in many:
            t = relu(layer(t))
        return t

    y, (gw, gb) = gradients(tied, list(conv.parameters()), x, g)
    z, found = gradients(apart, list(many.parameters()), x, g)
    np.testing.assert_array_equal(y, z)
    np.testing.assert_allclose(gw, np.sum(found[0::2], 0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gb, np.sum(found[1::2], 0), rtol=1e-5, atol=1e-5)


def test_a_parameter_of_two_layers():
    """An embedding's weight that is the last layer's too."""
    first = nn.Linear(6, 4, bias=False)
    shared = fc.Parameter(images(4, 6))
    first.weight = shared
    x, g = images(3, 6), images(3, 6)

    def tied(t):
        return (t @ shared.t()) @ shared

    y, (grad,) = gradients(tied, [shared], x, g)
    w = np.float64(shared.data)
    np.testing.assert_allclose(y, x @ w.T @ w, rtol=1e-5)
    np.testing.assert_allclose(grad, (g @ w.T).T @ x + (x @ w.T).T @ g, rtol=1e-5, atol=1e-5)
    net = nn.Sequential(first, nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[2].weight
    assert len(list(net.parameters())) == 4
    trainer = fc.Trainer(net, fc.functional.mse_loss, fc.optim.SGD(lr=0.1), metrics=())
    before = net[1].weight.data.copy()
    trainer.step(x, images(3, 4))
    assert net[1].weight is net[2].weight and not np.array_equal(before, net[1].weight.data)


def test_the_example_learns():
    """A quarter of its steps: the error must have left that of a constant; all of them bring it below 0.1."""
    path = Path(__file__).parents[2] / "examples" / "distance_transform.py"
    spec = importlib.util.spec_from_file_location("distance_transform", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x, distance = module.draw(np.random.default_rng(0), 3)
    seeds = np.argwhere(x[0, 0])
    right = [[min([8, *(max(abs(i - a), abs(j - b)) for a, b in seeds)]) for j in range(20)] for i in range(20)]
    np.testing.assert_array_equal(distance[0, 0], right)
    assert module.main(500) < 1.8


@pytest.mark.parametrize("lazy, layer, args, shape", [
    (nn.LazyConv1d, nn.Conv1d, (4, 3), (2, 5, 9)), (nn.LazyConv2d, nn.Conv2d, (4, 3, 2), (2, 5, 9, 8)),
    (nn.LazyConv3d, nn.Conv3d, (4, 3), (1, 2, 5, 6, 7)), (nn.LazyConvTranspose1d, nn.ConvTranspose1d, (4, 3), (2, 5, 9)),
    (nn.LazyConvTranspose2d, nn.ConvTranspose2d, (4, 3, 2), (2, 5, 4, 4)),
    (nn.LazyConvTranspose3d, nn.ConvTranspose3d, (4, 2), (1, 2, 3, 3, 3)), (nn.LazyLinear, nn.Linear, (4,), (3, 2, 7))])
def test_lazy_layers(lazy, layer, args, shape):
    x = images(*shape)
    fc.manual_seed(5)
    made = pickle.loads(pickle.dumps(lazy(*args)))
    assert not list(made.parameters()) and "Lazy" in repr(made)
    net = nn.Sequential(made)
    fc.manual_seed(6)
    y = fc.compile(net, shape)(x)
    assert type(net[0]) is layer and list(net.state_dict()) == ["0.weight", "0.bias"]
    channels = shape[-1] if layer is nn.Linear else shape[1]
    fc.manual_seed(6)
    np.testing.assert_array_equal(y, fc.compile(layer(channels, *args), shape)(x))
    assert type(pickle.loads(pickle.dumps(net))[0]) is layer


@pytest.mark.parametrize("dims, shape", [(1, (4, 5)), (1, (2, 3, 7)), (2, (2, 3, 5, 4)), (3, (2, 3, 2, 3, 4))])
@pytest.mark.parametrize("kind, keywords", [("BatchNorm", {}), ("BatchNorm", {"affine": False, "momentum": None}),
                                            ("InstanceNorm", {}), ("InstanceNorm", {"track_running_stats": False})])
def test_lazy_normalisations(kind, keywords, dims, shape):
    if kind == "InstanceNorm" and len(shape) == 2:
        shape = (2, 5, 3)
    made = getattr(nn, f"Lazy{kind}{dims}d")(**keywords)
    layer = getattr(nn, f"{kind}{dims}d")
    usual = {"affine": True, "track_running_stats": True} if kind == "InstanceNorm" else {}  # as PyTorch's lazy ones
    direct, x = layer(shape[1], **{**usual, **keywords}), images(*shape)
    np.testing.assert_array_equal(fc.compile(made, shape, training=True)(x), fc.compile(direct, shape, training=True)(x))
    assert type(made) is layer and list(made.state_dict()) == list(direct.state_dict())
    for name, value in direct.state_dict().items():
        np.testing.assert_array_equal(made.state_dict()[name], value)
    with pytest.raises(ValueError, match=f"Lazy{kind}2d: input of shape .* has 3 dimensions"):
        fc.compile(getattr(nn, f"Lazy{kind}2d")(), (2, 3, 4))


def test_lazy_layers_refuse_what_the_layers_refuse():
    with pytest.raises(ValueError, match="stride=0"):
        nn.LazyConv2d(4, 3, stride=0)
    with pytest.raises(ValueError, match="LazyConv2d: stride=0"):
        nn.LazyConv2d(4, 3, 0)
    with pytest.raises(TypeError, match="LazyConv2d: .*'kernel'"):
        nn.LazyConv2d(4, 3, kernel=3)
    grouped = nn.LazyConv2d(4, 3, 1, 1, 1, 2)  # groups by position
    fc.compile(grouped, (1, 6, 5, 5))
    assert grouped.weight.shape == (4, 3, 3, 3)
    with pytest.raises(TypeError, match=r"LazyLinear: out_features='a'"):
        nn.LazyLinear("a")


def test_separable_convolution():
    layer = nn.SeparableConv2d(3, 8, 3, stride=2, padding=1, depth_multiplier=2)
    assert [tuple(p.shape) for p in layer.parameters()] == [(6, 1, 3, 3), (8, 6, 1, 1), (8,)]
    x = images(2, 3, 9, 8)
    F, parts = fc.functional, dict(layer.named_parameters())
    middle = F.conv2d(x, parts["depthwise.weight"].data, None, 2, 1, 1, 3)
    right = F.conv2d(middle, parts["pointwise.weight"].data, parts["pointwise.bias"].data)
    np.testing.assert_allclose(fc.compile(layer, x.shape)(x), right, rtol=1e-5, atol=1e-6)
    for layer, shape in ((nn.SeparableConv1d(3, 4, 3), (2, 3, 9)), (nn.SeparableConv3d(2, 4, 3), (1, 2, 5, 5, 5))):
        assert fc.compile(layer, shape)(images(*shape)).shape[1] == 4


def test_bilinear():
    layer, (x, y) = nn.Bilinear(4, 5, 3), (images(2, 6, 4), images(2, 6, 5))
    out = fc.compile(layer, {"x": x.shape, "y": y.shape})(x, y)
    right = np.einsum("nti,oij,ntj->nto", x, np.float64(layer.weight.data), y) + layer.bias.data
    np.testing.assert_allclose(out, right, rtol=1e-5, atol=1e-5)
