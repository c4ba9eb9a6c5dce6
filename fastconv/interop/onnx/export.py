"""Networks written as ONNX models: each node of a traced graph as operators of the standard."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np

from fastconv._atomic import write_atomic
from fastconv._extra import require
from fastconv._version import __version__
from fastconv.graph.arrays import input_specs
from fastconv.graph.ir import DENSE, PIXELS, Graph, Node, Tensor
from fastconv.graph.trace import trace
from fastconv.interop.onnx.kept import as_read
from fastconv.interop.onnx.model import OnnxModel

OPSET, IR_VERSION = 18, 8  # what ONNX Runtime 1.14 (2023) and everything after it reads
BATCH = "N"  # the name of the first extent, where it may be any
EXPORT: dict[str, Callable] = {}


def writes(*names: str) -> Callable:
    """Says that a function writes these operators: ``function(writer, node)`` adds what stands for the node."""
    def add(function: Callable) -> Callable:
        EXPORT.update(dict.fromkeys(names, function))
        return function

    return add


class Writer:
    """A model in the making."""

    def __init__(self, names: Mapping[int, str]):
        import onnx

        self.onnx, self.parameters = onnx, names
        self.nodes: list = []
        self.tensors: dict[str, Any] = {}
        self.of: dict[Tensor, str] = {}
        self.taken: set[str] = set()
        self.path = ""

    def unique(self, wanted: str) -> str:
        name, i = wanted, 1
        while name in self.taken:
            name, i = f"{wanted}_{i}", i + 1
        self.taken.add(name)
        return name

    def name(self, tensor: Tensor) -> str:
        """The name of a tensor; parameters and constants become initialisers."""
        found = self.of.get(tensor)
        if found is not None:
            return found
        if tensor.parameter is not None:
            name = self.unique(self.parameters.get(id(tensor.parameter)) or tensor.name or "weight")
            self.initializer(name, np.asarray(tensor.parameter.data))
        elif tensor.value is not None:
            name = self.constant(tensor.value)
        else:
            base = tensor.node.path if tensor.node is not None and tensor.node.path else \
                tensor.node.op.name if tensor.node is not None else tensor.name
            name = self.unique(base if tensor.index == 0 else f"{base}.{tensor.index}")
        self.of[tensor] = name
        return name

    def initializer(self, name: str, array: np.ndarray) -> None:
        self.tensors[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)

    def constant(self, value, dtype=None) -> str:
        """An initialiser without a name of its own."""
        name = self.unique(f"{self.path or 'constant'}.value")
        self.initializer(name, np.asarray(value, dtype))
        return name

    def add(self, op: str, inputs: Sequence[str], outputs: Sequence[str] | None = None, **attributes) -> str:
        """Adds a node; the name of its first output, a new one where none is given."""
        made = list(outputs) if outputs is not None else [self.unique(f"{self.path or op}.{op}")]
        attributes = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), made, name=made[0], **attributes))
        return made[0]

    def node(self, node: Node) -> None:
        function = EXPORT.get(node.op.name)
        if function is None:
            raise NotImplementedError(f"{node.op.name} '{node.path}': is not written as ONNX")
        self.path = node.path or node.op.name
        function(self, node)


def save_onnx(module, path, input_shape=None, metadata: Mapping[str, str] | None = None,
              output_names: Sequence[str] | None = None) -> None:
    """Writes a network as an ONNX model.

    Parameters
    ----------
    module : nn.Module or callable
        As it is in evaluation mode. Parameters become initialisers under their names.
    path : str or os.PathLike
        Written whole or not at all.
    input_shape : tuple of int, sequence of tuples, or dict, optional
        As for :func:`fastconv.compile`. The first extent stays open, unless the network mixes it with others. Not needed for
        what was read from ONNX, which is written with the nodes that it had and the extents that may be any; where parts
        have been replaced, it is traced for the sizes that the model was read with, and asked for where those may be any.
    metadata : dict of str to str, optional
        Kept in the file; default that of the module.
    output_names : sequence of str, optional

    Raises
    ------
    NotImplementedError
        For an operator that the standard's do not make, naming it and its path.
    TypeError, ValueError, ImportError, OSError
        Wrong arguments; the package onnx is not installed; the file cannot be written.
    """
    onnx = require("onnx", "writing an ONNX model", "onnx")
    kept = metadata if metadata is not None else getattr(module, "metadata", None)
    if input_shape is None and output_names is None and isinstance(module, OnnxModel):
        model = as_read(module)
        if model is not None:
            return finish(model, path, kept)
    if input_shape is None:
        known = getattr(module, "inputs", None)
        if not known or any(i.shape is None for i in known):
            raise ValueError("save: input_shape is not given, and the module does not say which it takes")
        if any(None in i.shape[1:] for i in known):
            said = ", ".join(f"{i.name} {tuple('any' if s is None else s for s in i.shape)}" for i in known)
            raise ValueError(f"save: input_shape is not given, and the module takes more than one: {said}")
        input_shape = {i.name: (tuple(s or 1 for s in i.shape), i.dtype) for i in known}
    specs = input_specs("save", input_shape)
    function = module.symbolic(False) if hasattr(module, "symbolic") else module
    graph = None
    if any(spec[0][0] == 1 for spec in specs):  # an extent of 1 would be taken for one that is repeated
        with suppress(ValueError):  # nodes that were made for one image alone
            graph = traced(function, specs, 2)
    if graph is None or graph.exact is not None:  # right for one batch: the one that was asked for
        graph = traced(function, specs, 1)
    names = {id(p): name for name, p in module._state().items()} if hasattr(module, "_state") else {}
    if hasattr(module, "_names"):  # as they were in the file that it was read from
        names.update(module._names())
    writer = Writer(names)
    for tensor in graph.inputs:
        writer.of[tensor] = writer.unique(tensor.name)
    wanted = list(output_names or getattr(module, "output_names", None) or
                  (["output"] if len(graph.outputs) == 1 else [f"output{i}" for i in range(len(graph.outputs))]))
    if len(wanted) != len(graph.outputs) or len(set(wanted)) != len(wanted):
        raise ValueError(f"save: output_names={wanted}: expected {len(graph.outputs)} different names")
    wanted = [writer.unique(name) for name in wanted]
    for node in graph.nodes:
        writer.node(node)
    for name, tensor in zip(wanted, graph.outputs, strict=True):
        writer.add("Identity", [writer.name(tensor)], [name])

    def info(name: str, tensor: Tensor):
        extents: list = list(tensor.type.shape)
        if tensor.batched and graph.exact is None and extents:
            extents[0] = BATCH
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
        return onnx.helper.make_tensor_value_info(name, kind, extents)

    drop_identities(writer, wanted)
    made = onnx.helper.make_graph(writer.nodes, type(module).__name__, [info(writer.of[t], t) for t in graph.inputs],
                                  [info(n, t) for n, t in zip(wanted, graph.outputs, strict=True)],
                                  list(writer.tensors.values()))
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    finish(model, path, kept)


def traced(function: Callable, specs: Sequence[tuple[tuple[int, ...], str, str]], least: int) -> Graph:
    """The graph of a network for these inputs, of at least so many images."""
    return trace(function, [((max(least, s[0]), *s[1:]), name, PIXELS if dtype == "float32" and 2 <= len(s) <= 5 else DENSE,
                             dtype) for s, name, dtype in specs])[0]


def finish(model, path, metadata) -> None:
    """Writes the onnx package's object, when it has been checked."""
    from onnx.checker import check_model

    model.producer_name, model.producer_version = "fastconv", __version__
    for key, value in (metadata if isinstance(metadata, Mapping) else {}).items():
        if key != "producer":
            model.metadata_props.add(key=str(key), value=str(value))
    check_model(model)
    with write_atomic(os.fsdecode(path)) as file:
        file.write(model.SerializeToString())


