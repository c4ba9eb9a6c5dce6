"""Batch normalisation through the engine: training, inference, folding, running statistics, errors."""

import numpy as np
import pytest
import reference as ref

import fastconv as fc
import fastconv.functional as F
from fastconv import nn
from fastconv.graph import passes
from fastconv.graph.ir import apply
from fastconv.graph.parameter import Parameter

LAYERS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
SHAPES = [(6, 5), (4, 19, 7), (3, 16, 9, 5), (2, 33, 3, 5, 7), (2, 3, 40, 41)]


def normal(shape, seed=0, mean=0.5):
    return np.random.default_rng(seed).normal(mean, 2, shape).astype(np.float32)


def layer(shape, **keywords):
    """A layer whose parameters and statistics are not those of the beginning."""
    bn = LAYERS[len(shape)](shape[1], **keywords)
    rng = np.random.default_rng(1)
    for p in (bn.weight, bn.bias, bn.running_mean, bn.running_var):
        if p is not None:
            p.data = rng.uniform(0.5, 2, shape[1]).astype(np.float32)
    return bn


def values(*parameters):
    return [None if p is None else p.numpy() for p in parameters]


def close(a, b, bound=1e-6):
    assert ref.rel_l2(a, b) < bound


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_training(shape, track, affine):
    bn = layer(shape, affine=affine, track_running_stats=track)
    weight, bias, mean, var = values(bn.weight, bn.bias, bn.running_mean, bn.running_var)
    engine = fc.compile(bn, shape, training=True)
    x, gy = normal(shape), normal(shape, 2)
    y = engine(x)
    truth = ref.batch_norm(x, mean, var, weight, bias, True)
    close(y, truth.output)
    if track:
        close(bn.running_mean.data, truth.running_mean)
        close(bn.running_var.data, truth.running_var)
        assert bn.num_batches_tracked == 1
    engine.backward(gy)
    if affine:
        _, gw, gb = ref.batch_norm_backward(gy, x, mean, var, weight, True)
        close(bn.weight.grad, gw, 3e-6)
        close(bn.bias.grad, gb, 3e-6)


