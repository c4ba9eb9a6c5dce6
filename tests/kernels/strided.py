"""Operands of kernels over strided arrays: (address, strides in elements, dtype), in memory that ends at a guard page."""

import numpy as np
from fastconv.kernels._runtime import StepList

from .guarded import guarded


def placed(array, order=None, fill=None):
    """A copy of an array, or only its memory where ``fill`` is given, whose dimensions lie in this order, the last element
    the last byte before the guard page."""
    array = np.asarray(array)
    order = tuple(range(array.ndim)) if order is None else order
    memory = guarded(max(1, -(-array.nbytes // 4))).view(np.uint8)
    flat = memory[memory.size - array.nbytes:].view(array.dtype)
    there = flat.reshape([array.shape[i] for i in order]).transpose(np.argsort(order))
    there[...] = array if fill is None else fill
    return there


def operand(array, shape=None):
    """An array as steps take it, repeated to ``shape`` where that is given."""
    array = array if shape is None else np.broadcast_to(array, shape)
    return array.ctypes.data, tuple(s // array.itemsize for s in array.strides), str(array.dtype)


def run(steps, threads=2, n=1, planned=None):
    steps = StepList(list(steps), n if planned is None else planned)
    steps.set_batch(n)
    steps.run(threads)
