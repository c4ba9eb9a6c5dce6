"""Arrays that are written and share memory with arrays that are read: as if what is read had been copied first."""

import numpy as np
import pytest
import reference as R
from fastconv.kernels.layout import distinct
from numpy.lib.stride_tricks import as_strided

import fastconv as fc
import fastconv.functional as F
from fastconv import nn

SHAPE = (3, 4, 6, 5)
RNG = np.random.default_rng


def normal(seed, shape=SHAPE):
    return RNG(seed).standard_normal(shape, dtype=np.float32)


def passed(a, b):
    return b, a


def flattened(a, b):
    return b.flatten(1), a.flatten(1)


def nested(a, b):
    return {"sum": a + b, "first": [a, b]}


CONV = nn.Conv2d(4, 4, 3, padding=1)
FUNCTIONS = {
    "swapped": passed, "swapped views": flattened, "one computed": lambda a, b: (F.relu(b), a),
    "read late": lambda a, b: (F.relu(a), F.relu(F.relu(F.relu(a))) + b),
    "convolutions": lambda a, b: (CONV(b), CONV(CONV(a)) + b), "nested": nested, "one twice": lambda a, b: (a, a + b),
    "joined": lambda a, b: (F.cat([b, a], 1), a), "one output": lambda a, b: F.relu(a) + CONV(b),
}


def outputs(result):
    """The arrays of a nesting in its order."""
    if isinstance(result, np.ndarray):
        return [result]
    return [array for part in (result.values() if isinstance(result, dict) else result) for array in outputs(part)]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_inputs_that_are_outputs(name, training):
    engine = fc.compile(FUNCTIONS[name], [SHAPE, SHAPE], training=training)
    a, b = normal(0), normal(1)
    expected = outputs(engine(a, b))
    for n in (3, 1):
        for order in (1, -1):  # each output lies over the inputs, in either order, as far as there is room
            memory = np.concatenate([a.ravel(), b.ravel(), np.zeros(4 * a.size, np.float32)])
            given = [memory[: a.size].reshape(SHAPE)[:n], memory[a.size: 2 * a.size].reshape(SHAPE)[:n]]
            out, start = [], 0
            for y in expected[::order]:
                out.append(memory[start: start + y.size].reshape(y.shape)[:n])
                start += y.size
            out = out[::order]
            engine(*given, out=out if len(out) > 1 else out[0])
            for got, y in zip(out, expected, strict=True):
                np.testing.assert_array_equal(got, y[:n])


def test_the_same_arrays_in_another_order():
    engine = fc.compile(passed, [SHAPE, SHAPE])
    a, b = normal(0), normal(1)
    x, y = a.copy(), b.copy()
    engine(x, y, out=[x, y])
    np.testing.assert_array_equal(x, b)
    np.testing.assert_array_equal(y, a)
    engine(x, x, out=[y, x])
    np.testing.assert_array_equal(x, b)
    np.testing.assert_array_equal(y, b)


@pytest.mark.parametrize("lying", ["anyhow", "channels-last"])
@pytest.mark.parametrize("seed", range(36))
def test_any_overlap(seed, lying):
    """Strided windows of one memory, inputs and outputs at random places; those that lie channels-last are used in place."""
    rng = RNG(seed)
    name = list(FUNCTIONS)[seed % len(FUNCTIONS)]
    engine = fc.compile(FUNCTIONS[name], [SHAPE, SHAPE])
    shapes = [y.shape for y in outputs(engine(normal(0), normal(1)))]
    memory = rng.standard_normal(6000, dtype=np.float32)

    def window(shape):
        last = lying == "channels-last"
        order = [1, *range(len(shape) - 1, 1, -1), 0] if last else rng.permutation(len(shape))
        steps, step = [0] * len(shape), 1 if last else int(rng.integers(1, 3))
        for axis in order:
            steps[axis] = step * (1 if last else int(rng.choice([1, -1])))
            step *= shape[axis]
        low = -sum(min(0, s * (n - 1)) for s, n in zip(steps, shape, strict=True))
        high = sum(max(0, s * (n - 1)) for s, n in zip(steps, shape, strict=True))
        start = low + int(rng.integers(0, memory.size - high - low))
        return as_strided(memory[start:], shape, [4 * s for s in steps])

    given = [window(SHAPE), window(SHAPE)]
    expected = outputs(engine(*[g.copy() for g in given]))
    before = memory.copy()
    engine(*given)
    np.testing.assert_array_equal(memory, before)  # inputs stay as they are
    out = [window(s) for s in shapes]
    if any(np.shares_memory(o, p) for i, o in enumerate(out) for p in out[:i]):
        before = memory.copy()
        with pytest.raises(ValueError, match=r"out\[\d\] and out\[\d\] share memory"):
            engine(*given, out=out)
        np.testing.assert_array_equal(memory, before)
        return
    engine(*given, out=out if len(out) > 1 else out[0])
    for got, y in zip(out, expected, strict=True):
        np.testing.assert_array_equal(got, y)


