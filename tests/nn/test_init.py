"""Initial values: their distribution, their bounds, their seed."""

import math

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from fastconv.nn import init

SHAPE = (256, 64, 3, 3)
FAN_IN, FAN_OUT = 64 * 9, 256 * 9
COUNT = math.prod(SHAPE)


@pytest.fixture(autouse=True)
def seed():
    fc.manual_seed(7)


def is_uniform(values, low, high):
    """Kolmogorov and Smirnov: the largest gap between the distribution functions, of order 1 / sqrt(n)."""
    values = np.sort(np.asarray(values, np.float64).ravel())
    assert low <= values[0] and values[-1] <= high
    expected = (values - low) / (high - low)
    gap = np.abs(expected - (np.arange(values.size) + 0.5) / values.size).max()
    return gap < 2.2 / math.sqrt(values.size)  # exceeded once in 10,000


def is_normal(values, mean, std, low=-math.inf, high=math.inf):
    values = np.sort(np.asarray(values, np.float64).ravel())[:: max(1, np.size(values) // 20000)]

    def cdf(x):
        return 0.5 * (1 + math.erf((x - mean) / std / math.sqrt(2)))

    left, right = cdf(low), cdf(high)
    expected = np.array([(cdf(x) - left) / (right - left) for x in values])
    return np.abs(expected - (np.arange(values.size) + 0.5) / values.size).max() < 2.2 / math.sqrt(values.size)


def parameter():
    return fc.Parameter(np.full(SHAPE, np.nan, np.float32))


@pytest.mark.parametrize(("function", "keywords", "bound"), [
    (init.uniform_, {"a": -2.0, "b": 2.0}, 2.0),
    (init.xavier_uniform_, {}, math.sqrt(6 / (FAN_IN + FAN_OUT))),
    (init.xavier_uniform_, {"gain": 3.0}, 3 * math.sqrt(6 / (FAN_IN + FAN_OUT))),
    (init.kaiming_uniform_, {}, math.sqrt(6 / FAN_IN)),
    (init.kaiming_uniform_, {"mode": "fan_out", "nonlinearity": "relu"}, math.sqrt(6 / FAN_OUT)),
    (init.kaiming_uniform_, {"a": math.sqrt(5)}, math.sqrt(1 / FAN_IN)),
    (init.kaiming_uniform_, {"nonlinearity": "linear"}, math.sqrt(3 / FAN_IN)),
])
def test_uniform(function, keywords, bound):
    p = parameter()
    assert function(p, **keywords) is p
    assert is_uniform(p.data, -bound * (1 + 1e-6), bound * (1 + 1e-6))
    assert not is_uniform(p.data, -bound * 1.1, bound * 1.1)


@pytest.mark.parametrize(("function", "keywords", "mean", "std"), [
    (init.normal_, {"mean": 3.0, "std": 0.5}, 3.0, 0.5),
    (init.xavier_normal_, {}, 0, math.sqrt(2 / (FAN_IN + FAN_OUT))),
    (init.kaiming_normal_, {}, 0, math.sqrt(2 / FAN_IN)),
    (init.kaiming_normal_, {"mode": "fan_out", "nonlinearity": "relu"}, 0, math.sqrt(2 / FAN_OUT)),
    (init.kaiming_normal_, {"a": 1.0}, 0, math.sqrt(1 / FAN_IN)),
])
def test_normal(function, keywords, mean, std):
    p = parameter()
    assert function(p, **keywords) is p
    assert is_normal(p.data, mean, std)
    assert not is_normal(p.data, mean, std * 1.1)


@pytest.mark.parametrize(("mean", "std", "a", "b"), [
    (0.0, 1.0, -2.0, 2.0), (0.0, 0.02, -0.01, 0.05), (0.0, 1.0, 3.0, 5.0), (0.0, 1.0, -7.0, -6.0), (1.0, 0.5, 0.99, 1.01)])
def test_truncated_normal(mean, std, a, b):
    p = fc.Parameter(np.full((200, 100), np.nan))
    init.trunc_normal_(p, mean, std, a, b)
    values = p.data.astype(np.float64)
    assert a <= values.min() and values.max() <= b
    if a >= 3:  # the upper tail has no digits left in the distribution function near 1: test its mirror image
        values, a, b = -values, -b, -a
    assert is_normal(values, mean, std, a, b)


def test_truncation_too_far_away_is_an_error():
    with pytest.raises(ValueError, match=r"trunc_normal_: a=100, b=101 is too far from mean=0.0 with std=1.0"):
        init.trunc_normal_(parameter(), a=100, b=101)


def test_constants():
    assert (init.zeros_(parameter()).data == 0).all()
    assert (init.ones_(parameter()).data == 1).all()
    assert (init.constant_(parameter(), -2.5).data == -2.5).all()


@pytest.mark.parametrize(("name", "param", "gain"), [
    ("linear", None, 1), ("conv2d", None, 1), ("sigmoid", None, 1), ("tanh", None, 5 / 3), ("relu", None, math.sqrt(2)),
    ("selu", None, 0.75), ("leaky_relu", None, math.sqrt(2 / 1.0001)), ("leaky_relu", 1.0, 1)])
def test_gain(name, param, gain):
    assert init.calculate_gain(name, param) == pytest.approx(gain, rel=1e-15)


@pytest.mark.parametrize(("layer", "fan_in"), [
    (lambda: nn.Conv2d(64, 256, 3), 576), (lambda: nn.Conv2d(64, 256, 3, groups=4), 144),
    (lambda: nn.Conv1d(64, 512, 5), 320), (lambda: nn.Conv3d(8, 256, 3), 216), (lambda: nn.Linear(100, 1000), 100)])
def test_layers_start_as_in_pytorch(layer, fan_in):
    module = layer()
    bound = (1 + 1e-6) / math.sqrt(fan_in)
    assert is_uniform(module.weight.data, -bound, bound)
    assert is_uniform(module.bias.data, -bound, bound)


def test_changes_are_seen_by_engines():
    net = nn.Sequential(nn.Linear(3, 2))
    engine = fc.compile(net, (1, 3))
    x = np.ones((1, 3), np.float32)
    assert (engine(x) != 0).all()
    init.zeros_(net[0].weight)
    init.constant_(net[0].bias, 4.0)
    assert (engine(x) == 4).all()


def test_seed():
    def values():
        return nn.Conv2d(3, 4, 3).state_dict()

    fc.manual_seed(1)
    one = values()
    assert fc.initial_seed() == 1
    after = values()
    fc.manual_seed(2)
    other = values()
    fc.manual_seed(1)
    again = values()
    for name in one:
        assert (one[name] == again[name]).all()
        assert not (one[name] == other[name]).any()
        assert not (one[name] == after[name]).any()


def test_own_generator():
    one = init.normal_(parameter(), generator=np.random.default_rng(3)).numpy()
    two = init.normal_(parameter(), generator=np.random.default_rng(3)).numpy()
    assert (one == two).all()


def test_plain_arrays_are_filled_in_place():
    array = np.full((50, 40), np.nan, np.float32)
    assert init.xavier_uniform_(array) is array
    assert np.isfinite(array).all()


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: fc.manual_seed(1.5), TypeError, "manual_seed: seed=1.5 is of type float: expected an integer"),
    (lambda: fc.manual_seed(-1), ValueError, r"manual_seed: seed=-1 must be from 0 to 2\*\*64 - 1"),
    (lambda: init.uniform_(parameter(), 1, 0), ValueError, "uniform_: a=1, b=0: a must not exceed b"),
    (lambda: init.normal_(parameter(), 0, -1), ValueError, "normal_: std=-1 must be at least 0"),
    (lambda: init.trunc_normal_(parameter(), 0, 0), ValueError, "trunc_normal_: std=0 must be positive"),
    (lambda: init.trunc_normal_(parameter(), a=1, b=1), ValueError, "a must be less than b"),
    (lambda: init.kaiming_normal_(parameter(), mode="fan"), ValueError, "mode='fan': expected 'fan_in' or 'fan_out'"),
    (lambda: init.calculate_gain("swish"), ValueError, "calculate_gain: nonlinearity='swish': expected"),
    (lambda: init.xavier_normal_(fc.Parameter(np.zeros(3))), ValueError, r"at least 2 dimensions, not shape=\(3,\)"),
    (lambda: init.zeros_(np.zeros(3)), TypeError, "constant_: tensor is a ndarray: expected a Parameter, or"),
    (lambda: init.uniform_([1.0]), TypeError, "uniform_: tensor is a list: expected a Parameter, or"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("shape, groups", [((8, 3, 3), 1), ((4, 8, 3, 5), 1), ((6, 2, 3, 3), 3), ((4, 4, 2, 2, 2), 2)])
def test_dirac_copies_channels(shape, groups):
    p = fc.Parameter(np.full(shape, np.nan, np.float32))
    assert init.dirac_(p, groups) is p
    want = np.zeros(shape)
    per = shape[0] // groups
    for f in range(shape[0]):
        if f % per < shape[1]:
            want[(f, f % per, *(s // 2 for s in shape[2:]))] = 1
    np.testing.assert_array_equal(p.data, want)


def test_eye():
    p = fc.Parameter(np.full((3, 5), np.nan, np.float32))
    np.testing.assert_array_equal(init.eye_(p).data, np.eye(3, 5))


@pytest.mark.parametrize("shape", [(5, 5), (3, 17), (17, 3), (4, 3, 3, 3), (64, 2, 3)])
def test_orthogonal(shape):
    p = fc.Parameter(np.full(shape, np.nan, np.float32))
    w = init.orthogonal_(p, gain=2.0).data.astype(np.float64).reshape(shape[0], -1)
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-5)
    first = p.data
    fc.manual_seed(7)
    np.testing.assert_array_equal(init.orthogonal_(fc.Parameter(np.zeros(shape)), gain=2.0).data, first)


def test_sparse():
    p = fc.Parameter(np.full((50, 400), np.nan, np.float32))
    assert init.sparse_(p, 0.25, std=0.5) is p
    zeros = (p.data == 0).sum(0)
    assert (zeros == 13).all() and len(np.unique((p.data == 0).argmax(0))) > 5
    assert is_normal(p.data[p.data != 0], 0, 0.5)


@pytest.mark.parametrize("call, message", [
    (lambda p: init.eye_(p((2, 3, 4))), "eye_: tensor of shape"),
    (lambda p: init.dirac_(p((2, 3))), "dirac_: tensor of shape"),
    (lambda p: init.dirac_(p((4, 3, 3)), 3), "dirac_: groups=3 does not divide the 4 filters"),
    (lambda p: init.dirac_(p((4, 3, 3)), 0), "dirac_: groups=0 must be at least 1"),
    (lambda p: init.orthogonal_(p((4,))), "orthogonal_: tensor of shape"),
    (lambda p: init.sparse_(p((4,)), 0.5), "sparse_: tensor"),
    (lambda p: init.sparse_(p((4, 4)), 1.5), "sparse_: sparsity=1.5 must be from 0 to 1")])
def test_shapes_that_they_do_not_take(call, message):
    with pytest.raises(ValueError, match=message):
        call(lambda shape: fc.Parameter(np.zeros(shape, np.float32)))