def drop_identities(writer: Writer, wanted: Sequence[str]) -> None:
    """The node that makes an output gets its name; identities in between go, so that a file read and written is the same."""
    makes = {name: node for node in writer.nodes for name in node.output}
    readers: dict[str, int] = {}
    for node in writer.nodes:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    kept = []
    for node in writer.nodes:
        source = makes.get(node.input[0]) if node.op_type == "Identity" else None
        if source is not None and node.output[0] in wanted and readers[node.input[0]] == 1 and source.op_type != "Identity":
            places = list(source.output)
            at = places.index(node.input[0])
            if source.name == places[at]:
                source.name = node.output[0]
            source.output[at] = node.output[0]
            continue
        kept.append(node)
    writer.nodes = kept


# ---- operators ----------------------------------------------------------------------------------------------------------


def _ends(pairs) -> list[int]:
    return [a for a, _ in pairs] + [b for _, b in pairs]


@writes("conv")
def _conv(w: Writer, node: Node) -> None:
    a = node.attrs
    w.add("Conv", [w.name(t) for t in node.inputs if t is not None], [w.name(node.output)], strides=list(a["stride"]),
          pads=_ends(a["padding"]), dilations=list(a["dilation"]), group=a["groups"],
          kernel_shape=list(node.inputs[1].shape[2:]))


