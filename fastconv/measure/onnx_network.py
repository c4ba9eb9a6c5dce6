"""A described network (``subject.py``) as an ONNX model, for ONNX Runtime and OpenVINO."""

from __future__ import annotations

import numpy as np

from fastconv.measure.subject import Unsupported, no_scalars, reject

UNARY = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax", "log_softmax": "LogSoftmax",
         "hardswish": "HardSwish"}
MOST_BYTES = 2**31 - 2**20  # of a model in one piece


def onnx_model(nodes: list[dict], weights: dict[str, np.ndarray], shape) -> bytes:
    """The model for inputs "x" of one shape; its output is "y".

    Raises
    ------
    Unsupported
        For an operator that this does not know, and for a network above 2 GiB.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    if sum(value.nbytes for value in weights.values()) > MOST_BYTES:
        raise Unsupported("its weights are more than an ONNX model in one piece may hold, 2 GiB")
    made, constants = [], dict(weights)
    for node in nodes:
        name, keywords, more = _operator(node)
        limits = [f"{node['output']}.{key}" for key in more]
        constants |= dict(zip(limits, more.values(), strict=True))
        made.append(helper.make_node(name, [i or "" for i in node["inputs"]] + limits, [node["output"]], **keywords))
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(made, "network", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, nodes[-1]["result"])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()


def _operator(node: dict) -> tuple[str, dict, dict]:
    """ONNX's name and attributes, and inputs that are constants."""
    a, op, inputs = node["attributes"], node["op"], node["inputs"]
    if op in ("conv", "conv_transpose", "max_pool", "avg_pool"):
        geometry = {"strides": a["stride"], "pads": [p[0] for p in a["padding"]] + [p[1] for p in a["padding"]]}
    if op in ("conv", "conv_transpose"):
        geometry |= {"kernel_shape": a["kernel"], "dilations": a["dilation"], "group": a["groups"]}
        if op == "conv":
            return "Conv", geometry, {}
        return "ConvTranspose", {**geometry, "output_padding": a["output_padding"]}, {}
    if op == "linear":
        return "Gemm", {"transB": 1}, {}
    if op == "max_pool":
        return "MaxPool", {**geometry, "kernel_shape": a["kernel_size"], "dilations": a["dilation"],
                           "ceil_mode": int(a["ceil_mode"])}, {}
    if op == "avg_pool" and not a["divisor_override"] and not a["ceil_mode"]:
        return "AveragePool", {**geometry, "kernel_shape": a["kernel_size"],
                               "count_include_pad": int(a["count_include_pad"])}, {}
    if op == "adaptive_avg_pool" and all(s % o == 0 for s, o in zip(node["shape"][2:], a["output_size"], strict=True)):
        if set(a["output_size"]) == {1}:
            return "GlobalAveragePool", {}, {}
        kernel = [s // o for s, o in zip(node["shape"][2:], a["output_size"], strict=True)]
        return "AveragePool", {"kernel_shape": kernel, "strides": kernel}, {}
    if op == "batch_norm" and not a["training"] and None not in inputs:
        return "BatchNormalization", {"epsilon": a["eps"]}, {}
    if op in ("add", "mul"):
        no_scalars(node)
        return op.capitalize(), {}, {}
    if op == "concat":
        return "Concat", {"axis": a["dim"]}, {}
    if op == "clip":
        return "Clip", {}, {"low": np.float32(a["low"]), "high": np.float32(a["high"])}
    if op == "hardsigmoid":
        return "HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, {}
    if op == "flatten" and len(node["shape"]) == a["end_dim"] + 1 and a["start_dim"] == 1:
        return "Flatten", {}, {}
    if op in UNARY:
        return UNARY[op], {"axis": a["dim"]} if "softmax" in op else {}, {}
    raise reject(node)
