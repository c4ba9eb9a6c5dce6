"""Losses of masks and boxes: focal, Dice, Tversky, and the family of intersection over union, as torchvision names them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv.functional.activation import sigmoid
from fastconv.functional.activations import logsigmoid
from fastconv.functional.losses import alike, chosen, floats, real, reduced, shape_of
from fastconv.functional.parametric import clamp, where
from fastconv.functional.pointwise import atan, eq, maximum, minimum, square
from fastconv.functional.record import Array, array, fail, function, sample, wrong
from fastconv.functional.reduction import sum as total
from fastconv.functional.structure import unsqueeze
from fastconv.graph.ir import apply
from fastconv.ops.views import tensor

__all__ = ["box_area", "box_iou", "complete_box_iou", "complete_box_iou_loss", "dice_loss", "distance_box_iou",
           "distance_box_iou_loss", "generalized_box_iou", "generalized_box_iou_loss", "sigmoid_focal_loss", "tversky_loss"]


# ---- classes ------------------------------------------------------------------------------------------------------------


def _focal(inputs, targets, alpha=0.25, gamma=2.0, reduction="none"):
    p = 1 / (1 + np.exp(-inputs))
    right = p * targets + (1 - p) * (1 - targets)
    loss = -np.log(right) * (1 - right) ** gamma
    if alpha >= 0:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]


def _bits(*shape: int):
    return array(lambda g: g.integers(0, 2, shape).astype(np.float32))


@function(samples=lambda: [sample((3, 4), _bits(3, 4), reduction=r) for r in ("none", "mean", "sum")] + [
              sample((2, 3, 4), _bits(2, 3, 4), alpha=-1, gamma=1.5), sample((5,), _bits(5), alpha=0.6, gamma=0.0)],
          wrong=lambda: [wrong(ValueError, "alpha=2", (3,), (3,), alpha=2.0),
                         wrong(ValueError, "gamma=-1", (3,), (3,), gamma=-1.0),
                         wrong(ValueError, "targets of shape", (3,), (4,))], reference=_focal)
def sigmoid_focal_loss(inputs: Array, targets: Array, alpha: float = 0.25, gamma: float = 2,
                       reduction: str = "none") -> Array:
    """Cross entropy of sigmoids that counts the less the better an element is classified.

    ``-a * (1 - q)**gamma * log(q)``, where q is the probability of what the target says and a is ``alpha`` for targets 1 and
    ``1 - alpha`` for targets 0.

    Parameters
    ----------
    inputs : array, float32
        Logits.
    targets : array of the same shape, float32
        0 or 1.
    alpha : float, default 0.25
        0 to 1, or negative: no such factor.
    gamma : float, default 2
        At least 0.
    reduction : {"none", "mean", "sum"}, default "none"

    References
    ----------
    T.-Y. Lin et al., "Focal loss for dense object detection", ICCV 2017; torchvision.ops.
    """
    op = "sigmoid_focal_loss"
    reduction, alpha, gamma = chosen(op, reduction), real(op, "alpha", alpha), real(op, "gamma", gamma)
    if alpha > 1:
        fail(op, f"alpha={alpha}: expected 0 to 1, or a negative number")
    if gamma < 0:
        fail(op, f"gamma={gamma}: expected at least 0")
    inputs, targets = floats(op, inputs=inputs, targets=targets)
    alike(op, inputs, targets, "targets")
    entropy = (1.0 - targets) * inputs - logsigmoid(inputs)
    p = sigmoid(inputs)
    wrong = p + targets - 2.0 * p * targets  # the probability of what the target does not say
    loss = entropy if gamma == 0 else entropy * (square(wrong) if gamma == 2 else wrong if gamma == 1 else wrong**gamma)
    if alpha >= 0:
        loss = loss * (1.0 - alpha + (2.0 * alpha - 1.0) * targets)
    return reduced(loss, reduction)


def _shared(op: str, input, target) -> tuple:
    """Probabilities and their targets, which may be class indices, of one shape; and all dimensions of space."""
    (input,), target = floats(op, input=input), tensor(op, "target", target)
    if input.ndim < 2:
        fail(op, f"input of shape {shape_of(input)}: expected probabilities (N, C, ...)")
    if target.dtype != "float32":
        expected = (shape_of(input)[0], *shape_of(input)[2:])
        if target.dtype not in ("int64", "int32", "uint8", "int8"):
            fail(op, f"target has dtype {target.dtype}: expected float32, or class indices of an integer dtype", TypeError)
        if shape_of(target) != expected:
            fail(op, f"target of shape {shape_of(target)}: input of shape {shape_of(input)} expects class indices of shape "
                     f"{expected}, or an array of its own shape")
        count = shape_of(input)[1]
        classes = np.arange(count).reshape(1, count, *[1] * (input.ndim - 2))
        target = where(eq(unsqueeze(target, 1), classes), 1.0, 0.0)
    alike(op, input, target)
    return input, target, tuple(range(2, input.ndim))


def _over(x, dims: tuple[int, ...]):
    return total(x, dims) if dims else x


def _tversky(input, target, alpha=0.5, beta=0.5, smooth=1.0, reduction="mean"):
    if target.dtype.kind != "f":
        target = np.moveaxis(np.eye(input.shape[1])[target], -1, 1)
    dims = tuple(range(2, input.ndim))
    both, mine, theirs = ((a).sum(dims) for a in (input * target, input * (1 - target), (1 - input) * target))
    loss = 1 - (both + smooth) / (both + alpha * mine + beta * theirs + smooth)
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]


def _dice(input, target, smooth=1.0, reduction="mean"):
    if target.dtype.kind != "f":
        target = np.moveaxis(np.eye(input.shape[1])[target], -1, 1)
    dims = tuple(range(2, input.ndim))
    loss = 1 - (2 * (input * target).sum(dims) + smooth) / (input.sum(dims) + target.sum(dims) + smooth)
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]


def _shares(*shape: int):
    return array(lambda g: g.uniform(0.05, 0.95, shape).astype(np.float32))


def _labels(high: int, *shape: int):
    return array(lambda g: g.integers(0, high, shape))


@function(samples=lambda: [sample(_shares(2, 3, 4, 5), _bits(2, 3, 4, 5), reduction=r) for r in ("none", "mean", "sum")] + [
              sample(_shares(2, 3, 4), _labels(3, 2, 4), 0.0), sample(_shares(4, 3), _bits(4, 3), smooth=0.5)],
          wrong=lambda: [wrong(ValueError, "target of shape", (2, 3, 4), (2, 4)),
                         wrong(ValueError, "expects class indices of shape", (2, 3, 4), _labels(3, 2, 5)),
                         wrong(ValueError, "smooth=-1", (2, 3), (2, 3), smooth=-1.0),
                         wrong(ValueError, "input of shape (3,)", (3,), (3,))], reference=_dice)
def dice_loss(input: Array, target: Array, smooth: float = 1.0, reduction: str = "mean") -> Array:
    """1 - Dice's coefficient of probabilities and masks, of each image and class over its pixels.

    ``1 - (2 * sum(input * target) + smooth) / (sum(input) + sum(target) + smooth)``.

    Parameters
    ----------
    input : array (N, C, ...), float32
        Probabilities: what a sigmoid or a softmax gives.
    target : array of the input's shape, float32, or (N, ...) of integers
        Masks, or class indices.
    smooth : float, default 1
        At least 0.
    reduction : {"mean", "sum", "none"}, default "mean"
        Over images and classes; "none" gives (N, C).

    References
    ----------
    F. Milletari, N. Navab, S. Ahmadi, "V-Net", 3DV 2016.
    """
    op = "dice_loss"
    reduction, smooth = chosen(op, reduction), _at_least_0(op, "smooth", smooth)
    input, target, dims = _shared(op, input, target)
    both = _over(input * target, dims)
    return reduced(1.0 - (2.0 * both + smooth) / (_over(input + target, dims) + smooth), reduction)


@function(samples=lambda: [sample(_shares(2, 3, 4, 5), _bits(2, 3, 4, 5), 0.3, 0.7, reduction=r) for r in
                           ("none", "mean", "sum")] + [sample(_shares(2, 3, 4), _labels(3, 2, 4), 1.0, 0.5, 0.0)],
          wrong=lambda: [wrong(ValueError, "alpha=-1", (2, 3), (2, 3), alpha=-1.0)], reference=_tversky)
def tversky_loss(input: Array, target: Array, alpha: float = 0.5, beta: float = 0.5, smooth: float = 1.0,
                 reduction: str = "mean") -> Array:
    """1 - Tversky's index: :func:`dice_loss` with factors for what is too much and what is missing.

    ``1 - (b + smooth) / (b + alpha * sum(input * (1 - target)) + beta * sum((1 - input) * target) + smooth)``, where b is
    ``sum(input * target)``.

    Parameters
    ----------
    input, target, smooth, reduction
        As for :func:`dice_loss`.
    alpha, beta : float, default 0.5
        At least 0.

    References
    ----------
    S. Salehi, D. Erdogmus, A. Gholipour, "Tversky loss function for image segmentation", MLMI 2017.
    """
    op = "tversky_loss"
    reduction, smooth = chosen(op, reduction), _at_least_0(op, "smooth", smooth)
    alpha, beta = _at_least_0(op, "alpha", alpha), _at_least_0(op, "beta", beta)
    input, target, dims = _shared(op, input, target)
    both = _over(input * target, dims)
    rest = _over(alpha * input * (1.0 - target) + beta * (1.0 - input) * target, dims)
    return reduced(1.0 - (both + smooth) / (both + rest + smooth), reduction)


def _at_least_0(op: str, name: str, value) -> float:
    value = real(op, name, value)
    if value < 0:
        fail(op, f"{name}={value}: expected at least 0")
    return value


# ---- boxes --------------------------------------------------------------------------------------------------------------


def _boxes(*shape: int):
    def make(g):
        corner, size = g.uniform(0, 4, (*shape, 2)), g.uniform(0.5, 5, (*shape, 2))
        return np.concatenate([corner, corner + size], -1).astype(np.float32)

    return array(make)


def check_boxes(op: str, **boxes) -> list:
    found = floats(op, **boxes)
    for name, b in zip(boxes, found, strict=True):
        if not b.ndim or shape_of(b)[-1] != 4:
            fail(op, f"{name} of shape {shape_of(b)}: expected (..., 4), corners x1, y1, x2, y2")
    return found


def corners(boxes) -> tuple:
    return tuple(boxes[..., i] for i in range(4))


def iou_terms(one, other, kind: str, eps: float, area_eps: float):
    """Intersection over union of boxes whose shapes broadcast, less what a kind takes from it."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = corners(one), corners(other)
    inter = clamp(minimum(ax2, bx2) - maximum(ax1, bx1), min=0.0) * clamp(minimum(ay2, by2) - maximum(ay1, by1), min=0.0)
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inter
    iou = inter / (union + area_eps)
    if kind == "plain":
        return iou
    wide, high = maximum(ax2, bx2) - minimum(ax1, bx1), maximum(ay2, by2) - minimum(ay1, by1)
    if kind == "generalized":
        hull = wide * high
        return iou - (hull - union) / (hull + area_eps)
    diagonal = square(wide) + square(high) + eps
    apart = square((ax1 + ax2 - bx1 - bx2) * 0.5) + square((ay1 + ay2 - by1 - by2) * 0.5)
    near = iou - apart / diagonal
    if kind == "distance":
        return near
    turn = square(atan((bx2 - bx1) / (by2 - by1)) - atan((ax2 - ax1) / (ay2 - ay1))) * (4 / math.pi**2)
    return near, turn, iou


