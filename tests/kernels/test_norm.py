"""Batch normalisation kernels against the float64 reference, at whatever instruction set FASTCONV_ISA asks for."""

import numpy as np
import pytest
import reference as ref
from fastconv.kernels._runtime import StepList

from fastconv.kernels import norm
from kernels.guarded import gaps, guarded, images, pixels

EPS = 1e-5
SHAPES = [
    (2, 1),  # one channel, two values
    (3, 5),
    (8, 16, 1),
    (7, 17, 3),
    (1, 64, 9, 7),  # 63 pixels: one less than a chunk
    (1, 65, 8, 8),
    (5, 33, 13),  # 65 pixels
    (2, 300, 5, 7),  # more channels than a tile
    (3, 4, 3, 5, 7),
    (2, 257, 40, 10),
    (9, 3, 61, 61),  # several ranges of pixels
    (2, 16400, 2),  # more channels than a tile of the normalisation has values
]


class Problem:
    """Buffers of one problem in guarded, poisoned memory, and the steps over them."""

    def __init__(self, x, seed=0, extra=3, affine=True, planned=None):
        rng = np.random.default_rng(seed)
        self.x, self.n, self.c = x, x.shape[0], x.shape[1]
        self.pixels, self.ld = int(np.prod(x.shape[2:])), self.c + extra
        self.planned = max(self.n, 1) if planned is None else planned
        self.per_part, self.parts = norm.cut(self.planned, self.pixels, self.c)
        self.gamma, self.beta = (guarded(self.c), guarded(self.c)) if affine else (None, None)
        if affine:
            self.gamma[...], self.beta[...] = rng.uniform(0.5, 2, (2, self.c))
        self.part = guarded(norm.part_bytes(self.c, self.parts) // 4)
        self.stats, self.coef = guarded((norm.STATS_ROWS, self.c)), guarded((2, self.c))
        self.inputs = pixels(x, self.ld)
        self.size = {"channels": self.c, "pixels": self.pixels}

    def run(self, steps, threads=2):
        steps = StepList(steps, self.planned)
        steps.set_batch(self.n)
        steps.run(threads)

    def buffer(self):
        return guarded(max(0, self.n * self.pixels * self.ld - (self.ld - self.c)))

    def statistics(self, **running):
        cut = {**self.size, "per_part": self.per_part}
        return [
            norm.statistics(address(self.inputs), address(self.part), ld=self.ld, **cut),
            norm.merge(address(self.part), address(self.stats), eps=EPS, gamma=address(self.gamma),
                       beta=address(self.beta), **running, **cut),
        ]

    def apply(self, y, **keywords):
        return norm.apply(address(self.inputs), address(self.stats), address(y), ldx=self.ld, ldy=self.ld, **self.size,
                          **keywords)

    def images(self, flat):
        assert np.isnan(gaps(flat, self.n * self.pixels, self.c, self.ld)).all()
        return images(flat, self.x.shape, self.ld)

    def forward(self, threads=2, running=None, **keywords):
        y = self.buffer()
        self.run([*self.statistics(**(running or {})), self.apply(y, **keywords)], threads)
        return self.images(y)

    def backward(self, gy, training=True, threads=2, in_place=False, **act):
        """(gx, ggamma, gbeta); the statistics are there already."""
        g = pixels(gy, self.ld)
        gx = g if in_place else self.buffer()
        ggamma, gbeta = guarded(self.c), guarded(self.c)
        self.run([
            norm.backward_sums(address(self.inputs), address(g), address(self.stats), address(self.part), ldx=self.ld,
                               ldg=self.ld, per_part=self.per_part, **act, **self.size),
            norm.backward_merge(address(self.part), address(self.stats), per_part=self.per_part, training=training,
                                coef=address(self.coef), grad_gamma=address(ggamma), grad_beta=address(gbeta),
                                **self.size),
            norm.backward_data(address(g), address(self.stats), address(gx), ldg=self.ld, ldgx=self.ld,
                               training=training, x=address(self.inputs), ldx=self.ld, coef=address(self.coef),
                               **act, **self.size),
        ], threads)
        return self.images(gx), ggamma.copy(), gbeta.copy()


def address(array):
    return 0 if array is None else array.ctypes.data


def normal(shape, seed=0, mean=0.5, deviation=2.0):
    return np.random.default_rng(seed).normal(mean, deviation, shape).astype(np.float32)


def close(a, b, bound):
    assert a.shape == np.shape(b)
    assert ref.rel_l2(a, b) < bound


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_training_forward_and_backward(shape, affine):
    problem = Problem(normal(shape), affine=affine)
    y = problem.forward()
    truth = ref.batch_norm(problem.x, None, None, problem.gamma, problem.beta, True, eps=EPS)
    close(y, truth.output, 1e-6)
    gy = normal(shape, 1, mean=0.25)
    gx, ggamma, gbeta = problem.backward(gy)
    expected = ref.batch_norm_backward(gy, problem.x, None, None, problem.gamma, True, eps=EPS)
    # With two values per channel gx cancels to nothing: its error is measured against the gradient that went in.
    scale = np.abs(problem.stats[3]).max()
    assert np.linalg.norm(gx - expected[0]) < 1e-6 * scale * np.linalg.norm(gy)
    total = np.abs(gy).sum(axis=(0, *range(2, gy.ndim))).max()
    assert np.abs(gbeta - expected[2]).max() < 1e-6 * total
    assert np.abs(ggamma - expected[1]).max() < 4e-6 * total


@pytest.mark.parametrize("mean", [1e3, 1e6, 1e-3])
def test_no_cancellation_far_from_zero(mean):
    """Deviations far below the mean keep their accuracy: a mean of squares would lose all of it at 1e6."""
    x = (np.random.default_rng(2).integers(-8, 9, (4, 19, 50, 9)) / 4 + mean).astype(np.float32)
    running_mean, running_var = guarded(19, 0), guarded(19, 1)
    problem = Problem(x)
    running = {"running_mean": address(running_mean), "running_var": address(running_var), "momentum": 0.25}
    y = problem.forward(running=running)
    truth = ref.batch_norm(x, np.zeros(19), np.ones(19), problem.gamma, problem.beta, True, 0.25, EPS)
    close(y, truth.output, 1e-6)
    np.testing.assert_allclose(running_mean, truth.running_mean, rtol=2e-7, atol=1e-7)  # deviations are about 1.2
    np.testing.assert_allclose(running_var, truth.running_var, rtol=2e-7)
    gy = normal(x.shape, 3)
    gx, ggamma, _ = problem.backward(gy)
    expected = ref.batch_norm_backward(gy, x, None, None, problem.gamma, True, eps=EPS)
    close(gx, expected[0], 2e-6)
    close(ggamma, expected[1], 2e-6)


def test_statistics_of_integers_are_exact():
    """Pairs of pixels that lie as far above the mean as below it: no float sum rounds, nor does a merge."""
    half = ref.exact_integers(np.random.default_rng(4), (4, 21, 32, 4, 1), 7)
    x = np.concatenate([half, -half], axis=-1) + np.float32(512)
    problem = Problem(x)
    running_mean, running_var = guarded(21, 7), guarded(21, 9)
    running = {"running_mean": address(running_mean), "running_var": address(running_var), "momentum": 1.0}
    problem.forward(running=running)
    np.testing.assert_array_equal(running_mean, np.full(21, 512, np.float32))
    expected = ((x.astype(np.float64) - 512) ** 2).sum(axis=(0, 2, 3, 4)) / (x.size // 21 - 1)
    np.testing.assert_array_equal(running_var, expected.astype(np.float32))
    np.testing.assert_array_equal(problem.stats[0], np.full(21, 512, np.float32))
    np.testing.assert_array_equal(problem.stats[1], np.zeros(21, np.float32))


def test_running_statistics_momentum_and_cumulative_average():
    running_mean, running_var, batches = guarded(5, 0), guarded(5, 1), np.zeros(1, np.int64)
    data = [normal((6, 5, 11), seed, mean=seed) for seed in range(4)]
    mean, var = np.zeros(5), np.ones(5)
    for i, x in enumerate(data):
        problem = Problem(x)
        running = {"running_mean": address(running_mean), "running_var": address(running_var),
                   "batches": address(batches), "momentum": None}
        problem.forward(running=running, batches=address(batches))
        _, mean, var = ref.batch_norm(x, mean, var, training=True, momentum=1 / (i + 1))
        assert batches[0] == i + 1
        np.testing.assert_allclose(running_mean, mean, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(running_var, var, rtol=1e-6)
    np.testing.assert_allclose(running_mean, np.mean([x.mean(axis=(0, 2)) for x in data], axis=0), rtol=1e-5)
    with pytest.raises(ValueError, match="num_batches_tracked"):
        norm.merge(1, 1, channels=1, pixels=1, per_part=64, eps=0.0, running_mean=1, running_var=1)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 1025, 3)])  # more channels than a tile of the fixed statistics
