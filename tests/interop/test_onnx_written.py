"""Networks written as ONNX models: checked by the onnx package, run by ONNX Runtime where it is installed, read again."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")
from fastconv.interop.onnx import load_onnx, save_onnx  # noqa: E402

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

rng = np.random.default_rng(0)
NETWORKS = {
    "lenet5": (lambda: fc.zoo.lenet5(), (1, 1, 32, 32)),
    "resnet18": (lambda: fc.zoo.resnet18(num_classes=10), (1, 3, 64, 64)),
    "mobilenet_v2": (lambda: fc.zoo.mobilenet_v2(num_classes=10), (1, 3, 64, 64)),
    "layers": (lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(8), nn.SiLU(), nn.AvgPool2d(2),
        nn.ConvTranspose2d(8, 6, 3, 2, 1, 1, groups=2), nn.GELU(), nn.AdaptiveAvgPool2d((4, 6)), nn.Hardswish(),
        nn.MaxPool2d(3, 1, 1), nn.ELU(), nn.Hardsigmoid(), nn.LeakyReLU(0.2), nn.GELU("tanh"), nn.Flatten(),
        nn.Linear(144, 5), nn.Dropout(), nn.Softmax(1)), (1, 3, 16, 24)),
    "one dimension": (lambda: nn.Sequential(nn.Conv1d(2, 8, 5, dilation=2, padding=4), nn.Tanh(), nn.AdaptiveMaxPool1d(7),
                                            nn.Conv1d(8, 4, 3, groups=4), nn.ReLU6(), nn.LogSoftmax(1)), (1, 2, 40)),
    "three dimensions": (lambda: nn.Sequential(nn.Conv3d(1, 4, 3, stride=2), nn.Sigmoid(), nn.AdaptiveAvgPool3d((2, 3, 3)),
                                               nn.AvgPool3d(2, 1)), (1, 1, 9, 10, 11)),
    "means in whole windows": (lambda: nn.Sequential(
        nn.AvgPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d((2, 3), ceil_mode=True, divisor_override=4)), (1, 2, 24, 18)),
    "normalisations": (lambda: nn.Sequential(
        nn.Conv2d(3, 12, 1), nn.GroupNorm(3, 12), nn.InstanceNorm2d(12), nn.LayerNorm([12, 7, 5]), nn.LayerNorm(5),
        nn.GroupNorm(4, 12, affine=False), nn.InstanceNorm2d(12, affine=True), nn.Softmax(2), nn.LogSoftmax(3),
        nn.RMSNorm(5)), (1, 3, 7, 5)),
    "steps": (lambda: nn.Sequential(nn.LayerNorm(6), First(nn.LSTM(6, 5, 2, bidirectional=True, batch_first=True)),
                                    First(nn.GRU(10, 4, batch_first=True)), nn.Linear(4, 3), nn.Softmax(-1)), (3, 4, 6)),
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), (1, 5, 8)),
}
FUNCTIONS = {
    "topk": (lambda F, x: F.topk(x, 3, 1), 2), "topk, the least": (lambda F, x: F.topk(x, 2, 2, largest=False), 2),
    "sort": (lambda F, x: F.sort(x, 2, True), 2), "argsort": (lambda F, x: F.argsort(x, 1), 1),
    "tril": (lambda F, x: F.tril(x), 1), "triu": (lambda F, x: F.triu(x, 2), 1),
    "roll": (lambda F, x: F.roll(x, (1, 2), (1, 2)), 1),
    "stack": (lambda F, x: F.stack([x, x * 2], 1), 1), "flip": (lambda F, x: F.flip(x, (1, 2)), 1),
    "rows by constants": (lambda F, x: F.index_select(x, 1, np.array([2, 0, 0])), 1),
    "rows by values": (lambda F, x: F.gather(x, 2, F.argsort(x, 2)), 1),
    "softmax": (lambda F, x: F.softmax(x, 1), 1), "pictures": (lambda F, x: F.grid_sample(
        F.unsqueeze(x, 1), F.affine_grid(F.reshape(F.mean(x, 2) @ np.ones((7, 6), np.float32), (-1, 2, 3)), (3, 1, 4, 5),
                                         align_corners=True), align_corners=True), 1),
}


class First(nn.Module):
    """The first result of a layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


