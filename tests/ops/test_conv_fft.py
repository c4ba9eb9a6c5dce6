"""Engines whose convolutions run by Fourier transforms, all three passes, against the float64 reference."""

import numpy as np
import pytest
import reference as ref

import fastconv.functional as F
from fastconv.engine.engine import compile
from fastconv.graph.ir import apply
from fastconv.graph.parameter import Parameter
from fastconv.kernels import fft as kernels
from fastconv.kernels.cpu import cpu
from fastconv.ops.conv import choose
from fastconv.ops.conv import fft as algorithm
from fastconv.ops.conv.problem import Problem

# input, weight, padding, dilation, groups
CASES = {
    "9x9": ((3, 5, 19, 18), (6, 5, 9, 9), 4, 1, 1),
    "wide": ((2, 40, 12, 12), (33, 40, 5, 5), 2, 1, 1),
    "groups": ((2, 8, 17, 17), (12, 2, 7, 7), 3, 1, 4),
    "depthwise": ((2, 9, 26, 16), (9, 1, 11, 11), 5, 1, 9),
    "multiplier": ((2, 3, 16, 16), (6, 1, 5, 5), 2, 1, 3),
    "dilation": ((1, 4, 30, 31), (5, 4, 5, 5), 4, 3, 1),
    "1d": ((2, 4, 300), (3, 4, 65), 32, 1, 1),
    "causal": ((2, 4, 100), (3, 4, 33), ((32, 0),), 1, 1),
    "3d": ((2, 2, 7, 8, 9), (4, 2, 5, 5, 5), 2, 1, 1),
    "ranges": ((40, 32, 30, 30), (64, 32, 5, 5), 2, 1, 1),
}


def network(name, seed=3):
    x_shape, w_shape, padding, dilation, groups = CASES[name]
    rng = np.random.default_rng(seed)
    w, b = (Parameter(rng.standard_normal(s).astype(np.float32)) for s in (w_shape, w_shape[:1]))

    def function(x):
        return apply("conv", [x, w, b], padding=padding, dilation=dilation, groups=groups)

    return function, rng.standard_normal(x_shape, np.float32), w, b, (1, padding, dilation, groups)


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("threads", [1, 2])
def test_three_passes(name, threads):
    function, x, w, b, attributes = network(name)
    engine = compile(function, x.shape, training=True, algorithm="fft", threads=threads)
    y = engine(x)
    assert ref.rel_l2(y, ref.conv(x, w.data, b.data, *attributes)) <= 2.0**-20
    gy = np.random.default_rng(5).standard_normal(y.shape, np.float32)
    engine.backward(gy)
    assert ref.rel_l2(w.grad, ref.conv_backward_weight(x, w.shape, gy, *attributes)) <= 2.0**-20
    named = {s.algorithm for s in engine.steps() if s.kernel.startswith("f32_fft") and s.op != "pack"}
    assert named == {"fft"}
    padding, dilation, groups = attributes[1:]
    gx = compile(lambda gy: apply("conv_backward_data", [gy, w], input_shape=x.shape, padding=padding, dilation=dilation,
                                  groups=groups), gy.shape, algorithm="fft", threads=threads)(gy)
    assert ref.rel_l2(gx, ref.conv_backward_data(x.shape, w.data, gy, *attributes)) <= 2.0**-20


def test_several_ranges_of_tiles():
    """As many as there are, none of which does anything at a smaller batch, and the same bits as image by image."""
    function, x, w, b, attributes = network("ranges")
    engine = compile(function, x.shape, algorithm="fft", threads=2)
    assert sum(s.kernel == "f32_fft_product" for s in engine.steps()) > 1
    y = engine(x)
    for n in (0, 1, 7):
        np.testing.assert_array_equal(engine(x[:n]), y[:n])
    np.testing.assert_array_equal(engine(x[::-1]), y[::-1])


def test_changed_weights():
    function, x, w, b, attributes = network("9x9")
    engine = compile(function, x.shape, algorithm="fft")
    for seed in (1, 2):
        w.data = np.random.default_rng(seed).standard_normal(w.shape).astype(np.float32)
        assert ref.rel_l2(engine(x), ref.conv(x, w.data, b.data, *attributes)) <= 2.0**-20


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_value_that_is_not_finite(value):
    """It reaches the outputs that it reaches by the definition, and no others of its tile."""
    function, x, w, b, attributes = network("9x9")
    x[1, 2, 9, 7] = value
    y, truth = compile(function, x.shape, algorithm="fft")(x), ref.conv(x, w.data, b.data, *attributes)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(truth))
    assert 0 < np.isfinite(y[1]).sum() < y[1].size
    finite = np.isfinite(truth)
    assert ref.rel_l2(y[finite], truth[finite]) <= 2.0**-20


@pytest.mark.parametrize(("shape", "kernel", "stride", "reason"), [
    ((1, 2, 30, 30), (9, 9), 2, "only for stride 1"),
    ((1, 2, 30, 30), (1, 1), 1, "more than one tap"),
    ((1, 2, 40000), (20000,), 1, "no transform of up to 16384 samples"),
])
def test_refusals(shape, kernel, stride, reason):
    function = F.conv1d if len(shape) == 3 else F.conv2d
    with pytest.raises(ValueError, match=reason):
        function(np.zeros(shape, np.float32), np.zeros((3, 2, *kernel), np.float32), stride=stride, algorithm="fft")


def problem(n, c, k, size, r, groups=1):
    pads = ((r // 2, r // 2),) * 2
    return Problem((n, c, size, size), (k, c // groups, r, r), (n, k, size, size),
                   {"groups": groups, "stride": (1, 1), "dilation": (1, 1), "padding": pads})


def test_choice():
    """Large kernels are its own, by cost; few products per sum keep `high` only."""
    def best(p, precision="highest"):
        return choose.candidates("forward", p, precision)[0].algorithm.name

    assert best(problem(1, 64, 64, 56, 11)) == best(problem(1, 96, 96, 56, 31, 96)) == "fft"
    fft = algorithm.Fft()
    assert fft.keeps("forward", problem(1, 1, 8, 56, 7), "highest") == "high"
    assert fft.keeps("forward", problem(1, 64, 8, 56, 7), "highest") == "highest"


@pytest.mark.parametrize("size", [7, 30, 100])
def test_transformed_weights_are_modest(size):
    shape = algorithm.shape_of("forward", problem(1, 1024, 1024, size, 3))
    packed = 4 * kernels.packed_floats(algorithm.plan(shape, algorithm.best(shape, cpu()).sizes))
    assert packed <= 6 * 4 * 9 * 1024**2
