"""Batches of several inputs and targets, by place and by name; soft labels; what is wrong with them, in short messages."""

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn

N = 12
RNG = np.random.default_rng(0)


class Two(nn.Module):
    """Two inputs, two outputs: what networks of pictures and masks are made like."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(1, 3, 1)
        self.mask, self.head = nn.Conv2d(3, 2, 1), nn.Linear(3 * 16, 4)

    def forward(self, x, m):
        y = nn.SiLU()(self.a(x) + self.b(m))
        return self.mask(y), self.head(y.flatten(1))


class Loss(nn.Module):
    def forward(self, prediction, mask, cls):
        return nn.CrossEntropyLoss()(prediction[0], mask) + nn.CrossEntropyLoss()(prediction[1], cls) * 0.5


def batch(n=N):
    return (RNG.standard_normal((n, 2, 4, 4)).astype(np.float32), RNG.standard_normal((n, 1, 4, 4)).astype(np.float32),
            RNG.integers(0, 2, (n, 4, 4)), RNG.integers(0, 4, n))


NAMES = ("x", "m", "mask", "cls")


def make(metrics=()):
    fc.manual_seed(0)
    return fc.Trainer(Two(), Loss(), fc.optim.SGD(0.1, 0.9), metrics=metrics)


def expected_loss(net, x, m, mask, cls):
    prediction = fc.compile(net, (x.shape, m.shape))(x, m)
    return float(F.cross_entropy(prediction[0], mask) + 0.5 * F.cross_entropy(prediction[1], cls))


class Rows:
    """A dataset whose items are dicts."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return N

    def __getitem__(self, row):
        return {name: a[row] for name, a in zip(reversed(NAMES), reversed(self.arrays), strict=True)}


@pytest.mark.parametrize("form", ["tuple", "dict", "dataset of dicts", "loader of dicts", "list"])
def test_several_inputs_and_targets(form):
    arrays = batch()
    data = {"tuple": arrays, "list": list(arrays), "dict": dict(zip(reversed(NAMES), reversed(arrays), strict=True)),
            "dataset of dicts": Rows(arrays), "loader of dicts": fc.data.DataLoader(Rows(arrays), N)}[form]
    trainer = make()
    expected = expected_loss(trainer.module, *arrays)
    assert trainer.evaluate(data)["loss"] == pytest.approx(expected, rel=1e-5)
    assert trainer.log.columns() == []
    log = trainer.fit(data, 8, validation=data, batch_size=None if "loader" in form else N, verbose=False)
    assert log[0]["loss"] == pytest.approx(expected, rel=1e-5) and log[-1]["val_loss"] < log[0]["loss"]
    assert trainer.step(*arrays) == pytest.approx(log[-1]["val_loss"], rel=1e-4)
    other = make()
    assert other.step(dict(zip(NAMES, arrays, strict=True))) == pytest.approx(expected, rel=1e-5)
    assert other.step(*arrays[:2], arrays[2].astype(np.uint8), arrays[3].astype(np.int32)) < expected


def test_metrics_get_all_targets_and_classes_the_one_that_fits():
    def seen(prediction, mask, cls):
        assert prediction[0].shape[1] == 2 and mask.shape[1:] == (4, 4) and cls.ndim == 1
        return float(len(cls))

    trainer, arrays = make(metrics=("accuracy", seen)), batch()
    row = trainer.evaluate(arrays)
    right = fc.train.accuracy(fc.compile(trainer.module, [a.shape for a in arrays[:2]])(*arrays[:2])[0], arrays[2])
    assert row["seen"] == N and row["accuracy"] == pytest.approx(right)


def test_a_smaller_batch_and_targets_of_other_kinds():
    trainer, arrays = make(), batch()
    trainer.step(*arrays)
    before = trainer.evaluate([a[:5] for a in arrays])
    assert before["loss"] == pytest.approx(expected_loss(trainer.module, *(a[:5] for a in arrays)), rel=1e-5)
    with pytest.raises(ValueError, match=r"cross_entropy: target 'mask'\[3\]=7 .* is not a class index in 0\.\.1"):
        bad = arrays[2].copy()
        bad.flat[3] = 7
        trainer.step(*arrays[:2], bad, arrays[3])
    with pytest.raises(ValueError, match=r"cross_entropy: target 'cls'\[2\]=4 .* is not a class index in 0\.\.3"):
        bad = arrays[3].copy()
        bad[2] = 4
        trainer.step(*arrays[:3], bad)
    with pytest.raises(ValueError, match="step: target 'cls' of shape .* its batch differs"):
        trainer.step(*arrays[:3], arrays[3][:5])


