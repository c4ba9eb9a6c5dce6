"""Classic filters as ready weights, and as functions on photographs.

Kernels are float32 arrays of odd extents, to be correlated with an image as :func:`fastconv.functional.conv2d` does:
``filter2d(image, sobel_kernel("x"))``; as weights of an ``nn.Conv2d`` with groups, :func:`depthwise`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import numpy as np

from fastconv import functional as F
from fastconv._values import shown

__all__ = ["depthwise", "difference_of_gaussians", "difference_of_gaussians_kernel", "filter2d", "gabor", "gabor_kernel",
           "gaussian", "gaussian_kernel", "gaussian_kernel1d", "gradient", "laplacian", "laplacian_kernel",
           "prewitt_kernel", "scharr_kernel", "sobel_kernel"]
SMOOTH = {"sobel": (1, 2, 1), "scharr": (3, 10, 3), "prewitt": (1, 1, 1)}
PADDINGS = ("reflect", "replicate", "circular", "constant")


def _derivative(name: str, axis: str, normalized: bool) -> np.ndarray:
    if axis not in ("x", "y"):
        raise ValueError(f"{name}_kernel: axis={shown(axis)}: expected 'x' or 'y'")
    smooth, step = np.array(SMOOTH[name], np.float32), np.array((-1, 0, 1), np.float32)
    kernel = np.outer(smooth, step)
    if normalized:
        kernel /= 2 * smooth.sum()
    return np.ascontiguousarray(kernel if axis == "x" else kernel.T)


def sobel_kernel(axis: str, normalized: bool = False) -> np.ndarray:
    """The derivative along an axis, smoothed by (1, 2, 1) across it: shape (3, 3), float32.

    Parameters
    ----------
    axis : {"x", "y"}
        To the right, or downwards.
    normalized : bool, default False
        Divided by 8, so that a slope of one per pixel gives one.
    """
    return _derivative("sobel", axis, normalized)


def scharr_kernel(axis: str, normalized: bool = False) -> np.ndarray:
    """Like :func:`sobel_kernel`, smoothed by (3, 10, 3), which turns better (H. Scharr, 2000); ``normalized``: by 32."""
    return _derivative("scharr", axis, normalized)


def prewitt_kernel(axis: str, normalized: bool = False) -> np.ndarray:
    """Like :func:`sobel_kernel`, smoothed by (1, 1, 1) (J. Prewitt, 1970); ``normalized``: by 6."""
    return _derivative("prewitt", axis, normalized)


def laplacian_kernel(neighbours: int = 4) -> np.ndarray:
    """The sum of second derivatives, from 4 or 8 neighbours: shape (3, 3), float32."""
    if neighbours not in (4, 8):
        raise ValueError(f"laplacian_kernel: neighbours={shown(neighbours)}: expected 4 or 8")
    kernel = np.full((3, 3), 1.0 if neighbours == 8 else 0.0, np.float32)
    kernel[1, :] = kernel[:, 1] = 1
    kernel[1, 1] = -neighbours
    return kernel


def _odd(name: str, size: int | None, sigma: float, reach: float = 4.0) -> int:
    if not isinstance(sigma, (int, float, np.floating, np.integer)) or isinstance(sigma, bool) or not 0 < sigma < 1e4:
        raise ValueError(f"{name}: sigma={shown(sigma)}: expected a number above 0, in pixels")
    if size is None:
        return 2 * int(reach * sigma + 0.5) + 1
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1 or size % 2 == 0:
        raise ValueError(f"{name}: size={shown(size)}: expected an odd integer of at least 1")
    return int(size)


def gaussian_kernel1d(sigma: float, size: int | None = None) -> np.ndarray:
    """Samples of a Gaussian that add up to 1: shape (size,), float32.

    Parameters
    ----------
    sigma : float
        Its standard deviation in pixels.
    size : int, optional
        Odd; default so that it reaches four standard deviations.
    """
    size = _odd("gaussian_kernel1d", size, sigma)
    x = np.arange(size) - size // 2
    values = np.exp(-0.5 * (x / sigma) ** 2)
    return (values / values.sum()).astype(np.float32)


def gaussian_kernel(sigma: float, size: int | None = None) -> np.ndarray:
    """The Gaussian of :func:`gaussian_kernel1d` in two dimensions: shape (size, size), float32."""
    one = gaussian_kernel1d(sigma, size)
    return np.outer(one, one)


def difference_of_gaussians_kernel(sigma: float, ratio: float = 1.6, size: int | None = None) -> np.ndarray:
    """A Gaussian less one that is ``ratio`` times as wide: finds blobs and edges (D. Marr, E. Hildreth, 1980)."""
    if not isinstance(ratio, (int, float)) or isinstance(ratio, bool) or not ratio > 1:
        raise ValueError(f"difference_of_gaussians_kernel: ratio={shown(ratio)}: expected a number above 1")
    size = _odd("difference_of_gaussians_kernel", size, sigma * ratio)
    return gaussian_kernel(sigma, size) - gaussian_kernel(sigma * ratio, size)


def gabor_kernel(wavelength: float, theta: float = 0.0, sigma: float | None = None, aspect: float = 1.0, phase: float = 0.0,
                 size: int | None = None) -> np.ndarray:
    """A wave under a Gaussian (D. Gabor, 1946; J. Daugman, 1985): shape (size, size), float32.

    Parameters
    ----------
    wavelength : float
        Of the cosine, in pixels.
    theta : float, default 0
        The direction in which it runs, in radians from the x axis towards the y axis.
    sigma : float, optional
        The Gaussian's standard deviation along ``theta``; default 0.56 wavelengths, a band of one octave.
    aspect : float, default 1
        How much narrower it is across: its deviation there is ``sigma / aspect``.
    phase : float, default 0
        In radians; 0 is even, pi / 2 odd.
    size : int, optional
    """
    for name, value in (("wavelength", wavelength), ("aspect", aspect)):
        if not isinstance(value, (int, float, np.floating)) or isinstance(value, bool) or not value > 0:
            raise ValueError(f"gabor_kernel: {name}={shown(value)}: expected a number above 0")
    sigma = 0.56 * wavelength if sigma is None else sigma
    size = _odd("gabor_kernel", size, sigma * max(1.0, 1 / aspect), 3.0)
    y, x = np.mgrid[-(size // 2): size // 2 + 1, -(size // 2): size // 2 + 1]
    along, across = x * np.cos(theta) + y * np.sin(theta), -x * np.sin(theta) + y * np.cos(theta)
    envelope = np.exp(-0.5 * (along ** 2 + (aspect * across) ** 2) / sigma ** 2)
    return (envelope * np.cos(2 * pi * along / wavelength + phase)).astype(np.float32)


def depthwise(kernels: Sequence[np.ndarray] | np.ndarray, channels: int) -> np.ndarray:
    """Weights of a convolution with ``groups=channels`` that applies each kernel to each channel.

    Parameters
    ----------
    kernels : array of shape (h, w), or a sequence of such
    channels : int

    Returns
    -------
    ndarray, shape (channels * kernels, 1, h, w), float32
        A channel's results lie together, in the order of the kernels.
    """
    stack = _kernels("depthwise", kernels)
    if isinstance(channels, bool) or not isinstance(channels, (int, np.integer)) or channels < 1:
        raise ValueError(f"depthwise: channels={shown(channels)}: expected an integer of at least 1")
    return np.tile(stack[:, None], (channels, 1, 1, 1))


def _kernels(op: str, kernels) -> np.ndarray:
    one = isinstance(kernels, np.ndarray) and kernels.ndim == 2
    arrays = [np.asarray(k) for k in ([kernels] if one else kernels)]
    if not arrays or any(a.ndim != 2 or a.shape != arrays[0].shape or a.dtype.kind not in "fiu" for a in arrays):
        raise ValueError(f"{op}: kernels of shapes {[a.shape for a in arrays]}: expected arrays (h, w) of one shape")
    return np.stack(arrays).astype(np.float32)


def _seen(op: str, image) -> tuple:
    """An image as (N, C, H, W), and the shape that it had."""
    shape = tuple(image.shape) if hasattr(image, "shape") else ()
    if not 2 <= len(shape) <= 4:
        raise ValueError(f"{op}: image of shape {shape}: expected (H, W), (C, H, W) or (N, C, H, W)")
    if isinstance(image, np.ndarray):
        if image.dtype != np.float32:
            raise TypeError(f"{op}: image has dtype {image.dtype}: expected float32; convert with .astype(np.float32)")
        return image.reshape((1,) * (4 - len(shape)) + shape), shape
    if len(shape) != 4:
        raise ValueError(f"{op}: image of shape {shape}: a symbolic tensor must be (N, C, H, W)")
    return image, shape


def _padded(op: str, x, h: int, w: int, padding: str):
    if padding not in PADDINGS:
        raise ValueError(f"{op}: padding={shown(padding)}: expected one of {', '.join(PADDINGS)}")
    if h // 2 == w // 2 == 0:
        return x
    return F.pad(x, (w // 2, w // 2, h // 2, h // 2), mode=padding)


def filter2d(image, kernel, padding: str = "reflect"):
    """Correlates each channel with a kernel; the result has the image's shape.

    Parameters
    ----------
    image : array of shape (H, W), (C, H, W) or (N, C, H, W), float32; or a symbolic tensor (N, C, H, W)
    kernel : array of shape (h, w), odd
    padding : {"reflect", "replicate", "circular", "constant"}, default "reflect"
        How the image goes on behind its edges; "constant" is zeros.

    Raises
    ------
    TypeError, ValueError
        For another dtype, rank, or kernel; for an image too small for its reflection.
    """
    (one,) = _kernels("filter2d", np.asarray(kernel))
    if one.shape[0] % 2 == 0 or one.shape[1] % 2 == 0:
        raise ValueError(f"filter2d: kernel of shape {one.shape}: expected odd extents")
    x, shape = _seen("filter2d", image)
    h, w = one.shape
    y = F.conv2d(_padded("filter2d", x, h, w, padding), depthwise(one, int(x.shape[1])), groups=int(x.shape[1]))
    return y.reshape(shape) if isinstance(y, np.ndarray) else y


def gaussian(image, sigma: float, size: int | None = None, padding: str = "reflect"):
    """Blurs each channel by a Gaussian, in two passes of one dimension; see :func:`filter2d`, :func:`gaussian_kernel1d`."""
    one = gaussian_kernel1d(sigma, size)
    return filter2d(filter2d(image, one[None, :], padding), one[:, None], padding)


def difference_of_gaussians(image, sigma: float, ratio: float = 1.6, padding: str = "reflect"):
    """The image blurred by ``sigma`` less the image blurred by ``ratio * sigma``; see :func:`filter2d`."""
    if not isinstance(ratio, (int, float)) or isinstance(ratio, bool) or not ratio > 1:
        raise ValueError(f"difference_of_gaussians: ratio={shown(ratio)}: expected a number above 1")
    return gaussian(image, sigma, None, padding) - gaussian(image, sigma * ratio, None, padding)


def laplacian(image, neighbours: int = 4, padding: str = "reflect"):
    """The Laplacian of each channel; see :func:`filter2d`, :func:`laplacian_kernel`."""
    return filter2d(image, laplacian_kernel(neighbours), padding)


def gradient(image, kind: str = "sobel", padding: str = "reflect"):
    """The derivatives of each channel to the right and downwards, per pixel.

    Parameters
    ----------
    image : as for :func:`filter2d`
    kind : {"sobel", "scharr", "prewitt"}
    padding : as for :func:`filter2d`

    Returns
    -------
    x, y : of the image's shape
        ``np.hypot(x, y)`` is the strength of an edge, ``np.arctan2(y, x)`` the direction across it.
    """
    if kind not in SMOOTH:
        raise ValueError(f"gradient: kind={shown(kind)}: expected one of {', '.join(SMOOTH)}")
    return tuple(filter2d(image, _derivative(kind, axis, True), padding) for axis in "xy")


def gabor(image, wavelength: float, orientations: int = 4, padding: str = "reflect", **options):
    """A bank of Gabor filters, evenly turned: the responses of each channel.

    Parameters
    ----------
    image : as for :func:`filter2d`
    wavelength : float
        In pixels.
    orientations : int, default 4
        How many, from 0 to below pi.
    padding : as for :func:`filter2d`
    **options
        ``sigma``, ``aspect``, ``phase``, ``size`` of :func:`gabor_kernel`.

    Returns
    -------
    array, shape (C * orientations, H, W) or (N, C * orientations, H, W); (orientations, H, W) of an image (H, W)
    """
    if isinstance(orientations, bool) or not isinstance(orientations, (int, np.integer)) or orientations < 1:
        raise ValueError(f"gabor: orientations={shown(orientations)}: expected an integer of at least 1")
    bank = [gabor_kernel(wavelength, pi * i / orientations, **options) for i in range(orientations)]
    x, shape = _seen("gabor", image)
    channels, (h, w) = int(x.shape[1]), bank[0].shape
    y = F.conv2d(_padded("gabor", x, h, w, padding), depthwise(bank, channels), groups=channels)
    if not isinstance(y, np.ndarray) or len(shape) == 4:
        return y
    return y.reshape(channels * orientations, *shape[-2:])
