"""Losses as modules beside PyTorch's, in trainings and loops; what their kernels do not take."""

import numpy as np
import pytest
from trainers import data, make, small_net

import fastconv as fc
import fastconv.functional as F
from fastconv import nn, optim

RNG = np.random.default_rng


def normal(*shape, seed=0):
    return RNG(seed).standard_normal(shape).astype(np.float32)


def shares(*shape, seed=0):
    return RNG(seed).uniform(0.1, 0.9, shape).astype(np.float32)


def signs(*shape):
    return (2 * RNG(1).integers(0, 2, shape) - 1).astype(np.float32)


MODULES = [
    ("NLLLoss", {"weight": shares(5)}, (normal(6, 5), RNG(1).integers(0, 5, 6))),
    ("CrossEntropyLoss", {"weight": shares(5), "label_smoothing": 0.1}, (normal(6, 5), RNG(1).integers(0, 5, 6))),
    ("L1Loss", {}, (normal(3, 4), normal(3, 4, seed=1))),
    ("MSELoss", {"reduction": "sum"}, (normal(3, 4), normal(3, 4, seed=1))),
    ("SmoothL1Loss", {"beta": 0.3}, (normal(3, 4), normal(3, 4, seed=1))),
    ("HuberLoss", {"delta": 0.3}, (normal(3, 4), normal(3, 4, seed=1))),
    ("BCELoss", {"weight": shares(4)}, (shares(3, 4), shares(3, 4, seed=1))),
    ("BCEWithLogitsLoss", {"pos_weight": shares(4)}, (normal(3, 4), shares(3, 4, seed=1))),
    ("KLDivLoss", {"reduction": "batchmean", "log_target": True}, (normal(3, 4), normal(3, 4, seed=1))),
    ("PoissonNLLLoss", {"full": True}, (normal(3, 4), 5 * shares(3, 4, seed=1))),
    ("GaussianNLLLoss", {"full": True}, (normal(3, 4), normal(3, 4, seed=1), shares(3, 4, seed=2))),
    ("HingeEmbeddingLoss", {"margin": 0.5}, (normal(3, 4), signs(3, 4))),
    ("MarginRankingLoss", {"margin": 0.5}, (normal(3, 4), normal(3, 4, seed=1), signs(3, 4))),
    ("SoftMarginLoss", {}, (normal(3, 4), signs(3, 4))),
    ("MultiMarginLoss", {"p": 2, "weight": shares(5)}, (normal(6, 5), RNG(1).integers(0, 5, 6))),
    ("MultiLabelMarginLoss", {}, (normal(2, 4), np.array([[3, 0, -1, 1], [1, 2, 0, -1]]))),
    ("MultiLabelSoftMarginLoss", {"weight": shares(4)}, (normal(3, 4), shares(3, 4))),
    ("TripletMarginLoss", {"swap": True, "p": 1.5}, (normal(3, 4), normal(3, 4, seed=1), normal(3, 4, seed=2))),
    ("CosineEmbeddingLoss", {"margin": 0.2}, (normal(3, 4), normal(3, 4, seed=1), signs(3))),
    ("CrossEntropyLoss", {"size_average": False}, (normal(6, 5), RNG(1).integers(0, 5, 6))),
]


