"""Sampling at coordinates and regions of interest, against definitions in float64; gradients against sums over these."""

import itertools

import numpy as np
import pytest
from fastconv.kernels._runtime import StepList
from reference.sampling import grid_sample, roi_align, roi_pool

from fastconv.kernels import resample
from fastconv.kernels.taps import WIDTH

from .test_resample import laid, operand

ORDERS = {4: ((0, 1, 2, 3), (0, 2, 3, 1)), 5: ((0, 1, 2, 3, 4), (0, 2, 3, 4, 1))}


def run(step, batch, threads=1, n=None):
    steps = StepList([step], max(1, batch))
    steps.set_batch(batch if n is None else n)
    steps.run(threads)


def copied(values, order):
    array, _ = laid(values.shape, order, 0)
    array[...] = values
    return array


def grids(rng, n, size, dims):
    grid = rng.uniform(-1.6, 1.6, (n, *size, dims)).astype(np.float32)
    flat = grid.reshape(n, -1, dims)
    flat[0, 0], flat[0, 1] = -1.0, 1.0
    flat[0, 2, 0] = 7.25
    return grid


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize(("mode", "dims"), [("bilinear", 2), ("nearest", 2), ("bicubic", 2), ("bilinear", 3),
                                            ("nearest", 3)])
def test_grid_sample(mode, dims, padding, align):
    rng = np.random.default_rng(1)
    first: tuple = ()
    for channels, space, size in ((1, (5, 7), (3, 4)), (3, (1, 6), (9, 9)), (WIDTH + 1, (4, 5), (2, 3)),
                                  (70, (8, 9), (5, 2))):
        space, size = (3,) * (dims - 2) + space, (2,) * (dims - 2) + size
        x = rng.standard_normal((2, channels, *space)).astype(np.float32)
        grid = grids(rng, 2, size, dims)
        gy = rng.standard_normal((2, channels, *size)).astype(np.float32)
        y, table = grid_sample(x, grid, mode, padding, align)
        keywords = {"shape": x.shape, "size": size, "mode": mode, "padding_mode": padding, "align_corners": align,
                    "batched": True}
        gx = np.zeros(x.shape)
        for n, pixel in itertools.product(range(2), np.ndindex(size)):
            for at, weight in table[n, pixel]:
                gx[(n, slice(None), *at)] += weight * gy[(n, slice(None), *pixel)]
        for source, target in itertools.product(ORDERS[dims + 2], repeat=2):
            xs, gys = copied(x, source), copied(gy, target)
            for threads in (1, 2):
                out, memory = laid(y.shape, target, np.nan)
                run(resample.grid_sample(x=operand(xs), y=operand(out), grid=operand(grid), **keywords), 2, threads)
                np.testing.assert_allclose(out, y, rtol=0, atol=3e-5)
                back, memory = laid(x.shape, source, np.nan)
                step = resample.grid_sample_backward_data(gx=operand(back), gy=operand(gys), grid=operand(grid), **keywords)
                run(step, 2, threads)
                np.testing.assert_allclose(back, gx, rtol=0, atol=1e-4)
                first = (out, back) if threads == 1 else first
                assert np.array_equal(out, first[0]) and np.array_equal(back, first[1])
            alone, _ = laid(x[1:].shape, source, np.nan)
            step = resample.grid_sample_backward_data(gx=operand(alone), gy=operand(gys[1:]), grid=operand(grid[1:]),
                                                      **keywords)
            run(step, 1, 2)
            np.testing.assert_array_equal(alone[0], back[1])


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize(("mode", "dims"), [("bilinear", 2), ("bicubic", 2), ("bilinear", 3)])
def test_gradient_of_the_grid(mode, dims, padding, align):
    """Against differences of the definition, away from where it has a kink."""
    rng = np.random.default_rng(2)
    space, size = (4, 5, 6)[-dims:], (2, 3, 4)[-dims:]
    for channels in (2, WIDTH + 3):
        x = rng.standard_normal((2, channels, *space)).astype(np.float32)
        gy = rng.standard_normal((2, channels, *size)).astype(np.float32)
        grid = rng.uniform(-1.7, 1.7, (2, *size, dims))
        extents = np.array(space[::-1])
        pixel = (grid + 1) / 2 * (extents - 1) if align else ((grid + 1) * extents - 1) / 2
        pixel = np.floor(pixel) + 0.2 + 0.2 * rng.random(pixel.shape)
        grid = (pixel * 2 / (extents - 1) - 1 if align else (2 * pixel + 1) / extents - 1).astype(np.float32)
        want = np.zeros(grid.shape)
        for d in range(dims):
            step = np.zeros(dims)
            step[d] = 1e-4
            high, low = (grid_sample(x, grid + s, mode, padding, align)[0] for s in (step, -step))
            want[..., d] = (gy * (high - low)).sum(1) / 2e-4
        for source, target in itertools.product(ORDERS[dims + 2], repeat=2):
            xs, gys = copied(x, source), copied(gy, target)
            got = np.full(grid.shape, np.nan, np.float32)
            run(resample.grid_sample_backward_grid(
                x=operand(xs), gy=operand(gys), grid=operand(grid), ggrid=operand(got), shape=x.shape, size=size, mode=mode,
                padding_mode=padding, align_corners=align, batched=True), 2, 2)
            np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-3)


