"""The reference against what does not depend on it: numbers worked out by hand, NumPy's own sliding windows,
central differences for every gradient, and the adjoint identity for every linear operator.
"""

import math

import numpy as np
import pytest
import reference as ref

NAN, INF = math.nan, math.inf


def row(*values):
    """One image with one channel and one spatial axis."""
    return np.array(values, dtype=np.float64)[None, None]


def equal(a, b):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def close(a, b):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12, atol=1e-12)


def check_gradient(rng, forward, x, backward, kinks=False):
    """``backward(y)`` is the gradient of <forward(x), y>: compared with a central difference in a random direction."""
    y, v = rng.standard_normal(np.shape(forward(x))), rng.standard_normal(x.shape)
    if kinks:  # the inputs are integers apart, so a small step crosses no kink and the function is linear: exact
        v = rng.uniform(-0.25, 0.25, x.shape)
    expected = ref.central_difference(lambda at: (forward(at) * y).sum(), x, v, 1.0 if kinks else 1e-5)
    gradient = backward(y)
    assert gradient.shape == x.shape
    scale = np.linalg.norm(gradient) * np.linalg.norm(v) + 1e-9
    assert abs((gradient * v).sum() - expected) <= 1e-8 * scale


def distinct(rng, shape):
    """Integers, all different, in random order: a maximum without ties."""
    return rng.permutation(math.prod(shape)).reshape(shape) - math.prod(shape) / 2 + 0.5


def windows_of(padded, kernel, stride, dilation):
    """NumPy's own sliding windows: (N, C, *out, *kernel)."""
    n = len(kernel)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=tuple(range(2, 2 + n)))
    return view[(slice(None), slice(None), *(slice(None, None, s) for s in (*stride, *dilation)))]


def random_conv(rng):
    """Random operands and ``(stride, padding, dilation, groups)``."""
    n, groups = rng.integers(1, 4, 2)
    kernel, stride, dilation = rng.integers(1, 4, (3, n)).tolist()
    padding = [tuple(p) for p in rng.integers(0, 4, (n, 2)).tolist()]
    needed = [d * (k - 1) + 1 - sum(p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = [max(1, s) + int(rng.integers(0, 4)) for s in needed]
    c, k = rng.integers(1, 4, 2)
    x = rng.standard_normal((rng.integers(1, 4), c * groups, *size))
    w = rng.standard_normal((k * groups, c, *kernel))
    return x, w, (tuple(stride), tuple(padding), tuple(dilation), int(groups))


# --- convolution ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, [21, 32, 43]),
        ({"stride": 2}, [21, 43]),
        ({"padding": 1}, [10, 21, 32, 43, 4]),
        ({"padding": ((0, 1),)}, [21, 32, 43, 4]),
        ({"dilation": 2}, [31, 42]),
        ({"dilation": 3, "padding": 2, "stride": 3}, [20, 2]),
        ({"bias": [100]}, [121, 132, 143]),
    ],
)
def test_conv_by_hand(options, expected):
    equal(ref.conv(row(1, 2, 3, 4), row(1, 10), **options), row(*expected))


