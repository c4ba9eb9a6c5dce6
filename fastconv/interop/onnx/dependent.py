"""Operators done on arrays, between what is compiled: those whose results are as large as values say, and those of single
bits, which plans do not have (they compute integers in float32)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fastconv.functional.dependent import nms
from fastconv.interop.onnx import static
from fastconv.interop.onnx.narrow import INTEGERS
from fastconv.interop.onnx.reading import BITS, SMALL, dtypes, ours
from fastconv.interop.onnx.table import Node

Host = Callable[..., Sequence]


def non_zero(node: Node, x: np.ndarray) -> list:
    return [np.array(np.nonzero(np.atleast_1d(x)), np.int64)]


def corners(boxes: np.ndarray, centred: bool) -> np.ndarray:
    """Boxes by two corners, the smaller coordinates first."""
    a, b = boxes[..., :2], boxes[..., 2:]
    if centred:
        return np.concatenate([a - b / 2, a + b / 2], -1)
    return np.concatenate([np.minimum(a, b), np.maximum(a, b)], -1)


def non_max_suppression(node: Node, boxes, scores, most=None, overlap=None, least=None) -> list:
    """Rows (image, class, box), the best first within each class."""
    if boxes.ndim != 3 or boxes.shape[-1] != 4 or scores.ndim != 3 or scores.shape[0] != boxes.shape[0] or \
            scores.shape[2] != boxes.shape[1]:
        raise node.fail(f"boxes of shape {boxes.shape} and scores of shape {scores.shape}: expected (N, boxes, 4) and "
                        "(N, classes, boxes)")
    count = 0 if most is None else int(node.number(most, "max_output_boxes_per_class"))
    limit = 0.0 if overlap is None else float(node.number(overlap, "iou_threshold"))
    if not 0 <= limit <= 1:
        raise node.fail(f"iou_threshold={limit}: expected 0 to 1")
    floor = -np.inf if least is None else float(node.number(least, "score_threshold"))
    rows = []
    for image, own in enumerate(corners(boxes.astype(np.float32), bool(node.get("center_point_box", 0)))):
        for kind, values in enumerate(scores[image] if count > 0 else ()):
            there = np.flatnonzero(values > floor)
            kept = there[nms(np.ascontiguousarray(own[there]), np.ascontiguousarray(values[there]), limit)[:count]] \
                if len(there) else there
            rows.append(np.stack([np.full(len(kept), image), np.full(len(kept), kind), kept], 1))
    return [np.concatenate(rows).astype(np.int64) if rows else np.zeros((0, 3), np.int64)]


def own(node: Node, place: int, x: np.ndarray) -> np.ndarray:
    """An input of integers in the type that the file says, where tensors hold it in a wider dtype."""
    kind = node.kind(place) or x.dtype.name
    if kind not in INTEGERS or BITS[kind] < 8:
        raise node.fail(f"an input of dtype {kind}: expected integers of 8 bits and more", TypeError)
    return x.astype(kind)


def bitwise(name: str) -> Host:
    return lambda node, *values: [ours(np.asarray(getattr(np, name)(*(own(node, i, v) for i, v in enumerate(values)))))]


def bit_shift(node: Node, x, by) -> list:
    """Amounts below 0, or of all bits and more, leave what the sign's extension is alone."""
    x, by = np.broadcast_arrays(own(node, 0, x), own(node, 1, by))
    bits, unsigned = 8 * x.itemsize, np.dtype(f"u{x.itemsize}")
    inside = (by >= 0) & (by < bits)
    amount = np.where(inside, by, 0).astype(unsigned)
    if node.get("direction") == "LEFT":
        return [ours(np.where(inside, (x.view(unsigned) << amount).view(x.dtype), 0).astype(x.dtype))]
    if node.get("direction") != "RIGHT":
        raise node.fail(f"direction={node.get('direction')!r}: expected LEFT or RIGHT")
    return [ours(np.where(inside, x >> amount.astype(x.dtype), np.where(x < 0, -1, 0)).astype(x.dtype))]


def bit_cast(node: Node, x) -> list:
    kind, to = node.kind(0) or x.dtype.name, dtypes().get(node.get("to"), "")
    for name in (kind, to):
        if name not in BITS or name in SMALL or name == "bfloat16":
            raise node.fail(f"from {kind} to {to or node.get('to')}: expected numbers of 8 bits and more")
    if BITS[kind] != BITS[to]:
        raise node.fail(f"from {kind} to {to}: expected as many bits")
    if "float" in kind and kind != "float32":
        raise node.fail(f"from {kind}, which is held in float32: its bits are not there", NotImplementedError)
    return [ours(x.astype(kind).view(to))]


def det(node: Node, x) -> list:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise node.fail(f"an input of shape {x.shape}: expected square matrices")
    return [np.asarray(np.linalg.det(x.astype(np.float64)), np.float32)]


HOST: dict[str, Host] = {
    "NonZero": non_zero, "NonMaxSuppression": non_max_suppression, "Det": det, "BitShift": bit_shift, "BitCast": bit_cast,
    "BitwiseAnd": bitwise("bitwise_and"), "BitwiseOr": bitwise("bitwise_or"), "BitwiseXor": bitwise("bitwise_xor"),
    "BitwiseNot": bitwise("invert"),
    **{name: lambda node, *values: static.reference(node, values) for name in ("Compress", "Unique")},
}


def on_host(node: Node, values: Sequence) -> Sequence:
    """The outputs of one of these operators."""
    try:
        return HOST[node.op](node, *values)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        if node.name in str(error):
            raise
        raise node.fail(f"inputs and attributes that do not fit together ({error})") from error
