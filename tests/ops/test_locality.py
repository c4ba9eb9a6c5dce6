"""A filter does not see outside its window: the local promise of precision="highest", on data made to break it.

q is the largest error of an output in units of 2**-24 times the norms of what its window holds and of its filter (for a
gradient of weights: of the two rows of pixels that are multiplied). The promise: no more than 8, or twice that of one
sequential float32 accumulator of fused multiply-adds per output, in the kernels' mode, which flushes denormals. A window
that holds less than 2**-20 of the norm of its image counts as that.
"""

import os
import platform

import numpy as np
import pytest
import reference as R
from everywhere import again
from fastconv.kernels._runtime import isa_info

import fastconv as fc
import fastconv.functional as F
from fastconv.engine import eager
from fastconv.ops.conv import choose
from fastconv.ops.conv.problem import Problem

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
DATA = {1: F.conv1d_backward_data, 2: F.conv2d_backward_data, 3: F.conv3d_backward_data}
WEIGHT = {1: F.conv1d_backward_weight, 2: F.conv2d_backward_weight, 3: F.conv3d_backward_weight}
EPS, TINY = 2.0**-24, 2.0**-126
FUSED = isa_info()["isa"] != "portable" or platform.machine() in ("aarch64", "arm64")  # whether mul_add rounds once
HALF = os.environ.get("FASTCONV_TEST_INNER") is not None  # at the other instruction sets: fewer of the problems

# input, weight, padding, groups: at each, every algorithm that keeps "highest" there
SHAPES = {
    "3x3": ((1, 64, 28, 28), (16, 64, 3, 3), 1, 1),
    "3x3 wide": ((1, 256, 14, 14), (8, 256, 3, 3), 1, 1),
    "3x3 large": ((1, 32, 56, 56), (8, 32, 3, 3), 1, 1),
    "3x3 odd": ((2, 40, 15, 13), (9, 40, 3, 3), (2, 0), 1),
    "5x5": ((1, 24, 30, 30), (8, 24, 5, 5), 2, 1),
    "groups": ((1, 48, 24, 24), (12, 24, 3, 3), 1, 2),
    "1x7": ((1, 48, 17, 17), (8, 48, 1, 7), (0, 3), 1),
    "3x1": ((1, 64, 17, 17), (8, 64, 3, 1), (1, 0), 1),
    "1d": ((1, 32, 527), (8, 32, 16), 8, 1),
    "1d 3": ((1, 256, 100), (8, 256, 3), 1, 1),
    "3d": ((1, 12, 6, 14, 14), (6, 12, 3, 3, 3), 1, 1),
    "depthwise": ((1, 5, 40, 40), (5, 1, 17, 17), 8, 5),
}


@pytest.fixture(autouse=True, scope="module")
def fresh():
    yield
    eager.cache.clear()


def normal(rng, shape):
    return rng.standard_normal(shape, np.float32)