def test_neighbours_in_one_memory_are_not_copied():
    """Channels of one array, every other each: their bytes interleave, their elements do not meet."""
    engine = fc.compile(F.relu, SHAPE)
    both = np.zeros((3, 8, 6, 5), np.float32)
    both[:, ::2] = normal(0)
    engine(both[:, ::2], out=both[:, 1::2])
    np.testing.assert_array_equal(both[:, 1::2], np.maximum(normal(0), 0))
    np.testing.assert_array_equal(both[:, ::2], normal(0))


@pytest.mark.parametrize("strides, fine", [
    ((4, 4), False), ((0, 4), False), ((12, 8), True), ((8, 12), True), ((4, 0), False), ((12, -4), True), ((-4, 8), True),
    ((4, 8), True), ((8, 4), False), ((-8, 8), False)])
def test_elements_of_an_output_share_no_memory(strides, fine):
    memory = np.zeros(64, np.float32)
    array = as_strided(memory[20:], (2, 3), strides)
    places = {20 + (i * strides[0] + j * strides[1]) // 4 for i in range(2) for j in range(3)}
    assert distinct(array) is fine is (len(places) == 6)
    engine, x = fc.compile(F.relu, (2, 3)), normal(3, (2, 3))
    if fine:
        engine(x, out=array)
        np.testing.assert_array_equal(array, np.maximum(x, 0))
    else:
        with pytest.raises(ValueError, match="engine: out of strides .* has elements that share memory"):
            engine(x, out=array)
        assert not memory.any()


def test_running_statistics_that_are_arguments_too():
    x = normal(0, (8, 4, 5))
    mean, var = normal(1, (4,)), np.abs(normal(2, (4,)))
    expected = R.batch_norm(x, mean, var, mean, var, training=True)
    got_mean, got_var = mean.copy(), var.copy()
    y = F.batch_norm(x, got_mean, got_var, got_mean, got_var, training=True)
    np.testing.assert_allclose(y, expected.output, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got_mean, 0.9 * mean + 0.1 * x.mean((0, 2)), rtol=1e-5, atol=1e-6)
    inside = x.copy()
    statistics = inside[0, :, 0], inside[0, :, 1]  # of the input itself
    statistics[1][...] = np.abs(statistics[1])
    kept = inside.copy()
    y = F.batch_norm(inside, *statistics, training=True)
    np.testing.assert_array_equal(y, F.batch_norm(kept, kept[0, :, 0].copy(), kept[0, :, 1].copy(), training=True))
    with pytest.raises(ValueError, match="batch_norm: running_mean and running_var share memory"):
        F.batch_norm(x, mean, mean, training=True)
    with pytest.raises(ValueError, match="batch_norm: running_var of strides .* has elements that share memory"):
        F.batch_norm(x, mean, as_strided(var, (4,), (0,)), training=True)


def test_a_gradient_that_comes_back_as_one():
    """What backward writes for one parameter it has been given as the gradient of the output."""
    layer, x, g = nn.Linear(4, 4), normal(0, (4, 4)), normal(1, (4, 4))
    engine = fc.compile(layer, (4, 4), training=True)
    engine(x)
    engine.backward(g)
    given = layer.weight.grad.copy()
    for view in (lambda a: a, lambda a: a.T, lambda a: a[::-1]):
        engine(x)
        layer.zero_grad()
        engine.backward(g)
        engine(x)
        back = view(layer.weight.grad)
        layer.zero_grad()
        engine.backward(back)
        np.testing.assert_allclose(layer.bias.grad, view(given).sum(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(layer.weight.grad, view(given).T @ x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [list, tuple])
def test_several_outputs_into_arrays_of_any_strides(kind):
    """What is given comes back, written where it lies; arrays that share memory are refused, inputs among them copied."""
    engine = fc.compile(lambda a, b: (a + b, F.relu(a), (a * b).flatten(1)), [SHAPE, SHAPE])
    a, b = normal(1), normal(2)
    expected = [np.array(y) for y in engine(a, b)]
    for n in (3, 2, 3):
        wide = np.full((n, 6, 5, 8), np.nan, np.float32)
        out = kind([wide[..., 2:6].transpose(0, 3, 1, 2), np.empty((n, *SHAPE[1:]), np.float32),
                    np.empty((n, 240), np.float32)[:, ::2]])
        assert engine(a[:n], b[:n], out=out) is out
        for got, want in zip(out, expected, strict=True):
            np.testing.assert_array_equal(got, want[:n])
        assert np.isnan(wide[..., :2]).all() and np.isnan(wide[..., 6:]).all()
    c, d = a.copy(), b.copy()
    last = np.empty((3, 120), np.float32)
    engine(c, d, out=kind([d, c, last]))
    for got, want in zip((d, c, last), expected, strict=True):
        np.testing.assert_array_equal(got, want)
    for wrong in ([c, c, last], [c, d], [c, d, last, last], [c, d, np.empty((3, 119), np.float32)], [c, 3, last]):
        with pytest.raises((TypeError, ValueError), match="out"):
            engine(a, b, out=kind(wrong))