@writes("conv_transpose")
def _conv_transpose(w: Writer, node: Node) -> None:
    a = node.attrs
    w.add("ConvTranspose", [w.name(t) for t in node.inputs if t is not None], [w.name(node.output)],
          strides=list(a["stride"]), pads=_ends(a["padding"]), dilations=list(a["dilation"]), group=a["groups"],
          output_padding=list(a["output_padding"]), kernel_shape=list(node.inputs[1].shape[2:]))


@writes("linear")
def _linear(w: Writer, node: Node) -> None:
    w.add("Gemm", [w.name(t) for t in node.inputs if t is not None], [w.name(node.output)], transB=1)


@writes("batch_norm")
def _batch_norm(w: Writer, node: Node) -> None:
    x, gamma, beta, mean, var = node.inputs[:5]
    if node.attrs["training"]:
        raise NotImplementedError(f"batch_norm '{node.path}': with the statistics of the batch is not written as ONNX")
    count = x.shape[1]
    names = [w.name(t) if t is not None else w.constant(np.full(count, value, np.float32))
             for t, value in ((gamma, 1.0), (beta, 0.0), (mean, 0.0), (var, 1.0))]
    w.add("BatchNormalization", [w.name(x), *names], [w.name(node.output)], epsilon=float(node.attrs["eps"]))


def _unary(op: str, **attributes) -> Callable:
    return lambda w, node: w.add(op, [w.name(node.inputs[0])], [w.name(node.output)],
                                 **{key: value(node) if callable(value) else value for key, value in attributes.items()})


for _name, _op in {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "hardswish": "HardSwish", "layout": "Identity",
                   "dropout": "Identity"}.items():
    writes(_name)(_unary(_op))
writes("hardsigmoid")(_unary("HardSigmoid", alpha=1 / 6, beta=0.5))
writes("leaky_relu")(_unary("LeakyRelu", alpha=lambda node: float(node.attrs["negative_slope"])))
writes("elu")(_unary("Elu", alpha=lambda node: float(node.attrs["alpha"])))
writes("softmax")(_unary("Softmax", axis=lambda node: node.attrs["dim"]))
writes("log_softmax")(_unary("LogSoftmax", axis=lambda node: node.attrs["dim"]))


@writes("clip")
def _clip(w: Writer, node: Node) -> None:
    limits = [w.constant(node.attrs[key], np.float32) for key in ("low", "high")]
    w.add("Clip", [w.name(node.inputs[0]), *limits], [w.name(node.output)])


@writes("silu")
def _silu(w: Writer, node: Node) -> None:
    x = w.name(node.inputs[0])
    w.add("Mul", [x, w.add("Sigmoid", [x])], [w.name(node.output)])


