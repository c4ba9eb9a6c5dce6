# cython: language_level=3
"""Steps of the copy family: between views of up to eight dimensions, as they are, converted, or added up.

An operand is (address, strides, dtype): strides in elements, one per dimension of the shape, of any sign, 0 where what is read
repeats. ``batched``: dimension 0 is the batch of the run, at most ``shape[0]``.
"""

from fastconv.kernels._args_copy cimport CopyArgs
from fastconv.kernels._runtime cimport Step
from fastconv.kernels.layout cimport Slot
from fastconv.kernels.many cimport many

DTYPES = ("float32", "int64", "int32", "uint8", "int8", "bool")  # in the order of FcDtype
_BYTES = (4, 8, 4, 1, 1, 1)
_ALIKE = frozenset({("uint8", "int8"), ("int8", "uint8"), ("bool", "uint8"), ("bool", "int8")})  # the same bits


cdef Step bound(str kernel, x, y, shape, batched):
    cdef Step step = Step()
    cdef CopyArgs* a = <CopyArgs*> step.bind_name(kernel, sizeof(CopyArgs))
    cdef size_t source = x[0], target = y[0]
    cdef int i, dims = len(shape)
    if dims > 8:
        raise ValueError(f"copy: shape {tuple(shape)} has {dims} dimensions: at most 8")
    a.from_, a.to = DTYPES.index(x[2]), DTYPES.index(y[2])
    a.x, a.y, a.dims, a.batched = <const void*> source, <void*> target, dims, bool(batched)
    for i in range(dims):
        a.extent[i], a.sx[i], a.sy[i] = shape[i], x[1][i] * _BYTES[a.from_], y[1][i] * _BYTES[a.to]
    return step


def copy(*, x, y, shape, batched=False) -> Step:
    """y = x, converted where the dtypes differ: towards zero, modulo 2^8 into bytes, to bool whether it is not 0.

    No two indices may lead to one place of y.
    """
    return bound("copy" if x[2] == y[2] or (x[2], y[2]) in _ALIKE else "cast", x, y, shape, batched)


def copies(*, parts) -> Step:
    """Several copies to different places as one step; each of ``parts`` is (x, y, shape, batched)."""
    return many([copy(x=x, y=y, shape=shape, batched=batched) for x, y, shape, batched in parts])


def add(*, x, y, shape, batched=False) -> Step:
    """y += x, float32. What falls into one place of y is added by growing index, one after another."""
    if x[2] != "float32" or y[2] != "float32":
        raise TypeError(f"copy.add: dtypes {x[2]} and {y[2]}: expected float32")
    return bound("f32_copy_add", x, y, shape, batched)


def strided(Slot slot, size_t buffer, *, shape, reverse=False, dtype="float32") -> Step:
    """Copies a user's array of five dimensions into a dense buffer (or back); with a first extent of 0, as many as the run's
    batch."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 1, 0, -1):
        strides[i - 1] = strides[i] * max(1, shape[i])
    cdef Step step = bound("copy", (buffer, strides, dtype), (buffer, strides, dtype), shape, shape[0] == 0)
    cdef CopyArgs* a = <CopyArgs*> step.c.args
    a.slot, a.out = &slot.slot, bool(reverse)
    if reverse:
        a.y = NULL
    else:
        a.x = NULL
    step.keep(slot)
    return step
