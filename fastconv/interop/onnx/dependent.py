"""Operators done on arrays, between what is compiled: those whose results are as large as values say, and two rare ones that
plans do not have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fastconv.functional.dependent import nms
from fastconv.interop.onnx import static
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
    "NonZero": non_zero, "NonMaxSuppression": non_max_suppression, "Det": det, "BitCast": bit_cast,
    **{name: lambda node, *values: static.reference(node, values) for name in ("Compress", "Unique")},
}


def on_host(node: Node, values: Sequence) -> Sequence:
    """The outputs of one of these operators."""
    return node.call(HOST[node.op], values)
