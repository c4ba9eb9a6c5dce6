"""What arrays from outside must be: one rule, one set of messages."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from fastconv._arrays import lent, refuse_masked
from fastconv._values import shown
from fastconv.graph.ir import ITEMSIZE, RANK
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


def foreign(op: str, name: str, value, wanted: str = "a float32 array") -> np.ndarray:
    """Another library's array as NumPy's, without a copy where that is possible."""
    try:
        return lent(value)
    except Reentered:  # its own method has called what asks it
        raise
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{op}: {name} is a {type(value).__name__} that NumPy cannot take ({error}): expected {wanted}") \
            from error


def plain(op: str, name: str, value, wanted: str = "an array") -> np.ndarray:
    """Whatever resembles an array as NumPy's, of any dtype."""
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
        return np.asarray(value)
    return foreign(op, name, value, wanted)


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
    array = plain(op, name, value, "integers")
    if array.dtype.kind not in "iu" or not array.dtype.isnative:
        what = f"{array.dtype} (byte-swapped)" if not array.dtype.isnative else f"{array.dtype}"
        raise TypeError(f"{op}: {name} has dtype {what}: expected integers; convert with .astype(np.int64)")
    if array.dtype == np.uint64 and array.size and array.max() >= 2**63:
        raise ValueError(f"{op}: {name} holds {array.max()}: expected integers below 2**63")
    return array.astype(np.int64, copy=False)


def as_integers(op: str, name: str, value, dtype: str) -> np.ndarray:
    """An array of an input that is not float32: integers of any kind for int64, else exactly its dtype.

    Raises
    ------
    TypeError, ValueError
        As :func:`as_int64`; for any other dtype than the one expected.
    """
    if dtype == "int64":
        return as_int64(op, name, value)
    refuse_masked(op, name, value)
    array = plain(op, name, value, f"{dtype}")
    if array.dtype != dtype:
        raise TypeError(f"{op}: {name} has dtype {array.dtype}: expected {dtype}")
    return array


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


def refuse_out(op: str, array, shape: tuple[int, ...], dtype: str = "float32") -> None:
    """Says what is wrong with an ``out`` that was not taken."""
    refuse_masked(op, "out", array)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{op}: out is a {type(array).__name__}: expected a {dtype} array of shape {shape}")
    if array.dtype != dtype:
        raise TypeError(f"{op}: out has dtype {array.dtype}: expected {dtype}")
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
    if not 1 <= len(shape) <= RANK:
        raise ValueError(f"{op}: {name}={shape} has {len(shape)} dimensions: expected 1 (N) to {RANK}, like (N, C, H, W)")
    if shape[0] < 0 or any(s < 1 for s in shape[1:]):
        raise ValueError(f"{op}: {name}={shape}: every extent must be at least 1")
    if prod(shape) * 4 >= 2**62:
        raise ValueError(f"{op}: {name}={shape}: the product of the extents overflows")
    return shape


def input_specs(op: str, input_shape) -> list[tuple[tuple[int, ...], str, str]]:
    """The inputs of a network as (shape, name, dtype): of one shape, a sequence of them, or a dict of names.

    Each is a tuple of integers, or a pair of such and a dtype, where that is not float32: ``((1, 77), "int64")``.
    """
    if isinstance(input_shape, dict):
        if not input_shape:
            raise ValueError(f"{op}: input_shape={{}}: expected at least one input")
        for name in input_shape:
            if not isinstance(name, str):
                raise TypeError(f"{op}: input_shape has the name {shown(name)}: expected a string")
        named, given = list(input_shape), list(input_shape.values())
    else:
        several = isinstance(input_shape, (list, tuple)) and len(input_shape) > 0 and not _pair(input_shape) and \
            all(isinstance(s, (list, tuple)) for s in input_shape)
        given = list(input_shape) if several else [input_shape]
        named = ["input"] if len(given) == 1 else [f"input{i}" for i in range(len(given))]
    specs = []
    for name, value in zip(named, given, strict=True):
        shape, dtype = value if _pair(value) else (value, "float32")
        if dtype not in ITEMSIZE:
            raise ValueError(f"{op}: input_shape has the dtype {shown(dtype)}: expected one of {', '.join(ITEMSIZE)}")
        specs.append((check_shape(op, "input_shape", shape), name, dtype))
    if len({s[0][0] for s in specs}) > 1:
        raise ValueError(f"{op}: input_shape={input_shape}: all inputs must have the same batch")
    return specs


def _pair(value) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[1], str)


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
