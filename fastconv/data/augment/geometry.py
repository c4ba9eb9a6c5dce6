"""Where pixels go. Names and arguments are those of torchvision.transforms.v2; what is drawn is drawn for each image."""

from __future__ import annotations

import numpy as np

from fastconv._values import shown

from .base import Transform, around, choice, extents, filling, flag, number, pair, whole
from .plan import BORDERS, MODES


def affine_matrices(size, angle=0.0, translate=(0.0, 0.0), scale=1.0, shear=(0.0, 0.0), center=None, count=None):
    """From pixels of what comes out to pixels of what there is: of a clockwise rotation by degrees, a translation in pixels,
    a scale and shears in degrees around the centre, in this order backwards; arrays of one per image, or numbers."""
    height, width = size
    cx, cy = (width / 2, height / 2) if center is None else center
    values = np.broadcast_arrays(angle, *translate, scale, *shear, np.zeros(1 if count is None else count))
    rot, tx, ty, scale, sx, sy = (np.asarray(v, np.float64) for v in values[:6])
    rot, sx, sy = np.radians(rot), np.radians(sx), np.radians(sy)
    a, b = np.cos(rot - sy) / np.cos(sy), -np.cos(rot - sy) * np.tan(sx) / np.cos(sy) - np.sin(rot)
    c, d = np.sin(rot - sy) / np.cos(sy), -np.sin(rot - sy) * np.tan(sx) / np.cos(sy) + np.cos(rot)
    out = np.zeros((len(rot), 3, 3))
    out[:, 0, 0], out[:, 0, 1], out[:, 1, 0], out[:, 1, 1], out[:, 2, 2] = d / scale, -b / scale, -c / scale, a / scale, 1
    out[:, 0, 2] = -out[:, 0, 0] * (cx + tx) - out[:, 0, 1] * (cy + ty) + cx
    out[:, 1, 2] = -out[:, 1, 0] * (cx + tx) - out[:, 1, 1] * (cy + ty) + cy
    return out


def two(owner, name, value):
    """A sequence of two."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{owner}: {name}={shown(value)}: expected two numbers")
    return value


def shifted(rows, columns):
    """Of parts that begin at these rows and columns."""
    rows, columns = np.broadcast_arrays(rows, columns)
    out = np.tile(np.eye(3), (len(rows), 1, 1))
    out[:, 1, 2], out[:, 0, 2] = rows, columns
    return out


class RandomAffine(Transform):
    """Rotate, move, scale and shear each image, by one warp.

    Parameters
    ----------
    degrees : float or (float, float)
        A range of angles, or their largest.
    translate : (float, float), optional
        The largest part of the width and of the height by which it moves, 0 to 1; by whole pixels.
    scale : (float, float), optional
        A range of factors above 0.
    shear : float, (float, float) or four floats, optional
        A range of degrees along x, or of x and of y.
    interpolation : {"nearest", "bilinear", "bicubic"}, default "nearest"
    fill : float or sequence of float, default 0
        The value of what comes in, or one per channel.
    center : (float, float), optional
        What it turns around, x and y in pixels; default the centre.

    Raises
    ------
    TypeError, ValueError
        At construction: an argument outside of its rule. When called: images that are none.
    """

    def __init__(self, degrees, translate=None, scale=None, shear=None, interpolation="nearest", fill=0, center=None):
        self.degrees = around("RandomAffine", "degrees", degrees, 1e6)
        self.translate = None if translate is None else tuple(
            number("RandomAffine", "translate", t, 0, 1) for t in two("RandomAffine", "translate", translate))
        self.scale = None if scale is None else pair("RandomAffine", "scale", scale, 1e-6, 1e6)
        if shear is None or isinstance(shear, (tuple, list)) and len(shear) == 4:
            ranges = (0.0, 0.0, 0.0, 0.0) if shear is None else shear
        else:
            ranges = (*around("RandomAffine", "shear", shear, 89), 0.0, 0.0)
        self.shear = tuple(v for r in (ranges[:2], ranges[2:]) for v in pair("RandomAffine", "shear", r, -89, 89))
        self.interpolation = choice("RandomAffine", "interpolation", interpolation, MODES)
        self.fill = filling("RandomAffine", fill)
        self.center = None if center is None else tuple(
            number("RandomAffine", "center", c, -1e6, 1e6) for c in two("RandomAffine", "center", center))

    def draw(self, plan):
        """Adds to the programs of a batch."""
        rng, n, (height, width) = plan.rng, plan.count, plan.size
        angle = rng.uniform(*self.degrees, n)
        move = self.translate or (0.0, 0.0)
        x, y = (np.round(rng.uniform(-p * s, p * s, n)) for p, s in zip(move, (width, height), strict=True))
        scale = rng.uniform(*(self.scale or (1.0, 1.0)), n)
        shear = rng.uniform(*self.shear[:2], n), rng.uniform(*self.shear[2:], n)
        plan.warp(affine_matrices(plan.size, angle, (x, y), scale, shear, self.center), None, self.interpolation, self.fill,
                  "constant")


class RandomRotation(Transform):
    """Turn each image counter-clockwise by degrees of a range; arguments as RandomAffine's."""

    def __init__(self, degrees, interpolation="nearest", fill=0, center=None):
        self.degrees = around("RandomRotation", "degrees", degrees, 1e6)
        self.interpolation = choice("RandomRotation", "interpolation", interpolation, MODES)
        self.fill = filling("RandomRotation", fill)
        self.center = None if center is None else tuple(
            number("RandomRotation", "center", c, -1e6, 1e6) for c in two("RandomRotation", "center", center))

    def draw(self, plan):
        """Adds to the programs of a batch."""
        angle = plan.rng.uniform(*self.degrees, plan.count)
        plan.warp(affine_matrices(plan.size, -angle, center=self.center), None, self.interpolation, self.fill, "constant")