def test_conv_by_hand_2d_and_groups():
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    equal(ref.conv(x, [[[[1, 2], [3, 4]]]]), [[[[27, 37], [57, 67]]]])
    equal(ref.conv([[[1, 2], [3, 4]]], [[[1]], [[10]]], groups=2), [[[1, 2], [30, 40]]])
    equal(ref.conv([[[1, 2], [3, 4]]], [[[1], [10]], [[0], [1]]]), [[[31, 42], [3, 4]]])
    equal(ref.unfold(x, 2), [[[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]])
    equal(ref.fold(np.ones((1, 4, 4)), (3, 3), 2), [[[[1, 2, 1], [2, 4, 2], [1, 2, 1]]]])


@pytest.mark.parametrize(
    "x, w, options",
    [((1, 1, 2), (1, 1, 3), {}), ((1, 2, 3), (1, 1, 3), {}), ((1, 4, 3), (3, 2, 1), {"groups": 2})],
)
def test_conv_refuses(x, w, options):
    with pytest.raises(ValueError):
        ref.conv(np.zeros(x), np.zeros(w), **options)


@pytest.mark.parametrize("seed", range(40))
def test_conv_is_a_sum_over_numpys_windows(seed):
    rng = np.random.default_rng(seed)
    x, w, (stride, padding, dilation, groups) = random_conv(rng)
    bias = rng.standard_normal(w.shape[0])
    view = windows_of(np.pad(x, [(0, 0), (0, 0), *padding]), w.shape[2:], stride, dilation)
    n = x.ndim - 2
    taps = range(-n, 0)
    outputs = []
    for x_group, w_group in zip(np.split(view, groups, axis=1), np.split(w, groups), strict=True):
        y = np.tensordot(x_group, w_group, axes=((1, *taps), (1, *taps)))
        outputs.append(np.moveaxis(y, -1, 1))
    expected = np.concatenate(outputs, axis=1) + bias.reshape(-1, *[1] * n)
    y = ref.conv(x, w, bias, stride, padding, dilation, groups)
    close(y, expected)

    columns = ref.unfold(x, w.shape[2:], dilation, padding, stride)
    expected = np.moveaxis(view, range(2, 2 + n), taps).reshape(columns.shape)
    equal(columns, expected)


@pytest.mark.parametrize("seed", range(40))
def test_conv_gradients_are_adjoints(seed):
    rng = np.random.default_rng(seed)
    x, w, options = random_conv(rng)
    stride, padding, dilation, _ = options
    y = ref.conv(x, w, None, *options)
    g = rng.standard_normal(y.shape)
    assert ref.adjoint_gap(y, g, x, ref.conv_backward_data(x.shape, w, g, *options)) < 1e-13
    assert ref.adjoint_gap(y, g, w, ref.conv_backward_weight(x, w.shape, g, *options)) < 1e-13
    b = rng.standard_normal(w.shape[0])
    y_of_b = ref.conv(np.zeros_like(x), w, b, *options)
    assert ref.adjoint_gap(y_of_b, g, b, ref.conv_backward_bias(g)) < 1e-13
    check_gradient(
        rng, lambda x: ref.conv(x, w, b, *options), x, lambda g: ref.conv_backward_data(x.shape, w, g, *options)
    )

    geometry = (w.shape[2:], dilation, padding, stride)
    columns = ref.unfold(x, *geometry)
    g = rng.standard_normal(columns.shape)
    assert ref.adjoint_gap(columns, g, x, ref.fold(g, x.shape[2:], *geometry)) < 1e-13


def test_conv_of_integers_is_exact():
    rng = np.random.default_rng(0)
    x, w = ref.exact_integers(rng, (2, 6, 7, 7), 12), ref.exact_integers(rng, (4, 3, 3, 3), 12)
    view = windows_of(x.astype(np.int64), (3, 3), (1, 1), (1, 1))
    halves = [
        np.einsum("nchwrs,kcrs->nkhw", view[:, 3 * i : 3 * i + 3], w[2 * i : 2 * i + 2].astype(int)) for i in (0, 1)
    ]
    equal(ref.conv(x, w, groups=2), np.concatenate(halves, axis=1))


# --- pooling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x, options, values, taps, indices",
    [
        ([1, 3, 2, 5, 4], {"kernel_size": 2}, [3, 5], [1, 1], [1, 3]),
        ([1, 3, 2, 5, 4], {"kernel_size": 2, "ceil_mode": True}, [3, 5, 4], [1, 1, 0], [1, 3, 4]),
        ([7, 1, 7], {"kernel_size": 3}, [7], [0], [0]),
        ([NAN, 1, NAN, 2], {"kernel_size": 4}, [NAN], [2], [2]),
        ([-INF, -INF], {"kernel_size": 3, "padding": 1, "stride": 1}, [-INF, -INF], [1, 0], [0, 0]),
        ([-5, -4, -6], {"kernel_size": 2, "padding": 1}, [-5, -4], [1, 0], [0, 1]),
        ([1, 5, 2, 3], {"kernel_size": 2, "dilation": 2, "stride": 1}, [2, 5], [1, 0], [2, 1]),
        # Taps at -2 and 1, then at -1 and 2: none is inside an input of one pixel.
        ([1], {"kernel_size": 2, "dilation": 3, "padding": 2, "stride": 1}, [-INF, -INF], [-1, -1], [-1, -1]),
        # A second window would start at 3, where the input ends and the high padding begins.
        ([1, 2, 3], {"kernel_size": 3, "stride": 4, "padding": 1, "ceil_mode": True}, [2], [2], [1]),
        ([1, 2, 3, 4], {"kernel_size": 3, "stride": 4, "padding": 1, "ceil_mode": True}, [2, 4], [2, 0], [1, 3]),
        ([1, 2], {"kernel_size": 1, "stride": 3, "ceil_mode": True}, [1], [0], [0]),
    ],
)
def test_max_pool_by_hand(x, options, values, taps, indices):
    pooled = ref.max_pool(row(*x), **options)
    equal(pooled.values, row(*values))
    equal(pooled.taps, row(*taps))
    equal(pooled.indices, row(*indices))


