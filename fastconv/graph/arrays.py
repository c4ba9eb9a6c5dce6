"""What arrays from outside must be: one rule, one set of messages."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from fastconv._arrays import refuse_masked
from fastconv._values import shown
from fastconv.kernels.call import empty_channels_last
from fastconv.kernels.layout import distinct
from fastconv.kernels.locks import Reentered


def as_float32(op: str, name: str, value) -> np.ndarray:
    """The one rule for arrays: native float32, taken without a copy where possible; nothing is converted silently.

    Raises
    ------
    TypeError
        For any other dtype or byte order, and for what is no array.
    """
    array = value
    if type(array) is not np.ndarray:
        refuse_masked(op, name, array)
    if not isinstance(array, np.ndarray):
        if hasattr(value, "__dlpack__") or hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
            array = foreign(op, name, value)
        else:
            try:
                array = np.asarray(memoryview(value))
            except TypeError:
                raise TypeError(f"{op}: {name} is a {type(value).__name__}: expected a float32 array") from None
    if array.dtype != np.float32:
        swapped = array.dtype.newbyteorder("=") == np.float32
        what = f"{array.dtype} (byte-swapped)" if swapped else f"{array.dtype}"
        raise TypeError(f"{op}: {name} has dtype {what}: expected float32; convert with .astype(np.float32)")
    if any(s % 4 for s in array.strides) or not array.flags.aligned:
        array = array.copy(order="C")  # ascontiguousarray would hand back what is merely unaligned
    return array


def foreign(op: str, name: str, value) -> np.ndarray:
    """Another library's array as NumPy's, without a copy where that is possible."""
    try:
        return np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)
    except Reentered:  # its own method has called what asks it
        raise
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{op}: {name} is a {type(value).__name__} that NumPy cannot take ({error}): expected a float32 "
                        "array") from error


def as_int64(op: str, name: str, value) -> np.ndarray:
    """The one rule for class indices: any integer dtype of native byte order, converted to int64.

    Raises
    ------
    TypeError
        For any other dtype or byte order.
    ValueError
        For values of 2**63 and more, which would turn negative (and might be an ``ignore_index`` then).
    """
    refuse_masked(op, name, value)
    array = np.asarray(value)
    if array.dtype.kind not in "iu" or not array.dtype.isnative:
        what = f"{array.dtype} (byte-swapped)" if not array.dtype.isnative else f"{array.dtype}"
        raise TypeError(f"{op}: {name} has dtype {what}: expected integers; convert with .astype(np.int64)")
    if array.dtype == np.uint64 and array.size and array.max() >= 2**63:
        raise ValueError(f"{op}: {name} holds {array.max()}: expected integers below 2**63")
    return array.astype(np.int64, copy=False)


HARD = 10_000  # how much NumPy may work at the question whether two arrays share memory, before the answer is yes


def overlap(a, b) -> bool:
    """Whether two arrays share an element's memory; False where one of them is no array."""
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.may_share_memory(a, b)):
        return False
    try:
        return np.shares_memory(a, b, max_work=HARD)  # type: ignore[arg-type]  # any number; its stub says two
    except np.exceptions.TooHardError:
        return True


def refuse_shared(op: str, arrays: Sequence) -> None:
    """Says which two of the arrays that a run is to write share memory."""
    for i, a in enumerate(arrays):
        for j, b in enumerate(arrays[:i]):
            if overlap(a, b):
                raise ValueError(f"{op}: out[{j}] and out[{i}] share memory")


def copied(arrays: Sequence[np.ndarray], written: Sequence) -> list[np.ndarray]:
    """The arrays that a run reads, those copied which share memory with one that it writes: it may be written before it is
    read."""
    return [a.copy(order="K") if any(overlap(a, w) for w in written) else a for a in arrays]


def refuse_out(op: str, array, shape: tuple[int, ...]) -> None:
    """Says what is wrong with an ``out`` that was not taken."""
    refuse_masked(op, "out", array)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{op}: out is a {type(array).__name__}: expected a float32 array of shape {shape}")
    if array.dtype != np.float32:
        raise TypeError(f"{op}: out has dtype {array.dtype}: expected float32")
    if array.shape != tuple(shape):
        raise ValueError(f"{op}: out has shape {array.shape}: expected {tuple(shape)}")
    if not array.flags.writeable:
        raise ValueError(f"{op}: out is read-only")
    if not distinct(array):
        raise ValueError(f"{op}: out of strides {array.strides} has elements that share memory")
    raise ValueError(f"{op}: out is not aligned to its elements")


def check_shape(op: str, name: str, shape) -> tuple[int, ...]:
    """A shape as a tuple of integers; extents at least 1 behind the batch, and no more elements than memory can hold."""
    try:
        shape = tuple(int(s.__index__()) for s in shape)
    except (TypeError, AttributeError):
        raise TypeError(f"{op}: {name}={shown(shape)}: expected a sequence of integers, like (1, 3, 224, 224)") from None
    if not 2 <= len(shape) <= 5:
        raise ValueError(f"{op}: {name}={shape} has {len(shape)} dimensions: expected 2 (N, features) to 5 (N, C, D, H, W)")
    if shape[0] < 0 or any(s < 1 for s in shape[1:]):
        raise ValueError(f"{op}: {name}={shape}: every extent must be at least 1")
    if prod(shape) * 4 >= 2**62:
        raise ValueError(f"{op}: {name}={shape}: the product of the extents overflows")
    return shape


def lies_channels_last(array: np.ndarray) -> bool:
    """Whether images, or whatever has dimensions behind the channels, lie densely with their channels last, and not in C
    order as well: results are then made so, too."""
    return array.ndim > 2 and not array[:1].flags.c_contiguous and np.moveaxis(array[:1], 1, -1).flags.c_contiguous


def fresh(outputs: Sequence[tuple[tuple[int, ...], bool]], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """New float32 arrays by shape; those of images (the second of each pair) channels-last where the first of the inputs
    that has more than two dimensions lies so."""
    first = next((a for a in inputs if a.ndim > 2), None)
    last = first is not None and lies_channels_last(first)
    return [empty_channels_last(tuple(s)) if last and images and len(s) > 2 else np.empty(s, np.float32)
            for s, images in outputs]
