"""The training loop: what goes wrong, and what is refused."""

import numpy as np
import pytest
from trainers import data, make, same, small_net, weights

import fastconv as fc
from fastconv import nn

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
