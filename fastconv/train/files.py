"""Model files: arrays and text in the safetensors format, written whole or not at all.

Format: https://github.com/huggingface/safetensors#format; eight bytes of header length, a JSON header, the values.
"""

import json
import math
import os

import numpy as np

from fastconv._atomic import open_regular, write_atomic
from fastconv._extra import require
from fastconv.graph.limits import memory_limit

__all__ = ["FORMAT_VERSION", "load_model", "save_model", "write_atomic"]

FORMAT_VERSION = 1
_VERSION_KEY = "fastconv_format"
_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64",
}  # fmt: skip
_HALF = "BF16"  # the upper half of a float32, as which it is read
_MAX_HEADER = 100_000_000  # the format's own limit
_MAX_DIMENSIONS = 32  # NumPy 1's


def save_model(path, arrays, metadata=None):
    """Write arrays and text to a safetensors file.

    Parameters
    ----------
    path : str or os.PathLike
        The file; an existing one is replaced at once when the new one is complete, and kept when anything fails.
    arrays : dict of str to array_like
        Any shapes; bool, integers, or floats of 16 to 64 bits. Any memory layout and byte order; C order is written.
    metadata : dict of str to str, optional
        Text to keep with them. The key ``fastconv_format`` is fastconv's own.

    Raises
    ------
    TypeError
        A name or a metadata entry that is not str, or a dtype that is not named above.
    ValueError
        A name or a metadata key that is reserved.
    ImportError
        The package safetensors is not installed.
    OSError
        The file cannot be written.
    """
    safetensors = require("safetensors.numpy", "save_model")
    contents = {name: _writable(name, array) for name, array in arrays.items()}
    metadata = dict(metadata or {})
    for key, text in metadata.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(f"save_model: metadata must be str to str, got {key!r}: {type(text).__name__}")
    if _VERSION_KEY in metadata:
        raise ValueError(f"save_model: the metadata key {_VERSION_KEY!r} is reserved for fastconv")
    metadata[_VERSION_KEY] = str(FORMAT_VERSION)
    content = memoryview(safetensors.save(contents, metadata))
    length = int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8 : 8 + length]))
    # The package writes the metadata in an order of its own at each call: the same content shall give the same bytes.
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with write_atomic(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(content[8 + length :])


def load_model(path):
    """Read arrays and text from a safetensors file, fastconv's own or another's.

    Parameters
    ----------
    path : str or os.PathLike
        The file.

    Returns
    -------
    arrays : dict of str to numpy.ndarray
        C-contiguous and writable, by name; bfloat16, which NumPy does not have, as float32.
    metadata : dict of str to str
        What `save_model` was given; empty where the file has none.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A directory, no safetensors file, truncated, bytes too many, a dtype that NumPy does not have, or written by a
        newer fastconv: file and rule are named.
    ImportError
        The package safetensors is not installed.
    OSError
        The file cannot be read.
    """
    safetensors = require("safetensors", "load_model")
    name = os.fsdecode(path)
    header, metadata = read_header(path)
    needed, limit = sum(dtype.itemsize * math.prod(shape) for dtype, shape in header.values()), memory_limit()
    if needed > limit:
        raise ValueError(f"load_model {name!r}: its arrays take {needed / 2**20:,.0f} MiB, more than the "
                         f"{limit / 2**20:,.0f} MiB that there are")
    try:
        with safetensors.safe_open(name, framework="numpy") as file:
            halves = _halves(name)
            arrays = {key: halves[key] if key in halves else file.get_tensor(key) for key in file.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(f"load_model {name!r}: not a valid safetensors file ({error})") from error
    return arrays, metadata


def load_metadata(path):
    """Read the text of a file that `load_model` reads, without its arrays.

    Returns
    -------
    dict of str to str
        What `save_model` was given; empty where the file has none.

    Raises
    ------
    FileNotFoundError, ValueError, OSError
        As `load_model`.
    """
    return read_header(path)[1]


def _halves(name):
    """Return the bfloat16 arrays of a file that has been checked, as float32."""
    found = {}
    with open_regular(name) as file:
        length = int.from_bytes(file.read(8), "little")
        for key, entry in json.loads(file.read(length)).items():
            if key != "__metadata__" and entry["dtype"] == _HALF:
                begin, end = entry["data_offsets"]
                file.seek(8 + length + begin)
                bits = np.frombuffer(file.read(end - begin), "<u2").astype(np.uint32) << 16
                found[key] = bits.view(np.float32).reshape(entry["shape"])
    return found


def _writable(name, array):
    if not isinstance(name, str):
        raise TypeError(f"save_model: array names must be str, got {type(name).__name__}")
    if name == "__metadata__":
        raise ValueError("save_model: the array name '__metadata__' is reserved by the file format")
    array = np.asarray(array)
    array = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    if array.dtype.name not in _DTYPES.values():
        raise TypeError(f"save_model: array {name!r} has dtype {array.dtype}, not one of {', '.join(_DTYPES.values())}")
    return array


def read_header(path):
    """Read what a file that `load_model` reads says of its arrays, without reading them.

    Returns
    -------
    arrays : dict of str to (numpy.dtype, tuple of int)
        Dtype and shape by name; together they are as large as the file.
    metadata : dict of str to str
        As `load_model`.

    Raises
    ------
    FileNotFoundError, ValueError, OSError
        As `load_model`.
    """
    name = os.fsdecode(path)
    if os.path.isdir(name):
        raise ValueError(f"load_model {name!r}: it is a directory, not a model file")
    with open_regular(name) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8:
            raise ValueError(f"load_model {name!r}: truncated, {size} bytes where the header's length needs 8")
        start = file.read(1)
        if length > _MAX_HEADER or (start and start != b"{"):
            raise ValueError(f"load_model {name!r}: not a safetensors file, it does not begin with a header")
        if size < 8 + length:
            raise ValueError(f"load_model {name!r}: truncated, {size} bytes where the header ends at {8 + length}")
        text = start + file.read(length - 1) if length else b""
    try:
        header = json.loads(text, object_pairs_hook=_unique)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not text by names")
        entries = {key: _entry(key, entry) for key, entry in header.items()}
        version = int(metadata.get(_VERSION_KEY, 0))
        if version < 0:
            raise ValueError(f"it has format {version}")
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"load_model {name!r}: not a safetensors file, its header is malformed ({error})") from error
    if version > FORMAT_VERSION:
        raise ValueError(
            f"load_model {name!r}: format {version} is from a newer fastconv, this one reads up to {FORMAT_VERSION}"
        )
    needed = 8 + length + max((end for *_, end in entries.values()), default=0)
    if size != needed:
        rule = "truncated" if size < needed else "trailing bytes"
        raise ValueError(f"load_model {name!r}: {rule}, {size} bytes where the header says {needed}")
    try:
        arrays = _arrays(entries)
    except ValueError as error:
        raise ValueError(f"load_model {name!r}: {error}") from None
    metadata.pop(_VERSION_KEY, None)
    return arrays, metadata


def _unique(pairs):
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} appears twice")
        found[key] = value
    return found


