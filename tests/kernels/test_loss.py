"""Softmax and losses against the float64 reference, at whatever instruction set FASTCONV_ISA asks for."""

import math

import numpy as np
import pytest
import reference as ref
from fastconv.kernels._runtime import StepList

from fastconv.kernels import loss

from .guarded import gaps, guarded, images, pixels

INF, NAN = math.inf, math.nan
SHAPES = [(1, 1), (0, 10), (3, 2, 5), (7, 10), (2, 15, 3), (2, 16, 3), (2, 17, 3, 5), (4, 33, 2, 3, 2), (2, 1000),
          (1, 9001), (2, 21, 37, 41)]


def address(array):
    return 0 if array is None else array.ctypes.data


def run(steps, n, threads=2, planned=None):
    steps = StepList(steps, planned or max(n, 1))
    steps.set_batch(n)
    steps.run(threads)


def size(shape):
    return {"channels": shape[1], "pixels": int(np.prod(shape[2:]))}


def count(shape):
    return shape[0] * int(np.prod(shape[2:]))


def blank(shape, ld):
    return guarded(max(0, count(shape) * ld - (ld - shape[1])))


def taken(flat, shape, ld):
    assert np.isnan(gaps(flat, count(shape), shape[1], ld)).all()
    return images(flat, shape, ld)


def wide(length, dtype, values=None):
    """A guarded array of 8-byte elements."""
    array = guarded(2 * length).view(dtype)
    if values is not None:
        array[...] = np.ravel(values)
    return array


# --- softmax -------------------------------------------------------------------------------------------------------


def softmax(kernel, x, extra=0, threads=2):
    ld = x.shape[1] + extra
    source, y = pixels(x, ld), blank(x.shape, ld)
    run([loss.softmax(kernel, x=address(source), y=address(y), ldx=ld, ldy=ld, **size(x.shape))], x.shape[0], threads)
    return taken(y, x.shape, ld)


def softmax_backward(kernel, gy, y, extra=0, threads=2):
    ld = y.shape[1] + extra
    g, kept, gx = pixels(gy, ld), pixels(y, ld + 1), blank(y.shape, ld)
    run([loss.softmax_backward(kernel, gy=address(g), y=address(kept), gx=address(gx), ldgy=ld, ldy=ld + 1, ldgx=ld,
                               **size(y.shape))], y.shape[0], threads)
    return taken(gx, y.shape, ld)


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax(shape):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(shape) * 4).astype(np.float32)
    gy = rng.standard_normal(shape).astype(np.float32)
    for extra in (0, 3):
        y = softmax("f32_softmax", x, extra)
        np.testing.assert_allclose(y, ref.softmax(x, 1), rtol=2e-6)
        gx = softmax_backward("f32_softmax_backward", gy, y, extra)
        np.testing.assert_allclose(gx, ref.softmax_backward(gy, x, 1), rtol=1e-5, atol=1e-6)
        y = softmax("f32_log_softmax", x, extra)
        np.testing.assert_allclose(y, ref.log_softmax(x, 1), rtol=1e-6, atol=1e-6)
        gx = softmax_backward("f32_log_softmax_backward", gy, y, extra)
        expected = ref.log_softmax_backward(gy, x, 1)
        np.testing.assert_allclose(gx, expected, rtol=1e-5, atol=2e-6 * math.sqrt(shape[1]))


@pytest.mark.parametrize("kernel", ["f32_softmax", "f32_log_softmax"])
def test_softmax_special_values(kernel):
    rows = np.zeros((8, 19), np.float32)
    rows[0] = 3e38
    rows[1] = -3e38
    rows[2, 7] = 1000
    rows[3, 18] = -INF
    rows[4] = -INF
    rows[5, 0] = INF
    rows[6, 18] = NAN
    rows[7, :18] = -INF
    y = softmax(kernel, rows, 2)
    expected = getattr(ref, kernel[4:])(rows, 1)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(np.isnan(y).all(axis=1), [0, 0, 0, 0, 1, 1, 1, 0])


