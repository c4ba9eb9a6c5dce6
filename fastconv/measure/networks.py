"""What is timed of a network, in the process of each library. A job is a dict that went through JSON:

``folder`` (``subject.write``), ``mode`` ("inference" or "training"), ``shape`` of the batch, ``threads``, ``precision``,
``choices`` (path of a file of tuned choices, or None); ``only`` names the one variant that is to be made, unchecked.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.measure import subject
from fastconv.measure.peak import peak
from fastconv.measure.timing import Variant

CHECKED = 3  # training steps whose losses are compared
CHECK_LR = 0.01
TIMED_LR = 1e-6  # next to no learning while timed: a network that has learnt its batch has denormal gradients
MOMENTUM = 0.9
NOTE = {
    "inference": "Inference: one call from Python, weights prepared beforehand. fastconv: engine(x, out=y), NumPy in and "
                 "out. ONNX Runtime: session.run on NumPy arrays, and run_with_iobinding on bound ones. OpenVINO: a request "
                 "on bound tensors. PyTorch: tensors in and out, inference mode; eager, and TorchScript traced, frozen and "
                 "optimised for inference, each contiguous and channels_last.",
    "training": "Training: one step on a batch that is in memory: forward, cross entropy, backward, SGD with momentum, and "
                "the loss as a Python number. fastconv: NumPy arrays in. PyTorch: tensors in, contiguous and channels_last, "
                "SGD as it comes and fused.",
}


class Maker:
    """Collects variants: how long each took to be ready for its second call, and only those that are wanted."""

    def __init__(self, job: dict):
        self.job = job
        self.made: list[Variant] = []

    def add(self, name: str, make: Callable[[], tuple], **more) -> None:
        """``make()`` returns what to run, what the first run gave, and a dict for ``info``."""
        if self.job.get("only") not in (None, name):
            return
        begin = time.perf_counter()
        run, output, info = make()
        info = {"ready_seconds": time.perf_counter() - begin, **info}
        self.made.append(Variant(name, run, output, info=info, **more))

    def add_training(self, name: str, make: Callable[[float, bool], tuple[Callable[[], float], dict]], **more) -> None:
        """``make(lr, timed)`` returns a step; without ``timed`` nothing may be random."""
        if self.job.get("only") not in (None, name):
            return
        losses = None
        if not self.job.get("only"):
            step = make(CHECK_LR, False)[0]
            losses = np.array([step() for _ in range(CHECKED)])
            del step

        def ready():
            step, info = make(TIMED_LR, True)
            step()
            return step, losses, info() if callable(info) else info

        self.add(name, ready, **more)


# ---- fastconv -------------------------------------------------------------------------------------------------------


def prepare_fastconv(job: dict) -> list[Variant]:
    """The FMA peak, and the network; its ``info`` has what the engine holds, in bytes."""
    maker = Maker(job)
    network, options = _network(job), _options(job)
    if job["mode"] == "inference":
        maker.add("engine(x, out=y)", lambda: _inference(network, job["shape"], options))
    else:
        maker.add_training("step", lambda lr, timed: _training(network if timed else _network(job, False), job["shape"], lr,
                                                               options))
    return maker.made if job.get("only") else [peak(job["threads"]), *maker.made]


def compute_fastconv(job: dict) -> dict:
    """The profile of the network, "json" and "text"; of training, that of forward and backward."""
    from fastconv.engine.engine import compile

    profile = compile(_network(job), tuple(job["shape"]), training=job["mode"] == "training", **_options(job)).profile()
    return {"json": profile.json(), "text": str(profile)}


def _options(job: dict) -> dict:
    from fastconv.lowering.choices import Choices

    algorithm = Choices.load(job["choices"]) if job.get("choices") else None
    return {"threads": job["threads"], "precision": job["precision"], "algorithm": algorithm}


def _network(job: dict, dropping: bool = True):
    with open(Path(job["folder"], "network.pickle"), "rb") as file:
        network = pickle.load(file)  # written by this program's parent, in a folder of its own
    if not dropping:
        from fastconv import nn

        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    return network


def _inference(network, shape, options: dict) -> tuple:
    from fastconv.engine.engine import compile

    engine = compile(network, tuple(shape), **options)
    x, _ = subject.images(shape, (shape[0], 1))
    y = engine(x)
    memory = engine.memory()
    together = _together(y if isinstance(y, tuple) else (y,))
    return lambda: engine(x, out=y), together.copy(), {
        "arena": memory["arena"], "weights": memory["weights"],
        "scratch": memory["scratch"] * options["threads"]}


def _training(network, shape, lr: float, options: dict) -> tuple:
    from fastconv import nn, optim
    from fastconv.engine.training import TrainingTape
    from fastconv.report.summary import summary

    tape = TrainingTape(network.symbolic(True), nn.CrossEntropyLoss().symbolic(True), optim.SGD(lr=lr, momentum=MOMENTUM),
                        **options)
    x, target = subject.images(shape, summary(network, tuple(shape)).output_shapes[0])

    def info() -> dict:
        planned: Any = tape._last
        program, lowered = planned.program, planned.lowered
        scratch = max(steps.scratch_bytes for steps in program.segments.values())
        return {"arena": lowered.arena_bytes, "weights": lowered.weights_bytes, "scratch": scratch * options["threads"]}

    return lambda: tape.step(x, target), info


# ---- PyTorch --------------------------------------------------------------------------------------------------------


def prepare_torch(job: dict) -> list[Variant]:
    import torch

    from fastconv.measure.torch_network import FORMATS, Network

    torch.set_num_threads(job["threads"])
    maker = Maker(job)
    shape, (nodes, weights, trainable) = job["shape"], subject.read(job["folder"], job["mode"])
    result = [shape[0], *nodes[-1]["result"][1:]]
    x, target = (torch.from_numpy(a) for a in subject.images(shape, result))
    for name, layout in FORMATS.items():
        at = x.contiguous(memory_format=layout) if x.ndim == 4 else x
        if job["mode"] == "inference":
            def eager(name=name, at=at):
                return _first(Network(nodes, weights, [], name).eval(), at)

            def frozen(name=name, at=at):
                with torch.no_grad():
                    net = torch.jit.trace(Network(nodes, weights, [], name).eval(), at, check_trace=False)
                    net = torch.jit.optimize_for_inference(torch.jit.freeze(net))
                return _first(net, at, 3)  # the first calls specialise

            maker.add(f"eager {name}", eager, context=torch.inference_mode)
            maker.add(f"TorchScript {name}", frozen, context=torch.inference_mode)
        else:
            for fused in (False, True):
                def make(lr, timed, name=name, at=at, fused=fused):
                    given = nodes if timed else [{**n, "attributes": {**n["attributes"], "p": 0.0}} if n["op"] == "dropout"
                                                 else n for n in nodes]
                    net = Network(given, weights, trainable, name).train()
                    return _torch_step(net, at, target, lr, fused), {}

                maker.add_training(f"{name}{' fused' if fused else ''}", make)
    return maker.made


def _first(net, x, calls: int = 1) -> tuple:
    import torch

    with torch.inference_mode():
        for _ in range(calls):
            y = net(x)
    return lambda: net(x), y.numpy(), {}


def _torch_step(net, x, target, lr: float, fused: bool) -> Callable[[], float]:
    import torch

    sgd = torch.optim.SGD(net.parameters(), lr=lr, momentum=MOMENTUM, fused=fused)

    def step() -> float:
        sgd.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(net(x), target)
        loss.backward()
        sgd.step()
        return loss.item()

    return step


# ---- ONNX -----------------------------------------------------------------------------------------------------------


def compute_onnx(job: dict) -> str:
    """Writes the model, in a process of its own: its users read a file, and hold nothing else. One that was read from a file
    is there."""
    from fastconv.measure.onnx_network import onnx_model

    if subject.source(job["folder"], "inference"):
        return _model(job)
    nodes, weights, _ = subject.read(job["folder"], "inference")
    path = Path(job["folder"], "model.onnx")
    path.write_bytes(onnx_model(subject.of_batch(nodes, job["shape"][0]), weights, job["shape"]))
    return str(path)


def _model(job: dict) -> str:
    return subject.source(job["folder"], "inference") or str(Path(job["folder"], "model.onnx"))


def _together(outputs) -> np.ndarray:
    """All outputs as one array, which is compared."""
    return outputs[0] if len(outputs) == 1 else np.concatenate([np.asarray(y, np.float32).reshape(-1) for y in outputs])


def prepare_onnxruntime(job: dict) -> list[Variant]:
    if job["mode"] == "training":
        return []
    import onnxruntime

    maker = Maker(job)
    x, _ = subject.images(job["shape"], (job["shape"][0], 1))

    def session():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = job["threads"], 1
        made = onnxruntime.InferenceSession(_model(job), options, providers=["CPUExecutionProvider"])
        return made, made.get_inputs()[0].name

    def plain():
        made, name = session()
        return lambda: made.run(None, {name: x}), _together(made.run(None, {name: x})), {}

    def bound():
        made, name = session()
        binding, ys = made.io_binding(), made.run(None, {name: x})
        binding.bind_input(name, "cpu", 0, np.float32, x.shape, x.ctypes.data)
        for output, y in zip(made.get_outputs(), ys, strict=True):
            binding.bind_output(output.name, "cpu", 0, y.dtype.type, y.shape, y.ctypes.data)
        made.run_with_iobinding(binding)
        return lambda: (x, ys, made.run_with_iobinding(binding)), _together(ys), {}  # a binding does not keep arrays alive

    maker.add("session.run", plain)
    maker.add("run_with_iobinding", bound)
    return maker.made


def prepare_openvino(job: dict) -> list[Variant]:
    if job["mode"] == "training":
        return []
    import openvino as ov

    maker = Maker(job)
    x, _ = subject.images(job["shape"], (job["shape"][0], 1))

    def ready():
        core = ov.Core()
        network = core.read_model(_model(job))
        if network.is_dynamic():
            network.reshape(list(job["shape"]))
        compiled = core.compile_model(network, "CPU", openvino_options(job["threads"]))
        ys = [np.empty(tuple(output.shape), output.element_type.to_dtype()) for output in compiled.outputs]
        request = compiled.create_infer_request()
        request.set_input_tensor(ov.Tensor(x, shared_memory=True))
        for i, y in enumerate(ys):
            request.set_output_tensor(i, ov.Tensor(y, shared_memory=True))
        request.infer()
        return lambda: (x, ys, request.infer()), _together(ys), {}

    maker.add("request.infer", ready)
    return maker.made


def openvino_options(threads: int) -> dict:
    """One stream of so many threads, float32 throughout."""
    return {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False}