def test_coordinates_that_are_no_numbers():
    x = np.ones((1, 2, 4, 4), np.float32)
    odd = np.array([np.nan, np.inf, -np.inf, 3e38, 0.0], np.float32)
    grid = np.ascontiguousarray(np.stack(np.meshgrid(odd, odd), -1)[None])
    for mode, padding in itertools.product(resample.SAMPLE_MODES, resample.SAMPLE_PADDINGS):
        y = np.full((1, 2, 5, 5), np.nan, np.float32)
        run(resample.grid_sample(x=operand(x), y=operand(y), grid=operand(grid), shape=x.shape, size=(5, 5), mode=mode,
                                 padding_mode=padding), 1)
        assert mode == "bicubic" or np.isfinite(y).all()
        if mode != "bicubic" and padding == "zeros":
            assert (y[0, :, :4] == 0).all() and (y[0, :, 4, :4] == 0).all() and (y[0, :, 4, 4] == 1).all()


ROIS = np.array([[0, 1, 1, 9, 7], [1, -3, -2, 4, 30], [0, 3, 3, 3, 3], [2, 5, 4, 2, 1], [1, 0, 0, 11, 9],
                 [1, 40, 40, 50, 50], [0, 2.2, 1.7, 8.6, 6.1]], np.float32)


@pytest.mark.parametrize("samples", [-1, 2])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("channels", [1, WIDTH + 2, 70])
def test_roi_align(samples, aligned, channels):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, channels, 8, 10)).astype(np.float32)
    first: np.ndarray | None = None
    keywords = {"shape": x.shape, "count": len(ROIS), "size": (3, 2), "scale": 0.75, "samples": samples,
                "aligned": aligned}
    gy = rng.standard_normal((len(ROIS), channels, 3, 2)).astype(np.float32)
    for mode in ("avg", "max"):
        want, gx = roi_align(x, ROIS, (3, 2), 0.75, samples, aligned, mode, gy)
        for source, target in itertools.product(ORDERS[4], repeat=2):
            xs, gys = copied(x, source), copied(gy, target)
            for threads in (1, 2):
                y, _ = laid(want.shape, target, np.nan)
                run(resample.roi_align(x=operand(xs), y=operand(y), rois=operand(ROIS), mode=mode, **keywords), 1, threads)
                np.testing.assert_allclose(y, want, rtol=0, atol=2e-5)
                if mode == "avg":
                    back, _ = laid(x.shape, source, np.nan)
                    step = resample.roi_align_backward(gx=operand(back), gy=operand(gys), rois=operand(ROIS), **keywords)
                    run(step, 1, threads)
                    np.testing.assert_allclose(back, gx, rtol=0, atol=5e-5)
                    first = back if threads == 1 else first
                    np.testing.assert_array_equal(back, first)


@pytest.mark.parametrize("channels", [1, WIDTH + 2, 70])
def test_roi_pool(channels):
    rng = np.random.default_rng(4)
    x = rng.integers(-50, 50, (3, channels, 8, 10)).astype(np.float32)  # with ties
    gy = rng.integers(-50, 50, (len(ROIS), channels, 3, 2)).astype(np.float32)
    want, gx = roi_pool(x, ROIS, (3, 2), 0.75, gy)
    keywords = {"shape": x.shape, "count": len(ROIS), "size": (3, 2), "scale": 0.75}
    for source, target in itertools.product(ORDERS[4], repeat=2):
        xs, gys = copied(x, source), copied(gy, target)
        for threads in (1, 2):
            y, _ = laid(want.shape, target, np.nan)
            run(resample.roi_pool(x=operand(xs), y=operand(y), rois=operand(ROIS), **keywords), 1, threads)
            np.testing.assert_array_equal(y, want)
            back, _ = laid(x.shape, source, np.nan)
            step = resample.roi_pool_backward(gx=operand(back), gy=operand(gys), x=operand(xs), rois=operand(ROIS),
                                              **keywords)
            run(step, 1, threads)
            np.testing.assert_array_equal(back, gx)


@pytest.mark.parametrize("image", [-1, 3, np.nan, np.inf])
def test_a_region_of_no_image(image):
    x, rois = np.ones((3, 2, 8, 10), np.float32), ROIS.copy()
    rois[1, 0] = image
    keywords = {"x": operand(x), "rois": operand(rois), "shape": x.shape, "count": len(rois), "size": (3, 2)}
    gy = np.ones((len(rois), 2, 3, 2), np.float32)
    for forward, backward in ((resample.roi_align, resample.roi_align_backward),
                              (resample.roi_pool, resample.roi_pool_backward)):
        y, gx = np.zeros((len(rois), 2, 3, 2), np.float32), np.full(x.shape, np.nan, np.float32)
        run(forward(y=operand(y), **keywords), 1)
        assert np.isnan(y[1]).all() and np.isfinite(np.delete(y, 1, 0)).all()
        if backward is resample.roi_align_backward:
            del keywords["x"]
        run(backward(gx=operand(gx), gy=operand(gy), **keywords), 1)
        keywords["x"] = operand(x)
        assert np.isfinite(gx).all()
