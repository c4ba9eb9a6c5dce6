"""ONNX files that were damaged at random are read, compiled and run: each gives results or a named error. Run it:

    python tests/fuzz_onnx.py --cases 100000 --seed 7

The files begin as the onnx package's own cases for operators and as networks of every kind of structure; bytes are changed,
or fields of the message (extents, types, attributes, names, what tensors say of their data). A child does the work. It must
not die, nor stand still, nor raise anything but ValueError, TypeError, NotImplementedError, MemoryError, OSError (and
IndexError where values of an input are places in a tensor); and reading must not take more memory than four times the file,
besides what the process had. The numbers of faulty cases are printed: --only NUMBER repeats one.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from math import prod
from pathlib import Path

import numpy as np

ALLOWED = (ValueError, TypeError, NotImplementedError, MemoryError, OSError)
SLACK = 24 << 20  # bytes that reading may take besides: what the allocators round to
SPACE = 6 << 30  # bytes of addresses that a child may have: more is a MemoryError
CPU, WALL = 60, 300  # seconds of one case: 2,500 steps of a bidirectional LSTM, each planned, take 25
NUMBERS = (0, 1, -1, 2, 3, 7, 64, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 62), -(1 << 63), (1 << 63) - 1)
TYPES = range(-1, 32)
PATHS = ("/etc/passwd", "../../outside", "", "w.bin", "./w.bin", "w.bin/x", "\0", "x" * 5000, "/dev/zero", "loop")


# ---- what is damaged ----------------------------------------------------------------------------------------------------


def networks():
    """Small networks of several kinds of structure."""
    from interop.onnx_models import model, node
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)

    def array(*shape):
        return rng.standard_normal(shape, np.float32)

    chain = {"x": ["N", 3, 16, 16]}
    yield model([node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
                 node("BatchNormalization", ["c", "s", "s", "m", "v"], ["n"], "norm"), node("Relu", ["n"], ["r"]),
                 node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
                 node("Conv", ["p", "k"], ["q"], group=8),
                 node("GlobalAveragePool", ["q"], ["g"]), node("Flatten", ["g"], ["f"]),
                 node("Gemm", ["f", "d", "e"], ["y"], transB=1)],
                chain, {"y": ["N", 5]},
                {"w": array(8, 3, 3, 3), "b": array(8), "s": array(8), "m": array(8), "v": np.abs(array(8)),
                 "k": array(8, 1, 3, 3), "d": array(5, 8), "e": array(5)})
    yield model([node("Conv", ["x", "w"], ["c"], strides=[2, 2]), node("Shape", ["x"], ["s"]),
                 node("Slice", ["s", "two", "four"], ["hw"]), node("Shape", ["c"], ["t"]),
                 node("Slice", ["t", "zero", "two"], ["nc"]), node("Concat", ["nc", "hw"], ["size"], axis=0),
                 node("Resize", ["c", "", "", "size"], ["u"], mode="linear"), node("Concat", ["u", "x"], ["y"], axis=1)],
                chain, {"y": ["N", 7, 16, 16]},
                {"w": array(4, 3, 3, 3), "zero": np.array([0]), "two": np.array([2]), "four": np.array([4])})
    yield model([node("Conv", ["x", "w"], ["c"]), node("Reshape", ["c", "r"], ["p"]), node("Transpose", ["p"], ["t"],
                                                                                          perm=[2, 0, 1]),
                 node("LSTM", ["t", "lw", "lr", "lb"], ["l", "h"], hidden_size=4, direction="bidirectional"),
                 node("Squeeze", ["h", "a"], ["y"])], {"x": [1, 3, 1, 12]}, {"y": [None, None]},
                {"w": array(5, 3, 1, 3), "r": np.array([0, 5, -1]), "lw": array(2, 16, 5), "lr": array(2, 16, 4),
                 "lb": array(2, 32), "a": np.array([1])})
    yield model([node("Mul", ["x", "x"], ["scores"]), node("Slice", ["x", "zero", "one", "one"], ["b"]),
                 node("Transpose", ["b"], ["boxes"], perm=[0, 2, 1]),
                 node("NonMaxSuppression", ["boxes", "scores", "most", "limit"], ["kept"]),
                 node("Gather", ["kept", "two"], ["which"], axis=1), node("Squeeze", ["which", "one"], ["w"]),
                 node("Gather", ["x", "w"], ["y"], axis=2)], {"x": [1, 4, 30]}, {"y": [1, 4, None]},
                {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "most": np.array([5]),
                 "limit": np.array([0.5], np.float32)})
    quantised = {"s": np.float32(0.1), "z": np.uint8(12), "w": rng.integers(0, 255, (4, 3, 3, 3)).astype(np.uint8)}
    yield model([node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["d"]),
                 node("DequantizeLinear", ["w", "s", "z"], ["k"]), node("Conv", ["d", "k"], ["y"])],
                chain, {"y": ["N", 4, 14, 14]}, quantised)
    for depth in (1, 6):
        inner = helper.make_graph([node("Relu", ["x"], ["i0"])], "inner", [], [helper.make_empty_tensor_value_info("i0")])
        for level in range(1, depth + 1):
            nodes = [node("If", ["known"], [f"i{level}"], then_branch=inner, else_branch=inner)]
            inner = helper.make_graph(nodes, "inner", [], [helper.make_empty_tensor_value_info(f"i{level}")])
        made = model([node("If", ["known"], ["y"], then_branch=inner, else_branch=inner)], {"x": [1, 4]}, {"y": [1, 4]},
                     {"known": np.array(True)})
        yield made
    weight = numpy_helper.from_array(array(4, 4), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "0"), ("length", "64")):
        weight.external_data.add(key=key, value=value)
    yield model([node("MatMul", ["x", "w"], ["m"]), node("Softmax", ["m"], ["y"])], {"x": ["N", 4]}, {"y": ["N", 4]},
                {"w": weight})


def corpus() -> list[bytes]:
    from onnx.backend.test import loader

    import_cases = loader.load_model_tests(kind="node")
    return [m.SerializeToString() for m in networks() for _ in range(60)] + \
        [case.model.SerializeToString() for case in import_cases]


# ---- how ------------------------------------------------------------------------------------------------------------------


def damaged(rng: np.random.Generator, files: list[bytes]) -> bytes:
    """One of the files, changed in one of the ways."""
    import onnx

    data = files[rng.integers(len(files))]
    if rng.random() < 0.25:
        return other_bytes(rng, data, files)
    model = onnx.ModelProto.FromString(data)
    for _ in range(rng.integers(1, 5)):
        (HOW[rng.integers(len(HOW))] if rng.random() < 0.5 else field)(rng, model)
    try:
        return model.SerializeToString()
    except (ValueError, TypeError, UnicodeError):
        return data[: rng.integers(len(data) + 1)]


def other_bytes(rng, data: bytes, files: list[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        kind, at = rng.integers(6), int(rng.integers(len(changed) + 1))
        if kind == 0 and changed:
            changed[at % len(changed)] = rng.integers(256)
        elif kind == 1 and changed:
            changed[at % len(changed)] ^= 1 << rng.integers(8)
        elif kind == 2:
            del changed[at: at + rng.integers(1, 20)]
        elif kind == 3:
            changed[at:at] = rng.bytes(int(rng.integers(1, 20)))
        elif kind == 4:
            other = files[rng.integers(len(files))]
            first = int(rng.integers(len(other) + 1))
            changed[at:at] = other[first: first + int(rng.integers(1, 200))]
        else:
            del changed[at:]
    return bytes(changed)


def messages(message, deep: int = 0) -> list:
    """A message and those inside."""
    found = [message]
    if deep > 12:
        return found
    for descriptor, value in message.ListFields():
        if descriptor.type == descriptor.TYPE_MESSAGE:
            for inner in (list(value)[:200] if repeated(descriptor) else [value]):
                found += messages(inner, deep + 1)
    return found


def repeated(descriptor) -> bool:
    own = getattr(descriptor, "is_repeated", None)
    return own if isinstance(own, bool) else descriptor.label == descriptor.LABEL_REPEATED


def another(rng, descriptor, old):
    """A value for a field."""
    kind = descriptor.cpp_type
    if kind in (descriptor.CPPTYPE_INT32, descriptor.CPPTYPE_INT64, descriptor.CPPTYPE_UINT64, descriptor.CPPTYPE_UINT32):
        value = int(NUMBERS[rng.integers(len(NUMBERS))]) if rng.random() < 0.6 else int(old or 0) + int(rng.integers(-3, 4))
        bits = 31 if kind in (descriptor.CPPTYPE_INT32, descriptor.CPPTYPE_UINT32) else 63
        value = max(-(1 << bits), min((1 << bits) - 1, value))
        return abs(value) if kind in (descriptor.CPPTYPE_UINT32, descriptor.CPPTYPE_UINT64) else value
    if kind in (descriptor.CPPTYPE_FLOAT, descriptor.CPPTYPE_DOUBLE):
        return float(rng.choice([0.0, -1.0, np.nan, np.inf, 1e38, 1e-38, 0.5, 1e6]))
    if kind == descriptor.CPPTYPE_ENUM:
        values = [v.number for v in descriptor.enum_type.values]
        return int(values[rng.integers(len(values))])
    if descriptor.type == descriptor.TYPE_BYTES:
        return (old or b"")[: int(rng.integers(len(old or b"") + 1))] + rng.bytes(int(rng.integers(0, 9)))
    return ["", "x", "y", "\u00e9" * 40, "Conv", "0", "w"][rng.integers(7)]


def field(rng, model) -> None:
    """Any field of any message becomes another, goes, or comes twice."""
    every = messages(model)
    message = every[rng.integers(len(every))]
    fields = message.ListFields() if rng.random() < 0.8 else [(d, None) for d in message.DESCRIPTOR.fields]
    if not fields:
        return
    descriptor, _ = fields[rng.integers(len(fields))]
    value, many = getattr(message, descriptor.name), repeated(descriptor)
    if rng.random() < 0.2:
        message.ClearField(descriptor.name)
    elif descriptor.cpp_type == descriptor.CPPTYPE_MESSAGE:
        if many and len(value):
            if rng.random() < 0.5:
                value.add().CopyFrom(value[rng.integers(len(value))])
            else:
                del value[rng.integers(len(value))]
    elif many:
        if len(value) and rng.random() < 0.7:
            at = int(rng.integers(len(value)))
            value[at] = another(rng, descriptor, value[at])
        elif rng.random() < 0.5:
            value.append(another(rng, descriptor, None))
        elif len(value):
            del value[rng.integers(len(value)):]
    else:
        setattr(message, descriptor.name, another(rng, descriptor, value))


def names(graph) -> list[str]:
    made = [o for n in graph.node for o in n.output]
    return [i.name for i in graph.input] + [t.name for t in graph.initializer] + made or [""]


def rewired(rng, model) -> None:
    """A node reads another tensor: a later one too, which makes a cycle, or one that is not there."""
    graph = model.graph
    if graph.node:
        node = graph.node[rng.integers(len(graph.node))]
        if node.input:
            every = [*names(graph), "nowhere", ""]
            node.input[rng.integers(len(node.input))] = every[rng.integers(len(every))]


def renamed(rng, model) -> None:
    """A node of another operator."""
    import onnx

    graph, every = model.graph, sorted({s.name for s in onnx.defs.get_all_schemas()})
    if graph.node:
        graph.node[rng.integers(len(graph.node))].op_type = every[rng.integers(len(every))]


def claimed(rng, model) -> None:
    """A tensor that says it is large, of another type, or kept elsewhere."""
    tensors = [m for m in messages(model) if m.DESCRIPTOR.name == "TensorProto"]
    if not tensors:
        return
    tensor = tensors[rng.integers(len(tensors))]
    kind = rng.integers(4)
    if kind == 0:
        tensor.dims[:] = [int(NUMBERS[rng.integers(len(NUMBERS))]) for _ in range(rng.integers(0, 5))]
    elif kind == 1:
        tensor.data_type = int(TYPES[rng.integers(len(TYPES))])
    elif kind == 2:
        tensor.dims.append(int(rng.integers(0, 4)))
    else:
        tensor.data_location = 1
        tensor.ClearField("raw_data")
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=PATHS[rng.integers(len(PATHS))])
        for key in ("offset", "length"):
            if rng.random() < 0.5:
                tensor.external_data.add(key=key, value=str(NUMBERS[rng.integers(len(NUMBERS))]))


def extents(rng, model) -> None:
    """What the graph says of its inputs and outputs."""
    values = [*model.graph.input, *model.graph.output]
    if values:
        kind = values[rng.integers(len(values))].type.tensor_type
        if kind.shape.dim and rng.random() < 0.7:
            kind.shape.dim[rng.integers(len(kind.shape.dim))].dim_value = int(NUMBERS[rng.integers(len(NUMBERS))])
        else:
            kind.elem_type = int(TYPES[rng.integers(len(TYPES))])


def numbered(rng, model) -> None:
    """Values of a constant of integers: shapes, axes, places."""
    tensors = [t for t in messages(model) if t.DESCRIPTOR.name == "TensorProto" and t.data_type in (6, 7) and t.raw_data]
    if tensors:
        tensor = tensors[rng.integers(len(tensors))]
        values = np.frombuffer(tensor.raw_data, np.int64 if tensor.data_type == 7 else np.int32).copy() \
            if len(tensor.raw_data) % 8 == 0 else np.zeros(0, np.int64)
        if values.size:
            number = NUMBERS[rng.integers(len(NUMBERS))]
            values[rng.integers(values.size)] = number if values.dtype == np.int64 else max(-2**31, min(2**31 - 1, number))
            tensor.raw_data = values.tobytes()


def versioned(rng, model) -> None:
    for one in model.opset_import:
        one.version = int(rng.integers(-1, 30))


HOW = (field, rewired, rewired, renamed, claimed, claimed, extents, numbered, numbered, versioned)


# ---- the child ------------------------------------------------------------------------------------------------------------


def peak(reset: bool = False) -> int:
    """The most memory that this process had since the last reset, in bytes."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    text = Path("/proc/self/status").read_text()
    return int(text[text.index("VmHWM"):].split()[1]) << 10