@pytest.mark.parametrize("name, options, arrays", MODULES, ids=[f"{m[0]}-{i}" for i, m in enumerate(MODULES)])
def test_modules(name, options, arrays):
    """Value by a call with arrays, value and gradient through an engine, beside PyTorch."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its losses are the reference")
    wide = lambda a: torch.tensor(np.asarray(a, np.float64 if np.asarray(a).dtype.kind == "f" else np.int64))  # noqa: E731
    theirs = getattr(torch.nn, name)(**{k: wide(v) if isinstance(v, np.ndarray) else v for k, v in options.items()})
    leaf = wide(arrays[0]).requires_grad_()
    expected = theirs(leaf, *map(wide, arrays[1:]))
    expected.backward()
    criterion = getattr(nn, name)(**options)
    assert float(criterion(*arrays)) == pytest.approx(expected.item(), rel=2e-5)
    value, g = fc.value_and_grad(criterion)(*arrays)
    assert value == pytest.approx(expected.item(), rel=2e-5)
    np.testing.assert_allclose(g, leaf.grad.numpy(), rtol=2e-4, atol=1e-6)
    assert name in repr(criterion)


def test_a_distance_of_ones_own():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its loss is the reference")
    a, b, c = normal(3, 4), normal(3, 4, seed=1), normal(3, 4, seed=2)
    ours = nn.TripletMarginWithDistanceLoss(distance_function=lambda x, y: F.abs(x - y).sum(-1), margin=0.5, swap=True)
    theirs = torch.nn.TripletMarginWithDistanceLoss(distance_function=lambda x, y: (x - y).abs().sum(-1), margin=0.5,
                                                    swap=True)
    expected = theirs(*map(torch.tensor, (a, b, c))).item()
    assert float(ours(a, b, c)) == pytest.approx(expected, rel=1e-5)
    assert F.triplet_margin_with_distance_loss(a, b, c, distance_function=ours.distance_function, margin=0.5,
                                               swap=True) == pytest.approx(expected, rel=1e-5)


class Detector(nn.Module):
    """Classes and a box of one object."""

    def __init__(self, named=False):
        super().__init__()
        fc.manual_seed(1)
        self.body = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.classes, self.box, self.named = nn.Linear(54, 3), nn.Linear(54, 4), named

    def forward(self, x):
        x = self.body(x)
        return {"classes": self.classes(x), "box": self.box(x)} if self.named else (self.classes(x), self.box(x))


@pytest.mark.parametrize("named", [False, True])
def test_classes_and_boxes_together(named):
    """In the Trainer and in a loop; the sum is that of its parts."""
    x, (labels, boxes) = normal(12, 2, 6, 6), (RNG(0).integers(0, 3, 12), normal(12, 4, seed=3))
    losses = {"classes": nn.CrossEntropyLoss(), "box": nn.SmoothL1Loss()}
    weights = {"classes": 1.0, "box": 0.5}
    criterion = nn.MultiTaskLoss(losses, weights) if named else \
        nn.MultiTaskLoss(list(losses.values()), list(weights.values()))
    trainer = fc.Trainer(Detector(named), criterion, optim.Adam(lr=0.01), metrics=())
    own = Detector(named)
    engine, rule = fc.compile(own, x.shape, training=True), optim.Adam(own.parameters(), lr=0.01)
    history = []
    for _ in range(30):
        rule.zero_grad()
        outputs = engine(x)
        parts = [outputs["classes"], outputs["box"]] if named else outputs
        loss = criterion(outputs, labels, boxes)
        apart = losses["classes"](parts[0], labels) + 0.5 * losses["box"](parts[1], boxes)
        assert loss == pytest.approx(apart, rel=1e-5)
        loss.backward()
        rule.step()
        history.append(trainer.step(x, labels, boxes))
        assert history[-1] == pytest.approx(float(loss), rel=1e-3)
    assert history[-1] < 0.6 * history[0]


@pytest.mark.parametrize("call, error, message", [
    (lambda: nn.MultiTaskLoss(3), TypeError, "losses is a int"), (lambda: nn.MultiTaskLoss([]), ValueError, "at least one"),
    (lambda: nn.MultiTaskLoss([3]), TypeError, r"losses\[0\] is a int"),
    (lambda: nn.MultiTaskLoss([nn.MSELoss()], [1.0, 2.0]), ValueError, "expected 1, one for each"),
    (lambda: nn.MultiTaskLoss([nn.MSELoss()], {"a": 1.0}), TypeError, "weights is a dict: expected a list"),
    (lambda: nn.MultiTaskLoss([nn.MSELoss()], ["x"]), TypeError, r"weights\[0\]='x'"),
    (lambda: nn.MultiTaskLoss([nn.MSELoss()])((normal(2, 3), normal(2, 3)), normal(2, 3)), ValueError, "returns 2 outputs"),
    (lambda: nn.MultiTaskLoss([nn.MSELoss()])((normal(2, 3),), normal(2, 3), normal(2, 3)), ValueError, "2 targets given"),
])
def test_multi_task_refuses(call, error, message):
    with pytest.raises(error, match=f"MultiTaskLoss: .*{message}"):
        call()


class Own(nn.Module):
    """A loss of one's own, written with functions."""

    def forward(self, prediction, target):
        p = F.log_softmax(prediction)
        return -(p * target).sum(1).mean() + 0.01 * F.square(prediction).mean()


