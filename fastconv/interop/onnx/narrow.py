"""Values of a few bits, held in wider dtypes: the conversions to them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fastconv.interop.onnx.reading import BITS, SMALL, dtypes
from fastconv.interop.onnx.table import Node, function, tensor

INTEGERS = {"int2", "uint2", "int4", "uint4", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"}


def bounds(kind: str) -> tuple[int, int]:
    """The smallest and the largest value of an integer type."""
    bits = BITS[kind]
    return (0, 2**bits - 1) if kind.startswith("u") else (-2 ** (bits - 1), 2 ** (bits - 1) - 1)


def is_narrow(kind: str) -> bool:
    """Whether float32 is rounded where it becomes this."""
    return kind in SMALL and kind not in INTEGERS


@lru_cache(64)
def steps(kind: str, saturate: bool, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Every value of a type of floating point in ascending order, and between each two of them the largest float32 that
    belongs to the lower one. Ties go to the even one, as IEEE 754 has it."""
    from onnx import helper

    number = next(n for n, name in dtypes().items() if name == kind)
    codes = np.arange(2 ** SMALL[kind], dtype=np.uint8)  # NumPy's extension types have a byte an element
    values = codes.view(helper.tensor_dtype_to_np_dtype(number)).astype(np.float32)
    kept = np.isfinite(values) & ~((values == 0) & np.signbit(values))
    order = np.argsort(values[kept], kind="stable")
    values, codes = values[kept][order], codes[kept][order]
    with np.errstate(over="ignore"):
        middle = (values[:-1].astype(np.float64) + values[1:]) / 2
    if kind == "float8e8m0":  # powers of two
        edges = {"up": values[:-1].astype(np.float64), "down": np.nextafter(values[1:], -np.inf, dtype=np.float32),
                 "nearest": np.nextafter(middle.astype(np.float32), -np.inf, dtype=np.float32)}[mode]
        return values, np.asarray(edges, np.float32)
    even = codes[1:] % 2 == 0  # of the upper ones: a tie is theirs
    edges = np.where(even, np.nextafter(middle.astype(np.float32), -np.inf, dtype=np.float32), middle.astype(np.float32))
    if not saturate and kind != "float4e2m1":
        beyond = np.float32(np.inf if kind == "float8e5m2" else np.nan)
        half = (values[-1].astype(np.float64) - values[-2]) / 2
        last = np.float32(values[-1] + half)
        edge = last if codes[-1] % 2 == 0 else np.nextafter(last, -np.inf, dtype=np.float32)
        values = np.concatenate([[-beyond], values, [beyond]]).astype(np.float32)
        lower = -edge if codes[-1] % 2 else np.nextafter(-edge, -np.inf, dtype=np.float32)
        edges = np.concatenate([[lower], edges, [edge]])
    return values, np.asarray(edges, np.float32)


def rounded(node: Node, x, kind: str, saturate: bool = True, mode: str = "up"):
    """Float32 that has the values of a narrower type."""
    x = tensor(x)
    x = x if x.dtype == "float32" else function(node, "cast")(x, "float32")
    values, edges = steps(kind, saturate, mode)
    place = function(node, "searchsorted")(tensor(edges), x.reshape(-1))
    y = function(node, "index_select")(tensor(values), 0, place).reshape(*x.shape)
    missing = 0.0 if kind == "float4e2m1" else float("nan")  # which the type of four bits does not have
    return function(node, "where")(function(node, "isnan")(x), missing, y)


def wrapped(node: Node, x, kind: str):
    """Whole numbers of float32 that an integer type of few bits holds: what is beyond begins anew."""
    low, high = bounds(kind)
    x = tensor(x)
    x = function(node, "trunc")(x) if x.dtype == "float32" else function(node, "cast")(x, "float32")
    return function(node, "remainder")(x - float(low), float(high - low + 1)) + float(low)
