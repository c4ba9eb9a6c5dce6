"""The training tape: several outputs and losses, targets that nobody reads, what a refused step leaves behind."""

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn
from fastconv.engine.training import LossTape


class TwoHeads(nn.Module):
    def __init__(self, classes=(3, 3)):
        super().__init__()
        self.a, self.b = nn.Linear(5, classes[0]), nn.Linear(5, classes[1])

    def forward(self, x):
        return self.a(x), self.b(x)


class TwoLosses(nn.Module):
    def forward(self, prediction, target):
        loss = nn.CrossEntropyLoss()
        return loss(prediction[0], target) + loss(prediction[1], target) * 0.3


def batch(n=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 5), dtype=np.float32), np.arange(n) % 3


def test_a_sum_of_losses_over_several_outputs():
    net, (x, t) = TwoHeads(), batch()
    before = net.state_dict()
    trainer = fc.Trainer(net, TwoLosses(), fc.optim.SGD(lr=0.5))
    loss = trainer.step(x, t)
    for name, factor in (("a", 1.0), ("b", 0.3)):
        logits = x @ before[f"{name}.weight"].T + before[f"{name}.bias"]
        loss -= factor * F.cross_entropy(logits, t)
        gradient = factor * F.cross_entropy_backward(np.float32(1.0), logits, t)
        np.testing.assert_allclose(net.state_dict()[f"{name}.weight"], before[f"{name}.weight"] - 0.5 * gradient.T @ x,
                                   rtol=0, atol=1e-6)
    assert abs(loss) < 1e-6
    first, second = trainer._tape.predictions()
    assert first.shape == second.shape == (6, 3)
    log = trainer.fit((x, t), epochs=1, batch_size=4, verbose=False)  # accuracy is the first output's
    assert 0 <= log[0]["accuracy"] <= 1


def test_targets_are_checked_against_every_loss():
    net, (x, t) = TwoHeads((2, 9)), batch()
    before = net.state_dict()
    with pytest.raises(ValueError, match=r"target\[2\]=2 .* class index in 0\.\.1"):
        fc.Trainer(net, TwoLosses(), fc.optim.SGD(lr=0.5)).step(x, t)
    assert all(np.array_equal(net.state_dict()[name], before[name]) for name in before)


def test_a_loss_must_be_one_tensor():
    with pytest.raises(TypeError, match="the loss returned a tuple: expected one symbolic scalar"):
        fc.Trainer(TwoHeads(), lambda prediction, target: prediction, fc.optim.SGD(lr=0.5)).step(*batch())


def test_a_target_that_the_loss_does_not_read_overwrites_nothing():
    net, (x, t) = nn.Linear(5, 3), batch()
    tape = LossTape(net.symbolic(False), lambda prediction, target: nn.MSELoss()(prediction, prediction * 0.5))
    expected = fc.compile(net, x.shape)(x)
    for target in (t, t + 7):
        tape.run(x, target)
        np.testing.assert_array_equal(tape.predictions(), expected)


def test_a_rule_that_refuses_a_step_refuses_it_before_anything_has_changed():
    class Refusing(fc.optim.SGD):
        def hyper(self, step):
            if step == 2:
                raise RuntimeError("no second step")
            return super().hyper(step)

    net, (x, t) = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3)), batch()
    trainer = fc.Trainer(net, nn.CrossEntropyLoss(), Refusing(lr=0.1))
    trainer.step(x, t)
    before = net.state_dict()
    with pytest.raises(RuntimeError, match="no second step"):
        trainer.step(x, t)
    assert trainer.steps == 1
    assert all(np.array_equal(net.state_dict()[name], before[name]) for name in before)


def test_gradients_of_an_output_that_is_returned_twice_add_up():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(5, 3)

        def forward(self, x):
            y = self.fc(x)
            return y, y

    net, (x, _) = Twice(), batch()
    engine = fc.compile(net, x.shape, training=True)
    g = np.arange(18, dtype=np.float32).reshape(engine(x)[0].shape)
    engine.backward(g, 2 * g)
    np.testing.assert_allclose(net.fc.weight.grad, 3 * g.T @ x, rtol=1e-5, atol=1e-4)
