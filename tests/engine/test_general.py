"""Tensors of any rank, dtype and layout through engines, training tapes and functions."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv.engine.training import TrainingTape
from fastconv.functional.record import Array, function, records, vjp
from fastconv.graph.ir import apply

rng = np.random.default_rng(0)


def array(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def laid(x, layout):
    return apply("layout", [x], layout=layout)


@pytest.mark.parametrize("shape", [(3,), (4, 5), (2, 3, 4), (2, 3, 4, 5), (2, 2, 3, 4, 2), (2, 1, 3, 2, 2, 3),
                                   (2, 2, 1, 2, 2, 2, 2, 3)])
def test_inputs_and_outputs_of_any_rank(shape):
    engine = fc.compile(lambda x: laid(x, "dense") * 2.0, shape)
    for n in (shape[0], 1):
        x = array(n, *shape[1:])
        np.testing.assert_array_equal(engine(x), x * 2)
        np.testing.assert_array_equal(engine(np.asfortranarray(x)), x * 2)
        out = np.full(x.shape, np.nan, np.float32)
        assert engine(x, out=out) is out
        np.testing.assert_array_equal(out, x * 2)
        strided = np.full((*x.shape, 2), np.nan, np.float32)[..., 0]
        engine(x, out=strided)
        np.testing.assert_array_equal(strided, x * 2)


@pytest.mark.parametrize("last", [False, True])
def test_dense_and_pixels_in_one_network(last):
    x, w = array(4, 8, 6, 5), fc.Parameter(array(16, 8, 3, 3))
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if last else x

    def network(t):
        t = F.relu(laid(t, "dense"))
        return F.conv2d(t, w, None, 1, 1) + 1.0

    engine = fc.compile(network, (4, 8, 6, 5))
    for n in (4, 2):
        np.testing.assert_array_equal(engine(x[:n]), F.conv2d(F.relu(x[:n]), w.data, None, 1, 1) + 1)


def test_gradients_pass_between_layouts():
    x, w = array(4, 8, 6, 5), fc.Parameter(array(16, 8, 3, 3))
    a = fc.compile(lambda t: laid(F.sigmoid(laid(F.conv2d(t, w, None, 1, 1), "dense")), "pixels"), x.shape, training=True)
    b = fc.compile(lambda t: F.sigmoid(F.conv2d(t, w, None, 1, 1)), x.shape, training=True)
    g = array(4, 16, 6, 5)
    for n in (4, 3):
        grads = []
        for engine in (a, b):
            y = engine(x[:n])
            w.grad = None
            engine.backward(g[:n])
            grads.append((y.copy(), w.grad.copy()))
        np.testing.assert_array_equal(grads[0][0], grads[1][0])
        np.testing.assert_array_equal(grads[0][1], grads[1][1])


def test_what_does_not_begin_with_the_batch_makes_a_plan_exact():
    x, w = array(4, 8, 6, 5), fc.Parameter(array(16, 8, 3, 3))
    engine = fc.compile(lambda t: F.conv2d(laid(t, "flat"), w, None, 1, 1), (4, 8, 6, 5), training=True)
    for n in (4, 2, 4):
        np.testing.assert_array_equal(engine(x[:n]), F.conv2d(x[:n], w.data, None, 1, 1))
        g = array(n, 16, 6, 5)
        w.grad = None
        engine.backward(g)
        np.testing.assert_array_equal(w.grad, F.conv2d_backward_weight(g, x[:n], w.data.shape, 1, 1))


def test_a_training_tape_that_is_right_for_one_batch():
    w = fc.Parameter(array(3, 8))
    x, t = array(6, 8), rng.integers(0, 3, 6)

    def losses(flat):
        p = fc.Parameter(w.data.copy())
        model = lambda v: F.linear(laid(v, "flat") if flat else v, p)  # noqa: E731
        tape = TrainingTape(model, F.cross_entropy, fc.optim.SGD(lr=0.1))
        return [tape.run(x[:n], t[:n]) for n in (6, 4, 6, 1)]

    logits = np.float64(x) @ np.float64(w.data).T
    each = np.log(np.exp(logits).sum(1)) - logits[range(6), t]
    wanted = [each[:n].mean() for n in (6, 4, 6, 1)]
    bound = 2.0**-23 * 8 * np.abs(logits).max()  # logits are sums of eight products, and a loss is a difference of logits
    np.testing.assert_allclose(losses(True), wanted, rtol=1e-6, atol=bound)
    np.testing.assert_allclose(losses(False), wanted, rtol=1e-6, atol=bound)  # another way through the products


def test_named_inputs_of_other_dtypes():
    engine = fc.compile(lambda x, i: (x * 2.0, laid(i, "dense")), {"picture": (2, 3), "ids": ((2, 4), "int64")})
    x, i = array(2, 3), np.array([[1, 2, 3, 2**40], [5, 6, 7, -8]])
    y, j = engine(x, i)
    assert j.dtype == np.int64
    np.testing.assert_array_equal(j, i)
    np.testing.assert_array_equal(y, x * 2)
    y, j = engine(x[:1], i[1:].astype(np.int32))
    np.testing.assert_array_equal(j, i[1:])
    with pytest.raises(TypeError, match=r"ids has dtype float32: expected integers"):
        engine(x, array(2, 4))
    again = fc.Engine.__reduce__(engine)[1][-1]
    assert again["inputs"] == [("picture", "float32"), ("ids", "int64")]


@pytest.mark.parametrize("shape, message", [
    ((), "0 dimensions: expected 1"), ((1,) * 9, "9 dimensions"), (((1, 2), "float16"), "dtype 'float16'"),
    ({}, "at least one"), ({"a": (1, 2), "b": (2, 2)}, "same batch"), ({3: (1, 2)}, "has the name 3")])
def test_wrong_input_shapes(shape, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fc.compile(lambda *x: x[0], shape)


def test_constants_from_numpy():
    mean = np.array([0.5, 0.25, 1.0]).reshape(1, 3, 1, 1)
    engine = fc.compile(lambda x: x - mean, (2, 3, 4, 4))
    x = array(2, 3, 4, 4)
    np.testing.assert_array_equal(engine(x), x - mean.astype(np.float32))
    mean[:] = 7  # as they were when it was traced
    np.testing.assert_array_equal(engine(x[:1])[0, 0], x[0, 0] - np.float32(0.5))


@pytest.fixture
def doubled():
    @function(method="doubled_for_a_test")
    def doubled_for_a_test(input: Array, plus: Array | None = None, by: float = 2.0) -> Array:
        y = input * by
        return y if plus is None else y + plus
    yield doubled_for_a_test
    del records["doubled_for_a_test"]


def test_a_record_is_a_function_a_method_and_has_gradients(doubled):
    x, y = array(3, 4), array(3, 4)
    np.testing.assert_array_equal(doubled(x), x * 2)
    np.testing.assert_array_equal(doubled(x, by=3), x * 3)
    np.testing.assert_array_equal(doubled(x, y), x * 2 + y)
    np.testing.assert_array_equal(doubled(x.T, y.T), (x * 2 + y).T)
    np.testing.assert_array_equal(fc.compile(lambda t: t.doubled_for_a_test(by=4.0), (3, 4))(x), x * 4)
    out, (gx, gy) = vjp(doubled, (x, y), y)
    np.testing.assert_array_equal(out, x * 2 + y)
    np.testing.assert_array_equal(gx, y * 2)
    np.testing.assert_array_equal(gy, y)
    for bad, error, message in (((x.astype(np.float64),), TypeError, "input has dtype float64: expected float32"),
                                (([1.0],), TypeError, "input is a list: expected an array"),
                                ((x, y, 1.0, 2.0), TypeError, "too many positional arguments"),
                                ((2.0,), TypeError, "input is a float: expected an array")):
        with pytest.raises(error, match="doubled_for_a_test: " + message):
            doubled(*bad)


def test_results_of_a_record_are_arrays_of_their_own(doubled):
    x = array(5, 7)
    first = doubled(x)
    kept = first.copy()
    doubled(array(5, 7))
    np.testing.assert_array_equal(first, kept)


def test_what_is_known_of_a_network_of_general_operators():
    w = fc.Parameter(array(5, 7))

    def network(x):
        y = x.permute(0, 2, 3, 1) @ w
        return (y * y).mean((1, 2)).softmax(-1), y[:, 1:, ::2].argmax(-1)

    engine = fc.compile(network, (2, 5, 4, 6))
    assert all(step.nbytes > 0 for step in engine.steps())
    assert engine.memory()["arena"] > 0 and "contract" in str(engine.profile(1))
    known = fc.summary(network, (2, 5, 4, 6))
    assert "contract" in str(known) and known.multiply_adds == 2 * 24 * 35
    x = array(2, 5, 4, 6)
    y = np.einsum("nchw,ck->nhwk", x.astype(np.float64), w.data)
    e = np.exp((y * y).mean((1, 2)) - (y * y).mean((1, 2)).max(-1, keepdims=True))
    for one in (engine, engine.clone(), engine.freeze()):
        soft, best = one(x)
        np.testing.assert_allclose(soft, e / e.sum(-1, keepdims=True), rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(best, y[:, 1:, ::2].argmax(-1))
