"""Large strides and kernels, backwards to data: the right values, and steps whose number does not grow with the phases."""

import numpy as np
import pytest
import reference as R

import fastconv as fc
import fastconv.functional as F
from fastconv import nn
from fastconv.ops.conv.problem import Problem, axis_phases, phases

TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
BACKWARD = {1: F.conv1d_backward_data, 2: F.conv2d_backward_data, 3: F.conv3d_backward_data}
MODULES = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}

CASES = {  # input of the transposed convolution, weight (in, out / groups, *kernel), keywords
    "64x64/32": ((2, 4, 7, 7), (4, 4, 64, 64), {"stride": 32, "padding": 16}),
    "4096/4096": ((1, 2, 5), (2, 2, 4096), {"stride": 4096}),
    "500/4096, gaps": ((2, 3, 3), (3, 2, 500), {"stride": 4096}),
    "many filters": ((1, 40, 3, 2), (40, 37, 9, 8), {"stride": (8, 5), "padding": (3, 1)}),
    "one filter": ((2, 19, 4, 3), (19, 1, 16, 16), {"stride": 16}),
    "groups": ((2, 6, 4, 5), (6, 5, 12, 9), {"stride": (6, 4), "groups": 3}),
    "depthwise": ((2, 16, 5, 4), (16, 1, 24, 20), {"stride": (12, 10), "groups": 16, "padding": 3}),
    "depthwise, long": ((1, 4, 3), (4, 1, 2048), {"stride": 1024, "groups": 4}),
    "dilation": ((1, 3, 4, 4), (3, 4, 7, 6), {"stride": (6, 4), "dilation": (4, 3)}),
    "dilation that leaves phases empty": ((1, 3, 5, 4), (3, 4, 5, 5), {"stride": 8, "dilation": 4}),
    "volumes": ((1, 2, 3, 2, 2), (2, 3, 8, 9, 8), {"stride": (4, 8, 4)}),
    "output padding": ((1, 3, 4, 3), (3, 5, 11, 10), {"stride": 10, "output_padding": (9, 4), "padding": 2}),
}


@pytest.mark.parametrize("name", CASES)
def test_values(name):
    shape, w_shape, keywords = CASES[name]
    rng, dims = np.random.default_rng(0), len(shape) - 2
    x, w = R.exact_integers(rng, shape, 3), R.exact_integers(rng, w_shape, 3)
    bias = R.exact_integers(rng, (w_shape[1] * keywords.get("groups", 1),), 5)
    y = TRANSPOSED[dims](x, w, bias, **keywords)
    expected = R.conv_transpose(x, w, bias, **keywords)
    np.testing.assert_array_equal(y, expected)
    back = {key: value for key, value in keywords.items() if key != "output_padding"}
    named = [None, "direct", *(["depthwise"] if "depthwise" in name else [])]
    for algorithm in named:
        got = BACKWARD[dims](x, w, y.shape, **back, algorithm=algorithm)
        np.testing.assert_array_equal(got, expected - bias.reshape(1, -1, *(1,) * dims))
    before = fc.get_num_threads()
    try:
        fc.set_num_threads(3)
        np.testing.assert_array_equal(TRANSPOSED[dims](x, w, bias, **keywords), expected)
    finally:
        fc.set_num_threads(before)


@pytest.mark.parametrize("algorithm", [None, "direct", "bf16"])
def test_epilogue_of_all_phases(algorithm):
    """Bias and activation are each phase's, those without taps too; the network's weights are packed once."""
    fc.manual_seed(1)
    layer = nn.ConvTranspose2d(3, 4, 3, stride=5)
    net = nn.Sequential(layer, nn.ReLU())
    rng = np.random.default_rng(1)
    layer.weight.data, layer.bias.data = R.exact_integers(rng, layer.weight.shape, 3), R.exact_integers(rng, (4,), 3)
    x = R.exact_integers(rng, (2, 3, 4, 5), 3)
    engine = fc.compile(net, x.shape, algorithm=algorithm, precision="medium" if algorithm == "bf16" else "highest")
    y = R.conv_transpose(x, layer.weight.data, stride=5)
    np.testing.assert_array_equal(engine(x), np.maximum(y + layer.bias.data.reshape(1, -1, 1, 1), 0))
    layer.bias.data = layer.bias.data + 1
    np.testing.assert_array_equal(engine(x[:1]), np.maximum(y[:1] + layer.bias.data.reshape(1, -1, 1, 1), 0))


def test_steps_do_not_grow_with_the_phases():
    counts = []
    for stride in (2, 32):
        engine = fc.compile(nn.ConvTranspose2d(4, 4, 64, stride=stride), (1, 4, 7, 7), algorithm="direct")
        counts.append(len(engine.steps()))
        (step,) = [s for s in engine.steps() if s.algorithm == "direct" and s.multiply_adds]
        assert step.kernel in ("f32_conv_direct", "f32_conv_few")
        assert step.multiply_adds == 4 * 4 * sum(len(taps) * np.prod(extents) for _, extents, taps, _ in phases(
            Problem(engine.output_shapes[0], (4, 4, 64, 64), (1, 4, 7, 7), {"groups": 1, "stride": (stride,) * 2,
                                                                            "dilation": (1, 1), "padding": ((0, 0),) * 2})))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("seed", range(200))
def test_phases_by_definition(seed):
    """Each output pixel of a phase reads, by each of its taps, the pixel that the definition says; no tap is left out."""
    rng = np.random.default_rng(seed)
    size, kernel, stride, dilation = (int(rng.integers(1, high)) for high in (30, 12, 9, 7))
    low = int(rng.integers(0, 20))
    found = {}
    for origin, count, taps in axis_phases(size, kernel, stride, dilation, low):
        for i in range(count):
            found[origin + i * stride] = {(number, i + place) for number, place in taps}
    for x in range(size):
        expected = {(r, (x + low - r * dilation) // stride) for r in range(kernel) if (x + low - r * dilation) % stride == 0}
        assert found[x] == expected


@pytest.mark.parametrize("name", ["64x64/32", "groups", "depthwise", "volumes", "many filters"])
def test_channels_last_arrays_are_used_in_place(name):
    """Every phase follows the array of the run, in and out."""
    shape, w_shape, keywords = CASES[name]
    rng, dims = np.random.default_rng(2), len(shape) - 2
    layer = MODULES[dims](shape[1], w_shape[1] * keywords.get("groups", 1), w_shape[2:], bias=False, **keywords)
    layer.weight.data = R.exact_integers(rng, w_shape, 3)
    engine = fc.compile(layer, shape)
    for _ in range(3):
        x = R.exact_integers(rng, shape, 3)
        last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        kept, y = last.copy(), engine(x)
        np.testing.assert_array_equal(engine(last), y)
        np.testing.assert_array_equal(last, kept)
        out = np.moveaxis(np.full((*y.shape[:1], *y.shape[2:], y.shape[1]), np.nan, np.float32), -1, 1)
        np.testing.assert_array_equal(engine(last, out=out), y)
        np.testing.assert_array_equal(engine(x[:1]), y[:1])
        np.testing.assert_array_equal(y, R.conv_transpose(x, layer.weight.data, **keywords))
