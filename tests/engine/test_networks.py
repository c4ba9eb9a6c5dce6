"""Whole networks against compositions of the reference functions, in inference and in training."""

import numpy as np
import pytest
import reference as ref

import fastconv as fc
from fastconv import nn
from fastconv.engine.training import TrainingTape
from fastconv.graph.ir import apply

TOLERANCE = 2e-6  # relative L2 error of a few layers of float32 sums of at most 200 products


class Residual(nn.Module):
    """conv, ReLU, pool, conv, BatchNorm, residual, ReLU, Linear."""

    def __init__(self, track=True):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(5, 5, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(5, momentum=0.3, track_running_stats=track)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(5 * 4 * 3, 7)

    def forward(self, x):
        a = self.pool(self.relu(self.conv1(x)))
        b = self.relu(self.bn(self.conv2(a)) + a)
        return self.fc(b.flatten(1))


def network(**keywords):
    """A network all of whose parameters and statistics are far from their defaults."""
    fc.manual_seed(5)
    net = Residual(**keywords)
    rng = np.random.default_rng(5)
    for p in (net.bn.weight, net.bn.bias):
        p.data = rng.uniform(0.5, 2, p.shape)
    if net.bn.running_mean is not None:
        net.bn.running_mean.data = rng.normal(size=5)
        net.bn.running_var.data = rng.uniform(0.5, 2, 5)
    return net


def reference(net, x, training):
    """Outputs of every stage, in float64."""
    w = net.state_dict()
    v = {"x": x}
    v["conv1"] = ref.conv(x, w["conv1.weight"], w["conv1.bias"], padding=1)
    v["relu1"] = ref.relu(v["conv1"])
    v["pool"] = ref.max_pool(v["relu1"], 2)
    v["a"] = v["pool"].values
    v["conv2"] = ref.conv(v["a"], w["conv2.weight"], padding=1)
    v["bn"] = ref.batch_norm(v["conv2"], w.get("bn.running_mean"), w.get("bn.running_var"), w["bn.weight"], w["bn.bias"],
                             training=training, momentum=0.3)
    v["sum"] = v["bn"].output + v["a"]
    v["b"] = ref.relu(v["sum"])
    v["y"] = ref.linear(ref.flatten(v["b"], 1), w["fc.weight"], w["fc.bias"])
    return v


def reference_gradients(net, v, gy, training):
    w = net.state_dict()
    g = {}
    gflat, g["fc.weight"], g["fc.bias"] = ref.linear_backward(gy, ref.flatten(v["b"], 1), w["fc.weight"])
    gsum = ref.relu_backward(ref.flatten_backward(gflat, v["b"].shape), v["sum"])
    gconv2, g["bn.weight"], g["bn.bias"] = ref.batch_norm_backward(
        gsum, v["conv2"], w.get("bn.running_mean"), w.get("bn.running_var"), w["bn.weight"], training=training)
    g["conv2.weight"] = ref.conv_backward_weight(v["a"], w["conv2.weight"].shape, gconv2, padding=1)
    ga = gsum + ref.conv_backward_data(v["a"].shape, w["conv2.weight"], gconv2, padding=1)
    gconv1 = ref.relu_backward(ref.max_pool_backward(ga, v["pool"].indices, v["relu1"].shape), v["conv1"])
    g["conv1.weight"] = ref.conv_backward_weight(v["x"], w["conv1.weight"].shape, gconv1, padding=1)
    g["conv1.bias"] = ref.conv_backward_bias(gconv1)
    return g


def images(n, shape=(3, 8, 6), seed=1):
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)


def close(a, b, tolerance=TOLERANCE):
    error = ref.rel_l2(a, b)
    assert error <= tolerance, error


@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("n", [4, 3, 1])
def test_inference(track, n):
    net = network(track=track)
    engine = fc.compile(net, (4, 3, 8, 6))
    x = images(n)
    close(engine(x), reference(net, x, training=not track)["y"])
    close(engine.freeze()(x), reference(net, x, training=not track)["y"])


