"""Imported models are written as they were read: nodes, names and open extents; weights as they are now."""

import copy
import pickle

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from fastconv.interop.onnx import load_onnx, save_onnx  # noqa: E402

from .onnx_models import model, node  # noqa: E402

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

rng = np.random.default_rng(0)


def array(*shape):
    return rng.standard_normal(shape, np.float32)


def sized():
    """A network whose sizes follow from its input's: all extents are open."""
    nodes = [node("Conv", ["x", "stem.weight"], ["c"], "stem", strides=[2, 2], pads=[1, 1, 1, 1]),
             node("BatchNormalization", ["c", *(f"norm.{n}" for n in ("weight", "bias", "running_mean", "running_var"))],
                  ["n"], "norm"),
             node("Relu", ["n"], ["r"], "act"), node("Shape", ["x"], ["s"]), node("Shape", ["r"], ["t"]),
             node("Constant", [], ["two"], value=numpy_helper.from_array(np.array([2]))),
             node("Slice", ["s", "two", "four"], ["hw"]), node("Slice", ["t", "zero", "two"], ["nc"]),
             node("Concat", ["nc", "hw"], ["size"], axis=0),
             node("Resize", ["r", "", "", "size"], ["u"], "up", mode="linear"),
             node("Concat", ["u", "x"], ["y"], axis=1), node("GlobalAveragePool", ["r"], ["g"]),
             node("Flatten", ["g"], ["f"]), node("Gemm", ["f", "head.weight", "head.bias"], ["z"], "head", transB=1)]
    made = model(nodes, {"x": ["N", 3, "H", "W"]}, {"y": ["N", 7, "H", "W"], "z": ["N", 5]},
                 {"stem.weight": array(4, 3, 3, 3), "norm.weight": array(4), "norm.bias": array(4),
                  "norm.running_mean": array(4), "norm.running_var": np.abs(array(4)) + 1, "zero": np.array([0]),
                  "four": np.array([4]), "head.weight": array(5, 4), "head.bias": array(5)}, opset=13)
    made.metadata_props.add(key="labels", value="a,b")
    return made


def written(tmp_path, made, name="a.onnx"):
    path = tmp_path / name
    path.write_bytes(made.SerializeToString())
    return path


def runtime(path, *arrays):
    if onnxruntime is None:
        pytest.skip("onnxruntime is not installed")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([i.name for i in session.get_inputs()], arrays, strict=True)))


def test_nodes_names_and_open_extents_stay(tmp_path):
    first = written(tmp_path, sized())
    again, third = tmp_path / "b.onnx", tmp_path / "c.onnx"
    fc.save(load_onnx(first), again)
    fc.save(load_onnx(again), third)
    assert again.read_bytes() == third.read_bytes()
    before, after = onnx.load(first), onnx.load(again)
    assert [n for n in before.graph.node if n.op_type != "Constant"] == list(after.graph.node)
    assert list(after.graph.input) == list(before.graph.input) and list(after.graph.output) == list(before.graph.output)
    assert after.opset_import == before.opset_import and after.producer_name == "fastconv"
    assert {e.key: e.value for e in after.metadata_props} == {"labels": "a,b"}
    values = {t.name: numpy_helper.to_array(t) for t in after.graph.initializer}
    for t in before.graph.initializer:
        assert (values.pop(t.name) == numpy_helper.to_array(t)).all()
    assert {name: v.tolist() for name, v in values.items()} == {"two": [2]}
    for shape in ((1, 3, 16, 16), (2, 3, 24, 10)):
        x = array(*shape)
        for got, want in zip(runtime(again, x), runtime(first, x), strict=True):
            assert (got == want).all()


