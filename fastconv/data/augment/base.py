"""What transforms have in common: how a batch is taken apart and put together again."""

from __future__ import annotations

import numbers
import operator
from typing import Any

import numpy as np

from fastconv._arrays import refuse_masked
from fastconv._values import shown

from .plan import Plan, boxes_like, masks_like, points_like

KINDS = ("image", "mask", "boxes", "keypoints", "label")
LAYOUTS = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 2, 3, 1)}


class Transform:
    """A step of augmentation, on batches of images.

    Called with a batch and a ``numpy.random.Generator``, as a DataLoader's ``augment`` is, it returns the batch with its
    first array changed: images (N, C, H, W), uint8 or float32 (then from 0 to 1). :class:`Compose` takes several of them,
    other orders of dimensions, and masks, boxes and key points that go along.
    """

    def draw(self, plan: Plan) -> None:
        """Adds to the programs of a batch."""
        raise NotImplementedError

    def mix(self, batch: list, kinds: list[str], rng, layout: str) -> list:
        """What it does to the finished batch."""
        return batch

    def __call__(self, batch, rng=None):
        """Return the batch; `rng` is a ``numpy.random.Generator``, a seed, or None for one that nobody can repeat."""
        return Compose([self])._run(batch, rng, type(self).__name__)

    def __repr__(self):
        fields = ", ".join(f"{key}={shown(value)}" for key, value in vars(self).items() if not key.startswith("_"))
        return f"{type(self).__name__}({fields})"


class Compose(Transform):
    """Several transforms, one after another; geometry that follows on geometry is one warp.

    Parameters
    ----------
    transforms : sequence of transforms
    fields : sequence of str, or dict of name to str, optional
        What the arrays of a batch are: "image" (once), "mask" (N, H, W) or (N, C, H, W), of whole numbers, moved by nearest
        pixels, "boxes" (N, K, 4), x1, y1, x2, y2 in pixels, cut off at the image, "keypoints" (N, ..., 2), x and y, or
        "label" (left alone, but for MixUp and CutMix). Default: an image first, then labels.
    layout : {"NCHW", "NHWC"}, default "NCHW"
        The dimensions of images.

    Raises
    ------
    TypeError, ValueError
        For arguments and arrays that are not so, naming them and the rule.

    Examples
    --------
    >>> augment = Compose([RandomAffine(10, scale=(0.9, 1.1)), RandomHorizontalFlip(), ColorJitter(0.2)])
    >>> loader = DataLoader(dataset, batch_size=64, shuffle=True, augment=augment)
    """

    def __init__(self, transforms, fields=None, layout="NCHW"):
        transforms = several("Compose", transforms)
        choice("Compose", "layout", layout, LAYOUTS)
        if fields is not None and not isinstance(fields, (dict, list, tuple)):
            raise TypeError(f"Compose: fields={shown(fields)}: expected a sequence of kinds, or a dict of name to kind")
        kinds = [] if fields is None else list(fields.values() if isinstance(fields, dict) else fields)
        if any(not isinstance(kind, str) or kind not in KINDS for kind in kinds):
            raise ValueError(f"Compose: fields={shown(fields)}: expected some of {', '.join(map(repr, KINDS))}")
        if fields is not None and kinds.count("image") != 1:
            raise ValueError(f"Compose: fields={shown(fields)}: expected 'image' once")
        self.transforms, self.fields, self.layout = transforms, fields, layout

    def draw(self, plan):
        """Adds to the programs of a batch."""
        for transform in self.transforms:
            transform.draw(plan)

    def mix(self, batch, kinds, rng, layout):
        """What the transforms do to the finished batch."""
        for transform in self.transforms:
            batch = transform.mix(batch, kinds, rng, layout)
        return batch

    def __call__(self, batch, rng=None):
        """Return the batch; `rng` is a ``numpy.random.Generator``, a seed, or None for one that nobody can repeat."""
        return self._run(batch, rng, "Compose")

    def _run(self, batch, rng, owner):
        names: list | None = None
        if isinstance(batch, dict):
            if not isinstance(self.fields, dict) or set(self.fields) - set(batch):
                have = ", ".join(map(str, batch))
                raise TypeError(f"{owner}: the batch is a dict of {have}: expected a tuple, images first, or "
                                "Compose(fields={name: kind})")
            names = list(batch)
            kinds, parts = [self.fields.get(name, "label") for name in names], list(batch.values())
        else:
            alone = not isinstance(batch, (tuple, list))
            parts = [batch] if alone else list(batch)
            if isinstance(self.fields, dict):
                raise TypeError(f"{owner}: the batch is a {type(batch).__name__}: fields={self.fields} asks for a dict")
            kinds = list(self.fields or ["image"])
            if len(kinds) > len(parts):
                raise ValueError(f"{owner}: the batch has {len(parts)} arrays: expected {len(kinds)}, fields={self.fields}")
            kinds += ["label"] * (len(parts) - len(kinds))
        rng = generator(owner, rng)
        images = taken(owner, parts[kinds.index("image")], self.layout)
        plan = Plan(images.shape, 255.0 if images.dtype == np.uint8 else 1.0, rng)
        self.draw(plan)
        out = []
        for kind, part in zip(kinds, parts, strict=True):
            out.append(part if kind == "label" else along(owner, plan, kind, part, images, self.layout))
        out = self.mix(out, kinds, rng, self.layout)
        if names is not None:
            return dict(zip(names, out, strict=True))
        return out[0] if alone else tuple(out)


