"""A model of the ONNX format as a module: its parameters, and a ``forward`` that follows its nodes."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from fastconv.graph.ir import scope
from fastconv.graph.parameter import Parameter
from fastconv.graph.traced import About
from fastconv.interop.onnx import (  # noqa: F401
    attention,
    conv,
    indexing,
    pointwise,
    quantized,
    reading,
    reduction,
    shapes,
    spatial,
    static,
)
from fastconv.interop.onnx.reading import Input
from fastconv.interop.onnx.table import TABLE, DependsOnValues, Node, is_static, numbers, tensor
from fastconv.nn import Module

log = logging.getLogger("fastconv")
REFUSED = (
    "Loop", "Scan", "SequenceMap", "Optional", "OptionalGetElement", "SequenceConstruct", "SequenceAt", "SequenceErase",
    "SequenceInsert", "SequenceEmpty", "SplitToSequence", "ConcatFromSequence", "StringNormalizer", "TfIdfVectorizer")
DEEPEST = 8  # functions inside one another
LEAST = 2  # elements of a constant that counts as a parameter


class Branch(Module):
    """A node of the tree that the dots in parameters' names make."""

    def forward(self, *inputs):
        raise TypeError("this part of an ONNX model holds parameters; the model's own forward says what is done with them")


class Followed:
    """What a model's forward follows: as one object that nobody changes, so that no run of an engine has to look through it
    (see :mod:`fastconv.graph.traced`).

    Attributes
    ----------
    nodes : list of Node
    constants : dict from name to ndarray
    places : dict from a weight's name in the file to (module, name there)
    """

    def __init__(self, inputs: Sequence[Input], outputs: Sequence[str], metadata: Mapping[str, str]):
        self.inputs, self.outputs, self.metadata = tuple(inputs), tuple(outputs), dict(metadata)
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.places: dict[str, tuple[Module, str]] = {}


class OnnxModel(Module):
    """A network read by :func:`load_onnx`.

    Attributes
    ----------
    inputs : list of Input
        Names, extents (None where any) and dtypes, in the model's order, which is that of ``forward``'s arguments.
    output_names : list of str
    metadata : dict of str
        What the file says about itself: producer, and its own entries.
    opset : int
    """

    def __init__(self, inputs: Sequence[Input], output_names: Sequence[str], opset: int, metadata: dict):
        super().__init__()
        self.opset, self._followed = opset, Followed(inputs, output_names, metadata)

    @property
    def inputs(self) -> list[Input]:
        return [*self._followed.inputs]

    @property
    def input_names(self) -> list[str]:
        return [i.name for i in self._followed.inputs]

    @property
    def output_names(self) -> list[str]:
        return [*self._followed.outputs]

    @property
    def metadata(self) -> dict[str, str]:
        return self._followed.metadata

    def forward(self, *values):
        if len(values) != len(self.inputs):
            raise TypeError(f"{type(self).__name__}: {len(values)} inputs given, the model has {len(self.inputs)}: "
                            f"{', '.join(self.input_names)}")
        known: dict[str, Any] = dict(self._followed.constants)
        for name, (home, key) in self._followed.places.items():
            known[name] = getattr(home, key)
        for one, value in zip(self.inputs, values, strict=True):
            if one.shape is not None and len(one.shape) != value.ndim:
                raise ValueError(f"{one.name} of shape {tuple(value.shape)} has {value.ndim} dimensions: the model takes "
                                 f"{one.shape}")
            known[one.name] = value
        run(self._followed.nodes, known)
        outputs = tuple(tensor(known[name]) for name in self.output_names)
        return outputs[0] if len(outputs) == 1 else outputs

    def __repr__(self) -> str:
        takes = ", ".join(f"{i.name} {'(any)' if i.shape is None else tuple('?' if s is None else s for s in i.shape)}"
                          for i in self.inputs)
        return f"OnnxModel({takes} -> {', '.join(self.output_names)}: {len(self._followed.nodes)} nodes, opset {self.opset})"


def run(nodes: Iterable[Node], known: dict[str, Any]) -> None:
    """Follows nodes; ``known`` gets their outputs."""
    for node in nodes:
        values = [known[name] if name else None for name in node.inputs]
        results = apply(node, values, known)
        for name, value in zip(node.outputs, results, strict=False):
            if name:
                known[name] = value


