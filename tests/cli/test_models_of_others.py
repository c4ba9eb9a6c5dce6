"""``fastconv run`` and ``fastconv convert``, and the other commands on an ONNX model."""

import numpy as np
import pytest
from PIL import Image

import fastconv as fc
from fastconv import nn
from fastconv._arguments import UsageError
from fastconv._model import _extents
from fastconv.interop.onnx import load_onnx, save_onnx
from fastconv.interop.weights import read_weights
from fastconv.measure.peers import missing

from .helpers import done, refused

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")


@pytest.fixture
def files(tmp_path):
    fc.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(8, 4)).eval()
    save_onnx(net, tmp_path / "m.onnx", (1, 3, 20, 24))
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\nfish\n")
    return net, tmp_path


def test_run_on_photographs(files, capsys):
    net, path = files
    out = done(capsys, "run", path / "m.onnx", path / "photos", "--labels", path / "labels.txt", "--top", 2, "--json",
               "--mean", "0.5", "--std", "0.25,0.5,0.5", "--output", path / "o.npz", "--batch-size", 2)
    results = out["results"]
    assert len(results) == 5 and all(len(r["top"]) == 2 for r in results)
    x = np.stack([np.asarray(Image.open(path / "photos" / f"{i}.png").resize((24, 20), Image.Resampling.BILINEAR))
                  for i in range(5)]).astype(np.float32) * np.float32(1 / 255)
    x = np.ascontiguousarray(((x - np.float32(0.5)) / np.float32([0.25, 0.5, 0.5])).transpose(0, 3, 1, 2))
    want = fc.compile(net, x.shape)(x)
    with np.load(path / "o.npz") as found:
        np.testing.assert_allclose(found["output"], want, rtol=1e-5, atol=1e-5)
    names = ["cat", "dog", "bird", "fish"]
    assert [r["top"][0]["class"] for r in results] == [names[i] for i in want.argmax(1)]
    text = done(capsys, "run", path / "m.onnx", path / "photos" / "0.png", "--bgr", "--scale", "1")
    assert text.startswith(str(path / "photos" / "0.png")) and "%)" in text


def test_run_on_arrays(files, capsys):
    net, path = files
    x = np.random.default_rng(1).standard_normal((3, 3, 20, 24))
    np.save(path / "x.npy", x)
    out = done(capsys, "run", path / "m.onnx", f"input={path / 'x.npy'}", "--output", path / "o.npz")
    assert "output (3, 4) float32" in out
    with np.load(path / "o.npz") as found:
        np.testing.assert_allclose(found["output"], fc.compile(net, x.shape)(x.astype(np.float32)), rtol=1e-5, atol=1e-6)


def test_convert_asks_for_no_sizes(tmp_path, capsys):
    """Models of several inputs, of any size: their weights, and themselves, are written without being run."""
    weight = np.ones((2, 3, 1, 1), np.float32)
    h, float_ = onnx.helper, onnx.TensorProto.FLOAT
    values = {n: h.make_tensor_value_info(n, float_, ["N", c, "H", "W"]) for n, c in (("a", 3), ("b", 2), ("y", 2))}
    graph = h.make_graph([h.make_node("Conv", ["a", "w"], ["c"]), h.make_node("Add", ["c", "b"], ["y"])], "two",
                         [values["a"], values["b"]], [values["y"]], [onnx.numpy_helper.from_array(weight, "w")])
    made = h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    for target in ("n.onnx", "w.npz", "w.safetensors", "w.pth"):
        done(capsys, "convert", tmp_path / "m.onnx", tmp_path / target)
    again = onnx.load(tmp_path / "n.onnx").graph
    assert list(again.input) == list(made.graph.input) and list(again.node) == list(made.graph.node)
    with np.load(tmp_path / "w.npz") as found:
        assert (found["w"] == weight).all()