def attempt(data: bytes, folder: Path) -> str:
    """"ok", the name of an allowed error, or the fault."""
    import fastconv as fc

    path = folder / "m.onnx"
    path.write_bytes(data)
    before = peak(True)
    try:
        net = fc.load(path)
    except ALLOWED as error:
        net, result = None, f"{type(error).__name__}"
        if not str(error):
            return "fault: an error without a message while reading"
    except Exception:
        return "fault while reading: " + last()
    grown = peak() - before
    if grown > 4 * len(data) + SLACK:
        return f"fault: reading {len(data)} bytes took {grown}"
    if net is None:
        return "not read: " + result
    try:
        arrays = []
        for one in net.inputs:
            shape = [3 if s is None else s for s in one.shape or ()]
            if prod(shape) > 1 << 13:  # as steps of an LSTM they would take minutes to plan
                return "read: large inputs"
            arrays.append(np.ones(shape, one.dtype) if one.dtype != "float32" else
                          np.linspace(-1, 1, prod(shape), dtype=np.float32).reshape(shape))
        net.eval().run(*arrays)
    except (*ALLOWED, IndexError, ZeroDivisionError) as error:  # the last of whole numbers: values of an input divide
        if not str(error) or isinstance(error, IndexError) and " has the value " not in str(error):
            return "fault: an error that says nothing: " + last()
        return f"read: {type(error).__name__}"
    except Exception:
        return "fault while running: " + last()
    return "ran"


