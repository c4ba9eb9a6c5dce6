"""ONNX files: read, held against what they claim, and their tensors as arrays. The parsing is the onnx package's."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastconv._atomic import open_regular
from fastconv._extra import require
from fastconv.interop.onnx.apart import Apart

log = logging.getLogger("fastconv")
OLDEST = 1  # set of the standard's operators; the newest is that of the onnx package
MOST = 2 << 30  # bytes of a file, protobuf's own limit
DOMAINS = ("", "ai.onnx")
TRAINING, PREVIEW = "ai.onnx.preview.training", "ai.onnx.preview"


class Input(NamedTuple):
    """What a model takes: its name, its extents (None: any) or None where it does not say, its dtype."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str


@contextmanager
def read(path) -> Iterator[tuple[Any, str, Apart]]:
    """The model of a file, as the onnx package's object, without external data and long weights; the folder of the file;
    and the file, which those weights are read from while it is open.

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        No such file; not an ONNX model; the package is not installed.
    """
    name = os.fsdecode(path)
    with open_regular(name) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST:
            raise ValueError(f"load {name!r}: {size} bytes: an ONNX file has at most {MOST}; weights beyond belong into "
                             "external data")
        onnx = require("onnx", f"reading {name!r}", "onnx")
        model, apart = onnx.ModelProto(), Apart(file)
        try:
            model.ParseFromString(apart.rest(size))
        except Exception as error:  # protobuf's DecodeError, in whichever of its packages
            raise ValueError(f"load {name!r}: not an ONNX model ({error})") from None
        if not model.HasField("graph") or not model.graph.node and not model.graph.output:
            raise ValueError(f"load {name!r}: not an ONNX model: it has no graph")
        yield model, os.path.dirname(os.path.abspath(name)), apart


def operator(node) -> str:
    """A node's operator: its name, behind that of its domain where that is not the standard's."""
    return node.op_type if node.domain in DOMAINS else f"{node.domain}.{node.op_type}"


def opset(model) -> int:
    """The version of the standard's operators that the model is written in."""
    from onnx.defs import onnx_opset_version

    versions = [o.version for o in model.opset_import if o.domain in DOMAINS]
    if not versions and model.opset_import:
        return onnx_opset_version()  # nothing of the standard's is in it, or the check of operators says which
    if not versions:
        raise ValueError("the model does not say which operator set it is written in")
    if not OLDEST <= versions[0] <= onnx_opset_version():
        raise ValueError(f"operator set {versions[0]}: expected {OLDEST} to {onnx_opset_version()}, the newest that this "
                         "onnx package knows")
    return versions[0]


@cache
def dtypes() -> dict[int, str]:
    """NumPy's names of ONNX's element types."""
    from onnx import TensorProto as T

    small = {number: name.lower() for name, number in T.DataType.items() if name.lower() in SMALL}
    return {T.FLOAT: "float32", T.DOUBLE: "float64", T.FLOAT16: "float16", T.BFLOAT16: "bfloat16", T.INT64: "int64",
            T.INT32: "int32", T.INT16: "int16", T.INT8: "int8", T.UINT8: "uint8", T.UINT16: "uint16", T.UINT32: "uint32",
            T.UINT64: "uint64", T.BOOL: "bool", **small}


# Bits of the types that have fewer than a byte, or an exponent and little more.
SMALL = {"float8e4m3fn": 8, "float8e4m3fnuz": 8, "float8e5m2": 8, "float8e5m2fnuz": 8, "float8e8m0": 8, "float4e2m1": 4,
         "int4": 4, "uint4": 4, "int2": 2, "uint2": 2}