def along(owner: str, plan: Plan, kind: str, part, images, layout: str):
    """A field of a batch, moved as its images are."""
    if kind == "image":
        moved = plan.run(images, LAYOUTS[layout])
        return moved.transpose(LAYOUTS[layout])
    array = np.asarray(part)
    if len(array) != plan.count:
        raise ValueError(f"{owner}: {kind} of shape {array.shape} for {plan.count} images")
    if kind == "mask":
        if array.ndim not in (3, 4) or array.shape[-2:] != images.shape[2:]:
            raise ValueError(f"{owner}: masks of shape {array.shape} for images of {images.shape[2:]} pixels: expected "
                             "(N, H, W) or (N, C, H, W)")
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{owner}: masks have dtype {array.dtype}: expected numbers")
        return masks_like(plan, array)
    last = 4 if kind == "boxes" else 2
    if array.ndim < 2 or array.shape[-1] != last or array.dtype.kind not in "iuf":
        raise ValueError(f"{owner}: {kind} of shape {array.shape}, dtype {array.dtype}: expected numbers (N, ..., {last})")
    moved = (boxes_like if kind == "boxes" else points_like)(plan, array.astype(np.float64))
    return moved.astype(array.dtype if array.dtype.kind == "f" else np.float32)


def taken(owner: str, images, layout: str = "NCHW") -> np.ndarray:
    """Images as (N, C, H, W), uint8 or float32, of any strides."""
    refuse_masked(owner, "images", images)
    array = np.asarray(images)
    if array.ndim != 4:
        words = ", ".join(layout)
        raise ValueError(f"{owner}: images of shape {array.shape} must be ({words})")
    if array.dtype not in (np.uint8, np.float32) or not array.dtype.isnative:
        raise TypeError(f"{owner}: images have dtype {array.dtype}: expected uint8 or float32")
    if array.strides and any(s % array.itemsize for s in array.strides):
        array = array.copy()
    array = array.transpose((0, 3, 1, 2)) if layout == "NHWC" else array
    if array.shape[0] and 0 in array.shape:
        raise ValueError(f"{owner}: images of shape {np.shape(images)}: expected at least one pixel")
    return array


def generator(owner: str, rng) -> np.random.Generator:
    """The generator of an argument."""
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng() if rng is None else rng
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer)) or rng < 0:
        raise TypeError(f"{owner}: rng={shown(rng)}: expected a numpy.random.Generator, a seed or None")
    return np.random.default_rng(int(rng))


# ---- arguments ----------------------------------------------------------------------------------------------------------

def number(owner: str, name: str, value: Any, low: float, high: float) -> float:
    """A number within bounds."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{owner}: {name} must be a number, got {type(value).__name__}")
    if not low <= float(value) <= high:
        raise ValueError(f"{owner}: {name}={shown(value)} must be from {low:g} to {high:g}")
    return float(value)


def flag(owner: str, name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{owner}: {name}={shown(value)} must be True or False")
    return bool(value)


def whole(owner: str, name: str, value: Any, least: int) -> int:
    """An integer of at least ``least``, and below 2**24."""
    try:
        number = operator.index(value) if not isinstance(value, bool) else None
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{owner}: {name} must be an int, got {type(value).__name__}")
    if number < least:
        raise ValueError(f"{owner}: {name}={number} must be at least {least}")
    if number >= 2**24:
        raise ValueError(f"{owner}: {name}={shown(value)} must be below {2**24}")
    return number


def pair(owner: str, name: str, value: Any, low: float, high: float) -> tuple[float, float]:
    """Two numbers within bounds, the first no larger than the second."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{owner}: {name}={shown(value)}: expected two numbers")
    a, b = (number(owner, name, v, low, high) for v in value)
    if a > b:
        raise ValueError(f"{owner}: {name}={shown(value)}: the first must not be larger than the second")
    return a, b


def around(owner: str, name: str, value: Any, high: float) -> tuple[float, float]:
    """A range from a number, its largest distance from 0, or two."""
    if isinstance(value, (tuple, list)):
        return pair(owner, name, value, -high, high)
    size = number(owner, name, value, 0, high)
    return -size, size


def extents(owner: str, name: str, value: Any) -> tuple[int, int]:
    """Height and width."""
    values = value if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{owner}: {name}={shown(value)}: expected an int or two, height and width")
    return whole(owner, name, values[0], 1), whole(owner, name, values[1], 1)


def choice(owner: str, name: str, value: Any, options) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{owner}: {name}={shown(value)}: expected one of {', '.join(map(repr, options))}")
    return value


def filling(owner: str, value: Any, name: str = "fill", low: float = -3e38) -> tuple[float, ...]:
    """A number, or one per channel."""
    values = value.tolist() if isinstance(value, np.ndarray) else value
    return tuple(number(owner, name, v, low, 3e38) for v in (values if isinstance(values, (tuple, list)) else (values,)))


def several(owner: str, transforms: Any) -> list[Transform]:
    """A list of transforms."""
    if not isinstance(transforms, (list, tuple)) or not all(isinstance(t, Transform) for t in transforms):
        raise TypeError(f"{owner}: transforms={shown(transforms)}: expected a list of transforms")
    return list(transforms)
