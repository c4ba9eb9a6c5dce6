"""Pooling as operators: shape rules and errors, forward and gradient through the engine and on arrays."""

import re

import numpy as np
import pytest
import reference as ref

from fastconv.engine.eager import Argument, run_backward, run_op
from fastconv.engine.engine import compile
from fastconv.engine.gradcheck import gradcheck
from fastconv.graph.ir import apply, scope
from fastconv.graph.parameter import Parameter
from fastconv.graph.trace import trace

MAX = {
    "lenet": ((3, 6, 28, 28), dict(kernel_size=2)),
    "resnet": ((2, 16, 15, 14), dict(kernel_size=3, stride=2, padding=1)),
    "same size": ((2, 5, 8, 9), dict(kernel_size=3, stride=1, padding=1)),
    "ceil": ((2, 7, 9, 10), dict(kernel_size=(3, 2), stride=2, ceil_mode=True)),
    "dilated": ((2, 4, 12, 11), dict(kernel_size=4, stride=(1, 2), padding=2, dilation=2)),
    "pairs": ((1, 3, 6, 7), dict(kernel_size=3, stride=2, padding=((0, 1), (1, 2)))),
    "1d": ((2, 9, 17), dict(kernel_size=4, stride=3, padding=1)),
    "3d": ((2, 3, 5, 6, 7), dict(kernel_size=(1, 2, 3), stride=2)),
    "large": ((2, 3, 20, 20), dict(kernel_size=17, stride=1)),
}
AVG = {
    "lenet": ((3, 6, 28, 28), dict(kernel_size=2)),
    "inception": ((2, 16, 9, 8), dict(kernel_size=3, stride=1, padding=1)),
    "exclude": ((2, 5, 9, 8), dict(kernel_size=3, stride=2, padding=1, count_include_pad=False)),
    "ceil": ((2, 4, 8, 8), dict(kernel_size=3, stride=2, padding=1, ceil_mode=True)),
    "divisor": ((2, 4, 8, 9), dict(kernel_size=2, divisor_override=3)),
    "negative divisor": ((2, 4, 8, 9), dict(kernel_size=2, divisor_override=-2)),
    "1d": ((2, 9, 17), dict(kernel_size=4, stride=3, padding=2)),
    "3d": ((2, 3, 5, 6, 7), dict(kernel_size=2, stride=1)),
}
ADAPTIVE = {
    "global": ((3, 40, 7, 7), 1),
    "even": ((2, 6, 12, 8), (3, 4)),
    "uneven": ((2, 5, 13, 11), (6, 4)),
    "more out than in": ((2, 4, 3, 5), 7),
    "keep": ((2, 4, 6, 5), (None, 2)),
    "1d": ((2, 3, 10), 4),
    "3d": ((1, 3, 5, 6, 4), (2, 3, 4)),
}


def integers(rng, shape, bits=4):
    return ref.exact_integers(rng, shape, bits)


def forward(op, x, attrs):
    return run_op(op, [Argument("input", x)], attrs)


def backward(op, x, gy, attrs):
    return run_backward(op, [Argument("input", x)], attrs, [Argument("grad_output", gy)], [0], op)[0]


def expectation(op, x, attrs):
    """Output and gradient rule of the reference."""
    if op == "max_pool":
        best = ref.max_pool(x, **attrs)
        return best.values, lambda gy: ref.max_pool_backward(gy, best.indices, x.shape)
    if op == "avg_pool":
        return ref.avg_pool(x, **attrs), lambda gy: ref.avg_pool_backward(gy, x.shape, **attrs)
    if op == "adaptive_max_pool":
        values, indices = ref.adaptive_max_pool(x, attrs["output_size"])
        return values, lambda gy: ref.max_pool_backward(gy, indices, x.shape)
    return (ref.adaptive_avg_pool(x, attrs["output_size"]),
            lambda gy: ref.adaptive_avg_pool_backward(gy, x.shape, attrs["output_size"]))


PROBLEMS = {
    **{f"max_pool {k}": ("max_pool", *v) for k, v in MAX.items()},
    **{f"avg_pool {k}": ("avg_pool", *v) for k, v in AVG.items()},
    **{f"{op} {k}": (op, shape, {"output_size": out}) for op in ("adaptive_max_pool", "adaptive_avg_pool")
       for k, (shape, out) in ADAPTIVE.items()},
}


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_forward_and_gradient_on_arrays(name):
    op, shape, attrs = PROBLEMS[name]
    rng = np.random.default_rng(0)
    x = integers(rng, shape)
    expected, gradient = expectation(op, x, attrs)
    y = forward(op, x, attrs)
    np.testing.assert_array_equal(y, expected.astype(np.float32))
    gy = integers(rng, y.shape)
    gx = backward(op, x, gy, attrs)
    if "max" in op:
        np.testing.assert_array_equal(gx, gradient(gy))
    else:
        assert ref.rel_l2(gx, gradient(gy)) <= 2**-22
        assert ref.adjoint_gap(y, gy, x, gx) <= 2**-20  # a mean is linear


