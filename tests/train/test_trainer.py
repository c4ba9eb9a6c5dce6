"""The training loop against a float64 loop built from the definitions, and what surrounds it."""

import numpy as np
import pytest
import reference as ref
from trainers import CLASSES, RNG, RULES, data, make, small_net, weights

import fastconv as fc
from fastconv import functional as F
from fastconv import nn


class Float64:
    """The same network and loop in float64, from the definitions."""

    def __init__(self, net, rule, clip_norm=None, clip_value=None):
        self.p = {name: value.astype(np.float64) for name, value in net.state_dict().items()}
        self.rule, self.clip_norm, self.clip_value = rule, clip_norm, clip_value
        self.state, self.count = {}, 0

    def gradients(self, x, y):
        p = self.p
        a = ref.conv(x, p["0.weight"], p["0.bias"], padding=1)
        b = ref.relu(a)
        pooled = ref.max_pool(b, 2)
        c, indices = pooled.values, pooled.indices
        f = c.reshape(len(x), -1)
        z = ref.linear(f, p["4.weight"], p["4.bias"])
        gz = ref.cross_entropy_backward(1.0, z, y)
        gf, gw, gb = ref.linear_backward(gz, f, p["4.weight"])
        ga = ref.relu_backward(ref.max_pool_backward(gf.reshape(c.shape), indices, b.shape), a)
        g = {"0.weight": ref.conv_backward_weight(x, p["0.weight"].shape, ga, padding=1), "0.bias": ga.sum((0, 2, 3)),
             "4.weight": gw, "4.bias": gb}
        return float(ref.cross_entropy(z, y)), g

    def step(self, *batches):
        """One update with the average of the gradients of the batches; returns their losses."""
        results = [self.gradients(x.astype(np.float64), y) for x, y in batches]
        g = {name: sum(r[1][name] for r in results) / len(results) for name in self.p}
        if self.clip_value is not None:
            g = {name: np.clip(v, -self.clip_value, self.clip_value) for name, v in g.items()}
        if self.clip_norm is not None:
            norm = np.sqrt(sum((v**2).sum() for v in g.values()))
            g = {name: v * min(1.0, self.clip_norm / (norm + 1e-6)) for name, v in g.items()}
        self.count += 1
        h = self.rule
        for name in self.p:
            if h.name == "sgd":
                self.p[name], self.state[name] = ref.sgd_step(
                    self.p[name], g[name], self.state.get(name), h.lr, h.momentum, h.dampening, h.weight_decay, h.nesterov)
            else:
                step = {"adam": ref.adam_step, "adamw": ref.adamw_step}[h.name]
                m, v = self.state.get(name, (np.zeros_like(g[name]),) * 2)
                self.p[name], *self.state[name] = step(self.p[name], g[name], m, v, self.count, h.lr, h.betas, h.eps,
                                                       h.weight_decay)
        return [loss for loss, _ in results]


def agree(trainer, truth, losses, true_losses):
    assert losses == pytest.approx(true_losses, rel=2e-5)
    for name, value in weights(trainer).items():
        assert ref.rel_l2(value, truth.p[name]) < 2e-5, name


@pytest.mark.parametrize("rule", RULES)
def test_losses_and_parameters_are_those_of_the_definitions(rule):
    x, y = data()
    trainer = make(optimizer=RULES[rule]())
    truth = Float64(trainer.module, RULES[rule]())
    batches = [(x[i: i + 8], y[i: i + 8]) for i in (0, 8, 16, 0, 8, 16)]
    agree(trainer, truth, [trainer.step(*b) for b in batches], [truth.step(b)[0] for b in batches])
    assert trainer.steps == 6


@pytest.mark.parametrize("clip", [{"clip_norm": 0.3}, {"clip_value": 0.02}])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_clipping(clip, accumulate):
    x, y = data()
    rule = fc.optim.SGD(0.1, 0.9)
    trainer = make(optimizer=rule, accumulate=accumulate, **{f"clip_grad_{k[5:]}": v for k, v in clip.items()})
    truth, free = Float64(trainer.module, rule, **clip), Float64(trainer.module, rule)
    batches = [(x[i: i + 6], y[i: i + 6]) for i in (0, 6, 12, 18)]
    losses = [trainer.step(*b) for b in batches]
    groups = [batches[i: i + accumulate] for i in range(0, 4, accumulate)]
    agree(trainer, truth, losses, [loss for group in groups for loss in truth.step(*group)])
    for group in groups:
        free.step(*group)
    assert ref.rel_l2(free.p["4.weight"], truth.p["4.weight"]) > 1e-3  # the clipping did something


