"""The onnx package's own cases for single operators, generated in memory: every one whose operators and types are there."""

import collections

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
import onnx.backend.test.loader as loader  # noqa: E402
from onnx import TensorProto as T  # noqa: E402

from fastconv.interop.onnx.model import Builder  # noqa: E402
from fastconv.interop.onnx.reading import dtypes, ours  # noqa: E402
from fastconv.interop.onnx_backend import Backend  # noqa: E402

from .onnx_models import model, node  # noqa: E402

NUMBERS = set(dtypes())
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
EXCLUDED = {  # by a part of the name: why
    "test_nonzero": "its extents depend on values", "nonmaxsuppression": "its extents depend on values",
    "training_dropout": "random numbers of another generator", "reduce_max_empty": "an extreme of nothing is refused",
    "reduce_min_empty": "an extreme of nothing is refused", "precomputed_strides": "storage_order=1",
    "maxpool_2d_uint8": "pools compute in float32", "blocked": "scales of blocks", "roi": "a region that depends on values",
    "tf_crop_and_resize": "a region that depends on values", "linearizer": "16-bit integers",
    "quantizelinear_uint16": "16-bit integers", "quantizelinear_int16": "16-bit integers", "if_opt": "optional values",
    "if_seq": "sequences", "identity_opt": "optional values", "identity_sequence": "sequences",
    "cast": "narrower floating point is read as float32", "range_float16": "narrower floating point is read as float32",
}

AS_SAID = {"DependsOnValues": "what must be known while tracing depends on values",
           "ValueError: operator set 1:": "older sets"}


def kinds(case) -> set:
    """The element types of a model's inputs and outputs; a name where they are no tensors."""
    found = set()
    for value in (*case.model.graph.input, *case.model.graph.output):
        found.add(value.type.tensor_type.elem_type if value.type.HasField("tensor_type") else "no tensor")
    return found


def wide(values):
    return [ours(np.asarray(v)) for v in values]


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


def test_node_cases():
    counts: collections.Counter = collections.Counter()
    reasons: collections.Counter = collections.Counter()
    failed, listed = [], collections.Counter()
    for case in loader.load_model_tests(kind="node"):
        operators = {n.op_type for n in case.model.graph.node}
        reason = next((why for part, why in EXCLUDED.items() if part in case.name), "")
        if not kinds(case) <= NUMBERS:
            reason = "types that tensors do not have"
        elif not operators <= LISTED and outcome(case) != "passed":
            reason = "operators beyond the list"
        if reason:
            result = "excluded"
            reasons[reason] += 1
        else:
            said = outcome(case)
            result = "passed" if said == "passed" else "failed"
            why = next((why for start, why in AS_SAID.items() if said.startswith(start)), "")
            if why:
                result = "excluded"
                reasons[why] += 1
            elif result == "failed":
                failed.append(f"{case.name}: {said[:150]}")
        counts[result] += 1
        if operators <= LISTED:
            listed[result] += 1
    print(f"all cases: {dict(counts)}; those of the listed operators: {dict(listed)}; excluded: {dict(reasons)}")
    print("\n".join(failed))
    assert counts["passed"] > 1200
    assert not failed
    assert listed["passed"] > 1000


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