def test_convert_every_way(files, capsys):
    net, path = files
    state = net.state_dict()
    chain = ["m.onnx", "a.npz", "b.pth", "c.safetensors", "d.pt"]
    for source, target in zip(chain, chain[1:], strict=False):
        done(capsys, "convert", path / source, path / target)
        found = read_weights(path / target)
        for name, value in state.items():
            if value.dtype.kind == "f":
                np.testing.assert_array_equal(found[name], value)
    done(capsys, "convert", path / "m.onnx", path / "n.onnx")
    x = np.ones((2, 3, 20, 24), np.float32)
    read = load_onnx(path / "n.onnx").eval()
    np.testing.assert_allclose(fc.compile(read, x.shape)(x), fc.compile(net, x.shape)(x), rtol=1e-5, atol=1e-6)
    done(capsys, "convert", "lenet5", path / "l.safetensors")
    done(capsys, "convert", path / "l.safetensors", path / "l.npz")
    done(capsys, "convert", path / "l.npz", path / "l.onnx", "--network", "lenet5")
    assert len(load_onnx(path / "l.onnx").state_dict()) == 10
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    found = torch.load(path / "b.pth", weights_only=True)
    for name, value in found.items():
        np.testing.assert_array_equal(value.numpy(), read_weights(path / "b.pth")[name])


def test_other_commands(files, capsys):
    _, path = files
    assert "multiply-adds" in done(capsys, "summary", path / "m.onnx")
    assert done(capsys, "summary", path / "m.onnx", "--json")["parameters"] == 276
    assert done(capsys, "summary", path / "m.onnx", "--input-size", "20x24", "--json")["parameters"] == 276
    refused(capsys, 2, "of shape (None, 3, 20, 24): --input-size 24x20 does not fit", "summary", path / "m.onnx",
            "--input-size", "24x20")


@pytest.mark.parametrize("shape, size, expected", [
    ((None, 3, None, None), (7, 9), (3, 7, 9)), ((None, None, None, 3), (7, 9), (7, 9, 3)), ((1, 3, 7, 9), None, (3, 7, 9)),
    ((None, 3, None, 9), (7, 9), (3, 7, 9)), ((None, 1, None), (7, 7), (1, 7)), ((None, 3, None, 9), (7, 8), None),
    ((None, None, None, None), (7, 9), None), ((None, 3, 7), None, (3, 7)), ((None, 8), (8, 8), None)])
def test_an_input_size_goes_where_extents_may_be_any(shape, size, expected):
    if expected is None:
        with pytest.raises(UsageError, match=f"--input-size {size[0]}x{size[1]} does not fit"):
            _extents("m.onnx", "x", shape, size)
    else:
        assert _extents("m.onnx", "x", shape, size) == expected


def test_timed_beside_the_runtime_that_reads_the_same_file(files, capsys):
    if lacking := missing("onnxruntime"):
        pytest.skip(f"not installed: {', '.join(lacking)}")
    _, path = files
    result = done(capsys, "bench", path / "m.onnx", "--against", "onnxruntime", "--seconds", "0.001", "--json")
    assert result["input"] == [1, 3, 20, 24] and [name.split()[0] for name in result["peers"]] == ["onnxruntime"]


def test_wrong_ways(files, capsys):
    _, path = files
    refused(capsys, 1, "No such file", "run", path / "none.onnx", path / "photos")
    refused(capsys, 2, "takes pictures of 20x24 alone", "run", path / "m.onnx", path / "photos", "--resize", "30")
    refused(capsys, 2, "--mean has 2 numbers", "run", path / "m.onnx", path / "photos", "--mean", "1,2")
    refused(capsys, 2, "--std must be above 0", "run", path / "m.onnx", path / "photos", "--std", "0")
    refused(capsys, 2, "expected a file .npz", "run", path / "m.onnx", path / "photos", "--output", "x.png")
    refused(capsys, 1, "2 labels: the model gives 4", "run", path / "m.onnx", path / "photos", "--labels", labels(path))
    np.save(path / "x.npy", np.zeros((1, 3, 20, 24), np.float32))
    refused(capsys, 2, "the model takes input", "run", path / "m.onnx", path / "x.npy", path / "x.npy")
    refused(capsys, 2, "expected a file of one of the endings", "convert", path / "m.onnx", path / "x.txt")
    done(capsys, "convert", path / "m.onnx", path / "a.npz")
    refused(capsys, 1, "is there already", "convert", path / "m.onnx", path / "a.npz")
    refused(capsys, 2, "holds weights alone", "convert", path / "a.npz", path / "b.onnx")
    refused(capsys, 2, "--network nonet", "convert", path / "a.npz", path / "b.onnx", "--network", "nonet")
    (path / "bad.onnx").write_bytes(b"garbage")
    for command in ("run", "summary", "convert"):
        more = [path / "photos"] if command == "run" else [path / "z.npz"] if command == "convert" else []
        refused(capsys, 1, "not an ONNX model", command, path / "bad.onnx", *more)


def labels(path):
    (path / "two.txt").write_text("a\nb\n")
    return path / "two.txt"
