"""Update rules, clipping and accumulation against the float64 reference, at the instruction set of FASTCONV_ISA."""

import numpy as np
import pytest
import reference as ref
from fastconv.kernels._runtime import StepList

from fastconv.kernels import update
from fastconv.optim.rules import SGD, Adam, AdamW
from kernels.guarded import guarded

COUNTS = [1, 3, 16, 17, 8191, 8192, 8193, 20001, 0]  # a tile has 8192 values


def run(*steps, threads=2):
    StepList(list(steps), 1).run(threads)


def address(array):
    return array.ctypes.data


def values(count, seed):
    array = guarded(count)
    array[...] = np.random.default_rng(seed).standard_normal(count)
    return array


def parameters(counts=COUNTS, states=0):
    """[p, g, *states] per count; the states are zeros."""
    return [[values(n, 2 * i), values(n, 2 * i + 1), *(guarded(n, 0) for _ in range(states))]
            for i, n in enumerate(counts)]


def items(arrays, hyper):
    return [(*map(address, row), row[0].size, hyper) for row in arrays]


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("keywords", [
    {}, {"weight_decay": 0.1}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05},
    {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
])
def test_sgd(keywords):
    rule, hyper = SGD(lr=0.3, **keywords), update.Hyper()
    arrays = parameters(states=1)
    if not rule.momentum:
        step = update.sgd([(address(p), address(g), 0, p.size, hyper) for p, g, _ in arrays])
    else:
        step = update.sgd(items(arrays, hyper))
    expected = [(p.astype(float), None) for p, _, _ in arrays]
    for number in range(1, 4):
        rule.lr = 0.3 / number  # a schedule: no step is built again
        hyper.set(**rule.hyper(number))
        run(step)
        expected = [ref.sgd_step(p, g, b, rule.lr, **keywords)
                    for (p, b), (_, g, _) in zip(expected, arrays, strict=True)]
        for (p, _, b), (p_true, b_true) in zip(arrays, expected, strict=True):
            close(p, p_true)
            if rule.momentum:
                close(b, b_true)
            else:
                assert not b.any()


def test_first_step_sets_the_momentum_buffer():
    hyper = update.Hyper(lr=0.5, momentum=0.9, dampening=0.25, first=1)
    (p, g, b), = parameters([21], states=1)
    b[...] = np.nan
    before = p.copy()
    run(update.sgd([(address(p), address(g), address(b), 21, hyper)]))
    np.testing.assert_array_equal(b, g)
    close(p, before - 0.5 * g)


@pytest.mark.parametrize("rule", [Adam(lr=0.02), Adam(lr=0.02, betas=(0.5, 0.75), eps=1e-3, weight_decay=0.1),
                                  AdamW(lr=0.02), AdamW(lr=0.02, betas=(0.5, 0.75), weight_decay=0.3)])
def test_adam(rule):
    hyper = update.Hyper()
    arrays = parameters(states=2)
    step = getattr(update, rule.name)(items(arrays, hyper))
    reference = {"adam": ref.adam_step, "adamw": ref.adamw_step}[rule.name]
    expected = [(p.astype(float), m, v) for p, _, m, v in arrays]
    expected = [tuple(np.array(a) for a in row) for row in expected]
    for number in range(1, 5):
        hyper.set(**rule.hyper(number))
        run(step)
        expected = [reference(p, row[1], m, v, number, rule.lr, rule.betas, rule.eps, rule.weight_decay)
                    for (p, m, v), row in zip(expected, arrays, strict=True)]
        for (p, _, m, v), (p_true, m_true, v_true) in zip(arrays, expected, strict=True):
            close(p, p_true)
            close(m, m_true)
            close(v, v_true)


@pytest.mark.parametrize("rule", [SGD(lr=0.1, momentum=0.9), Adam(lr=0.1), AdamW(lr=0.1)])
def test_grad_scale_and_threads(rule):
    """A scaled gradient is the same as a gradient that was scaled; any number of threads gives the same bits."""
    results = []
    for threads, scale in ((1, 1.0), (1, 0.25), (2, 0.25), (3, 0.25)):
        hyper = update.Hyper(**rule.hyper(1), grad_scale=scale)
        arrays = parameters(states=len(rule.state_names))
        for row in arrays:
            row[1] *= 0.25 / scale  # by a power of two: exact
        run(getattr(update, rule.name)(items(arrays, hyper)), threads=threads)
        results.append(np.concatenate([a for row in arrays for a in (row[0], *row[2:])]))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_groups_have_hyper_parameters_of_their_own():
    slow, fast = update.Hyper(lr=0.5), update.Hyper(lr=2.0)
    a, b = parameters([9000, 5])
    before = a[0].copy(), b[0].copy()
    run(update.sgd([(address(a[0]), address(a[1]), 0, 9000, slow), (address(b[0]), address(b[1]), 0, 5, fast)]))
    close(a[0], before[0] - 0.5 * a[1])
    close(b[0], before[1] - 2.0 * b[1])