def test_predict_takes_several_inputs_and_gives_what_forward_returns():
    trainer, (x, m, _, _) = make(), batch(11)
    whole = fc.compile(trainer.module, (x.shape, m.shape))(x, m)
    for size in (256, 4, 11, np.int64(3)):
        found = trainer.predict(x, m, batch_size=size)
        assert type(found) is tuple
        for ours, theirs in zip(found, whole, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    for ours, theirs in zip(trainer.predict(x, m, 4), whole, strict=True):  # as it used to be given
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)

    class Named(nn.Module):
        def forward(self, x):
            return {"a": x * 2.0, "b": [x + 1.0, (x,)]}

    found = fc.Trainer(nn.Sequential(nn.Conv2d(1, 1, 1), Named()), Loss(), fc.optim.SGD(0.1)).predict(m, batch_size=4)
    assert found["a"].shape == m.shape and found["b"][1][0].shape == m.shape


@pytest.mark.parametrize("call, error, message", [
    (lambda t, b: t.step(*b[:3]), TypeError, r"step: 3 arrays given: the network takes \(x, m\) and the loss behind the "
                                             r"prediction \(mask, cls\)"),
    (lambda t, b: t.step(b[0]), TypeError, "step: 1 arrays given: expected the inputs and the target"),
    (lambda t, b: t.step({"x": b[0], "mask": b[2], "cls": b[3]}), TypeError, "step: the batch lacks 'm' for the network"),
    (lambda t, b: t.step({"x": b[0], "m": b[1], "cls": b[3]}), TypeError, "step: the batch lacks 'mask' for the loss"),
    (lambda t, b: t.fit({**dict(zip(NAMES, b, strict=True)), "z": b[0]}, 1), TypeError, r"has \['z'\] too many"),
    (lambda t, b: t.predict(b[0]), TypeError, r"predict: 1 inputs given: the network takes \(x, m\)"),
    (lambda t, b: t.predict(b[0], b[1][:3]), ValueError, r"predict: input 1 of shape \(3, 1, 4, 4\): its batch differs"),
    (lambda t, b: t.step(b[0], b[1], b[2], [[1], [2, 3]]), ValueError, "step: target 'cls' is a list of items of different"),
    (lambda t, b: t.step(b[0], b[1], b[2], ["a"] * N), TypeError, "step: target 'cls' is .*: expected class indices"),
    (lambda t, b: t.step(b[0], b[1], b[2], b[3] * 1.5), TypeError, "step: target 'cls' has dtype float64"),
    (lambda t, b: t.fit((b[0], [[1], [2, 3]]), 1), ValueError, r"train\[1\] is a list of items of different shapes"),
    (lambda t, b: t.fit((b[0], ["a"] * N), 1), TypeError, r"train\[1\] is .*: expected an array, or a list of numbers"),
    (lambda t, b: t.fit(b[0], 1), TypeError, "train is a numpy.ndarray: expected a DataLoader"),
    (lambda t, b: t.fit(b, RNG.standard_normal((90, 90))), ValueError, r"epochs=an array of shape \(90, 90\)"),
])
def test_messages_are_short_and_say_what_is_expected(call, error, message):
    trainer, arrays = make(), batch()
    with pytest.raises(error, match=message) as caught:
        call(trainer, arrays)
    assert len(str(caught.value)) < 300


def test_labels_may_be_a_list():
    x, y = RNG.standard_normal((6, 4)).astype(np.float32), [0, 1, 2, 0, 1, 2]
    trainer = fc.Trainer(nn.Linear(4, 3), nn.CrossEntropyLoss(), fc.optim.SGD(0.1))
    assert trainer.evaluate((x, y)) == trainer.evaluate((x, np.array(y)))
    assert trainer.fit((x, y), 1, verbose=False)[0]["accuracy"] >= 0
    assert trainer.step(x, y) > 0
    squares = fc.Trainer(nn.Linear(4, 1), nn.MSELoss(), fc.optim.SGD(0.1), metrics=())
    assert squares.fit((x, [[0.5]] * 6), 1, verbose=False)[0]["loss"] > 0


def test_a_loader_of_another_library_is_said_to_be_one():
    torch = pytest.importorskip("torch", reason="PyTorch's DataLoader is the one that is met")
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(4, 4)))
    trainer = fc.Trainer(nn.Linear(4, 3), nn.CrossEntropyLoss(), fc.optim.SGD(0.1))
    with pytest.raises(TypeError, match=r"train is a torch\.utils\.\S*DataLoader, another library's: .*loader.dataset"):
        trainer.fit(loader, 1)


