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


SCALARS = ("k", "j", "one", "none")
K, J = 0.75, 1.5
PROGRAM_CASES = {  # instruction: (operands and scalars behind the target, what it gives for x, y and what was there)
    "gradient": (("g",), lambda x, y, z: x * np.float32(-0.5)),
    "scale": (("g", "k"), lambda x, y, z: K * x),
    "axpy": (("g", "b", "k"), lambda x, y, z: x + K * y),
    "lerp": (("g", "b", "k"), lambda x, y, z: x + K * (y - x)),
    "mul": (("g", "b"), lambda x, y, z: x * y),
    "div": (("g", "b"), lambda x, y, z: x / y),
    "addcmul": (("g", "b", "k", "j"), lambda x, y, z: J * z + K * x * y),
    "addcdiv": (("g", "b", "k"), lambda x, y, z: z + K * x / y),
    "root": (("b", "k", "j"), lambda x, y, z: np.sqrt(y) / J + K),
    "shift": (("g", "k"), lambda x, y, z: x + K),
    "max": (("g", "b"), lambda x, y, z: np.maximum(x, y)),
    "abs": (("g",), lambda x, y, z: np.abs(x)),
    "sign": (("g",), lambda x, y, z: np.sign(x)),
    "choose": (("g", "k", "j"), lambda x, y, z: np.where(np.isnan(x), x, np.where(x > 0, K, np.where(x < 0, J, 1.0)))),
    "clamp": (("g", "k", "j"), lambda x, y, z: np.where(np.isnan(x), x, np.clip(x, K, J))),
    "keep": (("g", "b"), lambda x, y, z: np.where(x < 0, 0.0, y)),
    "fill": (("k",), lambda x, y, z: np.full_like(x, K)),
}


def test_every_instruction_has_a_case():
    assert set(PROGRAM_CASES) == set(update.INSTRUCTIONS)


@pytest.mark.parametrize("name", PROGRAM_CASES)
def test_instructions(name):
    """Onto the parameter, onto a buffer, and by way of a temporary; NaN and zeros among the values; any number of
    threads.
    """
    operands, truth = PROGRAM_CASES[name]
    hyper = update.Hyper(k=(K, J, 1.0, 0.0), grad_scale=0.5, sign=-1.0)
    counts = [*COUNTS, 511, 512, 513]
    for target, program in (("p", ((name, "p", *operands),)), ("b", ((name, "b", *operands),)),
                            ("p", (("scale", "t", "p", "one"), (name, "t", *operands), ("scale", "p", "t", "one")))):
        results = []
        for threads in (1, 3):
            arrays = parameters(counts, 1)
            for _, g, b in arrays:
                b[...] = np.abs(values(b.size, 7)) + 0.1
                if g.size > 8:
                    g[3], g[5], g[6] = np.nan, 0.0, -0.0
                    b[7] = np.nan if name == "max" else b[7]
            before = [[a.astype(np.float64) for a in row] for row in arrays]
            rows = [(address(p), address(g), (address(b),), p.size, hyper) for p, g, b in arrays]
            run(update.update(rows, program, ("b",), SCALARS), threads=threads)
            for (p, g, b), (p0, g0, b0) in zip(arrays, before, strict=True):
                close(p if target == "p" else b, truth(g0, b0, p0 if target == "p" else b0))
                np.testing.assert_array_equal(g, g0)
                np.testing.assert_array_equal(b if target == "p" else p, b0 if target == "p" else p0)
            results.append(np.concatenate([np.concatenate((p, b)) for p, _, b in arrays]))
        np.testing.assert_array_equal(*results)


def test_when_and_unless():
    for first in (0, 1):
        hyper = update.Hyper(k=(K, J, 1.0, 0.0), first=first)
        (p, g, b), = parameters([1000], 1)
        before = p.copy()
        inner = (("unless", "none", (("shift", "b", "b", "one"),)), ("when", "none", (("fill", "b", "k"),)))
        program = (("when", "first", (*inner, ("shift", "p", "p", "one"))), ("unless", "first", (("shift", "p", "p", "k"),)),
                   ("shift", "p", "p", "j"))
        run(update.update([(address(p), address(g), (address(b),), 1000, hyper)], program, ("b",), SCALARS))
        close(p, before + (1.0 if first else K) + J)
        np.testing.assert_array_equal(b, float(first))


def test_every_buffer_and_temporary():
    (p, g, *s), = parameters([700], 4)
    for i, buffer in enumerate(s):
        buffer[...] = i + 1
    program = (("axpy", "t", "s0", "s1", "one"), ("axpy", "u", "t", "s2", "one"), ("axpy", "v", "u", "s3", "one"),
               ("axpy", "p", "v", "t", "one"), ("scale", "s3", "u", "one"))
    rows = [(address(p), address(g), tuple(map(address, s)), 700, update.Hyper(k=(K, J, 1.0, 0.0)))]
    run(update.update(rows, program, ("s0", "s1", "s2", "s3"), SCALARS))
    np.testing.assert_array_equal(p, 13)
    np.testing.assert_array_equal(s[3], 6)


@pytest.mark.parametrize("scaled", [False, True])
def test_norm_ratio(scaled):
    """Of each item by itself; of zeros it is 1."""
    hypers = [update.Hyper(k=(0.5, 0.1, 1e-3, 0.0), grad_scale=-0.25) for _ in COUNTS]
    arrays = parameters()
    arrays[1][0][...] = 0
    arrays[2][1][...] = 0
    rows = [(address(p), address(g), p.size, h) for (p, g), h in zip(arrays, hypers, strict=True)]
    for threads in (1, 3):
        run(*update.norm_ratio(rows, factor="k", decay="j", eps="one", scaled=scaled, scalars=SCALARS), threads=threads)
        for (p, g), hyper in zip(arrays, hypers, strict=True):
            w, u = (np.sqrt((a.astype(float) ** 2).sum()) for a in (p, g))
            u *= 0.25 if scaled else 1.0
            expected = 0.5 * w / (u + 0.1 * w + 1e-3) if w and u else 1.0
            assert hyper.ratio == pytest.approx(expected, rel=1e-12)


def test_norm_ratio_of_all_together():
    hypers = [update.Hyper(k=(0.5, 0.1, 1e-3, 0.0)) for _ in COUNTS]
    arrays = parameters()
    rows = [(address(p), address(g), p.size, h) for (p, g), h in zip(arrays, hypers, strict=True)]
    run(*update.norm_ratio(rows, factor="k", decay="none", eps="one", scalars=SCALARS, together=True))
    norm = np.sqrt(sum((g.astype(float) ** 2).sum() for _, g in arrays))
    assert [h.ratio for h, n in zip(hypers, COUNTS, strict=True) if n] == [pytest.approx(0.5 / (norm + 1e-3))] * 8
    run(*update.norm_ratio([], factor="k", decay="none", eps="one", scalars=SCALARS, together=True))


def test_wrong_programs():
    for program, error, message in (((("scale", "p", "g"),), ValueError, "scale"),
                                    ((("scale", "p", "q", "k"),), KeyError, "q"), ((("cube", "p", "g"),), KeyError, "cube")):
        with pytest.raises(error, match=message):
            update.update([], program, ("b",), SCALARS)
    with pytest.raises(ValueError, match="at most 4 buffers and 16 scalars"):
        update.update([], (), "abcde", SCALARS)