def test_inference_follows_the_parameters():
    net = network()
    engine, x = fc.compile(net, (2, 3, 8, 6)), images(2)
    before = engine(x)
    net.load_state_dict({name: (value * 1.25).astype(value.dtype) for name, value in net.state_dict().items()})
    after = engine(x)
    assert ref.rel_l2(after, before) > 0.1
    close(after, reference(net, x, training=False)["y"])


@pytest.mark.parametrize("batch_statistics", [True, False])
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("n", [5, 2])
def test_training(batch_statistics, track, n):
    net = network(track=track)
    net.bn.train(batch_statistics)
    training = batch_statistics or not track
    engine = fc.compile(net, (5, 3, 8, 6), training=True)
    x, gy = images(n), images(n, (7,), seed=2)
    v = reference(net, x, training)
    expected = reference_gradients(net, v, gy, training)
    before = net.state_dict()
    close(engine(x), v["y"])
    engine.backward(gy)
    named = dict(net.named_parameters())
    assert set(named) == set(expected)
    for name, gradient in expected.items():
        close(named[name].grad, gradient, 2 * TOLERANCE)
    if track:
        assert net.bn.num_batches_tracked == int(batch_statistics)
        if batch_statistics:
            close(net.bn.running_mean.data, v["bn"].running_mean)
            close(net.bn.running_var.data, v["bn"].running_var)
        else:
            np.testing.assert_array_equal(net.bn.running_mean.data, before["bn.running_mean"])
            np.testing.assert_array_equal(net.bn.running_var.data, before["bn.running_var"])


def test_inference_sees_the_statistics_that_training_has_changed():
    net = network()
    inference, training, x = fc.compile(net, (4, 3, 8, 6)), fc.compile(net, (4, 3, 8, 6), training=True), images(4)
    before = inference(x)
    training(x)
    after = inference(x)
    assert ref.rel_l2(after, before) > 0.01
    close(after, reference(net, x, training=False)["y"])


def test_frozen_parameters_get_no_gradient():
    net = network()
    net.conv1.requires_grad_(False)
    engine, x, gy = fc.compile(net, (2, 3, 8, 6), training=True), images(2), images(2, (7,), seed=2)
    expected = reference_gradients(net, reference(net, x, True), gy, True)
    engine(x)
    engine.backward(gy)
    for name, p in net.named_parameters():
        if name.startswith("conv1"):
            assert p.grad is None
        else:
            close(p.grad, expected[name], 2 * TOLERANCE)


class Mobile(nn.Module):
    """Depthwise and pointwise convolutions, ReLU6, a concatenation, a softmax over globally averaged channels."""

    def __init__(self):
        super().__init__()
        self.depthwise = nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6)
        self.act = nn.ReLU6()
        self.left = nn.Conv2d(6, 4, 1)
        self.right = nn.AvgPool2d(3, 1, padding=1)
        self.drop = nn.Dropout(0.9)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.soft = nn.Softmax(dim=1)

    def forward(self, x):
        x = self.act(self.depthwise(x))
        x = apply("concat", [self.left(x), self.right(x)], dim=1)
        return self.soft(self.drop(self.pool(x)).flatten(1))


def test_branches_are_concatenated():
    fc.manual_seed(3)
    net = Mobile()
    x = images(3, (6, 9, 7)) * 8
    w = net.state_dict()
    d = np.clip(ref.conv(x, w["depthwise.weight"], w["depthwise.bias"], stride=2, padding=1, groups=6), 0, 6)
    assert (d == 6).any() and (d == 0).any()
    both = ref.concat([ref.conv(d, w["left.weight"], w["left.bias"]), ref.avg_pool(d, 3, 1, 1)], dim=1)
    expected = ref.softmax(ref.flatten(ref.adaptive_avg_pool(both, 1), 1), dim=1)
    close(fc.compile(net, (3, 6, 9, 7))(x), expected)


