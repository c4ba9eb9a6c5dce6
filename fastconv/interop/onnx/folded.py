"""Quantised constants: made floating point once, while tracing, so that convolutions see weights."""

from __future__ import annotations

import numpy as np

from fastconv.interop.onnx.narrow import INTEGERS, bounds, is_narrow, steps
from fastconv.interop.onnx.quantized import kind_of
from fastconv.interop.onnx.reading import held_as
from fastconv.interop.onnx.table import Node


def _along(node: Node, value: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A scale or zero point per channel, or per block of an axis, shaped to go with x."""
    block = node.get("block_size", 0)
    if value.size == 1:
        return value.reshape(())
    axis = node.dim(node.get("axis", 1), x.ndim)
    if block and value.ndim == x.ndim:
        return np.repeat(value, block, axis)[(slice(None),) * axis + (slice(x.shape[axis]),)]
    if value.ndim != 1:
        return value
    if len(value) != x.shape[axis]:
        raise node.fail(f"{len(value)} scales or zero points for axis {axis} of shape {x.shape}: expected {x.shape[axis]}")
    return value.reshape([-1 if i == axis else 1 for i in range(x.ndim)])


def dequantize(node: Node, x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None) -> list:
    if zero is not None:
        wide = np.float32 if x.dtype == np.float32 else np.int64
        x = x.astype(wide) - _along(node, zero, x).astype(wide)
    return [x.astype(np.float32) * _along(node, scale, x)]


def quantize(node: Node, x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None) -> list:
    kind = kind_of(node, zero, 2)
    with np.errstate(all="ignore"):
        y = x.astype(np.float32) / _along(node, scale, x)
    if is_narrow(kind):
        values, edges = steps(kind, bool(node.get("saturate", 1)), "up")
        missing = np.float32(0 if kind == "float4e2m1" else np.nan)
        return [np.where(np.isnan(y), missing, values[np.minimum(np.searchsorted(edges, y), len(values) - 1)])]
    if kind not in INTEGERS:
        raise node.fail(f"a zero point of dtype {kind}: expected integers, or floating point of 8 bits or fewer")
    y = np.nan_to_num(np.round(y), posinf=np.inf, neginf=-np.inf)
    if zero is not None:
        y = y + _along(node, zero, x).astype(np.float32)
    return [np.clip(y, *bounds(kind)).astype(held_as(kind))]


FOLDED = {"DequantizeLinear": dequantize, "QuantizeLinear": quantize}
