"""The rest of the reference (normalisation, activations, losses, update rules, Philox) against hand-worked numbers,
known answers and central differences, as ``house/test_reference.py`` has it for convolution and pooling.
"""

import math

import numpy as np
import pytest
import reference as ref

from house.test_reference import check_gradient, close, equal

NAN, INF = math.nan, math.inf
LN = math.log

# --- normalisation -------------------------------------------------------------------------------------------------


def test_batch_norm_by_hand():
    # Values 1 and 3: mean 2, biased variance 1 (normalises), unbiased variance 2 (goes into running_var).
    y, mean, var = ref.batch_norm([[1], [3]], [0], [1], training=True, momentum=0.1, eps=0)
    close(y, [[-1], [1]])
    close(mean, [0.2])
    close(var, [1.1])
    y, mean, var = ref.batch_norm([[3]], [1], [4], [2], [5], eps=0)
    close(y, [[7]])
    equal((mean, var), ([1], [4]))
    y, mean, var = ref.batch_norm([[1], [3]], None, None, eps=3)
    close(y, [[-0.5], [0.5]])
    assert mean is None and var is None


def test_batch_norm_edges():
    with pytest.raises(ValueError, match="more than one value"):
        ref.batch_norm(np.zeros((1, 3, 1, 1)), None, None, training=True)
    y, mean, var = ref.batch_norm(np.zeros((0, 1, 2)), [5], [6], training=True)
    assert y.shape == (0, 1, 2)
    equal((mean, var), ([5], [6]))


@pytest.mark.parametrize("seed", range(12))
def test_batch_norm_gradients(seed):
    rng = np.random.default_rng(seed)
    training = bool(seed & 1)
    shape = (3, 2, *rng.integers(1, 4, seed % 4))
    x = rng.standard_normal(shape)
    weight, bias, mean, var = rng.uniform(0.5, 2, (4, 2))
    if seed % 3 == 0:
        mean = var = None

    def forward(x, weight, bias):
        return ref.batch_norm(x, mean, var, weight, bias, training).output

    def backward(g):
        return ref.batch_norm_backward(g, x, mean, var, weight, training)

    check_gradient(rng, lambda x: forward(x, weight, bias), x, lambda g: backward(g)[0])
    check_gradient(rng, lambda w: forward(x, w, bias), weight, lambda g: backward(g)[1])
    check_gradient(rng, lambda b: forward(x, weight, b), bias, lambda g: backward(g)[2])


# --- activations and shapes ----------------------------------------------------------------------------------------


def test_activations_by_hand():
    x = [-2, 0, 3, NAN]
    equal(ref.relu(x), [0, 0, 3, NAN])
    equal(ref.relu_backward([1, 1, 1, 1], x), [0, 0, 1, 1])
    equal(ref.leaky_relu(x, 0.5), [-1, 0, 3, NAN])
    equal(ref.leaky_relu_backward([1, 1, 1, 1], x, 0.5), [0.5, 0.5, 1, 0.5])
    close(ref.sigmoid([0, LN(3), -LN(3), -1000, 1000]), [0.5, 0.75, 0.25, 0, 1])
    close(ref.tanh([0, LN(2)]), [0, 0.6])
    close(ref.softmax([[0, LN(3)], [1000, 0]], 1), [[0.25, 0.75], [1, 0]])
    close(ref.softmax([[0, LN(3)], [0, 0]], 0), [[0.5, 0.75], [0.5, 0.25]])
    close(ref.log_softmax([0, 1000], 0), [-1000, 0])
    equal(ref.softmax([-INF, -INF], 0), [NAN, NAN])
    equal(ref.softmax([-INF, 0], 0), [0, 1])