# ---- soft labels ------------------------------------------------------------------------------------------------------


def shares(*shape):
    t = RNG.random(shape)
    return (t / t.sum(1, keepdims=True)).astype(np.float32)


SHAPES = [(3, 5), (4, 1), (2, 17, 9), (70, 16), (2, 33, 5, 6), (3, 10, 2, 3, 4), (5, 1000), (9000, 3)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_soft_labels_are_pytorchs(shape, reduction, smoothing, weighted):
    torch = pytest.importorskip("torch", reason="PyTorch defines cross entropy of probabilities")
    x, t = (3 * RNG.standard_normal(shape)).astype(np.float32), shares(*shape)
    weight = RNG.random(shape[1]).astype(np.float32) + 0.5 if weighted else None
    tx = torch.from_numpy(x).double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(tx, torch.from_numpy(t).double(), reduction=reduction,
                                             label_smoothing=smoothing,
                                             weight=None if weight is None else torch.from_numpy(weight).double())
    gy = RNG.standard_normal(tuple(loss.shape)).astype(np.float32)
    loss.backward(torch.from_numpy(np.asarray(gy)).double())
    options = {"reduction": reduction, "label_smoothing": smoothing}
    found = F.cross_entropy(x, t, weight, **options)
    np.testing.assert_allclose(found, loss.detach().numpy(), rtol=3e-6, atol=1e-6)
    np.testing.assert_allclose(F.cross_entropy_backward(gy, x, t, weight, **options), tx.grad.numpy(), rtol=1e-5, atol=2e-6)


def test_soft_labels_of_one_class_are_that_class():
    x, y = RNG.standard_normal((8, 5)).astype(np.float32), np.arange(8) % 5
    t = np.eye(5, dtype=np.float32)[y]
    np.testing.assert_allclose(F.cross_entropy(x, t), F.cross_entropy(x, y), rtol=1e-6)
    one = np.float32(1)
    np.testing.assert_allclose(F.cross_entropy_backward(one, x, t), F.cross_entropy_backward(one, x, y), atol=1e-7)


@pytest.mark.parametrize("threads", [1, 2])
def test_soft_labels_are_trained_with(threads):
    torch = pytest.importorskip("torch", reason="PyTorch's training is what it is compared with")
    x, t = RNG.standard_normal((20, 6)).astype(np.float32), shares(20, 4)
    net, other = nn.Linear(6, 4), torch.nn.Linear(6, 4)
    other.load_state_dict({name: torch.from_numpy(v) for name, v in net.state_dict().items()})
    other.double()
    optimizer = torch.optim.SGD(other.parameters(), 0.5)
    trainer = fc.Trainer(net, nn.CrossEntropyLoss(label_smoothing=0.1), fc.optim.SGD(0.5), threads=threads)
    for _ in range(5):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(other(torch.from_numpy(x).double()), torch.from_numpy(t).double(),
                                                 label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        assert trainer.step(x, t) == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(net.weight.numpy(), other.weight.detach().numpy(), atol=1e-6)
    row = trainer.fit((x, t), 1, verbose=False)[0]
    assert "accuracy" not in row and trainer.evaluate((x, t))["loss"] > 0


def test_soft_labels_that_are_computed_get_their_gradient():
    """Distillation both ways: what the target depends on is trained as well."""
    torch = pytest.importorskip("torch", reason="PyTorch's gradients are what they are compared with")

    class Both(nn.Module):
        def __init__(self, lib):
            super().__init__()
            self.a, self.b, self.lib = lib.Linear(6, 4), lib.Linear(6, 4), lib

        def forward(self, x):
            return self.a(x), nn.Softmax(1)(self.b(x))

    class Distil(nn.Module):
        def forward(self, prediction, target):
            return nn.CrossEntropyLoss()(*prediction) + nn.CrossEntropyLoss()(prediction[0], target)

    net = Both(nn)
    a, b = torch.nn.Linear(6, 4), torch.nn.Linear(6, 4)
    for layer, ours in ((a, net.a), (b, net.b)):
        layer.load_state_dict({name: torch.from_numpy(v) for name, v in ours.state_dict().items()})
        layer.double()
    x, y = RNG.standard_normal((7, 6)).astype(np.float32), np.arange(7) % 4
    trainer = fc.Trainer(net, Distil(), fc.optim.SGD(1.0))
    tx = torch.from_numpy(x).double()
    logits, target = a(tx), torch.softmax(b(tx), 1)
    loss = torch.nn.functional.cross_entropy(logits, target) + torch.nn.functional.cross_entropy(logits, torch.from_numpy(y))
    loss.backward()
    before = net.state_dict()
    trainer.step(x, y)
    for name, layer in (("a", a), ("b", b)):
        moved = before[f"{name}.weight"] - net.state_dict()[f"{name}.weight"]
        np.testing.assert_allclose(moved, layer.weight.grad.numpy(), atol=2e-6)
        assert abs(moved).max() > 1e-4


@pytest.mark.parametrize("call, error, message", [
    (lambda x, t: F.cross_entropy(x, t[:, :3]), ValueError, r"target of shape \(6, 3\) and dtype float32: expected "
                                                           r"probabilities of the input's shape \(6, 4\)"),
    (lambda x, t: F.cross_entropy(x, t.astype(np.float64)), TypeError, "target has dtype float64"),
    (lambda x, t: F.cross_entropy(x, t, ignore_index=1), ValueError, "ignore_index=1: a target of probabilities has"),
])
def test_wrong_soft_labels(call, error, message):
    with pytest.raises(error, match=message):
        call(RNG.standard_normal((6, 4)).astype(np.float32), shares(6, 4))


# ---- parameters and state dicts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [
    lambda p: p.data.__setitem__(0, 0), lambda p: p.data[0].__setitem__(1, 0), lambda p: p.data.T.__setitem__(0, 0),
    lambda p: p.data.__iadd__(1), lambda p: p.data.fill(0), lambda p: np.copyto(p.data, 0),
    lambda p: np.multiply(p.data, 2, out=p.data), lambda p: p.data.reshape(-1).__setitem__(slice(None), 1),
])
def test_what_is_written_through_data_is_noticed(write):
    layer = nn.Linear(3, 2)
    p, x = layer.weight, np.ones((1, 3), np.float32)
    engine, before, version = fc.compile(layer, (1, 3)), p.numpy(), p.version
    engine(x)
    write(p)
    assert p.version > version and not np.array_equal(p.numpy(), before)
    np.testing.assert_allclose(engine(x), x @ p.numpy().T + layer.bias.numpy(), rtol=1e-6)
    with pytest.raises(ValueError, match="read-only"):  # what would go past it
        np.asarray(p.data)[0, 0] = 1


