"""The onnx package's own cases for single operators, generated in memory: every one whose operators and types are there."""

import collections
import dataclasses
import fnmatch
import pathlib

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
import onnx.backend.test.loader as loader  # noqa: E402
from onnx import TensorProto as T  # noqa: E402

from fastconv.interop.onnx.building import Builder  # noqa: E402
from fastconv.interop.onnx.reading import ours  # noqa: E402
from fastconv.interop.onnx_backend import Backend  # noqa: E402

from .onnx_excluded import EXCLUDED  # noqa: E402
from .onnx_models import model, node  # noqa: E402

LISTED = set("""
Conv ConvTranspose Gemm MatMul Einsum MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool BatchNormalization
InstanceNormalization LayerNormalization GroupNormalization LRN LpNormalization Relu LeakyRelu PRelu Elu Selu Celu Gelu
Sigmoid HardSigmoid HardSwish Mish Softplus Softsign ThresholdedRelu Clip Tanh Erf Exp Log Sqrt Pow Abs Neg Reciprocal
Floor Ceil Round Sign Min Max Add Sub Mul Div Mod Equal Less Greater LessOrEqual GreaterOrEqual And Or Not Where Softmax
LogSoftmax ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum
ReduceLogSumExp ArgMax ArgMin TopK CumSum Concat Split Slice Gather GatherElements GatherND ScatterND ScatterElements
Reshape Flatten Transpose Squeeze Unsqueeze Expand Tile Pad Resize Upsample DepthToSpace SpaceToDepth GridSample
RoiAlign MaxRoiPool MaxUnpool NonMaxSuppression NonZero Shape Size Range Constant ConstantOfShape Cast CastLike Identity
Dropout If LSTM GRU RNN QuantizeLinear DequantizeLinear QLinearConv QLinearMatMul ConvInteger OneHot Trilu EyeLike IsNaN
""".split())
TRAINING = set("Momentum Adam Adagrad SoftmaxCrossEntropyLoss NegativeLogLikelihoodLoss".split())
LIGHT = ("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19",
         "zfnet512")


def kinds(case) -> set:
    """The element types of a model's inputs and outputs; a name where they are no tensors."""
    found = set()
    for value in (*case.model.graph.input, *case.model.graph.output):
        found.add(value.type.tensor_type.elem_type if value.type.HasField("tensor_type") else "no tensor")
    return found


def wide(values):
    return [ours(np.asarray(onnx.numpy_helper.to_array(v) if isinstance(v, T) else v)) for v in values]


def outcome(case) -> str:
    """"passed", or why not."""
    try:
        prepared = Backend.prepare(case.model)
        for inputs, outputs in case.data_sets:
            results, wanted = prepared.run(list(inputs)), wide(outputs)
            if len(results) != len(wanted):
                return f"{len(results)} outputs"
            narrow = bool(kinds(case) & {T.FLOAT16, T.BFLOAT16})
            for got, right in zip(results, wanted, strict=True):
                if got.shape != right.shape:
                    return f"shape {got.shape}, expected {right.shape}"
                if right.dtype.kind == "f":
                    finite = np.isfinite(right)
                    most = np.abs(right[finite]).max(initial=1)
                    rtol, atol = (2e-2, 1e-2) if narrow else (1e-3, 1e-5)
                    if not np.allclose(got, right, rtol, atol * most, equal_nan=True):
                        return "values"
                elif not np.array_equal(got, right):
                    return "integers"
    except Exception as error:  # whatever it is, it is what the case's row says
        return f"{type(error).__name__}: {error}"
    return "passed"


def judged(kind, cases) -> dict:
    """What became of cases, by name: passed, excluded, or what is wrong. Prints how many, and why those are excluded."""
    found, reasons = {}, collections.Counter()
    for case in cases:
        said = outcome(case)
        pattern = next((p for p in EXCLUDED if fnmatch.fnmatchcase(case.name, p)), None)
        if pattern is not None:
            reasons[EXCLUDED[pattern]] += 1
            said = "excluded, and passes: take it off the list" if said == "passed" else "excluded"
        found[case.name] = said
    counts = collections.Counter(said if said in ("passed", "excluded") else "failed" for said in found.values())
    print(f"{kind}: {dict(counts)}; excluded: {dict(reasons)}")
    return found


