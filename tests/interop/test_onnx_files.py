"""ONNX files that are not what they claim, and networks read from those that are."""

import copy
import os
import pickle

import numpy as np
import pytest

import fastconv as fc

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from fastconv.interop.onnx import load_onnx  # noqa: E402

from .onnx_models import model, node  # noqa: E402

rng = np.random.default_rng(0)


def saved(tmp_path, made, name="m.onnx"):
    path = tmp_path / name
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


def relu(**more):
    return model([node("Relu", ["x"], ["y"])], {"x": ["N", 4]}, {"y": ["N", 4]}, **more)


def test_parameters_have_the_initialisers_names(tmp_path):
    weights = {"features.0.weight": rng.standard_normal((5, 3, 3, 3), np.float32), "features.0.bias": np.ones(5, np.float32),
               "dense/kernel:0": rng.standard_normal((5, 2), np.float32), "forward": np.ones(2, np.float32),
               "a": np.ones(2, np.float32), "a.b": np.ones(2, np.float32)}
    made = model([node("Conv", ["x", "features.0.weight", "features.0.bias"], ["c"]),
                  node("GlobalAveragePool", ["c"], ["g"]), node("Flatten", ["g"], ["f"]),
                  node("MatMul", ["f", "dense/kernel:0"], ["d"]),
                  node("Add", ["d", "forward"], ["e"]), node("Add", ["e", "a"], ["h"]), node("Mul", ["h", "a.b"], ["y"])],
                 {"x": ["N", 3, 8, 8]}, {"y": ["N", 2]}, weights)
    net = fc.load(saved(tmp_path, made))
    names = dict(net.named_parameters())
    assert {"features.0.weight", "features.0.bias", "dense/kernel:0", "a"} <= set(names) and len(names) == 6
    np.testing.assert_array_equal(names["features.0.weight"].data, weights["features.0.weight"])
    x = rng.standard_normal((2, 3, 8, 8), np.float32)
    got = fc.compile(net.eval(), (2, 3, 8, 8))(x)
    conv = fc.functional.conv2d(x, weights["features.0.weight"], weights["features.0.bias"])
    want = (conv.mean((2, 3)) @ weights["dense/kernel:0"] + 1 + 1) * 1
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    assert isinstance(net.metadata, dict) and [i.name for i in net.inputs] == ["x"]
    assert "OnnxModel(x ('?', 3, 8, 8) -> y" in repr(net) and net.input_names == ["x"] and net.output_names == ["y"]


def test_a_run_looks_through_nothing_of_the_model(tmp_path):
    """What a file held changes by nobody: to compare its nodes at each run took three times as long as to run them."""
    net = fc.load(saved(tmp_path, relu())).eval()
    engine = fc.compile(net, (2, 4))
    x = rng.standard_normal((2, 4), np.float32)
    for run in (engine, fc.compile(pickle.loads(pickle.dumps(net)), (2, 4)), fc.compile(copy.deepcopy(net), (2, 4))):
        np.testing.assert_array_equal(run(x), np.maximum(x, 0))
        assert not run._current[0].graph.traced.stale()


LARGE = {"ConstantOfShape": ([np.array([10**6, 10**6])], {}), "Range": ([np.array(0), np.array(10**12), np.array(1)], {}),
         "Tile": ([np.zeros((3, 1), np.float32), np.array([10**6, 10**6])], {}),
         "Expand": ([np.zeros((3, 1), np.int64), np.array([10**6, 3, 10**6])], {}),
         "OneHot": ([np.zeros(1000, np.int64), np.array(10**9), np.array([0.0, 1.0], np.float32)], {}),
         "RandomNormal": ([], {"shape": [10**6, 10**6]}), "HannWindow": ([np.array(10**12)], {})}


