"""LeNet-5 inference against ONNX Runtime, OpenVINO and PyTorch."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from bench import lenet, variants
from bench.networks import LENET5_MULTIPLY_ADDS
from bench.timing import Variant
from bench.variants_onnx import openvino_variant

NOTE = ("Timed: one call from Python, weights prepared beforehand. fastconv: engine(x, out=y), NumPy in and out. ONNX "
        "Runtime: session.run on NumPy arrays and run_with_iobinding on bound ones. OpenVINO: a request on bound tensors, "
        "in float32. PyTorch: tensors in and out, inference mode; eager, and TorchScript traced, frozen and optimised for "
        "inference.")


def main(options) -> dict:
    names = ["fastconv", *options.peers]
    return lenet.main(options, "bench.infer", names, LENET5_MULTIPLY_ADDS, NOTE)


def prepare_fastconv(job: dict) -> list[Variant]:
    import fastconv as fc

    x, _ = lenet.images(job["batch"])
    engine = fc.compile(lenet.fastconv_network(), x.shape, threads=job["threads"])
    y = engine(x)
    return [variants.peak(job["threads"]), Variant("engine(x, out=y)", lambda: engine(x, out=y), y)]


def prepare_torch(job: dict) -> list[Variant]:
    import torch

    torch.set_num_threads(job["threads"])
    made = []
    for name, layout in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        x = torch.from_numpy(lenet.images(job["batch"])[0]).contiguous(memory_format=layout)
        net = lenet.torch_network().eval().to(memory_format=layout)
        with torch.no_grad():
            frozen = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, x)))
        with torch.inference_mode():
            for _ in range(3):  # the first calls specialise
                frozen(x)
            made += [Variant(f"{kind} {name}", lambda call=call, x=x: call(x), call(x).numpy(), context=torch.inference_mode)
                     for kind, call in (("eager", net), ("TorchScript", frozen))]
    return made


def prepare_onnxruntime(job: dict) -> list[Variant]:
    import onnxruntime

    x, _ = lenet.images(job["batch"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = job["threads"], 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lenet5.onnx"
        path.write_bytes(onnx_model(job["batch"]))
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {"x": x}
    binding, y = session.io_binding(), np.empty((job["batch"], 10), np.float32)
    for bind, name, array in ((binding.bind_input, "x", x), (binding.bind_output, "y", y)):
        bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    session.run_with_iobinding(binding)
    return [Variant("session.run", lambda: session.run(None, feed), session.run(None, feed)[0]),
            Variant("run_with_iobinding", lambda: (x, session.run_with_iobinding(binding)), y)]


def prepare_openvino(job: dict) -> list[Variant]:
    x, _ = lenet.images(job["batch"])
    return [openvino_variant("request.infer", onnx_model(job["batch"]), x, False, job["threads"])]


def onnx_model(batch: int) -> bytes:
    """LeNet-5 with the weights of :func:`bench.lenet.weights`."""
    from onnx import TensorProto, checker, helper, numpy_helper

    values = lenet.weights()
    nodes, at, layer = [], "x", 0

    def add(op: str, *inputs: str, **attributes) -> None:
        nonlocal at
        out = f"{op.lower()}{len(nodes)}"
        nodes.append(helper.make_node(op, [at, *inputs], [out], **attributes))
        at = out

    for shape in lenet.SHAPES:
        names = (f"w{layer}", f"b{layer}")
        if len(shape) == 4:
            add("Conv", *names, kernel_shape=shape[2:])
            add("Relu")
            add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
        else:
            if layer == 2:
                add("Flatten")
            add("Gemm", *names, transB=1)
            if layer < len(lenet.SHAPES) - 1:
                add("Relu")
        layer += 1
    nodes[-1].output[0] = "y"
    tensors = [numpy_helper.from_array(v, f"{'wb'[i % 2]}{i // 2}") for i, v in enumerate(values)]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", (batch, 1, 32, 32)), ("y", (batch, 10)))]
    graph = helper.make_graph(nodes, "lenet5", info[:1], info[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()
