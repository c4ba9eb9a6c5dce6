"""State dicts of PyTorch (``.pt``, ``.pth``, ``.bin``), read without it: the pickle may build tensors, containers and
numbers, and nothing else, and every size that it claims is held against the file before memory is taken.

Both formats are read: the zip archive of PyTorch 1.6 and later (``data.pkl`` beside one entry per storage), and the sequence
of pickles before it. Their layout is that of ``torch.serialization``.
"""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from fastconv._atomic import open_regular, write_atomic

MAGIC = 0x1950A86A20F9469CFC6C  # of the older format
STORAGES = {"FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
            "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
            "ByteStorage": "uint8", "BoolStorage": "bool"}
SIZES = {"bfloat16": 2, **{kind: np.dtype(kind).itemsize for kind in STORAGES.values() if kind != "bfloat16"}}


class Storage:
    """The numbers that tensors are views of."""

    def __init__(self, kind: str, numel: int, data: Any = None):
        self.kind, self.numel, self.data = kind, numel, data

    def array(self) -> np.ndarray:
        if self.data is None:
            raise ValueError("a tensor's numbers are not in the file")
        if self.kind == "bfloat16":
            wide = np.frombuffer(self.data, "<u2").astype(np.uint32) << 16
            self.kind, self.data = "float32", wide.tobytes()
        return np.frombuffer(self.data, np.dtype(self.kind).newbyteorder("<"))


class Pending:
    """A tensor before its storage has been read."""

    def __init__(self, storage: Storage, offset: int, size: tuple, stride: tuple):
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def array(self) -> np.ndarray:
        flat = self.storage.array()
        if 0 in self.size:
            return np.zeros(self.size, flat.dtype)
        return np.lib.stride_tricks.as_strided(flat[self.offset:], self.size, [s * flat.itemsize for s in self.stride])


class StorageType:
    """Stands for one of PyTorch's classes of storages."""

    def __init__(self, kind: str):
        self.kind = kind


def _integers(values, what: str) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or any(type(v) is not int or v < 0 for v in values):
        raise ValueError(f"a tensor has the {what} {values!r}: expected integers of at least 0")
    return tuple(values)


def _rebuild(storage, offset, size, stride, *more):
    """What PyTorch calls ``_rebuild_tensor_v2``."""
    if not isinstance(storage, Storage) or type(offset) is not int or offset < 0:
        raise ValueError("a tensor without a storage of numbers")
    size, stride = _integers(size, "size"), _integers(stride, "strides")
    if len(size) != len(stride) or len(size) > 64:
        raise ValueError(f"a tensor of size {size} and strides {stride}")
    if 0 not in size and offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) >= storage.numel:
        raise ValueError(f"a tensor of size {size}, strides {stride} and offset {offset} reaches beyond its storage of "
                         f"{storage.numel} elements")
    return Pending(storage, offset, size, stride)


def _parameter(data, *more):
    return data


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict, ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_tensor"): _rebuild, ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter, ("torch", "Size"): tuple,
    ("builtins", "set"): set, ("__builtin__", "set"): set,
    **{("torch", name): StorageType(kind) for name, kind in STORAGES.items()},
    **{("torch.storage", name): StorageType(kind) for name, kind in STORAGES.items()},
}


class Unpickler(pickle.Unpickler):
    """Builds what ALLOWED names, and refuses everything else by name."""

    def __init__(self, file, load: Callable[[tuple], Storage]):
        super().__init__(file, encoding="utf-8")
        self.load_storage = load

    def find_class(self, module: str, name: str):
        found = ALLOWED.get((module, name))
        if found is None:
            raise ValueError(f"it asks for {module}.{name}, which a state dict does not need: only tensors, containers and "
                             "numbers are built")
        return found

    def persistent_load(self, pid):
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], StorageType) or \
                type(pid[4]) is not int or pid[4] < 0 or not isinstance(pid[2], str):
            raise ValueError("it refers to something that is no storage of numbers")
        return self.load_storage(pid)


def read_state_dict(path) -> Any:
    """What a file of PyTorch holds, tensors as arrays.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    Containers and numbers as they were saved; tensors as NumPy arrays (bfloat16 as float32), views of what was read.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not such a file, a damaged one, or one that would build something else than tensors.
    """
    name = os.fsdecode(path)
    with open_regular(name) as file:
        zipped = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        try:
            found = _zipped(file) if zipped else _legacy(file)
            _refuse_repetition(found)
            return _arrays(found, 0)
        except Exception as error:  # what a damaged pickle or archive brings the unpickler and zipfile to raise
            what = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise ValueError(f"{name!r} is not a state dict of PyTorch ({what})") from None


