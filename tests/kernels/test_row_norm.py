"""Normalisation of rows against its definition in float64, at whatever instruction set FASTCONV_ISA asks for."""

import numpy as np
import pytest
from fastconv.kernels._runtime import StepList

from fastconv.kernels import norm
from kernels.guarded import gaps, guarded

EPS = 1e-5
# (rows, values): one vector and its tails, four vectors and theirs, of several tiles; several ranges and groups of rows
SHAPES = [(1, 2), (5, 3), (7, 4), (3, 7), (4, 8), (9, 10), (2, 15), (33, 16), (2, 17), (3, 31), (5, 33), (2, 63), (31, 64),
          (65, 65), (3, 100), (70, 300), (130, 768), (33, 769), (20, 4097), (2, norm.LONGEST_ROW), (0, 12), (4000, 10)]


def matrix(values, ld):
    """These rows `ld` floats apart, NaN in between, the last value the last float."""
    rows, count = values if isinstance(values, tuple) else values.shape
    flat = guarded(max(0, rows * ld - (ld - count)))
    view = np.lib.stride_tricks.as_strided(flat, (rows, count), (4 * ld, 4))
    if not isinstance(values, tuple):
        view[...] = values
    return flat, view


def address(array):
    return 0 if array is None else array.ctypes.data


def run_steps(steps, threads):
    steps = StepList(steps, 1)
    steps.set_batch(1)
    steps.run(threads)


def vector(values):
    made = guarded(values.shape)
    made[...] = values
    return made


class Problem:
    """x and gy in guarded memory; what the kernels make of them."""

    def __init__(self, x, gy=None, weight=True, bias=True, centred=True, extra=3, seed=0):
        rng = np.random.default_rng(seed)
        self.x, self.gy, self.extra, self.centred = x, gy, extra, centred
        (self.rows, self.count), self.ld = x.shape, x.shape[1] + extra
        self.weight = vector(rng.uniform(0.5, 2, self.count)) if weight else None
        self.bias = vector(rng.uniform(-2, 2, self.count)) if bias else None
        self.source = matrix(x, self.ld)[0]

    def forward(self, threads=2):
        """(y, mean, 1 / deviation)"""
        flat, y = matrix((self.rows, self.count), self.ld)
        mean, rstd = guarded(self.rows) if self.centred else None, guarded(self.rows)
        step = norm.rows(self.source.ctypes.data, flat.ctypes.data, rstd.ctypes.data, rows=self.rows, channels=self.count,
                         ldx=self.ld, ldy=self.ld, eps=EPS, mean=address(mean), weight=address(self.weight),
                         bias=address(self.bias))
        run_steps([step], threads)
        assert np.isnan(gaps(flat, self.rows, self.count, self.ld)).all()
        self.mean, self.rstd = mean, rstd
        return y.copy(), None if mean is None else mean.copy(), rstd.copy()

    def backward(self, threads=2, data=True, sums=True, planned=None):
        """(gx, gweight, gbias)"""
        grad = matrix(self.gy, self.ld)[0]
        flat, gx = matrix((self.rows, self.count), self.ld) if data else (None, None)
        per_part, parts = norm.cut_rows(planned or self.rows, self.count)
        part = guarded((parts, 2, self.count)) if sums else None
        gw, gb = (guarded(self.count), guarded(self.count)) if sums else (None, None)
        size = {"rows": self.rows, "channels": self.count, "per_part": per_part}
        steps = [norm.rows_backward(grad.ctypes.data, self.source.ctypes.data, self.rstd.ctypes.data, gx=address(flat),
                                    ldg=self.ld, ldx=self.ld, ldgx=self.ld, mean=address(self.mean),
                                    weight=address(self.weight), part=address(part), **size)]
        if sums:
            steps.append(norm.rows_merge(part.ctypes.data, grad_weight=gw.ctypes.data, grad_bias=gb.ctypes.data, **size))
        run_steps(steps, threads)
        if data:
            assert np.isnan(gaps(flat, self.rows, self.count, self.ld)).all()
        return [None if t is None else t.copy() for t in (gx, gw, gb)]


def truth(p):
    """The definition, in float64: y, mean, r, gx, gweight, gbias."""
    x = p.x.astype(np.float64)
    mean = x.mean(1, keepdims=True) if p.centred else 0.0
    r = 1 / np.sqrt(((x - mean) ** 2).mean(1, keepdims=True) + EPS)
    normal = (x - mean) * r
    weight, bias = (d if v is None else v.astype(np.float64) for v, d in ((p.weight, 1.0), (p.bias, 0.0)))
    y = normal * weight + bias
    if p.gy is None:
        return y, mean, r
    gy = p.gy.astype(np.float64)
    g = gy * weight
    gx = r * (g - (g.mean(1, keepdims=True) if p.centred else 0.0) - normal * (g * normal).mean(1, keepdims=True))
    return y, mean, r, gx, (gy * normal).sum(0), gy.sum(0)


