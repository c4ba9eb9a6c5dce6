"""Policies: for each image some operations of a list, of a magnitude. As torchvision.transforms.v2."""

from __future__ import annotations

import numpy as np

from .base import Transform, choice, filling, whole
from .color import colored
from .geometry import affine_matrices
from .plan import MODES

VALUES = {"Brightness": "brightness", "Color": "saturation", "Contrast": "contrast", "Sharpness": "sharpness"}


class _Policy(Transform):
    """`num_ops` operations for each image, of magnitudes that `_space` gives: (name, [value of each bin], signed)."""

    num_ops = 1
    interpolation: str
    fill: tuple

    def _space(self, size):
        raise NotImplementedError

    def _bins(self, plan, count):
        raise NotImplementedError

    def draw(self, plan):
        """Adds to the programs of a batch."""
        colored(type(self).__name__, plan)
        for _ in range(self.num_ops):
            space = self._space(plan.size)
            which = plan.rng.integers(len(space), size=plan.count)
            bins, sign = self._bins(plan, plan.count), plan.rng.choice([-1.0, 1.0], plan.count)
            matrices = np.tile(np.eye(3), (plan.count, 1, 1))
            moved = []
            for i, (name, values, signed) in enumerate(space):
                chosen = np.flatnonzero(which == i)
                if not len(chosen) or name == "Identity":
                    continue
                magnitude = 0.0 if values is None else np.asarray(values)[bins[chosen]] * (sign[chosen] if signed else 1.0)
                if name in VALUES:
                    plan.values(VALUES[name], chosen, 1.0 + magnitude)
                elif name in ("AutoContrast", "Equalize"):
                    plan.values(name.lower(), chosen)
                elif name == "Posterize":
                    plan.values("posterize", chosen, magnitude)
                elif name == "Solarize":
                    plan.values("solarize", chosen, magnitude * plan.top)
                else:
                    moved.append(chosen)
                    matrices[chosen] = self._matrices(name, magnitude, plan.size)
            if moved:
                plan.warp(matrices, None, self.interpolation, self.fill, "constant")

    def _matrices(self, name, magnitude, size):
        if name == "Rotate":
            return affine_matrices(size, -magnitude)
        if name.startswith("Shear"):
            degrees = np.degrees(np.arctan(magnitude))
            shear = (degrees, 0.0) if name == "ShearX" else (0.0, degrees)
            return affine_matrices(size, shear=shear, center=(0.0, 0.0))
        pixels = np.trunc(magnitude)
        return affine_matrices(size, translate=(pixels, 0.0) if name == "TranslateX" else (0.0, pixels))


class RandAugment(_Policy):
    """`num_ops` operations for each image, any of fourteen, all of one magnitude.

    Parameters
    ----------
    num_ops : int, default 2
    magnitude : int, default 9
        From 0 to num_magnitude_bins - 1.
    num_magnitude_bins : int, default 31
    interpolation : {"nearest", "bilinear", "bicubic"}, default "nearest"
    fill : float or sequence of float, default 0

    References
    ----------
    E. D. Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space" (2019).
    """

    def __init__(self, num_ops=2, magnitude=9, num_magnitude_bins=31, interpolation="nearest", fill=0):
        self.num_ops = whole("RandAugment", "num_ops", num_ops, 1)
        self.magnitude = whole("RandAugment", "magnitude", magnitude, 0)
        self.num_magnitude_bins = whole("RandAugment", "num_magnitude_bins", num_magnitude_bins, 2)
        if self.magnitude >= self.num_magnitude_bins:
            raise ValueError(f"RandAugment: magnitude={magnitude} must be below num_magnitude_bins={num_magnitude_bins}")
        self.interpolation = choice("RandAugment", "interpolation", interpolation, MODES)
        self.fill = filling("RandAugment", fill)

    def _bins(self, plan, count):
        return np.full(count, self.magnitude)

    def _space(self, size):
        bins = self.num_magnitude_bins
        upto = lambda most: np.linspace(0.0, most, bins)  # noqa: E731
        return [("Identity", None, False), ("ShearX", upto(0.3), True), ("ShearY", upto(0.3), True),
                ("TranslateX", upto(150.0 / 331.0 * size[1]), True), ("TranslateY", upto(150.0 / 331.0 * size[0]), True),
                ("Rotate", upto(30.0), True), ("Brightness", upto(0.9), True), ("Color", upto(0.9), True),
                ("Contrast", upto(0.9), True), ("Sharpness", upto(0.9), True),
                ("Posterize", 8 - np.round(np.arange(bins) / ((bins - 1) / 4)), False), ("Solarize", 1 - upto(1.0), False),
                ("AutoContrast", None, False), ("Equalize", None, False)]


class TrivialAugmentWide(_Policy):
    """One operation for each image, any of fourteen, of any magnitude.

    Parameters
    ----------
    num_magnitude_bins : int, default 31
    interpolation : {"nearest", "bilinear", "bicubic"}, default "nearest"
    fill : float or sequence of float, default 0

    References
    ----------
    S. G. Müller and F. Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation" (2021).
    """

    def __init__(self, num_magnitude_bins=31, interpolation="nearest", fill=0):
        self.num_magnitude_bins = whole("TrivialAugmentWide", "num_magnitude_bins", num_magnitude_bins, 2)
        self.interpolation = choice("TrivialAugmentWide", "interpolation", interpolation, MODES)
        self.fill = filling("TrivialAugmentWide", fill)

    def _bins(self, plan, count):
        return plan.rng.integers(self.num_magnitude_bins, size=count)

    def _space(self, size):
        bins = self.num_magnitude_bins
        upto = lambda most: np.linspace(0.0, most, bins)  # noqa: E731
        return [("Identity", None, False), ("ShearX", upto(0.99), True), ("ShearY", upto(0.99), True),
                ("TranslateX", upto(32.0), True), ("TranslateY", upto(32.0), True), ("Rotate", upto(135.0), True),
                ("Brightness", upto(0.99), True), ("Color", upto(0.99), True), ("Contrast", upto(0.99), True),
                ("Sharpness", upto(0.99), True), ("Posterize", 8 - np.round(np.arange(bins) / ((bins - 1) / 6)), False),
                ("Solarize", 1 - upto(1.0), False), ("AutoContrast", None, False), ("Equalize", None, False)]