def _zipped(file) -> Any:
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        pickles = [n for n in entries if n.endswith("data.pkl") and n.count("/") <= 1]
        if len(pickles) != 1:
            raise ValueError("the archive has no data.pkl" if not pickles else "the archive has several data.pkl")
        if any(i.compress_type != zipfile.ZIP_STORED or i.file_size > size for i in entries.values()):
            raise ValueError("entries of the archive are compressed, or larger than it")
        folder = pickles[0][: -len("data.pkl")]
        order = entries.get(folder + "byteorder")
        if order is not None and order.file_size < 16 and archive.read(order) not in (b"little", b""):
            raise ValueError("its numbers are big-endian")
        known: dict[str, Storage] = {}

        def load(pid) -> Storage:
            _, kind, key, _, numel = pid[:5]
            if key not in known:
                info = entries.get(f"{folder}data/{key}")
                if info is None:
                    raise ValueError(f"the storage {key!r} is missing")
                if info.file_size < numel * SIZES[kind.kind]:
                    raise ValueError(f"the storage {key!r} has {info.file_size} bytes: expected {numel * SIZES[kind.kind]}")
                known[key] = Storage(kind.kind, numel, archive.read(info)[: numel * SIZES[kind.kind]])
            storage = known[key]
            if storage.kind != kind.kind or storage.numel < numel:
                raise ValueError(f"the storage {key!r} is asked for as two different ones")
            return storage

        return Unpickler(io.BytesIO(archive.read(pickles[0])), load).load()


class _Plain(pickle.Unpickler):
    """Numbers, strings and containers alone."""

    def find_class(self, module: str, name: str):
        raise ValueError(f"it asks for {module}.{name}")


def _legacy(file) -> Any:
    size = os.fstat(file.fileno()).st_size
    if size > 1 << 34:
        raise ValueError(f"{size} bytes in the format before PyTorch 1.6")
    data = io.BytesIO(file.read())
    if _Plain(data).load() != MAGIC:
        raise ValueError("neither the archive nor the pickles that torch.save writes")
    if _Plain(data).load() != 1001:
        raise ValueError("an unknown version of the older format")
    system = _Plain(data).load()
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise ValueError("its numbers are big-endian")
    known: dict[str, Storage] = {}

    def load(pid) -> Storage:
        _, kind, key, _, numel = pid[:5]
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError("views of storages are not read: save it again with a newer PyTorch")
        storage = known.setdefault(key, Storage(kind.kind, numel))
        if storage.kind != kind.kind or storage.numel != numel:
            raise ValueError(f"the storage {key!r} is asked for as two different ones")
        return storage

    result = Unpickler(data, load).load()
    keys = _Plain(data).load()
    if not isinstance(keys, list) or set(keys) != set(known):
        raise ValueError("its list of storages is not that of its tensors")
    for key in keys:
        (count,) = struct.unpack("<q", data.read(8))
        storage = known[key]
        if count != storage.numel or count * SIZES[storage.kind] > size - data.tell():
            raise ValueError(f"the storage {key!r} has {count} elements: expected {storage.numel}, and as many in the file")
        storage.data = data.read(count * SIZES[storage.kind])
    return result


def _refuse_repetition(found) -> None:
    """A few numbers that thousands of tensors show would fill the memory when these are copied."""
    todo, seen, storages, elements = [found], 0, {}, 0
    while todo:
        value = todo.pop()
        seen += 1
        if seen > 10_000_000:
            raise ValueError("more than ten million objects")
        if isinstance(value, Pending):
            storages[id(value.storage)] = value.storage.numel
            elements += prod(value.size)
        elif isinstance(value, dict):
            todo.extend(value.values())
        elif isinstance(value, (list, tuple)):
            todo.extend(value)
    if elements > 8 * sum(storages.values()) + 1_000_000:
        raise ValueError(f"tensors of {elements:,} elements over {sum(storages.values()):,} numbers")


def _arrays(value, depth: int) -> Any:
    if depth > 100:
        raise ValueError("containers inside one another more than 100 deep")
    if isinstance(value, Pending):
        return value.array()
    if isinstance(value, dict):
        return {key: _arrays(v, depth + 1) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_arrays(v, depth + 1) for v in value)
    return value


# ---- writing ------------------------------------------------------------------------------------------------------------


NAMES = {kind: name for name, kind in STORAGES.items()}


def write_state_dict(path, arrays) -> None:
    """Writes arrays as a state dict that ``torch.load`` reads, without PyTorch.

    Parameters
    ----------
    path : str or os.PathLike
        Written whole or not at all.
    arrays : dict of str to ndarray
        Of float16, float32, float64, integers up to 64 bits with a sign, uint8, bool.

    Raises
    ------
    TypeError
        For another dtype.
    OSError
        The file cannot be written.
    """
    contents, data = [], bytearray(b"\x80\x02}")
    for i, (name, value) in enumerate(arrays.items()):
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        if array.dtype.name not in NAMES:
            raise TypeError(f"write_state_dict: {name!r} has dtype {array.dtype}: expected one of {', '.join(NAMES)}")
        contents.append((f"archive/data/{i}", array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()))
        strides = [prod(array.shape[d + 1:]) for d in range(array.ndim)]
        data += _text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(("
        data += _text("storage") + f"ctorch\n{NAMES[array.dtype.name]}\n".encode() + _text(str(i)) + _text("cpu")
        data += _number(array.size) + b"tQ" + _number(0) + _numbers(array.shape) + _numbers(strides)
        data += b"\x89ccollections\nOrderedDict\n)RtRs"
    data += b"."
    with write_atomic(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (("archive/data.pkl", bytes(data)), ("archive/byteorder", b"little"), *contents,
                              ("archive/version", b"3\n")):
            archive.writestr(zipfile.ZipInfo(name), content)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if value < 2**31 else b"\x8a\x08" + struct.pack("<q", value)


def _numbers(values) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"