def test_shapes_by_hand():
    equal(ref.linear([1, 2], [[1, 10], [3, 0]], [0, 100]), [21, 103])
    equal(ref.add([[1], [2]], [10, 20], alpha=2), [[21, 41], [22, 42]])
    grad_input, grad_other = ref.add_backward([[1, 2], [3, 4]], (2, 1), (2,), alpha=2)
    equal(grad_input, [[3], [7]])
    equal(grad_other, [8, 12])
    equal(ref.concat([[[1]], [[2, 3]]], 1), [[1, 2, 3]])
    first, second = ref.concat_backward([[1, 2, 3]], (1, 2), 1)
    equal(first, [[1]])
    equal(second, [[2, 3]])
    x = np.arange(24).reshape(2, 3, 4)
    equal(ref.flatten(x, 1), np.arange(24).reshape(2, 12))
    assert ref.flatten(x, 0, 1).shape == (6, 4)
    assert ref.flatten(x).shape == (24,)
    equal(ref.flatten_backward(np.arange(24).reshape(2, 12), (2, 3, 4)), x)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh", "softmax", "log_softmax"])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_activation_gradients(name, dim):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 2)) * 2
    x += 0.1 * np.sign(x)  # away from the kink at 0
    args = (dim,) if "softmax" in name else (0.3,) if name == "leaky_relu" else ()
    forward, backward = getattr(ref, name), getattr(ref, name + "_backward")
    check_gradient(rng, lambda x: forward(x, *args), x, lambda g: backward(g, x, *args))


def test_linear_gradients():
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((5, 4)), rng.standard_normal(5)
    check_gradient(rng, lambda x: ref.linear(x, w, b), x, lambda g: ref.linear_backward(g, x, w)[0])
    check_gradient(rng, lambda w: ref.linear(x, w, b), w, lambda g: ref.linear_backward(g, x, w)[1])
    check_gradient(rng, lambda b: ref.linear(x, w, b), b, lambda g: ref.linear_backward(g, x, w)[2])


# --- losses --------------------------------------------------------------------------------------------------------

QUARTER = [0, LN(3)]  # probabilities 1/4 and 3/4


@pytest.mark.parametrize(
    "target, options, expected",
    [
        ([0, 1], {}, (LN(4) + LN(4 / 3)) / 2),
        ([0, 1], {"reduction": "sum"}, LN(4) + LN(4 / 3)),
        ([0, 1], {"reduction": "none"}, [LN(4), LN(4 / 3)]),
        ([0, 1], {"weight": [1, 3]}, (LN(4) + 3 * LN(4 / 3)) / 4),
        ([0, -100], {}, LN(4)),
        ([0, 1], {"ignore_index": 0}, LN(4 / 3)),
        ([0, 1], {"ignore_index": 0, "reduction": "none"}, [0, LN(4 / 3)]),
        ([-100, -100], {}, NAN),
        ([-100, -100], {"reduction": "sum"}, 0),
        ([1, 1], {"label_smoothing": 0.2}, 0.8 * LN(4 / 3) + 0.1 * (LN(4) + LN(4 / 3))),
        # Smoothing weighs every class with its own weight, but "mean" still divides by the targets' weights.
        ([1, 1], {"label_smoothing": 0.2, "weight": [1, 3]}, 0.8 * LN(4 / 3) + 0.1 * (LN(4) + 3 * LN(4 / 3)) / 3),
    ],
)
def test_cross_entropy_by_hand(target, options, expected):
    close(ref.cross_entropy([QUARTER, QUARTER], target, **options), expected)
    # The same positions along a spatial axis.
    x = np.transpose([QUARTER, QUARTER])[None]
    expected = [expected] if options.get("reduction") == "none" else expected
    close(ref.cross_entropy(x, [target], **options), expected)


def test_cross_entropy_edges():
    with pytest.raises(IndexError):
        ref.cross_entropy([QUARTER], [2])
    equal(ref.cross_entropy_backward(1.0, [QUARTER], [-100]), [[0, 0]])
    close(ref.cross_entropy_backward(1.0, [QUARTER], [0]), [[-0.75, 0.75]])
    close(ref.cross_entropy([[0, -INF, 0]], [0]), LN(2))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("spatial", [(), (2,), (2, 3)])
def test_loss_gradients(reduction, smoothing, weighted, spatial):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, *spatial))
    target = rng.integers(0, 4, (3, *spatial))
    target[0] = -1
    args = (target, rng.uniform(0.5, 2, 4) if weighted else None)
    options = {"ignore_index": -1, "reduction": reduction, "label_smoothing": smoothing}
    check_gradient(
        rng,
        lambda x: ref.cross_entropy(x, *args, **options),
        x,
        lambda g: ref.cross_entropy_backward(g, x, *args, **options),
    )
    other = rng.standard_normal(x.shape)
    check_gradient(
        rng,
        lambda x: ref.mse_loss(x, other, reduction),
        x,
        lambda g: ref.mse_loss_backward(g, x, other, reduction),
    )


