"""ONNX Runtime's and OpenVINO's forward: a model of one operator with its weight in it, in float32."""

from __future__ import annotations

import numpy as np

from fastconv.bench.operands import arrays
from fastconv.bench.shapes import Conv, from_json
from fastconv.measure.networks import openvino_options
from fastconv.measure.timing import Variant


def model(c: Conv, batch: int, weight: np.ndarray) -> bytes:
    """The convolution as an ONNX model."""
    from onnx import TensorProto, checker, helper, numpy_helper

    more: dict = {"output_padding": c.output_padding} if c.transposed else {}
    node = helper.make_node(
        "ConvTranspose" if c.transposed else "Conv", ["x", "w"], ["y"], kernel_shape=c.kernel, strides=c.stride,
        dilations=c.dilation, group=c.groups, pads=[p[0] for p in c.padding] + [p[1] for p in c.padding], **more)
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", c.input_shape(batch)), ("y", c.output_shape(batch)))]
    graph = helper.make_graph([node], "conv", info[:1], info[1:], [numpy_helper.from_array(weight, "w")])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(made)
    return made.SerializeToString()


def prepare_onnxruntime(job: dict) -> list[Variant]:
    """Bound arrays, N C ... in and out: moves to and from its own layout are inside."""
    if job["pass"] != "forward":
        return []
    import onnxruntime


    c = from_json(job["conv"])
    x, w, _ = arrays(job)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = job["threads"], 1
    session = onnxruntime.InferenceSession(model(c, job["batch"], w), options, providers=["CPUExecutionProvider"])
    binding, y = session.io_binding(), np.empty(c.output_shape(job["batch"]), np.float32)
    for bind, name, array in ((binding.bind_input, "x", x), (binding.bind_output, "y", y)):
        bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    session.run_with_iobinding(binding)
    return [Variant("run_with_iobinding", lambda: (x, session.run_with_iobinding(binding)), y)]


def prepare_openvino(job: dict) -> list[Variant]:
    """Bound tensors: N C ... in and out, and (unless end to end) channels last, which its own layout is."""
    if job["pass"] != "forward":
        return []

    c = from_json(job["conv"])
    x, w, _ = arrays(job)
    source = model(c, job["batch"], w)
    made = [openvino_variant("contiguous", source, x, False, job["threads"])]
    if not job["end_to_end"]:
        made.append(openvino_variant("channels_last", source, x, True, job["threads"]))
    return made


def openvino_variant(name: str, source: bytes, x: np.ndarray, channels_last: bool, threads: int) -> Variant:
    import openvino as ov

    core = ov.Core()
    network = core.read_model(source)
    if channels_last:
        spatial = "DHW"[6 - x.ndim - 1:]
        steps = ov.preprocess.PrePostProcessor(network)
        for port in (steps.input(), steps.output()):
            port.tensor().set_layout(ov.Layout(f"N{spatial}C"))
            port.model().set_layout(ov.Layout(f"NC{spatial}"))
        network, x = steps.build(), np.ascontiguousarray(np.moveaxis(x, 1, -1))
    compiled = core.compile_model(network, "CPU", openvino_options(threads))
    y = np.empty(tuple(compiled.output(0).shape), np.float32)
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))
    request.set_output_tensor(ov.Tensor(y, shared_memory=True))
    request.infer()
    return Variant(name, lambda: (x, request.infer()), np.moveaxis(y, -1, 1) if channels_last else y)