def test_fixed_statistics(shape, affine):
    problem = Problem(normal(shape), affine=affine)
    mean, var = guarded(shape[1]), guarded(shape[1])
    mean[...], var[...] = np.random.default_rng(5).uniform(0.5, 3, (2, shape[1]))
    y = problem.buffer()
    fixed = norm.fixed(address(mean), address(var), address(problem.stats), channels=problem.c, eps=EPS,
                       gamma=address(problem.gamma), beta=address(problem.beta))
    problem.run([fixed, problem.apply(y)])
    close(problem.images(y), ref.batch_norm(problem.x, mean, var, problem.gamma, problem.beta, eps=EPS).output, 5e-7)
    gy = normal(shape, 6)
    problem.coef[...] = np.nan  # fixed statistics read neither
    gx, ggamma, gbeta = problem.backward(gy, training=False)
    expected = ref.batch_norm_backward(gy, problem.x, mean, var, problem.gamma, eps=EPS)
    close(gx, expected[0], 5e-7)
    scale = np.abs(gy).sum(axis=(0, *range(2, gy.ndim))).max()
    assert np.abs(gbeta - expected[2]).max() < 1e-6 * scale
    assert np.abs(ggamma - expected[1]).max() < 4e-6 * scale


@pytest.mark.parametrize("shape", [(4, 35, 6, 6), (2, 3, 50), (3, 64, 7)])
def test_fused_residual(shape):
    problem, r = Problem(normal(shape)), normal(shape, 7)
    residual = pixels(r, problem.ld)
    y = problem.forward(residual=address(residual), ldr=problem.ld, act="relu")
    truth = ref.batch_norm(problem.x, None, None, problem.gamma, problem.beta, True, eps=EPS).output + r
    close(y, np.maximum(truth, 0), 1e-6)


