"""Elementwise kernels, and activations as programs of `map`, against the float64 definitions, at any instruction set."""

import math

import numpy as np
import pytest
import reference as ref
from fastconv.kernels._runtime import StepList

from fastconv.graph.programs import write
from fastconv.kernels import elementwise
from fastconv.kernels import map as map_kernels
from fastconv.ops.activation import PROGRAMS

from .guarded import gaps, guarded, images, pixels

INF, NAN = math.inf, math.nan
SHAPES = [(2, 1), (0, 7), (3, 4, 5), (1, 16, 1), (2, 17, 3, 3), (5, 15, 7), (1, 33, 9, 9), (2, 3, 2, 3, 5),
          (1, 40000), (3, 70, 83), (2, 9, 31, 31),
          (2, 64, 9), (1, 320, 7)]  # rows of whole vectors


def address(array):
    return 0 if array is None else array.ctypes.data


def run(steps, n, threads=2):
    steps = StepList(steps, max(n, 1))
    steps.set_batch(n)
    steps.run(threads)


def size(shape):
    return {"channels": shape[1], "pixels": int(np.prod(shape[2:]))}


def count(shape):
    return shape[0] * int(np.prod(shape[2:]))


def blank(shape, ld):
    return guarded(max(0, count(shape) * ld - (ld - shape[1])))


def taken(flat, shape, ld):
    assert np.isnan(gaps(flat, count(shape), shape[1], ld)).all()
    return images(flat, shape, ld)


def unary(kernel, x, a=0.0, b=0.0, extra=0, threads=2):
    ld = x.shape[1] + extra
    source, y = pixels(x, ld), blank(x.shape, ld + extra)
    run([elementwise.unary(kernel, x=address(source), y=address(y), ldx=ld, ldy=ld + extra, a=a, b=b, **size(x.shape))],
        x.shape[0], threads)
    return taken(y, x.shape, ld + extra)


def program(name, operands, constants, y, n, threads):
    """Runs an activation's program of `map`, or that of its gradient, over pixels ``(array, stride, shape)``."""
    key, more = ("gelu" + name.removeprefix("gelu_tanh"), {"tanh": True}) if name.startswith("gelu_tanh") else (name, {})
    lines, results = write(PROGRAMS[key](*constants, **more), len(operands))
    shape = operands[0][2]
    shape = max(1, shape[0]), shape[1], int(np.prod(shape[2:]))
    given = [(address(a), (shape[2] * ld, 1, ld), "float32") for a, ld, _ in (*operands, y)]
    run([map_kernels.map(shape=shape, inputs=given[:-1], outputs=given[-1:], program=lines, results=results, batched=True)],
        n, threads)


def activation(name, x, *constants, extra=0, threads=2):
    ld = x.shape[1] + extra
    source, y = pixels(x, ld), blank(x.shape, ld + extra)
    program(name, [(source, ld, x.shape)], constants, (y, ld + extra, x.shape), x.shape[0], threads)
    return taken(y, x.shape, ld + extra)


def gradient(name, gy, kept, *constants, extra=0, threads=2):
    ld, shape = gy.shape[1] + extra, gy.shape
    g, k, gx = pixels(gy, ld), pixels(kept, ld + 1), blank(shape, ld)
    program(f"{name}_backward", [(g, ld, shape), (k, ld + 1, shape)], constants, (gx, ld, shape), shape[0], threads)
    found = taken(gx, shape, ld)
    if name == "clip":  # which has a kernel of its own, and the program where it is merged
        low, high = constants
        gx = blank(shape, ld)
        run([elementwise.clip_backward(gy=address(g), kept=address(k), gx=address(gx), ldgy=ld, ldk=ld + 1, ldgx=ld, a=low,
                                       b=high, **size(shape))], shape[0], threads)
        np.testing.assert_array_equal(taken(gx, shape, ld), found)
    return found


# --- definitions in float64 ----------------------------------------------------------------------------------------


def phi(x):
    return 0.5 * np.vectorize(math.erfc)(-x / math.sqrt(2)) if x.size else x


def density(x):
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_tanh_slope(x):
    t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)


def sigmoid_slope(x):
    return ref.sigmoid(x) * ref.sigmoid(-x)