@pytest.mark.parametrize("op", LARGE)
def test_a_small_file_makes_no_large_constant(tmp_path, op):
    values, attributes = LARGE[op]
    names = [f"v{i}" for i in range(len(values))]
    made = model([node(op, names, ["c"], "large", **attributes), node("Cast", ["c"], ["f"], to=1),
                  node("ReduceSum", ["f"], ["s"], keepdims=0), node("Add", ["x", "s"], ["y"])],
                 {"x": ["N", 4]}, {"y": ["N", 4]}, dict(zip(names, values, strict=True)))
    with pytest.raises(ValueError, match=rf"{op} 'large': its result has [\d,]+ elements: at most"):
        fc.compile(fc.load(saved(tmp_path, made)), (2, 4))


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"PK\x03\x04zip", b"not a model at all", b"\x08\x07" * 40,
                                     b"\xff" * 1000])
def test_files_of_something_else(tmp_path, content):
    with pytest.raises(ValueError, match="not an ONNX model"):
        fc.load(saved(tmp_path, content))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        fc.load(tmp_path / "none.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(OSError):
        fc.load(tmp_path / "folder.onnx")


def test_all_unsupported_operators_in_one_error(tmp_path):
    made = model([node("Loop", ["x"], ["a"], "first"), node("Relu", ["a"], ["b"]),
                  node("SequenceAt", ["b"], ["c"], "second"),
                  helper.make_node("Gather", ["c"], ["y"], name="third", domain="com.microsoft")],
                 {"x": [1, 4]}, {"y": [1, 4]})
    with pytest.raises(NotImplementedError) as caught:
        fc.load(saved(tmp_path, made))
    text = str(caught.value)
    assert all(part in text for part in ("Loop (first)", "SequenceAt (second)", "com.microsoft.Gather (third)", "m.onnx"))


def edge(kind):
    """Models that contradict themselves."""
    x, y = {"x": [1, 4]}, {"y": [1, 4]}
    if kind == "cycle":
        return model([node("Add", ["x", "b"], ["a"], "one"), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])], x, y)
    if kind == "missing":
        return model([node("Add", ["x", "nowhere"], ["y"])], x, y)
    if kind == "twice":
        return model([node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["y"])], x, y)
    if kind == "no output":
        return model([node("Relu", ["x"], ["z"])], x, y)
    if kind == "no set":
        made = relu()
        del made.opset_import[:]
        return made
    if kind == "old set":
        return relu(opset=0)
    if kind == "new set":
        return relu(opset=99)
    if kind == "strings":
        return model([node("Identity", ["x"], ["y"])], {"x": ([1], "string")}, {"y": ([1], "string")})
    tensor = numpy_helper.from_array(np.ones((1, 4), np.float32), "w")
    if kind == "claim":
        tensor.dims[:] = [2**31, 4]
    elif kind == "negative":
        tensor.dims[:] = [-1, 4]
    elif kind == "type":
        tensor.data_type = 999
    elif kind == "complex":
        tensor.data_type = TensorProto.COMPLEX64
    elif kind == "fields":
        tensor = helper.make_tensor("w", TensorProto.FLOAT, [1, 4], [1, 2, 3, 4])
        tensor.dims[:] = [1, 5]
    return model([node("Add", ["x", "w"], ["y"])], x, y, {"w": tensor})


@pytest.mark.parametrize(("kind", "message"), [
    ("cycle", "cycle through"), ("missing", "'nowhere' is read, and nothing makes it"), ("twice", "'y' is made twice"),
    ("no output", "output 'y' is made by nothing"), ("no set", "which operator set"), ("old set", "operator set 0"),
    ("new set", "operator set 99"), ("strings", "no type of numbers"), ("claim", "has 16 bytes: expected 34359738368"),
    ("negative", "has the shape"), ("type", "has the type"), ("complex", "COMPLEX64"),
    ("fields", "has 4 elements: expected 5")])