def test_max_pool_by_hand_2d():
    x = np.array([[[[1, 2, 0], [4, 3, 9], [8, 7, 6]]]])
    pooled = ref.max_pool(x, 2, stride=1)
    equal(pooled.values, [[[[4, 9], [8, 9]]]])
    equal(pooled.taps, [[[[2, 3], [2, 1]]]])
    equal(pooled.indices, [[[[3, 5], [6, 5]]]])
    grad = ref.max_pool_backward(np.array([[[[1, 10], [100, 1000]]]]), pooled.indices, x.shape)
    equal(grad, [[[[0, 0, 0], [1, 0, 1010], [100, 0, 0]]]])


def test_max_pool_backward_without_winner():
    equal(ref.max_pool_backward(row(10, 20, 40), np.array([[[1, -1, 1]]]), (1, 1, 3)), row(0, 50, 0))


@pytest.mark.parametrize(
    "x, options, expected",
    [
        ([1, 2, 3], {"kernel_size": 2, "padding": 1}, [0.5, 2.5]),
        ([1, 2, 3], {"kernel_size": 2, "padding": 1, "count_include_pad": False}, [1, 2.5]),
        # The last window holds 4, a padding zero, and a position beyond the padding, which never counts.
        ([1, 2, 3, 4], {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}, [1, 3, 2]),
        (
            [1, 2, 3, 4],
            {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
            [1.5, 3, 4],
        ),
        (
            [1, 2, 3, 4],
            {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "divisor_override": 4},
            [0.75, 2.25, 1],
        ),
        ([1], {"kernel_size": 1, "padding": 1, "count_include_pad": False}, [0, 1, 0]),
    ],
)
def test_avg_pool_by_hand(x, options, expected):
    equal(ref.avg_pool(row(*x), **options), row(*expected))


def test_adaptive_pool_by_hand():
    equal(ref.adaptive_avg_pool(row(1, 2, 3, 4, 5), 3), row(1.5, 3, 4.5))
    equal(ref.adaptive_avg_pool(row(1, 2), 3), row(1, 1.5, 2))
    values, indices = ref.adaptive_max_pool(row(1, 2, 4, 3, 5), 3)
    equal(values, row(2, 4, 5))
    equal(indices, row(1, 2, 4))
    values, indices = ref.adaptive_max_pool(row(NAN, 9, NAN, 1, 7, 7), 2)
    equal(values, row(NAN, 7))
    equal(indices, row(2, 4))
    equal(ref.adaptive_avg_pool(np.arange(6.0).reshape(1, 1, 2, 3), (None, 1)), [[[[1], [4]]]])
    x = np.arange(6.0).reshape(1, 1, 2, 3)
    equal(ref.global_avg_pool(x), [[[[2.5]]]])
    equal(ref.global_max_pool(x), [[[[[5]]]], [[[[5]]]]])


def random_pool(rng):
    n = int(rng.integers(1, 4))
    kernel, stride, dilation = rng.integers(1, 4, (3, n)).tolist()
    padding = [tuple(rng.integers(0, k // 2 + 1, 2).tolist()) for k in kernel]
    size = [d * (k - 1) + int(rng.integers(1, 5)) for k, d in zip(kernel, dilation, strict=True)]
    return distinct(rng, (2, 2, *size)), tuple(kernel), tuple(stride), tuple(padding), tuple(dilation)


@pytest.mark.parametrize("seed", range(40))
def test_pools_reduce_numpys_windows(seed):
    rng = np.random.default_rng(seed)
    x, kernel, stride, padding, dilation = random_pool(rng)
    taps = tuple(range(-len(kernel), 0))
    border = [(0, 0), (0, 0), *padding]
    pooled = ref.max_pool(x, kernel, stride, padding, dilation)
    view = windows_of(np.pad(x, border, constant_values=-INF), kernel, stride, dilation)
    equal(pooled.values, view.max(axis=taps))
    equal(pooled.taps, view.reshape(pooled.taps.shape + (-1,)).argmax(axis=-1))
    flat = x.reshape(2, 2, -1)
    equal(
        np.take_along_axis(flat, pooled.indices.reshape(2, 2, -1), axis=2).reshape(pooled.values.shape), pooled.values
    )

    view = windows_of(np.pad(x, border), kernel, stride, (1,) * len(kernel))
    close(ref.avg_pool(x, kernel, stride, padding), view.mean(axis=taps))
    inside = windows_of(np.pad(np.ones(x.shape), border), kernel, stride, (1,) * len(kernel))
    expected = view.sum(axis=taps) / inside.sum(axis=taps)
    close(ref.avg_pool(x, kernel, stride, padding, count_include_pad=False), expected)


@pytest.mark.parametrize("seed", range(40))
def test_pool_gradients(seed):
    rng = np.random.default_rng(seed)
    x, kernel, stride, padding, dilation = random_pool(rng)
    ceil_mode, include = bool(seed & 1), bool(seed & 2)
    indices = ref.max_pool(x, kernel, stride, padding, dilation, ceil_mode).indices
    check_gradient(
        rng,
        lambda x: ref.max_pool(x, kernel, stride, padding, dilation, ceil_mode).values,
        x,
        lambda g: ref.max_pool_backward(g, indices, x.shape),
        kinks=True,
    )
    options = (kernel, stride, padding, ceil_mode, include, 3 if seed % 5 == 0 else None)
    y = ref.avg_pool(x, *options)
    g = rng.standard_normal(y.shape)
    assert ref.adjoint_gap(y, g, x, ref.avg_pool_backward(g, x.shape, *options)) < 1e-13

    output_size = tuple(rng.integers(1, 6, len(kernel)).tolist())
    y = ref.adaptive_avg_pool(x, output_size)
    g = rng.standard_normal(y.shape)
    assert ref.adjoint_gap(y, g, x, ref.adaptive_avg_pool_backward(g, x.shape, output_size)) < 1e-13
    indices = ref.adaptive_max_pool(x, output_size)[1]
    check_gradient(
        rng,
        lambda x: ref.adaptive_max_pool(x, output_size)[0],
        x,
        lambda g: ref.max_pool_backward(g, indices, x.shape),
        kinks=True,
    )
    y = ref.global_avg_pool(x)
    g = rng.standard_normal(y.shape)
    assert ref.adjoint_gap(y, g, x, ref.global_avg_pool_backward(g, x.shape)) < 1e-13