def apply(node: Node, values: list, known: dict[str, Any]) -> Sequence:
    """The outputs of one node."""
    if node.op == "If":
        return _if(node, values, known)
    if all(map(is_static, values)) and node.op in static.ALWAYS or \
            all(map(is_static, values)) and values and node.op not in static.NEVER:
        result = static.evaluate(node, values)
        if result is not None:
            return result
    row = TABLE[node.op]
    with scope(_path(node)):
        try:
            result = row.function(node, *values)
        except TypeError as error:
            if "positional argument" not in str(error):
                raise
            raise node.fail(f"{len(values)} inputs ({error})") from None
    return result if isinstance(result, (tuple, list)) else (result,)


def _path(node: Node) -> str:
    return node.name.replace(".", "/")


def _if(node: Node, values: list, known: dict[str, Any]) -> list:
    """The branch that a condition takes which is known while tracing."""
    condition = values[0]
    if not is_static(condition):
        raise node.fail("the condition depends on the values of the input: only what follows from shapes is decided",
                        DependsOnValues)
    branch = node.get("then_branch" if bool(numbers(condition).reshape(-1)[0]) else "else_branch")
    inside = {**known, **branch.constants}
    run(branch.nodes, inside)
    return [inside[name] for name in branch.outputs]


def preprocessing(metadata: Mapping[str, str]) -> dict | None:
    """What the file says an input needs, if fastconv wrote it."""
    try:
        found = json.loads(metadata.get("preprocessing", "null"))
    except (ValueError, RecursionError):
        return None
    return About(found) if isinstance(found, dict) else None


class Subgraph:
    """The body of an If."""

    def __init__(self, nodes: list[Node], constants: dict[str, np.ndarray], outputs: list[str]):
        self.nodes, self.constants, self.outputs = nodes, constants, outputs


# ---- building ---------------------------------------------------------------------------------------------------------


def load_onnx(path, constants: Mapping[str, Any] | None = None) -> OnnxModel:
    """Reads an ONNX file.

    Parameters
    ----------
    path : str or os.PathLike
    constants : dict from name to array, optional
        Inputs that are given once and for all, and are then none any more: those of which shapes depend must be.

    Returns
    -------
    OnnxModel
        Its parameters have the initialisers' names (dots make a tree, as in PyTorch's state dicts). Floating point of other
        widths has become float32, which is logged.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not an ONNX model, one that contradicts itself, or external data outside of the model's folder.
    NotImplementedError
        Operators that are not there: all of them, with their nodes.
    ImportError
        The package onnx is not installed.
    """
    name = os.fsdecode(path)
    proto, folder = reading.read(path)
    try:
        return Builder(proto, folder, constants).build()
    except NotImplementedError as error:
        raise NotImplementedError(f"load {name!r}: {error}") from None
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"load {name!r}: {error}") from error


def known(op: str) -> bool:
    """Whether there is something to do for an operator."""
    return op in TABLE or op in static.ALWAYS or op in ("If", "Constant")


def operators(graph) -> set[str]:
    """The standard's operators that a graph has, at any depth."""
    found = set()
    for node in graph.node:
        if node.domain in reading.DOMAINS:
            found.add(node.op_type)
        for a in node.attribute:
            if a.HasField("g"):
                found |= operators(a.g)
    return found


