"""Transposed convolution against scattering in float64: functions, layers, training, folding of BatchNorm, bad input."""

import itertools

import numpy as np
import pytest
import reference as R
from gradients import run
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv as fc
import fastconv.functional as F
from fastconv import nn

FORWARD = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
DATA = {1: F.conv_transpose1d_backward_data, 2: F.conv_transpose2d_backward_data, 3: F.conv_transpose3d_backward_data}
WEIGHT = {1: F.conv_transpose1d_backward_weight, 2: F.conv_transpose2d_backward_weight,
          3: F.conv_transpose3d_backward_weight}
BIAS = {1: F.conv_transpose1d_backward_bias, 2: F.conv_transpose2d_backward_bias, 3: F.conv_transpose3d_backward_bias}
EPS = 2.0**-24


@pytest.fixture(autouse=True)
def one_thread():
    fc.set_num_threads(1)
    yield
    fc.set_num_threads(1)


@pytest.fixture
def rng():
    return np.random.default_rng(23)


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


@st.composite
def problems(draw):
    """Shapes and arguments of a transposed convolution whose output is not empty; every output_padding that may be."""
    dims = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    c, k = draw(st.integers(1, 18)), draw(st.integers(1, 9))
    per_axis = []
    for _ in range(dims):
        size, taps, stride, dilation = (draw(st.integers(1, most)) for most in (7 - dims, 4, 4, 3))
        extra = draw(st.integers(0, max(stride, dilation) - 1))
        room = (size - 1) * stride + dilation * (taps - 1) + extra
        low = draw(st.integers(0, min(4, room)))
        per_axis.append((size, taps, stride, dilation, extra, (low, draw(st.integers(0, min(4, room - low))))))
    size, kernel, stride, dilation, extra, padding = zip(*per_axis, strict=True)
    keywords = {"stride": stride, "padding": padding, "output_padding": extra, "groups": groups, "dilation": dilation}
    return (draw(st.integers(0, 3)), c * groups, *size), (c * groups, k, *kernel), keywords, draw(st.booleans())


@settings(max_examples=150, deadline=None)
@given(problems(), st.integers(0, 2**32 - 1), st.sampled_from([None, None, "direct", "im2col"]))
def test_integers_are_exact(problem, seed, algorithm):
    """Forward and all gradients; small integers make float32 sums exact in any order, so equality holds."""
    x_shape, w_shape, keywords, biased = problem
    rng, dims = np.random.default_rng(seed), len(x_shape) - 2
    x, w = R.exact_integers(rng, x_shape, 12), R.exact_integers(rng, w_shape, 2)
    k = w_shape[1] * keywords["groups"]
    b = R.exact_integers(rng, k, 12) if biased else None
    assert not x.size or R.conv_transpose(abs(x), abs(w), **keywords).max() < 2**23
    y = FORWARD[dims](x, w, b, **keywords, algorithm=algorithm)
    np.testing.assert_array_equal(y, R.conv_transpose(x, w, b, **keywords))
    g = R.exact_integers(rng, y.shape, 12)
    gx, gw = R.conv_transpose_backward(g, x, w, **keywords)
    np.testing.assert_array_equal(DATA[dims](g, w, x_shape, **keywords, algorithm=algorithm), gx)
    if not g.size or R.conv_transpose_backward(abs(g), abs(x), w, **keywords)[1].max() < 2**24:
        np.testing.assert_array_equal(WEIGHT[dims](g, x, w_shape, **keywords, algorithm=algorithm), gw)
    np.testing.assert_array_equal(BIAS[dims](g), R.conv_backward_bias(g))


@settings(max_examples=60, deadline=None)
@given(problems(), st.integers(0, 2**32 - 1))
def test_random_values_and_adjoints(problem, seed):
    x_shape, w_shape, keywords, _ = problem
    rng, dims = np.random.default_rng(seed), len(x_shape) - 2
    x, w = normal(rng, *x_shape), normal(rng, *w_shape)
    y = FORWARD[dims](x, w, **keywords)
    truth, magnitude = R.conv_transpose(x, w, **keywords), R.conv_transpose(abs(x), abs(w), **keywords)
    terms = w_shape[0] // keywords["groups"] * np.prod(w_shape[2:])
    assert np.linalg.norm(y - truth) <= 4 * EPS * terms**0.5 * np.linalg.norm(magnitude)
    g = normal(rng, *y.shape)
    gx, gw = DATA[dims](g, w, x_shape, **keywords), WEIGHT[dims](g, x, w_shape, **keywords)
    bound = 16 * EPS * (magnitude * abs(g)).sum()
    assert abs((np.float64(y) * g).sum() - (np.float64(x) * gx).sum()) <= bound
    assert abs((np.float64(y) * g).sum() - (np.float64(w) * gw).sum()) <= bound
    # the adjoint of the convolution with the same weight, where that has an output of the input's shape
    if all(e < s for e, s in zip(keywords["output_padding"], keywords["stride"], strict=True)):
        plain = {key: keywords[key] for key in ("stride", "padding", "dilation", "groups")}
        conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dims](g, w, **plain)
        assert abs((np.float64(conv) * x).sum() - (np.float64(g) * y).sum()) <= bound


