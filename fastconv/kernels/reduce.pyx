# cython: language_level=3
"""Steps of the reduce family: sums, products, extremes, moments over any axes of a strided operand."""

from libc.stdint cimport int64_t

from fastconv.kernels._args_reduce cimport FcAxis, ReduceArgs
from fastconv.kernels._args_scan cimport ScanArgs
from fastconv.kernels._runtime cimport Step

from fastconv.kernels.axes import BYTES, DTYPES, axes_of, collapsed, forward, ordered
from fastconv.kernels.reduce_way import ALL, ARGMAX, ARGMIN, WHOLE, way


cdef int64_t set_axes(FcAxis* out, list axes) except -1:
    if not axes:
        out[0].extent = 1
        return 1
    for i, axis in enumerate(axes):
        out[i].extent, out[i].per_image = axis.extent, axis.per_image
        out[i].x, out[i].z, out[i].y, out[i].y2 = axis.strides
    return len(axes)


cdef Step bound(str kernel, object shape, object axes, str operation, tuple x, object z, object y, object y2, size_t part,
                bint batched, double p, double correction, double eps, double count):
    w = way(shape=shape, axes=axes, operation=operation, x=x, z=z, y=y, y2=y2, batched=batched)
    cdef Step step = Step()
    cdef ReduceArgs* a = <ReduceArgs*> step.bind_name(kernel, sizeof(ReduceArgs))
    a.reduction, a.before, a.finish = ALL[operation]
    addresses = [0 if o is None or o[0] == 0 else o[0] + m * BYTES[o[2]] for o, m in zip((x, z, y, y2), w.moved)]
    a.x, a.z = <const void*> <size_t> addresses[0], <const void*> <size_t> addresses[1]
    a.y, a.y2 = <void*> <size_t> addresses[2], <void*> <size_t> addresses[3]
    a.dtype_x, a.dtype_z = DTYPES[x[2]], DTYPES[z[2] if z else x[2]]
    if operation in WHOLE:  # whose z is none
        a.dtype_z = DTYPES[x[2] if a.reduction in (ARGMAX, ARGMIN) else y[2]]
    a.part = <float*> part
    a.parts, a.per_part, a.lanes, a.pack, a.spread, a.order = w.parts, w.per_part, w.lanes, w.pack, w.spread, w.order
    a.kept_rank, a.reduced_rank = set_axes(a.kept, w.kept), set_axes(a.reduced, w.reduced)
    a.p, a.correction, a.eps, a.count = p, correction, eps, count
    return step


def reduce(*, shape, axes, operation, x, y, z=None, y2=None, part=0, batched=False, p=2.0, correction=0.0,
           eps=0.0, count=0.0) -> Step:
    """y, and y2 where the operation has it, from x (and z), whose dimensions ``axes`` are reduced.

    Operands are (address, strides in elements, one per dimension of ``shape``, dtype); those of y and y2 count where a
    dimension is kept. y or y2 may be None where both exist. ``part``: memory for ``way(...).part_floats`` floats; where
    those are not 0, y is written by :func:`merge` with the same arguments. ``count``, where not 0: of a mean, how many elements
    were added up before.
    """
    return bound("i64_reduce" if operation in WHOLE else "f32_reduce", shape, axes, operation, x, z, y, y2, part, batched, p,
                 correction, eps, count)


def merge(*, shape, axes, operation, x, y, z=None, y2=None, part=0, batched=False, p=2.0, correction=0.0, eps=0.0,
          count=0.0) -> Step:
    """The second step of a reduction that is cut into ranges."""
    return bound("f32_reduce_merge", shape, axes, operation, x, z, y, y2, part, batched, p, correction, eps,
                 count)


SCANS = {"cumsum": 0, "cumprod": 1, "cummax": 2, "cummin": 3, "logcumsumexp": 4}


def scan(*, shape, axis, operation, x, y, y2=None, batched=False, backwards=False, whole=False) -> Step:
    """y = what ``operation`` makes of all elements of x up to each along ``axis``; ``backwards``: from each on.

    Operands are (address, strides in elements, one per dimension of ``shape``, dtype). y2, of cummax and cummin: where, int64.
    ``whole``: of integers; y has the dtype of x for cummax and cummin, else int64.
    """
    cdef Step step = Step()
    cdef ScanArgs* a = <ScanArgs*> step.bind_name("i64_scan" if whole else "f32_scan", sizeof(ScanArgs))
    none = (0,) * len(shape)
    strides = [x[1], none, y[1], y2[1] if y2 else none]
    kept = axes_of(shape, [d for d in range(len(shape)) if d != axis], strides, batched)
    moved = forward(kept) or [0] * 4
    addresses = [0 if o is None or o[0] == 0 else o[0] + m * BYTES[o[2]] for o, m in zip((x, None, y, y2), moved)]
    a.x, a.y, a.y2 = <const void*> <size_t> addresses[0], <float*> <size_t> addresses[2], <int64_t*> <size_t> addresses[3]
    a.scan, a.dtype_x, a.backwards = SCANS[operation], DTYPES[x[2]], bool(backwards)
    a.kept_rank = set_axes(a.kept, collapsed(ordered(kept)))
    a.along.extent, a.along.per_image = shape[axis], int(batched and axis == 0)
    a.along.x, a.along.z, a.along.y, a.along.y2 = [s[axis] for s in strides]
    return step