def complete(one, other, eps: float, area_eps: float):
    near, turn, iou = iou_terms(one, other, "complete", eps, area_eps)
    return near - turn * apply("detach", [turn / (1.0 - iou + turn + eps)])


def _np(name: str, loss: bool):
    """The definitions again, in NumPy."""
    def of(boxes1, boxes2, reduction="none", eps=1e-7):
        a, b = (boxes1, boxes2) if loss else (boxes1[:, None], boxes2[None])
        low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
        inter = np.prod(np.maximum(high - low, 0), -1)
        area = [np.prod(x[..., 2:] - x[..., :2], -1) for x in (a, b)]
        union = area[0] + area[1] - inter
        iou = inter / union
        hull = np.maximum(a[..., 2:], b[..., 2:]) - np.minimum(a[..., :2], b[..., :2])
        result = iou
        if name == "generalized":
            result = iou - (np.prod(hull, -1) - union) / np.prod(hull, -1)
        elif name != "plain":
            centres = [(x[..., 2:] + x[..., :2]) / 2 for x in (a, b)]
            result = iou - ((centres[0] - centres[1]) ** 2).sum(-1) / ((hull**2).sum(-1) + eps)
            if name == "complete":
                angle = [np.arctan((x[..., 2] - x[..., 0]) / (x[..., 3] - x[..., 1])) for x in (a, b)]
                v = 4 / np.pi**2 * (angle[1] - angle[0]) ** 2
                result = result - v * v / (1 - iou + v + eps)
        result = 1 - result if loss else result
        return {"none": result, "mean": result.mean(), "sum": result.sum()}[reduction]

    return of