class Builder:
    """Makes a module of the onnx package's object."""

    def __init__(self, proto, folder: str, constants: Mapping[str, Any] | None = None):
        import onnx

        self.onnx, self.folder = onnx, folder
        self.given = {name: reading.ours(np.asarray(value)) for name, value in (constants or {}).items()}
        self.opset = reading.opset(proto)
        self.proto = self.inlined(proto)
        self.unsupported: dict[str, list[str]] = {}
        self.converted: dict[str, int] = {}

    def inlined(self, proto):
        """The model with its own functions, and those of the standard's that are no rows of the table, written out."""
        inliner = import_module("onnx.inliner")
        if proto.functions:
            proto = inliner.inline_local_functions(proto)
        for _ in range(DEEPEST):
            made = {op for op in operators(proto.graph) if not known(op) and op not in REFUSED and self.has_body(op)}
            if not made:
                break
            try:
                proto = inliner.inline_selected_functions(self.onnx.shape_inference.infer_shapes(proto),
                                                          [("", op) for op in made], inline_schema_functions=True)
            except Exception as error:  # whatever its C++ raises where types do not decide: the operator is then unsupported
                log.debug("onnx: %s stays as it is: %s", made, error)
                break
        return proto

    def has_body(self, op: str) -> bool:
        """Whether the standard defines an operator by others."""
        try:
            schema = self.onnx.defs.get_schema(op, self.opset, "")
        except self.onnx.defs.SchemaError:
            return False
        return any(getattr(schema, name) for name in ("has_function", "has_context_dependent_function"))

    def build(self) -> OnnxModel:
        graph = self.proto.graph
        if graph.sparse_initializer:
            raise NotImplementedError("sparse initialisers are not read")
        weights = {t.name: t for t in graph.initializer}
        if len(weights) < len(graph.initializer):
            raise ValueError("two initialisers have the same name")
        wrong = sorted(set(self.given) - {i.name for i in graph.input})
        if wrong:
            names = ", ".join(i.name for i in graph.input)
            raise ValueError(f"constants names {wrong[0]!r}: the model has the inputs {names}")
        taken = reading.inputs(graph, {*weights, *self.given})
        outputs = [o.name for o in graph.output]
        begin = {*weights, *self.given, *(i.name for i in taken)}
        reading.once(graph.node, begin)
        nodes = reading.ordered(self.needed(graph.node, outputs), begin)
        known = {*begin, *(o for n in nodes for o in n.output)}
        for output in outputs:
            if output not in known:
                raise ValueError(f"output {output!r} is made by nothing")
        self.check(nodes)
        metadata = {"producer": f"{self.proto.producer_name} {self.proto.producer_version}".strip(),
                    **{e.key: e.value for e in self.proto.metadata_props}}
        module = OnnxModel(taken, outputs, self.opset, metadata)
        module.preprocessing = preprocessing(metadata)
        read = {name for n in nodes for name in n.input} | set(outputs)
        constants = {name: self.array(t) for name, t in weights.items() if name in read and name not in self.given}
        constants.update(self.given)
        rest = []
        for proto in nodes:
            if proto.op_type == "Constant":
                constants[proto.output[0]] = self.constant(proto)
            else:
                rest.append(self.node(proto))
        self.own(module, rest, constants)
        module._followed.nodes, module._followed.constants = rest, constants
        for kind, count in sorted(self.converted.items()):
            log.warning("onnx: %d tensors of %s have become float32", count, kind)
        return module

    @staticmethod
    def needed(nodes, outputs: Sequence[str]) -> list:
        """The nodes that outputs depend on."""
        makes = {name: node for node in nodes for name in node.output if name}
        wanted, todo = set(), list(outputs)
        while todo:
            node = makes.get(todo.pop())
            if node is not None and id(node) not in wanted:
                wanted.add(id(node))
                todo += [name for name in node.input if name]
                todo += [name for a in node.attribute if a.HasField("g") for n in a.g.node for name in n.input]
        return [n for n in nodes if id(n) in wanted]

    def check(self, nodes) -> None:
        """One error for all operators that are not there."""
        self.look(nodes)
        if self.unsupported:
            lines = [f"{op} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
                     for op, names in sorted(self.unsupported.items())]
            raise NotImplementedError(f"operators that fastconv does not have: {'; '.join(lines)}")

    def look(self, nodes) -> None:
        for n in nodes:
            if n.op_type in ("Constant", "If") and n.domain in reading.DOMAINS:
                for a in n.attribute:
                    if a.HasField("g"):
                        self.look(a.g.node)
            elif n.domain not in reading.DOMAINS or n.op_type in REFUSED or not known(n.op_type):
                op = n.op_type if n.domain in reading.DOMAINS else f"{n.domain}.{n.op_type}"
                self.unsupported.setdefault(op, []).append(n.name or (n.output[0] if n.output else "unnamed"))

    def array(self, proto) -> np.ndarray:
        kind = reading.dtypes().get(proto.data_type, "")
        if kind in ("float64", "float16", "bfloat16"):
            self.converted[kind] = self.converted.get(kind, 0) + 1
        return reading.to_array(proto, self.folder)

    def constant(self, proto) -> np.ndarray:
        for a in proto.attribute:
            if a.name == "value":
                return self.array(a.t)
            if a.name in ("value_float", "value_floats"):
                return np.array(a.f if a.name == "value_float" else list(a.floats), np.float32)
            if a.name in ("value_int", "value_ints"):
                return np.array(a.i if a.name == "value_int" else list(a.ints), np.int64)
        raise ValueError(f"Constant {proto.name or proto.output[0]!r} has no value of numbers")

    def node(self, proto) -> Node:
        attributes = {a.name: self.attribute(a) for a in proto.attribute}
        if proto.op_type == "Constant":
            return Node("Constant", proto.name, {"array": self.constant(proto)}, [], list(proto.output), self.opset)
        return Node(proto.op_type, proto.name, attributes, list(proto.input), list(proto.output), self.opset)

    def attribute(self, a) -> Any:
        kinds = self.onnx.AttributeProto
        if a.type == kinds.GRAPH:
            constants = {t.name: self.array(t) for t in a.g.initializer}
            nodes = []
            for proto in a.g.node:
                if proto.op_type == "Constant":
                    constants[proto.output[0]] = self.constant(proto)
                else:
                    nodes.append(self.node(proto))
            return Subgraph(nodes, constants, [o.name for o in a.g.output])
        if a.type == kinds.TENSOR:
            return self.array(a.t)
        value = self.onnx.helper.get_attribute_value(a)
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        if isinstance(value, (list, tuple)) or a.type in (kinds.INTS, kinds.FLOATS, kinds.STRINGS):
            return [v.decode(errors="replace") if isinstance(v, bytes) else v for v in value]
        return value

    def own(self, module: OnnxModel, nodes: Sequence[Node], constants: dict[str, np.ndarray]) -> None:
        """Makes parameters of those constants that are weights: what a node of arithmetic reads and training may change."""
        frozen: set[str] = set()
        used: dict[str, list[tuple[Node, int]]] = {}
        for node in nodes:
            for i, name in enumerate(node.inputs):
                used.setdefault(name, []).append((node, i))
                if node.op == "BatchNormalization" and i > 2:
                    frozen.add(name)
        for name in list(constants):
            array = constants[name]
            places = used.get(name, [])
            if array.dtype != np.float32 or not places or array.size < LEAST and array.ndim == 0:
                continue
            if not any(i in WEIGHTS.get(node.op, ()) for node, i in places):
                continue
            home, key = _home(module, name)
            parameter = Parameter(array, requires_grad=name not in frozen)
            if name in frozen:
                home.register_buffer(key, parameter)
            else:
                home.register_parameter(key, parameter)
            module._followed.places[name] = (home, key)
            del constants[name]


