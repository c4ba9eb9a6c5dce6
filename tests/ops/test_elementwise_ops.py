"""Activations, arithmetic, concatenation, softmax, dropout and losses as operators with gradients, against the reference."""

import numpy as np
import pytest
import reference as ref
from gradients import float32, run

import fastconv.functional  # noqa: F401  (methods of tensors)
import fastconv.ops  # noqa: F401  (registers the operators)
from fastconv.graph.ir import apply
from fastconv.graph.random import manual_seed, random_state
from fastconv.graph.trace import trace

SHAPES = [(2, 5), (3, 4, 7), (2, 17, 3, 5), (2, 3, 2, 3, 4)]


def close(a, b, tolerance=2e-6):
    assert np.shape(a) == np.shape(b)
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def check(function, expected, backward, arrays, gy, **options):
    y, gradients = run(function, arrays, gy, **options)
    close(y, expected)
    for got, want in zip(gradients, backward, strict=True):
        close(got, want, 5e-6)


# --- activations ---------------------------------------------------------------------------------------------------

SLOPES = {
    "silu": lambda x: ref.sigmoid(x) * (1 + x * ref.sigmoid(-x)),
    "hardsigmoid": lambda x: (np.abs(x) < 3) / 6,
    "hardswish": lambda x: np.where(x <= -3, 0, np.where(x < 3, x / 3 + 0.5, 1)),
}
VALUES = {
    "silu": lambda x: x * ref.sigmoid(x),
    "hardsigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "silu", "hardsigmoid", "hardswish"])
def test_activations(name, shape):
    rng = np.random.default_rng(0)
    x, gy = float32(rng, *shape) * 2, float32(rng, *shape)
    if name in VALUES:
        y, gx = VALUES[name](x.astype(np.float64)), gy * SLOPES[name](x.astype(np.float64))
    else:
        y, gx = getattr(ref, name)(x), getattr(ref, name + "_backward")(gy, x)
    check(lambda t: apply(name, [t]), y, [gx], [x], gy)
    check(lambda t: apply(name, [t]), y, [gx], [x], gy, flat=[0])


@pytest.mark.parametrize("slope", [0.1, 0.0, -0.5])
def test_leaky_relu(slope):
    rng = np.random.default_rng(0)
    x, gy = float32(rng, 2, 5, 3), float32(rng, 2, 5, 3)
    check(lambda t: apply("leaky_relu", [t], negative_slope=slope), ref.leaky_relu(x, slope),
          [ref.leaky_relu_backward(gy, x, slope)], [x], gy)


def test_clip_elu_gelu():
    rng = np.random.default_rng(0)
    x, gy = float32(rng, 2, 5, 3) * 2, float32(rng, 2, 5, 3)
    inside = (x > -1) & (x < 0.5)
    check(lambda t: apply("clip", [t], low=-1, high=0.5), np.clip(x, -1, 0.5), [gy * inside], [x], gy)
    check(lambda t: apply("elu", [t], alpha=0.5), np.where(x > 0, x, 0.5 * np.expm1(x)),
          [gy * np.where(x > 0, 1, 0.5 * np.exp(x))], [x], gy)
    for approximate in ("none", "tanh"):
        def gelu(t, approximate=approximate):
            return apply("gelu", [t], approximate=approximate)
        y, (gx,) = run(gelu, [x], gy)
        up, down = (run(gelu, [x + np.float32(d)], gy)[0].astype(np.float64) for d in (2**-7, -(2**-7)))
        np.testing.assert_allclose(gx, gy * (up - down) * 64, atol=1e-4)
    assert np.abs(run(lambda t: apply("gelu", [t]), [x], gy)[0] - y).max() > 1e-5  # the two are not the same


def test_relu_of_one_tensor_used_twice():
    rng = np.random.default_rng(0)
    x, gy = float32(rng, 2, 5, 3), float32(rng, 2, 5, 3)
    check(lambda t: apply("relu", [t]) + apply("sigmoid", [t]), ref.relu(x) + ref.sigmoid(x),
          [ref.relu_backward(gy, x) + ref.sigmoid_backward(gy, x)], [x], gy)


# --- arithmetic ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other, flat", [
    ((2, 3, 4, 5), False), ((2, 3, 1, 1), False), ((2, 1, 4, 5), False), ((2, 1, 1, 1), False),
    ((3, 1, 1), True), ((1, 3, 1, 1), True), ((1,), True), ((), True), ((4, 5), True), ((1, 1, 4, 5), True)])
