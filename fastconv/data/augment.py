"""What a DataLoader's `augment` may be."""

import numbers
import operator

import numpy as np


class RandomShift:
    """Shift each image of a batch by up to `pixels` rows and columns; what comes in repeats the image's edge.

    Parameters
    ----------
    pixels : int
        At least 1. Every shift from ``-pixels`` to ``pixels`` is equally likely, in both directions.

    Raises
    ------
    TypeError, ValueError
        At construction: a `pixels` outside its rule. When called: a first array that is not (N, C, H, W).

    Examples
    --------
    >>> loader = DataLoader(dataset, batch_size=64, shuffle=True, augment=RandomShift(1))
    """

    def __init__(self, pixels):
        try:
            self.pixels = operator.index(pixels)
        except TypeError:
            raise TypeError(f"RandomShift: pixels must be an int, got {type(pixels).__name__}") from None
        if self.pixels < 1:
            raise ValueError(f"RandomShift: pixels={pixels} must be at least 1")

    def __call__(self, batch, rng):
        """Return the batch with its first array, (N, C, H, W), shifted; `rng` is a ``numpy.random.Generator``."""
        images, *others = _in_order(type(self).__name__, batch)
        if images.ndim != 4:
            raise ValueError(f"RandomShift: images of shape {images.shape} must be (N, C, H, W)")
        count, p = len(images), self.pixels
        padded = np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, images.shape[2:], axis=(2, 3))
        rows, columns = rng.integers(0, 2 * p, (2, count), endpoint=True)
        return windows[np.arange(count), :, rows, columns], *others

    def __repr__(self):
        return f"RandomShift({self.pixels})"


class RandomHorizontalFlip:
    """Mirror each image of a batch, left for right, with probability `p`.

    Parameters
    ----------
    p : float, default 0.5
        0 to 1.

    Raises
    ------
    TypeError, ValueError
        At construction: a `p` outside its rule. When called: a first array that is not (N, C, H, W).
    """

    def __init__(self, p=0.5):
        if isinstance(p, bool) or not isinstance(p, numbers.Real):
            raise TypeError(f"RandomHorizontalFlip: p must be a number, got {type(p).__name__}")
        if not 0 <= float(p) <= 1:
            raise ValueError(f"RandomHorizontalFlip: p={p} must be from 0 to 1")
        self.p = float(p)

    def __call__(self, batch, rng):
        """Return the batch with images of its first array, (N, C, H, W), mirrored; `rng` is a ``numpy.random.Generator``."""
        images, *others = _in_order(type(self).__name__, batch)
        if images.ndim != 4:
            raise ValueError(f"RandomHorizontalFlip: images of shape {images.shape} must be (N, C, H, W)")
        chosen = rng.random(len(images)) < self.p
        images = images.copy()
        images[chosen] = images[chosen, ..., ::-1]
        return images, *others

    def __repr__(self):
        return f"RandomHorizontalFlip({self.p})"


def _in_order(owner, batch):
    """Return a batch of arrays in order; one with names is refused."""
    if isinstance(batch, dict):
        raise TypeError(f"{owner}: the batch is a dict of {', '.join(map(str, batch))}: expected a tuple, images first")
    return batch
