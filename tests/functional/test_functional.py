"""Functions on NumPy arrays against the float64 reference: convolution and Linear, shapes, statistics, pooling; threads."""

import numpy as np
import pytest
import reference as R
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv.functional as F
from fastconv import set_num_threads

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
DATA = {1: F.conv1d_backward_data, 2: F.conv2d_backward_data, 3: F.conv3d_backward_data}
WEIGHT = {1: F.conv1d_backward_weight, 2: F.conv2d_backward_weight, 3: F.conv3d_backward_weight}
BIAS = {1: F.conv1d_backward_bias, 2: F.conv2d_backward_bias, 3: F.conv3d_backward_bias}
EPS = 2.0**-24


@pytest.fixture(autouse=True)
def one_thread():
    """Problems are tiny; a second thread costs more than it brings."""
    set_num_threads(1)
    yield
    set_num_threads(1)


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def bound(terms):
    """What rounding may cost: the square root of the reduction's length, times a few units in the last place."""
    return 4 * EPS * max(1, terms) ** 0.5


def error(got, expected, of_magnitudes):
    """Error in the norm, relative to the same sums over absolute values: what rounding scales with where terms cancel."""
    assert got.dtype == np.float32 and got.shape == expected.shape == of_magnitudes.shape
    return np.linalg.norm(got - expected) / max(np.linalg.norm(of_magnitudes), 1e-30)


@st.composite
def conv_problems(draw):
    """Shapes and arguments of a convolution whose output is not empty."""
    dims = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    c, k = draw(st.integers(1, 9)), draw(st.integers(1, 18))
    per_axis = [(draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(0, 4)),
                 draw(st.integers(0, 4))) for _ in range(dims)]
    kernel, stride, dilation, low, high = zip(*per_axis, strict=True)
    size = tuple(max(1, d * (r - 1) + 1 - a - b) + draw(st.integers(0, 9 - 2 * dims))
                 for r, d, a, b in zip(kernel, dilation, low, high, strict=True))
    keywords = {"stride": stride, "padding": tuple(zip(low, high, strict=True)), "dilation": dilation, "groups": groups}
    return (draw(st.integers(0, 3)), c * groups, *size), (k * groups, c, *kernel), keywords, draw(st.booleans())


@settings(max_examples=120, deadline=None)
@given(conv_problems(), st.integers(0, 2**32 - 1))
def test_conv_and_its_gradients(problem, seed):
    x_shape, w_shape, keywords, biased = problem
    rng, dims = np.random.default_rng(seed), len(x_shape) - 2
    x, w = normal(rng, *x_shape), normal(rng, *w_shape)
    b = normal(rng, w_shape[0]) if biased else None
    ax, aw = abs(x), abs(w)
    y = CONV[dims](x, w, b, **keywords)
    reach = np.prod(w_shape[1:])
    assert error(y, R.conv(x, w, b, **keywords), R.conv(ax, aw, None if b is None else abs(b), **keywords)) <= bound(reach)
    g = normal(rng, *y.shape)
    ag = abs(g)
    gx = DATA[dims](g, w, x_shape, **keywords)
    assert error(gx, R.conv_backward_data(x_shape, w, g, **keywords),
                 R.conv_backward_data(x_shape, aw, ag, **keywords)) <= bound(w_shape[0] * np.prod(w_shape[2:]))
    gw = WEIGHT[dims](g, x, w_shape, **keywords)
    assert error(gw, R.conv_backward_weight(x, w_shape, g, **keywords),
                 R.conv_backward_weight(ax, w_shape, ag, **keywords)) <= bound(g.size / w_shape[0])
    gb = BIAS[dims](g)
    assert error(gb, R.conv_backward_bias(g), R.conv_backward_bias(ag)) <= bound(g.size / w_shape[0])
    # <conv(x), g> = <x, backward_data(g)> = <w, backward_weight(g)>, up to the rounding of all their terms
    plain = np.float64(CONV[dims](x, w, **keywords))
    terms = (R.conv(ax, aw, **keywords) * ag).sum()
    assert abs((plain * g).sum() - (np.float64(x) * gx).sum()) <= 16 * EPS * terms
    assert abs((plain * g).sum() - (np.float64(w) * gw).sum()) <= 16 * EPS * terms