def halves(x, factor):
    x = x.copy()
    x[..., x.shape[-1] // 2:] *= np.float32(factor)
    return x


def pixel(x, value, at=None):
    x = x.copy()
    x[(0, slice(None), *(at or [s // 3 for s in x.shape[2:]]))] = value
    return x


def border(x):
    y = np.zeros_like(x)
    inner = tuple(slice(s // 4, s - s // 3) for s in x.shape[2:])
    y[(..., *inner)] = x[(..., *inner)]
    return y


def channel(x, factor):
    x = x.copy()
    x[:, x.shape[1] // 2] *= np.float32(factor)
    return x


def loud_pixel_of_a_channel(x):
    x = x.copy()
    x[(0, -1, *(s // 2 for s in x.shape[2:]))] = 3e4
    return x


DATA_SETS = {
    "normal": lambda rng, s: normal(rng, s),
    "positive": lambda rng, s: abs(normal(rng, s)),
    "rectified": lambda rng, s: np.maximum(normal(rng, s), 0),
    "bright pixel": lambda rng, s: pixel(normal(rng, s), 1e6),
    "bright corner": lambda rng, s: pixel(normal(rng, s), 1e6, [0] * (len(s) - 2)),
    "bright last pixel": lambda rng, s: pixel(normal(rng, s), 1e6, [-1] * (len(s) - 2)),
    "bright pixel of a channel": lambda rng, s: loud_pixel_of_a_channel(normal(rng, s)),
    "halves 3000": lambda rng, s: halves(normal(rng, s), 3000),
    "halves 1e30": lambda rng, s: halves(normal(rng, s), 1e30),
    "positive halves 100": lambda rng, s: halves(abs(normal(rng, s)), 100),
    "flat halves 8": lambda rng, s: halves(np.full(s, 0.7, np.float32), 8),
    "black border": lambda rng, s: border(normal(rng, s)),
    "black": lambda rng, s: np.zeros(s, np.float32),
    "a light in the dark": lambda rng, s: pixel(np.zeros(s, np.float32), 0.3),
    "loud channel": lambda rng, s: channel(normal(rng, s), 1e5),
    "sparse": lambda rng, s: normal(rng, s) * (rng.random(s) < 0.02),
    "ramp of exponents": lambda rng, s: normal(rng, s) * np.exp2(np.linspace(-60, 60, s[-1])).astype(np.float32),
    "noise of exponents": lambda rng, s: normal(rng, s) * np.exp2(rng.integers(-12, 12, s)).astype(np.float32),
    **{f"2**{e}": lambda rng, s, e=e: normal(rng, s) * np.float32(2.0**e) for e in (-60, -50, -40, -20, 20, 40, 60)},
    "1e-36": lambda rng, s: normal(rng, s) * np.float32(1e-36),
    "1e-36 and 1": lambda rng, s: halves(normal(rng, s) * np.float32(1e-36), 1e36),
}
WEIGHT_SETS = {
    "normal": lambda rng, s: normal(rng, s) / 20,
    "positive": lambda rng, s: abs(normal(rng, s)),
    "loud tap": lambda rng, s: normal(rng, s) * np.where(np.arange(s[-1]) == 1, np.float32(1e4), np.float32(1)),
    "loud channel": lambda rng, s: channel(normal(rng, s), 1e4),
    "loud filter": lambda rng, s: channel(normal(rng, s).swapaxes(0, 1), 1e6).swapaxes(0, 1),
    "2**-60": lambda rng, s: normal(rng, s) * np.float32(2.0**-60),
    "2**60": lambda rng, s: normal(rng, s) * np.float32(2.0**60),
}
# each data set with ordinary weights, ordinary and halved data with each kind of weights
PAIRS = [(d, "normal") for d in DATA_SETS] + [(d, w) for w in WEIGHT_SETS if w != "normal" for d in
                                              ("normal", "positive halves 100", "bright pixel", "2**-60", "2**60")]


def flushed(v):
    return np.where(abs(v) < TINY, 0, v)


def accumulated(x, w, pairs, groups):
    """One float32 accumulator per output over taps, then channels; what is denormal is zero."""
    taps, per, filters = w.shape[2:], w.shape[1], w.shape[0] // groups
    padded = np.pad(flushed(np.float64(x)), [(0, 0), (0, 0), *pairs])
    out = tuple(s - r + 1 for s, r in zip(padded.shape[2:], taps, strict=True))
    y = np.zeros((x.shape[0], groups, filters, *out))
    w = flushed(np.float64(w)).reshape(groups, filters, per, *taps)
    for tap in np.ndindex(*taps):
        read = padded[(slice(None), slice(None), *(slice(t, t + o) for t, o in zip(tap, out, strict=True)))]
        read = read.reshape(x.shape[0], groups, per, *out)
        for c in range(per):
            weight = w[(slice(None), slice(None), c, *tap)].reshape(1, groups, filters, *[1] * len(out))
            with np.errstate(over="ignore", invalid="ignore"):
                product = read[:, :, None, c] * weight
                product = product if FUSED else flushed(np.float64(np.float32(product)))
                y = flushed(np.float64(np.float32(product + y)))
    return y.reshape(x.shape[0], -1, *out)


def forward_scale(x, w, padding, groups):
    """The norm of what each output's window holds times that of its filter."""
    x, w = flushed(np.float64(x)), np.float64(w)
    energy = np.square(x).reshape(x.shape[0], groups, -1, *x.shape[2:]).sum(axis=2)
    seen = R.conv(energy, np.ones((groups, 1, *w.shape[2:])), None, 1, padding, 1, groups)
    image = np.sqrt(energy.sum(axis=tuple(range(2, x.ndim)), keepdims=True))
    seen = np.maximum(np.sqrt(seen), 2.0**-20 * image)
    filters = np.sqrt(np.square(w).reshape(groups, -1, w[0].size).sum(axis=2))
    scale = seen[:, :, None] * filters.reshape(1, groups, -1, *[1] * (x.ndim - 2))
    return scale.reshape(x.shape[0], -1, *scale.shape[3:])


def quality(y, truth, scale):
    """q; infinite where something is not zero that has to be."""
    error = abs(np.float64(y) - truth)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error <= TINY, 0, error / (EPS * scale)).max()


def problem(shape):
    x, w, padding, groups = SHAPES[shape]
    dims = len(x) - 2
    pairs = [(p, p) for p in (padding if isinstance(padding, tuple) else (padding,) * dims)]
    y = (x[0], w[0], *(s + a + b - r + 1 for s, (a, b), r in zip(x[2:], pairs, w[2:], strict=True)))
    attrs = {"stride": (1,) * dims, "dilation": (1,) * dims, "padding": tuple(pairs), "groups": groups}
    return x, w, y, pairs, groups, Problem(x, w, y, attrs)


def algorithms(which, p):
    """Those that transform, where they keep the promise."""
    return [c.algorithm.name for c in choose.candidates(which, p, "highest") if c.algorithm.name in ("winograd", "fft")]


def seed(*names):
    return np.random.default_rng(sum(map(ord, "".join(names))))


@pytest.mark.parametrize("shape", [s for s in SHAPES if not HALF or s in ("3x3 wide", "3x3 odd", "groups", "1d", "1d 3")])
@pytest.mark.parametrize(("data", "weights"), PAIRS)
def test_forward(shape, data, weights):
    x_shape, w_shape, _, pairs, groups, p = problem(shape)
    rng = seed(shape, data)
    x, w = DATA_SETS[data](rng, x_shape).astype(np.float32), WEIGHT_SETS[weights](rng, w_shape).astype(np.float32)
    names = algorithms("forward", p)
    if not names:
        pytest.skip("direct alone keeps this")
    truth, scale = R.conv(x, w, None, 1, pairs, 1, groups), forward_scale(x, w, pairs, groups)
    allowed = max(8, 2 * quality(accumulated(x, w, pairs, groups), truth, scale))
    for name in names:
        y = CONV[len(pairs)](x, w, padding=tuple(pairs), groups=groups, algorithm=name)
        assert quality(y, truth, scale) <= allowed, name


@pytest.mark.parametrize("shape", [s for s in SHAPES if not HALF or s in ("3x3 wide", "3x3 odd", "1d")])
@pytest.mark.parametrize(("data", "weights"), [(d, w) for d, w in PAIRS if w == "normal" or d == "bright pixel"])
def test_backward_data(shape, data, weights):
    """A convolution of the gradient: with the taps in reverse, from filters to channels."""
    x_shape, w_shape, y_shape, pairs, groups, p = problem(shape)
    rng = seed(shape, data, "data")
    gy, w = DATA_SETS[data](rng, y_shape).astype(np.float32), WEIGHT_SETS[weights](rng, w_shape).astype(np.float32)
    names = algorithms("backward_data", p)
    if not names:
        pytest.skip("direct alone keeps this")
    per = w_shape[0] // groups
    flipped = np.flip(w, tuple(range(2, w.ndim))).reshape(groups, per, *w_shape[1:]).swapaxes(1, 2)
    flipped = flipped.reshape(groups * w_shape[1], per, *w_shape[2:])
    back = [(r - 1 - a, r - 1 - b) for r, (a, b) in zip(w_shape[2:], pairs, strict=True)]
    truth, scale = R.conv_backward_data(x_shape, w, gy, 1, pairs, 1, groups), forward_scale(gy, flipped, back, groups)
    allowed = max(8, 2 * quality(accumulated(gy, flipped, back, groups), truth, scale))
    for name in names:
        gx = DATA[len(pairs)](gy, w, x_shape, padding=tuple(pairs), groups=groups, algorithm=name)
        assert quality(gx, truth, scale) <= allowed, name


GRADIENTS = ["normal", "positive", "bright pixel", "bright corner", "bright last pixel", "halves 3000", "black border",
             "loud channel", "sparse", "a light in the dark", "ramp of exponents", "2**-60", "2**60"]


@pytest.mark.parametrize("shape", [s for s in SHAPES if not HALF or s in ("3x3", "3x3 odd", "1d")])
@pytest.mark.parametrize("data", GRADIENTS)
def test_backward_weight(shape, data):
    """The window of a weight is the pixels that its tap reads: what lies at the edges is not seen by all."""
    x_shape, w_shape, y_shape, pairs, groups, p = problem(shape)
    names = algorithms("backward_weight", p)
    if not names:
        pytest.skip("direct alone keeps this")
    for gradient in ("normal", data):
        rng = seed(shape, data, gradient)
        x, gy = DATA_SETS[data](rng, x_shape).astype(np.float32), DATA_SETS[gradient](rng, y_shape).astype(np.float32)
        check_gradient(names, x, gy, w_shape, pairs, groups)


def check_gradient(names, x, gy, w_shape, pairs, groups):
    def summed(x, gy):
        return R.conv_backward_weight(x, w_shape, gy, 1, pairs, 1, groups)

    def quality_of(name):
        dw = WEIGHT[len(pairs)](gy, x, w_shape, padding=tuple(pairs), groups=groups, algorithm=name)
        return quality(dw, truth, scale)

    truth = summed(x, gy)
    squares = np.square(np.float64(x)), np.square(np.float64(gy))
    scale = np.sqrt(summed(squares[0], np.ones(gy.shape)) * summed(np.ones(x.shape), squares[1]))
    scale = np.maximum(scale, 2.0**-20 * scale.max(axis=tuple(range(2, scale.ndim)), keepdims=True))
    allowed = max(8, 2 * quality_of("direct"))  # whose sums are sequential, in runs
    for name in names:
        assert quality_of(name) <= allowed, name


SOBEL = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], np.float32)


@pytest.mark.parametrize("algorithm", ["winograd", "fft", None])
@pytest.mark.parametrize("picture", ["8 bits", "flat"])
@pytest.mark.parametrize("scale", [1, 2.0**-5])
def test_small_integers_are_exact(algorithm, picture, scale):
    """Weights of few bits (Sobel, Laplace, counting neighbours) over integers: no rounding, as with direct."""
    rng = np.random.default_rng(7)
    x = rng.integers(0, 256, (1, 64, 56, 56)).astype(np.float32)
    x = x if picture == "8 bits" else np.full_like(x, 200)
    w = (SOBEL * scale * rng.integers(-3, 4, (24, 64, 1, 1))).astype(np.float32)
    np.testing.assert_array_equal(F.conv2d(x, w, padding=1, algorithm=algorithm), R.conv(x, w, None, 1, 1))
    gy = np.ascontiguousarray(x[:, :24])
    gx = F.conv2d_backward_data(gy, w, x.shape, padding=1, algorithm=algorithm)
    np.testing.assert_array_equal(gx, R.conv_backward_data(x.shape, w, gy, 1, 1))


def test_weights_of_few_bits_are_followed():
    """What bits weights have is found again whenever they change."""
    layer = fc.nn.Conv2d(64, 32, 3, padding=1, bias=False)
    engine = fc.compile(layer, (1, 64, 28, 28), algorithm="winograd")
    rng = np.random.default_rng(8)
    x, random = rng.integers(0, 256, (1, 64, 28, 28)).astype(np.float32), normal(rng, layer.weight.shape)
    exact = rng.integers(-8, 9, layer.weight.shape).astype(np.float32)
    for w in (random, exact, random):
        layer.weight.data = w
        direct = F.conv2d(x, w, padding=1, algorithm="direct")
        assert np.array_equal(engine(x), direct) == (w is exact)


@pytest.mark.parametrize("algorithm", ["winograd", "fft"])
def test_quiet_windows_are_directs(algorithm):
    """Bit for bit, with bias, residual and activation, whatever the threads and the images around."""
    rng = np.random.default_rng(9)
    x = normal(rng, (3, 256, 30, 30))
    x[1, ..., 10:] *= 1e5
    x[2] = border(pixel(x[2:], 1e7))[0]
    layer, norm = fc.nn.Conv2d(256, 33, 3, padding=1), normal(rng, (3, 33, 30, 30))

    def function(x, residual):
        return F.relu(layer(x) + residual)

    results = {}
    for name, threads in (("direct", 1), (algorithm, 1), (algorithm, 2)):
        engine = fc.compile(function, [x.shape, norm.shape], algorithm=name, threads=threads)
        results[name, threads] = engine(x, norm)
        for i in range(3):
            np.testing.assert_array_equal(engine(x[i:i + 1], norm[i:i + 1])[0], results[name, threads][i])
    one = results[algorithm, 1]
    np.testing.assert_array_equal(results[algorithm, 2], one)
    same = results["direct", 1] == one
    assert same[1, :, :, 8].all()  # in every tile beside pixels that it does not see
    assert same[2, :, 22:].all() and not same[0].all()


@pytest.mark.parametrize("isa", isa_info()["available"])
def test_everywhere(isa):
    again(isa, __file__)