def last() -> str:
    return " | ".join(line.strip() for line in traceback.format_exc().splitlines()[-7:])[-900:]


def child(seed: int) -> None:
    """Numbers of cases come in by lines, results go out."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    files = corpus()
    import onnx.reference  # noqa: F401

    import fastconv.ops  # noqa: F401

    resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "w.bin").write_bytes(np.ones(16, np.float32).tobytes())
        os.symlink("loop", Path(folder, "loop"))
        print("ready", flush=True)
        for line in sys.stdin:
            rng = np.random.default_rng([seed, int(line)])
            print(attempt(damaged(rng, files), Path(folder)).replace("\n", " "), flush=True)


# ---- the parent -----------------------------------------------------------------------------------------------------------


class Child:
    """A process that does cases, watched."""

    def __init__(self, seed: int):
        self.seed = seed
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, __file__, "--child", "--seed", str(self.seed)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout.readline() == "ready\n", "a child did not start: is fastconv there to be imported?"

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def do(self, case: int) -> str:
        self.process.stdin.write(f"{case}\n")
        self.process.stdin.flush()
        begun, used = time.monotonic(), self.cpu()
        while not select.select([self.process.stdout], [], [], 2)[0]:
            if self.cpu() - used > CPU or time.monotonic() - begun > WALL:
                self.stop()
                self.start()
                return "fault: it did not end"
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.start()
            return f"fault: the process ended with {signal.Signals(-code).name if code < 0 else code}"
        return line.strip()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1 << 40)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--only", type=int, help="one case, in this process")
    parser.add_argument("--keep", type=Path, help="with --only: where to write its file")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.seed)
        return 0
    if options.only is not None:
        warnings.simplefilter("ignore")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "w.bin").write_bytes(np.ones(16, np.float32).tobytes())
            data = damaged(np.random.default_rng([options.seed, options.only]), corpus())
            if options.keep:
                options.keep.write_bytes(data)
            print(len(data), "bytes:", attempt(data, Path(folder)))
        return 0
    if options.cases == 1 << 40 and options.seconds == float("inf"):
        options.cases = 1000
    one, counts, faults, begun, done = Child(options.seed), {}, [], time.monotonic(), 0
    try:
        for case in range(options.first, options.first + options.cases):
            if time.monotonic() - begun > options.seconds:
                break
            said = one.do(case)
            done += 1
            if said.startswith("fault"):
                faults.append(case)
                print(f"case {case}: {said}", flush=True)
            counts[said.split(":")[0] if said.startswith("fault") else said] = counts.get(said, 0) + 1
    finally:
        one.stop()
    print(f"{done} files, seed {options.seed}, {time.monotonic() - begun:.0f} s: {len(faults)} faults; "
          + ", ".join(f"{key} {value}" for key, value in sorted(counts.items())))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
