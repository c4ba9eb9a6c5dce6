"""Many steps as one: the tiles of all of them, whatever range a thread is given, at any batch."""

import numpy as np
import pytest
import reference as ref
from fastconv.kernels._runtime import StepList
from fastconv.kernels.many import each, many

from fastconv.kernels import conv, elementwise

from .guarded import guarded


def scale(x, y, factor):
    return elementwise.unary("f32_scale", x=x.ctypes.data, y=y.ctypes.data, channels=x.shape[1], pixels=1, ldx=x.shape[1],
                             ldy=x.shape[1], a=factor, b=0.0)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("batch", [0, 1, 3, 700])
def test_every_step_runs_once(batch, threads):
    """Steps without tiles, with one and with many, in any order."""
    rng = np.random.default_rng(0)
    widths = [3, 4000, 1, 70, 16384, 2, 40000, 5] if batch < 10 else [3, 1, 70, 2, 300]
    xs = [ref.exact_integers(rng, (max(1, batch), width), 9) for width in widths]
    ys = [guarded(x.shape) for x in xs]
    step = many([scale(x, y, i + 2.0) for i, (x, y) in enumerate(zip(xs, ys, strict=True))])
    assert step.kernel == "f32_scale"
    steps = StepList([step], max(1, batch))
    for _ in range(2):
        for n in {batch, batch // 2}:
            for y in ys:
                y[...] = np.nan
            steps.set_batch(n)
            steps.run(threads)
            for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
                np.testing.assert_array_equal(y[:n], x[:n] * (i + 2))
                assert np.isnan(y[n:]).all()


def test_one_step_stays_itself():
    x, y = np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32)
    step = scale(x, y, 3.0)
    assert many([step]) is step


def test_scratch_is_the_most_that_one_of_them_wants():
    part = [conv.sum_partials(part=0, out=0, parts=1, part_stride=1, count=1), scale(np.ones((1, 4), np.float32),
                                                                                      np.ones((1, 4), np.float32), 1.0)]
    for step in part:
        step.tiles(1)
    whole = many(part)
    whole.tiles(1)
    assert whole.scratch() == max(step.scratch() for step in part)


def test_each_moves_an_address():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    y = np.zeros((3, 4), np.float32)

    def factory(name, problem, *, x, y):
        return elementwise.unary(name, x=x, y=y, channels=4, pixels=1, ldx=4, ldy=4, fixed_n=1, **problem)

    step = each(factory, [{"a": 1.0, "b": 0.0}, {"a": 10.0, "b": 1.0}], "y", [32, 0], "f32_scale", x=x.ctypes.data,
                y=y.ctypes.data)
    StepList([step], 1).run(2)
    np.testing.assert_array_equal(y, [10 * x[0] + 1, np.zeros(4), x[0]])
