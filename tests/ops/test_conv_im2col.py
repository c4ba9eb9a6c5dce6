"""Engines whose convolutions run by im2col and a matrix product, all three passes, against the float64 reference."""

import math

import numpy as np
import pytest
import reference as ref
from fastconv.kernels.blas import guard

from fastconv.engine.engine import compile
from fastconv.graph.ir import apply, scope
from fastconv.graph.parameter import Parameter

# input, weight, stride, padding, dilation, groups
CASES = {
    "3x3": ((3, 5, 9, 8), (6, 5, 3, 3), 1, 1, 1, 1),
    "1x1": ((3, 20, 5, 5), (7, 20, 1, 1), 1, 0, 1, 1),
    "first layer": ((2, 3, 31, 29), (8, 3, 7, 7), 2, 3, 1, 1),
    "groups": ((2, 8, 7, 7), (12, 2, 3, 3), 2, 1, 1, 4),
    "depthwise": ((2, 9, 6, 6), (18, 1, 3, 3), 1, 1, 1, 9),
    "1d": ((2, 4, 30), (3, 4, 5), 2, 4, 3, 1),
    "3d": ((2, 2, 5, 6, 4), (4, 2, 2, 3, 3), 1, 1, 1, 1),
    "one pixel": ((4, 6, 3, 3), (5, 6, 3, 3), 1, 0, 1, 1),
}


def integers(rng, *shape):
    return ref.exact_integers(rng, shape, 3)


def network(name, seed=3):
    """A convolution with bias, its parameters, and integer operands whose sums are exact."""
    x_shape, w_shape, stride, padding, dilation, groups = CASES[name]
    rng = np.random.default_rng(seed)
    w, b = Parameter(integers(rng, *w_shape)), Parameter(integers(rng, w_shape[0]))

    def function(x):
        with scope("body"):
            h = apply("conv", [x, w, b], stride=stride, padding=padding, dilation=dilation, groups=groups)
        return h

    attributes = (stride, padding, dilation, groups)
    return function, integers(rng, *x_shape), w, b, attributes


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("threads", [1, 2])
def test_three_passes(name, threads):
    function, x, w, b, attributes = network(name)
    engine = compile(function, x.shape, training=True, algorithm="im2col", threads=threads)
    kernels = {s.op: s.kernel for s in engine.steps() if s.algorithm == "im2col"}
    assert kernels == {"conv": "f32_conv_im2col", "conv_backward_weight": "f32_conv_im2col_backward_weight"}
    y = engine(x)
    np.testing.assert_array_equal(y, ref.conv(x, w.data, b.data, *attributes))
    gy = integers(np.random.default_rng(5), *y.shape)
    engine.backward(gy)
    np.testing.assert_array_equal(w.grad, ref.conv_backward_weight(x, w.shape, gy, *attributes))
    np.testing.assert_array_equal(b.grad, ref.conv_backward_bias(gy))
    assert guard.holders == 0


@pytest.mark.parametrize("name", list(CASES))
def test_backward_to_data(name):
    """As its own operator (a transposed convolution), and its weights packed once with the forward's."""
    function, x, w, b, attributes = network(name)
    stride, padding, dilation, groups = attributes

    def both(x):
        y = function(x)
        gx = apply("conv_backward_data", [y, w], input_shape=x.shape, stride=stride, padding=padding,
                   dilation=dilation, groups=groups)
        return y, gx

    engine = compile(both, x.shape, algorithm="im2col", threads=2)
    y, gx = engine(x)
    np.testing.assert_array_equal(gx, ref.conv_backward_data(x.shape, w.data, y, *attributes))
    assert sum(s.op == "pack" for s in engine.steps()) == 1


def test_changed_weights_and_smaller_batches():
    function, x, w, b, attributes = network("3x3")
    engine = compile(function, x.shape, algorithm="im2col", threads=2)
    for n in (3, 1, 2, 0, 3):
        w.data = integers(np.random.default_rng(n), *w.shape)
        np.testing.assert_array_equal(engine(x[:n]), ref.conv(x[:n], w.data, b.data, *attributes))


def test_named_for_one_module():
    function, x, w, b, attributes = network("3x3")
    chosen = [{s.op: s.algorithm for s in compile(function, x.shape, algorithm=a).steps()}["conv"]
              for a in ({"body": "im2col"}, None)]
    assert chosen[0] == "im2col" != chosen[1]
    with pytest.raises(ValueError, match="no operator has the path 'elsewhere'"):
        compile(function, x.shape, algorithm={"elsewhere": "im2col"})


def test_close_to_direct_on_random_values():
    function, x, w, b, attributes = network("3x3")
    rng = np.random.default_rng(1)
    x, w.data = rng.standard_normal(x.shape, np.float32), rng.standard_normal(w.shape)
    y = compile(function, x.shape, algorithm="im2col")(x)
    assert ref.rel_l2(y, ref.conv(x, w.data, b.data, *attributes)) <= 2.0**-22 * math.sqrt(45)
