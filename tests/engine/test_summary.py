"""fastconv.summary: counts by the definition, receptive fields by perturbation and from the literature."""

import json

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn


def test_every_number_of_a_small_network():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1), nn.BatchNorm2d(8), nn.ReLU(),
                        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.Flatten(), nn.Linear(8 * 16, 5))
    s = fc.summary(net, (2, 3, 8, 8))
    rows = [tuple(row) for row in s.rows]
    assert rows == [
        ("0", "Conv2d", (2, 3, 8, 8), (2, 8, 4, 4), 3 * 8 * 9 + 8, 2 * 8 * 16 * 27, 4 * 2 * 8 * 16, (3, 3)),
        ("1", "BatchNorm2d", (2, 8, 4, 4), (2, 8, 4, 4), 16, 0, 4 * 2 * 8 * 16, (3, 3)),
        ("2", "ReLU", (2, 8, 4, 4), (2, 8, 4, 4), 0, 0, 4 * 2 * 8 * 16, (3, 3)),
        ("3", "Conv2d", (2, 8, 4, 4), (2, 8, 4, 4), 72, 2 * 8 * 16 * 9, 4 * 2 * 8 * 16, (7, 7)),
        ("4", "Flatten", (2, 8, 4, 4), (2, 128), 0, 0, 0, (13, 13)),
        ("5", "Linear", (2, 128), (2, 5), 645, 2 * 640, 4 * 10, (13, 13))]
    assert s.parameters == s.trainable_parameters == net.num_parameters() == 224 + 16 + 72 + 645
    assert s.multiply_adds == sum(r[5] for r in rows) and s.activation_bytes == sum(r[6] for r in rows)
    assert (s.input_shapes, s.output_shapes) == ([(2, 3, 8, 8)], [(2, 5)])
    data = json.loads(s.json())
    assert data["parameters"] == 957 and data["layers"][0]["receptive_field"] == [3, 3] and len(data["layers"]) == 6
    text = str(s).splitlines()
    assert text[0].split()[:3] == ["path", "type", "output"] and "957 parameters (3.7 KiB)" in text


def test_parameters_are_counted_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.unused = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(3, 2)

        def forward(self, x):
            return self.conv(self.conv(x)) + x

    net = Twice()
    net.unused.requires_grad_(False)
    s = fc.summary(net, (1, 4, 6, 6))
    assert [(r.path, r.type, r.parameters, r.receptive_field) for r in s.rows] == [
        ("conv", "Conv2d", 148, (3, 3)), ("conv", "Conv2d", 0, (5, 5)), ("", "add", 0, (5, 5))]
    assert s.parameters == 148 + 8 and s.trainable_parameters == 148
    assert "8 of them frozen" in str(s)


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "mobilenet_v2"])
def test_multiply_adds_are_those_of_the_tape(name):
    net = fc.zoo.create(name)
    shape = (2, 1, 32, 32) if name == "lenet5" else (2, 3, 64, 64)
    s = fc.summary(net, shape)
    assert s.multiply_adds == sum(step.multiply_adds for step in fc.compile(net, shape).steps() if step.segment == "forward")
    assert s.parameters == net.num_parameters() == sum(row.parameters for row in s.rows)


# Araujo, Norris and Sim (2019), table of receptive fields; ResNet-50 there has its strides elsewhere.
@pytest.mark.parametrize(("name", "last", "field"), [
    ("alexnet", "features.12", 195), ("vgg16", "features.30", 212), ("mobilenet_v1", "features", 315),
    ("resnet50", "layer4", 427)])
def test_receptive_fields_of_known_networks(name, last, field):
    rows = [row for row in fc.summary(fc.zoo.create(name), (1, 3, 224, 224)).rows if row.path.startswith(last)]
    assert rows[-1].receptive_field == (field, field)


LAYERS = {
    "strides and dilation": lambda: [nn.Conv1d(1, 1, 3, stride=2), nn.Conv1d(1, 1, 3, dilation=3), nn.Conv1d(1, 1, 2)],
    "pooling": lambda: [nn.Conv1d(1, 1, 5), nn.AvgPool1d(3, 2), nn.Conv1d(1, 1, 3)],
    "transposed": lambda: [nn.Conv1d(1, 1, 4, stride=2), nn.ConvTranspose1d(1, 1, 5, stride=2), nn.Conv1d(1, 1, 3)],
    "adaptive": lambda: [nn.Conv1d(1, 1, 3, padding=1), nn.AdaptiveAvgPool1d(20), nn.Conv1d(1, 1, 2)],
}


@pytest.mark.parametrize("name", LAYERS)
def test_receptive_fields_by_perturbation(name):
    """Which of 60 inputs change an output in the middle: positive weights cannot cancel."""
    net = nn.Sequential(*LAYERS[name]())
    for parameter in net.parameters():
        parameter.data = np.abs(parameter.data) + 0.1
    length = 60
    x = np.concatenate([np.ones((1, 1, length), np.float32), 1 + np.eye(length, dtype=np.float32)[:, None]])
    y = fc.compile(net, x.shape)(x)[:, 0]
    reach = [np.flatnonzero(y[1:, o] != y[0, o]) for o in range(y.shape[1])]
    widest = max(r[-1] - r[0] + 1 for r in reach)
    assert fc.summary(net, (1, 1, length)).rows[-1].receptive_field == (widest,)


def test_no_answer_is_none_and_functions_are_taken():
    s = fc.summary(lambda a, b: a + b, [(1, 2, 4, 4), (1, 2, 4, 4)])
    assert s.parameters == 0 and s.rows[0].type == "add" and s.rows[0].receptive_field == (1, 1)
    assert fc.summary(nn.Linear(3, 2), (1, 3)).rows[0].receptive_field is None


def test_it_refuses_what_compile_refuses():
    with pytest.raises(TypeError, match="summary: module is a int"):
        fc.summary(3, (1, 2))
    with pytest.raises(TypeError, match="summary: module is a type"):
        fc.summary(nn.ReLU, (1, 2))
    with pytest.raises((TypeError, ValueError), match="summary: input_shape"):
        fc.summary(nn.ReLU(), "224")
    with pytest.raises(ValueError, match="'0'.*3 channels"):
        fc.summary(nn.Sequential(nn.Conv2d(1, 2, 3)), (1, 3, 8, 8))


def test_receptive_fields_of_a_dilated_context_module():
    """F. Yu, V. Koltun, "Multi-scale context aggregation by dilated convolutions", 2016, table 1."""
    net = nn.Sequential(*(layer for d in (1, 1, 2, 4, 8, 16, 1)
                          for layer in (nn.Conv2d(2, 2, 3, padding=d, dilation=d), nn.ReLU())))
    rows = [row for row in fc.summary(net, (1, 2, 80, 80)).rows if row.type == "Conv2d"]
    assert [row.receptive_field for row in rows] == [(n, n) for n in (3, 5, 9, 17, 33, 65, 67)]


def test_integers_and_constants_in_a_summary():
    mean = np.zeros((1, 3, 1, 1), np.float32)
    found = fc.summary(lambda x: fc.functional.topk(fc.functional.flatten(x - mean, 1), 2), (2, 3, 4, 4))
    assert found.output_shapes == [(2, 2), (2, 2)]
    assert found.rows[-1].activation_bytes == 2 * 2 * (4 + 8)
