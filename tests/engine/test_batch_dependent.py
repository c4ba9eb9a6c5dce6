"""A forward that reads the batch in Python: what it computed for one batch is never replayed for another."""

import copy
import pickle

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn
from fastconv.engine.gradcheck import gradcheck
from fastconv.measure import subject
from fastconv.report.summary import summary

READS = {
    "shape[0]": lambda x: x.shape[0],
    "negative index": lambda x: x.shape[-2],
    "slice": lambda x: x.shape[:1][0],
    "size(0)": lambda x: x.size(0),
    "len": len,
    "unpacked": lambda x: (lambda n, c: n)(*x.size()),
    "iterated": lambda x: next(iter(x.shape)),
    "of a tensor made later": lambda x: F.relu(x).shape[0],
    "of a slice of channels": lambda x: F.cat([x, x], 1).size(0),
    "counted": lambda x: sum(1 for _ in range(x.shape[0])),
    "reversed operand": lambda x: 12 // (12 / x.shape[0]),
    "compared": lambda x: 4 if x.shape[0] == 4 else 2 if x.shape[0] < 4 and x.shape[0] > 1 else 1,
    "shapes compared": lambda x: next(n for n in (1, 2, 4) if x.shape == (n, 6)),
    "key of a dict": lambda x: {1: 1, 2: 2, 4: 4}[x.shape[0]],
    "index": lambda x: (0, 1, 2, 3, 4)[x.shape[0]],
    "formatted": lambda x: int(f"{x.shape[0]}"),
    "shape formatted": lambda x: int(str(x.shape)[1:].split(",")[0]),
    "tensor formatted": lambda x: int(repr(x).split("shape=(")[1].split(",")[0]),
    "product of the shape": lambda x: np.prod(x.shape) / 6,
    "array": lambda x: float(np.array(x.shape)[0]),
    "NumPy's scalar": lambda x: float(np.float64(1) * x.shape[0]),
    "zeros": lambda x: np.zeros(x.shape[0]).size,
    "method of int": lambda x: 2 ** (x.shape[0].bit_length() - 1),
    "divmod": lambda x: divmod(x.shape[0], 5)[1],
    "copied": lambda x: copy.deepcopy(x.shape)[0] + 0,
    "pickled": lambda x: pickle.loads(pickle.dumps(x.shape[0])),
    "rounded": lambda x: round(x.shape[0]),
}


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((4, 6), dtype=np.float32)


def plans(engine):
    return len(engine._plans)


@pytest.mark.parametrize("name", READS)
def test_each_way_to_read_it(name, x):
    read = READS[name]
    engine = fc.compile(lambda t: t * (1.0 / read(t)), x.shape)
    for n in (4, 2, 1, 4, 2):
        np.testing.assert_array_equal(engine(x[:n]), x[:n] / n)
        np.testing.assert_array_equal(engine(x[:n], out=np.empty((n, 6), np.float32)), x[:n] / n)
    assert plans(engine) == 3


