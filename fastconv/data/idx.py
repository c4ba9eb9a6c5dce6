"""IDX files, the format MNIST is distributed in.

Big-endian: two zero bytes, a type code, the number of dimensions, their sizes as uint32, the values in C order.
Source: http://yann.lecun.com/exdb/mnist/, "the IDX file format".
"""

import gzip
import math
import os
import struct
import sys
import zlib

import numpy as np

from fastconv._arrays import refuse_masked
from fastconv._atomic import open_regular, write_atomic

_DTYPES: dict[int, np.dtype] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_MAX_DIMENSIONS = 32  # what every NumPy can hold
_MAX_DEFLATE_RATIO = 1032  # deflate cannot expand further, see https://zlib.net/zlib_tech.html
_CHUNK = 1 << 20


def load_idx(path):
    """Read an IDX file, gzipped or not (told by its content, not by its name).

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    numpy.ndarray
        C-contiguous, writable, in native byte order: uint8, int8, int16, int32, float32 or float64.

    Raises
    ------
    ValueError
        The file is malformed: its name and the rule it breaks. The sizes are held against the file before anything is
        allocated for them.
    OSError
        The file cannot be opened or read (FileNotFoundError, IsADirectoryError, PermissionError).
    """
    name = os.fsdecode(path)
    with open_regular(name) as file:
        available = os.fstat(file.fileno()).st_size
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not zipped:
            return _read(file, name, available, exact=True)
        try:
            with gzip.GzipFile(fileobj=file, mode="rb") as unzipped:
                return _read(unzipped, name, available * _MAX_DEFLATE_RATIO, exact=False)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"load_idx {name!r}: damaged or truncated gzip data ({error})") from error


def _read(file, name, available, exact):
    """Read header and values; `available` is the size of the content, or where not `exact` more than that."""
    magic = file.read(4)
    if len(magic) < 4:
        raise ValueError(f"load_idx {name!r}: truncated, {len(magic)} bytes where a magic number needs 4")
    if magic[:2] != b"\0\0":
        raise ValueError(f"load_idx {name!r}: bad magic number 0x{magic.hex()}, an IDX file begins with two zero bytes")
    code, ndim = magic[2], magic[3]
    if code not in _DTYPES:
        known = ", ".join(f"0x{known:02X}" for known in _DTYPES)
        raise ValueError(f"load_idx {name!r}: unknown type code 0x{code:02X}, known are {known}")
    if not 1 <= ndim <= _MAX_DIMENSIONS:
        raise ValueError(f"load_idx {name!r}: {ndim} dimensions, must be from 1 to {_MAX_DIMENSIONS}")
    sizes = file.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise ValueError(f"load_idx {name!r}: truncated, {len(sizes)} bytes where {ndim} sizes need {4 * ndim}")
    shape = struct.unpack(f">{ndim}I", sizes)
    dtype = _DTYPES[code]
    # The product without the zeros too: NumPy refuses (0, 2**32 - 1, 2**32 - 1, ...) as well.
    if math.prod(size for size in shape if size) * dtype.itemsize > sys.maxsize:
        raise ValueError(f"load_idx {name!r}: the product of the sizes {shape} is too large to address")
    needed = math.prod(shape) * dtype.itemsize
    present = available - 4 - 4 * ndim
    if needed > present:
        rest = f"the file holds {present}" if exact else f"the gzip data cannot hold more than {present}"
        raise ValueError(f"load_idx {name!r}: truncated, sizes {shape} need {needed} bytes but {rest}")
    values = bytearray()
    while len(values) < needed:  # in pieces, so that memory grows with what is really there
        piece = file.read(min(_CHUNK, needed - len(values)))
        if not piece:
            raise ValueError(f"load_idx {name!r}: truncated, sizes {shape} need {needed} bytes, got {len(values)}")
        values += piece
    if file.read(1):
        raise ValueError(f"load_idx {name!r}: trailing bytes after the {needed} bytes of sizes {shape}")
    return np.frombuffer(values, dtype=dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def save_idx(path, array):
    """Write an array as an IDX file, gzipped where `path` ends in ``.gz``.

    Parameters
    ----------
    path : str or os.PathLike
        The file; an existing one is replaced at once when the new one is complete.
    array : array_like
        1 to 32 dimensions of at most 2**32 - 1; uint8, int8, int16, int32, float32 or float64.

    Raises
    ------
    TypeError
        A dtype that the format does not have.
    ValueError
        A number of dimensions or a size that the format does not have.
    OSError
        The file cannot be written.
    """
    refuse_masked("save_idx", "array", array)
    array = np.asarray(array)
    codes = {dtype.newbyteorder("="): code for code, dtype in _DTYPES.items()}
    code = codes.get(array.dtype.newbyteorder("="))
    if code is None:
        raise TypeError(f"save_idx: dtype {array.dtype} is not one of {', '.join(str(dtype) for dtype in codes)}")
    if not 1 <= array.ndim <= _MAX_DIMENSIONS:
        raise ValueError(f"save_idx: array has {array.ndim} dimensions, must be from 1 to {_MAX_DIMENSIONS}")
    if max(array.shape) >= 2**32:
        raise ValueError(f"save_idx: array has shape {array.shape}, no size may exceed {2**32 - 1}")
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    content = header + array.astype(_DTYPES[code], order="C", copy=False).tobytes()
    with write_atomic(path) as file:
        # mtime=0: the same array gives the same bytes.
        file.write(gzip.compress(content, mtime=0) if os.fsdecode(path).endswith(".gz") else content)