def test_data_whose_parameter_is_gone_is_not_written():
    data = nn.Linear(3, 2).weight.data
    with pytest.raises(ValueError, match=r"parameter: its data is read-only.*with p\.edit\(\) as values.*p\.data = "):
        data[0] = 1


def test_what_is_computed_of_data_is_a_plain_array(tmp_path):
    import copy
    import pickle

    p = nn.Linear(3, 2).weight
    values = np.array(p.data)
    for made in (p.data * 2, p.data @ p.data.T, p.data.copy(), p.data.astype(np.float64), np.sum(p.data, 0), p.data.sum(0),
                 np.sort(p.data), np.array(p.data), pickle.loads(pickle.dumps(p.data)), copy.deepcopy(p.data)):
        assert type(made) is np.ndarray and made.flags.writeable
        made[0] = 1
    np.testing.assert_array_equal(p.data, values)
    assert repr(p.data).startswith("array(") and str(p.data) == str(values)
    assert isinstance(p.data[0, 0], np.float32)
    np.save(tmp_path / "a.npy", p.data)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_state_dicts_are_converted(dtype, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch makes state dicts of half precision")
    other = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).to(getattr(torch, dtype))
    state = other.state_dict()
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    net.load_state_dict(state)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, state[name].float().numpy() if state[name].is_floating_point() else
                                      state[name].numpy())
    safetensors = pytest.importorskip("safetensors.torch", reason="PyTorch's files of half precision")
    safetensors.save_file(state, tmp_path / "half.safetensors")
    back = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    back.load_state_dict(fc.train.load_model(tmp_path / "half.safetensors")[0])
    for name, value in back.state_dict().items():
        np.testing.assert_array_equal(value, net.state_dict()[name])


def test_double_precision_is_still_refused():
    net = nn.Linear(3, 2)
    with pytest.raises(TypeError, match="weight has dtype float64: expected float32"):
        net.load_state_dict({name: v.astype(np.float64) for name, v in net.state_dict().items()})
