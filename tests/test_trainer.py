"""The training loop against a float64 loop built from the definitions, and what surrounds it."""

import numpy as np
import pytest
import reference as ref

import fastconv as fc
from fastconv import nn

CLASSES = 4
RNG = np.random.default_rng


def small_net(seed=0, batch_norm=False):
    fc.manual_seed(seed)
    layers = [nn.Conv2d(2, 5, 3, padding=1), *([nn.BatchNorm2d(5)] if batch_norm else []), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(45, CLASSES))


def data(n=24, seed=1):
    rng = RNG(seed)
    return rng.standard_normal((n, 2, 6, 6)).astype(np.float32), rng.integers(0, CLASSES, n)


def make(net=None, optimizer=None, **options):
    return fc.Trainer(small_net() if net is None else net, nn.CrossEntropyLoss(), optimizer or fc.optim.SGD(0.1, 0.9),
                      **options)


def weights(trainer):
    return {name: parameter.numpy() for name, parameter in trainer.module.named_parameters()}


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


def same(state, other):
    for name, value in state["model"].items():
        np.testing.assert_array_equal(value, other["model"][name], err_msg=name)
    for name, buffers in state["optimizer"]["state"].items():
        for key, value in buffers.items():
            np.testing.assert_array_equal(value, other["optimizer"]["state"][name][key], err_msg=f"{name} {key}")


RULES = {
    "sgd": lambda: fc.optim.SGD(0.1),
    "momentum": lambda: fc.optim.SGD(0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda: fc.optim.SGD(0.05, momentum=0.8, nesterov=True),
    "adam": lambda: fc.optim.Adam(1e-2, weight_decay=1e-2),
    "adamw": lambda: fc.optim.AdamW(1e-2),
}


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


# ---- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_loss_that_is_not_finite_changes_nothing(batch_norm):
    x, y = data()
    trainer = make(small_net(batch_norm=batch_norm))
    trainer.step(x, y)
    before, steps = trainer.state_dict(), trainer.steps
    bad = x.copy()
    bad[3, 1, 2, 2] = np.nan
    says = r"step 2: the loss is nan: input0 of the batch has 1 NaN \(learning rate 0.1\): the parameters are those"
    with pytest.raises(FloatingPointError, match=says):
        trainer.step(bad, y)
    assert trainer.steps == steps
    same(trainer.state_dict(), before)
    assert np.isfinite(trainer.step(x, y)) and np.isfinite(trainer.predict(x)).all()


def test_a_training_that_diverges_says_so():
    x, y = data()
    trainer = make(optimizer=fc.optim.SGD(1e30))
    with pytest.raises(FloatingPointError, match="the loss is"):
        trainer.fit((x, y), 5, batch_size=8)


@pytest.mark.parametrize("layer, value, says", [
    (0, np.inf, r"the parameter '0.weight', of shape \(.*\), of '0' \(conv\) has 1 infinite values"),
    (4, 3e38, r"the output of '4' \(linear\), of shape \(8, 4\), is the first with 32 infinite values"),
])
def test_the_first_layer_that_went_wrong_is_named(layer, value, says):
    x, y = data()
    trainer = make(small_net(batch_norm=False))
    with trainer.module[layer].weight.edit() as weight:
        weight[(0,) * weight.ndim if np.isinf(value) else ...] = value
    before = trainer.module.state_dict()
    with pytest.raises(FloatingPointError, match=says):
        trainer.step(abs(x[:8]) + 1, y[:8])
    after = trainer.module.state_dict()
    assert trainer.steps == 0 and all((before[name] == after[name]).all() for name in before)


def test_an_interrupted_training_can_be_used():
    x, y = data()
    trainer = make()

    def interrupt(trainer, row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.fit((x, y), 5, batch_size=8, callbacks=[interrupt])
    assert len(trainer.log) == trainer.epoch == 2
    np.testing.assert_array_equal(trainer.predict(x), fc.compile(trainer.module, x.shape)(x))
    trainer.fit((x, y), 1, batch_size=8)
    assert trainer.log.column("epoch") == [1, 2, 3]


def test_callbacks_can_stop():
    x, y = data()
    trainer = make()
    rows = []
    trainer.fit((x, y), 5, batch_size=8, callbacks=[lambda t, row: rows.append(row), lambda t, row: t.stop()])
    assert rows == trainer.log.rows and len(rows) == 1


def test_lines_on_request(capsys):
    x, y = data()
    trainer = make()
    trainer.fit((x, y), 1, batch_size=8)
    assert capsys.readouterr() == ("", "")
    trainer.fit((x, y), 1, batch_size=8, verbose=True)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("epoch 2/2  loss ") and err.count("\n") == 1


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"optimizer": 0.1}, TypeError, "optimizer is a float: expected an update rule"),
    ({"metrics": "precision"}, ValueError, "metrics has 'precision'"),
    ({"metrics": ["accuracy", "accuracy"]}, ValueError, "metrics has 'accuracy' twice"),
    ({"metrics": [3]}, TypeError, "metrics has a int"),
    ({"accumulate": 0}, ValueError, "accumulate=0"),
    ({"clip_grad_norm": -1.0}, ValueError, "clip_grad_norm=-1.0: expected a number above 0"),
    ({"clip_grad_value": "a"}, ValueError, "clip_grad_value='a': expected a number above 0"),
    ({"algorithm": "fastest"}, ValueError, "algorithm='fastest'"),
    ({"metrics": 3}, TypeError, "metrics is a int"),
    ({"seed": -1}, ValueError, "seed=-1"),
    ({"precision": "low"}, ValueError, "precision='low'"),
    ({"threads": 0}, ValueError, "threads=0"),
    ({"schedule": fc.optim.StepLR(fc.optim.SGD(0.1), 1)}, ValueError, "made for this trainer's optimizer"),
])
def test_arguments_of_the_constructor(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)