_BOX_LOSS = {"samples": lambda: [sample(_boxes(6), _boxes(6), reduction=r) for r in ("none", "mean", "sum")] + [
                 sample(_boxes(2, 3), _boxes(2, 3)), sample(_boxes(), _boxes())],
             "wrong": lambda: [wrong(ValueError, "boxes1 of shape (6, 5)", (6, 5), (6, 4)),
                               wrong(ValueError, "reduction='x'", (6, 4), (6, 4), reduction="x"),
                               wrong(ValueError, "boxes2 of shape (5, 4)", (6, 4), (5, 4))]}


def _loss(op: str, boxes1, boxes2, reduction, eps) -> tuple:
    boxes1, boxes2 = check_boxes(op, boxes1=boxes1, boxes2=boxes2)
    alike(op, boxes1, boxes2, "boxes2")
    return boxes1, boxes2, chosen(op, reduction), real(op, "eps", eps)


@function(**_BOX_LOSS, reference=_np("generalized", True))
def generalized_box_iou_loss(boxes1: Array, boxes2: Array, reduction: str = "none", eps: float = 1e-7) -> Array:
    """1 - the generalised intersection over union: less what is in neither box of the smallest box around both.

    Parameters
    ----------
    boxes1, boxes2 : arrays (..., 4), float32
        Corners x1, y1, x2, y2, with x1 < x2 and y1 < y2.
    reduction : {"none", "mean", "sum"}, default "none"
    eps : float, default 1e-7
        Added to what is divided by.

    References
    ----------
    H. Rezatofighi et al., "Generalized intersection over union", CVPR 2019; torchvision.ops.
    """
    boxes1, boxes2, reduction, eps = _loss("generalized_box_iou_loss", boxes1, boxes2, reduction, eps)
    return reduced(1.0 - iou_terms(boxes1, boxes2, "generalized", eps, eps), reduction)