def _entry(key, entry):
    """(dtype, shape, first byte, byte behind the last) of an array, as the header has them."""
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(entry["dtype"], str) or not isinstance(shape, list) or not isinstance(offsets, list) or \
            len(offsets) != 2 or not all(type(n) is int and 0 <= n < 2**63 for n in (*shape, *offsets)):
        raise ValueError(f"array {key!r} has dtype, shape or data_offsets of another kind")
    return entry["dtype"], tuple(shape), *offsets


def _arrays(entries):
    """Dtypes and shapes, when each array takes the bytes that it says and each byte belongs to one."""
    arrays, place = {}, 0
    for key, (dtype, shape, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if dtype not in _DTYPES and dtype != _HALF:
            raise ValueError(f"array {key!r} is {dtype}, which NumPy does not have")
        itemsize = 2 if dtype == _HALF else np.dtype(_DTYPES[dtype]).itemsize
        if begin != place or end - begin != itemsize * math.prod(shape) or len(shape) > _MAX_DIMENSIONS:
            raise ValueError(f"array {key!r} of {dtype} and shape {shape} takes the bytes {begin} to {end}: expected "
                             f"{itemsize * math.prod(shape)} from {place}")
        arrays[key], place = (np.dtype(_DTYPES.get(dtype, "float32")), shape), end
    return {key: arrays[key] for key in entries}
