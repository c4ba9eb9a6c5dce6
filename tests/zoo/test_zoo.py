"""Networks of the zoo: sizes and names as published, so that PyTorch's files load."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import zoo
from fastconv.nn import init


@pytest.fixture
def no_values(monkeypatch):
    """Names and shapes need no random numbers: there may be 138 million of them."""
    for name in ("uniform_", "normal_"):
        monkeypatch.setattr(init, name, lambda tensor, *arguments: tensor)


@pytest.mark.parametrize(("name", "parameters", "entries"), [  # torchvision's documentation; lenet5 and version 1: counted
    ("alexnet", 61_100_840, 16),
    ("lenet5", 61_706, 10),
    ("mobilenet_v1", 4_231_976, 27 * 6 + 2),
    ("mobilenet_v2", 3_504_872, 314),
    ("resnet18", 11_689_512, 122),
    ("resnet34", 21_797_672, 218),
    ("resnet50", 25_557_032, 320),
    ("resnet101", 44_549_160, 626),
    ("vgg16", 138_357_544, 32),
])
def test_sizes(name, parameters, entries, no_values):
    net = zoo.create(name)
    assert net.num_parameters() == parameters
    assert len(net._state()) == entries


@pytest.mark.parametrize(("name", "expected"), [
    ("alexnet", {"features.0.weight": (64, 3, 11, 11), "features.10.bias": (256,), "classifier.1.weight": (4096, 9216),
                 "classifier.6.weight": (7, 4096)}),
    ("vgg16", {"features.28.weight": (512, 512, 3, 3), "classifier.0.weight": (4096, 25088),
               "classifier.6.bias": (7,)}),
    ("resnet18", {"conv1.weight": (64, 3, 7, 7), "layer2.0.downsample.0.weight": (128, 64, 1, 1),
                  "layer2.0.downsample.1.running_var": (128,), "layer4.1.conv2.weight": (512, 512, 3, 3),
                  "layer4.1.bn2.num_batches_tracked": (), "fc.weight": (7, 512)}),
    ("resnet50", {"layer1.0.downsample.0.weight": (256, 64, 1, 1), "layer3.5.conv3.weight": (1024, 256, 1, 1),
                  "layer4.0.conv2.weight": (512, 512, 3, 3), "fc.bias": (7,)}),
    ("mobilenet_v2", {"features.0.0.weight": (32, 3, 3, 3), "features.1.conv.0.0.weight": (32, 1, 3, 3),
                      "features.1.conv.1.weight": (16, 32, 1, 1), "features.1.conv.2.running_mean": (16,),
                      "features.2.conv.1.0.weight": (96, 1, 3, 3), "features.17.conv.3.bias": (320,),
                      "features.18.0.weight": (1280, 320, 1, 1), "classifier.1.weight": (7, 1280)}),
])
def test_names(name, expected, no_values):
    state = zoo.create(name, num_classes=7)._state()
    assert {key: state[key].shape for key in expected} == expected


def test_vgg_with_batch_norm(no_values):
    state = zoo.vgg11(num_classes=2, batch_norm=True)._state()
    assert state["features.1.running_mean"].shape == (64,) and state["features.25.weight"].shape == (512, 512, 3, 3)


def test_unknown_name():
    with pytest.raises(ValueError, match="zoo: name='lenet': expected one of alexnet, lenet5, "):
        zoo.create("lenet")


@pytest.mark.parametrize(("name", "size", "shapes"), [
    ("alexnet", 224, {"features.2": (1, 64, 27, 27)}), ("mobilenet_v1", 64, {"features.26.0": (1, 1024, 2, 2)}),
    ("mobilenet_v2", 64, {"features.18.0": (1, 1280, 2, 2)}), ("resnet18", 64, {"layer4.1.conv2": (1, 512, 2, 2)}),
    ("resnet50", 64, {"layer4.2.conv3": (1, 2048, 2, 2)})])
def test_shapes(name, size, shapes, no_values):
    from fastconv.graph.trace import trace

    net = zoo.create(name, num_classes=10)
    graph, _ = trace(net.symbolic(False), [((1, 3, size, size), "input")])
    found = {node.path: node.output.shape for node in graph.nodes}
    assert graph.outputs[0].shape == (1, 10)
    for path, shape in shapes.items():
        assert found[path] == shape


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_a_network_runs_and_its_activations_neither_die_nor_explode(name):
    fc.manual_seed(1)
    net = zoo.create(name, num_classes=10)
    x = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    y = fc.compile(net, x.shape, training=True)(x)
    assert y.shape == (2, 10) and np.isfinite(y).all() and 1e-4 < np.abs(y).mean() < 100