def wrong(found) -> list:
    return [f"{name}: {said[:150]}" for name, said in found.items() if said not in ("passed", "excluded")]


def test_node_cases():
    cases = list(loader.load_model_tests(kind="node"))
    found = judged("node", cases)
    assert not wrong(found), "\n".join(wrong(found))
    assert collections.Counter(found.values())["passed"] >= 1700
    for what, chosen, least in (("the listed operators", LISTED, 0.99), ("training", TRAINING, 1)):
        own = [found[c.name] for c in cases if (ops := {n.op_type for n in c.model.graph.node}) <= LISTED | TRAINING
               and ops & chosen]
        print(f"of {what}: {dict(collections.Counter(own))}")
        assert own.count("passed") >= max(50, least * len(own))


def loaded(case):
    """A case of a folder with its model and its arrays."""
    def value(path, said):
        data = path.read_bytes()
        if said.type.HasField("sequence_type"):
            return onnx.numpy_helper.to_list(onnx.SequenceProto.FromString(data))
        return T.FromString(data)

    folder = pathlib.Path(case.model_dir)
    made = onnx.load(folder / "model.onnx")
    sets = [tuple([value(path, said) for path, said in
                   zip(sorted(one.glob(f"{kind}_*.pb"), key=lambda p: int(p.stem.split("_")[1])), values, strict=False)]
                  for kind, values in (("input", made.graph.input), ("output", made.graph.output)))
            for one in sorted(folder.glob("test_data_set_*"))]
    return dataclasses.replace(case, model=made, data_sets=sets)


@pytest.mark.parametrize(("kind", "least"), [("pytorch-converted", 79), ("pytorch-operator", 33), ("simple", 7)])
def test_cases_of_folders(kind, least):
    """Those that lie in the package; older operator sets among them."""
    found = judged(kind, map(loaded, loader.load_model_tests(kind=kind)))
    assert not wrong(found), wrong(found)
    assert collections.Counter(found.values())["passed"] >= least


@pytest.mark.parametrize("name", LIGHT)
def test_light(name):
    """Whole networks whose weights are constants."""
    folder = pathlib.Path(loader.DATA_DIR, "light")
    made = onnx.load(folder / f"light_{name}.onnx")
    weights = {t.name for t in made.graph.initializer}
    inputs = [i for i in made.graph.input if i.name not in weights]
    shapes = [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in inputs]
    # As the package's own runner of these files does: all inputs from 0 to 1, or ones.
    arrays = [(np.arange(np.prod(s)).reshape(s) / np.prod(s)).astype(np.float32) for s in shapes]
    got = Backend.prepare(made).run(arrays)[0]
    want = ours(onnx.numpy_helper.to_array(T.FromString((folder / f"light_{name}_output_0.pb").read_bytes())))
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=1e-6)


def test_one_node_and_dicts():
    x = np.array([[-1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(Backend.run_node(node("Relu", ["x"], ["y"]), [x])[0], [[0, 2]])
    made = model([node("Add", ["a", "b"], ["y"])], {"a": [1, 2], "b": [1, 2]}, {"y": [1, 2]})
    prepared = Backend.prepare(made)
    np.testing.assert_array_equal(prepared.run({"b": x, "a": x})[0], 2 * x)
    with pytest.raises(ValueError, match="1 inputs given: the model has a, b"):
        prepared.run([x])
    assert Backend.is_compatible(made) and not Backend.supports_device("CUDA")
    with pytest.raises(ValueError, match="device='CUDA'"):
        Backend.prepare(made, "CUDA")
    assert not Backend.is_compatible(model([node("Loop", ["a", "b"], ["y"])], {"a": [1], "b": [1]}, {"y": [1]}))


def test_inputs_that_say_how_are_taken_as_they_are():
    made = model([node("Reshape", ["x", "shape"], ["y"])], {"x": [2, 3], "shape": ([2], "int64")}, {"y": [None, None]})
    prepared, x = Backend.prepare(made), np.arange(6, dtype=np.float32).reshape(2, 3)
    for shape in ([3, 2], [6, 1], [3, 2], [1, -1]):
        np.testing.assert_array_equal(prepared.run([x, np.array(shape)])[0], x.reshape(shape))
    assert Builder(made, ".", {"shape": [3, 2]}).build().input_names == ["x"]
