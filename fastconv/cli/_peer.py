"""The process of a peer: ``python -m fastconv.cli._peer NAME FOLDER THREADS``; see ``_peers.py``.

It builds the network of FOLDER/graph.json, writes what each variant computes there, and then answers one line of JSON with
another: how long runs took.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import json
import os
import signal
import sys
import time

import numpy as np

UNARY = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax", "log_softmax": "LogSoftmax"}


class Unsupported(Exception):
    """An operator that the peer is not told about."""


def main(name: str, folder: str, threads: int) -> None:
    if sys.platform.startswith("linux"):  # a stopped process would otherwise outlive a parent that was killed
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this process
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr

    def answer(message: dict) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    try:
        with open(os.path.join(folder, "graph.json")) as file:
            nodes = json.load(file)
        weights = dict(np.load(os.path.join(folder, "weights.npz")))
        x = np.load(os.path.join(folder, "x.npy"))
        variants, around = {"torch": torch_variants, "onnxruntime": onnxruntime_variants,
                            "openvino": openvino_variants}[name](nodes, weights, x, threads)
        with around():
            for variant, call in variants.items():
                np.save(os.path.join(folder, f"{name}-{variant}.npy"), call())
            answer({"variants": list(variants), "version": importlib.metadata.version(name)})
            for line in sys.stdin:
                message = json.loads(line)
                answer({"times": burst(variants[message["variant"]], message["seconds"])})
    except Exception as error:
        answer({"error": " ".join(f"{type(error).__name__}: {error}".split())})


def burst(call, seconds: float) -> list[float]:
    call()  # what slept wakes up
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def reject(node: dict) -> Unsupported:
    return Unsupported(f"'{node['path']}': the operator {node['op']} is not known to this comparison")


def symmetric(node: dict) -> list[int]:
    """Padding as one number per dimension."""
    if any(a != b for a, b in node["attributes"]["padding"]):
        raise reject(node)
    return [a for a, _ in node["attributes"]["padding"]]


def no_scalars(node: dict) -> None:
    if "scalars" in node["attributes"] or len(node["inputs"]) != 2:
        raise reject(node)


# ---- PyTorch --------------------------------------------------------------------------------------------------------------


def torch_variants(nodes: list[dict], weights: dict, x: np.ndarray, threads: int):
    import torch

    torch.set_num_threads(threads)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in weights.items():
                self.register_buffer(name, torch.from_numpy(np.array(value)))

        def forward(self, x):
            values = {"x": x}
            for node in nodes:
                inputs = [None if n is None else values[n] if n in values else getattr(self, n) for n in node["inputs"]]
                values[node["output"]] = torch_node(torch, node, inputs)
            return values["y"]

    variants = {}
    for name, layout in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        at = torch.from_numpy(x).contiguous(memory_format=layout)
        net = Network().eval()
        for buffer, value in net.named_buffers():
            if value.ndim == 4:
                setattr(net, buffer, value.contiguous(memory_format=layout))
        with torch.no_grad():
            frozen = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, at)))
        for kind, call in (("eager", net), ("frozen", frozen)):
            with torch.inference_mode():
                for _ in range(3):  # the first calls specialise
                    call(at)
            variants[f"{kind}-{name}"] = lambda call=call, at=at: call(at).numpy()
    return variants, torch.inference_mode


def torch_node(torch, node: dict, inputs: list):
    f, a, op = torch.nn.functional, node["attributes"], node["op"]
    if op == "conv":
        call = (f.conv1d, f.conv2d, f.conv3d)[len(a["stride"]) - 1]
        return call(*inputs, stride=a["stride"], padding=symmetric(node), dilation=a["dilation"], groups=a["groups"])
    if op == "linear":
        return f.linear(*inputs)
    if op == "max_pool":
        call = (f.max_pool1d, f.max_pool2d, f.max_pool3d)[len(a["stride"]) - 1]
        return call(inputs[0], a["kernel_size"], a["stride"], symmetric(node), a["dilation"], a["ceil_mode"])
    if op == "avg_pool" and len(a["stride"]) == 2:
        return f.avg_pool2d(inputs[0], a["kernel_size"], a["stride"], symmetric(node), a["ceil_mode"],
                            a["count_include_pad"], a["divisor_override"])
    if op == "adaptive_avg_pool" and len(a["output_size"]) == 2:
        return f.adaptive_avg_pool2d(inputs[0], a["output_size"])
    if op == "batch_norm" and not a["training"]:
        x, weight, bias, mean, var = inputs
        return f.batch_norm(x, mean, var, weight, bias, False, 0.0, a["eps"])
    if op == "add":
        no_scalars(node)
        return inputs[0] + inputs[1]
    if op == "concat":
        return torch.cat(inputs, 1)
    if op == "clip":
        return f.hardtanh(inputs[0], a["low"], a["high"])
    if op == "flatten":
        return torch.flatten(inputs[0], 1)
    if op in ("softmax", "log_softmax"):
        return getattr(torch, op)(inputs[0], 1)
    if op in ("relu", "sigmoid", "tanh", "silu", "hardsigmoid", "hardswish"):
        return getattr(f, op)(inputs[0])
    raise reject(node)


# ---- ONNX -----------------------------------------------------------------------------------------------------------------


def onnx_model(nodes: list[dict], weights: dict, x: np.ndarray) -> bytes:
    from onnx import TensorProto, checker, helper, numpy_helper

    made, constants = [], dict(weights)
    for node in nodes:
        a, op, inputs = node["attributes"], node["op"], node["inputs"]
        keywords: dict = {}
        if op in ("conv", "max_pool", "avg_pool"):
            pads = [p[0] for p in a["padding"]] + [p[1] for p in a["padding"]]
            keywords = {"strides": a["stride"], "pads": pads}
        if op == "conv":
            name = "Conv"
            keywords |= {"kernel_shape": a["kernel"], "dilations": a["dilation"], "group": a["groups"]}
        elif op == "linear":
            name, keywords = "Gemm", {"transB": 1}
        elif op == "max_pool":
            name = "MaxPool"
            keywords |= {"kernel_shape": a["kernel_size"], "dilations": a["dilation"], "ceil_mode": int(a["ceil_mode"])}
        elif op == "avg_pool" and not a["divisor_override"] and not a["ceil_mode"]:
            name = "AveragePool"
            keywords |= {"kernel_shape": a["kernel_size"], "count_include_pad": int(a["count_include_pad"])}
        elif op == "adaptive_avg_pool" and all(s % o == 0 for s, o in zip(node["shape"][2:], a["output_size"], strict=True)):
            if set(a["output_size"]) == {1}:
                name = "GlobalAveragePool"
            else:
                kernel = [s // o for s, o in zip(node["shape"][2:], a["output_size"], strict=True)]
                name, keywords = "AveragePool", {"kernel_shape": kernel, "strides": kernel}
        elif op == "batch_norm" and not a["training"] and None not in inputs:
            name, keywords = "BatchNormalization", {"epsilon": a["eps"]}
        elif op == "add":
            no_scalars(node)
            name = "Add"
        elif op == "concat":
            name, keywords = "Concat", {"axis": 1}
        elif op == "clip":
            name = "Clip"
            limits = [f"{node['output']}.low", f"{node['output']}.high"]
            constants |= dict(zip(limits, (np.float32(a["low"]), np.float32(a["high"])), strict=True))
            inputs = [*inputs, *limits]
        elif op == "flatten":
            name = "Flatten"
        elif op in UNARY:
            name, keywords = UNARY[op], {"axis": 1} if "softmax" in op else {}
        else:
            raise reject(node)
        made.append(helper.make_node(name, inputs, [node["output"]], **keywords))
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(made, "network", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, nodes[-1]["result"])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if model.ByteSize() < 2**31:
        checker.check_model(model)
    return model.SerializeToString()


def onnxruntime_variants(nodes: list[dict], weights: dict, x: np.ndarray, threads: int):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(onnx_model(nodes, weights, x), options, providers=["CPUExecutionProvider"])
    return {"run": lambda: session.run(None, {"x": x})[0]}, contextlib.nullcontext


def openvino_variants(nodes: list[dict], weights: dict, x: np.ndarray, threads: int):
    import openvino

    core = openvino.Core()
    model = core.read_model(onnx_model(nodes, weights, x))
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads,
                                                 "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    return {"infer": lambda: request.infer([x], share_inputs=True, share_outputs=True)[0]}, contextlib.nullcontext


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