# (input, weight, arguments): stride over the kernel, so that some pixels are bias alone; many channels; depthwise
SHAPES = {
    "stride over kernel": ((2, 5, 4, 3), (5, 6, 2, 1), {"stride": (5, 3), "output_padding": (4, 2)}),
    "2x2 upsampling": ((2, 37, 5, 6), (37, 33, 2, 2), {"stride": 2}),
    "4x4 upsampling": ((2, 16, 7, 5), (16, 40, 4, 4), {"stride": 2, "padding": 1}),
    "3x3 upsampling": ((1, 20, 7, 5), (20, 17, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "stride 1": ((1, 20, 7, 9), (20, 17, 3, 3), {"padding": 1}),
    "one pixel": ((3, 24, 1, 1), (24, 50, 4, 4), {}),
    "one filter": ((2, 40, 6, 5), (40, 1, 4, 4), {"stride": 2, "padding": 1}),
    "one channel": ((2, 1, 6, 5), (1, 7, 5, 5), {"stride": 2, "padding": 2}),
    "depthwise": ((2, 19, 5, 6), (19, 1, 4, 4), {"stride": 2, "padding": 1, "groups": 19}),
    "multiplier": ((2, 5, 4, 3), (5, 3, 3, 3), {"stride": 2, "groups": 5}),
    "groups": ((2, 12, 4, 3), (12, 5, 3, 3), {"stride": 2, "groups": 3, "output_padding": 1}),
    "dilation": ((1, 6, 5, 4), (6, 7, 3, 2), {"stride": 2, "dilation": (3, 2), "padding": (2, 1)}),
    "output_padding under dilation": ((2, 6, 3, 4), (6, 7, 1, 2), {"dilation": 3, "output_padding": 2}),
    "wave": ((2, 10, 30), (10, 12, 16), {"stride": 8, "padding": 4}),
    "volume": ((1, 9, 3, 4, 2), (9, 8, 2, 2, 2), {"stride": 2}),
}


@pytest.mark.parametrize("algorithm", [None, "direct", "im2col"])
@pytest.mark.parametrize("name", SHAPES)
def test_with_what_is_fused_behind(name, algorithm, rng):
    """Bias, residual and activation, in the steps of an engine; any number of threads; an image alone and in a batch."""
    x_shape, w_shape, keywords = SHAPES[name]
    dims = len(x_shape) - 2
    x, w = R.exact_integers(rng, x_shape, 6), R.exact_integers(rng, w_shape, 4)
    b = R.exact_integers(rng, w_shape[1] * keywords.get("groups", 1), 12)
    plain = R.conv_transpose(x, w, b, **keywords)
    z = R.exact_integers(rng, plain.shape, 12)
    weight, bias = fc.Parameter(w), fc.Parameter(b)

    def function(x, z):
        return F.relu(F.add(FORWARD[dims](x, weight, bias, **keywords), z))

    engines = [fc.compile(function, [x_shape, z.shape], threads=t, algorithm=algorithm) for t in (1, 2)]
    assert not [row for row in engines[0].steps() if row.op in ("add", "relu")]
    for engine in engines:
        np.testing.assert_array_equal(engine(x, z), np.maximum(plain + z, 0))
        np.testing.assert_array_equal(engine(x[-1:], z[-1:]), np.maximum(plain + z, 0)[-1:])
    x, z = normal(rng, *x_shape), normal(rng, *z.shape)
    one, two = (engine(x, z) for engine in engines)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(engines[1](x[-1:], z[-1:]), one[-1:])


@pytest.mark.parametrize("name", SHAPES)
def test_gradients_of_the_operator(name, rng):
    """The gradient rule, in memory that starts as NaN."""
    x_shape, w_shape, keywords = SHAPES[name]
    dims = len(x_shape) - 2
    x, w = R.exact_integers(rng, x_shape, 6), R.exact_integers(rng, w_shape, 4)
    b = R.exact_integers(rng, w_shape[1] * keywords.get("groups", 1), 12)
    g = R.exact_integers(rng, R.conv_transpose(x, w, **keywords).shape, 4)
    assert max(v.max() for v in R.conv_transpose_backward(abs(g), abs(x), abs(w), **keywords)) < 2**24
    y, gradients = run(lambda x, w, b: FORWARD[dims](x, w, b, **keywords), [x, w, b], g, flat=(1, 2))
    np.testing.assert_array_equal(y, R.conv_transpose(x, w, b, **keywords))
    for got, expected in zip(gradients, (*R.conv_transpose_backward(g, x, w, **keywords), R.conv_backward_bias(g)),
                             strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("groups", [1, 3])
def test_batch_norm_is_folded(groups, rng):
    """The filters are the weight's second axis, within groups."""
    layer, norm = nn.ConvTranspose2d(6, 9, 3, 2, 1, 1, groups=groups), nn.BatchNorm2d(9)
    norm.running_mean.data, norm.running_var.data = normal(rng, 9), 0.5 + rng.random(9, np.float32)
    norm.weight.data, norm.bias.data = normal(rng, 9), normal(rng, 9)
    x = normal(rng, 2, 6, 5, 4)
    engine = fc.compile(nn.Sequential(layer, norm), x.shape)
    assert not [row for row in engine.steps() if row.op == "batch_norm"]
    y = R.conv_transpose(x, layer.weight.numpy(), layer.bias.numpy(), 2, 1, 1, groups)
    scale = norm.weight.numpy() / np.sqrt(np.float64(norm.running_var.numpy()) + 1e-5)
    expected = (y - norm.running_mean.numpy()[:, None, None]) * scale[:, None, None] + norm.bias.numpy()[:, None, None]
    assert R.rel_l2(engine(x), expected) < 1e-6
    norm.weight.data = 2 * norm.weight.numpy()
    assert R.rel_l2(engine(x) - norm.bias.numpy()[:, None, None], 2 * (expected - norm.bias.numpy()[:, None, None])) < 1e-6
    frozen = engine.freeze()
    np.testing.assert_array_equal(frozen(x), engine(x))


def test_training_follows_the_gradients(rng):
    """An encoder and a decoder with a skip connection: losses as those of steps made by hand from the reference."""
    net = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2, 2))
    x, t = normal(rng, 4, 2, 6, 6), normal(rng, 4, 2, 6, 6)
    state = {key: np.float64(value) for key, value in net.state_dict().items()}
    losses = []
    for _ in range(5):
        h = R.conv(x, state["0.weight"], state["0.bias"], 2, 1)
        a = np.maximum(h, 0)
        y = R.conv_transpose(a, state["2.weight"], state["2.bias"], 2)
        losses.append(((y - t) ** 2).mean())
        g = 2 * (y - t) / y.size
        ga, gw = R.conv_transpose_backward(g, a, state["2.weight"], 2)
        gh = ga * (h > 0)
        grads = {"2.weight": gw, "2.bias": R.conv_backward_bias(g), "0.bias": R.conv_backward_bias(gh),
                 "0.weight": R.conv_backward_weight(x, state["0.weight"].shape, gh, 2, 1)}
        state = {key: value - 0.1 * grads[key] for key, value in state.items()}
    trainer = fc.Trainer(net, loss=nn.MSELoss(), optimizer=fc.optim.SGD(lr=0.1))
    got = [trainer.step(x, t) for _ in range(5)]
    np.testing.assert_allclose(got, losses, rtol=1e-5)
    for key, value in net.state_dict().items():
        assert R.rel_l2(value, state[key]) < 1e-5


def test_output_size(rng):
    layer = nn.ConvTranspose2d(3, 2, 3, (2, 3), 1)
    x, w, b = normal(rng, 2, 3, 4, 5), layer.weight.numpy(), layer.bias.numpy()
    for extra in itertools.product(range(2), range(3)):
        expected = R.conv_transpose(x, w, b, (2, 3), 1, extra)
        for size in (expected.shape[2:], list(expected.shape)):
            engine = fc.compile(lambda x, size=size: layer(x, output_size=size), x.shape)
            assert R.rel_l2(engine(x), expected) < 1e-6


def test_layer_keeps_pytorchs_conventions():
    layer = nn.ConvTranspose2d(4, 6, (3, 2), 2, (1, 0), 1, 2, False, 3)
    assert layer.weight.shape == (4, 3, 3, 2) and layer.bias is None
    assert (layer.stride, layer.padding, layer.output_padding, layer.dilation) == ((2, 2), (1, 0), (1, 1), (3, 3))
    assert repr(layer) == ("ConvTranspose2d(4, 6, kernel_size=(3, 2), stride=(2, 2), padding=(1, 0), "
                           "output_padding=(1, 1), dilation=(3, 3), groups=2, bias=False)")
    assert list(nn.ConvTranspose1d(2, 3, 4).state_dict()) == ["weight", "bias"]
    assert nn.ConvTranspose3d(2, 3, 4).weight.shape == (2, 3, 4, 4, 4)
    spread = nn.ConvTranspose2d(64, 8, 5).weight.numpy()
    assert 0.99 < abs(spread).max() * (8 * 25) ** 0.5 <= 1  # fan_in counts the second axis, as PyTorch does


def test_an_empty_batch(rng):
    w = normal(rng, 3, 4, 2, 2)
    assert F.conv_transpose2d(normal(rng, 0, 3, 5, 5), w, stride=2).shape == (0, 4, 10, 10)
    assert F.conv_transpose2d_backward_data(normal(rng, 0, 4, 10, 10), w, (0, 3, 5, 5), 2).shape == (0, 3, 5, 5)
    gw = F.conv_transpose2d_backward_weight(normal(rng, 0, 4, 10, 10), normal(rng, 0, 3, 5, 5), w.shape, 2)
    np.testing.assert_array_equal(gw, np.zeros(w.shape))


X, W = np.ones((2, 4, 5, 6), np.float32), np.ones((4, 3, 3, 3), np.float32)
BAD = [
    (lambda: F.conv_transpose2d(X[0, 0], W), ValueError, "input of shape (5, 6) has 2 dimensions: expected 4 (N, C, H, W)"),
    (lambda: F.conv_transpose2d(X, W[0]), ValueError, "weight of shape (3, 3, 3) has 3 dimensions"),
    (lambda: F.conv_transpose2d(X[:, :3], W), ValueError, "has 3 channels: weight of shape (4, 3, 3, 3) expects 4"),
    (lambda: F.conv_transpose2d(X, W, groups=3), ValueError, "groups=3 does not divide in_channels=4"),
    (lambda: F.conv_transpose2d(X, W, np.ones(4, np.float32)), ValueError, "bias of shape (4,): expected (3,)"),
    (lambda: F.conv_transpose2d(X, W, output_padding=1), ValueError,
     "output_padding=(1, 1) must be smaller than stride=1 or dilation=1"),
    (lambda: F.conv_transpose2d(X, W, stride=(2, 3), output_padding=(1, 3)), ValueError,
     "output_padding=(1, 3) must be smaller than stride=3 or dilation=1"),
    (lambda: F.conv_transpose2d(X, W, output_padding=-1), ValueError, "output_padding=-1 must be at least 0"),
    (lambda: F.conv_transpose2d(X, W, stride=0), ValueError, "stride=0 must be at least 1"),
    (lambda: F.conv_transpose2d(X, W, padding="same"), ValueError, "padding='same': expected integers"),
    (lambda: F.conv_transpose2d(X, W, padding=4), ValueError, "the output would be empty: spatial dimension 0 has 5"),
    (lambda: F.conv_transpose2d(X, W, stride=2**30), ValueError, "spans 2**31 elements or more"),
    (lambda: F.conv_transpose2d(X, W, stride=1.5), TypeError, "stride=1.5: expected an integer"),
    (lambda: F.conv_transpose2d(X.astype(np.float64), W), TypeError, "float64"),
    (lambda: F.conv_transpose2d(X, W, algorithm="fast"), ValueError, "algorithm='fast'"),
    (lambda: F.conv_transpose2d_backward_data(X, W, (2, 4, 5, 6)), ValueError, "grad_output of shape (2, 4, 5, 6)"),
    (lambda: F.conv_transpose2d_backward_weight(X, X, (4, 3, 3, 3)), ValueError, "grad_output of shape (2, 4, 5, 6)"),
    (lambda: nn.ConvTranspose2d(4, 3, 3, groups=2), ValueError, "groups=2 does not divide out_channels=3"),
    (lambda: nn.ConvTranspose2d(4, 3, 3, padding_mode="reflect"), ValueError, "padding_mode='reflect'"),
    (lambda: nn.ConvTranspose2d(4, 3, 3, padding="same"), TypeError, "padding='same': expected an integer"),
    (lambda: fc.compile(nn.ConvTranspose2d(4, 3, 3, output_padding=1), X.shape), ValueError,
     "ConvTranspose2d: output_padding=(1, 1) must be smaller than stride=1 or dilation=1"),
    (lambda: fc.compile(nn.Sequential(nn.ConvTranspose2d(3, 3, 3)), X.shape), ValueError,
     "ConvTranspose2d '0': input of shape (2, 4, 5, 6) has 4 channels: expected in_channels=3"),
    (lambda: fc.compile(lambda x: nn.ConvTranspose2d(4, 3, 3, 2)(x, output_size=(13, 14)), X.shape), ValueError,
     "output_size=(13, 14) must be from (11, 13) to (12, 14) for an input of size (5, 6)"),
    (lambda: fc.compile(lambda x: nn.ConvTranspose2d(4, 3, 3, 2)(x, output_size=(11,)), X.shape), ValueError,
     "output_size=(11,) has 1 values: expected 2, or 4 with batch and channels"),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_input(case):
    function, error, message = BAD[case]
    with pytest.raises(error) as caught:
        function()
    assert message in str(caught.value)
