"""What values become. Names, arguments and definitions are those of torchvision.transforms.v2, drawn for each image."""

from __future__ import annotations

import numpy as np

from fastconv._values import shown

from .base import Transform, filling, number, pair, several, whole


def colored(owner: str, plan) -> None:
    """Refuses images that are neither grey nor red, green and blue."""
    if plan.channels not in (1, 3):
        raise ValueError(f"{owner}: images have {plan.channels} channels: expected 1 or 3")


class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue of each image, in an order of its own.

    Parameters
    ----------
    brightness, contrast, saturation : float or (float, float), optional
        A range of factors, or how far from 1 they are at most.
    hue : float or (float, float), optional
        A range of parts of a turn, or the largest: -0.5 to 0.5.
    """

    def __init__(self, brightness=None, contrast=None, saturation=None, hue=None):
        self.brightness = self._range("brightness", brightness)
        self.contrast = self._range("contrast", contrast)
        self.saturation = self._range("saturation", saturation)
        if isinstance(hue, (tuple, list)) or hue is None:
            self.hue = None if hue is None else pair("ColorJitter", "hue", hue, -0.5, 0.5)
        else:
            self.hue = (-number("ColorJitter", "hue", hue, 0, 0.5), float(hue))

    @staticmethod
    def _range(name, value):
        if value is None or isinstance(value, (tuple, list)):
            return None if value is None else pair("ColorJitter", name, value, 0, 1e6)
        value = number("ColorJitter", name, value, 0, 1e6)
        return max(0.0, 1 - value), 1 + value

    def draw(self, plan):
        """Adds to the programs of a batch."""
        colored("ColorJitter", plan)
        ranges = {name: getattr(self, name) for name in ("brightness", "contrast", "saturation", "hue")}
        names = [name for name, limits in ranges.items() if limits is not None]
        factors = {name: plan.rng.uniform(*ranges[name], plan.count) for name in names}
        order = plan.rng.permuted(np.tile(np.arange(len(names)), (plan.count, 1)), axis=1)
        for turn in range(len(names)):
            for i, name in enumerate(names):
                chosen = np.flatnonzero(order[:, turn] == i)
                plan.values(name, chosen, factors[name][chosen])


class Grayscale(Transform):
    """Take the colours out of images; all channels become the luminance."""

    def draw(self, plan):
        """Adds to the programs of a batch."""
        colored("Grayscale", plan)
        plan.values("gray", plan.everyone)


class _Sometimes(Transform):
    """An operation on values with a probability."""

    _op, _rgb = "", False

    def __init__(self, p=0.5):
        self.p = number(type(self).__name__, "p", p, 0, 1)

    def _parameters(self, plan):
        return ()

    def draw(self, plan):
        """Adds to the programs of a batch."""
        if self._rgb:
            colored(type(self).__name__, plan)
        plan.values(self._op, plan.select(self.p), *self._parameters(plan))


class RandomGrayscale(_Sometimes):
    """Take the colours out of each image with probability `p` (default 0.1)."""

    _op, _rgb = "gray", True

    def __init__(self, p=0.1):
        super().__init__(p)


class RandomInvert(_Sometimes):
    """Make dark what is bright in each image with probability `p` (default 0.5)."""

    _op = "invert"


class RandomAutocontrast(_Sometimes):
    """Stretch each channel to the whole range, in each image with probability `p` (default 0.5)."""

    _op = "autocontrast"


class RandomEqualize(_Sometimes):
    """Make all values equally frequent, in each image with probability `p` (default 0.5)."""

    _op = "equalize"


class RandomSolarize(_Sometimes):
    """Invert values from `threshold` on, in each image with probability `p` (default 0.5)."""

    _op = "solarize"

    def __init__(self, threshold, p=0.5):
        super().__init__(p)
        self.threshold = number("RandomSolarize", "threshold", threshold, 0, 255)

    def _parameters(self, plan):
        return (self.threshold,)


class RandomPosterize(_Sometimes):
    """Keep so many `bits` (0 to 8) of values, in each image with probability `p` (default 0.5)."""

    _op = "posterize"

    def __init__(self, bits, p=0.5):
        super().__init__(p)
        self.bits = int(number("RandomPosterize", "bits", whole("RandomPosterize", "bits", bits, 0), 0, 8))

    def _parameters(self, plan):
        return (self.bits,)


class RandomAdjustSharpness(_Sometimes):
    """Sharpen (factors over 1) or soften each image with probability `p` (default 0.5)."""

    _op = "sharpness"

    def __init__(self, sharpness_factor, p=0.5):
        super().__init__(p)
        self.sharpness_factor = number("RandomAdjustSharpness", "sharpness_factor", sharpness_factor, 0, 1e6)

    def _parameters(self, plan):
        return (self.sharpness_factor,)


class GaussianBlur(Transform):
    """Blur each image by a Gaussian; beyond the edge the image is mirrored.

    Parameters
    ----------
    kernel_size : int or (int, int)
        Taps along width and height, odd.
    sigma : float or (float, float), default (0.1, 2.0)
        A range of standard deviations in pixels, or one.
    """

    def __init__(self, kernel_size, sigma=(0.1, 2.0)):
        sizes = kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size, kernel_size)
        if len(sizes) != 2 or any(whole("GaussianBlur", "kernel_size", s, 1) % 2 == 0 for s in sizes):
            raise ValueError(f"GaussianBlur: kernel_size={shown(kernel_size)}: expected an odd int or two")
        self.kernel_size = tuple(sizes)
        self.sigma = pair("GaussianBlur", "sigma", sigma if isinstance(sigma, (tuple, list)) else (sigma, sigma), 1e-3, 1e6)

    def draw(self, plan):
        """Adds to the programs of a batch."""
        sigma = plan.rng.uniform(*self.sigma, (plan.count, 1))
        weights = []
        for size in self.kernel_size[::-1]:
            at = np.arange(size) - (size - 1) / 2
            bell = np.exp(-0.5 * (at / sigma) ** 2)
            weights.append(bell / bell.sum(axis=1, keepdims=True))
        plan.blur(plan.everyone, *weights)


class ToDtype(Transform):
    """Make float32 from 0 to 1 of uint8. `dtype` is "float32", `scale` True; what is float32 stays."""

    def __init__(self, dtype="float32", scale=True):
        if not isinstance(dtype, (str, type, np.dtype)) or dtype not in ("float32", np.float32):
            raise ValueError(f"ToDtype: dtype={shown(dtype)}: expected float32")
        if scale is not True:
            raise ValueError(f"ToDtype: scale={shown(scale)}: expected True")
        self.dtype, self.scale = "float32", True

    def draw(self, plan):
        """Adds to the programs of a batch."""
        if not plan.floats:
            plan.affine(1 / 255, 0.0)
            plan.floats = True


class Normalize(Transform):
    """Take off a mean and divide by a standard deviation, of each channel; the result is float32.

    Parameters
    ----------
    mean, std : float or sequence of float
        One per channel, of values from 0 to 1 also where images are uint8. It is done last, whatever follows.
    """

    def __init__(self, mean, std):
        self.mean, self.std = filling("Normalize", mean, "mean"), filling("Normalize", std, "std", 1e-30)

    def draw(self, plan):
        """Adds to the programs of a batch."""
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, plan.channels):
                raise ValueError(f"Normalize: {name}={getattr(self, name)} for images of {plan.channels} channels")
        ToDtype().draw(plan)
        std = np.array(self.std)
        plan.affine(1 / std, -np.array(self.mean) / std)


class RandomApply(Transform):
    """Do some transforms to all images of a batch, or to none, with probability `p`.

    Parameters
    ----------
    transforms : sequence of transforms
    p : float, default 0.5
    """

    def __init__(self, transforms, p=0.5):
        self.transforms = several("RandomApply", transforms)
        self.p = number("RandomApply", "p", p, 0, 1)

    def draw(self, plan):
        """Adds to the programs of a batch."""
        if plan.rng.random() < self.p:
            for transform in self.transforms:
                transform.draw(plan)