class Behind(nn.Module):
    """A layer behind a scale, which shows the gradient of the layer's input."""

    def __init__(self, inner, shape):
        super().__init__()
        c = shape[1]
        make = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[len(shape)]
        self.first, self.inner = make(c, c, 1), inner
        self.first.weight.data = np.eye(c, dtype=np.float32).reshape(self.first.weight.shape)
        self.first.bias.data = np.zeros(c, np.float32)

    def forward(self, x):
        return self.inner(self.first(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_gradient_of_the_input(shape, training):
    bn = layer(shape)
    weight, bias, mean, var = values(bn.weight, bn.bias, bn.running_mean, bn.running_var)
    model = Behind(bn, shape)
    bn.train(training)  # a frozen layer in a network that trains
    engine = fc.compile(model, shape, training=True)
    x, gy = normal(shape), normal(shape, 2)
    close(engine(x), ref.batch_norm(x, mean, var, weight, bias, training).output)
    engine.backward(gy)
    gx, gw, gb = ref.batch_norm_backward(gy, x, mean, var, weight, training)
    close(model.first.weight.grad, ref.conv_backward_weight(x, model.first.weight.shape, gx), 2e-5)
    close(bn.weight.grad, gw, 3e-6)
    close(bn.bias.grad, gb, 3e-6)
    if not training:
        np.testing.assert_array_equal(bn.running_mean.data, mean)
        assert bn.num_batches_tracked == 0


def test_gradient_of_weight_without_requires_grad():
    bn = layer((3, 4, 5, 5))
    bn.requires_grad_(False)
    model = Behind(bn.eval(), (3, 4, 5, 5))
    engine = fc.compile(model, (3, 4, 5, 5), training=True)
    x, gy = normal((3, 4, 5, 5)), normal((3, 4, 5, 5), 2)
    engine(x)
    engine.backward(gy)
    gx, *_ = ref.batch_norm_backward(gy, x, *values(bn.running_mean, bn.running_var, bn.weight))
    close(model.first.weight.grad, ref.conv_backward_weight(x, (4, 4, 1, 1), gx), 2e-5)
    assert bn.weight.grad is None
    assert not any("sums" in step.op for step in engine.steps())


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_inference(shape, affine):
    bn = layer(shape, affine=affine)
    engine = fc.compile(bn, shape)
    x = normal(shape)
    weight, bias, mean, var = values(bn.weight, bn.bias, bn.running_mean, bn.running_var)
    close(engine(x), ref.batch_norm(x, mean, var, weight, bias).output)
    assert bn.num_batches_tracked == 0
    bn.running_var.data = var * 4  # the engine follows
    close(engine(x), ref.batch_norm(x, mean, var * 4, weight, bias).output)


def test_inference_without_running_statistics_uses_those_of_the_batch():
    bn = layer((4, 19, 7), track_running_stats=False)
    x = normal((4, 19, 7))
    y = fc.compile(bn, x.shape)(x)
    close(y, ref.batch_norm(x, None, None, *values(bn.weight, bn.bias)).output)


@pytest.mark.parametrize("bias", [True, False])
def test_folded_into_the_convolution(bias):
    model = nn.Sequential(nn.Conv2d(3, 17, 3, bias=bias), layer((1, 17, 1, 1)))
    engine = fc.compile(model, (2, 3, 9, 9))
    assert not any(step.op == "batch_norm" for step in engine.steps())
    conv, bn = model[0], model[1]
    for _ in range(2):
        x = normal((2, 3, 9, 9))
        hidden = ref.conv(x, *values(conv.weight, conv.bias))
        expected = ref.batch_norm(hidden, *values(bn.running_mean, bn.running_var, bn.weight, bn.bias)).output
        close(engine(x), expected)
        bn.running_mean.data = np.linspace(-1, 1, 17, dtype=np.float32)  # folded again


def test_an_inference_engine_follows_the_training_of_another():
    bn = layer((4, 5, 6))
    inference, training = fc.compile(bn, (4, 5, 6)), fc.compile(bn, (4, 5, 6), training=True)
    x = normal((4, 5, 6))
    before = inference(x)
    training(x)
    mean, var, weight, bias = values(bn.running_mean, bn.running_var, bn.weight, bn.bias)
    after = inference(x)
    assert not np.array_equal(before, after)
    close(after, ref.batch_norm(x, mean, var, weight, bias).output)


def test_cumulative_average():
    bn = nn.BatchNorm1d(3, momentum=None)
    engine = fc.compile(bn, (8, 3), training=True)
    batches = [normal((8, 3), seed) for seed in range(3)]
    for x in batches:
        engine(x)
    close(bn.running_mean.data, np.mean([x.mean(axis=0, dtype=float) for x in batches], axis=0))
    close(bn.running_var.data, np.mean([x.astype(float).var(axis=0, ddof=1) for x in batches], axis=0))
    assert bn.num_batches_tracked == 3


def test_smaller_batch():
    bn = layer((8, 5, 6))
    weight, bias, mean, var = values(bn.weight, bn.bias, bn.running_mean, bn.running_var)
    engine = fc.compile(bn, (8, 5, 6), training=True)
    x = normal((3, 5, 6))
    truth = ref.batch_norm(x, mean, var, weight, bias, True)
    close(engine(x), truth.output)
    close(bn.running_var.data, truth.running_var)
    assert engine.batch == 8


def test_one_value_per_channel_is_refused_before_anything_runs():
    bn = layer((8, 5))
    mean = bn.running_mean.numpy()
    engine = fc.compile(nn.Sequential(bn), (8, 5), training=True)
    with pytest.raises(ValueError, match=r"batch_norm '0': Expected more than 1 value per channel when training, got "
                                         r"input of shape \(1, 5\)"):
        engine(normal((1, 5)))
    np.testing.assert_array_equal(bn.running_mean.data, mean)
    assert bn.num_batches_tracked == 0
    engine(normal((2, 5)))
    assert bn.num_batches_tracked == 1
    fc.compile(bn, (1, 5))(normal((1, 5)))  # inference takes one value
    assert fc.compile(layer((4, 5, 2)), (4, 5, 2), training=True)(normal((1, 5, 2))).shape == (1, 5, 2)


def test_empty_batch():
    bn = layer((4, 5, 6))
    mean, engine = bn.running_mean.numpy(), fc.compile(bn, (4, 5, 6), training=True)
    assert engine(np.zeros((0, 5, 6), np.float32)).shape == (0, 5, 6)
    np.testing.assert_array_equal(bn.running_mean.data, mean)
    engine.backward(np.zeros((0, 5, 6), np.float32))
    np.testing.assert_array_equal(bn.weight.grad, np.zeros(5))


def vector(n):
    return Parameter(np.ones(n, np.float32))


@pytest.mark.parametrize("vectors, keywords, message", [
    ([vector(4), None, None, None], {}, r"weight of shape \(4,\).* 3 channels"),
    ([None, vector(2), None, None], {}, r"bias of shape \(2,\)"),
    ([None, None, vector(3), None], {}, "running_var=None: running_mean and running_var go together"),
    ([None] * 4, {"eps": -1.0}, r"eps=-1.0 must be finite and at least 0"),
    ([None] * 4, {"momentum": float("nan")}, "momentum=nan must be finite"),
    ([None, None, vector(3), vector(3)], {"momentum": None, "training": True}, "needs num_batches_tracked"),
])
def test_wrong_arguments(vectors, keywords, message):
    with pytest.raises(ValueError, match="batch_norm.*" + message):
        fc.compile(lambda x: apply("batch_norm", [x, *vectors], **keywords), (2, 3, 4, 4))


def test_wrong_types():
    for keywords in ({"eps": "small"}, {"momentum": True}, {"num_batches_tracked": 3}):
        with pytest.raises(TypeError, match=f"batch_norm: {next(iter(keywords))}="):
            fc.compile(lambda x, k=keywords: apply("batch_norm", [x, *[None] * 4], **k), (2, 3, 4, 4))


def test_threads_give_the_same_bits():
    results = []
    for threads in (1, 2):
        model = Behind(layer((4, 24, 40, 40)), (4, 24, 40, 40))
        engine = fc.compile(model, (4, 24, 40, 40), training=True, threads=threads)
        y = engine(normal((4, 24, 40, 40)))
        engine.backward(normal((4, 24, 40, 40), 3))
        results.append([y, model.first.weight.grad.copy(), model.inner.weight.grad.copy(), model.inner.running_var.numpy()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.4, 0.3), nn.LeakyReLU(0.1)])
@pytest.mark.parametrize("affine", [True, False])
def test_the_gradient_goes_through_the_activation_behind_it(activation, affine, monkeypatch):
    """In the same steps, with the same bits, where that is possible."""
    def gradients():
        fc.manual_seed(1)
        net = nn.Sequential(nn.Conv2d(3, 17, 3), nn.BatchNorm2d(17, affine=affine), activation, nn.Conv2d(17, 4, 1))
        engine = fc.compile(net, (2, 3, 9, 8), training=True)
        engine(normal((2, 3, 9, 8)))
        engine.backward(normal((2, 4, 7, 6), 1))
        return [p.grad.copy() for p in net.parameters()], {step.op for step in engine.steps()}

    fused, ops = gradients()
    monkeypatch.setattr(passes, "fuse_gradient", lambda graph: None)
    plain, more = gradients()
    assert len(fused) == (6 if affine else 4)
    for a, b in zip(fused, plain, strict=True):
        np.testing.assert_array_equal(a, b)
    gone = {"ReLU": {"relu_backward"}, "LeakyReLU": set()}.get(type(activation).__name__, {"clip_backward"})
    assert more - ops == gone


@pytest.mark.parametrize("what", ["residual", "residual behind", "read twice"])
def test_where_the_gradient_is_wanted_elsewhere(what, monkeypatch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.norm = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 5, 1), nn.BatchNorm2d(5)

        def forward(self, x):
            y = self.a(x)
            if what == "residual":
                return self.b(F.relu(self.norm(y) + y))
            z = self.norm(y)
            return self.b(F.relu(z) + y) if what == "residual behind" else self.b(F.relu(z)) + z

    def gradients():
        fc.manual_seed(1)
        net = Net()
        engine = fc.compile(net, (2, 3, 4, 5), training=True)
        engine(normal((2, 3, 4, 5)))
        engine.backward(normal((2, 5, 4, 5), 1))
        return [p.grad.copy() for p in net.parameters()]

    fused = gradients()
    monkeypatch.setattr(passes, "fuse_gradient", lambda graph: None)
    for a, b in zip(fused, gradients(), strict=True):
        np.testing.assert_array_equal(a, b)