def test_a_shared_module_gets_the_sum_of_its_gradients():
    fc.manual_seed(4)
    layer = nn.Linear(6, 6)
    net = nn.Sequential(layer, nn.Tanh(), layer)
    x, gy = images(4, (6,)), images(4, (6,), seed=2)
    w = layer.state_dict()
    hidden = ref.linear(x, w["weight"], w["bias"])
    middle = ref.tanh(hidden)
    g, gw2, gb2 = ref.linear_backward(gy, middle, w["weight"])
    _, gw1, gb1 = ref.linear_backward(ref.tanh_backward(g, hidden), x, w["weight"])
    engine = fc.compile(net, (4, 6), training=True)
    close(engine(x), ref.linear(middle, w["weight"], w["bias"]))
    engine.backward(gy)
    close(layer.weight.grad, gw1 + gw2)
    close(layer.bias.grad, gb1 + gb2)


@pytest.mark.parametrize(("layer", "function"), [
    (nn.ReLU(), ref.relu),
    (nn.ReLU6(), lambda x: np.clip(x, 0, 6)),
    (nn.Hardtanh(-0.5, 2), lambda x: np.clip(x, -0.5, 2)),
    (nn.LeakyReLU(0.2), lambda x: ref.leaky_relu(x, 0.2)),
    (nn.Sigmoid(), ref.sigmoid),
    (nn.Tanh(), ref.tanh),
    (nn.SiLU(), lambda x: x * ref.sigmoid(x)),
    (nn.Hardswish(), lambda x: x * np.clip(x + 3, 0, 6) / 6),
    (nn.Hardsigmoid(), lambda x: np.clip(x + 3, 0, 6) / 6),
    (nn.ELU(0.7), lambda x: np.where(x > 0, x, 0.7 * np.expm1(np.minimum(x, 0)))),
    (nn.GELU(), lambda x: x * 0.5 * (1 + np.vectorize(__import__("math").erf)(x / np.sqrt(2)))),
    (nn.GELU("tanh"), lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
    (nn.Softmax(1), lambda x: ref.softmax(x, 1)),
    (nn.LogSoftmax(1), lambda x: ref.log_softmax(x, 1)),
    (nn.MaxPool2d(3, 2, 1), lambda x: ref.max_pool(x, 3, 2, 1).values),
    (nn.MaxPool2d((2, 3), dilation=2, ceil_mode=True),
     lambda x: ref.max_pool(x, (2, 3), None, 0, 2, True).values),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), lambda x: ref.avg_pool(x, 3, 2, 1, count_include_pad=False)),
    (nn.AvgPool2d(2, ceil_mode=True, divisor_override=3),
     lambda x: ref.avg_pool(x, 2, ceil_mode=True, divisor_override=3)),
    (nn.AdaptiveAvgPool2d((3, None)), lambda x: ref.adaptive_avg_pool(x, (3, 5))),
    (nn.AdaptiveMaxPool2d((3, 2)), lambda x: ref.adaptive_max_pool(x, (3, 2))[0]),
    (nn.BatchNorm2d(3, affine=False, track_running_stats=False), lambda x: ref.batch_norm(x, None, None).output),
    (nn.Identity(), lambda x: x),
    (nn.Dropout(0.5), lambda x: x),
    (nn.Flatten(), lambda x: ref.flatten(x, 1)),
], ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "")
def test_layers(layer, function):
    x = images(2, (3, 7, 5)) * 3
    close(fc.compile(layer, (2, 3, 7, 5))(x), function(x.astype(np.float64)))


@pytest.mark.parametrize(("conv", "pool", "norm", "shape"), [
    (nn.Conv1d, nn.MaxPool1d, nn.BatchNorm1d, (4, 11)), (nn.Conv3d, nn.MaxPool3d, nn.BatchNorm3d, (4, 5, 6, 7))])