@pytest.mark.parametrize("op", ["add", "sub", "mul"])
@pytest.mark.parametrize("swap", [False, True])
def test_broadcasting(op, other, flat, swap):
    rng = np.random.default_rng(0)
    x, z, gy = (ref.exact_integers(rng, s, 5) for s in ((2, 3, 4, 5), other, (2, 3, 4, 5)))
    function = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[op]
    gx, gz = {"add": (gy, gy), "sub": (gy, -gy), "mul": (gy * z, gy * x)}[op]
    if swap:
        gx, gz = {"add": (gy, gy), "sub": (-gy, gy), "mul": (gy * z, gy * x)}[op]
    gz = ref.add_backward(gz, gz.shape, z.shape)[1]
    y, gradients = run(lambda a, b: apply(op, [b, a] if swap else [a, b]), [x, z], gy, flat=[1] if flat else [])
    np.testing.assert_array_equal(y, function(z, x) if swap else function(x, z))
    np.testing.assert_array_equal(gradients[0], gx)
    np.testing.assert_array_equal(gradients[1], gz)


@pytest.mark.parametrize("shape", [(2, 1, 37), (2, 1, 3, 37), (2, 2, 1, 19), (2, 3, 5, 1), (3, 1, 2, 3, 17), (2, 16, 4, 5)])
@pytest.mark.parametrize("op", ["add", "sub", "mul"])
def test_rows_of_few_channels(op, shape):
    """One value of all, of an image or of a pixel: rows of the image are as a pixel's channels, where they lie together."""
    rng = np.random.default_rng(0)
    n, c, *spatial = shape
    ones = [1] * len(spatial)
    function = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[op]
    x, gy = (ref.exact_integers(rng, shape, 5) for _ in range(2))
    others = [(shape, False), ((n, 1, *ones), False), ((n, 1, *spatial), False), ((n, c, *ones), False), ((1,), True),
              ((1, *spatial), True), ((c, *ones), True)]
    for other, flat in others:
        z = ref.exact_integers(rng, other, 5)
        for swap in (False, True):
            y, _ = run(lambda a, b, s=swap: apply(op, [b, a] if s else [a, b]), [x, z], gy, flat=[1] if flat else [])
            np.testing.assert_array_equal(y, function(z, x) if swap else function(x, z), err_msg=f"{other} {swap}")
        wide = ref.exact_integers(rng, (n, c + 3, *spatial), 5)  # neither read nor written by whole rows
        got, _ = run(lambda a, b: apply("concat", [apply(op, [a[:, 1:1 + c], b]), a], dim=1), [wide, z],
                     np.concatenate([gy, wide], 1), flat=[1] if flat else [])
        np.testing.assert_array_equal(got, np.concatenate([function(wide[:, 1:1 + c], z), wide], 1), err_msg=f"{other}")


def test_squeeze_and_excite_in_both_directions():
    rng = np.random.default_rng(0)
    x, z, gy = (ref.exact_integers(rng, s, 5) for s in ((2, 6, 1, 1), (2, 1, 3, 3), (2, 6, 3, 3)))
    y, (gx, gz) = run(lambda a, b: a * b, [x, z], gy)
    np.testing.assert_array_equal(y, x * z)
    np.testing.assert_array_equal(gx, (gy * z).sum(axis=(2, 3), keepdims=True))
    np.testing.assert_array_equal(gz, (gy * x).sum(axis=1, keepdims=True))


def test_numbers():
    rng = np.random.default_rng(0)
    x, gy = (ref.exact_integers(rng, (3, 4, 5), 8) for _ in range(2))
    for function, y, gx in [(lambda t: t + 3, x + 3, gy), (lambda t: 3 + t, x + 3, gy), (lambda t: t - 3, x - 3, gy),
                            (lambda t: apply("sub", [3, t]), 3 - x, -gy), (lambda t: t * -2.5, x * -2.5, gy * -2.5)]:
        got, (gradient,) = run(function, [x], gy)
        np.testing.assert_array_equal(got, y)
        np.testing.assert_array_equal(gradient, gx)


def test_a_smaller_batch_than_planned_with_a_parameter():
    rng = np.random.default_rng(0)
    x, z, gy = (ref.exact_integers(rng, s, 5) for s in ((2, 3, 4), (3, 1), (2, 3, 4)))
    y, (gx, gz) = run(lambda a, b: a * b * (b + b), [x, z], gy, flat=[1], batch=5)
    np.testing.assert_array_equal(y, 2 * x * z * z)
    np.testing.assert_array_equal(gx, 2 * gy * z * z)
    np.testing.assert_array_equal(gz, (4 * gy * x * z).sum(axis=(0, 2), keepdims=True)[0])


@pytest.mark.parametrize("shapes", [[(2, 3)], [(2, 3), (2, 1)], [(2, 5, 3), (2, 16, 3), (2, 1, 3)],
                                    [(2, 3, 2, 2), (2, 4, 2, 2)]])