def test_models_that_contradict_themselves(tmp_path, kind, message):
    with pytest.raises(ValueError, match="m.onnx") as caught:
        fc.load(saved(tmp_path, edge(kind)))
    assert message in str(caught.value)


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "", "link.bin", "sub/../../outside.bin"])
def test_external_data_stays_in_the_folder(tmp_path, location):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "outside.bin").write_bytes(bytes(16))
    os.symlink(tmp_path / "outside.bin", home / "link.bin")
    tensor = numpy_helper.from_array(np.ones((1, 4), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    with pytest.raises(ValueError, match="in the model's own folder"):
        fc.load(saved(home, model([node("Add", ["x", "w"], ["y"])], {"x": [1, 4]}, {"y": [1, 4]}, {"w": tensor})))


@pytest.mark.parametrize(("entries", "message"), [
    ({}, None), ({"offset": "16", "length": "16"}, None), ({"offset": "20"}, "ends at byte 36"), ({"offset": "-4"}, "at -4"),
    ({"length": "12"}, "has 12 bytes"), ({"offset": "x"}, "expected integers")])
def test_external_data(tmp_path, entries, message):
    values = np.arange(8, dtype=np.float32)
    (tmp_path / "w.bin").write_bytes(values.tobytes())
    tensor = numpy_helper.from_array(np.ones((1, 4), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    path = saved(tmp_path, model([node("Add", ["x", "w"], ["y"])], {"x": [1, 4]}, {"y": [1, 4]}, {"w": tensor}))
    if message is not None:
        with pytest.raises(ValueError) as caught:
            fc.load(path)
        assert message in str(caught.value)
        return
    engine = fc.compile(fc.load(path).eval(), (1, 4))
    first = int(entries.get("offset", 0)) // 4
    np.testing.assert_array_equal(engine(np.zeros((1, 4), np.float32))[0], values[first: first + 4])


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_other_widths_become_float32_and_it_is_said(tmp_path, kind, caplog):
    w = np.linspace(-1, 1, 4).astype(kind)
    made = model([node("Add", ["x", "w"], ["y"])], {"x": [1, 4]}, {"y": [1, 4]}, {"w": w})
    with caplog.at_level("WARNING", "fastconv"):
        net = fc.load(saved(tmp_path, made))
    assert f"1 tensors of {kind} have become float32" in caplog.text
    np.testing.assert_array_equal(fc.compile(net.eval(), (1, 4))(np.zeros((1, 4), np.float32))[0], w.astype(np.float32))


def test_wrong_calls(tmp_path):
    net = fc.load(saved(tmp_path, relu()))
    with pytest.raises(TypeError, match="2 inputs given, the model has 1: x"):
        fc.compile(net, [(1, 4), (1, 4)])
    with pytest.raises(ValueError, match=r"has 3 dimensions: the model takes"):
        fc.compile(net, (1, 4, 4))
    with pytest.raises(ValueError, match="constants names 'z': the model has the inputs x"):
        load_onnx(saved(tmp_path, relu()), {"z": 1})


def test_damaged_files(tmp_path):
    """Cut, and with bytes changed: read, or refused by a named error; nothing else, and not slowly."""
    weights = {"w": rng.standard_normal((4, 3, 3, 3), np.float32), "b": np.ones(4, np.float32)}
    data = model([node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]), node("Relu", ["c"], ["r"]),
                  node("MaxPool", ["r"], ["y"], kernel_shape=[2, 2], strides=[2, 2])],
                 {"x": ["N", 3, 8, 8]}, {"y": ["N", 4, 4, 4]}, weights).SerializeToString()
    path, read = tmp_path / "m.onnx", 0
    for trial in range(400):
        changed = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            changed[rng.integers(len(data))] = rng.integers(256)
        path.write_bytes(changed if trial % 3 else data[: rng.integers(len(data))])
        try:
            net = fc.load(path)
            fc.compile(net.eval(), (1, 3, 8, 8))(np.ones((1, 3, 8, 8), np.float32))
            read += 1
        except (ValueError, TypeError, NotImplementedError, MemoryError) as error:
            assert str(error)
    assert read > 20