@writes("gelu")
def _gelu(w: Writer, node: Node) -> None:
    x = w.name(node.inputs[0])
    half = w.constant(0.5, np.float32)
    if node.attrs["approximate"] == "tanh":
        cubed = w.add("Mul", [w.add("Mul", [w.add("Mul", [x, x]), x]), w.constant(0.044715, np.float32)])
        inner = w.add("Tanh", [w.add("Mul", [w.add("Add", [x, cubed]), w.constant(np.sqrt(2 / np.pi), np.float32)])])
    else:
        inner = w.add("Erf", [w.add("Mul", [x, w.constant(np.sqrt(0.5), np.float32)])])
    w.add("Mul", [w.add("Mul", [x, half]), w.add("Add", [inner, w.constant(1.0, np.float32)])], [w.name(node.output)])


@writes("add", "add_flat", "sub", "mul")
def _arithmetic(w: Writer, node: Node) -> None:
    op = {"add": "Add", "add_flat": "Add", "sub": "Sub", "mul": "Mul"}[node.op.name]
    numbers = node.attrs.get("scalars")
    tensors = iter(node.inputs)
    operands = [w.name(next(tensors)) if s is None else w.constant(s, np.float32) for s in numbers or [None, None]]
    w.add(op, operands, [w.name(node.output)])


@writes("scale")
def _scale(w: Writer, node: Node) -> None:
    y = w.add("Mul", [w.name(node.inputs[0]), w.constant(node.attrs["a"], np.float32)])
    w.add("Add", [y, w.constant(node.attrs["b"], np.float32)], [w.name(node.output)])


@writes("constant")
def _constant(w: Writer, node: Node) -> None:
    w.of[node.output] = w.constant(np.full(node.output.shape, node.attrs["value"], np.float32))


@writes("max_pool")
def _max_pool(w: Writer, node: Node) -> None:
    a = node.attrs
    w.add("MaxPool", [w.name(node.inputs[0])], [w.name(node.output)], kernel_shape=list(a["kernel_size"]),
          strides=list(a["stride"]), pads=_ends(a["padding"]), dilations=list(a["dilation"]),
          ceil_mode=int(bool(a["ceil_mode"])))


@writes("avg_pool")
def _avg_pool(w: Writer, node: Node) -> None:
    a, out = node.attrs, w.name(node.output)
    divisor = a.get("divisor_override")
    if a["ceil_mode"]:
        _avg_pool_ceil(w, node, divisor)
        return
    settings: dict[str, Any] = {"kernel_shape": list(a["kernel_size"]), "strides": list(a["stride"]),
                                "pads": _ends(a["padding"]),
                                "count_include_pad": int(bool(a["count_include_pad"] or divisor))}
    if not divisor:
        w.add("AveragePool", [w.name(node.inputs[0])], [out], **settings)
        return
    mean = w.add("AveragePool", [w.name(node.inputs[0])], **settings)
    w.add("Mul", [mean, w.constant(prod(a["kernel_size"]) / divisor, np.float32)], [out])


def _avg_pool_ceil(w: Writer, node: Node, divisor: int | None) -> None:
    """Whose windows engines count in different ways: zeros around, and what each window's sum is divided by."""
    a, x = node.attrs, node.inputs[0]
    counts, high, extents = np.ones((), np.float32), [], node.output.shape[2:]
    for n, k, s, (low, up), m in zip(x.shape[2:], a["kernel_size"], a["stride"], a["padding"], extents, strict=True):
        first = np.arange(m) * s - low
        inside = np.minimum(first + k, n + up) - first if a["count_include_pad"] else \
            np.minimum(first + k, n) - np.maximum(first, 0)
        counts = np.multiply.outer(counts, np.ones(m) if divisor else inside)
        high.append(max(0, (m - 1) * s + k - n - low))
    before = [0, 0, *(p[0] for p in a["padding"])]
    padded = w.add("Pad", [w.name(x), w.constant([*before, 0, 0, *high], np.int64), w.constant(0.0, np.float32)])
    mean = w.add("AveragePool", [padded], kernel_shape=list(a["kernel_size"]), strides=list(a["stride"]))
    share = prod(a["kernel_size"]) / (counts * (divisor or 1))
    w.add("Mul", [mean, w.constant(share[None, None], np.float32)], [w.name(node.output)])


