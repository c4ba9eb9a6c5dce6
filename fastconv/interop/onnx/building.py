"""Makes a module of an ONNX file: what the file claims is held against the standard, weights become parameters."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from fastconv.graph.parameter import Parameter, adopted
from fastconv.graph.traced import About
from fastconv.interop.onnx import dependent, kept, reading, static
from fastconv.interop.onnx.apart import Apart
from fastconv.interop.onnx.model import OnnxModel, Subgraph
from fastconv.interop.onnx.table import TABLE, Node

log = logging.getLogger("fastconv")
REFUSED = (
    "Loop", "Scan", "SequenceMap", "Optional", "OptionalGetElement", "SequenceConstruct", "SequenceAt", "SequenceErase",
    "SequenceInsert", "SequenceEmpty", "SplitToSequence", "ConcatFromSequence", "StringNormalizer", "TfIdfVectorizer")
DEEPEST = 8  # functions inside one another
LEAST = 2  # elements of a constant that counts as a parameter


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
    with reading.read(path) as (proto, folder, apart):
        try:
            return Builder(proto, folder, constants, apart).build()
        except NotImplementedError as error:
            raise NotImplementedError(f"load {name!r}: {error}") from None
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError, MemoryError) as error:
            raise ValueError(f"load {name!r}: {error}") from error


def preprocessing(metadata: Mapping[str, str]) -> dict | None:
    """What the file says an input needs, if fastconv wrote it."""
    try:
        found = json.loads(metadata.get("preprocessing", "null"))
    except (ValueError, RecursionError):
        return None
    return About(found) if isinstance(found, dict) else None


def known(op: str) -> bool:
    """Whether there is something to do for an operator."""
    return op in TABLE or op in static.ALWAYS or op in dependent.HOST or op in ("If", "Constant")


def operators(graph) -> set[tuple[str, str]]:
    """The standard's operators that a graph has, at any depth: domains and names."""
    found = set()
    for node in graph.node:
        if node.domain in reading.DOMAINS or node.domain == reading.PREVIEW:
            found.add(("" if node.domain in reading.DOMAINS else node.domain, node.op_type))
        for a in node.attribute:
            if a.HasField("g"):
                found |= operators(a.g)
    return found