@pytest.mark.parametrize("kernel", ["f32_softmax", "f32_log_softmax"])
@pytest.mark.parametrize("channels", range(1, 17))
def test_short_rows_have_the_bits_of_rows_alone(kernel, channels):
    """As many at once as a vector has lanes, up to three of them one by one."""
    rows = (np.random.default_rng(channels).standard_normal((47, channels)) * 4).astype(np.float32)
    rows[::5] *= 40
    rows[3, 0], rows[4, -1], rows[6], rows[7, 0] = INF, NAN, -INF, -INF
    alone = np.concatenate([softmax(kernel, row[None], 1) for row in rows])
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(alone, getattr(ref, kernel[4:])(rows, 1), rtol=2e-6, atol=1e-6)
    for count in (1, 3, 4, 7, 8, 15, 16, 17, 19, 20, 35, 47):
        for extra in (0, 1, 19):
            np.testing.assert_array_equal(softmax(kernel, rows[:count], extra), alone[:count])


@pytest.mark.parametrize("kernel", ["f32_softmax", "f32_log_softmax"])
def test_softmax_depends_on_neither_threads_nor_batch(kernel):
    x = np.random.default_rng(0).standard_normal((9, 37, 20, 20)).astype(np.float32)
    y = softmax(kernel, x, threads=1)
    np.testing.assert_array_equal(y, softmax(kernel, x, extra=4, threads=2))
    np.testing.assert_array_equal(y[4:5], softmax(kernel, x[4:5]))
    gx = softmax_backward(kernel + "_backward", x, y, threads=1)
    np.testing.assert_array_equal(gx, softmax_backward(kernel + "_backward", x, y, extra=4, threads=2))


# --- cross entropy -------------------------------------------------------------------------------------------------


class CrossEntropy:
    """Forward and backward of one problem in guarded, poisoned memory."""

    def __init__(self, x, target, weight=None, extra=0, planned=None, **options):
        self.shape, self.n, self.options, self.ld = x.shape, x.shape[0], options, x.shape[1] + extra
        self.planned = planned or max(1, self.n)
        self.x, self.target = pixels(x, self.ld), wide(target.size, np.int64, target)
        self.weight = None
        if weight is not None:
            self.weight = guarded(weight.shape)
            self.weight[...] = weight
        self.kept = guarded((count(self.shape), 2))
        self.loss, self.result, self.norm = guarded(count(self.shape)), guarded(1), guarded(1)
        self.same = {"x": address(self.x), "target": address(self.target), "weight": address(self.weight),
                     "kept": address(self.kept), "ldx": self.ld, **size(self.shape), **options}

    def forward(self, reduction, threads=2):
        per_image = int(np.prod(self.shape[2:]))
        part = wide(2 * loss.parts(self.planned * per_image, self.shape[1]), np.float64)
        run([loss.cross_entropy(part=address(part), loss=address(self.loss), **self.same),
             loss.loss_sum(part=address(part), loss=address(self.result), norm=address(self.norm),
                           mean=reduction == "mean", **size(self.shape))], self.n, threads, self.planned)
        return self.loss.reshape(self.n, *self.shape[2:]) if reduction == "none" else self.result[0]

    def backward(self, gy, reduction, threads=2):
        g = guarded(np.size(gy))
        g[...] = np.ravel(gy)
        gx = blank(self.shape, self.ld)
        run([loss.cross_entropy_backward(gy=address(g), gy_stride=int(reduction == "none"), gx=address(gx), ldgx=self.ld,
                                         norm=0 if reduction == "none" else address(self.norm), **self.same)],
            self.n, threads, self.planned)
        return taken(gx, self.shape, self.ld)


def problem(shape, seed=0, ignore_index=-100):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) * 3).astype(np.float32)
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    if target.size > 2:
        target.ravel()[[1, target.size // 2]] = ignore_index
    return x, target, rng.uniform(0.5, 2, shape[1]).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.25])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(shape, reduction, smoothing, weighted):
    x, target, weight = problem(shape)
    weight = weight if weighted else None
    options = {"label_smoothing": smoothing}
    problem_ = CrossEntropy(x, target, weight, extra=3, **options)
    y = problem_.forward(reduction)
    expected = ref.cross_entropy(x, target, weight, reduction=reduction, **options)
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=1e-6)
    gy = np.random.default_rng(1).standard_normal(np.shape(expected)).astype(np.float32)
    gx = problem_.backward(gy, reduction)
    expected = ref.cross_entropy_backward(gy, x, target, weight, reduction=reduction, **options)
    np.testing.assert_allclose(gx, expected, rtol=1e-5, atol=2e-6 * np.abs(expected).max(initial=1e-30))