# name: (constants, f, slope, what the backward keeps: the output or the input)
FUNCTIONS = {
    "relu": ((), lambda x: np.maximum(x, 0), lambda x: 1.0 * (x > 0), "output"),
    "leaky_relu": ((0.125,), lambda x: np.where(x > 0, x, x / 8), lambda x: np.where(x > 0, 1, 0.125), "output"),
    "clip": ((-1.0, 2.0), lambda x: np.clip(x, -1, 2), lambda x: 1.0 * ((x > -1) & (x < 2)), "output"),
    "sigmoid": ((), ref.sigmoid, sigmoid_slope, "output"),
    "tanh": ((), np.tanh, lambda x: 1 / np.cosh(x) ** 2, "output"),
    "elu": ((1.5,), lambda x: np.where(x > 0, x, 1.5 * np.expm1(np.minimum(x, 0))),
            lambda x: np.where(x > 0, 1, 1.5 * np.exp(np.minimum(x, 0))), "output"),
    "silu": ((), lambda x: x * ref.sigmoid(x), lambda x: ref.sigmoid(x) + x * sigmoid_slope(x), "input"),
    "hardsigmoid": ((), lambda x: np.clip(x + 3, 0, 6) / 6, lambda x: (np.abs(x) < 3) / 6, "input"),
    "hardswish": ((), lambda x: x * np.clip(x + 3, 0, 6) / 6,
                  lambda x: np.where(x <= -3, 0, np.where(x < 3, x / 3 + 0.5, 1)), "input"),
    "gelu": ((), lambda x: x * phi(x), lambda x: phi(x) + x * density(x), "input"),
    "gelu_tanh": ((), gelu_tanh, gelu_tanh_slope, "input"),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations(name, shape):
    constants, f, slope, keeps = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(shape) * 3).astype(np.float32)
    gy = rng.standard_normal(shape).astype(np.float32)
    exact = f(x.astype(np.float64))
    for extra in (0, 3):
        y = activation(name, x, *constants, extra=extra)
        np.testing.assert_allclose(y, exact, rtol=4e-7, atol=4e-7)
        gx = gradient(name, gy, y if keeps == "output" else x, *constants, extra=extra)
        np.testing.assert_allclose(gx, gy * slope(x.astype(np.float64)), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations_do_not_depend_on_place_or_threads(name):
    constants = FUNCTIONS[name][0]
    rng = np.random.default_rng(1)
    x = rng.standard_normal((7, 37, 11, 13)).astype(np.float32)
    y = activation(name, x, *constants, threads=1)
    np.testing.assert_array_equal(y, activation(name, x, *constants, extra=5, threads=2))
    np.testing.assert_array_equal(y[3:4], activation(name, x[3:4], *constants))
    g = gradient(name, x, y, *constants, threads=1)
    np.testing.assert_array_equal(g, gradient(name, x, y, *constants, extra=5, threads=2))


# What PyTorch 2.13 gives for NaN, the infinities, zeros and the kinks; the gradient of ones doubled.
SPECIAL = [NAN, -INF, -3, 0, 3, 6, INF]
SPECIAL_CASES = [
    ("relu", [NAN, 0, 0, 0, 3, 6, INF], [2, 0, 0, 0, 2, 2, 2]),
    ("clip", [NAN, 0, 0, 0, 3, 6, 6], [0, 0, 0, 0, 2, 0, 0]),
    ("leaky_relu", [NAN, -INF, -0.375, 0, 3, 6, INF], [0.25, 0.25, 0.25, 0.25, 2, 2, 2]),
    ("hardswish", [NAN, NAN, 0, 0, 3, 6, INF], [NAN, 0, 0, 1, 2, 2, 2]),
    ("hardsigmoid", [NAN, 0, 0, 0.5, 1, 1, 1], [0, 0, 0, 1 / 3, 0, 0, 0]),
    ("sigmoid", [NAN, 0, 0.04742587, 0.5, 0.95257413, 0.99752738, 1], [NAN, 0, 0.09035332, 0.5, 0.09035332, 0.00493302, 0]),
    ("tanh", [NAN, -1, -0.99505475, 0, 0.99505475, 0.99998771, 1], [NAN, 0, 0.01973208, 2, 0.01973208, 4.9e-5, 0]),
    ("elu", [NAN, -1, -0.95021293, 0, 3, 6, INF], [NAN, 0, 0.09957414, 2, 2, 2, 2]),
    ("silu", [NAN, NAN, -0.14227762, 0, 2.85772238, 5.98516426, INF],
     [NAN, NAN, -0.17620763, 1, 2.17620763, 2.0246536, NAN]),
    ("gelu", [NAN, NAN, -0.00404969, 0, 2.9959503, 6, INF], [NAN, NAN, -0.02389197, 1, 2.02389197, 2.0000001, NAN]),
    ("gelu_tanh", [NAN, NAN, -0.00363739, 0, 2.99636261, 6, INF], [NAN, NAN, -0.02316833, 1, 2.02316833, 2, NAN]),
]


@pytest.mark.parametrize("name, outputs, gradients", SPECIAL_CASES)
def test_special_values(name, outputs, gradients):
    constants = {"clip": (0.0, 6.0), "leaky_relu": (0.125,), "elu": (1.0,)}.get(name, ())
    x = np.array([SPECIAL], np.float32)
    y = activation(name, x, *constants)
    np.testing.assert_allclose(y[0], outputs, rtol=1e-6, atol=1e-6)
    kept = y if FUNCTIONS[name][3] == "output" else x
    gx = gradient(name, np.full_like(x, 2), kept, *constants)
    np.testing.assert_allclose(gx[0], gradients, rtol=2e-6, atol=2e-6)


TINY = 2.0**-126  # the least normal number
DENORMALS = np.array([[0, 2.0**-149, 1e-45, 1e-40, 1e-38, TINY - 2.0**-149]], np.float32)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("sign", [1, -1])
def test_denormals_are_zeros_of_their_sign(name, sign):
    """In, where what is compared with zero and handed on would else stay as it is, and out; tails go the same way."""
    for constants in (FUNCTIONS[name][0], *([(-1.0,), (-0.5,)] if name == "leaky_relu" else []), *([(0.0, 6.0), (0.0, 1e-39)]
                                                                                            if name == "clip" else [])):
        x = np.repeat(np.copysign(DENORMALS, np.float32(sign)), 7, axis=1)
        zero = np.copysign(np.zeros_like(x), np.float32(sign))
        y = activation(name, x, *constants)
        assert y.tobytes() == activation(name, zero, *constants).tobytes()
        assert ((y == 0) | (abs(y) >= TINY)).all()
        if name == "relu":
            assert (y == 0).all()
        g = np.full_like(x, 3)
        keeps = FUNCTIONS[name][3]
        gx = gradient(name, g, y if keeps == "output" else x, *constants)
        np.testing.assert_array_equal(gx, gradient(name, g, y if keeps == "output" else zero, *constants))
        if keeps == "output":
            np.testing.assert_array_equal(gx, gradient(name, g, x if name == "relu" else y, *constants))


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "tanh", "elu"])
def test_the_sign_of_zero(name):
    """As PyTorch has it: -0 stays -0."""
    y = activation(name, np.array([[-0.0, 0.0]], np.float32), *FUNCTIONS[name][0])
    assert (y == 0).all() and np.signbit(y).tolist() == [[True, False]]