BITS = {"float32": 32, "float64": 64, "float16": 16, "bfloat16": 16, "int64": 64, "int32": 32, "int16": 16, "int8": 8,
        "uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64, "bool": 8, **SMALL}


def held_as(kind: str) -> str:
    """The dtype in which tensors hold values of an element type."""
    if kind in ("float32", "int64", "int32", "int8", "uint8", "bool"):
        return kind
    if "float" in kind:
        return "float32"
    return {"int4": "int8", "int2": "int8", "uint4": "uint8", "uint2": "uint8"}.get(kind, "int64")


def to_array(tensor, folder: str, apart: Apart | None = None) -> np.ndarray:
    """A tensor of the file as an array of one of our dtypes: floating point becomes float32, other integers int64. The data
    may have stayed in the file.

    Raises
    ------
    ValueError
        For a type that arrays do not have, and where the data are not as many as the shape says.
    """
    from onnx import TensorProto, numpy_helper

    name, dims = tensor.name or "(unnamed)", tuple(tensor.dims)
    kind = dtypes().get(tensor.data_type)
    if kind is None:
        known = tensor.data_type in TensorProto.DataType.values()
        what = TensorProto.DataType.Name(tensor.data_type) if known else tensor.data_type
        raise ValueError(f"tensor {name!r} has the type {what}: expected numbers")
    if any(d < 0 for d in dims):
        raise ValueError(f"tensor {name!r} has the shape {dims}")
    count = prod(dims)
    nbytes = -(-count * BITS[kind] // 8)
    if tensor.data_location == TensorProto.EXTERNAL:
        raw: Any = external(tensor, folder, nbytes)
    elif apart is not None and name in apart.places or tensor.HasField("raw_data"):
        stayed = apart if apart is not None and name in apart.places else None
        length = stayed.places[name][1] if stayed else len(tensor.raw_data)
        if length != nbytes:
            raise ValueError(f"tensor {name!r} of shape {dims} has {length} bytes: expected {nbytes}")
        raw = stayed.read(name) if stayed else tensor.raw_data
    else:
        fields = {"float32": tensor.float_data, "float64": tensor.double_data, "int64": tensor.int64_data,
                  "uint64": tensor.uint64_data, "uint32": tensor.uint64_data}
        values = fields.get(kind, tensor.int32_data)
        expected = count if kind not in SMALL else nbytes  # those are packed, a byte an element
        if len(values) != expected:
            raise ValueError(f"tensor {name!r} of shape {dims} has {len(values)} elements: expected {expected}")
        return ours(np.asarray(numpy_helper.to_array(tensor)))
    if kind in SMALL:
        whole = TensorProto(data_type=tensor.data_type, dims=dims, raw_data=bytes(raw))
        return ours(np.asarray(numpy_helper.to_array(whole)))
    if kind == "bfloat16":
        bits = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
        return bits.view(np.float32).reshape(dims)
    return ours(np.frombuffer(raw, np.dtype(kind).newbyteorder("<")).reshape(dims))


def ours(array: np.ndarray) -> np.ndarray:
    """An array of one of the dtypes that tensors have."""
    if array.dtype.name not in ("float32", "int64", "int32", "int8", "uint8", "bool"):
        if array.dtype.kind not in "fiuV":
            raise TypeError(f"an array of dtype {array.dtype}: expected numbers")
        with np.errstate(over="ignore"):
            array = array.astype(held_as(array.dtype.name))
    return np.asarray(array)


def external(tensor, folder: str, nbytes: int) -> np.ndarray:
    """The bytes of a tensor that lie in a file of their own, mapped into memory."""
    entries = {e.key: e.value for e in tensor.external_data}
    location, name = entries.get("location", ""), tensor.name
    path = os.path.realpath(os.path.join(folder, location))
    home = os.path.realpath(folder)
    if not location or os.path.isabs(location) or os.path.commonpath([home, path]) != home:
        raise ValueError(f"tensor {name!r} is kept in {location!r}: expected a file in the model's own folder")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", nbytes))
    except ValueError:
        raise ValueError(f"tensor {name!r} has the offset {entries.get('offset')!r} and the length "
                         f"{entries.get('length')!r} in {location!r}: expected integers") from None
    if length != nbytes or offset < 0:
        raise ValueError(f"tensor {name!r} has {length} bytes at {offset} in {location!r}: expected {nbytes} at 0 or behind")
    if nbytes == 0:
        return np.zeros(0, np.uint8)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if offset + nbytes > size:
            raise ValueError(f"tensor {name!r} ends at byte {offset + nbytes} of {location!r}, which has {size}")
        return np.memmap(file, np.uint8, "r", offset, (nbytes,))


def inputs(graph, weights: set[str]) -> list[Input]:
    """What the graph takes, weights and constants left out."""
    found, kinds = [], dtypes()
    for value in graph.input:
        if value.name in weights:
            continue
        kind = value.type.tensor_type
        if not value.type.HasField("tensor_type"):
            raise ValueError(f"input {value.name!r} is no tensor")
        dtype = kinds.get(kind.elem_type)
        if dtype is None:
            raise ValueError(f"input {value.name!r} has no type of numbers")
        shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim) \
            if kind.HasField("shape") else None
        found.append(Input(value.name, shape, held_as(dtype)))
    return found


def reads(node) -> list[str]:
    """The tensors that a node reads from where it stands; those of its branches with them."""
    names = [name for name in node.input if name]
    for a in node.attribute:
        for graph in (*([a.g] if a.HasField("g") else ()), *a.graphs):
            own = {t.name for t in graph.initializer} | {i.name for i in graph.input}
            own |= {name for inner in graph.node for name in inner.output}
            names += [name for inner in graph.node for name in reads(inner) if name not in own]
            names += [o.name for o in graph.output if o.name not in own]
    return names


def once(nodes, known: set[str]) -> set[str]:
    """The tensors that nodes make.

    Raises
    ------
    ValueError
        For one that is made twice.
    """
    made: set[str] = set()
    for node in nodes:
        for name in node.output:
            if name and (name in made or name in known):
                raise ValueError(f"tensor {name!r} is made twice")
            made.add(name)
    return made


def ordered(nodes, known: set[str]) -> list:
    """The nodes so that each comes behind those that it reads; the format says that they do already.

    Raises
    ------
    ValueError
        For a tensor that nothing makes, one that is made twice, and a cycle.
    """
    made, done = once(nodes, known), set(known)
    for node in nodes:
        if any(name not in done for name in reads(node)):
            break
        done.update(node.output)
    else:
        return list(nodes)
    missing = sorted({name for node in nodes for name in reads(node) if name not in known and name not in made})
    if missing:
        raise ValueError(f"tensor {missing[0]!r} is read, and nothing makes it"
                         + (f" (nor {len(missing) - 1} others)" if len(missing) > 1 else ""))
    waits = {id(node): {name for name in reads(node) if name not in known} for node in nodes}
    readers: dict[str, list] = {}
    for node in nodes:
        for name in waits[id(node)]:
            readers.setdefault(name, []).append(node)
    ready, out = [n for n in nodes if not waits[id(n)]], []
    while ready:
        later = []
        for node in ready:
            out.append(node)
            for name in node.output:
                for reader in readers.pop(name, ()):
                    waits[id(reader)].discard(name)
                    if not waits[id(reader)]:
                        later.append(reader)
        ready = later
    if len(out) < len(nodes):
        stuck = next(n for n in nodes if waits[id(n)])
        raise ValueError(f"the graph has a cycle through {stuck.op_type} {stuck.name!r}")
    return out