class _RandomFlip(Transform):
    _axis: int

    def __init__(self, p=0.5):
        self.p = number(type(self).__name__, "p", p, 0, 1)

    def draw(self, plan):
        """Adds to the programs of a batch."""
        matrices, chosen = np.tile(np.eye(3), (plan.count, 1, 1)), plan.select(self.p)
        axis = self._axis
        matrices[chosen, axis, axis], matrices[chosen, axis, 2] = -1, plan.size[1 - axis]
        plan.warp(matrices)


class RandomHorizontalFlip(_RandomFlip):
    """Mirror each image, left for right, with probability `p` (default 0.5)."""

    _axis = 0


class RandomVerticalFlip(_RandomFlip):
    """Mirror each image, top for bottom, with probability `p` (default 0.5)."""

    _axis = 1


class RandomShift(Transform):
    """Shift each image by up to `pixels` rows and columns; what comes in repeats the image's edge.

    Parameters
    ----------
    pixels : int
        At least 1. Every shift from ``-pixels`` to ``pixels`` is equally likely, in both directions.
    """

    def __init__(self, pixels):
        self.pixels = whole("RandomShift", "pixels", pixels, 1)

    def draw(self, plan):
        """Adds to the programs of a batch."""
        rows, columns = plan.rng.integers(-self.pixels, self.pixels, (2, plan.count), endpoint=True)
        plan.warp(shifted(rows, columns), border="edge")


class Pad(Transform):
    """Add a border to each image.

    Parameters
    ----------
    padding : int, (int, int) or four ints
        All sides; left and right, top and bottom; or left, top, right, bottom.
    fill : float or sequence of float, default 0
    padding_mode : {"constant", "edge", "reflect", "symmetric"}, default "constant"
    """

    def __init__(self, padding, fill=0, padding_mode="constant"):
        self.padding = sides(type(self).__name__, padding)
        self.fill = filling("Pad", fill)
        self.padding_mode = choice("Pad", "padding_mode", padding_mode, BORDERS)

    def draw(self, plan):
        """Adds to the programs of a batch."""
        left, top, right, bottom = self.padding
        size = plan.size[0] + top + bottom, plan.size[1] + left + right
        plan.warp(shifted(np.full(plan.count, -top), -left), size, None, self.fill, self.padding_mode)


