"""Two images as one: each with the one before it in the batch; labels become probabilities of classes."""

from __future__ import annotations

import numpy as np

from .base import Transform, number, whole


class _Mixing(Transform):
    def __init__(self, *, alpha=1.0, num_classes=None):
        name = type(self).__name__
        self.alpha = number(name, "alpha", alpha, 1e-6, 1e6)
        self.num_classes = None if num_classes is None else whole(name, "num_classes", num_classes, 2)

    def draw(self, plan):
        """Nothing to the images alone."""

    def mix(self, batch, kinds, rng, layout):
        """Mixes the finished batch."""
        name = type(self).__name__
        if any(kind in ("boxes", "keypoints", "mask") for kind in kinds):
            raise TypeError(f"{name}: a batch with boxes, key points or masks: expected images and labels")
        place = kinds.index("image")
        batch = list(batch)
        batch[place], share = self._mixed(batch[place], rng.beta(self.alpha, self.alpha), rng, layout)
        for i, kind in enumerate(kinds):
            if kind == "label":
                soft = self._soft(name, np.asarray(batch[i]))
                batch[i] = (share * soft + (1 - share) * np.roll(soft, 1, axis=0)).astype(np.float32)
        return batch

    def _soft(self, name, labels):
        if labels.ndim == 2 and labels.dtype.kind == "f":
            return labels.astype(np.float64)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise TypeError(f"{name}: labels of shape {labels.shape} and dtype {labels.dtype}: expected classes (N,) or "
                            "probabilities (N, classes)")
        if self.num_classes is None:
            raise ValueError(f"{name}: num_classes=None: labels that are classes need their number")
        if len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(f"{name}: labels from {labels.min()} to {labels.max()}: expected 0 to {self.num_classes - 1}")
        return np.eye(self.num_classes)[labels]

    def _mixed(self, images, share, rng, layout):
        raise NotImplementedError


class MixUp(_Mixing):
    """Add to each image the one before it in the batch; its own share of both is drawn for the batch.

    Parameters
    ----------
    alpha : float, default 1
        Of the Beta distribution of the share.
    num_classes : int, optional
        How many there are, where labels are classes; labels become float32 (N, num_classes).

    References
    ----------
    H. Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2017).
    """

    def _mixed(self, images, share, rng, layout):
        mixed = np.float32(share) * images + np.float32(1 - share) * np.roll(images, 1, axis=0)
        return (np.rint(mixed).astype(np.uint8) if images.dtype == np.uint8 else mixed), share


class CutMix(_Mixing):
    """Put into each image a part of the one before it in the batch, the same part for all.

    Parameters
    ----------
    alpha, num_classes
        As MixUp's; the share is the area that is left.

    References
    ----------
    S. Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features" (2019).
    """

    def _mixed(self, images, share, rng, layout):
        height, width = images.shape[2:] if layout == "NCHW" else images.shape[1:3]
        half = 0.5 * np.sqrt(1.0 - share)
        row, column = rng.integers(height), rng.integers(width)
        top, bottom = max(0, int(row - half * height)), min(height, int(row + half * height))
        left, right = max(0, int(column - half * width)), min(width, int(column + half * width))
        out, other = images.copy(), np.roll(images, 1, axis=0)
        part = np.s_[..., top:bottom, left:right] if layout == "NCHW" else np.s_[:, top:bottom, left:right]
        out[part] = other[part]
        return out, 1.0 - (bottom - top) * (right - left) / (height * width)
