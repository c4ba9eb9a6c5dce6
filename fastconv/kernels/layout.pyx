# cython: language_level=3
"""Steps of the layout family: the door between users' arrays and channels-last buffers, weight packing."""

cimport numpy as cnp
from libc.stdint cimport int64_t

import numpy as np

from fastconv._arrays import is_masked

from fastconv.kernels._args_conv cimport DoorArgs, FoldArgs, PackArgs
from fastconv.kernels._runtime cimport Memory, Step
from fastconv.kernels.many cimport many


cnp.import_array()


cpdef bint distinct(cnp.ndarray a) except -1:
    """Whether no two elements of an array share memory."""
    cdef cnp.npy_intp reach = 0, stride, least
    cdef int i, axis = 0, done = 0, seen = 0, ndim = cnp.PyArray_NDIM(a)
    if cnp.PyArray_IS_C_CONTIGUOUS(a) or cnp.PyArray_SIZE(a) <= 1:
        return True
    for done in range(ndim):  # by growing stride: does each step over all that the smaller ones reach?
        least = -1
        for i in range(ndim):
            stride = abs(cnp.PyArray_STRIDE(a, i))
            if not (seen >> i) & 1 and (least < 0 or stride < least):
                least, axis = stride, i
        seen |= 1 << axis
        if cnp.PyArray_DIM(a, axis) == 1:
            continue
        if least < reach + cnp.PyArray_ITEMSIZE(a):
            return bool(distinct_places(a))
        reach += least * (cnp.PyArray_DIM(a, axis) - 1)
    return True


def distinct_places(array) -> bool:
    """The same, place by place, for strides that do not say so by themselves."""
    places = np.zeros(array.shape, np.int64)
    for axis, (extent, stride) in enumerate(zip(array.shape, array.strides)):
        places += (np.arange(extent) * stride).reshape(-1, *[1] * (array.ndim - 1 - axis))
    places = np.sort(places, axis=None)
    return bool((np.diff(places) >= array.itemsize).all())


cdef bint in_rows(cnp.ndarray a) noexcept:
    """Whether what lies behind the first dimension is dense in C order."""
    cdef int64_t step = 4
    cdef int i
    for i in range(cnp.PyArray_NDIM(a) - 1, 0, -1):
        if cnp.PyArray_DIM(a, i) > 1 and cnp.PyArray_STRIDE(a, i) != step:
            return False
        step *= cnp.PyArray_DIM(a, i)
    return True


cdef class Slot:
    """Where a user's array is in the coming run: an address and five strides (N, C, D, H, W) in elements."""

    def __cinit__(self):
        self.type, self.size = cnp.NPY_FLOAT32, 4

    def expect(self, shape, bint batched, rows=None, only=None, bint row_major=False, dtype="float32"):
        """The shape that take() compares arrays with; when batched, the first extent may be smaller, or must be ``only``.

        The plan's buffer is channels-last where there is a batch, unless it is ``row_major``.

        With ``rows``, (N, rows, elements), only dense arrays are taken, in C order or channels-last, and are seen as one
        channel of so many rows.
        """
        self.type, self.size = np.dtype(dtype).num, np.dtype(dtype).itemsize
        self.ndim = len(shape)
        self.batched = batched
        self.row_major = row_major
        self.only = -1 if only is None else only
        self.dense = rows is not None
        if self.dense:
            self.rows[0], self.rows[1], self.rows[2] = rows
        for i, extent in enumerate(shape):
            self.shape[i] = extent

    @property
    def extents(self) -> tuple:
        """The shape that take() compares arrays with."""
        return tuple(self.shape[i] for i in range(self.ndim))

    cpdef int64_t take(self, array, bint write) except -2:
        """Points to a NumPy array, when it is one of the expected shape and dtype; its batch, or -1 when it is not."""
        cdef int i, first
        cdef int64_t n
        cdef cnp.ndarray a
        if not isinstance(array, cnp.ndarray):
            return -1
        a = <cnp.ndarray> array
        if not cnp.PyArray_CheckExact(a) and is_masked(a):
            return -1
        if cnp.PyArray_TYPE(a) != self.type and not cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(a), self.type):
            return -1
        if cnp.PyArray_NDIM(a) != self.ndim or self.ndim > 5:
            return -1
        if not (cnp.PyArray_ISBEHAVED(a) if write else cnp.PyArray_ISBEHAVED_RO(a)):
            return -1
        n = cnp.PyArray_DIM(a, 0) if self.ndim and self.batched else 1
        for i in range(self.ndim):
            if cnp.PyArray_STRIDE(a, i) % self.size:
                return -1
            if i == 0 and self.batched:
                if n > self.shape[0] or self.only >= 0 and n != self.only:
                    return -1
            elif cnp.PyArray_DIM(a, i) != self.shape[i]:
                return -1
        if write and not cnp.PyArray_IS_C_CONTIGUOUS(a) and not distinct(a):
            return -1
        self.slot.data = cnp.PyArray_DATA(a)
        for i in range(5):
            self.slot.stride[i] = 0
        if self.batched:
            # N, C lead; the last spatial extents are the trailing ones
            for i in range(self.ndim):
                self.slot.stride[i if i < 2 else 5 - self.ndim + i] = cnp.PyArray_STRIDE(a, i) // self.size
        else:
            for i in range(self.ndim):
                self.slot.stride[5 - self.ndim + i] = cnp.PyArray_STRIDE(a, i) // self.size
        self.last = self.batched and not self.row_major and self.ndim > 2 and self.along(1) and not in_rows(a)
        if self.dense:
            if not cnp.PyArray_IS_C_CONTIGUOUS(a) and not (self.last and self.along(n)):
                return -1
            self.slot.stride[0] = self.rows[1] * self.rows[2]
            self.slot.stride[1] = self.slot.stride[2] = 0
            self.slot.stride[3] = self.rows[2]
            self.slot.stride[4] = 1
        return n

    cdef bint along(self, int64_t n) noexcept:
        """Whether the strides are those of a dense channels-last array of ``n`` images, or of a dense array in C order where
        there is no batch."""
        cdef int64_t step = 1, extent
        cdef int i, at
        for i in range(self.ndim):
            at = self.ndim - 1 - i  # from the last
            if self.batched and self.ndim > 1 and not self.row_major:  # channels, then space from the last, then images
                at = 1 if i == 0 else self.ndim - i if i < self.ndim - 1 else 0
            extent = n if self.batched and at == 0 else self.shape[at]
            if extent > 1 and self.slot.stride[at if self.batched and at < 2 else 5 - self.ndim + at] != step:
                return False
            step *= extent
        return n > 0

    cdef bint lies(self, int64_t n) noexcept:
        """Whether the array lies as a buffer of the plan does, so that it can be in its place."""
        return self.dense or self.along(n)

    cpdef set(self, size_t address, int64_t n, int64_t c, int64_t d, int64_t h, int64_t w):
        self.slot.data = <void*> address
        self.slot.stride[0] = n
        self.slot.stride[1] = c
        self.slot.stride[2] = d
        self.slot.stride[3] = h
        self.slot.stride[4] = w