class SoftCrossEntropy(CrossEntropy):
    """The same of shares of the classes, in memory whose last pixel ends at a guard page, the floats between pixels NaN."""

    def __init__(self, x, target, weight=None, extra=0, **options):
        super().__init__(x, np.zeros((x.shape[0], *x.shape[2:]), np.int64), weight, extra, **options)
        self.soft = pixels(target, self.ld + 2)
        self.same.update(target=address(self.soft), ldt=self.ld + 2)


def soft_reference(x, t, weight, smoothing, reduction, gy=None):
    """Loss, and gradients of both sides, in float64 from the definition."""
    q = np.moveaxis(ref.log_softmax(x, 1), 1, -1)
    weight = np.ones(x.shape[1]) if weight is None else weight.astype(np.float64)
    u = weight * ((1 - smoothing) * np.moveaxis(t, 1, -1).astype(np.float64) + smoothing / x.shape[1])
    losses = -(u * q).sum(-1)
    if gy is None:
        return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / max(1, losses.size)}[reduction]
    scale = (np.reshape(gy, losses.shape) if reduction == "none" else
             np.full(losses.shape, gy / (losses.size if reduction == "mean" else 1)))[..., None]
    gx = scale * (np.exp(q) * u.sum(-1, keepdims=True) - u)
    return np.moveaxis(gx, -1, 1), np.moveaxis(-scale * (1 - smoothing) * weight * q, -1, 1)


@pytest.mark.parametrize("shape", [s for s in SHAPES if np.prod(s)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.25])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_shares(shape, reduction, smoothing, weighted):
    x, _, weight = problem(shape)
    rng = np.random.default_rng(2)
    t = rng.random(shape).astype(np.float32)
    t /= t.sum(1, keepdims=True)
    weight = weight if weighted else None
    p = SoftCrossEntropy(x, t, weight, extra=3, label_smoothing=smoothing)
    y = p.forward(reduction)
    expected = soft_reference(x, t, weight, smoothing, reduction)
    np.testing.assert_allclose(y, expected, rtol=3e-6, atol=2e-6)
    gy = rng.standard_normal(np.shape(expected)).astype(np.float32)
    for of_target, expected in enumerate(soft_reference(x, t, weight, smoothing, reduction, gy)):
        p.same["of_target"] = bool(of_target)
        one, two = (p.backward(gy, reduction, threads=threads) for threads in (1, 2))
        np.testing.assert_array_equal(one, two)
        np.testing.assert_allclose(one, expected, rtol=2e-5, atol=3e-6 * np.abs(expected).max(initial=1e-30))
        p.same.pop("of_target")


def test_cross_entropy_of_another_ignored_index():
    x, target, weight = problem((3, 7, 4), ignore_index=2)
    options = {"ignore_index": 2}
    p = CrossEntropy(x, target, weight, **options)
    np.testing.assert_allclose(p.forward("mean"), ref.cross_entropy(x, target, weight, **options), rtol=1e-6)
    expected = ref.cross_entropy_backward(1, x, target, weight, **options)
    np.testing.assert_allclose(p.backward(1, "mean"), expected, rtol=1e-5, atol=1e-7)


def test_cross_entropy_with_nothing_to_average():
    x, target, _ = problem((4, 5))
    p = CrossEntropy(x, np.full_like(target, -100))
    assert math.isnan(p.forward("mean"))
    assert (p.backward(1, "mean") == 0).all()
    assert p.forward("sum") == 0
    empty = CrossEntropy(np.zeros((0, 5), np.float32), np.zeros(0, np.int64))
    assert math.isnan(empty.forward("mean"))
    assert empty.forward("sum") == 0