def test_clip_norm():
    hypers = update.Hyper(max_norm=5.0), update.Hyper()
    arrays = parameters()
    steps = update.clip_norm([(address(g), g.size) for _, g in arrays], hypers)
    norm = np.sqrt(sum((g.astype(float) ** 2).sum() for _, g in arrays))
    before = [g.copy() for _, g in arrays]
    run(*steps)
    for hyper in hypers:
        assert hyper.total_norm == pytest.approx(norm, rel=1e-12)
        assert hyper.grad_scale == pytest.approx(5.0 / (norm + 1e-6), rel=1e-12)
    hypers[0].max_norm = 1e6
    run(*steps)
    assert [hyper.grad_scale for hyper in hypers] == [1.0, 1.0]
    for (_, g), old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(g, old)  # the update scales, not the clipping
    arrays[4][1][77] = np.nan
    run(*steps)
    assert np.isnan(hypers[1].grad_scale) and np.isnan(hypers[1].total_norm)


def test_norm_is_exact_for_integers_and_the_same_for_any_threads():
    gradients = [np.random.default_rng(i).integers(-999, 999, n).astype(np.float32) for i, n in enumerate(COUNTS)]
    found = []
    for threads in (1, 2, 3):
        hyper = update.Hyper(max_norm=1.0)
        run(*update.clip_norm([(address(g), g.size) for g in gradients], [hyper]), threads=threads)
        found.append(hyper.total_norm)
    assert found == [np.sqrt(sum(int((g.astype(np.int64) ** 2).sum()) for g in gradients))] * 3


def test_norm_of_huge_gradients_is_finite():
    g, hyper = np.full(100, 1e30, np.float32), update.Hyper(max_norm=1.0)
    run(*update.clip_norm([(address(g), 100)], [hyper]))
    assert hyper.total_norm == pytest.approx(float(np.float32(1e30)) * 10, rel=1e-12)


def test_clip_value():
    hyper = update.Hyper(clip_value=0.5)
    arrays = parameters()
    arrays[3][1][:3] = np.nan, np.inf, -np.inf
    expected = [np.clip(g, -0.5, 0.5) for _, g in arrays]
    run(update.clip_value([(address(g), g.size, hyper) for _, g in arrays]))
    for (_, g), want in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(g, want)


def test_accumulate():
    hyper = update.Hyper(first=1, grad_scale=0.5)
    gradients = [values(n, n) for n in COUNTS]
    sums = [guarded(n) for n in COUNTS]
    step = update.accumulate([(address(s), address(g), g.size, hyper) for s, g in zip(sums, gradients, strict=True)])
    run(step)
    for s, g in zip(sums, gradients, strict=True):
        np.testing.assert_array_equal(s, g * np.float32(0.5))
    hyper.set(first=0, grad_scale=0.25)
    run(step)
    for s, g in zip(sums, gradients, strict=True):
        np.testing.assert_allclose(s, g.astype(float) * 0.75, rtol=1e-7)


def test_nothing_to_update():
    hyper = update.Hyper(max_norm=1.0)
    run(update.sgd([]), update.adam([]), *update.clip_norm([], [hyper]))
    assert hyper.total_norm == 0.0 and hyper.grad_scale == 1.0


def test_hyper():
    hyper = update.Hyper(lr=0.125)
    assert (hyper.lr, hyper.grad_scale, hyper.momentum, hyper.first) == (0.125, 1.0, 0.0, 0.0)
    with pytest.raises(AttributeError):
        hyper.set(learning_rate=1.0)
    with pytest.raises(TypeError):
        update.Hyper(lr="fast")
    with pytest.raises((TypeError, AttributeError)):
        update.sgd([(0, 0, 0, 1, 0.5)])