@pytest.mark.parametrize("use", [
    lambda t: t * t.shape[0], lambda t: t.shape[0] * t, lambda t: t + t.size(0), lambda t: t.size(0) - t,
    lambda t: F.leaky_relu(t, t.shape[0]), lambda t: F.pad(t, (0, t.shape[0])),
    lambda t: F.flatten(t, t.shape[0] // t.shape[0])])
def test_given_to_an_operator_it_is_read(use, x):
    engine = fc.compile(use, x.shape)
    for n in (4, 2):
        np.testing.assert_array_equal(engine(x[:n]), fc.compile(use, (n, 6))(x[:n]))
    assert plans(engine) == 2


@pytest.mark.parametrize("forward", [
    lambda t: (lambda n, c: t * (1.0 / c))(*t.shape),
    lambda t: t * float(t.ndim),
    lambda t: t * (1.0 if t.shape == F.relu(t).shape and t.shape[0] == F.relu(t).size(0) else 0.0),
    lambda t: t * float(t.shape[1:][0]),
    lambda t: t * (1.0 if isinstance(t.shape[0], int) else 0.0),
    lambda t: nn.Linear(6, 6)(F.flatten(t, 1)),
])
def test_taking_a_shape_apart_reads_nothing(forward, x):
    engine = fc.compile(forward, x.shape)
    for n in (4, 2, 1, 0):
        engine(x[:n])
    assert plans(engine) == 1


class Mean(nn.Module):
    """A convolutional network whose result is divided by the batch and that doubles single images."""

    def __init__(self):
        super().__init__()
        fc.manual_seed(3)
        self.conv, self.norm, self.relu, self.last = nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Linear(8 * 16, 3)

    def plain(self, x):
        return self.last(self.relu(self.norm(self.conv(x))).flatten(1))

    def forward(self, x):
        n, c, _, _ = x.shape
        return self.plain(x) * (1.0 / n if n > 1 else 2.0)


class Plain(Mean):
    def forward(self, x):
        return self.plain(x)


def factor(n):
    return np.float32(1.0 / n if n > 1 else 2.0)


def images(n):
    return np.random.default_rng(n).standard_normal((n, 2, 6, 6), dtype=np.float32)


def test_engines_clones_snapshots_and_pickles():
    net, like = Mean(), fc.compile(Plain(), (8, 2, 6, 6))
    engine = fc.compile(net, (4, 2, 6, 6))
    copies = {"clone": engine.clone(), "copy": copy.copy(engine), "freeze": engine.freeze(), "itself": engine,
              "pickle": pickle.loads(pickle.dumps(engine)), "pickled snapshot": pickle.loads(pickle.dumps(engine.freeze()))}
    copies["clone of a clone"] = copies["clone"].clone()
    for name, other in copies.items():
        for n in (2, 4, 1, 6, 2):
            np.testing.assert_allclose(other(images(n)), like(images(n)) * factor(n), rtol=1e-6, atol=1e-7, err_msg=name)
        assert (other.batch, other.output_shapes) == (2, [(2, 3)])
    copies["after other batches"] = engine.clone()
    np.testing.assert_array_equal(copies["after other batches"](images(6)), engine(images(6)))


def test_plans_for_one_batch_count_in_the_cache(x):
    engine = fc.compile(lambda t: t * (1.0 / t.shape[0]), x.shape, cache_size=2)
    for n in (4, 3, 2, 1):
        np.testing.assert_array_equal(engine(x[:n]), x[:n] * np.float32(1.0 / n))
    assert plans(engine) == 2


def test_an_empty_batch_is_seen_as_such(x):
    engine = fc.compile(lambda t: t * (1.0 if t.shape[0] == 0 else 0.5), x.shape)
    assert engine(x[:0]).shape == (0, 6)
    np.testing.assert_array_equal(engine(x[:1]), x[:1] / 2)
    with pytest.raises(ZeroDivisionError):
        fc.compile(lambda t: t * (1.0 / t.shape[0]), x.shape)(x[:0])
    np.testing.assert_array_equal(fc.compile(lambda t: t * float(1 + t.shape[0]), (0, 6))(x[:1]), 2 * x[:1])


def test_several_inputs(x):
    engine = fc.compile(lambda a, b: (a * (1.0 / b.shape[0]), b), [x.shape, x.shape])
    for n in (4, 2):
        np.testing.assert_array_equal(engine(x[:n], x[:n])[0], x[:n] / n)


def test_only_the_graphs_that_read_it(x):
    """Small images are scaled by the batch, large ones are not: the latter keep one plan for all batches."""
    engine = fc.compile(lambda t: t * (1.0 / t.shape[0]) if t.shape[1] < 5 else t * 3.0, x.shape)
    for n in (4, 2, 1):
        np.testing.assert_array_equal(engine(x[:n]), 3 * x[:n])
        np.testing.assert_array_equal(engine(x[:n, :4]), x[:n, :4] / n)
    assert plans(engine) == 4


def test_gradients():
    net, like = Mean(), Plain()
    for module in (net, like):
        module.norm.eval()
    engine, other = (fc.compile(m, (4, 2, 6, 6), training=True) for m in (net, like))
    for n in (4, 2, 1):
        g = np.random.default_rng(n).standard_normal((n, 3), dtype=np.float32)
        np.testing.assert_allclose(engine(images(n)), other(images(n)) * factor(n), rtol=1e-6, atol=1e-7)
        engine.backward(g)
        other.backward(g * factor(n))
        for (name, p), (_, q) in zip(net.named_parameters(), like.named_parameters(), strict=True):
            np.testing.assert_allclose(p.grad, q.grad, rtol=2e-5, atol=1e-6, err_msg=name)
    assert gradcheck(net, [images(2)]) and gradcheck(engine, [images(2)])


def mean_of_sums(prediction, target):
    """A loss of the user's own."""
    return F.mse_loss(prediction, target, reduction="sum") * (1.0 / prediction.size(0))


def test_a_loss_and_a_network_in_a_trainer():
    """Steps, evaluation and predictions of batches of several sizes, beside the same by operators that know the batch."""
    class Ordinary(Plain):
        def forward(self, x):
            return self.plain(x) * 0.5

    class Reader(Plain):
        def forward(self, x):
            return self.plain(x) * (x.shape[0] / (2.0 * len(x)))

    def three_means(prediction, target):
        return F.mse_loss(prediction, target) * 3.0

    one = fc.Trainer(Reader(), mean_of_sums, fc.optim.SGD(lr=0.01, momentum=0.9), metrics=())
    two = fc.Trainer(Ordinary(), three_means, fc.optim.SGD(lr=0.01, momentum=0.9), metrics=())
    for n in (4, 2, 4, 5, 1, 2):
        target = np.random.default_rng(n).standard_normal((n, 3), dtype=np.float32)
        np.testing.assert_allclose(one.step(images(n), target), two.step(images(n), target), rtol=1e-5)
    x, target = images(7), np.random.default_rng(7).standard_normal((7, 3), dtype=np.float32)
    losses = [trainer.evaluate((x, target), batch_size=4)["loss"] for trainer in (one, two)]
    assert losses[0] == pytest.approx(losses[1], 1e-5)
    np.testing.assert_allclose(one.predict(x, batch_size=3), two.predict(x, batch_size=3), rtol=1e-5, atol=1e-6)


def test_predict_in_parts():
    trainer = fc.Trainer(Mean(), nn.MSELoss(), fc.optim.SGD(lr=0.1), metrics=())
    like = fc.compile(Plain(), (8, 2, 6, 6))
    x = images(7)
    expected = np.concatenate([like(part) * factor(len(part)) for part in (x[:3], x[3:6], x[6:])])
    np.testing.assert_allclose(trainer.predict(x, batch_size=3), expected, rtol=1e-6, atol=1e-7)


def test_what_is_traced_for_other_ends(tmp_path):
    assert summary(Mean(), (4, 2, 6, 6)).output_shapes == [(4, 3)]
    with pytest.raises(subject.Unsupported, match="its forward reads the batch"):
        subject.write(tmp_path, Mean(), (2, 6, 6))