def test_cross_entropy_of_large_logits():
    x = np.array([[3e4, -3e4, 0], [-3e38, 0, 3e38], [-INF, 0, 0]], np.float32)
    p = CrossEntropy(x, np.array([1, 2, 1]))
    np.testing.assert_allclose(p.forward("none"), [6e4, 0, math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(p.backward([1, 1, 1], "none"), [[1, -1, 0], [0, 0, 0], [0, -0.5, 0.5]], atol=1e-7)
    p = CrossEntropy(x[:, :1], np.array([0, 0, 0]))
    np.testing.assert_array_equal(p.forward("none"), [0, 0, NAN])


@pytest.mark.parametrize("bad", [-1, 5, 2**40, -(2**40)])
def test_cross_entropy_of_a_class_that_is_not_there(bad):
    x, target, weight = problem((3, 5))
    target[:] = [0, bad, 4]
    p = CrossEntropy(x, target, weight)
    np.testing.assert_array_equal(np.isnan(p.forward("none")), [False, True, False])
    np.testing.assert_array_equal(np.isnan(p.backward([1, 1, 1], "none")).all(axis=1), [False, True, False])


def test_cross_entropy_depends_on_neither_threads_nor_batch():
    x, target, weight = problem((6, 19, 40, 41))
    p, q = (CrossEntropy(x, target, weight, label_smoothing=0.1) for _ in range(2))
    assert p.forward("mean", 1) == q.forward("mean", 2)
    np.testing.assert_array_equal(p.loss, q.loss)
    gx = p.backward(2, "mean", 1)
    np.testing.assert_array_equal(gx, q.backward(2, "mean", 2))
    one = CrossEntropy(x[2:3], target[2:3], weight, label_smoothing=0.1, planned=6)
    np.testing.assert_array_equal(one.forward("none"), p.loss.reshape(target.shape)[2:3])


def test_check_targets():
    target = wide(5, np.int64, [0, 3, -100, 2, 3])
    assert loss.check_targets(address(target), 5, 4, -100) == -1
    assert loss.check_targets(address(target), 5, 3, -100) == 1
    assert loss.check_targets(address(target), 5, 4, 7) == 2
    assert loss.check_targets(address(target), 2, 4, 7) == -1
    assert loss.check_targets(address(target), 0, 1, 0) == -1


# --- squared error -------------------------------------------------------------------------------------------------


class SquaredError:
    """Forward and backward of one problem in guarded, poisoned memory."""

    def __init__(self, x, target):
        self.shape, self.n, c = x.shape, x.shape[0], x.shape[1]
        self.x, self.target = pixels(x, c + 2), pixels(target, c + 1)
        self.loss, self.result, self.norm = blank(x.shape, c + 3), guarded(1), guarded(1)
        self.same = {"x": address(self.x), "target": address(self.target), "ldx": c + 2, "ldt": c + 1, **size(x.shape)}

    def forward(self, reduction, threads=2):
        part = wide(2 * loss.parts(count(self.shape), self.shape[1]), np.float64)
        run([loss.squared_error(part=address(part), loss=address(self.loss), ldl=self.shape[1] + 3, **self.same),
             loss.loss_sum(part=address(part), loss=address(self.result), norm=address(self.norm),
                           mean=reduction == "mean", **size(self.shape))], self.n, threads)
        return taken(self.loss, self.shape, self.shape[1] + 3) if reduction == "none" else self.result[0]

    def backward(self, gy, reduction, factor=2.0, threads=2):
        c = self.shape[1]
        g = pixels(gy, c + 4) if reduction == "none" else np.full(1, gy, np.float32)
        gx = blank(self.shape, c + 5)
        run([loss.squared_error_backward(gy=address(g), ldgy=c + 4 if reduction == "none" else 0, gx=address(gx),
                                         ldgx=c + 5, norm=0 if reduction == "none" else address(self.norm),
                                         factor=factor, **self.same)], self.n, threads)
        return taken(gx, self.shape, c + 5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_squared_error_of_integers_is_exact(shape, reduction):
    rng = np.random.default_rng(0)
    x, target = (ref.exact_integers(rng, shape, 3) for _ in range(2))
    p = SquaredError(x, target)
    y = p.forward(reduction)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = ((x - target).astype(np.float64) ** 2)
        expected = expected if reduction == "none" else \
            np.float32(expected.sum() / (x.size if reduction == "mean" else 1) if x.size else
                       NAN if reduction == "mean" else 0)
    np.testing.assert_array_equal(y, expected)
    gy = ref.exact_integers(rng, shape, 4) if reduction == "none" else np.float32(3)
    for factor in (2.0, -2.0):
        exact = factor / 2 * ref.mse_loss_backward(gy, x, target, reduction) if x.size else np.zeros(shape)
        gx = p.backward(gy, reduction, factor)
        if reduction == "mean":
            np.testing.assert_allclose(gx, exact, rtol=3e-7)
        else:
            np.testing.assert_array_equal(gx, exact)


def test_squared_error_does_not_depend_on_threads():
    x, target = np.random.default_rng(0).standard_normal((2, 5, 37, 41, 40)).astype(np.float32)
    p, q = SquaredError(x, target), SquaredError(x, target)
    assert p.forward("mean", 1) == q.forward("mean", 2)
    np.testing.assert_allclose(p.result[0], ref.mse_loss(x, target), rtol=3e-7)
    np.testing.assert_array_equal(p.backward(1, "mean", threads=1), q.backward(1, "mean", threads=2))