@settings(max_examples=40, deadline=None)
@given(conv_problems(), st.integers(0, 2**32 - 1))
def test_conv_of_integers_is_exact(problem, seed):
    x_shape, w_shape, keywords, biased = problem
    rng, dims = np.random.default_rng(seed), len(x_shape) - 2
    x, w = R.exact_integers(rng, x_shape, 12), R.exact_integers(rng, w_shape, 2)
    b = R.exact_integers(rng, w_shape[0], 12) if biased else None
    assert not x.size or R.conv(abs(x), abs(w), **keywords).max() < 2**23 - 2**12  # 9 * 64 terms at most
    y = CONV[dims](x, w, b, **keywords)
    np.testing.assert_array_equal(y, R.conv(x, w, b, **keywords))
    g = R.exact_integers(rng, y.shape, 12)
    np.testing.assert_array_equal(DATA[dims](g, w, x_shape, **keywords), R.conv_backward_data(x_shape, w, g, **keywords))
    if g.size and R.conv_backward_weight(abs(x), w_shape, abs(g), **keywords).max() < 2**24:
        np.testing.assert_array_equal(WEIGHT[dims](g, x, w_shape, **keywords),
                                      R.conv_backward_weight(x, w_shape, g, **keywords))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_named_paddings(padding):
    rng = np.random.default_rng(1)
    x, w = normal(rng, 2, 3, 7, 8), normal(rng, 4, 3, 3, 4)
    pads = ((1, 1), (1, 2)) if padding == "same" else 0
    np.testing.assert_array_equal(F.conv2d(x, w, padding=padding), F.conv2d(x, w, padding=pads))
    assert R.rel_l2(F.conv2d(x, w, padding=padding), R.conv(x, w, None, 1, pads)) <= bound(36)


@pytest.mark.parametrize("w_shape, groups, algorithm", [
    ((8, 4, 1, 1), 1, "pointwise"), ((8, 4, 3, 3), 1, "direct"), ((8, 1, 3, 3), 4, "depthwise"), ((8, 1, 3, 3), 4, "direct"),
    ((8, 4, 1, 1), 1, "direct"), ((8, 4, 3, 3), 1, "im2col"), ((8, 2, 3, 3), 2, "im2col")])
def test_algorithms_can_be_named(w_shape, groups, algorithm):
    rng = np.random.default_rng(2)
    x, w = R.exact_integers(rng, (2, 4, 6, 5), 8), R.exact_integers(rng, w_shape, 4)
    y = F.conv2d(x, w, groups=groups, algorithm=algorithm)
    np.testing.assert_array_equal(y, R.conv(x, w, groups=groups))


def test_linear_and_its_gradients():
    rng = np.random.default_rng(3)
    for n, c, k in [(1, 1, 1), (5, 7, 3), (3, 33, 65), (0, 4, 2)]:
        x, w, b = normal(rng, n, c), normal(rng, k, c), normal(rng, k)
        assert R.rel_l2(F.linear(x, w, b), R.linear(x, w, b)) <= bound(c)
        g = normal(rng, n, k)
        gx, gw, gb = R.linear_backward(g, x, w)
        assert R.rel_l2(F.linear_backward_data(g, w), gx) <= bound(k)
        assert R.rel_l2(F.linear_backward_weight(g, x), gw) <= bound(n)
        assert R.rel_l2(F.linear_backward_bias(g), gb) <= bound(n)


def test_empty_batch():
    rng = np.random.default_rng(4)
    x, w, b = normal(rng, 0, 3, 5, 5), normal(rng, 4, 3, 3, 3), normal(rng, 4)
    g = normal(rng, 0, 4, 3, 3)
    assert F.conv2d(x, w, b).shape == (0, 4, 3, 3)
    assert F.conv2d_backward_data(g, w, x.shape).shape == (0, 3, 5, 5)
    F.conv2d_backward_weight(normal(rng, 1, 4, 3, 3), normal(rng, 1, 3, 5, 5), w.shape)  # leaves its sums in the memory
    np.testing.assert_array_equal(F.conv2d_backward_weight(g, x, w.shape), np.zeros(w.shape))
    np.testing.assert_array_equal(F.conv2d_backward_bias(g), np.zeros(4))


