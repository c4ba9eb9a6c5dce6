"""Model files: arrays and text in the safetensors format, written whole or not at all.

Format: https://github.com/huggingface/safetensors#format; eight bytes of header length, a JSON header, the values.
"""

import json
import os

import numpy as np

from fastconv._atomic import open_regular, write_atomic
from fastconv._extra import require

__all__ = ["FORMAT_VERSION", "load_model", "save_model", "write_atomic"]

FORMAT_VERSION = 1
_VERSION_KEY = "fastconv_format"
_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64",
}  # fmt: skip
_MAX_HEADER = 100_000_000  # the format's own limit


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
        C-contiguous and writable, by name.
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
    load_metadata(path)
    try:
        with safetensors.safe_open(name, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            arrays = {key: file.get_tensor(key) for key in file.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(f"load_model {name!r}: not a valid safetensors file ({error})") from error
    metadata.pop(_VERSION_KEY, None)
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
    name = os.fsdecode(path)
    if os.path.isdir(name):
        raise ValueError(f"load_model {name!r}: it is a directory, not a model file")
    metadata = _check(name)
    metadata.pop(_VERSION_KEY, None)
    return metadata


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


def _check(name):
    """Return the metadata, or tell in which way a file is not what it should be: safetensors has one message for many."""
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
        header = json.loads(text)
        metadata = header.pop("__metadata__", {})
        entries = {key: (str(entry["dtype"]), int(entry["data_offsets"][1])) for key, entry in header.items()}
        version = int(metadata.get(_VERSION_KEY, 0))
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"load_model {name!r}: not a safetensors file, its header is malformed ({error})") from error
    if version > FORMAT_VERSION:
        raise ValueError(
            f"load_model {name!r}: format {version} is from a newer fastconv, this one reads up to {FORMAT_VERSION}"
        )
    needed = 8 + length + max((end for _, end in entries.values()), default=0)
    if size != needed:
        rule = "truncated" if size < needed else "trailing bytes"
        raise ValueError(f"load_model {name!r}: {rule}, {size} bytes where the header says {needed}")
    for key, (dtype, _) in entries.items():
        if dtype not in _DTYPES:
            raise ValueError(f"load_model {name!r}: array {key!r} is {dtype}, which NumPy does not have")
    return metadata