def test_mse_loss_by_hand():
    equal(ref.mse_loss([1, 2], [3, 5], "none"), [4, 9])
    equal(ref.mse_loss([1, 2], [3, 5], "sum"), 13)
    equal(ref.mse_loss([1, 2], [3, 5]), 6.5)


# --- update rules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, [0.95, 0.9]),
        ({"weight_decay": 0.5}, [0.9, 0.805]),
        ({"momentum": 0.9}, [0.95, 0.855]),
        ({"momentum": 0.9, "dampening": 0.5}, [0.95, 0.88]),  # the first step is not damped
        ({"momentum": 0.9, "nesterov": True}, [0.905, 0.7695]),
    ],
)
def test_sgd_by_hand(options, expected):
    param, buffer = 1.0, None
    for value in expected:
        param, buffer = ref.sgd_step(param, 0.5, buffer, 0.1, **options)
        close(param, value)


def test_adam_by_hand():
    # Bias correction makes the first step lr * sign(gradient); in the second m = 0.25 and v = 0.1875.
    p, m, v = ref.adam_step([1, 1], [4, -0.1], [0, 0], [0, 0], 1, lr=0.1, eps=0)
    close(p, [0.9, 1.1])
    p, m, v = ref.adam_step(1, 1, 0, 0, 1, lr=0.1, betas=(0.5, 0.75), eps=0)
    close((p, m, v), (0.9, 0.5, 0.25))
    p, m, v = ref.adam_step(p, 0, m, v, 2, lr=0.1, betas=(0.5, 0.75), eps=0)
    close((p, m, v), (0.9 - 0.1 * (1 / 3) / math.sqrt(3 / 7), 0.25, 0.1875))
    close(ref.adam_step(0, 1, 0, 0, 1, lr=0.1, eps=1)[0], -0.05)
    # L2 decay is lost in the first step's normalisation; decoupled decay is not.
    close(ref.adam_step(2, 1, 0, 0, 1, lr=0.1, eps=0, weight_decay=0.5)[0], 1.9)
    close(ref.adamw_step(2, 1, 0, 0, 1, lr=0.1, eps=0, weight_decay=0.5)[0], 1.8)


# --- random numbers and what tests measure with --------------------------------------------------------------------


@pytest.mark.parametrize(
    "counter, key, expected",
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter, key, expected):
    """``kat_vectors`` of Random123, the library that accompanies the paper."""
    counter, key, expected = ([int(word, 16) for word in words.split()] for words in (counter, key, expected))
    random = ref.philox4x32(counter, key)
    assert random.dtype == np.uint32
    equal(random, expected)
    equal(ref.philox4x32([[counter] * 2] * 3, key), [[expected] * 2] * 3)


def test_philox_is_uniform():
    counter = np.zeros((1 << 16, 4), np.uint32)
    counter[:, 0] = np.arange(1 << 16)
    words = ref.philox4x32(counter, [1, 2])
    assert len(np.unique(words, axis=0)) == len(words)
    bits = np.unpackbits(words.view(np.uint8), axis=None)
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / math.sqrt(bits.size)


def test_helpers():
    assert ref.rel_l2([3, 4.5], [3, 4]) == 0.1
    assert ref.rel_l2([0, 0], [0, 0]) == 0
    assert ref.rel_l2([1], [0]) == INF
    assert math.isnan(ref.rel_l2([NAN], [1]))
    with pytest.raises(ValueError, match="differ"):
        ref.rel_l2([1, 1], [1])
    close(ref.central_difference(lambda x: x**2, [3, 5], [1, 2], 0.5), [6, 20])
    assert ref.adjoint_gap([1, 0], [5, 7], [5], [1]) == 0
    assert ref.adjoint_gap([1, 0], [5, 7], [5], [2]) > 0.1


def test_exact_integers():
    rng = np.random.default_rng(0)
    for bits in (1, 8, 24):
        values = ref.exact_integers(rng, (5000,), bits)
        assert values.dtype == np.float32
        equal(values, np.round(values))
        assert 0.99 * (2**bits - 1) <= values.max() <= 2**bits - 1
        assert 0.99 * (2**bits - 1) <= -values.min() <= 2**bits - 1
    assert ref.exact_integers(rng, (100,), 4, sign=False).min() == 0
    equal(np.unique(ref.exact_integers(rng, (100,), 1)), [-1, 0, 1])
    with pytest.raises(ValueError, match="25"):
        ref.exact_integers(rng, (1,), 25)