class Builder:
    """Makes a module of the onnx package's object."""

    def __init__(self, proto, folder: str, constants: Mapping[str, Any] | None = None, apart: Apart | None = None):
        import onnx

        self.onnx, self.folder, self.apart = onnx, folder, apart
        self.given = {name: reading.ours(np.asarray(value)) for name, value in (constants or {}).items()}
        self.opset, self.sets = reading.opset(proto), proto.opset_import
        self.proto = self.inlined(proto)
        self.unsupported: dict[str, list[str]] = {}
        self.converted: dict[str, int] = {}
        self.kinds: dict[str, str] = {}
        self.schemas: dict[tuple[str, str], Any] = {}

    def inlined(self, proto):
        """The model with its own functions, and those of the standard's that are no rows of the table, written out."""
        inliner = import_module("onnx.inliner")
        if proto.functions:
            proto = inliner.inline_local_functions(proto)
        for _ in range(DEEPEST):
            made = {(domain, op) for domain, op in operators(proto.graph)
                    if not known(op) and op not in REFUSED and self.has_body(domain, op)}
            if not made:
                break
            try:
                typed = self.onnx.shape_inference.infer_shapes(proto)
                left_out = typed.graph.value_info.add(name="")  # the inliner asks for the type of inputs that are not given
                left_out.type.tensor_type.elem_type = self.onnx.TensorProto.FLOAT
                proto = inliner.inline_selected_functions(typed, sorted(made), inline_schema_functions=True)
            except Exception as error:  # whatever its C++ raises where types do not decide: the operator is then unsupported
                log.debug("onnx: %s stays as it is: %s", made, error)
                break
        return proto

    def has_body(self, domain: str, op: str) -> bool:
        """Whether the standard defines an operator by others."""
        versions = [o.version for o in self.sets if o.domain == domain]
        try:
            schema = self.onnx.defs.get_schema(op, self.opset if not domain else versions[0] if versions else 1, domain)
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
            if not output or output not in known:
                raise ValueError(f"output {output!r} is made by nothing")
        self.check(nodes)
        metadata = {"producer": f"{self.proto.producer_name} {self.proto.producer_version}".strip(),
                    **{e.key: e.value for e in self.proto.metadata_props}}
        module = OnnxModel(taken, outputs, self.opset, metadata)
        module.preprocessing = preprocessing(metadata)
        read = {name for n in nodes for name in reading.reads(n)} | set(outputs)  # branches' too
        constants = {name: self.array(t, self.apart) for name, t in weights.items()
                     if name in read and name not in self.given}
        constants.update(self.given)
        self.say_kinds(graph, nodes)
        rest = []
        for proto in nodes:
            if proto.op_type == "Constant":
                constants[proto.output[0]] = self.constant(proto)
            else:
                rest.append(self.node(proto))
        module._followed.kept = kept.keep(self.proto, nodes, [i.name for i in taken], constants, self.kinds)
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
                todo += reading.reads(node)
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
            op = reading.operator(n)
            for a in n.attribute if op == "If" else ():
                if a.HasField("g"):
                    self.look(a.g.node)
            if op in REFUSED or not known(op):
                self.unsupported.setdefault(op, []).append(n.name or (n.output[0] if n.output else "unnamed"))

    def say_kinds(self, graph, nodes) -> None:
        """Notes the element types that the file says: those of fewer bits are held in wider dtypes."""
        names = reading.dtypes()
        for value in (*graph.value_info, *graph.input, *graph.output):
            self.kinds[value.name] = names.get(value.type.tensor_type.elem_type, "")
        for weight in graph.initializer:
            self.kinds[weight.name] = names.get(weight.data_type, "")
        for node in nodes:
            for a in node.attribute:
                if node.op_type == "Cast" and a.name == "to" or node.op_type == "Constant" and a.name == "value":
                    self.kinds[node.output[0]] = names.get(a.i if a.name == "to" else a.t.data_type, "")
        self.kinds = {name: kind for name, kind in self.kinds.items() if kind}

    def array(self, proto, apart: Apart | None = None) -> np.ndarray:
        kind = reading.dtypes().get(proto.data_type, "")
        if "float" in kind and kind != "float32":
            self.converted[kind] = self.converted.get(kind, 0) + 1
        return reading.to_array(proto, self.folder, apart)

    def constant(self, proto) -> np.ndarray:
        for a in proto.attribute:
            if a.name == "value":
                return self.array(a.t)
            if a.name in ("value_float", "value_floats"):
                return np.array(a.f if a.name == "value_float" else list(a.floats), np.float32)
            if a.name in ("value_int", "value_ints"):
                return np.array(a.i if a.name == "value_int" else list(a.ints), np.int64)
        raise ValueError(f"Constant {proto.name or proto.output[0]!r} has no value of numbers")

    def schema(self, proto):
        """What the standard says of an operator: in the model's set, or in the newest where that does not have it yet."""
        own = proto.domain in reading.DOMAINS
        for version in (self.opset, self.onnx.defs.onnx_opset_version()) if own else (1,):
            try:
                return self.onnx.defs.get_schema(proto.op_type, version, "" if own else proto.domain)
            except self.onnx.defs.SchemaError:
                pass
        return None

    def fits(self, proto) -> None:
        """Holds a node against the standard: the inputs and attributes that it must have, and their kinds."""
        key = proto.domain, proto.op_type
        if key not in self.schemas:
            self.schemas[key] = self.schema(proto)
        schema = self.schemas[key]
        if schema is None:
            return
        what = f"{proto.op_type} {proto.name or (proto.output[0] if proto.output else '')!r}"
        if not schema.min_input <= len(proto.input) <= schema.max_input:
            most = f" to {schema.max_input}" if schema.max_input < 1 << 30 else " or more"
            raise ValueError(f"{what}: {len(proto.input)} inputs: expected {schema.min_input}"
                             + (most if schema.max_input != schema.min_input else ""))
        needs = self.onnx.defs.OpSchema.FormalParameterOption
        for name, formal in zip(proto.input, schema.inputs, strict=False):
            if not name and formal.option == needs.Single:
                raise ValueError(f"{what}: the input {formal.name} is not given")
        if not proto.output or not any(proto.output):
            raise ValueError(f"{what}: it has no outputs")
        given = {a.name: a for a in proto.attribute}
        for name, formal in schema.attributes.items():
            if name not in given:
                if formal.required:
                    raise ValueError(f"{what}: the attribute {name} is not given")
            elif int(formal.type.value) != given[name].type:
                raise ValueError(f"{what}: the attribute {name} is of another kind than the standard's")

    def node(self, proto) -> Node:
        self.fits(proto)
        attributes = {a.name: self.attribute(a) for a in proto.attribute}
        if proto.op_type == "Constant":
            return Node("Constant", proto.name, {"array": self.constant(proto)}, [], list(proto.output), self.opset)
        made = Node(reading.operator(proto), proto.name, attributes, list(proto.input), list(proto.output), self.opset)
        made.kinds = self.kinds
        return made

    def attribute(self, a) -> Any:
        kinds = self.onnx.AttributeProto
        if a.type == kinds.GRAPH:
            constants = {t.name: self.array(t) for t in a.g.initializer}
            nodes = []
            made = {name for proto in a.g.node for name in proto.output}
            begin = {*constants, *(name for proto in a.g.node for name in reading.reads(proto) if name not in made)}
            outputs = [o.name for o in a.g.output]
            for name in outputs:
                if not name:
                    raise ValueError("a branch has an output without a name")
            for proto in reading.ordered(a.g.node, begin):  # what comes from around it has been looked for with its node
                if proto.op_type == "Constant":
                    constants[proto.output[0]] = self.constant(proto)
                else:
                    nodes.append(self.node(proto))
            return Subgraph(nodes, constants, outputs)
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
        sizes = sizing(nodes)
        for node in nodes:
            for i, name in enumerate(node.inputs):
                used.setdefault(name, []).append((node, i))
                if node.op == "BatchNormalization" and i > 2:
                    frozen.add(name)
            for inner in within(node):  # weights that branches read from around them
                for i, name in enumerate(inner.inputs):
                    used.setdefault(name, []).append((inner, i))
        for name in list(constants):
            array = constants[name]
            places = used.get(name, [])
            if array.dtype != np.float32 or not places or array.size < LEAST and array.ndim == 0 or name in sizes:
                continue
            if not any(i in WEIGHTS.get(node.op, ()) for node, i in places):
                continue
            home, key = module._home(name)
            mine = self.apart is not None and name in self.apart.places and name not in self.given
            parameter = (adopted if mine else Parameter)(array, requires_grad=name not in frozen)
            if name in frozen:
                home.register_buffer(key, parameter)
            else:
                home.register_parameter(key, parameter)
            module._followed.places[name] = (home, key)
            del constants[name]
        for node in nodes:
            if node.op == "BatchNormalization" and node.inputs[1] in module._followed.places:
                node.part = self.part(module, node)

    def part(self, module: OnnxModel, node: Node) -> Any:
        """Where the mode of a batch normalisation is that node's alone: the part that has its weights, or a new one."""
        places = module._followed.places
        home = places[node.inputs[1]][0]
        if home is module or any(at is home and name not in node.inputs for name, (at, _) in places.items()):
            home = module._branch(["".join(c if c.isprintable() and c != "." else "_" for c in node.name)])
        home.kind = node.op
        return home


