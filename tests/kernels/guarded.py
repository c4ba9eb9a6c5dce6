"""Arrays that end at a page nobody may touch: a kernel that reads or writes past its buffer crashes the test."""

import ctypes
import mmap

import numpy as np

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)


def guarded(shape, fill=np.nan, dtype=np.float32):
    """An array of this shape, filled, whose last element is the last before a PROT_NONE page."""
    count, size = int(np.prod(shape)), np.dtype(dtype).itemsize
    pages = max(1, -(-count * size // PAGE))
    memory = mmap.mmap(-1, (pages + 1) * PAGE)
    whole = np.frombuffer(memory, np.uint8)
    if libc.mprotect(ctypes.c_void_p(whole.ctypes.data + pages * PAGE), ctypes.c_size_t(PAGE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    array = whole[pages * PAGE - count * size : pages * PAGE].view(dtype).reshape(shape)
    array[...] = fill
    return array


def pixels(x, ld):
    """(N, C, *spatial) as channels-last rows of stride ld, NaN in between; the last channel is the last float."""
    n, c = x.shape[:2]
    count = n * int(np.prod(x.shape[2:]))
    flat = guarded(max(0, count * ld - (ld - c)))
    if count:
        np.lib.stride_tricks.as_strided(flat, (count, c), (4 * ld, 4))[...] = np.moveaxis(x, 1, -1).reshape(count, c)
    return flat


def images(flat, shape, ld):
    """The inverse of pixels: (N, C, *spatial) of this shape."""
    n, c, *spatial = shape
    count = n * int(np.prod(spatial))
    rows = np.lib.stride_tricks.as_strided(flat, (count, c), (4 * ld, 4))
    return np.moveaxis(rows.reshape(n, *spatial, c), -1, 1).copy()


def gaps(flat, count, c, ld):
    """The floats between the pixels, which no kernel may write."""
    padded = np.concatenate([flat, np.full(count * ld - flat.size, np.nan, np.float32)])
    return padded.reshape(count, ld)[:, c:]