def test_a_loss_of_ones_own_trains():
    x, labels = data(24)
    target = np.eye(4, dtype=np.float32)[labels]
    trainer = fc.Trainer(small_net(), Own(), optim.Adam(lr=0.01), metrics=())
    losses = [trainer.step(x, target) for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    as_function = fc.Trainer(small_net(), lambda prediction, target: Own()(prediction, target), optim.Adam(lr=0.01),
                             metrics=())
    np.testing.assert_allclose([as_function.step(x, target) for _ in range(3)], losses[:3], rtol=1e-6)


@pytest.mark.parametrize("name", ["BCEWithLogitsLoss", "SmoothL1Loss", "FocalLoss", "HuberLoss", "L1Loss"])
def test_the_trainer_takes_losses_at_any_batch(name):
    """A smaller last batch, planned for the larger one, has the loss and the bits of an engine of its own."""
    x, target = data(10)[0], shares(10, 4)
    results = []
    for sizes in ((10, 3), (3,)):
        trainer = make(small_net(), optim.SGD(lr=0.0), metrics=())
        trainer.loss = getattr(nn, name)()
        results.append([trainer.step(x[:n], target[:n]) for n in sizes][-1])
    assert results[0] == pytest.approx(results[1], rel=1e-6)


def test_binary_cross_entropy_at_its_ends():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its loss is the reference")
    x, t = np.float32([0, 1, 0, 1, 0.5]), np.float32([0, 1, 1, 0, 0.25])
    leaf = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.binary_cross_entropy(leaf, torch.tensor(t))
    expected.backward()
    value, g = fc.value_and_grad(nn.BCELoss())(x, t)
    assert value == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(g, leaf.grad.numpy(), rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.int16])
def test_labels_of_any_integers(dtype):
    x, labels = normal(6, 5), RNG(0).integers(0, 5, 6)
    assert F.cross_entropy(x, labels.astype(dtype)) == F.cross_entropy(x, labels)
    assert nn.CrossEntropyLoss()(x, labels.astype(dtype)) == pytest.approx(float(F.cross_entropy(x, labels)), rel=1e-6)


def test_arguments_in_pytorchs_order():
    x, labels, weight = normal(6, 5), RNG(0).integers(0, 5, 6), shares(5)
    assert F.cross_entropy(x, labels, weight, None, 2, None, "sum", 0.1) == \
        F.cross_entropy(x, labels, weight, ignore_index=2, reduction="sum", label_smoothing=0.1)
    assert F.mse_loss(x, x + 1, None, None, "sum") == F.mse_loss(x, x + 1, reduction="sum") == x.size
    assert F.mse_loss(x, x + 1, size_average=False) == x.size and F.mse_loss(x, x, reduce=False).shape == x.shape


def test_ctc_as_pytorch_takes_it():
    """Targets behind one another, one sequence, lengths as tuples; a sequence that fits no alignment."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: its loss is the reference")
    logs = normal(8, 3, 5)
    logs -= np.log(np.exp(logs).sum(-1, keepdims=True))
    rows = np.array([[1, 2, 2, 4], [3, 3, 1, 1], [4, 1, 2, 3]])
    lengths, sizes = (8, 7, 5), (4, 2, 3)
    flat = np.concatenate([r[:n] for r, n in zip(rows, sizes, strict=True)])
    ctc = torch.nn.functional.ctc_loss
    for targets in (rows, flat):
        for reduction in ("none", "mean", "sum"):
            expected = ctc(torch.tensor(logs), torch.tensor(targets), lengths, sizes, reduction=reduction).numpy()
            np.testing.assert_allclose(F.ctc_loss(logs, targets, lengths, sizes, reduction=reduction), expected, rtol=1e-5)
    expected = ctc(torch.tensor(logs[:, 0]), torch.tensor(rows[0]), torch.tensor(8), torch.tensor(4)).item()
    assert float(F.ctc_loss(logs[:, 0], rows[0], 8, 4)) == pytest.approx(expected, rel=1e-5)
    assert float(nn.CTCLoss()(logs, rows, np.array(lengths), np.array(sizes))) == pytest.approx(
        ctc(torch.tensor(logs), torch.tensor(rows), lengths, sizes).item(), rel=1e-5)
    assert F.ctc_loss(logs[:2, :1], rows[:1], (2,), (4,)) == np.inf
    assert F.ctc_loss(logs[:2, :1], rows[:1], (2,), (4,), zero_infinity=True) == 0
    for call, message in ((lambda: F.ctc_loss(logs, rows, (9, 7, 5), sizes), "input_lengths has 9"),
                          (lambda: F.ctc_loss(logs, rows, lengths, (5, 2, 3)), "target_lengths has 5"),
                          (lambda: F.ctc_loss(logs, flat, lengths, (4, 2, 2)), "target_lengths adds up to 8")):
        with pytest.raises(ValueError, match=f"ctc_loss: {message}"):
            call()
