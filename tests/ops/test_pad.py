"""Padding: functions, layers and the padding modes of convolutions, against NumPy's own padding and the definition."""

import numpy as np
import pytest
import reference as R
from gradients import run
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv as fc
import fastconv.functional as F
from fastconv import nn

NUMPY = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
EPS = 2.0**-24


@pytest.fixture(autouse=True)
def one_thread():
    fc.set_num_threads(1)
    yield
    fc.set_num_threads(1)


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def expected(x, pad, mode, value=0.0):
    """The definition: crop what is negative, pad what is positive (reflect and replicate look at the image before it is
    cropped)."""
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]
    crop = tuple(slice(max(0, -low), size - max(0, -high)) for size, (low, high) in zip(x.shape, pairs, strict=True))
    grow = [(max(0, low), max(0, high)) for low, high in pairs]
    if mode == "constant":
        return np.pad(x[crop], grow, constant_values=value)
    if mode == "circular":
        return np.pad(x[crop], grow, mode="wrap")
    whole = np.pad(x, grow, mode=NUMPY[mode])
    return whole[tuple(slice(c.start, c.start + size + low + high) for c, size, (low, high) in
                       zip(crop, x.shape, pairs, strict=True))]


@st.composite
def problems(draw):
    dims, mode = draw(st.integers(1, 3)), draw(st.sampled_from(["constant", *NUMPY]))
    shape = (draw(st.integers(0, 3)), draw(st.integers(1, 20)), *(draw(st.integers(1, 6)) for _ in range(dims)))
    pad = []
    for size in shape[:1:-1] if mode != "constant" else shape[:0:-1][: draw(st.integers(0, dims + 1))]:
        most = {"reflect": size - 1, "circular": size}.get(mode, 5)
        low = draw(st.integers(1 - size, most))
        pad += [low, draw(st.integers(1 - size - min(low, 0), most))]
        if mode == "circular" and max(pad[-2:]) > size + min(pad[-2], 0) + min(pad[-1], 0):
            pad[-2:] = [0, 0]
    return shape, tuple(pad), mode


@settings(max_examples=300, deadline=None)
@given(problems(), st.integers(0, 2**32 - 1))
def test_pad_and_its_gradient(problem, seed):
    shape, pad, mode = problem
    rng = np.random.default_rng(seed)
    x = normal(rng, *shape)
    value = 1.5 if mode == "constant" else None
    y = F.pad(x, pad, mode, value)
    np.testing.assert_array_equal(y, expected(x, pad, mode, 1.5))
    g = normal(rng, *y.shape)
    gx = F.pad_backward(g, shape, pad, mode)
    assert gx.shape == shape
    # where every input element went: y of numbered elements
    numbers = np.arange(1, x[0].size + 1).reshape(1, *x.shape[1:]) if len(x) else np.zeros((1, *shape[1:]))
    places = expected(numbers, pad, mode, 0.0)[0].ravel()
    for image in range(len(x)):
        sums = np.bincount(places, weights=np.float64(g[image]).ravel(), minlength=x[0].size + 1)[1:]
        magnitudes = np.bincount(places, weights=abs(np.float64(g[image])).ravel(), minlength=x[0].size + 1)[1:]
        assert (abs(gx[image].ravel() - sums) <= 64 * EPS * magnitudes).all()


def test_a_batch_of_an_array():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(F.pad(x, (1, 0, 0, 2, 3, -1), value=7), expected(x, (1, 0, 0, 2, 3, -1), "constant", 7))
    np.testing.assert_array_equal(F.pad(x[0, 0], (2, 1)), np.pad(x[0, 0], (2, 1)))


@pytest.mark.parametrize("mode", ["constant", *NUMPY])
def test_gradient_rule(mode):
    rng = np.random.default_rng(5)
    x = R.exact_integers(rng, (2, 5, 4, 6), 8)
    pad = (2, 3, 1, 2)
    y = expected(x, pad, mode)
    g = R.exact_integers(rng, y.shape, 8)
    got, (gx,) = run(lambda x: F.pad(x, pad, mode), [x], g)
    np.testing.assert_array_equal(got, y)
    np.testing.assert_array_equal(gx, F.pad_backward(g, x.shape, pad, mode))


CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@pytest.mark.parametrize("mode", NUMPY)
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("padding", ["number", "same", "valid"])
def test_padding_modes_of_convolutions(dims, mode, padding):
    rng = np.random.default_rng(6)
    size, kernel, dilation = (7, 6, 5)[:dims], (4, 3, 2)[:dims], (1, 2, 1)[:dims]
    layer = CONV[dims](3, 5, kernel, padding=(2, 1, 3)[:dims] if padding == "number" else padding, dilation=dilation,
                       padding_mode=mode)
    x = normal(rng, 2, 3, *size)
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    pairs = {"number": [(p, p) for p in (2, 1, 3)[:dims]], "same": [(t // 2, t - t // 2) for t in total],
             "valid": [(0, 0)] * dims}[padding]
    padded = np.pad(x, [(0, 0), (0, 0), *pairs], mode=NUMPY[mode])
    w, b = layer.weight.numpy(), layer.bias.numpy()
    truth = R.conv(padded, w, b, dilation=dilation)
    one, two = (fc.compile(layer, x.shape, threads=t)(x) for t in (1, 2))
    assert R.rel_l2(one, truth) < 1e-6
    np.testing.assert_array_equal(one, two)
    if padding == "same":
        assert one.shape == (2, 5, *size)


def test_training_through_padding_modes():
    """Gradients of a convolution's weight and of the one in front, through reflected borders."""
    rng = np.random.default_rng(7)
    x, t = normal(rng, 3, 2, 5, 6), normal(rng, 3, 4, 5, 6)
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"))
    w0, w1 = (net[i].weight.numpy() for i in (0, 1))
    b0, b1 = (net[i].bias.numpy() for i in (0, 1))
    h = R.conv(x, w0, b0)
    p = np.pad(h, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="reflect")
    g = 2 * (R.conv(p, w1, b1) - t) / t.size
    gp = R.conv_backward_data(p.shape, w1, g)
    gh = gp[:, :, 1:-1, 1:-1].copy()
    gh[:, :, 1] += gp[:, :, 0, 1:-1]
    gh[:, :, -2] += gp[:, :, -1, 1:-1]
    sides = gp[:, :, 1:-1].copy()
    sides[:, :, 1] += gp[:, :, 0]
    sides[:, :, -2] += gp[:, :, -1]
    gh[..., 1] += sides[..., 0]
    gh[..., -2] += sides[..., -1]
    trainer = fc.Trainer(net, loss=nn.MSELoss(), optimizer=fc.optim.SGD(lr=1.0))
    trainer.step(x, t)
    assert R.rel_l2(net[1].weight.numpy(), w1 - R.conv_backward_weight(p, w1.shape, g)) < 1e-5
    assert R.rel_l2(net[0].weight.numpy(), w0 - R.conv_backward_weight(x, w0.shape, gh)) < 1e-5


LAYERS = {
    "ReflectionPad1d": (3, "reflect"), "ReflectionPad2d": ((1, 2, 3, 0), "reflect"),
    "ReflectionPad3d": ((1, 2, 0, 1, 2, 1), "reflect"), "ReplicationPad1d": ((5, 6), "replicate"),
    "ReplicationPad2d": (2, "replicate"), "ReplicationPad3d": ((0, 1, 2, 3, 4, 5), "replicate"),
    "ZeroPad1d": ((2, 0), "constant"), "ZeroPad2d": ((1, -1, 2, 0), "constant"), "ZeroPad3d": (1, "constant"),
    "CircularPad1d": (4, "circular"), "CircularPad2d": ((0, 3, 1, 2), "circular"), "CircularPad3d": (2, "circular"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    padding, mode = LAYERS[name]
    dims = int(name[-2])
    layer = getattr(nn, name)(padding)
    x = normal(np.random.default_rng(8), 2, 3, *(5, 4, 6)[:dims])
    pad = padding if isinstance(padding, tuple) else (padding,) * (2 * dims)
    engine = fc.compile(layer, x.shape)
    np.testing.assert_array_equal(engine(x), expected(x, pad, mode))
    assert layer.padding == pad and repr(layer) == f"{name}({pad})"


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_constant_layers(dims):
    layer = getattr(nn, f"ConstantPad{dims}d")(1, -2.5)
    x = normal(np.random.default_rng(9), 2, 3, *(5, 4, 6)[:dims])
    np.testing.assert_array_equal(fc.compile(layer, x.shape)(x), expected(x, (1,) * (2 * dims), "constant", -2.5))
    assert repr(layer) == f"ConstantPad{dims}d(padding={(1,) * (2 * dims)}, value=-2.5)"


@pytest.mark.parametrize("training", [False, True])
def test_zeros_before_a_convolution_are_its_own_padding(training):
    rng = np.random.default_rng(10)
    net = nn.Sequential(nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(3, 4, 3, stride=2, padding=1))
    x = normal(rng, 2, 3, 6, 5)
    engine = fc.compile(net, x.shape, training=training)
    assert not [row for row in engine.steps() if row.op == "pad"]
    w, b = net[1].weight.numpy(), net[1].bias.numpy()
    assert R.rel_l2(engine(x), R.conv(x, w, b, 2, ((3, 4), (1, 2)))) < 1e-6
    for other in (nn.ConstantPad2d(1, 2.0), nn.ZeroPad2d((1, -1, 0, 0))):  # these are not
        engine = fc.compile(nn.Sequential(other, net[1]), x.shape)
        assert [row for row in engine.steps() if row.op == "pad"]
        padded = expected(x, other.padding, "constant", other.value)
        assert R.rel_l2(engine(x), R.conv(padded, w, b, 2, 1)) < 1e-6


def test_into_a_concatenation():
    x = normal(np.random.default_rng(11), 2, 3, 4, 5)
    engine = fc.compile(lambda x: F.cat([F.pad(F.relu(x), (1, 1), "constant"), F.pad(F.relu(x), (2, 0))], 1), x.shape)
    a = np.maximum(x, 0)
    np.testing.assert_array_equal(engine(x), np.concatenate([np.pad(a, [(0, 0)] * 3 + [(1, 1)]),
                                                             np.pad(a, [(0, 0)] * 3 + [(2, 0)])], 1))


def test_no_padding_is_no_step():
    x = normal(np.random.default_rng(12), 2, 3, 4, 5)
    engine = fc.compile(nn.Sequential(nn.ZeroPad2d(0), nn.ReLU()), x.shape)
    assert [row.op for row in engine.steps()] == ["input", "relu", "output"]
    np.testing.assert_array_equal(engine(x), np.maximum(x, 0))
    np.testing.assert_array_equal(F.pad(x, ()), x)


X = np.ones((2, 3, 4, 5), np.float32)
BAD = [
    (lambda: F.pad(X, (1,)), ValueError, "pad=(1,) has 1 values"),
    (lambda: F.pad(X, (1,) * 10), ValueError, "pad=(1, 1, 1, 1, 1, 1, 1, 1, 1, 1) has 10 values"),
    (lambda: F.pad(X, 1), TypeError, "pad=1: expected a sequence of integers"),
    (lambda: F.pad(X, (1.5, 1)), TypeError, "pad=(1.5, 1): expected integers"),
    (lambda: F.pad(X, (True, 1)), TypeError, "pad=(True, 1): expected integers"),
    (lambda: F.pad(X, (1, 1), "mirror"), ValueError,
     "mode='mirror': expected one of 'constant', 'reflect', 'replicate', 'circular'"),
    (lambda: F.pad(X, (5, 0, 0, 0), "reflect"), ValueError,
     "pad=(5, 0) of dimension 3 with 5 elements: mode='reflect' needs less padding than elements"),
    (lambda: F.pad(X, (0, 0, 5, 0), "circular"), ValueError,
     "pad=(5, 0) of dimension 2 with 4 elements: mode='circular' needs at most as much padding as elements"),
    (lambda: F.pad(X, (-2, 4, 0, 0), "circular"), ValueError, "mode='circular' needs at most"),
    (lambda: F.pad(X, (-2, -3)), ValueError, "pad=(-2, -3) of dimension 3 with 5 elements: nothing would be left"),
    (lambda: F.pad(X, (-6, 3)), ValueError, "pad=(-6, 3) of dimension 3 with 5 elements: cropping takes away more"),
    (lambda: F.pad(X, (1, 1, 1, 1), "reflect", 2.0), ValueError, "value=2.0: mode='reflect' takes no value"),
    (lambda: F.pad(X, (1, 1), value="0"), TypeError, "value='0': expected a number"),
    (lambda: F.pad(X, (2**31, 1)), ValueError, "below 2**31"),
    (lambda: F.pad(X, (2**30, 2**30)), ValueError, "2**31 elements or more"),
    (lambda: F.pad(X.astype(np.float64), (1, 1)), TypeError, "float64"),
    (lambda: F.pad_backward(X, (2, 3, 4, 4), (1, 1)), ValueError, "grad_output of shape (2, 3, 4, 5): input_shape="),
    (lambda: nn.ReflectionPad2d((1, 2)), ValueError, "ReflectionPad2d: padding=(1, 2) has 2 values: expected 1 or 4"),
    (lambda: nn.ZeroPad1d("1"), TypeError, "ZeroPad1d: padding='1': expected an integer or 2 integers"),
    (lambda: nn.ConstantPad2d(1, None), TypeError, "ConstantPad2d: value=None: expected a number"),
    (lambda: fc.compile(nn.Sequential(nn.ReflectionPad2d(4)), X.shape), ValueError, "ReflectionPad2d '0': pad=(4, 4)"),
    (lambda: fc.compile(nn.ReflectionPad1d(1), X.shape), ValueError, "expected 3 (N, C, L)"),
    (lambda: fc.compile(nn.Sequential(nn.Conv2d(3, 1, 9, padding=4, padding_mode="reflect")), X.shape), ValueError,
     "Conv2d '0': pad=(4, 4) of dimension 2 with 4 elements: mode='reflect' needs less padding than elements"),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_input(case):
    function, error, message = BAD[case]
    with pytest.raises(error) as caught:
        function()
    assert message in str(caught.value)