def test_other_dimensions(conv, pool, norm, shape):
    fc.manual_seed(6)
    net = nn.Sequential(conv(4, 6, 3, padding=1, dilation=1, groups=2), norm(6), pool(2))
    x = images(2, shape)
    w = net.state_dict()
    y = ref.conv(x, w["0.weight"], w["0.bias"], padding=1, groups=2)
    y = ref.batch_norm(y, w["1.running_mean"], w["1.running_var"], w["1.weight"], w["1.bias"]).output
    close(fc.compile(net, (2, *shape))(x), ref.max_pool(y, 2).values)


@pytest.mark.parametrize("keywords", [
    {}, {"reduction": "sum"}, {"label_smoothing": 0.1, "weight": [1, 2, 0.5, 1, 3]}, {"ignore_index": 2}])
def test_cross_entropy_step(keywords):
    """One step of gradient descent through network and loss."""
    fc.manual_seed(8)
    net, loss = nn.Sequential(nn.Linear(6, 5)), nn.CrossEntropyLoss(**keywords)
    w = net.state_dict()
    x, target = images(4, (6,)), np.array([0, 2, 4, 1])
    logits = ref.linear(x, w["0.weight"], w["0.bias"])
    g = ref.cross_entropy_backward(1.0, logits, target, **keywords)
    _, gw, gb = ref.linear_backward(g, x, w["0.weight"])
    tape = TrainingTape(net.symbolic(True), loss.symbolic(True), fc.optim.SGD(lr=0.5))
    close(np.float32(tape.step(x, target)), ref.cross_entropy(logits, target, **keywords))
    close(net[0].weight.data, w["0.weight"] - 0.5 * gw)
    close(net[0].bias.data, w["0.bias"] - 0.5 * gb)


def test_squared_error_step():
    fc.manual_seed(9)
    net = nn.Sequential(nn.Linear(6, 5))
    w = net.state_dict()
    x, target = images(4, (6,)), images(4, (5,), seed=3)
    y = ref.linear(x, w["0.weight"], w["0.bias"])
    _, gw, gb = ref.linear_backward(ref.mse_loss_backward(1.0, y, target), x, w["0.weight"])
    tape = TrainingTape(net.symbolic(True), nn.MSELoss().symbolic(True), fc.optim.SGD(lr=0.5))
    close(np.float32(tape.step(x, target)), ref.mse_loss(y, target))
    close(net[0].weight.data, w["0.weight"] - 0.5 * gw)
    close(net[0].bias.data, w["0.bias"] - 0.5 * gb)