def test_a_trainer_needs_a_module_and_a_loss():
    with pytest.raises(TypeError, match="module is a function: expected an nn.Module"):
        fc.Trainer(make, nn.CrossEntropyLoss(), fc.optim.SGD(0.1))
    with pytest.raises(TypeError, match="loss is a str"):
        fc.Trainer(small_net(), "cross_entropy", fc.optim.SGD(0.1))


@pytest.mark.parametrize(("change", "error", "message"), [
    (lambda x, y: (x.astype(np.float64), y), TypeError, "input 0 has dtype float64: expected float32"),
    (lambda x, y: (x[:3], y), ValueError, "its batch differs"),
    (lambda x, y: (x, y + 3), ValueError, "is not a class index in 0..3"),
    (lambda x, y: (x[:, :1], y), ValueError, "'0'"),
    (lambda x, y: (x[:0], y[:0]), ValueError, "an empty batch"),
    (lambda x, y: (x,), TypeError, "1 arrays given"),
])
def test_a_bad_batch_changes_nothing(change, error, message):
    x, y = data()
    trainer = make()
    before = weights(trainer)
    for _ in range(2):  # unplanned, and against a plan
        with pytest.raises(error, match=message):
            trainer.step(*change(x, y))
        trainer.evaluate((x, y))
    assert trainer.steps == 0 and all((before[name] == value).all() for name, value in weights(trainer).items())


@pytest.mark.parametrize("wrong", ["class", "dtype", "shape"])
def test_bad_validation_data_are_refused_before_the_training(wrong):
    x, y = data()
    trainer = make()
    before = weights(trainer)
    bad_x, bad_y = x.copy(), y.copy()
    if wrong == "class":
        bad_y[-1] = 1000
    bad_x = bad_x.astype(np.float64) if wrong == "dtype" else bad_x[:, :, :1] if wrong == "shape" else bad_x
    with pytest.raises((TypeError, ValueError)):
        trainer.fit((x, y), 1, validation=(bad_x, bad_y))
    assert trainer.epoch == 0 and not trainer.log.rows
    for name, value in weights(trainer).items():
        np.testing.assert_array_equal(value, before[name])


def test_arguments_of_fit():
    x, y = data()
    trainer = make()
    loader = fc.data.DataLoader(fc.data.ArrayDataset(x, y), 8)
    for arguments, error, message in [
        (((x, y), 0), ValueError, "epochs=0"),
        ((3, 1), TypeError, "train is a int: expected a DataLoader"),
        (((x[:0], y[:0]), 1), ValueError, "train has no batch"),
        (((x, y), 1, (x[:0], y[:0])), ValueError, "validation has no batch"),
        (((x, y), 1, None, 0), ValueError, "batch_size=0"),
        ((fc.data.DataLoader(fc.data.ArrayDataset(x[:3], y[:3]), 8, drop_last=True), 1), ValueError, "train has no batch"),
        ((loader, 1, None, 8), ValueError, "batch_size=8 was given, but train is a DataLoader"),
        ((loader, 1, None, None, ["stop"]), TypeError, "callbacks has a str"),
    ]:
        with pytest.raises(error, match=message):
            trainer.fit(*arguments)
    with pytest.raises(ValueError, match="batch_size=0"):
        trainer.predict(x, batch_size=0)
    assert trainer.steps == 0
