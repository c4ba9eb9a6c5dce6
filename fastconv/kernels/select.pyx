# cython: language_level=3
"""Steps of the select family: sorting lines of values, searching in them, suppression of overlapping boxes.

An operand is (address, strides, dtype), as in `gather.pyx`; ``shape`` is that of the input, ``dim`` the dimension whose lines
are sorted. With ``batched`` dimension 0 is the batch of the run.
"""

from libc.math cimport nextafterf
from libc.stdint cimport int64_t

from fastconv.kernels._args_select cimport NmsArgs, SearchArgs, SortArgs
from fastconv.kernels._dims cimport fill
from fastconv.kernels._runtime cimport Step

from fastconv.kernels.dims import DTYPES, Dim, dims, merged

WHAT = {"sort": 0, "topk": 1, "kth": 2, "median": 3, "nanmedian": 4, "mode": 5}  # FcSelect of select/args.h


def sort(str what="sort", *, x, shape, dim, values=None, indices=None, count=None, k=0, descending=False, batched=False) -> Step:
    """The values of each line along ``dim`` in order, equal ones as they lie, NaN as the largest, and their indices (int64).

    ``what``: "sort", or "topk": the first ``count``; "kth": the one at place ``k``; "median", "nanmedian", "mode": one value, whose
    operands have ``shape`` without lines (a stride for ``dim`` all the same).
    """
    cdef Step step = Step()
    cdef SortArgs* a = <SortArgs*> step.bind_name("sort_lines", sizeof(SortArgs))
    nothing = (0,) * len(shape)
    operands = [x[1], values[1] if values else nothing, indices[1] if indices else nothing]
    outer = [each[:dim] + each[dim + 1:] for each in (tuple(shape), *map(tuple, operands))]
    found = merged(dims(outer[0], outer[1:], batched and dim != 0)) or [Dim(1, (0, 0, 0))]
    cdef int64_t* strides[3]
    strides[0], strides[1], strides[2] = a.xs, a.vs, a.ns
    fill(&a.dims, found, strides)
    a.x = <const char*> <size_t> x[0]
    a.values = <char*> <size_t> (values[0] if values else 0)
    a.indices = <int64_t*> <size_t> (indices[0] if indices else 0)
    a.length = shape[dim]
    a.xl, a.vl, a.il = operands[0][dim], operands[1][dim], operands[2][dim]
    a.dtype, a.what = DTYPES[x[2]], WHAT[what]
    a.count = a.length if count is None else count
    a.k, a.descending = k, bool(descending)
    if a.length >= 1 << 32 and x[2] != "int64":
        raise ValueError(f"a line of {a.length} elements: expected less than 2**32")
    return step


def searchsorted(*, x, v, y, shape, length, line, sorter=None, right=False, batched=False) -> Step:
    """Where each value of ``v`` belongs among the ``length`` ascending elements of its line of ``x``: before equal ones, or
    (``right``) behind them.

    ``shape`` is that of v and y (int64 or int32); the strides of x and of ``sorter`` are those of their lines' first elements, 0 where
    a line serves several; ``line`` is the stride along a line, of x and of the sorter.
    """
    cdef Step step = Step()
    cdef SearchArgs* a = <SearchArgs*> step.bind_name("searchsorted", sizeof(SearchArgs))
    found = merged(dims(shape, [x[1], v[1], y[1], sorter[1] if sorter else x[1]], batched)) or [Dim(1, (0, 0, 0, 0))]
    cdef int64_t* strides[4]
    strides[0], strides[1], strides[2], strides[3] = a.xs, a.vs, a.ys, a.ss
    fill(&a.dims, found, strides)
    a.x, a.v, a.y = <const char*> <size_t> x[0], <const char*> <size_t> v[0], <char*> <size_t> y[0]
    a.sorter = <const int64_t*> <size_t> (sorter[0] if sorter else 0)
    a.length, (a.xl, a.sl) = length, line
    a.dtype, a.right, a.wide = DTYPES[x[2]], bool(right), y[2] == "int64"
    return step


def nms(*, size_t boxes, size_t scores, size_t keep, size_t kept, count, double threshold, size_t classes=0) -> Step:
    """Boxes (float32, x1, y1, x2, y2) that no better one of their class overlaps by more than ``threshold``: their indices by
    falling score in ``keep`` (int64), their number in ``kept``."""
    cdef Step step = Step()
    cdef NmsArgs* a = <NmsArgs*> step.bind_name("nms", sizeof(NmsArgs))
    a.boxes, a.scores, a.classes = <const float*> boxes, <const float*> scores, <const int64_t*> classes
    a.keep, a.kept, a.count = <int64_t*> keep, <int64_t*> kept, count
    a.threshold = <float> threshold
    if a.threshold > threshold:  # overlaps are float32, the threshold is not
        a.threshold = nextafterf(a.threshold, -1e30)
    return step
