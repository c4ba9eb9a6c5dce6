"""An image's result does not depend on the batch around it, nor on the batch that was planned: at the widths of real
networks, where algorithms that differ in their bits are close to each other."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn, zoo

CONVOLUTIONS = {  # channels, filters, image, kernel, and the arguments of conv
    "7x7 of ResNet": (512, 512, (7, 7), (3, 3), {"padding": 1}),
    "14x14 of ResNet": (256, 256, (14, 14), (3, 3), {"padding": 1}),
    "28x28 of ResNet": (128, 128, (28, 28), (3, 3), {"padding": 1}),
    "stride": (256, 512, (14, 14), (3, 3), {"padding": 1, "stride": 2}),
    "1x1": (1024, 256, (14, 14), (1, 1), {}),
    "1x1 stride": (512, 1024, (14, 14), (1, 1), {"stride": 2}),
    "4 KiB apart": (1024, 512, (7, 7), (1, 1), {}),
    "first layer": (3, 64, (64, 64), (7, 7), {"padding": 3, "stride": 2}),
    "few filters": (256, 5, (16, 16), (3, 3), {"padding": 1}),
    "5x5": (64, 96, (27, 27), (5, 5), {"padding": 2}),
    "large kernel": (64, 64, (24, 24), (13, 13), {"padding": 6}),
    "few channels, large kernel": (2, 2, (40, 40), (21, 21), {"padding": 10}),
    "depthwise": (240, 240, (28, 28), (5, 5), {"padding": 2, "groups": 240}),
    "depthwise stride": (96, 96, (28, 28), (3, 3), {"padding": 1, "stride": 2, "groups": 96}),
    "depthwise, large kernel": (64, 64, (28, 28), (15, 15), {"padding": 7, "groups": 64}),
    "narrow groups": (128, 128, (14, 14), (3, 3), {"padding": 1, "groups": 32}),
    "wide groups": (256, 256, (14, 14), (3, 3), {"padding": 1, "groups": 4}),
    "1-D": (128, 128, (200,), (3,), {"padding": 1}),
    "1-D, long": (32, 32, (600,), (65,), {"padding": 32}),
    "3-D": (64, 64, (6, 10, 10), (3, 3, 3), {"padding": 1}),
}


def images(n, *shape):
    return np.random.default_rng(1).standard_normal((n, *shape), dtype=np.float32)


@pytest.mark.parametrize("precision", ["highest", "high"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_functions(name, precision):
    """Forward and backward to data of 16 images at once, of five and of each alone."""
    c, k, size, kernel, keywords = CONVOLUTIONS[name]
    w = np.random.default_rng(2).standard_normal((k, c // keywords.get("groups", 1), *kernel), dtype=np.float32)
    conv, backward = (getattr(F, f"conv{len(size)}d{end}") for end in ("", "_backward_data"))
    x = images(16, c, *size)
    y = conv(x, w, precision=precision, **keywords)
    gx = backward(y, w, x.shape, precision=precision, **keywords)
    for part in (slice(0, 1), slice(7, 12), slice(14, 16)):
        np.testing.assert_array_equal(conv(x[part], w, precision=precision, **keywords), y[part])
        np.testing.assert_array_equal(backward(y[part], w, x[part].shape, precision=precision, **keywords), gx[part])


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "vgg11"])
def test_networks(name, monkeypatch):
    """Engines compiled for one image and for sixteen, and one that has seen a larger batch in between."""
    if name == "vgg11":  # its convolutions alone
        monkeypatch.setattr(nn.init, "uniform_", lambda tensor, *arguments: tensor)
    fc.manual_seed(0)
    net = zoo.create(name, num_classes=10)
    net = net.features if name == "vgg11" else net
    x = images(16, 3, 64, 64)
    one, many = fc.compile(net, (1, 3, 64, 64)), fc.compile(net, x.shape)
    y = many(x)
    assert len(np.unique(y[:, :1])) > 2
    np.testing.assert_array_equal(one(x[3:4]), y[3:4])
    np.testing.assert_array_equal(many(x[3:4]), y[3:4])
    np.testing.assert_array_equal(one(x), y)
    np.testing.assert_array_equal(one(x[3:4]), y[3:4])
    np.testing.assert_array_equal(one.freeze()(x[5:8]), y[5:8])
    np.testing.assert_array_equal(one.clone()(x[5:8]), y[5:8])


def test_the_choice_can_be_made_for_a_batch():
    """ResNet's last convolutions: others are chosen for many images, and kept by whatever is made of that engine."""
    net = nn.Conv2d(512, 512, 3, padding=1)
    x = images(16, 512, 7, 7)
    plain, large = fc.compile(net, x.shape), fc.compile(net, (1, 512, 7, 7), choose_for=64)

    def algorithm(engine):
        return next(step.algorithm for step in engine.steps() if step.multiply_adds)

    before = algorithm(large)
    y = large(x)
    assert algorithm(large) == before and algorithm(fc.compile(net, x.shape, choose_for=64)) == before
    assert algorithm(fc.compile(net, (5, 512, 7, 7))) == algorithm(plain)
    for other in (large, large.clone(), large.freeze(), fc.compile(net, (3, 512, 7, 7), choose_for=64)):
        np.testing.assert_array_equal(other(x[2:5]), y[2:5])
    with pytest.raises(ValueError, match="compile: choose_for=0: expected an integer of at least 1"):
        fc.compile(net, x.shape, choose_for=0)


