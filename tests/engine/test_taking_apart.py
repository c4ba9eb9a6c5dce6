"""Features of layers inside, new heads, frozen layers, classifiers over whole images."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
import fastconv.functional as F
from fastconv import nn, zoo
from fastconv.engine.training import TrainingTape

rng = np.random.default_rng(0)


def array(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1),
                         nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))


# ---- features -----------------------------------------------------------------------------------------------------------


def test_features_of_layers():
    net, x = network(), array(2, 3, 9, 8)
    engine = fc.compile(nn.utils.features(net, ["2", "4"]), x.shape)
    found = engine(x)
    assert list(found) == ["2", "4"]
    np.testing.assert_array_equal(found["2"], fc.compile(net[:3], x.shape)(x))
    np.testing.assert_array_equal(found["4"], fc.compile(net[:5], x.shape)(x))
    assert not any("Linear" in str(step) or "linear" in str(step) for step in engine.steps())
    named = fc.compile(nn.utils.features(net, {"4": "deep"}), x.shape)(x)
    np.testing.assert_array_equal(named["deep"], found["4"])
    np.testing.assert_array_equal(fc.compile(nn.utils.features(net, "2"), x.shape)(x), found["2"])


def test_features_of_a_resnet_and_their_training():
    net = zoo.resnet18(num_classes=10)
    x = array(1, 3, 64, 64)
    feature = fc.compile(nn.utils.features(net, "layer3"), x.shape)(x)
    assert feature.shape == (1, 256, 4, 4)
    small = network()
    engine = fc.compile(nn.utils.features(small, "3"), (2, 3, 5, 5), training=True)
    engine(array(2, 3, 5, 5))
    engine.backward(array(2, 6, 5, 5))
    assert small[3].weight.grad is not None
    assert small[7].weight.grad is None


@pytest.mark.parametrize("layers, error, message", [
    (["9"], AttributeError, "no submodule '9'"), ([], ValueError, "layers is empty"), ([3], TypeError, "expected paths")])
def test_wrong_features(layers, error, message):
    with pytest.raises(error, match=message):
        nn.utils.features(network(), layers)


def test_a_layer_that_is_not_called():
    net = network()
    net.spare = nn.Linear(2, 2)
    net.forward = lambda x: net[0](x)
    with pytest.raises(ValueError, match="the layer 'spare' is not called"):
        fc.compile(nn.utils.features(net, "spare"), (1, 3, 5, 5))


# ---- heads --------------------------------------------------------------------------------------------------------------


def test_a_new_head():
    net, x = zoo.resnet18(num_classes=10), array(1, 3, 32, 32)
    engine = fc.compile(net, x.shape)
    old = net.fc
    assert net.replace("fc", nn.Linear(512, 3)) is old
    assert engine(x).shape == (1, 3)
    net = network()
    net.replace("7", nn.Identity())
    assert fc.compile(net, (2, 3, 5, 5))(array(2, 3, 5, 5)).shape == (2, 6)
    for path, module, error in (("head", nn.ReLU(), AttributeError), ("", nn.ReLU(), ValueError), ("7", 3, TypeError)):
        with pytest.raises(error):
            net.replace(path, module)


# ---- freezing -----------------------------------------------------------------------------------------------------------


def test_freezing_by_pattern():
    net = zoo.resnet18(num_classes=10)
    names = nn.utils.freeze(net, "conv1", "bn1", "layer[12]")
    assert names
    assert all(name.startswith(("conv1", "bn1", "layer1", "layer2")) for name in names)
    assert {name for name, p in net.named_parameters() if not p.requires_grad} == set(names)
    assert nn.utils.unfreeze(net, "*.bias")
    assert net.layer1[0].bn1.bias.requires_grad
    assert not net.layer1[0].bn1.weight.requires_grad
    with pytest.raises(ValueError, match="no parameter matches 'layer9'"):
        nn.utils.freeze(net, "layer9")
    with pytest.raises(TypeError, match="expected a str"):
        nn.utils.freeze(net, 3)


def backward_steps(net, shape):
    engine = fc.compile(net, shape, training=True)
    return [step for step in engine.steps() if step.segment == "backward"]


def test_freezing_drops_backward_work():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    paths = lambda: {(s.path, s.op) for s in backward_steps(net, (2, 3, 12, 12))}  # noqa: E731
    everything = paths()
    assert {("0", "conv_backward_weight"), ("2", "conv_backward_weight"), ("2", "conv_backward_data")} <= everything
    nn.utils.freeze(net, "2")  # its weight's gradient goes, the one that passes through stays
    some = paths()
    assert ("2", "conv_backward_weight") not in some
    assert ("2", "conv_backward_data") in some
    nn.utils.freeze(net, "0")  # and now nothing is wanted behind the last layer
    assert {path for path, _ in paths()} - {""} == {"4"}  # beside the gradient that comes in
    nn.utils.unfreeze(net)
    assert paths() == everything


def test_frozen_parameters_stay_in_training():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    nn.utils.freeze(net, "0")
    before = net[0].weight.numpy(), net[3].weight.numpy()
    tape = TrainingTape(net, F.cross_entropy, fc.optim.SGD(lr=0.1))
    tape.step(array(5, 1, 8, 8), rng.integers(0, 3, 5))
    np.testing.assert_array_equal(net[0].weight.data, before[0])
    assert not np.array_equal(net[3].weight.data, before[1])


# ---- whole images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make, window, step", [
    (lambda: zoo.lenet5(in_channels=3), 32, 4),
    (lambda: nn.Sequential(nn.Conv2d(3, 6, 5, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3),
                           nn.Sigmoid(), nn.Flatten(), nn.Linear(8 * 4, 7), nn.ReLU(), nn.Dropout(), nn.Linear(7, 3),
                           nn.Softmax(1)), 19, 4),
])
def test_a_classifier_over_a_whole_image_is_that_of_every_window(make, window, step):
    net = make().eval()
    dense = nn.utils.to_convolutional(net)
    assert dense.window[0] == 3
    assert dense.window[1] <= window
    x = array(1, 3, window + 5 * step, window + 3 * step)
    result = fc.compile(dense, x.shape)(x)
    assert result.shape[2:] == (6, 4)
    windows = np.concatenate([x[:, :, i * step: i * step + window, j * step: j * step + window]
                              for i in range(6) for j in range(4)])
    alone = fc.compile(net, windows.shape)(windows)
    np.testing.assert_allclose(result[0].reshape(result.shape[1], -1).T, alone, rtol=1e-4, atol=1e-5)


def test_a_global_pool_at_every_place():
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)).eval()
    with pytest.raises(ValueError, match="input_shape=None"):
        nn.utils.to_convolutional(net)
    dense = nn.utils.to_convolutional(net, (3, 10, 10))
    x = array(2, 3, 13, 12)
    result = fc.compile(dense, x.shape)(x)
    for i in range(4):
        for j in range(3):
            part = np.ascontiguousarray(x[:, :, i: i + 10, j: j + 10])
            np.testing.assert_allclose(result[:, :, i, j], fc.compile(net, part.shape)(part), rtol=1e-4, atol=1e-5)


def test_a_network_that_has_no_such_form():
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 4))
    with pytest.raises(ValueError, match="no form over whole images"):
        nn.utils.to_convolutional(net, (3, 10, 10))


def test_its_parameters_are_shared():
    net = zoo.lenet5()
    dense = nn.utils.to_convolutional(net)
    engine, x = fc.compile(dense, (1, 1, 40, 40)), array(1, 1, 40, 40)
    before = engine(x)
    net[11].bias.data = net[11].bias.data + 1
    np.testing.assert_allclose(engine(x), before + 1, rtol=1e-4, atol=1e-4)