class Arithmetic(nn.Module):
    """Sums, differences and products of activations, parameters and numbers, behind an operator that takes residuals."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        self.thin = nn.Conv2d(2, 1, 1)
        self.image = nn.Parameter(np.arange(12).reshape(1, 1, 3, 4))
        self.channel = nn.Parameter(np.array([2.0, -3.0, 5.0]).reshape(1, 3, 1, 1))

    def forward(self, x):
        y = self.conv(x)
        return (self.thin(x) + self.image, self.image - y, y + y, -y, 2 - y, y - 2, 3 * y + 1, y * self.channel,
                self.conv(x) + self.channel, self.conv(x) - y, self.channel - y)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_arithmetic(n, training):
    net = Arithmetic()
    x = images(n, (2, 3, 4))
    y = ref.conv(x, net.conv.weight.data, net.conv.bias.data)
    image, channel = net.image.data.astype(np.float64), net.channel.data.astype(np.float64)
    expected = (ref.conv(x, net.thin.weight.data, net.thin.bias.data) + image, image - y, y + y, -y, 2 - y, y - 2,
                3 * y + 1, y * channel, y + channel, y - y, channel - y)
    for i, (a, b) in enumerate(zip(fc.compile(net, x.shape, training=training)(x), expected, strict=True)):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-5, err_msg=str(i))


class Readers(nn.Module):
    """Outputs that others read too, or that have an activation already: what an epilogue or a folding must leave alone."""

    def __init__(self, forward):
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.bn, self.relu, self.clip = nn.BatchNorm2d(3), nn.ReLU(), nn.Hardtanh(-0.5, 1.5)
        self.forward = lambda x: forward(self, x)


READERS = {
    "activated and read": lambda m, x: m.relu(m.conv(x)) + m.other(x),
    "read twice": lambda m, x: (lambda y: m.other(m.relu(y)) + y)(m.conv(x)),
    "read twice by one": lambda m, x: (lambda y: m.relu(y + y))(m.conv(x)),
    "an output itself": lambda m, x: (lambda y: (y, m.relu(y)))(m.conv(x)),
    "normalised and read": lambda m, x: (lambda y: m.bn(y) + m.other(y))(m.conv(x)),
    "normalised and an output": lambda m, x: (lambda y: (y, m.bn(y)))(m.conv(x)),
    "two activations": lambda m, x: m.clip(m.relu(m.conv(x))),
    "added after the activation": lambda m, x: m.relu(m.conv(x)) + x,
    "two residuals": lambda m, x: m.conv(x) + x + m.relu(x),
    "a residual made later": lambda m, x: (lambda y: m.clip(y + m.relu(x)))(m.conv(x)),
    "a residual made from it": lambda m, x: (lambda y: y + m.other(y))(m.conv(x)),
}


class Definition:
    """The modules of Readers by the reference functions."""

    def __init__(self, net):
        w = net.state_dict()
        self.conv = lambda x: ref.conv(x, w["conv.weight"], w["conv.bias"], padding=1)
        self.other = lambda x: ref.conv(x, w["other.weight"], w["other.bias"])
        self.bn = lambda x: ref.batch_norm(x, w["bn.running_mean"], w["bn.running_var"], w["bn.weight"], w["bn.bias"],
                                           training=net.bn.training).output
        self.relu, self.clip = ref.relu, lambda x: np.clip(x, -0.5, 1.5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", READERS)
def test_what_others_read_is_left_alone(name, training):
    fc.manual_seed(6)
    net, x = Readers(READERS[name]), images(2)
    for p in (net.bn.weight, net.bn.bias, net.bn.running_mean, net.bn.running_var):
        p.data = np.random.default_rng(6).uniform(0.5, 2, 3)
    net.train(training)
    expected = READERS[name](Definition(net), x)
    got = fc.compile(net, x.shape, training=training)(x)
    pairs = zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]
    for a, b in pairs:
        close(a, b)


def test_lenet5():
    fc.manual_seed(0)
    net = fc.zoo.lenet5()
    x = images(2, (1, 32, 32))
    w = net.state_dict()
    y = ref.max_pool(ref.relu(ref.conv(x, w["0.weight"], w["0.bias"])), 2).values
    y = ref.max_pool(ref.relu(ref.conv(y, w["3.weight"], w["3.bias"])), 2).values
    y = ref.relu(ref.linear(ref.flatten(y, 1), w["7.weight"], w["7.bias"]))
    y = ref.linear(ref.relu(ref.linear(y, w["9.weight"], w["9.bias"])), w["11.weight"], w["11.bias"])
    close(fc.compile(net, (2, 1, 32, 32))(x), y)


CONV_NETS = {
    "conv": lambda c, bias: nn.Conv2d(3, c, 3, bias=bias), "pointwise": lambda c, bias: nn.Conv2d(3, c, 1, bias=bias),
    "transposed": lambda c, bias: nn.ConvTranspose2d(3, c, 2, 2, bias=bias),
    "1-D": lambda c, bias: nn.Conv1d(3, c, 3, bias=bias), "linear": lambda c, bias: nn.Linear(3, c, bias=bias),
}


class Biased(nn.Module):
    """A layer, and a parameter added to what it makes, from either side; a normalisation behind it; another reader."""

    def __init__(self, layer, shape, first=False, norm=None, twice=False):
        super().__init__()
        self.layer, self.first, self.norm, self.twice = layer, first, norm, twice
        self.term = nn.Parameter(np.random.default_rng(5).standard_normal(shape).astype(np.float32))

    def forward(self, x):
        y = self.layer(x)
        z = self.term + y if self.first else y + self.term
        z = self.norm(z) if self.norm else z
        return z * y if self.twice else z


def biased(layer, filters, *shape, **more):
    fc.manual_seed(3)
    return Biased(CONV_NETS[layer](filters, more.pop("bias", False)), shape, **more).eval()


def shaped(layer):
    return {"1-D": (2, 3, 9), "linear": (2, 3)}.get(layer, (2, 3, 8, 7))


@pytest.mark.parametrize("layer", CONV_NETS)
@pytest.mark.parametrize("filters", [1, 2, 16, 37])
@pytest.mark.parametrize("first", [False, True])
def test_a_parameter_added_to_each_channel_is_a_bias(layer, filters, first):
    """With the bits of a layer that has it as its own."""
    ones = len(shaped(layer)) - 2
    x = np.random.default_rng(1).standard_normal(shaped(layer)).astype(np.float32)
    for shape in ((1, filters, *[1] * ones), (filters, *[1] * ones)):
        net = biased(layer, filters, *shape, first=first)
        engine = fc.compile(net, x.shape)
        assert not [s for s in engine.steps() if s.op in ("add", "map")]
        same = CONV_NETS[layer](filters, True)
        same.weight.data, same.bias.data = net.layer.weight.data, net.term.data.reshape(-1)
        np.testing.assert_array_equal(engine(x), fc.compile(same.eval(), x.shape)(x))
        net.term.data = net.term.data + 1.0  # the engine follows
        np.testing.assert_allclose(engine(x), fc.compile(same, x.shape)(x) + 1.0, rtol=1e-5, atol=1e-5)


def test_a_bias_is_folded_before_a_normalisation():
    norm = nn.BatchNorm2d(4)
    norm.running_mean.data, norm.running_var.data = np.arange(4, dtype=np.float32), np.full(4, 2.5, np.float32)
    net = biased("transposed", 4, 1, 4, 1, 1, norm=norm)
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 7)).astype(np.float32)
    engine = fc.compile(net, x.shape)
    assert not [s for s in engine.steps() if s.segment == "forward" and s.op in ("add", "batch_norm")]
    y = np.asarray(fc.compile(net.layer, x.shape)(x), np.float64) + net.term.data
    np.testing.assert_allclose(engine(x), (y - np.arange(4)[:, None, None]) / np.sqrt(2.5 + 1e-5), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("what", ["own bias", "one number", "a picture", "twice", "an output", "training"])
def test_what_is_no_bias_stays_a_sum(what):
    filters, shape = 5, {"one number": (1, 1, 1), "a picture": (1, 1, 16, 14)}.get(what, (1, 5, 1, 1))
    net = biased("transposed", filters, *shape, bias=what == "own bias", twice=what == "twice")
    if what == "an output":
        forward, net = net, nn.Module()
        net.inner = forward
        net.forward = lambda x: (y := forward.layer(x), y + forward.term)
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 7)).astype(np.float32)
    inner = net.inner if what == "an output" else net
    y = np.array(fc.compile(inner.layer, x.shape)(x))
    z = y + inner.term.data
    if what == "training":
        engine = fc.compile(net.train(), x.shape, training=True)
        gy = np.random.default_rng(2).standard_normal(z.shape).astype(np.float32)
        np.testing.assert_allclose(engine(x), z, rtol=1e-5, atol=1e-5)
        engine.backward(gy)
        np.testing.assert_allclose(inner.term.grad, gy.sum((0, 2, 3)).reshape(shape), rtol=1e-4, atol=1e-4)
        return
    got = fc.compile(net.eval(), x.shape)(x)
    expected = {"an output": (y, z), "twice": (z * y,)}.get(what, (z,))
    for a, b in zip(got if isinstance(got, tuple) else (got,), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