def test_any_strides_and_read_only():
    rng = np.random.default_rng(5)
    x, w, b = normal(rng, 2, 5, 6, 7), normal(rng, 4, 5, 3, 3), normal(rng, 4)
    expected = F.conv2d(x, w, b)
    big = np.zeros((4, 10, 12, 21), np.float32)
    big[::2, ::2, ::2, ::3] = x
    variants = {"strided": big[::2, ::2, ::2, ::3], "channels last": np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1),
                "reversed": x[::-1, ::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1, ::-1],
                "fortran": np.asfortranarray(x)}
    for name, value in variants.items():
        np.testing.assert_array_equal(F.conv2d(value, w, b), expected, err_msg=name)
    w_reversed = w[:, :, ::-1].copy()[:, :, ::-1]
    np.testing.assert_array_equal(F.conv2d(x, w_reversed, np.repeat(b, 2)[::2]), expected)
    for array in (x, w, b):
        array.flags.writeable = False
    np.testing.assert_array_equal(F.conv2d(x, w, b), expected)
    image = x[:1]
    np.testing.assert_array_equal(F.conv2d(np.broadcast_to(image, x.shape), w, b)[1], expected[0])
    raw = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(x.shape)
    unaligned[...] = x
    np.testing.assert_array_equal(F.conv2d(unaligned, w, b), expected)


def test_results_are_fresh_arrays():
    x, w = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 3, 3), np.float32)
    first = F.conv2d(x, w)
    second = F.conv2d(2 * x, w)
    assert first.max() == 9 and second.max() == 18 and not np.shares_memory(first, second)


def test_threads_do_not_change_a_bit():
    rng = np.random.default_rng(6)
    x, w, b = normal(rng, 3, 20, 17, 19), normal(rng, 40, 20, 3, 3), normal(rng, 40)
    g = normal(rng, 3, 40, 15, 17)

    def everything():
        return F.conv2d(x, w, b), F.conv2d_backward_data(g, w, x.shape), F.conv2d_backward_weight(g, x, w.shape), \
            F.conv2d_backward_bias(g)

    one = everything()
    set_num_threads(2)
    for a, b_ in zip(one, everything(), strict=True):
        np.testing.assert_array_equal(a, b_)


# ---- reshaping ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 7), (0, 2, 2), (2, 3, 1, 1), (4,), (2, 1, 2, 1, 3, 1)])
def test_flatten(shape):
    x = normal(np.random.default_rng(8), *shape)
    for start in range(-len(shape), len(shape)):
        for end in range(start % len(shape), len(shape)):
            y = F.flatten(x, start, end)
            np.testing.assert_array_equal(y, R.flatten(x, start, end))
            assert not np.shares_memory(x, y)
    np.testing.assert_array_equal(F.flatten(x.T), R.flatten(x.T))


@settings(max_examples=40, deadline=None)
@given(conv_problems(), st.integers(0, 2**32 - 1))
def test_unfold_and_fold(problem, seed):
    x_shape, w_shape, keywords, _ = problem
    rng = np.random.default_rng(seed)
    geometry = {"dilation": keywords["dilation"], "padding": keywords["padding"], "stride": keywords["stride"]}
    x = normal(rng, *x_shape)
    columns = F.unfold(x, w_shape[2:], **geometry)
    np.testing.assert_array_equal(columns, R.unfold(x, w_shape[2:], **geometry))
    y = R.exact_integers(rng, columns.shape, 8)
    np.testing.assert_array_equal(F.fold(y, x_shape[2:], w_shape[2:], **geometry), R.fold(y, x_shape[2:], w_shape[2:],
                                                                                           **geometry))


