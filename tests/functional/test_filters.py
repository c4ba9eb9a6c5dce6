"""Classic filters: the numbers of their kernels, and images whose derivatives are known."""

import numpy as np
import pytest

import fastconv as fc
from fastconv.vision import filters

rng = np.random.default_rng(0)


def correlated(image, kernel, mode):
    """The definition, in float64."""
    h, w = (s // 2 for s in kernel.shape)
    mode = {"replicate": "edge", "circular": "wrap"}.get(mode, mode)
    padded = np.pad(image.astype(np.float64), ((h, h), (w, w)), mode=mode)
    return sum(kernel[i, j].astype(np.float64) * padded[i: i + image.shape[0], j: j + image.shape[1]]
               for i in range(kernel.shape[0]) for j in range(kernel.shape[1]))


@pytest.mark.parametrize("mode", filters.PADDINGS)
@pytest.mark.parametrize("kernel", [filters.sobel_kernel("x"), filters.laplacian_kernel(8), filters.gabor_kernel(5, 0.7),
                                    filters.gaussian_kernel1d(1.5)[None], filters.gaussian_kernel(2.0)],
                         ids=["sobel", "laplacian", "gabor", "row", "gaussian"])
def test_images_of_every_rank(mode, kernel):
    image = rng.standard_normal((2, 3, 40, 33), dtype=np.float32)
    want = np.stack([[correlated(c, kernel, mode) for c in one] for one in image])
    for view, right in ((image, want), (image[0], want[0]), (image[0, 1], want[0, 1])):
        got = filters.filter2d(view, kernel, mode)
        assert got.shape == right.shape
        np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-5)
    engine = fc.compile(lambda x: filters.filter2d(x, kernel, mode), image.shape)
    np.testing.assert_allclose(engine(image), want, rtol=1e-5, atol=1e-5)


def test_kernels():
    np.testing.assert_array_equal(filters.sobel_kernel("x"), [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    np.testing.assert_array_equal(filters.scharr_kernel("y"), [[-3, -10, -3], [0, 0, 0], [3, 10, 3]])
    np.testing.assert_array_equal(filters.prewitt_kernel("x"), [[-1, 0, 1]] * 3)
    np.testing.assert_array_equal(filters.laplacian_kernel(), [[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    np.testing.assert_array_equal(filters.laplacian_kernel(8), [[1, 1, 1], [1, -8, 1], [1, 1, 1]])
    for sigma in (0.3, 1.0, 7.5):
        one = filters.gaussian_kernel1d(sigma)
        assert len(one) % 2 == 1 and abs(one.sum() - 1) < 1e-6
        x = np.arange(len(one)) - len(one) // 2
        if sigma >= 1:
            np.testing.assert_allclose((one * x * x).sum(), sigma ** 2, rtol=3e-3)
    assert abs(filters.difference_of_gaussians_kernel(1.2).sum()) < 1e-6
    even, odd = filters.gabor_kernel(6, phase=0.0), filters.gabor_kernel(6, phase=np.pi / 2)
    np.testing.assert_allclose(even, even[::-1, ::-1], atol=1e-6)
    np.testing.assert_allclose(odd, -odd[::-1, ::-1], atol=1e-6)
    np.testing.assert_allclose(filters.gabor_kernel(6, np.pi / 2, size=9), filters.gabor_kernel(6, size=9).T, atol=1e-6)


@pytest.mark.parametrize("kind", filters.SMOOTH)
def test_the_gradient_of_a_slope(kind):
    y, x = np.mgrid[:20, :30].astype(np.float32)
    gx, gy = filters.gradient(3 * x - 2 * y, kind)
    np.testing.assert_allclose(gx[1:-1, 1:-1], 3, rtol=1e-5)
    np.testing.assert_allclose(gy[1:-1, 1:-1], -2, rtol=1e-5)
    np.testing.assert_allclose(filters.laplacian(x * x + 2 * y * y)[1:-1, 1:-1], 6, rtol=1e-4)


def test_blurring_and_banks():
    image = rng.standard_normal((3, 50, 41), dtype=np.float32)
    want = np.stack([correlated(c, filters.gaussian_kernel(2.0), "reflect") for c in image])
    np.testing.assert_allclose(filters.gaussian(image, 2.0), want, rtol=1e-4, atol=1e-5)
    wider = np.stack([correlated(c, filters.gaussian_kernel(3.2), "reflect") for c in image])
    np.testing.assert_allclose(filters.difference_of_gaussians(image, 2.0), want - wider, rtol=1e-4, atol=2e-5)
    bank = filters.gabor(image, 6.0, orientations=3)
    assert bank.shape == (9, 50, 41)
    np.testing.assert_allclose(bank[4], correlated(image[1], filters.gabor_kernel(6.0, np.pi / 3), "reflect"), rtol=1e-4,
                               atol=2e-5)
    weights = filters.depthwise([filters.sobel_kernel("x"), filters.sobel_kernel("y")], 3)
    assert weights.shape == (6, 1, 3, 3) and weights.dtype == np.float32


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: filters.sobel_kernel("z"), ValueError, "axis='z'"),
    (lambda: filters.laplacian_kernel(5), ValueError, "neighbours=5"),
    (lambda: filters.gaussian_kernel(0.0), ValueError, "sigma=0.0"),
    (lambda: filters.gaussian_kernel(1.0, 4), ValueError, "size=4: expected an odd"),
    (lambda: filters.gabor_kernel(-1), ValueError, "wavelength=-1"),
    (lambda: filters.difference_of_gaussians_kernel(1.0, 0.5), ValueError, "ratio=0.5"),
    (lambda: filters.filter2d(np.zeros((5, 5), np.float32), np.ones((2, 3), np.float32)), ValueError, "odd extents"),
    (lambda: filters.filter2d(np.zeros((5, 5)), np.ones((3, 3))), TypeError, "float64: expected float32"),
    (lambda: filters.filter2d(np.zeros(5, np.float32), np.ones((3, 3))), ValueError, r"image of shape \(5,\)"),
    (lambda: filters.filter2d(np.zeros((5, 5), np.float32), np.ones((3, 3)), "mirror"), ValueError, "padding='mirror'"),
    (lambda: filters.filter2d(np.zeros((2, 2), np.float32), np.ones((7, 7))), ValueError, "pad"),
    (lambda: filters.depthwise([np.ones((3, 3)), np.ones((5, 5))], 1), ValueError, "of one shape"),
    (lambda: filters.gradient(np.zeros((5, 5), np.float32), "roberts"), ValueError, "kind='roberts'"),
    (lambda: filters.gabor(np.zeros((5, 5), np.float32), 4, 0), ValueError, "orientations=0")])
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