def test_measured_choices_are_for_one_batch():
    """The batch that was measured, whatever is planned; of several the planned one, else the largest."""
    net = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 32, 1))
    choices = fc.Choices()
    for n in (1, 4):
        choices.update(fc.compile(net, (n, 64, 8, 8)).tune(rounds=1))
    assert choices.batches == {1, 4}
    for key, entry in choices.entries.items():
        entry["algorithm"] = "direct" if " n1 " in key else "im2col"

    def algorithms(engine):
        return {step.algorithm for step in engine.steps() if step.multiply_adds}

    assert algorithms(fc.compile(net, (1, 64, 8, 8), algorithm=choices)) == {"direct"}
    assert algorithms(fc.compile(net, (4, 64, 8, 8), algorithm=choices)) == {"im2col"}
    assert algorithms(fc.compile(net, (2, 64, 8, 8), algorithm=choices)) == {"im2col"}
    engine = fc.compile(net, (1, 64, 8, 8), algorithm=choices)
    y = engine(images(1, 64, 8, 8))
    engine(images(4, 64, 8, 8))
    assert algorithms(engine) == {"direct"}
    np.testing.assert_array_equal(engine(images(1, 64, 8, 8)), y)


@pytest.fixture
def trainer():
    fc.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.BatchNorm2d(256),
                        nn.Flatten(), nn.Linear(256 * 49, 4))
    return fc.Trainer(net, nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.01))


def test_predictions_and_evaluations(trainer):
    x, labels = images(21, 3, 7, 7), np.arange(21) % 4
    y = trainer.predict(x)
    for size in (1, 8, 21):
        np.testing.assert_array_equal(trainer.predict(x, batch_size=size), y)
    np.testing.assert_array_equal(trainer.predict(x[9:10]), y[9:10])
    results = [trainer.evaluate((x, labels), batch_size=size) for size in (1, 8, 21)]
    assert len({r["accuracy"] for r in results}) == 1
    np.testing.assert_allclose([r["loss"] for r in results], results[0]["loss"], rtol=1e-6)
    trainer.evaluate((x, labels), batch_size=8)
    np.testing.assert_array_equal(trainer._evaluation.predictions(), y[16:])


@pytest.mark.parametrize("position", [3, 5])
def test_a_training_goes_on_with_its_bits_at_the_last_smaller_batch(position, trainer, tmp_path):
    """What is planned, and with it how gradients are summed, does not depend on which batch comes first."""
    x, labels = images(42, 3, 24, 24)[:, :, :7, :7].copy(), np.arange(42) % 4
    loader = fc.data.DataLoader(fc.data.ArrayDataset(x, labels), 8, shuffle=True)
    path, seen = tmp_path / "checkpoint.safetensors", itertools.count(1)
    plain = trainer.step

    def step(*batch):
        loss = plain(*batch)
        if next(seen) == position:
            trainer.save_checkpoint(path)
        return loss

    trainer.step = step
    trainer.fit(loader, 2, verbose=False)
    expected = {name: p.data.copy() for name, p in trainer.module.named_parameters()}
    fc.manual_seed(0)
    again = fc.Trainer(type(trainer.module)(*trainer.module), nn.CrossEntropyLoss(), fc.optim.SGD(lr=0.01))
    again.load_checkpoint(path)
    again.fit(fc.data.DataLoader(fc.data.ArrayDataset(x, labels), 8, shuffle=True), 2, verbose=False)
    for name, p in again.module.named_parameters():
        np.testing.assert_array_equal(p.data, expected[name], err_msg=name)


def test_evaluate_and_predict_do_not_depend_on_the_batch(tmp_path):
    pytest.importorskip("safetensors", reason="there is a model file")
    fc.manual_seed(0)
    net = zoo.resnet18(num_classes=3, in_channels=1)
    path = tmp_path / "model.safetensors"
    needs = {"mean": [0.5], "std": [0.5], "pad": [0, 0], "size": [64, 64], "classes": ["a", "b", "c"]}
    fc.train.model.save(net, path, needs)
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (21, 64, 64), np.uint8), np.arange(21) % 3
    np.savez(tmp_path / "data.npz", **dict(zip(("x_train", "y_train", "x_test", "y_test"), data * 2, strict=True)))
    results = []
    for size in ("1", "8", "21", "100"):
        done = subprocess.run([sys.executable, "-m", "fastconv", "evaluate", str(path), "--data", str(tmp_path / "data.npz"),
                               "--batch-size", size, "--json"], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
    assert all(result == results[0] for result in results), results