def test_accumulation_is_a_larger_batch():
    x, y = data()
    halves, whole = make(accumulate=2), make()
    for i in (0, 8, 16):
        first = halves.step(x[i: i + 4], y[i: i + 4])
        before = weights(halves)
        second = halves.step(x[i + 4: i + 8], y[i + 4: i + 8])
        assert (first + second) / 2 == pytest.approx(whole.step(x[i: i + 8], y[i: i + 8]), rel=1e-5)
        assert any((before[name] != value).any() for name, value in weights(halves).items())
    for name, value in weights(whole).items():
        assert ref.rel_l2(weights(halves)[name], value) < 1e-5
    assert halves.steps == whole.steps == 3


def test_a_smaller_last_batch():
    x, y = data(11)
    trainer, rule = make(), fc.optim.SGD(0.1, 0.9)
    truth = Float64(trainer.module, rule)
    log = trainer.fit(fc.data.DataLoader(fc.data.ArrayDataset(x, y), 8), 2)
    losses = [truth.step((x[i: i + 8], y[i: i + 8]))[0] for i in (0, 8, 0, 8)]
    agree(trainer, truth, log.column("loss"), [(losses[i] * 8 + losses[i + 1] * 3) / 11 for i in (0, 2)])


def test_a_few_samples_are_learnt_by_heart():
    x, y = data(16)
    trainer = make(small_net(batch_norm=True), fc.optim.Adam(1e-2))
    log = trainer.fit((x, y), 40, batch_size=8)
    assert log[-1]["loss"] < 0.05 < log[0]["loss"] and log[-1]["accuracy"] == 1.0
    assert trainer.evaluate((x, y))["accuracy"] == 1.0
    assert (trainer.predict(x).argmax(1) == y).all()


def test_the_number_of_threads_changes_no_bit():
    x, y = data(40)
    results = []
    for threads in (1, 2):
        trainer = make(small_net(batch_norm=True), threads=threads, clip_grad_norm=1.0)
        rows = trainer.fit((x, y), 2, validation=(x, y), batch_size=16).rows
        results.append((trainer.module.state_dict(), [{**row, "seconds": 0} for row in rows]))
    (one, log_one), (two, log_two) = results
    assert log_one == log_two
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)


def test_rows_of_the_log():
    x, y = data()
    trainer = make(metrics=("accuracy", "top2", lambda p, t: float(len(p))))
    log = trainer.fit((x, y), 2, validation=fc.data.ArrayDataset(x[:10], y[:10]), batch_size=8)
    assert log is trainer.log and log.column("epoch") == [1, 2]
    assert log.columns() == ["epoch", "loss", "accuracy", "top2", "<lambda>", "val_loss", "val_accuracy", "val_top2",
                             "val_<lambda>", "lr", "seconds"]
    assert log[1]["<lambda>"] == 8 and log[1]["val_<lambda>"] == 6.8 and log[1]["lr"] == 0.1
    assert {f"val_{name}": value for name, value in trainer.evaluate((x[:10], y[:10]), 8).items()}.items() <= log[1].items()
    trainer.fit((x, y), 1, batch_size=8)
    assert log.column("epoch") == [1, 2, 3]


def test_evaluation_is_that_of_the_definitions():
    x, y = data(20)
    net = small_net()
    trainer = make(net, metrics=("accuracy",))
    loss, _ = Float64(net, None).gradients(x, y)
    result = trainer.evaluate((x, y), batch_size=7)  # 7, 7, 6
    logits = trainer.predict(x, batch_size=7)
    assert result["loss"] == pytest.approx(loss, rel=1e-5)
    assert result["accuracy"] == pytest.approx((logits.argmax(1) == y).mean())
    np.testing.assert_array_equal(logits, trainer.predict(x))
    assert trainer.predict(x[:0]).shape == (0, CLASSES)


def test_evaluation_leaves_running_statistics_alone():
    x, y = data()
    trainer = make(small_net(batch_norm=True))
    trainer.step(x, y)
    before = trainer.module.state_dict()
    trainer.evaluate((x, y))
    trainer.predict(x)
    for name, value in trainer.module.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_predictions_follow_the_training():
    x, y = data()
    trainer = make()
    before = trainer.predict(x)
    trainer.step(x, y)
    after = trainer.predict(x)
    assert (before != after).any()
    np.testing.assert_array_equal(after, fc.compile(trainer.module, x.shape)(x))


