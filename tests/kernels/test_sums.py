"""Sums over images, pixels and channels, whole and cut into ranges of rows, against float64."""

import numpy as np
import pytest
import reference as ref

from fastconv.kernels import elementwise

from .guarded import guarded, pixels
from .test_elementwise import BROADCAST_SHAPES, address, blank, operand, run, size, taken


@pytest.mark.parametrize("shape", [*BROADCAST_SHAPES, (2, 5, 41, 40), (300, 3)])
@pytest.mark.parametrize("keep", [(i, p, c) for i in (0, 1) for p in (0, 1) for c in (0, 1)])
def test_sum_axes(shape, keep):
    rng = np.random.default_rng(0)
    spatial = tuple(range(2, len(shape)))
    axes = (() if keep[0] else (0,)) + (() if keep[1] else spatial) + (() if keep[2] else (1,))
    kept_shape = tuple(1 if i in axes else s for i, s in enumerate(shape))
    for kind_z in (None, "full", "channel", "pixel"):
        x, xs, stride_x = operand("full", ref.exact_integers(rng, shape, 4), 2)
        z, zs, stride_z = operand(kind_z, ref.exact_integers(rng, shape, 4), 2) if kind_z else (1.0, None, (0, 0, 0))
        results = []
        for threads in (1, 2):
            ld = kept_shape[1] + 1
            y = blank(kept_shape, ld)
            run([elementwise.sum_axes(x=address(xs), z=address(zs), y=address(y), x_stride=stride_x, z_stride=stride_z,
                                      ldy=ld, keep_images=keep[0], keep_pixels=keep[1], keep_channels=keep[2],
                                      **size(shape))], shape[0], threads)
            results.append(taken(y, kept_shape, ld))
        np.testing.assert_array_equal(results[0], (x * z).astype(np.float64).sum(axis=axes, keepdims=True))
        np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("shape", [(2, 1, 40, 40), (5, 3, 20, 20), (3, 17, 9, 9), (3, 33, 9, 9), (2, 50, 9, 9),
                                   (2, 70, 12, 12), (700, 5), (300, 130), (1, 64, 3)])
@pytest.mark.parametrize("keep", [(i, p, c) for i, p in ((0, 0), (0, 1), (1, 0)) for c in (0, 1)])
def test_sum_axes_in_parts(shape, keep):
    """Ranges of rows behind one another, then their sum; a batch smaller than planned leaves zeros in the last of them."""
    rng = np.random.default_rng(0)
    n, c, pixels_ = shape[0], shape[1], int(np.prod(shape[2:]))
    spatial = tuple(range(2, len(shape)))
    axes = (() if keep[0] else (0,)) + (() if keep[1] else spatial) + (() if keep[2] else (1,))
    x, xs, stride_x = operand("full", ref.exact_integers(rng, shape, 4), 2)
    z, zs, stride_z = operand("channel", ref.exact_integers(rng, shape, 4), 2)
    width, outputs = c if keep[2] else 1, pixels_ if keep[1] else 1
    for per in (128, 256):
        parts = max(1, -(-(1 if keep[0] else n) * (1 if keep[1] else pixels_) // per))
        results = []
        for batch, threads in ((n, 1), (n, 2), (n - 1, 2)):
            kept_shape = tuple(1 if i in axes else batch if i == 0 else s for i, s in enumerate(shape))
            part, y = guarded(width * parts * outputs * (n if keep[0] else 1)), blank(kept_shape, width + 1)
            run([elementwise.sum_axes(x=address(xs), z=address(zs), y=address(part), x_stride=stride_x, z_stride=stride_z,
                                      ldy=width, keep_images=keep[0], keep_pixels=keep[1], keep_channels=keep[2],
                                      parts=parts, per_part=per, **size(shape)),
                 elementwise.sum_axes(x=address(part), y=address(y), pixels=parts, channels=width,
                                      x_stride=(parts * width, width, 1), ldy=width + 1, keep_images=1, keep_pixels=0,
                                      keep_channels=1, fixed_n=0 if keep[0] else outputs)], batch, threads)
            results.append(taken(y, kept_shape, width + 1))
            np.testing.assert_array_equal(results[-1], (x * z)[:batch].astype(np.float64).sum(axis=axes, keepdims=True))
        np.testing.assert_array_equal(results[0], results[1])


def test_sum_axes_of_an_empty_batch():
    y = guarded((1, 5))
    run([elementwise.sum_axes(x=0, y=address(y), x_stride=(20, 5, 1), ldy=5, keep_images=0, keep_pixels=0,
                              keep_channels=1, channels=5, pixels=4)], 0)
    assert (y == 0).all()


def test_sum_axes_of_many_terms_stays_accurate():
    x = np.random.default_rng(0).uniform(1, 2, (1, 3, 300, 300)).astype(np.float32)
    source, y = pixels(x, 3), guarded((1, 3))
    run([elementwise.sum_axes(x=address(source), y=address(y), x_stride=(270000, 3, 1), ldy=3, keep_images=1,
                              keep_pixels=0, keep_channels=1, **size(x.shape))], 1)
    assert ref.rel_l2(y[0], x.astype(np.float64).sum(axis=(0, 2, 3))) < 1e-6  # one running sum is 10 times worse