@function(**_BOX_LOSS, reference=_np("distance", True))
def distance_box_iou_loss(boxes1: Array, boxes2: Array, reduction: str = "none", eps: float = 1e-7) -> Array:
    """1 - intersection over union, plus the squared distance of the centres over that of the corners of the box around both.

    Parameters as for :func:`generalized_box_iou_loss`.

    References
    ----------
    Z. Zheng et al., "Distance-IoU loss", AAAI 2020; torchvision.ops.
    """
    boxes1, boxes2, reduction, eps = _loss("distance_box_iou_loss", boxes1, boxes2, reduction, eps)
    return reduced(1.0 - iou_terms(boxes1, boxes2, "distance", eps, eps), reduction)


@function(**_BOX_LOSS, reference=_np("complete", True))
def complete_box_iou_loss(boxes1: Array, boxes2: Array, reduction: str = "none", eps: float = 1e-7) -> Array:
    """:func:`distance_box_iou_loss`, plus what differs in the ratio of width and height.

    Parameters as for :func:`generalized_box_iou_loss`. No gradient passes through the weight of the ratio.

    References
    ----------
    Z. Zheng et al., "Distance-IoU loss", AAAI 2020; torchvision.ops.
    """
    boxes1, boxes2, reduction, eps = _loss("complete_box_iou_loss", boxes1, boxes2, reduction, eps)
    return reduced(1.0 - complete(boxes1, boxes2, eps, eps), reduction)


