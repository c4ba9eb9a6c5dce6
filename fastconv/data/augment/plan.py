"""What is done to the images of a batch: a program each, geometry as one warp where it can be, run by one kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.kernels import augment as kernels
from fastconv.kernels import threads
from fastconv.kernels._runtime import StepList

MODES = ("nearest", "bilinear", "bicubic")
BORDERS = ("constant", "edge", "reflect", "symmetric")
OP = {name: float(i) for i, name in enumerate(kernels.OPS)}
LANES = 16  # floats of the widest vector


def pitch(channels: int) -> int:
    """Values of a pixel between two steps."""
    return 1 if channels == 1 else 4 if channels <= 4 else channels


class Plan:
    """The programs of a batch under way.

    Parameters
    ----------
    shape : tuple of int
        (N, C, H, W) of the images.
    top : float
        The largest value: 255 or 1.
    rng : numpy.random.Generator
        What is drawn is drawn from it, for all images at once.
    """

    def __init__(self, shape: tuple[int, ...], top: float, rng: np.random.Generator):
        self.count, self.channels, height, width = shape
        self.top, self.rng, self.size = top, rng, (height, width)
        self.everyone = np.arange(self.count)
        self.total = np.tile(np.eye(3), (self.count, 1, 1))  # from pixels of the result to those of the image as it came
        self.pending = self.total.copy()  # the same, of what has not been warped yet
        self.stored = np.tile(np.array(self.size), (self.count, 1))  # the size of what has been
        self.style: list | None = None  # interpolation, border and fill of what is pending
        self.events: list[tuple] = []
        self.length = np.zeros(self.count, np.int64)
        self.room, self.lines = height * width, 0
        self.scale: tuple | None = None  # a factor and an addend per channel, with which a float32 result is made
        self.floats = top == 1.0

    # ---- geometry -------------------------------------------------------------------------------------------------------

    def warp(self, matrices, size=None, interpolation: str | None = None, fill=0.0, border: str | None = None) -> None:
        """Matrices (N, 3, 3) from pixels of what comes out, of this size, to pixels of what there is.

        ``interpolation`` None: pixels fall on pixels. ``border`` None: all of them within the image. Both then go together
        with whatever else it is warped with.
        """
        if border is not None:
            style = [interpolation, border, tuple(self.filled(fill))]
            if self.style is not None:
                if self.style[1:] != style[1:] or None not in (self.style[0], style[0]) and self.style[0] != style[0]:
                    self.flush(self.everyone)
                else:
                    style[0] = style[0] or self.style[0]
            self.style = style
        self.pending = self.pending @ matrices
        self.total = self.total @ matrices
        self.size = self.size if size is None else tuple(size)

    def filled(self, value) -> np.ndarray:
        """A value per channel."""
        if np.size(value) not in (1, self.channels):
            raise ValueError(f"augment: {np.size(value)} values to fill in, {tuple(np.ravel(value))}: images have "
                             f"{self.channels} channels")
        return np.broadcast_to(np.asarray(value, np.float64).reshape(-1), (self.channels,))

    def flush(self, chosen) -> None:
        """Warps the chosen images, where anything is pending."""
        chosen_all = len(chosen) == self.count
        moved = (self.pending[chosen] != np.eye(3)).any(axis=(1, 2)) | (self.stored[chosen] != self.size).any(axis=1)
        chosen = chosen[moved]
        if len(chosen):
            mode, border, fill = self.style or (None, "constant", tuple(self.filled(0.0)))
            rows = np.empty((len(chosen), 14 + self.channels), np.float32)
            rows[:, 0], rows[:, 1:3] = OP["warp"], self.size
            rows[:, 3:12] = self.pending[chosen].reshape(-1, 9)
            rows[:, 12:14] = MODES.index(mode or MODES[0]), BORDERS.index(border)
            rows[:, 14:] = fill
            self.emit(chosen, rows)
            self.pending[chosen], self.stored[chosen] = np.eye(3), self.size
            self.room = max(self.room, self.size[0] * self.size[1])
        if chosen_all:
            self.style = None

    def resize(self, boxes, size, interpolation: str, antialias: bool) -> None:
        """Parts (top, left, height, width), an array (N, 4), as images of this size."""
        boxes = np.asarray(boxes, np.float64)
        scale = boxes[:, 2:] / size
        matrices = np.tile(np.eye(3), (self.count, 1, 1))
        matrices[:, 0, 0], matrices[:, 1, 1] = scale[:, 1], scale[:, 0]
        matrices[:, 0, 2], matrices[:, 1, 2] = boxes[:, 1], boxes[:, 0]
        if not antialias or interpolation == "nearest":
            self.warp(matrices, size, interpolation, border="edge")
            return
        self.flush(self.everyone)
        cubic = interpolation == "bicubic"
        most = int(np.ceil((2 if cubic else 1) * max(1.0, scale.max(initial=0)))) * 2 + 2
        rows = np.empty((self.count, 9), np.float32)
        rows[:, 0], rows[:, 1:3], rows[:, 3:7], rows[:, 7], rows[:, 8] = OP["resize"], size, boxes, cubic, most
        self.emit(self.everyone, rows)
        widest = int(self.stored[:, 1].max(initial=0))
        self.work(widest * pitch(self.channels) + (size[1] + 1) * most + 4 * size[1])
        self.total = self.total @ matrices
        self.size = tuple(size)
        self.stored[:] = self.size
        self.room = max(self.room, size[0] * size[1])

    # ---- values -----------------------------------------------------------------------------------------------------

    def values(self, op: str, chosen, *parameters) -> None:
        """An operation on the values of the chosen images; parameters are numbers, or arrays with a row for each."""
        if not len(chosen):
            return
        self.flush(chosen)
        columns = [np.full((len(chosen), 1), OP[op])]
        columns += [np.broadcast_to(np.asarray(p, np.float64).reshape(-1, 1) if np.ndim(p) < 2 else p,
                                    (len(chosen), 1 if np.ndim(p) < 2 else np.shape(p)[1])) for p in parameters]
        self.emit(chosen, np.concatenate(columns, axis=1).astype(np.float32))

    def blur(self, chosen, weights_y, weights_x) -> None:
        """Weights, a row for each of the chosen images, along both axes."""
        self.work((self.size[1] + weights_x.shape[1]) * pitch(self.channels))
        self.values("blur", chosen, weights_y.shape[1], weights_x.shape[1], weights_y, weights_x)

    def affine(self, factor, addend) -> None:
        """What each channel is multiplied with, then what is added; the result is float32."""
        factor, addend = self.filled(factor), self.filled(addend)
        before = (np.ones(self.channels), np.zeros(self.channels)) if self.scale is None else self.scale
        self.scale = (before[0] * factor, before[1] * factor + addend)

    def select(self, probability: float):
        """Which images something with this probability is done to."""
        return np.flatnonzero(self.rng.random(self.count) < probability)

    def work(self, floats: int) -> None:
        """A step needs so many floats beside its images."""
        self.lines = max(self.lines, floats + 8 * LANES)

    def emit(self, chosen, rows) -> None:
        """Appends to programs."""
        self.events.append((chosen, self.length[chosen], rows))
        self.length[chosen] += rows.shape[1]

    # ---- the run ------------------------------------------------------------------------------------------------------

    def run(self, images: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
        """The images, (N, C, H, W), through their programs; the result lies in memory in this order of dimensions."""
        self.flush(self.everyone)
        if self.scale is not None:
            one = np.concatenate(self.scale)
            self.emit(self.everyone, np.tile(np.concatenate([[OP["affine"]], one]).astype(np.float32), (self.count, 1)))
        start = np.concatenate([[0], np.cumsum(self.length)])
        program = np.zeros(max(1, int(start[-1])), np.float32)
        for chosen, at, rows in self.events:
            program[(start[chosen] + at)[:, None] + np.arange(rows.shape[1])] = rows
        shape = (self.count, self.channels, *self.size)
        dtype = np.float32 if self.scale is not None else images.dtype
        out = np.empty([shape[d] for d in order], dtype).transpose(np.argsort(order))
        step = kernels.augment(x=_operand(images), y=_operand(out), shape=images.shape, size=self.size,
                               program=program.ctypes.data, start=start.ctypes.data, room=self.room, lines=self.lines)
        StepList([step], self.count).run(threads.get_num_threads())
        return out


def masks_like(plan: Plan, masks: np.ndarray) -> np.ndarray:
    """Masks, (N, H, W) or (N, C, H, W) of whole numbers below 2**24, moved as the images were, the nearest pixel each."""
    images = masks if masks.ndim == 4 else masks[:, None]
    values = np.ascontiguousarray(images, np.float32)
    follow = Plan(values.shape, 1.0, plan.rng)
    follow.warp(plan.total, plan.size, "nearest", border="constant")
    moved = follow.run(values, (0, 1, 2, 3)).astype(masks.dtype)
    return moved if masks.ndim == 4 else moved[:, 0]


def points_like(plan: Plan, points: np.ndarray) -> np.ndarray:
    """Points, (..., 2) of each image, x and y in pixels, moved as the images were."""
    back = np.linalg.inv(plan.total).reshape(plan.count, *(1,) * (points.ndim - 2), 3, 3)
    ones = np.concatenate([points, np.ones((*points.shape[:-1], 1))], axis=-1)
    moved = (back @ ones[..., None])[..., 0]
    return moved[..., :2] / moved[..., 2:]


def boxes_like(plan: Plan, boxes: np.ndarray) -> np.ndarray:
    """Boxes (N, K, 4), x1, y1, x2, y2: the box around the corners where these have gone, cut off at the image."""
    corners = boxes[..., [[0, 1], [2, 1], [2, 3], [0, 3]]].reshape(*boxes.shape[:-1], 4, 2)
    moved = points_like(plan, corners)
    limit = np.array(plan.size[::-1], np.float64)
    low, high = np.clip(moved.min(axis=-2), 0, limit), np.clip(moved.max(axis=-2), 0, limit)
    return np.concatenate([low, high], axis=-1)


def _operand(a: Any) -> tuple:
    return a.ctypes.data, tuple(s // a.itemsize for s in a.strides), a.dtype.name