@pytest.mark.parametrize("made", [False, True])
def test_concat(shapes, made):
    rng = np.random.default_rng(0)
    arrays = [ref.exact_integers(rng, s, 8) for s in shapes]
    gy = ref.exact_integers(rng, (2, sum(s[1] for s in shapes), *shapes[0][2:]), 8)
    factor = 3 if made else 1  # made by a node, an input is written into its channels; else it is copied there
    y, gradients = run(lambda *t: apply("concat", [v * 3 if made else v for v in t], dim=1), arrays, gy)
    np.testing.assert_array_equal(y, factor * ref.concat(arrays, 1))
    for got, want in zip(gradients, ref.concat_backward(gy, [s[1] for s in shapes], 1), strict=True):
        np.testing.assert_array_equal(got, factor * want)


def test_concat_of_one_tensor_twice():
    rng = np.random.default_rng(0)
    x, gy = ref.exact_integers(rng, (2, 3, 4), 8), ref.exact_integers(rng, (2, 6, 4), 8)
    y, (gx,) = run(lambda t: apply("concat", [t, t], dim=-2), [x], gy)
    np.testing.assert_array_equal(y, np.concatenate([x, x], 1))
    np.testing.assert_array_equal(gx, gy[:, :3] + gy[:, 3:])


# --- softmax -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name, shape):
    rng = np.random.default_rng(0)
    x, gy = float32(rng, *shape), float32(rng, *shape)
    check(lambda t: apply(name, [t], dim=1 - len(shape)), getattr(ref, name)(x, 1),
          [getattr(ref, name + "_backward")(gy, x, 1)], [x], gy)


# --- dropout -------------------------------------------------------------------------------------------------------


def test_dropout_draws_anew_and_its_backward_the_same():
    x = np.ones((3, 50, 7), np.float32)
    results = []
    for seed in (5, 5, 6):
        manual_seed(seed)
        before = random_state()[1]
        y, (gx,) = run(lambda t: apply("dropout", [t], p=0.25), [x], 2 * x)
        assert random_state()[1] == before + 1
        np.testing.assert_array_equal(gx, 2 * y)
        assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
        results += [y, run(lambda t: apply("dropout", [t], p=0.25), [x], x)[0]]
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[3])
    assert (results[0] != results[1]).any() and (results[0] != results[4]).any()


def test_two_dropouts_of_one_network_differ():
    x = np.ones((2, 300), np.float32)
    y, _ = run(lambda t: apply("dropout", [t], p=0.5) - apply("dropout", [t], p=0.5), [x], x)
    assert set(np.unique(y)) == {-2, 0, 2}


# --- losses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 7), (2, 17, 3, 5), (2, 3, 2, 3, 4)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(shape, reduction, weighted):
    rng = np.random.default_rng(0)
    x, weight = float32(rng, *shape), rng.uniform(0.5, 2, shape[1]).astype(np.float32)
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    target.flat[1] = -7
    options = {"reduction": reduction, "ignore_index": -7, "label_smoothing": 0.125}
    expected = ref.cross_entropy(x, target, weight if weighted else None, **options)
    gy = np.float32(rng.standard_normal(expected.shape))
    gx = ref.cross_entropy_backward(gy, x, target, weight if weighted else None, **options)
    if weighted:
        y, (got, none) = run(lambda a, b, c: apply("cross_entropy", [a, b, c], **options), [x, target, weight], gy, flat=[2])
        assert none is None
    else:
        y, (got,) = run(lambda a, b: apply("cross_entropy", [a, b, None], **options), [x, target], gy, batch=7)
    close(y, expected)
    close(got, gx)


@pytest.mark.parametrize("shape", [(4,), *SHAPES])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_loss(shape, reduction):
    rng = np.random.default_rng(0)
    x, target = float32(rng, *shape), float32(rng, *shape)
    expected = ref.mse_loss(x, target, reduction)
    gy = np.float32(rng.standard_normal(np.shape(expected)))
    gx = ref.mse_loss_backward(gy, x, target, reduction)
    y, gradients = run(lambda a, b: apply("mse_loss", [a, b], reduction=reduction), [x, target], gy, batch=5)
    close(y, expected)
    close(gradients[0], gx)
    close(gradients[1], -gx)


def test_a_loss_is_where_differentiation_starts():
    rng = np.random.default_rng(0)
    x, z, target = float32(rng, 3, 4), float32(rng, 3, 4), rng.integers(0, 4, 3)
    y, (gx,) = run(lambda a, b: apply("cross_entropy", [a, b]), [x, target])
    close(y, ref.cross_entropy(x, target))
    close(gx, ref.cross_entropy_backward(1, x, target))
    y, (gx,) = run(lambda a, b: apply("mse_loss", [a, b]), [x, z], constant=[1])
    close(gx, ref.mse_loss_backward(1, x, z))