def test_what_was_trained_is_written(tmp_path):
    net = load_onnx(written(tmp_path, sized()))
    trainer = fc.Trainer(Last(net), nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.1))
    for _ in range(3):
        trainer.step(array(8, 3, 16, 16), rng.integers(0, 5, 8))
    fc.save(net.eval(), tmp_path / "b.onnx")
    assert not np.allclose(load_onnx(tmp_path / "b.onnx").head.weight.data, load_onnx(tmp_path / "a.onnx").head.weight.data)
    assert not np.allclose(load_onnx(tmp_path / "b.onnx").norm.running_mean.data,
                           load_onnx(tmp_path / "a.onnx").norm.running_mean.data)
    x = array(3, 3, 20, 12)
    for got, want in zip(runtime(tmp_path / "b.onnx", x), fc.compile(net, x.shape)(x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


class Last(nn.Module):
    """The last output of a model."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)[-1]


def test_copies_of_the_module_are_written_too(tmp_path):
    net = load_onnx(written(tmp_path, sized()))
    fc.save(net, tmp_path / "b.onnx")
    for i, other in enumerate((copy.deepcopy(net), pickle.loads(pickle.dumps(net)))):
        fc.save(other, tmp_path / f"{i}.onnx")
        assert (tmp_path / f"{i}.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_for_one_size_it_is_traced(tmp_path):
    net = load_onnx(written(tmp_path, sized())).eval()
    fc.save(net, tmp_path / "b.onnx", (1, 3, 16, 12))
    extents = [d.dim_param or d.dim_value for d in onnx.load(tmp_path / "b.onnx").graph.input[0].type.tensor_type.shape.dim]
    assert extents[1:] == [3, 16, 12]
    x = array(1, 3, 16, 12)
    for got, want in zip(runtime(tmp_path / "b.onnx", x), runtime(tmp_path / "a.onnx", x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


def test_with_a_part_replaced_sizes_are_asked_for(tmp_path):
    net = load_onnx(written(tmp_path, sized())).eval()
    net.replace("head", nn.Linear(4, 2))
    message = r"input_shape is not given, and the module takes more than one: x \('any', 3, 'any'"
    with pytest.raises(ValueError, match=message):
        fc.save(net, tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()
    fc.save(net, tmp_path / "b.onnx", (1, 3, 16, 16))
    x = array(1, 3, 16, 16)
    np.testing.assert_allclose(runtime(tmp_path / "b.onnx", x)[1], fc.compile(net, x.shape)(x)[1], rtol=1e-4, atol=1e-4)


def test_constants_that_were_given_are_in_the_file(tmp_path):
    made = model([node("Reshape", ["x", "shape"], ["y"])], {"x": ["N", 6], "shape": ([3], "int64")}, {"y": [None] * 3})
    net = load_onnx(written(tmp_path, made), {"shape": [-1, 2, 3]})
    fc.save(net, tmp_path / "b.onnx")
    x = array(4, 6)
    assert runtime(tmp_path / "b.onnx", x)[0].shape == (4, 2, 3)


def test_other_widths_are_traced(tmp_path):
    """Weights that have become float32 are written as such, whatever the nodes between them were made for."""
    weight = numpy_helper.from_array(array(4, 3, 1, 1).astype(np.float16), "w")
    made = model([node("Cast", ["w"], ["k"], to=TensorProto.FLOAT), node("Conv", ["x", "k"], ["y"])],
                 {"x": ["N", 3, 4, 4]}, {"y": ["N", 4, 4, 4]}, {"w": weight})
    net = load_onnx(written(tmp_path, made)).eval()
    fc.save(net, tmp_path / "b.onnx")
    x = array(2, 3, 4, 4)
    np.testing.assert_allclose(runtime(tmp_path / "b.onnx", x)[0], runtime(tmp_path / "a.onnx", x)[0], rtol=1e-4, atol=1e-5)


def branching():
    """Branches that read weights from around them, as speech detectors choose by the rate."""
    def branch(weight, name):
        return helper.make_graph([node("Conv", ["x", weight], [name], pads=[1, 1])], name, [],
                                 [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    nodes = [node("Shape", ["x"], ["s"]), node("Gather", ["s", "last"], ["n"]), node("Equal", ["n", "eight"], ["is"]),
             node("If", ["is"], ["y"], then_branch=branch("a", "p"), else_branch=branch("b", "q"))]
    return model(nodes, {"x": ["N", 2, "T"]}, {"y": ["N", 3, "T"]},
                 {"a": array(3, 2, 3), "b": array(3, 2, 3), "last": np.array(2), "eight": np.array(8)})


def test_weights_around_branches(tmp_path):
    net = load_onnx(written(tmp_path, branching()))
    assert {name for name, _ in net.named_parameters()} == {"a", "b"}
    fc.save(net, tmp_path / "b.onnx")
    for length in (8, 11):
        x = array(2, 2, length)
        want = fc.functional.conv1d(x, (net.a if length == 8 else net.b).data, padding=1)
        np.testing.assert_allclose(fc.compile(net.eval(), x.shape)(x), want, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(net.run(x)[0], want, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(runtime(tmp_path / "b.onnx", x)[0], want, rtol=1e-4, atol=1e-5)
    trainer = fc.Trainer(net, nn.MSELoss(), fc.optim.SGD(lr=0.1))
    a, b = net.a.numpy(), net.b.numpy()
    trainer.step(array(2, 2, 8), array(2, 3, 8))
    assert (net.b.data == b).all() and not (net.a.data == a).all()


def test_fixed_extents_of_one_image(tmp_path):
    """Nodes made for one image alone, with nn layers behind: written for one image."""
    made = model([node("Reshape", ["x", "shape"], ["r"]), node("MatMul", ["r", "w"], ["y"], "fc")], {"x": [1, 2, 6]},
                 {"y": [1, 5]}, {"shape": np.array([1, 12]), "w": array(12, 4)})
    net = load_onnx(written(tmp_path, made)).eval()
    net.replace("fc", nn.Linear(12, 3))
    save_onnx(net, tmp_path / "b.onnx")
    x = array(1, 2, 6)
    np.testing.assert_allclose(runtime(tmp_path / "b.onnx", x)[0], fc.compile(net, x.shape)(x), rtol=1e-4, atol=1e-5)
