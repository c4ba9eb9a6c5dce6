# cython: language_level=3
"""Steps of the gather family: elements found by integer indices, and the adjoint in a fixed order.

An operand is (address, strides, dtype): a stride per dimension of ``shape``, in elements, 0 where it repeats. An index is
(operand, extent, step, wrap): its operand (int64 or int32), the extent of the dimension it points into, how many elements of
the table lie between neighbours there, and whether -extent to -1 count from the end. With ``batched`` dimension 0 is the batch
of the run. ``bad`` is the address of two zeroed int64 per index, which become 1 and the value where an index is outside;
such an index is never followed.
"""

from libc.stdint cimport int64_t

from fastconv.kernels._args_gather cimport GatherArgs, IndexOperand
from fastconv.kernels._dims cimport fill
from fastconv.kernels._runtime cimport Step

from math import prod

from fastconv.kernels.dims import DTYPES, MOST, Dim, dims, merged

OPS = {"set": 0, "add": 1, "mul": 2, "max": 3, "min": 4}  # FcScatter of gather/args.h
TILE = 16384  # elements
PIECE = 64  # elements of a row that are worth a tile
SHORT = 16  # a row that is not worth its beginning


cdef int fill_indices(GatherArgs* a, object given, object indices, size_t bad) except -1:
    cdef int64_t* operands[10]
    cdef IndexOperand* index
    cdef int k
    if len(indices) > MOST or len(given) > MOST:
        raise ValueError(f"{len(indices)} indices in {len(given)} dimensions: expected at most {MOST}")
    operands[0], operands[1] = a.xs, a.ys
    for k in range(len(indices)):
        operands[2 + k] = a.index[k].strides
    fill(&a.dims, given, operands)
    a.count = len(indices)
    for k in range(len(indices)):
        (address, _, dtype), extent, step, wrap = indices[k]
        index = &a.index[k]
        index.data = <const void*> <size_t> address
        index.extent, index.step, index.wide, index.wrap = extent, step, dtype == "int64", bool(wrap)
        if bad:
            index.bad = <int64_t*> bad + 2 * k
    a.rows = all(s == 0 for s in given[len(given) - 1].strides[2:])
    return 0


def gather(*, x, y, shape, indices=(), batched=False, size_t bad=0) -> Step:
    """y[o] = x[o moved by each index times its step], for each position o of ``shape``; 0 where an index is outside."""
    cdef Step step = Step()
    cdef GatherArgs* a = <GatherArgs*> step.bind_name("gather", sizeof(GatherArgs))
    found = dims(shape, [x[1], y[1], *[index[0][1] for index in indices]], batched)
    found = merged(sorted(found, key=lambda dim: -abs(dim.strides[1]))) or [Dim(1, (0,) * (2 + len(indices)))]
    if len(found) > 1:
        *outer, longer, last = found
        if any(last.strides[2:]) and last.extent < SHORT < longer.extent:  # single elements: the longer of the two is the row
            found = [*outer, last, longer]
    fill_indices(a, found, indices, bad)
    a.x, a.y, a.dtype = <const char*> <size_t> x[0], <char*> <size_t> y[0], DTYPES[x[2]]
    return step


def scatter(*, x, y, shape, indices, how="set", batched=False, size_t bad=0, skip=None) -> Step:
    """y[o moved by each index times its step] how= x[o], for each position o of ``shape``, in its order.

    ``y`` has stride 0 along the dimensions that collide: where the target is the indices' choice alone. ``how``: set, add, mul, max
    or min, where NaN wins. Where an index is outside, or the first one ``skip``, nothing happens.
    """
    cdef Step step = Step()
    cdef GatherArgs* a = <GatherArgs*> step.bind_name("scatter", sizeof(GatherArgs))
    found = dims(shape, [x[1], y[1], *[index[0][1] for index in indices]], batched)
    free = sorted((dim for dim in found if dim.strides[1]), key=lambda dim: -abs(dim.strides[1]))
    collide = merged([dim for dim in found if not dim.strides[1]])
    free = merged(free)
    # rows: a dimension in which the target goes on, if it does so by one, or no other is there; single elements: a long one
    inner_free = bool(free) and (abs(free[len(free) - 1].strides[1]) == 1 or not collide)
    if inner_free and collide:
        short, longer = free[len(free) - 1], collide[len(collide) - 1]
        inner_free = not (any(short.strides[2:]) and short.extent < SHORT < longer.extent)
    inner = [free.pop()] if inner_free else [collide.pop()] if collide else [Dim(1, (0,) * (2 + len(indices)))]
    found = [*free, *collide, *inner]
    fill_indices(a, found, indices, bad)
    a.x, a.y, a.dtype, a.op = <const char*> <size_t> x[0], <char*> <size_t> y[0], DTYPES[x[2]], OPS[how]
    a.free, a.inner_free, a.ranges = len(free), inner_free, 1
    a.skips, a.skip = skip is not None, skip or 0
    # more tiles, where positions that do not collide are few: pieces of rows, then, where rows are worth it, ranges of targets
    width = inner[0].extent if inner_free else 1
    units, wanted = prod(dim.extent for dim in free), min(64, prod(dim.extent for dim in found) // TILE)
    a.piece = max(width, 1)
    if inner_free and units < wanted and width >= 4 * PIECE:
        pieces = min(-(-wanted // max(units, 1)), width // (2 * PIECE))
        a.piece = -(-width // pieces // PIECE) * PIECE
        units *= -(-width // a.piece)
    if a.rows and units < wanted and len(indices) and width >= 8:
        a.ranges = max(1, min(wanted // max(units, 1), 16, indices[0][1]))
    return step