@pytest.mark.parametrize("act", [{"act": "relu"}, {"act": "clip", "act_a": -0.5, "act_b": 1.0}])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_backward_through_an_activation(shape, training, act):
    """The bits of a backward whose gradient was zeroed by the activation's own output, which it does not read."""
    x, gy = normal(shape), normal(shape, 8)
    if x.size > 50:
        x.flat[0] = np.nan
    problem = Problem(x)
    problem.beta[...] = 0
    y = problem.forward(**act)
    inside = ~(y <= 0) if act["act"] == "relu" else (y > -0.5) & (y < 1.0)
    assert x.size < 50 or inside.any() and not inside.all()
    zeroed = problem.backward(np.where(inside, gy, np.float32(0)), training)
    for got, want in zip(problem.backward(gy, training, **act), zeroed, strict=True):
        np.testing.assert_array_equal(got, want)


def test_what_the_backward_cannot_go_through():
    with pytest.raises(ValueError, match="leaky_relu"):
        norm.backward_sums(1, 1, 1, 1, channels=1, pixels=1, ldx=1, ldg=1, per_part=64, act="leaky_relu")


def test_outputs_larger_than_the_caches():
    """They are written past them, which changes nothing; what is written in place is not."""
    shape = (1, 64, 264, 259)
    x, gy = normal(shape), normal(shape, 9)
    problem = Problem(x, extra=0)
    assert x.nbytes > 16 << 20
    y, backward = problem.forward(act="relu"), problem.backward(gy, act="relu")
    for got, want in zip(problem.backward(gy, act="relu", in_place=True), backward, strict=True):
        np.testing.assert_array_equal(got, want)
    problem.run([problem.apply(problem.inputs, act="relu")])
    np.testing.assert_array_equal(problem.images(problem.inputs), y)


