"""Models of ONNX, trained further: normalisations frozen or not, heads replaced, layers frozen, written again."""

import copy
import pickle

import numpy as np
import pytest

import fastconv as fc

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from interop.onnx_models import model, node  # noqa: E402


def weights(dotted):
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.standard_normal(shape, dtype=np.float32) * 0.4

    values = {"features.0.weight": draw(6, 3, 3, 3), "features.0.bias": draw(6), "features.1.weight": draw(6) + 1,
              "features.1.bias": draw(6), "features.1.running_mean": draw(6), "features.1.running_var": draw(6) ** 2 + 0.5,
              "classifier.1.weight": draw(4, 6), "classifier.1.bias": draw(4)}
    return values if dotted else {f"w{i}": value for i, value in enumerate(values.values())}


def write(path, dotted=True):
    w = [*weights(dotted)]
    nodes = [node("Conv", ["x", *w[:2]], ["a"], "/features/features.0/Conv" if dotted else "Conv_1", pads=[1, 1, 1, 1]),
             node("BatchNormalization", ["a", *w[2:6]], ["b"],
                  "/features/features.1/BatchNormalization" if dotted else "BN_2", epsilon=1e-3, momentum=0.8),
             node("Relu", ["b"], ["c"], "/features/features.2/Relu" if dotted else "Relu_3"),
             node("GlobalAveragePool", ["c"], ["d"], "pool"), node("Flatten", ["d"], ["e"], "flat"),
             node("Dropout", ["e"], ["f"], "/classifier/classifier.0/Dropout" if dotted else "Dropout_6"),
             node("Gemm", ["f", *w[6:]], ["y"], "/classifier/classifier.1/Gemm" if dotted else "Gemm_7", transB=1)]
    onnx.save(model(nodes, {"x": ("n", 3, 8, 7)}, {"y": ("n", 4)}, weights(dotted)), path)
    return path


def pictures(n=5):
    return np.random.default_rng(1).standard_normal((n, 3, 8, 7), dtype=np.float32)


LABELS = np.array([0, 3, 1, 2, 1])


def theirs(torch):
    nn = torch.nn
    net = nn.Module()
    net.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6, eps=1e-3, momentum=0.2), nn.ReLU())
    net.classifier = nn.Sequential(nn.Identity(), nn.Linear(6, 4))
    state = {key: torch.from_numpy(value) for key, value in weights(True).items()}
    net.load_state_dict({**state, "features.1.num_batches_tracked": torch.tensor(0)})
    return net.double()