def ulps(y, exact):
    """Distance in units in the last place of the float32 nearest to the truth, where that is normal."""
    near = exact.astype(np.float32)
    normal = np.isfinite(near) & (np.abs(near) > 1.2e-38)
    return np.max(np.abs(y[normal] - exact[normal]) / np.spacing(np.abs(near[normal])), initial=0)


def test_accuracy_over_the_whole_range():
    x = np.concatenate([np.linspace(-90, 90, 200001), np.linspace(-1, 1, 100001)]).astype(np.float32)[None]
    wide = x.astype(np.float64)
    assert ulps(activation("tanh", x), np.tanh(wide)) <= 2
    assert ulps(activation("sigmoid", x), ref.sigmoid(wide)) <= 4
    negative = wide <= 0
    assert ulps(activation("elu", x, 1.0)[negative], np.expm1(wide[negative])) <= 2
    for name in ("sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "elu"):
        far = activation(name, np.array([[-3e38, 3e38, -1e3, 1e3]], np.float32), *([1.0] if name == "elu" else []))[0]
        with np.errstate(over="ignore"):
            expected = FUNCTIONS[name][1](np.array([-3e38, 3e38, -1e3, 1e3])) if name != "elu" else [-1, 3e38, -1, 1e3]
        np.testing.assert_allclose(far, np.nan_to_num(expected, nan=0.0), rtol=1e-6, atol=1e-30)


# --- moves and arithmetic ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_copy_scale_fill(shape):
    x = ref.exact_integers(np.random.default_rng(0), shape, 10)
    for extra in (0, 3):
        np.testing.assert_array_equal(unary("f32_copy", x, extra=extra), x)
        np.testing.assert_array_equal(unary("f32_scale", x, 3.0, -5.0, extra=extra), 3 * x - 5)
        y = blank(shape, shape[1] + extra)
        run([elementwise.fill(address(y), ldy=shape[1] + extra, value=2.5, **size(shape))], shape[0])
        assert (taken(y, shape, shape[1] + extra) == 2.5).all()


# How an operand is repeated: the shape that broadcasts to (N, C, *spatial), and its stride (image, pixel, channel).
def operand(kind, x, extra):
    n, c = x.shape[:2]
    ones = (1,) * (x.ndim - 2)
    count_ = int(np.prod(x.shape[2:]))
    if kind == "full":
        return x, pixels(x, c + extra), (count_ * (c + extra), c + extra, 1)
    if kind == "image":
        small = x.reshape(n, c, -1)[:, :, :1].reshape(n, c, *ones)
        return small, pixels(small, c + extra), (c + extra, 0, 1)
    if kind == "pixel":
        small = x[:, :1]
        return small, pixels(small, 1), (count_, 1, 0)
    if kind == "channel":
        small = x.reshape(n, c, -1)[:1, :, :1].reshape(1, c, *ones)
        return small, pixels(small, c), (0, 0, 1)
    if kind == "position":
        return x[:1], pixels(x[:1], c + extra), (0, c + extra, 1)
    small = x.reshape(-1)[:1].reshape(1, 1, *ones)
    return small, pixels(small, 1), (0, 0, 0)


KINDS = ["full", "image", "pixel", "channel", "position", "scalar"]
BROADCAST_SHAPES = [(2, 1, 3), (1, 16, 1), (3, 17, 5, 3), (2, 70, 20, 13), (5, 3, 4, 2, 3), (4, 130), (1, 16500, 2)]


@pytest.mark.parametrize("shape", BROADCAST_SHAPES)
@pytest.mark.parametrize("kind_z", KINDS)
@pytest.mark.parametrize("kind_x", ["full", "image"])
def test_add_and_mul(shape, kind_x, kind_z):
    rng = np.random.default_rng(0)
    for extra in (0, 2):
        x, xs, stride_x = operand(kind_x, ref.exact_integers(rng, shape, 10), extra)
        z, zs, stride_z = operand(kind_z, ref.exact_integers(rng, shape, 10), extra)
        for kernel, exact in (("f32_add", x - 3 * z), ("f32_mul", x * z)):
            for threads in (1, 2):
                y = blank(shape, shape[1] + extra)
                run([elementwise.binary(kernel, x=address(xs), z=address(zs), y=address(y), x_stride=stride_x,
                                        z_stride=stride_z, ldy=shape[1] + extra, alpha=-3.0, **size(shape))],
                    shape[0], threads)
                np.testing.assert_array_equal(taken(y, shape, shape[1] + extra), np.broadcast_to(exact, shape))


def test_add_in_place_accumulates():
    x, y = (ref.exact_integers(np.random.default_rng(i), (3, 5, 7), 10) for i in range(2))
    a, b = pixels(x, 6), pixels(y, 8)
    run([elementwise.binary("f32_add", x=address(b), z=address(a), y=address(b), x_stride=(56, 8, 1), z_stride=(42, 6, 1),
                            ldy=8, **size(x.shape))], 3)
    np.testing.assert_array_equal(taken(b, x.shape, 8), x + y)


# --- dropout -------------------------------------------------------------------------------------------------------

SEED, OFFSET, STREAM = 0x0123456789ABCDEF, 0xFEDCBA9876543210, 0xBEEF


def random_state(seed=SEED, offset=OFFSET):
    return np.array([seed, offset], np.uint64)


def dropout(x, p, state, extra=0, threads=2, stream=STREAM):
    ld = x.shape[1] + extra
    source, y = pixels(x, ld), blank(x.shape, ld)
    run([elementwise.dropout(x=address(source), y=address(y), state=address(state), ldx=ld, ldy=ld, p=p, stream=stream,
                             **size(x.shape))], x.shape[0], threads)
    return taken(y, x.shape, ld)


def words(shape, seed=SEED, offset=OFFSET, stream=STREAM):
    """The random word of each element, by the definition in simd/random.inl.h."""
    e = np.arange(int(np.prod(shape)), dtype=np.uint64)
    counter = e // 64 * 16 + e % 16
    key = [seed & 0xFFFFFFFF, seed >> 32]
    rest = np.broadcast_to(np.array([offset & 0xFFFFFFFF, offset >> 32], np.uint64), (len(e), 2))
    counters = np.column_stack([counter & 0xFFFFFFFF, (counter >> 32) | (stream << 16), rest])
    drawn = ref.philox4x32(counters, key)[np.arange(len(e)), (e % 64 // 16).astype(int)]
    return np.moveaxis(drawn.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


@pytest.mark.parametrize("shape", [(2, 1), (0, 7), (3, 5, 7), (1, 64), (1, 65), (2, 17, 9, 9), (2, 3, 80, 80)])
def test_dropout_is_philox(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for p in (0.25, 0.5, 0.1):
        kept = words(shape) >= round(p * 2**32)
        expected = x * np.where(kept, np.float32(1 / (1 - p)), np.float32(0))
        for extra, threads in ((0, 1), (0, 2), (3, 2)):
            np.testing.assert_array_equal(dropout(x, p, random_state(), extra, threads), expected)


def test_dropout_of_nothing_and_of_everything():
    x = np.random.default_rng(0).standard_normal((3, 70, 5)).astype(np.float32)
    np.testing.assert_array_equal(dropout(x, 0.0, random_state()), x)
    np.testing.assert_array_equal(dropout(x, 1.0, random_state()), np.zeros_like(x))


def test_dropout_keeps_the_mean_and_streams_differ():
    x = np.ones((4, 100, 250), np.float32)
    masks = [dropout(x, 0.3, random_state(1, i % 2), stream=i // 2) > 0 for i in range(4)]
    for mask in masks:
        assert abs(mask.mean() - 0.7) < 5 * math.sqrt(0.21 / x.size)
    for i in range(4):
        for j in range(i):
            both = (masks[i] & masks[j]).mean()
            assert abs(both - 0.49) < 5 * math.sqrt(0.25 / x.size)


def test_random_draw():
    source, state = random_state(7, 2**64 - 1), random_state(0, 0)
    x = np.ones((1, 1000), np.float32)
    y = guarded(1000)
    steps = StepList([elementwise.random_draw(address(source), address(state)),
                      elementwise.dropout(x=address(x), y=address(y), state=address(state), channels=1000, pixels=1,
                                          ldx=1000, ldy=1000, p=0.5)], 1)
    for offset in (2**64 - 1, 0, 1):
        steps.run(2)
        assert state.tolist() == [7, offset]
        assert source.tolist() == [7, (offset + 1) % 2**64]
        np.testing.assert_array_equal(y[None] > 0, words((1, 1000), 7, offset, 0) >= 2**31)


def test_fixed_n_does_not_follow_the_batch():
    x, y, z = guarded((3, 5)), guarded((3, 5)), guarded((3, 5))
    x[...] = np.arange(15).reshape(3, 5)
    same = {"pixels": 1, "channels": 5, "fixed_n": 3}
    for n in (0, 1, 9):
        y[...], z[...] = NAN, NAN
        run([elementwise.unary("f32_scale", x=address(x), y=address(y), ldx=5, ldy=5, a=2.0, **same),
             elementwise.binary("f32_add", x=address(x), z=address(y), y=address(z), x_stride=(5, 5, 1),
                                z_stride=(5, 5, 1), ldy=5, **same)], n)
        np.testing.assert_array_equal(z, 3 * x)