# ---- batch normalisation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (7, 5), (2, 17, 9), (2, 3, 2, 3, 4), (1, 2, 2, 2), (0, 3, 4, 4)])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm(shape, training, affine):
    rng = np.random.default_rng(9)
    c = shape[1]
    x, g = normal(rng, *shape) * 3 + 5, normal(rng, *shape)
    w, b = (normal(rng, c), normal(rng, c)) if affine else (None, None)
    mean, var = normal(rng, c), normal(rng, c) ** 2 + 0.5
    new_mean, new_var = mean.copy(), var.copy()
    y = F.batch_norm(x, new_mean, new_var, w, b, training, 0.3, 1e-3)
    expected = R.batch_norm(x, mean, var, w, b, training, 0.3, 1e-3)
    assert y.shape == shape and R.rel_l2(y, expected.output) < 2e-6
    assert R.rel_l2(new_mean, expected.running_mean) < 1e-6 and R.rel_l2(new_var, expected.running_var) < 1e-6
    assert training or (np.array_equal(mean, new_mean) and np.array_equal(var, new_var))
    before = new_mean.copy(), new_var.copy()
    got = F.batch_norm_backward(g, x, new_mean, new_var, w, training, 1e-3)
    for a, e in zip(got, R.batch_norm_backward(g, x, *before, w, training, 1e-3), strict=True):
        assert a.shape == e.shape and R.rel_l2(a, e) < 5e-6
    assert np.array_equal(new_mean, before[0]) and np.array_equal(new_var, before[1])
    if shape[0]:
        np.testing.assert_allclose(F.batch_norm(x, None, None, w, b), R.batch_norm(x, None, None, w, b).output, rtol=1e-5,
                                   atol=1e-5)


def test_running_statistics_in_place_wherever_they_lie():
    x = normal(np.random.default_rng(10), 4, 3, 2, 2)
    whole = np.ones((3, 4), np.float32)
    mean, var = whole[:, 1], whole[::-1, 2]
    expected = R.batch_norm(x, mean.copy(), var.copy(), training=True)
    F.batch_norm(x, mean, var, training=True)
    np.testing.assert_allclose(mean, expected.running_mean, rtol=1e-5)
    np.testing.assert_allclose(var, expected.running_var, rtol=1e-5)
    assert (whole[:, [0, 3]] == 1).all()


# ---- pooling --------------------------------------------------------------------------------------------------------------

MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
MAX_BACKWARD = {1: F.max_pool1d_backward, 2: F.max_pool2d_backward, 3: F.max_pool3d_backward}
AVG = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
AVG_BACKWARD = {1: F.avg_pool1d_backward, 2: F.avg_pool2d_backward, 3: F.avg_pool3d_backward}
ADAPTIVE = {
    1: (F.adaptive_avg_pool1d, F.adaptive_avg_pool1d_backward, F.adaptive_max_pool1d, F.adaptive_max_pool1d_backward),
    2: (F.adaptive_avg_pool2d, F.adaptive_avg_pool2d_backward, F.adaptive_max_pool2d, F.adaptive_max_pool2d_backward),
    3: (F.adaptive_avg_pool3d, F.adaptive_avg_pool3d_backward, F.adaptive_max_pool3d, F.adaptive_max_pool3d_backward)}


