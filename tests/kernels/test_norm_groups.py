"""Normalisation of groups of channels, channels-last, against float64, at whatever instruction set FASTCONV_ISA asks for."""

import numpy as np
import pytest
from fastconv.kernels._runtime import StepList

from fastconv.kernels import norm

from .guarded import gaps, guarded, images, pixels

EPS = 1e-5
# (shape, groups): one channel in all, groups of one channel, of all; more pixels than a chunk, an image of several ranges
# that do not divide it; groups of more channels than a tile of the merge, tiles of several groups that end with fewer
PROBLEMS = [((2, 1, 3), 1), ((3, 16, 5), 16), ((2, 33, 8, 8), 1), ((2, 48, 9, 7), 8), ((3, 12, 65), 4),
            ((2, 130, 40, 10), 2), ((1, 64, 61, 61), 32), ((2, 15, 61, 61), 5), ((2, 300, 5, 7), 3),
            ((2, 129, 3, 3), 129), ((2, 264, 19, 19), 88)]


def address(array):
    return 0 if array is None else array.ctypes.data


class Problem:
    """Buffers of one problem in guarded, poisoned memory, and its steps."""

    def __init__(self, x, groups, affine=True, extra=3):
        random = np.random.default_rng(1)
        self.x, self.n, self.c, self.groups = x, x.shape[0], x.shape[1], groups
        self.pixels, self.ld = int(np.prod(x.shape[2:])), x.shape[1] + extra
        self.per_part, self.parts = norm.cut(1, self.pixels, self.c)
        self.weights = [guarded(self.c) for _ in range(2 * affine)]
        for w in self.weights:
            w[...] = random.uniform(0.5, 2, self.c)
        planned = max(1, self.n)
        self.part = guarded((planned * norm.part_bytes(self.c, self.parts) // 4,))
        self.stats, self.coef = guarded((planned, norm.STATS_ROWS, self.c)), guarded((planned, 2, self.c))
        self.inputs = pixels(x, self.ld)
        self.size = {"channels": self.c, "pixels": self.pixels}
        self.ranges = {"per_part": self.per_part, "image_parts": self.parts}

    def run(self, steps, threads):
        steps = StepList(steps, max(1, self.n))
        steps.set_batch(self.n)
        steps.run(threads)

    def buffer(self):
        return guarded(max(0, self.n * self.pixels * self.ld - (self.ld - self.c)))

    def images(self, flat):
        assert np.isnan(gaps(flat, self.n * self.pixels, self.c, self.ld)).all()
        return images(flat, self.x.shape, self.ld)

    def forward(self, threads=2, **keywords):
        gamma, beta = self.weights or (None, None)
        y, part, stats = self.buffer(), address(self.part), address(self.stats)
        self.run([norm.statistics(address(self.inputs), part, ld=self.ld, **self.size, **self.ranges),
                  norm.group_merge(part, stats, groups=self.groups, eps=EPS, gamma=address(gamma), beta=address(beta),
                                   **self.size, **self.ranges),
                  norm.apply(address(self.inputs), stats, address(y), ldx=self.ld, ldy=self.ld, own=True, **self.size,
                             **keywords)], threads)
        return self.images(y)

    def backward(self, gy, threads=2, data=True, **act):
        g, gx, part, stats = pixels(gy, self.ld), self.buffer(), address(self.part), address(self.stats)
        ggamma, gbeta = guarded(self.c), guarded(self.c)
        gamma, coef = self.weights[0] if self.weights else None, self.coef if data else None
        steps = [norm.backward_sums(address(self.inputs), address(g), stats, part, ldx=self.ld, ldg=self.ld, **act,
                                    **self.size, **self.ranges),
                 norm.group_backward_merge(part, stats, groups=self.groups, gamma=address(gamma), coef=address(coef),
                                           **self.size, **self.ranges),
                 norm.group_backward_weight(part, channels=self.c, image_parts=self.parts, grad_gamma=address(ggamma),
                                            grad_beta=address(gbeta))]
        if data:
            steps.append(norm.backward_data(address(g), stats, address(gx), ldg=self.ld, ldgx=self.ld, training=True,
                                            x=address(self.inputs), ldx=self.ld, coef=address(coef), image_parts=self.parts,
                                            **act, **self.size))
        self.run(steps, threads)
        return self.images(gx) if data else None, ggamma.copy(), gbeta.copy()

    def truth(self, gy):
        """(y, gx, ggamma, gbeta) of the definition."""
        n, c, g = self.n, self.c, self.groups
        wide = self.x.astype(np.float64).reshape(n, g, -1)
        r = 1 / np.sqrt(wide.var(-1, keepdims=True) + EPS)
        normal = (wide - wide.mean(-1, keepdims=True)) * r
        gamma, beta = [w.astype(np.float64) for w in self.weights] or (np.ones(c), np.zeros(c))
        column = (1, c, *[1] * (self.x.ndim - 2))
        weighted = (gy * gamma.reshape(column)).reshape(n, g, -1)
        means = weighted.mean(-1, keepdims=True), (weighted * normal).mean(-1, keepdims=True)
        gx = r * (weighted - means[0] - normal * means[1])
        normal = normal.reshape(self.x.shape)
        others = (0, *range(2, self.x.ndim))
        return (normal * gamma.reshape(column) + beta.reshape(column), gx.reshape(self.x.shape), (gy * normal).sum(others),
                gy.sum(others, dtype=np.float64))


def normal(shape, seed=0, mean=0.5):
    return np.random.default_rng(seed).normal(mean, 2.0, shape).astype(np.float32)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape, groups", PROBLEMS)
def test_forward_and_backward(shape, groups, affine):
    problem, gy = Problem(normal(shape), groups, affine), normal(shape, 2, 0.25)
    y, gx, ggamma, gbeta = problem.truth(gy)
    got = problem.forward()
    np.testing.assert_allclose(got, y, atol=4e-6 * np.abs(y).max())
    found = problem.backward(gy)
    total = np.abs(gy).sum(axis=(0, *range(2, gy.ndim))).max()
    np.testing.assert_allclose(found[0], gx, atol=4e-6 * np.abs(problem.stats[:, 3]).max() * np.abs(gy).max())
    assert np.abs(found[1] - ggamma).max() < 4e-6 * total and np.abs(found[2] - gbeta).max() < 1e-6 * total
    np.testing.assert_array_equal(problem.forward(threads=1), got)
    for one, two in zip(problem.backward(gy, threads=1), found, strict=True):
        np.testing.assert_array_equal(one, two)
    problem.forward()
    np.testing.assert_array_equal(problem.backward(gy, data=False)[1], found[1])
    for i in range(shape[0]):  # alone as in the batch
        one = Problem(problem.x[i:i + 1], groups, affine)
        np.testing.assert_array_equal(one.forward(), got[i:i + 1])
        np.testing.assert_array_equal(one.backward(gy[i:i + 1])[0], found[0][i:i + 1])


@pytest.mark.parametrize("mean", [1e3, 1e6])
def test_no_cancellation_far_from_zero(mean):
    """Channels far from 0, and from one another by little."""
    x = (np.random.default_rng(2).integers(-8, 9, (2, 24, 50, 9)) / 4 + mean).astype(np.float32)
    problem, gy = Problem(x, 3), normal(x.shape, 3)
    y, gx, ggamma, _ = problem.truth(gy)
    np.testing.assert_allclose(problem.forward(), y, atol=1e-5)
    found = problem.backward(gy)
    np.testing.assert_allclose(found[0], gx, atol=1e-5 * np.abs(gx).max())
    np.testing.assert_allclose(found[1], ggamma, atol=1e-5 * np.abs(ggamma).max())


@pytest.mark.parametrize("act, low, high", [("relu", 0.0, 0.0), ("clip", -0.5, 0.75)])
def test_fused_activation_residual_and_gradient(act, low, high):
    shape, groups = (3, 40, 11, 13), 5
    problem, gy, other = Problem(normal(shape), groups), normal(shape, 4), normal(shape, 5)
    plain = problem.forward()
    between = np.clip(plain, low, high if act == "clip" else np.inf)
    activation = {"act": act, "act_a": low, "act_b": high}
    np.testing.assert_array_equal(problem.forward(**activation), between)
    residual = pixels(other, problem.ld)
    got = problem.forward(residual=address(residual), ldr=problem.ld)
    np.testing.assert_array_equal(got, plain + other)
    passed = np.where((plain > low) & ((plain < high) | (act == "relu")), gy, np.float32(0))
    want, found = problem.backward(passed), problem.backward(gy, **activation)
    for a, b in zip(found, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_empty_batch():
    problem = Problem(np.zeros((0, 20, 7), np.float32), 4)
    assert problem.forward().size == 0
    gx, ggamma, gbeta = problem.backward(problem.x)
    assert gx.size == 0 and not ggamma.any() and not gbeta.any()