@pytest.mark.parametrize("name", list(PROBLEMS))
@pytest.mark.parametrize("threads", [1, 2])
def test_through_the_engine_behind_a_convolution(name, threads):
    """Forward and backward of a tape, with a smaller batch than planned."""
    op, shape, attrs = PROBLEMS[name]
    rng = np.random.default_rng(1)
    w = Parameter(integers(rng, (shape[1], shape[1], *[1] * (len(shape) - 2)), 1))

    def network(x):
        return apply(op, [apply("conv", [x, w])], **attrs)

    x = integers(rng, shape)
    engine = compile(network, (shape[0] + 2, *shape[1:]), training=True, threads=threads)
    y = engine(x)
    hidden = ref.conv(x, w.data)
    expected, gradient = expectation(op, hidden, attrs)
    np.testing.assert_array_equal(y, expected.astype(np.float32))
    gy = integers(rng, y.shape)
    engine.backward(gy)
    gw = ref.conv_backward_weight(x, w.shape, gradient(gy))
    if "max" in op:
        np.testing.assert_array_equal(w.grad, gw)
    else:
        assert ref.rel_l2(w.grad, gw) <= 2**-20
    inference = compile(network, shape, threads=threads)
    assert inference(x).tobytes() == y.tobytes()


def kernels_of(engine):
    return [s.kernel for s in engine.steps() if "pool" in s.op]


def test_an_index_is_stored_only_where_a_gradient_wants_it():
    w = Parameter(np.ones((4, 4, 1, 1), np.float32))

    def network(**attrs):
        return lambda x: apply("max_pool", [apply("conv", [x, w])], **attrs)

    shape = (2, 4, 20, 20)
    small, large = network(kernel_size=(15, 17), stride=1), network(kernel_size=(16, 16), stride=1)
    assert kernels_of(compile(small, shape)) == ["f32_maxpool"]
    assert kernels_of(compile(small, shape, training=True)) == ["f32_maxpool_argmax_u8", "f32_maxpool_backward_u8"]
    assert kernels_of(compile(large, shape, training=True)) == ["f32_maxpool_argmax_i32", "f32_maxpool_backward_i32"]


def test_a_byte_per_output_and_the_input_is_not_kept():
    """The backward reads the index, not the input of the pool."""
    w = Parameter(np.ones((8, 8, 1, 1), np.float32))
    engine = compile(lambda x: apply("max_pool", [apply("conv", [x, w])], kernel_size=2), (4, 8, 32, 32), training=True)
    tensors = engine.memory()["tensors"]
    (index,) = [t for t in tensors if t["name"] == "argmax"]
    assert index["nbytes"] == 4 * 8 * 16 * 16
    (hidden,) = [t for t in tensors if t["name"] == "conv" and t["nbytes"] == 4 * 4 * 8 * 32 * 32]
    assert hidden["last"] == index["first"] < index["last"]


def test_straight_into_a_concatenation():
    rng = np.random.default_rng(2)
    x = integers(rng, (2, 5, 8, 8))
    engine = compile(lambda x: apply("concat", [apply("max_pool", [x], kernel_size=3, stride=2, padding=1),
                                                apply("avg_pool", [x], kernel_size=2)], dim=1), x.shape)
    expected = np.concatenate([ref.max_pool(x, 3, 2, 1).values, ref.avg_pool(x, 2)], 1)
    np.testing.assert_array_equal(engine(x), expected)
    assert len(engine.steps()) == 4  # in, two pools, out


@pytest.mark.parametrize("name", ["max_pool resnet", "avg_pool exclude", "adaptive_avg_pool uneven", "max_pool lenet"])
def test_gradients_against_differences(name):
    op, shape, attrs = PROBLEMS[name]
    rng = np.random.default_rng(3)
    # values far enough apart that no difference changes a winner
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(np.float32) / 8
    gradcheck(lambda t: apply(op, [t], **attrs), [x], max_elements=40)