# Of each operator, the inputs that are weights where they are constants: what training changes.
WEIGHTS = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (0, 1, 2), "MatMul": (0, 1), "BatchNormalization": (1, 2, 3, 4),
    "InstanceNormalization": (1, 2), "LayerNormalization": (1, 2), "GroupNormalization": (1, 2), "RMSNormalization": (1,),
    "PRelu": (1,), "Add": (0, 1), "Sub": (0, 1), "Mul": (0, 1), "Div": (0, 1), "LSTM": (1, 2, 3, 7), "GRU": (1, 2, 3),
    "DeformConv": (1, 3), "RNN": (1, 2, 3), "Gather": (0,), "Einsum": (0, 1), "Concat": tuple(range(64)),
    "Expand": (0,), "Where": (1, 2), "SimplifiedLayerNormalization": (1,), "com.microsoft.FusedConv": (1, 2),
    "com.microsoft.FusedGemm": (0, 1, 2), "com.microsoft.FusedMatMul": (0, 1), "com.microsoft.BiasGelu": (1,),
    "com.microsoft.SkipLayerNormalization": (2, 3, 4),
}


# Of each operator, the inputs that say how large its result is, or over what it goes.
SIZES = {
    "Reshape": (1,), "Resize": (1, 2, 3), "Upsample": (1,), "Slice": (1, 2, 3, 4), "Expand": (1,), "Tile": (1,),
    "Pad": (1, 3), "ConstantOfShape": (0,), "Range": (0, 1, 2), "TopK": (1,), "Split": (1,), "Squeeze": (1,),
    "Unsqueeze": (1,), "If": (0,), "OneHot": (1,), "CumSum": (1,), "Trilu": (1,), "CenterCropPad": (1,), "AffineGrid": (1,),
    "Col2Im": (1, 2),
}
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LSTM", "GRU", "RNN", "LayerNormalization")


def within(node: Node) -> Iterator[Node]:
    """The nodes of a node's branches, but for batch normalisations, whose mode is a part's."""
    for branch in node.attributes.values():
        if isinstance(branch, Subgraph):
            for inner in branch.nodes:
                if inner.op != "BatchNormalization":
                    yield inner
                yield from within(inner)


def sizing(nodes: Sequence[Node]) -> set[str]:
    """The tensors that sizes are computed of: constants among them are no weights, whatever adds or joins them."""
    makes = {name: node for node in nodes for name in node.outputs if name}
    todo = [node.inputs[i] for node in nodes for i in SIZES.get(node.op, (1,) if node.op.startswith("Reduce") else ())
            if i < len(node.inputs)]
    found: set[str] = set()
    while todo:
        name = todo.pop()
        if name and name not in found:
            found.add(name)
            node = makes.get(name)
            if node is not None and node.op not in ("Shape", "Size", *LAYERS):
                todo += node.inputs
    return found
