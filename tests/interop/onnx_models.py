"""Small ONNX models for tests, made by the onnx package."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

KINDS = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "float64": TensorProto.DOUBLE,
         "float16": TensorProto.FLOAT16, "bool": TensorProto.BOOL,
         "int32": TensorProto.INT32, "uint8": TensorProto.UINT8, "string": TensorProto.STRING}


def model(nodes, inputs, outputs, weights=None, opset=18, **more):
    """A model of nodes; inputs and outputs are dicts from names to (shape, dtype) or shapes."""
    def info(name, spec):
        shape, kind = spec if isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[1], str) else (spec, "float32")
        return helper.make_tensor_value_info(name, KINDS[kind], shape)

    tensors = [v if isinstance(v, TensorProto) else numpy_helper.from_array(np.asarray(v), k)
               for k, v in (weights or {}).items()]
    graph = helper.make_graph(nodes, "test", [info(k, v) for k, v in inputs.items()],
                              [info(k, v) for k, v in outputs.items()], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **more)


def node(op, inputs, outputs, name="", **attributes):
    return helper.make_node(op, inputs, outputs, name=name, **attributes)