_BOX_PAIRS = {"samples": lambda: [sample(_boxes(3), _boxes(4))],
              "wrong": lambda: [wrong(ValueError, "boxes1 of shape (6, 5)", (6, 5), (6, 4))]}


def _each(op: str, boxes1, boxes2) -> tuple[Any, Any]:
    boxes1, boxes2 = check_boxes(op, boxes1=boxes1, boxes2=boxes2)
    if boxes1.ndim != 2 or boxes2.ndim != 2:
        fail(op, f"boxes1 of shape {shape_of(boxes1)} and boxes2 of shape {shape_of(boxes2)}: expected (N, 4) and (M, 4)")
    return unsqueeze(boxes1, 1), unsqueeze(boxes2, 0)


@function(samples=lambda: [sample(_boxes(5))], wrong=lambda: [wrong(ValueError, "boxes of shape (5, 3)", (5, 3))],
          reference=lambda boxes: (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))
def box_area(boxes: Array) -> Array:
    """The areas of boxes (..., 4), corners x1, y1, x2, y2."""
    (boxes,) = check_boxes("box_area", boxes=boxes)
    x1, y1, x2, y2 = corners(boxes)
    return (x2 - x1) * (y2 - y1)


@function(**_BOX_PAIRS, reference=_np("plain", False))
def box_iou(boxes1: Array, boxes2: Array) -> Array:
    """Intersection over union of each of N boxes with each of M: (N, M).

    Parameters
    ----------
    boxes1, boxes2 : arrays (N, 4) and (M, 4), float32
        Corners x1, y1, x2, y2.
    """
    return iou_terms(*_each("box_iou", boxes1, boxes2), "plain", 0.0, 0.0)


@function(**_BOX_PAIRS, reference=_np("generalized", False))
def generalized_box_iou(boxes1: Array, boxes2: Array) -> Array:
    """The generalised intersection over union of each with each; as :func:`box_iou` and :func:`generalized_box_iou_loss`."""
    return iou_terms(*_each("generalized_box_iou", boxes1, boxes2), "generalized", 0.0, 0.0)


@function(**_BOX_PAIRS, reference=_np("distance", False))
def distance_box_iou(boxes1: Array, boxes2: Array, eps: float = 1e-7) -> Array:
    """Distance intersection over union of each with each; as :func:`box_iou` and :func:`distance_box_iou_loss`."""
    return iou_terms(*_each("distance_box_iou", boxes1, boxes2), "distance", real("distance_box_iou", "eps", eps), 0.0)


@function(**_BOX_PAIRS, reference=_np("complete", False))
def complete_box_iou(boxes1: Array, boxes2: Array, eps: float = 1e-7) -> Array:
    """Complete intersection over union of each with each; as :func:`box_iou` and :func:`complete_box_iou_loss`."""
    return complete(*_each("complete_box_iou", boxes1, boxes2), real("complete_box_iou", "eps", eps), 0.0)