@pytest.mark.parametrize("dotted", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_training_as_pytorch_does(tmp_path, dotted, frozen):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net, right = fc.load(write(tmp_path / "m.onnx", dotted)), theirs(torch)
    right.train()
    if frozen:
        for part in net.modules():
            if getattr(part, "kind", "") == "BatchNormalization":
                part.eval()
        right.features[1].eval()
    trainer = fc.Trainer(net, fc.nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.2))
    optimizer = torch.optim.SGD(right.parameters(), lr=0.2)
    x, y = torch.from_numpy(pictures()).double(), torch.from_numpy(LABELS)
    for _ in range(4):
        loss = torch.nn.functional.cross_entropy(right.classifier(right.features(x).mean((2, 3))), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert trainer.step(pictures(), LABELS) == pytest.approx(float(loss), rel=1e-4)
    state = net.state_dict()
    for key, name in zip(weights(True), weights(dotted), strict=True):
        np.testing.assert_allclose(state[name], right.state_dict()[key].numpy(), rtol=1e-3, atol=1e-4, err_msg=key)
    unchanged = np.array_equal(state[[*weights(dotted)][4]], weights(True)["features.1.running_mean"])
    assert unchanged == frozen
    right.eval()
    want = right.classifier(right.features(x).mean((2, 3))).detach().numpy()
    np.testing.assert_allclose(fc.compile(net, (5, 3, 8, 7))(pictures()), want, rtol=1e-3, atol=1e-4)


PLACES = {"a part's path": (True, "classifier.1"), "a scope": (True, "classifier"), "a scope as nodes are named":
          (True, "/classifier"), "a node's name": (True, "/classifier/classifier.1/Gemm"), "a flat node": (False, "Gemm_7")}


@pytest.mark.parametrize("how", PLACES)
def test_a_new_head(tmp_path, how):
    dotted, place = PLACES[how]
    net = fc.load(write(tmp_path / "m.onnx", dotted))
    engine = fc.compile(net, (5, 3, 8, 7))
    engine(pictures())
    head = fc.nn.Linear(6, 9)
    net.replace(place, head)
    name = next(path for path, module in net.named_modules() if module is head)
    pooled = truth(pictures())
    want = pooled @ head.weight.data.T.astype(np.float64) + head.bias.data
    np.testing.assert_allclose(engine(pictures()), want, rtol=1e-4, atol=1e-5)  # an engine made before follows
    assert len([*net.parameters()]) == 6 and net.state_dict()[f"{name}.weight"].shape == (9, 6)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(fc.compile(other, (5, 3, 8, 7))(pictures()), engine(pictures()))
    np.testing.assert_array_equal(engine.freeze()(pictures()), engine(pictures()))
    np.testing.assert_allclose(net.run(pictures())[0], want, rtol=1e-4, atol=1e-5)


def truth(x):
    """The pooled features, in float64."""
    w = {key: value.astype(np.float64) for key, value in weights(True).items()}
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    y = np.einsum("nchwij,ocij->nohw", windows, w["features.0.weight"]) + w["features.0.bias"][:, None, None]

    def lines(key):
        return w[f"features.1.{key}"][:, None, None]

    y = (y - lines("running_mean")) / np.sqrt(lines("running_var") + 1e-3) * lines("weight") + lines("bias")
    return np.maximum(y, 0).mean((2, 3))


def test_layers_frozen_a_head_trained_and_written_again(tmp_path):
    ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    net = fc.load(write(tmp_path / "m.onnx"))
    for p in net.parameters():
        p.requires_grad = False
    for part in net.modules():
        if getattr(part, "kind", "") == "BatchNormalization":
            part.eval()
    net.replace("classifier", fc.nn.Linear(6, 4))
    before = {key: value.copy() for key, value in net.state_dict().items()}
    trainer = fc.Trainer(net, fc.nn.CrossEntropyLoss(), fc.optim.Adam(lr=0.05))
    first = trainer.step(pictures(), LABELS)
    for _ in range(60):
        last = trainer.step(pictures(), LABELS)
    assert last < 0.8 * first
    for key, value in net.state_dict().items():
        assert np.array_equal(value, before[key]) == (not key.startswith("classifier")), key
    fc.save(net.eval(), tmp_path / "tuned.onnx")
    session = ort.InferenceSession(tmp_path / "tuned.onnx", providers=["CPUExecutionProvider"])
    want = fc.compile(net, (5, 3, 8, 7))(pictures())
    np.testing.assert_allclose(session.run(None, {"x": pictures()})[0], want, rtol=1e-4, atol=1e-5)
    names = {t.name for t in onnx.load(tmp_path / "tuned.onnx").graph.initializer}
    assert {"features.0.weight", "classifier.weight", "classifier.bias"} <= names
    again = fc.load(tmp_path / "tuned.onnx")
    np.testing.assert_allclose(fc.compile(again, (5, 3, 8, 7))(pictures()), want, rtol=1e-5, atol=1e-6)
    again.replace("classifier", fc.nn.Identity())
    np.testing.assert_allclose(fc.compile(again, (5, 3, 8, 7))(pictures()), truth(pictures()), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_replaced(tmp_path):
    net = fc.load(write(tmp_path / "m.onnx"))
    before = fc.compile(net, (5, 3, 8, 7))(pictures())
    with pytest.raises(AttributeError, match="no part, node or scope 'head'; the last nodes are .*classifier.1/Gemm"):
        net.replace("head", fc.nn.Linear(6, 4))
    with pytest.raises(TypeError, match="module is a str"):
        net.replace("classifier", "linear")
    np.testing.assert_array_equal(fc.compile(net, (5, 3, 8, 7))(pictures()), before)
    two = [node("Gemm", ["x", "fc.weight"], ["a"], "first"), node("Gemm", ["x", "fc.weight"], ["b"], "second"),
           node("Add", ["a", "b"], ["y"])]
    eye = {"fc.weight": np.eye(3, dtype=np.float32)}
    onnx.save(model(two, {"x": ("n", 3)}, {"y": ("n", 3)}, eye), tmp_path / "two.onnx")
    shared = fc.load(tmp_path / "two.onnx")
    with pytest.raises(ValueError, match="the part 'fc' takes x and gives a, b: expected one tensor each"):
        shared.replace("fc", fc.nn.Linear(3, 3))
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(fc.compile(shared, (2, 3))(x), 2 * x)
    shared.replace("first", fc.nn.Linear(3, 3, bias=False))
    fc.nn.init.zeros_(shared.first.weight)
    np.testing.assert_array_equal(fc.compile(shared, (2, 3))(x), x)  # the other has its weight still