def test_classes_that_are_ignored_do_not_count_for_accuracy():
    x, y = data(6)
    y[[1, 4]] = -100
    trainer = make()
    logits = trainer.predict(x)
    counted = y != -100
    assert trainer.evaluate((x, y))["accuracy"] == (logits.argmax(1) == y)[counted].mean()
    assert np.isfinite(trainer.step(x, y))


def test_regression_has_no_accuracy():
    x, _ = data()
    target = RNG(3).standard_normal((24, CLASSES)).astype(np.float32)
    trainer = fc.Trainer(small_net(), nn.MSELoss(), fc.optim.SGD(0.01))
    row = trainer.fit((x, target), 1, batch_size=8)[0]
    assert "accuracy" not in row
    error = float(((trainer.predict(x) - target) ** 2).mean())
    assert trainer.evaluate((x, target))["loss"] == pytest.approx(error, rel=1e-5)


# ---- schedules ------------------------------------------------------------------------------------------------------


def test_schedules_by_epoch_and_by_step():
    x, y = data()
    rule = fc.optim.SGD(0.1)
    trainer = make(optimizer=rule, schedule=fc.optim.StepLR(rule, 1, 0.5))
    assert trainer.fit((x, y), 3, batch_size=8).column("lr") == pytest.approx([0.1, 0.05, 0.025])
    rule = fc.optim.SGD(0.1)
    seen = []
    trainer = make(optimizer=rule, schedule=fc.optim.LambdaLR(rule, lambda n: seen.append(n) or 0.5**n, interval="step"),
                   accumulate=2)
    assert trainer.fit((x, y), 2, batch_size=4).column("lr") == pytest.approx([0.1 * 0.5**2, 0.1 * 0.5**5])
    assert max(seen) == trainer.steps == 6  # after each update, not after each batch


def test_plateau_listens_to_the_validation():
    x, y = data()
    rule = fc.optim.SGD(1e-6)
    schedule = fc.optim.ReduceLROnPlateau(rule, mode="max", patience=0, factor=0.1)
    trainer = make(optimizer=rule, schedule=schedule)
    trainer.fit((x, y), 3, validation=(x, y), batch_size=8)
    assert schedule.best == trainer.log[0]["val_accuracy"] and rule.lr == pytest.approx(1e-8)


def test_a_schedule_that_is_too_short_is_refused_before_the_training():
    x, y = data()
    rule = fc.optim.SGD(0.1, 0.9)
    trainer = make(optimizer=rule, schedule=fc.optim.OneCycleLR(rule, 0.1, total_steps=5))
    before = weights(trainer)
    with pytest.raises(ValueError, match="6 updates after 0 are more than the schedule's total_steps=5"):
        trainer.fit((x, y), 2, batch_size=8)
    assert all((before[name] == value).all() for name, value in weights(trainer).items())


class TwoHeads(nn.Module):
    """Two inputs; a head of two probabilities, and one of three classes."""

    def __init__(self):
        super().__init__()
        self.body, self.mask, self.classes = nn.Linear(9, 8), nn.Linear(8, 2), nn.Linear(8, 3)

    def forward(self, x, more):
        z = F.relu(self.body(F.cat([x, more], 1)))
        return self.mask(z), self.classes(z)


def test_two_heads_with_targets_of_their_own():
    """Also where the last batch is smaller and the network is right for one batch alone; the accuracy is that of the head
    whose targets are classes, though they might be taken for the first head's."""
    rng = np.random.default_rng(0)
    x, more = rng.standard_normal((40, 6)).astype(np.float32), rng.standard_normal((40, 3)).astype(np.float32)
    mask, classes = rng.random((40, 2)).astype(np.float32), rng.integers(0, 3, 40)

    def loss(predicted, mask, classes):
        return F.binary_cross_entropy_with_logits(predicted[0], mask) + F.cross_entropy(predicted[1], classes)

    trainer = fc.Trainer(TwoHeads(), loss, fc.optim.SGD(0.1))
    for size in (8, 32, 7):
        row = list(trainer.fit((x, more, mask, classes), 1, batch_size=size, validation=(x, more, mask, classes)))[-1]
        right = np.mean(trainer.predict(x, more)[1].argmax(1) == classes)
        assert row["val_accuracy"] == pytest.approx(right)
    classes[:] = classes % 2  # fit for both
    row = trainer.evaluate((x, more, mask, classes))
    assert row["accuracy"] == pytest.approx(np.mean(trainer.predict(x, more)[1].argmax(1) == classes))