# --- errors --------------------------------------------------------------------------------------------------------

X, Z = (2, 3, 4, 5), (2, 7, 4, 5)


@pytest.mark.parametrize("function, message", [
    (lambda x, z, t: x + z, r"add: input of shape \(2, 3, 4, 5\) and other of shape \(2, 7, 4, 5\): dimension 1 is 3 and 7"),
    (lambda x, z, t: x * apply("flatten", [x], start_dim=1, end_dim=-1),
     r"mul: input of shape .* and other of shape \(2, 60\): dimension 3 is 5 and 60"),
    (lambda x, z, t: apply("concat", [x, z], dim=2), r"concat: tensor 1 of shape \(2, 7, 4, 5\): .* but for dim=2"),
    (lambda x, z, t: apply("concat", [x, x], dim=-4), "concat: dim=0: .* the batch stays as it is"),
    (lambda x, z, t: apply("concat", [x, z], dim=4), "concat: dim=4: tensors of shape .* have 4 dimensions"),
    (lambda x, z, t: apply("concat", [], dim=1), "concat: no tensors"),
    (lambda x, z, t: apply("softmax", [x], dim=0), r"softmax: dim=0 on input of shape \(2, 3, 4, 5\): the batch, dimension"),
    (lambda x, z, t: apply("flatten", [x], start_dim=0, end_dim=2), "flatten: start_dim=0, end_dim=2 .*: the batch"),
    (lambda x, z, t: apply("flatten", [x], start_dim=3, end_dim=1), "flatten: start_dim=3 is behind end_dim=1"),
    (lambda x, z, t: apply("log_softmax", [x], dim=-5), "log_softmax: dim=-5: .* has 4 dimensions"),
    (lambda x, z, t: apply("clip", [x], low=2, high=1), "clip: low=2.0 is above high=1.0"),
    (lambda x, z, t: apply("elu", [x], alpha=-1), "elu: alpha=-1: expected a number of at least 0"),
    (lambda x, z, t: apply("gelu", [x], approximate="erf"), "gelu: approximate='erf': expected 'none' or 'tanh'"),
    (lambda x, z, t: apply("dropout", [x], p=1.5), "dropout: p=1.5: expected a probability"),
    (lambda x, z, t: apply("dropout", [x], p=float("nan")), "dropout: p=nan: expected a number of at least 0"),
    (lambda x, z, t: apply("cross_entropy", [z, t], reduction="max"), "cross_entropy: reduction='max': expected one of"),
    (lambda x, z, t: apply("cross_entropy", [apply("flatten", [z], start_dim=1, end_dim=-1), t]),
     r"cross_entropy: target of shape \(2, 4, 5\): input of shape \(2, 140\) expects \(2,\)"),
    (lambda x, z, t: apply("cross_entropy", [z, t], label_smoothing=2), "cross_entropy: label_smoothing=2.0: expected 0"),
    (lambda x, z, t: apply("mse_loss", [x, z]), r"mse_loss: target of shape \(2, 7, 4, 5\): expected \(2, 3, 4, 5\)"),
])
def test_value_errors(function, message):
    with pytest.raises(ValueError, match=message):
        trace(function, [(X, "x"), (Z, "z"), ((2, 4, 5), "t", "pixels", "int64")])


@pytest.mark.parametrize("function, message", [
    (lambda x, t: apply("add", [x, t]), "add: other has dtype int64: expected float32"),
    (lambda x, t: apply("relu", [t]), "relu: input has dtype int64"),
    (lambda x, t: apply("cross_entropy", [x, x.graph.inputs[2]]),
     "cross_entropy: target has dtype float32: expected class indices"),
    (lambda x, t: apply("mse_loss", [x, t]), "mse_loss: target has dtype int64"),
    (lambda x, t: apply("leaky_relu", [x], negative_slope="0.1"), "leaky_relu: negative_slope='0.1': expected a number"),
    (lambda x, t: apply("softmax", [x], dim=1.0), "softmax: dim=1.0: expected an integer"),
])
def test_type_errors(function, message):
    with pytest.raises(TypeError, match=message):
        trace(lambda x, t, _: function(x, t), [((2, 3), "x"), ((2,), "t", "pixels", "int64"), ((2,), "of classes' shape")])


@pytest.mark.parametrize("shape", [(4, 1), (3, 4, 5), (2, 3, 4, 5), (1, 1, 1, 5)])
def test_parameters_that_cannot_be_repeated(shape):
    with pytest.raises(ValueError, match="mul: input of shape .* and other of shape"):
        trace(lambda x, p: apply("mul", [x, p]), [(X, "x"), (shape, "p", "flat")])
