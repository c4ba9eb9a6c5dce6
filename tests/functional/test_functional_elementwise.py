"""Functions on NumPy arrays against the float64 reference: activations, softmax, dropout, joining, losses."""

from math import erf

import numpy as np
import pytest
import reference as R

import fastconv as fc
import fastconv.functional as F

SHAPES = [(2, 3, 4, 5), (3, 17), (2, 5, 9), (1, 2, 2, 3, 4), (0, 3, 2, 2)]
phi = np.vectorize(lambda v: 0.5 * (1 + erf(v / 2**0.5)), otypes=[float])


@pytest.fixture(autouse=True)
def one_thread():
    fc.set_num_threads(1)
    yield
    fc.set_num_threads(1)


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def tanh_gelu(x):
    return 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def central(f):
    """A gradient from a float64 function, by central differences."""
    return lambda g, x: np.float64(g) * (f(np.float64(x) + 1e-5) - f(np.float64(x) - 1e-5)) / 2e-5


def silu(x):
    return x * R.sigmoid(x)


def hardswish(x):
    return x * np.clip(x + 3, 0, 6) / 6


def hardsigmoid(x):
    return np.clip(x + 3, 0, 6) / 6


def elu(x):
    return np.where(x > 0, x, 1.5 * np.expm1(np.minimum(x, 0)))


# name -> (forward, backward, keywords, reference, reference of the gradient)
VALUES = {
    "relu": (F.relu, F.relu_backward, {}, R.relu, R.relu_backward),
    "leaky_relu": (F.leaky_relu, F.leaky_relu_backward, {"negative_slope": 0.2}, lambda x: R.leaky_relu(x, 0.2),
                   lambda g, x: R.leaky_relu_backward(g, x, 0.2)),
    "leaky_relu, negative": (F.leaky_relu, F.leaky_relu_backward, {"negative_slope": -0.5},
                             lambda x: R.leaky_relu(x, -0.5), lambda g, x: R.leaky_relu_backward(g, x, -0.5)),
    "relu6": (F.relu6, F.relu6_backward, {}, lambda x: np.clip(x, 0, 6), central(lambda x: np.clip(x, 0, 6))),
    "hardtanh": (F.hardtanh, F.hardtanh_backward, {"min_val": -0.5, "max_val": 2},
                 lambda x: np.clip(x, -0.5, 2), central(lambda x: np.clip(x, -0.5, 2))),
    "sigmoid": (F.sigmoid, F.sigmoid_backward, {}, R.sigmoid, R.sigmoid_backward),
    "tanh": (F.tanh, F.tanh_backward, {}, R.tanh, R.tanh_backward),
    "silu": (F.silu, F.silu_backward, {}, silu, central(silu)),
    "hardswish": (F.hardswish, F.hardswish_backward, {}, hardswish, central(hardswish)),
    "hardsigmoid": (F.hardsigmoid, F.hardsigmoid_backward, {}, hardsigmoid, central(hardsigmoid)),
    "gelu": (F.gelu, F.gelu_backward, {}, lambda x: x * phi(x), central(lambda x: x * phi(x))),
    "gelu, tanh": (F.gelu, F.gelu_backward, {"approximate": "tanh"}, tanh_gelu, central(tanh_gelu)),
    "elu": (F.elu, F.elu_backward, {"alpha": 1.5}, elu, central(elu)),
    "softmax": (F.softmax, F.softmax_backward, {}, lambda x: R.softmax(x, 1), lambda g, x: R.softmax_backward(g, x, 1)),
    "log_softmax": (F.log_softmax, F.log_softmax_backward, {"dim": 1}, lambda x: R.log_softmax(x, 1),
                    lambda g, x: R.log_softmax_backward(g, x, 1)),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", VALUES)
def test_by_value(name, shape):
    forward, backward, keywords, expected, expected_gradient = VALUES[name]
    rng = np.random.default_rng(1)
    x, g = 3 * normal(rng, *shape), normal(rng, *shape)
    y, gx = forward(x, **keywords), backward(g, x, **keywords)
    assert y.dtype == gx.dtype == np.float32 and y.shape == gx.shape == shape
    np.testing.assert_allclose(y, expected(np.float64(x)), rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(gx, expected_gradient(g, x), rtol=2e-5, atol=2e-5)
    reversed_ = x[..., ::-1].copy()[..., ::-1]
    np.testing.assert_array_equal(forward(reversed_, **keywords), y)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.9, 1.0])
def test_dropout(p):
    x = np.full((8, 16, 20, 20), 2, np.float32)
    y = F.dropout(x, p, seed=7)
    kept = y != 0
    assert not kept.any() if p == 1 else abs(kept.mean() - (1 - p)) < 5 * (p * (1 - p) / x.size) ** 0.5 + 1e-9
    if p < 1:
        np.testing.assert_allclose(y[kept], 2 / (1 - p), rtol=1e-6)
    np.testing.assert_array_equal(F.dropout(x, p, seed=7), y)
    fc.set_num_threads(2)
    np.testing.assert_array_equal(F.dropout(x, p, seed=7), y)
    np.testing.assert_array_equal(F.dropout_backward(x, p, seed=7), y)
    if 0 < p < 1:
        assert (F.dropout(x, p, seed=8) != y).any()
        fc.manual_seed(3)
        first, second = F.dropout(x, p), F.dropout(x, p)
        assert (first != second).any()
        fc.manual_seed(3)
        np.testing.assert_array_equal(F.dropout(x, p), first)
        np.testing.assert_array_equal(F.dropout(x, p), second)
    untrained = F.dropout(x, p, training=False)
    assert np.array_equal(untrained, x) and not np.shares_memory(untrained, x)


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_cat(dim):
    rng = np.random.default_rng(2)
    shapes = [[2, 3, 4, 5] for _ in range(3)]
    for i, s in enumerate(shapes):
        s[dim] = i + 1
    arrays = [normal(rng, *s) for s in shapes]
    np.testing.assert_array_equal(F.cat(arrays, dim), R.concat(arrays, dim))
    np.testing.assert_array_equal(F.concat(tuple(arrays), dim=dim), R.concat(arrays, dim))