def test_an_empty_batch():
    x = np.zeros((0, 3, 8, 8), np.float32)
    assert forward("max_pool", x, {"kernel_size": 2}).shape == (0, 3, 4, 4)
    assert backward("max_pool", x, np.zeros((0, 3, 4, 4), np.float32), {"kernel_size": 2}).shape == x.shape
    assert forward("adaptive_avg_pool", x, {"output_size": 1}).shape == (0, 3, 1, 1)


def test_nan_reaches_the_output_and_its_gradient():
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 0, 0] = x[0, 0, 1, 1] = np.nan
    y = forward("max_pool", x, {"kernel_size": 2})
    assert np.isnan(y[0, 0, 0, 0]) and not np.isnan(y).sum() > 1
    gx = backward("max_pool", x, np.ones_like(y), {"kernel_size": 2})
    assert gx[0, 0, 1, 1] == 1 and gx[0, 0, 0, 0] == 0  # the last NaN


ERRORS = [
    ("max_pool", (2, 3), dict(kernel_size=2), ValueError, "input of shape (2, 3) has 2 dimensions"),
    ("avg_pool", (2, 3, 1, 4, 4, 4), dict(kernel_size=2), ValueError, "has 6 dimensions"),
    ("max_pool", (2, 3, 8, 8), dict(kernel_size=0), ValueError, "kernel_size=0 must be at least 1"),
    ("max_pool", (2, 3, 8, 8), dict(kernel_size=(2, 2, 2)), ValueError, "kernel_size=(2, 2, 2) has 3 values"),
    ("max_pool", (2, 3, 8, 8), dict(kernel_size=2.5), TypeError, "kernel_size=2.5: expected an integer"),
    ("max_pool", (2, 3, 8, 8), dict(kernel_size=2, stride=0), ValueError, "stride=0 must be at least 1"),
    ("max_pool", (2, 3, 8, 8), dict(kernel_size=2, dilation=-1), ValueError, "dilation=-1 must be at least 1"),
    ("max_pool", (2, 3, 8, 8), dict(kernel_size=2, padding=-1), ValueError, "padding=-1 must be at least 0"),
    ("max_pool", (2, 3, 8, 8), dict(kernel_size=3, padding=2), ValueError,
     "padding=2 must be at most half of kernel_size=3"),
    ("max_pool", (2, 3, 8, 8), dict(kernel_size=3, padding=((0, 3), (0, 0))), ValueError, "must be less than the window"),
    ("max_pool", (2, 3, 8, 4), dict(kernel_size=5), ValueError,
     "the output would be empty: spatial dimension 1 has 4 elements and padding 0+0, but kernel_size=5"),
    ("max_pool", (2, 3, 8, 8), dict(kernel_size=2, ceil_mode=1), TypeError, "ceil_mode=1: expected True or False"),
    ("max_pool", (2, 3, 8), dict(kernel_size=2**31 - 1, ceil_mode=True, stride=9), ValueError, "output would be empty"),
    ("avg_pool", (2, 3, 8, 8), dict(kernel_size=2, divisor_override=0), ValueError, "divisor_override=0"),
    ("avg_pool", (2, 3, 8, 8), dict(kernel_size=2, divisor_override=1.5), TypeError, "divisor_override=1.5"),
    ("avg_pool", (2, 3, 8, 8), dict(kernel_size=2, dilation=2), ValueError, "dilation=(2, 2) must be 1"),
    ("avg_pool", (2, 3, 8, 8), dict(kernel_size=2, count_include_pad=None), TypeError, "count_include_pad=None"),
    ("adaptive_avg_pool", (2, 3, 8, 8), dict(output_size=0), ValueError, "output_size=(0, 0) must be at least 1"),
    ("adaptive_max_pool", (2, 3, 8, 8), dict(output_size=(2, 2, 2)), ValueError, "has 3 values"),
    ("adaptive_max_pool", (2, 3), dict(output_size=1), ValueError, "has 2 dimensions"),
    ("max_pool_backward", (2, 3, 5, 4), dict(kernel_size=2, input_shape=(2, 3, 8, 8)), ValueError,
     "grad_output of shape (2, 3, 5, 4): input_shape=(2, 3, 8, 8)"),
]


@pytest.mark.parametrize("op, shape, attrs, error, message", ERRORS, ids=[f"{e[0]}-{e[4][:30]}" for e in ERRORS])
def test_errors_name_argument_value_and_rule(op, shape, attrs, error, message):
    def network(x):
        with scope("features"), scope("3"):
            return apply(op, [x], **attrs)

    with pytest.raises(error, match=re.escape(f"{op} 'features.3': ") + ".*" + re.escape(message)):
        trace(network, [(shape, "x")])