@writes("adaptive_avg_pool", "adaptive_max_pool")
def _adaptive(w: Writer, node: Node) -> None:
    kind = "Average" if node.op.name == "adaptive_avg_pool" else "Max"
    sizes, wanted = node.inputs[0].shape[2:], node.attrs["output_size"]
    x, out = w.name(node.inputs[0]), w.name(node.output)
    if all(o == 1 for o in wanted):
        w.add(f"Global{kind}Pool", [x], [out])
        return
    if all(s % o == 0 for s, o in zip(sizes, wanted, strict=True)):
        kernel = [s // o for s, o in zip(sizes, wanted, strict=True)]
        w.add(f"{kind}Pool", [x], [out], kernel_shape=kernel, strides=kernel)
        return
    for d, (s, o) in enumerate(zip(sizes, wanted, strict=True)):  # windows of different lengths: one axis after another
        parts = []
        for i in range(o):
            cut = w.add("Slice", [x, *(w.constant([v], np.int64) for v in (i * s // o, -(-(i + 1) * s // o), d + 2))])
            axes = w.constant([d + 2], np.int64)
            parts.append(w.add("ReduceMean", [cut, axes], keepdims=1) if kind == "Average" else
                         w.add("ReduceMax", [cut, axes], keepdims=1))
        x = w.add("Concat", parts, [out] if d == len(sizes) - 1 else None, axis=d + 2)


def shape_constant(w: Writer, tensor: Tensor) -> str:
    """A shape for Reshape: 0, which keeps the extent, where it is the batch."""
    shape = list(tensor.type.shape)
    if tensor.batched:
        shape[0] = 0
    return w.constant(shape, np.int64)


@writes("flatten", "unflatten")
def _reshape(w: Writer, node: Node) -> None:
    if node.op.name == "flatten" and node.attrs["start_dim"] == 1 and node.attrs["end_dim"] == node.inputs[0].ndim - 1:
        w.add("Flatten", [w.name(node.inputs[0])], [w.name(node.output)])
        return
    w.add("Reshape", [w.name(node.inputs[0]), shape_constant(w, node.output)], [w.name(node.output)])


@writes("concat")
def _concat(w: Writer, node: Node) -> None:
    w.add("Concat", [w.name(t) for t in node.inputs], [w.name(node.output)], axis=node.attrs["dim"])


@writes("channel_slice", "slice")
def _slice(w: Writer, node: Node) -> None:
    start, dim = node.attrs["start"], node.attrs.get("dim", 1)
    w.add("Slice", [w.name(node.inputs[0]), *(w.constant([v], np.int64) for v in (start, start + node.attrs["count"], dim))],
          [w.name(node.output)])


@writes("pad")
def _pad(w: Writer, node: Node) -> None:
    a = node.attrs
    mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}[a["mode"]]
    x, pairs = w.name(node.inputs[0]), list(a["pads"])
    out, amounts = w.name(node.output), w.constant(_ends(pairs), np.int64)
    if mode != "wrap":
        more = [w.constant(a["value"], np.float32)] if mode == "constant" else []
        w.add("Pad", [x, amounts, *more], [out], mode=mode)
        return
    for d, (low, high) in enumerate(pairs):  # "wrap" is younger than this operator set: pieces, joined
        size, pieces = node.inputs[0].type.shape[d], []

        def cut(first: int, last: int, d: int = d) -> str:
            return w.add("Slice", [x, *(w.constant([v], np.int64) for v in (first, last, d))])  # noqa: B023

        if low == high == 0:
            continue
        pieces = [cut(size - low, size)] if low > 0 else []
        pieces += [cut(max(0, -low), size + min(0, high))] if min(low, high) < 0 else [x]
        pieces += [cut(0, high)] if high > 0 else []
        x = w.add("Concat", pieces, axis=d) if len(pieces) > 1 else pieces[0]
    w.add("Identity", [x], [out])