def sides(owner, padding):
    """Left, top, right, bottom."""
    values = padding if isinstance(padding, (tuple, list)) else (padding,)
    if len(values) not in (1, 2, 4):
        raise ValueError(f"{owner}: padding={shown(padding)}: expected 1, 2 or 4 ints")
    return tuple(whole(owner, "padding", v, 0) for v in (tuple(values) * (4 // len(values))))


class RandomCrop(Transform):
    """Cut a part of each image, anywhere in it.

    Parameters
    ----------
    size : int or (int, int)
        Height and width.
    padding : int, (int, int) or four ints, optional
        A border that is added before, as Pad's.
    pad_if_needed : bool, default False
        Images that are too small get a border; else they are an error.
    fill, padding_mode
        As Pad's.
    """

    def __init__(self, size, padding=None, pad_if_needed=False, fill=0, padding_mode="constant"):
        self.size = extents("RandomCrop", "size", size)
        self.padding = None if padding is None else sides("RandomCrop", padding)
        self.pad_if_needed = flag("RandomCrop", "pad_if_needed", pad_if_needed)
        self.fill = filling("RandomCrop", fill)
        self.padding_mode = choice("RandomCrop", "padding_mode", padding_mode, BORDERS)

    def draw(self, plan):
        """Adds to the programs of a batch."""
        left, top, right, bottom = self.padding or (0, 0, 0, 0)
        height, width = plan.size[0] + top + bottom, plan.size[1] + left + right
        if self.pad_if_needed:
            more = max(0, self.size[0] - height), max(0, self.size[1] - width)
            top, left, height, width = top + more[0], left + more[1], height + 2 * more[0], width + 2 * more[1]
        if self.size[0] > height or self.size[1] > width:
            raise ValueError(f"RandomCrop: size={self.size} is larger than images of {(height, width)} pixels")
        rows = plan.rng.integers(0, height - self.size[0], plan.count, endpoint=True) - top
        columns = plan.rng.integers(0, width - self.size[1], plan.count, endpoint=True) - left
        inside = (self.padding is None and (height, width) == plan.size)
        plan.warp(shifted(rows, columns), self.size, None, self.fill, None if inside else self.padding_mode)


class CenterCrop(Transform):
    """Cut the middle out of each image; what is beyond it is 0.

    Parameters
    ----------
    size : int or (int, int)
        Height and width.
    """

    def __init__(self, size):
        self.size = extents("CenterCrop", "size", size)

    def draw(self, plan):
        """Adds to the programs of a batch."""
        row, column = (round((have - want) / 2) for have, want in zip(plan.size, self.size, strict=True))
        inside = all(have >= want for have, want in zip(plan.size, self.size, strict=True))
        plan.warp(shifted(np.full(plan.count, row), column), self.size, border=None if inside else "constant")


class Resize(Transform):
    """Make images of a size.

    Parameters
    ----------
    size : int or (int, int)
        Height and width; an int is the shorter side, the other in proportion.
    interpolation : {"nearest", "bilinear", "bicubic"}, default "bilinear"
    antialias : bool, default True
        Wider weights where images get smaller.
    """

    def __init__(self, size, interpolation="bilinear", antialias=True):
        self.size = extents("Resize", "size", size) if isinstance(size, (tuple, list)) else whole("Resize", "size", size, 1)
        self.interpolation = choice("Resize", "interpolation", interpolation, MODES)
        self.antialias = flag("Resize", "antialias", antialias)

    def draw(self, plan):
        """Adds to the programs of a batch."""
        height, width = plan.size
        size = self.size
        if isinstance(size, int):
            short, long = min(height, width), max(height, width)
            other = int(size * long / short)
            size = (size, other) if height <= width else (other, size)
        boxes = np.tile([0.0, 0.0, height, width], (plan.count, 1))
        plan.resize(boxes, size, self.interpolation, self.antialias)


class RandomResizedCrop(Transform):
    """Cut a part of each image, of any area and proportion of a range, and make an image of a size of it.

    Parameters
    ----------
    size : int or (int, int)
        Height and width.
    scale : (float, float), default (0.08, 1.0)
        A range of areas, parts of the image's.
    ratio : (float, float), default (3/4, 4/3)
        A range of widths over heights; the logarithm is what is equally likely.
    interpolation, antialias
        As Resize's.

    References
    ----------
    C. Szegedy et al., "Going Deeper with Convolutions" (2015), section 6.
    """

    def __init__(self, size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), interpolation="bilinear", antialias=True):
        self.size = extents("RandomResizedCrop", "size", size)
        self.scale = pair("RandomResizedCrop", "scale", scale, 1e-6, 1.0)
        self.ratio = pair("RandomResizedCrop", "ratio", ratio, 1e-3, 1e3)
        self.interpolation = choice("RandomResizedCrop", "interpolation", interpolation, MODES)
        self.antialias = flag("RandomResizedCrop", "antialias", antialias)

    def draw(self, plan):
        """Adds to the programs of a batch."""
        plan.resize(self.boxes(plan), self.size, self.interpolation, self.antialias)

    def boxes(self, plan):
        """Parts: of ten tries the first that is within the image, else the middle."""
        height, width = plan.size
        tries = (plan.count, 10)
        area = height * width * plan.rng.uniform(*self.scale, tries)
        ratio = np.exp(plan.rng.uniform(*np.log(self.ratio), tries))
        w, h = np.round(np.sqrt(area * ratio)), np.round(np.sqrt(area / ratio))
        place = plan.rng.random((2, plan.count))
        good = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        first = good.argmax(axis=1)
        w, h = (a[np.arange(plan.count), first] for a in (w, h))
        none = ~good.any(axis=1)
        least, most = self.ratio
        middle = (width, max(1, round(width / least))) if width / height < least else \
            (max(1, round(height * most)), height) if width / height > most else (width, height)
        w[none], h[none] = min(width, middle[0]), min(height, middle[1])
        top, left = np.floor(place[0] * (height - h + 1)), np.floor(place[1] * (width - w + 1))
        top[none], left[none] = (height - h[none]) // 2, (width - w[none]) // 2
        return np.stack([top, left, h, w], 1)


class RandomPerspective(Transform):
    """See each image from aside with probability `p`: its corners move inwards.

    Parameters
    ----------
    distortion_scale : float, default 0.5
        How far at most, 0 to 1 of the way to the centre.
    p : float, default 0.5
    interpolation : {"nearest", "bilinear", "bicubic"}, default "bilinear"
    fill : float or sequence of float, default 0
    """

    def __init__(self, distortion_scale=0.5, p=0.5, interpolation="bilinear", fill=0):
        self.distortion_scale = number("RandomPerspective", "distortion_scale", distortion_scale, 0, 1)
        self.p = number("RandomPerspective", "p", p, 0, 1)
        self.interpolation = choice("RandomPerspective", "interpolation", interpolation, MODES)
        self.fill = filling("RandomPerspective", fill)

    def draw(self, plan):
        """Adds to the programs of a batch."""
        height, width = plan.size
        chosen = plan.select(self.p)
        moves = plan.rng.random((plan.count, 4, 2)) * (self.distortion_scale / 2) * (width, height)
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
        ends = corners + moves * [[1, 1], [-1, 1], [-1, -1], [1, -1]]
        matrices = np.tile(np.eye(3), (plan.count, 1, 1))
        for i in chosen:  # eight equations: ends to corners
            rows = []
            for (x, y), (u, v) in zip(ends[i], corners, strict=True):
                rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
            matrices[i] = np.append(np.linalg.lstsq(np.array(rows), corners.reshape(-1), rcond=None)[0], 1.0).reshape(3, 3)
        plan.warp(matrices, None, self.interpolation, self.fill, "constant")


class RandomErasing(Transform):
    """Fill a part of each image with probability `p`; cutout.

    Parameters
    ----------
    p : float, default 0.5
    scale : (float, float), default (0.02, 0.33)
        A range of areas, parts of the image's.
    ratio : (float, float), default (0.3, 3.3)
        A range of heights over widths.
    value : float or sequence of float, default 0
        What it is filled with, or one per channel.

    References
    ----------
    Z. Zhong et al., "Random Erasing Data Augmentation" (2017); T. DeVries and G. W. Taylor, "Improved Regularization of
    Convolutional Neural Networks with Cutout" (2017).
    """

    def __init__(self, p=0.5, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0):
        self.p = number("RandomErasing", "p", p, 0, 1)
        self.scale = pair("RandomErasing", "scale", scale, 0, 1)
        self.ratio = pair("RandomErasing", "ratio", ratio, 1e-3, 1e3)
        self.value = filling("RandomErasing", value, "value")

    def draw(self, plan):
        """Adds to the programs of a batch."""
        height, width = plan.size
        chosen = plan.select(self.p)
        area = height * width * plan.rng.uniform(*self.scale, (plan.count, 10))
        ratio = np.exp(plan.rng.uniform(*np.log(self.ratio), (plan.count, 10)))
        place = plan.rng.random((2, plan.count))
        h, w = np.round(np.sqrt(area * ratio)), np.round(np.sqrt(area / ratio))
        good = (h < height) & (w < width) & (h > 0) & (w > 0)
        chosen = chosen[good[chosen].any(axis=1)]
        first = good.argmax(axis=1)
        h, w = (a[np.arange(plan.count), first] for a in (h, w))
        top, left = np.floor(place[0] * (height - h + 1)), np.floor(place[1] * (width - w + 1))
        boxes = np.stack([top, left, h, w], 1)[chosen]
        plan.values("erase", chosen, boxes, np.tile(plan.filled(self.value), (len(chosen), 1)))


