"""What was read from an ONNX file, written again: its nodes, names and open extents as they were, weights as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastconv.graph.parameter import Parameter
from fastconv.interop.imported import Graft

MOST = 4 << 20  # bytes of nodes that are kept; weights in branches and attributes are among them
IR_VERSION = 4  # the first in which initialisers need not be inputs


def keep(proto, nodes: Sequence, inputs: Sequence[str], constants: Mapping[str, np.ndarray],
         kinds: Mapping[str, str]) -> bytes:
    """A model's message without weights; nothing where it could not be written again, as tensors have become others."""
    import onnx

    if any(kinds.get(name, array.dtype.name) != array.dtype.name for name, array in constants.items()):
        return b""
    if any(_random(node) for node in nodes):
        return b""
    kept = onnx.ModelProto(ir_version=max(IR_VERSION, proto.ir_version), opset_import=proto.opset_import)
    kept.graph.name = proto.graph.name or "graph"
    kept.graph.input.extend(value for value in proto.graph.input if value.name in inputs)
    kept.graph.output.extend(proto.graph.output)
    kept.graph.node.extend(node for node in nodes if node.op_type != "Constant")
    return kept.SerializeToString() if kept.ByteSize() <= MOST else b""


def _random(node) -> bool:
    """Whether a node is in training mode for those who run the file."""
    return node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2]) or \
        any(a.name == "training_mode" and a.i for a in node.attribute)


def as_read(module: Any):
    """The onnx package's object of an imported model; None where parts have been replaced or it was not kept."""
    import onnx

    module._mend()
    followed = module._followed
    if not followed.kept or any(isinstance(node, Graft) for node in followed.nodes):
        return None
    model = onnx.ModelProto.FromString(followed.kept)
    values: dict[str, np.ndarray] = dict(followed.constants)
    for name, (home, key) in followed.places.items():
        parameter = home._parameters.get(key, home._buffers.get(key))
        if not isinstance(parameter, Parameter):
            return None
        values[name] = np.asarray(parameter.data)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
                                   for name, value in values.items())
    return model