@pytest.mark.parametrize("act, keywords", [("relu", {}), ("clip", {"act_a": -0.5, "act_b": 1.0}),
                                           ("leaky_relu", {"act_a": 0.1})])
def test_activations(act, keywords):
    problem = Problem(normal((3, 21, 10)))
    plain, y = problem.forward(), problem.forward(act=act, **keywords)
    a, b = np.float32(keywords.get("act_a", 0)), np.float32(keywords.get("act_b", 0))
    expected = {"relu": np.maximum(plain, 0), "clip": np.clip(plain, a, b),
                "leaky_relu": np.where(plain < 0, plain * a, plain)}
    np.testing.assert_array_equal(y, expected[act])


def test_in_place():
    problem = Problem(normal((3, 21, 10)))
    expected = problem.forward()
    problem.run([problem.apply(problem.inputs)])
    np.testing.assert_array_equal(problem.images(problem.inputs), expected)


@pytest.mark.parametrize("shape", [(9, 3, 61, 61), (2, 300, 5, 7), (4, 64, 30, 30)])
def test_bits_do_not_depend_on_threads(shape):
    gy = normal(shape, 9)
    results = []
    for threads in (1, 2, 3):
        problem = Problem(normal(shape))
        y = problem.forward(threads)
        results.append([y, problem.stats.copy(), *problem.backward(gy, threads=threads)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_image_does_not_depend_on_its_batch_with_fixed_statistics():
    x, alone = normal((5, 19, 9, 9)), None
    stats = normal((norm.STATS_ROWS, 19), 10)
    for batch in (x, x[3:4], x[2:5]):
        problem = Problem(batch)
        problem.stats[...] = stats
        y = problem.buffer()
        problem.run([problem.apply(y)])
        image = problem.images(y)[{5: 3, 1: 0, 3: 1}[len(batch)]]
        alone = image if alone is None else alone
        np.testing.assert_array_equal(image, alone)


def test_smaller_batch_replays_the_plan():
    x = normal((3, 6, 70, 70))
    problem = Problem(x, planned=16)
    y = problem.forward()
    close(y, ref.batch_norm(x, None, None, problem.gamma, problem.beta, True, eps=EPS).output, 1e-6)


def test_empty_batch():
    x = np.zeros((0, 7, 4, 4), np.float32)
    problem = Problem(x, planned=4)
    running_mean, running_var, batches = guarded(7, 3), guarded(7, 4), np.array([5])
    problem.forward(running={"running_mean": address(running_mean), "running_var": address(running_var),
                             "momentum": 0.5}, batches=address(batches))
    np.testing.assert_array_equal(running_mean, np.full(7, 3, np.float32))
    np.testing.assert_array_equal(running_var, np.full(7, 4, np.float32))
    assert batches[0] == 5
    _, ggamma, gbeta = problem.backward(x)
    np.testing.assert_array_equal(ggamma, np.zeros(7))
    np.testing.assert_array_equal(gbeta, np.zeros(7))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_values_stay_in_their_channel(value):
    x = normal((4, 20, 9))
    x[2, 5, 3] = value
    y = Problem(x).forward(act="relu")
    assert np.isnan(y[:, 5]).all()
    assert np.isfinite(np.delete(y, 5, axis=1)).all()
