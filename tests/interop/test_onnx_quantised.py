"""Quantised and fused models: constants made floating point while tracing, operators of ONNX Runtime's tools."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from fastconv.interop.onnx.building import Builder  # noqa: E402
from fastconv.nn import Module  # noqa: E402

from .onnx_models import model, node  # noqa: E402

rng = np.random.default_rng(11)
FEW = ["INT4", "UINT4", "INT8", "UINT8", "INT16", "UINT16", "FLOAT8E4M3FN", "FLOAT8E5M2", "FLOAT4E2M1"]


def built(made) -> Module:
    return Builder(made, ".").build().eval()


def ran(made, *inputs):
    return built(made).run(*inputs)[0]


def microsoft(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, domain="com.microsoft", **attributes)


def contrib(nodes, inputs, outputs, weights, opset=17):
    made = model(nodes, inputs, outputs, weights, opset=opset)
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return made


def integers(shape, kind):
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)


@pytest.mark.parametrize(("opset", "channels"), [(10, False), *((s, c) for s in (13, 19, 21, 25) for c in (False, True))])
def test_a_network_whose_weights_are_quantised(opset, channels):
    """As static quantisation writes it: weights and biases behind DequantizeLinear, values between two of them."""
    w, b = integers((6, 3, 3, 3), "int8"), rng.integers(-999, 999, 6).astype(np.int32)
    scale = rng.uniform(0.001, 0.01, 6).astype(np.float32) if channels else np.float32(0.004)
    axis = {"axis": 0} if channels else {}
    zero = np.zeros(6, np.int8) if channels else np.int8(3)
    nodes = [node("QuantizeLinear", ["x", "sx", "zx"], ["q"]), node("DequantizeLinear", ["q", "sx", "zx"], ["d"]),
             node("DequantizeLinear", ["w", "sw", "zw"], ["dw"], **axis),
             node("DequantizeLinear", ["b", "sb"], ["db"], **axis),
             node("Conv", ["d", "dw", "db"], ["c"], strides=[2, 1]), node("QuantizeLinear", ["c", "sy", "zy"], ["qy"]),
             node("DequantizeLinear", ["qy", "sy", "zy"], ["y"])]
    made = model(nodes, {"x": ["N", 3, 9, 11]}, {"y": ["N", 6, 4, 9]},
                 {"w": w, "sw": scale, "zw": zero, "b": b, "sb": np.float32(0.02) * scale, "sx": np.float32(0.02),
                  "zx": np.uint8(120), "sy": np.float32(0.03), "zy": np.uint8(100)}, opset=opset)
    x = rng.standard_normal((2, 3, 9, 11)).astype(np.float32)
    made.ir_version = 10
    got = ran(made, x)
    xq = np.clip(np.round(x / np.float32(0.02)) + 120, 0, 255) - 120
    each = np.reshape(scale, (-1, 1, 1, 1)) if channels else scale
    wide = (w.astype(np.float64) - np.reshape(zero, (-1, 1, 1, 1) if channels else ())) * each
    want = np.zeros((2, 6, 4, 9))
    for i in range(4):
        for j in range(9):
            want[:, :, i, j] = np.einsum("nchw,ochw->no", xq[:, :, 2 * i: 2 * i + 3, j: j + 3] * 0.02, wide)
    want += (b * (0.02 * scale)).reshape(-1, 1, 1)
    want = (np.clip(np.round(want / 0.03) + 100, 0, 255) - 100) * 0.03
    assert np.abs(got - want).max() < 0.031  # one step, where a sum lies between two
    assert (np.abs(got - want) > 1e-4).mean() < 0.01
    net = built(made)
    assert not [n for n in net._followed.nodes if n.op == "Conv" and n.inputs[1] in net._followed.places]


@pytest.mark.parametrize("kind", FEW)
def test_constants_are_as_what_is_computed(kind):
    """The same from a constant, while tracing, as from an input, in a plan; per tensor, axis and block."""
    number = getattr(TensorProto, kind)
    dtype = helper.tensor_dtype_to_np_dtype(number)
    x = (rng.standard_normal((4, 6)) * 4).astype(np.float32)
    x[0, :3] = 0, np.inf, -np.inf
    for shape, more in (((), {}), ((4,), {"axis": 0}), ((6,), {}), ((4, 2), {"axis": 1, "block_size": 3})):
        scale = rng.uniform(0.2, 0.9, shape).astype(np.float32)
        zero = numpy_helper.from_array(np.zeros(shape, np.float32).astype(dtype), "z") if "FLOAT" in kind else \
            numpy_helper.from_array(rng.integers(0, 5, shape).astype(dtype), "z")
        results = []
        for constant in (False, True):
            inputs = {"other": [1]} if constant else {"x": [4, 6]}
            weights = {"s": scale, "z": zero, **({"x": x} if constant else {})}
            given = np.zeros(1, np.float32) if constant else x
            made = model([node("QuantizeLinear", ["x", "s", "z"], ["q"], **more),
                          node("DequantizeLinear", ["q", "s", "z"], ["y"], **more)], inputs, {"y": [4, 6]}, weights,
                         opset=25)
            made.ir_version = 13
            results.append(ran(made, given))
        np.testing.assert_array_equal(results[0], results[1])


def test_scales_that_do_not_fit():
    made = model([node("DequantizeLinear", ["w", "s"], ["d"], axis=0), node("Add", ["x", "d"], ["y"])], {"x": [2, 3]},
                 {"y": [2, 3]}, {"w": np.zeros((2, 3), np.int8), "s": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match=r"DequantizeLinear 'd': 3 scales or zero points for axis 0 of shape \(2, 3\)"):
        ran(made, np.zeros((2, 3), np.float32))


# ---- com.microsoft ------------------------------------------------------------------------------------------------------

SCALES = {"sa": np.float32(0.05), "za": np.uint8(100), "sb": np.float32(0.02), "zb": np.uint8(90), "sy": np.float32(0.04),
          "zy": np.uint8(110)}


def real(q, name):
    return (q.astype(np.float64) - SCALES["z" + name]) * SCALES["s" + name]


def as_bytes(y):
    return np.clip(np.round(y / SCALES["sy"]) + SCALES["zy"], 0, 255)


@pytest.mark.parametrize(("op", "rule"), [("QLinearAdd", np.add), ("QLinearMul", np.multiply)])
def test_of_two(op, rule):
    a, b = integers((2, 3, 5), "uint8"), integers((3, 1), "uint8")
    made = contrib([microsoft(op, ["a", "sa", "za", "b", "sb", "zb", "sy", "zy"], ["y"])],
                   {"a": ([2, 3, 5], "uint8"), "b": ([3, 1], "uint8")}, {"y": ([2, 3, 5], "uint8")}, SCALES)
    got = ran(made, a, b)
    assert got.dtype == np.uint8
    assert np.abs(got - as_bytes(rule(real(a, "a"), real(b, "b")))).max() <= 1


@pytest.mark.parametrize(("op", "more", "rule"), [
    ("QLinearSigmoid", {}, lambda x: 1 / (1 + np.exp(-x))),
    ("QLinearLeakyRelu", {"alpha": 0.2}, lambda x: np.where(x < 0, 0.2 * x, x)),
    ("QLinearGlobalAveragePool", {}, lambda x: x.mean((2, 3), keepdims=True)),
    ("QLinearAveragePool", {"kernel_shape": [2, 3]}, lambda x: np.stack([
        np.stack([x[:, :, i: i + 2, j: j + 3].mean((2, 3)) for j in range(4)], -1) for i in range(4)], -2)),
    ("QLinearSoftmax", {"axis": 1, "opset": 13}, lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
])
def test_of_one(op, more, rule):
    x = integers((2, 3, 5, 6), "uint8")
    made = contrib([microsoft(op, ["x", "sa", "za", "sy", "zy"], ["y"], **more)], {"x": ([2, 3, 5, 6], "uint8")},
                   {"y": ([None] * 4, "uint8")}, SCALES)
    want = as_bytes(rule(real(x, "a")))
    got = ran(made, x)
    assert got.shape == want.shape and np.abs(got - want).max() <= 1


def test_concat_and_gemm():
    a, b = integers((2, 5), "uint8"), integers((2, 3), "uint8")
    made = contrib([microsoft("QLinearConcat", ["sy", "zy", "a", "sa", "za", "b", "sb", "zb"], ["y"], axis=1)],
                   {"a": ([2, 5], "uint8"), "b": ([2, 3], "uint8")}, {"y": ([2, 8], "uint8")}, SCALES)
    assert np.abs(ran(made, a, b) - as_bytes(np.concatenate([real(a, "a"), real(b, "b")], 1))).max() <= 1
    w, c = integers((4, 5), "uint8"), rng.integers(-500, 500, 4).astype(np.int32)
    for transposed in (0, 1):
        made = contrib([microsoft("QGemm", ["a", "sa", "za", "w", "sb", "zb", "c", "sy", "zy"], ["y"], transB=transposed)],
                       {"a": ([2, 5], "uint8")}, {"y": ([2, 4], "uint8")}, {**SCALES, "w": w if transposed else w.T, "c": c})
        want = real(a, "a") @ real(w, "b").T + c * (float(SCALES["sa"]) * SCALES["sb"])
        assert np.abs(ran(made, a) - as_bytes(want)).max() <= 1


def test_what_fusing_writes():
    """Beside the operators that were fused."""
    x, w = rng.standard_normal((2, 3, 6, 6)).astype(np.float32), rng.standard_normal((3, 3, 3, 3)).astype(np.float32)
    v = rng.standard_normal((2, 3, 6)).astype(np.float32)
    half = np.full(6, 0.5, np.float32)
    for fused, plain, weights, given in (
            ([microsoft("FusedConv", ["x", "w", "", "x"], ["y"], pads=[1] * 4, activation="Clip",
                        activation_params=[0.0, 6.0])],
             [node("Conv", ["x", "w"], ["c"], pads=[1] * 4), node("Add", ["c", "x"], ["d"]),
              node("Clip", ["d", "lo", "hi"], ["y"])],
             {"w": w, "lo": np.float32(0), "hi": np.float32(6)}, x),
            ([microsoft("FusedConv", ["x", "w"], ["y"], activation="LeakyRelu", activation_params=[0.3])],
             [node("Conv", ["x", "w"], ["c"]), node("LeakyRelu", ["c"], ["y"], alpha=0.3)], {"w": w}, x),
            ([microsoft("FusedMatMul", ["x", "x"], ["y"], transB=1, alpha=0.5)],
             [node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["m"]),
              node("Mul", ["m", "k"], ["y"])],
             {"k": np.float32(0.5)}, v),
            ([microsoft("BiasGelu", ["x", "k"], ["y"])], [node("Add", ["x", "k"], ["a"]), node("Gelu", ["a"], ["y"])],
             {"k": half}, v),
            ([microsoft("FastGelu", ["x"], ["y"])], [node("Gelu", ["x"], ["y"], approximate="tanh")], {}, v),
            ([microsoft("QuickGelu", ["x"], ["y"], alpha=1.5)],
             [node("Mul", ["x", "k"], ["a"]), node("Sigmoid", ["a"], ["b"]), node("Mul", ["x", "b"], ["y"])],
             {"k": np.float32(1.5)}, v),
            ([microsoft("SkipLayerNormalization", ["x", "x", "g", "g"], ["y"], epsilon=1e-3)],
             [node("Add", ["x", "x"], ["a"]), node("LayerNormalization", ["a", "g", "g"], ["y"], epsilon=1e-3)],
             {"g": half}, v),
            ([node("SimplifiedLayerNormalization", ["x", "g"], ["y"], epsilon=1e-3)],
             [node("Mul", ["x", "x"], ["a"]), node("ReduceMean", ["a", "last"], ["b"]), node("Add", ["b", "e"], ["c"]),
              node("Sqrt", ["c"], ["d"]), node("Div", ["x", "d"], ["f"]), node("Mul", ["f", "g"], ["y"])],
             {"g": half, "last": np.array([-1]), "e": np.float32(1e-3)}, v)):
        shape = list(given.shape)
        made = model(plain, {"x": shape}, {"y": [None] * len(shape)}, weights, opset=20)
        want = ReferenceEvaluator(made).run(None, {"x": given})
        got = ran(contrib(fused, {"x": shape}, {"y": [None] * len(shape)}, weights, opset=20), given)
        np.testing.assert_allclose(got, want[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", ["MatMulIntegerToFloat", "DynamicQuantizeMatMul"])
def test_products_of_integers(op):
    w, x = integers((6, 4), "uint8"), rng.standard_normal((3, 6)).astype(np.float32)
    if op == "DynamicQuantizeMatMul":
        made = contrib([microsoft(op, ["x", "w", "sb", "zb", "k"], ["y"])], {"x": [3, 6]}, {"y": [3, 4]},
                       {**SCALES, "w": w, "k": np.ones(4, np.float32)})
        got, first = ran(made, x), x.astype(np.float64)
        bound = 0.5 * (max(x.max(), 0) - min(x.min(), 0)) / 255 * np.abs(real(w, "b")).sum(0).max() + 1e-3
    else:
        q = integers((3, 6), "uint8")
        made = contrib([microsoft(op, ["x", "w", "sa", "sb", "za", "zb", "k"], ["y"])], {"x": ([3, 6], "uint8")},
                       {"y": [3, 4]}, {**SCALES, "w": w, "k": np.ones(4, np.float32)})
        got, first, bound = ran(made, q), real(q, "a"), 1e-3
    assert np.abs(got - (first @ real(w, "b") + 1)).max() <= bound