def close(got, want, bound, of=None):
    want = np.asarray(want)
    assert got.shape == want.shape
    assert np.abs(got - want).max(initial=0) <= bound * np.abs(want if of is None else of).max(initial=0)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("weight, bias, extra", [(True, True, 3), (False, True, 0), (True, False, 0), (False, False, 5)])
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward(shape, weight, bias, extra, centred):
    rng = np.random.default_rng(shape[1])
    x, gy = (rng.normal(0.5, s, shape).astype(np.float32) for s in (2.0, 1.0))
    p = Problem(x, gy, weight, bias, centred, extra)
    y, mean, r = p.forward()
    want = truth(p)
    close(y, want[0], 2e-6)
    close(r, want[2][:, 0], 1e-6)
    if centred:
        np.testing.assert_allclose(mean, want[1][:, 0], rtol=0, atol=2e-7 * np.abs(x).max(initial=0))
    gx, gw, gb = p.backward()
    close(gx, want[3], 2e-6, np.abs(gy).max(initial=0) * want[2])
    close(gw, want[4], 2e-6, np.abs(gy).sum(0) * np.abs(want[0]).max(initial=1))
    close(gb, want[5], 1e-6, np.abs(gy).sum(0))
    for a, b in zip((*p.forward(1), *p.backward(1)), (y, mean, r, gx, gw, gb), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(p.backward(sums=False)[0], gx)
    for a, b in zip(p.backward(data=False)[1:], (gw, gb), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rows, weights, run, cycle", [(6, 4, 49, 3), (8, 1, 30, 4), (5, 3, 1, 5), (2, 17, 16, 1),
                                                       (4, 2, 65, 2), (3, 5, 300, 1), (8, 8, 2, 8)])
def test_weights_of_runs(rows, weights, run, cycle):
    """Groups of channels that lie behind one another: a weight for each run of pixels, anew after `cycle` rows."""
    rng, count = np.random.default_rng(6), weights * run
    x = rng.normal(0.5, 2, (rows, count)).astype(np.float32)
    weight, bias = (vector(rng.uniform(0.5, 2, weights * cycle)) for _ in range(2))
    want, _, r = truth(Problem(x, weight=False, bias=False))
    of = np.arange(rows) % cycle
    for w, b in ((weight, bias), (None, bias), (weight, None), (None, None)):
        full = want.reshape(rows, weights, run)
        full = full * (1 if w is None else w.astype(np.float64).reshape(cycle, weights, 1)[of])
        full = full + (0 if b is None else b.astype(np.float64).reshape(cycle, weights, 1)[of])
        found = []
        for threads in (1, 2):
            p = Problem(x)
            flat, y = matrix((rows, count), p.ld)
            mean, rstd = guarded(rows), guarded(rows)
            step = norm.rows(p.source.ctypes.data, flat.ctypes.data, rstd.ctypes.data, rows=rows, channels=count, ldx=p.ld,
                             ldy=p.ld, eps=EPS, mean=mean.ctypes.data, weight=address(w), bias=address(b), run=run,
                             cycle=cycle)
            run_steps([step], threads)
            assert np.isnan(gaps(flat, rows, count, p.ld)).all()
            found.append(y.copy())
        close(found[0], full.reshape(rows, count), 2e-6)
        np.testing.assert_array_equal(found[0], found[1])
        close(rstd, r[:, 0], 1e-6)


@pytest.mark.parametrize("offset", [1e3, -1e6, 1e-3])
@pytest.mark.parametrize("count", [10, 300, 4097])
def test_data_far_from_zero_keeps_its_digits(count, offset):
    x = (np.random.default_rng(1).integers(-8, 9, (20, count)) / 4 + offset).astype(np.float32)
    p = Problem(x)
    want = truth(p)
    y, mean, r = p.forward()
    close(r, want[2][:, 0], 1e-6)
    close(y, want[0], 2e-6 + 2.0**-24 * abs(offset) * want[2].max() / 16)
    np.testing.assert_allclose(mean, want[1][:, 0], rtol=1.2e-7, atol=1e-7)


def test_equal_values_and_what_is_no_number():
    x = np.full((5, 100), np.float32(0.1))
    x[1, 3], x[2, 99] = np.nan, np.inf
    y, _, r = Problem(x, bias=False, weight=False).forward()
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(np.isnan(y), np.isnan(truth(Problem(x))[0]))
    assert np.abs(y[[0, 3, 4]]).max() < 1e-4 and np.abs(r[[0, 3, 4]] * np.sqrt(EPS) - 1).max() < 1e-5


@pytest.mark.parametrize("shape", [(6, 10), (40, 300)])
def test_a_row_does_not_depend_on_the_others(shape):
    x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    gy = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    whole = Problem(x, gy)
    y = whole.forward()[0]
    gx, gw, _ = whole.backward()
    for i in range(0, shape[0], 7):
        p = Problem(x[i : i + 1], gy[i : i + 1])
        np.testing.assert_array_equal(p.forward()[0], y[i : i + 1])
        np.testing.assert_array_equal(p.backward(planned=shape[0])[0], gx[i : i + 1])


def test_sums_of_integers_are_exact_in_every_range():
    """r is 1 where eps is what is missing to it; of 200 rows each range, each group and each end counts once."""
    rows, count = 200, 768
    x = np.tile(np.array([1, -1], np.float32), (rows, count // 2))
    gy = np.random.default_rng(5).integers(-8, 9, (rows, count)).astype(np.float32)
    p = Problem(x, gy, weight=False, bias=False)
    p.forward()
    p.rstd[...] = 1
    _, gw, gb = p.backward()
    np.testing.assert_array_equal(gw, (gy * x).sum(0))
    np.testing.assert_array_equal(gb, gy.sum(0))
    assert norm.cut_rows(rows, count)[1] > 1