def to_channels_last(Slot slot, size_t buffer, *, channels, size, ld, halo=(0, 0, 0), padded=None) -> Step:
    """Moves a strided array into a channels-last buffer; `size` and `padded` are (D, H, W), `halo` the front padding."""
    return _door("f32_to_channels_last", slot, buffer, channels, size, ld, halo, padded)


def from_channels_last(Slot slot, size_t buffer, *, channels, size, ld, halo=(0, 0, 0), padded=None) -> Step:
    """Moves a channels-last buffer into a strided array."""
    return _door("f32_from_channels_last", slot, buffer, channels, size, ld, halo, padded)


cdef Step _door(str name, Slot slot, size_t buffer, channels, size, ld, halo, padded):
    cdef Step step = Step()
    cdef DoorArgs* a = <DoorArgs*> step.bind_name(name, sizeof(DoorArgs))
    a.slot = &slot.slot
    step.keep(slot)
    a.buffer = <float*> buffer
    a.C = channels
    a.D, a.H, a.W = size
    a.ld = ld
    a.pd, a.ph, a.pw = halo
    a.BD, a.BH, a.BW = padded or size
    return step


cdef Step _pack(str name, size_t flat, size_t packed, dict p):
    cdef Step step = Step()
    cdef PackArgs* a = <PackArgs*> step.bind_name(name, sizeof(PackArgs))
    a.flat = <float*> flat
    a.packed = <float*> packed
    a.taps = step.ints(p["taps"])
    a.T = len(p["taps"])
    a.G = p.get("groups", 1)
    a.K = p["filters"]
    a.C = p["channels"]
    a.crun = p.get("channel_run", 1)
    a.krun = p.get("filter_run", 1)
    a.sg = p.get("group_stride", 0)
    a.sk = p["filter_stride"]
    a.sc = p["channel_stride"]
    a.st = p.get("tap_stride", 1)
    a.scrun = p.get("channel_run_stride", 0)
    a.skrun = p.get("filter_run_stride", 0)
    a.block = p.get("block", 0)
    a.parts = p.get("parts", 1)
    a.part_stride = p.get("part_stride", 0)
    return step


def pack_weight(size_t flat, size_t packed, **problem) -> Step:
    """Packs weights into [group][block of filters][tap][channel][filter].

    Keywords: taps (tap numbers), filters, channels (per group), groups, channel_run, filter_run, group_stride,
    filter_stride, channel_stride, tap_stride, channel_run_stride, filter_run_stride, block (0: of this ISA).
    """
    return _pack("f32_pack_weight", flat, packed, problem)


def pack_weights(size_t flat, size_t packed, list problems, list offsets) -> Step:
    """pack_weight for each of the problems (dicts), so many bytes behind ``packed``."""
    return many([_pack("f32_pack_weight", flat, packed + <size_t> offset, problem)
                 for problem, offset in zip(problems, offsets)])


def unpack_weight(size_t flat, size_t packed, **problem) -> Step:
    """The inverse of pack_weight; adds up `parts` partial sums that lie part_stride floats apart, in order."""
    return _pack("f32_unpack_weight", flat, packed, problem)


def fold_batchnorm(size_t w, size_t bias, size_t gamma, size_t beta, size_t mean, size_t var, size_t w_out,
                   size_t bias_out, *, filters, per_filter, eps, groups=1, outer=1) -> Step:
    """Weights and bias of a convolution with the BatchNorm behind it folded in; bias, gamma and beta may be 0.

    Weights lie as (groups, outer, filters / groups, per_filter).
    """
    cdef Step step = Step()
    cdef FoldArgs* a = <FoldArgs*> step.bind_name("f32_fold_batchnorm", sizeof(FoldArgs))
    a.w = <const float*> w
    a.bias = <const float*> bias
    a.gamma = <const float*> gamma
    a.beta = <const float*> beta
    a.mean = <const float*> mean
    a.var = <const float*> var
    a.w_out = <float*> w_out
    a.bias_out = <float*> bias_out
    a.filters = filters
    a.per_filter = per_filter
    a.groups = groups
    a.outer = outer
    a.eps = eps
    return step