def perturbed(net):
    fc.manual_seed(1)
    for name, value in net.state_dict().items():
        if "running_var" in name:
            net.load_state_dict({**net.state_dict(), name: (1 + rng.random(value.shape)).astype(np.float32)})
    return net.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_everywhere(tmp_path, name):
    make, shape = NETWORKS[name]
    net = perturbed(make())
    path, again = tmp_path / "a.onnx", tmp_path / "b.onnx"
    save_onnx(net, path, shape, metadata={"labels": "a,b"})
    x = rng.standard_normal((3, *shape[1:]), np.float32)
    want = fc.compile(net, x.shape)(x)
    if onnxruntime is not None:
        got = onnxruntime.InferenceSession(str(path)).run(None, {"input": x})[0]
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())
    read = load_onnx(path).eval()
    assert read.metadata["labels"] == "a,b"
    np.testing.assert_allclose(fc.compile(read, x.shape)(x), want, rtol=1e-4, atol=1e-5 * np.abs(want).max())
    save_onnx(read, again)
    save_onnx(load_onnx(again), tmp_path / "c.onnx")
    first, second, third = onnx.load(path), onnx.load(again), onnx.load(tmp_path / "c.onnx")
    assert [n.op_type for n in second.graph.node] == [n.op_type for n in third.graph.node]
    own = {n for n, _ in net.named_parameters()}
    assert own <= {t.name for t in first.graph.initializer} and own <= {t.name for t in second.graph.initializer}
    images = second.graph.input[0].type.tensor_type.shape.dim[0]
    assert second.graph.input[0].name == "input"
    assert (images.dim_param, images.dim_value) == (("", 3) if name == "steps" else ("N", 0))  # states of so many images
    assert {e.key: e.value for e in second.metadata_props} == {"labels": "a,b"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(tmp_path, name):
    function, outputs = FUNCTIONS[name]
    path, x = tmp_path / "m.onnx", rng.permutation(3 * 7 * 6).reshape(3, 7, 6).astype(np.float32) / 20 - 3
    save_onnx(lambda x: function(fc.functional, x), path, x.shape)
    want = fc.compile(lambda x: function(fc.functional, x), x.shape)(x)
    want = want if outputs > 1 else (want,)
    read = load_onnx(path)
    results = [read.run(x)]
    if onnxruntime is not None:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        results.append(session.run(None, {session.get_inputs()[0].name: x}))
    for got in results:
        for a, b in zip(got, want, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_tables_and_places(tmp_path):
    """Rows of a table, and elements by two indices."""
    net = nn.Sequential(nn.Embedding(20, 6), nn.LayerNorm(6)).eval()
    ids = rng.integers(0, 20, (3, 5))
    save_onnx(net, tmp_path / "m.onnx", {"ids": ((3, 5), "int64")})
    want = fc.compile(net, {"ids": ((3, 5), "int64")})(ids)
    if onnxruntime is not None:
        session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"ids": ids})[0], want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(load_onnx(tmp_path / "m.onnx").run(ids)[0], want, rtol=1e-4, atol=1e-5)


def test_several_inputs_and_outputs(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Linear(5, 4)

        def forward(self, x, z):
            y = self.a(x)
            return {"sum": y + y * 2.0, "vector": self.b(z)}

    net = Net().eval()
    save_onnx(net, tmp_path / "m.onnx", {"picture": (1, 3, 6, 6), "vector": (1, 5)}, output_names=["sum", "out"])
    read = load_onnx(tmp_path / "m.onnx").eval()
    assert read.input_names == ["picture", "vector"] and read.output_names == ["sum", "out"]
    x, z = rng.standard_normal((2, 3, 6, 6), np.float32), rng.standard_normal((2, 5), np.float32)
    want = fc.compile(net, [x.shape, z.shape])(x, z)
    got = fc.compile(read, [x.shape, z.shape])(x, z)
    np.testing.assert_allclose(got[0], want["sum"], rtol=1e-5)
    np.testing.assert_allclose(got[1], want["vector"], rtol=1e-5)


def test_a_trained_import_is_written_as_it_is_now(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    save_onnx(net.eval(), tmp_path / "a.onnx", (1, 1, 8, 8))
    read = load_onnx(tmp_path / "a.onnx")
    x, t = rng.standard_normal((64, 1, 8, 8), np.float32), rng.integers(0, 3, 64)
    trainer = fc.Trainer(read, nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.1))
    trainer.fit((x, t), 3, batch_size=16, verbose=False)
    save_onnx(read, tmp_path / "b.onnx")
    again = load_onnx(tmp_path / "b.onnx").eval()
    np.testing.assert_array_equal(fc.compile(again, x.shape)(x), fc.compile(read.eval(), x.shape)(x))
    before = fc.compile(load_onnx(tmp_path / "a.onnx").eval(), x.shape)(x)
    assert np.abs(fc.compile(again, x.shape)(x) - before).max() > 1e-3


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match="input_shape is not given"):
        save_onnx(fc.zoo.lenet5(), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="expected 1 different names"):
        save_onnx(fc.zoo.lenet5(), tmp_path / "m.onnx", (1, 1, 32, 32), output_names=["a", "b"])
    with pytest.raises(NotImplementedError, match="grid_sample '': sampling of volumes"):
        save_onnx(lambda x, g: fc.functional.grid_sample(x, g, align_corners=False), tmp_path / "m.onnx",
                  [(1, 1, 2, 2, 2), (1, 1, 1, 1, 3)])
    assert list(tmp_path.iterdir()) == []
