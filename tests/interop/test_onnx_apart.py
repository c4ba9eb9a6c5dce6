"""Long weights of an ONNX file are read from it where they lie: the same values and errors as when it is parsed whole."""

import tracemalloc

import numpy as np
import pytest

import fastconv as fc

pytest.importorskip("onnx", reason="reading ONNX files needs the package onnx")
import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from fastconv.interop.onnx import apart, load_onnx  # noqa: E402

from .onnx_models import model, node  # noqa: E402

rng = np.random.default_rng(0)


def layers(weights):
    """Convolutions and a product over weights of these names."""
    nodes = [node("Conv", ["x", "w"], ["c"], "conv"), node("Add", ["c", "b"], ["y"], "add")]
    return model(nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", 4, 6, 6]}, weights)


def usual():
    return {"w": rng.standard_normal((4, 3, 3, 3), np.float32), "b": rng.standard_normal((1, 4, 6, 6), np.float32)}


def outcome(path, whole, monkeypatch, least=1):
    """What a file gives: the values of its weights, or the error."""
    with monkeypatch.context() as patch:
        patch.setattr(apart, "LONG", 1 << 60 if whole else least)
        try:
            net = load_onnx(path)
        except (ValueError, TypeError, NotImplementedError) as error:
            return type(error), str(error)
    values = {name: np.array(value) for name, value in net.state_dict().items()}
    return net.input_names, net.output_names, {n: (v.shape, v.tobytes()) for n, v in values.items()}, \
        {n: (v.shape, v.dtype.name, v.tobytes()) for n, v in net._followed.constants.items()}


def field(number, kind, value=b""):
    return bytes([number << 3 | kind]) + value


def variants():
    made = layers(usual())
    data = made.SerializeToString()
    yield "usual", data
    for kind in (TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16, TensorProto.INT64, TensorProto.FLOAT8E4M3FN):
        other = layers(usual())
        values = numpy_helper.to_array(other.graph.initializer[0])
        other.graph.initializer[0].CopyFrom(helper.make_tensor("w", kind, values.shape, values.ravel().tolist()))
        whole = numpy_helper.to_array(other.graph.initializer[0])
        yield f"type {kind}", other.SerializeToString()
        other.graph.initializer[0].CopyFrom(numpy_helper.from_array(whole, "w"))
        yield f"raw type {kind}", other.SerializeToString()
    for name, change in {"data twice": lambda t: t.float_data.append(1.0), "no name": lambda t: t.ClearField("name"),
                         "longer": lambda t: t.dims.__setitem__(0, 3), "shorter": lambda t: t.dims.__setitem__(0, 5),
                         "huge": lambda t: t.dims.__setitem__(0, 1 << 40), "none": lambda t: t.dims.__setitem__(0, 0),
                         "external": lambda t: setattr(t, "data_location", 1),
                         "entry": lambda t: t.external_data.add(key="location", value="x"),
                         "string": lambda t: setattr(t, "data_type", TensorProto.STRING),
                         "other name": lambda t: setattr(t, "name", "b")}.items():
        other = onnx.ModelProto.FromString(data)
        change(other.graph.initializer[0])
        yield name, other.SerializeToString()
    again = onnx.ModelProto.FromString(data).graph.initializer[0]
    again.raw_data = bytes(reversed(again.raw_data))
    twice = apart.record(9, again.raw_data)
    yield "the data of another follow", data + apart.record(7, apart.record(5, again.SerializeToString() + twice))
    del made.graph.initializer[0]
    yield "graph in two parts", made.SerializeToString() + apart.record(7, apart.record(5, again.SerializeToString()))
    yield "data twice, raw", made.SerializeToString() + apart.record(7, apart.record(5, again.SerializeToString() + twice))
    yield "unknown fields", data + field(100 & 15, 0, b"\x05") + field(13, 1, b"8bytes..") + field(14, 5, b"four")
    yield "a group", data + field(15, 3) + field(15, 4)
    yield "field 0", data + field(0, 0, b"\x01")
    for cut in (1, 5, 40, len(data) // 2):
        yield f"{cut} bytes missing", data[:-cut]
    unread = onnx.ModelProto.FromString(data)
    unread.graph.initializer.add().CopyFrom(numpy_helper.from_array(np.zeros(100, np.float32), "unread"))
    yield "one that nothing reads", unread.SerializeToString()


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in variants()])
def test_what_is_read_apart_is_what_the_package_reads(data, tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    assert outcome(path, False, monkeypatch) == outcome(path, True, monkeypatch)


def test_damaged_files_mean_what_they_mean_when_parsed_whole(tmp_path, monkeypatch):
    path, data, random = tmp_path / "m.onnx", layers(usual()).SerializeToString(), np.random.default_rng(1)
    results = set()
    for _ in range(300):
        changed = bytearray(data)
        for _ in range(random.integers(1, 4)):
            structure = random.random() < 0.7  # what is not the weights' data stands in front
            changed[random.integers(260 if structure else len(data))] = random.integers(256)
        path.write_bytes(bytes(changed))
        apart_, whole = outcome(path, False, monkeypatch, 64), outcome(path, True, monkeypatch)
        if isinstance(whole[0], type) and "not an ONNX model" in whole[1]:  # which byte of what is parsed it was may differ
            apart_, whole = (apart_[0], apart_[1][:60]), (whole[0], whole[1][:60])
        assert apart_ == whole
        results.add(type(whole[0]))
    assert len(results) == 2  # some are read, some refused


def test_memory_and_the_file(tmp_path):
    """Reading takes the weights' memory and little else, and the weights are the module's own."""
    weights = {f"w{i}": rng.standard_normal((256, 256, 3, 3), np.float32) for i in range(8)}
    nodes = [node("Conv", [f"x{i}" if i else "x", f"w{i}"], [f"x{i + 1}"], pads=[1, 1, 1, 1]) for i in range(8)]
    path = tmp_path / "m.onnx"
    path.write_bytes(model(nodes, {"x": [1, 256, 4, 4]}, {"x8": [1, 256, 4, 4]}, weights).SerializeToString())
    size = path.stat().st_size
    load_onnx(path)  # imports
    tracemalloc.start()
    net = load_onnx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.1 * size
    path.write_bytes(b"\0" * size)  # in place: what was read is no part of the file
    for name, value in weights.items():
        assert (getattr(net, name).data == value).all()
    with net.w0.edit() as values:
        values[...] = 1
    x = np.ones((1, 256, 4, 4), np.float32)
    expected = fc.functional.conv2d(x, np.ones_like(weights["w0"]), padding=1)
    for name in list(weights)[1:]:
        expected = fc.functional.conv2d(expected, weights[name], padding=1)
    assert np.allclose(fc.compile(net.eval(), x.shape)(x), expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


def test_a_file_that_becomes_shorter(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(layers(usual()).SerializeToString())
    monkeypatch.setattr(apart, "LONG", 1)
    before = apart.Apart.rest

    def shortened(self, size):
        found = before(self, size)
        with open(path, "r+b") as file:
            file.truncate(size // 2)
        return found

    monkeypatch.setattr(apart.Apart, "rest", shortened)
    with pytest.raises(ValueError, match=r"load .*m\.onnx.*: tensor '.': the file ends before its data do"):
        load_onnx(path)