# Of each operator, the inputs that are weights where they are constants: what training changes.
WEIGHTS = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (0, 1, 2), "MatMul": (0, 1), "BatchNormalization": (1, 2, 3, 4),
    "InstanceNormalization": (1, 2), "LayerNormalization": (1, 2), "GroupNormalization": (1, 2), "RMSNormalization": (1,),
    "PRelu": (1,), "Add": (0, 1), "Sub": (0, 1), "Mul": (0, 1), "Div": (0, 1), "LSTM": (1, 2, 3, 7), "GRU": (1, 2, 3),
    "RNN": (1, 2, 3), "Gather": (0,), "Einsum": (0, 1), "Concat": tuple(range(64)), "Expand": (0,), "Where": (1, 2),
}


def _home(module: Module, name: str) -> tuple[Module, str]:
    """The module of the tree that a weight of this name belongs to, made where it is not there, and its name in it."""
    *path, last = [part or "_" for part in "".join(c if c.isprintable() else "_" for c in name).split(".")]
    home: Module = module
    for part in path:
        child = home._modules.get(part)
        if child is None:
            if hasattr(type(home), part) or part in home._parameters or part in home._buffers or part in home.__dict__:
                part += "_"
            child = home._modules.get(part) or Branch()
            home.add_module(part, child)
        home = child
    while hasattr(type(home), last) or last in home._parameters or last in home._buffers or last in home._modules or \
            last in home.__dict__:
        last += "_"
    return home, last