@st.composite
def pool_problems(draw):
    """Shape and arguments of a pool whose output is not empty."""
    dims = draw(st.integers(1, 3))
    dilated = draw(st.booleans())
    axes = []
    for _ in range(dims):
        k, s, d = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 2)) if dilated else 1
        p = draw(st.integers(0, k // 2))
        axes.append((k, s, d, p, max(1, d * (k - 1) + 1 - 2 * p) + draw(st.integers(0, 9 - 2 * dims))))
    kernel, stride, dilation, padding, size = zip(*axes, strict=True)
    keywords = {"kernel_size": kernel, "padding": padding, "ceil_mode": draw(st.booleans())}
    if draw(st.booleans()):
        keywords["stride"] = stride
    return (draw(st.integers(0, 3)), draw(st.integers(1, 19)), *size), keywords, dilation


@settings(max_examples=150, deadline=None)
@given(pool_problems(), st.integers(0, 2**32 - 1))
def test_max_pool_and_its_gradient(problem, seed):
    shape, keywords, dilation = problem
    keywords = {**keywords, "dilation": dilation}
    rng, dims = np.random.default_rng(seed), len(shape) - 2
    x = rng.integers(-3, 4, shape).astype(np.float32)  # ties
    x[rng.random(shape) < 0.05] = np.nan
    x[rng.random(shape) < 0.05] = -np.inf
    expected = R.max_pool(x, **keywords)
    y, indices = MAX[dims](x, **keywords, return_indices=True)
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(y, expected.values)
    np.testing.assert_array_equal(indices, expected.indices)
    np.testing.assert_array_equal(MAX[dims](x, **keywords), y)
    g = R.exact_integers(rng, y.shape, 8)
    np.testing.assert_array_equal(MAX_BACKWARD[dims](g, x, **keywords), R.max_pool_backward(g, expected.indices, shape))


@settings(max_examples=100, deadline=None)
@given(pool_problems(), st.booleans(), st.sampled_from([None, None, 3]), st.integers(0, 2**32 - 1))
def test_avg_pool_and_its_gradient(problem, count_include_pad, divisor, seed):
    shape, keywords, dilation = problem
    rng, dims = np.random.default_rng(seed), len(shape) - 2
    size = tuple(max(1, length) for length in shape[2:])
    keywords = {**keywords, "count_include_pad": count_include_pad, **({} if dims == 1 else {"divisor_override": divisor})}
    size = tuple(max(length, k) for length, k in zip(size, keywords["kernel_size"], strict=True))
    x = normal(rng, *shape[:2], *size)
    expected = R.avg_pool(x, **keywords)
    y = AVG[dims](x, **keywords)
    assert error(y, expected, R.avg_pool(abs(x), **keywords)) < 4 * EPS
    g = normal(rng, *y.shape)
    gx = AVG_BACKWARD[dims](g, x.shape, **keywords)
    assert error(gx, R.avg_pool_backward(g, x.shape, **keywords), R.avg_pool_backward(abs(g), x.shape, **keywords)) < 8 * EPS


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3), st.integers(0, 2),
       st.integers(1, 18), st.integers(0, 2**32 - 1))
def test_adaptive_pools_and_their_gradients(axes, n, c, seed):
    size, out = zip(*axes, strict=True)
    rng, dims = np.random.default_rng(seed), len(axes)
    x = R.exact_integers(rng, (n, c, *size), 3)
    avg, avg_backward, largest, largest_backward = ADAPTIVE[dims]
    y = avg(x, out)
    assert error(y, R.adaptive_avg_pool(x, out), R.adaptive_avg_pool(abs(x), out)) < 4 * EPS
    g = R.exact_integers(rng, y.shape, 8)
    assert error(avg_backward(g, x.shape, out), R.adaptive_avg_pool_backward(g, x.shape, out),
                 R.adaptive_avg_pool_backward(abs(g), x.shape, out)) < 8 * EPS
    values, indices = R.adaptive_max_pool(x, out)
    got, got_indices = largest(x, out, return_indices=True)
    np.testing.assert_array_equal(got, values)
    np.testing.assert_array_equal(got_indices, indices)
    np.testing.assert_array_equal(largest(x, out), values)
    np.testing.assert_array_equal(largest_backward(g, x, out), R.max_pool_backward(g, indices, x.shape))


def test_pools_take_one_number_for_all_axes():
    x = normal(np.random.default_rng(11), 2, 3, 9, 8)
    np.testing.assert_array_equal(F.max_pool2d(x, 2), R.max_pool(x, 2).values)
    np.testing.assert_array_equal(F.max_pool2d(x, 3, 2, 1, ceil_mode=True), R.max_pool(x, 3, 2, 1, ceil_mode=True).values)
    np.testing.assert_allclose(F.avg_pool2d(x, 3, 2, 1), R.avg_pool(x, 3, 2, 1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(F.adaptive_avg_pool2d(x, 1), R.global_avg_pool(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(F.adaptive_max_pool2d(x, (None, 3)), R.adaptive_max_pool(x, (9, 3))[0])


def test_indices_of_windows_with_more_taps_than_a_byte_counts():
    x = normal(np.random.default_rng(12), 2, 3, 20, 24)
    for kernel in [(15, 17), (16, 16)]:  # 255 and 256 taps
        values, indices = F.max_pool2d(x, kernel, 1, return_indices=True)
        np.testing.assert_array_equal(indices, R.max_pool(x, kernel, 1).indices)
        np.testing.assert_array_equal(values, R.max_pool(x, kernel, 1).values)