@pytest.mark.parametrize("shapes", [
    [(2, 3, 4, 5), (2, 3, 4, 5)], [(2, 3, 4, 5), (2, 3, 1, 1)], [(2, 1, 4, 5), (2, 3, 4, 5)], [(2, 3, 4, 5), (3, 1, 1)],
    [(1, 3, 1, 1), (2, 3, 4, 5)], [(2, 6), (6,)], [(6,), (6,)], [(0, 3, 2), (0, 3, 2)], [(1, 3, 4), (1, 3, 4)],
    [(0, 3, 4), (1, 3, 1)]])
def test_add(shapes):
    a, b = (R.exact_integers(np.random.default_rng(i), s, 12) for i, s in enumerate(shapes))
    np.testing.assert_array_equal(F.add(a, b), R.add(a, b))
    np.testing.assert_array_equal(F.add(b, a), R.add(b, a))


def test_add_of_a_number():
    x = R.exact_integers(np.random.default_rng(3), (2, 3, 4), 8)
    for number in (2, -0.5):
        np.testing.assert_array_equal(F.add(x, number), x + np.float32(number))
        np.testing.assert_array_equal(F.add(number, x), x + np.float32(number))


# ---- losses ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 6), (2, 5, 3, 4), (2, 3, 2, 2, 2)])
def test_cross_entropy(shape, weighted, smoothing, reduction):
    rng = np.random.default_rng(4)
    x = 4 * normal(rng, *shape)
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    target.flat[1] = -7
    keywords = {"ignore_index": -7, "reduction": reduction, "label_smoothing": smoothing}
    weight = rng.random(shape[1]).astype(np.float32) + 0.5 if weighted else None
    y = F.cross_entropy(x, target, weight, **keywords)
    expected = R.cross_entropy(x, target, weight, **keywords)
    assert y.dtype == np.float32 and y.shape == np.shape(expected)
    np.testing.assert_allclose(y, expected, rtol=3e-6, atol=3e-6)
    g = normal(rng, *y.shape) if reduction == "none" else np.float32(1.7)
    gx = F.cross_entropy_backward(g, x, target, weight, **keywords)
    np.testing.assert_allclose(gx, R.cross_entropy_backward(g, x, target, weight, **keywords), rtol=1e-5, atol=2e-6)
    if reduction != "none":
        np.testing.assert_array_equal(F.cross_entropy_backward(float(g), x, target, weight, **keywords), gx)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8, np.uint64])
def test_any_integer_is_a_class_index(dtype):
    rng = np.random.default_rng(5)
    x, target = normal(rng, 6, 3), rng.integers(0, 3, 12)[::2]
    assert F.cross_entropy(x, target.astype(dtype)) == F.cross_entropy(x, target)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", SHAPES[:-1])
def test_mse_loss(shape, reduction):
    rng = np.random.default_rng(6)
    x, target = normal(rng, *shape), normal(rng, *shape)
    y = F.mse_loss(x, target, reduction=reduction)
    np.testing.assert_allclose(y, R.mse_loss(x, target, reduction), rtol=3e-6, atol=1e-6)
    g = normal(rng, *y.shape) if reduction == "none" else np.float32(-0.3)
    np.testing.assert_allclose(F.mse_loss_backward(g, x, target, reduction=reduction),
                               R.mse_loss_backward(g, x, target, reduction), rtol=1e-5, atol=1e-6)


def test_losses_of_an_empty_batch():
    x, target = np.zeros((0, 3), np.float32), np.zeros(0, np.int64)
    assert np.isnan(F.cross_entropy(x, target)) and np.isnan(F.mse_loss(x, x))
    assert F.cross_entropy(x, target, reduction="sum") == 0 == F.mse_loss(x, x, reduction="sum")
    assert F.cross_entropy(x, target, reduction="none").shape == (0,)
    assert F.cross_entropy_backward(1.0, x, target).shape == (0, 3)


# ---- symbolic tensors -----------------------------------------------------------------------------------------------------


def test_the_same_functions_build_graphs():
    rng = np.random.default_rng(7)
    weight, bias = fc.Parameter(normal(rng, 6, 4, 3, 3)), fc.Parameter(normal(rng, 6))

    def network(f, x, w, b):
        y = f.relu(f.conv2d(x, w, b, padding=1))
        y = f.cat([f.max_pool2d(y, 2), f.avg_pool2d(y, 2)], 1)
        return f.softmax(f.flatten(f.add(f.silu(y), 1.5), 1))

    x = normal(rng, 2, 4, 6, 8)
    engine = fc.compile(lambda x: network(F, x, weight, bias), x.shape)
    np.testing.assert_allclose(engine(x), network(F, x, weight.numpy(), bias.numpy()), rtol=1e-5, atol=1e-6)


def test_dropout_of_a_symbolic_tensor():
    x = np.ones((2, 3, 4), np.float32)
    np.testing.assert_array_equal(fc.compile(lambda x: F.relu(F.dropout(x, 0.5, training=False)), x.shape)(x), x)
    y = fc.compile(lambda x: F.dropout(x, 0.5), x.shape)(x)
    assert set(np.unique(y)) == {0, 2}
